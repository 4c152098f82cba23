//! The nouns of a turn: what is sent, what is heard on the way, and how it ends.

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value};

use super::error::Error;
use super::pause::{Decision, Pause};

/// On whose behalf a request is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The conversation's user ID. It must never change within one: another one loses the pause and the memory.
    pub user_id: Option<String>,
    /// A W3C trace context, for when no trace of ours is exported: else the request's own span takes its place.
    pub traceparent: Option<String>,
}

/// A message to an agent.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    /// Its ID, a UUID.
    pub message_id: String,
    /// The conversation, minted by the caller.
    pub context_id: String,
    /// The task it goes on with; `None` starts a new one.
    pub task_id: Option<String>,
    /// What it says.
    pub content: Content,
    /// Whatever else the agent should know, such as who speaks.
    pub metadata: Map<String, Value>,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Text and files.
    Parts(Vec<OutPart>),
    /// The answer to a pause. Needs the task's ID.
    Decision(Decision),
}

/// A piece of a message.
#[derive(Clone, PartialEq, Eq)]
pub enum OutPart {
    /// Text.
    Text(String),
    /// A file, by value.
    File(File),
}

/// A file with its bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Its media type, if it is known.
    pub mime: Option<String>,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// A file that stands elsewhere. It is shown, never fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Where it stands. A stranger's text.
    pub url: String,
}

/// What an agent answered. All of it is a stranger's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The text, at most 1 MB; empty when there is none.
    pub text: String,
    /// Whether the text was longer than that.
    pub cut: bool,
    /// Files, at most 20 MB in all.
    pub files: Vec<File>,
    /// Files that stand elsewhere.
    pub links: Vec<Link>,
}

/// What happens during a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// The task's ID is known. The first thing said, unless the agent answers without a task.
    Task {
        /// The ID, to be stored: it is what [`Client::resume`](super::Client::resume) needs.
        id: String,
    },
    /// The whole text of the answer so far. It may start anew with each of the agent's steps.
    Text(String),
    /// A tool, or a sub-agent.
    Tool {
        /// The call's ID.
        id: String,
        /// Its name.
        name: String,
        /// What it does.
        state: ToolState,
    },
    /// There has been no news for that long, or the connection is lost and the agent is asked now and then. No failure.
    Quiet {
        /// The time since the last news.
        since: Duration,
    },
    /// The end; nothing follows.
    Ended(Outcome),
}

/// What a tool does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolState {
    /// It was called.
    Running,
    /// It answered.
    Done,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// How it stands.
    pub state: State,
    /// The answer, or what there is of it.
    pub answer: Answer,
    /// The task; `None` where the agent answered without one.
    pub task_id: Option<String>,
    /// The conversation as the agent names it.
    pub context_id: Option<String>,
}

/// How a task stands when nothing more is to be heard of it for now.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// Done.
    Completed,
    /// It failed.
    Failed {
        /// What the agent says about it: raw, perhaps a model's error with internals. For the log.
        message: String,
    },
    /// It was cancelled.
    Canceled,
    /// The agent does not want to.
    Rejected {
        /// What the agent says about it.
        message: String,
    },
    /// It waits for a person.
    InputRequired(Pause),
    /// It waits for somebody to sign in somewhere.
    AuthRequired {
        /// What the agent says about it.
        message: String,
    },
    /// There was no news for so long that it is no longer watched. It may still run:
    /// [`Client::task`](super::Client::task) and [`Client::resume`](super::Client::resume) go on.
    StillRunning,
    /// The task can no longer be asked about: it is unknown now, or access was withdrawn.
    Lost(Error),
}

impl State {
    /// Whether the task is over for good.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        matches!(
            self,
            Self::Completed | Self::Failed { .. } | Self::Canceled | Self::Rejected { .. }
        )
    }
}

/// How a task stands now.
#[derive(Clone, Debug, PartialEq)]
pub enum Snapshot {
    /// The agent is at work.
    Working {
        /// What there is of the answer.
        answer: Answer,
    },
    /// It is over, or waits for a person.
    Stopped(Outcome),
}

impl Snapshot {
    /// What the task waits for, if it waits for a person.
    #[must_use]
    pub const fn pause(&self) -> Option<&Pause> {
        match self {
            Self::Stopped(Outcome { state: State::InputRequired(pause), .. }) => Some(pause),
            _ => None,
        }
    }
}

/// What came of a wish to cancel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// The agent stopped.
    Cancelled,
    /// It cannot be stopped (kagent 0.10 never can) and goes on.
    Refused {
        /// What the agent says about it, for the log.
        why: String,
    },
    /// It was over before.
    AlreadyOver,
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File")
            .field("name", &self.name)
            .field("mime", &self.mime)
            .field("bytes", &self.bytes.len())
            .finish()
    }
}

impl fmt::Debug for OutPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "Text({} bytes)", text.len()),
            Self::File(file) => f.debug_tuple("File").field(file).finish(),
        }
    }
}
