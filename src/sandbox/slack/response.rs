//! Response URLs: <https://docs.slack.dev/interactivity/handling-user-interaction#message_responses>.

use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State as Shared};
use axum::response::Response;
use axum::routing::post;
use http::StatusCode;
use serde_json::{Value, json};

use super::blocks::Refused;
use super::{Arguments, chat, is_true, refuse, text_of};
use crate::clock::Timestamp;
use crate::sandbox::exchange::{Answer, Call, Desk, exchange};
use crate::sandbox::state::{Message, everyone};
use crate::sandbox::{Event, Vendor, World};

/// How often it may be used.
const USES: u32 = 5;
/// And for how long.
const FRESH: Duration = Duration::from_secs(30 * 60);

const KNOWN: [&str; 12] = [
    "text",
    "blocks",
    "attachments",
    "response_type",
    "replace_original",
    "delete_original",
    "thread_ts",
    "mrkdwn",
    "unfurl_links",
    "unfurl_media",
    "metadata",
    "parse",
];

/// Where somebody's command or press may be answered.
#[derive(Clone, Debug)]
pub(super) struct ResponseUrl {
    channel: String,
    author: String,
    /// What `replace_original` replaces: the message that was pressed, or the last answer.
    original: Option<String>,
    uses: u32,
    until: Timestamp,
}

impl ResponseUrl {
    pub(super) fn new(channel: &str, author: &str, original: Option<&str>, now: Timestamp) -> Self {
        Self {
            channel: channel.to_owned(),
            author: author.to_owned(),
            original: original.map(str::to_owned),
            uses: 0,
            until: now.after(FRESH),
        }
    }

    pub(super) fn is_fresh(&self, now: Timestamp) -> bool {
        now <= self.until
    }
}

pub(super) fn router() -> Router<World> {
    Router::new().route("/sandbox/slack/response/{token}", post(respond))
}

async fn respond(Shared(world): Shared<World>, Path(token): Path<String>, body: Bytes) -> Response {
    let channel = world.state().slack.responses.get(&token).map(|url| url.channel.clone());
    let call = Call {
        vendor: Vendor::Slack,
        method: "response_url".to_owned(),
        path: "POST /response".to_owned(),
        channel,
    };
    exchange(&world, call, refuse, move |desk| match answer(&token, &body, desk) {
        Ok(()) => Answer::new(StatusCode::OK, json!("ok"), "ok"),
        Err((status, error)) => {
            Answer::new(status, json!({ "ok": false, "error": error }), error.clone())
        }
    })
    .await
}

fn answer(token: &str, body: &[u8], desk: Desk<'_>) -> Result<(), (StatusCode, String)> {
    let wrong = |error: &str| (StatusCode::BAD_REQUEST, error.to_owned());
    let gone = |error: &str| (StatusCode::NOT_FOUND, error.to_owned());
    let Some(url) = desk.state.slack.responses.get_mut(token).filter(|it| it.is_fresh(desk.now))
    else {
        return Err(gone("expired_url"));
    };
    if url.uses >= USES {
        return Err(gone("used_url"));
    }
    let Ok(Value::Object(fields)) = serde_json::from_slice(body) else {
        return Err(wrong("invalid_payload"));
    };
    let arguments: Arguments = fields.into_iter().filter(|(_, value)| !value.is_null()).collect();
    if arguments.keys().any(|name| !KNOWN.contains(&name.as_str())) {
        return Err(wrong("invalid_payload"));
    }
    let private = match text_of(&arguments, "response_type") {
        None | Some("ephemeral") => true,
        Some("in_channel") => false,
        Some(_) => return Err(wrong("invalid_response_type")),
    };
    let content = chat::content(&arguments).map_err(|Refused { error, .. }| wrong(&error))?;
    url.uses += 1;
    let (channel, author) = (url.channel.clone(), url.author.clone());
    let replaced = url.original.clone().filter(|_| is_true(&arguments, "replace_original"));
    let found = replaced.and_then(|id| desk.state.find_mut(Vendor::Slack, &channel, &id));
    if let Some(found) = found {
        found.text = content.shown;
        found.buttons = content.buttons;
        chat::notify(found, content.pings);
        found.payload = Value::Object(arguments);
        found.edited = true;
        let message = found.clone();
        desk.events.push(Event::Edited { message });
        return Ok(());
    }
    let message = Message {
        channel: Vendor::Slack.key(&channel),
        id: desk.state.next_id(Vendor::Slack, desk.now),
        author: "herald".to_owned(),
        bot: true,
        text: content.shown,
        thread: text_of(&arguments, "thread_ts").map(str::to_owned),
        payload: Value::Object(arguments),
        reply_to: None,
        edited: false,
        deleted: false,
        pinged_everyone: everyone(&content.pings),
        pings: content.pings,
        buttons: content.buttons,
        files: Vec::new(),
        only_for: private.then_some(author),
        received_at: desk.now,
    };
    if let Some(url) = desk.state.slack.responses.get_mut(token) {
        url.original = Some(message.id.clone());
    }
    desk.state.keep(message.clone());
    desk.events.push(Event::Message { message });
    Ok(())
}
