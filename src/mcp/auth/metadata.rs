//! How a client without a good token learns where to get one: RFC 9728's document, and the challenge of RFC 6750.

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use url::Url;

use super::Gate;
use crate::telemetry::metrics;

const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// Why somebody is not let in, as far as they are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// They showed nothing that could be a token.
    Missing,
    /// What they showed opens nothing; what is wrong with it is not told.
    Invalid,
    /// The token is good, and its subject is no client. Another token of the same subject would not help, so that this
    /// is no `invalid_token` (401, "may request a new access token and retry", RFC 6750, 3.1) but
    /// `insufficient_scope` (403): a client would fetch new tokens for ever. It names no scope, as none would do.
    Stranger,
    /// Whether the token is good will be known later: the issuer does not answer, and too many wait for it.
    Later,
}

impl Refusal {
    const fn status(self) -> StatusCode {
        match self {
            Self::Missing | Self::Invalid => StatusCode::UNAUTHORIZED,
            Self::Stranger => StatusCode::FORBIDDEN,
            Self::Later => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// RFC 6750's word for it. There is none where nothing was shown.
    const fn code(self) -> Option<&'static str> {
        match self {
            Self::Missing | Self::Later => None,
            Self::Invalid => Some("invalid_token"),
            Self::Stranger => Some("insufficient_scope"),
        }
    }

    const fn advice(self) -> &'static str {
        match self {
            Self::Missing => {
                "Send the header `Authorization: Bearer TOKEN` with a token that this server's operator gave you."
            }
            Self::Invalid => {
                "This token opens nothing here: it is not known, has expired, or is not meant for this server. Get a new \
                 one, or ask this server's operator for one."
            }
            Self::Stranger => {
                "This token is good, but its subject is no client of this server: its operator can add it to the \
                 `subjects` of one."
            }
            Self::Later => {
                "This server cannot tell yet whether this token is good: the issuer's keys have not arrived. Try again in a \
                 few seconds."
            }
        }
    }
}

/// `/mcp` as OAuth sees it.
pub(super) struct Resource {
    url: Url,
    issuer: Option<String>,
}

impl Resource {
    /// # Errors
    /// One sentence about the setting that is wrong.
    pub(super) fn new(url: &Url, issuer: &str) -> Result<Self, String> {
        let bare = url.query().is_none() && url.fragment().is_none();
        let anonymous = url.username().is_empty() && url.password().is_none();
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !bare || !anonymous {
            return Err(
                "HERALD_PUBLIC_URL (mcp.public_url): write where clients find this server, such as \
                 https://herald.example.com/mcp"
                    .to_owned(),
            );
        }
        let mut url = url.clone();
        if url.path() == "/" {
            url.set_path("/mcp");
        }
        // An old cluster's issuer is a mere name, where nobody could get a token.
        let issuer = Url::parse(issuer).ok().filter(Url::has_host).map(|_| issuer.to_owned());
        Ok(Self { url, issuer })
    }

    fn document(&self) -> Option<Value> {
        let issuer = self.issuer.as_ref()?;
        Some(json!({
            "resource": self.url.as_str(),
            "authorization_servers": [issuer],
            "bearer_methods_supported": ["header"],
            "resource_name": "Herald",
        }))
    }

    /// Where the document is: the well-known path goes between host and path (RFC 9728, 3.1).
    fn document_url(&self) -> Option<Url> {
        self.issuer.as_ref()?;
        let mut url = self.url.clone();
        url.set_path(&format!("{WELL_KNOWN}{}", self.url.path()));
        Some(url)
    }
}

/// `GET /.well-known/oauth-protected-resource`, also with the path of the resource behind it. For everybody.
pub(super) fn routes(gate: Gate) -> Router {
    Router::new()
        .route(WELL_KNOWN, get(|State(gate): State<Gate>| async move { describe(&gate, None) }))
        .route(
            &format!("{WELL_KNOWN}/{{*path}}"),
            get(|State(gate): State<Gate>, Path(path): Path<String>| async move {
                describe(&gate, Some(&path))
            }),
        )
        .with_state(gate)
}

fn describe(gate: &Gate, path: Option<&str>) -> Response {
    let door = gate.door();
    let resource = door.resource.as_ref().filter(|resource| {
        path.is_none_or(|path| path == "mcp" || resource.url.path().strip_prefix('/') == Some(path))
    });
    match resource.and_then(Resource::document) {
        Some(document) => axum::Json(document).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// The answer to whoever is not let in. Where JWTs count (`jwt`), it says in the header what is
/// the matter, and where to get one if that is known.
pub(super) fn refuse(refusal: Refusal, jwt: bool, resource: Option<&Resource>) -> Response {
    let body = |error| axum::Json(json!({"error": error, "error_description": refusal.advice()}));
    if refusal == Refusal::Later {
        // No challenge: another token would not help. OAuth's word for it (RFC 6749, 4.1.2.1).
        let wait = [(header::RETRY_AFTER, "5")];
        let mut answer = (refusal.status(), wait, body("temporarily_unavailable")).into_response();
        answer.extensions_mut().insert(metrics::Refusal::Full);
        return answer;
    }
    let body = body(refusal.code().unwrap_or("unauthorized"));
    let challenge = challenge(refusal, jwt, resource);
    (refusal.status(), [(header::WWW_AUTHENTICATE, challenge)], body).into_response()
}

fn challenge(refusal: Refusal, jwt: bool, resource: Option<&Resource>) -> HeaderValue {
    let plain = HeaderValue::from_static("Bearer");
    if !jwt {
        return plain;
    }
    let mut attributes = Vec::new();
    if let Some(url) = resource.and_then(Resource::document_url) {
        attributes.push(format!("resource_metadata=\"{url}\""));
    }
    if let Some(code) = refusal.code() {
        attributes.push(format!("error=\"{code}\", error_description=\"{}\"", refusal.advice()));
    }
    if attributes.is_empty() {
        return plain;
    }
    HeaderValue::try_from(format!("Bearer {}", attributes.join(", "))).unwrap_or(plain)
}
