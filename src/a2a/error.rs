//! Why an agent could not be asked: enough to choose a sentence for a person, and a line for the log.

use crate::platform::http::TransportError;

/// An agent could not be asked, or did not answer as an agent does.
///
/// Neither `Display` nor `Debug` shows a URL or a token. What an agent wrote is in there, trimmed, for the log: it is a
/// stranger's text, and never for the chat.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No connection: nothing was sent, so asking again is safe.
    #[error("the agent cannot be reached: {0}")]
    Unreachable(&'static str),
    /// A 5xx or 429: something in front of the agent, or the agent, is not well.
    #[error("the agent is not available: HTTP {0}")]
    Unavailable(u16),
    /// HTTP 404: there is no agent at that URL.
    #[error("there is no such agent: HTTP 404")]
    NoSuchAgent,
    /// HTTP 401 or 403.
    #[error("the agent does not accept these credentials: HTTP {0}")]
    NotAllowed(u16),
    /// The bearer token's file cannot be read, or the token or URL cannot be put into a request. Nothing was sent.
    #[error("the request could not be made: {0}")]
    Setup(&'static str),
    /// There was no answer to a question about a task. Asking again is safe.
    #[error("the agent did not answer: {0}")]
    NoAnswer(&'static str),
    /// The message was written, no task's ID came back. It may run; it was not sent again.
    #[error("the message may have arrived, but no task came back: {0}")]
    MayHaveArrived(&'static str),
    /// The task is not known (any more): the agent restarted without memory, or it is another user's.
    #[error("the agent does not know this task")]
    UnknownTask,
    /// The pause was answered before, by someone else or elsewhere.
    #[error("the agent does not take this decision any more: {code} {message}")]
    AlreadyDecided {
        /// The JSON-RPC code.
        code: i64,
        /// What the agent wrote, trimmed.
        message: String,
    },
    /// A reply was sent to a task that is over.
    #[error("the task is over: {code} {message}")]
    TaskOver {
        /// The JSON-RPC code.
        code: i64,
        /// What the agent wrote, trimmed.
        message: String,
    },
    /// The agent speaks neither the dialect that was tried nor the other one. Nothing was done.
    #[error("the agent does not speak this version of A2A")]
    VersionMismatch,
    /// Another JSON-RPC error, or an HTTP status that is none of the above (then the code is the status).
    #[error("the agent refused: {code} {message}")]
    Refused {
        /// The JSON-RPC code or the HTTP status.
        code: i64,
        /// What the agent wrote, trimmed.
        message: String,
    },
    /// The answer is not A2A.
    #[error("the agent's answer is not understood: {0}")]
    Malformed(&'static str),
    /// The answer is larger than Herald reads.
    #[error("the agent's answer is too large")]
    TooLarge,
}

impl Error {
    /// The snake-case name, for traces: nothing that an agent wrote.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Unavailable(_) => "unavailable",
            Self::NoSuchAgent => "no_such_agent",
            Self::NotAllowed(_) => "not_allowed",
            Self::Setup(_) => "setup",
            Self::NoAnswer(_) => "no_answer",
            Self::MayHaveArrived(_) => "may_have_arrived",
            Self::UnknownTask => "unknown_task",
            Self::AlreadyDecided { .. } => "already_decided",
            Self::TaskOver { .. } => "task_over",
            Self::VersionMismatch => "version_mismatch",
            Self::Refused { .. } => "refused",
            Self::Malformed(_) => "malformed",
            Self::TooLarge => "too_large",
        }
    }

    /// Whether the message may have been received, so that only a person may decide to ask again.
    #[must_use]
    pub const fn may_have_arrived(&self) -> bool {
        match self {
            Self::MayHaveArrived(_) | Self::Malformed(_) | Self::TooLarge => true,
            // 429 and 503 mean that it was turned away.
            Self::Unavailable(status) => !matches!(*status, 429 | 503),
            _ => false,
        }
    }

    /// Whether another try a little later may well succeed.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Unreachable(_)
                | Self::Unavailable(_)
                | Self::NoAnswer(_)
                | Self::MayHaveArrived(_)
        )
    }
}

/// What an agent wrote, fit for a line in the log: short, on one line, and without addresses.
pub(super) fn trimmed(text: &str) -> String {
    let words = text.split_whitespace().take(100);
    let words = words.map(|word| if word.contains("://") { "<url>" } else { word });
    let line: String = words.collect::<Vec<_>>().join(" ");
    line.chars().filter(|c| !c.is_control()).take(300).collect()
}

impl From<TransportError> for Error {
    fn from(error: TransportError) -> Self {
        match error {
            TransportError::Unreachable(why) => Self::Unreachable(why),
            TransportError::Timeout => Self::NoAnswer("nothing came in time"),
            TransportError::ConnectionLost => Self::NoAnswer("the connection broke"),
            TransportError::Malformed => Self::Setup("its token or URL is not one"),
        }
    }
}
