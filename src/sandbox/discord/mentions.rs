//! Mentions: what a person's client makes of `@herald`, and whom a message mentions.

use serde_json::Value;

use super::BOT_ID;
use super::message::bot_user;
use super::places::user_object;
use crate::sandbox::Vendor;
use crate::sandbox::people::{NAMES, person};
use crate::sandbox::state::Message;

/// The text as it is sent: a client turns `@herald` into `<@ID>` as it is typed.
pub(super) fn as_sent(message: &Message) -> String {
    if message.bot {
        return message.text.clone();
    }
    let people = NAMES.map(|name| (name, person(Vendor::Discord, name).id));
    let people = people.into_iter().chain([("herald", BOT_ID.to_owned())]);
    people.fold(message.text.clone(), |text, (name, id)| {
        let typed = format!("@{name}");
        let mut pieces = text.split(&typed);
        let mut sent = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            let longer = piece.chars().next().is_some_and(|c| c.is_alphanumeric() || c == '_');
            sent += &if longer { typed.clone() } else { format!("<@{id}>") };
            sent += piece;
        }
        sent
    })
}

fn is_mentioned(text: &str, id: &str) -> bool {
    text.contains(&format!("<@{id}>")) || text.contains(&format!("<@!{id}>"))
}

/// Who is mentioned, and, as clients do it by default, whose message is answered.
pub(super) fn users(text: &str, answered: Option<&Message>) -> Value {
    let answers =
        |name: &str| answered.is_some_and(|message| !message.bot && message.author == name);
    let mut users: Vec<Value> = NAMES
        .into_iter()
        .filter(|name| is_mentioned(text, &person(Vendor::Discord, name).id) || answers(name))
        .map(user_object)
        .collect();
    if mentions_bot(text, answered) {
        users.push(bot_user());
    }
    users.into()
}

/// Whether the bot is among them.
pub(super) fn mentions_bot(text: &str, answered: Option<&Message>) -> bool {
    is_mentioned(text, BOT_ID) || answered.is_some_and(|message| message.bot)
}
