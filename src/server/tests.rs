//! The edge over real HTTP: raw requests, so that nothing between test and server hides a header.

mod limits;
mod mcp;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::connections::{Limits, accept};
use super::{CLOSE, Check, FLUSH, Readiness, router, serve_with};
use crate::clock::SystemClock;
use crate::mcp::testing::{herald, hooked};
use crate::mcp::{Clients, Config, Door, Gate, Herald, InFlight, http};
use crate::telemetry::Metrics;

const NETWORK: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 3000);

struct Store(bool);

#[async_trait]
impl Readiness for Store {
    async fn checks(&self) -> BTreeMap<String, Check> {
        let check = |ok, required| Check { ok, required, detail: None };
        let checks = [("listener", check(false, false)), ("store", check(self.0, true))];
        checks.map(|(name, check)| (name.to_owned(), check)).into()
    }
}

struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{} {}", self.head, self.body))
    }
}

#[derive(Clone)]
struct Setup {
    config: Config,
    /// The address the server believes to listen on.
    listen: SocketAddr,
    drain: Duration,
    limits: Limits,
    ready: bool,
    metrics: Metrics,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            config: Config::default(),
            listen: SocketAddr::from(([127, 0, 0, 1], 3000)),
            drain: Duration::from_secs(5),
            limits: Limits::default(),
            ready: true,
            metrics: Metrics::default(),
        }
    }
}

impl Setup {
    async fn start(self, herald: Herald) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, in_flight) = (CancellationToken::new(), InFlight::default());
        let door = Door::new(&self.config, &Clients::new()).unwrap();
        let gate = Gate::new(door, Arc::new(SystemClock));
        let routes = http(herald, &self.config, &gate, self.listen, &in_flight).unwrap();
        let routes = router(routes, Arc::new(Store(self.ready)), stop.clone());
        let (metrics, drain, limits) = (self.metrics, self.drain, self.limits);
        let serving = serve_with(listener, routes, in_flight, metrics, stop.clone(), drain, limits);
        let task = tokio::spawn(serving);
        Server { address, stop, task }
    }
}

impl Server {
    async fn start() -> Self {
        Setup::default().start(herald().await).await
    }

    /// One with these settings.
    async fn with(config: Config) -> Self {
        Setup { config, ..Setup::default() }.start(herald().await).await
    }

    async fn open(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        read(self.open(&request(method, path, headers, body)).await).await
    }

    async fn post(&self, headers: &[(&str, &str)], body: &Value) -> Answer {
        self.send("POST", "/mcp", headers, &body.to_string()).await
    }

    /// A tool call of the older era.
    async fn call(&self, tool: &str, arguments: Value) -> Value {
        let params = json!({"name": tool, "arguments": arguments});
        let answer = self.post(&[], &rpc("tools/call", params)).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    }

    async fn ended(self) {
        let ended = tokio::time::timeout(Duration::from_secs(5), self.task).await;
        ended.expect("the server goes on").unwrap();
    }
}

fn rpc(method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
}

fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
    let defaults = [
        ("host", "127.0.0.1"),
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
        ("connection", "close"),
    ];
    let mut head = format!("{method} {path} HTTP/1.1\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in defaults {
        if !headers.iter().any(|(given, _)| *given == name) {
            head += &format!("{name}: {value}\r\n");
        }
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    format!("{head}\r\n{body}")
}

async fn read(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    let all = stream.read_to_end(&mut bytes);
    // A refused body may be followed by a reset, after the answer.
    let _ = tokio::time::timeout(Duration::from_secs(5), all).await.expect("no answer");
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text}"));
    Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.to_lowercase(),
        body: body.to_owned(),
    }
}

#[tokio::test]
async fn readiness_tells_what_is_wrong() {
    let server = Server::start().await;
    let answer = server.send("GET", "/readyz", &[], "").await;
    assert_eq!(answer.status, 200);
    let expected =
        json!({"status": "ready", "checks": {"listener": {"ok": false}, "store": {"ok": true}}});
    assert_eq!(answer.json(), expected);

    let server = Setup { ready: false, ..Setup::default() }.start(herald().await).await;
    let answer = server.send("GET", "/readyz", &[], "").await;
    assert_eq!((answer.status, &answer.json()["status"]), (503, &json!("not ready")));
    assert_eq!(server.send("GET", "/healthz", &[], "").await.body, "ok");
}

#[tokio::test]
async fn answers_are_not_delayed_by_nagle() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    assert!(accept(&listener).await.0.nodelay().unwrap());
}

#[tokio::test]
async fn a_head_that_does_not_end_loses_its_connection() {
    let limits = Limits { head: Duration::from_millis(100), ..Limits::default() };
    let server = Setup { limits, ..Setup::default() }.start(herald().await).await;
    let mut half = server.open("POST /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\nx-half: ").await;
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(5), half.read_to_end(&mut rest)).await;
    closed.expect("the connection stays open").unwrap();
    assert_eq!(server.send("GET", "/healthz", &[], "").await.body, "ok");
}

#[tokio::test]
async fn what_is_one_connection_too_many_waits_for_its_turn() {
    let limits = Limits { connections: 1, reserve: 0, ..Limits::default() };
    let server = Setup { limits, ..Setup::default() }.start(herald().await).await;
    let first = server.open("GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").await;
    let mut byte = [0];
    first.peek(&mut byte).await.unwrap();
    let second = server.open(&request("GET", "/healthz", &[], "")).await;
    let early = tokio::time::timeout(Duration::from_millis(100), second.peek(&mut byte)).await;
    assert!(early.is_err(), "the second is served beside the first");
    drop(first);
    assert_eq!(read(second).await.body, "ok");
}

/// A server whose calls report that they started, and then go on until `ends` says so.
async fn slow(drain: Duration) -> (Server, mpsc::Receiver<mpsc::Sender<()>>) {
    held(Setup { drain, ..Setup::default() }).await
}

async fn held(setup: Setup) -> (Server, mpsc::Receiver<mpsc::Sender<()>>) {
    let (started, has_started) = mpsc::channel(1);
    let herald = hooked(move || {
        let started = started.clone();
        async move {
            let (end, mut ends) = mpsc::channel::<()>(1);
            started.send(end).await.unwrap();
            let _ = ends.recv().await;
        }
    })
    .await;
    (setup.start(herald).await, has_started)
}

fn a_call() -> String {
    let call = rpc("tools/call", json!({"name": "list_channels", "arguments": {}}));
    request("POST", "/mcp", &[], &call.to_string())
}

#[tokio::test]
async fn a_stop_lets_calls_finish_and_lets_nobody_in() {
    let (server, mut started) = slow(Duration::from_secs(5)).await;
    // A probe that keeps its connection sees the drain.
    let mut probe =
        server.open(&request("GET", "/readyz", &[("connection", "keep-alive")], "")).await;
    let mut buffer = [0; 1024];
    assert!(probe.read(&mut buffer).await.unwrap() > 0);

    let mut call = server.open(&a_call()).await;
    let end = started.recv().await.unwrap();
    server.stop.cancel();
    let refused = async {
        while TcpStream::connect(server.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(2), refused).await.expect("still accepts");
    // Long after a cut would have ended it, the call is neither answered nor closed.
    let silence = tokio::time::timeout(2 * (FLUSH + CLOSE), call.read(&mut buffer)).await;
    assert!(silence.is_err() && !server.task.is_finished());

    end.send(()).await.unwrap();
    let answer = read(call).await;
    assert_eq!(answer.json()["result"]["isError"], false, "{}", answer.body);
    server.ended().await;
}

#[tokio::test]
async fn what_never_ends_is_cut() {
    let (server, mut started) = slow(Duration::from_millis(50)).await;
    let _call = server.open(&a_call()).await;
    let _held = started.recv().await.unwrap();
    server.stop.cancel();
    server.ended().await;
}

#[tokio::test]
async fn a_caller_who_leaves_stops_the_waiting() {
    let (server, mut started) = slow(Duration::from_secs(5)).await;
    let call = server.open(&a_call()).await;
    let end = started.recv().await.unwrap();
    drop(call);
    tokio::time::timeout(Duration::from_secs(2), end.closed()).await.expect("still waits");
}
