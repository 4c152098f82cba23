//! Faults: what goes wrong next, and for whom.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::Vendor;

/// Something that goes wrong, `POST /sandbox/api/faults`.
///
/// ```json
/// {"platform": "slack", "channel": "C0ALERTS", "method": "chat.postMessage", "kind": "rate_limit", "retry_after": 2}
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Whose API fails.
    pub platform: Vendor,
    /// Only for requests that name this channel (`C0ALERTS` or `slack:C0ALERTS`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// Only for this method: `chat.postMessage`, `create_message`, `sendMessage`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// What goes wrong.
    pub kind: FaultKind,
    /// How many requests it hits. 0: every one until the faults are cleared.
    #[serde(default = "once")]
    pub times: u32,
    /// For `rate_limit`: the seconds to wait. Default 1. Slack and Telegram round up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<f64>,
    /// For `rate_limit` on Discord: which limit was hit. Default `user`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// For `slow`: the milliseconds before the answer. Default 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub millis: Option<u64>,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// 429 with Retry-After. Nothing is applied.
    RateLimit,
    /// 500 in the vendor's form. Nothing is applied.
    ServerError,
    /// 502 with a proxy's HTML page. Nothing is applied.
    BadGatewayHtml,
    /// 200 with an HTML page, as a captive portal answers. Nothing is applied.
    HtmlOk,
    /// No answer; it ends when the client leaves, or after 60 s. Nothing is applied.
    Hang,
    /// The connection breaks. Nothing is applied.
    DropBefore,
    /// The request is applied, then the connection breaks in the middle of the answer.
    DropAfter,
    /// The token was revoked.
    RevokedToken,
    /// Slack: `channels:read` is missing. Hits `auth.test` and the methods that need it.
    MissingScope,
    /// The channel, thread or topic was archived or closed.
    Archived,
    /// Telegram: the bot was blocked.
    Blocked,
    /// The answer takes [`Fault::millis`] longer.
    Slow,
}

/// Which of Discord's limits was hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// This bot's, for one bucket.
    User,
    /// This bot's, for everything.
    Global,
    /// Everyone's, for one resource.
    Shared,
}

impl Scope {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Global => "global",
            Self::Shared => "shared",
        }
    }
}

/// Why a fault was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFault {
    /// Only one vendor fails that way.
    #[error("`{}` happens on {} only", kind.as_str(), vendor.as_str())]
    Elsewhere {
        /// What was asked for.
        kind: FaultKind,
        /// Where it happens.
        vendor: Vendor,
    },
    /// A wait that is no wait.
    #[error("`retry_after` is a number of seconds from 0 to 86400")]
    RetryAfter,
}

impl FaultKind {
    /// The name as it stands in JSON and in the log of requests.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RateLimit => "rate_limit",
            Self::ServerError => "server_error",
            Self::BadGatewayHtml => "bad_gateway_html",
            Self::HtmlOk => "html_ok",
            Self::Hang => "hang",
            Self::DropBefore => "drop_before",
            Self::DropAfter => "drop_after",
            Self::RevokedToken => "revoked_token",
            Self::MissingScope => "missing_scope",
            Self::Archived => "archived",
            Self::Blocked => "blocked",
            Self::Slow => "slow",
        }
    }
}

const fn once() -> u32 {
    1
}

impl Fault {
    /// A fault that hits the next request to `platform`, once.
    #[must_use]
    pub const fn new(platform: Vendor, kind: FaultKind) -> Self {
        Self {
            platform,
            channel: None,
            method: None,
            kind,
            times: 1,
            retry_after: None,
            scope: None,
            millis: None,
        }
    }

    /// Only for requests that name `channel`.
    #[must_use]
    pub fn channel(mut self, channel: impl Into<String>) -> Self {
        self.channel = Some(channel.into());
        self
    }

    /// Only for `method`.
    #[must_use]
    pub fn method(mut self, method: impl Into<String>) -> Self {
        self.method = Some(method.into());
        self
    }

    /// For this many requests; 0 for all until cleared.
    #[must_use]
    pub const fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// The seconds that a rate limit tells to wait.
    #[must_use]
    pub const fn retry_after(mut self, seconds: f64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Whether the platform can fail in this way.
    ///
    /// # Errors
    /// One sentence that names the field.
    pub fn check(&self) -> Result<(), InvalidFault> {
        let only = match self.kind {
            FaultKind::MissingScope => Some(Vendor::Slack),
            FaultKind::Blocked => Some(Vendor::Telegram),
            _ => None,
        };
        if let Some(vendor) = only.filter(|vendor| *vendor != self.platform) {
            return Err(InvalidFault::Elsewhere { kind: self.kind, vendor });
        }
        if self.retry_after.is_some_and(|seconds| !(0.0..=86_400.0).contains(&seconds)) {
            return Err(InvalidFault::RetryAfter);
        }
        Ok(())
    }

    /// The seconds to wait, as sent by vendors that know fractions.
    pub(super) fn wait(&self) -> f64 {
        self.retry_after.unwrap_or(1.0)
    }

    /// The seconds to wait in whole seconds, rounded up.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to a day")]
    pub(super) fn whole_wait(&self) -> u64 {
        self.wait().clamp(0.0, 86_400.0).ceil() as u64
    }

    fn hits(&self, platform: Vendor, method: &str, channels: &[&str]) -> bool {
        let needs_scope = self.kind != FaultKind::MissingScope
            || method == "auth.test"
            || method.starts_with("conversations.");
        self.platform == platform
            && needs_scope
            && self.method.as_deref().is_none_or(|m| m == method)
            && self.channel.as_deref().is_none_or(|c| {
                let prefix = format!("{}:", platform.as_str());
                let bare = c.strip_prefix(&prefix).unwrap_or(c);
                channels.contains(&bare)
            })
    }
}

/// The queue of faults.
#[derive(Default)]
pub(super) struct Faults(VecDeque<Fault>);

impl Faults {
    pub(super) fn push(&mut self, fault: Fault) {
        self.0.push_back(fault);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn pending(&self) -> Vec<Fault> {
        self.0.iter().cloned().collect()
    }

    /// Takes the first fault that hits this request and uses it up once. `channels` are the channel it names
    /// and, for a Discord thread, its parent.
    pub(super) fn take(
        &mut self,
        platform: Vendor,
        method: &str,
        channels: &[&str],
    ) -> Option<Fault> {
        let place = self.0.iter().position(|fault| fault.hits(platform, method, channels))?;
        let fault = self.0.get_mut(place)?;
        let taken = fault.clone();
        match fault.times {
            0 => {}
            1 => {
                self.0.remove(place);
            }
            _ => fault.times -= 1,
        }
        Some(taken)
    }
}
