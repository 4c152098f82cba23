//! Sending, editing and deleting messages. <https://core.telegram.org/bots/api#sendmessage>

use serde_json::{Value, json};

use super::text::{self, Formatted};
use super::{Parameters, Refused, bad_request, bot, chat, chat_object, number, written};
use crate::sandbox::channels::Channel;
use crate::sandbox::exchange::Desk;
use crate::sandbox::state::{Message, State};
use crate::sandbox::{Event, Vendor};

/// The topic that exists in the forum.
const TOPIC: i64 = 5;
fn formatted(given: &Parameters) -> Result<Formatted, Refused> {
    let text = match given.get("text") {
        None => "",
        Some(Value::String(text)) => text,
        Some(_) => return Err(bad_request("field \"text\" must be of type String")),
    };
    let formatted = match given.get("parse_mode").and_then(Value::as_str) {
        Some(mode) if mode.eq_ignore_ascii_case("html") => text::parse_html(text)
            .map_err(|why| bad_request(format!("can't parse entities: {why}")))?,
        None | Some("") => text::with_entities(text, given.get("entities")).map_err(bad_request)?,
        Some(_) => return Err(bad_request("unsupported parse_mode")),
    };
    if formatted.text.trim().is_empty() {
        return Err(bad_request("message text is empty"));
    }
    if formatted.text.trim().encode_utf16().count() > text::MOST {
        return Err(bad_request("message is too long"));
    }
    let preview =
        ["is_disabled", "url", "prefer_small_media", "prefer_large_media", "show_above_text"];
    only(given.get("link_preview_options"), &preview)?;
    Ok(formatted)
}

/// An object with no fields but these, if it is there.
fn only(value: Option<&Value>, known: &[&str]) -> Result<(), Refused> {
    let Some(value) = value else {
        return Ok(());
    };
    let fields = value.as_object().ok_or_else(|| bad_request("can't parse JSON object"))?;
    match fields.keys().find(|key| !known.contains(&key.as_str())) {
        Some(extra) => Err(bad_request(format!("unknown field \"{extra}\""))),
        None => Ok(()),
    }
}

/// The topic of a request; only a forum has topics.
fn topic(given: &Parameters, chat: &Channel) -> Result<Option<i64>, Refused> {
    match given.get("message_thread_id") {
        None => Ok(None),
        Some(id) => match number(Some(id)) {
            Some(TOPIC) if chat.forum => Ok(Some(TOPIC)),
            _ => Err(bad_request("message thread not found")),
        },
    }
}

pub(super) fn send(given: &Parameters, desk: Desk<'_>) -> Result<Value, Refused> {
    let chat = chat(given, desk.state)?.clone();
    let formatted = formatted(given)?;
    let topic = topic(given, &chat)?;
    let reply_to = reply_to(given, &chat, desk.state)?;
    let message = Message {
        channel: chat.key(),
        id: desk.state.next_id(Vendor::Telegram, desk.now),
        author: "herald".to_owned(),
        bot: true,
        text: given.get("text").map(written).unwrap_or_default(),
        payload: Value::Object(given.clone()),
        thread: topic.map(|topic| topic.to_string()),
        reply_to,
        edited: false,
        deleted: false,
        pinged_everyone: false,
        buttons: Vec::new(),
        files: Vec::new(),
        only_for: None,
        received_at: desk.now,
    };
    desk.state.keep(message.clone());
    let result = object(&message, &chat, &formatted);
    desk.events.push(Event::Message { message });
    Ok(result)
}

/// The message that is answered, if it is there.
fn reply_to(given: &Parameters, chat: &Channel, state: &State) -> Result<Option<String>, Refused> {
    let Some(reply) = given.get("reply_parameters") else {
        return Ok(None);
    };
    let known = [
        "message_id",
        "chat_id",
        "allow_sending_without_reply",
        "quote",
        "quote_parse_mode",
        "quote_entities",
        "quote_position",
    ];
    only(Some(reply), &known)?;
    let id = number(reply.get("message_id"))
        .ok_or_else(|| bad_request("parameter \"message_id\" is required"))?
        .to_string();
    if state.find(Vendor::Telegram, &chat.id, &id).is_some() {
        return Ok(Some(id));
    }
    if reply.get("allow_sending_without_reply") == Some(&Value::Bool(true)) {
        return Ok(None);
    }
    Err(bad_request("message to be replied not found"))
}

pub(super) fn edit(given: &Parameters, desk: Desk<'_>) -> Result<Value, Refused> {
    let chat = chat(given, desk.state)?.clone();
    let id = number(given.get("message_id"))
        .ok_or_else(|| bad_request("message identifier is not specified"))?
        .to_string();
    let formatted = formatted(given)?;
    let found = desk
        .state
        .find_mut(Vendor::Telegram, &chat.id, &id)
        .ok_or_else(|| bad_request("message to edit not found"))?;
    if !found.bot {
        return Err(bad_request("message can't be edited"));
    }
    let what = ["text", "parse_mode", "entities", "reply_markup"];
    if what.iter().all(|name| found.payload.get(*name) == given.get(*name)) {
        return Err(bad_request(
            "message is not modified: specified new message content and reply markup are exactly the same as \
             a current content and reply markup of the message",
        ));
    }
    found.text = given.get("text").map(written).unwrap_or_default();
    found.payload = Value::Object(given.clone());
    found.edited = true;
    let message = found.clone();
    let result = object(&message, &chat, &formatted);
    desk.events.push(Event::Edited { message });
    Ok(result)
}

pub(super) fn delete(given: &Parameters, desk: Desk<'_>) -> Result<Value, Refused> {
    let chat = chat(given, desk.state)?.id.clone();
    let id = number(given.get("message_id"))
        .ok_or_else(|| bad_request("message identifier is not specified"))?
        .to_string();
    let found = desk
        .state
        .find_mut(Vendor::Telegram, &chat, &id)
        .ok_or_else(|| bad_request("message to delete not found"))?;
    if !found.bot {
        return Err(bad_request("message can't be deleted"));
    }
    found.deleted = true;
    let message = found.clone();
    desk.events.push(Event::Deleted { message });
    Ok(json!(true))
}

pub(super) fn action(given: &Parameters, desk: &Desk<'_>) -> Result<Value, Refused> {
    let chat = chat(given, desk.state)?;
    topic(given, chat)?;
    let known = [
        "typing",
        "upload_photo",
        "record_video",
        "upload_video",
        "record_voice",
        "upload_voice",
        "upload_document",
        "choose_sticker",
        "find_location",
        "record_video_note",
        "upload_video_note",
    ];
    match given.get("action").and_then(Value::as_str) {
        Some(action) if known.contains(&action) => Ok(json!(true)),
        _ => Err(bad_request("wrong parameter action in request")),
    }
}

/// A message as Telegram returns it.
fn object(message: &Message, chat: &Channel, formatted: &Formatted) -> Value {
    let mut object = json!({
        "message_id": message.id.parse::<i64>().unwrap_or_default(), "from": bot(),
        "chat": chat_object(chat), "date": message.received_at.0 / 1000, "text": formatted.text,
    });
    let Some(fields) = object.as_object_mut() else {
        return object;
    };
    if !formatted.entities.is_empty() {
        fields.insert("entities".to_owned(), json!(formatted.entities));
    }
    if let Some(topic) = message.thread.as_deref().and_then(|t| t.parse::<i64>().ok()) {
        fields.insert("message_thread_id".to_owned(), json!(topic));
        fields.insert("is_topic_message".to_owned(), json!(true));
    }
    if let Some(answered) = message.reply_to.as_deref().and_then(|t| t.parse::<i64>().ok()) {
        let short = json!({
            "message_id": answered, "chat": chat_object(chat),
            "date": message.received_at.0 / 1000,
        });
        fields.insert("reply_to_message".to_owned(), short);
    }
    if message.edited {
        fields.insert("edit_date".to_owned(), json!(message.received_at.0 / 1000));
    }
    object
}
