//! Connections: how many there are, how long a request's head may take, and how they end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// How long to wait when the process can open no more files.
const BREATHER: Duration = Duration::from_secs(1);

/// What one client may take from the others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The most connections. Further ones wait in the listener's backlog.
    pub(super) connections: usize,
    /// How long the head of a request may take, counted from the end of the one before: an idle connection ends then.
    pub(super) head: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 1024, head: Duration::from_secs(30) }
    }
}

/// Serves `routes` until `stop`, and then until the requests under way have their answers.
pub(super) async fn serve(
    listener: TcpListener,
    routes: Router,
    limits: Limits,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let graceful = GracefulShutdown::new();
    let mut server = Builder::new(TokioExecutor::new()).http1_only();
    server.http1().timer(TokioTimer::new()).header_read_timeout(limits.head);
    let next = async || {
        let place = Arc::clone(&places).acquire_owned().await.ok()?;
        Some((accept(&listener).await, place))
    };
    while let Some(Some((stream, place))) = stop.run_until_cancelled(next()).await {
        let service = TowerToHyperService::new(routes.clone());
        let connection =
            server.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = %error, "a connection broke");
            }
            drop(place);
        });
    }
    // Nobody new: what waits in the backlog is refused.
    drop(listener);
    graceful.shutdown().await;
}

/// The next connection. What goes wrong with one is no reason to stop.
pub(super) async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // With Nagle's algorithm on, an answer in several writes waits some 40 ms for the acknowledgement.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "TCP_NODELAY cannot be set");
                }
                return stream;
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
