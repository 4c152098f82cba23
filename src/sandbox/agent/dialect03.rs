//! A task in the words of A2A 0.3, as kagent's runtimes up to 0.10 say them.

use serde_json::{Map, Value, json};

use super::super::moment::iso;
use super::script::{Call, Part, Pause};
use super::task::{Entry, Task, What};

/// How the keys of metadata begin: the Python runtime's and the Go runtime's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prefix(pub &'static str);

const NAME: &str = "sandbox_agent";

/// The events that tell the entry at `place`.
pub(super) fn events(task: &Task, place: usize, prefix: Prefix) -> Vec<Value> {
    let Some(entry) = task.entries.get(place) else { return Vec::new() };
    let teller = Teller { task, place, entry, prefix };
    match &entry.what {
        What::Asked(message) if place == 0 => {
            vec![teller.status("submitted", Some(teller.asked(message)), None, false)]
        }
        What::Asked(_) | What::Broke | What::StillWaiting => Vec::new(),
        What::Working => vec![teller.status("working", None, Some(teller.origin()), false)],
        What::Token { text, .. } => {
            let metadata = teller.metadata(json!(true), false);
            let parts = vec![json!({ "kind": "text", "text": text })];
            let message = teller.said(parts, &metadata);
            vec![teller.status("working", Some(message), Some(metadata), false)]
        }
        What::Said { parts, streamed, .. } => {
            let partial = if *streamed { json!(false) } else { Value::Null };
            let model = !parts.iter().any(|part| matches!(part, Part::Response { .. }));
            let metadata = teller.metadata(partial, model);
            let parts = parts.iter().map(|part| teller.part(part)).collect();
            let message = teller.said(parts, &metadata);
            vec![teller.status("working", Some(message), Some(metadata), false)]
        }
        What::Paused { pause, .. } => {
            let metadata = teller.metadata(Value::Null, false);
            let parts = teller.confirmations(pause);
            let message = teller.said(parts, &metadata);
            vec![
                teller.status("working", Some(message.clone()), Some(metadata), false),
                teller.status("input-required", Some(message), Some(teller.ending(true)), true),
            ]
        }
        What::Failed { why, model } => {
            let error = teller.key("error_code");
            let message = json!({
                "kind": "message", "messageId": teller.id("message"), "role": "agent",
                "metadata": { error.clone(): "API_ERROR" },
                "parts": [{ "kind": "text", "text": why }],
            });
            let mut metadata = teller.metadata(Value::Null, false);
            metadata.insert(error, json!("API_ERROR"));
            let told = teller.status("working", Some(message.clone()), Some(metadata), false);
            let end = teller.status("failed", Some(message), Some(teller.ending(false)), true);
            if *model { vec![told, end] } else { vec![end] }
        }
        What::Completed => {
            let parts: Vec<Value> =
                task.answer(place).iter().map(|part| teller.part(part)).collect();
            let artifact = json!({
                "kind": "artifact-update", "taskId": task.id, "contextId": task.context,
                "lastChunk": true,
                "artifact": { "artifactId": teller.id("artifact"), "parts": parts },
            });
            vec![artifact, teller.status("completed", None, Some(teller.ending(true)), true)]
        }
        What::Canceled => vec![teller.status("canceled", None, Some(teller.ending(false)), true)],
    }
}

/// The task as it stood after `until` entries, with the last `history` messages.
pub(super) fn task(task: &Task, until: usize, history: Option<usize>, prefix: Prefix) -> Value {
    let mut messages = Vec::new();
    let mut status = json!({});
    let mut metadata = Map::new();
    let mut artifacts = Vec::new();
    for (place, entry) in task.entries.iter().enumerate().take(until) {
        // What stood in the status moves into the history when the next one comes.
        let mut retire = |status: &mut Value| {
            let old = status.as_object_mut().and_then(|status| status.remove("message"));
            messages.extend(old);
        };
        match &entry.what {
            What::Token { .. } => continue,
            What::Asked(message) => {
                let teller = Teller { task, place, entry, prefix };
                retire(&mut status);
                messages.push(teller.asked(message));
            }
            _ => {}
        }
        for event in events(task, place, prefix) {
            if let Some(artifact) = event.get("artifact") {
                artifacts.push(artifact.clone());
                continue;
            }
            let mut retire = |status: &mut Value| {
                let old = status.as_object_mut().and_then(|status| status.remove("message"));
                messages.extend(old);
            };
            retire(&mut status);
            status = event.get("status").cloned().unwrap_or_default();
            if let Some(Value::Object(more)) = event.get("metadata").cloned() {
                metadata.extend(more);
            }
        }
    }
    if let Some(most) = history {
        messages = messages.split_off(messages.len().saturating_sub(most));
    }
    let mut told = json!({
        "kind": "task", "id": task.id, "contextId": task.context, "history": messages,
        "status": status,
    });
    if let Value::Object(told) = &mut told {
        if !metadata.is_empty() {
            told.insert("metadata".to_owned(), Value::Object(metadata));
        }
        if !artifacts.is_empty() {
            told.insert("artifacts".to_owned(), Value::Array(artifacts));
        }
    }
    told
}

struct Teller<'a> {
    task: &'a Task,
    place: usize,
    entry: &'a Entry,
    prefix: Prefix,
}

impl Teller<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}_{name}", self.prefix.0)
    }

    fn id(&self, thing: &str) -> String {
        self.task.id_of(&format!("{thing}/{}", self.place))
    }

    fn status(
        &self,
        state: &str,
        message: Option<Value>,
        metadata: Option<Map<String, Value>>,
        last: bool,
    ) -> Value {
        let mut status = json!({ "state": state, "timestamp": iso(self.entry.at) });
        let mut event = json!({
            "kind": "status-update", "taskId": self.task.id, "contextId": self.task.context,
            "final": last,
        });
        if let (Value::Object(status), Some(message)) = (&mut status, message) {
            status.insert("message".to_owned(), message);
        }
        if let Value::Object(event) = &mut event {
            event.insert("status".to_owned(), status);
            if let Some(metadata) = metadata {
                event.insert("metadata".to_owned(), Value::Object(metadata));
            }
        }
        event
    }

    /// The user's message, as the runtime repeats it.
    fn asked(&self, message: &Value) -> Value {
        let mut message = message.clone();
        if let Value::Object(message) = &mut message {
            message.insert("kind".to_owned(), json!("message"));
            message.insert("taskId".to_owned(), json!(self.task.id));
            message.insert("contextId".to_owned(), json!(self.task.context));
        }
        message
    }

    fn said(&self, parts: Vec<Value>, metadata: &Map<String, Value>) -> Value {
        json!({
            "kind": "message", "messageId": self.id("message"), "role": "agent",
            "taskId": self.task.id, "contextId": self.task.context, "metadata": metadata,
            "parts": parts,
        })
    }

    fn origin(&self) -> Map<String, Value> {
        Map::from_iter([
            (self.key("app_name"), json!(NAME)),
            (self.key("user_id"), json!(self.task.user)),
            (self.key("session_id"), json!(self.task.context)),
        ])
    }

    fn metadata(&self, partial: Value, usage: bool) -> Map<String, Value> {
        let mut metadata = self.origin();
        // kagent's own key in Python, ADK's in Go.
        let name = if self.prefix.0 == "kagent" { "kagent_adk_partial" } else { "adk_partial" };
        metadata.insert(name.to_owned(), partial);
        metadata.insert(self.key("author"), json!(NAME));
        metadata.extend(self.ending(usage));
        metadata
    }

    fn ending(&self, usage: bool) -> Map<String, Value> {
        let mut metadata = self.origin();
        let run = format!("e-{}", self.task.id_of("invocation"));
        metadata.insert(self.key("invocation_id"), json!(run));
        if usage {
            let tokens =
                json!({ "candidatesTokenCount": 5, "promptTokenCount": 10, "totalTokenCount": 15 });
            metadata.insert(self.key("usage_metadata"), tokens);
        }
        metadata
    }

    fn part(&self, part: &Part) -> Value {
        let data = |data: Value, kind: &str| json!({ "kind": "data", "data": data, "metadata": { self.key("type"): kind } });
        match part {
            Part::Text(text) => json!({ "kind": "text", "text": text }),
            Part::Call { id, name, args } => {
                data(json!({ "id": id, "name": name, "args": args }), "function_call")
            }
            Part::Response { id, name, response } => {
                data(json!({ "id": id, "name": name, "response": response }), "function_response")
            }
            Part::File { name, mime, base64 } => json!({
                "kind": "file", "file": { "name": name, "mimeType": mime, "bytes": base64 },
            }),
        }
    }

    /// One part per call of the agent's own that waits.
    fn confirmations(&self, pause: &Pause) -> Vec<Value> {
        let confirm = |call: &Call, hint: String, payload: Option<Value>| {
            let mut confirmation = json!({ "hint": hint, "confirmed": false });
            if let (Value::Object(confirmation), Some(payload)) = (&mut confirmation, payload) {
                confirmation.insert("payload".to_owned(), payload);
            }
            json!({
                "kind": "data",
                "data": {
                    "name": "adk_request_confirmation", "id": call.confirmation,
                    "args": { "originalFunctionCall": original(call), "toolConfirmation": confirmation },
                },
                "metadata": { self.key("type"): "function_call", self.key("is_long_running"): true },
            })
        };
        match pause {
            Pause::Tools(calls) => {
                calls.iter().map(|call| confirm(call, hint(&call.name), None)).collect()
            }
            Pause::Questions(call) => vec![confirm(call, asked(pause), None)],
            Pause::Nested { outer, tools, task, context } => {
                let inner: Vec<Value> = tools
                    .iter()
                    .map(|call| {
                        json!({
                            "name": "adk_request_confirmation", "id": call.confirmation,
                            "originalFunctionCall": original(call),
                        })
                    })
                    .collect();
                let payload = json!({
                    "task_id": task, "context_id": context, "subagent_name": outer.name,
                    "hitl_parts": inner,
                });
                vec![confirm(outer, nested_hint(&outer.name, tools), Some(payload))]
            }
        }
    }
}

fn original(call: &Call) -> Value {
    json!({ "id": call.id, "name": call.name, "args": call.args })
}

pub(super) fn hint(tool: &str) -> String {
    format!("Tool '{tool}' requires approval before execution.")
}

pub(super) fn nested_hint(agent: &str, tools: &[Call]) -> String {
    let names: Vec<&str> = tools.iter().map(|call| call.name.as_str()).collect();
    format!("Remote agent '{agent}' requires approval for tool(s): {}", names.join(", "))
}

/// The questions in one line.
pub(super) fn asked(pause: &Pause) -> String {
    let questions = pause.questions();
    let texts: Vec<&str> =
        questions.iter().filter_map(|q| q.get("question").and_then(Value::as_str)).collect();
    texts.join("; ")
}
