//! Answers to slash commands and buttons, within the three seconds that Discord gives:
//! <https://docs.discord.com/developers/interactions/receiving-and-responding>.

use std::time::Duration;

use http::Method;
use serde::Serialize;
use serde_json::{Value, json};

use super::api::Api;
use super::events::{Heard, What};
use super::failure;
use super::message::{AllowedMentions, SUPPRESS_EMBEDS};
use crate::model::{Disposition, Reason};
use crate::platform::listener::{NotTaken, Taken};

/// For the eyes of one person.
const EPHEMERAL: u32 = 1 << 6;
/// How often the commands are sent where Discord cannot be reached.
const MOST_TRIES: u32 = 5;

/// A message.
const SAY: u8 = 4;
/// Nothing: the button's message is changed by other means.
const QUIETLY: u8 = 6;

/// The command that asks the agent.
const ASK: &str = "ask";

#[derive(Serialize)]
struct Callback {
    #[serde(rename = "type")]
    kind: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Said>,
}

#[derive(Serialize)]
struct Said {
    content: String,
    allowed_mentions: AllowedMentions,
    flags: u32,
}

impl Callback {
    fn say(content: String, flags: u32) -> Self {
        let allowed_mentions = AllowedMentions::NONE;
        let flags = flags | SUPPRESS_EMBEDS;
        Self { kind: SAY, data: Some(Said { content, allowed_mentions, flags }) }
    }
}

/// Tells Discord that it arrived, or that it could not be kept. An ordinary message needs no answer.
///
/// It repeats nobody's words: what is said in the bot's name takes the one way out.
pub(super) async fn answer(api: &Api, heard: &Heard, taken: Result<Taken, NotTaken>) {
    let (token, callback) = match &heard.what {
        What::Message { .. } => return,
        What::Command { token, .. } | What::Press { token, .. } if taken.is_err() => {
            let sorry = "This could not be stored, so nothing will come of it. Please try again.";
            (token, Callback::say(sorry.to_owned(), EPHEMERAL))
        }
        What::Command { token, .. } if taken == Ok(Taken::Refused) => {
            (token, Callback::say("Not passed on.".to_owned(), EPHEMERAL))
        }
        What::Command { token, .. } => (token, Callback::say("…".to_owned(), EPHEMERAL)),
        What::Press { token, .. } => (token, Callback { kind: QUIETLY, data: None }),
    };
    match api.answer_interaction(&heard.id, token.expose(), &callback).await {
        Ok(answer) if answer.status.is_success() => {}
        Ok(answer) => {
            let code = failure::code(&answer).unwrap_or_default();
            tracing::debug!(
                status = answer.status.as_u16(),
                code,
                "an interaction was answered in vain"
            );
        }
        Err(failure) => tracing::warn!(%failure, "an interaction could not be answered"),
    }
}

/// The bot's commands: <https://docs.discord.com/developers/interactions/application-commands>.
fn commands() -> Value {
    json!([
        {
            "name": ASK, "type": 1, "description": "Ask the agent",
            "options": [{
                "name": "text", "type": 3, "description": "What you want to know", "required": true,
            }],
        },
        { "name": "new", "type": 1, "description": "Start a new conversation" },
        { "name": "status", "type": 1, "description": "What the agent is doing" },
        { "name": "cancel", "type": 1, "description": "Stop what the agent is doing" },
    ])
}

/// Registers the commands. Where the bot was invited without them, commands written as text do the same.
pub(super) async fn register(api: Api, application: String, pause: Duration) {
    let path = ["applications", application.as_str(), "commands"];
    for attempt in 1..=MOST_TRIES {
        let failure = match api.call(Method::PUT, &path, Some(&commands())).await {
            Ok(answer) if answer.status.is_success() => return,
            Ok(answer) => failure::of(&answer),
            Err(failure) => failure,
        };
        match (failure.disposition, failure.reason) {
            (_, Reason::MissingPermission | Reason::NotInChannel) => {
                tracing::info!(
                    "Discord's slash commands are off: the bot was invited without them; written as text they work"
                );
                return;
            }
            (Disposition::GiveUp, _) => {
                tracing::warn!(%failure, "Discord's slash commands could not be registered");
                return;
            }
            (Disposition::Retry { after, .. }, _) => {
                tokio::time::sleep(after.unwrap_or(pause * attempt)).await;
            }
            // To register them twice is to register them once.
            (Disposition::Ambiguous, _) => tokio::time::sleep(pause * attempt).await,
        }
    }
    tracing::warn!("Discord's slash commands could not be registered");
}
