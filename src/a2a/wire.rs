//! One JSON-RPC request over HTTP, and what kind of answer it got.

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use url::Url;

use super::client::Settings;
use super::config::UserId;
use super::dialect::{Call, Dialect};
use super::error::{Error, trimmed};
use super::sse::{EVENT_LIMIT, Frame, Stream};
use super::turn::Caller;
use crate::platform::http::authorization;
use crate::telemetry::spans;
use crate::telemetry::trace::Span;

/// What a call was answered with.
#[derive(Debug)]
pub(super) enum Reply {
    Result(Value),
    Stream(Box<Stream>),
    Refusal(Refusal),
}

/// A JSON-RPC error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: i64,
    pub(super) message: String,
}

impl Refusal {
    pub(super) const METHOD_NOT_FOUND: i64 = -32601;
    pub(super) const INVALID_PARAMS: i64 = -32602;
    pub(super) const TASK_NOT_FOUND: i64 = -32001;
    pub(super) const UNSUPPORTED: i64 = -32004;
    pub(super) const VERSION: i64 = -32009;

    /// Reads an `error` member.
    pub(super) fn read(error: &Value) -> Self {
        let number = error.get("code");
        let code = number.and_then(|code| code.as_i64().or_else(|| whole(code.as_f64()?)));
        let message = error.get("message").and_then(Value::as_str).unwrap_or_default();
        Self { code: code.unwrap_or_default(), message: trimmed(message) }
    }

    /// The agent refused the dialect, unread.
    pub(super) const fn is_version(&self) -> bool {
        self.code == Self::VERSION
    }

    pub(super) fn into_error(self) -> Error {
        match self.code {
            Self::TASK_NOT_FOUND => Error::UnknownTask,
            Self::VERSION => Error::VersionMismatch,
            code => Error::Refused { code, message: self.message },
        }
    }
}

/// 1.0 writes whole numbers as floats.
fn whole(number: f64) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "it saturates, and codes are small")]
    (number.fract() == 0.0).then_some(number as i64)
}

/// Sends `params`, once.
pub(super) async fn call(
    settings: &Settings,
    dialect: Dialect,
    call: Call,
    params: Value,
    caller: &Caller,
) -> Result<Reply, Error> {
    let mut span = spans::agent_call(&settings.url, dialect.method(call));
    let reply = exchange(settings, dialect, call, params, caller, &mut span).await;
    match &reply {
        Ok(Reply::Refusal(refusal)) => span.fail(refusal.code.to_string()),
        Err(error) => span.fail(error.as_str()),
        Ok(Reply::Result(_) | Reply::Stream(_)) => {}
    }
    reply
}

/// A stream that is listened to takes the span with it.
async fn exchange(
    settings: &Settings,
    dialect: Dialect,
    call: Call,
    params: Value,
    caller: &Caller,
    span: &mut Span,
) -> Result<Reply, Error> {
    let streams = matches!(call, Call::Stream | Call::Attach);
    let accept = if streams { "text/event-stream, application/json" } else { "application/json" };
    let body = json!({
        "jsonrpc": "2.0", "id": "1", "method": dialect.method(call), "params": params,
    });
    let request = settings.http.request(Method::POST, settings.url.clone());
    let request = dialect.headers(request).header(ACCEPT, accept).json(&body);
    let request = on_behalf(settings, request, caller, span).await?;
    let patience = &settings.patience;
    let head = if call == Call::Send { patience.silence } else { patience.answer };
    let mut incoming = settings.http.open(request, head).await?;
    spans::status(span, incoming.status);
    let kind = incoming.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let is_stream = kind.is_some_and(|kind| kind.trim_start().starts_with("text/event-stream"));
    if incoming.status.is_success() && is_stream {
        if !streams {
            return first(&mut Stream::new(incoming, Span::none()), head).await;
        }
        let span = std::mem::replace(span, Span::none());
        return Ok(Reply::Stream(Box::new(Stream::new(incoming, span))));
    }
    let body = tokio::time::timeout(head, incoming.body(EVENT_LIMIT)).await;
    let body = body.map_err(|_| Error::NoAnswer("nothing came in time"))??;
    understand(incoming.status, &body)
}

/// A plain call that is answered with a stream of one event.
async fn first(stream: &mut Stream, within: std::time::Duration) -> Result<Reply, Error> {
    let event = async {
        loop {
            match stream.next().await? {
                Some(Frame::Alive) => {}
                Some(Frame::Data(value) | Frame::Error(value)) => return Ok(value),
                None => return Err(Error::NoAnswer("the stream was empty")),
            }
        }
    };
    let event = tokio::time::timeout(within, event).await;
    envelope(event.map_err(|_| Error::NoAnswer("nothing came in time"))??)
}

/// A whole answer, whatever its status.
pub(super) fn understand(status: StatusCode, body: &[u8]) -> Result<Reply, Error> {
    if body.len() >= EVENT_LIMIT {
        return Err(Error::TooLarge);
    }
    let json: Option<Value> = serde_json::from_slice(body).ok();
    if status.is_success() {
        return envelope(json.ok_or(Error::Malformed("the answer is not JSON"))?);
    }
    let status = status.as_u16();
    match status {
        401 | 403 => return Err(Error::NotAllowed(status)),
        404 => return Err(Error::NoSuchAgent),
        300..=399 => {
            let message = "a redirect, which is not followed".to_owned();
            return Err(Error::Refused { code: i64::from(status), message });
        }
        _ => {}
    }
    if let Some(error) = json.as_ref().and_then(|json| json.get("error")).filter(|e| e.is_object())
    {
        return Ok(Reply::Refusal(Refusal::read(error)));
    }
    let text = trimmed(&String::from_utf8_lossy(body));
    match status {
        400 if text.to_lowercase().contains("version") => {
            Ok(Reply::Refusal(Refusal { code: Refusal::VERSION, message: text }))
        }
        429 | 500.. => Err(Error::Unavailable(status)),
        _ => Err(Error::Refused { code: i64::from(status), message: text }),
    }
}

/// The `result` or `error` of an answer or event.
pub(super) fn envelope(mut value: Value) -> Result<Reply, Error> {
    if let Some(error) = value.get("error").filter(|error| !error.is_null()) {
        return Ok(Reply::Refusal(Refusal::read(error)));
    }
    match value.get_mut("result").map(Value::take) {
        Some(result) if result.is_object() => Ok(Reply::Result(result)),
        _ => Err(Error::Malformed("the answer is no JSON-RPC")),
    }
}

/// Reads the card.
pub(super) async fn card(settings: &Settings, url: Url, caller: &Caller) -> Result<Value, Error> {
    let span = spans::agent_card(&url);
    let read = read_card(settings, url, caller, &span).await;
    read.inspect_err(|error| span.fail(error.as_str()))
}

async fn read_card(
    settings: &Settings,
    url: Url,
    caller: &Caller,
    span: &Span,
) -> Result<Value, Error> {
    let request = settings.http.request(Method::GET, url).header(ACCEPT, "application/json");
    let request = on_behalf(settings, request, caller, span).await?;
    let within = settings.patience.card;
    let mut incoming = settings.http.open(request, within).await?;
    spans::status(span, incoming.status);
    let body = tokio::time::timeout(within, incoming.body(EVENT_LIMIT)).await;
    let body = body.map_err(|_| Error::NoAnswer("nothing came in time"))??;
    match incoming.status.as_u16() {
        200..300 => serde_json::from_slice(&body).map_err(|_| Error::Malformed("no agent card")),
        404 => Err(Error::NoSuchAgent),
        status @ (401 | 403) => Err(Error::NotAllowed(status)),
        status @ (429 | 500..) => Err(Error::Unavailable(status)),
        status => Err(Error::Refused { code: status.into(), message: "no agent card".to_owned() }),
    }
}

/// Who asks: the bearer token, the user, the trace.
async fn on_behalf(
    settings: &Settings,
    mut request: reqwest::RequestBuilder,
    caller: &Caller,
    span: &Span,
) -> Result<reqwest::RequestBuilder, Error> {
    if let Some(token) = token(settings).await? {
        request = authorization(request, "Bearer", token.expose_secret());
    }
    let mut headers = HeaderMap::new();
    let user = match &settings.user_id {
        UserId::Conversation => caller.user_id.as_deref(),
        UserId::None => None,
        UserId::Fixed(user) => Some(user.as_str()),
    };
    if let Some(user) = user {
        let value = HeaderValue::from_str(user);
        headers.insert("x-user-id", value.map_err(|_| Error::Setup("its user ID is not one"))?);
    }
    // A trace that cannot be written is not worth a failure.
    if let Some(Ok(trace)) = caller.traceparent.as_deref().map(HeaderValue::from_str) {
        headers.insert("traceparent", trace);
    }
    headers.extend(span.headers());
    Ok(request.headers(headers))
}

async fn token(settings: &Settings) -> Result<Option<SecretString>, Error> {
    let token = match &settings.token_file {
        Some(path) => {
            let read = tokio::fs::read_to_string(path).await;
            let read = read.map_err(|_| Error::Setup("its token file cannot be read"))?.into();
            settings.known.keep(&read);
            Some(read)
        }
        None => settings.token.clone(),
    };
    let bare = |token: SecretString| -> SecretString {
        let text = token.expose_secret().trim();
        text.strip_prefix("Bearer ").unwrap_or(text).trim().to_owned().into()
    };
    let token = token.map(bare).filter(|token| !token.expose_secret().is_empty());
    match (token, &settings.token_file) {
        (None, Some(_)) => Err(Error::Setup("its token file is empty")),
        (token, _) => Ok(token),
    }
}
