//! Simulated days: real notifiers and workers as processes that die and come back, platforms that fail in every way, a
//! store that is slow or away, clocks that disagree. A seed decides everything, and a [`judge`] says what must not happen.
//!
//! - Time is tokio's paused clock: a day takes milliseconds.
//! - The store is the model in [`crate::store::memory`], which keeps the engines' contract; some days run on SQLite.
//! - `HERALD_SIM_SEEDS=10000` runs so many seeds, `HERALD_SIM_SEED=42` runs one and prints what happened.
//! - A judge that finds nothing proves nothing: each of the mistakes in [`bugs`] has to be found.

mod bugs;
mod door;
mod judge;
mod plan;
mod process;
mod sends;
mod waits;
mod world;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use self::bugs::Bug;
use self::door::at_once;
use self::judge::Judge;
use self::plan::{Dice, Errand, Moment, Plan};
use self::process::{Configuration, Running};
use self::world::World;
use crate::model::{Action, ClientName, Delivery, DeliveryState, Part, Reason, Step, Submission};
use crate::store::memory::Memory;
use crate::store::{Filter, Outbox};
use crate::telemetry::Metrics;

/// Within this time after the last trouble everything has to come to its end.
const PATIENCE: Moment = 20 * 60_000;

/// Nobody looks at what is counted here, and to register it all takes longer than a day.
static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::default);

/// One simulated day.
struct Day {
    plan: Plan,
    bug: Option<Bug>,
    metrics: Metrics,
    began: Instant,
    store: Arc<dyn Outbox>,
    dice: Mutex<Dice>,
    world: Mutex<World>,
    judge: Mutex<Judge>,
    running: Mutex<Vec<Option<Running>>>,
    /// How many wait for an answer of a process that lives.
    waiting: AtomicU64,
    configuration: Mutex<Configuration>,
    /// What happened, where somebody wants to read it.
    history: Option<Mutex<Vec<String>>>,
}

impl Day {
    /// Milliseconds since it began, by a clock that is right.
    fn now(&self) -> Moment {
        u64::try_from(self.began.elapsed().as_millis()).unwrap()
    }

    fn is_calm(&self) -> bool {
        self.now() >= self.plan.calm
    }

    fn dice(&self) -> MutexGuard<'_, Dice> {
        self.dice.lock().unwrap()
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    fn judge(&self) -> MutexGuard<'_, Judge> {
        self.judge.lock().unwrap()
    }

    fn running(&self) -> MutexGuard<'_, Vec<Option<Running>>> {
        self.running.lock().unwrap()
    }

    fn configuration(&self) -> MutexGuard<'_, Configuration> {
        self.configuration.lock().unwrap()
    }

    fn tell(&self, what: impl FnOnce() -> String) {
        if let Some(history) = &self.history {
            let seconds = self.now() as f64 / 1000.0;
            history.lock().unwrap().push(format!("{seconds:9.3} {}", what()));
        }
    }

    fn stored(&self) -> Vec<Delivery> {
        at_once(self.store.list(&Filter { most: 1_000, ..Filter::default() })).unwrap()
    }

    /// Does everything on the list, and waits until all has come to its end.
    async fn run(self: &Arc<Self>) {
        for number in 0..self.plan.processes {
            tokio::spawn(process::one_after_the_other(Arc::clone(self), number));
        }
        let errands = self.plan.errands.clone();
        let wanted = |errand: &Errand| matches!(errand, Errand::Submit { .. } | Errand::Retry);
        let last = errands.iter().rposition(|(_, errand)| wanted(errand));
        for (n, (at, errand)) in errands.into_iter().enumerate() {
            tokio::time::sleep_until(self.began + Duration::from_millis(at)).await;
            if last.is_some_and(|last| n > last) && self.is_done() {
                break;
            }
            self.run_errand(errand);
        }
        let calm = Duration::from_millis(self.plan.calm);
        if !self.is_done() {
            tokio::time::sleep_until(self.began + calm).await;
        }
        self.tell(|| "from here on all goes well".to_owned());
        while self.now() < self.plan.calm + PATIENCE && self.judge().complaint.is_none() {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if self.is_done() {
                break;
            }
        }
        let (stored, world) = (self.stored(), self.world());
        self.judge().ends_the_day(self, &stored, &world.messages);
    }

    /// Whether nothing waits any more, and nobody for an answer.
    fn is_done(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) == 0
            && at_once(self.store.backlog()).unwrap().is_empty()
    }

    fn run_errand(self: &Arc<Self>, errand: Errand) {
        self.tell(|| format!("{errand:?}"));
        let process = |number: usize| self.running()[number].clone();
        match errand {
            Errand::Submit { n, process: number } => {
                if let Some(running) = process(number) {
                    let day = Arc::clone(self);
                    self.waiting.fetch_add(1, Ordering::Relaxed);
                    tokio::spawn(async move {
                        let dead = Arc::clone(&running.process);
                        tokio::select! {
                            biased;
                            () = submit(&day, running, n) => {}
                            // Whoever dies answers nobody.
                            () = dead.is_dead() => {}
                        }
                        day.waiting.fetch_sub(1, Ordering::Relaxed);
                    });
                }
            }
            Errand::Kill { process: number, steps } => {
                if let Some(running) = process(number) {
                    running.process.kill_after(steps);
                }
            }
            Errand::Restart { process: number } => {
                if let Some(running) = process(number) {
                    running.stop.cancel();
                }
            }
            Errand::Skew { process: number, by } => {
                if let Some(running) = process(number) {
                    running.process.set_off(by);
                }
            }
            Errand::Forbid { channel } => {
                self.configuration().allowed.remove(&channel);
            }
            Errand::Revoke { chat } => {
                let valid = self.configuration().secrets[&self.plan.chats[chat].kind] + 1_000;
                self.world().valid.insert(self.plan.chats[chat].kind, valid);
            }
            Errand::Replace { chat, right } => {
                let kind = self.plan.chats[chat].kind;
                let mut configuration = self.configuration();
                let secret = configuration.secrets.entry(kind).or_default();
                *secret += 1;
                if right {
                    self.world().valid.insert(kind, *secret);
                }
            }
            Errand::Resume => {
                for chat in &self.plan.chats {
                    at_once(self.store.resume(chat.kind, self.operators_time())).unwrap();
                    self.judge().resumed(self, chat.kind);
                }
            }
            Errand::Retry => self.operator_retries(),
            Errand::Discard => self.operator_discards(),
        }
    }

    fn operator_retries(&self) {
        for delivery in self.stored() {
            if matches!(delivery.state, DeliveryState::Failed | DeliveryState::Unknown) {
                let now = self.operators_time();
                let deadline = now.after(self.plan.deadline);
                at_once(self.store.retry(delivery.id, now, deadline)).unwrap();
                let n = self.judge().ids.get(&delivery.id).copied();
                if let Some(n) = n {
                    self.judge().put_back(self, n, deadline);
                }
            }
        }
    }

    fn operator_discards(&self) {
        let newest = self.stored().into_iter().find(|it| it.state == DeliveryState::Queued);
        let Some(delivery) = newest else { return };
        let now = self.operators_time();
        at_once(self.store.end(delivery.id, Reason::Discarded, "discarded", now)).unwrap();
        let n = self.judge().ids.get(&delivery.id).copied();
        if let Some(n) = n {
            self.judge().waits_no_more(self, n);
        }
    }

    fn operators_time(&self) -> crate::clock::Timestamp {
        process::right_time(self.now())
    }
}

/// Somebody sends a message, or sends it again.
async fn submit(day: &Day, running: Running, n: usize) {
    let Running { notifier, .. } = running;
    let post = &day.plan.posts[n];
    let client = ClientName::new(post.client);
    let words = (0..post.parts).map(|part| format!("m{n}p{part}"));
    let text = words.collect::<Vec<_>>().join(" ");
    let told = if let Some(first) = post.edits {
        let first = day.judge().books.get(&first).and_then(|book| book.id);
        let Some(first) = first else { return };
        notifier.update(&client, &first.to_string(), &text).await
    } else {
        let submission = Submission {
            platform: post.channel.platform(),
            channel: post.channel.id().to_owned(),
            text,
            placement: crate::model::Placement::default(),
            thread_key: post.thread_key.map(str::to_owned),
            idempotency_key: post.keyed.then(|| format!("key {n}")),
        };
        notifier.submit(&client, submission).await
    };
    let world = day.world();
    day.judge().told(day, n, told, &world.messages);
}

/// What a part says.
fn word(part: &Part) -> String {
    part.text().map_or_else(String::new, |text| text.body.clone())
}

/// What a step shows to people, if it shows anything.
fn said(step: &Step) -> Option<String> {
    match &step.action {
        Action::Send { part } | Action::Edit { part, .. } => Some(word(part)),
        Action::OpenThread { .. } | Action::Delete { .. } => None,
    }
}

/// What came of a day.
struct Came {
    complaint: Option<String>,
    history: Vec<String>,
}

/// Runs the day that a seed stands for.
fn live(seed: u64, bug: Option<Bug>, store: Arc<dyn Outbox>, remember: bool) -> Came {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let mut dice = Dice::new(seed);
    let plan = Plan::of(&mut dice);
    runtime.block_on(async {
        let everywhere = plan.chats.iter().flat_map(|chat| chat.channels.clone());
        let configuration = Configuration {
            allowed: everywhere.collect(),
            secrets: plan.chats.iter().map(|chat| (chat.kind, 0)).collect(),
        };
        let day = Arc::new(Day {
            bug,
            metrics: METRICS.clone(),
            began: Instant::now(),
            store,
            dice: Mutex::new(dice),
            world: Mutex::new(World::new(&plan)),
            judge: Mutex::default(),
            running: Mutex::new(vec![None; plan.processes]),
            waiting: AtomicU64::new(0),
            configuration: Mutex::new(configuration),
            history: remember.then(Mutex::default),
            plan,
        });
        day.tell(|| format!("{:#?}", day.plan));
        day.run().await;
        let complaint = day.judge().complaint.clone();
        let history = day.history.as_ref().map(|it| it.lock().unwrap().clone());
        Came { complaint, history: history.unwrap_or_default() }
    })
}

/// The same with a store in memory, which may have a flaw.
fn live_in_memory(seed: u64, bug: Option<Bug>, remember: bool) -> Came {
    let flaw = match bug {
        Some(Bug::Store(flaw)) => Some(flaw),
        _ => None,
    };
    live(seed, bug, Arc::new(Memory::with(flaw)), remember)
}

/// A number from the environment.
fn asked_for(name: &str) -> Option<u64> {
    let number = std::env::var(name).ok()?;
    Some(number.parse().unwrap_or_else(|_| panic!("{name}={number} is no number")))
}

fn print(history: &[String]) {
    for line in history {
        println!("{line}");
    }
}

#[test]
fn the_invariants_hold_whatever_happens() {
    if let Some(seed) = asked_for("HERALD_SIM_SEED") {
        let came = live_in_memory(seed, None, true);
        print(&came.history);
        assert_eq!(came.complaint, None, "seed {seed}");
        return;
    }
    let seeds = asked_for("HERALD_SIM_SEEDS").unwrap_or(1_000);
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let complaints = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    if let Some(complaint) = live_in_memory(seed, None, false).complaint {
                        complaints.lock().unwrap().insert(seed, complaint);
                    }
                }
            });
        }
    });
    let complaints = complaints.into_inner().unwrap();
    let few: Vec<_> = complaints
        .iter()
        .take(20)
        .map(|(seed, complaint)| format!("HERALD_SIM_SEED={seed}: {complaint}"))
        .collect();
    assert!(few.is_empty(), "{} of {seeds} seeds:\n{}", complaints.len(), few.join("\n"));
}

#[test]
fn each_planted_mistake_is_found() {
    const ENOUGH: u64 = 2_000;
    let mut wrong = Vec::new();
    for (bug, about) in bugs::ALL {
        let found = (0..ENOUGH).find_map(|seed| {
            let complaint = live_in_memory(seed, Some(*bug), false).complaint?;
            Some((seed, complaint))
        });
        let Some((seed, complaint)) = found else {
            wrong.push(format!("{bug:?} is not found in {ENOUGH} seeds"));
            continue;
        };
        let found = format!("{bug:?} is found by seed {seed}: {complaint}");
        println!("{found}");
        if !about.contains(&complaint.split(": ").next().unwrap_or_default()) {
            wrong.push(format!("{found}, which is not what it is about: {about:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_seed_stands_for_one_day() {
    for seed in 0..30 {
        let (one, other) = (live_in_memory(seed, None, true), live_in_memory(seed, None, true));
        for (a, b) in one.history.iter().zip(&other.history) {
            assert_eq!(a, b, "seed {seed}");
        }
        assert_eq!(one.history.len(), other.history.len(), "seed {seed}");
    }
}

#[test]
fn the_invariants_hold_on_sqlite_as_well() {
    let elsewhere =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    for seed in 0..asked_for("HERALD_SIM_SQLITE_SEEDS").unwrap_or(50) {
        let store = elsewhere.block_on(crate::store::sqlite::Sqlite::in_memory()).unwrap();
        let came = live(seed, None, Arc::new(store), false);
        assert_eq!(came.complaint, None, "seed {seed}");
    }
}
