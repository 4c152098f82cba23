//! Who listens, when, and what becomes of it when something breaks. All clocks are tokio's paused one.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use tokio::task::JoinHandle;

use super::*;
use crate::clock::Timestamp;
use crate::model::Event;
use crate::platform::listener::Taken;
use crate::store::contract;
use crate::telemetry::Metrics;

const SECOND: Duration = Duration::from_secs(1);
/// The longest time between two questions of a process that stands by, and a little.
const NEXT_QUESTION: Duration = Duration::from_millis(3_100);

/// The wall clock, moved by tokio's.
struct Paused(Instant);

impl Clock for Paused {
    fn now(&self) -> Timestamp {
        Timestamp(1_800_000_000_000).after(self.0.elapsed())
    }

    fn jitter(&self) -> f64 {
        0.5
    }
}

/// What the processes share. SQLite works on a thread of its own, which a paused clock does not wait for.
#[derive(Default)]
struct Book {
    leases: Mutex<BTreeMap<String, (Option<String>, Timestamp)>>,
    cursors: Mutex<BTreeMap<String, String>>,
}

/// One process's way to the book.
#[derive(Default)]
struct Desk {
    book: Arc<Book>,
    fails: AtomicBool,
    hangs: AtomicBool,
}

impl Desk {
    async fn open(&self) -> Result<&Book, StoreError> {
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        match self.fails.load(Ordering::SeqCst) {
            true => Err(StoreError::Closed),
            false => Ok(&self.book),
        }
    }
}

#[async_trait]
impl Leases for Desk {
    async fn lease(
        &self,
        name: &str,
        who: &str,
        now: Timestamp,
        lease: Duration,
    ) -> Result<bool, StoreError> {
        let mut leases = self.open().await?.leases.lock().unwrap();
        let (owner, until) = leases.entry(name.to_owned()).or_default();
        let free = owner.as_deref() == Some(who) || *until <= now;
        if free {
            (*owner, *until) = (Some(who.to_owned()), now.after(lease));
        }
        Ok(free)
    }

    async fn give_back(&self, name: &str, who: &str) -> Result<(), StoreError> {
        let mut leases = self.open().await?.leases.lock().unwrap();
        if let Some((owner, until)) = leases.get_mut(name)
            && owner.as_deref() == Some(who)
        {
            (*owner, *until) = (None, Timestamp(0));
        }
        Ok(())
    }

    async fn cursor(&self, name: &str) -> Result<Option<String>, StoreError> {
        Ok(self.open().await?.cursors.lock().unwrap().get(name).cloned())
    }

    async fn set_cursor(&self, name: &str, who: &str, value: &str) -> Result<Recorded, StoreError> {
        let book = self.open().await?;
        let leases = book.leases.lock().unwrap();
        if leases.get(name).is_some_and(|(owner, _)| owner.as_deref() != Some(who)) {
            return Ok(Recorded::Fenced);
        }
        book.cursors.lock().unwrap().insert(name.to_owned(), value.to_owned());
        Ok(Recorded::Done)
    }
}

/// What a scripted listener does when it is started. After the last act it listens.
enum Act {
    Refuse(&'static str),
    Panic,
    End,
    /// It hears nothing of having to stop.
    Deaf,
}

/// How many listen to the platform at the same moment.
#[derive(Default)]
struct Hearing {
    now: AtomicU32,
    most: AtomicU32,
}

struct Listens(Arc<Hearing>);

impl Drop for Listens {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Scripted {
    kind: PlatformKind,
    exclusive: bool,
    acts: Mutex<VecDeque<Act>>,
    hearing: Arc<Hearing>,
    /// What it was given last.
    ears: Mutex<Option<Ears>>,
}

#[async_trait]
impl Listener for Scripted {
    fn kind(&self) -> PlatformKind {
        self.kind
    }

    fn exclusive(&self) -> bool {
        self.exclusive
    }

    async fn listen(&self, ears: Ears) -> Result<(), Fatal> {
        let now = self.hearing.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.hearing.most.fetch_max(now, Ordering::SeqCst);
        let _listens = Listens(Arc::clone(&self.hearing));
        *self.ears.lock().unwrap() = Some(ears.clone());
        ears.stands(Standing::Connected);
        let act = self.acts.lock().unwrap().pop_front();
        match act {
            Some(Act::Refuse(why)) => return Err(Fatal(why.to_owned())),
            Some(Act::Panic) => panic!("a fault"),
            Some(Act::End) => return Ok(()),
            Some(Act::Deaf) => std::future::pending().await,
            None => ears.stop.cancelled().await,
        }
        Ok(())
    }
}

struct Deaf;

#[async_trait]
impl Inbox for Deaf {
    async fn take(&self, _: Event) -> Result<Taken, NotTaken> {
        Err(NotTaken)
    }
}

/// The platform's and the store's side.
struct World {
    clock: Arc<Paused>,
    book: Arc<Book>,
    hearing: Arc<Hearing>,
    kind: PlatformKind,
    exclusive: bool,
}

/// One process that listens.
struct Process {
    desk: Arc<Desk>,
    listener: Arc<Scripted>,
    standing: watch::Receiver<Standing>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl World {
    fn new() -> Self {
        Self {
            clock: Arc::new(Paused(Instant::now())),
            book: Arc::default(),
            hearing: Arc::default(),
            kind: PlatformKind::Telegram,
            exclusive: true,
        }
    }

    fn start(&self, who: &str, acts: impl IntoIterator<Item = Act>) -> Process {
        let desk = Arc::new(Desk { book: Arc::clone(&self.book), ..Desk::default() });
        let listener = Arc::new(Scripted {
            kind: self.kind,
            exclusive: self.exclusive,
            acts: Mutex::new(acts.into_iter().collect()),
            hearing: Arc::clone(&self.hearing),
            ears: Mutex::new(None),
        });
        let listening = Listening::new(
            Arc::clone(&listener) as Arc<dyn Listener>,
            Arc::clone(&desk) as Arc<dyn Leases>,
            Arc::new(Deaf),
            who,
            Arc::clone(&self.clock) as Arc<dyn Clock>,
            Metrics::default(),
        );
        assert_eq!(listening.kind(), self.kind);
        let (standing, stop) = (listening.standing(), CancellationToken::new());
        let task = tokio::spawn(listening.run(stop.clone()));
        Process { desk, listener, standing, stop, task }
    }

    /// Two processes: the first listens, the second stands by.
    async fn two(&self, acts: impl IntoIterator<Item = Act>) -> (Process, Process) {
        let mut a = self.start("a", acts);
        a.stands(&Standing::Connected, SECOND).await;
        let mut b = self.start("b", []);
        b.stands(&Standing::Standby, SECOND).await;
        (a, b)
    }

    /// Never did two listen at once.
    fn heard_by_one_at_a_time(&self) {
        assert_eq!(self.hearing.most.load(Ordering::SeqCst), 1);
    }
}

impl Process {
    /// Waits until it stands like that; tells how long that took.
    async fn stands(&mut self, expected: &Standing, at_most: Duration) -> Duration {
        let start = Instant::now();
        let found = timeout(at_most, self.standing.wait_for(|now| now == expected)).await;
        assert!(
            found.is_ok_and(|found| found.is_ok()),
            "not {expected:?} within {at_most:?}, but {:?}",
            self.standing.borrow()
        );
        start.elapsed()
    }

    fn now(&self) -> Standing {
        self.standing.borrow().clone()
    }

    fn ears(&self) -> Ears {
        self.listener.ears.lock().unwrap().clone().unwrap()
    }
}

#[tokio::test]
async fn the_book_keeps_the_contract_of_leases() {
    contract::leases::suite(async || Desk::default()).await;
}

#[tokio::test(start_paused = true)]
async fn one_of_two_listens_for_as_long_as_it_lives() {
    let world = World::new();
    let (a, b) = world.two([]).await;
    let session = a.ears().stop;
    for _ in 0..600 {
        sleep(SECOND).await;
        assert_eq!((a.now(), b.now()), (Standing::Connected, Standing::Standby));
    }
    assert!(!session.is_cancelled(), "it listened all the time");
    world.heard_by_one_at_a_time();
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_vanished_is_replaced_once_its_lease_is_over() {
    let world = World::new();
    let (a, mut b) = world.two([]).await;
    sleep(60 * SECOND).await;
    a.task.abort();
    // Its last renewal was at most five seconds ago.
    let took = b.stands(&Standing::Connected, LEASE + NEXT_QUESTION).await;
    assert!(took >= LEASE - RENEW, "{took:?}");
    world.heard_by_one_at_a_time();
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_stopped_in_good_order_is_replaced_at_once() {
    let world = World::new();
    let (mut a, mut b) = world.two([]).await;
    sleep(60 * SECOND).await;
    a.stop.cancel();
    a.stands(&Standing::Stopped, SECOND).await;
    b.stands(&Standing::Connected, NEXT_QUESTION).await;
    a.task.await.unwrap();
    world.heard_by_one_at_a_time();
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_does_not_stop_is_cut_off() {
    let world = World::new();
    let (mut a, mut b) = world.two([Act::Deaf]).await;
    a.stop.cancel();
    let took = a.stands(&Standing::Stopped, GRACE + SECOND).await;
    assert!(took >= GRACE, "it had its time: {took:?}");
    b.stands(&Standing::Connected, NEXT_QUESTION).await;
    world.heard_by_one_at_a_time();
}

#[tokio::test(start_paused = true)]
async fn one_that_stands_by_or_cannot_ask_stops_at_once() {
    let world = World::new();
    let (_a, mut b) = world.two([]).await;
    b.stop.cancel();
    b.stands(&Standing::Stopped, SECOND / 10).await;
    let mut c = world.start("c", []);
    c.desk.hangs.store(true, Ordering::SeqCst);
    tokio::task::yield_now().await;
    c.stop.cancel();
    c.stands(&Standing::Stopped, ANSWER + SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn what_has_to_be_changed_by_somebody_ends_that_listener_alone() {
    let world = World::new();
    let discord =
        World { kind: PlatformKind::Discord, book: Arc::clone(&world.book), ..World::new() };
    let (other, _) = discord.two([]).await;
    let mut a = world.start("a", [Act::Refuse("the token is wrong: set TELEGRAM_BOT_TOKEN")]);
    let why = "the token is wrong: set TELEGRAM_BOT_TOKEN".to_owned();
    let failed = Standing::Failed { why };
    a.stands(&failed, SECOND).await;
    a.task.await.unwrap();
    let mut b = world.start("b", []);
    b.stands(&Standing::Connected, SECOND).await;
    sleep(3600 * SECOND).await;
    assert_eq!(*a.standing.borrow(), failed, "it is not tried again, and stays readable");
    assert_eq!((other.now(), b.now()), (Standing::Connected, Standing::Connected));
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_breaks_starts_again_and_keeps_its_right() {
    for act in [Act::Panic, Act::End] {
        let world = World::new();
        let mut a = world.start("a", [act]);
        let retrying = a.standing.wait_for(|now| matches!(now, Standing::Retrying { .. }));
        timeout(SECOND, retrying).await.unwrap().unwrap();
        assert!(a.ears().stop.is_cancelled(), "what it has left running ends");
        let mut b = world.start("b", []);
        let took = a.stands(&Standing::Connected, FAULT + SECOND).await;
        assert!(took >= FAULT - SECOND, "a pause stands between: {took:?}");
        b.stands(&Standing::Standby, SECOND).await;
        a.stop.cancel();
        a.stands(&Standing::Stopped, SECOND).await;
        b.stands(&Standing::Connected, NEXT_QUESTION).await;
        world.heard_by_one_at_a_time();
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_cannot_reach_the_store_stops_before_another_one_starts() {
    for hangs in [false, true] {
        let world = World::new();
        let (mut a, mut b) = world.two([Act::Deaf]).await;
        sleep(60 * SECOND).await;
        let broken = if hangs { &a.desk.hangs } else { &a.desk.fails };
        broken.store(true, Ordering::SeqCst);
        let session = a.ears().stop;
        let start = Instant::now();
        session.cancelled().await;
        assert!(start.elapsed() <= DOUBT, "hangs: {hangs}, {:?}", start.elapsed());
        assert_eq!(b.now(), Standing::Standby, "the lease is not over yet");
        b.stands(&Standing::Connected, LEASE + NEXT_QUESTION).await;
        assert_ne!(a.now(), Standing::Connected);
        let retrying = a.standing.wait_for(|now| matches!(now, Standing::Retrying { .. }));
        timeout(ANSWER, retrying).await.expect("it says what is wrong").unwrap();
        let broken = if hangs { &a.desk.hangs } else { &a.desk.fails };
        broken.store(false, Ordering::SeqCst);
        a.stands(&Standing::Standby, ANSWER + NEXT_QUESTION).await;
        world.heard_by_one_at_a_time();
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_outage_of_the_store_does_not_interrupt() {
    let world = World::new();
    let (a, b) = world.two([]).await;
    sleep(60 * SECOND).await;
    let session = a.ears().stop;
    for process in [&a, &b] {
        process.desk.fails.store(true, Ordering::SeqCst);
    }
    sleep(4 * SECOND).await;
    for process in [&a, &b] {
        process.desk.fails.store(false, Ordering::SeqCst);
    }
    sleep(60 * SECOND).await;
    assert!(!session.is_cancelled());
    assert_eq!((a.now(), b.now()), (Standing::Connected, Standing::Standby));
    world.heard_by_one_at_a_time();
}

#[tokio::test(start_paused = true)]
async fn a_process_that_slept_through_its_lease_stands_back() {
    let world = World::new();
    let (mut a, _b) = world.two([]).await;
    let cursor = a.ears().cursor;
    cursor.save("1").await.unwrap();
    // Nothing in it ran for a while, and somebody else was elected.
    let taken = (Some("b".to_owned()), world.clock.now().after(LEASE));
    world.book.leases.lock().unwrap().insert("listen:telegram".to_owned(), taken);
    assert_eq!(cursor.save("2").await, Err(NotTaken), "from the first moment");
    a.stands(&Standing::Standby, RENEW + SECOND).await;
    assert_eq!(cursor.save("3").await, Err(NotTaken));
    assert_eq!(world.book.cursors.lock().unwrap()["listen:telegram"], "1");
}

#[tokio::test(start_paused = true)]
async fn whoever_takes_over_goes_on_where_the_last_one_was() {
    let world = World::new();
    let (a, mut b) = world.two([]).await;
    assert_eq!(a.ears().cursor.load().await, None);
    a.ears().cursor.save("42").await.unwrap();
    a.stop.cancel();
    b.stands(&Standing::Connected, NEXT_QUESTION).await;
    assert_eq!(b.ears().cursor.load().await.as_deref(), Some("42"));
    b.desk.fails.store(true, Ordering::SeqCst);
    let cursor = b.ears().cursor;
    assert_eq!(cursor.save("43").await, Err(NotTaken));
    let load = tokio::spawn(async move { cursor.load().await });
    sleep(3 * SECOND).await;
    b.desk.fails.store(false, Ordering::SeqCst);
    let loaded = timeout(2 * SECOND, load).await.unwrap().unwrap();
    assert_eq!(loaded.as_deref(), Some("42"), "it waits for the store");
}

#[tokio::test(start_paused = true)]
async fn where_all_may_listen_all_do() {
    let world = World { kind: PlatformKind::Slack, exclusive: false, ..World::new() };
    let (mut a, mut b) = (world.start("a", []), world.start("b", []));
    a.stands(&Standing::Connected, SECOND).await;
    b.stands(&Standing::Connected, SECOND).await;
    a.ears().cursor.save("1").await.unwrap();
    b.ears().cursor.save("2").await.unwrap();
    assert!(world.book.leases.lock().unwrap().is_empty(), "nobody is elected");
    a.stop.cancel();
    a.stands(&Standing::Stopped, SECOND).await;
    assert_eq!(b.now(), Standing::Connected);
}
