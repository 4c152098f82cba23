//! What keeps the bot from listening, and whether that passes.

use std::time::Duration;

use http::StatusCode;

use super::failure::{self, Refusal};
use crate::model::{Failure, Reason};
use crate::platform::http::Answer;
use crate::platform::listener::NotTaken;

/// Where the token is given.
const TOKEN: &str = "TELEGRAM_BOT_TOKEN";

/// Why it does not simply go on.
#[derive(Debug)]
pub(super) enum Trouble {
    Stopped,
    Fatal(String),
    /// Something to wait out.
    Passing {
        why: String,
        /// Telegram named the time.
        after: Option<Duration>,
        conflict: bool,
    },
}

impl Trouble {
    pub(super) fn passing(why: impl Into<String>) -> Self {
        Self::Passing { why: why.into(), after: None, conflict: false }
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        if failure.reason == Reason::Auth {
            let named = failure.hint.contains(TOKEN);
            return Self::Fatal(match named {
                true => failure.hint,
                false => format!("{} ({TOKEN}, TELEGRAM_API_URL)", failure.hint),
            });
        }
        let after = failure.retry_after();
        Self::Passing { why: failure.hint, after, conflict: false }
    }
}

impl From<NotTaken> for Trouble {
    fn from(_: NotTaken) -> Self {
        Self::passing("what was written could not be stored: Telegram keeps it until it can")
    }
}

/// What Telegram's refusal means for listening.
pub(super) fn refused(answer: &Answer) -> Trouble {
    let failure = failure::of(answer);
    match (answer.status, Refusal::read(answer)) {
        (StatusCode::CONFLICT, said) => Trouble::Passing {
            why: if said.is_some_and(|said| said.says("webhook")) {
                "a webhook was set for this bot, so that Telegram answers no polls: delete it, or start Herald again, which does"
            } else {
                "another getUpdates uses the same TELEGRAM_BOT_TOKEN: stop the other bot, or give this one a token of its own"
            }
            .to_owned(),
            after: None,
            conflict: true,
        },
        // Only Telegram itself can say that; a proxy on the way cannot.
        (StatusCode::UNAUTHORIZED, None) => Trouble::passing(failure.hint),
        _ => failure.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_makes_no_request_is_named() {
        let failure = Failure::give_up(Reason::Auth, "no request can be made");
        let Trouble::Fatal(why) = Trouble::from(failure) else { panic!("not fatal") };
        assert!(why.contains("TELEGRAM_BOT_TOKEN") && why.contains("TELEGRAM_API_URL"), "{why}");
    }
}
