//! Sends traces to a collector: OTLP over HTTP, as protobuf, set up by OpenTelemetry's own environment variables
//! (<https://opentelemetry.io/docs/specs/otel/protocol/exporter/>).
//!
//! The library reads those about headers, sampling, the resource, batches and limits by itself; here is what decides whether
//! there is anything to send to, and what Herald does not support. Then there are no traces, which is said once, at the start:
//! such variables are often set for all Pods at once, and are no reason not to serve.
//! A collector that is away costs nobody anything: spans wait in a bounded queue, and then they are dropped.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{Bytes, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::{
    EnvResourceDetector, ResourceDetector, TelemetryResourceDetector,
};
use opentelemetry_sdk::trace::SdkTracerProvider;
use reqwest::Certificate;
use secrecy::SecretString;
use tokio::runtime::Handle;
use url::Url;

use super::trace;

/// How long one request to the collector takes at most, where nothing else is set.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long an ending process waits for what is left to be sent.
const FAREWELL: Duration = Duration::from_secs(1);
/// How often at most somebody is told that the collector does not take traces.
const COMPLAIN_EVERY: Duration = Duration::from_secs(300);
/// How much of the collector's answer is read, in bytes.
const MOST_ANSWER: usize = 64 * 1024;

const SAMPLERS: [&str; 6] = [
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
];

static PROVIDER: OnceLock<SdkTracerProvider> = OnceLock::new();

/// A variable about tracing says what Herald cannot do, so there are no traces. Never shows a header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable}: {error}")]
pub struct InvalidTracing {
    /// The variable.
    pub variable: String,
    /// What is wrong, and the fix.
    pub error: String,
}

/// Where traces go.
#[derive(Clone)]
pub struct Settings {
    endpoint: Url,
    service: Option<String>,
    timeout: Duration,
    authorities: Option<PathBuf>,
    secrets: Vec<SecretString>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a password or a key.
        f.debug_struct("Settings").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl Settings {
    /// What the environment says; `None` where traces go nowhere. An empty variable counts as unset.
    ///
    /// # Errors
    /// When a variable is malformed, or asks for what Herald does not do.
    pub fn read(env: &dyn Fn(&str) -> Option<String>) -> Result<Option<Self>, InvalidTracing> {
        let get = |name: &str| {
            env(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
        };
        // What is said of traces counts more than what is said of everything.
        let exporter = |name: &str| {
            [format!("OTEL_EXPORTER_OTLP_TRACES_{name}"), format!("OTEL_EXPORTER_OTLP_{name}")]
                .into_iter()
                .find_map(|variable| get(&variable).map(|value| (variable, value)))
        };
        let is = |name: &str, word: &str| get(name).is_some_and(|v| v.eq_ignore_ascii_case(word));
        if is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
            return Ok(None);
        }
        let chosen = get("OTEL_TRACES_EXPORTER");
        if let Some(other) = chosen.as_ref().filter(|name| !name.eq_ignore_ascii_case("otlp")) {
            let error = format!("`{other}` is not supported: write otlp, or none");
            return Err(invalid("OTEL_TRACES_EXPORTER", error));
        }
        // Traces are off by default, unlike the specification's; whoever chooses OTLP gets its default.
        let nearby = || chosen.map(|_| (ENDPOINT.to_owned(), NEARBY.to_owned()));
        let Some((variable, endpoint)) = exporter("ENDPOINT").or_else(nearby) else {
            return Ok(None);
        };
        let endpoint = traces_url(&variable, &endpoint)?;
        let unlike = |(_, value): &(String, String), word| !str::eq_ignore_ascii_case(value, word);
        if let Some((variable, protocol)) = exporter("PROTOCOL").filter(|it| unlike(it, PROTOBUF)) {
            let error = format!(
                "`{protocol}` is not supported: set {variable}={PROTOBUF}, and the collector's port for it (4318, not 4317)"
            );
            return Err(invalid(variable, error));
        }
        if let Some((variable, _)) = exporter("COMPRESSION").filter(|it| unlike(it, "none")) {
            return Err(invalid(variable, "traces are sent uncompressed: leave it out"));
        }
        for name in ["CLIENT_CERTIFICATE", "CLIENT_KEY"] {
            if let Some((variable, _)) = exporter(name) {
                return Err(invalid(
                    variable,
                    "client certificates are not supported: leave it out",
                ));
            }
        }
        sampler(&get)?;
        let timeout = match exporter("TIMEOUT") {
            Some((variable, text)) => Duration::from_millis(text.parse().map_err(|_| {
                invalid(variable, format!("`{text}` is not a number of milliseconds"))
            })?),
            None => TIMEOUT,
        };
        let secrets = exporter("HEADERS").map(|(_, headers)| header_secrets(&headers));
        Ok(Some(Self {
            endpoint,
            service: get("OTEL_SERVICE_NAME"),
            timeout,
            authorities: exporter("CERTIFICATE").map(|(_, path)| path.into()),
            secrets: secrets.unwrap_or_default(),
        }))
    }

    /// What must not show in a log line.
    #[must_use]
    pub fn secrets(&self) -> &[SecretString] {
        &self.secrets
    }
}

const PROTOBUF: &str = "http/protobuf";
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
/// Where a collector is when nobody says otherwise.
const NEARBY: &str = "http://localhost:4318";

fn invalid(variable: impl Into<String>, error: impl Into<String>) -> InvalidTracing {
    InvalidTracing { variable: variable.into(), error: error.into() }
}

/// The URL that traces are posted to: that of all signals gets a path for traces, that of traces is taken as it is.
fn traces_url(variable: &str, text: &str) -> Result<Url, InvalidTracing> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let mut url = url.filter(Url::has_host).ok_or_else(|| {
        invalid(variable, "it is not a URL: write for example http://otel-collector:4318")
    })?;
    if variable == ENDPOINT
        && let Ok(mut path) = url.path_segments_mut()
    {
        path.pop_if_empty().extend(["v1", "traces"]);
    }
    Ok(url)
}

/// The library goes on with another sampler where it does not know one.
fn sampler(get: &dyn Fn(&str) -> Option<String>) -> Result<(), InvalidTracing> {
    let Some(name) = get("OTEL_TRACES_SAMPLER") else { return Ok(()) };
    if !SAMPLERS.contains(&name.as_str()) {
        let error = format!("`{name}` is not supported: write one of {}", SAMPLERS.join(", "));
        return Err(invalid("OTEL_TRACES_SAMPLER", error));
    }
    // Without one the library takes all, as the specification wants it.
    let Some(ratio) = get("OTEL_TRACES_SAMPLER_ARG") else { return Ok(()) };
    let usable = ratio.parse().is_ok_and(|ratio: f64| (0.0..=1.0).contains(&ratio));
    if name.ends_with("traceidratio") && !usable {
        let error = format!("`{ratio}` is not a number from 0 to 1, which {name} needs");
        return Err(invalid("OTEL_TRACES_SAMPLER_ARG", error));
    }
    Ok(())
}

/// Every header's value: as it stands there, decoded, and without the word `Bearer` before it.
fn header_secrets(headers: &str) -> Vec<SecretString> {
    let values = headers.split(',').filter_map(|pair| Some(pair.split_once('=')?.1.trim()));
    let mut secrets = Vec::new();
    for value in values.filter(|value| !value.is_empty()) {
        // The name does not matter: only the decoding does.
        let form = format!("v={}", value.replace('+', "%2B"));
        let decoded = url::form_urlencoded::parse(form.as_bytes()).next();
        let decoded = decoded.map_or_else(|| value.to_owned(), |(_, value)| value.into_owned());
        let bare = decoded.rsplit(' ').next().unwrap_or_default().to_owned();
        secrets.extend([value.to_owned(), decoded, bare].map(SecretString::from));
    }
    secrets
}

/// Exports traces from now on; has to be called inside the runtime that sends them. A second call changes nothing.
///
/// # Errors
/// When the certificate authorities cannot be used.
pub fn start(settings: &Settings) -> Result<(), InvalidTracing> {
    let sender =
        Sender { client: client(settings)?, runtime: Handle::current(), told: Mutex::default() };
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(sender)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(settings.endpoint.as_str())
        .with_timeout(settings.timeout)
        .build()
        .map_err(|error| invalid(ENDPOINT, error.to_string()))?;
    let provider = SdkTracerProvider::builder()
        .with_resource(resource(settings.service.as_deref()))
        .with_batch_exporter(exporter)
        .build();
    trace::trace_with(provider.tracer(env!("CARGO_PKG_NAME")));
    let _ = PROVIDER.set(provider);
    tracing::info!(host = settings.endpoint.host_str(), "traces are exported");
    Ok(())
}

/// Sends what is left, within a second. Has to be called outside the runtime, while it still runs.
pub fn finish() {
    if let Some(provider) = PROVIDER.get() {
        // What could not be sent was told already.
        let _ = provider.shutdown_with_timeout(FAREWELL);
    }
}

/// Who says all this: what the environment says about it comes first.
fn resource(service: Option<&str>) -> Resource {
    let detectors: [Box<dyn ResourceDetector>; 2] =
        [Box::new(TelemetryResourceDetector), Box::new(EnvResourceDetector::new())];
    let resource = Resource::builder_empty()
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_service_name(env!("CARGO_PKG_NAME"))
        .with_detectors(&detectors);
    match service {
        Some(service) => resource.with_service_name(service.to_owned()).build(),
        None => resource.build(),
    }
}

fn client(settings: &Settings) -> Result<reqwest::Client, InvalidTracing> {
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

/// Posts batches. The library's thread has no runtime: the requests are made in Herald's.
#[derive(Debug)]
struct Sender {
    client: reqwest::Client,
    runtime: Handle,
    /// When somebody was told of trouble.
    told: Mutex<Option<Instant>>,
}

impl Sender {
    fn complain(&self, why: &str) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| told.elapsed() >= COMPLAIN_EVERY) {
            *told = Some(Instant::now());
            tracing::warn!(
                why,
                "the collector does not take traces; Herald goes on without (this is said once in five minutes)"
            );
        }
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
                self.complain(obstacle(&error));
                // The URL may hold a key.
                return Err(error.without_url().into());
            }
            // The runtime ends.
            Err(error) => return Err(error.into()),
        };
        if !answer.status().is_success() {
            self.complain(&format!("it answered with HTTP {}", answer.status().as_u16()));
        }
        Ok(answer)
    }
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
    use secrecy::ExposeSecret;

    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<Settings>, InvalidTracing> {
        let find = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Settings::read(&find)
    }

    const BASE: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");

    #[test]
    fn traces_go_where_the_variables_say() {
        let url = |variables: &[(&str, &str)]| {
            read(variables).unwrap().map(|settings| settings.endpoint.to_string())
        };
        assert_eq!(url(&[]), None);
        assert_eq!(url(&[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]), None);
        assert_eq!(url(&[BASE]).unwrap(), "http://collector:4318/v1/traces");
        let deep = ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector/otlp/");
        assert_eq!(url(&[deep]).unwrap(), "https://collector/otlp/v1/traces");
        let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://elsewhere:9/take");
        assert_eq!(url(&[BASE, traces]).unwrap(), "http://elsewhere:9/take");
        // Who chooses the exporter gets its default endpoint.
        let chosen = ("OTEL_TRACES_EXPORTER", "otlp");
        assert_eq!(url(&[chosen]).unwrap(), "http://localhost:4318/v1/traces");
        assert_eq!(url(&[chosen, BASE]).unwrap(), "http://collector:4318/v1/traces");
        for off in [("OTEL_SDK_DISABLED", "True"), ("OTEL_TRACES_EXPORTER", "none")] {
            assert_eq!(url(&[BASE, off]), None, "{off:?}");
        }
    }

    #[test]
    fn what_cannot_be_done_is_said_with_the_fix() {
        for (variable, value, word) in [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip", "leave it out"),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/key.pem", "leave it out"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "collector:4318", "http://"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s", "milliseconds"),
            ("OTEL_TRACES_EXPORTER", "zipkin", "otlp"),
            ("OTEL_TRACES_SAMPLER", "jaeger_remote", "always_on"),
        ] {
            let error = read(&[BASE, (variable, value)]).unwrap_err();
            assert!(error.variable == variable && error.error.contains(word), "{error}");
        }
        // Whoever asks for another exporter wants traces, whatever else is set.
        let error = read(&[("OTEL_TRACES_EXPORTER", "zipkin")]).unwrap_err();
        assert_eq!(error.variable, "OTEL_TRACES_EXPORTER");
        // What is said of traces counts more.
        let both = [
            BASE,
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf"),
        ];
        assert!(read(&both).unwrap().is_some());
    }

    #[test]
    fn a_ratio_is_all_unless_it_is_said() {
        for name in ["traceidratio", "parentbased_traceidratio"] {
            let sampler = ("OTEL_TRACES_SAMPLER", name);
            assert!(read(&[BASE, sampler]).unwrap().is_some(), "{name}");
            for (ratio, usable) in [("0.25", true), ("", true), ("2", false), ("half", false)] {
                let settings = read(&[BASE, sampler, ("OTEL_TRACES_SAMPLER_ARG", ratio)]);
                assert_eq!(settings.is_ok(), usable, "{name} {ratio:?}");
                let Err(error) = settings else { continue };
                assert_eq!(error.variable, "OTEL_TRACES_SAMPLER_ARG");
                assert!(error.error.contains("from 0 to 1"), "{error}");
            }
        }
    }

    #[test]
    fn headers_are_secrets_however_they_are_written() {
        let headers =
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20canary-1, x-key = a+b=");
        let settings = read(&[BASE, headers]).unwrap().unwrap();
        let secrets: Vec<_> = settings.secrets().iter().map(ExposeSecret::expose_secret).collect();
        for secret in ["Bearer%20canary-1", "Bearer canary-1", "canary-1", "a+b="] {
            assert!(secrets.contains(&secret), "{secrets:?}");
        }
        assert!(!format!("{settings:?}").contains("canary"));
    }
}
