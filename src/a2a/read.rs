//! The one reader: events and tasks of either dialect in, one picture of the task out.

use std::collections::HashMap;

use serde_json::Value;

use super::part::{self, Attachment};
use super::pause::Pause;
use super::turn::{Answer, File, Link, Outcome, State, ToolState, Update};

/// Bounds on what an agent can make us keep.
const TEXT_LIMIT: usize = 1024 * 1024;
const FILES_LIMIT: usize = 20 * 1024 * 1024;
const FILES: usize = 50;
const ARTIFACTS: usize = 500;
const TOOLS: usize = 500;
const MESSAGE_LIMIT: usize = 2000;

/// What an event means for the run.
#[derive(Debug, PartialEq)]
pub(super) enum Heard {
    /// The task goes on.
    Working,
    /// It stopped.
    Stopped(State),
    /// The agent says that nothing more will come, but not how the task stands.
    Closing,
    /// Not an event of A2A.
    Nothing,
}

/// One step of the agent, or a file it made.
#[derive(Debug, Default)]
struct Artifact {
    id: String,
    text: String,
    files: Vec<File>,
    links: Vec<Link>,
    /// Every piece was heard since the last gap.
    streamed: bool,
}

/// Where the text stands that a person should see now.
#[derive(Debug, Default)]
enum Shown {
    #[default]
    Nothing,
    Step,
    Artifact(String),
}

/// Everything known about a task.
#[derive(Debug, Default)]
pub(super) struct Reader {
    pub(super) task_id: Option<String>,
    context_id: Option<String>,
    artifacts: Vec<Artifact>,
    /// Text in messages: up to kagent 0.10 the steps are there, and the artifact only repeats the last one.
    step: String,
    /// Whether `step` is being put together from deltas.
    growing: bool,
    /// Which of the two was said last.
    shown: Shown,
    /// Whether that changed since [`Reader::news`] was asked.
    changed: bool,
    /// The text of a message that came with the end.
    last_word: String,
    files: Vec<File>,
    links: Vec<Link>,
    tools: HashMap<String, ToolState>,
    cut: bool,
    /// See [`Reader::keep_streamed`].
    keeps: bool,
    /// Deltas were missed: a text is only believed when it comes whole.
    deaf: bool,
}

impl Reader {
    /// Deltas may have been missed from here on.
    pub(super) fn miss(&mut self) {
        self.deaf = true;
        self.growing = false;
        self.artifacts.iter_mut().for_each(|artifact| artifact.streamed = false);
    }

    /// From here on what was put together from pieces is believed more than the task: the SDK's 0.3 server stores each
    /// piece twice once somebody listens again.
    pub(super) fn keep_streamed(&mut self) {
        self.keeps = true;
    }

    /// The text of the answer so far.
    pub(super) fn showing(&self) -> &str {
        match &self.shown {
            Shown::Nothing => "",
            Shown::Step => &self.step,
            Shown::Artifact(id) => {
                let shown = self.artifacts.iter().rev().find(|artifact| artifact.id == *id);
                shown.map_or("", |artifact| &artifact.text)
            }
        }
    }

    /// Whether the text changed since the last time this was asked.
    pub(super) fn news(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Reads a `result`: an event of a stream, or the answer to a call. Tools are told to `updates`.
    pub(super) fn read(&mut self, result: &Value, updates: &mut Vec<Update>) -> Heard {
        match kind(result) {
            Some((Kind::Task, task)) => self.task(task, updates),
            Some((Kind::Status, event)) => self.status_event(event, updates),
            Some((Kind::Artifact, event)) => {
                self.ids(event, "taskId");
                self.artifact_event(event, updates);
                Heard::Working
            }
            Some((Kind::Message, message)) => {
                // It may name a task that was never made.
                self.ids(message, "");
                if is_users(message) {
                    return Heard::Working;
                }
                self.last_word = part::text(part::list(message));
                self.attach(part::list(message));
                Heard::Stopped(State::Completed)
            }
            None => Heard::Nothing,
        }
    }

    /// Only notes whose task it is: the first event of a stream that goes on with a paused task may show it as it was.
    pub(super) fn note(&mut self, result: &Value) {
        if let Some((Kind::Task, task)) = kind(result) {
            self.ids(task, "id");
        }
    }

    fn ids(&mut self, event: &Value, task: &str) {
        let word = |key: &str| event.get(key).and_then(Value::as_str).filter(|id| !id.is_empty());
        if self.task_id.is_none() {
            self.task_id = word(task).map(ToOwned::to_owned);
        }
        if self.context_id.is_none() {
            self.context_id = word("contextId").map(ToOwned::to_owned);
        }
    }

    fn task(&mut self, task: &Value, updates: &mut Vec<Update>) -> Heard {
        self.ids(task, "id");
        let whole = part::list_of(task, "artifacts");
        if !whole.is_empty() {
            let (changed, shown) = (self.changed, self.showing().to_owned());
            let mut before = std::mem::take(&mut self.artifacts);
            before.retain(|artifact| self.keeps && artifact.streamed);
            for artifact in whole {
                let id = artifact.get("artifactId").and_then(Value::as_str).unwrap_or_default();
                match before.iter().position(|kept| kept.id == id) {
                    Some(at) => self.artifacts.push(before.swap_remove(at)),
                    None => self.artifact(artifact, false, updates),
                }
            }
            // A task that is asked again and again is no news by itself.
            self.changed = changed || self.showing() != shown;
        }
        let heard = self.status(task, updates);
        if matches!(heard, Heard::Stopped(State::Completed)) && self.nothing_said() {
            let said = part::list_of(task, "history").iter().rev();
            let mut said = said.filter(|message| !is_users(message));
            let said = said.find_map(|m| Some(part::text(part::list(m))).filter(|t| !t.is_empty()));
            self.last_word = said.unwrap_or_default();
        }
        heard
    }

    fn nothing_said(&self) -> bool {
        self.step.is_empty()
            && self.last_word.is_empty()
            && self.artifacts.iter().all(|artifact| artifact.text.is_empty())
    }

    fn status_event(&mut self, event: &Value, updates: &mut Vec<Update>) -> Heard {
        self.ids(event, "taskId");
        let heard = self.status(event, updates);
        let last = event.get("final").and_then(Value::as_bool).unwrap_or(false);
        if heard == Heard::Working && last { Heard::Closing } else { heard }
    }

    /// A task or a status event: both have `status`.
    fn status(&mut self, holder: &Value, updates: &mut Vec<Update>) -> Heard {
        let status = holder.get("status").unwrap_or(&Value::Null);
        let none = Value::Null;
        // The first event of 0.x echoes the user's own words.
        let message = status.get("message").filter(|message| !is_users(message)).unwrap_or(&none);
        let parts = part::list(message);
        let text = || bounded(&part::text(parts), MESSAGE_LIMIT);
        let state = match state(status) {
            Phase::Working => {
                self.tools(parts, updates);
                if !has_error(message) && !has_error(holder) {
                    self.say(holder, message);
                    self.attach(parts);
                }
                return Heard::Working;
            }
            Phase::Completed => {
                self.last_word = part::text(parts);
                self.attach(parts);
                State::Completed
            }
            Phase::Failed => State::Failed { message: text() },
            Phase::Canceled => State::Canceled,
            Phase::Rejected => State::Rejected { message: text() },
            Phase::InputRequired => State::InputRequired(Pause::read(message)),
            Phase::AuthRequired => State::AuthRequired { message: text() },
        };
        Heard::Stopped(state)
    }

    /// Text in a message of a task at work.
    fn say(&mut self, event: &Value, message: &Value) {
        let text = part::text(part::list(message));
        if text.is_empty() {
            return;
        }
        if is_partial(message) || is_partial(event) {
            if self.deaf {
                return;
            }
            if !self.growing {
                self.step.clear();
                self.growing = true;
            }
            self.cut |= append(&mut self.step, &text);
            self.changed = true;
        } else {
            self.growing = false;
            // From here on the deltas are those of the next step.
            self.deaf = false;
            self.changed |= self.showing() != text;
            self.step.clear();
            self.cut |= append(&mut self.step, &text);
        }
        self.shown = Shown::Step;
    }

    fn artifact_event(&mut self, event: &Value, updates: &mut Vec<Update>) {
        let append = event.get("append").and_then(Value::as_bool).unwrap_or(false);
        if let Some(artifact) = event.get("artifact") {
            self.artifact(artifact, append, updates);
        }
    }

    fn artifact(&mut self, artifact: &Value, add: bool, updates: &mut Vec<Update>) {
        let parts = part::list(artifact);
        self.tools(parts, updates);
        let id = artifact.get("artifactId").and_then(Value::as_str).unwrap_or_default();
        let text = part::text(parts);
        if !text.is_empty() {
            self.changed |= add || self.showing() != text;
            self.shown = Shown::Artifact(id.to_owned());
        }
        let known = self.artifacts.iter().position(|known| known.id == id);
        let mut kept = match known {
            Some(at) => self.artifacts.remove(at),
            None => Artifact { id: id.to_owned(), ..Artifact::default() },
        };
        if add {
            kept.streamed = true;
        } else {
            kept = Artifact { id: kept.id, ..Artifact::default() };
        }
        self.cut |= append(&mut kept.text, &text);
        keep(parts, &mut kept.files, &mut kept.links);
        let at = known.unwrap_or(self.artifacts.len());
        self.artifacts.insert(at, kept);
        if self.artifacts.len() > ARTIFACTS {
            self.artifacts.remove(0);
        }
    }

    fn attach(&mut self, parts: &[Value]) {
        keep(parts, &mut self.files, &mut self.links);
    }

    fn tools(&mut self, parts: &[Value], updates: &mut Vec<Update>) {
        for (id, name, state) in parts.iter().filter_map(part::tool) {
            let known = self.tools.get(id);
            if known == Some(&ToolState::Done) || known == Some(&state) {
                continue;
            }
            if known.is_none() && self.tools.len() >= TOOLS {
                continue;
            }
            let (id, name) = (bounded(id, 200), bounded(name, 200));
            self.tools.insert(id.clone(), state);
            updates.push(Update::Tool { id, name, state });
        }
    }

    /// The answer as it stands: the last artifact that has text, then what was said in messages.
    pub(super) fn answer(&self) -> Answer {
        let step = self.artifacts.iter().rev().map(|artifact| artifact.text.as_str());
        let mut texts = step.chain([self.last_word.as_str(), self.step.as_str()]);
        let text = texts.find(|text| !text.is_empty()).unwrap_or_default();
        let mut answer = Answer { cut: self.cut, ..Answer::default() };
        answer.cut |= append(&mut answer.text, text);
        let mut room = FILES_LIMIT;
        let made = self.artifacts.iter().flat_map(|artifact| &artifact.files);
        for file in made.chain(&self.files).take(FILES) {
            let Some(left) = room.checked_sub(file.bytes.len()) else { continue };
            if !answer.files.contains(file) {
                room = left;
                answer.files.push(file.clone());
            }
        }
        let links = self.artifacts.iter().flat_map(|artifact| &artifact.links);
        for link in links.chain(&self.links).take(FILES) {
            if !answer.links.contains(link) {
                answer.links.push(link.clone());
            }
        }
        answer
    }

    /// The end.
    pub(super) fn outcome(&self, state: State) -> Outcome {
        Outcome {
            state,
            answer: self.answer(),
            task_id: self.task_id.clone(),
            context_id: self.context_id.clone(),
        }
    }
}

fn keep(parts: &[Value], files: &mut Vec<File>, links: &mut Vec<Link>) {
    for attachment in parts.iter().filter_map(part::attachment) {
        match attachment {
            Attachment::File(file) => {
                let held: usize = files.iter().map(|file| file.bytes.len()).sum();
                let fits = held.saturating_add(file.bytes.len()) <= FILES_LIMIT;
                if fits && files.len() < FILES && !files.contains(&file) {
                    files.push(file);
                }
            }
            Attachment::Link(mut link) => {
                link.url = bounded(&link.url, MESSAGE_LIMIT);
                if links.len() < FILES && !links.contains(&link) {
                    links.push(link);
                }
            }
        }
    }
}

enum Kind {
    Task,
    Message,
    Status,
    Artifact,
}

/// What a `result` is: 0.x says so in `kind`, 1.0 wraps it, and answers `GetTask` with a bare task.
fn kind(result: &Value) -> Option<(Kind, &Value)> {
    if let Some(kind) = result.get("kind").and_then(Value::as_str) {
        let kind = match kind {
            "task" => Kind::Task,
            "message" => Kind::Message,
            "status-update" => Kind::Status,
            "artifact-update" => Kind::Artifact,
            _ => return None,
        };
        return Some((kind, result));
    }
    let wrapped = |key: &str| result.get(key).filter(|inner| inner.is_object());
    if let Some(task) = wrapped("task") {
        Some((Kind::Task, task))
    } else if let Some(message) = wrapped("message") {
        Some((Kind::Message, message))
    } else if let Some(event) = wrapped("statusUpdate") {
        Some((Kind::Status, event))
    } else if let Some(event) = wrapped("artifactUpdate") {
        Some((Kind::Artifact, event))
    } else if wrapped("artifact").is_some() {
        Some((Kind::Artifact, result))
    } else if wrapped("status").is_some() {
        let kind = if result.get("id").is_some() { Kind::Task } else { Kind::Status };
        Some((kind, result))
    } else if result.get("messageId").is_some() {
        Some((Kind::Message, result))
    } else {
        None
    }
}

enum Phase {
    Working,
    Completed,
    Failed,
    Canceled,
    Rejected,
    InputRequired,
    AuthRequired,
}

/// `input-required` or `TASK_STATE_INPUT_REQUIRED`. A state that is not known is one in which something still happens.
fn state(status: &Value) -> Phase {
    let text = status.get("state").and_then(Value::as_str).unwrap_or_default();
    let text = text.to_ascii_lowercase().replace('_', "-");
    match text.strip_prefix("task-state-").unwrap_or(&text) {
        "completed" => Phase::Completed,
        "failed" => Phase::Failed,
        "canceled" | "cancelled" => Phase::Canceled,
        "rejected" => Phase::Rejected,
        "input-required" => Phase::InputRequired,
        "auth-required" => Phase::AuthRequired,
        _ => Phase::Working,
    }
}

fn is_users(message: &Value) -> bool {
    matches!(message.get("role").and_then(Value::as_str), Some("user" | "ROLE_USER"))
}

/// kagent 0.10 repeats a model's error as if it were an answer.
fn has_error(holder: &Value) -> bool {
    let metadata = holder.get("metadata");
    let code = |key| metadata.and_then(|m| m.get(key)).is_some_and(|code| !code.is_null());
    code("kagent_error_code") || code("adk_error_code")
}

fn is_partial(holder: &Value) -> bool {
    let metadata = holder.get("metadata");
    let yes = |key| metadata.and_then(|m| m.get(key)).is_some_and(|flag| flag == true);
    yes("kagent_adk_partial") || yes("adk_partial")
}

/// Appends what there is room for; whether something was left out.
fn append(text: &mut String, more: &str) -> bool {
    let room = TEXT_LIMIT.saturating_sub(text.len());
    let end = more.floor_char_boundary(room);
    text.push_str(more.get(..end).unwrap_or_default());
    end < more.len()
}

fn bounded(text: &str, limit: usize) -> String {
    text.get(..text.floor_char_boundary(limit)).unwrap_or_default().to_owned()
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
