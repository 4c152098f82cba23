use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::platform::scripted::{CANARY, assert_no_leak};

/// Production's limits, which no test should reach.
fn patient() -> Settings {
    Settings { proxy_from_environment: false, ..Settings::default() }
}

/// Limits for what never answers.
fn hasty() -> Settings {
    Settings {
        connect_timeout: Duration::from_millis(200),
        total_timeout: Duration::from_millis(600),
        ..patient()
    }
}

/// A server that gives every connection, with its number, to `handle`.
async fn server<F, Fut>(handle: F) -> (Url, Arc<AtomicUsize>)
where
    F: Fn(TcpStream, usize) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = connections.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(handle(stream, counter.fetch_add(1, Ordering::SeqCst)));
        }
    });
    (url.parse().unwrap(), connections)
}

/// Reads one request, whose body is `{}`.
async fn read(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n{}") {
        let mut chunk = [0; 1024];
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => break,
            Ok(n) => request.extend_from_slice(&chunk[..n]),
        }
    }
    String::from_utf8(request).unwrap()
}

async fn ask_with(client: &HttpClient, base: &Url) -> Result<Answer, TransportError> {
    let bot = format!("bot{CANARY}");
    let url = endpoint(base, [bot.as_str(), "sendMessage"]);
    let request = client.request(Method::POST, url).body("{}");
    let result = client.send(request).await;
    match &result {
        Ok(answer) => assert!(!format!("{answer:?}").contains("canary")),
        Err(error) => assert_no_leak(error),
    }
    result
}

async fn ask(base: &Url) -> Result<Answer, TransportError> {
    ask_with(&HttpClient::new(&patient()).unwrap(), base).await
}

/// Asks whom will never answer.
async fn ask_in_haste(base: &Url) -> TransportError {
    let client = HttpClient::new(&hasty()).unwrap();
    ask_with(&client, base).await.unwrap_err()
}

/// Answers one request with these bytes and closes.
async fn answers(bytes: impl Into<Vec<u8>>) -> Url {
    let bytes = bytes.into();
    let (url, _) = server(move |mut stream, _| {
        let bytes = bytes.clone();
        async move {
            read(&mut stream).await;
            let _ = stream.write_all(&bytes).await;
        }
    })
    .await;
    url
}

fn https(url: &Url) -> Url {
    url.as_str().replace("http:", "https:").parse().unwrap()
}

#[tokio::test]
async fn a_refused_connection_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = ask(&url.parse().unwrap()).await.unwrap_err();
    assert_eq!(error, TransportError::Unreachable("the connection was refused"));
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_unreachable() {
    let url = "http://no-such-host.invalid".parse().unwrap();
    let error = ask_in_haste(&url).await;
    assert!(matches!(error, TransportError::Unreachable(_)), "{error:?}");
}

#[tokio::test]
async fn a_failed_tls_handshake_is_unreachable() {
    let (url, _) = server(|mut stream, _| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        let _ = stream.read(&mut [0; 1024]).await;
    })
    .await;
    let error = ask(&https(&url)).await.unwrap_err();
    assert_eq!(
        error,
        TransportError::Unreachable("its TLS certificate or handshake was not acceptable")
    );
}

#[tokio::test]
async fn a_handshake_that_hangs_is_unreachable_within_the_connect_timeout() {
    let (url, _) = server(|stream, _| async move {
        let _stream = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let error = ask_in_haste(&https(&url)).await;
    assert_eq!(error, TransportError::Unreachable("no connection could be made in time"));
}

#[tokio::test]
async fn a_server_that_reads_and_hangs_times_out_ambiguously() {
    let (url, _) = server(|mut stream, _| async move {
        read(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    assert_eq!(ask_in_haste(&url).await, TransportError::Timeout);
}

#[tokio::test]
async fn a_body_that_hangs_times_out_ambiguously() {
    let (url, _) = server(|mut stream, _| async move {
        read(&mut stream).await;
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n12345";
        let _ = stream.write_all(head).await;
        std::future::pending::<()>().await;
    })
    .await;
    assert_eq!(ask_in_haste(&url).await, TransportError::Timeout);
}

#[tokio::test]
async fn a_connection_dropped_after_the_request_was_read_is_ambiguous() {
    let (url, _) = server(|mut stream, _| async move {
        read(&mut stream).await;
    })
    .await;
    assert_eq!(ask(&url).await.unwrap_err(), TransportError::ConnectionLost);
}

/// The client cannot know how much of what it wrote was read, so this is no better than the case above.
#[tokio::test]
async fn a_connection_dropped_before_the_request_was_read_is_ambiguous_too() {
    let (url, _) = server(|stream, _| async move { drop(stream) }).await;
    assert_eq!(ask(&url).await.unwrap_err(), TransportError::ConnectionLost);
}

#[tokio::test]
async fn an_answer_cut_short_is_lost_when_it_said_success_and_enough_when_it_said_failure() {
    let url = answers("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n12345").await;
    assert_eq!(ask(&url).await.unwrap_err(), TransportError::ConnectionLost);
    let url = answers("HTTP/1.1 403 Forbidden\r\ncontent-length: 10\r\n\r\n12345").await;
    assert_eq!(ask(&url).await.unwrap().status, StatusCode::FORBIDDEN);
}

/// The server closes an idle connection: nothing was written on it, so the request goes out on a new one, once.
#[tokio::test]
async fn an_idle_connection_that_was_closed_costs_nothing() {
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let closed = Arc::new(tokio::sync::Notify::new());
    let notify = closed.clone();
    let (url, connections) = server(move |mut stream, _| {
        let notify = notify.clone();
        async move {
            read(&mut stream).await;
            stream.write_all(OK).await.unwrap();
            drop(stream);
            notify.notify_one();
        }
    })
    .await;
    let client = HttpClient::new(&patient()).unwrap();
    for _ in 0..5 {
        assert_eq!(ask_with(&client, &url).await.unwrap().body, b"ok");
        closed.notified().await;
    }
    assert_eq!(connections.load(Ordering::SeqCst), 5);
}

#[tokio::test]
async fn a_reused_connection_that_breaks_after_the_request_is_ambiguous_and_not_repeated() {
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let (url, connections) = server(|mut stream, _| async move {
        read(&mut stream).await;
        stream.write_all(OK).await.unwrap();
        read(&mut stream).await;
    })
    .await;
    let client = HttpClient::new(&patient()).unwrap();
    assert!(ask_with(&client, &url).await.is_ok());
    assert_eq!(ask_with(&client, &url).await.unwrap_err(), TransportError::ConnectionLost);
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_not_followed() {
    let (elsewhere, visits) = server(|_, _| async {}).await;
    let url = answers(format!(
        "HTTP/1.1 307 Temporary Redirect\r\nlocation: {elsewhere}\r\ncontent-length: 0\r\n\r\n"
    ))
    .await;
    assert_eq!(ask(&url).await.unwrap().status.as_u16(), 307);
    assert_eq!(visits.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_long_answer_is_read_up_to_the_limit() {
    let mut answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2097152\r\n\r\n".to_vec();
    answer.resize(answer.len() + 2 * 1024 * 1024, b'x');
    let url = answers(answer).await;
    assert_eq!(ask(&url).await.unwrap().body.len(), 1024 * 1024);
}

#[tokio::test]
async fn html_is_an_answer_but_no_json() {
    let url = answers("HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n<html></html>").await;
    let answer = ask(&url).await.unwrap();
    assert!(answer.json::<serde_json::Value>().is_none());
}

#[tokio::test]
async fn it_says_who_it_is() {
    let (seen, mut told) = tokio::sync::mpsc::channel(1);
    let (url, _) = server(move |mut stream, _| {
        let seen = seen.clone();
        async move {
            seen.send(read(&mut stream).await).await.unwrap();
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
        }
    })
    .await;
    ask(&url).await.unwrap();
    let request = told.recv().await.unwrap();
    assert!(request.starts_with("POST /bot4242:canary"), "{request}");
    assert!(request.contains(&format!("user-agent: {USER_AGENT}\r\n")), "{request}");
}

#[tokio::test]
async fn a_token_that_fits_no_header_is_named_as_such() {
    let client = HttpClient::new(&patient()).unwrap();
    let request = client.request(Method::POST, "http://127.0.0.1:9".parse().unwrap());
    let request = authorization(request, "Bearer", &format!("{CANARY}\n{CANARY}"));
    let error = client.send(request).await.unwrap_err();
    assert_no_leak(&error);
    assert_eq!(error, TransportError::Malformed);
}

#[test]
fn retry_after_is_read_in_full_whole_or_not() {
    let answer = |value: &str| Answer {
        status: StatusCode::TOO_MANY_REQUESTS,
        headers: [(header::RETRY_AFTER, value.parse().unwrap())].into_iter().collect(),
        body: Vec::new(),
    };
    let seconds = |value| answer(value).retry_after().map(|d| d.as_secs_f64());
    assert_eq!(seconds("86400"), Some(86400.0));
    assert_eq!(seconds("0.25"), Some(0.25));
    for nonsense in ["-1", "soon", "NaN", "inf", ""] {
        assert_eq!(seconds(nonsense), None, "{nonsense}");
    }
}

#[test]
fn an_endpoint_is_below_its_base_and_cannot_climb_out() {
    for (base, url) in [
        ("https://slack.com/api", "https://slack.com/api/a%2Fb/c"),
        ("https://slack.com/api/", "https://slack.com/api/a%2Fb/c"),
        ("http://127.0.0.1:1", "http://127.0.0.1:1/a%2Fb/c"),
    ] {
        let base = base.parse().unwrap();
        assert_eq!(endpoint(&base, ["a/b", "..", "c"]).as_str(), url);
    }
}

#[test]
fn a_ca_bundle_that_is_none_is_named() {
    let bundle = |path: &Path| {
        let error = HttpClient::new(&Settings { ca_bundle: Some(path.to_owned()), ..patient() });
        error.unwrap_err().to_string()
    };
    let folder = tempfile::tempdir().unwrap();
    let missing = bundle(&folder.path().join("ca.pem"));
    assert!(missing.contains("ca.pem cannot be read"), "{missing}");
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "no certificate").unwrap();
    assert!(bundle(&empty).contains("holds no PEM certificate"));
}

/// The environment belongs to a process, so this one is run anew with the proxy in it.
#[tokio::test]
async fn the_environments_proxy_is_used() {
    let (proxy, connections) = server(|mut stream, _| async move {
        let mut request = [0; 512];
        let _ = stream.read(&mut request).await;
        assert!(request.starts_with(b"CONNECT api.example:443 "));
        let refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n";
        let _ = stream.write_all(refusal).await;
    })
    .await;
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child
        .args(["--exact", "platform::http::tests::asks_through_the_proxy"])
        .args(["--ignored", "--nocapture"])
        .env("HTTPS_PROXY", proxy.as_str())
        .env_remove("NO_PROXY")
        .env_remove("no_proxy");
    let child = tokio::task::spawn_blocking(move || child.output().unwrap()).await.unwrap();
    let output = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{output}");
    assert!(output.contains("1 passed"), "{output}");
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
#[ignore = "run by the_environments_proxy_is_used"]
async fn asks_through_the_proxy() {
    let client = HttpClient::new(&Settings { proxy_from_environment: true, ..patient() }).unwrap();
    let url = "https://api.example".parse().unwrap();
    assert_eq!(
        ask_with(&client, &url).await.unwrap_err(),
        TransportError::Unreachable("the proxy did not let the connection through")
    );
}
