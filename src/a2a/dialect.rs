//! The two writers: what a request looks like in 0.3 and in 1.0.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::RequestBuilder;
use serde_json::{Map, Value, json};

use super::pause::{Decision, DecisionKind, Shape, Verdict};
use super::turn::{Content, OutPart, Outgoing};

/// kagent's extension for approvals and questions.
pub(super) const HITL: &str = "https://kagent.dev/extensions/hitl/v1";

/// A version of the protocol, as far as it differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    V0_3,
    V1_0,
}

/// What can be asked of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Send,
    Stream,
    Get,
    Cancel,
    Attach,
}

impl Dialect {
    pub(super) const fn other(self) -> Self {
        match self {
            Self::V0_3 => Self::V1_0,
            Self::V1_0 => Self::V0_3,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::V0_3 => "0.3",
            Self::V1_0 => "1.0",
        }
    }

    pub(super) const fn method(self, call: Call) -> &'static str {
        match (self, call) {
            (Self::V0_3, Call::Send) => "message/send",
            (Self::V0_3, Call::Stream) => "message/stream",
            (Self::V0_3, Call::Get) => "tasks/get",
            (Self::V0_3, Call::Cancel) => "tasks/cancel",
            (Self::V0_3, Call::Attach) => "tasks/resubscribe",
            (Self::V1_0, Call::Send) => "SendMessage",
            (Self::V1_0, Call::Stream) => "SendStreamingMessage",
            (Self::V1_0, Call::Get) => "GetTask",
            (Self::V1_0, Call::Cancel) => "CancelTask",
            (Self::V1_0, Call::Attach) => "SubscribeToTask",
        }
    }

    /// The headers that say what is spoken. Without the extension kagent 1.0 pauses with a text and nothing to decide.
    pub(super) fn headers(self, request: RequestBuilder) -> RequestBuilder {
        match self {
            Self::V0_3 => request,
            Self::V1_0 => request.header("A2A-Version", "1.0").header("A2A-Extensions", HITL),
        }
    }

    /// The parameters of [`Call::Send`] and [`Call::Stream`].
    pub(super) fn send(self, call: Call, message: &Outgoing) -> Value {
        let mut params = json!({ "message": self.message(message) });
        if call == Call::Send {
            // Both runtimes go on by themselves; the task is polled.
            let flag = match self {
                Self::V0_3 => json!({ "blocking": false, "historyLength": 1 }),
                Self::V1_0 => json!({ "returnImmediately": true, "historyLength": 1 }),
            };
            put(&mut params, "configuration", flag);
        }
        params
    }

    /// The parameters of the calls about a task.
    pub(super) fn task(call: Call, task_id: &str) -> Value {
        match call {
            // The Python runtimes take 0 for "all of it".
            Call::Get => json!({ "id": task_id, "historyLength": 1 }),
            _ => json!({ "id": task_id }),
        }
    }

    fn message(self, message: &Outgoing) -> Value {
        let mut metadata = message.metadata.clone();
        let mut extensions = false;
        let parts: Vec<Value> = match &message.content {
            Content::Parts(parts) => parts.iter().map(|part| self.part(part)).collect(),
            Content::Decision(decision) => {
                // Without a text part kagent 1.0 cannot hand a decision on to a sub-agent.
                let label = if decision.label.is_empty() { "decided" } else { &decision.label };
                let label = self.part(&OutPart::Text(label.to_owned()));
                let answer = answer(decision);
                match decision.shape {
                    Shape::Adk => vec![self.data(answer), label],
                    Shape::Hitl => {
                        metadata.insert(HITL.to_owned(), answer);
                        extensions = true;
                        vec![label]
                    }
                }
            }
        };
        let mut written = match self {
            Self::V0_3 => json!({ "kind": "message", "role": "user" }),
            Self::V1_0 => json!({ "role": "ROLE_USER" }),
        };
        put(&mut written, "messageId", message.message_id.as_str().into());
        put(&mut written, "contextId", message.context_id.as_str().into());
        put(&mut written, "parts", parts.into());
        if let Some(task_id) = &message.task_id {
            put(&mut written, "taskId", task_id.as_str().into());
        }
        if extensions {
            put(&mut written, "extensions", json!([HITL]));
        }
        if !metadata.is_empty() {
            put(&mut written, "metadata", metadata.into());
        }
        written
    }

    fn part(self, part: &OutPart) -> Value {
        match (self, part) {
            (Self::V0_3, OutPart::Text(text)) => json!({ "kind": "text", "text": text }),
            (Self::V1_0, OutPart::Text(text)) => json!({ "text": text }),
            (_, OutPart::File(file)) => {
                let bytes = BASE64.encode(&file.bytes);
                let (mut inner, name, mime) = match self {
                    Self::V0_3 => (json!({ "bytes": bytes }), "name", "mimeType"),
                    Self::V1_0 => (json!({ "raw": bytes }), "filename", "mediaType"),
                };
                if let Some(text) = &file.name {
                    put(&mut inner, name, text.as_str().into());
                }
                if let Some(text) = &file.mime {
                    put(&mut inner, mime, text.as_str().into());
                }
                match self {
                    Self::V0_3 => json!({ "kind": "file", "file": inner }),
                    Self::V1_0 => inner,
                }
            }
        }
    }

    fn data(self, data: Value) -> Value {
        match self {
            Self::V0_3 => json!({ "kind": "data", "data": data, "metadata": {} }),
            Self::V1_0 => json!({ "data": data, "metadata": {} }),
        }
    }
}

/// A decision in its shape.
fn answer(decision: &Decision) -> Value {
    let listed = |answers: &[Vec<String>]| -> Value {
        answers.iter().map(|answer| json!({ "answer": answer })).collect()
    };
    match (decision.shape, &decision.answer) {
        (Shape::Adk, DecisionKind::Tools(verdicts)) => {
            let mut decisions = Map::new();
            let mut reasons = Map::new();
            for (id, verdict) in verdicts {
                let word = match verdict {
                    Verdict::Approve => "approve",
                    Verdict::Reject { reason } => {
                        if let Some(reason) = reason {
                            reasons.insert(id.clone(), reason.as_str().into());
                        }
                        "reject"
                    }
                };
                decisions.insert(id.clone(), word.into());
            }
            let mut data = json!({ "decision_type": "batch", "decisions": decisions });
            if !reasons.is_empty() {
                put(&mut data, "rejection_reasons", reasons.into());
            }
            data
        }
        (Shape::Adk, DecisionKind::Answers { answers, .. }) => {
            json!({ "decision_type": "approve", "ask_user_answers": listed(answers) })
        }
        (Shape::Hitl, DecisionKind::Tools(verdicts)) => {
            let approvals: Value = verdicts
                .iter()
                .map(|(id, verdict)| match verdict {
                    Verdict::Approve => json!({ "id": id, "approved": true }),
                    Verdict::Reject { reason: None } => json!({ "id": id, "approved": false }),
                    Verdict::Reject { reason: Some(reason) } => {
                        json!({ "id": id, "approved": false, "rejection_reason": reason })
                    }
                })
                .collect();
            json!({ "type": "tool_approval_response", "approvals": approvals })
        }
        (Shape::Hitl, DecisionKind::Answers { id, answers }) => {
            json!({ "type": "ask_user_response", "id": id, "answers": listed(answers) })
        }
    }
}

fn put(object: &mut Value, key: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(key.to_owned(), value);
    }
}
