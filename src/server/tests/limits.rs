//! What one caller can take from the others, and what whoever is refused hears.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::routing::get;
use futures_util::FutureExt;
use hyper::service::Service;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::*;

const PATIENCE: Duration = Duration::from_secs(5);

fn list() -> String {
    rpc("tools/list", json!({})).to_string()
}

/// What a refusal says, once it is one as it should be.
fn refusal(answer: &Answer, status: u16) -> String {
    assert_eq!(answer.status, status, "{} {}", answer.head, answer.body);
    let body = answer.json();
    assert_eq!((&body["jsonrpc"], &body["id"]), (&json!("2.0"), &Value::Null), "{body}");
    body["error"]["message"].as_str().unwrap().to_owned()
}

fn retry_after(answer: &Answer) -> u64 {
    let value = answer.head.lines().find_map(|line| line.strip_prefix("retry-after: "));
    value.unwrap_or_else(|| panic!("{}", answer.head)).parse().unwrap()
}

fn refused(metrics: &Metrics, route: &str, why: &str) -> u32 {
    let series = format!("herald_http_refused_total{{route=\"{route}\",why=\"{why}\"}} ");
    let text = metrics.encode();
    text.lines().find_map(|line| line.strip_prefix(&series)).unwrap().parse().unwrap()
}

async fn counted(metrics: &Metrics, route: &str, why: &str) {
    let counted = async {
        while refused(metrics, route, why) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, counted).await.unwrap_or_else(|_| panic!("{route}, {why}: not counted"));
}

/// The end of a connection: what came, and that nothing more does.
async fn end(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await;
    let _ = read.expect("the connection stays open");
    String::from_utf8(bytes).unwrap()
}

/// Two clients: `default`, which has the token, and `anonymous`.
fn two_clients(config: Config) -> Config {
    Config { token: Some(SecretString::from("s3cret")), allow_anonymous: true, ..config }
}

const DEFAULT: (&str, &str) = ("authorization", "Bearer s3cret");

#[tokio::test]
async fn a_body_that_is_too_long_is_refused_whether_it_says_so_or_not() {
    let config = Config { token: Some(SecretString::from("s3cret")), ..Config::default() };
    let metrics = Metrics::default();
    let setup = Setup { config, metrics: metrics.clone(), ..Setup::default() };
    let server = setup.start(herald().await).await;
    // Who says so is refused before a byte of it is read, and before it matters who asks.
    let head = "POST /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 2097153\r\n\r\n";
    let answer = read(server.open(head).await).await;
    assert!(refusal(&answer, 413).contains("2 MiB"));
    assert!(answer.head.contains("connection: close"), "{}", answer.head);

    let head = request("POST", "/mcp", &[DEFAULT, ("transfer-encoding", "chunked")], "");
    let head = head.replace("content-length: 0\r\n", "").replace("connection: close\r\n", "");
    let mut stream = server.open(&head).await;
    let chunk = format!("100000\r\n{}\r\n", " ".repeat(0x10_0000));
    stream.write_all(format!("{chunk}{chunk}1\r\n \r\n").as_bytes()).await.unwrap();
    // The end never comes, and is not waited for.
    let answer = read(stream).await;
    refusal(&answer, 413);
    assert!(answer.head.contains("connection: close"), "{}", answer.head);
    assert_eq!(refused(&metrics, "mcp", "too_large"), 2);

    let most = list() + &" ".repeat(2 * 1024 * 1024 - list().len());
    assert_eq!(server.send("POST", "/mcp", &[DEFAULT], &most).await.status, 200);
}

#[tokio::test]
async fn whoever_goes_on_sending_reads_why_it_was_refused() {
    let server = Server::start().await;
    let length = 16 * 1024 * 1024;
    let head = format!("POST /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {length}\r\n\r\n");
    let mut stream = server.open(&head).await;
    // More than the sockets hold: the server takes it, or this fails.
    stream.write_all(&vec![b' '; length]).await.unwrap();
    refusal(&read(stream).await, 413);
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let metrics = Metrics::default();
    let server = Setup { metrics: metrics.clone(), ..Setup::default() }.start(herald().await).await;
    let long = "x".repeat(32 * 1024);
    let many: Vec<_> = (0..101).map(|n| format!("x-{n}")).collect();
    let many: Vec<_> = many.iter().map(|name| (name.as_str(), "x")).collect();
    for headers in [&[("x-long", long.as_str())][..], &many] {
        let answer = server.send("POST", "/mcp", headers, &list()).await;
        assert_eq!(answer.status, 431, "{}", answer.head);
        assert!(answer.head.contains("connection: close"), "{}", answer.head);
    }
    // One that never ends, too.
    let endless = server.open(&format!("GET / HTTP/1.1\r\nx: {}", "x".repeat(64 * 1024))).await;
    assert_eq!(read(endless).await.status, 431);
    for nonsense in
        ["\x16\x03\x01\x02\x00\x01\x00\x01\x7f\x03\x03", "GET\r\n\r\n", "GET / X\r\n\r\n"]
    {
        assert_eq!(read(server.open(nonsense).await).await.status, 400, "{nonsense}");
    }
    counted(&metrics, "none", "bad_head").await;
}

#[tokio::test]
async fn a_connection_that_says_nothing_ends() {
    let limits = Limits { head: Duration::from_millis(100), ..Limits::default() };
    let server = Setup { limits, ..Setup::default() }.start(herald().await).await;
    // What might yet become HTTP/2 is not waited for either.
    for beginning in ["", "PRI * HTTP"] {
        assert_eq!(end(server.open(beginning).await).await, "");
    }
}

#[tokio::test]
async fn a_body_that_drips_is_ended_and_its_connection_too() {
    let metrics = Metrics::default();
    let server = Setup { metrics: metrics.clone(), ..Setup::default() }.start(herald().await).await;
    let head = request("POST", "/mcp", &[("connection", "keep-alive")], "{}");
    let mut stream =
        server.open(&head.replace("content-length: 2\r\n", "content-length: 99\r\n")).await;
    // From here on the only thing that passes is time.
    tokio::time::pause();
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        stream.write_all(b" ").await.unwrap();
    }
    let mut bytes = Vec::new();
    timeout(Duration::from_secs(60), stream.read_to_end(&mut bytes)).await.unwrap().unwrap();
    let answer = String::from_utf8(bytes).unwrap().to_lowercase();
    assert!(answer.starts_with("http/1.1 408 "), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    assert_eq!(refused(&metrics, "mcp", "too_slow"), 1);
}

#[tokio::test]
async fn a_body_that_breaks_is_its_senders_fault() {
    let metrics = Metrics::default();
    let server = Setup { metrics: metrics.clone(), ..Setup::default() }.start(herald().await).await;
    let head = request("POST", "/mcp", &[("transfer-encoding", "chunked")], "");
    let head = head.replace("content-length: 0\r\n", "");
    for body in ["xyz\r\n", "-1\r\n\r\n", "ffffffffffffffffff\r\n", "2\r\n{}0\r\n\r\n"] {
        let answer = read(server.open(&format!("{head}{body}")).await).await;
        refusal(&answer, 400);
        assert!(answer.head.contains("connection: close"), "{}", answer.head);
    }
    assert_eq!(refused(&metrics, "mcp", "broken"), 4);
}

#[tokio::test]
async fn an_answer_that_is_not_taken_ends_its_connection() {
    let metrics = Metrics::default();
    let limits = Limits { answer: Duration::from_millis(300), ..Limits::default() };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let routes = Router::new().route("/", get(|| async { vec![b'x'; 64 * 1024 * 1024] }));
    let (stop, _ended) = (CancellationToken::new(), CancellationToken::new().drop_guard());
    let served =
        serve_with(listener, routes, InFlight::default(), metrics.clone(), stop, PATIENCE, limits);
    tokio::spawn(served);
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    // A little now and then buys no time.
    let sips = async {
        let mut sip = [0; 4096];
        while stream.read(&mut sip).await.is_ok_and(|read| read > 0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = sips => {}
        () = counted(&metrics, "none", "slow_reader") => {}
    }
    counted(&metrics, "none", "slow_reader").await;
}

#[tokio::test]
async fn more_requests_than_places_are_refused_and_probes_are_not() {
    let metrics = Metrics::default();
    let config = Config { requests_at_once: NonZeroU32::new(1), ..Config::default() };
    let setup = Setup { config, metrics: metrics.clone(), ..Setup::default() };
    let (server, mut started) = held(setup).await;
    let call = server.open(&a_call()).await;
    let under_way = started.recv().await.unwrap();

    let answer = server.send("POST", "/mcp", &[], &list()).await;
    assert!(refusal(&answer, 503).contains("try again"));
    assert_eq!(retry_after(&answer), 1);
    assert_eq!(refused(&metrics, "mcp", "full"), 1);
    assert_eq!(server.send("GET", "/healthz", &[], "").await.status, 200);
    assert_eq!(server.send("GET", "/readyz", &[], "").await.status, 200);

    under_way.send(()).await.unwrap();
    assert_eq!(read(call).await.status, 200);
    assert_eq!(server.send("POST", "/mcp", &[], &list()).await.status, 200);
}

#[tokio::test]
async fn one_client_cannot_take_all_places() {
    let metrics = Metrics::default();
    let config = Config { client_requests_at_once: NonZeroU32::new(1), ..Config::default() };
    let config = two_clients(config);
    let setup = Setup { config, metrics: metrics.clone(), ..Setup::default() };
    let (server, mut started) = held(setup).await;
    let call = a_call().replace("host:", "authorization: Bearer s3cret\r\nhost:");
    let call = server.open(&call).await;
    let under_way = started.recv().await.unwrap();

    let answer = server.send("POST", "/mcp", &[DEFAULT], &list()).await;
    assert!(refusal(&answer, 429).contains("under way"));
    assert_eq!(retry_after(&answer), 1);
    assert_eq!(refused(&metrics, "mcp", "client_full"), 1);
    assert_eq!(server.send("POST", "/mcp", &[], &list()).await.status, 200, "another client");

    under_way.send(()).await.unwrap();
    assert_eq!(read(call).await.status, 200);
    assert_eq!(server.send("POST", "/mcp", &[DEFAULT], &list()).await.status, 200);
}

#[tokio::test]
async fn a_caller_who_leaves_gives_its_place_back() {
    let config = Config { client_requests_at_once: NonZeroU32::new(1), ..Config::default() };
    let (server, mut started) = held(Setup { config, ..Setup::default() }).await;
    let call = server.open(&a_call()).await;
    let under_way = started.recv().await.unwrap();
    assert_eq!(server.send("POST", "/mcp", &[], &list()).await.status, 429);
    drop(call);
    timeout(PATIENCE, under_way.closed()).await.expect("still waits");
    assert_eq!(server.send("POST", "/mcp", &[], &list()).await.status, 200);
}

#[tokio::test]
async fn a_client_that_asks_too_often_hears_when_to_come_again() {
    let metrics = Metrics::default();
    let config = two_clients(Config { requests_per_minute: Some(3), ..Config::default() });
    let setup = Setup { config, metrics: metrics.clone(), ..Setup::default() };
    let server = setup.start(herald().await).await;
    for _ in 0..3 {
        // What was not let in is nobody's.
        let stranger = ("authorization", "Bearer wrong");
        assert_eq!(server.send("POST", "/mcp", &[stranger], &list()).await.status, 401);
        assert_eq!(server.send("POST", "/mcp", &[DEFAULT], &list()).await.status, 200);
    }
    let keep = [DEFAULT, ("connection", "keep-alive"), ("content-length", "0")];
    let request = request("GET", "/mcp", &keep, "").replace("content-length: 0\r\n", "");
    let mut stream = server.open(&request).await;
    let mut buffer = [0; 1024];
    let read = stream.read(&mut buffer).await.unwrap();
    let answer = String::from_utf8(buffer[..read].to_vec()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("retry-after: "), "{answer}");
    assert!(!answer.contains("connection: close"), "its connection can be used on: {answer}");

    let answer = server.send("POST", "/mcp", &[DEFAULT], &list()).await;
    assert!(refusal(&answer, 429).contains("a minute"));
    assert!((1..=20).contains(&retry_after(&answer)), "{}", answer.head);
    assert_eq!(refused(&metrics, "mcp", "rate"), 2);
    assert_eq!(server.send("POST", "/mcp", &[], &list()).await.status, 200, "another client");
}

#[tokio::test]
async fn no_limit_is_a_limit_of_none() {
    let server = Server::with(Config { requests_per_minute: Some(0), ..Config::default() }).await;
    for _ in 0..5 {
        assert_eq!(server.send("POST", "/mcp", &[], &list()).await.status, 200);
    }
}

#[tokio::test]
async fn wrong_tokens_are_slowed_down_and_a_valid_one_never_is() {
    let config = Config { token: Some(SecretString::from("s3cret")), ..Config::default() };
    let metrics = Metrics::default();
    let setup = Setup { config, metrics: metrics.clone(), ..Setup::default() };
    let server = setup.start(herald().await).await;
    let guess = async |n: u32| {
        let guess = format!("Bearer {n}");
        server.send("POST", "/mcp", &[("authorization", &guess)], &list()).await
    };
    for n in 0..30 {
        assert_eq!(guess(n).await.status, 401);
    }
    let answer = guess(30).await;
    assert!(refusal(&answer, 429).contains("wrong tokens"));
    assert!((1..=2).contains(&retry_after(&answer)), "{}", answer.head);
    assert!(answer.head.contains("connection: close"), "{}", answer.head);
    assert_eq!(refused(&metrics, "mcp", "guessing"), 1);
    // Others at the same address.
    assert_eq!(server.send("POST", "/mcp", &[DEFAULT], &list()).await.status, 200);
    assert_eq!(server.send("POST", "/mcp", &[], &list()).await.status, 401);
}

#[tokio::test]
async fn probes_are_answered_although_every_connection_is_taken() {
    let metrics = Metrics::default();
    let short_head = Duration::from_millis(200);
    let limits = Limits { connections: 1, reserve: 1, short_head, ..Limits::default() };
    let setup = Setup { limits, metrics: metrics.clone(), ..Setup::default() };
    let server = setup.start(herald().await).await;
    let first = server.open("GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").await;
    first.peek(&mut [0]).await.unwrap();

    assert_eq!(server.send("GET", "/healthz", &[], "").await.body, "ok");
    assert_eq!(
        server.send("GET", "/readyz", &[("connection", "keep-alive")], "").await.status,
        200
    );
    let answer = server.send("POST", "/mcp", &[], &list()).await;
    assert_eq!((answer.status, retry_after(&answer)), (503, 2), "{}", answer.head);
    assert!(answer.json()["error"].is_string());
    assert_eq!(refused(&metrics, "mcp", "full"), 1);
    // Whoever says nothing here does not hold it for long.
    let silent = server.open("").await;
    assert_eq!(server.send("GET", "/healthz", &[], "").await.body, "ok");
    assert_eq!(end(silent).await, "");

    drop(first);
    let free = async { while server.send("POST", "/mcp", &[], &list()).await.status != 200 {} };
    timeout(PATIENCE, free).await.expect("the place is not free again");
}

/// Checks that take until they are told to end.
#[derive(Default)]
struct Slow {
    runs: AtomicUsize,
    end: Notify,
}

#[async_trait]
impl Readiness for Arc<Slow> {
    async fn checks(&self) -> BTreeMap<String, Check> {
        self.runs.fetch_add(1, Ordering::Relaxed);
        self.end.notified().await;
        BTreeMap::new()
    }
}

#[tokio::test]
async fn however_many_ask_whether_it_is_ready_the_store_is_asked_once() {
    let slow = Arc::new(Slow::default());
    let routes = router(Router::new(), Arc::new(Arc::clone(&slow)), CancellationToken::new());
    let ask = || {
        let request = http::Request::get("/readyz").body(axum::body::Body::empty()).unwrap();
        hyper_util::service::TowerToHyperService::new(routes.clone())
            .call(request)
            .map(|answer| answer.unwrap().status())
    };
    let asked = futures_util::future::join_all((0..100).map(|_| ask()));
    let end = async {
        while slow.runs.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        slow.end.notify_waiters();
    };
    let (answers, ()) = tokio::join!(asked, end);
    assert!(answers.iter().all(|status| *status == 200));
    assert_eq!(slow.runs.load(Ordering::Relaxed), 1);
    // Whoever comes later asks anew.
    slow.end.notify_one();
    assert_eq!(ask().await, 200);
    assert_eq!(slow.runs.load(Ordering::Relaxed), 2);
}
