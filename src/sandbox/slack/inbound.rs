//! What Slack tells the bot: the queue of envelopes, and what is in them.
//! <https://docs.slack.dev/apis/events-api/>

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::super::channels::{Channel, Standing};
use super::super::people::person;
use super::super::state::{Heard, Message};
use super::files::Pending;
use super::response::ResponseUrl;
use super::{APP, BOT, TEAM, USER};
use crate::clock::Timestamp;
use crate::sandbox::Vendor;

/// How long Slack waits for an acknowledgement.
const PATIENCE: Duration = Duration::from_secs(3);
/// When an event is told again: at once, after a minute, after five; then never.
const RETRIES: [Duration; 3] =
    [Duration::ZERO, Duration::from_secs(60), Duration::from_secs(5 * 60)];
/// What nobody came for is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(6 * 60);
/// The most that wait.
const MOST: usize = 10_000;
/// Stands for the address the workspace is served under, until it is told.
const BASE: &str = "http://base.invalid";

/// What an envelope holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Event,
    Command,
    Interaction,
}

impl Kind {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Event => "events_api",
            Self::Command => "slash_commands",
            Self::Interaction => "interactive",
        }
    }
}

/// Something to be told, and acknowledged.
#[derive(Clone, Debug)]
pub(super) struct Envelope {
    pub(super) id: String,
    pub(super) kind: Kind,
    pub(super) payload: Value,
    pub(super) attempt: usize,
    /// Why it is told again.
    pub(super) reason: &'static str,
    /// Which connection has it, and since when.
    held: Option<(u64, Instant)>,
    due: Instant,
    born: Instant,
}

/// What waits to be told, and who listens.
#[derive(Debug)]
pub(in crate::sandbox) struct Inbound {
    envelopes: VecDeque<Envelope>,
    /// Changes whenever there may be something to tell.
    news: watch::Sender<u64>,
    connections: BTreeSet<u64>,
    tickets: BTreeSet<String>,
    pub(super) responses: BTreeMap<String, ResponseUrl>,
    pub(super) uploads: BTreeMap<String, Pending>,
    base: String,
    pub(super) patience: Duration,
    /// The longest that an acknowledgement took.
    pub(super) slowest: Duration,
    /// Events go to the request URL; this is its number, so that an older pusher ends.
    pub(super) pushing: Option<u64>,
    counter: u64,
}

impl Default for Inbound {
    fn default() -> Self {
        Self {
            envelopes: VecDeque::new(),
            news: watch::Sender::new(0),
            connections: BTreeSet::new(),
            tickets: BTreeSet::new(),
            responses: BTreeMap::new(),
            uploads: BTreeMap::new(),
            base: "http://127.0.0.1".to_owned(),
            patience: PATIENCE,
            slowest: Duration::ZERO,
            pushing: None,
            counter: 0,
        }
    }
}

impl Inbound {
    /// Somebody did something.
    pub(in crate::sandbox) fn hear(&mut self, heard: &Heard, now: Timestamp) {
        match heard {
            Heard::Message { message, channel } => self.hear_message(message, channel, now),
            Heard::Command { channel, author, text } => {
                self.hear_command(channel, author, text, now);
            }
            Heard::Press { channel, author, message, key } => {
                self.hear_press(channel, author, message, key, now);
            }
        }
    }

    /// Where the workspace is reached.
    pub(in crate::sandbox) fn served_under(&mut self, base: &str) {
        base.clone_into(&mut self.base);
    }

    /// An address below the workspace's, for now or for what is told later.
    pub(super) fn address(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn hear_message(&mut self, message: &Message, channel: &Channel, now: Timestamp) {
        let deaf = matches!(channel.standing, Standing::Outside | Standing::Archived);
        if deaf || message.only_for.is_some() {
            return;
        }
        let event = message_event(message, channel);
        let number = self.count();
        self.put(Kind::Event, callback(event.clone(), number, now));
        let mention = format!("<@{USER}");
        let text = event.get("text").and_then(Value::as_str);
        let mentioned = text.is_some_and(|text| text.contains(&mention));
        if mentioned && !message.bot && channel.direct.is_none() {
            let mut event = event;
            if let Some(event) = event.as_object_mut() {
                event.insert("type".to_owned(), json!("app_mention"));
                event.remove("channel_type");
                event.remove("subtype");
            }
            let number = self.count();
            self.put(Kind::Event, callback(event, number, now));
        }
    }

    fn hear_command(&mut self, channel: &Channel, author: &str, text: &str, now: Timestamp) {
        let who = person(Vendor::Slack, author);
        let (command, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let response_url = self.response_url(channel, author, None, now);
        let payload = json!({
            "token": "sandbox", "team_id": TEAM, "team_domain": "sandbox",
            "channel_id": channel.id, "channel_name": name_of(channel),
            "user_id": who.id, "user_name": who.name, "command": command,
            "text": escape(rest.trim()), "api_app_id": APP, "is_enterprise_install": "false",
            "response_url": response_url, "trigger_id": self.trigger(),
        });
        self.put(Kind::Command, payload);
    }

    fn hear_press(
        &mut self,
        channel: &Channel,
        author: &str,
        message: &Message,
        key: &str,
        now: Timestamp,
    ) {
        let who = person(Vendor::Slack, author);
        let blocks = message.payload.get("blocks").and_then(Value::as_array);
        let elements = blocks.into_iter().flatten().filter_map(|b| b.get("elements")?.as_array());
        let pressed = elements.flatten().find(|e| e.get("value") == Some(&json!(key)));
        let field = |name: &str| pressed.and_then(|e| e.get(name)).cloned().unwrap_or_default();
        let response_url = self.response_url(channel, author, Some(&message.id), now);
        let ephemeral = message.only_for.is_some();
        let payload = json!({
            "type": "block_actions", "api_app_id": APP, "token": "sandbox",
            "team": { "id": TEAM, "domain": "sandbox" }, "enterprise": null,
            "is_enterprise_install": false,
            "user": { "id": who.id, "username": who.name, "name": who.name, "team_id": TEAM },
            "channel": { "id": channel.id, "name": name_of(channel) },
            "container": {
                "type": "message", "message_ts": message.id, "channel_id": channel.id,
                "is_ephemeral": ephemeral, "thread_ts": message.thread,
            },
            "message": {
                "type": "message", "ts": message.id, "user": USER, "bot_id": BOT, "text": message.text,
                "thread_ts": message.thread, "blocks": message.payload.get("blocks"),
            },
            "state": { "values": {} }, "response_url": response_url, "trigger_id": self.trigger(),
            "actions": [{
                "type": "button", "action_id": field("action_id"), "block_id": "sandbox",
                "value": key, "text": field("text"), "style": field("style"),
                "action_ts": format!("{}.{:06}", now.0 / 1000, now.0 % 1000 * 1000),
            }],
        });
        self.put(Kind::Interaction, payload);
    }

    fn response_url(
        &mut self,
        channel: &Channel,
        author: &str,
        original: Option<&str>,
        now: Timestamp,
    ) -> String {
        let token = format!("{TEAM}-{}-{:08x}", self.count(), now.0 & 0xffff_ffff);
        self.responses.retain(|_, url| url.is_fresh(now));
        let url = ResponseUrl::new(&channel.id, author, original, now);
        self.responses.insert(token.clone(), url);
        format!("{BASE}/sandbox/slack/response/{token}")
    }

    pub(super) fn count(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    fn trigger(&mut self) -> String {
        format!("{}.1.sandbox", self.count())
    }

    fn put(&mut self, kind: Kind, payload: Value) {
        if self.envelopes.len() >= MOST {
            self.envelopes.pop_front();
        }
        let now = Instant::now();
        let id = format!("00000000-0000-4000-8000-{:012x}", self.count());
        self.envelopes.push_back(Envelope {
            id,
            kind,
            payload,
            attempt: 0,
            reason: "",
            held: None,
            due: now,
            born: now,
        });
        self.wake();
    }

    fn wake(&self) {
        self.news.send_modify(|news| *news = news.wrapping_add(1));
    }

    /// The address of a WebSocket that may be opened once.
    pub(super) fn issue_ticket(&mut self) -> String {
        let ticket = format!("ticket-{}", self.count());
        self.tickets.insert(ticket.clone());
        let address = self.address("/sandbox/slack/socket").replacen("http", "ws", 1);
        format!("{address}?ticket={ticket}&app_id={APP}")
    }

    pub(super) fn redeem(&mut self, ticket: &str) -> bool {
        self.tickets.remove(ticket)
    }

    /// Somebody listens from now on: their number, and how they learn of news.
    pub(super) fn connect(&mut self) -> (u64, watch::Receiver<u64>) {
        let number = self.count();
        self.connections.insert(number);
        (number, self.news.subscribe())
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.len()
    }

    /// They listen no more: what they did not acknowledge goes to somebody else.
    pub(super) fn disconnect(&mut self, number: u64) {
        self.connections.remove(&number);
        for envelope in &mut self.envelopes {
            if envelope.held.take_if(|(holder, _)| *holder == number).is_some() {
                envelope.attempt += 1;
                envelope.reason = "connection_closed";
            }
        }
        self.wake();
    }

    /// What to tell next, to this listener.
    pub(super) fn next(&mut self, number: u64) -> Option<Envelope> {
        self.sweep();
        let now = Instant::now();
        let next = self.envelopes.iter_mut().find(|e| e.held.is_none() && e.due <= now)?;
        next.held = Some((number, now));
        let mut envelope = next.clone();
        // Only now is it known where the workspace is served.
        let payload = envelope.payload.to_string().replace(BASE, &self.base);
        envelope.payload = serde_json::from_str(&payload).unwrap_or_default();
        Some(envelope)
    }

    /// When something happens by itself: an acknowledgement is overdue, or a repetition is due.
    pub(super) fn alarm(&self) -> Option<Instant> {
        let times = self.envelopes.iter().map(|envelope| match envelope.held {
            Some((_, since)) => since + self.patience,
            None => envelope.due,
        });
        times.min()
    }

    pub(super) fn acknowledge(&mut self, id: &str) {
        let Some(place) = self.envelopes.iter().position(|envelope| envelope.id == id) else {
            return;
        };
        let acknowledged = self.envelopes.remove(place);
        if let Some((_, since)) = acknowledged.and_then(|envelope| envelope.held) {
            self.slowest = self.slowest.max(since.elapsed());
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.envelopes.len()
    }

    /// It was not acknowledged: an event is told again, of the rest somebody sees an error.
    pub(super) fn fail(&mut self, id: &str, reason: &'static str) {
        let Some(place) = self.envelopes.iter().position(|envelope| envelope.id == id) else {
            return;
        };
        let Some(envelope) = self.envelopes.get_mut(place) else {
            return;
        };
        match RETRIES.get(envelope.attempt) {
            Some(wait) if envelope.kind == Kind::Event => {
                envelope.held = None;
                envelope.attempt += 1;
                envelope.reason = reason;
                envelope.due = Instant::now() + *wait;
                self.wake();
            }
            _ => {
                self.envelopes.remove(place);
            }
        }
    }

    fn sweep(&mut self) {
        let (now, patience) = (Instant::now(), self.patience);
        self.envelopes.retain(|e| e.held.is_some() || e.attempt > 0 || now - e.born < FORGOTTEN);
        let overdue = |e: &&Envelope| e.held.is_some_and(|(_, since)| now - since >= patience);
        let overdue: Vec<String> =
            self.envelopes.iter().filter(overdue).map(|e| e.id.clone()).collect();
        for id in overdue {
            self.fail(&id, "timeout");
        }
    }
}

/// The Events API's wrapper. <https://docs.slack.dev/apis/events-api/#event-type-structure>
fn callback(event: Value, number: u64, now: Timestamp) -> Value {
    json!({
        "token": "sandbox", "team_id": TEAM, "context_team_id": TEAM, "context_enterprise_id": null,
        "api_app_id": APP, "type": "event_callback", "event_id": format!("Ev0{number:08}"),
        "event_time": now.0 / 1000, "event": event, "is_ext_shared_channel": false,
        "authorizations": [{
            "enterprise_id": null, "team_id": TEAM, "user_id": USER, "is_bot": true,
            "is_enterprise_install": false,
        }],
        "event_context": format!("4-sandbox-{number}"),
    })
}

/// <https://docs.slack.dev/reference/events/message>
fn message_event(message: &Message, channel: &Channel) -> Value {
    let bot = message.bot;
    let user = if bot { USER.to_owned() } else { person(Vendor::Slack, &message.author).id };
    let text = if bot { message.text.clone() } else { written(&message.text) };
    let kind = match (channel.direct, channel.private) {
        (Some(_), _) => "im",
        (None, true) => "group",
        (None, false) => "channel",
    };
    let mut event = json!({
        "type": "message", "user": user, "ts": message.id, "event_ts": message.id, "text": text,
        "team": TEAM, "channel": channel.id, "channel_type": kind,
    });
    let Some(fields) = event.as_object_mut() else {
        return event;
    };
    let mut add = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    if let Some(thread) = &message.thread {
        add("thread_ts", json!(thread));
    }
    if bot {
        add("bot_id", json!(BOT));
        add("app_id", json!(APP));
        add("bot_profile", json!({ "id": BOT, "app_id": APP, "name": "herald", "team_id": TEAM }));
    } else {
        add(
            "client_msg_id",
            json!(format!("00000000-0000-4000-9000-{}", message.id.replace('.', ""))),
        );
    }
    if !message.files.is_empty() {
        add("subtype", json!("file_share"));
        let files = message.files.iter().map(|file| {
            let url = format!("{BASE}/sandbox/slack/files/{}", file.id);
            json!({
                "id": file.id, "name": file.name, "title": file.name, "mimetype": file.mime,
                "mode": "hosted", "is_external": false, "size": file.bytes.len(), "user": user,
                "url_private": url, "url_private_download": format!("{url}?download=1"),
            })
        });
        add("files", files.collect());
    }
    event
}

/// What the client makes of what a person types: a bot's name becomes a mention. Slack's markup is left as it is.
fn written(text: &str) -> String {
    text.replace("@herald", &format!("<@{USER}>"))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn name_of(channel: &Channel) -> &str {
    match (channel.direct, channel.private) {
        (Some(_), _) => "directmessage",
        (None, true) => "privategroup",
        (None, false) => &channel.name,
    }
}
