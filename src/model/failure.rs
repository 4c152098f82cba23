//! The ways a send can fail: one closed list, classified once, at the platform's edge.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a delivery failed or waits. Its snake-case name is the metric label and what the caller reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Reason {
    /// The platform asked us to slow down.
    RateLimited,
    /// No connection: nothing was sent.
    Unreachable,
    /// No answer in time, after the request was written.
    Timeout,
    /// The connection broke after the request was written.
    ConnectionLost,
    /// The platform failed (5xx, `internal_error`).
    ServerError,
    /// The answer is not what the platform documents (HTML, truncated JSON).
    InvalidAnswer,
    /// The token is wrong, revoked or expired.
    Auth,
    /// The token lacks a scope or the bot a permission.
    MissingPermission,
    /// The bot is not in the channel.
    NotInChannel,
    /// The channel does not exist, or the bot cannot see it.
    ChannelNotFound,
    /// The channel is archived or closed.
    ChannelArchived,
    /// The thread or message that was referred to does not exist.
    MessageNotFound,
    /// The platform's limit on length was exceeded.
    TooLong,
    /// The platform refused the content.
    Rejected,
    /// The workspace's quota is used up.
    Quota,
    /// Policy does not allow this channel (any more).
    Denied,
    /// It could not be delivered before its deadline.
    Expired,
    /// The process stopped in the middle of a send; whether it arrived is not known.
    Interrupted,
    /// An operator discarded it.
    Discarded,
    /// A fault of Herald's own.
    Internal,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 20] = [
        Self::RateLimited,
        Self::Unreachable,
        Self::Timeout,
        Self::ConnectionLost,
        Self::ServerError,
        Self::InvalidAnswer,
        Self::Auth,
        Self::MissingPermission,
        Self::NotInChannel,
        Self::ChannelNotFound,
        Self::ChannelArchived,
        Self::MessageNotFound,
        Self::TooLong,
        Self::Rejected,
        Self::Quota,
        Self::Denied,
        Self::Expired,
        Self::Interrupted,
        Self::Discarded,
        Self::Internal,
    ];

    /// The snake-case name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RateLimited => "rate_limited",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::ConnectionLost => "connection_lost",
            Self::ServerError => "server_error",
            Self::InvalidAnswer => "invalid_answer",
            Self::Auth => "auth",
            Self::MissingPermission => "missing_permission",
            Self::NotInChannel => "not_in_channel",
            Self::ChannelNotFound => "channel_not_found",
            Self::ChannelArchived => "channel_archived",
            Self::MessageNotFound => "message_not_found",
            Self::TooLong => "too_long",
            Self::Rejected => "rejected",
            Self::Quota => "quota",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Interrupted => "interrupted",
            Self::Discarded => "discarded",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What may be done about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Certainly not sent: try again, not before the time the platform named.
    Retry {
        /// The platform's `Retry-After`, honoured in full.
        after: Option<Duration>,
        /// How far that time reaches.
        scope: Scope,
    },
    /// Trying again would change nothing.
    GiveUp,
    /// It may have been sent.
    Ambiguous,
}

/// What a `Retry-After` holds back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// This channel alone.
    Channel,
    /// Everything this bot sends.
    Credential,
}

/// A classified failure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{hint}")]
pub struct Failure {
    /// Why.
    pub reason: Reason,
    /// What may be done about it.
    pub disposition: Disposition,
    /// One sentence: what is wrong and what to do. Never a secret, a URL or a platform's raw text.
    pub hint: String,
}

impl Failure {
    /// A failure that trying again would not change.
    pub fn give_up(reason: Reason, hint: impl Into<String>) -> Self {
        Self { reason, disposition: Disposition::GiveUp, hint: hint.into() }
    }

    /// A failure before anything was sent.
    pub fn retry(reason: Reason, hint: impl Into<String>) -> Self {
        let disposition = Disposition::Retry { after: None, scope: Scope::Channel };
        Self { reason, disposition, hint: hint.into() }
    }

    /// How long the platform asked to wait.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self.disposition {
            Disposition::Retry { after, .. } => after,
            Disposition::GiveUp | Disposition::Ambiguous => None,
        }
    }

    /// What the platform's wish to wait holds back.
    #[must_use]
    pub const fn scope(&self) -> Option<Scope> {
        match self.disposition {
            Disposition::Retry { scope, .. } => Some(scope),
            Disposition::GiveUp | Disposition::Ambiguous => None,
        }
    }

    /// The same of a request whose effect nobody sees, such as a question before a send: what is in doubt may be done again.
    #[must_use]
    pub fn unseen(self) -> Self {
        match self.disposition {
            Disposition::Ambiguous => Self::retry(self.reason, self.hint),
            _ => self,
        }
    }

    /// A failure after which nobody knows whether it was sent.
    pub fn ambiguous(reason: Reason, hint: impl Into<String>) -> Self {
        Self { reason, disposition: Disposition::Ambiguous, hint: hint.into() }
    }
}
