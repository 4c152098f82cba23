//! Telegram's way in, over real sockets: the listener in the sandbox's world.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use herald::clock::{Clock, SystemClock, Timestamp};
use herald::model::{
    Action, Attachment, Button, ButtonStyle, CardPart, ClientName, Event, FilePart, Occurrence,
    Part, Placement, Step, TextPart,
};
use herald::platform::http::{HttpClient, Settings};
use herald::platform::listener::{Cursor, Ears, Fatal, Inbox, NotTaken, Standing, Taken};
use herald::platform::telegram::{Config, Telegram, listener};
use herald::platform::{Platform, Signal};
use herald::policy::{AllowList, Policy, Route};
use herald::sandbox::{Press, Speech, Upload};
use secrecy::ExposeSecret;
use serde_json::json;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::world::{TELEGRAM, Workspace};

const DIRECT: &str = "telegram:5000000001";
const FORUM: &str = "telegram:-1001000000003";
const LONG: Duration = Duration::from_secs(20);

/// The machine's time and no jitter.
struct Even;

impl Clock for Even {
    fn now(&self) -> Timestamp {
        SystemClock.now()
    }

    fn jitter(&self) -> f64 {
        0.0
    }
}

/// What a bot keeps: events and cursor. It may fail to store once.
#[derive(Default)]
struct Memory {
    events: Mutex<Vec<Event>>,
    cursor: Mutex<Option<String>>,
    fails: AtomicBool,
    news: Notify,
}

#[async_trait]
impl Inbox for Memory {
    async fn take(&self, event: Event) -> Result<Taken, NotTaken> {
        if self.fails.swap(false, Ordering::SeqCst) {
            return Err(NotTaken);
        }
        self.events.lock().unwrap().push(event);
        self.news.notify_one();
        Ok(Taken::Stored)
    }
}

#[async_trait]
impl Cursor for Memory {
    async fn load(&self) -> Option<String> {
        self.cursor.lock().unwrap().clone()
    }

    async fn save(&self, value: &str) -> Result<(), NotTaken> {
        *self.cursor.lock().unwrap() = Some(value.to_owned());
        Ok(())
    }
}

impl Memory {
    /// The events, once there are so many.
    async fn heard(&self, count: usize) -> Vec<Event> {
        let enough = async {
            loop {
                let events = self.events.lock().unwrap().clone();
                if events.len() >= count {
                    return events;
                }
                self.news.notified().await;
            }
        };
        timeout(LONG, enough).await.unwrap_or_else(|_| panic!("{:?}", self.events.lock().unwrap()))
    }

    async fn texts(&self, count: usize) -> Vec<String> {
        let text = |event: Event| match event.what {
            Occurrence::Message { text, .. } => text,
            other => panic!("{other:?}"),
        };
        self.heard(count).await.into_iter().map(text).collect()
    }
}

/// A bot that listens.
struct Bot {
    memory: Arc<Memory>,
    standing: watch::Receiver<Standing>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), Fatal>>,
}

fn http() -> HttpClient {
    HttpClient::new(&Settings { proxy_from_environment: false, ..Settings::default() }).unwrap()
}

impl Bot {
    fn start(config: &Config, memory: Arc<Memory>) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(Even);
        let listener = listener(config, &http(), &clock).unwrap();
        let (standing, seen) = watch::channel(Standing::Starting);
        let stop = CancellationToken::new();
        let ears =
            Ears { inbox: memory.clone(), cursor: memory.clone(), standing, stop: stop.clone() };
        let task = tokio::spawn(async move { listener.listen(ears).await });
        Self { memory, standing: seen, stop, task }
    }

    async fn connected(workspace: &Workspace) -> Self {
        let mut bot = Self::start(&workspace.config(&[]).telegram, Arc::default());
        bot.stands(|standing| *standing == Standing::Connected).await;
        bot
    }

    async fn stands(&mut self, so: impl FnMut(&Standing) -> bool) -> Standing {
        timeout(LONG, self.standing.wait_for(so)).await.unwrap().unwrap().clone()
    }

    async fn retries(&mut self) -> String {
        match self.stands(|standing| matches!(standing, Standing::Retrying { .. })).await {
            Standing::Retrying { why } => why,
            other => panic!("{other:?}"),
        }
    }

    async fn stops(self) {
        let begun = Instant::now();
        self.stop.cancel();
        timeout(LONG, self.task).await.unwrap().unwrap().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }
}

fn say(workspace: &Workspace, channel: &str, text: &str) {
    let speech = Speech { channel: channel.to_owned(), text: text.to_owned(), ..Speech::default() };
    workspace.world.speak(&speech).unwrap();
}

fn route(channel: &str) -> Route {
    let channel: herald::model::ChannelId = channel.parse().unwrap();
    let list = AllowList::parse(channel.platform(), [channel.id()]).unwrap();
    Policy::new([(channel.platform(), list)].into())
        .authorize(&ClientName::new("default"), &channel)
        .unwrap()
}

fn text(text: &str) -> TextPart {
    TextPart::new(text, text)
}

/// Waits until a poll is under way.
async fn polled(workspace: &Workspace) {
    let held = async {
        let open = || {
            let requests = workspace.world.requests();
            requests.iter().any(|r| r.method == "getUpdates" && r.outcome == "open")
        };
        while !open() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(LONG, held).await.unwrap();
}

#[tokio::test]
async fn a_question_comes_in_a_card_goes_out_and_a_press_comes_back() {
    let workspace = Workspace::open().await;
    let bot = Bot::connected(&workspace).await;
    let telegram = Telegram::new(&workspace.config(&[]).telegram, http()).unwrap();
    let topic = Placement { thread: Some("5".to_owned()), ..Placement::default() };

    workspace
        .world
        .speak(&Speech {
            channel: FORUM.to_owned(),
            text: "🦀 @herald_sandbox_bot which pods?".to_owned(),
            author: Some("bob".to_owned()),
            thread: Some("5".to_owned()),
            ..Speech::default()
        })
        .unwrap();
    let asked = bot.memory.heard(1).await.remove(0);
    assert_eq!((asked.visit.channel.to_string().as_str(), asked.visit.direct), (FORUM, false));
    assert_eq!(asked.visit.thread.as_deref(), Some("5"));
    assert_eq!(asked.visit.person.name.as_deref(), Some("Bob"));
    let Occurrence::Message { text: question, addressed, .. } = asked.what else {
        panic!("no message");
    };
    assert_eq!((question.as_str(), addressed), ("🦀 which pods?", true));

    telegram.signal(&route(FORUM), &topic, &Signal::Typing).await.unwrap();
    let card = CardPart {
        text: text("May I?"),
        rows: vec![vec![Button {
            key: "key-1".to_owned(),
            label: "Approve".to_owned(),
            style: ButtonStyle::Good,
        }]],
    };
    let deliver = async |part: Part| {
        let step = Step { nonce: "n".to_owned(), action: Action::Send { part } };
        telegram.deliver(&route(FORUM), &topic, &step).await.unwrap().id
    };
    let sent = deliver(Part::Card(card)).await;
    let press = Press {
        channel: FORUM.to_owned(),
        message: sent.clone(),
        key: "key-1".to_owned(),
        author: None,
    };
    workspace.world.press(&press).unwrap();
    let pressed = bot.memory.heard(2).await.remove(1);
    assert_eq!(pressed.visit.thread.as_deref(), Some("5"));
    assert_eq!(pressed.visit.person.id, "5000000001");
    let key = Occurrence::Press { key: "key-1".to_owned(), message_id: Some(sent.clone()) };
    assert_eq!(pressed.what, key);

    let outcome = Signal::Edit { message_id: sent.clone(), part: Part::Text(text("Approved")) };
    for _ in 0..2 {
        telegram.signal(&route(FORUM), &topic, &outcome).await.unwrap();
    }
    assert!(workspace.world.press(&press).is_err(), "the buttons are gone");

    let file = FilePart {
        name: "pods.txt".to_owned(),
        mime: "text/plain".to_owned(),
        base64: "aGVsbG8=".to_owned(),
        held_to: None,
    };
    deliver(Part::File(file)).await;
    let shown = workspace.world.messages(FORUM);
    assert_eq!(shown.last().unwrap().files[0].bytes, b"hello");
    assert_eq!(shown.last().unwrap().thread.as_deref(), Some("5"));
    let answered = async {
        while !workspace
            .world
            .requests()
            .iter()
            .any(|request| request.method == "answerCallbackQuery" && request.outcome == "ok")
        {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(LONG, answered).await.unwrap();
    bot.stops().await;
}

#[tokio::test]
async fn commands_and_attachments_come_in() {
    let workspace = Workspace::open().await;
    let bot = Bot::connected(&workspace).await;
    let telegram = Telegram::new(&workspace.config(&[]).telegram, http()).unwrap();
    say(&workspace, DIRECT, "/Start");
    say(&workspace, TELEGRAM, "/new");
    say(&workspace, TELEGRAM, "/new@other_bot");
    say(&workspace, TELEGRAM, "/k8s@herald_sandbox_bot which pods?");
    let command = |event: &Event| match &event.what {
        Occurrence::Command { name, text, .. } => (name.clone(), text.clone()),
        other => panic!("{other:?}"),
    };
    let events = bot.memory.heard(2).await;
    assert_eq!(command(&events[0]), ("start".to_owned(), String::new()));
    assert_eq!(command(&events[1]), ("k8s".to_owned(), "which pods?".to_owned()));

    let upload = |name: &str, mime: &str| Speech {
        channel: DIRECT.to_owned(),
        files: vec![Upload {
            name: name.to_owned(),
            mime: mime.to_owned(),
            base64: "aGVsbG8=".to_owned(),
        }],
        ..Speech::default()
    };
    workspace.world.speak(&upload("a.log", "text/plain")).unwrap();
    workspace.world.speak(&upload("a.png", "image/png")).unwrap();
    let events = bot.memory.heard(4).await;
    for (event, name) in events.iter().skip(2).zip(["a.log", "photo.jpg"]) {
        let Occurrence::Message { files, addressed: true, .. } = &event.what else {
            panic!("{event:?}");
        };
        assert_eq!(files[0].name, name);
        assert_eq!(telegram.fetch(&files[0], 5).await.unwrap(), b"hello");
        assert!(telegram.fetch(&Attachment { size: None, ..files[0].clone() }, 4).await.is_err());
    }
    bot.stops().await;
}

#[tokio::test]
async fn what_was_written_while_no_bot_listened_is_not_lost_unless_that_is_asked_for() {
    let workspace = Workspace::open().await;
    say(&workspace, DIRECT, "before");
    let bot = Bot::connected(&workspace).await;
    assert_eq!(bot.memory.texts(1).await, ["before"]);
    let memory = bot.memory.clone();
    polled(&workspace).await;
    bot.stops().await;

    say(&workspace, DIRECT, "meanwhile");
    let bot = Bot::start(&workspace.config(&[]).telegram, memory);
    assert_eq!(bot.memory.texts(2).await, ["before", "meanwhile"], "each of them once");
    bot.stops().await;

    say(&workspace, DIRECT, "unwanted");
    let mut config = workspace.config(&[]).telegram;
    config.drop_pending_updates = true;
    let mut bot = Bot::start(&config, Arc::default());
    bot.stands(|standing| *standing == Standing::Connected).await;
    say(&workspace, DIRECT, "wanted");
    assert_eq!(bot.memory.texts(1).await, ["wanted"]);
    bot.stops().await;
}

#[tokio::test]
async fn two_bots_with_one_token_are_told_and_the_one_that_stays_hears_everything() {
    let workspace = Workspace::open().await;
    let mut first = Bot::connected(&workspace).await;
    polled(&workspace).await;
    let mut second = Bot::connected(&workspace).await;
    let why = first.retries().await;
    assert!(why.contains("another getUpdates") && why.contains("TELEGRAM_BOT_TOKEN"), "{why}");
    let why = second.retries().await;
    assert!(why.contains("another getUpdates"), "{why}");
    first.stops().await;
    say(&workspace, DIRECT, "who is there?");
    assert_eq!(second.memory.texts(1).await, ["who is there?"]);
    second.stands(|standing| *standing == Standing::Connected).await;
    second.stops().await;
}

#[tokio::test]
async fn trouble_passes_and_nothing_is_lost() {
    let workspace = Workspace::open().await;
    for (kind, words) in [
        ("conflict", "another getUpdates"),
        ("bad_gateway_html", "HTTP 502"),
        ("html_ok", "does not speak Telegram's language"),
        ("drop_before", "broke"),
    ] {
        workspace.fault(json!({ "platform": "telegram", "method": "getUpdates", "kind": kind }));
        say(&workspace, DIRECT, kind);
        let mut bot = Bot::start(&workspace.config(&[]).telegram, Arc::default());
        let why = bot.retries().await;
        assert!(why.contains(words), "{kind}: {why}");
        assert_eq!(bot.memory.texts(1).await, [kind]);
        bot.stands(|standing| *standing == Standing::Connected).await;
        bot.stops().await;
    }
    // The answer broke off: Telegram has not heard that it was read, so it comes again.
    workspace
        .fault(json!({ "platform": "telegram", "method": "getUpdates", "kind": "drop_after" }));
    workspace.fault(json!({ "platform": "telegram", "kind": "odd_update" }));
    say(&workspace, DIRECT, "one");
    let bot = Bot::start(&workspace.config(&[]).telegram, Arc::default());
    assert_eq!(bot.memory.texts(1).await, ["one"]);
    say(&workspace, DIRECT, "two");
    assert_eq!(bot.memory.texts(2).await, ["one", "two"]);
    bot.stops().await;
}

#[tokio::test]
async fn an_inbox_that_fails_once_gets_it_again() {
    let workspace = Workspace::open().await;
    let memory = Arc::new(Memory { fails: AtomicBool::new(true), ..Memory::default() });
    say(&workspace, DIRECT, "one");
    say(&workspace, DIRECT, "two");
    let mut bot = Bot::start(&workspace.config(&[]).telegram, memory);
    assert!(bot.retries().await.contains("could not be stored"));
    assert_eq!(bot.memory.texts(2).await, ["one", "two"]);
    bot.stops().await;
}

#[tokio::test]
async fn it_stops_in_the_middle_of_a_poll_that_hangs() {
    let workspace = Workspace::open().await;
    let bot = Bot::connected(&workspace).await;
    polled(&workspace).await;
    bot.stops().await;
    workspace.fault(json!({ "platform": "telegram", "method": "getUpdates", "kind": "hang" }));
    let bot = Bot::start(&workspace.config(&[]).telegram, Arc::default());
    let hangs = async {
        let hung = |outcome: &str| outcome == "fault:hang";
        while !workspace.world.requests().iter().any(|request| hung(&request.outcome)) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(LONG, hangs).await.unwrap();
    bot.stops().await;
}

#[tokio::test]
async fn a_revoked_token_ends_it_and_names_the_variable() {
    let workspace = Workspace::open().await;
    let mut bot = Bot::connected(&workspace).await;
    polled(&workspace).await;
    let revoked =
        json!({ "platform": "telegram", "method": "getUpdates", "kind": "revoked_token" });
    workspace.fault(revoked);
    say(&workspace, DIRECT, "one");
    let Fatal(why) = timeout(LONG, &mut bot.task).await.unwrap().unwrap().unwrap_err();
    assert!(why.contains("TELEGRAM_BOT_TOKEN"), "{why}");
    assert_eq!(*bot.standing.borrow_and_update(), Standing::Failed { why });
    // Told, stored, and confirmed by nobody: it comes again, and the store knows it.
    assert_eq!(bot.memory.texts(1).await, ["one"]);
}

#[tokio::test]
async fn a_check_tells_what_waits_and_changes_nothing() {
    let workspace = Workspace::open().await;
    let mut config = workspace.config(&[]).telegram;
    let check = async |config: &Config| {
        let clock: Arc<dyn Clock> = Arc::new(Even);
        listener(config, &http(), &clock).unwrap().check().await.map_err(|Fatal(why)| why)
    };
    let token = config.bot_token.as_ref().unwrap().expose_secret();
    let url = format!("{}/sandbox/telegram/bot{token}/setWebhook", workspace.base);
    let hook = json!({ "url": "https://elsewhere.example/Zq7secret" });
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    client.post(url).json(&hook).send().await.unwrap().error_for_status().unwrap();
    say(&workspace, TELEGRAM, "/status@herald_bot");
    let told = check(&config).await.unwrap();
    assert!(told.contains("a webhook is set") && told.contains("1 waiting"), "{told}");
    assert!(!told.contains("Zq7secret"), "{told}");
    assert_eq!(check(&config).await.unwrap(), told, "nothing was taken down or taken away");
    config.bot_token = Some("1:wrong".into());
    let why = check(&config).await.unwrap_err();
    assert!(why.contains("TELEGRAM_BOT_TOKEN"), "{why}");
}
