//! Discord's REST API, version 10: <https://docs.discord.com/developers/reference>.
//!
//! Refused here although Discord ignores it: a field that the request does not have (50035 `UNKNOWN_FIELD`).

mod inbound;
mod message;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State as Shared};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http::{HeaderMap, Method, StatusCode, header};
pub(super) use inbound::Inbound;
use serde_json::{Map, Value, json};

use super::channels::{Channel, Standing};
use super::exchange::{Answer, Call, Desk, exchange, html, turned_away};
use super::faults::{Fault, FaultKind, Scope};
use super::state::{Message, State};
use super::{Event, Vendor, World};
use crate::clock::Timestamp;

const GUILD: &str = "200000000000000000";
pub(in crate::sandbox) const BOT_ID: &str = "300000000000000001";

/// Discord's own answers carry it; a 429 without it comes from Cloudflare, and clients tell them apart by it.
const VIA: &str = "1.1 google";

pub(in crate::sandbox) fn router() -> Router<World> {
    Router::new().route("/sandbox/discord/api/v10/{*path}", any(call))
}

/// Discord says no.
pub(in crate::sandbox) struct Refused {
    pub status: StatusCode,
    pub code: u32,
    pub message: &'static str,
    pub errors: Option<Value>,
}

impl Refused {
    pub(in crate::sandbox) const fn new(
        status: StatusCode,
        code: u32,
        message: &'static str,
    ) -> Self {
        Self { status, code, message, errors: None }
    }

    /// 50035 with what is wrong in `field`.
    pub(in crate::sandbox) fn field(field: &str, code: &str, message: &str) -> Self {
        let mut refused = Self::new(StatusCode::BAD_REQUEST, 50035, "Invalid Form Body");
        refused.errors = Some(json!({
            field: { "_errors": [{ "code": code, "message": message }] }
        }));
        refused
    }
}

const NOT_FOUND: Refused = Refused::new(StatusCode::NOT_FOUND, 0, "404: Not Found");
const UNKNOWN_CHANNEL: Refused = Refused::new(StatusCode::NOT_FOUND, 10003, "Unknown Channel");
const UNKNOWN_GUILD: Refused = Refused::new(StatusCode::NOT_FOUND, 10004, "Unknown Guild");
const UNKNOWN_MESSAGE: Refused = Refused::new(StatusCode::NOT_FOUND, 10008, "Unknown Message");
const MISSING_ACCESS: Refused = Refused::new(StatusCode::FORBIDDEN, 50001, "Missing Access");
const MISSING_PERMISSIONS: Refused =
    Refused::new(StatusCode::FORBIDDEN, 50013, "Missing Permissions");
const NOT_A_TEXT_CHANNEL: Refused =
    Refused::new(StatusCode::BAD_REQUEST, 50008, "Cannot send messages in a non-text channel");

/// What is asked for, by the names of Discord's reference.
enum Action<'a> {
    Me,
    Guilds,
    GuildChannels(&'a str),
    GetChannel(&'a str),
    CreateMessage(&'a str),
    GetMessage(&'a str, &'a str),
    EditMessage(&'a str, &'a str),
    DeleteMessage(&'a str, &'a str),
    StartThread(&'a str, &'a str),
    Typing(&'a str),
}

impl<'a> Action<'a> {
    fn of(method: &Method, path: &'a str) -> Option<Self> {
        let segments: Vec<&str> = path.split('/').collect();
        Some(match (method.as_str(), segments.as_slice()) {
            ("GET", ["users", "@me"]) => Self::Me,
            ("GET", ["users", "@me", "guilds"]) => Self::Guilds,
            ("GET", ["guilds", guild, "channels"]) => Self::GuildChannels(guild),
            ("GET", ["channels", channel]) => Self::GetChannel(channel),
            ("POST", ["channels", channel, "messages"]) => Self::CreateMessage(channel),
            ("POST", ["channels", channel, "typing"]) => Self::Typing(channel),
            ("GET", ["channels", channel, "messages", id]) => Self::GetMessage(channel, id),
            ("PATCH", ["channels", channel, "messages", id]) => Self::EditMessage(channel, id),
            ("DELETE", ["channels", channel, "messages", id]) => Self::DeleteMessage(channel, id),
            ("POST", ["channels", channel, "messages", id, "threads"]) => {
                Self::StartThread(channel, id)
            }
            _ => return None,
        })
    }

    /// The name for faults and for the log of requests.
    const fn name(&self) -> &'static str {
        match self {
            Self::Me => "get_current_user",
            Self::Guilds => "get_current_user_guilds",
            Self::GuildChannels(_) => "get_guild_channels",
            Self::GetChannel(_) => "get_channel",
            Self::CreateMessage(_) => "create_message",
            Self::GetMessage(..) => "get_message",
            Self::EditMessage(..) => "edit_message",
            Self::DeleteMessage(..) => "delete_message",
            Self::StartThread(..) => "start_thread",
            Self::Typing(_) => "trigger_typing",
        }
    }

    const fn channel(&self) -> Option<&'a str> {
        match self {
            Self::Me | Self::Guilds | Self::GuildChannels(_) => None,
            Self::GetChannel(channel)
            | Self::CreateMessage(channel)
            | Self::GetMessage(channel, _)
            | Self::EditMessage(channel, _)
            | Self::DeleteMessage(channel, _)
            | Self::StartThread(channel, _)
            | Self::Typing(channel) => Some(channel),
        }
    }
}

async fn call(
    Shared(world): Shared<World>,
    method: Method,
    Path(path): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let action = Action::of(&method, &path);
    let call = Call {
        vendor: Vendor::Discord,
        method: action.as_ref().map_or("unknown", Action::name).to_owned(),
        path: format!("{method} /{path}"),
        channel: action.as_ref().and_then(Action::channel).map(str::to_owned),
    };
    let text = |name| headers.get(name).and_then(|v| v.to_str().ok());
    // Cloudflare stands in front of Discord and turns strangers away.
    let named = |agent: &str| agent.starts_with("DiscordBot (") && agent.contains(')');
    if !text(header::USER_AGENT).is_some_and(named) {
        let outcome = Answer::new(StatusCode::FORBIDDEN, Value::Null, "no DiscordBot User-Agent");
        drop(turned_away(&world, &call, outcome));
        return html(StatusCode::FORBIDDEN, "Attention Required! | Cloudflare");
    }
    let token = text(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bot "));
    if token != Some(world.inner.tokens.discord.as_str()) {
        return turned_away(&world, &call, unauthorized());
    }
    let Some(action) = action else {
        return turned_away(&world, &call, refusal(NOT_FOUND));
    };
    let body = match &action {
        Action::CreateMessage(_) | Action::EditMessage(..) | Action::StartThread(..) => {
            object(&body)
        }
        _ => Ok(Map::new()),
    };
    exchange(&world, call, refuse, |desk| {
        let now = desk.now;
        let answer = match body.and_then(|body| apply(&action, &body, desk)) {
            Ok((StatusCode::NO_CONTENT, _)) => {
                Answer { body: None, ..Answer::new(StatusCode::NO_CONTENT, Value::Null, "ok") }
            }
            Ok((status, body)) => Answer::new(status, body, "ok"),
            Err(refused) => refusal(refused),
        };
        limits(answer, action.name(), now)
    })
    .await
    .into_response()
}

fn object(body: &[u8]) -> Result<Map<String, Value>, Refused> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        _ => Err(Refused::new(
            StatusCode::BAD_REQUEST,
            50109,
            "The request body contains invalid JSON.",
        )),
    }
}

/// The rate-limit headers that stand on every answer.
fn limits(answer: Answer, bucket: &str, now: Timestamp) -> Answer {
    answer
        .header("via", VIA)
        .header("x-ratelimit-limit", 5)
        .header("x-ratelimit-remaining", 4)
        .header("x-ratelimit-reset", now.0 / 1000 + 1)
        .header("x-ratelimit-reset-after", "1.000")
        .header("x-ratelimit-bucket", format!("sandbox-{bucket}"))
}

fn apply(
    action: &Action<'_>,
    body: &Map<String, Value>,
    mut desk: Desk<'_>,
) -> Result<(StatusCode, Value), Refused> {
    let ok = |body| Ok((StatusCode::OK, body));
    match *action {
        Action::Me => ok(message::bot_user()),
        Action::Guilds => ok(json!([{
            "id": GUILD, "name": "Sandbox", "icon": null, "owner": false,
            "permissions": "2048", "features": [],
        }])),
        Action::GuildChannels(guild) => {
            if guild != GUILD {
                return Err(UNKNOWN_GUILD);
            }
            let channels = desk.state.channels();
            ok(channels
                .filter(|c| c.vendor == Vendor::Discord && c.parent.is_none() && c.direct.is_none())
                .map(channel_object)
                .collect())
        }
        Action::GetChannel(id) => ok(channel_object(visible(desk.state, id)?)),
        Action::Typing(id) => {
            writable(desk.state, id)?;
            Ok((StatusCode::NO_CONTENT, Value::Null))
        }
        Action::CreateMessage(id) => {
            writable(desk.state, id)?;
            ok(message::create(id, body, &mut desk)?)
        }
        Action::GetMessage(id, message) => {
            let channel = visible(desk.state, id)?;
            let found = found(desk.state, &channel.id, message)?;
            ok(message::object(found, id))
        }
        Action::EditMessage(id, message) => {
            visible(desk.state, id)?;
            if !found(desk.state, id, message)?.bot {
                return Err(Refused::new(
                    StatusCode::FORBIDDEN,
                    50005,
                    "Cannot edit a message authored by another user",
                ));
            }
            ok(message::edit(id, message, body, &mut desk)?)
        }
        Action::DeleteMessage(id, message) => {
            visible(desk.state, id)?;
            if !found(desk.state, id, message)?.bot {
                return Err(MISSING_PERMISSIONS);
            }
            let Some(found) = desk.state.find_mut(Vendor::Discord, id, message) else {
                return Err(UNKNOWN_MESSAGE);
            };
            found.deleted = true;
            let message = found.clone();
            desk.events.push(Event::Deleted { message });
            Ok((StatusCode::NO_CONTENT, Value::Null))
        }
        Action::StartThread(id, message) => start_thread(id, message, body, desk.state),
    }
}

fn found<'a>(state: &'a State, channel: &str, id: &str) -> Result<&'a Message, Refused> {
    state.find(Vendor::Discord, channel, id).ok_or(UNKNOWN_MESSAGE)
}

/// A channel that the bot sees.
fn visible<'a>(state: &'a State, id: &str) -> Result<&'a Channel, Refused> {
    let channel = state.channel(Vendor::Discord, id).ok_or(UNKNOWN_CHANNEL)?;
    match channel.standing {
        Standing::Outside => Err(MISSING_ACCESS),
        _ => Ok(channel),
    }
}

/// A channel that the bot may post to.
fn writable<'a>(state: &'a State, id: &str) -> Result<&'a Channel, Refused> {
    let channel = visible(state, id)?;
    match channel.standing {
        Standing::ReadOnly => Err(MISSING_PERMISSIONS),
        Standing::NotText => Err(NOT_A_TEXT_CHANNEL),
        _ => Ok(channel),
    }
}

fn channel_object(channel: &Channel) -> Value {
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
            object.insert("permission_overwrites".to_owned(), json!([]));
        }
    }
    object
}

fn start_thread(
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
    state.add_channel(thread);
    Ok((StatusCode::CREATED, object))
}

fn unauthorized() -> Answer {
    refusal(Refused::new(StatusCode::UNAUTHORIZED, 0, "401: Unauthorized"))
}

fn refusal(refused: Refused) -> Answer {
    let outcome = format!("{} {}", refused.code, refused.message);
    let mut body = json!({ "message": refused.message, "code": refused.code });
    if let (Some(errors), Some(object)) = (refused.errors, body.as_object_mut()) {
        object.insert("errors".to_owned(), errors);
    }
    Answer::new(refused.status, body, outcome)
}

/// How Discord words a fault.
fn refuse(fault: &Fault) -> Answer {
    match fault.kind {
        FaultKind::RateLimit => {
            let scope = fault.scope.unwrap_or(Scope::User);
            let body = json!({
                "message": "You are being rate limited.", "retry_after": fault.wait(),
                "global": scope == Scope::Global,
            });
            let answer = Answer::new(StatusCode::TOO_MANY_REQUESTS, body, "rate limited")
                .header("via", VIA)
                .header("retry-after", fault.whole_wait())
                .header("x-ratelimit-scope", scope.as_str());
            if scope == Scope::Global {
                answer.header("x-ratelimit-global", true)
            } else {
                answer
                    .header("x-ratelimit-limit", 5)
                    .header("x-ratelimit-remaining", 0)
                    .header("x-ratelimit-reset-after", fault.wait())
                    .header("x-ratelimit-bucket", "sandbox-limited")
            }
        }
        FaultKind::RevokedToken => unauthorized(),
        FaultKind::Archived => {
            refusal(Refused::new(StatusCode::BAD_REQUEST, 50083, "Thread is archived"))
        }
        _ => refusal(Refused::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            0,
            "500: Internal Server Error",
        )),
    }
}
