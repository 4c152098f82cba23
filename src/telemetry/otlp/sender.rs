//! Posts batches to the collector.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use opentelemetry_http::{Bytes, HttpError, Request, Response};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use prost::Message as _;
use reqwest::{Certificate, StatusCode};
use tokio::runtime::Handle;

use super::{ENDPOINT, InvalidExport, Settings, invalid};

/// How often at most somebody is told that the collector does not take traces.
const COMPLAIN_EVERY: Duration = Duration::from_secs(300);
/// How much of the collector's answer is read, in bytes.
const MOST_ANSWER: usize = 64 * 1024;

/// Posts batches. The library's threads have no runtime: the requests are made in Herald's.
#[derive(Debug)]
pub(super) struct Sender {
    client: reqwest::Client,
    runtime: Handle,
    trouble: Trouble,
}

/// What becomes of trouble, of which the library says only that there was some.
#[derive(Clone, Debug)]
pub(super) enum Trouble {
    /// It is told now and then, and here is when.
    Told(Arc<Mutex<Option<Instant>>>),
    /// Whoever sent logs looks here.
    Kept(Arc<Mutex<Answer>>),
}

/// What came of the last request.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// Why nothing was taken.
    pub(super) why: Option<String>,
    /// Nothing will ever be taken of a request like this one.
    pub(super) for_good: bool,
    /// So many records were refused for good.
    pub(super) refused: u64,
}

impl Trouble {
    pub(super) fn told() -> Self {
        Self::Told(Arc::default())
    }

    fn overcome(&self, answer: &[u8]) {
        if let Self::Kept(last) = self {
            locked(last).refused = refused(answer);
        }
    }

    fn meet(&self, why: &str, for_good: bool) {
        let told = match self {
            Self::Told(told) => told,
            Self::Kept(last) => {
                let mut last = locked(last);
                last.why = Some(why.to_owned());
                last.for_good = for_good;
                return;
            }
        };
        let mut told = locked(told);
        if told.is_none_or(|told| told.elapsed() >= COMPLAIN_EVERY) {
            *told = Some(Instant::now());
            tracing::warn!(
                why,
                "the collector does not take traces; Herald goes on without (this is said once in five minutes)"
            );
        }
    }
}

/// How many records the collector took out of a batch, for good: it is not to be sent again.
fn refused(answer: &[u8]) -> u64 {
    let answer = ExportLogsServiceResponse::decode(answer).unwrap_or_default();
    let refused = answer.partial_success.map_or(0, |it| it.rejected_log_records);
    u64::try_from(refused).unwrap_or_default()
}

/// Whether the request itself is refused: bad, or too large. Everything else can be mended over there, and is waited for: who
/// asks, where and how, and how often (<https://opentelemetry.io/docs/specs/otlp/#failures-1>).
fn is_for_good(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 413 | 422)
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sender {
    /// Has to be called inside the runtime that is to send.
    ///
    /// # Errors
    /// When the certificate authorities cannot be used.
    pub(super) fn new(settings: &Settings, trouble: Trouble) -> Result<Self, InvalidExport> {
        Ok(Self { client: client(settings)?, runtime: Handle::current(), trouble })
    }
}

#[async_trait]
impl opentelemetry_http::HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let sent = self.runtime.spawn(async move { post(&client, request).await }).await;
        let answer = match sent {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                self.trouble.meet(obstacle(&error), false);
                // The URL may hold a key.
                return Err(error.without_url().into());
            }
            // The runtime ends.
            Err(error) => return Err(error.into()),
        };
        let status = answer.status();
        if status.is_success() {
            self.trouble.overcome(answer.body());
        } else {
            let why = format!("it answered with HTTP {}", status.as_u16());
            self.trouble.meet(&why, is_for_good(status));
        }
        Ok(answer)
    }
}

fn client(settings: &Settings) -> Result<reqwest::Client, InvalidExport> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("herald/", env!("CARGO_PKG_VERSION")))
        .timeout(settings.timeout)
        .redirect(reqwest::redirect::Policy::none());
    if let Some(path) = &settings.authorities {
        let variable = "OTEL_EXPORTER_OTLP_CERTIFICATE";
        let unusable = |why: String| invalid(variable, format!("{} {why}", path.display()));
        let pem = std::fs::read(path).map_err(|e| unusable(format!("cannot be read: {e}")))?;
        let found = Certificate::from_pem_bundle(&pem).unwrap_or_default();
        if found.is_empty() {
            return Err(unusable("holds no PEM certificate".to_owned()));
        }
        builder = builder.tls_certs_merge(found);
    }
    let no_roots = "no CA certificates found: name a PEM file in SSL_CERT_FILE";
    builder.build().map_err(|_| invalid(ENDPOINT, no_roots))
}

async fn post(
    client: &reqwest::Client,
    request: Request<Bytes>,
) -> Result<Response<Bytes>, reqwest::Error> {
    let mut answer = client.execute(request.try_into()?).await?;
    let (mut response, mut body) = (Response::new(Bytes::new()), Vec::new());
    *response.status_mut() = answer.status();
    *response.headers_mut() = std::mem::take(answer.headers_mut());
    while let Some(chunk) = answer.chunk().await? {
        let room = MOST_ANSWER.saturating_sub(body.len());
        body.extend(chunk.iter().take(room));
        if room == 0 {
            break;
        }
    }
    *response.body_mut() = body.into();
    Ok(response)
}

fn obstacle(error: &reqwest::Error) -> &'static str {
    if error.is_dns() {
        "its host name could not be resolved"
    } else if error.is_timeout() {
        "it did not answer in time"
    } else if error.is_connect() {
        "no connection could be made"
    } else {
        "the connection broke"
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsPartialSuccess;

    use super::*;

    #[test]
    fn only_the_request_itself_is_refused_for_good() {
        let for_good = |status| is_for_good(StatusCode::from_u16(status).unwrap());
        assert!([400, 413, 422].into_iter().all(for_good));
        let mendable = [301, 401, 403, 404, 405, 407, 408, 415, 429, 500, 502, 503, 504];
        assert!(!mendable.into_iter().any(for_good));
    }

    #[test]
    fn a_collector_says_how_much_it_refused() {
        let answer =
            |partial_success| ExportLogsServiceResponse { partial_success }.encode_to_vec();
        let part = ExportLogsPartialSuccess { rejected_log_records: 3, ..Default::default() };
        assert_eq!(refused(&answer(Some(part))), 3);
        for answer in [answer(None), Vec::new(), b"no protobuf".to_vec()] {
            assert_eq!(refused(&answer), 0);
        }
    }
}
