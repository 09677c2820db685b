//! Starts the processes, does to them what the schedule says, and makes an end of it.

mod acts;
mod crew;
mod end;

use std::{path::Path, time::Duration};

use es_core::{BoxError, Chain, DeadLetter, Lifecycle, ProjectionId, Standing};
use es_projections::Projections;
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use self::crew::Crew;
use crate::{
    args::Plan,
    cluster::Cluster,
    database::{self, Store},
    folder::{Folder, Violations},
    orders::{Done, Operator, is_excused, is_strange},
    projections::ORACLE,
    schedule::{Act, Schedule},
    totals::Totals,
};

const TICK: Duration = Duration::from_millis(20);
/// How often to look where everything stands.
const LOOK: Duration = Duration::from_millis(500);
/// An order that takes longer hangs: nothing is away or frozen for so long.
const ORDER: Duration = Duration::from_secs(30);

const TIMED_OUT: &str = "it has not ended";

/// What is to be done at a certain time.
enum Due {
    Start(usize),
    Thaw(usize),
    Kill(usize),
    StartServer,
    Repair,
}

/// One run.
struct Supervisor<'a, S> {
    plan: &'a Plan,
    folder: &'a Path,
    url: &'a str,
    cluster: Option<&'a Cluster>,
    schedule: Schedule,
    crew: Crew,
    due: Vec<(Instant, Due)>,
    operator: Operator<S>,
    orders: JoinSet<(String, Result<Done, BoxError>)>,
    violations: Violations,
    server_is_up: bool,
    /// How many versions of the oracle there are.
    versions: u32,
    served: Option<ProjectionId>,
    totals: Totals,
}

/// Chaos, then repair, then the check.
pub(crate) async fn run<S: Store>(
    plan: &Plan,
    folder: &Folder,
    url: &str,
    cluster: Option<&Cluster>,
) -> Result<(), BoxError> {
    let store: S = database::open(url).await?;
    store.prepare().await?;
    let root = folder.root();
    let mut supervisor = Supervisor {
        plan,
        folder: root,
        url,
        cluster,
        schedule: Schedule::new(plan.seed, plan.backend),
        crew: Crew::new(plan, root, url),
        due: Vec::new(),
        operator: Operator {
            projections: Projections::new(store.clone()),
            store,
            folder: root.to_owned(),
        },
        orders: JoinSet::new(),
        violations: Violations::open(root)?,
        server_is_up: true,
        versions: 1,
        served: None,
        totals: Totals {
            versions: 1,
            ..Totals::default()
        },
    };
    let ended = supervisor.whole().await;
    println!("{}", supervisor.totals);
    let violations = Violations::all(root)?;
    for violation in violations.iter().take(20) {
        eprintln!("{violation}");
    }
    ended?;
    match violations.len() {
        0 => Ok(()),
        many => Err(format!("{many} things went wrong").into()),
    }
}

impl<S: Store> Supervisor<'_, S> {
    async fn whole(&mut self) -> Result<(), BoxError> {
        for slot in 0..self.crew.len() {
            self.start(slot)?;
        }
        self.chaos().await?;
        if Violations::all(self.folder)?.is_empty() {
            self.end().await?;
        }
        Ok(())
    }

    /// Until the time is up, or something has gone wrong.
    async fn chaos(&mut self) -> Result<(), BoxError> {
        let end = Instant::now() + Duration::from_secs(self.plan.seconds);
        // Everybody is up before the first blow.
        let mut next = Instant::now() + Duration::from_secs(1);
        let mut look = Instant::now();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while Instant::now() < end {
            ticks.tick().await;
            self.tick().await?;
            if Instant::now() >= next {
                let act = self.schedule.act();
                self.act(act).await?;
                next = Instant::now() + self.schedule.pause();
            }
            if Instant::now() >= look {
                look = Instant::now() + LOOK;
                self.order("look", |operator| operator.look());
                if !Violations::all(self.folder)?.is_empty() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// What is due, who has ended, which orders are done.
    async fn tick(&mut self) -> Result<(), BoxError> {
        let now = Instant::now();
        let later = self
            .due
            .extract_if(.., |(at, _)| *at <= now)
            .collect::<Vec<_>>();
        for (_, due) in later {
            self.when_due(due).await?;
        }
        for slot in self.crew.ended(&self.violations)? {
            self.later(Due::Start(slot));
        }
        while let Some(order) = self.orders.try_join_next() {
            let (what, done) = order?;
            self.ordered(&what, done);
        }
        Ok(())
    }

    /// After a while.
    fn later(&mut self, due: Due) {
        let absence = self.schedule.absence();
        self.due.push((Instant::now() + absence, due));
    }

    fn start(&mut self, slot: usize) -> Result<(), BoxError> {
        let seed = self.schedule.seed();
        self.crew.start(slot, seed, self.versions, false)
    }

    /// Gives an order, and does not wait for it.
    fn order<F>(&mut self, what: &str, give: impl FnOnce(Operator<S>) -> F)
    where
        F: Future<Output = Result<Done, BoxError>> + Send + 'static,
    {
        let (what, given) = (what.to_owned(), give(self.operator.clone()));
        self.orders.spawn(async move {
            let done = timeout(ORDER, given).await;
            (what, done.unwrap_or_else(|_| Err(TIMED_OUT.into())))
        });
    }

    fn ordered(&mut self, what: &str, done: Result<Done, BoxError>) {
        let totals = &mut self.totals;
        let done = match done {
            Ok(done) => done,
            Err(error) => {
                totals.orders_refused += 1;
                if self.plan.verbose {
                    println!("  refused: {what}: {}", Chain(&*error));
                }
                if !is_excused(&self.operator.store, &error) {
                    self.violations
                        .report(&format!("{what}: {}", Chain(&*error)));
                }
                return;
            }
        };
        match done {
            Done::Nothing | Done::Ordered => {}
            Done::Divided => totals.divides += 1,
            Done::Rewound => totals.rewinds += 1,
            Done::Reset => totals.resets += 1,
            Done::RebuiltAggregate => totals.rebuilt_aggregates += 1,
            Done::Retried(letters) => totals.retried_letters += letters,
            Done::EndedSessions(sessions) => totals.backends_ended += sessions,
            Done::Looked(standings, letters) => self.looked(&standings, &letters),
        }
    }

    fn looked(&mut self, standings: &[Standing], letters: &[DeadLetter]) {
        let oracle = |row: &&Standing| row.active && row.shard.projection.name == ORACLE;
        if let Some(row) = standings.iter().find(oracle) {
            let served = Some(row.shard.projection.clone());
            if self.served.is_some() && self.served != served {
                self.totals.hand_overs += 1;
            }
            self.served = served;
        }
        for row in standings
            .iter()
            .filter(|row| row.lifecycle == Lifecycle::Failed)
        {
            let failure = row
                .failure
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default();
            self.violations
                .report(&format!("{} has failed: {failure}", row.shard));
        }
        if let Some(letter) = letters.iter().find(|letter| is_strange(letter)) {
            let DeadLetter {
                projection,
                failure,
                ..
            } = letter;
            self.violations
                .report(&format!("{projection} has put aside: {failure}"));
        }
    }

    fn say(&self, act: &Act) {
        if self.plan.verbose {
            println!("  {act:?}");
        }
    }
}
