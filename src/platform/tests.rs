//! What must hold for every platform alike, whatever its wire format.

mod links;
mod mentions;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

use super::http::{HttpClient, Settings};
use super::*;
use crate::model::{Action, Disposition, Reason};
use crate::platform::scripted::{self, CANARY, hi, send, step};

/// Every platform at this address, with a channel of each, and with production's patience.
fn platforms(url: &str) -> Vec<(Arc<dyn Platform>, &'static str)> {
    platforms_within(url, Settings::default().total_timeout)
}

fn platforms_within(url: &str, total_timeout: Duration) -> Vec<(Arc<dyn Platform>, &'static str)> {
    let http = HttpClient::new(&Settings {
        total_timeout,
        proxy_from_environment: false,
        ..Settings::default()
    })
    .unwrap();
    let api_url: Option<Url> = Some(url.parse().unwrap());
    let token = || Some(CANARY.into());
    let slack =
        slack::Config { bot_token: token(), api_url: api_url.clone(), ..Default::default() };
    let discord =
        discord::Config { bot_token: token(), api_url: api_url.clone(), ..Default::default() };
    let telegram = telegram::Config { bot_token: token(), api_url, ..Default::default() };
    let channels = ["slack:C0ALERTS", "discord:100000000000000001", "telegram:-1001"];
    let platforms = configured(&slack, &discord, &telegram, &http);
    assert_eq!(platforms.iter().map(|p| p.kind()).collect::<Vec<_>>(), PlatformKind::ALL);
    platforms.into_iter().zip(channels).collect()
}

/// A server that gives every connection to `handle`.
async fn server<F, Fut>(handle: F) -> String
where
    F: Fn(TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(handle(stream));
        }
    });
    url
}

async fn read(stream: &mut TcpStream) {
    let mut request = [0; 16 * 1024];
    let _ = stream.read(&mut request).await;
}

async fn answers(bytes: impl Into<Vec<u8>>) -> String {
    let bytes = bytes.into();
    server(move |mut stream| {
        let bytes = bytes.clone();
        async move {
            read(&mut stream).await;
            let _ = stream.write_all(&bytes).await;
        }
    })
    .await
}

/// The failure of a send on every platform at this address.
async fn failures(platforms: Vec<(Arc<dyn Platform>, &str)>) -> Vec<Failure> {
    let mut failures = Vec::new();
    for (platform, channel) in platforms {
        let route = scripted::route(channel);
        let (place, step) = (Placement::default(), send());
        let result = platform.deliver(&route, &place, &step).await;
        failures.push(scripted::failure(platform.kind(), result));
    }
    failures
}

async fn all_fail(platforms: Vec<(Arc<dyn Platform>, &str)>, reason: Reason, ambiguous: bool) {
    for failure in failures(platforms).await {
        assert_eq!(failure.reason, reason, "{failure:?}");
        assert_eq!(failure.disposition == Disposition::Ambiguous, ambiguous, "{failure:?}");
    }
}

#[tokio::test]
async fn a_platform_that_reads_and_hangs_may_have_sent() {
    let url = server(|mut stream| async move {
        read(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    all_fail(platforms_within(&url, Duration::from_millis(500)), Reason::Timeout, true).await;
}

#[tokio::test]
async fn a_platform_that_reads_and_drops_may_have_sent() {
    let url = server(|mut stream| async move { read(&mut stream).await }).await;
    all_fail(platforms(&url), Reason::ConnectionLost, true).await;
}

#[tokio::test]
async fn a_platform_that_is_not_there_has_sent_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    for failure in failures(platforms(&url)).await {
        assert_eq!(failure.reason, Reason::Unreachable);
        let retry = matches!(failure.disposition, Disposition::Retry { after: None, .. });
        assert!(retry, "{failure:?}");
    }
}

#[tokio::test]
async fn two_mebibytes_of_success_prove_nothing() {
    let mut bytes =
        b"HTTP/1.1 200 OK\r\ncontent-length: 2097152\r\n\r\n{\"ok\":true,\"x\":\"".to_vec();
    bytes.resize(bytes.len() + 2 * 1024 * 1024, b'x');
    let url = answers(bytes).await;
    all_fail(platforms(&url), Reason::InvalidAnswer, true).await;
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_final() {
    let url = answers(
        "HTTP/1.1 308 Permanent Redirect\r\nlocation: http://127.0.0.1:9/login\r\ncontent-length: 0\r\n\r\n",
    )
    .await;
    all_fail(platforms(&url), Reason::InvalidAnswer, false).await;
}

#[tokio::test]
async fn a_hint_names_the_platform_and_the_setting() {
    let url = answers("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>").await;
    for (failure, kind) in failures(platforms(&url)).await.iter().zip(PlatformKind::ALL) {
        let setting = format!("{}_API_URL", kind.as_str().to_uppercase());
        assert!(failure.hint.contains(kind.title()), "{failure}");
        assert!(failure.hint.contains(&setting), "{failure}");
    }
}

/// What is asked about channels and the bot itself leaks as little as a send.
#[tokio::test]
async fn no_other_request_leaks_either() {
    let page = format!(
        "{0}\r\ncontent-length: {1}\r\n\r\n{2}",
        "HTTP/1.1 500 X",
        scripted::hostile().len(),
        scripted::hostile()
    );
    for url in [answers(page).await, answers("").await, "http://127.0.0.1:9".to_owned()] {
        for (platform, channel) in platforms(&url) {
            let kind = platform.kind();
            let channel: ChannelId = channel.parse().unwrap();
            scripted::failure(kind, platform.describe(&channel).await);
            scripted::failure(kind, platform.list().await);
            scripted::failure(kind, platform.probe().await);
            let route = scripted::route(&channel.to_string());
            let message_id = "1".to_owned();
            for action in [
                Action::Edit { message_id: message_id.clone(), part: hi(), thread: None },
                Action::Delete { message_id, thread: None },
                Action::OpenThread { name: "x".to_owned() },
            ] {
                let first = Placement { reply_to: Some("1".to_owned()), ..Placement::default() };
                let result = platform.deliver(&route, &first, &step(action)).await;
                scripted::failure(kind, result);
            }
        }
    }
}

#[tokio::test]
async fn threads_are_opened_only_where_they_have_to_be() {
    for (platform, channel) in platforms("http://127.0.0.1:9") {
        let open = step(Action::OpenThread { name: "x".to_owned() });
        let first = Placement { reply_to: Some("1".to_owned()), ..Placement::default() };
        let result = platform.deliver(&scripted::route(channel), &first, &open).await;
        let failure = scripted::failure(platform.kind(), result);
        assert_eq!(failure.reason == Reason::Internal, !platform.capabilities().opens_threads);
    }
}

#[tokio::test]
async fn only_what_has_a_token_is_configured() {
    let http = scripted::client();
    let none = configured(&Default::default(), &Default::default(), &Default::default(), &http);
    assert!(none.is_empty());
}
