//! What must be true when everything has come to rest.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
};

use es_core::{
    BoxError, EventSet, Filter, Lifecycle, Position, Projection, RecordedEvent, Standing, shard_of,
};
use uuid::Uuid;

use crate::{
    database::Store,
    folder::{Receipts, Violations},
    projections::{FOLDED, Folded, ORACLE},
    read_model,
    tables::{Tables, Tally},
    totals::Totals,
};

/// So many differences are told, of each kind.
const SHOWN: usize = 5;

/// Compares everything that was kept with the log. What is wrong is reported; an error means that it could
/// not be found out.
pub(crate) async fn check<S: Store>(
    store: &S,
    url: &str,
    folder: &Path,
    totals: &mut Totals,
) -> Result<(), BoxError> {
    let mut findings = Findings(Violations::open(folder)?);
    let log = read_log(store).await?;
    totals.events = log.len();
    streams(&log, &mut findings);
    totals.appends = receipts(&log, folder, &mut findings)?;

    let mut db = S::aside(url).await?;
    let standings = store.standings(None).await?;
    let mut versions: BTreeMap<_, Vec<Standing>> = BTreeMap::new();
    for row in standings {
        versions
            .entry(row.shard.projection.clone())
            .or_default()
            .push(row);
    }
    let names: HashSet<_> = versions.keys().map(|id| id.name.clone()).collect();
    for name in names {
        let told = db.told(&read_model::outbox(&name)).await?;
        totals.effects += told.len();
        let due = log
            .iter()
            .filter(|event| wants(&name, event))
            .map(|e| e.event_id.to_string());
        findings.compare(
            &format!("effects of {name}"),
            &due.collect(),
            &told.into_iter().collect(),
        );
    }
    for (id, rows) in &versions {
        let table = read_model::table(&id.name, id.version);
        let stored = db.tallies(&table).await?;
        let line = |(id, tally): (String, Tally)| format!("{id}: {tally:?}");
        let due = fold(&log, rows).into_iter().map(line).collect();
        findings.compare(&table, &due, &stored.into_iter().map(line).collect());
        if rows.iter().any(|row| row.active) && id.name == ORACLE && id.version > 1 {
            let sql = format!("SELECT count(*) FROM served WHERE table_name = '{table}'");
            if db.number(sql).await? != 1 {
                findings
                    .0
                    .report(&format!("{table} is active but not served"));
            }
        }
    }
    Ok(())
}

async fn read_log<S: Store>(store: &S) -> Result<Vec<RecordedEvent>, BoxError> {
    let mut log: Vec<RecordedEvent> = Vec::new();
    let mut after = Position::START;
    loop {
        let page = store.read_log(&Filter::All, after, 5_000).await?;
        if page.events.is_empty() && page.covered <= after {
            return Ok(log);
        }
        after = page.covered;
        log.extend(page.events);
    }
}

/// Versions are 1, 2, 3 in the order of the log, and no id occurs twice.
fn streams(log: &[RecordedEvent], findings: &mut Findings) {
    let mut last: HashMap<Uuid, u32> = HashMap::new();
    let mut ids = HashSet::new();
    for event in log {
        let last = last.entry(event.aggregate_id).or_default();
        if event.event_version.get() != *last + 1 {
            findings.0.report(&format!(
                "version {} follows {last} in stream {} of the log",
                event.event_version, event.aggregate_id
            ));
        }
        *last = event.event_version.get();
        if !ids.insert(event.event_id) {
            findings
                .0
                .report(&format!("event {} is in the log twice", event.event_id));
        }
    }
}

/// What was acknowledged is there as it was said, what was rolled back is not. Returns how many appends
/// were acknowledged.
fn receipts(
    log: &[RecordedEvent],
    folder: &Path,
    findings: &mut Findings,
) -> Result<usize, BoxError> {
    let places: HashMap<_, _> = log.iter().map(|event| (event.event_id, event)).collect();
    let mut lost = Vec::new();
    let mut appends = HashSet::new();
    for (batch, version, position) in Receipts::all_acknowledged(folder)? {
        appends.insert(batch.base);
        let first = version.saturating_sub(batch.count);
        for (id, version) in batch.ids().zip(first + 1..) {
            let is_there = places.get(&id).is_some_and(|event| {
                event.aggregate_id == batch.aggregate_id && event.event_version.get() == version
            });
            if !is_there {
                lost.push(format!(
                    "{id} of stream {}, version {version}",
                    batch.aggregate_id
                ));
            }
        }
        let last = batch.ids().last().and_then(|id| places.get(&id));
        if last.is_some_and(|event| event.position.get() != position) {
            lost.push(format!(
                "stream {} at position {position}",
                batch.aggregate_id
            ));
        }
    }
    findings.list(
        "acknowledged events that are not where they should be",
        &lost,
    );
    let risen: Vec<_> = Receipts::all_abandoned(folder)?
        .into_iter()
        .flat_map(crate::folder::Batch::ids)
        .filter(|id| places.contains_key(id))
        .map(|id| id.to_string())
        .collect();
    findings.list("events that were rolled back are in the log", &risen);
    Ok(appends.len())
}

fn wants(name: &str, event: &RecordedEvent) -> bool {
    let types = <Folded as Projection>::Event::EVENT_TYPES;
    name != FOLDED || types.iter().any(|known| event.event_type == known.name)
}

/// What the read model of a version must be, as far as it has come.
fn fold(log: &[RecordedEvent], rows: &[Standing]) -> BTreeMap<String, Tally> {
    let mut tallies = BTreeMap::new();
    let Some(first) = rows.first() else {
        return tallies;
    };
    for event in log
        .iter()
        .filter(|event| wants(&first.shard.projection.name, event))
    {
        let shard = shard_of(event.aggregate_id, first.shards);
        let row = rows.iter().find(|row| row.shard.index == shard);
        let applied = row.is_some_and(|row| {
            event.position <= row.position || row.applied.cover(event.aggregate_id, event.position)
        });
        if applied {
            let tally: &mut Tally = tallies.entry(event.aggregate_id.to_string()).or_default();
            tally.add(i64::from(event.event_version.get()), event.event_id);
        }
    }
    tallies
}

/// Whether nothing is left to be done: everything that runs is at the end, and whoever may take over has.
pub(crate) fn is_at_rest(standings: &[Standing], end: Position) -> bool {
    standings.iter().all(|row| match row.lifecycle {
        Lifecycle::Running => row.active && row.position >= end,
        Lifecycle::Rebuilding => !row.promote && row.position >= end,
        Lifecycle::Retired => true,
        _ => false,
    })
}

struct Findings(Violations);

impl Findings {
    fn list(&mut self, what: &str, all: &[String]) {
        if !all.is_empty() {
            let shown = all[..all.len().min(SHOWN)].join("; ");
            self.0
                .report(&format!("{what}: {}, such as {shown}", all.len()));
        }
    }

    fn compare(&mut self, what: &str, due: &HashSet<String>, is: &HashSet<String>) {
        let missing: Vec<_> = due.difference(is).cloned().collect();
        self.list(&format!("{what}: missing"), &missing);
        let strange: Vec<_> = is.difference(due).cloned().collect();
        self.list(&format!("{what}: not what the log says"), &strange);
    }
}
