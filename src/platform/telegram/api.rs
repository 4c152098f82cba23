//! Calls to Telegram's Bot API: <https://core.telegram.org/bots/api>.
//!
//! The token is part of the URL, so no URL leaves this file.

use std::fmt;
use std::time::Duration;

use http::Method;
use reqwest::RequestBuilder;
use reqwest::multipart::Form;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::failure;
use crate::model::{Failure, PlatformKind};
use crate::platform::http::{Answer, Capped, HttpClient, endpoint};
use crate::platform::verdict::{no_answer, not_understood};
use crate::platform::{Credential, Pace};
use crate::telemetry::trace;

/// The base URL where none is configured.
pub(super) const BASE: &str = "https://api.telegram.org";

/// One token at one base URL.
#[derive(Clone)]
pub(super) struct Api {
    http: HttpClient,
    base: Url,
    token: SecretString,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").finish_non_exhaustive()
    }
}

impl Api {
    pub(super) const fn new(http: HttpClient, base: Url, token: SecretString) -> Self {
        Self { http, base, token }
    }

    /// Whose token this is, for a bot that may write so fast.
    pub(super) fn credential(&self, pace: Pace) -> Credential {
        Credential::new(&self.base, &self.token, pace)
    }

    /// The bot's own ID: the number before the token's colon, which is no secret.
    pub(super) fn bot_id(&self) -> Option<u64> {
        let (id, _) = self.token.expose_secret().split_once(':')?;
        id.trim().parse().ok()
    }

    /// Where the API is, without the token.
    pub(super) const fn base(&self) -> &Url {
        &self.base
    }

    /// How long a call may take at most.
    pub(super) const fn timeout(&self) -> Duration {
        self.http.total_timeout()
    }

    /// The path segment that the token is part of.
    fn bot(&self) -> String {
        format!("bot{}", self.token.expose_secret().trim())
    }

    fn request(&self, method: &'static str, timeout: Duration) -> RequestBuilder {
        let url = endpoint(&self.base, [self.bot().as_str(), method]);
        self.http.request(Method::POST, url).timeout(timeout)
    }

    /// Calls a method within `timeout`; whatever its status, an answer is `Ok`.
    pub(super) async fn call(
        &self,
        method: &'static str,
        body: &impl Serialize,
        timeout: Duration,
    ) -> Result<Answer, Failure> {
        let request = self.request(method, timeout).json(body);
        trace::called(method, self.http.send(request))
            .await
            .map_err(|e| no_answer(PlatformKind::Telegram, e))
    }

    /// Calls a method with a file, likewise.
    pub(super) async fn upload(
        &self,
        method: &'static str,
        form: Form,
        timeout: Duration,
    ) -> Result<Answer, Failure> {
        let request = self.request(method, timeout).multipart(form);
        trace::called(method, self.http.send(request))
            .await
            .map_err(|e| no_answer(PlatformKind::Telegram, e))
    }

    /// Calls a method whose answer may be larger than others: `most` bytes of it are read.
    pub(super) async fn read(
        &self,
        method: &'static str,
        body: &impl Serialize,
        timeout: Duration,
        most: usize,
    ) -> Result<Capped, Failure> {
        let request = self.request(method, timeout).json(body);
        trace::called(method, self.http.send_for(request, most))
            .await
            .map_err(|e| no_answer(PlatformKind::Telegram, e))
    }

    /// Reads a file, `most` bytes of it at most: <https://core.telegram.org/bots/api#getfile>.
    pub(super) async fn download<'a>(
        &'a self,
        path: impl IntoIterator<Item = &'a str>,
        timeout: Duration,
        most: usize,
    ) -> Result<Capped, Failure> {
        let bot = self.bot();
        let url = endpoint(&endpoint(&self.base, ["file", bot.as_str()]), path);
        let request = self.http.request(Method::GET, url).timeout(timeout);
        self.http.send_for(request, most).await.map_err(|e| no_answer(PlatformKind::Telegram, e))
    }

    /// Calls a method that reads.
    pub(super) async fn ask(
        &self,
        method: &'static str,
        body: &impl Serialize,
    ) -> Result<Value, Failure> {
        understood(&self.call(method, body, self.timeout()).await?)
    }
}

/// The `result` of an answer that says success.
pub(super) fn understood(answer: &Answer) -> Result<Value, Failure> {
    #[derive(Deserialize)]
    struct Success {
        ok: bool,
        result: Value,
    }
    if !answer.status.is_success() {
        return Err(failure::of(answer));
    }
    match answer.json() {
        Some(Success { ok: true, result }) => Ok(result),
        _ => Err(not_understood(PlatformKind::Telegram)),
    }
}
