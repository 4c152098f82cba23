//! `chat.*`: posting, editing, deleting and linking messages.

use serde_json::{Value, json};

use super::blocks::{self, Refused};
use super::{Arguments, HOST, is_true, known_channel, required, shape, text_of, warn};
use crate::sandbox::channels::{Channel, Standing};
use crate::sandbox::exchange::Desk;
use crate::sandbox::state::{Button, Message, State, everyone};
use crate::sandbox::{Event, Vendor};

/// Longer text is cut off.
const TEXT_CUT: usize = 40_000;
/// Longer text without blocks arrives as several messages. Undocumented (slackapi/bolt-python#764).
const TEXT_SPLIT: usize = 4_000;
/// The most that `chat.update` takes as text.
const UPDATE_TEXT: usize = 4_000;
/// The most that `markdown_text` takes.
const MARKDOWN_TEXT: usize = 12_000;

/// The channel of a call, if the bot may write there.
pub(super) fn writable<'a>(id: Option<&str>, state: &'a State) -> Result<&'a Channel, Refused> {
    let channel = known_channel(id, state)?;
    match channel.standing {
        Standing::Outside => Err(Refused::code("not_in_channel")),
        Standing::Archived => Err(Refused::code("is_archived")),
        _ => Ok(channel),
    }
}

/// What a message says: checked, with the text that people see.
pub(super) struct Content {
    pub shown: String,
    /// Whom its mentions notify.
    pub pings: Vec<String>,
    pub buttons: Vec<Vec<Button>>,
}

/// Checks text, blocks and metadata as both posting and updating do.
pub(super) fn content(arguments: &Arguments) -> Result<Content, Refused> {
    let text = match arguments.get("text") {
        None => "",
        Some(Value::String(text)) => text,
        Some(_) => return Err(Refused::code("invalid_arguments")),
    };
    let blocks = match arguments.get("blocks") {
        None => &[],
        Some(Value::Array(blocks)) => blocks.as_slice(),
        Some(_) => return Err(Refused::code("invalid_blocks_format")),
    };
    let attachments = arguments.get("attachments").and_then(Value::as_array).map_or(0, Vec::len);
    if attachments > 100 {
        return Err(Refused::code("too_many_attachments"));
    }
    let markdown = text_of(arguments, "markdown_text").filter(|m| !m.trim().is_empty());
    if markdown.is_some() && (arguments.contains_key("text") || !blocks.is_empty()) {
        return Err(Refused::code("markdown_text_conflict"));
    }
    if markdown.is_some_and(|m| m.chars().count() > MARKDOWN_TEXT) {
        return Err(Refused::code("msg_too_long"));
    }
    if text.trim().is_empty() && blocks.is_empty() && attachments == 0 && markdown.is_none() {
        return Err(Refused::code("no_text"));
    }
    if let Some(metadata) = arguments.get("metadata") {
        check_metadata(metadata)?;
    }
    let said = blocks::check(blocks)?;
    let mrkdwn = arguments.get("mrkdwn").is_none_or(|_| is_true(arguments, "mrkdwn"));
    let (shown, active) = match (markdown, said) {
        (Some(markdown), _) => (markdown.to_owned(), markdown.to_owned()),
        (None, Some(said)) => (said.shown, said.active),
        (None, None) => (text.to_owned(), if mrkdwn { text.to_owned() } else { String::new() }),
    };
    Ok(Content { pings: blocks::pings(&active), buttons: blocks::buttons(blocks), shown })
}

/// <https://docs.slack.dev/messaging/message-metadata>
fn check_metadata(metadata: &Value) -> Result<(), Refused> {
    let wrong = || Refused::code("invalid_metadata_format");
    let object = metadata.as_object().ok_or_else(wrong)?;
    let named = object.get("event_type").and_then(Value::as_str);
    let payload = object.get("event_payload").and_then(Value::as_object);
    let known = ["event_type", "event_payload", "entities"];
    if named.is_none_or(str::is_empty)
        || payload.is_none()
        || object.keys().any(|key| !known.contains(&key.as_str()))
    {
        return Err(wrong());
    }
    Ok(())
}

/// The parent of the thread that `ts` opens or belongs to.
pub(super) fn parent_of(state: &State, channel: &str, ts: &str) -> Result<String, Refused> {
    let shaped = ts.split_once('.').is_some_and(|(seconds, micros)| {
        let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        digits(seconds) && digits(micros) && micros.len() == 6
    });
    if !shaped {
        return Err(Refused::because(
            "invalid_thread_ts",
            format!("[ERROR] {ts} is not a valid thread_ts"),
        ));
    }
    let message =
        state.find(Vendor::Slack, channel, ts).ok_or_else(|| Refused::code("thread_not_found"))?;
    Ok(message.thread.clone().unwrap_or_else(|| message.id.clone()))
}

pub(super) fn post(arguments: &Arguments, desk: Desk<'_>) -> Result<Value, Refused> {
    let channel = writable(text_of(arguments, "channel"), desk.state)?.id.clone();
    let content = content(arguments)?;
    let thread = match arguments.get("thread_ts") {
        None => None,
        Some(Value::String(ts)) => Some(parent_of(desk.state, &channel, ts)?),
        // A number loses digits: Slack takes it and the thread is lost. Here it is told.
        Some(other) => {
            return Err(Refused::because(
                "invalid_thread_ts",
                format!("[ERROR] {other} is not a valid thread_ts"),
            ));
        }
    };
    let text = text_of(arguments, "text").unwrap_or_default();
    let cut = text.chars().count() > TEXT_CUT;
    let pieces = if content.shown == text { split(text) } else { vec![content.shown] };
    let mut first: Option<Value> = None;
    for piece in pieces {
        let id = desk.state.next_id(Vendor::Slack, desk.now);
        let message = Message {
            channel: Vendor::Slack.key(&channel),
            id,
            author: "herald".to_owned(),
            bot: true,
            text: piece,
            payload: Value::Object(arguments.clone()),
            thread: thread.clone(),
            reply_to: None,
            edited: false,
            deleted: false,
            pinged_everyone: everyone(&content.pings),
            pings: content.pings.clone(),
            buttons: content.buttons.clone(),
            files: Vec::new(),
            only_for: None,
            received_at: desk.now,
        };
        desk.state.keep(message.clone());
        if first.is_none() {
            first = Some(json!({
                "ok": true, "channel": channel, "ts": message.id, "message": shape(&message, true),
            }));
        }
        desk.events.push(Event::Message { message });
    }
    let mut body = first.ok_or_else(|| Refused::code("no_text"))?;
    if cut {
        warn(&mut body, "message_truncated");
    }
    Ok(body)
}

/// An edit notifies those who are new in it.
pub(super) fn notify(message: &mut Message, pings: Vec<String>) {
    message.pinged_everyone |= everyone(&pings);
    for ping in pings {
        if !message.pings.contains(&ping) {
            message.pings.push(ping);
        }
    }
}

/// Text in the pieces that Slack makes of it.
fn split(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().take(TEXT_CUT).collect();
    characters.chunks(TEXT_SPLIT).map(|chunk| chunk.iter().collect()).collect()
}

pub(super) fn update(arguments: &Arguments, desk: Desk<'_>) -> Result<Value, Refused> {
    let channel = writable(text_of(arguments, "channel"), desk.state)?.id.clone();
    let ts = required(arguments, "ts")?;
    let found = desk
        .state
        .find_mut(Vendor::Slack, &channel, ts)
        .ok_or_else(|| Refused::code("message_not_found"))?;
    if !found.bot {
        return Err(Refused::code("cant_update_message"));
    }
    if text_of(arguments, "text").is_some_and(|t| t.chars().count() > UPDATE_TEXT) {
        return Err(Refused::code("msg_too_long"));
    }
    // What an update does not name stays as it was; an empty list of blocks removes them.
    let mut arguments = arguments.clone();
    if !arguments.contains_key("markdown_text") {
        for name in ["blocks", "attachments", "metadata"] {
            if let Some(kept) = found.payload.get(name) {
                arguments.entry(name).or_insert_with(|| kept.clone());
            }
        }
    }
    let content = content(&arguments)?;
    found.text = content.shown;
    found.buttons = content.buttons;
    notify(found, content.pings);
    found.payload = Value::Object(arguments.clone());
    found.edited = true;
    let message = found.clone();
    let body = json!({
        "ok": true, "channel": channel, "ts": ts, "text": message.text,
        "message": shape(&message, true),
    });
    desk.events.push(Event::Edited { message });
    Ok(body)
}

pub(super) fn delete(arguments: &Arguments, desk: Desk<'_>) -> Result<Value, Refused> {
    let channel = writable(text_of(arguments, "channel"), desk.state)?.id.clone();
    let ts = required(arguments, "ts")?;
    let found = desk
        .state
        .find_mut(Vendor::Slack, &channel, ts)
        .ok_or_else(|| Refused::code("message_not_found"))?;
    if !found.bot {
        return Err(Refused::code("cant_delete_message"));
    }
    found.deleted = true;
    let message = found.clone();
    desk.events.push(Event::Deleted { message });
    Ok(json!({ "ok": true, "channel": channel, "ts": ts }))
}

pub(super) fn permalink(arguments: &Arguments, state: &State) -> Result<Value, Refused> {
    let channel = known_channel(text_of(arguments, "channel"), state)?;
    let message = state
        .find(Vendor::Slack, &channel.id, required(arguments, "message_ts")?)
        .ok_or_else(|| Refused::code("message_not_found"))?;
    let mut link = format!("{HOST}/archives/{}/p{}", channel.id, message.id.replace('.', ""));
    if let Some(thread) = &message.thread {
        link.push_str(&format!("?thread_ts={thread}&cid={}", channel.id));
    }
    Ok(json!({ "ok": true, "channel": channel.id, "permalink": link }))
}
