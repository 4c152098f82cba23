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
    /// Only for this method: `chat.postMessage`, `create_message`, `sendMessage`. `getUpdates` is hit only if it is
    /// named: a poll is always under way, and would take what is meant for others.
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
    /// For `missing_scope`: which are missing, with commas between. Default `channels:read,files:write`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<String>,
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
    /// The request is applied, and no answer comes; it ends when the client leaves, or after 60 s.
    HangAfter,
    /// The token was revoked.
    RevokedToken,
    /// Slack: the token is wrong (`invalid_auth`).
    InvalidAuth,
    /// Slack: [`Fault::scopes`] are missing. Hits `auth.test` and the methods that need them.
    MissingScope,
    /// Slack's Socket Mode: `disconnect` with `refresh_requested`, and the WebSocket is closed at once. With `times` 0 a
    /// storm.
    Disconnect,
    /// Slack's Socket Mode: `disconnect` with `warning`; the WebSocket is closed 10 s later.
    Refresh,
    /// Slack's Socket Mode: it is switched off.
    LinkDisabled,
    /// Slack's Socket Mode: `too_many_websockets`.
    TooManySockets,
    /// The channel, thread or topic was archived or closed.
    Archived,
    /// Telegram: the bot was blocked.
    Blocked,
    /// The answer takes [`Fault::millis`] longer.
    Slow,
    /// Discord's gateway: the message content intent is not switched on.
    MissingIntent,
    /// Discord's gateway: a heartbeat is not answered.
    NoAck,
    /// Discord's gateway: the bot is asked to reconnect.
    Reconnect,
    /// Discord's gateway: the session is over.
    InvalidSession,
    /// Discord's gateway: the connection breaks. `drop_before` with the method `gateway` breaks it as soon as it is open,
    /// and `revoked_token` with that method refuses the token there.
    Drop,
    /// Telegram: another process polls with the same token (409). Hits `getUpdates`.
    Conflict,
    /// Telegram: the answer ends with an update of a shape that nobody knows. Hits `getUpdates`.
    OddUpdate,
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
    /// Whose connections that stay open it strikes, never a request.
    const fn strikes_sockets_of(self) -> Option<Vendor> {
        match self {
            Self::Disconnect | Self::Refresh | Self::LinkDisabled | Self::TooManySockets => {
                Some(Vendor::Slack)
            }
            Self::MissingIntent
            | Self::NoAck
            | Self::Reconnect
            | Self::InvalidSession
            | Self::Drop => Some(Vendor::Discord),
            _ => None,
        }
    }

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
            Self::HangAfter => "hang_after",
            Self::RevokedToken => "revoked_token",
            Self::InvalidAuth => "invalid_auth",
            Self::MissingScope => "missing_scope",
            Self::Disconnect => "disconnect",
            Self::Refresh => "refresh",
            Self::LinkDisabled => "link_disabled",
            Self::TooManySockets => "too_many_sockets",
            Self::Archived => "archived",
            Self::Blocked => "blocked",
            Self::Slow => "slow",
            Self::MissingIntent => "missing_intent",
            Self::NoAck => "no_ack",
            Self::Reconnect => "reconnect",
            Self::InvalidSession => "invalid_session",
            Self::Drop => "drop",
            Self::Conflict => "conflict",
            Self::OddUpdate => "odd_update",
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
            scopes: None,
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
            FaultKind::MissingScope | FaultKind::InvalidAuth => Some(Vendor::Slack),
            FaultKind::Blocked | FaultKind::Conflict | FaultKind::OddUpdate => {
                Some(Vendor::Telegram)
            }
            kind => kind.strikes_sockets_of(),
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

    /// The scopes that are missing.
    pub(super) fn missing_scopes(&self) -> Vec<String> {
        if self.kind != FaultKind::MissingScope {
            return Vec::new();
        }
        let scopes = self.scopes.as_deref().unwrap_or("channels:read,files:write").split(',');
        scopes.map(|scope| scope.trim().to_owned()).collect()
    }

    fn hits(&self, platform: Vendor, method: &str, channels: &[&str]) -> bool {
        let fits = match self.kind {
            FaultKind::MissingScope => {
                let families = ["auth.test", "conversations.", "files."];
                families.iter().any(|family| method.starts_with(family))
                    || (method.starts_with("chat.")
                        && self.missing_scopes().iter().any(|scope| scope == "chat:write"))
            }
            FaultKind::Conflict | FaultKind::OddUpdate => method == "getUpdates",
            kind if kind.strikes_sockets_of().is_some() => method == "socket",
            // What waits for long is struck only by its name.
            _ => self.method.is_some() || !["getUpdates", "socket"].contains(&method),
        };
        self.platform == platform
            && fits
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
        self.use_up(place)
    }

    /// Takes the first fault of these kinds that hits an open connection. Kinds that happen to requests too do so only
    /// where they name the method `gateway`.
    pub(super) fn take_socket(&mut self, platform: Vendor, kinds: &[FaultKind]) -> Option<Fault> {
        let place = self.0.iter().position(|fault| {
            fault.platform == platform
                && kinds.contains(&fault.kind)
                && (fault.kind.strikes_sockets_of().is_some()
                    || fault.method.as_deref() == Some("gateway"))
        })?;
        self.use_up(place)
    }

    fn use_up(&mut self, place: usize) -> Option<Fault> {
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
