//! What Telegram tells the bot, and keeps until the bot has it. <https://core.telegram.org/bots/api#getting-updates>

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Notify;

use super::super::channels::{Channel, Standing};
use super::super::state::{File, Heard, Message};
use super::{messages, user};
use crate::clock::Timestamp;

/// Updates are kept no longer than this.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// A pressed button has to be answered within this.
const ANSWERABLE: Duration = Duration::from_secs(30);

/// An update that the bot has not confirmed.
#[derive(Debug)]
struct Pending {
    number: i64,
    at: Timestamp,
    update: Value,
}

/// A pressed button that waits for its answer.
#[derive(Debug)]
pub(super) struct Query {
    id: String,
    at: Timestamp,
    pub channel: String,
    pub author: String,
}

/// What waits to be told.
#[derive(Debug)]
pub(in crate::sandbox) struct Inbound {
    pending: VecDeque<Pending>,
    last: i64,
    /// The kinds that the bot asked for, last time it said so; empty: the usual ones.
    allowed: Vec<String>,
    /// Where updates would be sent, if the bot wanted that.
    webhook: String,
    commands: Value,
    queries: Vec<Query>,
    /// Every message as it was told, by chat and ID, for those that answer it.
    told: HashMap<(String, String), Value>,
    pub(super) files: HashMap<String, File>,
    /// How many polls there were: an older one ends when the next comes.
    polls: u64,
    pub(super) woken: Arc<Notify>,
}

impl Default for Inbound {
    fn default() -> Self {
        Self {
            pending: VecDeque::new(),
            last: 700_000_000,
            allowed: Vec::new(),
            webhook: String::new(),
            commands: json!([]),
            queries: Vec::new(),
            told: HashMap::new(),
            files: HashMap::new(),
            polls: 0,
            woken: Arc::default(),
        }
    }
}

impl Inbound {
    /// Somebody did something.
    pub(in crate::sandbox) fn hear(&mut self, heard: &Heard, now: Timestamp) {
        match heard {
            Heard::Message { message, channel } => {
                let told = self.tell(message, channel);
                // A bot does not hear itself, nor where it is not.
                if !message.bot && channel.standing == Standing::Member {
                    self.push("message", told, now);
                }
            }
            Heard::Press { channel, author, message, key } => {
                let number = self.last + 1;
                let id = format!("48{number}");
                let query = json!({
                    "id": id, "from": user(author), "message": self.tell(message, channel),
                    "chat_instance": format!("-17{}", channel.id.trim_start_matches('-')),
                    "data": key,
                });
                let (channel, author) = (channel.key(), author.clone());
                self.queries.push(Query { id, at: now, channel, author });
                self.push("callback_query", query, now);
            }
            // Telegram's commands are messages.
            Heard::Command { .. } => {}
        }
    }

    /// A message as the bot sees it, remembered for those that answer it.
    fn tell(&mut self, message: &Message, channel: &Channel) -> Value {
        for file in &message.files {
            self.files.insert(file.id.clone(), file.clone());
        }
        let answered = message.reply_to.as_ref();
        let answered = answered.and_then(|id| self.told.get(&(channel.key(), id.clone())));
        let told = messages::heard(message, channel, answered);
        self.told.insert((channel.key(), message.id.clone()), told.clone());
        told
    }

    fn push(&mut self, kind: &str, what: Value, now: Timestamp) {
        if self.allowed.is_empty() || self.allowed.iter().any(|allowed| allowed == kind) {
            self.last += 1;
            let update = json!({ "update_id": self.last, kind: what });
            self.pending.push_back(Pending { number: self.last, at: now, update });
            self.woken.notify_waiters();
        }
    }

    /// An update of a shape that nobody knows.
    pub(super) fn push_odd(&mut self, now: Timestamp) {
        let odd = json!({
            "message_id": "four", "from": 7, "date": null, "text": ["unexpected"],
            "chat": { "id": { "high": 1, "low": 2 }, "type": "new_chat_type" },
        });
        self.last += 1;
        let update = json!({ "update_id": self.last, "message": odd });
        self.pending.push_back(Pending { number: self.last, at: now, update });
    }

    /// A poll begins: what it confirms is forgotten, and an older one ends. Returns its number.
    pub(super) fn begin(
        &mut self,
        offset: i64,
        allowed: Option<&Vec<String>>,
        now: Timestamp,
    ) -> u64 {
        self.polls += 1;
        self.woken.notify_waiters();
        if self.webhook.is_empty() {
            if let Some(allowed) = allowed {
                self.allowed.clone_from(allowed);
            }
            let from_end = usize::try_from(offset.unsigned_abs()).unwrap_or(usize::MAX);
            let forgotten = self.pending.len().saturating_sub(from_end);
            let first = match offset {
                ..0 => self.pending.get(forgotten).map_or(0, |pending| pending.number),
                _ => offset,
            };
            let oldest = now.before(KEPT);
            self.pending.retain(|pending| pending.number >= first && pending.at >= oldest);
        }
        self.polls
    }

    /// Whether a poll has something to answer.
    pub(super) fn is_ready(&self, poll: u64) -> bool {
        poll != self.polls || !self.webhook.is_empty() || !self.pending.is_empty()
    }

    pub(super) const fn has_webhook(&self) -> bool {
        !self.webhook.is_empty()
    }

    /// Whether no other poll came after this one.
    pub(super) const fn is_latest(&self, poll: u64) -> bool {
        poll == self.polls
    }

    pub(super) fn updates(&self, limit: usize) -> Vec<Value> {
        self.pending.iter().take(limit).map(|pending| pending.update.clone()).collect()
    }

    /// The press that an answer is for, once, if it is not too late.
    pub(super) fn query(&mut self, id: &str, now: Timestamp) -> Option<Query> {
        self.queries.retain(|query| now.since(query.at) <= ANSWERABLE);
        let place = self.queries.iter().position(|query| query.id == id)?;
        Some(self.queries.remove(place))
    }

    pub(super) fn set_webhook(&mut self, url: &str, drop_pending: bool) {
        url.clone_into(&mut self.webhook);
        if drop_pending {
            self.pending.clear();
        }
        self.woken.notify_waiters();
    }

    pub(super) fn webhook_info(&self) -> Value {
        json!({
            "url": self.webhook, "has_custom_certificate": false,
            "pending_update_count": self.pending.len(),
        })
    }

    pub(super) fn set_commands(&mut self, commands: Value) {
        self.commands = commands;
    }

    pub(super) fn commands(&self) -> Value {
        self.commands.clone()
    }
}
