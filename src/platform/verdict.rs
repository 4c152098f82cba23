//! What is the same on every platform about a request that did not succeed.

use std::time::Duration;

use http::StatusCode;

use super::http::{Answer, TransportError};
use crate::model::{Disposition, Failure, PlatformKind, Reason, Scope};

/// What may be done about a failure, as the tables of the platforms say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Certainly not sent, and worth another try.
    Retry,
    /// Trying again would change nothing.
    GiveUp,
    /// It may have been sent.
    Ambiguous,
}

impl Verdict {
    /// The failure with this verdict.
    pub(super) fn failure(self, reason: Reason, hint: impl Into<String>) -> Failure {
        match self {
            Self::Retry => Failure::retry(reason, hint),
            Self::GiveUp => Failure::give_up(reason, hint),
            Self::Ambiguous => Failure::ambiguous(reason, hint),
        }
    }
}

/// There was no answer.
pub(super) fn no_answer(platform: PlatformKind, error: TransportError) -> Failure {
    let title = platform.title();
    match error {
        TransportError::Unreachable(why) => Failure::retry(
            Reason::Unreachable,
            format!("{title} could not be reached ({why}), so nothing was sent"),
        ),
        TransportError::Timeout => Failure::ambiguous(
            Reason::Timeout,
            format!("{title} did not answer in time, after the request was written"),
        ),
        TransportError::ConnectionLost => Failure::ambiguous(
            Reason::ConnectionLost,
            format!("the connection to {title} broke before its answer came"),
        ),
        TransportError::Malformed => Failure::give_up(
            Reason::Auth,
            format!(
                "no request to {title} can be made with this token and base URL: the operator has to check both for stray characters"
            ),
        ),
    }
}

/// The answer says success, but not in the platform's language: a captive portal, a proxy's page, a truncated body.
pub(super) fn not_understood(platform: PlatformKind) -> Failure {
    Failure::ambiguous(
        Reason::InvalidAnswer,
        format!(
            "what answered does not speak {0}'s language: the operator should check the proxy and {1}_API_URL",
            platform.title(),
            platform.as_str().to_uppercase()
        ),
    )
}

/// The platform asked us to wait.
pub(super) fn slow_down(platform: PlatformKind, after: Option<Duration>, scope: Scope) -> Failure {
    let title = platform.title();
    let hint = match after {
        Some(after) => format!("{title} asked to slow down for {} s", after.as_secs_f64().ceil()),
        None => format!("{title} asked to slow down"),
    };
    Failure { reason: Reason::RateLimited, disposition: Disposition::Retry { after, scope }, hint }
}

/// A status that the platform did not explain in a way we know.
pub(super) fn by_status(platform: PlatformKind, answer: &Answer) -> Failure {
    let title = platform.title();
    let status = answer.status.as_u16();
    match answer.status {
        StatusCode::TOO_MANY_REQUESTS => slow_down(platform, answer.retry_after(), Scope::Channel),
        StatusCode::UNAUTHORIZED => refused_token(platform),
        StatusCode::REQUEST_TIMEOUT => Failure::retry(
            Reason::Timeout,
            format!("{title} did not receive the whole request (HTTP 408)"),
        ),
        StatusCode::FORBIDDEN => Failure::give_up(
            Reason::MissingPermission,
            format!("{title}, or a proxy on the way, does not permit this (HTTP 403)"),
        ),
        StatusCode::PAYLOAD_TOO_LARGE => Failure::give_up(
            Reason::TooLong,
            format!("{title} finds the message too long (HTTP 413): shorten it"),
        ),
        status_code if status_code.is_server_error() => Failure::ambiguous(
            Reason::ServerError,
            format!("{title} failed on its side (HTTP {status})"),
        ),
        status_code if status_code.is_client_error() => Failure::give_up(
            Reason::Rejected,
            format!("{title} refused the request (HTTP {status})"),
        ),
        status_code if status_code.is_redirection() => Failure::give_up(
            Reason::InvalidAnswer,
            format!(
                "{title}'s address answers with a redirect (HTTP {status}), which is not followed: the operator should check the proxy and {}_API_URL",
                platform.as_str().to_uppercase()
            ),
        ),
        _ => not_understood(platform),
    }
}

/// The token is not accepted.
pub(super) fn refused_token(platform: PlatformKind) -> Failure {
    Failure::give_up(
        Reason::Auth,
        format!(
            "{} does not accept the bot token: the operator has to set a valid {}_BOT_TOKEN",
            platform.title(),
            platform.as_str().to_uppercase()
        ),
    )
}

/// Whether a platform's word may be repeated to a model: an error code, not a sentence.
pub(super) fn is_code(word: &str) -> bool {
    (1..=64).contains(&word.len())
        && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}
