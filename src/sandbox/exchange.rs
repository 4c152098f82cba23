//! One request, the same on every platform: log it, let a fault strike, apply it, answer.

use std::io;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::Value;

use super::faults::{Fault, FaultKind};
use super::state::{Request, State};
use super::{Event, Vendor, World};
use crate::clock::Timestamp;

/// How long a request hangs whose client stays.
const HANG: Duration = Duration::from_secs(60);

/// Who is called, and for which channel.
pub(super) struct Call {
    pub vendor: Vendor,
    pub method: String,
    pub path: String,
    pub channel: Option<String>,
}

/// What a platform answers.
pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Option<Value>,
    /// For the log: `ok`, or the vendor's error.
    pub outcome: String,
}

impl Answer {
    pub(super) fn new(status: StatusCode, body: Value, outcome: impl Into<String>) -> Self {
        Self { status, headers: HeaderMap::new(), body: Some(body), outcome: outcome.into() }
    }

    /// The same with a header. A value that is none is left out.
    pub(super) fn header(mut self, name: &'static str, value: impl ToString) -> Self {
        if let Ok(value) = HeaderValue::try_from(value.to_string()) {
            self.headers.insert(HeaderName::from_static(name), value);
        }
        self
    }

    fn bytes(&self) -> Vec<u8> {
        self.body.as_ref().map(|body| body.to_string().into_bytes()).unwrap_or_default()
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let bytes = self.bytes();
        let mut response = Response::new(Body::from(bytes));
        *response.status_mut() = self.status;
        if self.body.is_some() {
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        response.headers_mut().extend(self.headers);
        response
    }
}

/// What the application of a request works on.
pub(super) struct Desk<'a> {
    pub state: &'a mut State,
    pub now: Timestamp,
    pub events: &'a mut Vec<Event>,
    /// Slack: these scopes are missing for this request.
    pub missing_scopes: Vec<String>,
    /// Telegram: an update of unknown shape is among the others.
    pub odd_update: bool,
}

/// Handles one authenticated request. `refuse` words a fault as the vendor would; `apply` does the work.
pub(super) async fn exchange(
    world: &World,
    call: Call,
    refuse: fn(&Fault) -> Answer,
    apply: impl FnOnce(Desk<'_>) -> Answer,
) -> Response {
    exchange_after(world, call, refuse, std::future::ready(()), apply).await
}

/// The same for a request that is held until there is something to tell. A fault strikes before that.
pub(super) async fn exchange_after(
    world: &World,
    call: Call,
    refuse: fn(&Fault) -> Answer,
    hold: impl Future<Output = ()>,
    apply: impl FnOnce(Desk<'_>) -> Answer,
) -> Response {
    let (number, fault) = arrive(world, &call);
    match fault.as_ref().map(|fault| fault.kind) {
        Some(FaultKind::Hang) => {
            tokio::time::sleep(HANG).await;
            return html(StatusCode::GATEWAY_TIMEOUT, "Gateway Time-out");
        }
        Some(FaultKind::Slow) => {
            let millis = fault.as_ref().and_then(|f| f.millis).unwrap_or(1000);
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
        Some(FaultKind::DropBefore) => return broken(Vec::new()),
        Some(FaultKind::BadGatewayHtml) => return html(StatusCode::BAD_GATEWAY, "Bad Gateway"),
        Some(FaultKind::HtmlOk) => return html(StatusCode::OK, "Sign in to the network"),
        Some(
            FaultKind::RateLimit
            | FaultKind::ServerError
            | FaultKind::RevokedToken
            | FaultKind::InvalidAuth
            | FaultKind::Archived
            | FaultKind::Blocked
            | FaultKind::Conflict,
        ) => {
            if let Some(fault) = &fault {
                return refuse(fault).into_response();
            }
        }
        // The others strike later, or elsewhere.
        Some(_) | None => {}
    }
    hold.await;

    let mut events = Vec::new();
    let answer = {
        let mut state = world.state();
        let answer = apply(Desk {
            state: &mut state,
            now: world.inner.clock.now(),
            events: &mut events,
            missing_scopes: fault.as_ref().map(Fault::missing_scopes).unwrap_or_default(),
            odd_update: fault.as_ref().is_some_and(|f| f.kind == FaultKind::OddUpdate),
        });
        if fault.is_none() {
            state.log_outcome(number, &answer.outcome);
        }
        answer
    };
    for event in events {
        world.tell(event);
    }
    match fault.map(|fault| fault.kind) {
        Some(FaultKind::DropAfter) => broken(answer.bytes()),
        Some(FaultKind::HangAfter) => {
            tokio::time::sleep(HANG).await;
            html(StatusCode::GATEWAY_TIMEOUT, "Gateway Time-out")
        }
        _ => answer.into_response(),
    }
}

/// Logs a request and takes the fault that strikes it.
fn arrive(world: &World, call: &Call) -> (u64, Option<Fault>) {
    let mut guard = world.state();
    let state = &mut *guard;
    let parent = call
        .channel
        .as_deref()
        .and_then(|id| state.channel(call.vendor, id))
        .and_then(|channel| channel.parent.clone());
    let channels: Vec<&str> =
        call.channel.as_deref().into_iter().chain(parent.as_deref()).collect();
    let fault = state.faults.take(call.vendor, &call.method, &channels);
    let outcome = match &fault {
        Some(fault) => format!("fault:{}", fault.kind.as_str()),
        None => "open".to_owned(),
    };
    let number = state.log(Request {
        number: 0,
        platform: call.vendor,
        method: call.method.clone(),
        path: call.path.clone(),
        channel: call.channel.clone(),
        received_at: world.inner.clock.now(),
        outcome,
    });
    drop(guard);
    if fault.is_some() {
        world.tell(Event::Faults);
    }
    (number, fault)
}

/// Logs a request that was refused at the door, such as for a wrong token.
pub(super) fn turned_away(world: &World, call: &Call, answer: Answer) -> Response {
    world.state().log(Request {
        number: 0,
        platform: call.vendor,
        method: call.method.clone(),
        path: call.path.clone(),
        channel: call.channel.clone(),
        received_at: world.inner.clock.now(),
        outcome: answer.outcome.clone(),
    });
    answer.into_response()
}

/// A page as proxies and gateways send it.
pub(super) fn html(status: StatusCode, title: &str) -> Response {
    let body = format!(
        "<!DOCTYPE html>\n<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>\n"
    );
    let headers = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];
    (status, headers, body).into_response()
}

/// An answer whose connection breaks: before anything of it is written if `body` is empty, else in its middle.
pub(super) fn broken(mut body: Vec<u8>) -> Response {
    let length = body.len().max(64);
    body.truncate(body.len() / 2);
    let stream = if body.is_empty() {
        Body::from_stream(stream::iter([reset()]))
    } else {
        let rest = stream::once(async move {
            // The pause lets what is written so far go out.
            tokio::task::yield_now().await;
            reset()
        });
        Body::from_stream(stream::iter([Ok(body)]).chain(rest))
    };
    let mut response = Response::new(stream);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    response
}

fn reset() -> io::Result<Vec<u8>> {
    Err(io::ErrorKind::ConnectionReset.into())
}

/// The pairs of a query or of a form body.
pub(super) fn pairs(encoded: &[u8]) -> Vec<(String, String)> {
    url::form_urlencoded::parse(encoded).into_owned().collect()
}

/// Whether a request says that its body is JSON.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.trim_start().starts_with("application/json"))
}
