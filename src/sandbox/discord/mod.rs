//! Discord's REST API, version 10, and its gateway: <https://docs.discord.com/developers/reference>.
//!
//! Refused here although Discord ignores it: a field that the request does not have (50035 `UNKNOWN_FIELD`).
//!
//! People's `@herald` is sent as the mention that a client makes of it. A line with a slash is a command if the bot has
//! registered it, else a message. A reply mentions whom it answers, as clients have it by default.

mod action;
mod components;
mod gateway;
mod inbound;
mod interactions;
mod mentions;
mod message;
mod places;
mod upload;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State as Shared};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use http::{HeaderMap, Method, StatusCode, header};
pub use inbound::Gateway;
pub(super) use inbound::Inbound;
use serde_json::{Map, Value, json};

use super::exchange::{Answer, Call, Desk, exchange, html, turned_away};
use super::faults::{Fault, FaultKind, Scope};
use super::state::State;
use super::{Event, Vendor, World};
use crate::clock::Timestamp;
use action::Action;
use places::{channel_object, found, visible, writable};

const GUILD: &str = "200000000000000000";
/// The bot's user and its application have the same ID, as everywhere since 2016.
pub(in crate::sandbox) const BOT_ID: &str = "500000000000000001";

/// Discord's own answers carry it; a 429 without it comes from Cloudflare, and clients tell them apart by it.
const VIA: &str = "1.1 google";

pub(in crate::sandbox) fn router() -> Router<World> {
    Router::new()
        .route("/sandbox/discord/api/v10/{*path}", any(call))
        .layer(DefaultBodyLimit::max(upload::MOST_REQUEST_BYTES))
        .route(gateway::PATH, get(gateway::open))
        // READY names another address to resume at, as Discord does.
        .route(&format!("{}/resume", gateway::PATH), get(gateway::open))
        .route("/sandbox/discord/cdn/attachments/{channel}/{file}/{name}", get(attachment))
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

const NO_JSON: Refused =
    Refused::new(StatusCode::BAD_REQUEST, 50109, "The request body contains invalid JSON.");
const NOT_FOUND: Refused = Refused::new(StatusCode::NOT_FOUND, 0, "404: Not Found");
const UNKNOWN_CHANNEL: Refused = Refused::new(StatusCode::NOT_FOUND, 10003, "Unknown Channel");
const UNKNOWN_GUILD: Refused = Refused::new(StatusCode::NOT_FOUND, 10004, "Unknown Guild");
const UNKNOWN_MEMBER: Refused = Refused::new(StatusCode::NOT_FOUND, 10007, "Unknown Member");
const UNKNOWN_MESSAGE: Refused = Refused::new(StatusCode::NOT_FOUND, 10008, "Unknown Message");
const MISSING_ACCESS: Refused = Refused::new(StatusCode::FORBIDDEN, 50001, "Missing Access");
const MISSING_PERMISSIONS: Refused =
    Refused::new(StatusCode::FORBIDDEN, 50013, "Missing Permissions");
const NOT_A_TEXT_CHANNEL: Refused =
    Refused::new(StatusCode::BAD_REQUEST, 50008, "Cannot send messages in a non-text channel");

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
        path: match action.as_ref().and_then(Action::interaction_token) {
            Some(token) => format!("{method} /{}", path.replace(token, "…")),
            None => format!("{method} /{path}"),
        },
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
    learn_base(&world, &headers);
    let by_interaction = action.as_ref().is_some_and(|a| a.interaction_token().is_some());
    let token = text(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bot "));
    if !by_interaction && token != Some(world.inner.tokens.discord.as_str()) {
        return turned_away(&world, &call, unauthorized());
    }
    let Some(action) = action else {
        return turned_away(&world, &call, refusal(NOT_FOUND));
    };
    let body = match &action {
        Action::PutCommands(_) => serde_json::from_slice(&body)
            .map(|commands| (Map::from_iter([(COMMANDS.to_owned(), commands)]), Vec::new()))
            .map_err(|_| NO_JSON),
        action if action.has_body() => upload::read(&headers, body).await,
        _ => Ok((Map::new(), Vec::new())),
    };
    exchange(&world, call, refuse, |desk| {
        let now = desk.now;
        let applied = body.and_then(|(body, files)| apply(&action, &body, files, desk));
        let answer = match applied {
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
        _ => Err(NO_JSON),
    }
}

/// Where the list of commands stands while it is handed on: it is the one body that is no object.
const COMMANDS: &str = "commands";

/// How a caller names this world, from the `Host` of what it asks.
fn learn_base(world: &World, headers: &HeaderMap) {
    if let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) {
        world.state().discord.base = format!("http://{host}");
    }
}

/// A file as Discord's CDN serves it: to whoever has its address.
async fn attachment(
    Shared(world): Shared<World>,
    Path((channel, id, _)): Path<(String, String, String)>,
) -> Response {
    let messages = world.messages(&Vendor::Discord.key(&channel));
    let mut files = messages.iter().filter(|m| !m.deleted).flat_map(|message| &message.files);
    match files.find(|file| file.id == id) {
        Some(file) => {
            let kind = [(header::CONTENT_TYPE, file.mime.clone())];
            (kind, file.bytes.clone()).into_response()
        }
        None => (StatusCode::NOT_FOUND, "This content is no longer available.").into_response(),
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
    files: Vec<upload::Upload>,
    mut desk: Desk<'_>,
) -> Result<(StatusCode, Value), Refused> {
    let ok = |body| Ok((StatusCode::OK, body));
    match *action {
        Action::Me => ok(message::bot_user()),
        Action::Application => ok(application(desk.state)),
        Action::Guilds => ok(json!([{
            "id": GUILD, "name": "Sandbox", "icon": null, "owner": false,
            "permissions": "2048", "features": [],
        }])),
        Action::Guild(GUILD) => ok(places::guild_object()),
        Action::Guild(_) => Err(UNKNOWN_GUILD),
        Action::Member(GUILD, BOT_ID) => ok(places::bot_member()),
        Action::Member(GUILD, _) => Err(UNKNOWN_MEMBER),
        Action::Member(..) => Err(UNKNOWN_GUILD),
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
            ok(message::create(id, body, files, &mut desk)?)
        }
        Action::GetMessage(id, message) => {
            let channel = visible(desk.state, id)?;
            let found = found(desk.state, &channel.id, message)?;
            ok(message::object(found, id, desk.state))
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
            delete(id, message, &mut desk)?;
            Ok((StatusCode::NO_CONTENT, Value::Null))
        }
        Action::StartThread(id, message) => places::start_thread(id, message, body, desk.state),
        Action::GatewayBot => ok(gateway_bot(desk.state, desk.now)),
        Action::PutCommands(app) => {
            let commands = body.get(COMMANDS).unwrap_or(&Value::Null);
            interactions::put_commands(app, commands, &mut desk)
        }
        Action::Callback(id, token) => interactions::answer(id, token, body, &mut desk),
        Action::FollowUp(app, token) => interactions::follow_up(app, token, body, &mut desk),
        Action::GetOriginal(app, token) => interactions::get_original(app, token, &desk),
        Action::EditOriginal(app, token) => {
            interactions::edit_original(app, token, body, &mut desk)
        }
        Action::DeleteOriginal(app, token) => interactions::delete_original(app, token, &mut desk),
    }
}

/// <https://docs.discord.com/developers/resources/application#get-current-application>. Its flags tell which privileged
/// intents are switched on: 1 << 19 is the message content for a bot in fewer than 100 servers.
fn application(state: &State) -> Value {
    let missing =
        |fault: &Fault| fault.platform == Vendor::Discord && fault.kind == FaultKind::MissingIntent;
    let flags = if state.faults.pending().iter().any(missing) { 0 } else { 1 << 19 };
    json!({
        "id": BOT_ID, "name": "herald", "description": "", "bot_public": false,
        "bot_require_code_grant": false, "flags": flags,
    })
}

/// <https://docs.discord.com/developers/events/gateway#get-gateway-bot>
fn gateway_bot(state: &State, now: Timestamp) -> Value {
    let discord = &state.discord;
    let day = i64::from(24 * 3600) * 1000;
    let reset = discord.last_start.map_or(0, |last| (last.0 + day - now.0).max(0));
    json!({
        "url": format!("{}{}", discord.base.replacen("http", "ws", 1), gateway::PATH),
        "shards": 1,
        "session_start_limit": {
            "total": discord.settings.starts,
            "remaining": discord.settings.starts.saturating_sub(discord.started),
            "reset_after": reset, "max_concurrency": 1,
        },
    })
}

fn delete(channel: &str, id: &str, desk: &mut Desk<'_>) -> Result<(), Refused> {
    let found = desk.state.find_mut(Vendor::Discord, channel, id).ok_or(UNKNOWN_MESSAGE)?;
    found.deleted = true;
    let message = found.clone();
    desk.events.push(Event::Deleted { message });
    Ok(())
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
