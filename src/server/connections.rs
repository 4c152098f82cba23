//! Connections: how many there are, how long a request's head may take, how an answer leaves, and how they end.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Json, Response};
use http::{StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::stream::Stream;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::{Refusal, Route};

/// How long to wait when the process can open no more files.
const BREATHER: Duration = Duration::from_secs(1);

/// The most bytes of a request's head: a token and what proxies add, several times over. More is answered with 431, and
/// so are more than 100 headers, which is hyper's own limit; an address of more than 64 KiB with 414.
const LONGEST_HEAD: usize = 32 * 1024;

/// What one client may take from the others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The most connections.
    pub(super) connections: usize,
    /// How many more there may be, for one request each: only probes are answered, everything else with 503. Further ones
    /// wait in the listener's backlog.
    pub(super) reserve: usize,
    /// How long the head of a request may take, counted from the end of the one before: an idle connection ends then.
    pub(super) head: Duration,
    /// How long it may take on a connection of the reserve.
    pub(super) short_head: Duration,
    /// How long an answer may take to be read.
    pub(super) answer: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            reserve: 64,
            head: Duration::from_secs(30),
            short_head: Duration::from_secs(2),
            answer: Duration::from_secs(30),
        }
    }
}

/// A connection's right to be there.
struct Place {
    _permit: OwnedSemaphorePermit,
    reserve: bool,
}

struct Places {
    ordinary: Arc<Semaphore>,
    reserve: Arc<Semaphore>,
}

impl Places {
    /// Waits for a place; one of the reserve only while there is no other. `None` never happens: nobody closes them.
    async fn next(&self) -> Option<Place> {
        let (ordinary, reserve) = (Arc::clone(&self.ordinary), Arc::clone(&self.reserve));
        let (permit, reserve) = tokio::select! {
            biased;
            permit = ordinary.acquire_owned() => (permit, false),
            permit = reserve.acquire_owned() => (permit, true),
        };
        Some(Place { _permit: permit.ok()?, reserve })
    }

    /// The same, or an ordinary one if there is one by now: a place is taken before its connection comes.
    fn better(&self, place: Place) -> Place {
        let ordinary = place.reserve.then(|| Arc::clone(&self.ordinary).try_acquire_owned().ok());
        match ordinary.flatten() {
            Some(permit) => Place { _permit: permit, reserve: false },
            None => place,
        }
    }
}

/// Serves `routes` until `stop`, and then until the requests under way have their answers.
pub(super) async fn serve(
    listener: TcpListener,
    routes: Router,
    limits: Limits,
    metrics: Metrics,
    stop: CancellationToken,
) {
    let places = Places {
        ordinary: Arc::new(Semaphore::new(limits.connections)),
        reserve: Arc::new(Semaphore::new(limits.reserve)),
    };
    let counted = from_fn_with_state(metrics.clone(), count);
    let probes = routes.clone().layer(from_fn(probes_alone)).layer(counted.clone());
    let routes = routes.layer(counted);
    let mut server = Builder::new();
    server.timer(TokioTimer::new()).max_header_size(LONGEST_HEAD).header_read_timeout(limits.head);
    let mut briefly = server.clone();
    briefly.header_read_timeout(limits.short_head).keep_alive(false);
    let connections = TaskTracker::new();
    let next = async || {
        let place = places.next().await?;
        let (stream, peer) = accept(&listener).await;
        Some((stream, peer, places.better(place)))
    };
    while let Some(Some((stream, peer, place))) = stop.run_until_cancelled(next()).await {
        let (server, routes) = if place.reserve { (&briefly, &probes) } else { (&server, &routes) };
        let stream = Stream::new(stream, limits.answer);
        let connection = run(server, stream, peer, routes.clone(), stop.clone());
        let metrics = metrics.clone();
        connections.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = %error, "a connection broke");
                if let Some(why) = why(&error) {
                    metrics.refused(Route::None, why);
                }
            }
            drop(place);
        });
    }
    // Nobody new: what waits in the backlog is refused.
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// One connection, until it ends; after `stop`, until the request under way has its answer.
fn run(
    server: &Builder,
    stream: Stream,
    peer: SocketAddr,
    routes: Router,
    stop: CancellationToken,
) -> impl Future<Output = hyper::Result<()>> + use<> {
    let routes = TowerToHyperService::new(routes);
    let service = service_fn(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        routes.call(request)
    });
    let connection = server.serve_connection(TokioIo::new(stream), service).with_upgrades();
    async move {
        let mut connection = pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => return ended,
            () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    }
}

/// If a connection was ended for what its client did: why. An idle one that ends is nobody's fault.
fn why(error: &hyper::Error) -> Option<Refusal> {
    if error.is_parse() {
        return Some(Refusal::BadHead);
    }
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    source.filter(|it| it.kind() == io::ErrorKind::TimedOut).map(|_| Refusal::SlowReader)
}

/// What a connection of the reserve is for.
async fn probes_alone(request: Request, next: Next) -> Response {
    if Route::of(request.uri().path()) == Route::Probe {
        return next.run(request).await;
    }
    let body = serde_json::json!({ "error": "there are too many connections: try again later" });
    let headers = [(header::RETRY_AFTER, "2"), (header::CONNECTION, "close")];
    let mut answer = (StatusCode::SERVICE_UNAVAILABLE, headers, Json(body)).into_response();
    answer.extensions_mut().insert(Refusal::Full);
    answer
}

/// Counts what was refused, by the mark that whoever refused it left on the answer.
async fn count(State(metrics): State<Metrics>, request: Request, next: Next) -> Response {
    let route = Route::of(request.uri().path());
    let answer = next.run(request).await;
    if let Some(why) = answer.extensions().get::<Refusal>() {
        metrics.refused(route, *why);
    }
    answer
}

/// The next connection. What goes wrong with one is no reason to stop.
pub(super) async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // With Nagle's algorithm on, an answer in several writes waits some 40 ms for the acknowledgement.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "TCP_NODELAY cannot be set");
                }
                return (stream, peer);
            }
            Err(error) if left_early(&error) => {}
            Err(error) => {
                tracing::error!(%error, "no connection can be accepted");
                tokio::time::sleep(BREATHER).await;
            }
        }
    }
}

fn left_early(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
