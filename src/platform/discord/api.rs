//! Calls to Discord's REST API, version 10: <https://docs.discord.com/developers/reference>.

use http::{Method, header};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use super::failure;
use crate::model::{Failure, PlatformKind};
use crate::platform::http::{Answer, HttpClient, authorization, endpoint};
use crate::platform::verdict::{no_answer, not_understood};

/// The base URL where none is configured.
pub(super) const BASE: &str = "https://discord.com/api/v10";

/// The form that Discord asks for, `DiscordBot (url, version)`; Cloudflare may block others.
const USER_AGENT: &str =
    concat!("DiscordBot (", env!("CARGO_PKG_NAME"), ", ", env!("CARGO_PKG_VERSION"), ")");

/// One token at one base URL.
#[derive(Clone, Debug)]
pub(super) struct Api {
    http: HttpClient,
    base: Url,
    token: SecretString,
}

impl Api {
    pub(super) const fn new(http: HttpClient, base: Url, token: SecretString) -> Self {
        Self { http, base, token }
    }

    /// Calls an endpoint; whatever its status, an answer is `Ok`.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&impl Serialize>,
    ) -> Result<Answer, Failure> {
        let url = endpoint(&self.base, path.iter().copied());
        self.ask(method, url, body).await
    }

    /// Reads something.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<T, Failure> {
        let mut url = endpoint(&self.base, path.iter().copied());
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let answer = self.ask(Method::GET, url, None::<&Value>).await?;
        understood(&answer)
    }

    async fn ask(
        &self,
        method: Method,
        url: Url,
        body: Option<&impl Serialize>,
    ) -> Result<Answer, Failure> {
        let request = self.http.request(method, url).header(header::USER_AGENT, USER_AGENT);
        let mut request = authorization(request, "Bot", self.token.expose_secret());
        if let Some(body) = body {
            request = request.json(body);
        }
        self.http.send(request).await.map_err(|error| no_answer(PlatformKind::Discord, error))
    }
}

/// The body of an answer that says success, as far as we look at it.
pub(super) fn understood<T: DeserializeOwned>(answer: &Answer) -> Result<T, Failure> {
    if !answer.status.is_success() {
        return Err(failure::of(answer));
    }
    answer.json().ok_or_else(|| not_understood(PlatformKind::Discord))
}
