//! `conversations.*`: channels and what was said in them.

use serde_json::{Value, json};

use super::blocks::Refused;
use super::{Arguments, TEAM, is_true, known_channel, need_scope, required, shape, text_of};
use crate::sandbox::Vendor;
use crate::sandbox::channels::{Channel, Standing};
use crate::sandbox::exchange::Desk;
use crate::sandbox::state::Message;

/// A channel as Slack returns it.
fn conversation(channel: &Channel) -> Value {
    json!({
        "id": channel.id, "name": channel.name, "name_normalized": channel.name,
        "is_channel": !channel.private, "is_group": channel.private && channel.direct.is_none(),
        "is_im": channel.direct.is_some(),
        "is_mpim": false, "is_private": channel.private, "created": 1_700_000_000,
        "is_archived": channel.standing == Standing::Archived, "is_general": channel.id == "C0GENERAL",
        "is_member": channel.standing == Standing::Member, "is_shared": false,
        "context_team_id": TEAM, "creator": "U0ALICE",
        "topic": { "value": channel.topic, "creator": "U0ALICE", "last_set": 1_700_000_000 },
        "purpose": { "value": "", "creator": "", "last_set": 0 },
        "num_members": 3,
    })
}

pub(super) fn info(arguments: &Arguments, desk: &Desk<'_>) -> Result<Value, Refused> {
    let channel = known_channel(Some(required(arguments, "channel")?), desk.state)?;
    if !channel.private {
        need_scope("channels:read", desk)?;
    }
    Ok(json!({ "ok": true, "channel": conversation(channel) }))
}

fn limit(arguments: &Arguments, default: usize, most: usize) -> Result<usize, Refused> {
    let limit = match arguments.get("limit") {
        None => return Ok(default),
        Some(Value::String(text)) => text.parse().ok(),
        Some(value) => value.as_u64().and_then(|n| usize::try_from(n).ok()),
    };
    limit.filter(|n| (1..=most).contains(n)).ok_or_else(|| Refused::code("invalid_limit"))
}

/// Cursors say where the next page begins.
fn cursor(arguments: &Arguments) -> Result<usize, Refused> {
    match text_of(arguments, "cursor").filter(|c| !c.is_empty()) {
        None => Ok(0),
        Some(cursor) => cursor
            .strip_prefix("next:")
            .and_then(|n| n.parse().ok())
            .ok_or_else(|| Refused::code("invalid_cursor")),
    }
}

fn next_cursor(start: usize, limit: usize, all: usize) -> String {
    let next = start.saturating_add(limit);
    if next < all { format!("next:{next}") } else { String::new() }
}

pub(super) fn list(arguments: &Arguments, desk: &Desk<'_>) -> Result<Value, Refused> {
    let types = text_of(arguments, "types").filter(|t| !t.is_empty()).unwrap_or("public_channel");
    let types: Vec<&str> = types.split(',').map(str::trim).collect();
    let known = ["public_channel", "private_channel", "mpim", "im"];
    if types.iter().any(|t| !known.contains(t)) {
        return Err(Refused::code("invalid_types"));
    }
    if types.contains(&"public_channel") {
        need_scope("channels:read", desk)?;
    }
    let (start, limit) = (cursor(arguments)?, limit(arguments, 100, 1000)?);
    let without_archived = is_true(arguments, "exclude_archived");
    let all: Vec<Value> = desk
        .state
        .channels()
        .filter(|c| c.vendor == Vendor::Slack)
        .filter(|c| {
            types.contains(match (c.direct, c.private) {
                (Some(_), _) => &"im",
                (None, true) => &"private_channel",
                (None, false) => &"public_channel",
            })
        })
        .filter(|c| !(without_archived && c.standing == Standing::Archived))
        .map(conversation)
        .collect();
    let next = next_cursor(start, limit, all.len());
    let page: Vec<Value> = all.into_iter().skip(start).take(limit).collect();
    Ok(json!({ "ok": true, "channels": page, "response_metadata": { "next_cursor": next } }))
}

/// A page of messages, newest or oldest first as given; `parent` is among them whatever the bounds.
fn page(
    arguments: &Arguments,
    messages: &[&Message],
    parent: Option<&str>,
    default: usize,
    most: usize,
) -> Result<Value, Refused> {
    let (start, limit) = (cursor(arguments)?, limit(arguments, default, most)?);
    let with_metadata = is_true(arguments, "include_all_metadata");
    let inclusive = is_true(arguments, "inclusive");
    let (oldest, latest) = (bound(arguments, "oldest")?, bound(arguments, "latest")?);
    let within: Vec<&&Message> = messages
        .iter()
        .filter(|message| {
            let Ok(ts) = message.id.parse::<f64>() else {
                return false;
            };
            let after = oldest.is_none_or(|o| ts > o || (inclusive && ts >= o));
            let before = latest.is_none_or(|l| ts < l || (inclusive && ts <= l));
            (after && before) || parent == Some(&message.id)
        })
        .collect();
    let next = next_cursor(start, limit, within.len());
    let shown: Vec<Value> = within
        .iter()
        .skip(start)
        .take(limit)
        .map(|message| shape(message, with_metadata))
        .collect();
    let mut body = json!({ "ok": true, "messages": shown, "has_more": !next.is_empty() });
    if !next.is_empty()
        && let Some(object) = body.as_object_mut()
    {
        object.insert("response_metadata".to_owned(), json!({ "next_cursor": next }));
    }
    Ok(body)
}

/// A timestamp that bounds what is shown.
fn bound(arguments: &Arguments, name: &str) -> Result<Option<f64>, Refused> {
    let ts = text_of(arguments, name).filter(|ts| !ts.is_empty());
    let ts = ts.map(|ts| ts.parse().map_err(|_| Refused::code(&format!("invalid_ts_{name}"))));
    ts.transpose()
}

/// What was said in a channel that the bot is in, if the token may read such channels.
fn readable(arguments: &Arguments, desk: &Desk<'_>) -> Result<Vec<Message>, Refused> {
    let channel = known_channel(Some(required(arguments, "channel")?), desk.state)?;
    need_scope(
        match (channel.direct, channel.private) {
            (Some(_), _) => "im:history",
            (None, true) => "groups:history",
            (None, false) => "channels:history",
        },
        desk,
    )?;
    if channel.standing == Standing::Outside {
        return Err(Refused::code("not_in_channel"));
    }
    let mut messages = desk.state.messages(&channel.key());
    messages.retain(|m| !m.deleted);
    Ok(messages)
}

/// `conversations.history`: what stands in the channel itself, newest first.
pub(super) fn history(arguments: &Arguments, desk: &Desk<'_>) -> Result<Value, Refused> {
    let messages = readable(arguments, desk)?;
    let broadcast = |m: &Message| m.payload.get("reply_broadcast") == Some(&Value::Bool(true));
    let top: Vec<&Message> =
        messages.iter().rev().filter(|m| m.thread.is_none() || broadcast(m)).collect();
    page(arguments, &top, None, 100, 999)
}

/// `conversations.replies`: a parent and its thread, oldest first. Of a reply it shows the reply alone
/// (slackapi/bolt-python#783).
pub(super) fn replies(arguments: &Arguments, desk: &Desk<'_>) -> Result<Value, Refused> {
    let messages = readable(arguments, desk)?;
    let ts = required(arguments, "ts")?;
    let thread: Vec<&Message> =
        messages.iter().filter(|m| m.id == ts || m.thread.as_deref() == Some(ts)).collect();
    if thread.is_empty() {
        return Err(Refused::code("thread_not_found"));
    }
    page(arguments, &thread, Some(ts), 1000, 1000)
}
