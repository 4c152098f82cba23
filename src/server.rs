//! The HTTP server: `/mcp`, `/healthz`, `/readyz`, and an orderly end; `/metrics` on a port of its own.

mod connections;
mod stream;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, WeakShared};
use http::{StatusCode, header};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::connections::Limits;
use crate::mcp::InFlight;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::MEDIA_TYPE;

/// How long requests under way may take to end after a stop. A tool call takes at most 20 s.
pub const DRAIN: Duration = Duration::from_secs(25);

/// How long answers may take to leave after that.
const FLUSH: Duration = Duration::from_millis(50);

/// How long connections may take to close once their requests were cut.
const CLOSE: Duration = Duration::from_millis(500);

/// How long a readiness check may take.
const CHECK: Duration = Duration::from_secs(2);

/// One thing that has to work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Whether it works.
    pub ok: bool,
    /// Whether the server is of no use without it. Others are shown, and change nothing.
    #[serde(skip)]
    pub required: bool,
    /// What is wrong, or how it stands; never a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// What `/readyz` asks.
#[async_trait]
pub trait Readiness: Send + Sync + 'static {
    /// The checks by name. At most 2 s; what takes longer counts as failed.
    async fn checks(&self) -> BTreeMap<String, Check>;
}

#[derive(Serialize)]
struct Report {
    status: &'static str,
    checks: BTreeMap<String, Check>,
}

type Checks = BTreeMap<String, Check>;

struct Probes {
    readiness: Arc<dyn Readiness>,
    /// The checks that somebody waits for right now.
    running: Mutex<Option<WeakShared<BoxFuture<'static, Option<Checks>>>>>,
    stop: CancellationToken,
}

impl Probes {
    /// However many ask at once, the checks run once: anybody may ask, and they cost the store something.
    async fn checks(&self) -> Option<Checks> {
        let running = {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            running.as_ref().and_then(WeakShared::upgrade).unwrap_or_else(|| {
                let readiness = Arc::clone(&self.readiness);
                let checks = async move { readiness.checks().await };
                let checks = tokio::time::timeout(CHECK, checks).map(Result::ok).boxed().shared();
                *running = checks.downgrade();
                checks
            })
        };
        running.await
    }
}

/// The routes `/healthz` (the process answers) and `/readyz` (it can do its work), beside those of `routes`.
pub fn router(routes: Router, readiness: Arc<dyn Readiness>, stop: CancellationToken) -> Router {
    let probes = Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .with_state(Arc::new(Probes { readiness, running: Mutex::default(), stop }));
    routes.merge(probes)
}

async fn ready(State(probes): State<Arc<Probes>>) -> Response {
    let (status, checks) = match probes.checks().await {
        None => ("not ready: the checks take too long", BTreeMap::new()),
        Some(checks) if probes.stop.is_cancelled() => ("draining", checks),
        Some(checks) if checks.values().any(|check| check.required && !check.ok) => {
            ("not ready", checks)
        }
        Some(checks) => ("ready", checks),
    };
    let code = if status == "ready" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(Report { status, checks })).into_response()
}

/// What `/metrics` asks.
#[async_trait]
pub trait Scrape: Send + Sync + 'static {
    /// Everything there is to know now, of the media type [`MEDIA_TYPE`].
    async fn scrape(&self) -> String;
}

/// Serves `/metrics`, and nothing else, until `stop`.
pub async fn serve_metrics(
    listener: TcpListener,
    scrape: Arc<dyn Scrape>,
    metrics: Metrics,
    stop: CancellationToken,
) {
    let answer = || async move { ([(header::CONTENT_TYPE, MEDIA_TYPE)], scrape.scrape().await) };
    let routes = Router::new().route("/metrics", get(answer));
    let limits = Limits { connections: 16, reserve: 0, ..Limits::default() };
    connections::serve(listener, routes, limits, metrics, stop).await;
}

/// Serves until `stop`: then no new connection is accepted, requests under way may end (25 s), and only what is left
/// after that is cut.
///
/// At most 1,024 connections are open at a time, and 64 more on which only probes are answered. A request's head may take
/// 30 s and 32 KiB, and so long may an answer take to be read.
///
/// # Errors
/// None: a connection that cannot be accepted is logged.
pub async fn serve(
    listener: TcpListener,
    routes: Router,
    in_flight: InFlight,
    metrics: Metrics,
    stop: CancellationToken,
) -> io::Result<()> {
    serve_with(listener, routes, in_flight, metrics, stop, DRAIN, Limits::default()).await;
    Ok(())
}

async fn serve_with(
    listener: TcpListener,
    routes: Router,
    in_flight: InFlight,
    metrics: Metrics,
    stop: CancellationToken,
    drain: Duration,
    limits: Limits,
) {
    let server = connections::serve(listener, routes, limits, metrics, stop.clone());
    let cutting = async {
        stop.cancelled().await;
        if tokio::time::timeout(drain, in_flight.drained()).await.is_err() {
            tracing::warn!("requests were still under way at the end of the drain and are cut");
        }
        tokio::time::sleep(FLUSH).await;
        in_flight.cut();
        // A client that never ends its request must not hold the process.
        tokio::time::sleep(CLOSE).await;
    };
    tokio::select! {
        () = server => {}
        () = cutting => {}
    }
}

#[cfg(test)]
mod tests;
