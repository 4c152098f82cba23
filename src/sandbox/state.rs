//! What the workspace remembers: channels, messages, faults and the log of requests.

use std::collections::{BTreeMap, HashMap, VecDeque};

use base64::Engine as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Vendor;
use super::channels::{self, Channel};
use super::faults::Faults;
use crate::clock::Timestamp;

/// How many requests the log keeps.
const REQUESTS: usize = 10_000;

/// 2015-01-01T00:00:00Z in Unix milliseconds, from which Discord counts.
const DISCORD_EPOCH: i64 = 1_420_070_400_000;

/// A message as the workspace keeps it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Message {
    /// Where it stands: `slack:C0ALERTS`. For a Discord thread, the thread.
    pub channel: String,
    /// The platform's ID: Slack's `ts`, Discord's snowflake, Telegram's number.
    pub id: String,
    /// Who wrote it: `herald` is the bot.
    pub author: String,
    /// Whether the bot wrote it.
    pub bot: bool,
    /// The text as it was sent, markup included. With Slack the blocks' text where there are blocks.
    pub text: String,
    /// The whole request as it was received; `null` for what a person said.
    pub payload: Value,
    /// The thread it stands in: the parent's `ts`, the Discord thread's ID, the Telegram topic.
    pub thread: Option<String>,
    /// The message it answers.
    pub reply_to: Option<String>,
    /// It was edited.
    pub edited: bool,
    /// It was deleted. It stays listed, so that tests and people see it.
    pub deleted: bool,
    /// It notified a whole channel: an active `@everyone`, `@here` or `<!channel>`.
    pub pinged_everyone: bool,
    /// Whom a mention in it notified, as the platform judges the request: `@here`, `@U0ALICE`, `@S0ONCALL`, a Discord role
    /// `@&200000000000000001`, a Telegram name `@alice`. On the safe side: whether they exist and are there is not asked,
    /// and code is no excuse.
    pub pings: Vec<String>,
    /// The buttons under it, row by row.
    pub buttons: Vec<Vec<Button>>,
    /// What is attached to it.
    pub files: Vec<File>,
    /// Only this person sees it (Slack's and Discord's ephemeral messages, Telegram's answer to a button).
    pub only_for: Option<String>,
    /// When it arrived, in Unix milliseconds.
    pub received_at: Timestamp,
}

/// Whether a whole channel is among those who are notified.
pub(super) fn everyone(pings: &[String]) -> bool {
    pings.iter().any(|ping| ["@channel", "@everyone", "@here"].contains(&ping.as_str()))
}

/// A button under a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Button {
    /// What comes back when it is pressed: Slack's `value`, Discord's `custom_id`, Telegram's `callback_data`.
    pub key: String,
    /// What people read on it.
    pub label: String,
    /// `plain`, `good` or `danger`.
    pub style: &'static str,
}

/// A file under a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct File {
    /// The platform's ID of it.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its media type.
    pub mime: String,
    /// What is in it.
    #[serde(skip)]
    pub bytes: Vec<u8>,
}

/// A file that a person attaches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upload {
    /// Its name.
    pub name: String,
    /// Its media type.
    pub mime: String,
    /// What is in it, in base64.
    pub base64: String,
}

/// A person presses a button, `POST /sandbox/api/presses`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Press {
    /// Where the message stands: as in [`Message::channel`].
    pub channel: String,
    /// The message.
    pub message: String,
    /// The button's key.
    pub key: String,
    /// Who. Default `alice`.
    pub author: Option<String>,
}

/// Why a button could not be pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotPressed {
    /// No such message, or it was deleted.
    #[error("there is no such message")]
    NoMessage,
    /// It has no such button, or not any more.
    #[error("the message has no such button")]
    NoButton,
}

/// What people did, for the vendors' inbound sides.
#[derive(Clone, Debug)]
pub(super) enum Heard {
    /// Something was written, by a person or by the bot itself.
    Message { message: Message, channel: Channel },
    /// Somebody used a slash command (Slack, Discord): the whole line, with the slash.
    Command { channel: Channel, author: String, text: String },
    /// Somebody pressed a button.
    Press { channel: Channel, author: String, message: Message, key: String },
}

/// What a person says, `POST /sandbox/api/messages`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Speech {
    /// Where: `slack:C0ALERTS`.
    pub channel: String,
    /// What, in the platform's own markup.
    pub text: String,
    /// Who. Default `alice`.
    pub author: Option<String>,
    /// In which thread: as in [`Message::thread`].
    pub thread: Option<String>,
    /// In answer to which message.
    pub reply_to: Option<String>,
    /// What is attached.
    #[serde(default)]
    pub files: Vec<Upload>,
}

/// Why something could not be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSpoken {
    /// No such channel.
    #[error("there is no such channel; GET /sandbox/api/channels lists them")]
    NoChannel,
    /// Nothing to say.
    #[error("the text is empty")]
    Empty,
    /// An attached file is no base64.
    #[error("a file's content has to be base64")]
    NoBase64,
}

/// One request to a platform's API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Request {
    /// Its number, from 1.
    pub number: u64,
    /// Whose API.
    pub platform: Vendor,
    /// The method by the vendor's name: `chat.postMessage`, `create_message`, `sendMessage`.
    pub method: String,
    /// HTTP method and path, without the token.
    pub path: String,
    /// The channel it names.
    pub channel: Option<String>,
    /// When it arrived, in Unix milliseconds.
    pub received_at: Timestamp,
    /// `ok`, the vendor's error, `fault:…`, or `open` while there is no answer yet.
    pub outcome: String,
}

pub(super) struct State {
    channels: BTreeMap<String, Channel>,
    messages: Vec<Message>,
    /// Channel key and message ID to the place in `messages`.
    places: HashMap<(String, String), usize>,
    /// Discord: the nonces seen, with the message each one stands for.
    pub nonces: HashMap<String, (Timestamp, usize)>,
    pub faults: Faults,
    /// What the platforms would tell the bot.
    pub slack: super::slack::Inbound,
    pub discord: super::discord::Inbound,
    pub telegram: super::telegram::Inbound,
    pub requests: VecDeque<Request>,
    arrived: u64,
    last_ts: i64,
    last_snowflake: i64,
    last_number: i64,
}

impl Default for State {
    fn default() -> Self {
        Self {
            channels: channels::all().into_iter().map(|channel| (channel.key(), channel)).collect(),
            messages: Vec::new(),
            places: HashMap::new(),
            nonces: HashMap::new(),
            faults: Faults::default(),
            slack: super::slack::Inbound::default(),
            discord: super::discord::Inbound::default(),
            telegram: super::telegram::Inbound::default(),
            requests: VecDeque::new(),
            arrived: 0,
            last_ts: 0,
            last_snowflake: 200_000_000_000_000_000,
            last_number: 100,
        }
    }
}

impl State {
    /// All channels in the order of the page.
    pub(super) fn channels(&self) -> impl Iterator<Item = &Channel> {
        self.channels.values()
    }

    pub(super) fn channel(&self, vendor: Vendor, id: &str) -> Option<&Channel> {
        self.channels.get(&vendor.key(id))
    }

    pub(super) fn add_channel(&mut self, channel: Channel) {
        self.channels.insert(channel.key(), channel);
    }

    /// A Telegram chat by its public name.
    pub(super) fn by_name(&self, name: &str) -> Option<&Channel> {
        self.channels
            .values()
            .find(|c| c.vendor == Vendor::Telegram && c.topic.eq_ignore_ascii_case(name))
    }

    /// The messages of a channel and of its threads.
    pub(super) fn messages(&self, key: &str) -> Vec<Message> {
        self.messages
            .iter()
            .filter(|message| {
                message.channel == key
                    || self
                        .channels
                        .get(&message.channel)
                        .and_then(|c| c.parent.as_deref())
                        .is_some_and(|parent| Vendor::Discord.key(parent) == key)
            })
            .cloned()
            .collect()
    }

    /// A message that was not deleted.
    pub(super) fn find(&self, vendor: Vendor, channel: &str, id: &str) -> Option<&Message> {
        let place = self.places.get(&(vendor.key(channel), id.to_owned()))?;
        self.messages.get(*place).filter(|m| !m.deleted)
    }

    pub(super) fn find_mut(
        &mut self,
        vendor: Vendor,
        channel: &str,
        id: &str,
    ) -> Option<&mut Message> {
        let place = self.places.get(&(vendor.key(channel), id.to_owned()))?;
        self.messages.get_mut(*place).filter(|m| !m.deleted)
    }

    /// Keeps a message and returns its place.
    pub(super) fn keep(&mut self, message: Message) -> usize {
        let place = self.messages.len();
        self.places.insert((message.channel.clone(), message.id.clone()), place);
        self.messages.push(message);
        place
    }

    pub(super) fn at(&self, place: usize) -> Option<&Message> {
        self.messages.get(place)
    }

    /// Unique and later than every one before, as the platform writes its message IDs.
    pub(super) fn next_id(&mut self, vendor: Vendor, now: Timestamp) -> String {
        match vendor {
            Vendor::Slack => {
                self.last_ts = (self.last_ts + 1).max(now.0.saturating_mul(1000));
                let (seconds, micros) = (self.last_ts / 1_000_000, self.last_ts % 1_000_000);
                format!("{seconds}.{micros:06}")
            }
            Vendor::Discord => {
                let time = now.0.saturating_sub(DISCORD_EPOCH).saturating_mul(1 << 22);
                self.last_snowflake = (self.last_snowflake + 1).max(time);
                self.last_snowflake.to_string()
            }
            Vendor::Telegram => {
                self.last_number += 1;
                self.last_number.to_string()
            }
        }
    }

    pub(super) fn speak(&mut self, speech: &Speech, now: Timestamp) -> Result<Message, NotSpoken> {
        let channel = self.channels.get(&speech.channel).ok_or(NotSpoken::NoChannel)?;
        if speech.text.trim().is_empty() && speech.files.is_empty() {
            return Err(NotSpoken::Empty);
        }
        let mut files = Vec::new();
        for (n, upload) in speech.files.iter().enumerate() {
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(&upload.base64)
                .map_err(|_| NotSpoken::NoBase64)?;
            let id = format!("F0{:08}{n}", self.messages.len());
            files.push(File { id, name: upload.name.clone(), mime: upload.mime.clone(), bytes });
        }
        let vendor = channel.vendor;
        // A Discord thread is a channel of its own.
        let (key, thread) = match (&channel.parent, &speech.thread) {
            (Some(_), _) => (channel.key(), Some(channel.id.clone())),
            (None, Some(thread)) if vendor == Vendor::Discord => {
                let key = vendor.key(thread);
                if !self.channels.contains_key(&key) {
                    return Err(NotSpoken::NoChannel);
                }
                (key, Some(thread.clone()))
            }
            (None, thread) => (channel.key(), thread.clone()),
        };
        let message = Message {
            channel: key,
            id: self.next_id(vendor, now),
            author: speech.author.clone().unwrap_or_else(|| "alice".to_owned()),
            bot: false,
            text: speech.text.clone(),
            payload: Value::Null,
            thread,
            reply_to: speech.reply_to.clone(),
            edited: false,
            deleted: false,
            pinged_everyone: false,
            pings: Vec::new(),
            buttons: Vec::new(),
            files,
            only_for: None,
            received_at: now,
        };
        self.keep(message.clone());
        Ok(message)
    }

    /// A slash command is heard by the bot and seen by nobody.
    pub(super) fn command(&self, speech: &Speech) -> Option<Heard> {
        let channel = self.channels.get(&speech.channel)?;
        // A Discord thread is a channel of its own.
        let thread = speech.thread.as_ref().filter(|_| channel.vendor == Vendor::Discord);
        let thread = thread.and_then(|id| self.channel(Vendor::Discord, id));
        let channel = thread.unwrap_or(channel);
        // Telegram's commands are messages; Slack's do not run in threads.
        let command = speech.text.starts_with('/')
            && match channel.vendor {
                Vendor::Slack => speech.thread.is_none(),
                Vendor::Discord => self.discord.is_command(&speech.text),
                Vendor::Telegram => false,
            };
        let author = speech.author.clone().unwrap_or_else(|| "alice".to_owned());
        let (channel, text) = (channel.clone(), speech.text.clone());
        command.then_some(Heard::Command { channel, author, text })
    }

    /// What the bot hears of a message.
    pub(super) fn heard(&self, message: &Message) -> Option<Heard> {
        let channel = self.channels.get(&message.channel)?.clone();
        Some(Heard::Message { message: message.clone(), channel })
    }

    /// What the bot hears when a button is pressed.
    pub(super) fn press(&self, press: &Press) -> Result<Heard, NotPressed> {
        let place = self.places.get(&(press.channel.clone(), press.message.clone()));
        let message = place.and_then(|place| self.messages.get(*place)).filter(|m| !m.deleted);
        let message = message.ok_or(NotPressed::NoMessage)?.clone();
        if !message.buttons.iter().flatten().any(|button| button.key == press.key) {
            return Err(NotPressed::NoButton);
        }
        let channel = self.channels.get(&press.channel).ok_or(NotPressed::NoMessage)?.clone();
        let author = press.author.clone().unwrap_or_else(|| "alice".to_owned());
        Ok(Heard::Press { channel, author, message, key: press.key.clone() })
    }

    /// Lets the vendors' inbound sides know.
    pub(super) fn hear(&mut self, heard: &Heard, now: Timestamp) {
        let (Heard::Message { channel, .. }
        | Heard::Command { channel, .. }
        | Heard::Press { channel, .. }) = heard;
        match channel.vendor {
            Vendor::Slack => self.slack.hear(heard, now),
            Vendor::Discord => self.discord.hear(heard, now),
            Vendor::Telegram => self.telegram.hear(heard, now),
        }
    }

    /// Writes a request into the log and returns its number.
    pub(super) fn log(&mut self, mut request: Request) -> u64 {
        self.arrived += 1;
        request.number = self.arrived;
        if self.requests.len() >= REQUESTS {
            self.requests.pop_front();
        }
        self.requests.push_back(request);
        self.arrived
    }

    /// Writes down how a request ended.
    pub(super) fn log_outcome(&mut self, number: u64, outcome: &str) {
        // Requests end soon after they arrive, so the search starts at the newest.
        if let Some(request) = self.requests.iter_mut().rev().find(|r| r.number == number) {
            outcome.clone_into(&mut request.outcome);
        }
    }
}
