//! The one HTTP client: deadlines, a cap on answers, no redirects, and errors that cannot show a URL.
//!
//! A URL may hold a token (Telegram's does), so nothing in here keeps one: an error is one of a few plain words,
//! already told apart by the one question that matters to a sender, whether the request may have been read.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode, header};
use reqwest::{Certificate, RequestBuilder};
use serde::de::DeserializeOwned;
use url::Url;

use crate::telemetry::spans;

/// What Herald calls itself to those it calls.
pub const USER_AGENT: &str = concat!("herald/", env!("CARGO_PKG_VERSION"));

/// Takes the place of the client's total timeout where a body may come as slowly as it likes: ten years.
const NO_DEADLINE: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// Chooses the cryptography behind TLS (ring), once for the process. `main` calls it first; calling it again is harmless.
///
/// The libraries below could switch on two providers, and rustls panics where it has to choose.
pub fn install_crypto_provider() {
    // The error only says that there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The client's limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// For name, connection and TLS together.
    pub connect_timeout: Duration,
    /// For the whole exchange, the answer's body included.
    pub total_timeout: Duration,
    /// How many bytes of an answer are read; the rest is left unread.
    pub body_limit: usize,
    /// A PEM file of certificate authorities to trust besides the system's, which `SSL_CERT_FILE` may name.
    pub ca_bundle: Option<PathBuf>,
    /// Whether `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` are followed.
    pub proxy_from_environment: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            total_timeout: Duration::from_secs(15),
            body_limit: 1024 * 1024,
            ca_bundle: None,
            proxy_from_environment: true,
        }
    }
}

/// Where proxies are named, perhaps with a password.
pub const PROXY_VARIABLES: [&str; 6] =
    ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// The client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The file of certificate authorities cannot be read.
    #[error("the CA bundle {path} cannot be read: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It holds none.
    #[error("the CA bundle {0} holds no PEM certificate")]
    NoCertificate(PathBuf),
    /// There is nothing to verify a certificate with.
    #[error(
        "no CA certificates found: install the system's (ca-certificates), or name a PEM file in SSL_CERT_FILE"
    )]
    NoRoots,
}

/// A request failed before there was an answer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// Nothing was written: safe to repeat.
    #[error("{0}")]
    Unreachable(&'static str),
    /// No answer in time. The request may have been read.
    #[error("there was no answer in time")]
    Timeout,
    /// The connection broke. The request may have been read.
    #[error("the connection broke before the answer came")]
    ConnectionLost,
    /// The request could not be put together: the token or the base URL is not one. Nothing was written.
    #[error("the request could not be put together")]
    Malformed,
}

impl TransportError {
    /// The snake-case name, for traces.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Timeout => "timeout",
            Self::ConnectionLost => "connection_lost",
            Self::Malformed => "malformed",
        }
    }
}

/// An answer, whatever its status. Its text is a stranger's: `Debug` shows its size only.
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, cut off at the limit.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON of that shape; `None` when it is anything else.
    #[must_use]
    pub fn json<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&self.body).ok()
    }

    /// A header's text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The `Retry-After` header, in seconds, whole or not. A date is not understood: chat platforms send none.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let seconds = self.header("retry-after")?.trim().parse().ok()?;
        Duration::try_from_secs_f64(seconds).ok()
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// An answer, and whether there was more of it than was read.
#[derive(Debug)]
pub struct Capped {
    /// What was read.
    pub answer: Answer,
    /// There was more.
    pub cut: bool,
}

/// The client, made once per process and cloned at will.
#[derive(Clone)]
pub struct HttpClient {
    client: reqwest::Client,
    /// For connections that become WebSockets: HTTP/1.1 alone, and no end to them.
    upgrading: reqwest::Client,
    body_limit: usize,
    total_timeout: Duration,
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").finish_non_exhaustive()
    }
}

impl HttpClient {
    /// A client with these limits.
    ///
    /// # Errors
    /// When the CA bundle cannot be used, or there are no certificate authorities at all.
    pub fn new(settings: &Settings) -> Result<Self, SetupError> {
        install_crypto_provider();
        let authorities = match &settings.ca_bundle {
            Some(path) => certificates(path)?,
            None => Vec::new(),
        };
        let builder = || {
            let mut builder = reqwest::Client::builder()
                .user_agent(USER_AGENT)
                .connect_timeout(settings.connect_timeout)
                .redirect(reqwest::redirect::Policy::none())
                .referer(false)
                .tcp_nodelay(true)
                .pool_idle_timeout(Duration::from_secs(90));
            if !settings.proxy_from_environment {
                builder = builder.no_proxy();
            }
            if !authorities.is_empty() {
                builder = builder.tls_certs_merge(authorities.clone());
            }
            builder
        };
        // What can fail here is the trust store alone.
        let no_roots = |_| SetupError::NoRoots;
        let client = builder().timeout(settings.total_timeout).build().map_err(no_roots)?;
        let upgrading = builder().http1_only().build().map_err(no_roots)?;
        let Settings { body_limit, total_timeout, .. } = *settings;
        Ok(Self { client, upgrading, body_limit, total_timeout })
    }

    /// The beginning of a request for a connection that is to become something else.
    pub(super) fn upgrade(&self, url: Url) -> RequestBuilder {
        self.upgrading.get(url)
    }

    /// How long an exchange may take at most.
    #[must_use]
    pub const fn total_timeout(&self) -> Duration {
        self.total_timeout
    }

    /// The beginning of a request, for [`HttpClient::send`].
    pub fn request(&self, method: Method, url: Url) -> RequestBuilder {
        self.client.request(method, url)
    }

    /// Sends a request, once, and reads the answer.
    ///
    /// Nothing is sent a second time, with two exceptions that are certain not to have been processed: an idle
    /// connection that turns out closed before the first byte, and a stream that an HTTP/2 server refused.
    ///
    /// # Errors
    /// See [`TransportError`]. A status that says failure is an answer, not an error.
    pub async fn send(&self, request: RequestBuilder) -> Result<Answer, TransportError> {
        Ok(self.send_for(request, self.body_limit).await?.answer)
    }

    /// The same for an answer that may be larger than others: `most` bytes of it are read.
    ///
    /// # Errors
    /// As for [`HttpClient::send`].
    pub async fn send_for(
        &self,
        request: RequestBuilder,
        most: usize,
    ) -> Result<Capped, TransportError> {
        let (client, request) = request.build_split();
        let request = request.map_err(|e| tell_apart(&e))?;
        let span = spans::request(request.method(), request.url());
        let sent = client.execute(request).await.map_err(|e| tell_apart(&e));
        let mut response = sent.inspect_err(|error| span.fail(error.as_str()))?;
        let status = response.status();
        spans::answered(&span, status);
        let headers = std::mem::take(response.headers_mut());
        let mut body = Vec::new();
        let mut cut = false;
        while !cut {
            match response.chunk().await {
                Ok(Some(chunk)) => {
                    let room = most.saturating_sub(body.len());
                    cut = chunk.len() > room;
                    body.extend(chunk.iter().take(room));
                }
                Ok(None) => break,
                Err(error) if status.is_success() => {
                    let error = tell_apart(&error);
                    span.fail(error.as_str());
                    return Err(error);
                }
                // A status that says failure says enough.
                Err(_) => break,
            }
        }
        Ok(Capped { answer: Answer { status, headers, body }, cut })
    }

    /// Sends a request, once, and returns as soon as the answer's head is there, within `head`. There is no deadline for
    /// the body: whoever reads it watches the time.
    ///
    /// # Errors
    /// See [`TransportError`]. A status that says failure is an answer, not an error.
    pub async fn open(
        &self,
        request: RequestBuilder,
        head: Duration,
    ) -> Result<Incoming, TransportError> {
        let sent = tokio::time::timeout(head, request.timeout(NO_DEADLINE).send()).await;
        let mut response = match sent {
            Ok(answer) => answer.map_err(|e| tell_apart(&e))?,
            Err(_) => return Err(TransportError::Timeout),
        };
        let headers = std::mem::take(response.headers_mut());
        Ok(Incoming { status: response.status(), headers, response })
    }
}

/// An answer whose body is still coming, for streams. Dropping it closes the connection.
pub struct Incoming {
    /// The HTTP status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    response: reqwest::Response,
}

impl Incoming {
    /// The next piece of the body; `None` at its end. May be dropped and called again without loss.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn chunk(&mut self) -> Result<Option<Vec<u8>>, TransportError> {
        let chunk = self.response.chunk().await.map_err(|e| tell_apart(&e))?;
        Ok(chunk.map(Into::into))
    }

    /// The body to its end, or to `limit` bytes; the rest is left unread.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn body(&mut self, limit: usize) -> Result<Vec<u8>, TransportError> {
        let mut body = Vec::new();
        while body.len() < limit {
            let Some(chunk) = self.chunk().await? else { break };
            let room = limit.saturating_sub(body.len());
            body.extend(chunk.into_iter().take(room));
        }
        Ok(body)
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("status", &self.status).finish_non_exhaustive()
    }
}

/// `base` with more path segments, each of them percent-encoded where it has to be.
#[must_use]
pub fn endpoint<'a>(base: &Url, segments: impl IntoIterator<Item = &'a str>) -> Url {
    let mut url = base.clone();
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(segments);
    }
    url
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, SetupError> {
    let pem = std::fs::read(path)
        .map_err(|source| SetupError::Unreadable { path: path.to_owned(), source })?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(SetupError::NoCertificate(path.to_owned())),
    }
}

/// Before or after something was written? Whatever is not certainly "before" counts as "after".
pub(super) fn tell_apart(error: &reqwest::Error) -> TransportError {
    if error.is_builder() {
        TransportError::Malformed
    } else if error.is_connect() {
        TransportError::Unreachable(obstacle(error))
    } else if error.is_timeout() {
        TransportError::Timeout
    } else {
        TransportError::ConnectionLost
    }
}

/// Why there is no connection, in our own words: the library's may quote the URL.
fn obstacle(error: &reqwest::Error) -> &'static str {
    if error.is_dns() {
        return "its host name could not be resolved";
    }
    if error.is_timeout() {
        return "no connection could be made in time";
    }
    let mut next = error.source();
    while let Some(cause) = next {
        if cause.is::<rustls::Error>() {
            return "its TLS certificate or handshake was not acceptable";
        }
        let io = cause.downcast_ref::<io::Error>();
        if io.is_some_and(|io| io.kind() == io::ErrorKind::ConnectionRefused) {
            return "the connection was refused";
        }
        if cause.to_string().starts_with("tunnel error") {
            return "the proxy did not let the connection through";
        }
        // The source of an I/O error is not what it wraps, but the source of that.
        next = match io.and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => cause.source(),
        };
    }
    "no connection could be made"
}

/// `Authorization: <scheme> <secret>`, marked so that no library prints it.
pub(crate) fn authorization(request: RequestBuilder, scheme: &str, secret: &str) -> RequestBuilder {
    let value = header::HeaderValue::try_from(format!("{scheme} {}", secret.trim()));
    match value {
        Ok(mut value) => {
            value.set_sensitive(true);
            request.header(header::AUTHORIZATION, value)
        }
        // Sets the builder's error without quoting the secret.
        Err(_) => request.header(header::AUTHORIZATION, "\n"),
    }
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
