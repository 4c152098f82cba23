//! One JSON-RPC call: which dialect it is in, what it asks, and what it is answered.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::decision::HITL;
use super::dialect03::Prefix;
use super::script::{Act, Script};
use super::task::{Task, What};
use super::{
    Desk, Dialect, Flavour, World, broken, decision, header, note, script, stream, text_of,
};
use crate::clock::Timestamp;

/// A JSON-RPC error.
#[derive(Debug)]
struct Refusal {
    code: i64,
    message: String,
    /// 1.0's `ErrorInfo.reason`.
    reason: Option<&'static str>,
}

impl Refusal {
    fn new(code: i64, message: impl Into<String>) -> Self {
        let reason = match code {
            -32001 => Some("TASK_NOT_FOUND"),
            -32002 => Some("TASK_NOT_CANCELABLE"),
            -32004 => Some("UNSUPPORTED_OPERATION"),
            -32009 => Some("VERSION_NOT_SUPPORTED"),
            -32602 => Some("INVALID_PARAMS"),
            _ => None,
        };
        Self { code, message: message.into(), reason }
    }
}

/// What one caller sends, read.
struct Asked<'a> {
    dialect: Dialect,
    go: bool,
    /// The extension for approvals was asked for.
    hitl: bool,
    user: Option<String>,
    params: &'a Map<String, Value>,
}

/// What a call leads to.
enum Outcome {
    Result(Value),
    /// Every event from this entry on; before them, where there is one, `first`, which is all if it is `over`.
    Stream {
        task: String,
        from: usize,
        first: Option<Value>,
        over: bool,
    },
    /// The task, when its run is over.
    Wait {
        task: String,
        from: usize,
        history: Option<usize>,
    },
    Lost,
}

pub(super) async fn call(
    world: &World,
    flavour: Flavour,
    headers: &HeaderMap,
    body: &[u8],
) -> Response {
    let request: Value = serde_json::from_slice(body).unwrap_or_default();
    let method = request.get("method").and_then(Value::as_str).unwrap_or_default().to_owned();
    let empty = Map::new();
    let params = request.get("params").and_then(Value::as_object).unwrap_or(&empty);
    note(world, flavour, &method, headers, &request);
    if *world.inner.agent.down.borrow() {
        return broken(Vec::new());
    }
    if let Some(refusal) = world.inner.agent.turns_away(headers) {
        return refusal;
    }
    let id = request.get("id").cloned().unwrap_or_default();
    let dialect = match dialect(flavour, headers) {
        Ok(dialect) => dialect,
        Err(refusal) => return refuse(Dialect::New, &id, &refusal, false),
    };
    let asked = Asked {
        dialect,
        go: flavour == Flavour::Go,
        hitl: header(headers, "a2a-extensions").is_some_and(|uris| uris.contains(HITL)),
        user: header(headers, "x-user-id").map(str::to_owned),
        params,
    };
    let streams = matches!(
        method.as_str(),
        "message/stream" | "tasks/resubscribe" | "SendStreamingMessage" | "SubscribeToTask"
    );
    let outcome = if request.is_object() {
        answer(world, &method, &asked)
    } else {
        Err(Refusal::new(-32700, "Invalid JSON payload"))
    };
    if params.contains_key("message") {
        // The sender lives as long as the world.
        let _ = world.inner.agent.mute.subscribe().wait_for(|mute| !*mute).await;
    }
    match outcome {
        Err(refusal) => refuse(dialect, &id, &refusal, streams),
        Ok(Outcome::Lost) => broken(Vec::new()),
        Ok(Outcome::Result(result)) => reply(&id, &result),
        Ok(Outcome::Stream { task, from, first, over }) => {
            stream::open(world, stream::Line { dialect, go: asked.go, id, task, from, first, over })
        }
        Ok(Outcome::Wait { task, from, history }) => match stream::wait(world, &task, from).await {
            Some(until) => match snapshot(world, dialect, &task, until, history) {
                Some(task) => reply(&id, &wrapped(dialect, task)),
                None => broken(Vec::new()),
            },
            None => broken(Vec::new()),
        },
    }
}

/// The dialect that a request is in.
fn dialect(flavour: Flavour, headers: &HeaderMap) -> Result<Dialect, Refusal> {
    let version = header(headers, "a2a-version").unwrap_or_default();
    let unsupported = |version: &str, expected: &str| {
        let version = if version.is_empty() { "0.3" } else { version };
        Refusal::new(
            -32009,
            format!(
                "A2A version '{version}' is not supported by this handler. Expected version {expected}."
            ),
        )
    };
    match (flavour, version) {
        (Flavour::Go, _) => Ok(Dialect::Old(Prefix("adk"))),
        (Flavour::Old, _) | (Flavour::Dual, "" | "0.3" | "0.3.0") => {
            Ok(Dialect::Old(Prefix("kagent")))
        }
        (Flavour::Dual | Flavour::New, "1.0") => Ok(Dialect::New),
        (Flavour::Dual, other) => Err(unsupported(other, "'0.3' or '1.0'")),
        (Flavour::New, other) => Err(unsupported(other, "'1.0'")),
    }
}

fn answer(world: &World, method: &str, asked: &Asked<'_>) -> Result<Outcome, Refusal> {
    match (asked.dialect, method) {
        (Dialect::Old(_), "message/send" | "message/stream")
        | (Dialect::New, "SendMessage" | "SendStreamingMessage") => {
            send(world, asked, method.ends_with("stream") || method == "SendStreamingMessage")
        }
        (Dialect::Old(_), "tasks/get") | (Dialect::New, "GetTask") => {
            let desk = world.inner.agent.desk();
            let task = named(&desk, asked)?;
            let history = most(asked.params.get("historyLength"));
            Ok(Outcome::Result(asked.dialect.task(task, task.entries.len(), history)))
        }
        (Dialect::Old(_), "tasks/cancel") | (Dialect::New, "CancelTask") => cancel(world, asked),
        (Dialect::Old(_), "tasks/resubscribe") | (Dialect::New, "SubscribeToTask") => {
            let desk = world.inner.agent.desk();
            let task = named(&desk, asked)?;
            unfinished(task, asked.dialect)?;
            // What stands still is told once more, and that is all.
            let over = task.last().is_some_and(What::ends);
            let from = task.entries.len() - usize::from(over && asked.dialect != Dialect::New);
            let first = (asked.dialect == Dialect::New)
                .then(|| json!({ "task": asked.dialect.task(task, from, None) }));
            Ok(Outcome::Stream {
                task: task.id.clone(),
                from,
                over: over && first.is_some(),
                first,
            })
        }
        _ => Err(Refusal::new(-32601, "Method not found")),
    }
}

/// The task that a request names. 1.0 shows it to its user alone.
fn named<'a>(desk: &'a Desk, asked: &Asked<'_>) -> Result<&'a Task, Refusal> {
    let id = asked.params.get("id").and_then(Value::as_str).unwrap_or_default();
    desk.tasks
        .get(id)
        .filter(|task| asked.dialect != Dialect::New || task.user == user_of(asked, &task.context))
        .ok_or_else(|| Refusal::new(-32001, "Task not found"))
}

fn unfinished(task: &Task, dialect: Dialect) -> Result<(), Refusal> {
    if !task.is_terminal() {
        return Ok(());
    }
    let told = dialect.task(task, task.entries.len(), Some(0));
    let state =
        told.pointer("/status/state").and_then(Value::as_str).unwrap_or_default().to_owned();
    let code = if dialect == Dialect::New { -32004 } else { -32602 };
    Err(Refusal::new(code, format!("Task {} is in terminal state: {state}", task.id)))
}

fn user_of(asked: &Asked<'_>, context: &str) -> String {
    asked.user.clone().unwrap_or_else(|| format!("A2A_USER_{context}"))
}

fn most(length: Option<&Value>) -> Option<usize> {
    length.and_then(Value::as_u64).and_then(|length| usize::try_from(length).ok())
}

fn cancel(world: &World, asked: &Asked<'_>) -> Result<Outcome, Refusal> {
    let now = world.inner.clock.now();
    let mut desk = world.inner.agent.desk();
    let (id, terminal, slow) = {
        let task = named(&desk, asked)?;
        (task.id.clone(), task.is_terminal(), task.slow)
    };
    if terminal {
        return Err(Refusal::new(-32002, "Task cannot be canceled"));
    }
    if asked.dialect != Dialect::New && !(asked.go && slow) {
        return Err(Refusal::new(-32603, "Cancellation is not supported"));
    }
    let Some(task) = desk.tasks.get_mut(&id) else {
        return Err(Refusal::new(-32001, "Task not found"));
    };
    task.push(now, What::Canceled);
    task.stop.cancel();
    Ok(Outcome::Result(asked.dialect.task(task, task.entries.len(), None)))
}

fn send(world: &World, asked: &Asked<'_>, streams: bool) -> Result<Outcome, Refusal> {
    let new = asked.dialect == Dialect::New;
    let message = asked.params.get("message").cloned().unwrap_or_default();
    let text_at = |name: &str| message.get(name).and_then(Value::as_str).filter(|t| !t.is_empty());
    if text_at("messageId").is_none() {
        let why = if new { "Validation failed" } else { "Invalid parameters" };
        return Err(Refusal::new(-32602, why));
    }
    let configuration = asked.params.get("configuration").cloned().unwrap_or_default();
    let flag = |name: &str| configuration.get(name).and_then(Value::as_bool);
    let at_once = if new { flag("returnImmediately") } else { flag("blocking").map(|b| !b) };
    let history = most(configuration.get("historyLength"));

    let now = world.inner.clock.now();
    let mut guard = world.inner.agent.desk();
    let desk = &mut *guard;
    let known = text_at("taskId").map(str::to_owned);
    let (id, from, script) = match known {
        None => {
            let context = text_at("contextId").map_or_else(|| desk.ids.uuid(), str::to_owned);
            let mut task = Task::new(desk.ids.uuid(), context.clone(), user_of(asked, &context));
            let memory = desk.memories.entry((task.user.clone(), context)).or_default();
            let script =
                script::script(&text_of(&message), &files_of(&message), memory, &mut desk.ids);
            (task.silent, task.slow) = (script.silent, script.slow);
            task.push(now, What::Asked(message));
            let id = task.id.clone();
            desk.tasks.insert(id.clone(), task);
            (id, 0, script)
        }
        Some(id) => {
            let (from, script) = follow(desk, asked, &id, message, now)?;
            (id, from, script)
        }
    };
    let stop = desk.tasks.get(&id).map(|task| task.stop.clone()).unwrap_or_default();
    let told =
        desk.tasks.get(&id).map(|task| asked.dialect.task(task, task.entries.len(), history));
    drop(guard);
    let lost = script.lost;
    tokio::spawn(run(world.clone(), id.clone(), script, asked.hitl, stop));
    Ok(match (lost, streams, at_once, told) {
        (true, ..) => Outcome::Lost,
        (_, true, ..) => Outcome::Stream { task: id, from, first: None, over: false },
        (_, _, Some(true), Some(told)) => Outcome::Result(wrapped(asked.dialect, told)),
        _ => Outcome::Wait { task: id, from, history },
    })
}

/// Goes on with a task that waits: decides, or drops the pause.
fn follow(
    desk: &mut Desk,
    asked: &Asked<'_>,
    id: &str,
    message: Value,
    now: Timestamp,
) -> Result<(usize, Script), Refusal> {
    let new = asked.dialect == Dialect::New;
    let why = if new {
        format!("Task {id} not found")
    } else {
        format!("Task {id} was specified but does not exist")
    };
    let Some(task) = desk.tasks.get_mut(id) else { return Err(Refusal::new(-32001, why)) };
    let user = user_of(asked, &task.context);
    if new && task.user != user {
        return Err(Refusal::new(-32001, why));
    }
    unfinished(task, asked.dialect)?;
    if message.get("contextId").and_then(Value::as_str).is_some_and(|c| c != task.context) {
        return Err(Refusal::new(-32602, format!("Task {id} belongs to another context")));
    }
    if !task.last().is_some_and(What::ends) {
        // The runtimes take it; nothing of ours may count on that.
        return Err(Refusal::new(-32602, format!("Task {id} is still working")));
    }
    let pause = task.pause().cloned();
    let text = text_of(&message);
    let from = task.entries.len();
    let acts = |acts| Script { acts, ..Script::default() };
    let script = if new {
        match (decision::hitl(&message).filter(|_| asked.hitl), pause) {
            (Some(decision), Some(pause)) => match decision::resume_new(&pause, decision, &message)
            {
                Ok(next) => acts(next),
                Err(why) => failing(why),
            },
            (Some(_), None) => failing("Stored input-required task has no HITL request".to_owned()),
            // Still waiting, for something that is forgotten now.
            (None, _) => Script::default(),
        }
    } else {
        match (decision::adk(&message), pause) {
            (Some(decision), Some(pause)) if task.user == user => {
                acts(decision::resume_old(&pause, decision))
            }
            _ => {
                let memory = desk.memories.entry((user, task.context.clone())).or_default();
                memory.said.push(text.clone());
                script::says(format!("You said: {text}"))
            }
        }
    };
    task.push(now, What::Asked(message));
    if new && script.acts.is_empty() {
        task.push(now, What::StillWaiting);
    }
    Ok((from, script))
}

/// A task that fails by the executor's word, not the model's.
fn failing(why: String) -> Script {
    Script { acts: vec![Act::Refuse(why)], ..Script::default() }
}

/// Runs a script to its end, whoever listens.
async fn run(world: World, id: String, script: Script, hitl: bool, stop: CancellationToken) {
    at(&world, &id, |task, now| task.push(now, What::Working));
    for act in script.acts {
        if let Act::Wait(time) = act {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(time) => {}
            }
        } else {
            at(&world, &id, |task, now| task.act(now, act, hitl));
        }
    }
    at(&world, &id, |task, now| task.push(now, What::Completed));
}

fn at(world: &World, id: &str, write: impl FnOnce(&mut Task, Timestamp)) {
    let now = world.inner.clock.now();
    if let Some(task) = world.inner.agent.desk().tasks.get_mut(id) {
        write(task, now);
    }
}

fn snapshot(
    world: &World,
    dialect: Dialect,
    id: &str,
    until: usize,
    history: Option<usize>,
) -> Option<Value> {
    world.inner.agent.desk().tasks.get(id).map(|task| dialect.task(task, until, history))
}

/// A send's answer: 1.0 says which kind of thing it is.
fn wrapped(dialect: Dialect, task: Value) -> Value {
    if dialect == Dialect::New { json!({ "task": task }) } else { task }
}

fn reply(id: &Value, result: &Value) -> Response {
    axum::Json(json!({ "id": id, "jsonrpc": "2.0", "result": result })).into_response()
}

/// 0.3 puts the error of a stream into a stream, 1.0 does not.
fn refuse(dialect: Dialect, id: &Value, refusal: &Refusal, streams: bool) -> Response {
    let mut error = json!({ "code": refusal.code, "message": refusal.message });
    if let (Dialect::New, Some(reason), Value::Object(error)) =
        (dialect, refusal.reason, &mut error)
    {
        let info = json!([{
            "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason,
            "domain": "a2a-protocol.org", "metadata": {},
        }]);
        error.insert("data".to_owned(), info);
    }
    let body = json!({ "error": error, "id": id, "jsonrpc": "2.0" });
    match dialect {
        // An unknown method is refused before there is a stream.
        Dialect::Old(_) if streams && refusal.code != -32601 => stream::once(&body),
        _ => (StatusCode::OK, axum::Json(body)).into_response(),
    }
}

/// The files of a message by name, with their media type.
fn files_of(message: &Value) -> Vec<String> {
    let parts = message.get("parts").and_then(Value::as_array).into_iter().flatten();
    parts
        .filter_map(|part| {
            let file = part.get("file").unwrap_or(part);
            let text = |names: [&str; 2]| {
                names.iter().find_map(|name| file.get(*name)).and_then(Value::as_str)
            };
            text(["bytes", "raw"]).or_else(|| text(["uri", "url"]))?;
            let name = text(["name", "filename"]).unwrap_or("a file");
            Some(format!("{name} ({})", text(["mimeType", "mediaType"]).unwrap_or("?")))
        })
        .collect()
}
