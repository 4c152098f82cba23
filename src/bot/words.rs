//! What the bot says when something does not go as hoped: one friendly line; the log has the rest.

use crate::a2a::Error;

/// What a person reads when the agent could not be asked. `reference` finds the line in the log.
pub(super) fn trouble(error: &Error, reference: &str) -> String {
    let line = match error {
        Error::Unreachable(_) | Error::Unavailable(_) | Error::NoAnswer(_) => {
            "The agent cannot be reached right now. Please try again in a minute."
        }
        Error::NoSuchAgent => {
            "There is no such agent any more. Whoever runs this bot has to look at its settings."
        }
        Error::NotAllowed(_) => {
            "The bot is not allowed to talk to this agent. Whoever runs it has to look at its token."
        }
        Error::Setup(_) | Error::VersionMismatch => {
            "The bot is not set up to talk to this agent. Whoever runs it has to look at its settings."
        }
        Error::UnknownTask => {
            "The agent has lost its memory of this conversation. Please ask again: it starts afresh."
        }
        Error::AlreadyDecided { .. } => "That was decided already.",
        Error::TaskOver { .. } => "The agent has ended that task. Please ask again.",
        Error::MayHaveArrived(_) | Error::Malformed(_) | Error::TooLarge => MAYBE,
        Error::Refused { .. } => "The agent refused the request.",
    };
    format!("{line} (ref. {reference})")
}

/// Nobody knows whether the agent got it.
pub(super) const MAYBE: &str = "The connection to the agent broke. It may have received your message and may be working \
                                on it; it was not sent again.";

/// What can be done here.
pub(super) const HELP: &str = "Write to me and I ask the agent; I answer in the same thread, and it remembers what was \
                               said there.\n\n- `new` starts afresh\n- `cancel` ends what is in progress\n- `status` tells how it stands\n\nWhere \
                               commands run, `/new`, `/cancel` and `/status` do the same.";

/// The agent failed in the middle of its work.
pub(super) fn failed(message: &str, reference: &str) -> String {
    let message = message.to_lowercase();
    let why = if message.contains("429") || message.contains("rate limit") {
        "its model is asked too much right now"
    } else if message.contains("401") || message.contains("api key") {
        "its model does not accept its credentials"
    } else if message.contains("deadline") || message.contains("timed out") {
        "it took too long"
    } else if message.contains("error code") || message.contains("model") {
        "its model failed"
    } else {
        "something went wrong in it"
    };
    format!("The agent could not finish: {why}. (ref. {reference})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_shows_what_the_agent_wrote() {
        let raw = "SECRET internal trace";
        let error = Error::Refused { code: -32603, message: raw.to_owned() };
        assert!(!trouble(&error, "abc").contains("SECRET"));
        let line = failed("Error code: 500 - SECRET", "abc");
        assert_eq!(line, "The agent could not finish: its model failed. (ref. abc)");
    }
}
