//! A task in the words of A2A 1.0, as kagent's next runtime says them.

use serde_json::{Map, Value, json};

use super::super::moment::iso;
use super::decision::HITL;
use super::dialect03::{asked, hint, nested_hint};
use super::script::{Call, Part, Pause};
use super::task::{Entry, Task, What};

const ADK: &str = "https://google.github.io/adk-docs/a2a/a2a-extension/";
const USAGE: &str = "kagent.dev/a2a/usage";
const KIND: &str = "kagent.dev/a2a/part-type";

/// The events that tell the entry at `place`.
pub(super) fn events(task: &Task, place: usize) -> Vec<Value> {
    let Some(entry) = task.entries.get(place) else { return Vec::new() };
    let teller = Teller { task, place, entry };
    match &entry.what {
        What::Asked(_) => vec![json!({ "task": self::task(task, place + 1, None) })],
        What::Broke => Vec::new(),
        What::Working => vec![teller.status("WORKING", None, teller.origin())],
        What::Token { step, text, first } => {
            let parts = json!([{ "text": text }]);
            vec![teller.artifact(*step, parts, false, Some(*first))]
        }
        What::Said { step, parts, .. } => {
            let model = !parts.iter().any(|part| matches!(part, Part::Response { .. }));
            let parts = parts.iter().map(part).collect();
            vec![teller.artifact(*step, parts, model, None)]
        }
        What::Paused { pause, hitl } => {
            let responses = pause.called().iter().map(|call| {
                let (id, name) = (call.id.clone(), call.name.clone());
                part(&Part::Response { id, name, response: waiting(pause, call) })
            });
            // A step of its own, which no number of the script's has.
            let step = usize::MAX - place;
            vec![
                teller.empty(0),
                teller.artifact(step, responses.collect(), false, None),
                teller.status("INPUT_REQUIRED", Some(teller.question(pause, *hitl)), usage()),
            ]
        }
        What::StillWaiting => {
            let text = "It was not provided a function response for the function call.";
            vec![teller.status("INPUT_REQUIRED", Some(teller.says(text)), Map::new())]
        }
        What::Failed { why, model } => {
            let mut message = teller.says(why);
            if let (true, Value::Object(message)) = (*model, &mut message) {
                message.insert("metadata".to_owned(), json!({}));
            }
            let end = teller.status("FAILED", Some(message), Map::new());
            if *model { vec![teller.empty(0), teller.empty(1), end] } else { vec![end] }
        }
        What::Completed => {
            vec![teller.empty(0), teller.status("COMPLETED", None, usage())]
        }
        What::Canceled => vec![teller.status("CANCELED", None, Map::new())],
    }
}

/// The task as it stood after `until` entries, with the last `history` messages.
pub(super) fn task(task: &Task, until: usize, history: Option<usize>) -> Value {
    let mut messages = Vec::new();
    let mut status = json!({});
    let mut metadata = match task.entries.first() {
        Some(entry) => Teller { task, place: 0, entry }.origin(),
        None => Map::new(),
    };
    let mut artifacts: Vec<Value> = Vec::new();
    for (place, entry) in task.entries.iter().enumerate().take(until) {
        // What stood in the status moves into the history when the next one comes.
        let mut retire = |status: &mut Value| {
            let old = status.as_object_mut().and_then(|status| status.remove("message"));
            messages.extend(old);
        };
        match &entry.what {
            What::Token { .. } => continue,
            What::Asked(message) => {
                let teller = Teller { task, place, entry };
                retire(&mut status);
                messages.push(teller.asked(message));
                if place == 0 {
                    status = teller.state("SUBMITTED", None);
                }
                continue;
            }
            _ => {}
        }
        for event in events(task, place) {
            if let Some(artifact) = event.pointer("/artifactUpdate/artifact") {
                artifacts.push(artifact.clone());
            }
            let Some(update) = event.get("statusUpdate") else { continue };
            retire(&mut status);
            status = update.get("status").cloned().unwrap_or_default();
            if let Some(Value::Object(more)) = update.get("metadata").cloned() {
                metadata.extend(more);
            }
        }
    }
    if let Some(most) = history {
        messages = messages.split_off(messages.len().saturating_sub(most));
    }
    let mut told = json!({
        "id": task.id, "contextId": task.context, "status": status, "metadata": metadata,
    });
    if let Value::Object(told) = &mut told {
        // An empty list is left out.
        for (name, list) in [("history", messages), ("artifacts", artifacts)] {
            if !list.is_empty() {
                told.insert(name.to_owned(), Value::Array(list));
            }
        }
    }
    told
}

struct Teller<'a> {
    task: &'a Task,
    place: usize,
    entry: &'a Entry,
}

impl Teller<'_> {
    fn id(&self, thing: &str) -> String {
        self.task.id_of(&format!("{thing}/{}", self.place))
    }

    fn state(&self, state: &str, message: Option<Value>) -> Value {
        let time = iso(self.entry.at).replace("+00:00", "Z");
        let mut status = json!({ "state": format!("TASK_STATE_{state}"), "timestamp": time });
        if let (Value::Object(status), Some(message)) = (&mut status, message) {
            status.insert("message".to_owned(), message);
        }
        status
    }

    fn status(&self, state: &str, message: Option<Value>, more: Map<String, Value>) -> Value {
        let mut metadata = executor();
        metadata.extend(more);
        json!({ "statusUpdate": {
            "taskId": self.task.id, "contextId": self.task.context,
            "status": self.state(state, message), "metadata": metadata,
        }})
    }

    /// A sign of life without words, as ADK's executor sends them.
    fn empty(&self, which: usize) -> Value {
        let message = json!({
            "messageId": self.id(&format!("empty{which}")), "role": "ROLE_AGENT", "metadata": {},
        });
        self.status("WORKING", Some(message), Map::new())
    }

    /// `first`: of a token, whether it begins its artifact.
    fn artifact(&self, step: usize, parts: Value, model: bool, first: Option<bool>) -> Value {
        let metadata = if model { usage() } else { Map::new() };
        let mut update = json!({
            "taskId": self.task.id, "contextId": self.task.context,
            "artifact": {
                "artifactId": self.task.id_of(&format!("step/{step}")), "parts": parts,
                "metadata": metadata,
            },
            "metadata": executor(),
        });
        if let Value::Object(update) = &mut update {
            match first {
                None => drop(update.insert("lastChunk".to_owned(), json!(true))),
                Some(false) => drop(update.insert("append".to_owned(), json!(true))),
                Some(true) => {}
            }
        }
        json!({ "artifactUpdate": update })
    }

    fn asked(&self, message: &Value) -> Value {
        let mut message = message.clone();
        if let Value::Object(message) = &mut message {
            message.insert("taskId".to_owned(), json!(self.task.id));
            message.insert("contextId".to_owned(), json!(self.task.context));
        }
        message
    }

    fn says(&self, text: &str) -> Value {
        json!({
            "messageId": self.id("message"), "role": "ROLE_AGENT", "parts": [{ "text": text }],
        })
    }

    fn question(&self, pause: &Pause, hitl: bool) -> Value {
        let names = |calls: &[Call]| {
            let names: Vec<&str> = calls.iter().map(|call| call.name.as_str()).collect();
            names.join(", ")
        };
        let tools = |calls: &[Call]| -> Vec<Value> {
            calls
                .iter()
                .map(|call| {
                    json!({
                        "id": call.confirmation, "call_id": call.id, "name": call.name,
                        "args": floats(&call.args),
                    })
                })
                .collect()
        };
        let (text, payload) = match pause {
            Pause::Tools(calls) => {
                let hints: Vec<String> = calls.iter().map(|call| hint(&call.name)).collect();
                let text = format!("{} ({})", hints.join("; "), names(calls));
                let payload = json!({
                    "type": "tool_approval_request", "hint": text, "tools": tools(calls),
                });
                (text, payload)
            }
            Pause::Questions(call) => {
                let payload = json!({
                    "type": "ask_user_request", "id": call.confirmation,
                    "questions": pause.questions(),
                });
                (asked(pause), payload)
            }
            Pause::Nested { outer, tools: inner, task, context } => {
                let text = format!("{} ({})", nested_hint(&outer.name, inner), outer.name);
                let payload = json!({
                    "type": "tool_approval_request", "hint": text,
                    "tools": tools(std::slice::from_ref(outer)),
                    "nested": {
                        "subagent_name": outer.name, "task_id": task, "context_id": context,
                        "tools": tools(inner),
                    },
                });
                (text, payload)
            }
        };
        let mut message = self.asked(&self.says(&text));
        if let (true, Value::Object(message)) = (hitl, &mut message) {
            message.insert("extensions".to_owned(), json!([HITL]));
            message.insert("metadata".to_owned(), json!({ HITL: payload }));
        }
        message
    }

    fn origin(&self) -> Map<String, Value> {
        let mut metadata = executor();
        metadata.insert("adk_app_name".to_owned(), json!("sandbox_agent"));
        metadata.insert("adk_user_id".to_owned(), json!(self.task.user));
        metadata.insert("adk_session_id".to_owned(), json!(self.task.context));
        metadata
    }
}

/// What a tool that waits has answered so far.
fn waiting(pause: &Pause, call: &Call) -> Value {
    match pause {
        Pause::Tools(_) => json!({ "status": "confirmation_requested", "tool": call.name }),
        Pause::Questions(_) => json!({ "status": "pending", "questions": pause.questions() }),
        Pause::Nested { outer, context, .. } => json!({
            "status": "pending", "subagent": outer.name, "waiting_for": "subagent_approval",
            "subagent_session_id": context,
        }),
    }
}

fn executor() -> Map<String, Value> {
    Map::from_iter([(ADK.to_owned(), json!({ "adk_agent_executor_v2": true }))])
}

fn usage() -> Map<String, Value> {
    let tokens =
        json!({ "candidatesTokenCount": 5.0, "promptTokenCount": 10.0, "totalTokenCount": 15.0 });
    Map::from_iter([(USAGE.to_owned(), tokens)])
}

fn part(part: &Part) -> Value {
    match part {
        Part::Text(text) => json!({ "text": text }),
        Part::Call { id, name, args } => json!({
            "data": { "id": id, "name": name, "args": floats(args) },
            "metadata": { KIND: "function_call" },
        }),
        Part::Response { id, name, response } => json!({
            "data": { "id": id, "name": name, "response": floats(response) },
            "metadata": { KIND: "function_response" },
        }),
        Part::File { name, mime, base64 } => {
            json!({ "raw": base64, "filename": name, "mediaType": mime })
        }
    }
}

/// Protocol buffers know no whole numbers in free-form data: `3` comes back as `3.0`.
fn floats(value: &Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().map_or(Value::Null, |number| json!(number)),
        Value::Array(list) => list.iter().map(floats).collect(),
        Value::Object(object) => {
            object.iter().map(|(name, value)| (name.clone(), floats(value))).collect()
        }
        other => other.clone(),
    }
}
