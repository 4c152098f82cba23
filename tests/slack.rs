//! Slack's way in: the listener and the endpoint against the workspace's Socket Mode and signed requests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use herald::clock::{Clock, ManualClock, SystemClock, Timestamp};
use herald::model::{
    Action, Button, ButtonStyle, CardPart, ClientName, Event, FilePart, Occurrence, Part,
    Placement, PlatformKind, Step, TextPart,
};
use herald::platform::Platform;
use herald::platform::http::{HttpClient, Settings};
use herald::platform::listener::{Cursor, Ears, Fatal, Inbox, NotTaken, Standing, Taken};
use herald::platform::slack::{self, Config, Slack};
use herald::policy::{AllowList, Policy, Route};
use herald::sandbox::{Fault, FaultKind, Press, Speech, Upload, Vendor, World};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Remembers what it took, and refuses as often as it is told to.
#[derive(Default)]
struct Shelf {
    taken: Mutex<Vec<Event>>,
    refusals: Mutex<usize>,
    news: watch::Sender<usize>,
}

#[async_trait]
impl Inbox for Shelf {
    async fn take(&self, event: Event) -> Result<Taken, NotTaken> {
        {
            let mut refusals = self.refusals.lock().unwrap();
            if *refusals > 0 {
                *refusals -= 1;
                return Err(NotTaken);
            }
        }
        self.taken.lock().unwrap().push(event);
        self.news.send_modify(|n| *n += 1);
        Ok(Taken::Stored)
    }
}

impl Shelf {
    /// The first `n` events, once they are there.
    async fn first(&self, n: usize) -> Vec<Event> {
        let mut news = self.news.subscribe();
        let enough = news.wait_for(|taken| *taken >= n);
        tokio::time::timeout(Duration::from_secs(20), enough).await.unwrap().unwrap();
        self.taken.lock().unwrap().clone()
    }
}

struct NoCursor;

#[async_trait]
impl Cursor for NoCursor {
    async fn load(&self) -> Option<String> {
        None
    }

    async fn save(&self, _value: &str) -> Result<(), NotTaken> {
        Ok(())
    }
}

struct Workspace {
    world: World,
    base: String,
    config: Config,
    clock: Arc<dyn Clock>,
    shelf: Arc<Shelf>,
}

struct Listening {
    standing: watch::Receiver<Standing>,
    stop: CancellationToken,
    ended: JoinHandle<Result<(), Fatal>>,
}

impl Listening {
    async fn stands(&mut self, wanted: impl Fn(&Standing) -> bool) -> Standing {
        let reached = self.standing.wait_for(|standing| wanted(standing));
        let reached = tokio::time::timeout(Duration::from_secs(20), reached).await;
        reached.unwrap().unwrap().clone()
    }

    async fn connected(&mut self) {
        self.stands(|standing| *standing == Standing::Connected).await;
    }

    async fn end(self) -> Result<(), Fatal> {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(1), self.ended).await.unwrap().unwrap()
    }
}

fn http() -> HttpClient {
    HttpClient::new(&Settings { proxy_from_environment: false, ..Settings::default() }).unwrap()
}

async fn workspace() -> Workspace {
    workspace_at(Arc::new(SystemClock)).await
}

async fn workspace_at(clock: Arc<dyn Clock>) -> Workspace {
    let world = World::new(clock.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let router = world.router();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let exports: BTreeMap<String, String> = world.exports(&base).into_iter().collect();
    let config = Config {
        bot_token: Some(exports["SLACK_BOT_TOKEN"].as_str().into()),
        app_token: Some(exports["SLACK_APP_TOKEN"].as_str().into()),
        api_url: Some(exports["SLACK_API_URL"].parse().unwrap()),
        ..Config::default()
    };
    Workspace { world, base, config, clock, shelf: Arc::default() }
}

impl Workspace {
    fn listen(&self) -> Listening {
        let listener = slack::listener(&self.config, &http(), &self.clock).unwrap();
        assert!(!listener.exclusive());
        let (standing, stop) = (watch::Sender::new(Standing::Starting), CancellationToken::new());
        let ears = Ears {
            inbox: self.shelf.clone(),
            cursor: Arc::new(NoCursor),
            standing: standing.clone(),
            stop: stop.clone(),
        };
        let ended = tokio::spawn(async move { listener.listen(ears).await });
        Listening { standing: standing.subscribe(), stop, ended }
    }

    fn say(&self, channel: &str, text: &str) -> Option<String> {
        let speech =
            Speech { channel: channel.to_owned(), text: text.to_owned(), ..Speech::default() };
        self.world.speak(&speech).unwrap().map(|message| message.id)
    }

    /// How often a WebSocket was asked for.
    fn opens(&self) -> usize {
        let requests = self.world.requests();
        requests.iter().filter(|request| request.method == "apps.connections.open").count()
    }
}

fn fault(kind: FaultKind) -> Fault {
    Fault::new(Vendor::Slack, kind)
}

#[tokio::test]
async fn what_people_say_and_press_is_taken_once() {
    let it = workspace().await;
    let mut listening = it.listen();
    listening.connected().await;
    let mention = it.say("slack:C0ALERTS", "<@U0HERALD> what is up?").unwrap();
    it.say("slack:D0ALICE", "just us");
    it.say("slack:C0OUTSIDE", "/mykagent show me the pods");
    it.say("slack:C0OUTSIDE", "<@U0HERALD> nobody hears this");
    // The mention comes twice, as `message` and as `app_mention`, under one ID.
    let events = it.shelf.first(4).await;
    let ids: Vec<&str> = events.iter().map(|event| &*event.id).collect();
    let id = format!("C0ALERTS:{mention}");
    assert_eq!(ids.iter().filter(|it| **it == id).count(), 2, "{ids:?}");
    let first = events.iter().find(|event| event.id == id).unwrap();
    assert_eq!(first.visit.person.id, "U0ALICE");
    let Occurrence::Message { text, addressed, .. } = &first.what else { panic!("{first:?}") };
    assert_eq!((text.as_str(), addressed), ("what is up?", &true));
    let direct = events.iter().find(|event| event.visit.direct).unwrap();
    assert_eq!(direct.visit.channel.id(), "D0ALICE");
    let command = events.iter().find(|event| event.respond.is_some()).unwrap();
    let Occurrence::Command { name, text, .. } = &command.what else { panic!("{command:?}") };
    assert_eq!((name.as_str(), text.as_str()), ("mykagent", "show me the pods"));
    listening.end().await.unwrap();
}

#[tokio::test]
async fn what_is_not_stored_is_told_again() {
    let it = workspace().await;
    it.world.slack_patience(Duration::from_millis(50));
    *it.shelf.refusals.lock().unwrap() = 1;
    let mut listening = it.listen();
    listening.connected().await;
    let ts = it.say("slack:C0ALERTS", "hello").unwrap();
    assert_eq!(it.shelf.first(1).await[0].id, format!("C0ALERTS:{ts}"));
    listening.end().await.unwrap();
}

#[tokio::test]
async fn what_was_not_acknowledged_goes_to_the_next_connection() {
    let it = workspace().await;
    *it.shelf.refusals.lock().unwrap() = 1;
    let mut listening = it.listen();
    listening.connected().await;
    it.say("slack:C0OUTSIDE", "/mykagent hello");
    while *it.shelf.refusals.lock().unwrap() > 0 {
        tokio::task::yield_now().await;
    }
    listening.end().await.unwrap();
    assert!(it.shelf.taken.lock().unwrap().is_empty());
    let again = it.listen();
    assert!(matches!(it.shelf.first(1).await[0].what, Occurrence::Command { .. }));
    again.end().await.unwrap();
}

#[tokio::test]
async fn a_press_comes_back_with_its_key() {
    let it = workspace().await;
    let mut listening = it.listen();
    listening.connected().await;
    let actions = serde_json::json!([
        { "type": "markdown", "text": "**Delete the pod?**" },
        { "type": "actions", "elements": [
            { "type": "button", "action_id": "0-0", "value": "key-1", "style": "primary",
              "text": { "type": "plain_text", "text": "Approve" } },
        ] },
    ]);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer: serde_json::Value = client
        .post(format!("{}/sandbox/slack/api/chat.postMessage", it.base))
        .bearer_auth("xoxb-sandbox-not-a-secret")
        .json(&serde_json::json!({ "channel": "C0ALERTS", "text": "?", "blocks": actions }))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let message = answer["ts"].as_str().unwrap().to_owned();
    let press = Press {
        channel: "slack:C0ALERTS".to_owned(),
        message: message.clone(),
        key: "key-1".to_owned(),
        author: Some("bob".to_owned()),
    };
    it.world.press(&press).unwrap();
    // The bot's own message came first, and is none of its business.
    let events = it.shelf.first(1).await;
    let pressed = Occurrence::Press { key: "key-1".to_owned(), message_id: Some(message) };
    assert_eq!(events[0].what, pressed);
    assert_eq!(events[0].visit.person.id, "U0BOB");
    assert!(events[0].respond.is_some());
    listening.end().await.unwrap();
}

#[tokio::test]
async fn a_storm_of_disconnects_gives_a_handful_of_connections() {
    let it = workspace().await;
    it.world.fault(fault(FaultKind::Disconnect).times(0));
    let mut listening = it.listen();
    listening.stands(|standing| matches!(standing, Standing::Retrying { .. })).await;
    let before = it.opens();
    assert!((1..=3).contains(&before), "{before}");
    it.world.clear_faults();
    listening.connected().await;
    it.say("slack:C0ALERTS", "still there?");
    it.shelf.first(1).await;
    assert!(it.opens() <= 4, "{}", it.opens());
    listening.end().await.unwrap();
}

#[tokio::test]
async fn a_refresh_loses_nothing() {
    let it = workspace().await;
    let mut listening = it.listen();
    listening.connected().await;
    it.world.fault(fault(FaultKind::Refresh));
    for n in 0..20 {
        it.say("slack:C0ALERTS", &format!("hello {n}"));
    }
    let events = it.shelf.first(20).await;
    let ids: std::collections::BTreeSet<&str> = events.iter().map(|event| &*event.id).collect();
    assert_eq!(ids.len(), 20);
    let replaced = async {
        while it.opens() < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), replaced).await.expect("another connection");
    it.say("slack:C0ALERTS", "and on");
    it.shelf.first(21).await;
    assert_eq!((it.opens(), &*listening.standing.borrow()), (2, &Standing::Connected));
    listening.end().await.unwrap();
}

#[tokio::test]
async fn wrong_tokens_and_a_closed_door_end_it_and_name_the_setting() {
    for (kind, method, names) in [
        (FaultKind::InvalidAuth, Some("apps.connections.open"), "SLACK_APP_TOKEN"),
        (FaultKind::InvalidAuth, Some("auth.test"), "SLACK_BOT_TOKEN"),
        (FaultKind::LinkDisabled, None, "Socket Mode"),
    ] {
        let it = workspace().await;
        let mut refused = fault(kind);
        refused.method = method.map(str::to_owned);
        it.world.fault(refused);
        let listening = it.listen();
        let ended = tokio::time::timeout(Duration::from_secs(5), listening.ended).await;
        let Fatal(why) = ended.expect("it stops").unwrap().unwrap_err();
        assert!(why.contains(names), "{why}");
        assert!(it.opens() <= 1, "{kind:?}");
    }
    let mut it = workspace().await;
    it.config.app_token = it.config.bot_token.clone();
    let ended = tokio::time::timeout(Duration::from_secs(5), it.listen().ended).await;
    let Fatal(why) = ended.expect("it stops").unwrap().unwrap_err();
    assert!(why.contains("another kind"), "{why}");
}

#[tokio::test]
async fn a_check_asks_for_an_address_and_opens_nothing() {
    let mut it = workspace().await;
    let told = slack::listener(&it.config, &http(), &it.clock).unwrap().check().await.unwrap();
    assert!(told.contains("Socket Mode"), "{told}");
    assert_eq!(it.opens(), 1);
    assert!(it.world.requests().iter().all(|request| request.method != "socket"));
    it.config.app_token = Some("xapp-wrong".into());
    let refused = slack::listener(&it.config, &http(), &it.clock).unwrap().check().await;
    let Fatal(why) = refused.unwrap_err();
    assert!(why.contains("SLACK_APP_TOKEN") && !why.contains("xapp-wrong"), "{why}");
}

#[tokio::test]
async fn a_crowd_waits_its_turn() {
    let it = workspace().await;
    it.world.fault(fault(FaultKind::TooManySockets));
    let mut listening = it.listen();
    let why = listening.stands(|standing| matches!(standing, Standing::Retrying { .. })).await;
    assert!(format!("{why:?}").contains("too many connections"), "{why:?}");
    assert_eq!(it.opens(), 1);
    listening.end().await.unwrap();
}

#[tokio::test]
async fn a_burst_of_a_thousand_is_acknowledged_in_time() {
    let it = workspace().await;
    let mut listening = it.listen();
    listening.connected().await;
    for n in 0..1000 {
        let channel = ["slack:C0ALERTS", "slack:C0GENERAL", "slack:D0ALICE"][n % 3];
        it.say(channel, &format!("hello {n}"));
    }
    let events = it.shelf.first(1000).await;
    let ids: std::collections::BTreeSet<&str> = events.iter().map(|event| &*event.id).collect();
    assert_eq!(ids.len(), 1000);
    // Whatever waits for more than 3 s is told again: nothing was.
    assert_eq!(events.len(), 1000);
    let acknowledged = async {
        while it.world.slack_waiting() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(3), acknowledged).await.expect("acknowledged");
    let slowest = it.world.slack_slowest();
    assert!(slowest < Duration::from_secs(3), "{slowest:?}");
    listening.end().await.unwrap();
}

/// Serves the endpoint and lets the workspace tell it everything from now on.
async fn endpoint(it: &mut Workspace) -> String {
    it.config.signing_secret = Some("8f742231b10e8888abcd99yyyzzz85a5".into());
    let router =
        slack::events::router(&it.config, &http(), it.shelf.clone(), it.clock.clone()).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/slack/events", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

#[tokio::test]
async fn over_http_it_is_the_same() {
    let mut it = workspace_at(Arc::new(ManualClock::at(Timestamp(1_790_000_000_000)))).await;
    let url = endpoint(&mut it).await;
    it.world.slack_request_url(&url, "another secret").await.unwrap_err();
    it.world.slack_request_url(&url, "8f742231b10e8888abcd99yyyzzz85a5").await.unwrap();
    *it.shelf.refusals.lock().unwrap() = 1;
    // Refused with 503 at first, and told again at once.
    it.say("slack:D0ALICE", "hello");
    let ts = it.shelf.first(1).await[0].id.clone();
    assert!(ts.starts_with("D0ALICE:"), "{ts}");
    it.say("slack:C0OUTSIDE", "/mykagent a & b <c>");
    let events = it.shelf.first(2).await;
    let Occurrence::Command { text, .. } = &events[1].what else { panic!("{events:?}") };
    assert_eq!(text, "a & b <c>");
    assert!(events[1].respond.is_some());
}

#[tokio::test]
async fn the_page_sets_the_request_url() {
    let mut it = workspace().await;
    let url = endpoint(&mut it).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let set = async |secret: &str| {
        let body = serde_json::json!({ "url": url, "signing_secret": secret });
        let api = format!("{}/sandbox/api/slack/request-url", it.base);
        client.post(api).json(&body).send().await.unwrap().status().as_u16()
    };
    assert_eq!(set("wrong").await, 400);
    assert_eq!(set("8f742231b10e8888abcd99yyyzzz85a5").await, 201);
    it.say("slack:D0ALICE", "hello");
    it.shelf.first(1).await;
}

fn route(channel: &str) -> Route {
    let channel = channel.parse().unwrap();
    let list = AllowList::parse(PlatformKind::Slack, ["*"]).unwrap();
    let policy = Policy::new([(PlatformKind::Slack, list)].into());
    policy.authorize(&ClientName::new("default"), &channel).unwrap()
}

fn step(action: Action) -> Step {
    Step { nonce: "nonce-1".to_owned(), action }
}

fn text(body: &str) -> TextPart {
    TextPart::new(body, body)
}

#[tokio::test]
async fn where_the_bot_is_no_member_a_command_is_asked_about_and_answered() {
    let it = workspace().await;
    let mut listening = it.listen();
    listening.connected().await;
    it.say("slack:C0OUTSIDE", "/mykagent delete the pod");
    let command = it.shelf.first(1).await.remove(0);

    let (slack, route) = (Slack::new(&it.config, http()).unwrap(), route("slack:C0OUTSIDE"));
    let button =
        Button { key: "k1".to_owned(), label: "Approve".to_owned(), style: ButtonStyle::Good };
    let card = Part::Card(CardPart { text: text("May I?"), rows: vec![vec![button]] });
    let place = Placement { respond: command.respond, ..Placement::default() };
    let sent = slack.deliver(&route, &place, &step(Action::Send { part: card })).await.unwrap();
    assert_eq!(sent.id, "");
    let message = it.world.messages("slack:C0OUTSIDE").remove(0);
    assert_eq!((message.text.as_str(), message.only_for), ("May I?", None));
    assert_eq!(message.buttons[0][0].label, "Approve");

    let press = Press {
        channel: "slack:C0OUTSIDE".to_owned(),
        message: message.id.clone(),
        key: "k1".to_owned(),
        author: None,
    };
    it.world.press(&press).unwrap();
    let pressed = it.shelf.first(2).await.remove(1);
    let Occurrence::Press { message_id: Some(message_id), .. } = pressed.what else { panic!() };
    assert_eq!(message_id, message.id);
    let place = Placement { respond: pressed.respond, ..Placement::default() };
    let outcome = Part::Text(text("Approved."));
    let edit = Action::Edit { message_id, thread: None, part: outcome };
    slack.deliver(&route, &place, &step(edit)).await.unwrap();
    let messages = it.world.messages("slack:C0OUTSIDE");
    assert_eq!((messages.len(), messages[0].text.as_str()), (1, "Approved."));
    assert!(messages[0].edited && messages[0].buttons.is_empty());

    // After five answers it is over, and the operator hears what would help.
    let say = || step(Action::Send { part: Part::Text(text("more")) });
    for _ in 0..4 {
        slack.deliver(&route, &place, &say()).await.unwrap();
    }
    let failure = slack.deliver(&route, &place, &say()).await.unwrap_err();
    assert!(failure.hint.contains("/invite"), "{failure}");
    listening.end().await.unwrap();
}

#[tokio::test]
async fn files_travel_both_ways() {
    let it = workspace().await;
    let mut listening = it.listen();
    listening.connected().await;
    let upload = Upload {
        name: "log.txt".to_owned(),
        mime: "text/plain".to_owned(),
        base64: "aGVsbG8=".to_owned(),
    };
    let speech =
        Speech { channel: "slack:D0ALICE".to_owned(), files: vec![upload], ..Speech::default() };
    it.world.speak(&speech).unwrap();
    let said = it.shelf.first(1).await.remove(0);
    let Occurrence::Message { files, .. } = said.what else { panic!() };
    assert_eq!((files[0].name.as_str(), files[0].size), ("log.txt", Some(5)));
    let slack = Slack::new(&it.config, http()).unwrap();
    assert_eq!(slack.fetch(&files[0], 100).await.unwrap(), b"hello");
    slack.fetch(&files[0], 4).await.unwrap_err();

    let part = Part::File(FilePart {
        name: "pods.txt".to_owned(),
        mime: "text/plain".to_owned(),
        base64: "aGVsbG8=".to_owned(),
        held_to: None,
    });
    let send = step(Action::Send { part });
    let place = Placement::default();
    slack.deliver(&route("slack:C0ALERTS"), &place, &send).await.unwrap();
    let shown = it.world.messages("slack:C0ALERTS").remove(0).files.remove(0);
    assert_eq!((shown.name.as_str(), shown.bytes.as_slice()), ("pods.txt", &b"hello"[..]));
    it.world.fault(fault(FaultKind::MissingScope).method("files.getUploadURLExternal"));
    let failure = slack.deliver(&route("slack:C0ALERTS"), &place, &send).await.unwrap_err();
    assert!(failure.hint.contains("files:write"), "{failure}");
    listening.end().await.unwrap();
}
