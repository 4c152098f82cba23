//! An agent that answers by script, event by event, for tests over real HTTP.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::Response;
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use url::Url;

use super::client::{Client, Patience};
use super::config::Config;
use super::run::Run;
use super::turn::{Caller, Content, OutPart, Outcome, Outgoing, ToolState, Update};
use crate::clock::{ManualClock, Timestamp};
use crate::platform::http::HttpClient;
use crate::platform::scripted;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) path: String,
    pub(super) method: String,
    pub(super) headers: http::HeaderMap,
    pub(super) params: Value,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Whether the card is asked for; everything else is JSON-RPC.
    pub(super) fn is_card(&self) -> bool {
        self.method.is_empty()
    }
}

/// A piece of an answer's body.
#[derive(Clone, Debug)]
pub(super) enum Piece {
    Bytes(Vec<u8>),
    /// Nothing more, but the connection stays.
    Hang,
    /// The connection breaks.
    Break,
}

/// What the script answers.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    pieces: Vec<Piece>,
}

impl Reply {
    pub(super) fn new(status: u16, kind: &str, body: impl Into<Vec<u8>>) -> Self {
        let headers = vec![("content-type", kind.to_owned())];
        Self { status, headers, pieces: vec![Piece::Bytes(body.into())] }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn then(mut self, piece: Piece) -> Self {
        self.pieces.push(piece);
        self
    }

    pub(super) fn json(value: &Value) -> Self {
        Self::new(200, "application/json", value.to_string())
    }

    pub(super) fn result(result: Value) -> Self {
        Self::json(&json!({"jsonrpc": "2.0", "id": "1", "result": result}))
    }

    pub(super) fn error(code: i64, message: &str) -> Self {
        let error = json!({"code": code, "message": message});
        Self::json(&json!({"jsonrpc": "2.0", "id": "1", "error": error}))
    }

    pub(super) fn sse(body: impl Into<Vec<u8>>) -> Self {
        Self::new(200, "text/event-stream; charset=utf-8", body)
    }

    /// A stream of these results.
    pub(super) fn events(results: &[Value]) -> Self {
        let events = results.iter().map(|result| {
            format!("data: {}\r\n\r\n", json!({"jsonrpc": "2.0", "id": "1", "result": result}))
        });
        Self::sse(events.collect::<String>())
    }
}

/// The server.
pub(super) struct Agent {
    pub(super) url: Url,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Agent {
    pub(super) async fn new(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/api/a2a/ns/agent", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (notes, script) = (seen.clone(), Arc::new(script));
        let app = axum::Router::new().fallback(move |request: Request| {
            let (notes, script) = (notes.clone(), script.clone());
            async move {
                let (head, body) = request.into_parts();
                let body = to_bytes(body, 1 << 20).await.unwrap();
                let body: Value = serde_json::from_slice(&body).unwrap_or_default();
                let seen = Seen {
                    path: head.uri.to_string(),
                    method: body["method"].as_str().unwrap_or_default().to_owned(),
                    headers: head.headers,
                    params: body["params"].clone(),
                };
                notes.lock().unwrap().push(seen.clone());
                answer(script(&seen))
            }
        });
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url: url.parse().unwrap(), seen }
    }

    /// An agent of 0.3 that streams; the script answers all but the card.
    pub(super) async fn v03(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let card = json!({"name": "a", "protocolVersion": "0.3.0", "url": "http://evil.example/"});
        Self::new(move |seen| if seen.is_card() { Reply::json(&card) } else { script(seen) }).await
    }

    /// What was asked, the card left out.
    pub(super) fn asked(&self) -> Vec<Seen> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|seen| !seen.is_card()).cloned().collect()
    }

    pub(super) fn methods(&self) -> Vec<String> {
        self.asked().into_iter().map(|seen| seen.method).collect()
    }

    pub(super) fn cards_asked(&self) -> usize {
        self.seen.lock().unwrap().iter().filter(|seen| seen.is_card()).count()
    }

    pub(super) fn client(&self, config: &Config) -> Client {
        client(&self.url, config, quick())
    }
}

fn answer(reply: Reply) -> Response {
    let mut response = Response::builder().status(reply.status);
    for (name, value) in reply.headers {
        response = response.header(name, value);
    }
    let whole = match reply.pieces.as_slice() {
        [Piece::Bytes(bytes)] => Some(bytes.clone()),
        _ => None,
    };
    if let Some(bytes) = whole {
        return response.body(Body::from(bytes)).unwrap();
    }
    let pieces = stream::iter(reply.pieces).then(|piece| async {
        match piece {
            Piece::Bytes(bytes) => Ok(bytes),
            Piece::Hang => std::future::pending().await,
            Piece::Break => {
                // So that what was said before is written before the connection breaks.
                tokio::time::sleep(Duration::from_millis(30)).await;
                Err(std::io::Error::other("broken by the script"))
            }
        }
    });
    response.body(Body::from_stream(pieces)).unwrap()
}

/// Short enough for tests; nothing depends on how short.
pub(super) fn quick() -> Patience {
    let ms = Duration::from_millis;
    Patience {
        card: ms(30_000),
        answer: ms(30_000),
        idle: ms(30_000),
        silence: ms(60_000),
        first_pause: ms(1),
        last_pause: ms(5),
        text: Duration::ZERO,
    }
}

pub(super) fn client(url: &Url, config: &Config, patience: Patience) -> Client {
    client_over(scripted::client(), url, config, patience)
}

pub(super) fn client_over(
    http: HttpClient,
    url: &Url,
    config: &Config,
    patience: Patience,
) -> Client {
    let clock = Arc::new(ManualClock::at(Timestamp(1_000_000)));
    Client::with(config, url.clone(), http, clock, patience)
}

pub(super) fn caller() -> Caller {
    Caller { user_id: Some("slack:T1:C1".to_owned()), traceparent: None }
}

/// A message that starts a turn.
pub(super) fn message(text: &str) -> Outgoing {
    Outgoing {
        message_id: "m-1".to_owned(),
        context_id: "c-1".to_owned(),
        task_id: None,
        content: Content::Parts(vec![OutPart::Text(text.to_owned())]),
        metadata: serde_json::Map::new(),
    }
}

/// A run, told in words up to its end.
pub(super) async fn told(mut run: Run) -> (Vec<String>, Outcome) {
    let mut steps = Vec::new();
    while let Some(update) = run.next().await {
        match update {
            Update::Task { .. } => {}
            Update::Text(text) => steps.push(format!("`{text}`")),
            Update::Tool { name, state: ToolState::Running, .. } => steps.push(format!("{name}…")),
            Update::Tool { name, state: ToolState::Done, .. } => steps.push(format!("{name}.")),
            Update::Quiet { .. } => steps.push("quiet".to_owned()),
            Update::Ended(outcome) => return (steps, outcome),
        }
    }
    panic!("a run has to end; it said {steps:?}");
}

/// Only how it ended.
pub(super) async fn ended(run: Run) -> Outcome {
    told(run).await.1
}

// Results of 0.3, all about one task.

pub(super) fn status(state: &str) -> Value {
    json!({"kind": "status-update", "taskId": "t-1", "contextId": "c-1", "status": {"state": state}})
}

pub(super) fn task(state: &str) -> Value {
    json!({"kind": "task", "id": "t-1", "contextId": "c-1", "status": {"state": state}})
}

pub(super) fn done(text: &str) -> Value {
    let mut task = task("completed");
    task["artifacts"] = json!([{"artifactId": "a", "parts": [{"kind": "text", "text": text}]}]);
    task
}

pub(super) fn artifact(text: &str) -> Value {
    json!({"kind": "artifact-update", "taskId": "t-1",
        "artifact": {"artifactId": "a", "parts": [{"kind": "text", "text": text}]}})
}

pub(super) fn whole(text: &str) -> Reply {
    Reply::events(&[status("submitted"), artifact(text), status("completed")])
}

/// Answers one after the other; the last one for ever.
pub(super) fn in_turn(replies: Vec<Reply>) -> impl Fn(&Seen) -> Reply + Send + Sync {
    let next = AtomicUsize::new(0);
    move |_| {
        let at = next.fetch_add(1, Ordering::SeqCst);
        replies[at.min(replies.len() - 1)].clone()
    }
}
