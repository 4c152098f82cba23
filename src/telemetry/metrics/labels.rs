//! The labels. Each has few values, all of them known beforehand or named in the configuration.

use std::fmt::{self, Debug, Write};
use std::hash::Hash;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};

use crate::model::{Doubt, PlatformKind, Reason, Scope};

/// What a family of metrics can be told apart by.
pub(super) trait Kind:
    EncodeLabelSet + Clone + Hash + Eq + Debug + Send + Sync + 'static
{
}

impl<L: EncodeLabelSet + Clone + Hash + Eq + Debug + Send + Sync + 'static> Kind for L {}

/// A closed list of words as a label.
macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $variant:ident = $word:literal),+ $(,)? })+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$of])* $variant,)+
        }

        impl $name {
            /// Every one of them.
            pub(super) const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The word.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), fmt::Error> {
                encoder.write_str(self.as_str())
            }
        }
    )+};
}

words! {
    /// Where policy refused.
    Gate {
        /// When it was submitted: nothing was stored.
        Submit = "submit",
        /// When the guard looked at it: nothing was stored.
        Guard = "guard",
        /// When there was too much: nothing was stored.
        Rate = "rate",
        /// When it was about to be sent: the rules had changed.
        Send = "send",
    }
    /// What was neutralised, or told about.
    Redaction {
        /// A mention.
        Mention = "mention",
        /// Characters that nobody sees.
        Characters = "characters",
        /// A link that leads elsewhere than it says.
        Link = "link",
        /// What looks like a secret.
        Secret = "secret",
    }
    /// What a process holds while it works on it.
    Lease {
        /// One channel's queue.
        Lane = "lane",
        /// One conversation.
        Conversation = "conversation",
        /// The right to listen to a platform.
        Listener = "listener",
    }
    /// What became of an event.
    Taking {
        /// It is stored.
        Stored = "stored",
        /// A stranger's, one too many, or not for the bot.
        Refused = "refused",
        /// It could not be stored: the platform has to tell it again.
        Lost = "lost",
    }
    /// What the store is asked.
    StoreAccess {
        /// To keep a submission.
        Enqueue = "enqueue",
        /// Whose turn it is.
        Claim = "claim",
        /// To keep what came of an attempt.
        Record = "record",
        /// To keep an event.
        Take = "take",
    }
    /// A bot's circuit breaker.
    Breaker {
        /// It sends.
        Closed = "closed",
        /// Its platform fails: one request at a time is tried.
        Open = "open",
        /// Its secret was refused: nothing is tried until that changes.
        Refused = "refused",
    }
    /// How a turn ended.
    TurnOutcome {
        /// The agent answered.
        Answered = "answered",
        /// The agent failed, declined or could not be asked.
        Failed = "failed",
        /// Somebody ended it, or nobody replied.
        Cancelled = "cancelled",
        /// Nobody knows whether the agent got the message; a person was asked.
        Lost = "lost",
    }
    /// What became known of a tool call that needs approval.
    Decision {
        /// People were asked.
        Asked = "asked",
        /// Somebody approved it.
        Approved = "approved",
        /// Somebody rejected it, or ended the turn.
        Rejected = "rejected",
        /// Nobody decided in time.
        Expired = "expired",
    }
    /// What has had its time.
    Kept {
        /// Messages, with all that is known of them.
        Deliveries = "deliveries",
        /// What people wrote, as far as it was still known that they had.
        Events = "events",
        /// Conversations in which nobody wrote any more.
        Conversations = "conversations",
        /// Buttons that are not in use any more.
        Buttons = "buttons",
        /// Rows of the audit trail.
        Audit = "audit",
    }
    /// Where a request went.
    Route {
        /// `/mcp`.
        Mcp = "mcp",
        /// `/slack/events`.
        Slack = "slack",
        /// `/healthz`, `/readyz`.
        Probe = "probe",
        /// Anywhere else.
        Other = "other",
        /// It cannot be told: the request was never read.
        None = "none",
    }
    /// Why a request was not let through, besides its token.
    Refusal {
        /// No HTTP, or a head that is too long: 400, 414, 431.
        BadHead = "bad_head",
        /// A body that is too long: 413.
        TooLarge = "too_large",
        /// A body that did not come in time: 408.
        TooSlow = "too_slow",
        /// A body that ended early or was not framed as HTTP wants: 400.
        Broken = "broken",
        /// An answer that was not read in time: the connection was cut.
        SlowReader = "slow_reader",
        /// Too much was under way: 503.
        Full = "full",
        /// Too much of this client's was under way: 429.
        ClientFull = "client_full",
        /// Too many requests of this client in a minute: 429.
        Rate = "rate",
        /// Too many wrong tokens from this address: 429.
        Guessing = "guessing",
    }
    /// Who speaks.
    Source {
        /// A client: a tool call, the shell.
        Tool = "tool",
        /// The bot.
        Bot = "bot",
    }
}

impl Route {
    /// Where this path leads.
    #[must_use]
    pub fn of(path: &str) -> Self {
        match path {
            "/mcp" => Self::Mcp,
            "/slack/events" => Self::Slack,
            "/healthz" | "/readyz" => Self::Probe,
            _ => Self::Other,
        }
    }
}

impl EncodeLabelValue for PlatformKind {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), fmt::Error> {
        encoder.write_str(self.as_str())
    }
}

impl EncodeLabelValue for Reason {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), fmt::Error> {
        encoder.write_str(self.as_str())
    }
}

impl EncodeLabelValue for Doubt {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), fmt::Error> {
        encoder.write_str(self.as_str())
    }
}

impl EncodeLabelValue for Scope {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), fmt::Error> {
        encoder.write_str(match self {
            Self::Channel => "channel",
            Self::Credential => "credential",
        })
    }
}

/// A set of labels, which the derive macro names after the fields.
macro_rules! sets {
    ($($name:ident { $($label:ident: $of:ty),+ })+) => {$(
        #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        pub(super) struct $name {
            $(pub(super) $label: $of,)+
        }
    )+};
}

sets! {
    Of { platform: PlatformKind }
    Voice { platform: PlatformKind, source: Source }
    Denial { platform: PlatformKind, at: Gate }
    Ended { platform: PlatformKind, reason: Reason }
    Ambiguous { platform: PlatformKind, outcome: Doubt }
    Access { access: StoreAccess }
    Redacted { platform: PlatformKind, kind: Redaction }
    Queue { platform: PlatformKind, state: &'static str }
    Request { platform: PlatformKind, outcome: &'static str }
    Paused { platform: PlatformKind, scope: Scope }
    Lost { kind: Lease }
    Removed { what: Kept }
    Audited { r#type: &'static str }
    Refused { route: Route, why: Refusal }
    Stands { platform: PlatformKind, state: &'static str }
    Heard { platform: PlatformKind, outcome: Taking }
    Agent { agent: String }
    TurnEnd { agent: String, outcome: TurnOutcome }
    Approval { agent: String, decision: Decision }
    Tool { tool: &'static str }
    Read { outcome: &'static str }
    Call { tool: &'static str, outcome: &'static str }
}

impl Redaction {
    /// The kind that one of the guard's rules is of.
    #[must_use]
    pub fn of(rule: &str) -> Self {
        match rule {
            "mention" => Self::Mention,
            "characters" => Self::Characters,
            "link" => Self::Link,
            _ => Self::Secret,
        }
    }
}
