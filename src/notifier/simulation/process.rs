//! The processes: the real worker and notifier, behind a door that knows everything they do and may shut for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Day;
use super::bugs::Bug;
use super::door::Door;
use super::plan::Moment;
use super::world::Face;
use crate::clock::{Clock, Timestamp};
use crate::delivery::{self, Worker};
use crate::model::{ChannelId, PlatformKind};
use crate::notifier::{Notifier, Parts, Settings};
use crate::platform::Platform;
use crate::policy::{AllowList, Policy, Rulebook};
use crate::store::memory::Memory;
use crate::store::trail::Scribe;

/// When a simulated day begins.
const T0: Timestamp = Timestamp(1_800_000_000_000);

/// What a clock shows that is right.
pub(super) fn right_time(moment: Moment) -> Timestamp {
    Timestamp(T0.0 + i64::try_from(moment).unwrap())
}

/// One process, from its start to its end.
pub(super) struct Process {
    pub(super) name: String,
    alive: AtomicBool,
    /// It dies after so many steps; negative: it does not.
    fuse: AtomicI64,
    died: Notify,
    /// For whoever waits for an answer of it.
    gone: Notify,
    /// How far its clock is off, in milliseconds.
    off: AtomicI64,
    /// Where its operator allows to post.
    pub(super) allowed: BTreeSet<ChannelId>,
    pub(super) secrets: BTreeMap<PlatformKind, u32>,
}

impl Process {
    /// A step on the way of whatever it does: here it may die, and from then on it does nothing more.
    pub(super) async fn step(&self) {
        let left = self.fuse.load(Ordering::Relaxed);
        if left >= 0 {
            self.fuse.store(left - 1, Ordering::Relaxed);
        }
        if left == 0 {
            self.alive.store(false, Ordering::Relaxed);
            self.died.notify_one();
            self.gone.notify_waiters();
        }
        if !self.is_alive() {
            std::future::pending::<()>().await;
        }
    }

    pub(super) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }

    /// Waits until it has died, or stopped.
    pub(super) async fn is_dead(&self) {
        while self.is_alive() {
            self.gone.notified().await;
        }
    }

    /// What its clock shows at a moment.
    pub(super) fn at(&self, moment: Moment) -> Timestamp {
        let off = self.off.load(Ordering::Relaxed);
        Timestamp(right_time(moment).0 + off)
    }

    pub(super) fn kill_after(&self, steps: u64) {
        self.fuse.store(i64::try_from(steps).unwrap(), Ordering::Relaxed);
    }

    pub(super) fn set_off(&self, by: i64) {
        self.off.store(by, Ordering::Relaxed);
    }
}

/// A process's clock, and the day's dice.
struct Watch {
    day: Arc<Day>,
    process: Arc<Process>,
}

impl Clock for Watch {
    fn now(&self) -> Timestamp {
        self.process.at(self.day.now())
    }

    fn jitter(&self) -> f64 {
        self.day.dice().fraction()
    }
}

/// A process that runs.
#[derive(Clone)]
pub(super) struct Running {
    pub(super) process: Arc<Process>,
    pub(super) notifier: Arc<Notifier>,
    pub(super) stop: CancellationToken,
}

/// What the operator has written down; a process reads it when it starts.
#[derive(Clone)]
pub(super) struct Configuration {
    pub(super) allowed: BTreeSet<ChannelId>,
    pub(super) secrets: BTreeMap<PlatformKind, u32>,
}

/// One process after the other, until the day is over.
pub(super) async fn one_after_the_other(day: Arc<Day>, number: usize) {
    for generation in 0.. {
        let (running, worker) = start(&day, number, generation);
        let (process, stop) = (Arc::clone(&running.process), running.stop.clone());
        day.running()[number] = Some(running);
        day.judge().service_changes(&day);
        let bug = day.bug;
        let mut run = tokio::spawn(async move {
            if bug == Some(Bug::WaitsForAll) {
                in_lockstep(worker, stop).await;
            } else {
                worker.run(stop).await;
            }
        });
        tokio::select! {
            biased;
            () = process.died.notified() => {
                run.abort();
                let _ = run.await;
                day.tell(|| format!("{} is dead", process.name));
            }
            _ = &mut run => {
                // Whoever waits in it has no answer any more.
                process.alive.store(false, Ordering::Relaxed);
                process.gone.notify_waiters();
                day.tell(|| format!("{} has stopped", process.name));
            }
        }
        day.running()[number] = None;
        day.judge().service_changes(&day);
        let pause = if day.is_calm() { 100 } else { day.dice().within(10..8_000) };
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

/// A worker that begins nothing before all that it began has ended.
async fn in_lockstep(worker: Worker, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let _ = worker.tick().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn start(day: &Arc<Day>, number: usize, generation: usize) -> (Running, Worker) {
    let Configuration { allowed, secrets } = day.configuration().clone();
    let off = if day.bug == Some(Bug::ClocksFarApart) && number == 0 { 45_000 } else { 0 };
    let process = Arc::new(Process {
        name: format!("p{number}.{generation}"),
        alive: AtomicBool::new(true),
        fuse: AtomicI64::new(-1),
        died: Notify::new(),
        gone: Notify::new(),
        off: AtomicI64::new(off),
        allowed,
        secrets,
    });
    day.tell(|| format!("{} starts", process.name));
    let outbox = Arc::new(Door { day: Arc::clone(day), process: Arc::clone(&process) });
    let clock = Arc::new(Watch { day: Arc::clone(day), process: Arc::clone(&process) });
    let face = |chat: &super::plan::Chat| {
        let (day, process, chat) = (Arc::clone(day), Arc::clone(&process), chat.clone());
        let secret = process.secrets[&chat.kind];
        let face: Arc<dyn Platform> = Arc::new(Face { secret, day, process, chat });
        (face.kind(), face)
    };
    let platforms: BTreeMap<_, _> = day.plan.chats.iter().map(face).collect();
    let list = |kind: PlatformKind| {
        let own = process.allowed.iter().filter(|channel| channel.platform() == kind);
        (kind, AllowList::parse(kind, own.map(ChannelId::id)).unwrap())
    };
    let rules = Rulebook::from(Policy::new(platforms.keys().copied().map(list).collect()));
    let anywhere = |kind: &PlatformKind| (*kind, AllowList::parse(*kind, ["*"]).unwrap());
    let sends_by = match day.bug {
        Some(Bug::AsksNobody) => Policy::new(platforms.keys().map(anywhere).collect()).into(),
        _ => rules.clone(),
    };
    let worker = Worker::new(
        outbox.clone(),
        platforms.clone(),
        sends_by,
        Arc::default(),
        clock.clone(),
        day.metrics.clone(),
        delivery::Settings {
            process: process.name.clone(),
            own_only: false,
            on_unknown: day.plan.on_unknown,
            backoff: day.plan.backoff,
            probe: Duration::from_secs(30),
        },
    );
    let stop = CancellationToken::new();
    let settings = Settings {
        process: process.name.clone(),
        wait: day.plan.wait,
        deadline: day.plan.deadline,
        deduplicate: true,
        keeps: true,
        stop: stop.clone(),
    };
    let metrics = day.metrics.clone();
    // Refusals are nothing that a day is judged by.
    let scribe = Arc::new(Scribe::new(Arc::new(Memory::default()), clock.clone()));
    let notifier = Notifier::new(
        Parts {
            platforms,
            rules,
            guard: Arc::default(),
            outbox,
            scribe,
            worker: worker.clone(),
            clock,
            metrics,
        },
        settings,
    );
    (Running { process, notifier: Arc::new(notifier), stop }, worker)
}
