//! What Discord tells the bot: sessions of its gateway, and what each of them still has to hear.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Notify;

use super::interactions::{Interaction, What};
use super::places::channel_object;
use super::{BOT_ID, GUILD, mentions, message};
use crate::clock::Timestamp;
use crate::sandbox::Vendor;
use crate::sandbox::channels::Standing;
use crate::sandbox::state::{Heard, Message, State};

/// `GUILDS`: servers, channels, threads.
pub(super) const GUILDS: u64 = 1;
/// `GUILD_MESSAGES`.
const GUILD_MESSAGES: u64 = 1 << 9;
/// `DIRECT_MESSAGES`.
const DIRECT_MESSAGES: u64 = 1 << 12;
/// `MESSAGE_CONTENT`, privileged.
pub(super) const MESSAGE_CONTENT: u64 = 1 << 15;

/// How many events a session keeps for those who resume it.
const REPLAY: usize = 5_000;
/// How long a session can be resumed after its connection ended.
const RESUMABLE: Duration = Duration::from_secs(180);

/// How Discord's gateway behaves; the default is as Discord's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Between two heartbeats.
    pub heartbeat: Duration,
    /// Between two new sessions; who comes earlier is told that its session is invalid.
    pub identify_every: Duration,
    /// How many new sessions there may be in a day.
    pub starts: u32,
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(41_250),
            identify_every: Duration::from_secs(5),
            starts: 1000,
        }
    }
}

/// Something a session is told.
#[derive(Clone, Debug)]
pub(super) enum Told {
    Event(&'static str, Value),
    Message(Box<Message>),
    Interaction(String),
}

#[derive(Debug)]
pub(super) struct Session {
    pub intents: u64,
    pub seq: u64,
    told: VecDeque<(u64, Told)>,
    /// The connection that has it; a later one takes it over.
    pub connection: u64,
    pub left_at: Option<Timestamp>,
}

impl Session {
    fn tell(&mut self, told: Told) {
        self.seq += 1;
        if self.told.len() >= REPLAY {
            self.told.pop_front();
        }
        self.told.push_back((self.seq, told));
    }
}

/// What waits to be told.
#[derive(Debug, Default)]
pub(in crate::sandbox) struct Inbound {
    pub(super) settings: Gateway,
    pub(super) sessions: BTreeMap<String, Session>,
    pub(super) interactions: BTreeMap<String, Interaction>,
    pub(super) commands: Vec<Value>,
    /// Where this world is served, as its callers name it: `http://127.0.0.1:3000`.
    pub(super) base: String,
    pub(super) wake: Arc<Notify>,
    pub(super) started: u32,
    pub(super) last_start: Option<Timestamp>,
    serial: u64,
}

impl Inbound {
    /// Somebody did something.
    pub(in crate::sandbox) fn hear(&mut self, heard: &Heard, now: Timestamp) {
        let (Heard::Message { channel, .. }
        | Heard::Command { channel, .. }
        | Heard::Press { channel, .. }) = heard;
        // Nobody else hears of what is for one person's eyes.
        let secret = matches!(heard, Heard::Message { message, .. } if message.only_for.is_some());
        if channel.standing == Standing::Outside || secret {
            return;
        }
        let intent = match (heard, channel.direct) {
            (Heard::Message { .. }, Some(_)) => DIRECT_MESSAGES,
            (Heard::Message { .. }, None) => GUILD_MESSAGES,
            _ => 0,
        };
        let (author, what) = match heard {
            Heard::Message { message, .. } => {
                self.tell(intent, &Told::Message(Box::new(message.clone())));
                return;
            }
            Heard::Command { author, text, .. } => (author, What::Command { text: text.clone() }),
            Heard::Press { author, message, key, .. } => {
                let message = Box::new(message.clone());
                (author, What::Press { message, key: key.clone() })
            }
        };
        let id = self.next_id();
        let interaction = Interaction::new(&id, channel, author, what, now);
        self.interactions.insert(id.clone(), interaction);
        self.tell(intent, &Told::Interaction(id));
    }

    /// A thread was opened.
    pub(super) fn tell_thread(&mut self, thread: Value) {
        self.tell(GUILDS, &Told::Event("THREAD_CREATE", thread));
    }

    /// Every session hears everything that its intents cover.
    fn tell(&mut self, intent: u64, told: &Told) {
        for session in self.sessions.values_mut() {
            if session.intents & intent == intent {
                session.tell(told.clone());
            }
        }
        self.wake.notify_waiters();
    }

    /// An ID that nothing else has.
    pub(super) fn next_id(&mut self) -> String {
        self.serial += 1;
        (600_000_000_000_000_000 + self.serial).to_string()
    }

    /// Whether a line that begins with a slash is one of the bot's commands. If not, it is a message like any other.
    pub(in crate::sandbox) fn is_command(&self, line: &str) -> bool {
        let name = line.trim_start_matches('/').split_whitespace().next().unwrap_or_default();
        self.commands.iter().any(|command| command.get("name") == Some(&json!(name)))
    }

    /// Forgets sessions that nobody came back for.
    pub(super) fn forget(&mut self, now: Timestamp) {
        self.sessions
            .retain(|_, session| session.left_at.is_none_or(|left| now.since(left) <= RESUMABLE));
    }

    /// What a session has not heard after `after`; `None` if it is too long ago.
    pub(super) fn after(&self, id: &str, after: u64) -> Option<Vec<(u64, Told)>> {
        let session = self.sessions.get(id)?;
        let first = session.told.front().map_or(session.seq + 1, |(seq, _)| *seq);
        if after + 1 < first {
            return None;
        }
        Some(session.told.iter().filter(|(seq, _)| *seq > after).cloned().collect())
    }
}

/// A new session, with READY and the server waiting in it. Returns its ID.
pub(super) fn identified(state: &mut State, intents: u64, connection: u64, resume: &str) -> String {
    let mut id = state.discord.next_id();
    id.insert_str(0, "sandbox");
    let ready = json!({
        "v": 10, "user": message::bot_user(), "session_type": "normal", "session_id": id,
        "resume_gateway_url": resume, "guilds": [{ "id": GUILD, "unavailable": true }],
        "application": { "id": BOT_ID, "flags": 0 },
    });
    let mut session = Session { intents, seq: 0, told: VecDeque::new(), connection, left_at: None };
    session.tell(Told::Event("READY", ready));
    if intents & GUILDS != 0 {
        session.tell(Told::Event("GUILD_CREATE", guild(state)));
    }
    state.discord.sessions.insert(id.clone(), session);
    id
}

fn guild(state: &State) -> Value {
    let seen = |threads: bool| -> Vec<Value> {
        state
            .channels()
            .filter(|c| c.vendor == Vendor::Discord && c.direct.is_none())
            .filter(|c| c.parent.is_some() == threads && c.standing != Standing::Outside)
            .map(channel_object)
            // Within a server's object nothing says again which server it is.
            .map(|mut channel| {
                if let Some(fields) = channel.as_object_mut() {
                    fields.remove("guild_id");
                }
                channel
            })
            .collect()
    };
    json!({
        "id": GUILD, "name": "Sandbox", "unavailable": false, "large": false, "member_count": 4,
        "channels": seen(false), "threads": seen(true), "members": [], "presences": [],
        "roles": [
            { "id": GUILD, "name": "@everyone", "permissions": "0", "managed": false },
            { "id": "200000000000000009", "name": "herald", "permissions": "0", "managed": true,
              "tags": { "bot_id": BOT_ID } },
        ],
    })
}

/// An event as a session with these intents is told it: its name and its data.
pub(super) fn event(told: &Told, intents: u64, state: &State) -> (&'static str, Value) {
    match told {
        Told::Event(name, data) => (name, data.clone()),
        Told::Message(message) => ("MESSAGE_CREATE", created(message, intents, state)),
        Told::Interaction(id) => {
            let data = state.discord.interactions.get(id).map(|i| i.object(state));
            ("INTERACTION_CREATE", data.unwrap_or_default())
        }
    }
}

fn created(message: &Message, intents: u64, state: &State) -> Value {
    let id = message.channel.trim_start_matches("discord:");
    let direct = state.channel(Vendor::Discord, id).is_some_and(|c| c.direct.is_some());
    let mut object = message::object(message, id, state);
    let answered = message.reply_to.as_deref();
    let answered = answered.and_then(|first| state.find(Vendor::Discord, id, first));
    let meant = mentions::mentions_bot(&mentions::as_sent(message), answered);
    let readable = intents & MESSAGE_CONTENT != 0 || direct || message.bot || meant;
    if let Some(fields) = object.as_object_mut() {
        if !direct {
            fields.insert("guild_id".to_owned(), json!(GUILD));
            fields.insert("member".to_owned(), super::places::member_object());
        }
        if !readable {
            fields.insert("content".to_owned(), json!(""));
            for list in ["embeds", "attachments", "components"] {
                fields.insert(list.to_owned(), json!([]));
            }
        }
    }
    object
}
