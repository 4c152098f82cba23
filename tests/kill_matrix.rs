//! `kill -9` at every point of a message's way: nothing is lost, nothing out of order, nothing repeated without need.
//!
//! Nothing in Herald knows of these points. The proxies before the platforms and a lock on the store hold the world still
//! where a process is to die.
//!
//! `HERALD_KILL_SEED` repeats what chance chose in a run, `HERALD_KILL_ROUNDS` runs the matrix more often, and `HERALD_KILLS`
//! says how often the random test kills.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use herald::model::DeliveryState;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::fleet::{Engine, Fleet, Plan, text};
use crate::lanes::{LANES, OnUnknown::Hold, OnUnknown::Resend, judge};
use crate::proxy::{End, Heard, Pause, Proxy, Treatment, lane_of, note};
use crate::world::{Client, message};

/// Messages in each channel.
const EACH: usize = 3;
/// As many processes as may run at once.
const MOST_PROCESSES: usize = 30;
/// For so long the world can be held still: a request may take 15 s.
const STILL: Duration = Duration::from_secs(12);
/// For so long everything may take to arrive: a channel whose process was killed waits 30 s.
const PATIENCE: Duration = Duration::from_secs(150);
/// For so long Discord is trusted to recognise a repetition; whoever is killed again and again may need longer.
const NONCE: Duration = Duration::from_secs(120);
/// A machine that is too slow for that gets another chance.
const CHANCES: usize = 4;

/// Where on its way a message is when its process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Point {
    /// Stored; its channel has to wait, and nobody has claimed anything.
    Inserted,
    /// Claimed; the platform has accepted the connection and read nothing.
    Claimed,
    /// The request was written, and did not reach the platform.
    Written,
    /// The platform applied it, and its answer is on its way.
    Applied,
    /// Herald has read the answer, and cannot store it.
    Answered,
    /// It is being stored.
    Recording,
    /// It is stored; the next one waits for its turn.
    Recorded,
}

impl Point {
    const ALL: [Self; 7] = [
        Self::Inserted,
        Self::Claimed,
        Self::Written,
        Self::Applied,
        Self::Answered,
        Self::Recording,
        Self::Recorded,
    ];

    /// Whether the platform has the message while the store does not know.
    const fn is_ambiguous(self) -> bool {
        matches!(self, Self::Applied | Self::Answered | Self::Recording)
    }

    /// What happens to the message at which the processes are to die, when it is sent first.
    fn treatment(self) -> Treatment {
        let held = Treatment { after: Pause::Gate, ..Treatment::PASS };
        match self {
            // In words that stop this channel alone, on each platform.
            Self::Inserted => {
                Treatment::own(429, &[("retry-after", "15")], r#"{"retry_after":15}"#)
            }
            Self::Claimed | Self::Recorded => Treatment::PASS,
            Self::Written => Treatment { before: Pause::Gate, ..Treatment::PASS },
            Self::Applied => held,
            Self::Answered | Self::Recording => Treatment { end: End::LastAnswer, ..held },
        }
    }
}

#[derive(Clone, Copy)]
struct Cell {
    point: Point,
    engine: Engine,
    processes: usize,
    seed: u64,
    /// Which cell of the matrix it is, so that chance is not the same in all of them.
    place: u64,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { point, engine, processes, seed, .. } = self;
        write!(f, "{point:?}, {engine:?}, {processes} processes, HERALD_KILL_SEED={seed}")
    }
}

/// How often people see something twice, in each channel.
type Duplicates = Vec<usize>;

impl Cell {
    /// `None` where there is no such engine.
    async fn run(self) -> Option<Result<Duplicates, String>> {
        for _ in 0..CHANCES {
            if let Some(fleet) = self.killed().await? {
                return Some(self.verdict(fleet).await);
            }
        }
        Some(Err(format!("not at the point within {} s, {CHANCES} times", STILL.as_secs())))
    }

    /// Whether Slack's bot may look into the history of its channels.
    const fn history(self) -> bool {
        self.processes > 1
    }

    /// Brings every channel to the point, kills, and starts again; `Some(None)` if that took too long.
    async fn killed(self) -> Option<Option<Fleet>> {
        let Self { point, engine, processes, .. } = self;
        let mut random = StdRng::seed_from_u64(self.seed ^ self.place);
        // The message of each channel at which it happens.
        let struck = match point {
            Point::Inserted | Point::Claimed | Point::Recorded => 0,
            _ => random.random_range(0..2),
        };
        let plan = Plan {
            engine,
            processes,
            interval_ms: if point == Point::Recorded { 12_000 } else { 0 },
            on_unknown: Resend,
            history: self.history(),
        };
        let script = move |heard: &Heard| {
            let strikes = heard.note == note(lane_of(&heard.note), struck) && heard.before == 0;
            if strikes { point.treatment() } else { Treatment::PASS }
        };
        let mut fleet = Fleet::open(plan, script).await?;
        fleet.members.iter().for_each(|member| member.proxy.deafen(point == Point::Claimed));
        let since = Instant::now();
        let at_the_point = async {
            fill(&fleet).await;
            let holders = reach(&fleet, point, struck).await;
            let lock = match point {
                Point::Answered | Point::Recording => Some(fleet.lock().await),
                _ => None,
            };
            if lock.is_some() {
                fleet.members.iter().for_each(|member| member.proxy.open_gate());
                soon(async || fleet.record.count(|it| it.read) == LANES.len()).await;
            }
            (holders, lock)
        };
        let Ok((holders, lock)) = tokio::time::timeout(STILL, at_the_point).await else {
            return Some(None);
        };
        // At least one that holds something, and perhaps others.
        let first = *holders.choose(&mut random).unwrap();
        let mut victims: Vec<usize> = (0..processes).collect();
        victims.retain(|it| *it == first || random.random());
        match (point, lock) {
            (Point::Recording, Some(lock)) => {
                lock.release().await;
                // SQLite asks again after up to 100 ms whether it is free, PostgreSQL says so at once.
                let most = if engine == Engine::Sqlite { 100_000 } else { 20_000 };
                tokio::time::sleep(Duration::from_micros(random.random_range(0..most))).await;
                fleet.kill(&victims).await;
            }
            (_, lock) => {
                fleet.kill(&victims).await;
                if let Some(lock) = lock {
                    lock.release().await;
                }
            }
        }
        if since.elapsed() > STILL {
            return Some(None);
        }
        // Whoever lives goes on.
        for (n, member) in fleet.members.iter().enumerate() {
            if !victims.contains(&n) {
                member.proxy.open_gate();
                member.proxy.deafen(false);
            }
        }
        fleet.restart(&victims).await;
        Some(Some(fleet))
    }

    async fn verdict(self, fleet: Fleet) -> Result<Duplicates, String> {
        let (mut wrong, mut duplicates) = (Vec::new(), Vec::new());
        let delivered =
            soon(async || fleet.count(DeliveryState::Delivered).await == LANES.len() * EACH);
        if tokio::time::timeout(PATIENCE, delivered).await.is_err() {
            let states = fleet.deliveries().await;
            let states = states.iter().map(|it| format!("{} {}", text(it), it.state.as_str()));
            wrong.push(format!("not delivered: {:?}", states.collect::<Vec<_>>()));
        }
        for (lane, channel) in LANES.iter().enumerate() {
            let accepted: Vec<String> = (0..EACH).map(|n| note(lane, n)).collect();
            let seen = fleet.workspace.texts(channel);
            let found = judge(&accepted, &seen);
            let certain = is_certain(channel, self.history());
            let most = usize::from(self.point.is_ambiguous() && !certain);
            if !found.is_right() || found.duplicates() > most {
                wrong.push(format!("{channel}: {seen:?}: {found:?}"));
            }
            duplicates.push(found.duplicates());
        }
        // Where a process died between the platform's answer and the store, somebody who cannot be asked gets it again:
        // if nobody did, it did not die there.
        let hit = !matches!(self.point, Point::Applied | Point::Answered) || self.processes > 1;
        if !hit && duplicates[6..].iter().any(|times| *times != 1) {
            wrong.push(format!("the point was missed: {duplicates:?}"));
        }
        if wrong.is_empty() {
            return Ok(duplicates);
        }
        Err(format!("{}\nlogs: {}", wrong.join("\n"), fleet.keep().display()))
    }
}

/// Whether the channel's platform tells that it has a message, or recognises one that it has.
fn is_certain(channel: &str, history: bool) -> bool {
    channel.starts_with("discord") || (history && channel.starts_with("slack"))
}

/// Puts [`EACH`] messages into each channel, in order, and waits until they are accepted.
async fn fill(fleet: &Fleet) {
    for n in 0..EACH {
        for (lane, channel) in LANES.iter().enumerate() {
            let client = fleet.client((lane + n) % fleet.members.len());
            let (tool, arguments) = message(channel, &note(lane, n), json!({}));
            // The process may die before it answers.
            tokio::spawn(async move { drop(client.try_call(&tool, arguments).await) });
        }
        soon(async || fleet.deliveries().await.len() == (n + 1) * LANES.len()).await;
    }
}

/// Waits until every channel is at the point; returns the processes that brought one there.
async fn reach(fleet: &Fleet, point: Point, struck: usize) -> Vec<usize> {
    let there = |heard: &Heard| {
        heard.note == note(lane_of(&heard.note), struck)
            && (heard.applied > 0 || !point.is_ambiguous())
    };
    soon(async || match point {
        Point::Claimed => {
            let connections = fleet.members.iter().map(|it| it.proxy.accepted()).sum::<usize>();
            let sending = fleet.count(DeliveryState::Sending).await;
            sending == LANES.len() && connections >= LANES.len()
        }
        Point::Recorded => fleet.count(DeliveryState::Delivered).await == LANES.len(),
        Point::Inserted => {
            let refused = fleet.record.count(|_| true) == LANES.len();
            refused && fleet.count(DeliveryState::Queued).await == LANES.len() * EACH
        }
        _ => fleet.record.count(there) == LANES.len(),
    })
    .await;
    let holds = |proxy: &Proxy| match point {
        Point::Claimed => proxy.accepted() > 0,
        _ => fleet.record.count(|it| it.via == proxy.number && there(it)) > 0,
    };
    let members = fleet.members.iter().enumerate();
    members.filter(|(_, member)| holds(&member.proxy)).map(|(n, _)| n).collect()
}

/// Waits until `done`. Gently: many look at the same time.
async fn soon<F: Future<Output = bool>>(mut done: impl FnMut() -> F) {
    while !done().await {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// The acceptance line: every point, three platforms at once, both stores, one process and three.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_every_point() {
    let first = number("HERALD_KILL_SEED").unwrap_or_else(rand::random);
    for seed in (0..number("HERALD_KILL_ROUNDS").unwrap_or(1)).map(|n| first.wrapping_add(n)) {
        eprintln!("HERALD_KILL_SEED={seed}");
        matrix(seed).await;
    }
}

async fn matrix(seed: u64) {
    let room = Arc::new(Semaphore::new(MOST_PROCESSES));
    let mut cells = JoinSet::new();
    for point in Point::ALL {
        for engine in [Engine::Sqlite, Engine::Postgres] {
            for processes in [1, 3] {
                let place = cells.len() as u64;
                let cell = Cell { point, engine, processes, seed, place };
                let room = Arc::clone(&room);
                cells.spawn(async move {
                    let _room = room.acquire_many_owned(processes as u32).await.unwrap();
                    let since = Instant::now();
                    // On a task of its own, so that a cell that panics is one line of the result.
                    let result = tokio::spawn(cell.run()).await;
                    (cell, since.elapsed(), result)
                });
            }
        }
    }
    let mut wrong = Vec::new();
    while let Some(cell) = cells.join_next().await {
        let (cell, took, result) = cell.unwrap();
        match result {
            Ok(Some(Ok(duplicates))) => {
                eprintln!("{cell}: {} s, duplicates {duplicates:?}", took.as_secs());
            }
            // There is no PostgreSQL, which was said.
            Ok(None) => {}
            Ok(Some(Err(error))) => wrong.push(format!("{cell}: {error}")),
            Err(error) => wrong.push(format!("{cell}: {error}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Kills at any moment under load: callers whose process dies ask another one, with the same key.
async fn killed_at_random(plan: Plan, seed: u64) {
    let Plan { engine, on_unknown, history, .. } = plan;
    let kills = usize::try_from(number("HERALD_KILLS").unwrap_or(6)).unwrap();
    let mut random = StdRng::seed_from_u64(seed);
    let mut lateness = StdRng::seed_from_u64(!seed);
    let script = move |_: &Heard| {
        let mut pause = || Pause::For(Duration::from_millis(lateness.random_range(0..30)));
        Treatment { before: pause(), after: pause(), ..Treatment::PASS }
    };
    let Some(mut fleet) = Fleet::open(plan, script).await else { return };
    let (stop, mut callers) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
    let asked: Vec<Arc<AtomicUsize>> = LANES.iter().map(|_| Arc::default()).collect();
    for lane in (0..LANES.len()).flat_map(|lane| [lane; 2]) {
        let (stop, clients) = (Arc::clone(&stop), Arc::clone(&fleet.clients));
        let asked = Arc::clone(&asked[lane]);
        callers.spawn(async move {
            while !stop.load(Ordering::SeqCst) {
                call(lane, asked.fetch_add(1, Ordering::SeqCst), &clients).await;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
    }
    for kill in 1..=kills {
        tokio::time::sleep(Duration::from_millis(random.random_range(0..3000))).await;
        let mut busy = Vec::new();
        let since = Instant::now();
        while busy.is_empty() {
            assert!(since.elapsed() < PATIENCE, "nothing moves any more");
            tokio::time::sleep(Duration::from_millis(random.random_range(1..40))).await;
            let members = fleet.members.iter().enumerate();
            busy = members.filter(|(_, it)| it.proxy.under_way() > 0).map(|(n, _)| n).collect();
        }
        let victim = *busy.choose(&mut random).unwrap();
        fleet.kill(&[victim]).await;
        fleet.restart(&[victim]).await;
        if kill % 50 == 0 {
            eprintln!("{engine:?}: {kill} of {kills} kills");
        }
    }
    stop.store(true, Ordering::SeqCst);
    while callers.join_next().await.is_some() {}
    let ended = soon(async || {
        let backlog = fleet.outbox.backlog().await.unwrap();
        backlog.values().all(|waiting| waiting.queued + waiting.sending == 0)
    });
    assert!(tokio::time::timeout(PATIENCE, ended).await.is_ok(), "not everything comes to its end");
    let deliveries = fleet.deliveries().await;
    let (mut wrong, mut duplicates, mut unknowns) = (Vec::new(), 0, 0);
    for (channel, asked) in LANES.iter().zip(asked) {
        let certain = is_certain(channel, history);
        let most = if on_unknown == Hold || certain { 0 } else { kills };
        let here = deliveries.iter().filter(|it| it.channel.to_string() == *channel);
        let (mut accepted, mut unknown) = (Vec::new(), Vec::new());
        for delivery in here {
            accepted.push(text(delivery));
            match delivery.state {
                DeliveryState::Delivered => {}
                DeliveryState::Unknown => {
                    let doubtful = delivery.finished_at.zip(delivery.doubtful_since);
                    if certain && doubtful.is_none_or(|(end, since)| end.since(since) < NONCE) {
                        wrong.push(format!("{} is unknown", text(delivery)));
                    }
                    unknown.push(text(delivery));
                }
                state => wrong.push(format!("{} is {}", text(delivery), state.as_str())),
            }
        }
        let asked = asked.load(Ordering::SeqCst);
        if accepted.len() != asked {
            wrong.push(format!("{channel}: {} of {asked} were accepted", accepted.len()));
        }
        let mut found = judge(&accepted, &fleet.workspace.texts(channel));
        // What is in doubt is not lost: its process was killed, and, if it was to be sent again, that one as well.
        found.lost.retain(|lost| !unknown.contains(lost));
        if !found.is_right() || found.duplicates() > most {
            wrong.push(format!("{channel}: {found:?}"));
        }
        duplicates += found.duplicates();
        unknowns += unknown.len();
    }
    eprintln!(
        "{engine:?}, {on_unknown:?}: {kills} kills, {} messages, {duplicates} duplicates, {unknowns} unknown",
        deliveries.len()
    );
    assert!(wrong.is_empty(), "{}\nlogs: {}", wrong.join("\n"), fleet.keep().display());
}

/// One message, until somebody takes it.
async fn call(lane: usize, n: usize, clients: &Mutex<Vec<Client>>) {
    let text = note(lane, n);
    let (tool, arguments) = message(LANES[lane], &text, json!({ "idempotency_key": text }));
    for other in n.. {
        let client = {
            let clients = clients.lock().unwrap();
            clients[other % clients.len()].clone()
        };
        match client.try_call(&tool, arguments.clone()).await {
            Ok(answer) if !answer.failed => return,
            // It was killed, or cannot store anything right now.
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Both stores at once; which of them resends, and which holds, and whether Slack can be asked, depends on the seed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment() {
    let seed = number("HERALD_KILL_SEED").unwrap_or_else(rand::random);
    eprintln!("HERALD_KILL_SEED={seed}");
    let policies = if seed.is_multiple_of(2) { [Resend, Hold] } else { [Hold, Resend] };
    let both = [Engine::Sqlite, Engine::Postgres].into_iter().zip(policies);
    let both = both.map(|(engine, on_unknown)| {
        let history = (seed / 2).is_multiple_of(2);
        let plan = Plan { engine, processes: 3, interval_ms: 0, on_unknown, history };
        tokio::spawn(killed_at_random(plan, seed))
    });
    for run in futures_util::future::join_all(both).await {
        run.unwrap();
    }
}
