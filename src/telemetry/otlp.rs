//! Sends traces, and the audit trail as logs, to a collector: OTLP over HTTP, as protobuf, set up by OpenTelemetry's own
//! environment variables (<https://opentelemetry.io/docs/specs/otel/protocol/exporter/>).
//!
//! The library reads those about headers, sampling, the resource, batches and limits by itself; here is what decides whether
//! there is anything to send to, and what Herald does not support. Then there are no traces, which is said once, at the start:
//! such variables are often set for all Pods at once, and are no reason not to serve.
//! A collector that is away costs nobody anything: spans wait in a bounded queue, and then they are dropped. Logs are the
//! audit trail's, and wait in the store.

mod logs;
mod sender;

use std::fmt;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::{
    EnvResourceDetector, ResourceDetector, TelemetryResourceDetector,
};
use opentelemetry_sdk::trace::SdkTracerProvider;
use secrecy::SecretString;
use url::Url;

pub use self::logs::{Log, Logs, NotTaken};
use self::sender::{Sender, Trouble};
use super::secrets::in_address;
use super::trace;

/// How long one request to the collector takes at most, where nothing else is set.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long an ending process waits for what is left to be sent.
const FAREWELL: Duration = Duration::from_secs(1);

const SAMPLERS: [&str; 6] = [
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
];

static PROVIDER: OnceLock<SdkTracerProvider> = OnceLock::new();

/// A variable says what Herald cannot do, so nothing is sent. Never shows a header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable}: {error}")]
pub struct InvalidExport {
    /// The variable.
    pub variable: String,
    /// What is wrong, and the fix.
    pub error: String,
}

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signal {
    Traces,
    Logs,
}

impl Signal {
    /// As URLs have it.
    const fn path(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Logs => "logs",
        }
    }

    /// As variables have it.
    const fn word(self) -> &'static str {
        match self {
            Self::Traces => "TRACES",
            Self::Logs => "LOGS",
        }
    }
}

/// Where traces go, or logs.
#[derive(Clone)]
pub struct Settings {
    endpoint: Url,
    service: Option<String>,
    timeout: Duration,
    authorities: Option<PathBuf>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a password or a key.
        f.debug_struct("Settings").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl Settings {
    /// What the environment says of traces; `None` where they go nowhere. An empty variable counts as unset.
    ///
    /// # Errors
    /// When a variable is malformed, or asks for what Herald does not do.
    pub fn read(env: &dyn Fn(&str) -> Option<String>) -> Result<Option<Self>, InvalidExport> {
        let get = |name: &str| value(env, name);
        let is = |name: &str, word: &str| get(name).is_some_and(|v| v.eq_ignore_ascii_case(word));
        if is(DISABLED, "true") || is("OTEL_TRACES_EXPORTER", "none") {
            return Ok(None);
        }
        let chosen = get("OTEL_TRACES_EXPORTER");
        if let Some(other) = chosen.as_ref().filter(|name| !name.eq_ignore_ascii_case("otlp")) {
            let error = format!("`{other}` is not supported: write otlp, or none");
            return Err(invalid("OTEL_TRACES_EXPORTER", error));
        }
        // Traces are off by default, unlike the specification's; whoever chooses OTLP gets its default.
        let settings = Self::of(Signal::Traces, chosen.is_some(), &get)?;
        if settings.is_some() {
            sampler(&get)?;
        }
        Ok(settings)
    }

    /// What the environment says of logs, for whoever wants them sent.
    ///
    /// # Errors
    /// When a variable is malformed, asks for what Herald does not do, or forbids to send anything.
    pub fn read_for_logs(env: &dyn Fn(&str) -> Option<String>) -> Result<Self, InvalidExport> {
        let get = |name: &str| value(env, name);
        let off = get(DISABLED).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let settings = if off { None } else { Self::of(Signal::Logs, true, &get)? };
        settings.ok_or_else(|| invalid(DISABLED, "nothing may be sent: leave it out"))
    }

    /// What is said of a signal; to a collector `nearby` if none is named.
    fn of(
        signal: Signal,
        nearby: bool,
        get: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, InvalidExport> {
        // What is said of this signal counts more than what is said of everything.
        let own = signal.word();
        let exporter = |name: &str| {
            [format!("OTEL_EXPORTER_OTLP_{own}_{name}"), format!("OTEL_EXPORTER_OTLP_{name}")]
                .into_iter()
                .find_map(|variable| get(&variable).map(|value| (variable, value)))
        };
        let nearby = || nearby.then(|| (ENDPOINT.to_owned(), NEARBY.to_owned()));
        let Some((variable, endpoint)) = exporter("ENDPOINT").or_else(nearby) else {
            return Ok(None);
        };
        let endpoint = url_of(signal, &variable, &endpoint)?;
        let unlike = |(_, value): &(String, String), word| !str::eq_ignore_ascii_case(value, word);
        if let Some((variable, protocol)) = exporter("PROTOCOL").filter(|it| unlike(it, PROTOBUF)) {
            let error = format!(
                "`{protocol}` is not supported: set {variable}={PROTOBUF}, and the collector's port for it (4318, not 4317)"
            );
            return Err(invalid(variable, error));
        }
        if let Some((variable, _)) = exporter("COMPRESSION").filter(|it| unlike(it, "none")) {
            let error = format!("{} are sent uncompressed: leave it out", signal.path());
            return Err(invalid(variable, error));
        }
        for name in ["CLIENT_CERTIFICATE", "CLIENT_KEY"] {
            if let Some((variable, _)) = exporter(name) {
                return Err(invalid(
                    variable,
                    "client certificates are not supported: leave it out",
                ));
            }
        }
        let timeout = match exporter("TIMEOUT") {
            Some((variable, text)) => Duration::from_millis(text.parse().map_err(|_| {
                invalid(variable, format!("`{text}` is not a number of milliseconds"))
            })?),
            None => TIMEOUT,
        };
        Ok(Some(Self {
            endpoint,
            service: get("OTEL_SERVICE_NAME"),
            timeout,
            authorities: exporter("CERTIFICATE").map(|(_, path)| path.into()),
        }))
    }

    /// The collector's host, for people.
    #[must_use]
    pub fn host(&self) -> &str {
        self.endpoint.host_str().unwrap_or_default()
    }
}

/// The variables that hold secrets: headers, and URLs in which a password may stand. Those of metrics are not used, but set
/// for all signals as often.
pub const SECRET_VARIABLES: [&str; 8] = [
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
    "OTEL_EXPORTER_OTLP_METRICS_HEADERS",
    "OTEL_EXPORTER_OTLP_LOGS_HEADERS",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
    "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
];

/// The secrets in these variables, whether anything is exported or not.
#[must_use]
pub fn secrets(env: &dyn Fn(&str) -> Option<String>) -> Vec<SecretString> {
    let set = SECRET_VARIABLES.iter().filter_map(|name| Some((name, env(name)?)));
    set.flat_map(|(name, value)| {
        if name.ends_with("HEADERS") { header_secrets(&value) } else { in_address(&value) }
    })
    .collect()
}

const DISABLED: &str = "OTEL_SDK_DISABLED";
const PROTOBUF: &str = "http/protobuf";
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
/// Where a collector is when nobody says otherwise.
const NEARBY: &str = "http://localhost:4318";

fn value(env: &dyn Fn(&str) -> Option<String>, name: &str) -> Option<String> {
    env(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

fn invalid(variable: impl Into<String>, error: impl Into<String>) -> InvalidExport {
    InvalidExport { variable: variable.into(), error: error.into() }
}

/// The URL that a signal is posted to: that of all signals gets a path for it, its own is taken as it is.
fn url_of(signal: Signal, variable: &str, text: &str) -> Result<Url, InvalidExport> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let mut url = url.filter(Url::has_host).ok_or_else(|| {
        invalid(variable, "it is not a URL: write for example http://otel-collector:4318")
    })?;
    if variable == ENDPOINT
        && let Ok(mut path) = url.path_segments_mut()
    {
        path.pop_if_empty().extend(["v1", signal.path()]);
    }
    Ok(url)
}

/// The library goes on with another sampler where it does not know one.
fn sampler(get: &dyn Fn(&str) -> Option<String>) -> Result<(), InvalidExport> {
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

/// What the names of headers say that authorize. What others hold, such as a tenant's name, is often an ordinary word, which
/// no message could hold any more.
const AUTHORIZING: [&str; 9] =
    ["auth", "cookie", "credential", "dsn", "key", "password", "secret", "team", "token"];

/// The value of every header that authorizes: as it stands there, decoded, and without the word `Bearer` before it.
fn header_secrets(headers: &str) -> Vec<SecretString> {
    let authorizes = |name: &str| AUTHORIZING.iter().any(|word| name.to_lowercase().contains(word));
    let pairs = headers.split(',').filter_map(|pair| pair.split_once('='));
    let values = pairs.filter(|(name, _)| authorizes(name)).map(|(_, value)| value.trim());
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
pub fn start(settings: &Settings) -> Result<(), InvalidExport> {
    let sender = Sender::new(settings, Trouble::told())?;
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

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<Settings>, InvalidExport> {
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
    fn logs_go_where_their_own_variables_say() {
        let read = |variables: &[(&str, &str)]| {
            let find = |name: &str| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            Settings::read_for_logs(&find)
        };
        let url = |variables: &[(&str, &str)]| read(variables).unwrap().endpoint.to_string();
        assert_eq!(url(&[]), "http://localhost:4318/v1/logs");
        assert_eq!(url(&[BASE]), "http://collector:4318/v1/logs");
        let logs = ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://elsewhere:9/take");
        assert_eq!(url(&[BASE, logs]), "http://elsewhere:9/take");
        // What is said of traces does not count.
        let traces = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc");
        let off = ("OTEL_TRACES_EXPORTER", "none");
        assert_eq!(url(&[BASE, traces, off]), "http://collector:4318/v1/logs");
        for (variable, value) in
            [("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "grpc"), ("OTEL_SDK_DISABLED", "true")]
        {
            assert_eq!(read(&[BASE, (variable, value)]).unwrap_err().variable, variable);
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
        let variables = [
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20canary-1, x-key = a+b="),
            ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "X-Scope-OrgID=production, x-Key=canary-2"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://ada:canary-3@collector/"),
        ];
        let env = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let secrets = secrets(&env);
        let secrets: Vec<_> = secrets.iter().map(ExposeSecret::expose_secret).collect();
        let written = ["Bearer%20canary-1", "Bearer canary-1", "canary-1", "a+b="];
        for secret in written.into_iter().chain(["canary-2", "canary-3"]) {
            assert!(secrets.contains(&secret), "{secrets:?}");
        }
        assert!(!secrets.contains(&"production"), "that is no secret: {secrets:?}");
        assert!(!format!("{:?}", Settings::read(&env)).contains("canary"));
    }
}
