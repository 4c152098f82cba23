//! What somebody wants of the bot: to ask the agent something, or something of the bot itself. Pure.

use super::agents::Agents;
use crate::model::Occurrence;

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// The agent is asked this.
    Ask(String),
    /// A fresh start, and perhaps a first question.
    New(String),
    /// The turn in progress is to end.
    Cancel,
    /// How it stands.
    Status,
    /// What can be done here.
    Help,
}

/// Reads a wish; `None` for what is no words (a button).
pub(super) fn wish(what: &Occurrence, agents: &Agents) -> Option<Wish> {
    match what {
        Occurrence::Press { .. } => None,
        Occurrence::Message { text, files, .. } => {
            let text = text.trim();
            Some(match word(text.trim_start_matches(['!', '/'])) {
                Some(wish) => wish,
                None if text.is_empty() && files.is_empty() => Wish::Help,
                None => Wish::Ask(text.to_owned()),
            })
        }
        Occurrence::Command { name, text, .. } => {
            let text = text.trim();
            Some(match (&**name, text) {
                ("new", rest) if !agents.has_command("new") => Wish::New(rest.to_owned()),
                ("cancel" | "stop", "") => Wish::Cancel,
                ("status", "") => Wish::Status,
                ("help" | "start", "") => Wish::Help,
                (_, "") => Wish::Help,
                (_, text) => word(text).unwrap_or_else(|| Wish::Ask(text.to_owned())),
            })
        }
    }
}

/// A single word that is meant for the bot, where slash commands do not run.
fn word(text: &str) -> Option<Wish> {
    match text.to_lowercase().as_str() {
        "new" | "reset" | "clear" => Some(Wish::New(String::new())),
        "cancel" | "stop" => Some(Wish::Cancel),
        "status" => Some(Wish::Status),
        "help" => Some(Wish::Help),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::a2a;
    use crate::clock::{Clock, ManualClock, Timestamp};
    use crate::platform::http::{HttpClient, Settings};

    #[test]
    fn a_single_word_is_for_the_bot_and_more_is_for_the_agent() {
        let main =
            a2a::Config { url: "http://127.0.0.1:1/".parse().ok(), ..a2a::Config::default() };
        let http = HttpClient::new(&Settings::default()).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(Timestamp(0)));
        let agents = Agents::new(&main, &Default::default(), &http, &clock).unwrap().unwrap();
        let said = |text: &str| Occurrence::Message {
            message_id: "1".to_owned(),
            text: text.to_owned(),
            addressed: true,
            files: Vec::new(),
        };
        let command = |name: &str, text: &str| Occurrence::Command {
            name: name.to_owned(),
            text: text.to_owned(),
            message_id: None,
        };
        let ask = |text: &str| Wish::Ask(text.to_owned());
        for (what, expected) in [
            (said("show pods"), ask("show pods")),
            (said(" New "), Wish::New(String::new())),
            (said("!reset"), Wish::New(String::new())),
            (said("cancel"), Wish::Cancel),
            (said("cancel the rollout"), ask("cancel the rollout")),
            (said(""), Wish::Help),
            (command("mykagent", "show pods"), ask("show pods")),
            (command("mykagent", "status"), Wish::Status),
            (command("mykagent", ""), Wish::Help),
            (command("new", "show pods"), Wish::New("show pods".to_owned())),
            (command("start", ""), Wish::Help),
            (command("ask", "new"), Wish::New(String::new())),
        ] {
            assert_eq!(wish(&what, &agents), Some(expected), "{what:?}");
        }
        let press = Occurrence::Press { key: "k".to_owned(), message_id: None };
        assert_eq!(wish(&press, &agents), None);
    }
}
