//! Sending, editing and deleting messages. <https://core.telegram.org/bots/api#sendmessage>

use serde_json::{Value, json};

use super::text::{self, Formatted};
use super::{
    Parameters, Refused, bad_request, bot, chat, chat_object, entities, files, keyboard, number,
    user, written,
};
use crate::sandbox::channels::{Channel, Standing};
use crate::sandbox::exchange::Desk;
use crate::sandbox::state::{Button, File, Message, State};
use crate::sandbox::{Event, Vendor};

/// The topic that exists in the forum.
const TOPIC: i64 = 5;
/// The most UTF-16 units of a caption.
const MOST_CAPTION: usize = 1024;

/// The text or caption of a request, its markup read.
fn marked_up(given: &Parameters, name: &str, entities: &str) -> Result<Formatted, Refused> {
    let text = match given.get(name) {
        None => "",
        Some(Value::String(text)) => text,
        Some(_) => return Err(bad_request(format!("field \"{name}\" must be of type String"))),
    };
    match given.get("parse_mode").and_then(Value::as_str) {
        Some(mode) if mode.eq_ignore_ascii_case("html") => text::parse_html(text)
            .map_err(|why| bad_request(format!("can't parse entities: {why}"))),
        None | Some("") => text::with_entities(text, given.get(entities)).map_err(bad_request),
        Some(_) => Err(bad_request("unsupported parse_mode")),
    }
}

fn formatted(given: &Parameters) -> Result<Formatted, Refused> {
    let formatted = marked_up(given, "text", "entities")?;
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
    chat(given, desk.state)?;
    let formatted = formatted(given)?;
    let text = given.get("text").map(written).unwrap_or_default();
    post(given, given.clone(), text, &formatted, Vec::new(), desk)
}

/// Sends a file; `payload` is the request without the file's content.
pub(super) fn send_file(
    given: &Parameters,
    payload: Parameters,
    file: File,
    desk: Desk<'_>,
) -> Result<Value, Refused> {
    let caption = marked_up(given, "caption", "caption_entities")?;
    if caption.text.encode_utf16().count() > MOST_CAPTION {
        return Err(bad_request("message caption is too long"));
    }
    let text = given.get("caption").map(written).unwrap_or_default();
    post(given, payload, text, &caption, vec![file], desk)
}

fn post(
    given: &Parameters,
    payload: Parameters,
    text: String,
    formatted: &Formatted,
    files: Vec<File>,
    desk: Desk<'_>,
) -> Result<Value, Refused> {
    let chat = chat(given, desk.state)?.clone();
    if chat.standing == Standing::ReadOnly {
        return Err(bad_request("not enough rights to send text messages to the chat"));
    }
    let topic = topic(given, &chat)?;
    let reply_to = reply_to(given, &chat, desk.state)?;
    let buttons = keyboard::buttons(given)?;
    let message = Message {
        channel: chat.key(),
        id: desk.state.next_id(Vendor::Telegram, desk.now),
        author: "herald".to_owned(),
        bot: true,
        text,
        payload: Value::Object(payload),
        thread: topic.map(|topic| topic.to_string()),
        reply_to,
        edited: false,
        deleted: false,
        pinged_everyone: false,
        pings: pings(formatted),
        buttons,
        files,
        only_for: None,
        received_at: desk.now,
    };
    desk.state.keep(message.clone());
    let mut result = object(&message, &chat, formatted);
    let answered = message.reply_to.as_deref().and_then(|id| id.parse::<i64>().ok());
    if let (Some(answered), Some(fields)) = (answered, result.as_object_mut()) {
        let date = message.received_at.0 / 1000;
        let short = json!({ "message_id": answered, "chat": chat_object(&chat), "date": date });
        fields.insert("reply_to_message".to_owned(), short);
    }
    desk.events.push(Event::Message { message });
    Ok(result)
}

/// Whom a text notifies: names in it, and links to users.
fn pings(formatted: &Formatted) -> Vec<String> {
    let units: Vec<u16> = formatted.text.encode_utf16().collect();
    let found = entities::find(&formatted.text);
    let named = found.iter().filter(|entity| entity.get("type") == Some(&json!("mention")));
    let named = named.filter_map(|entity| {
        let place = |name: &str| usize::try_from(entity.get(name)?.as_u64()?).ok();
        let offset = place("offset")?;
        units.get(offset..offset + place("length")?).map(String::from_utf16_lossy)
    });
    let linked = formatted.entities.iter().filter_map(|entity| entity.pointer("/user/id"));
    named.chain(linked.map(|id| format!("@{id}"))).collect()
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
    let buttons = keyboard::buttons(given)?;
    let found = desk
        .state
        .find_mut(Vendor::Telegram, &chat.id, &id)
        .ok_or_else(|| bad_request("message to edit not found"))?;
    if !found.bot {
        return Err(bad_request("message can't be edited"));
    }
    if !found.files.is_empty() {
        return Err(bad_request("there is no text in the message to edit"));
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
    // Without a keyboard, the one that there was is gone.
    found.buttons = buttons;
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

/// A message as the bot hears of it, with the one that it answers.
pub(super) fn heard(message: &Message, chat: &Channel, answered: Option<&Value>) -> Value {
    let formatted = if message.bot {
        // What it sent was understood before.
        let text = if message.files.is_empty() { "text" } else { "caption" };
        let given = message.payload.as_object();
        given.and_then(|given| marked_up(given, text, "entities").ok()).unwrap_or_default()
    } else {
        Formatted { text: message.text.clone(), entities: entities::find(&message.text) }
    };
    let mut told = object(message, chat, &formatted);
    let Some(fields) = told.as_object_mut() else {
        return told;
    };
    if let Some(answered) = answered {
        let mut answered = answered.clone();
        if let Some(answered) = answered.as_object_mut() {
            answered.remove("reply_to_message");
        }
        // Answers in a supergroup hang together as a thread, which is no topic.
        if !chat.forum && chat.direct.is_none() {
            let first = answered.get("message_id").cloned().unwrap_or_default();
            fields.insert("message_thread_id".to_owned(), first);
        }
        fields.insert("reply_to_message".to_owned(), answered);
    } else if let Some(topic) = fields.get("message_thread_id").cloned() {
        // What stands in a topic answers the message that made it.
        let made = json!({
            "message_id": topic, "from": bot(), "chat": chat_object(chat), "date": 1_700_000_000,
            "message_thread_id": topic, "is_topic_message": true,
            "forum_topic_created": { "name": chat.topic, "icon_color": 7_322_096 },
        });
        fields.insert("reply_to_message".to_owned(), made);
    }
    told
}

/// A message as Telegram returns it.
fn object(message: &Message, chat: &Channel, formatted: &Formatted) -> Value {
    let from = if message.bot { bot() } else { user(&message.author) };
    let mut object = json!({
        "message_id": message.id.parse::<i64>().unwrap_or_default(), "from": from,
        "chat": chat_object(chat), "date": message.received_at.0 / 1000,
    });
    let Some(fields) = object.as_object_mut() else {
        return object;
    };
    // A message has one file; people's programs send more than one as messages of their own.
    let (text, entities) = match message.files.first() {
        None => ("text", "entities"),
        Some(file) => {
            let (kind, content) = attached(file, message.bot);
            fields.insert(kind.to_owned(), content);
            ("caption", "caption_entities")
        }
    };
    if message.files.is_empty() || !formatted.text.is_empty() {
        fields.insert(text.to_owned(), json!(formatted.text));
    }
    if !formatted.entities.is_empty() {
        fields.insert(entities.to_owned(), json!(formatted.entities));
    }
    let topic = message.thread.as_deref().filter(|_| chat.forum);
    if let Some(topic) = topic.and_then(|t| t.parse::<i64>().ok()) {
        fields.insert("message_thread_id".to_owned(), json!(topic));
        fields.insert("is_topic_message".to_owned(), json!(true));
    }
    if message.edited {
        fields.insert("edit_date".to_owned(), json!(message.received_at.0 / 1000));
    }
    if !message.buttons.is_empty() {
        let button = |button: &Button| json!({ "text": button.label, "callback_data": button.key });
        let rows: Vec<Vec<Value>> =
            message.buttons.iter().map(|row| row.iter().map(button).collect()).collect();
        fields.insert("reply_markup".to_owned(), json!({ "inline_keyboard": rows }));
    }
    object
}

/// A file as it is told: people's programs make photos, voice and videos of some.
fn attached(file: &File, as_document: bool) -> (&'static str, Value) {
    let size = file.bytes.len();
    let (id, unique) = (&file.id, files::unique(file));
    let mut content = json!({
        "file_id": id, "file_unique_id": unique, "file_size": size, "mime_type": file.mime,
    });
    let kind = match file.mime.split('/').next() {
        _ if as_document => "document",
        Some("image") if ["image/jpeg", "image/png"].contains(&file.mime.as_str()) => {
            let small = json!({
                "file_id": format!("{id}-s"), "file_unique_id": format!("{unique}s"),
                "width": 90, "height": 67, "file_size": 1024,
            });
            let large = json!({
                "file_id": id, "file_unique_id": unique,
                "width": 1280, "height": 960, "file_size": size,
            });
            return ("photo", json!([large, small]));
        }
        Some("audio") if file.mime == "audio/ogg" => "voice",
        Some("audio") => "audio",
        Some("video") => "video",
        _ => "document",
    };
    if let Some(content) = content.as_object_mut().filter(|_| kind != "voice") {
        content.insert("file_name".to_owned(), json!(file.name));
    }
    (kind, content)
}
