//! Events over HTTP: `POST /slack/events` takes events, slash commands and presses on one path.
//! <https://docs.slack.dev/apis/events-api/using-http-request-urls>,
//! <https://docs.slack.dev/authentication/verifying-requests-from-slack>

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use slack_morphism::prelude::SlackSigningSecret;
use slack_morphism::signature_verifier::{
    SlackEventSignatureVerifier, SlackEventSignatureVerifierError,
};
use tokio::time::timeout;

use super::Config;
use super::api::Api;
use super::home::Finder;
use super::inbound::{Reader, Told};
use super::origin::Origins;
use crate::clock::Clock;
use crate::platform::http::HttpClient;
use crate::platform::listener::Inbox;

/// The largest body that is read, in bytes.
const MOST_BYTES: usize = 1024 * 1024;
/// How far a request's time may be from ours.
const MOST_AGE: Duration = Duration::from_secs(5 * 60);
/// How long a body may take to arrive; Slack itself gives up after 3 s.
const ARRIVAL: Duration = Duration::from_secs(5);

struct Endpoint {
    secret: SecretString,
    finder: Finder,
    origins: Origins,
    inbox: Arc<dyn Inbox>,
    clock: Arc<dyn Clock>,
}

/// The endpoint; `None` without a signing secret, or without the bot's token.
///
/// It answers 200 once an event is stored, and 503 when it is not, so that Slack tells it again. What Slack did not sign is
/// refused with 401, what is too large with 413, both before it is read any further.
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
    let endpoint = Endpoint { secret, finder, origins: Origins::new(base), inbox, clock };
    let routes = get(certificate_check).post(take);
    Some(Router::new().route("/slack/events", routes).with_state(Arc::new(endpoint)))
}

/// Slack looks at the certificate from time to time, with an unsigned GET.
async fn certificate_check(RawQuery(query): RawQuery) -> StatusCode {
    let mut pairs = url::form_urlencoded::parse(query.as_deref().unwrap_or_default().as_bytes());
    match pairs.any(|(name, value)| name == "ssl_check" && value == "1") {
        true => StatusCode::OK,
        false => StatusCode::METHOD_NOT_ALLOWED,
    }
}

async fn take(State(endpoint): State<Arc<Endpoint>>, headers: HeaderMap, body: Body) -> Response {
    match endpoint.take(&headers, body).await {
        Ok(answer) => answer,
        Err(status) => status.into_response(),
    }
}

impl Endpoint {
    async fn take(&self, headers: &HeaderMap, body: Body) -> Result<Response, StatusCode> {
        let told = header(headers, header::CONTENT_LENGTH.as_str());
        if told
            .and_then(|length| length.parse().ok())
            .is_some_and(|length: u64| length > MOST_BYTES as u64)
        {
            return Err(StatusCode::PAYLOAD_TOO_LARGE);
        }
        let stamp = Stamp::read(headers).ok_or(StatusCode::UNAUTHORIZED)?;
        if stamp.is_stale(self.clock.as_ref()) {
            return Err(StatusCode::UNAUTHORIZED);
        }
        let body = timeout(ARRIVAL, to_bytes(body, MOST_BYTES))
            .await
            .map_err(|_| StatusCode::REQUEST_TIMEOUT)?
            .map_err(|_| StatusCode::PAYLOAD_TOO_LARGE)?;
        // What Slack signs is text.
        let body = std::str::from_utf8(&body).map_err(|_| StatusCode::UNAUTHORIZED)?;
        if !stamp.signs(body, &self.secret) {
            return Err(StatusCode::UNAUTHORIZED);
        }
        let json = header(headers, header::CONTENT_TYPE.as_str())
            .is_some_and(|kind| kind.trim_start().starts_with("application/json"));
        if json { self.event(body, &stamp).await } else { self.form(body, &stamp).await }
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
