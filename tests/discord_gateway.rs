//! Discord's way in: the listener, as it is in production, at the sandbox's gateway.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use herald::clock::{Clock, SystemClock, Timestamp};
use herald::model::{Event, Occurrence, PlatformKind};
use herald::platform::discord;
use herald::platform::http::{HttpClient, Settings};
use herald::platform::listener::{Cursor, Ears, Fatal, Inbox, NotTaken, Standing, Taken};
use herald::sandbox::{Fault, FaultKind, Gateway, Message, Press, Speech, Vendor, World};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::world::{DISCORD, Workspace};

const DIRECT: &str = "discord:400000000000000001";
const LONGEST: Duration = Duration::from_secs(20);

/// The machine's time, and the shortest pauses that there are.
#[derive(Debug)]
struct Eager;

impl Clock for Eager {
    fn now(&self) -> Timestamp {
        SystemClock.now()
    }

    fn jitter(&self) -> f64 {
        0.0
    }
}

/// Keeps what it is given; it can be made to fail, to turn people away, or to take its time.
struct Store {
    taken: watch::Sender<Vec<Event>>,
    asked: AtomicU32,
    refuse: AtomicU32,
    turn_away: AtomicBool,
    open: Semaphore,
    cursor: Mutex<Option<String>>,
}

#[async_trait]
impl Inbox for Store {
    async fn take(&self, event: Event) -> Result<Taken, NotTaken> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let _open = self.open.acquire().await.unwrap();
        let refused =
            self.refuse.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if refused.is_ok() {
            return Err(NotTaken);
        }
        if self.turn_away.load(Ordering::SeqCst) {
            return Ok(Taken::Refused);
        }
        self.taken.send_modify(|taken| {
            // As the real one: what is known is taken again without a word.
            if !taken.iter().any(|known| known.id == event.id) {
                taken.push(event);
            }
        });
        Ok(Taken::Stored)
    }
}

#[async_trait]
impl Cursor for Store {
    async fn load(&self) -> Option<String> {
        self.cursor.lock().unwrap().clone()
    }

    async fn save(&self, value: &str) -> Result<(), NotTaken> {
        *self.cursor.lock().unwrap() = Some(value.to_owned());
        Ok(())
    }
}

impl Store {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            taken: watch::Sender::default(),
            asked: AtomicU32::new(0),
            refuse: AtomicU32::new(0),
            turn_away: AtomicBool::new(false),
            open: Semaphore::new(1),
            cursor: Mutex::default(),
        })
    }

    /// The events, once there are so many.
    async fn taken(&self, count: usize) -> Vec<Event> {
        let mut taken = self.taken.subscribe();
        let enough = timeout(LONGEST, taken.wait_for(|taken| taken.len() >= count)).await;
        let known = self.taken.borrow().len();
        enough.unwrap_or_else(|_| panic!("{known} of {count} events were taken")).unwrap().clone()
    }
}

/// A process that listens.
struct Listening {
    store: Arc<Store>,
    standing: watch::Receiver<Standing>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), Fatal>>,
}

impl Listening {
    fn begin(workspace: &Workspace, store: &Arc<Store>, extra: &[(&str, &str)]) -> Self {
        let config = workspace.config(extra);
        let settings = Settings { proxy_from_environment: false, ..Settings::default() };
        let http = HttpClient::new(&settings).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(Eager);
        let listener = discord::listener(&config.discord, &http, &clock).unwrap();
        assert!(listener.exclusive());
        assert_eq!(listener.kind(), PlatformKind::Discord);
        let (standing, seen) = watch::channel(Standing::default());
        let stop = CancellationToken::new();
        let ears =
            Ears { inbox: store.clone(), cursor: store.clone(), standing, stop: stop.clone() };
        let task = tokio::spawn(async move { listener.listen(ears).await });
        Self { store: store.clone(), standing: seen, stop, task }
    }

    async fn connected(workspace: &Workspace, extra: &[(&str, &str)]) -> Self {
        let mut this = Self::begin(workspace, &Store::new(), extra);
        this.stands(|standing| *standing == Standing::Connected).await;
        this
    }

    async fn stands(&mut self, so: impl FnMut(&Standing) -> bool) -> Standing {
        let seen = self.standing.clone();
        let so = timeout(LONGEST, self.standing.wait_for(so)).await;
        so.unwrap_or_else(|_| panic!("stands {:?}", seen.borrow())).unwrap().clone()
    }

    async fn retries(&mut self) -> String {
        match self.stands(|standing| matches!(standing, Standing::Retrying { .. })).await {
            Standing::Retrying { why } => why,
            _ => unreachable!(),
        }
    }

    /// Lost and found again.
    async fn reconnects(&mut self) {
        self.retries().await;
        self.stands(|standing| *standing == Standing::Connected).await;
    }

    async fn fails(self) -> String {
        timeout(LONGEST, self.task).await.unwrap().unwrap().unwrap_err().0
    }

    async fn end(self) {
        self.stop.cancel();
        let at = Instant::now();
        timeout(LONGEST, self.task).await.unwrap().unwrap().unwrap();
        assert!(at.elapsed() < Duration::from_secs(5), "it took {:?} to stop", at.elapsed());
        assert_eq!(*self.standing.borrow(), Standing::Stopped);
    }
}

async fn eventually(what: &str, so: impl Fn() -> bool) {
    let waited = timeout(LONGEST, async {
        while !so() {
            sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("never: {what}"));
}

fn say(world: &World, channel: &str, text: &str) -> Message {
    let speech = Speech { channel: channel.to_owned(), text: text.to_owned(), ..Speech::default() };
    world.speak(&speech).unwrap().unwrap()
}

fn asked(world: &World, method: &str) -> Vec<Timestamp> {
    let requests = world.requests().into_iter().filter(|request| request.method == method);
    requests.map(|request| request.received_at).collect()
}

fn fault(kind: FaultKind) -> Fault {
    Fault::new(Vendor::Discord, kind)
}

fn text(event: &Event) -> (&str, bool) {
    match &event.what {
        Occurrence::Message { text, addressed, .. } => (text, *addressed),
        other => panic!("{other:?}"),
    }
}

/// A session whose heart beats quickly.
async fn quick() -> Workspace {
    let workspace = Workspace::open().await;
    let heartbeat = Duration::from_millis(150);
    workspace.world.set_gateway(Gateway { heartbeat, ..Gateway::default() });
    workspace
}

#[tokio::test]
async fn what_people_say_arrives_once_and_where_it_was_said() {
    let workspace = Workspace::open().await;
    let bot = Listening::connected(&workspace, &[]).await;
    let world = &workspace.world;
    let said = say(world, DISCORD, "hello @herald and @bob <https://example.org>");
    let thread = open_thread(&workspace, &said.id).await;
    say(world, &thread, "inside");
    say(world, DIRECT, "psst");
    let events = bot.store.taken(3).await;

    assert_eq!(text(&events[0]), ("hello  and @bob https://example.org", true));
    assert_eq!(events[0].id, said.id);
    let visit = &events[0].visit;
    assert_eq!((visit.channel.to_string().as_str(), &visit.thread), (DISCORD, &None));
    assert_eq!(visit.person.name.as_deref(), Some("alice"));
    assert!(!visit.direct);

    assert_eq!(text(&events[1]), ("inside", true), "the bot answers everything in its channels");
    assert_eq!(events[1].visit.channel.to_string(), DISCORD);
    assert_eq!(events[1].visit.thread.as_deref(), thread.strip_prefix("discord:"));

    assert_eq!(text(&events[2]), ("psst", true));
    assert!(events[2].visit.direct);
    bot.end().await;
}

/// Posts as the bot, somewhere below the channel.
async fn rest(workspace: &Workspace, path: &str, body: &Value) -> Value {
    let (_, id) = DISCORD.split_once(':').unwrap();
    let url = format!("{}/sandbox/discord/api/v10/channels/{id}/{path}", workspace.base);
    let token = herald::sandbox::Tokens::default().discord;
    let settings = Settings { proxy_from_environment: false, ..Settings::default() };
    let http = HttpClient::new(&settings).unwrap();
    let request = http
        .request(http::Method::POST, url.parse().unwrap())
        .header("authorization", format!("Bot {token}"))
        .header("user-agent", "DiscordBot (https://example.org, 1.0)")
        .json(body);
    http.send(request).await.unwrap().json().unwrap()
}

async fn open_thread(workspace: &Workspace, message: &str) -> String {
    let name = json!({ "name": "thread" });
    let opened = rest(workspace, &format!("messages/{message}/threads"), &name).await;
    format!("discord:{}", opened["id"].as_str().unwrap())
}

#[tokio::test]
async fn with_mention_only_no_privileged_intent_is_needed_and_only_what_is_meant_is_read() {
    let workspace = Workspace::open().await;
    // It is not granted, and nobody asks for it.
    workspace.world.fault(fault(FaultKind::MissingIntent).times(0));
    let bot = Listening::connected(&workspace, &[("DISCORD_MENTION_ONLY", "true")]).await;
    say(&workspace.world, DISCORD, "nobody's business");
    say(&workspace.world, DISCORD, "@herald why?");
    say(&workspace.world, DIRECT, "and here?");
    let events = bot.store.taken(2).await;
    assert_eq!(text(&events[0]), ("why?", true));
    assert_eq!(text(&events[1]), ("and here?", true));
    bot.end().await;
}

#[tokio::test]
async fn commands_are_registered_shown_and_answered_in_time() {
    let workspace = Workspace::open().await;
    let bot = Listening::connected(&workspace, &[]).await;
    let world = &workspace.world;
    eventually("the commands are there", || !asked(world, "put_commands").is_empty()).await;
    eventually("and known", || {
        let speech = Speech {
            channel: DISCORD.to_owned(),
            text: "/ask what is\nup?".to_owned(),
            ..Speech::default()
        };
        world.speak(&speech).unwrap().is_none()
    })
    .await;
    let events = bot.store.taken(1).await;
    let asked_for = |event: &Event| match &event.what {
        Occurrence::Command { name, text, .. } => Some((name.clone(), text.clone())),
        _ => None,
    };
    let ask = events.iter().find_map(asked_for).unwrap();
    assert_eq!(ask, ("ask".to_owned(), "what is\nup?".to_owned()));
    let seen = |text: &str| {
        let all = world.messages(DISCORD);
        all.into_iter().find(|message| message.bot && message.text == text)
    };
    // What was asked is shown by whoever took it.
    eventually("alice alone sees an answer", || seen("…").is_some()).await;
    assert_eq!(seen("…").unwrap().only_for.as_deref(), Some("alice"));
    assert!(!world.messages(DISCORD).iter().any(|message| message.text.contains("what is")));

    let taken = bot.store.taken.borrow().len();
    let new = Speech {
        channel: DISCORD.to_owned(),
        text: "/new".to_owned(),
        author: Some("bob".to_owned()),
        ..Speech::default()
    };
    assert!(world.speak(&new).unwrap().is_none());
    bot.store.taken(taken + 1).await;
    let for_bob = || {
        let mut all = world.messages(DISCORD).into_iter();
        all.any(|message| message.text == "…" && message.only_for.as_deref() == Some("bob"))
    };
    eventually("bob alone sees an answer", for_bob).await;

    bot.store.refuse.store(1, Ordering::SeqCst);
    assert!(world.speak(&new).unwrap().is_none());
    eventually("and is told if it was lost", || {
        world.messages(DISCORD).iter().any(|m| m.text.contains("could not be stored"))
    })
    .await;
    bot.end().await;
}

#[tokio::test]
async fn what_a_refused_command_says_is_shown_to_nobody() {
    let workspace = Workspace::open().await;
    let bot = Listening::connected(&workspace, &[]).await;
    bot.store.turn_away.store(true, Ordering::SeqCst);
    let world = &workspace.world;
    eventually("the commands are there", || !asked(world, "put_commands").is_empty()).await;
    eventually("and known", || {
        let speech = Speech {
            channel: DISCORD.to_owned(),
            text: "/ask cheap gold".to_owned(),
            author: Some("mallory".to_owned()),
            ..Speech::default()
        };
        world.speak(&speech).unwrap().is_none()
    })
    .await;
    let said = || world.messages(DISCORD).into_iter().filter(|message| message.bot);
    eventually("it is answered", || said().count() > 0).await;
    let answer = said().next().unwrap();
    assert_eq!(answer.text, "Not passed on.");
    assert_eq!(answer.only_for.as_deref(), Some("mallory"));
    bot.end().await;
    assert!(!said().any(|message| message.text.contains("cheap gold")));
}

#[tokio::test]
async fn what_was_missed_is_told_again() {
    for kind in [FaultKind::Drop, FaultKind::Reconnect] {
        let workspace = Workspace::open().await;
        let mut bot = Listening::connected(&workspace, &[]).await;
        say(&workspace.world, DISCORD, "before");
        bot.store.taken(1).await;
        workspace.world.fault(fault(kind));
        bot.retries().await;
        say(&workspace.world, DISCORD, "meanwhile");
        bot.stands(|standing| *standing == Standing::Connected).await;
        say(&workspace.world, DISCORD, "after");
        let events = bot.store.taken(3).await;
        let texts: Vec<_> = events.iter().map(|event| text(event).0).collect();
        assert_eq!(texts, ["before", "meanwhile", "after"], "{kind:?}");
        assert_eq!(asked(&workspace.world, "gateway.identify").len(), 1, "{kind:?}");
        assert_eq!(asked(&workspace.world, "gateway.resume").len(), 1, "{kind:?}");
        bot.end().await;
    }
}

#[tokio::test]
async fn a_session_that_is_over_is_followed_by_a_new_one_no_sooner_than_allowed() {
    let workspace = Workspace::open().await;
    let mut bot = Listening::connected(&workspace, &[]).await;
    workspace.world.fault(fault(FaultKind::InvalidSession));
    bot.reconnects().await;
    let begun = asked(&workspace.world, "gateway.identify");
    assert_eq!(begun.len(), 2);
    assert!(begun[1].since(begun[0]) >= Duration::from_secs(5));
    assert!(asked(&workspace.world, "gateway.too_early").is_empty());
    say(&workspace.world, DISCORD, "hello again");
    assert_eq!(text(&bot.store.taken(1).await[0]).0, "hello again");
    bot.end().await;
}

#[tokio::test]
async fn a_gateway_that_does_not_answer_is_left() {
    let workspace = quick().await;
    let mut bot = Listening::connected(&workspace, &[]).await;
    workspace.world.fault(fault(FaultKind::NoAck));
    assert!(bot.retries().await.contains("does not answer"));
    bot.stands(|standing| *standing == Standing::Connected).await;
    assert_eq!(asked(&workspace.world, "gateway.identify").len(), 1, "resumed");
    bot.end().await;
}

#[tokio::test]
async fn a_server_that_accepts_and_closes_is_not_stormed() {
    let workspace = Workspace::open().await;
    workspace.world.fault(fault(FaultKind::DropBefore).method("gateway").times(0));
    let mut bot = Listening::begin(&workspace, &Store::new(), &[]);
    eventually("it tries", || asked(&workspace.world, "gateway.connect").len() >= 3).await;
    let tries = asked(&workspace.world, "gateway.connect");
    for (pair, least) in tries.windows(2).zip([490, 990]) {
        assert!(pair[1].since(pair[0]) >= Duration::from_millis(least), "{tries:?}");
    }
    workspace.world.clear_faults();
    bot.stands(|standing| *standing == Standing::Connected).await;
    bot.end().await;
}

/// A thousand sessions a day, then Discord takes the token away.
#[tokio::test]
async fn a_storm_of_reconnects_costs_no_sessions() {
    let workspace = Workspace::open().await;
    workspace.world.fault(fault(FaultKind::Reconnect).times(0));
    let bot = Listening::begin(&workspace, &Store::new(), &[]);
    eventually("it reconnects", || asked(&workspace.world, "gateway.resume").len() >= 2).await;
    assert_eq!(asked(&workspace.world, "gateway.identify").len(), 1);
    let tries = asked(&workspace.world, "gateway.connect");
    assert!(tries.last().unwrap().since(tries[0]) >= Duration::from_millis(1_400));
    bot.end().await;
}

#[tokio::test]
async fn without_sessions_left_it_waits_and_says_so() {
    let workspace = Workspace::open().await;
    workspace.world.set_gateway(Gateway { starts: 0, ..Gateway::default() });
    let mut bot = Listening::begin(&workspace, &Store::new(), &[]);
    assert!(bot.retries().await.contains("no new session"));
    assert!(asked(&workspace.world, "gateway.connect").is_empty());
    bot.end().await;
}

#[tokio::test]
async fn what_somebody_has_to_change_ends_it() {
    for (kind, method, mention) in [
        (FaultKind::MissingIntent, None, "DISCORD_MENTION_ONLY=true"),
        (FaultKind::RevokedToken, Some("gateway"), "DISCORD_BOT_TOKEN"),
        (FaultKind::RevokedToken, Some("get_gateway_bot"), "DISCORD_BOT_TOKEN"),
    ] {
        let workspace = Workspace::open().await;
        let mut struck = fault(kind).times(0);
        struck.method = method.map(str::to_owned);
        workspace.world.fault(struck);
        let bot = Listening::begin(&workspace, &Store::new(), &[]);
        let standing = bot.standing.clone();
        let why = bot.fails().await;
        assert!(why.contains(mention), "{why}");
        assert_eq!(*standing.borrow(), Standing::Failed { why });
        assert!(asked(&workspace.world, "gateway.identify").len() <= 1);
    }
}

#[tokio::test]
async fn a_check_finds_a_wrong_token_and_a_missing_intent_without_a_session() {
    let workspace = Workspace::open().await;
    let check = async |extra: &[(&str, &str)]| {
        let config = workspace.config(extra);
        let settings = Settings { proxy_from_environment: false, ..Settings::default() };
        let http = HttpClient::new(&settings).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(Eager);
        let listener = discord::listener(&config.discord, &http, &clock).unwrap();
        listener.check().await.map_err(|Fatal(why)| why)
    };
    let told = check(&[]).await.unwrap();
    assert!(told.contains("intent is on") && told.contains("1000 new sessions"), "{told}");
    let why = check(&[("DISCORD_BOT_TOKEN", "wrong")]).await.unwrap_err();
    assert!(why.contains("DISCORD_BOT_TOKEN"), "{why}");
    workspace.world.fault(fault(FaultKind::MissingIntent).times(0));
    let why = check(&[]).await.unwrap_err();
    assert!(why.contains("DISCORD_MENTION_ONLY=true"), "{why}");
    let told = check(&[("DISCORD_MENTION_ONLY", "true")]).await.unwrap();
    assert!(told.contains("mentions only"), "{told}");
    assert!(asked(&workspace.world, "gateway.connect").is_empty());
}

#[tokio::test]
async fn an_api_that_is_down_is_waited_for() {
    let workspace = Workspace::open().await;
    workspace.world.fault(fault(FaultKind::BadGatewayHtml).method("get_gateway_bot").times(2));
    let mut bot = Listening::begin(&workspace, &Store::new(), &[]);
    bot.reconnects().await;
    bot.end().await;
}

#[tokio::test]
async fn the_next_process_goes_on_where_the_last_one_stopped() {
    let workspace = Workspace::open().await;
    let first = Listening::connected(&workspace, &[]).await;
    let store = first.store.clone();
    let said = say(&workspace.world, DISCORD, "one");
    let thread = open_thread(&workspace, &said.id).await;
    store.taken(1).await;
    first.end().await;
    say(&workspace.world, DISCORD, "two");

    // The second one is killed: what it has not remembered comes again, and is known.
    let mut second = Listening::begin(&workspace, &store, &[]);
    second.stands(|standing| *standing == Standing::Connected).await;
    store.taken(2).await;
    let before = store.cursor.lock().unwrap().clone();
    say(&workspace.world, DISCORD, "three");
    store.taken(3).await;
    second.task.abort();
    *store.cursor.lock().unwrap() = before;
    say(&workspace.world, &thread, "four");

    let third = Listening::begin(&workspace, &store, &[]);
    let events = store.taken(4).await;
    let texts: Vec<_> = events.iter().map(|event| text(event).0).collect();
    assert_eq!(texts, ["one", "two", "three", "four"]);
    assert!(events[3].visit.thread.is_some(), "it asked whether it is a thread");
    assert_eq!(events[3].visit.channel.to_string(), DISCORD);
    assert_eq!(asked(&workspace.world, "gateway.identify").len(), 1);
    third.end().await;
}

#[tokio::test]
async fn what_cannot_be_stored_is_taken_once_it_can() {
    let workspace = Workspace::open().await;
    let mut bot = Listening::connected(&workspace, &[]).await;
    bot.store.refuse.store(2, Ordering::SeqCst);
    say(&workspace.world, DISCORD, "keep me");
    assert!(bot.retries().await.contains("could not be stored"));
    let events = bot.store.taken(1).await;
    assert_eq!(text(&events[0]).0, "keep me");
    assert_eq!(bot.store.asked.load(Ordering::SeqCst), 3);
    bot.stands(|standing| *standing == Standing::Connected).await;
    bot.end().await;
}

#[tokio::test]
async fn what_is_never_stored_is_there_for_the_next_process() {
    let workspace = Workspace::open().await;
    let mut first = Listening::connected(&workspace, &[]).await;
    let store = first.store.clone();
    eventually("the session is remembered", || store.cursor.lock().unwrap().is_some()).await;
    store.refuse.store(u32::MAX, Ordering::SeqCst);
    say(&workspace.world, DISCORD, "keep me");
    first.retries().await;
    first.end().await;
    store.refuse.store(0, Ordering::SeqCst);
    let second = Listening::begin(&workspace, &store, &[]);
    assert_eq!(text(&store.taken(1).await[0]).0, "keep me");
    second.end().await;
}

/// More than the queue holds, while the inbox takes nothing: the heart beats on, nothing is lost, nothing comes twice.
#[tokio::test]
async fn a_burst_behind_a_slow_inbox_is_taken_in_order() {
    let workspace = quick().await;
    let bot = Listening::connected(&workspace, &[]).await;
    let closed = bot.store.open.acquire().await.unwrap();
    for n in 0..1_500 {
        say(&workspace.world, DISCORD, &n.to_string());
    }
    // What it does not read it cannot see acknowledged.
    eventually("it resumes", || !asked(&workspace.world, "gateway.resume").is_empty()).await;
    let closes = asked(&workspace.world, "gateway.close").len();
    assert_eq!(closes, 0, "the gateway still hears the heart beat");
    drop(closed);
    let events = bot.store.taken(1_500).await;
    assert!(events.iter().enumerate().all(|(n, event)| text(event).0 == n.to_string()));
    assert_eq!(asked(&workspace.world, "gateway.identify").len(), 1);
    bot.end().await;
}

/// Discord tells both; the store has to know what it has seen.
#[tokio::test]
async fn two_sessions_hear_the_same_event_by_the_same_id() {
    let workspace = Workspace::open().await;
    let identify_every = Duration::ZERO;
    workspace.world.set_gateway(Gateway { identify_every, ..Gateway::default() });
    let one = Listening::connected(&workspace, &[]).await;
    let other = Listening::connected(&workspace, &[]).await;
    say(&workspace.world, DISCORD, "who?");
    let heard = (one.store.taken(1).await, other.store.taken(1).await);
    assert_eq!(heard.0[0].id, heard.1[0].id);
    one.end().await;
    other.end().await;
}

#[tokio::test]
async fn a_pressed_button_comes_in_and_is_answered_without_a_word() {
    let workspace = Workspace::open().await;
    let bot = Listening::connected(&workspace, &[]).await;
    let world = &workspace.world;
    let button = json!({ "type": 2, "style": 3, "label": "Go", "custom_id": "yes-1" });
    let card = json!({ "content": "?", "components": [{ "type": 1, "components": [button] }] });
    let id = rest(&workspace, "messages", &card).await["id"].as_str().unwrap().to_owned();
    let press = Press {
        channel: DISCORD.to_owned(),
        message: id.clone(),
        key: "yes-1".to_owned(),
        author: Some("bob".to_owned()),
    };
    world.press(&press).unwrap();
    let event = bot.store.taken(1).await.remove(0);
    let (key, message_id) = ("yes-1".to_owned(), Some(id));
    assert_eq!(event.what, Occurrence::Press { key, message_id });
    assert_eq!(event.visit.person.name.as_deref(), Some("bob"));
    eventually("it is answered", || {
        let requests = world.requests();
        let answered = requests.iter().find(|r| r.method == "create_interaction_response");
        answered.is_some_and(|request| request.outcome == "ok")
    })
    .await;
    assert_eq!(
        world.messages(DISCORD).len(),
        1,
        "the bot's own card is no event, and nothing is said"
    );

    bot.store.refuse.store(1, Ordering::SeqCst);
    world.press(&press).unwrap();
    eventually("who presses in vain is told", || {
        let last = world.messages(DISCORD).pop().unwrap();
        last.only_for.as_deref() == Some("bob") && last.text.contains("try again")
    })
    .await;
    assert_eq!(bot.store.taken.borrow().len(), 1);
    bot.end().await;
}

/// In other channels than those it listens in, the bot is spoken to by name.
#[tokio::test]
async fn what_is_said_elsewhere_is_not_addressed_to_the_bot() {
    let workspace = Workspace::open().await;
    let elsewhere = [("DISCORD_CHANNEL_ONLY", "100000000000000002")];
    let bot = Listening::connected(&workspace, &elsewhere).await;
    say(&workspace.world, DISCORD, "hi");
    say(&workspace.world, DISCORD, "hi @herald");
    say(&workspace.world, "discord:100000000000000002", "hi");
    let events = bot.store.taken(3).await;
    assert_eq!(events.iter().map(|event| text(event).1).collect::<Vec<_>>(), [false, true, true]);
    bot.end().await;
}
