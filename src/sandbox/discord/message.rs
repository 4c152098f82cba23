//! Discord's messages: what a request may say, and how a message is returned.
//! <https://docs.discord.com/developers/resources/message>

use std::time::Duration;

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::mentions::{self, Allowed, Which};
use super::places::user_object;
use super::upload::Upload;
use super::{BOT_ID, Refused, UNKNOWN_MESSAGE, components};
use crate::sandbox::exchange::Desk;
use crate::sandbox::moment::iso;
use crate::sandbox::people::person;
use crate::sandbox::state::{Button, Message, State, everyone};
use crate::sandbox::{Event, Vendor};

const CONTENT: usize = 2000;
const NONCE: usize = 25;
/// "The past few minutes" in which a nonce is recognised.
const NONCE_WINDOW: Duration = Duration::from_secs(300);
/// The flags that a bot may set: suppress embeds, suppress notifications, voice message, components v2.
const FLAGS: u64 = 1 << 2 | 1 << 12 | 1 << 13 | 1 << 15;

/// No field but these.
pub(super) fn only(body: &Map<String, Value>, known: &[&str]) -> Result<(), Refused> {
    match body.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(Refused::field(key, "UNKNOWN_FIELD", "The sandbox knows no such field.")),
        None => Ok(()),
    }
}

/// What a message says, checked.
pub(super) struct Content {
    pub(super) text: String,
    /// Whom its mentions notify.
    pub(super) pings: Vec<String>,
    /// Whoever is answered is notified, too.
    pub(super) pings_answered: bool,
    /// `None`: nothing was said about them.
    pub(super) buttons: Option<Vec<Vec<Button>>>,
}

/// `files`: something comes with it.
pub(super) fn content(body: &Map<String, Value>, files: bool) -> Result<Content, Refused> {
    let text = match body.get("content") {
        None | Some(Value::Null) => "",
        Some(Value::String(text)) => text,
        Some(_) => {
            let why = "Could not interpret value as string.";
            return Err(Refused::field("content", "BASE_TYPE_BAD_STRING", why));
        }
    };
    if text.chars().count() > CONTENT {
        let why = "Must be 2000 or fewer in length.";
        return Err(Refused::field("content", "BASE_TYPE_MAX_LENGTH", why));
    }
    let has =
        |name: &str| body.get(name).and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    if !files
        && text.trim().is_empty()
        && !["embeds", "components", "sticker_ids"].into_iter().any(has)
    {
        return Err(Refused::new(StatusCode::BAD_REQUEST, 50006, "Cannot send an empty message"));
    }
    embeds(body)?;
    let flags = body.get("flags").unwrap_or(&Value::Null);
    if !flags.is_null() && flags.as_u64().is_none_or(|flags| flags & !FLAGS != 0) {
        return Err(Refused::field("flags", "BASE_TYPE_CHOICES", "Invalid flags."));
    }
    let allowed = allowed_mentions(body)?;
    Ok(Content {
        text: text.to_owned(),
        buttons: components::buttons(body)?,
        pings: mentions::pings(text, &allowed),
        pings_answered: allowed.answered,
    })
}

fn embeds(body: &Map<String, Value>) -> Result<(), Refused> {
    let embeds = match body.get("embeds") {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::Array(embeds)) => embeds,
        Some(_) => {
            let why = "Only iterables may be used in a ListType";
            return Err(Refused::field("embeds", "LIST_TYPE_CONVERT", why));
        }
    };
    if embeds.len() > 10 {
        let why = "Must be 10 or fewer in length.";
        return Err(Refused::field("embeds", "BASE_TYPE_MAX_LENGTH", why));
    }
    let mut total = 0;
    for embed in embeds {
        let length = |value: Option<&Value>| {
            value.and_then(Value::as_str).map_or(0, |text| text.chars().count())
        };
        let (title, description) = (length(embed.get("title")), length(embed.get("description")));
        let footer = length(embed.pointer("/footer/text"));
        let author = length(embed.pointer("/author/name"));
        let fields = embed.get("fields").and_then(Value::as_array);
        let in_fields: usize = fields
            .into_iter()
            .flatten()
            .map(|field| length(field.get("name")) + length(field.get("value")))
            .sum();
        let too_many = fields.is_some_and(|fields| fields.len() > 25);
        total += title + description + footer + author + in_fields;
        if title > 256 || description > 4096 || footer > 2048 || author > 256 || too_many {
            let why = "Must be fewer in length.";
            return Err(Refused::field("embeds", "BASE_TYPE_MAX_LENGTH", why));
        }
    }
    if total > 6000 {
        let why = "Embed size exceeds maximum size of 6000";
        return Err(Refused::field("embeds", "MAX_EMBED_SIZE_EXCEEDED", why));
    }
    Ok(())
}

/// The mentions that work: all of them where nothing is said.
/// <https://docs.discord.com/developers/resources/message#allowed-mentions-object>
fn allowed_mentions(body: &Map<String, Value>) -> Result<Allowed, Refused> {
    let wrong = |why| Refused::field("allowed_mentions", "BASE_TYPE_CHOICES", why);
    let allowed = match body.get("allowed_mentions") {
        None | Some(Value::Null) => return Ok(Allowed::all()),
        Some(Value::Object(allowed)) => allowed,
        Some(_) => return Err(wrong("Only dictionaries may be used in a DictType")),
    };
    let known = ["parse", "users", "roles", "replied_user"];
    if allowed.keys().any(|key| !known.contains(&key.as_str())) {
        return Err(wrong("The sandbox knows no such field."));
    }
    let mut parse = Vec::new();
    for kind in allowed.get("parse").and_then(Value::as_array).into_iter().flatten() {
        match kind.as_str() {
            Some(kind @ ("users" | "roles" | "everyone")) => parse.push(kind),
            _ => {
                return Err(wrong("Value must be one of ('users', 'roles', 'everyone')."));
            }
        }
    }
    for kind in ["users", "roles"] {
        let named = allowed.get(kind).and_then(Value::as_array).map_or(0, Vec::len);
        if named > 100 || (named > 0 && parse.contains(&kind)) {
            return Err(Refused::field(
                "allowed_mentions",
                "MESSAGE_ALLOWED_MENTIONS_PARSE_EXCLUSIVE",
                "users and roles are mutually exclusive with their parse types",
            ));
        }
    }
    let which = |kind: &str| {
        let listed = allowed.get(kind).and_then(Value::as_array).into_iter().flatten();
        let listed = listed.filter_map(Value::as_str).map(str::to_owned);
        if parse.contains(&kind) { Which::All } else { Which::Listed(listed.collect()) }
    };
    Ok(Allowed {
        everyone: parse.contains(&"everyone"),
        roles: which("roles"),
        users: which("users"),
        answered: allowed.get("replied_user") == Some(&Value::Bool(true)),
    })
}

/// The nonce, if the request wants it to be recognised.
fn enforced_nonce(body: &Map<String, Value>) -> Result<Option<String>, Refused> {
    let nonce = match body.get("nonce") {
        None | Some(Value::Null) => None,
        Some(Value::String(nonce)) if nonce.chars().count() <= NONCE => Some(nonce.clone()),
        Some(Value::Number(nonce)) if nonce.is_i64() || nonce.is_u64() => Some(nonce.to_string()),
        Some(Value::String(_)) => {
            let why = "Must be 25 or fewer in length.";
            return Err(Refused::field("nonce", "BASE_TYPE_MAX_LENGTH", why));
        }
        Some(_) => {
            let why = "Nonce must be an integer or a string.";
            return Err(Refused::field("nonce", "NONCE_TYPE", why));
        }
    };
    match body.get("enforce_nonce") {
        None | Some(Value::Null | Value::Bool(false)) => Ok(None),
        Some(Value::Bool(true)) => Ok(nonce),
        Some(_) => {
            let why = "Must be either true or false.";
            Err(Refused::field("enforce_nonce", "BASE_TYPE_BAD_BOOL", why))
        }
    }
}

/// The message that is answered, if it is there.
fn answered(
    channel: &str,
    body: &Map<String, Value>,
    desk: &Desk<'_>,
) -> Result<Option<String>, Refused> {
    let Some(reference) = body.get("message_reference").filter(|r| !r.is_null()) else {
        return Ok(None);
    };
    let known = ["type", "message_id", "channel_id", "guild_id", "fail_if_not_exists"];
    if !reference
        .as_object()
        .is_some_and(|fields| fields.keys().all(|key| known.contains(&key.as_str())))
    {
        let why = "The sandbox knows no such field.";
        return Err(Refused::field("message_reference", "UNKNOWN_FIELD", why));
    }
    let id = reference.get("message_id").and_then(|id| match id {
        Value::String(id) => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    });
    let here = reference.get("channel_id").and_then(Value::as_str).is_none_or(|id| id == channel);
    let found = id.filter(|id| here && desk.state.find(Vendor::Discord, channel, id).is_some());
    let must_exist = reference.get("fail_if_not_exists") != Some(&Value::Bool(false));
    if found.is_none() && must_exist {
        let why = "Unknown message";
        return Err(Refused::field("message_reference", "REPLIES_UNKNOWN_MESSAGE", why));
    }
    Ok(found)
}

/// Posts a message, or returns the one that the same nonce posted before.
pub(super) fn create(
    channel: &str,
    body: &Map<String, Value>,
    files: Vec<Upload>,
    desk: &mut Desk<'_>,
) -> Result<Value, Refused> {
    only(
        body,
        &[
            "content",
            "nonce",
            "tts",
            "embeds",
            "allowed_mentions",
            "message_reference",
            "components",
            "sticker_ids",
            "flags",
            "enforce_nonce",
            "attachments",
        ],
    )?;
    let content = content(body, !files.is_empty())?;
    let nonce = enforced_nonce(body)?;
    if let Some(nonce) = &nonce
        && let Some((at, place)) = desk.state.nonces.get(nonce).copied()
        && desk.now.since(at) <= NONCE_WINDOW
        && let Some(first) = desk.state.at(place)
    {
        let channel = first.channel.trim_start_matches("discord:").to_owned();
        return Ok(object(first, &channel, desk.state));
    }
    let reply_to = answered(channel, body, desk)?;
    let asker = reply_to.as_deref().filter(|_| content.pings_answered).and_then(|id| {
        let first = desk.state.find(Vendor::Discord, channel, id).filter(|first| !first.bot)?;
        Some(format!("@{}", person(Vendor::Discord, &first.author).id))
    });
    let (message, place) = post(channel, content, body, desk, |message, state| {
        message.reply_to = reply_to;
        message.pings.extend(asker);
        message.files = files.into_iter().map(|file| file.kept(&state.discord.next_id())).collect();
    });
    if let Some(nonce) = nonce {
        desk.state.nonces.insert(nonce, (desk.now, place));
    }
    Ok(object(&message, channel, desk.state))
}

/// Keeps a message of the bot's, once `finish` has said what is special about it, and tells everybody.
pub(super) fn post(
    channel: &str,
    content: Content,
    body: &Map<String, Value>,
    desk: &mut Desk<'_>,
    finish: impl FnOnce(&mut Message, &mut State),
) -> (Message, usize) {
    let in_thread =
        desk.state.channel(Vendor::Discord, channel).is_some_and(|c| c.parent.is_some());
    let mut message = Message {
        channel: Vendor::Discord.key(channel),
        id: desk.state.next_id(Vendor::Discord, desk.now),
        author: "herald".to_owned(),
        bot: true,
        text: content.text,
        payload: Value::Object(body.clone()),
        thread: in_thread.then(|| channel.to_owned()),
        reply_to: None,
        edited: false,
        deleted: false,
        pinged_everyone: everyone(&content.pings),
        pings: content.pings,
        buttons: content.buttons.unwrap_or_default(),
        files: Vec::new(),
        only_for: None,
        received_at: desk.now,
    };
    finish(&mut message, desk.state);
    let place = desk.state.keep(message.clone());
    desk.events.push(Event::Message { message: message.clone() });
    (message, place)
}

/// Edits one of the bot's messages. Mentions in an edit notify nobody.
pub(super) fn edit(
    channel: &str,
    id: &str,
    body: &Map<String, Value>,
    desk: &mut Desk<'_>,
) -> Result<Value, Refused> {
    only(body, &["content", "embeds", "flags", "allowed_mentions", "components", "attachments"])?;
    let found = desk.state.find_mut(Vendor::Discord, channel, id).ok_or(UNKNOWN_MESSAGE)?;
    // What an edit does not name stays as it was.
    let mut merged = found.payload.as_object().cloned().unwrap_or_default();
    merged.extend(body.clone());
    let content = content(&merged, !found.files.is_empty())?;
    found.text = content.text;
    found.buttons = content.buttons.unwrap_or_default();
    found.payload = Value::Object(merged);
    found.edited = true;
    let message = found.clone();
    let object = object(&message, channel, desk.state);
    desk.events.push(Event::Edited { message });
    Ok(object)
}

pub(super) fn bot_user() -> Value {
    json!({
        "id": BOT_ID, "username": "herald", "discriminator": "0", "global_name": null,
        "avatar": null, "bot": true, "verified": true, "mfa_enabled": false, "flags": 0,
    })
}

/// A message as Discord returns it.
pub(super) fn object(message: &Message, channel: &str, state: &State) -> Value {
    let author = if message.bot { bot_user() } else { user_object(&message.author) };
    let text = mentions::as_sent(message);
    let answered =
        message.reply_to.as_deref().and_then(|id| state.find(Vendor::Discord, channel, id));
    let given = |name: &str| message.payload.get(name).cloned();
    let list = |name: &str| given(name).unwrap_or_else(|| json!([]));
    let at = iso(message.received_at);
    let mut object = json!({
        "id": message.id, "type": if message.reply_to.is_some() { 19 } else { 0 },
        "channel_id": channel, "author": author, "content": text.trim(),
        "timestamp": at, "edited_timestamp": message.edited.then_some(at),
        "tts": false, "mention_everyone": message.pinged_everyone,
        "mentions": mentions::users(&text, answered), "mention_roles": [],
        "attachments": attachments(message, channel, &state.discord.base),
        "pinned": false, "embeds": list("embeds"), "components": list("components"),
        "flags": given("flags").unwrap_or_else(|| json!(0)),
    });
    if let Some(object) = object.as_object_mut() {
        if let Some(nonce) = given("nonce") {
            object.insert("nonce".to_owned(), nonce);
        }
        if let Some(id) = &message.reply_to {
            let reference = json!({ "type": 0, "message_id": id, "channel_id": channel });
            object.insert("message_reference".to_owned(), reference);
            let answered = answered.map(|first| {
                // Discord does not follow a reply to a reply.
                self::object(&Message { reply_to: None, ..first.clone() }, channel, state)
            });
            object.insert("referenced_message".to_owned(), json!(answered));
        }
    }
    object
}

fn attachments(message: &Message, channel: &str, base: &str) -> Value {
    message
        .files
        .iter()
        .map(|file| {
            let name: String = url::form_urlencoded::byte_serialize(file.name.as_bytes()).collect();
            let url =
                format!("{base}/sandbox/discord/cdn/attachments/{channel}/{}/{name}", file.id);
            json!({ "id": file.id, "filename": file.name, "content_type": file.mime,
                    "size": file.bytes.len(), "url": url, "proxy_url": url })
        })
        .collect()
}
