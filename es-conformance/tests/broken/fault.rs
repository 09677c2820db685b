//! What can be wrong with a store.

/// What is wrong with a [`FaultyStore`](crate::store::FaultyStore).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,

    // What is appended.
    /// Every append is taken as one that accepts any version.
    IgnoresExpectedVersion,
    /// `Any` is met by an empty stream only.
    TakesAnyForNoStream,
    /// An append without events succeeds.
    AllowsEmptyAppends,
    /// Of two events with one id in a batch the second is left out.
    LeavesDoublesOut,
    /// An append under another aggregate type goes to the stream that has the id, and so does a read.
    IgnoresTheAggregateType,
    /// Every second append records the first half of its events and answers with success.
    AppendsHalf,
    /// An append writes its halves one after the other, not in one transaction.
    AppendsInTwoSteps,
    /// The expected version is checked before it is known whether the append is a repetition.
    ChecksTheVersionFirst,
    /// A taken id is found before the version is checked.
    LooksForIdsFirst,
    /// A conflict says that the stream has no events.
    LiesInAConflict,
    /// A store that parses the content and writes it again without its spaces.
    RewritesTheContent,
    /// Nobody knows through whom an event happened.
    ForgetsTheMetadata,
    /// A name that is empty, too long or the store's own is replaced.
    MendsNames,
    /// A name is kept up to its 200th byte.
    CutsNames,
    /// The store gives events ids of its own.
    ForgetsIds,
    /// Old ids are a repetition in any order.
    IgnoresTheOrderOfIds,
    /// The content of a repetition takes the place of the first.
    OverwritesOnRepetition,
    /// An append answers with the first place of the log.
    AnswersWithTheFirstPosition,

    // Several streams at once.
    /// Appends to several streams are recorded one after the other, up to the first that fails.
    AppendsStreamsOneByOne,
    /// What the first append expects is expected of all streams.
    ExpectsTheSameOfAllStreams,
    /// The answers come in the opposite order.
    AnswersBackwards,
    /// An empty list of appends is refused.
    RefusesAnEmptyList,
    /// An error names the first stream of the list.
    BlamesTheFirstStream,
    /// Appends to several streams are never a repetition.
    ForgetsRepetitionsOfSeveral,

    // Erasure.
    /// The pages of a stream show payloads that were erased.
    ShowsErasedInStreams,
    /// The log shows payloads that were erased.
    ShowsErasedInTheLog,
    /// A scan shows payloads that were erased.
    ShowsErasedInScans,
    /// A visit shows payloads that were erased.
    ShowsErasedToVisitors,
    /// The metadata outlives the payload.
    KeepsErasedMetadata,
    /// Events get the time of their erasure.
    TouchesTheTimeOfErased,
    /// The log does not show tombstones.
    HidesTombstones,
    /// Snapshots outlive the payloads, and later ones are kept.
    KeepsErasedSnapshots,
    /// An append to an erased stream is told of a conflict.
    TellsOfAConflictWhenErased,
    /// That a stream is erased is found before it is known whether the append is a repetition.
    ChecksForErasureFirst,
    /// A second erasure has a new answer.
    ErasesTwice,
    /// A stream that is not there is erased with success.
    ErasesWhatIsNotThere,
    /// All streams of the type are erased.
    ErasesTheWholeType,
    /// Payloads are erased first, and the tombstone comes in another transaction.
    ErasesInTwoSteps,
    /// What is appended while the erasure works keeps its payload.
    ErasesOnlyWhatItHadRead,

    // What is read.
    /// A stream that is not there is an error.
    MissesMissingStreams,
    /// A page of a stream begins with the version given.
    ReadsStreamsFromTheVersionGiven,
    /// A page of the log begins with the position given.
    ReadsTheLogFromThePositionGiven,
    /// A read returns one event more than asked for.
    ReadsOneMore,
    /// A read of a stream shows the events of all.
    MixesStreams,
    /// An event read from a stream does not know its position.
    ForgetsPositions,
    /// The newest event of a stream is not there when it is first read.
    ReadsStale,
    /// As with a sequence and no horizon: every seventh event is not there when its place in the
    /// log is first read past, and is there afterwards.
    ShowsSomeEventsLate,
    /// Each event has the time of another clock.
    TakesEachWritersClock,
    /// Every filter lets everything through.
    IgnoresTheFilter,
    /// A full page says that it covers everything that is settled.
    CoversMoreThanItRead,
    /// A short page says that it covers a place that nobody has written to yet.
    CoversMoreThanIsSettled,
    /// A page behind the end of the log says that it covers the end.
    CoversAtMostTheLog,
    /// A page without events says that it covers nothing.
    CoversOnlyWhatMatched,
    /// What is appended never settles.
    NeverSettles,
    /// Every second time the settled horizon is back at the start.
    SettlesBackwards,
    /// Waiting for events never ends.
    NeverWakes,
    /// After a wait that was dropped no append gets through.
    WaitsWithALock,
    /// A scan finds all types.
    ScansAllTypes,
    /// A scan begins with the first event.
    ScansFromTheFirst,
    /// A scan includes the time it must end before.
    ScansToTheEndInclusive,
    /// A scan goes on behind the time of the last event, not behind the event.
    ScansByTimeOnly,

    // Snapshots and visits.
    /// The newest snapshot is found, whatever version is asked for.
    FindsTooNewASnapshot,
    /// The newest snapshot is found, whatever stream is asked for.
    FindsTheSnapshotOfAnother,
    /// The state of a snapshot is parsed and written again without its spaces.
    RewritesTheState,
    /// A visit ends with its first thousand events.
    VisitsOnePage,
    /// A visit goes on to the end of the stream.
    VisitsToTheEnd,
    /// A snapshot is offered to who did not ask for it.
    OffersUnasked,
    /// The newest snapshot is offered, whatever range is asked for.
    OffersTooNewASnapshot,
    /// A snapshot is offered without a look at the stream.
    OffersASnapshotAheadOfItsStream,
    /// A snapshot is believed for the visitor.
    BelievesForTheVisitor,
    /// All events follow, also after a snapshot that was believed.
    RepeatsWhatTheSnapshotHas,
    /// `Break` ends nothing.
    IgnoresTheBreak,

    // The horizon.
    /// One place more is settled than the log has.
    SettlesAboveTheEnd,
    /// The end of the log is its start.
    EndsAtTheStart,
    /// Somebody always holds the horizon back.
    InventsABlocker,

    // Nodes.
    /// A beat announces nothing.
    ForgetsBeats,
    /// A node has no name and runs nothing.
    ForgetsWhatNodesRun,
    /// A node that beats sees no other.
    SeesOnlyItself,
    /// Nodes are listed in the opposite order.
    ListsNodesBackwards,
    /// A beat does not tell where projections stand.
    HidesStandingsFromBeats,
    /// A node lives for hours after each beat.
    NeverForgetsNodes,
    /// A node lives for a few milliseconds after each beat.
    CutsTheTtl,
    /// A beat waits for the transaction that is open.
    BeatsWaitForBatches,
    /// A node that leaves lives on.
    IgnoresLeaving,
    /// All nodes leave together.
    LeavesForAll,
    /// A node that is not alive is taken to be.
    LetsTheDeadRun,
    /// A batch of a node whose time is over is fenced.
    FencesTheSleeper,
    /// A batch that takes long is fenced when it commits.
    FencesLongBatches,

    // Who may run a shard.
    /// A batch begins from wherever the checkpoint stands, whoever holds it.
    DoesNotFence,
    /// A batch begins whatever position its claim has.
    IgnoresTheClaimsPosition,
    /// A batch begins whatever epoch its claim has.
    IgnoresTheClaimsEpoch,
    /// A batch begins whoever the owner of its claim is.
    IgnoresTheClaimsOwner,
    /// A shard is given to whoever asks.
    IgnoresTheHolder,
    /// A shard is given away while a batch of a node that is gone is open.
    GivesAwayWhatIsOpen,
    /// Nobody gets a shard that was released.
    IgnoresTheRelease,
    /// Whoever was the owner once can release the claim of the next.
    ReleasesWhoeverHolds,
    /// All claims have one epoch.
    FreezesTheEpoch,
    /// A claim does not have the marks.
    ForgetsMarksInClaims,
    /// A standing does not tell who runs its shard.
    ForgetsTheOwner,
    /// A shard that is not there is put there.
    InventsShards,
    /// What is not meant to run is run.
    RunsWhateverIsThere,
    /// All shards of a projection are the first.
    IgnoresTheShard,
    /// A batch of one shard moves all of its projection.
    MovesAllShards,

    // Checkpoints.
    /// A projection that never ran has a checkpoint.
    InventsCheckpoints,
    /// A new projection begins at the end of the log.
    StartsAtTheEnd,
    /// The checkpoint does not keep which event it stands at.
    ForgetsTheAnchor,
    /// No anchor is found in the log.
    FindsNoAnchor,
    /// A batch does not move the checkpoint.
    NeverMovesTheCheckpoint,
    /// A batch writes its whole row anew.
    RewritesTheRow,
    /// Each statement of a transaction is committed by itself.
    CommitsEachStatement,
    /// A batch must move the checkpoint.
    RefusesToStay,
    /// A batch that does not move the checkpoint locks nothing.
    StaysWithoutALock,
    /// A projection stands where its fastest shard does.
    FollowsTheFastestShard,
    /// A checkpoint above the end of the log is taken to be at its end.
    TakesTheLogsEnd,
    /// All versions of a projection are the first.
    IgnoresTheProjectionsVersion,
    /// A projection may want other event types every time.
    IgnoresTheEventTypes,

    // Standings, and changes of them.
    /// Nobody knows why a projection has failed.
    ForgetsFailures,
    /// A standing does not have the marks.
    ForgetsMarks,
    /// Every projection is running.
    ForgetsTheLifecycle,
    /// Standings are listed in the opposite order.
    ListsBackwards,
    /// Standings of all names are listed.
    ListsAllNames,
    /// What runs inside the appends stands where it was put.
    LeavesInlineBehind,
    /// A change shows only the version that it names.
    ChangesShowOneVersion,
    /// A name must be there before it can be changed.
    RefusesNewNames,
    /// A standing that is there is not overwritten.
    KeepsTheFirstStanding,
    /// The epoch is what a standing says when it is put.
    BelievesTheEpoch,
    /// The owner is who a standing says when it is put.
    BelievesTheOwner,
    /// A change fences everybody, also if it changes nothing.
    ChangesAlwaysFence,
    /// A change waits for nothing and holds nothing.
    ChangesLockNothing,
    /// A batch puts no standings.
    BatchesPutNoStandings,
    /// Nothing is removed.
    IgnoresRemovals,
    /// With one shard all of its projection are removed.
    RemovesTheWholeProjection,

    // Dead letters.
    /// Nobody knows why an event was put aside.
    ForgetsWhyALetterIsThere,
    /// A letter has the times that it is put with.
    BelievesTheTimes,
    /// Letters are listed in the opposite order.
    ListsLettersBackwards,
    /// Letters of all projections are listed.
    IgnoresTheProjectionOfLetters,
    /// Letters of all aggregates are listed.
    IgnoresTheAggregateOfLetters,
    /// Letters in all states are listed.
    IgnoresTheStateOfLetters,
    /// Every page of letters is the first.
    IgnoresTheEndOfThePage,
    /// A page has one letter more than asked for.
    ListsOneLetterMore,
    /// A letter that is put again is a new one.
    RenewsLetters,
    /// A letter that is there is not overwritten.
    KeepsTheFirstLetter,
    /// An aggregate with any letter is parked.
    ParksTheSkipped,
    /// Nobody knows that a retry was asked for.
    ForgetsTheRetry,
    /// A retry of one aggregate is one of all.
    RetriesAll,
    /// With one letter all of its projection are removed.
    RemovesAllLetters,
    /// Letters stay when their projection is removed.
    LettersOutliveTheirProjection,
    /// Letters are removed with any shard of their projection.
    LettersGoWithAnyShard,
}
