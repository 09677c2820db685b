//! A child that appends, repeats, gives up half-way and takes its time.

use std::{collections::HashMap, pin::pin, sync::Arc, time::Duration};

use es_core::{
    AppendError, Appended, BoxError, Chain, ExpectedVersion, NewEvent, StreamId, Version,
};
use es_projections::told_to_stop;
use fastrand::Rng;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    account::{accounts, events},
    args::Part,
    database::{self, Store, Transaction},
    folder::{Receipts, Violations},
    process,
};

const TASKS: usize = 3;

pub(crate) async fn run<S: Store>(part: Part) -> Result<(), BoxError> {
    process::die_with_parent();
    let mut told = pin!(told_to_stop());
    let store: S = tokio::select! {
        store = database::open(&part.url) => store?,
        () = &mut told => return Ok(()),
    };
    let (stop, stopped) = watch::channel(false);
    let mut rng = Rng::with_seed(part.own_seed);
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let writer = Writer {
            store: store.clone(),
            streams: accounts(part.seed),
            known: HashMap::new(),
            rng: rng.fork(),
            receipts: Receipts::open(&part.folder)?,
            violations: Arc::new(Violations::open(&part.folder)?),
            stopped: stopped.clone(),
        };
        tasks.spawn(writer.run());
    }
    told.await;
    stop.send_replace(true);
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

/// One append: repeated as it is until the store has said what became of it.
struct Attempt {
    stream: StreamId,
    expected: ExpectedVersion,
    base: u128,
    count: u32,
    events: Vec<NewEvent>,
}

struct Writer<S> {
    store: S,
    streams: Vec<StreamId>,
    /// The versions that this task has seen last.
    known: HashMap<StreamId, Version>,
    rng: Rng,
    receipts: Receipts,
    violations: Arc<Violations>,
    stopped: watch::Receiver<bool>,
}

impl<S: Store> Writer<S> {
    async fn run(mut self) -> Result<(), BoxError> {
        while !*self.stopped.borrow() {
            let attempt = self.attempt()?;
            match self.rng.u8(..100) {
                0..60 => drop(self.settle(&attempt).await?),
                60..75 => self.repeat(&attempt).await?,
                75..85 => self.forsake(&attempt).await?,
                85..93 => self.abandon(&attempt).await?,
                _ => self.take_time(&attempt).await?,
            }
            sleep(self.pause(30)).await;
        }
        Ok(())
    }

    fn attempt(&mut self) -> Result<Attempt, BoxError> {
        let stream = self.streams[self.rng.usize(..self.streams.len())].clone();
        let known = self.known.get(&stream).copied().unwrap_or_default();
        let expected = match self.rng.u8(..20) {
            0..3 => ExpectedVersion::Any,
            3 => ExpectedVersion::StreamExists,
            4 => ExpectedVersion::NoStream,
            _ => ExpectedVersion::Exact(known),
        };
        let base = self.rng.u128(1..u128::MAX - 100);
        let count = match self.rng.bool() {
            true => self.rng.u32(1..=3),
            false => self.rng.u32(1..=20),
        };
        let events = events(&mut self.rng, base, count)?;
        Ok(Attempt {
            stream,
            expected,
            base,
            count,
            events,
        })
    }

    fn pause(&mut self, milliseconds: u64) -> Duration {
        Duration::from_millis(self.rng.u64(..=milliseconds))
    }

    /// Until it is recorded (`Some`), refused (`None`), or the program stops.
    async fn settle(&mut self, attempt: &Attempt) -> Result<Option<Appended>, BoxError> {
        let Attempt {
            stream,
            expected,
            events,
            ..
        } = attempt;
        loop {
            match self.store.append(stream, *expected, events).await {
                Ok(appended) => {
                    self.acknowledge(attempt, appended)?;
                    return Ok(Some(appended));
                }
                Err(error @ AppendError::Backend { .. }) => {
                    eprintln!("again: {}", Chain(&error));
                    if *self.stopped.borrow() {
                        return Ok(None);
                    }
                    sleep(self.pause(200)).await;
                }
                Err(refused) => {
                    self.refused(attempt, &refused);
                    return Ok(None);
                }
            }
        }
    }

    fn acknowledge(&mut self, attempt: &Attempt, at: Appended) -> Result<(), BoxError> {
        self.known.insert(attempt.stream.clone(), at.version);
        Ok(self
            .receipts
            .acknowledged(&attempt.stream, attempt.base, attempt.count, at)?)
    }

    fn refused(&mut self, attempt: &Attempt, refused: &AppendError) {
        match refused {
            AppendError::Conflict {
                actual, expected, ..
            } if !expected.accepts(*actual) => {
                self.known.insert(attempt.stream.clone(), *actual);
            }
            refused => self
                .violations
                .report(&format!("an append: {}", Chain(refused))),
        }
    }

    /// The acknowledgement is lost: the same answer must come again.
    async fn repeat(&mut self, attempt: &Attempt) -> Result<(), BoxError> {
        let Some(first) = self.settle(attempt).await? else {
            return Ok(());
        };
        sleep(self.pause(300)).await;
        match self.settle(attempt).await? {
            Some(again) if again != first => {
                let stream = &attempt.stream;
                let what = format!("a repeated append to {stream} has {again:?} for {first:?}");
                self.violations.report(&what);
            }
            Some(_) => {}
            None if *self.stopped.borrow() => {}
            None => self.violations.report("a repeated append was refused"),
        }
        Ok(())
    }

    /// Its future is dropped half-way, then it comes again.
    async fn forsake(&mut self, attempt: &Attempt) -> Result<(), BoxError> {
        let Attempt {
            stream,
            expected,
            events,
            ..
        } = attempt;
        let soon = Duration::from_micros(self.rng.u64(..5_000));
        match timeout(soon, self.store.append(stream, *expected, events)).await {
            Ok(Ok(appended)) => self.acknowledge(attempt, appended),
            Ok(Err(error @ (AppendError::Backend { .. } | AppendError::Conflict { .. }))) => {
                eprintln!("again: {}", Chain(&error));
                self.settle(attempt).await.map(drop)
            }
            Ok(Err(refused)) => {
                self.refused(attempt, &refused);
                Ok(())
            }
            Err(_) => self.settle(attempt).await.map(drop),
        }
    }

    /// In a transaction that comes to nothing.
    async fn abandon(&mut self, attempt: &Attempt) -> Result<(), BoxError> {
        let Attempt {
            stream,
            events,
            base,
            count,
            ..
        } = attempt;
        self.receipts.abandoned(stream, *base, *count)?;
        let Some(mut transaction) = self.begin().await else {
            return Ok(());
        };
        let appended = transaction
            .append(stream, ExpectedVersion::Any, events)
            .await;
        sleep(self.pause(if S::ONE_WRITER { 50 } else { 500 })).await;
        if let Err(error) = appended {
            eprintln!("in a transaction: {}", Chain(&error));
        }
        match self.rng.bool() {
            true => drop(transaction),
            false => drop(transaction.rollback().await),
        }
        Ok(())
    }

    /// In a transaction that stays open for a while.
    async fn take_time(&mut self, attempt: &Attempt) -> Result<(), BoxError> {
        let Attempt {
            stream,
            expected,
            events,
            ..
        } = attempt;
        let Some(mut transaction) = self.begin().await else {
            return Ok(());
        };
        let appended = match transaction.append(stream, *expected, events).await {
            Ok(appended) => appended,
            Err(error @ AppendError::Backend { .. }) => {
                eprintln!("in a transaction: {}", Chain(&error));
                return Ok(());
            }
            Err(refused) => {
                self.refused(attempt, &refused);
                return Ok(());
            }
        };
        sleep(self.pause(if S::ONE_WRITER { 100 } else { 2_000 })).await;
        match transaction.commit().await {
            Ok(()) => self.acknowledge(attempt, appended),
            Err(error) => {
                // Nobody knows whether it came through: the same ids will tell.
                eprintln!("a commit: {}", Chain(&error));
                self.settle(attempt).await.map(drop)
            }
        }
    }

    async fn begin(&self) -> Option<S::Transaction> {
        match self.store.begin().await {
            Ok(transaction) => Some(transaction),
            Err(error) => {
                eprintln!("no transaction: {}", Chain(&error));
                None
            }
        }
    }
}
