//! The tables that both databases have, and the columns that the statements rely on.

/// All columns that must be there once this many migrations have been applied: `(table, column)`.
pub(crate) fn columns(migrations: u32) -> impl Iterator<Item = (&'static str, &'static str)> {
    let later = if migrations < 3 { &[][..] } else { &OF_0003 };
    COLUMNS.iter().chain(later).flat_map(|(table, columns)| {
        let columns = columns.iter();
        columns.map(move |column| (*table, *column))
    })
}

/// Those of the first migration.
pub(crate) const COLUMNS: [(&str, &[&str]); 3] = [
    (
        "events",
        &[
            "event_id",
            "aggregate_id",
            "aggregate_type",
            "event_type",
            "event_version",
            "event_data",
            "created_at",
            "position",
            "schema_version",
            "metadata",
        ],
    ),
    (
        "snapshots",
        &[
            "snapshot_id",
            "aggregate_id",
            "aggregate_type",
            "version",
            "created_at",
            "state",
            "fingerprint",
        ],
    ),
    (
        "projection_shards",
        &[
            "name",
            "version",
            "shard",
            "event_types",
            "position",
            "anchor_position",
            "anchor_event_id",
            "epoch",
            "owner",
            "status",
            "failure",
            "updated_at",
        ],
    ),
];

/// Those that the third migration adds.
const OF_0003: [(&str, &[&str]); 3] = [
    (
        "projection_shards",
        &[
            "repeatable",
            "resume_to",
            "active",
            "promote",
            "applied",
            "silent",
        ],
    ),
    ("projection_nodes", &["node", "name", "runs", "alive_until"]),
    (
        "projection_dead_letters",
        &[
            "name",
            "version",
            "event_id",
            "position",
            "aggregate_type",
            "aggregate_id",
            "event_type",
            "event_version",
            "state",
            "failure",
            "attempts",
            "retry",
            "since",
            "tried",
        ],
    ),
];
