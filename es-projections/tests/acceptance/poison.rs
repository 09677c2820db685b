//! Events that cannot be applied.

use es_core::{
    BoxError, EventStore, FailureKind, LetterState, Letters, Lifecycle, Position, Project,
    Projection, ProjectionId, ProjectionStore, Recorded, StreamId,
};
use es_projections::{Daemon, OnFailure, Options, WaitError};

use crate::{
    bench::{Bench, Db},
    diary::{pages, reach, settings, start, until_complete},
    support::{Cues, Noted, PATIENCE, damaged, foreign, newer, note, stream, until},
};

/// Number 2 of the first stream fails, the second is all well.
async fn poisoned(store: &impl EventStore, cues: &Cues) -> (StreamId, StreamId, Position) {
    cues.fail_at(2);
    let (bad, good) = (stream(), stream());
    note(store, &bad, [1]).await;
    note(store, &good, [10]).await;
    note(store, &bad, [2, 3]).await;
    let last = note(store, &good, [11, 12]).await;
    (bad, good, last.position)
}

/// Case 22: what stands before it is committed, nothing behind it. Seen to fail when a failing batch is not
/// divided, and when the event is skipped.
pub(crate) async fn poison_stop<B: Bench>() {
    let (bench, cues) = (B::new().await, Cues::default());
    let (bad, good, last) = poisoned(bench.store(), &cues).await;
    let daemon = start(&bench, &cues, Options::default()).await;
    let waited = daemon.wait_until_within("diary", last, PATIENCE).await;
    assert!(
        matches!(waited, Err(WaitError::Failed { .. })),
        "{waited:?}"
    );
    let failure = daemon.status("diary").unwrap().failure.unwrap();
    assert_eq!(failure.kind, FailureKind::Handler);
    assert_eq!(failure.position, Some(Position::new(3)));
    let stopped = pages(&bench, "pages_1").await;
    assert_eq!(stopped[&bad.aggregate_id.to_string()], (1, 1));
    assert_eq!(stopped[&good.aggregate_id.to_string()], (1, 1));
    let rows = bench.store().standings(Some("diary")).await.unwrap();
    assert_eq!(rows[0].lifecycle, Lifecycle::Failed);
    assert_eq!(rows[0].position, Position::new(2));

    cues.repair();
    daemon.projections().resume("diary").await.unwrap();
    reach(&daemon, last).await;
    until_complete(&bench, "pages_1", &cues).await;
    daemon.shutdown().await.unwrap();
}

/// Case 22: only its aggregate waits, over a restart too, and comes back in order. Seen to fail when later
/// events of a parked aggregate are not put behind it, and when a turn begins without knowing who is
/// parked.
pub(crate) async fn poison_park<B: Bench>() {
    let (bench, cues) = (B::new().await, Cues::default());
    let (bad, good, last) = poisoned(bench.store(), &cues).await;
    let park = Options::default().with_handler_retries(2);
    let park = park.on_failure(OnFailure::Park);
    let daemon = start(&bench, &cues, park.clone()).await;
    reach(&daemon, last).await;
    daemon.shutdown().await.unwrap();

    let daemon = start(&bench, &cues, park).await;
    note(bench.store(), &bad, [4]).await;
    let last = note(bench.store(), &good, [13]).await;
    reach(&daemon, last.position).await;
    let parked = pages(&bench, "pages_1").await;
    assert_eq!(parked[&bad.aggregate_id.to_string()], (1, 1));
    assert_eq!(parked[&good.aggregate_id.to_string()], (4, 4));
    let diary = Letters::of(ProjectionId::new("diary", 1));
    let letters = bench.store().dead_letters(&diary, 100).await.unwrap();
    let seen: Vec<_> = letters
        .iter()
        .map(|letter| (letter.event_version.get(), letter.failure.kind))
        .collect();
    let behind = FailureKind::Behind;
    assert_eq!(seen, [(2, FailureKind::Handler), (3, behind), (4, behind)]);
    assert_eq!((letters[0].attempts, letters[1].attempts), (3, 0));
    assert_eq!(
        letters[0].failure.message,
        "could not note 2: the pencil broke"
    );

    cues.repair();
    assert_eq!(daemon.projections().retry("diary", None).await.unwrap(), 3);
    until_complete(&bench, "pages_1", &cues).await;
    let last = note(bench.store(), &bad, [5]).await;
    reach(&daemon, last.position).await;
    until_complete(&bench, "pages_1", &cues).await;
    let left = bench.store().dead_letters(&diary, 100).await.unwrap();
    assert_eq!(left, []);
    daemon.shutdown().await.unwrap();
}

/// A handler that ends the transaction it writes in: part of a batch may be kept, which is told and not
/// passed over. Seen to go on after it when an ended transaction counts as a lost connection, and when the
/// server is not asked.
pub(crate) async fn commit_inside<B: Bench>() {
    for then_fails in [false, true] {
        let bench = B::new().await;
        let daemon = Daemon::new(bench.store().clone()).settings(settings());
        let daemon = daemon.run(Hasty { then_fails }).start().await.unwrap();
        let last = note(bench.store(), &stream(), [1, 2]).await.position;

        let row = async || {
            bench
                .store()
                .standings(Some("hasty"))
                .await
                .unwrap()
                .remove(0)
        };
        let failed = async || row().await.lifecycle == Lifecycle::Failed;
        until("it has failed", failed).await;

        let failure = row().await.failure.unwrap();
        assert!(failure.message.contains("`COMMIT`"), "{failure}");
        daemon.shutdown().await.unwrap_err();
        // The store goes on for all others.
        let daemon = start(&bench, &Cues::default(), Options::default()).await;
        reach(&daemon, last).await;
        until_complete(&bench, "pages_1", &Cues::default()).await;
    }
}

#[derive(Projection)]
#[projection(name = "hasty", version = 1, events(Noted))]
struct Hasty {
    then_fails: bool,
}

impl<C: Db> Project<C> for Hasty {
    async fn project(&self, db: &mut C, _: &[Recorded<HastyEvent>]) -> Result<(), BoxError> {
        db.change("COMMIT".to_owned()).await?;
        match self.then_fails {
            true => Err("and then it failed".into()),
            false => Ok(()),
        }
    }
}

/// Case 23: what this program is too old for is skipped, what nobody can read waits; each is told apart,
/// and neither counts as applied. The checkpoint passes both, and events of others. Seen to fail when one
/// rule holds for both, and when the checkpoint stays at the last event of a page.
pub(crate) async fn unknown_event_type<B: Bench>() {
    let (bench, cues) = (B::new().await, Cues::default());
    let store = bench.store();
    let (broken, modern) = (stream(), stream());
    note(store, &broken, [1]).await;
    damaged(store, &broken).await;
    note(store, &modern, [1]).await;
    newer(store, &modern).await;
    newer(store, &modern).await;
    note(store, &modern, [2]).await;
    let last = foreign(store).await.position;
    cues.give_up(broken.aggregate_id, 2);
    cues.give_up(modern.aggregate_id, 2);
    cues.give_up(modern.aggregate_id, 3);
    let options = Options::default()
        .on_unknown(OnFailure::Skip)
        .on_undecodable(OnFailure::Park);
    let daemon = start(&bench, &cues, options).await;
    reach(&daemon, last).await;

    let diary = Letters::of(ProjectionId::new("diary", 1));
    let letters = store.dead_letters(&diary, 100).await.unwrap();
    let count = |kind, state| {
        let of_kind = letters.iter().filter(|letter| letter.failure.kind == kind);
        of_kind.filter(|letter| letter.state == state).count()
    };
    let [undecodable, unknown] = [
        count(FailureKind::Undecodable, LetterState::Parked),
        count(FailureKind::NewerSchema, LetterState::Skipped),
    ];
    assert_eq!((undecodable, unknown, letters.len()), (1, 2, 3));
    assert!(
        letters
            .iter()
            .all(|letter| !letter.failure.message.contains("secret"))
    );
    let status = daemon.status("diary").unwrap();
    assert_eq!((status.events_applied, status.parked), (3, 1));
    until_complete(&bench, "pages_1", &cues).await;
    daemon.shutdown().await.unwrap();
    assert_eq!(
        store
            .checkpoint(&ProjectionId::new("diary", 1))
            .await
            .unwrap(),
        Some(last)
    );
}
