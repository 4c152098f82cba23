//! The server over stdio: an in-memory pipe, one JSON message a line.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{
    AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, Lines, ReadHalf, WriteHalf,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::testing::{herald, hooked};
use super::{CALL_LIMIT, Herald, StdioError, of_receipt, serve_stdio};
use crate::model::{PlatformKind, Reason, Receipt, Status};

struct Client {
    lines: Lines<BufReader<ReadHalf<DuplexStream>>>,
    writer: WriteHalf<DuplexStream>,
    server: JoinHandle<Result<(), StdioError>>,
    stop: CancellationToken,
}

impl Client {
    fn connect(herald: Herald) -> Self {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve_stdio(herald, tokio::io::split(far), stop.clone()));
        let (reader, writer) = tokio::io::split(near);
        let lines = BufReader::new(reader).lines();
        Self { lines, writer, server, stop }
    }

    async fn initialized(herald: Herald) -> Self {
        let mut client = Self::connect(herald);
        let answer = client
            .ask(
                "initialize",
                json!({
                    "protocolVersion": "2025-11-25",
                    "capabilities": {},
                    "clientInfo": {"name": "test", "version": "1"},
                }),
            )
            .await;
        assert_eq!(answer["result"]["protocolVersion"], "2025-11-25");
        client.write(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
        client
    }

    async fn write(&mut self, message: &Value) {
        let line = format!("{message}\n");
        self.writer.write_all(line.as_bytes()).await.unwrap();
    }

    async fn ask(&mut self, method: &str, params: Value) -> Value {
        self.write(&json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params})).await;
        let line = self.lines.next_line().await.unwrap().unwrap();
        serde_json::from_str(&line).unwrap()
    }

    async fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let answer = self.ask("tools/call", json!({"name": tool, "arguments": arguments})).await;
        assert_eq!(answer.get("error"), None, "{answer}");
        answer["result"].clone()
    }

    /// Waits for the server to end.
    async fn ended(self) -> Result<(), StdioError> {
        let ended = tokio::time::timeout(Duration::from_secs(1), self.server).await;
        ended.expect("the server goes on").unwrap()
    }
}

fn says(result: &Value) -> &str {
    result["content"][0]["text"].as_str().unwrap()
}

#[tokio::test]
async fn an_unknown_tool_is_a_result_because_gateways_drop_errors() {
    let mut client = Client::initialized(herald().await).await;
    let result = client.call("no_such_tool", json!({})).await;
    assert_eq!(result["isError"], true);
    assert_eq!(says(&result), "Unknown tool: no_such_tool");
    // A tool of a platform that is not configured is unknown too.
    let result = client.call("send_message_to_discord", json!({})).await;
    assert_eq!(says(&result), "Unknown tool: send_message_to_discord");
}

#[tokio::test]
async fn bad_arguments_are_results() {
    let mut client = Client::initialized(herald().await).await;
    for (arguments, sentence) in [
        (json!({"channel_id": "C0ALERTS"}), "`text` is missing"),
        (json!({"channel_id": "C0ALERTS", "text": 1, "x": 1}), "`x` is not an argument"),
        (
            json!({"channel_id": "C0PRIVATE", "text": "hi"}),
            "posting to that Slack channel is not allowed",
        ),
        (
            json!({"channel_id": "C0ALERTS", "text": "x".repeat(1_000_000)}),
            "`text` has 1000000 characters",
        ),
    ] {
        let result = client.call("send_message_to_slack", arguments).await;
        assert_eq!(result["isError"], true);
        assert!(says(&result).starts_with(sentence), "{result}");
        assert_eq!(result.get("structuredContent"), None);
    }
}

#[tokio::test]
async fn a_panicking_tool_answers() {
    let mut client = Client::initialized(hooked(|| async { panic!("a test's panic") }).await).await;
    let result = client.call("list_channels", json!({})).await;
    assert_eq!(result["isError"], true);
    assert!(says(&result).starts_with("internal error"), "{result}");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_never_ends_is_answered_in_time() {
    let mut client = Client::initialized(hooked(std::future::pending).await).await;
    let started = tokio::time::Instant::now();
    let result = client.call("list_channels", json!({})).await;
    assert_eq!(result["isError"], true);
    assert!(says(&result).contains("does not send a message twice"), "{result}");
    assert!(started.elapsed() >= CALL_LIMIT && started.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn a_cancelled_call_stops_waiting() {
    let (started, mut has_started) = mpsc::channel(1);
    let herald = hooked(move || {
        let started = started.clone();
        async move {
            let (waiting, mut ends) = mpsc::channel::<()>(1);
            started.send(waiting).await.unwrap();
            let _ = ends.recv().await;
        }
    })
    .await;
    let mut client = Client::initialized(herald).await;
    let call = json!({"jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": {"name": "list_channels"}});
    client.write(&call).await;
    let waiting = has_started.recv().await.unwrap();
    let cancel =
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 9}});
    client.write(&cancel).await;
    let stopped = tokio::time::timeout(Duration::from_secs(2), waiting.closed()).await;
    stopped.expect("still waits");
}

#[tokio::test]
async fn the_modern_era_needs_no_handshake() {
    let mut client = Client::connect(herald().await);
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    });
    let answer = client.ask("server/discover", json!({"_meta": meta})).await;
    let versions = answer["result"]["supportedVersions"].as_array().unwrap();
    assert!(versions.contains(&json!("2026-07-28")), "{answer}");
    let answer = client.ask("tools/list", json!({"_meta": meta})).await;
    assert_eq!(answer["result"]["cacheScope"], "private");
}

#[tokio::test]
async fn the_end_of_input_is_a_clean_end() {
    for client in [Client::connect(herald().await), Client::initialized(herald().await).await] {
        let Client { lines, writer, server, stop } = client;
        let stream = lines.into_inner().into_inner();
        drop(stream.unsplit(writer));
        let ended = tokio::time::timeout(Duration::from_secs(1), server).await;
        ended.expect("the server goes on").unwrap().unwrap();
        drop(stop);
    }
}

#[tokio::test]
async fn a_stop_ends_it_at_once_while_input_is_open() {
    for client in [Client::connect(herald().await), Client::initialized(herald().await).await] {
        client.stop.cancel();
        client.ended().await.unwrap();
    }
}

#[test]
fn only_a_failed_receipt_is_an_error_and_it_leads_with_what_to_do() {
    let receipt = |status| Receipt {
        status,
        delivery_id: "d".into(),
        platform: PlatformKind::Slack,
        channel_id: "C0ALERTS".into(),
        message_ids: Vec::new(),
        permalink: None,
        deduplicated: false,
        retry_after_seconds: None,
        reason: Some(Reason::NotInChannel),
        hint: Some("invite the bot".into()),
        warnings: Vec::new(),
    };
    for status in [Status::Delivered, Status::Queued, Status::Unknown] {
        let result = of_receipt(&receipt(status));
        assert_eq!((result.is_error, result.content.len()), (Some(false), 1), "{status:?}");
    }
    let result = of_receipt(&receipt(Status::Failed));
    assert_eq!(result.is_error, Some(true));
    let texts: Vec<_> = result.content.iter().map(|c| c.as_text().unwrap().text.as_str()).collect();
    assert_eq!(texts[0], "invite the bot");
    assert!(texts[1].starts_with(r#"{"status":"failed","#), "{}", texts[1]);
    assert_eq!(result.structured_content, serde_json::from_str(texts[1]).unwrap());
    let result = of_receipt(&Receipt { hint: None, ..receipt(Status::Failed) });
    let text = &result.content[0].as_text().unwrap().text;
    assert_eq!(text, "the message was not delivered: not_in_channel");
}
