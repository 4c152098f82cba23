//! A listener at work against a server that answers by script.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::Response;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::super::*;
use crate::clock::ManualClock;
use crate::model::{Event, Occurrence};
use crate::platform::listener::{Cursor, Inbox, Taken};
use crate::platform::scripted::{self, CANARY};
use crate::platform::telegram::Config;

pub(super) const NOW: Timestamp = Timestamp(1_790_000_000_000);
pub(super) const LONG: Duration = Duration::from_secs(10);

/// What the server does about a request.
pub(super) enum Reply {
    Now(u16, String),
    Hold,
}

pub(super) fn ok(result: Value) -> Reply {
    Reply::Now(200, json!({ "ok": true, "result": result }).to_string())
}

pub(super) fn no(status: u16, description: &str) -> Reply {
    let body = json!({ "ok": false, "error_code": status, "description": description });
    Reply::Now(status, body.to_string())
}

/// What was asked, in order: the method and its parameters.
pub(super) type Asked = Arc<Mutex<Vec<(String, Value)>>>;

/// Somebody's inbox and cursor, which may fail.
#[derive(Default)]
pub(super) struct Notes {
    pub(super) events: Mutex<Vec<Event>>,
    pub(super) cursor: Mutex<Option<String>>,
    pub(super) failures: AtomicUsize,
}

#[async_trait]
impl Inbox for Notes {
    async fn take(&self, event: Event) -> Result<Taken, NotTaken> {
        let less = |left: usize| left.checked_sub(1);
        if self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok() {
            return Err(NotTaken);
        }
        self.events.lock().unwrap().push(event);
        Ok(Taken::Stored)
    }
}

#[async_trait]
impl Cursor for Notes {
    async fn load(&self) -> Option<String> {
        self.cursor.lock().unwrap().clone()
    }

    async fn save(&self, value: &str) -> Result<(), NotTaken> {
        *self.cursor.lock().unwrap() = Some(value.to_owned());
        Ok(())
    }
}

/// A listener at work.
pub(super) struct Run {
    pub(super) asked: Asked,
    pub(super) notes: Arc<Notes>,
    pub(super) standing: watch::Receiver<Standing>,
    pub(super) stop: CancellationToken,
    pub(super) task: tokio::task::JoinHandle<Result<(), Fatal>>,
}

/// Starts a listener against a server that answers polls by script; `script` gets the polls' number and parameters.
pub(super) async fn run(
    notes: Notes,
    drop_pending: bool,
    script: impl Fn(usize, &Value) -> Reply + Send + Sync + 'static,
) -> Run {
    let polls = AtomicUsize::new(0);
    run_all(notes, drop_pending, move |method, body| match method {
        "getMe" => ok(json!({ "id": 42, "is_bot": true, "username": "herald_bot" })),
        "getUpdates" => script(polls.fetch_add(1, Ordering::SeqCst), body),
        "getWebhookInfo" => ok(json!({ "url": "", "pending_update_count": 0 })),
        _ => ok(json!(true)),
    })
    .await
}

pub(super) async fn run_all(
    notes: Notes,
    drop_pending: bool,
    script: impl Fn(&str, &Value) -> Reply + Send + Sync + 'static,
) -> Run {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = Config {
        bot_token: Some(CANARY.into()),
        api_url: Some(format!("http://{}", listener.local_addr().unwrap()).parse().unwrap()),
        ..Config::default()
    };
    let (asked, script) = (Asked::default(), Arc::new(script));
    let log = asked.clone();
    let app = axum::Router::new().fallback(move |request: Request| {
        let (log, script) = (log.clone(), script.clone());
        async move {
            let method = request.uri().path().rsplit('/').next().unwrap().to_owned();
            let body = to_bytes(request.into_body(), 1 << 20).await.unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap();
            log.lock().unwrap().push((method.clone(), body.clone()));
            match script(&method, &body) {
                Reply::Now(status, text) => {
                    Response::builder().status(status).body(Body::from(text)).unwrap()
                }
                Reply::Hold => std::future::pending().await,
            }
        }
    });
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });

    let clock = Arc::new(ManualClock::at(NOW));
    let mut polling = Polling::new(
        crate::platform::telegram::api(&config, scripted::client()).unwrap(),
        drop_pending,
        clock,
    );
    polling.patience = Patience {
        grace: Duration::from_secs(1),
        empty: Duration::from_millis(100),
        pause: Duration::from_millis(20),
        longest: Duration::from_millis(200),
        ..Patience::default()
    };
    let (standing, seen) = watch::channel(Standing::Starting);
    let (notes, stop) = (Arc::new(notes), CancellationToken::new());
    let ears = Ears { inbox: notes.clone(), cursor: notes.clone(), standing, stop: stop.clone() };
    let task = tokio::spawn(async move { polling.listen(ears).await });
    Run { asked, notes, standing: seen, stop, task }
}

impl Run {
    /// What was asked of a method.
    pub(super) fn asked(&self, method: &str) -> Vec<Value> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|(name, _)| name == method).map(|(_, body)| body.clone()).collect()
    }

    /// Waits until something is so.
    pub(super) async fn until(&self, what: &str, so: impl Fn(&Self) -> bool) {
        let wait = async {
            while !so(self) {
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(LONG, wait).await.unwrap_or_else(|_| panic!("{what}: {:?}", self.asked));
    }

    pub(super) async fn stands(&mut self, so: impl FnMut(&Standing) -> bool) -> Standing {
        timeout(LONG, self.standing.wait_for(so)).await.unwrap().unwrap().clone()
    }

    pub(super) async fn retries(&mut self) -> String {
        match self.stands(|standing| matches!(standing, Standing::Retrying { .. })).await {
            Standing::Retrying { why } => {
                scripted::assert_no_leak(&why);
                why
            }
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn texts(&self) -> Vec<String> {
        let text = |event: &Event| match &event.what {
            Occurrence::Message { text, .. } => text.clone(),
            Occurrence::Command { name, .. } => format!("/{name}"),
            Occurrence::Press { key, .. } => format!("[{key}]"),
        };
        self.notes.events.lock().unwrap().iter().map(text).collect()
    }

    pub(super) fn cursor(&self) -> Option<String> {
        self.notes.cursor.lock().unwrap().clone()
    }

    /// Stops it, which takes less than a second whatever it does.
    pub(super) async fn ends(self) -> (Result<(), Fatal>, Asked) {
        self.stop.cancel();
        let ended = timeout(Duration::from_secs(1), self.task).await;
        (ended.expect("it ends within a second").unwrap(), self.asked)
    }
}

pub(super) fn written(number: i64, text: &str) -> Value {
    json!({ "update_id": number, "message": {
        "message_id": number, "date": 1, "text": text,
        "from": { "id": 5, "is_bot": false, "first_name": "Alice" },
        "chat": { "id": 5, "type": "private" } } })
}

pub(super) fn pressed(number: i64) -> Value {
    json!({ "update_id": number, "callback_query": {
        "id": "4800", "data": "key", "from": { "id": 5, "is_bot": false, "first_name": "Alice" },
        "message": { "message_id": 3, "chat": { "id": 5, "type": "private" } } } })
}

/// The updates from the offset that a poll asks for, as Telegram answers them.
pub(super) fn from(updates: &[Value], body: &Value) -> Vec<Value> {
    let offset = body["offset"].as_i64().unwrap_or(0);
    let limit = usize::try_from(body["limit"].as_u64().unwrap()).unwrap();
    updates
        .iter()
        .filter(|update| update["update_id"].as_i64().unwrap() >= offset)
        .take(limit)
        .cloned()
        .collect()
}

/// Answers with these, and holds the poll when there is nothing left.
pub(super) fn telegram(updates: Vec<Value>) -> impl Fn(usize, &Value) -> Reply {
    move |_, body| match from(&updates, body) {
        left if left.is_empty() && body["timeout"] != 0 => Reply::Hold,
        left => ok(json!(left)),
    }
}
