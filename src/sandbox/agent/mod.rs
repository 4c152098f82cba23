//! A scripted agent that speaks kagent's wire, in both of its dialects.
//!
//! ```text
//! /sandbox/agent/      as a controller of kagent 0.9.7 to 0.10: 0.3 without a header, 1.0 with `A2A-Version: 1.0`
//! /sandbox/agent-0.3/  as a Python runtime up to 0.10
//! /sandbox/agent-1.0/  as the runtime of 1.0
//! /sandbox/agent-go/   0.3 as the Go runtime: other metadata keys, no keep-alive comments, and it can cancel
//! ```
//!
//! Each has its card at `.well-known/agent-card.json`, whose `url` must never be called, and answers 307 without the
//! trailing slash. What it does follows from a keyword in the message (`script.rs`):
//!
//! ```text
//! hello             anything else: "You said: …", and how many messages the conversation has seen
//! remember X        keeps X; "what did I say?" shows what the conversation remembers
//! slow [n]          n seconds (5) of k8s_get_pods and k8s_get_logs at work
//! markdown, long    a rich answer; one of 12,000 characters
//! approve [two]     k8s_delete_pod (and k8s_scale) wait for approval
//! nested            a sub-agent's helm_upgrade waits for approval
//! question          three questions: one choice, several choices, free text
//! fail              the model fails
//! file              answers with a file
//! drop [n]          the connection breaks in the middle, the task goes on for n seconds (3)
//! silent [n]        no byte for n seconds (180)
//! lost              the connection breaks before any task id is told, the task runs
//! ```
//!
//! Decisions are read as the runtimes read them. 0.3: an id that is left out is approved **and run**, which the answer
//! says; plain text, or another `X-User-Id`, drops the pause. 1.0: an id that is left out, unknown or named twice fails
//! the task; without the extension header there is nothing to decide with. Cancelling: 0.3 refuses and goes on
//! (Python), or stops a `slow` one (Go); 1.0 stops.
//!
//! A repeated message runs again, as it does in kagent. Memory is per user and context.

mod call;
mod decision;
mod dialect03;
mod dialect10;
mod script;
mod stream;
mod task;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State as Shared;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, StatusCode};
pub(super) use script::HINTS;
use serde_json::{Value, json};
use tokio::sync::watch;

use self::decision::HITL;
use self::dialect03::Prefix;
use self::script::Memory;
use self::task::{Ids, Task};
use super::World;
use super::exchange::broken;
use crate::clock::Timestamp;

/// How many requests the log keeps.
const REQUESTS: usize = 10_000;

/// One request to the agent, as [`World::agent_requests`] lists them.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentRequest {
    /// Which of the agents: `agent`, `agent-0.3`, `agent-1.0`, `agent-go`.
    pub agent: &'static str,
    /// The JSON-RPC method, or `agent-card.json`.
    pub method: String,
    /// Those of `accept`, `authorization`, `a2a-version`, `a2a-extensions`, `traceparent` and `x-user-id` that came.
    pub headers: BTreeMap<String, String>,
    /// The context that the message names.
    pub context_id: Option<String>,
    /// The task that the message or the request names.
    pub task_id: Option<String>,
    /// The message's own ID.
    pub message_id: Option<String>,
    /// The message's text.
    pub text: String,
    /// The names of the files it holds.
    pub files: Vec<String>,
    /// Decisions by id, true for approved, whatever their shape. `*`: a uniform one.
    pub decisions: BTreeMap<String, bool>,
    /// Answers to questions, one by one.
    pub answers: Vec<Vec<String>>,
    /// When it came, in Unix milliseconds.
    pub received_at: Timestamp,
}

/// The agent's memory, in the workspace.
pub(super) struct Agent {
    desk: Mutex<Desk>,
    down: watch::Sender<bool>,
    mute: watch::Sender<bool>,
    /// The bearer token to be shown, where one is.
    guarded: Mutex<Option<String>>,
}

struct Desk {
    tasks: HashMap<String, Task>,
    memories: HashMap<(String, String), Memory>,
    requests: VecDeque<AgentRequest>,
    ids: Ids,
}

impl Agent {
    pub(super) fn new(now: Timestamp) -> Self {
        let desk = Desk {
            tasks: HashMap::new(),
            memories: HashMap::new(),
            requests: VecDeque::new(),
            ids: Ids::seeded(now),
        };
        let (down, mute) = (watch::channel(false).0, watch::channel(false).0);
        Self { desk: Mutex::new(desk), down, mute, guarded: Mutex::new(None) }
    }

    /// 401 for whoever does not show the token.
    fn turns_away(&self, headers: &HeaderMap) -> Option<Response> {
        let guarded = self.guarded.lock().unwrap_or_else(PoisonError::into_inner);
        let token = guarded.as_deref()?;
        let shown = header(headers, "authorization").and_then(|it| it.strip_prefix("Bearer "));
        let refusal = [(WWW_AUTHENTICATE, "Bearer")];
        (shown != Some(token))
            .then(|| (StatusCode::UNAUTHORIZED, refusal, "Unauthorized\n").into_response())
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl World {
    /// The latest requests to the scripted agent, oldest first. At most 10,000 are kept.
    #[must_use]
    pub fn agent_requests(&self) -> Vec<AgentRequest> {
        self.inner.agent.desk().requests.iter().cloned().collect()
    }

    /// Forgets the requests to the scripted agent so far.
    pub fn clear_agent_requests(&self) {
        self.inner.agent.desk().requests.clear();
    }

    /// Takes the agent off the network, or back: every request, and every answer that is still being sent, ends in a
    /// broken connection. Its tasks go on.
    pub fn agent_down(&self, down: bool) {
        self.inner.agent.down.send_replace(down);
    }

    /// Lets the agent be asked only with this bearer token, or by everyone again.
    pub fn agent_token(&self, token: Option<&str>) {
        let mut guarded = self.inner.agent.guarded.lock().unwrap_or_else(PoisonError::into_inner);
        *guarded = token.map(str::to_owned);
    }

    /// Keeps the agent from answering what it is asked from now on, or lets it: the message is there and its task runs, but
    /// not a byte comes back.
    pub fn agent_mute(&self, mute: bool) {
        self.inner.agent.mute.send_replace(mute);
    }
}

/// Which agent was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flavour {
    Dual,
    Old,
    New,
    Go,
}

impl Flavour {
    const ALL: [Self; 4] = [Self::Dual, Self::Old, Self::New, Self::Go];

    const fn name(self) -> &'static str {
        match self {
            Self::Dual => "agent",
            Self::Old => "agent-0.3",
            Self::New => "agent-1.0",
            Self::Go => "agent-go",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    Old(Prefix),
    New,
}

impl Dialect {
    fn events(self, task: &Task, place: usize) -> Vec<Value> {
        match self {
            Self::Old(prefix) => dialect03::events(task, place, prefix),
            Self::New => dialect10::events(task, place),
        }
    }

    fn task(self, task: &Task, until: usize, history: Option<usize>) -> Value {
        match self {
            Self::Old(prefix) => dialect03::task(task, until, history, prefix),
            Self::New => dialect10::task(task, until, history),
        }
    }
}

pub(super) fn router() -> Router<World> {
    Flavour::ALL.into_iter().fold(Router::new(), |router, flavour| {
        let path = format!("/sandbox/{}", flavour.name());
        let slash = format!("{path}/");
        let to = slash.clone();
        router
            .route(&path, post(move || async move { Redirect::temporary(&to) }))
            .route(
                &slash,
                post(move |Shared(world): Shared<World>, headers: HeaderMap, body: Bytes| async move {
                    call::call(&world, flavour, &headers, &body).await
                }),
            )
            .route(
                &format!("{slash}.well-known/agent-card.json"),
                get(move |Shared(world): Shared<World>, headers: HeaderMap| async move {
                    card(&world, flavour, &headers)
                }),
            )
    })
}

/// The card. Its address is the one that controllers advertise by default, and wrong.
fn card(world: &World, flavour: Flavour, headers: &HeaderMap) -> Response {
    note(world, flavour, "agent-card.json", headers, &Value::Null);
    if *world.inner.agent.down.borrow() {
        return broken(Vec::new());
    }
    if let Some(refusal) = world.inner.agent.turns_away(headers) {
        return refusal;
    }
    let url = format!("http://127.0.0.1:8083/api/a2a/sandbox/{}/", flavour.name());
    let mut card = json!({
        "name": "sandbox_agent", "description": "A scripted agent", "version": "1",
        "capabilities": { "streaming": true },
        "defaultInputModes": ["text"], "defaultOutputModes": ["text"],
    });
    let interface = |version: &str| json!({ "url": url, "protocolBinding": "JSONRPC", "protocolVersion": version });
    let more = match flavour {
        Flavour::Old | Flavour::Go => json!({
            "protocolVersion": "0.3.0", "preferredTransport": "JSONRPC", "url": url, "skills": [],
        }),
        Flavour::Dual => json!({
            "protocolVersion": "0.3", "preferredTransport": "JSONRPC", "url": url, "skills": [],
            "supportedInterfaces": [interface("0.3"), interface("1.0")],
        }),
        Flavour::New => json!({
            "supportedInterfaces": [interface("1.0")],
            "capabilities": { "streaming": true, "extensions": [
                { "uri": HITL, "description": "Human in the loop for tool approval, ask user, and nested subagents" },
            ]},
        }),
    };
    if let (Value::Object(card), Value::Object(more)) = (&mut card, more) {
        card.extend(more);
    }
    axum::Json(card).into_response()
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok()).filter(|value| !value.is_empty())
}

/// The words of a message. Data is given to the model as text.
fn text_of(message: &Value) -> String {
    let parts = message.get("parts").and_then(Value::as_array).into_iter().flatten();
    let texts = parts.filter_map(|part| {
        let text = part.get("text").and_then(Value::as_str).map(str::to_owned);
        text.or_else(|| part.get("data").map(Value::to_string))
    });
    texts.collect::<Vec<_>>().join("\n")
}

/// The names of the files in a message.
fn files_of(message: &Value) -> Vec<String> {
    let parts = message.get("parts").and_then(Value::as_array).into_iter().flatten();
    let names = parts.filter_map(|part| {
        let name = part.pointer("/file/name").or_else(|| part.get("filename"))?;
        Some(name.as_str()?.to_owned())
    });
    names.collect()
}

/// Writes a request into the log.
fn note(world: &World, flavour: Flavour, method: &str, headers: &HeaderMap, request: &Value) {
    const OF_INTEREST: [&str; 6] =
        ["accept", "authorization", "a2a-version", "a2a-extensions", "traceparent", "x-user-id"];
    let message = request.pointer("/params/message").cloned().unwrap_or_default();
    let text_at =
        |pointer: &str| request.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let noted = AgentRequest {
        agent: flavour.name(),
        method: method.to_owned(),
        headers: OF_INTEREST
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), header(headers, name)?.to_owned())))
            .collect(),
        context_id: text_at("/params/message/contextId"),
        task_id: text_at("/params/message/taskId").or_else(|| text_at("/params/id")),
        message_id: text_at("/params/message/messageId"),
        text: text_of(&message),
        files: files_of(&message),
        decisions: decision::decisions(&message),
        answers: decision::answers(&message),
        received_at: world.inner.clock.now(),
    };
    let mut desk = world.inner.agent.desk();
    if desk.requests.len() >= REQUESTS {
        desk.requests.pop_front();
    }
    desk.requests.push_back(noted);
}
