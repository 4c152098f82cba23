//! Telegram's Bot API: <https://core.telegram.org/bots/api>.
//!
//! Refused here although Telegram ignores it: a parameter that the method does not have. Markdown and
//! MarkdownV2 are not understood; HTML, entities and plain text are.

mod entities;
mod files;
mod inbound;
mod keyboard;
mod messages;
mod methods;
mod parameters;
mod text;
mod updates;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, Request, State as Shared};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use http::StatusCode;
pub(super) use inbound::Inbound;
use serde_json::{Map, Value, json};

use self::methods::METHODS;
use self::updates::Poll;
use super::channels::{Channel, Standing};
use super::exchange::{Answer, Call, Desk, exchange_after, turned_away};
use super::faults::{Fault, FaultKind};
use super::people::person;
use super::state::State;
use super::{Vendor, World};

const BOT: i64 = 1_000_000_001;
/// The most bytes that a bot may upload.
const MOST_UPLOAD: usize = 50 * 1024 * 1024;
/// Where the group that moved went.
const MOVED_TO: i64 = -1_001_000_000_001;

pub(in crate::sandbox) fn router() -> Router<World> {
    Router::new()
        .route("/sandbox/telegram/{bot}/{method}", any(call))
        .layer(DefaultBodyLimit::max(MOST_UPLOAD + 1024 * 1024))
        .route("/sandbox/telegram/file/{bot}/{*path}", get(files::download))
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

/// A request that may bring a file: the bot's token is checked against its shape and the workspace's own.
fn turned_off(token: &str, world: &World) -> Option<Answer> {
    if token == world.inner.tokens.telegram {
        return None;
    }
    let shaped = token.split_once(':').is_some_and(|(id, secret)| {
        !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit()) && secret.len() == 35
    });
    Some(if shaped { unauthorized() } else { not_found() })
}

fn not_found() -> Answer {
    refusal(Refused {
        status: StatusCode::NOT_FOUND,
        description: "Not Found".to_owned(),
        moved_to: None,
    })
}

async fn call(
    Shared(world): Shared<World>,
    Path((bot, method)): Path<(String, String)>,
    request: Request,
) -> Response {
    let http_method = request.method().clone();
    let parameters = parameters::read(request).await;
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
    let Some(token) = bot.strip_prefix("bot") else {
        return not_found().into_response();
    };
    if let Some(answer) = turned_off(token, &world) {
        return turned_away(&world, &call, answer);
    }
    let Some((name, takes)) = known else {
        return turned_away(&world, &call, not_found());
    };
    let given = parameters.and_then(|given| {
        match given.keys().find(|key| !takes.contains(&key.as_str())) {
            Some(extra) => Err(bad_request(format!("unknown parameter \"{extra}\""))),
            None => Ok(given),
        }
    });
    let poll = given.as_ref().ok().filter(|_| *name == "getUpdates").map(Poll::read);
    let hold = async {
        if let Some(poll) = &poll {
            poll.hold(&world).await;
        }
    };
    exchange_after(&world, call, refuse, hold, |desk| {
        let result = given.and_then(|given| match &poll {
            Some(poll) => poll.answer(desk),
            None => apply(name, &given, desk),
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
                me.insert("can_read_all_group_messages".to_owned(), json!(true));
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
        "getChatMember" => member(given, desk.state),
        "sendMessage" => messages::send(given, desk),
        "sendDocument" => files::send(given, desk),
        "editMessageText" => messages::edit(given, desk),
        "deleteMessage" => messages::delete(given, desk),
        "sendChatAction" => messages::action(given, &desk),
        "getFile" => files::find(given, &desk),
        "answerCallbackQuery" => updates::answer(given, desk),
        "setWebhook" => updates::set_webhook(given, desk),
        "deleteWebhook" => Ok(updates::delete_webhook(given, desk)),
        "getWebhookInfo" => Ok(desk.state.telegram.webhook_info()),
        "setMyCommands" => updates::set_commands(given, desk),
        _ => Ok(desk.state.telegram.commands()),
    }
}

/// The bot as a member; of others this workspace tells nothing. <https://core.telegram.org/bots/api#chatmember>
fn member(given: &Parameters, state: &State) -> Result<Value, Refused> {
    let chat = chat(given, state)?;
    if number(given.get("user_id")) != Some(BOT) {
        return Err(bad_request("member not found"));
    }
    let user = bot();
    Ok(match chat.standing {
        Standing::ReadOnly => json!({
            "user": user, "status": "restricted", "is_member": true, "until_date": 0,
            "can_send_messages": false, "can_send_documents": false, "can_send_photos": false,
        }),
        _ => json!({ "user": user, "status": "member" }),
    })
}

fn bot() -> Value {
    json!({ "id": BOT, "is_bot": true, "first_name": "Herald", "username": "herald_sandbox_bot" })
}

/// Somebody, as Telegram tells the bot.
fn user(name: &str) -> Value {
    let person = person(Vendor::Telegram, name);
    json!({
        "id": person.id.parse::<i64>().unwrap_or_default(), "is_bot": false,
        "first_name": first_name(&person.name), "username": person.name, "language_code": "en",
    })
}

fn first_name(name: &str) -> String {
    let mut letters = name.chars();
    let first: String = letters.next().iter().flat_map(|c| c.to_uppercase()).collect();
    first + letters.as_str()
}

fn chat_object(chat: &Channel) -> Value {
    let id: i64 = chat.id.parse().unwrap_or_default();
    if let Some(with) = chat.direct {
        return json!({
            "id": id, "first_name": first_name(with), "username": with, "type": "private",
        });
    }
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
        FaultKind::Conflict => refusal(updates::terminated()),
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
