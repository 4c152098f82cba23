//! Calls to Slack's Web API: <https://docs.slack.dev/apis/web-api/>.
//!
//! Requests are slack-morphism's models. Its client is not used to send them: its error type has no room for what a
//! sender must know (was anything written, `Retry-After`, `needed`, the scopes in the headers), and its strict response models
//! take a posted message for an error when its metadata holds anything but strings. Answers are read leniently.

use std::time::Duration;

use http::{Method, StatusCode, header};
use reqwest::RequestBuilder;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use super::failure::Refusal;
use crate::model::{Failure, PlatformKind};
use crate::platform::http::{HttpClient, authorization, endpoint};
use crate::platform::verdict::{by_status, no_answer, not_understood};
use crate::platform::{Credential, Pace};
use crate::telemetry::trace;

const SLACK: PlatformKind = PlatformKind::Slack;

/// The base URL where none is configured.
pub(super) const BASE: &str = "https://slack.com/api";

/// One token at one base URL.
#[derive(Clone, Debug)]
pub(super) struct Api {
    http: HttpClient,
    base: Url,
    token: SecretString,
    /// How long an exchange may take, where that is less than the client's own limit.
    within: Option<Duration>,
}

/// An answer that says `ok`.
#[derive(Debug)]
pub(super) struct Reply<T> {
    /// What was asked for.
    pub(super) value: T,
    /// The token's scopes, which Slack tells with every answer.
    pub(super) scopes: Option<Vec<String>>,
}

/// An answer that does not, or none.
#[derive(Debug)]
pub(super) enum CallError {
    /// Slack said why.
    Refused(Refusal),
    /// Everything else, classified.
    Failed(Failure),
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused(refusal) => refusal.failure(None),
            CallError::Failed(failure) => failure,
        }
    }
}

/// A call's arguments: writing methods take JSON, reading ones only forms.
pub(super) enum Arguments<'a, T: Serialize> {
    Json(&'a T),
    Form(&'a T),
}

impl Api {
    pub(super) const fn new(http: HttpClient, base: Url, token: SecretString) -> Self {
        Self { http, base, token, within: None }
    }

    /// Whose token this is, for a bot that may write so fast.
    pub(super) fn credential(&self, pace: Pace) -> Credential {
        Credential::new(&self.base, &self.token, pace)
    }

    /// The same, with less patience.
    pub(super) fn within(&self, within: Duration) -> Self {
        Self { within: Some(within), ..self.clone() }
    }

    /// Where the methods are.
    pub(super) const fn base(&self) -> &Url {
        &self.base
    }

    /// Whether the token begins like this. What it begins with says which kind it is, and is no secret.
    pub(super) fn token_begins(&self, with: &str) -> bool {
        self.token.expose_secret().trim().starts_with(with)
    }

    /// The client, for what is no method.
    pub(super) const fn http(&self) -> &HttpClient {
        &self.http
    }

    /// A request that shows the token: only for an address that is known to be Slack's.
    pub(super) fn authorized(&self, method: Method, url: Url) -> RequestBuilder {
        let request =
            authorization(self.http.request(method, url), "Bearer", self.token.expose_secret());
        match self.within {
            Some(within) => request.timeout(within),
            None => request,
        }
    }

    /// Calls a method.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        method: &'static str,
        arguments: Arguments<'_, impl Serialize>,
    ) -> Result<Reply<T>, CallError> {
        let request = self.authorized(Method::POST, endpoint(&self.base, [method]));
        let request = match arguments {
            Arguments::Json(json) => {
                request.header(header::CONTENT_TYPE, "application/json; charset=utf-8").json(json)
            }
            Arguments::Form(form) => request.form(form),
        };
        let answer = trace::called(method, self.http.send(request))
            .await
            .map_err(|error| CallError::Failed(no_answer(SLACK, error)))?;

        if answer.status == StatusCode::TOO_MANY_REQUESTS
            || !(answer.status.is_success() || answer.status.is_client_error())
        {
            return Err(CallError::Failed(by_status(SLACK, &answer)));
        }
        let wait = answer.retry_after();
        #[derive(serde::Deserialize)]
        struct Envelope {
            ok: bool,
            #[serde(flatten)]
            refusal: Refusal,
        }
        match answer.json::<Envelope>() {
            Some(Envelope { ok: true, .. }) if answer.status.is_success() => {}
            Some(Envelope { refusal, .. }) if wait.is_some() => {
                return Err(CallError::Failed(refusal.failure(wait)));
            }
            Some(Envelope { refusal, .. }) => return Err(CallError::Refused(refusal)),
            None => return Err(CallError::Failed(by_status(SLACK, &answer))),
        }
        let scopes = answer.header("x-oauth-scopes").map(|scopes| {
            let scopes = scopes.split(',').map(str::trim).filter(|s| !s.is_empty());
            scopes.map(str::to_owned).collect()
        });
        match answer.json() {
            Some(value) => Ok(Reply { value, scopes }),
            None => Err(CallError::Failed(not_understood(SLACK))),
        }
    }
}
