//! Each check is worth something only if it fails where its mechanism is taken out: stores broken
//! on purpose, and the checks that must see it.

mod caught;
mod fault;
mod store;

use std::{collections::BTreeSet, time::Duration};

use es_conformance::{Check, check_histories, checks};

use self::{
    caught::{Caught, HANGS},
    fault::Fault,
    store::FaultyStore,
};

const LIMIT: Duration = Duration::from_secs(30);

fn find(name: &str) -> Check<FaultyStore> {
    checks()
        .into_iter()
        .find(|check| check.name() == name)
        .unwrap_or_else(|| panic!("there is no check `{name}`"))
}

/// Each of the checks must fail on a store with its fault.
async fn must_fail(cases: Caught) {
    for (fault, names) in cases {
        for name in *names {
            match find(name).run(FaultyStore::new(*fault), LIMIT).await {
                Ok(()) => panic!("`{name}` passes on a store that is broken: {fault:?}"),
                Err(failure) => println!("{fault:?}: {name}: {failure}"),
            }
        }
    }
}

#[tokio::test]
async fn the_unbroken_wrapper_passes_all() {
    for check in checks::<FaultyStore>() {
        let outcome = check.run(FaultyStore::new(Fault::None), LIMIT).await;
        assert!(outcome.is_ok(), "{}: {outcome:?}", check.name());
    }
}

#[tokio::test]
async fn faulty_appends_are_caught() {
    must_fail(caught::append::CASES).await;
}

#[tokio::test]
async fn faulty_appends_to_several_streams_are_caught() {
    must_fail(caught::append_all::CASES).await;
}

#[tokio::test]
async fn faulty_erasures_are_caught() {
    must_fail(caught::erasure::CASES).await;
}

#[tokio::test]
async fn faulty_reads_are_caught() {
    must_fail(caught::read::CASES).await;
}

#[tokio::test]
async fn faulty_snapshots_and_visits_are_caught() {
    must_fail(caught::snapshot::CASES).await;
}

#[tokio::test]
async fn faulty_nodes_and_claims_are_caught() {
    must_fail(caught::running::CASES).await;
}

#[tokio::test]
async fn faulty_standings_and_changes_are_caught() {
    must_fail(caught::standing::CASES).await;
}

#[tokio::test]
async fn faulty_dead_letters_are_caught() {
    must_fail(caught::letters::CASES).await;
}

#[tokio::test]
async fn a_store_that_hangs_is_caught_by_time() {
    for (fault, name) in HANGS {
        let short = Duration::from_millis(200);
        let outcome = find(name).run(FaultyStore::new(*fault), short).await;

        let failure = outcome.expect_err("a hang is a failure");
        assert_eq!(failure.to_string(), "did not end within 200ms", "{name}");
    }
}

/// Histories made up at random find these too, of up to thirty operations, and shrink them to about the
/// fewest that show the fault: a wrong expectation that is ignored is one append, a snapshot that
/// outlives its stream is an append, a snapshot and an erasure.
#[test]
fn made_up_histories_find_faults_and_shrink_them() {
    for (fault, fewest) in [
        (Fault::IgnoresExpectedVersion, 1),
        (Fault::AppendsStreamsOneByOne, 1),
        (Fault::ForgetsIds, 1),
        (Fault::ChecksForErasureFirst, 3),
        (Fault::OffersASnapshotAheadOfItsStream, 1),
        (Fault::KeepsErasedSnapshots, 3),
    ] {
        // Chance may miss a fault once, hardly three times.
        let mut runs = (0..3).map(|_| check_histories(async { FaultyStore::new(fault) }));
        let failure = runs.find_map(Result::err).expect("a history shows it");
        let failure = failure.to_string();
        println!("{fault:?}: {failure}\n");
        let is_operation = |line: &&str| line.trim_start().starts_with(char::is_numeric);
        let operations = failure.lines().filter(is_operation).count();
        assert!(
            (fewest..=fewest + 3).contains(&operations),
            "{fault:?} is shrunk to {operations} operations: {failure}",
        );
    }
}

/// A new check comes with a broken store that it catches.
#[test]
fn every_check_is_seen_to_fail() {
    let mut seen: BTreeSet<&str> = HANGS.iter().map(|(_, name)| *name).collect();
    for cases in caught::ALL {
        seen.extend(cases.iter().flat_map(|(_, names)| *names));
    }
    let known = checks::<FaultyStore>();
    let unseen: Vec<_> = known
        .iter()
        .map(Check::name)
        .filter(|name| !seen.contains(name))
        .collect();

    assert!(unseen.is_empty(), "no broken store fails {unseen:#?}");
}
