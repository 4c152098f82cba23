//! Discord's channels: what the bot sees of them, and where it may write.

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::{
    BOT_ID, GUILD, MISSING_ACCESS, MISSING_PERMISSIONS, NOT_A_TEXT_CHANNEL, Refused,
    UNKNOWN_CHANNEL, UNKNOWN_MESSAGE, message,
};
use crate::sandbox::Vendor;
use crate::sandbox::channels::{Channel, Standing};
use crate::sandbox::people::person;
use crate::sandbox::state::{Message, State};

const BOT_ROLE: &str = "200000000000000009";
const VIEW_CHANNEL: u64 = 1 << 10;
const SEND_MESSAGES: u64 = 1 << 11;
const READ_HISTORY: u64 = 1 << 16;
/// With files, public threads, and messages in them.
const INVITED: u64 = VIEW_CHANNEL | SEND_MESSAGES | 1 << 15 | READ_HISTORY | 1 << 35 | 1 << 38;

pub(super) fn found<'a>(state: &'a State, channel: &str, id: &str) -> Result<&'a Message, Refused> {
    state.find(Vendor::Discord, channel, id).ok_or(UNKNOWN_MESSAGE)
}

/// A channel that the bot sees.
pub(super) fn visible<'a>(state: &'a State, id: &str) -> Result<&'a Channel, Refused> {
    let channel = state.channel(Vendor::Discord, id).ok_or(UNKNOWN_CHANNEL)?;
    match channel.standing {
        Standing::Outside => Err(MISSING_ACCESS),
        _ => Ok(channel),
    }
}

/// A channel that the bot may post to.
pub(super) fn writable<'a>(state: &'a State, id: &str) -> Result<&'a Channel, Refused> {
    let channel = visible(state, id)?;
    match channel.standing {
        Standing::ReadOnly => Err(MISSING_PERMISSIONS),
        Standing::NotText => Err(NOT_A_TEXT_CHANNEL),
        _ => Ok(channel),
    }
}

pub(super) fn channel_object(channel: &Channel) -> Value {
    if let Some(with) = channel.direct {
        return json!({
            "id": channel.id, "type": 1, "flags": 0, "last_message_id": null,
            "recipients": [user_object(with)],
        });
    }
    let kind = match (&channel.parent, channel.standing) {
        (Some(_), _) => 11,
        (None, Standing::NotText) => 15,
        (None, _) => 0,
    };
    let mut object = json!({
        "id": channel.id, "type": kind, "guild_id": GUILD, "name": channel.name,
        "parent_id": channel.parent, "position": 0, "nsfw": false, "last_message_id": null,
        "rate_limit_per_user": 0, "flags": 0,
    });
    if let Some(object) = object.as_object_mut() {
        if channel.parent.is_some() {
            object.insert("owner_id".to_owned(), json!(BOT_ID));
            object.insert(
                "thread_metadata".to_owned(),
                json!({ "archived": false, "auto_archive_duration": 1440, "locked": false }),
            );
        } else {
            object.insert("topic".to_owned(), json!(channel.topic));
            object.insert("permission_overwrites".to_owned(), overwrites(channel));
        }
    }
    object
}

/// What is different in a channel from the server: <https://docs.discord.com/developers/topics/permissions>.
fn overwrites(channel: &Channel) -> Value {
    let everyone =
        |deny: u64| json!([{ "id": GUILD, "type": 0, "allow": "0", "deny": deny.to_string() }]);
    match channel.standing {
        Standing::Outside => everyone(VIEW_CHANNEL),
        Standing::ReadOnly => everyone(SEND_MESSAGES),
        _ => json!([]),
    }
}

/// The server as `GET /guilds/{id}` tells of it: <https://docs.discord.com/developers/resources/guild#guild-object>.
pub(super) fn guild_object() -> Value {
    let role = |id: &str, name: &str, permissions: u64, managed: bool| {
        json!({ "id": id, "name": name, "color": 0, "hoist": false, "position": u8::from(managed),
                "permissions": permissions.to_string(), "managed": managed, "mentionable": false, "flags": 0 })
    };
    // What everybody may, then what an invitation by `herald setup discord` asks for.
    let roles = [
        role(GUILD, "@everyone", VIEW_CHANNEL | SEND_MESSAGES | READ_HISTORY, false),
        role(BOT_ROLE, "herald", INVITED, true),
    ];
    json!({ "id": GUILD, "name": "Sandbox", "owner_id": "300000000000000001", "features": [],
            "roles": roles })
}

/// The bot as one of the server's.
pub(super) fn bot_member() -> Value {
    let mut member = member_object();
    if let Some(member) = member.as_object_mut() {
        member.insert("roles".to_owned(), json!([BOT_ROLE]));
        member.insert("user".to_owned(), message::bot_user());
    }
    member
}

/// Somebody as Discord tells of them.
pub(super) fn user_object(name: &str) -> Value {
    let person = person(Vendor::Discord, name);
    json!({ "id": person.id, "username": person.name, "discriminator": "0",
            "global_name": name, "avatar": null, "bot": false, "public_flags": 0 })
}

/// Somebody as one of the server's.
pub(super) fn member_object() -> Value {
    json!({ "nick": null, "avatar": null, "roles": [], "joined_at": "2026-01-01T00:00:00.000000+00:00",
            "deaf": false, "mute": false, "flags": 0, "pending": false })
}

pub(super) fn start_thread(
    id: &str,
    message: &str,
    body: &Map<String, Value>,
    state: &mut State,
) -> Result<(StatusCode, Value), Refused> {
    message::only(body, &["name", "auto_archive_duration", "rate_limit_per_user"])?;
    let parent = writable(state, id)?;
    if parent.parent.is_some() {
        return Err(Refused::new(
            StatusCode::BAD_REQUEST,
            50024,
            "Cannot execute action on this channel type",
        ));
    }
    let message = found(state, id, message)?;
    let name = body.get("name").and_then(Value::as_str).unwrap_or_default();
    if !(1..=100).contains(&name.trim().chars().count()) {
        return Err(Refused::field(
            "name",
            "BASE_TYPE_BAD_LENGTH",
            "Must be between 1 and 100 in length.",
        ));
    }
    let archive = body.get("auto_archive_duration").unwrap_or(&Value::Null);
    if !(archive.is_null() || [60, 1440, 4320, 10080].map(Value::from).contains(archive)) {
        return Err(Refused::field(
            "auto_archive_duration",
            "BASE_TYPE_CHOICES",
            "Value must be one of {60, 1440, 4320, 10080}.",
        ));
    }
    // A thread opened from a message has that message's ID.
    if state.channel(Vendor::Discord, &message.id).is_some() {
        return Err(Refused::new(
            StatusCode::BAD_REQUEST,
            160_004,
            "A thread has already been created for this message",
        ));
    }
    let thread = Channel::thread(parent, &message.id, name.trim());
    let object = channel_object(&thread);
    let mut told = object.clone();
    if let Some(told) = told.as_object_mut() {
        told.insert("newly_created".to_owned(), json!(true));
    }
    state.discord.tell_thread(told);
    state.add_channel(thread);
    Ok((StatusCode::CREATED, object))
}
