//! Slack's Web API: <https://docs.slack.dev/reference/methods>.
//!
//! Everything is answered with 200 and `ok`, but for rate limits and server errors. Refused here although Slack
//! ignores it: an argument that the method does not have (`invalid_arguments`).

mod blocks;
mod chat;
mod conversations;
mod files;
mod inbound;
mod push;
mod response;
mod socket;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State as Shared};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http::{HeaderMap, StatusCode, header};
pub(super) use inbound::Inbound;
pub use push::NotVerified;
use serde_json::{Map, Value, json};

use self::blocks::Refused;
use super::channels::Channel;
use super::exchange::{Answer, Call, Desk, exchange, is_json, pairs, turned_away};
use super::faults::{Fault, FaultKind};
use super::people::person;
use super::state::{Message, State};
use super::{Tokens, Vendor, World};

const SCOPES: &str = "app_mentions:read,channels:history,channels:read,chat:write,commands,files:read,\
                      files:write,groups:history,groups:read,im:history";
const APP: &str = "A0HERALD";
const TEAM: &str = "T0SANDBOX";
const USER: &str = "U0HERALD";
const BOT: &str = "B0HERALD";
const HOST: &str = "https://sandbox.slack.com";

pub(in crate::sandbox) fn router() -> Router<World> {
    Router::new()
        .route("/sandbox/slack/api/{method}", any(call))
        .merge(socket::router())
        .merge(response::router())
        .merge(files::router())
        .merge(push::router())
}

/// The app-level token that goes with the bot's: `xapp-…`.
pub(super) fn app_token(tokens: &Tokens) -> String {
    format!("xapp-{}", tokens.slack.trim_start_matches("xoxb-"))
}

type Arguments = Map<String, Value>;

/// What each method takes. `None`: there is no such method.
fn arguments_of(method: &str) -> Option<&'static [&'static str]> {
    const CONTENT: &[&str] = &[
        "channel",
        "text",
        "blocks",
        "attachments",
        "markdown_text",
        "thread_ts",
        "reply_broadcast",
        "unfurl_links",
        "unfurl_media",
        "mrkdwn",
        "parse",
        "link_names",
        "metadata",
        "username",
        "icon_emoji",
        "icon_url",
        "as_user",
        "client_msg_id",
    ];
    const UPDATE: &[&str] = &[
        "channel",
        "ts",
        "text",
        "blocks",
        "attachments",
        "markdown_text",
        "reply_broadcast",
        "unfurl_links",
        "unfurl_media",
        "parse",
        "link_names",
        "metadata",
        "as_user",
        "file_ids",
    ];
    const PAGE: &[&str] = &[
        "channel",
        "ts",
        "cursor",
        "include_all_metadata",
        "inclusive",
        "latest",
        "limit",
        "oldest",
    ];
    Some(match method {
        "auth.test" | "apps.connections.open" => &[],
        "files.getUploadURLExternal" => &["filename", "length", "snippet_type", "alt_txt"],
        "files.completeUploadExternal" => {
            &["files", "channel_id", "channels", "initial_comment", "thread_ts", "blocks"]
        }
        "chat.postMessage" => CONTENT,
        "chat.update" => UPDATE,
        "chat.delete" => &["channel", "ts", "as_user"],
        "chat.getPermalink" => &["channel", "message_ts"],
        "conversations.info" => &["channel", "include_locale", "include_num_members"],
        "conversations.list" => &["cursor", "exclude_archived", "limit", "team_id", "types"],
        "conversations.history" | "conversations.replies" => PAGE,
        _ => return None,
    })
}

/// Methods that only read take their arguments from a form or the query, never from JSON.
fn reads(method: &str) -> bool {
    method.starts_with("conversations.")
        || matches!(method, "chat.getPermalink" | "files.getUploadURLExternal")
}

async fn call(
    Shared(world): Shared<World>,
    http_method: http::Method,
    Path(method): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) {
        world.state().slack.served_under(&format!("http://{host}"));
    }
    let read = read_arguments(&method, query.as_deref(), &headers, &body);
    let (mut arguments, missing_charset, broken) = match read {
        Ok((arguments, missing_charset)) => (arguments, missing_charset, None),
        Err(error) => (Map::new(), false, Some(error)),
    };
    let call = Call {
        vendor: Vendor::Slack,
        path: format!("{http_method} /{method}"),
        channel: text_of(&arguments, "channel")
            .or_else(|| text_of(&arguments, "channel_id"))
            .map(str::to_owned),
        method: method.clone(),
    };
    let Some(known) = arguments_of(&method) else {
        let mut answer = refusal(&Refused::code("unknown_method"));
        if let Some(Value::Object(body)) = &mut answer.body {
            body.insert("req_method".to_owned(), json!(method));
        }
        return turned_away(&world, &call, answer);
    };
    let bearer = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .map(str::to_owned);
    let token = match arguments.remove("token") {
        Some(Value::String(token)) if bearer.is_none() => Some(token),
        _ => bearer,
    };
    let (bot, app) = (world.inner.tokens.slack.clone(), app_token(&world.inner.tokens));
    let (wanted, other) = if method == "apps.connections.open" { (app, bot) } else { (bot, app) };
    let door = match token.as_deref().map(str::trim) {
        None => Some("not_authed"),
        Some(token) if token == wanted => None,
        Some(token) if token == other => Some("not_allowed_token_type"),
        Some(_) => Some("invalid_auth"),
    };
    if let Some(error) = door {
        return turned_away(&world, &call, refusal(&Refused::code(error)));
    }

    exchange(&world, call, refuse, move |desk| {
        let scopes = scopes_without(&desk.missing_scopes);
        let result = match broken {
            Some(error) => Err(Refused::code(error)),
            None => answer(&method, &arguments, known, desk),
        };
        let mut answer = match result {
            Ok(body) => Answer::new(StatusCode::OK, body, "ok"),
            Err(refused) => refusal(&refused),
        };
        if missing_charset && let Some(body) = &mut answer.body {
            warn(body, "missing_charset");
        }
        answer
            .header("x-oauth-scopes", scopes)
            .header("content-type", "application/json; charset=utf-8")
    })
    .await
    .into_response()
}

/// The arguments of a call, wherever they stand, and whether its JSON names no charset.
fn read_arguments(
    method: &str,
    query: Option<&str>,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<(Arguments, bool), &'static str> {
    let mut arguments = Map::new();
    let mut form = pairs(query.unwrap_or_default().as_bytes());
    let mut missing_charset = false;
    // The official Python SDK calls methods without arguments with JSON's type and nothing in it.
    if is_json(headers) && !body.is_empty() {
        missing_charset = !headers
            .get(header::CONTENT_TYPE)
            .and_then(|v| v.to_str().ok())
            .is_some_and(|v| v.to_ascii_lowercase().contains("charset"));
        let value: Value = serde_json::from_slice(body).map_err(|_| "invalid_json")?;
        let Value::Object(object) = value else {
            return Err("json_not_object");
        };
        if !reads(method) {
            // An argument that is null is an argument not given.
            arguments.extend(object.into_iter().filter(|(_, v)| !v.is_null()));
        }
    } else {
        form.extend(pairs(body));
    }
    for (name, value) in form {
        let value = match name.as_str() {
            "blocks" | "attachments" => {
                serde_json::from_str(&value).map_err(|_| "invalid_blocks_format")?
            }
            "files" => serde_json::from_str(&value).map_err(|_| "invalid_arguments")?,
            "metadata" => serde_json::from_str(&value).map_err(|_| "invalid_metadata_format")?,
            _ => Value::String(value),
        };
        arguments.insert(name, value);
    }
    Ok((arguments, missing_charset))
}

fn answer(
    method: &str,
    arguments: &Arguments,
    known: &[&str],
    desk: Desk<'_>,
) -> Result<Value, Refused> {
    if let Some(unknown) = arguments.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(Refused::because(
            "invalid_arguments",
            format!("[ERROR] unknown argument: {unknown}"),
        ));
    }
    if method.starts_with("chat.") {
        need_scope("chat:write", &desk)?;
    }
    match method {
        "auth.test" => Ok(json!({
            "ok": true, "url": format!("{HOST}/"), "team": "Sandbox", "user": "herald",
            "team_id": TEAM, "user_id": USER, "bot_id": BOT, "is_enterprise_install": false,
        })),
        "apps.connections.open" => {
            Ok(json!({ "ok": true, "url": desk.state.slack.issue_ticket() }))
        }
        "files.getUploadURLExternal" => files::begin(arguments, desk),
        "files.completeUploadExternal" => files::complete(arguments, desk),
        "chat.postMessage" => chat::post(arguments, desk),
        "chat.update" => chat::update(arguments, desk),
        "chat.delete" => chat::delete(arguments, desk),
        "chat.getPermalink" => chat::permalink(arguments, desk.state),
        "conversations.info" => conversations::info(arguments, &desk),
        "conversations.list" => conversations::list(arguments, &desk),
        "conversations.history" => conversations::history(arguments, &desk),
        "conversations.replies" => conversations::replies(arguments, &desk),
        _ => Err(Refused::code("unknown_method")),
    }
}

/// The token's scopes, but for those that are missing.
fn scopes_without(missing: &[String]) -> String {
    let scopes: Vec<&str> =
        SCOPES.split(',').filter(|scope| missing.iter().all(|missing| missing != scope)).collect();
    scopes.join(",")
}

fn need_scope(scope: &'static str, desk: &Desk<'_>) -> Result<(), Refused> {
    if desk.missing_scopes.iter().any(|missing| missing == scope) {
        return Err(Refused::scope(scope, scopes_without(&desk.missing_scopes)));
    }
    Ok(())
}

fn text_of<'a>(arguments: &'a Arguments, name: &str) -> Option<&'a str> {
    arguments.get(name).and_then(Value::as_str)
}

fn required<'a>(arguments: &'a Arguments, name: &str) -> Result<&'a str, Refused> {
    text_of(arguments, name).filter(|v| !v.is_empty()).ok_or_else(|| {
        Refused::because("invalid_arguments", format!("[ERROR] missing required field: {name}"))
    })
}

fn is_true(arguments: &Arguments, name: &str) -> bool {
    match arguments.get(name) {
        Some(Value::Bool(value)) => *value,
        Some(Value::String(value)) => value == "true" || value == "1",
        _ => false,
    }
}

fn known_channel<'a>(id: Option<&str>, state: &'a State) -> Result<&'a Channel, Refused> {
    id.and_then(|id| state.channel(Vendor::Slack, id))
        .ok_or_else(|| Refused::code("channel_not_found"))
}

/// Adds a warning, as Slack writes them: in words and in a list.
fn warn(body: &mut Value, warning: &str) {
    let Some(object) = body.as_object_mut() else {
        return;
    };
    object.entry("warning").or_insert_with(|| json!(warning));
    let metadata = object.entry("response_metadata").or_insert_with(|| json!({}));
    if let Some(metadata) = metadata.as_object_mut() {
        let warnings = metadata.entry("warnings").or_insert_with(|| json!([]));
        if let Some(warnings) = warnings.as_array_mut() {
            warnings.push(json!(warning));
        }
    }
}

/// A message as Slack returns it. Unless all metadata is asked for, it is named and its payload left out
/// (slackapi/python-slack-sdk#1501).
fn shape(message: &Message, with_metadata: bool) -> Value {
    let mut out = json!({ "type": "message", "ts": message.id, "text": message.text });
    let Some(object) = out.as_object_mut() else {
        return out;
    };
    let mut add = |name: &str, value: Value| object.insert(name.to_owned(), value);
    if message.bot {
        add("user", json!(USER));
        add("bot_id", json!(BOT));
        add("app_id", json!(APP));
        add("team", json!(TEAM));
        for name in ["text", "blocks", "attachments"] {
            if let Some(value) = message.payload.get(name) {
                add(name, value.clone());
            }
        }
        if let Some(metadata) = message.payload.get("metadata") {
            let named = metadata.get("event_type").cloned().unwrap_or_default();
            let named = json!({ "event_type": named });
            add("metadata", if with_metadata { metadata.clone() } else { named });
        }
    } else {
        add("user", json!(person(Vendor::Slack, &message.author).id));
    }
    if let Some(thread) = &message.thread {
        add("thread_ts", json!(thread));
        add("parent_user_id", json!(USER));
    }
    if message.edited {
        add("edited", json!({ "user": USER, "ts": message.id }));
    }
    out
}

fn refusal(refused: &Refused) -> Answer {
    let mut body = json!({ "ok": false, "error": refused.error });
    if let Some(object) = body.as_object_mut() {
        if let Some(message) = &refused.message {
            object.insert("response_metadata".to_owned(), json!({ "messages": [message] }));
            if refused.error == "invalid_blocks" {
                let short = message.trim_start_matches("[ERROR] ");
                object.insert("errors".to_owned(), json!([short]));
            }
        }
        if let Some((needed, provided)) = &refused.scope {
            object.insert("needed".to_owned(), json!(needed));
            object.insert("provided".to_owned(), json!(provided));
        }
    }
    Answer::new(StatusCode::OK, body, refused.error.clone())
}

/// How Slack words a fault.
fn refuse(fault: &Fault) -> Answer {
    let error =
        |status, error: &str| Answer::new(status, json!({ "ok": false, "error": error }), error);
    match fault.kind {
        FaultKind::RateLimit => error(StatusCode::TOO_MANY_REQUESTS, "ratelimited")
            .header("retry-after", fault.whole_wait()),
        FaultKind::RevokedToken => error(StatusCode::OK, "token_revoked"),
        FaultKind::InvalidAuth => error(StatusCode::OK, "invalid_auth"),
        FaultKind::Archived => error(StatusCode::OK, "is_archived"),
        _ => error(StatusCode::INTERNAL_SERVER_ERROR, "internal_error"),
    }
}
