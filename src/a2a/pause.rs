//! A task that waits for a person: what it asks, and the decision that answers it.
//!
//! All of this is stored while the person thinks, so it outlives the process and the dialect of the connection.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::dialect::HITL;
use super::part;

/// The call by which kagent up to 0.10 asks for permission, and the tool by which it asks questions.
pub(super) const CONFIRMATION: &str = "adk_request_confirmation";
pub(super) const ASK_USER: &str = "ask_user";

/// What a task waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pause {
    /// Permission to run tools. Plain text must not be sent to such a task: it would drop or break the pause.
    Approval(Approval),
    /// Answers to questions. Plain text must not be sent to it either.
    Questions(Questions),
    /// A reply in plain words, sent to the same task.
    Text(String),
}

/// Which of the two wire shapes a pause has. Found in the message, whatever the dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// `adk_request_confirmation` data parts: kagent up to 0.10.
    Adk,
    /// The message extension `https://kagent.dev/extensions/hitl/v1`: kagent 1.0.
    Hitl,
}

/// Tools that wait for permission.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// What the agent says about it.
    pub hint: Option<String>,
    /// The sub-agent that asks, if it is one.
    pub subagent: Option<String>,
    /// The tools, at least one.
    pub tools: Vec<ToolCall>,
    /// How the decision has to be written.
    pub shape: Shape,
}

/// One call of a tool that waits for permission.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The ID a decision has to name.
    pub id: String,
    /// The tool.
    pub name: String,
    /// Its arguments, as the agent gave them: untrusted, of any size.
    pub args: Value,
}

/// Questions to the person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Questions {
    /// The ID an answer has to name.
    pub id: String,
    /// The sub-agent that asks, if it is one.
    pub subagent: Option<String>,
    /// The questions, at least one.
    pub questions: Vec<Question>,
    /// How the answers have to be written.
    pub shape: Shape,
}

/// One question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// The question.
    pub text: String,
    /// What can be chosen; empty where only free text will do. Free text is an answer to any question.
    pub choices: Vec<String>,
    /// Whether more than one may be chosen.
    pub multiple: bool,
}

/// What a person decided about one tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It may run.
    Approve,
    /// It must not.
    Reject {
        /// Why, for the agent.
        reason: Option<String>,
    },
}

/// The answer to a pause. Only [`Approval::decide`] and [`Questions::answer`] make one, so that none is incomplete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    pub(super) shape: Shape,
    pub(super) label: String,
    pub(super) answer: DecisionKind,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum DecisionKind {
    Tools(Vec<(String, Verdict)>),
    Answers { id: String, answers: Vec<Vec<String>> },
}

impl Approval {
    /// A decision about every tool: kagent 0.10 runs a tool that a decision leaves out.
    ///
    /// `label` is the line of text that goes with it, such as `1 approved, 1 rejected by Ann`.
    #[must_use]
    pub fn decide(
        &self,
        label: impl Into<String>,
        mut verdict: impl FnMut(&ToolCall) -> Verdict,
    ) -> Decision {
        let verdicts = self.tools.iter().map(|tool| (tool.id.clone(), verdict(tool))).collect();
        Decision { shape: self.shape, label: label.into(), answer: DecisionKind::Tools(verdicts) }
    }

    /// No to every tool.
    #[must_use]
    pub fn reject_all(&self, label: impl Into<String>, reason: Option<&str>) -> Decision {
        self.decide(label, |_| Verdict::Reject { reason: reason.map(ToOwned::to_owned) })
    }
}

impl Questions {
    /// Answers to every question, in their order. A question that `answer` has nothing for gets an empty text.
    #[must_use]
    pub fn answer(
        &self,
        label: impl Into<String>,
        mut answer: impl FnMut(usize, &Question) -> Vec<String>,
    ) -> Decision {
        let answers = self.questions.iter().enumerate().map(|(at, question)| answer(at, question));
        let answers = answers.collect();
        Decision {
            shape: self.shape,
            label: label.into(),
            answer: DecisionKind::Answers { id: self.id.clone(), answers },
        }
    }
}

impl Pause {
    /// What a message asks of a person. The shape is found in the message, whatever the dialect.
    pub(super) fn read(message: &Value) -> Self {
        hitl(message)
            .or_else(|| adk(message))
            .unwrap_or_else(|| Self::Text(part::text(part::list(message))))
    }
}

/// `metadata["https://kagent.dev/extensions/hitl/v1"]`.
fn hitl(message: &Value) -> Option<Pause> {
    let payload = message.get("metadata")?.get(HITL)?;
    // Where a sub-agent asks, only its own IDs count.
    let nested = payload.get("nested").filter(|nested| nested.is_object());
    let subagent = nested.and_then(|nested| word(nested, "subagent_name"));
    let tools = part::list_of(nested.unwrap_or(payload), "tools");
    match payload.get("type")?.as_str()? {
        "tool_approval_request" => {
            let tools: Vec<_> = tools.iter().filter_map(tool).collect();
            let hint = word(payload, "hint");
            approval(Approval { hint, subagent, tools, shape: Shape::Hitl })
        }
        "ask_user_request" => {
            let id = match nested {
                Some(_) => word(tools.first()?, "id")?,
                None => word(payload, "id")?,
            };
            questions(Questions { id, subagent, questions: asked(payload), shape: Shape::Hitl })
        }
        _ => None,
    }
}

/// Data parts that call `adk_request_confirmation`.
fn adk(message: &Value) -> Option<Pause> {
    let (mut tools, mut hints, mut subagent) = (Vec::new(), Vec::new(), None);
    let mut open = None;
    let requests = part::list(message).iter().filter_map(|part| part.get("data"));
    for request in requests.filter(|data| word(data, "name").as_deref() == Some(CONFIRMATION)) {
        let Some(args) = request.get("args") else { continue };
        let confirmation = args.get("toolConfirmation").unwrap_or(&Value::Null);
        hints.extend(word(confirmation, "hint"));
        let payload = confirmation.get("payload").unwrap_or(&Value::Null);
        let nested = part::list_of(payload, "hitl_parts");
        if !nested.is_empty() && subagent.is_none() {
            subagent = word(payload, "subagent_name");
        }
        let inner = nested.iter().map(|part| part.get("args").unwrap_or(part));
        let outer = nested.is_empty().then_some(args);
        for holder in inner.chain(outer) {
            let Some(call) = holder.get("originalFunctionCall") else { continue };
            let Some(call_read) = tool(call) else { continue };
            if call_read.name == ASK_USER {
                let asked = asked(&call_read.args);
                open = open.or_else(|| Some((call_read.id.clone(), asked)));
            }
            tools.push(call_read);
        }
    }
    match open {
        // Questions alone. Beside tools, a question is one more thing that has to be allowed.
        Some((id, asked)) if tools.iter().all(|tool| tool.name == ASK_USER) => {
            questions(Questions { id, subagent, questions: asked, shape: Shape::Adk })
        }
        _ => {
            let hint = (!hints.is_empty()).then(|| hints.join("\n"));
            approval(Approval { hint, subagent, tools, shape: Shape::Adk })
        }
    }
}

fn approval(approval: Approval) -> Option<Pause> {
    (!approval.tools.is_empty()).then_some(Pause::Approval(approval))
}

fn questions(questions: Questions) -> Option<Pause> {
    (!questions.questions.is_empty()).then_some(Pause::Questions(questions))
}

fn tool(call: &Value) -> Option<ToolCall> {
    let args = call.get("args").cloned().unwrap_or(Value::Null);
    Some(ToolCall { id: word(call, "id")?, name: word(call, "name").unwrap_or_default(), args })
}

fn asked(holder: &Value) -> Vec<Question> {
    let asked = part::list_of(holder, "questions").iter();
    asked
        .map(|question| Question {
            text: word(question, "question").unwrap_or_default(),
            choices: part::list_of(question, "choices")
                .iter()
                .filter_map(|choice| Some(choice.as_str()?.to_owned()))
                .collect(),
            multiple: question.get("multiple").and_then(Value::as_bool).unwrap_or(false),
        })
        .collect()
}

fn word(object: &Value, key: &str) -> Option<String> {
    let text = object.get(key)?.as_str()?;
    (!text.is_empty()).then(|| text.to_owned())
}
