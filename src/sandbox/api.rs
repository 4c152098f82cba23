//! The page and the API behind it, `/sandbox/api/…`: see, speak, break.

use std::convert::Infallible;

use axum::Router;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Json, Query, State as Shared};
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::Stream;
use http::{StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

use super::agent::HINTS;
use super::channels::Standing;
use super::faults::Fault;
use super::people::NAMES;
use super::state::{NotSpoken, Press, Speech};
use super::{Event, World};

pub(super) fn router() -> Router<World> {
    Router::new()
        .route("/", get(page))
        .route("/sandbox/page.css", get(style))
        .route("/sandbox/page.js", get(|| async { javascript(include_str!("page/page.js")) }))
        .route("/sandbox/faults.js", get(|| async { javascript(include_str!("page/faults.js")) }))
        .route("/sandbox/markup.js", get(|| async { javascript(include_str!("page/markup.js")) }))
        .route("/sandbox/message.js", get(|| async { javascript(include_str!("page/message.js")) }))
        .route("/sandbox/speak.js", get(|| async { javascript(include_str!("page/speak.js")) }))
        .route(
            "/sandbox/workspace.js",
            get(|| async { javascript(include_str!("page/workspace.js")) }),
        )
        .route("/sandbox/api/hints", get(hints))
        .route("/sandbox/api/channels", get(channels))
        .route("/sandbox/api/messages", get(messages).post(speak))
        .route("/sandbox/api/presses", post(press))
        .route("/sandbox/api/faults", get(faults).post(add_fault).delete(clear_faults))
        .route("/sandbox/api/events", get(events))
}

async fn page() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        // What agents write is shown here: nothing but our own files may run or load.
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
             img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
    ];
    (headers, include_str!("page/page.html")).into_response()
}

async fn style() -> Response {
    let headers = [(header::CONTENT_TYPE, "text/css; charset=utf-8")];
    (headers, include_str!("page/page.css")).into_response()
}

fn javascript(text: &'static str) -> Response {
    let headers = [(header::CONTENT_TYPE, "text/javascript; charset=utf-8")];
    (headers, text).into_response()
}

/// Who may be chosen on the page, and what the scripted agent understands.
async fn hints() -> Json<Value> {
    let scripts: Vec<Value> =
        HINTS.iter().map(|(say, does)| json!({ "say": say, "does": does })).collect();
    Json(json!({ "people": NAMES, "scripts": scripts }))
}

async fn channels(Shared(world): Shared<World>) -> Json<Value> {
    let state = world.state();
    let mut channels: Vec<_> = state.channels().collect();
    // Those that agents may post to come first.
    channels.sort_by_key(|c| (c.vendor, !c.allowed));
    let channels: Vec<Value> = channels
        .into_iter()
        .map(|c| {
            let standing = match c.standing {
                Standing::Member => "member",
                Standing::Outside => "outside",
                Standing::ReadOnly => "read_only",
                Standing::Archived => "archived",
                Standing::NotText => "not_text",
                Standing::Moved => "moved",
            };
            json!({
                "channel": c.key(), "platform": c.vendor, "id": c.id, "name": c.name,
                "topic": c.topic, "allowed": c.allowed, "private": c.private, "bot": standing,
                "direct": c.direct, "forum": c.forum,
                "parent": c.parent.as_deref().map(|parent| c.vendor.key(parent)),
            })
        })
        .collect();
    Json(json!({ "channels": channels }))
}

#[derive(Deserialize)]
struct Which {
    channel: String,
}

async fn messages(Shared(world): Shared<World>, Query(which): Query<Which>) -> Response {
    let exists = world.state().channels().any(|c| c.key() == which.channel);
    if !exists {
        return error(StatusCode::NOT_FOUND, NotSpoken::NoChannel);
    }
    Json(json!({ "messages": world.messages(&which.channel) })).into_response()
}

async fn speak(
    Shared(world): Shared<World>,
    speech: Result<Json<Speech>, JsonRejection>,
) -> Response {
    let speech = match speech {
        Ok(Json(speech)) => speech,
        Err(rejection) => return error(rejection.status(), rejection.body_text()),
    };
    match world.speak(&speech) {
        Ok(Some(message)) => (StatusCode::CREATED, Json(message)).into_response(),
        Ok(None) => (StatusCode::ACCEPTED, Json(json!({ "command": speech.text }))).into_response(),
        Err(why @ NotSpoken::NoChannel) => error(StatusCode::NOT_FOUND, why),
        Err(why @ (NotSpoken::Empty | NotSpoken::NoBase64)) => error(StatusCode::BAD_REQUEST, why),
    }
}

async fn press(
    Shared(world): Shared<World>,
    press: Result<Json<Press>, JsonRejection>,
) -> Response {
    let press = match press {
        Ok(Json(press)) => press,
        Err(rejection) => return error(rejection.status(), rejection.body_text()),
    };
    match world.press(&press) {
        Ok(()) => (StatusCode::ACCEPTED, Json(json!({}))).into_response(),
        Err(why) => error(StatusCode::NOT_FOUND, why),
    }
}

async fn faults(Shared(world): Shared<World>) -> Json<Value> {
    Json(json!({ "faults": world.faults() }))
}

async fn add_fault(
    Shared(world): Shared<World>,
    fault: Result<Json<Fault>, JsonRejection>,
) -> Response {
    let fault = match fault {
        Ok(Json(fault)) => fault,
        Err(rejection) => return error(rejection.status(), rejection.body_text()),
    };
    if let Err(why) = fault.check() {
        return error(StatusCode::BAD_REQUEST, why);
    }
    world.fault(fault);
    let faults = json!({ "faults": world.faults() });
    (StatusCode::CREATED, Json(faults)).into_response()
}

async fn clear_faults(Shared(world): Shared<World>) -> Json<Value> {
    world.clear_faults();
    Json(json!({ "faults": [] }))
}

fn error(status: StatusCode, why: impl std::fmt::Display) -> Response {
    (status, Json(json!({ "error": why.to_string() }))).into_response()
}

/// Every new, edited and deleted message, and a note when the faults change, as server-sent events of type
/// `update`. Who reads too slowly gets `reload` and loads the channel again.
async fn events(Shared(world): Shared<World>) -> Sse<impl Stream<Item = Result<Sent, Infallible>>> {
    let receiver = world.inner.events.subscribe();
    let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
        let sent = match receiver.recv().await {
            Ok(Event::Closing) | Err(RecvError::Closed) => return None,
            Ok(event) => {
                let data = serde_json::to_string(&event).unwrap_or_default();
                Sent::default().event("update").data(data)
            }
            Err(RecvError::Lagged(_)) => Sent::default().event("reload").data("{}"),
        };
        Some((Ok(sent), receiver))
    });
    Sse::new(stream).keep_alive(KeepAlive::default())
}
