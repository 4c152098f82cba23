//! Events over HTTP: `POST /slack/events` takes events, slash commands and presses on one path.
//! <https://docs.slack.dev/apis/events-api/using-http-request-urls>,
//! <https://docs.slack.dev/authentication/verifying-requests-from-slack>

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::{HeaderMap, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use slack_morphism::prelude::SlackSigningSecret;
use slack_morphism::signature_verifier::{
    SlackEventSignatureVerifier, SlackEventSignatureVerifierError,
};

use super::Config;
use super::api::Api;
use super::home::Finder;
use super::inbound::{Reader, Told};
use super::origin::Origins;
use crate::clock::Clock;
use crate::platform::body::Bodies;
use crate::platform::http::HttpClient;
use crate::platform::listener::Inbox;
use crate::telemetry::metrics::Refusal;

/// The largest body that is read, in bytes.
const MOST_BYTES: usize = 1024 * 1024;
/// How far a request's time may be from ours.
const MOST_AGE: Duration = Duration::from_secs(5 * 60);
/// How long a body may take to arrive; Slack itself gives up after 3 s.
const ARRIVAL: Duration = Duration::from_secs(5);
/// What all bodies together may hold, as far as they are longer than usual: whether Slack signed one is known when all of it
/// is there. Slack comes again after a 503.
const LONG_BODIES: usize = 16 * 1024 * 1024;

/// What the endpoint works with.
pub(super) struct Endpoint {
    pub(super) secret: SecretString,
    pub(super) finder: Finder,
    pub(super) origins: Origins,
    pub(super) inbox: Arc<dyn Inbox>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) bodies: Bodies,
}

/// The endpoint; `None` without a signing secret, or without the bot's token.
///
/// It answers 200 once an event is stored, and 503 when it is not, or when there is no place for it, so that Slack tells
/// it again. What Slack did not sign is refused with 401, what is too large with 413, both before it is read any further;
/// what does not arrive within 5 s with 408.
#[must_use]
pub fn router(
    config: &Config,
    http: &HttpClient,
    inbox: Arc<dyn Inbox>,
    clock: Arc<dyn Clock>,
) -> Option<Router> {
    let secret =
        config.signing_secret.clone().filter(|it| !it.expose_secret().trim().is_empty())?;
    let (base, bot) = (super::base(config)?, config.bot_token.clone()?);
    let finder = Finder::new(Api::new(http.clone(), base.clone(), bot));
    let (origins, bodies) = (Origins::new(base), bodies());
    Some(route(Endpoint { secret, finder, origins, inbox, clock, bodies }))
}

/// What the endpoint takes of requests' bodies.
pub(super) fn bodies() -> Bodies {
    Bodies::new(MOST_BYTES, LONG_BODIES, ARRIVAL)
}

/// The one path.
pub(super) fn route(endpoint: Endpoint) -> Router {
    let routes = get(certificate_check).post(take);
    Router::new().route("/slack/events", routes).with_state(Arc::new(endpoint))
}

/// Slack looks at the certificate from time to time, with an unsigned GET.
async fn certificate_check(RawQuery(query): RawQuery) -> Response {
    let mut pairs = url::form_urlencoded::parse(query.as_deref().unwrap_or_default().as_bytes());
    match pairs.any(|(name, value)| name == "ssl_check" && value == "1") {
        true => StatusCode::OK.into_response(),
        false => (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "POST")]).into_response(),
    }
}

async fn take(State(endpoint): State<Arc<Endpoint>>, headers: HeaderMap, body: Body) -> Response {
    let taken = endpoint.take(&headers, body).await;
    taken.unwrap_or_else(IntoResponse::into_response)
}

/// A request that is not taken.
#[derive(Debug)]
enum Refused {
    Status(StatusCode),
    /// Part of it was not read: no other can follow it on its connection.
    Unread(Refusal),
}

impl From<StatusCode> for Refused {
    fn from(status: StatusCode) -> Self {
        Self::Status(status)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let why = match self {
            Self::Status(status) => return status.into_response(),
            Self::Unread(why) => why,
        };
        let (status, sentence) = match why {
            Refusal::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "the body is longer than 1 MiB"),
            Refusal::TooSlow => (StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time"),
            Refusal::Full => (StatusCode::SERVICE_UNAVAILABLE, "too many requests are under way"),
            _ => (StatusCode::BAD_REQUEST, "the body ended early, or is not framed as HTTP wants"),
        };
        let body = Json(serde_json::json!({ "error": sentence }));
        let mut answer = (status, [(header::CONNECTION, "close")], body).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            answer.headers_mut().insert(header::RETRY_AFTER, 1.into());
        }
        answer.extensions_mut().insert(why);
        answer
    }
}

impl Endpoint {
    async fn take(&self, headers: &HeaderMap, body: Body) -> Result<Response, Refused> {
        let told = header(headers, header::CONTENT_LENGTH.as_str());
        if told
            .and_then(|length| length.parse().ok())
            .is_some_and(|length: u64| length > MOST_BYTES as u64)
        {
            return Err(Refused::Unread(Refusal::TooLarge));
        }
        let stamp = Stamp::read(headers).ok_or(StatusCode::UNAUTHORIZED)?;
        if stamp.is_stale(self.clock.as_ref()) {
            return Err(StatusCode::UNAUTHORIZED.into());
        }
        let body = self.bodies.gather(body).await.map_err(Refused::Unread)?;
        // What Slack signs is text.
        let body = std::str::from_utf8(&body.bytes).map_err(|_| StatusCode::UNAUTHORIZED)?;
        if !stamp.signs(body, &self.secret) {
            return Err(StatusCode::UNAUTHORIZED.into());
        }
        let json = header(headers, header::CONTENT_TYPE.as_str())
            .is_some_and(|kind| kind.trim_start().starts_with("application/json"));
        let heard =
            if json { self.event(body, &stamp).await } else { self.form(body, &stamp).await };
        Ok(heard?)
    }

    async fn event(&self, body: &str, stamp: &Stamp<'_>) -> Result<Response, StatusCode> {
        let callback: Value = serde_json::from_str(body).map_err(|_| StatusCode::BAD_REQUEST)?;
        let string = |name: &str| callback.get(name).and_then(Value::as_str);
        if string("type") == Some("url_verification") {
            let challenge = string("challenge").filter(|it| it.len() <= 1000);
            let challenge = challenge.ok_or(StatusCode::BAD_REQUEST)?.to_owned();
            return Ok(([(header::CONTENT_TYPE, "text/plain")], challenge).into_response());
        }
        let id = string("event_id").unwrap_or(stamp.signature);
        self.hear(Told::Callback(&callback), id).await
    }

    /// A slash command, or what was pressed.
    async fn form(&self, body: &str, stamp: &Stamp<'_>) -> Result<Response, StatusCode> {
        let mut fields = Map::new();
        for (name, value) in url::form_urlencoded::parse(body.as_bytes()) {
            fields.insert(name.into_owned(), Value::String(value.into_owned()));
        }
        let string = |name: &str| fields.get(name).and_then(Value::as_str);
        if string("ssl_check") == Some("1") {
            return Ok(StatusCode::OK.into_response());
        }
        match string("payload") {
            Some(payload) => {
                let payload = serde_json::from_str(payload).map_err(|_| StatusCode::BAD_REQUEST)?;
                self.hear(Told::Interaction(&payload), stamp.signature).await
            }
            None => self.hear(Told::Command(&Value::Object(fields)), stamp.signature).await,
        }
    }

    async fn hear(&self, told: Told<'_>, fallback: &str) -> Result<Response, StatusCode> {
        let unavailable = StatusCode::SERVICE_UNAVAILABLE;
        // Without it the bot's own words could not be told from others'.
        let home = self.finder.find().await.map_err(|_| unavailable)?;
        let now = self.clock.now();
        let reader = Reader { home, origins: &self.origins, fallback, now };
        if let Some(event) = reader.read(told) {
            self.inbox.take(event).await.map_err(|_| unavailable)?;
        }
        // An empty answer to a command shows nothing.
        Ok(StatusCode::OK.into_response())
    }
}

/// What Slack signs a request with.
struct Stamp<'a> {
    signature: &'a str,
    time: &'a str,
    seconds: i64,
}

impl<'a> Stamp<'a> {
    fn read(headers: &'a HeaderMap) -> Option<Self> {
        let signature = header(headers, SlackEventSignatureVerifier::SLACK_SIGNED_HASH_HEADER)?;
        let time = header(headers, SlackEventSignatureVerifier::SLACK_SIGNED_TIMESTAMP)?;
        let hex = signature.strip_prefix("v0=")?;
        let shaped = hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit());
        let digits = (1..=12).contains(&time.len()) && time.bytes().all(|b| b.is_ascii_digit());
        (shaped && digits).then_some(())?;
        Some(Self { signature, time, seconds: time.parse().ok()? })
    }

    fn is_stale(&self, clock: &dyn Clock) -> bool {
        let apart = (clock.now().0 / 1000).abs_diff(self.seconds);
        apart > MOST_AGE.as_secs()
    }

    fn signs(&self, body: &str, secret: &SecretString) -> bool {
        let secret = SlackSigningSecret(secret.expose_secret().trim().to_owned());
        let verifier = SlackEventSignatureVerifier::new(&secret);
        match verifier.verify(self.signature, body, self.time) {
            Ok(()) => true,
            // The signature is right; the age, by the machine's clock, was judged by ours.
            Err(SlackEventSignatureVerifierError::IncorrectOrExpiredTimestampError(_)) => true,
            Err(_) => false,
        }
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
