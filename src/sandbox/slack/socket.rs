//! Socket Mode: <https://docs.slack.dev/apis/events-api/using-socket-mode>.

use std::time::Duration;

use axum::Router;
use axum::extract::ws::{Message as Frame, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State as Shared};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::APP;
use super::inbound::{Envelope, Kind};
use crate::sandbox::faults::FaultKind;
use crate::sandbox::{Event, Vendor, World};

/// How many WebSockets an app may have.
const MOST: usize = 10;
/// Between `warning` and the end.
const WARNED: Duration = Duration::from_secs(10);
/// Longer than anything here lasts.
const LONG: Duration = Duration::from_secs(3600);

pub(super) fn router() -> Router<World> {
    Router::new().route("/sandbox/slack/socket", get(open))
}

#[derive(Deserialize)]
struct Ticket {
    #[serde(default)]
    ticket: String,
}

async fn open(
    Shared(world): Shared<World>,
    Query(Ticket { ticket }): Query<Ticket>,
    upgrade: WebSocketUpgrade,
) -> Response {
    if !world.state().slack.redeem(&ticket) {
        return StatusCode::NOT_FOUND.into_response();
    }
    upgrade.on_upgrade(move |mut socket| async move {
        converse(&world, &mut socket).await;
        let _ = socket.send(Frame::Close(None)).await;
    })
}

async fn say(socket: &mut WebSocket, frame: Value) -> bool {
    socket.send(Frame::Text(frame.to_string().into())).await.is_ok()
}

async fn farewell(socket: &mut WebSocket, reason: &str) -> bool {
    let info = json!({ "host": "sandbox" });
    say(socket, json!({ "type": "disconnect", "reason": reason, "debug_info": info })).await
}

fn sealed(envelope: &Envelope) -> Value {
    let mut frame = json!({
        "envelope_id": envelope.id, "type": envelope.kind.as_str(), "payload": envelope.payload,
        "accepts_response_payload": envelope.kind != Kind::Event,
    });
    if envelope.kind == Kind::Event
        && let Some(frame) = frame.as_object_mut()
    {
        frame.insert("retry_attempt".to_owned(), json!(envelope.attempt));
        frame.insert("retry_reason".to_owned(), json!(envelope.reason));
    }
    frame
}

async fn converse(world: &World, socket: &mut WebSocket) {
    if world.state().slack.connections() >= MOST {
        farewell(socket, "too_many_websockets").await;
        return;
    }
    let (number, news) = world.state().slack.connect();
    listen(world, socket, number, news).await;
    world.state().slack.disconnect(number);
}

async fn listen(
    world: &World,
    socket: &mut WebSocket,
    number: u64,
    mut news: tokio::sync::watch::Receiver<u64>,
) {
    let mut events = world.inner.events.subscribe();
    let hello = json!({
        "type": "hello", "num_connections": world.state().slack.connections(),
        "debug_info": { "host": "sandbox", "build_number": 1, "approximate_connection_time": 18060 },
        "connection_info": { "app_id": APP },
    });
    if !say(socket, hello).await {
        return;
    }
    let mut pings = tokio::time::interval(WARNED);
    let mut closing: Option<Instant> = None;
    loop {
        let fault = world.state().faults.take(Vendor::Slack, "socket", &[]);
        if let Some(fault) = fault {
            world.tell(Event::Faults);
            let reason = match fault.kind {
                FaultKind::LinkDisabled => "link_disabled",
                FaultKind::TooManySockets => "too_many_websockets",
                FaultKind::Refresh => "warning",
                _ => "refresh_requested",
            };
            if !farewell(socket, reason).await || fault.kind != FaultKind::Refresh {
                return;
            }
            closing = Some(Instant::now() + WARNED);
        }
        loop {
            // What is told goes to a connection that stays, if there is one.
            let next = {
                let mut state = world.state();
                let stays = closing.is_none() || state.slack.connections() == 1;
                if stays && state.slack.pushing.is_none() { state.slack.next(number) } else { None }
            };
            let Some(envelope) = next else { break };
            if !say(socket, sealed(&envelope)).await {
                return;
            }
        }
        let alarm = world.state().slack.alarm();
        // An alarm that has rung is somebody else's to hear.
        let later = Instant::now() + LONG;
        let alarm = alarm.filter(|at| *at > Instant::now()).unwrap_or(later);
        tokio::select! {
            _ = news.changed() => {}
            event = events.recv() => {
                if matches!(event, Ok(Event::Closing)) {
                    return;
                }
            }
            frame = socket.recv() => match frame {
                Some(Ok(Frame::Text(text))) => {
                    let ack: Value = serde_json::from_str(&text).unwrap_or_default();
                    if let Some(id) = ack.get("envelope_id").and_then(Value::as_str) {
                        world.state().slack.acknowledge(id);
                    }
                }
                None | Some(Err(_) | Ok(Frame::Close(_))) => return,
                Some(Ok(_)) => {}
            },
            () = sleep_until(alarm) => {}
            () = sleep_until(closing.unwrap_or(later)) => {
                farewell(socket, "refresh_requested").await;
                return;
            }
            _ = pings.tick() => {
                if socket.send(Frame::Ping(Vec::new().into())).await.is_err() {
                    return;
                }
            }
        }
    }
}
