//! Mentions: what a person's client makes of `@herald`, and whom a message mentions.

use serde_json::Value;

use super::BOT_ID;
use super::message::bot_user;
use super::places::user_object;
use crate::sandbox::Vendor;
use crate::sandbox::people::{NAMES, person};
use crate::sandbox::state::Message;

/// The mentions that notify, of those in a text.
pub(super) struct Allowed {
    pub everyone: bool,
    pub roles: Which,
    pub users: Which,
    /// Whoever is answered.
    pub answered: bool,
}

/// The roles, or the users, that a mention notifies.
pub(super) enum Which {
    All,
    Listed(Vec<String>),
}

impl Allowed {
    /// Where a request says nothing.
    pub(super) const fn all() -> Self {
        Self { everyone: true, roles: Which::All, users: Which::All, answered: true }
    }
}

impl Which {
    fn has(&self, id: &str) -> bool {
        match self {
            Self::All => true,
            Self::Listed(ids) => ids.iter().any(|listed| listed == id),
        }
    }
}

/// Whom a text notifies. A space of no width in the middle of `@everyone` is no help: Discord reads over it.
pub(super) fn pings(text: &str, allowed: &Allowed) -> Vec<String> {
    let bare = text.replace(['\u{200b}', '\u{2060}', '\u{feff}'], "");
    let words = ["@everyone", "@here"].into_iter().filter(|word| bare.contains(word));
    let mut pings: Vec<String> =
        words.filter(|_| allowed.everyone).map(ToOwned::to_owned).collect();
    for piece in text.split("<@").skip(1) {
        let Some((inside, _)) = piece.split_once('>') else { continue };
        let (ping, id, which) = match inside.strip_prefix('&') {
            Some(role) => (format!("@&{role}"), role, &allowed.roles),
            None => {
                let user = inside.strip_prefix('!').unwrap_or(inside);
                (format!("@{user}"), user, &allowed.users)
            }
        };
        let snowflake = !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit());
        if snowflake && which.has(id) && !pings.contains(&ping) {
            pings.push(ping);
        }
    }
    pings
}

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
