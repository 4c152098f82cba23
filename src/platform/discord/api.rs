//! Calls to Discord's REST API, version 10: <https://docs.discord.com/developers/reference>.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, header};
use reqwest::RequestBuilder;
use reqwest::multipart::{Form, Part};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use super::failure;
use crate::model::{Failure, FilePart, PlatformKind, Reason};
use crate::platform::http::{Answer, HttpClient, authorization, endpoint};
use crate::platform::verdict::{no_answer, not_understood};
use crate::platform::{Credential, Pace};
use crate::telemetry::trace;

/// The base URL where none is configured.
pub(super) const BASE: &str = "https://discord.com/api/v10";

/// The form that Discord asks for, `DiscordBot (url, version)`; Cloudflare may block others.
const USER_AGENT: &str =
    concat!("DiscordBot (", env!("CARGO_PKG_NAME"), ", ", env!("CARGO_PKG_VERSION"), ")");

/// Any bytes.
const ANY: &str = "application/octet-stream";

/// One token at one base URL.
#[derive(Clone, Debug)]
pub(super) struct Api {
    pub(super) http: HttpClient,
    pub(super) base: Url,
    pub(super) token: SecretString,
}

impl Api {
    pub(super) const fn new(http: HttpClient, base: Url, token: SecretString) -> Self {
        Self { http, base, token }
    }

    /// Whose token this is, for a bot that may write so fast.
    pub(super) fn credential(&self, pace: Pace) -> Credential {
        Credential::new(&self.base, &self.token, pace)
    }

    /// Calls an endpoint; whatever its status, an answer is `Ok`.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&impl Serialize>,
    ) -> Result<Answer, Failure> {
        let url = endpoint(&self.base, path.iter().copied());
        trace::called(operation(path), self.ask(method, url, body)).await
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
        let asked = self.ask(Method::GET, url, None::<&Value>);
        let answer = trace::called(operation(path), asked).await?;
        understood(&answer)
    }

    /// Uploads a file beside a JSON body: <https://docs.discord.com/developers/reference#uploading-files>.
    pub(super) async fn upload(
        &self,
        path: &[&str],
        body: &impl Serialize,
        file: &FilePart,
    ) -> Result<Answer, Failure> {
        let broken = |_| Failure::give_up(Reason::Internal, "the file could not be put together");
        let bytes = STANDARD.decode(&file.base64).map_err(|_| broken(()))?;
        let json = serde_json::to_string(body).map_err(|_| broken(()))?;
        let part =
            |mime: &str| Part::bytes(bytes.clone()).file_name(file.name.clone()).mime_str(mime);
        // What a stranger calls a media type may not be one.
        let file = part(&file.mime).or_else(|_| part(ANY));
        let file = file.map_err(|_| broken(()))?;
        let form = Form::new().text("payload_json", json).part("files[0]", file);
        let request = self.request(Method::POST, endpoint(&self.base, path.iter().copied()));
        let request = authorization(request, "Bot", self.token.expose_secret()).multipart(form);
        trace::called(operation(path), self.send(request)).await
    }

    /// Answers an interaction, whose own token is all that is needed.
    pub(super) async fn answer_interaction(
        &self,
        id: &str,
        token: &str,
        body: &impl Serialize,
    ) -> Result<Answer, Failure> {
        let url = endpoint(&self.base, ["interactions", id, token, "callback"]);
        let request = self.request(Method::POST, url).json(body);
        trace::called("/interactions/{}/{}/callback", self.send(request)).await
    }

    fn request(&self, method: Method, url: Url) -> RequestBuilder {
        self.http.request(method, url).header(header::USER_AGENT, USER_AGENT)
    }

    async fn send(&self, request: RequestBuilder) -> Result<Answer, Failure> {
        self.http.send(request).await.map_err(|error| no_answer(PlatformKind::Discord, error))
    }

    async fn ask(
        &self,
        method: Method,
        url: Url,
        body: Option<&impl Serialize>,
    ) -> Result<Answer, Failure> {
        let empty = body.is_none() && method == Method::POST;
        let request = self.request(method, url);
        let mut request = authorization(request, "Bot", self.token.expose_secret());
        if let Some(body) = body {
            request = request.json(body);
        }
        if empty {
            // Left out where there is no body, and then refused by servers on the way (411).
            request = request.header(header::CONTENT_LENGTH, 0);
        }
        self.send(request).await
    }
}

/// A path as traces show it: its words, without IDs and the tokens of interactions.
fn operation(path: &[&str]) -> String {
    let word = |segment: &str| {
        segment.len() <= 16 && segment.bytes().all(|b| b.is_ascii_lowercase() || b"@-".contains(&b))
    };
    path.iter()
        .map(|&segment| if word(segment) { format!("/{segment}") } else { "/{}".to_owned() })
        .collect()
}

/// The body of an answer that says success, as far as we look at it.
pub(super) fn understood<T: DeserializeOwned>(answer: &Answer) -> Result<T, Failure> {
    if !answer.status.is_success() {
        return Err(failure::of(answer));
    }
    answer.json().ok_or_else(|| not_understood(PlatformKind::Discord))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_shown_without_ids_and_tokens() {
        let shown = operation(&["channels", "100000000000000001", "messages"]);
        assert_eq!(shown, "/channels/{}/messages");
        let token = "aW50ZXJhY3Rpb246MTIzNDU2Nzg5";
        let shown = operation(&["webhooks", "123", token, "messages", "@original"]);
        assert_eq!(shown, "/webhooks/{}/{}/messages/@original");
    }
}
