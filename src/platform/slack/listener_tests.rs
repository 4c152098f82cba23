use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::WebSocketUpgrade;
use axum::extract::ws::{Message, WebSocket};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{any, get};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc, watch};

use super::*;
use crate::clock::{ManualClock, Timestamp};
use crate::model::Event;
use crate::platform::listener::{Cursor, Inbox, NotTaken, Taken};
use crate::platform::scripted::{self, CANARY};

/// As in production, a hundred times as fast.
const FAST: Timing = Timing {
    ping: Duration::from_millis(100),
    silence: Duration::from_millis(450),
    pause: Duration::from_millis(10),
    longest: Duration::from_millis(600),
    stable: Duration::from_millis(600),
    drain: Duration::from_millis(700),
};

type Conversation = Box<dyn Fn(usize, WebSocket) -> tokio::task::JoinHandle<()> + Send + Sync>;

/// A Slack that talks by script: each connection is handed to `talk` with its number.
struct FakeSlack {
    base: String,
    opens: Arc<AtomicUsize>,
}

async fn fake(answer: Value, talk: Conversation) -> FakeSlack {
    let (opens, sockets) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (counted, talk) = (opens.clone(), Arc::new(talk));
    let open = move || {
        counted.fetch_add(1, Ordering::SeqCst);
        let mut answer = answer.clone();
        if answer["ok"] == true {
            answer["url"] = json!(format!("ws://{address}/link?ticket=Zq7secret"));
        }
        async move { Json(answer) }
    };
    let who = || async { Json(json!({ "ok": true, "user_id": "U0BOT", "team_id": "T0HOME" })) };
    let link = move |upgrade: WebSocketUpgrade| async move {
        let number = sockets.fetch_add(1, Ordering::SeqCst);
        upgrade.on_upgrade(move |socket| async move {
            let _ = talk(number, socket).await;
        })
    };
    let app = Router::new()
        .route("/api/apps.connections.open", any(open))
        .route("/api/auth.test", any(who))
        .route("/link", get(link));
    tokio::spawn(async move { axum::serve(listener, app).await });
    FakeSlack { base: format!("http://{address}/api"), opens }
}

fn talk<F, Fut>(talk: F) -> Conversation
where
    F: Fn(usize, WebSocket) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    Box::new(move |number, socket| tokio::spawn(talk(number, socket)))
}

/// An inbox that stores only while it is let.
struct Gate {
    open: Semaphore,
    taken: Mutex<Vec<Event>>,
}

#[async_trait]
impl Inbox for Gate {
    async fn take(&self, event: Event) -> Result<Taken, NotTaken> {
        self.open.acquire().await.unwrap().forget();
        self.taken.lock().unwrap().push(event);
        Ok(Taken::Stored)
    }
}

#[async_trait]
impl Cursor for Gate {
    async fn load(&self) -> Option<String> {
        None
    }

    async fn save(&self, _value: &str) -> Result<(), NotTaken> {
        Ok(())
    }
}

struct Run {
    gate: Arc<Gate>,
    standing: watch::Receiver<Standing>,
    stop: CancellationToken,
    ended: tokio::task::JoinHandle<Result<(), Fatal>>,
}

fn run(slack: &FakeSlack, timing: Timing) -> Run {
    let config = Config {
        bot_token: Some(CANARY.into()),
        app_token: Some(CANARY.into()),
        api_url: Some(slack.base.parse().unwrap()),
        ..Config::default()
    };
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(Timestamp(1_790_000_000_000)));
    let listener = SocketMode::new(&config, &scripted::client(), &clock).unwrap().timed(timing);
    let gate = Arc::new(Gate { open: Semaphore::new(1000), taken: Mutex::default() });
    let (standing, stop) = (watch::Sender::new(Standing::Starting), CancellationToken::new());
    let ears = Ears {
        inbox: gate.clone(),
        cursor: gate.clone(),
        standing: standing.clone(),
        stop: stop.clone(),
    };
    let ended = tokio::spawn(async move { listener.listen(ears).await });
    Run { gate, standing: standing.subscribe(), stop, ended }
}

impl Run {
    async fn stands(&mut self, wanted: impl Fn(&Standing) -> bool) -> Standing {
        let reached = self.standing.wait_for(|standing| wanted(standing));
        let reached = timeout(Duration::from_secs(10), reached).await;
        reached.expect("standing").unwrap().clone()
    }

    async fn end(self) {
        self.stop.cancel();
        let ended = timeout(Duration::from_secs(1), self.ended).await.expect("it ends");
        ended.unwrap().unwrap();
    }
}

async fn say(socket: &mut WebSocket, frame: Value) {
    let _ = socket.send(Message::Text(frame.to_string().into())).await;
}

async fn hello(socket: &mut WebSocket) {
    say(socket, json!({ "type": "hello", "num_connections": 1 })).await;
}

fn envelope(n: usize) -> Value {
    json!({
        "envelope_id": format!("e{n}"), "type": "events_api", "accepts_response_payload": false,
        "payload": {
            "type": "event_callback", "event_id": format!("Ev{n}"),
            "event": {
                "type": "message", "user": "U0ALICE", "ts": format!("1790000000.{n:06}"),
                "text": "hi", "channel": "C0ALERTS",
            },
        },
    })
}

/// The next acknowledgement; `None` once the connection is closed.
async fn acknowledged(socket: &mut WebSocket) -> Option<String> {
    loop {
        match socket.recv().await? {
            Ok(Message::Text(text)) => {
                let frame: Value = serde_json::from_str(&text).unwrap();
                return Some(frame["envelope_id"].as_str().unwrap().to_owned());
            }
            Ok(Message::Close(_)) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

#[tokio::test]
async fn an_envelope_is_acknowledged_once_it_is_stored() {
    let (told, mut heard) = mpsc::unbounded_channel();
    let slack = fake(
        json!({ "ok": true }),
        talk(move |_, mut socket| {
            let told = told.clone();
            async move {
                hello(&mut socket).await;
                let _ = socket.send(Message::Text("no JSON".into())).await;
                let _ = socket.send(Message::Binary(vec![1].into())).await;
                say(&mut socket, envelope(1)).await;
                say(&mut socket, json!({ "type": "unheard_of", "envelope_id": "e2" })).await;
                while let Some(ack) = acknowledged(&mut socket).await {
                    let _ = told.send(ack);
                }
            }
        }),
    )
    .await;
    let mut run = run(&slack, FAST);
    run.gate.open.forget_permits(1000);
    run.stands(|it| *it == Standing::Connected).await;
    // What concerns nobody passes what is still to be stored.
    assert_eq!(heard.recv().await.unwrap(), "e2");
    assert!(heard.try_recv().is_err() && run.gate.taken.lock().unwrap().is_empty());
    run.gate.open.add_permits(1);
    assert_eq!(heard.recv().await.unwrap(), "e1");
    run.end().await;
}

#[tokio::test]
async fn a_stop_finishes_what_is_held_and_closes() {
    let (told, mut heard) = mpsc::unbounded_channel();
    let slack = fake(
        json!({ "ok": true }),
        talk(move |_, mut socket| {
            let told = told.clone();
            async move {
                hello(&mut socket).await;
                say(&mut socket, envelope(1)).await;
                say(&mut socket, json!({ "type": "x", "envelope_id": "e2" })).await;
                while let Some(ack) = acknowledged(&mut socket).await {
                    let _ = told.send(ack);
                }
                let _ = told.send("closed".to_owned());
            }
        }),
    )
    .await;
    let mut run = run(&slack, FAST);
    run.gate.open.forget_permits(1000);
    assert_eq!(heard.recv().await.unwrap(), "e2");
    run.stop.cancel();
    run.gate.open.add_permits(1);
    assert_eq!(heard.recv().await.unwrap(), "e1");
    assert_eq!(heard.recv().await.unwrap(), "closed");
    run.stands(|it| *it == Standing::Stopped).await;
    run.end().await;
}

#[tokio::test]
async fn a_new_connection_is_greeted_before_the_old_one_closes() {
    let (told, mut heard) = mpsc::unbounded_channel();
    let greet = Arc::new(Semaphore::new(0));
    let greeting = greet.clone();
    let slack = fake(
        json!({ "ok": true }),
        talk(move |number, mut socket| {
            let (told, greeting) = (told.clone(), greeting.clone());
            async move {
                if number == 0 {
                    hello(&mut socket).await;
                    say(&mut socket, json!({ "type": "disconnect", "reason": "warning" })).await;
                    greeting.acquire().await.unwrap().forget();
                    // The old one still hears.
                    say(&mut socket, envelope(1)).await;
                } else {
                    let _ = told.send("opened".to_owned());
                    greeting.acquire().await.unwrap().forget();
                    hello(&mut socket).await;
                }
                while let Some(ack) = acknowledged(&mut socket).await {
                    let _ = told.send(ack);
                }
                let _ = told.send(format!("closed {number}"));
            }
        }),
    )
    .await;
    let run = run(&slack, FAST);
    assert_eq!(heard.recv().await.unwrap(), "opened");
    greet.add_permits(1);
    // Semaphores are fair: the old connection waited first, or the new one is greeted and the old one closes.
    let next = heard.recv().await.unwrap();
    assert_eq!(next, "e1");
    greet.add_permits(1);
    assert_eq!(heard.recv().await.unwrap(), "closed 0");
    assert_eq!(slack.opens.load(Ordering::SeqCst), 2);
    run.end().await;
}

#[tokio::test]
async fn a_storm_of_disconnects_gives_a_handful_of_connections() {
    for reason in ["refresh_requested", "warning", "too_many_websockets", "something_new"] {
        let slack = fake(
            json!({ "ok": true }),
            talk(move |_, mut socket| async move {
                hello(&mut socket).await;
                say(&mut socket, json!({ "type": "disconnect", "reason": reason })).await;
            }),
        )
        .await;
        let timing = Timing { pause: Duration::from_millis(100), ..FAST };
        let run = run(&slack, timing);
        let mut standing = run.standing.clone();
        let retries = standing.wait_for(|it| matches!(it, Standing::Retrying { .. }));
        timeout(Duration::from_secs(10), retries).await.unwrap().unwrap();
        // In production's time: eight seconds of storm.
        tokio::time::sleep(Duration::from_millis(800)).await;
        let opens = slack.opens.load(Ordering::SeqCst);
        assert!((1..=5).contains(&opens), "{reason}: {opens}");
        run.end().await;
    }
}

#[tokio::test]
async fn silence_ends_a_connection() {
    let slack = fake(
        json!({ "ok": true }),
        talk(|_, mut socket| async move {
            hello(&mut socket).await;
            // Alive, but deaf and mute: pings are answered by whoever reads.
            std::future::pending::<()>().await;
        }),
    )
    .await;
    let mut run = run(&slack, FAST);
    run.stands(|it| *it == Standing::Connected).await;
    let why = run.stands(|it| matches!(it, Standing::Retrying { .. })).await;
    assert_eq!(why, Standing::Retrying { why: "Slack fell silent".to_owned() });
    run.stands(|it| *it == Standing::Connected).await;
    assert!(slack.opens.load(Ordering::SeqCst) >= 2);
    run.end().await;
}

#[tokio::test]
async fn pings_that_are_answered_keep_a_quiet_connection() {
    let slack = fake(
        json!({ "ok": true }),
        talk(|_, mut socket| async move {
            hello(&mut socket).await;
            while acknowledged(&mut socket).await.is_some() {}
        }),
    )
    .await;
    let mut run = run(&slack, FAST);
    run.stands(|it| *it == Standing::Connected).await;
    tokio::time::sleep(FAST.silence * 2).await;
    assert_eq!(slack.opens.load(Ordering::SeqCst), 1);
    assert_eq!(*run.standing.borrow(), Standing::Connected);
    run.end().await;
}

#[tokio::test]
async fn what_cannot_be_mended_here_ends_it_and_names_the_setting() {
    for (code, names) in [
        ("invalid_auth", "SLACK_APP_TOKEN"),
        ("not_authed", "SLACK_APP_TOKEN"),
        ("token_revoked", "SLACK_APP_TOKEN"),
        ("not_allowed_token_type", "app-level token (xapp-…)"),
        ("missing_scope", "connections:write"),
        ("app_access_restricted", "workspace admin"),
    ] {
        let never = talk(|_, _| async {});
        let slack = fake(json!({ "ok": false, "error": code }), never).await;
        let run = run(&slack, FAST);
        let fatal = timeout(Duration::from_secs(5), run.ended).await.unwrap().unwrap().unwrap_err();
        scripted::assert_no_leak(&fatal);
        assert!(fatal.0.contains(names), "{code}: {fatal}");
        assert_eq!(*run.standing.borrow(), Standing::Failed { why: fatal.0 });
        assert_eq!(slack.opens.load(Ordering::SeqCst), 1, "{code}");
    }
    let off = talk(|_, mut socket| async move {
        say(&mut socket, json!({ "type": "disconnect", "reason": "link_disabled" })).await;
        while acknowledged(&mut socket).await.is_some() {}
    });
    let slack = fake(json!({ "ok": true }), off).await;
    let fatal = timeout(Duration::from_secs(5), run(&slack, FAST).ended).await.unwrap().unwrap();
    let fatal = fatal.unwrap_err();
    assert!(fatal.0.contains("Socket Mode is switched off"), "{fatal}");
}

#[tokio::test]
async fn what_passes_is_tried_again_and_says_why() {
    let never = talk(|_, _| async {});
    let slack = fake(json!({ "ok": false, "error": "internal_error" }), never).await;
    let mut run = run(&slack, FAST);
    let why = run.stands(|it| matches!(it, Standing::Retrying { .. })).await;
    assert_eq!(why, Standing::Retrying { why: "Slack failed on its side".to_owned() });
    run.end().await;

    let url: url::Url = "http://127.0.0.1:1/api".parse().unwrap();
    let nobody = FakeSlack { base: url.to_string(), opens: Arc::default() };
    let mut run = self::run(&nobody, FAST);
    let why = run.stands(|it| matches!(it, Standing::Retrying { .. })).await;
    assert!(format!("{why:?}").contains("the connection was refused"), "{why:?}");
    run.end().await;
}

#[tokio::test]
async fn an_answer_that_opens_no_socket_shows_no_ticket() {
    async fn page() -> Response {
        "hello".into_response()
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let open = move || async move {
        Json(json!({
            "ok": true, "user_id": "U0BOT", "url": format!("ws://{address}/link?ticket=Zq7secret"),
        }))
    };
    let app = Router::new()
        .route("/api/apps.connections.open", any(open))
        .route("/api/auth.test", any(open))
        .route("/link", get(page));
    tokio::spawn(async move { axum::serve(listener, app).await });
    let slack = FakeSlack { base: format!("http://{address}/api"), opens: Arc::default() };
    let mut run = run(&slack, FAST);
    let Standing::Retrying { why } = run.stands(|it| matches!(it, Standing::Retrying { .. })).await
    else {
        panic!()
    };
    scripted::assert_no_leak(&Fatal(why.clone()));
    assert!(why.contains("200"), "{why}");
    run.end().await;
}

#[test]
fn pauses_grow_to_a_minute_and_begin_anew_after_a_good_while() {
    let mut pauses = Pauses::new(Timing::default());
    let mut next = |asked| pauses.next(asked, Duration::ZERO, 1.0).as_secs_f64();
    assert_eq!(next(true), 0.0);
    let grown: Vec<f64> = (0..7).map(|_| next(true)).collect();
    assert_eq!(grown, [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]);
    let mut pauses = Pauses::new(Timing::default());
    assert_eq!(pauses.next(false, Duration::ZERO, 0.0), Duration::from_millis(500));
    assert_eq!(pauses.next(false, CROWDED, 0.0), CROWDED);
}
