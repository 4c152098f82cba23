//! Events over HTTP: what Slack would tell goes, signed, to a request URL.
//! <https://docs.slack.dev/apis/events-api/using-http-request-urls>,
//! <https://docs.slack.dev/authentication/verifying-requests-from-slack>

use axum::Router;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Json, State as Shared};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep_until};

use super::inbound::{Envelope, Kind};
use crate::sandbox::World;

/// The request URL did not answer Slack's challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("your request URL did not answer with the value of the `challenge` parameter")]
pub struct NotVerified;

/// `POST /sandbox/api/slack/request-url`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestUrl {
    url: String,
    signing_secret: String,
}

pub(super) fn router() -> Router<World> {
    Router::new().route("/sandbox/api/slack/request-url", post(set))
}

async fn set(
    Shared(world): Shared<World>,
    headers: HeaderMap,
    wanted: Result<Json<RequestUrl>, JsonRejection>,
) -> Response {
    let RequestUrl { url, signing_secret } = match wanted {
        Ok(Json(wanted)) => wanted,
        Err(rejection) => {
            let body = Json(json!({ "error": rejection.body_text() }));
            return (rejection.status(), body).into_response();
        }
    };
    if let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) {
        world.state().slack.served_under(&format!("http://{host}"));
    }
    match world.slack_request_url(&url, &signing_secret).await {
        Ok(()) => (StatusCode::CREATED, Json(json!({ "url": url }))).into_response(),
        Err(why) => {
            (StatusCode::BAD_REQUEST, Json(json!({ "error": why.to_string() }))).into_response()
        }
    }
}

impl World {
    /// From now on Slack's events go, signed, to this request URL, and no longer to WebSockets. The URL is verified first.
    ///
    /// # Errors
    /// When it does not answer the challenge.
    pub async fn slack_request_url(
        &self,
        url: &str,
        signing_secret: &str,
    ) -> Result<(), NotVerified> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().map_err(|_| NotVerified)?;
        let pusher = Pusher {
            world: self.clone(),
            client,
            url: url.to_owned(),
            secret: signing_secret.to_owned(),
        };
        let body = json!({ "token": "sandbox", "challenge": "sandbox-challenge", "type": "url_verification" });
        let (kind, body) = ("application/json", body.to_string());
        let answer = pusher.request(kind, body).send().await.map_err(|_| NotVerified)?;
        let answered = answer.status().is_success()
            && answer.text().await.is_ok_and(|text| text.contains("sandbox-challenge"));
        if !answered {
            return Err(NotVerified);
        }
        let (number, news) = {
            let mut state = self.state();
            let (number, news) = state.slack.connect();
            if let Some(before) = state.slack.pushing.replace(number) {
                state.slack.disconnect(before);
            }
            (number, news)
        };
        tokio::spawn(pusher.run(number, news));
        Ok(())
    }

    /// How long Slack waits for an acknowledgement before it tells an event again. Default: 3 s.
    pub fn slack_patience(&self, patience: std::time::Duration) {
        self.state().slack.patience = patience;
    }

    /// How many envelopes wait to be acknowledged.
    #[must_use]
    pub fn slack_waiting(&self) -> usize {
        self.state().slack.waiting()
    }

    /// The longest that an acknowledgement took so far.
    #[must_use]
    pub fn slack_slowest(&self) -> std::time::Duration {
        self.state().slack.slowest
    }
}

#[derive(Clone)]
struct Pusher {
    world: World,
    client: reqwest::Client,
    url: String,
    secret: String,
}

impl Pusher {
    fn request(&self, kind: &str, body: String) -> reqwest::RequestBuilder {
        let time = self.world.inner.clock.now().0 / 1000;
        let signed = format!("v0:{time}:{body}");
        let signature = format!("v0={}", hex(&hmac(self.secret.as_bytes(), signed.as_bytes())));
        self.client
            .post(&self.url)
            .header(header::CONTENT_TYPE, kind)
            .header(header::USER_AGENT, "Slackbot 1.0 (+https://api.slack.com/robots)")
            .header("x-slack-request-timestamp", time.to_string())
            .header("x-slack-signature", signature)
            .body(body)
    }

    async fn run(self, number: u64, mut news: tokio::sync::watch::Receiver<u64>) {
        loop {
            loop {
                let next = {
                    let mut state = self.world.state();
                    if state.slack.pushing != Some(number) {
                        return;
                    }
                    state.slack.next(number)
                };
                let Some(envelope) = next else { break };
                tokio::spawn(self.clone().push(envelope));
            }
            let alarm = self.world.state().slack.alarm();
            let later = Instant::now() + std::time::Duration::from_secs(3600);
            let alarm = alarm.filter(|at| *at > Instant::now()).unwrap_or(later);
            tokio::select! {
                changed = news.changed() => if changed.is_err() { return },
                () = sleep_until(alarm) => {}
            }
        }
    }

    async fn push(self, envelope: Envelope) {
        let form = |pairs: &[(&str, &str)]| {
            url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
        };
        let body = match envelope.kind {
            Kind::Event => envelope.payload.to_string(),
            Kind::Interaction => form(&[("payload", &envelope.payload.to_string())]),
            Kind::Command => {
                let fields = envelope.payload.as_object();
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let pairs = fields.into_iter().flatten().map(|(name, value)| (name, text(value)));
                url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
            }
        };
        let kind = match envelope.kind {
            Kind::Event => "application/json",
            Kind::Command | Kind::Interaction => "application/x-www-form-urlencoded",
        };
        let mut request = self.request(kind, body);
        if envelope.attempt > 0 {
            request = request
                .header("x-slack-retry-num", envelope.attempt.to_string())
                .header("x-slack-retry-reason", envelope.reason);
        }
        let patience = self.world.state().slack.patience;
        let answer = tokio::time::timeout(patience, request.send()).await;
        let reason = match answer {
            Ok(Ok(answer)) if answer.status().is_success() => None,
            Ok(Ok(answer)) if answer.headers().contains_key("x-slack-no-retry") => None,
            Ok(Ok(_)) => Some("http_error"),
            Ok(Err(_)) => Some("connection_failed"),
            Err(_) => Some("http_timeout"),
        };
        let mut state = self.world.state();
        match reason {
            None => state.slack.acknowledge(&envelope.id),
            Some(reason) => state.slack.fail(&envelope.id, reason),
        }
    }
}

/// HMAC-SHA256, RFC 2104.
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    const BLOCK: usize = 64;
    let mut block = [0; BLOCK];
    let digest: [u8; 32];
    let key = if key.len() > BLOCK {
        digest = Sha256::digest(key).into();
        &digest[..]
    } else {
        key
    };
    for (place, byte) in block.iter_mut().zip(key) {
        *place = *byte;
    }
    let inner =
        Sha256::new().chain_update(block.map(|b| b ^ 0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(block.map(|b| b ^ 0x5c)).chain_update(inner).finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_as_rfc_4231_wants_it() {
        let short = hmac(b"Jefe", b"what do ya want for nothing?");
        assert_eq!(hex(&short), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        let long = hmac(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First");
        assert_eq!(hex(&long), "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    }
}
