//! Accepted means it arrives: over kills, restarts and two processes on one data directory.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

use herald::model::{Action, Part};
use herald::store::sqlite::Sqlite;
use herald::store::{Filter, Outbox};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Child;

use crate::world::{Client, DISCORD, EVERY, SLACK, Workspace, free_port, herald, message, until};

/// A `herald serve` of its own process.
struct Process {
    child: Child,
    client: Client,
}

/// Settings without pauses between messages, and quick retries.
const FAST_FILE: &str = "
mcp: {requests_per_minute: 0, client_requests_at_once: 512}
slack: {pace: {interval_ms: 0, burst: 1}}
discord: {pace: {interval_ms: 0, burst: 1}}
telegram: {pace: {interval_ms: 0, burst: 1}}
delivery: {backoff_ms: 20, probe_ms: 200}
";

impl Process {
    async fn serve(workspace: &Workspace, data: &std::path::Path) -> Self {
        Self::serve_with(&workspace.env(), data).await
    }

    async fn serve_with(env: &BTreeMap<String, String>, data: &std::path::Path) -> Self {
        let port = free_port();
        let file = data.join("herald.yaml");
        std::fs::write(&file, FAST_FILE).unwrap();
        let child = herald(env)
            .arg("serve")
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .arg("--data-dir")
            .arg(data.join("data"))
            .arg("--config")
            .arg(file)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let client = Client::new(([127, 0, 0, 1], port).into());
        until("the server answers", || async {
            client.try_call("get_delivery", json!({ "delivery_id": "" })).await.is_ok()
        })
        .await;
        Self { child, client }
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().unwrap().to_string();
        let sent = std::process::Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(sent.success());
    }

    /// Submits `0..count` to every platform in turn, each once the one before it was accepted, and waits for no delivery.
    async fn submit(&self, count: usize, outbox: &Sqlite) {
        let newest = Filter { most: 1, ..Filter::default() };
        for n in 0..count {
            let (tool, arguments) = message(EVERY[n % EVERY.len()], &format!("{n}"), json!({}));
            let client = self.client.clone();
            tokio::spawn(async move { client.try_call(&tool, arguments).await });
            let accepted = async || {
                let steps = outbox.list(&newest).await.unwrap().pop().map(|found| found.steps);
                let action = steps.and_then(|steps| steps.into_iter().next()).map(|s| s.action);
                matches!(action, Some(Action::Send { part: Part::Text(text) }) if text.plain == n.to_string())
            };
            while !accepted().await {
                tokio::task::yield_now().await;
            }
        }
    }
}

/// The acceptance line: `kill -9` in the middle of 200 queued messages, restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_arrives_in_order_although_the_process_is_killed() {
    const COUNT: usize = 200;
    const KILLS: usize = 3;
    let workspace = Workspace::open().await;
    let data = tempfile::tempdir().unwrap();
    // Everything is accepted first: the platforms are slow to take the first message of each channel.
    for channel in EVERY {
        let (platform, id) = channel.split_once(':').unwrap();
        workspace
            .fault(json!({ "platform": platform, "channel": id, "kind": "slow", "millis": 5000 }));
    }
    let mut process = Process::serve(&workspace, data.path()).await;
    let outbox = Sqlite::open(&data.path().join("data")).await.unwrap();
    process.submit(COUNT, &outbox).await;
    let arrived = || EVERY.iter().map(|channel| workspace.texts(channel).len()).sum::<usize>();
    for kill in 1..=KILLS {
        until("some arrived", || async { arrived() >= COUNT * kill / (KILLS + 1) }).await;
        process.signal("-KILL");
        process.child.wait().await.unwrap();
        process = Process::serve(&workspace, data.path()).await;
    }
    let numbers = |channel: &str| -> Vec<usize> {
        workspace.texts(channel).iter().map(|text| text.parse().unwrap()).collect()
    };
    let distinct =
        |channel: &str| numbers(channel).iter().collect::<std::collections::BTreeSet<_>>().len();
    // A lane whose process was killed in the middle of a send waits for the lease, 30 s a time.
    let give_up = Instant::now() + Duration::from_secs(200);
    while EVERY.iter().map(|channel| distinct(channel)).sum::<usize>() < COUNT {
        assert!(Instant::now() < give_up, "lost: {:?}", EVERY.map(distinct));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for (n, channel) in EVERY.iter().enumerate() {
        let numbers = numbers(channel);
        let mut first_seen: Vec<usize> = Vec::new();
        for number in &numbers {
            if !first_seen.contains(number) {
                first_seen.push(*number);
            }
        }
        let expected: Vec<usize> = (n..COUNT).step_by(EVERY.len()).collect();
        assert_eq!(first_seen, expected, "{channel} is out of order");
        let duplicates = numbers.len() - first_seen.len();
        // One request per channel was under way at each kill. Discord recognises its repetition.
        let most = if channel.starts_with("discord") { 0 } else { KILLS };
        assert!(duplicates <= most, "{channel}: {duplicates} duplicates after {KILLS} kills");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_in_the_middle_of_a_send_finishes_it_and_keeps_the_rest() {
    let workspace = Workspace::open().await;
    let data = tempfile::tempdir().unwrap();
    workspace.fault(json!({ "platform": "slack", "kind": "slow", "millis": 800 }));
    let mut process = Process::serve(&workspace, data.path()).await;
    let client = process.client.clone();
    let first = tokio::spawn(async move { client.send(SLACK, "first").await });
    until("the send is under way", || async { !workspace.sends(SLACK).is_empty() }).await;
    process.signal("-TERM");
    // The caller that waits still hears how it went.
    assert_eq!(first.await.unwrap().content["status"], "delivered");
    let ended = tokio::time::timeout(Duration::from_secs(10), process.child.wait()).await;
    assert!(ended.unwrap().unwrap().success());
    assert_eq!(workspace.texts(SLACK), ["first"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_queued_at_sigterm_is_delivered_by_the_next_process() {
    let workspace = Workspace::open().await;
    let data = tempfile::tempdir().unwrap();
    workspace.fault(json!({ "platform": "slack", "kind": "rate_limit", "retry_after": 25.0, "channel": "C0ALERTS" }));
    let mut process = Process::serve(&workspace, data.path()).await;
    let queued = process.client.send(SLACK, "for later").await;
    assert_eq!(queued.content["status"], "queued", "{queued:?}");
    let started = Instant::now();
    process.signal("-TERM");
    assert!(process.child.wait().await.unwrap().success());
    assert!(started.elapsed() < Duration::from_secs(10), "nothing was in flight");
    assert!(workspace.texts(SLACK).is_empty());
    let _process = Process::serve(&workspace, data.path()).await;
    until("it arrives", || async { workspace.texts(SLACK) == ["for later"] }).await;
    let sends = workspace.sends(SLACK);
    assert!(sends[1].received_at.0 - sends[0].received_at.0 >= 25_000, "before its time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_share_a_data_directory() {
    let workspace = Workspace::open().await;
    let data = tempfile::tempdir().unwrap();
    let (a, b) = tokio::join!(
        Process::serve(&workspace, data.path()),
        Process::serve(&workspace, data.path())
    );
    let calls = (0..60).map(|n| {
        let client = if n % 2 == 0 { a.client.clone() } else { b.client.clone() };
        async move { client.send(EVERY[n % 3], &format!("{n}")).await.content["status"].clone() }
    });
    let answers = futures_util::future::join_all(calls).await;
    assert!(answers.iter().all(|status| status == "delivered"), "{answers:?}");
    let mut seen: Vec<usize> =
        EVERY.iter().flat_map(|c| workspace.texts(c)).map(|text| text.parse().unwrap()).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..60).collect::<Vec<_>>());
    let extra = json!({ "idempotency_key": "one" });
    let first = a.client.send_with(SLACK, "once", extra.clone()).await;
    let again = b.client.send_with(SLACK, "once", extra).await;
    assert_eq!(first.content["delivery_id"], again.content["delivery_id"]);
    assert_eq!(again.content["deduplicated"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_without_a_platform_leaves_its_messages_to_those_that_have_it() {
    let workspace = Workspace::open().await;
    let data = tempfile::tempdir().unwrap();
    let mut without = workspace.env();
    without.remove("DISCORD_BOT_TOKEN");
    let (with, _without) = tokio::join!(
        Process::serve(&workspace, data.path()),
        Process::serve_with(&without, data.path())
    );
    let sends = (0..20).map(|n| {
        let client = with.client.clone();
        async move { client.send(DISCORD, &format!("{n}")).await.content["status"].clone() }
    });
    let answers = futures_util::future::join_all(sends).await;
    assert!(answers.iter().all(|status| status == "delivered"), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_does_not_wait_for_a_platform_that_hangs_longer_than_a_request_may() {
    let workspace = Workspace::open().await;
    let data = tempfile::tempdir().unwrap();
    let mut process = Process::serve(&workspace, data.path()).await;
    workspace
        .fault(json!({ "platform": "slack", "channel": "C0ALERTS", "kind": "hang", "times": 0 }));
    let calls = ["first", "second"].map(|text| {
        let client = process.client.clone();
        tokio::spawn(async move { client.send(SLACK, text).await })
    });
    until("the send is under way", || async { !workspace.sends(SLACK).is_empty() }).await;
    let started = Instant::now();
    process.signal("-TERM");
    for call in calls {
        assert_eq!(call.await.unwrap().content["status"], "queued");
    }
    assert!(process.child.wait().await.unwrap().success());
    assert!(started.elapsed() < Duration::from_secs(20), "Kubernetes kills at 30 s");
    assert_eq!(workspace.sends(SLACK).len(), 1, "nothing new was started");
}

fn stdio(env: &BTreeMap<String, String>) -> Child {
    let mut command = herald(env);
    command.arg("stdio").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.spawn().unwrap()
}

const HELLO: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"test","version":"0"}}}
{"jsonrpc":"2.0","method":"notifications/initialized"}
"#;

#[tokio::test]
async fn stdio_sends_and_ends_when_its_client_leaves() {
    let workspace = Workspace::open().await;
    let mut child = stdio(&workspace.env());
    let mut stdin = child.stdin.take().unwrap();
    let call = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": { "name": "send_message_to_slack", "arguments": { "channel_id": "alerts", "text": "by pipe" } },
    });
    stdin.write_all(format!("{HELLO}{call}\n").as_bytes()).await.unwrap();
    until("it arrives", || async { workspace.texts(SLACK) == ["by pipe"] }).await;
    drop(stdin);
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).await.unwrap();
    let status = tokio::time::timeout(Duration::from_secs(5), child.wait()).await.unwrap().unwrap();
    assert!(status.success());
    assert!(out.contains("\"delivered\""), "{out}");
    for line in out.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
}

#[tokio::test]
async fn sigterm_ends_stdio_although_a_platform_hangs() {
    let workspace = Workspace::open().await;
    workspace.fault(json!({ "platform": "slack", "channel": "C0ALERTS", "kind": "hang" }));
    let mut child = stdio(&workspace.env());
    let mut stdin = child.stdin.take().unwrap();
    let call = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": { "name": "send_message_to_slack", "arguments": { "channel_id": "alerts", "text": "x" } },
    });
    stdin.write_all(format!("{HELLO}{call}\n").as_bytes()).await.unwrap();
    until("the send is under way", || async { !workspace.sends(SLACK).is_empty() }).await;
    let started = Instant::now();
    let pid = child.id().unwrap().to_string();
    std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap();
    tokio::time::timeout(Duration::from_secs(10), child.wait()).await.unwrap().unwrap();
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    drop(stdin);
}

#[tokio::test]
async fn sigterm_ends_stdio_at_once_although_stdin_is_open() {
    let workspace = Workspace::open().await;
    let mut child = stdio(&workspace.env());
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(HELLO.as_bytes()).await.unwrap();
    let mut answer = [0; 16];
    child.stdout.as_mut().unwrap().read_exact(&mut answer).await.unwrap();
    let started = Instant::now();
    let pid = child.id().unwrap().to_string();
    std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap();
    let status =
        tokio::time::timeout(Duration::from_secs(10), child.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{status}");
    assert!(started.elapsed() < Duration::from_secs(5));
    drop(stdin);
}
