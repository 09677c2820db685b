-- Events: append-only. Positions are the order of the log; versions the order of a stream.
CREATE TABLE events (
    event_id       BLOB    NOT NULL PRIMARY KEY CHECK (length(event_id) = 16),
    aggregate_id   BLOB    NOT NULL CHECK (length(aggregate_id) = 16),
    aggregate_type TEXT    NOT NULL,
    event_type     TEXT    NOT NULL,
    event_version  INTEGER NOT NULL CHECK (event_version > 0),
    event_data     TEXT    NOT NULL,
    created_at     TEXT    NOT NULL, -- RFC 3339 in UTC with six decimals: sorts as text
    position       INTEGER NOT NULL UNIQUE,
    schema_version INTEGER NOT NULL DEFAULT 1,
    metadata       TEXT
);
CREATE UNIQUE INDEX idx_events_aggregate ON events (aggregate_id, event_version);
CREATE INDEX idx_events_type ON events (event_type, created_at);
CREATE INDEX idx_events_type_position ON events (event_type, position);

CREATE TRIGGER events_no_update BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'events are append-only: UPDATE refused'); END;
CREATE TRIGGER events_no_delete BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'events are append-only: DELETE refused'); END;

-- The end of the log. One row, so that positions are never used twice.
CREATE TABLE log_head (
    id              INTEGER PRIMARY KEY CHECK (id = 1),
    last_position   INTEGER NOT NULL,
    last_created_at TEXT    NOT NULL
);
INSERT INTO log_head VALUES (1, 0, '');

CREATE TABLE snapshots (
    snapshot_id    BLOB    NOT NULL PRIMARY KEY,
    aggregate_id   BLOB    NOT NULL,
    aggregate_type TEXT    NOT NULL,
    version        INTEGER NOT NULL CHECK (version > 0),
    created_at     TEXT    NOT NULL,
    state          TEXT    NOT NULL,
    fingerprint    TEXT,
    UNIQUE (aggregate_id, version)
);

-- Where each projection stands, and who runs it. Times are milliseconds since 1970.
CREATE TABLE projection_shards (
    name            TEXT    NOT NULL,
    version         INTEGER NOT NULL,
    shard           INTEGER NOT NULL DEFAULT 0,
    shards          INTEGER NOT NULL DEFAULT 1,
    event_types     TEXT    NOT NULL,
    position        INTEGER NOT NULL DEFAULT 0,
    anchor_position INTEGER,
    anchor_event_id BLOB,
    epoch           INTEGER NOT NULL DEFAULT 0,
    owner           BLOB,
    lease_until     INTEGER NOT NULL DEFAULT 0,
    status          TEXT    NOT NULL DEFAULT 'running',
    failure         TEXT,
    updated_at      INTEGER,
    PRIMARY KEY (name, version, shard)
);
