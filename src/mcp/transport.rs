//! The two transports. Both take any server, so that the conformance suite's fixtures run on exactly this ground.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderMap, StatusCode, header};
use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use rmcp::service::ServerInitializeError;
use rmcp::transport::IntoTransport;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{RoleServer, ServerHandler, ServiceExt};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::auth::{self, Clients, Door, Gate};
use super::limits::{self, LONGEST_BODY, Limits};
use super::{Config, Guarded, InFlight};

/// The longest that a request takes from its head to its answer: the last net, since a body takes at most 15 s and a tool
/// call at most 20 s.
const LONGEST_REQUEST: Duration = Duration::from_secs(60);

const LOOPBACK_HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
const LOOPBACK_ORIGINS: [&str; 6] = [
    "http://localhost:*",
    "http://127.0.0.1:*",
    "http://[::1]:*",
    "https://localhost:*",
    "https://127.0.0.1:*",
    "https://[::1]:*",
];

/// Whether `config` can be served: each client can be known, and each origin is one.
///
/// # Errors
/// One sentence about the setting that is wrong.
pub fn check(config: &Config, clients: &Clients) -> Result<(), String> {
    Door::new(config, clients)?;
    let origins = config.allowed_origins.iter().filter(|origin| *origin != "*");
    origins.map(|origin| with_port(origin)).collect::<Result<Vec<_>, _>>()?;
    Ok(())
}

/// The route `/mcp`: stateless streamable HTTP with JSON answers, behind limits, Host and Origin checks and the [`Gate`]; and
/// RFC 9728's document about it.
///
/// `listen` decides which names are trusted by default. Call [`super::check_exposure`] before binding it.
///
/// # Errors
/// One sentence about the setting that is wrong.
pub fn http<H: ServerHandler>(
    handler: H,
    config: &Config,
    gate: &Gate,
    listen: SocketAddr,
    in_flight: &InFlight,
) -> Result<Router, String> {
    let limits = Arc::new(Limits::new(config));
    let settings = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .with_max_request_body_bytes(LONGEST_BODY)
        .with_cancellation_token(in_flight.token());
    let settings = with_hosts(settings, config, listen.ip().is_loopback());
    let settings = with_origins(settings, config, listen.ip().is_loopback())?;
    let handler = Guarded::new(handler, in_flight.clone());
    let service = StreamableHttpService::new(
        move || Ok(handler.clone()),
        Arc::new(NeverSessionManager::default()),
        settings,
    );
    Ok(Router::new()
        .route_service("/mcp", service)
        .layer(axum::middleware::from_fn(explain_bad_json))
        .layer(from_fn_with_state(Arc::clone(&limits), limits::admit))
        .layer(from_fn_with_state(gate.clone(), auth::authenticate))
        .layer(from_fn_with_state(Arc::clone(&limits), limits::slow_guesses))
        .layer(from_fn_with_state(limits, limits::enter))
        .merge(auth::metadata(gate.clone()))
        .layer(from_fn_with_state(in_flight.clone(), count)))
}

fn with_hosts(
    settings: StreamableHttpServerConfig,
    config: &Config,
    loopback: bool,
) -> StreamableHttpServerConfig {
    let any = config.allowed_hosts.iter().any(|host| host == "*");
    if any || (config.allowed_hosts.is_empty() && !loopback) {
        return settings.disable_allowed_hosts();
    }
    let configured = config.allowed_hosts.iter().map(String::as_str);
    settings.with_allowed_hosts(LOOPBACK_HOSTS.into_iter().chain(configured))
}

fn with_origins(
    settings: StreamableHttpServerConfig,
    config: &Config,
    loopback: bool,
) -> Result<StreamableHttpServerConfig, String> {
    if config.allowed_origins.iter().any(|origin| origin == "*") {
        return Ok(settings.disable_allowed_origins());
    }
    let mut origins = Vec::new();
    if loopback {
        origins.extend(LOOPBACK_ORIGINS.map(str::to_owned));
    }
    for origin in &config.allowed_origins {
        origins.push(with_port(origin)?);
    }
    Ok(settings.with_allowed_origins(origins).enforce_origin_validation())
}

/// An origin with its port written out, because rmcp takes one without for any port. `:*` means any.
fn with_port(origin: &str) -> Result<String, String> {
    let wrong = || {
        let origin: String = origin.chars().filter(|c| !c.is_control()).take(128).collect();
        format!(
            "HERALD_ALLOWED_ORIGINS: `{origin}` is not an origin such as https://inspector.example.com or http://localhost:*"
        )
    };
    let (address, any_port) = match origin.strip_suffix(":*") {
        Some(address) => (address, true),
        None => (origin, false),
    };
    let url = Url::parse(address).map_err(|_| wrong())?;
    let host = url.host_str().ok_or_else(wrong)?;
    let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    if !bare || !url.username().is_empty() || !matches!(url.scheme(), "http" | "https") {
        return Err(wrong());
    }
    let scheme = url.scheme();
    if any_port {
        return Ok(format!("{scheme}://{host}:*"));
    }
    let port = url.port_or_known_default().ok_or_else(wrong)?;
    Ok(format!("{scheme}://{host}:{port}"))
}

/// Counts requests from their head to their answer, so that a drain waits for all of them, and ends those that stall.
async fn count(State(in_flight): State<InFlight>, request: Request, next: Next) -> Response {
    let _counted = in_flight.begin();
    tokio::time::timeout(LONGEST_REQUEST, next.run(request))
        .await
        .unwrap_or_else(|_| StatusCode::REQUEST_TIMEOUT.into_response())
}

/// rmcp answers a body that is no JSON-RPC message with 415 and plain text, as if the content type were wrong.
async fn explain_bad_json(request: Request, next: Next) -> Response {
    let says_json = is_json(request.headers());
    let response = next.run(request).await;
    if !says_json || response.status() != StatusCode::UNSUPPORTED_MEDIA_TYPE {
        return response;
    }
    let body = serde_json::json!({
        "jsonrpc": "2.0",
        "id": null,
        "error": {
            "code": -32700,
            "message": "Parse error: the body has to be one JSON-RPC message in valid JSON, without lone surrogates such as \\ud800",
        },
    });
    (StatusCode::BAD_REQUEST, axum::Json(body)).into_response()
}

fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

/// The stdio server broke.
#[derive(Debug, thiserror::Error)]
pub enum StdioError {
    /// The first messages made no sense.
    #[error("the client did not speak MCP: {0}")]
    Handshake(Box<ServerInitializeError>),
    /// The task that serves died.
    #[error("the server stopped unexpectedly: {0}")]
    Stopped(#[from] tokio::task::JoinError),
}

/// This process's stdin and stdout as a transport. Where they are pipes, waiting for them blocks no thread, so that a
/// signal ends the process at once.
#[must_use]
pub fn stdio_pipes() -> (impl tokio::io::AsyncRead, impl tokio::io::AsyncWrite) {
    rmcp::transport::io::stdio_pipes()
}

/// Serves one client until it closes its end, or until `stop`.
///
/// # Errors
/// When the client does not speak MCP. A client that leaves before it said anything is no error.
pub async fn serve_stdio<H, T, E, A>(
    handler: H,
    transport: T,
    stop: CancellationToken,
) -> Result<(), StdioError>
where
    H: ServerHandler,
    T: IntoTransport<RoleServer, E, A>,
    E: std::error::Error + Send + Sync + 'static,
{
    let server = Guarded::new(handler, InFlight::default());
    match server.serve_with_ct(transport, stop).await {
        Ok(running) => {
            running.waiting().await?;
            Ok(())
        }
        Err(ServerInitializeError::ConnectionClosed(_) | ServerInitializeError::Cancelled) => {
            Ok(())
        }
        Err(error) => Err(StdioError::Handshake(Box::new(error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_gets_its_port() {
        assert_eq!(with_port("https://a.example").as_deref(), Ok("https://a.example:443"));
        assert_eq!(with_port("http://a.example/").as_deref(), Ok("http://a.example:80"));
        assert_eq!(with_port("http://localhost:*").as_deref(), Ok("http://localhost:*"));
        assert_eq!(with_port("http://[::1]:8080").as_deref(), Ok("http://[::1]:8080"));
        for wrong in ["a.example", "https://", "https://a.example/path", "ftp://a.example", "null"]
        {
            let error = with_port(wrong).unwrap_err();
            assert!(error.contains("HERALD_ALLOWED_ORIGINS"), "{error}");
        }
    }
}
