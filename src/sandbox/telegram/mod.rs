//! Telegram's Bot API: <https://core.telegram.org/bots/api>.
//!
//! Refused here although Telegram ignores it: a parameter that the method does not have. Markdown and
//! MarkdownV2 are not understood; HTML, entities and plain text are.

mod inbound;
mod messages;
mod text;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State as Shared};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http::{HeaderMap, StatusCode};
pub(super) use inbound::Inbound;
use serde_json::{Map, Value, json};

use super::channels::{Channel, Standing};
use super::exchange::{Answer, Call, Desk, exchange, is_json, pairs, turned_away};
use super::faults::{Fault, FaultKind};
use super::state::State;
use super::{Vendor, World};

const BOT: i64 = 1_000_000_001;
/// Where the group that moved went.
const MOVED_TO: i64 = -1_001_000_000_001;

pub(in crate::sandbox) fn router() -> Router<World> {
    Router::new().route("/sandbox/telegram/{bot}/{method}", any(call))
}

type Parameters = Map<String, Value>;

/// Telegram says no: the HTTP status, the description, and the supergroup that a group became.
struct Refused {
    status: StatusCode,
    description: String,
    moved_to: Option<i64>,
}

fn bad_request(description: impl std::fmt::Display) -> Refused {
    Refused {
        status: StatusCode::BAD_REQUEST,
        description: format!("Bad Request: {description}"),
        moved_to: None,
    }
}

/// The methods there are, by their names in the reference, and what each takes.
const METHODS: &[(&str, &[&str])] = &[
    ("getMe", &[]),
    ("getChat", &["chat_id"]),
    (
        "sendMessage",
        &[
            "business_connection_id",
            "chat_id",
            "message_thread_id",
            "text",
            "parse_mode",
            "entities",
            "link_preview_options",
            "disable_notification",
            "protect_content",
            "message_effect_id",
            "reply_parameters",
            "reply_markup",
        ],
    ),
    (
        "editMessageText",
        &[
            "business_connection_id",
            "chat_id",
            "message_id",
            "text",
            "parse_mode",
            "entities",
            "link_preview_options",
            "reply_markup",
        ],
    ),
    ("deleteMessage", &["chat_id", "message_id"]),
    ("sendChatAction", &["business_connection_id", "chat_id", "message_thread_id", "action"]),
];

async fn call(
    Shared(world): Shared<World>,
    http_method: http::Method,
    Path((bot, method)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let parameters = parameters(query.as_deref(), &headers, &body);
    // Method names are not case-sensitive.
    let known = METHODS.iter().find(|(name, _)| name.eq_ignore_ascii_case(&method));
    let name = known.map_or(method.as_str(), |(name, _)| name);
    let call = Call {
        vendor: Vendor::Telegram,
        method: name.to_owned(),
        path: format!("{http_method} /{method}"),
        channel: parameters.as_ref().ok().and_then(|given| {
            let chat = given.get("chat_id")?;
            let state = world.state();
            let id = chat_of(chat, &state).map(|c| c.id.clone());
            Some(id.unwrap_or_else(|| written(chat)))
        }),
    };
    let not_found = || {
        refusal(Refused {
            status: StatusCode::NOT_FOUND,
            description: "Not Found".to_owned(),
            moved_to: None,
        })
    };
    let Some(token) = bot.strip_prefix("bot") else {
        return not_found().into_response();
    };
    if token != world.inner.tokens.telegram {
        let shaped = token.split_once(':').is_some_and(|(id, secret)| {
            !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit()) && secret.len() == 35
        });
        let answer = if shaped { unauthorized() } else { not_found() };
        return turned_away(&world, &call, answer);
    }
    let Some((name, takes)) = known else {
        return turned_away(&world, &call, not_found());
    };
    exchange(&world, call, refuse, |desk| {
        let result = parameters.and_then(|given| {
            if let Some(extra) = given.keys().find(|key| !takes.contains(&key.as_str())) {
                return Err(bad_request(format!("unknown parameter \"{extra}\"")));
            }
            apply(name, &given, desk)
        });
        match result {
            Ok(result) => {
                Answer::new(StatusCode::OK, json!({ "ok": true, "result": result }), "ok")
            }
            Err(refused) => refusal(refused),
        }
    })
    .await
}

fn parameters(
    query: Option<&str>,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Parameters, Refused> {
    let mut given = Map::new();
    let mut form = pairs(query.unwrap_or_default().as_bytes());
    if is_json(headers) {
        let wrong = || bad_request("can't parse JSON object");
        let value: Value = serde_json::from_slice(body).map_err(|_| wrong())?;
        let Value::Object(object) = value else {
            return Err(wrong());
        };
        given.extend(object.into_iter().filter(|(_, value)| !value.is_null()));
    } else {
        form.extend(pairs(body));
    }
    for (name, value) in form {
        // What is not text stands in a form as JSON.
        let value = match name.as_str() {
            "text" | "chat_id" | "parse_mode" | "action" => Value::String(value),
            _ => serde_json::from_str(&value).unwrap_or(Value::String(value)),
        };
        given.insert(name, value);
    }
    Ok(given)
}

fn written(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn number(value: Option<&Value>) -> Option<i64> {
    match value? {
        Value::String(text) => text.parse().ok(),
        value => value.as_i64(),
    }
}

fn chat_of<'a>(chat: &Value, state: &'a State) -> Option<&'a Channel> {
    let chat = written(chat);
    if chat.starts_with('@') {
        state.by_name(&chat)
    } else {
        state.channel(Vendor::Telegram, &chat)
    }
}

/// The chat of a request, if the bot is in it.
fn chat<'a>(given: &Parameters, state: &'a State) -> Result<&'a Channel, Refused> {
    let chat = given
        .get("chat_id")
        .filter(|chat| !written(chat).is_empty())
        .ok_or_else(|| bad_request("chat_id is empty"))?;
    let chat = chat_of(chat, state).ok_or_else(|| bad_request("chat not found"))?;
    match chat.standing {
        Standing::Outside => Err(Refused {
            status: StatusCode::FORBIDDEN,
            description: "Forbidden: bot was kicked from the supergroup chat".to_owned(),
            moved_to: None,
        }),
        Standing::Moved => Err(Refused {
            moved_to: Some(MOVED_TO),
            ..bad_request("group chat was upgraded to a supergroup chat")
        }),
        _ => Ok(chat),
    }
}

fn apply(method: &str, given: &Parameters, desk: Desk<'_>) -> Result<Value, Refused> {
    match method {
        "getMe" => {
            let mut me = bot();
            if let Some(me) = me.as_object_mut() {
                me.insert("can_join_groups".to_owned(), json!(true));
                me.insert("can_read_all_group_messages".to_owned(), json!(false));
                me.insert("supports_inline_queries".to_owned(), json!(false));
            }
            Ok(me)
        }
        "getChat" => {
            let mut chat = chat_object(chat(given, desk.state)?);
            if let Some(chat) = chat.as_object_mut() {
                let may = json!({ "can_send_messages": true });
                chat.insert("permissions".to_owned(), may);
                chat.insert("accent_color_id".to_owned(), json!(0));
                chat.insert("max_reaction_count".to_owned(), json!(11));
            }
            Ok(chat)
        }
        "sendMessage" => messages::send(given, desk),
        "editMessageText" => messages::edit(given, desk),
        "deleteMessage" => messages::delete(given, desk),
        _ => messages::action(given, &desk),
    }
}

fn bot() -> Value {
    json!({ "id": BOT, "is_bot": true, "first_name": "Herald", "username": "herald_sandbox_bot" })
}

fn chat_object(chat: &Channel) -> Value {
    let id: i64 = chat.id.parse().unwrap_or_default();
    let mut object = json!({ "id": id, "title": chat.name, "type": "supergroup" });
    if let Some(object) = object.as_object_mut() {
        if let Some(name) = chat.topic.strip_prefix('@') {
            object.insert("username".to_owned(), json!(name));
        }
        if chat.forum {
            object.insert("is_forum".to_owned(), json!(true));
        }
    }
    object
}

fn unauthorized() -> Answer {
    refusal(Refused {
        status: StatusCode::UNAUTHORIZED,
        description: "Unauthorized".to_owned(),
        moved_to: None,
    })
}

fn refusal(refused: Refused) -> Answer {
    let mut body = json!({
        "ok": false, "error_code": refused.status.as_u16(), "description": refused.description,
    });
    if let (Some(to), Some(body)) = (refused.moved_to, body.as_object_mut()) {
        body.insert("parameters".to_owned(), json!({ "migrate_to_chat_id": to }));
    }
    Answer::new(refused.status, body, refused.description)
}

/// How Telegram words a fault.
fn refuse(fault: &Fault) -> Answer {
    match fault.kind {
        FaultKind::RateLimit => {
            let wait = fault.whole_wait();
            let description = format!("Too Many Requests: retry after {wait}");
            let body = json!({
                "ok": false, "error_code": 429, "description": description,
                "parameters": { "retry_after": wait },
            });
            Answer::new(StatusCode::TOO_MANY_REQUESTS, body, "rate limited")
                .header("retry-after", wait)
        }
        FaultKind::RevokedToken => unauthorized(),
        FaultKind::Archived => refusal(bad_request("TOPIC_CLOSED")),
        FaultKind::Blocked => refusal(Refused {
            status: StatusCode::FORBIDDEN,
            description: "Forbidden: bot was blocked by the user".to_owned(),
            moved_to: None,
        }),
        _ => refusal(Refused {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            description: "Internal Server Error".to_owned(),
            moved_to: None,
        }),
    }
}
