//! Canary tokens: whatever goes wrong, at the loudest log level, no token shows anywhere.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use herald::app::open_store;
use herald::clock::SystemClock;
use herald::sandbox::{Speech, Tokens, Upload};
use herald::store::trail::Page;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::collector::Collector;
use crate::talking::{PLACES, Place, Talk};
use crate::world::{Client, EVERY, SLACK, Workspace, files, free_port, herald, until};

/// Parts of the tokens that nothing else contains.
const CANARIES: [&str; 12] = [
    "canarySLACK1",
    "canaryDISCORD2",
    "canaryTELEGRAM3",
    "canaryHERALD4",
    "canarySIGNING5",
    "canaryAGENT6",
    "canaryOTLP7",
    "canaryCLIENT8",
    "canaryWRONG9",
    "canaryJWT10",
    "canaryHASH12",
    "canaryDATABASE13",
];
/// Part of a token that an agent writes into a message. Only the log of the MCP library shows what is called, at a level
/// that Herald warns about.
const WRITTEN: &str = "canaryREDACT11";
/// Whoever has one of these may answer somebody's command or press. A response URL is stored until it is used, on purpose:
/// it may be in the database and nowhere else.
const ANSWERS: [&str; 2] = ["/slack/response/", "sandbox-interaction-"];

pub fn tokens() -> Tokens {
    Tokens {
        slack: "xoxb-canarySLACK1-0123456789".to_owned(),
        discord: "canaryDISCORD2.abcdef.0123456789".to_owned(),
        telegram: "123456789:canaryTELEGRAM3_0123456789abcdefghij".to_owned(),
    }
}

fn search(place: &str, bytes: &[u8]) {
    search_for(&CANARIES, place, bytes);
}

pub fn search_for(canaries: &[&str], place: &str, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for canary in canaries {
        if let Some(at) = text.find(canary) {
            let around: String = text
                .get(..at)
                .unwrap()
                .chars()
                .rev()
                .take(200)
                .collect::<Vec<_>>()
                .into_iter()
                .rev()
                .collect();
            panic!("{canary} shows in {place}: …{around}{canary}");
        }
    }
}

const FAULTS: [&str; 10] = [
    "rate_limit",
    "server_error",
    "bad_gateway_html",
    "html_ok",
    "hang",
    "drop_before",
    "drop_after",
    "revoked_token",
    "archived",
    "blocked",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_token_shows_in_any_output_file_or_answer() {
    let workspace = Workspace::with_tokens(tokens()).await;
    let data = tempfile::tempdir().unwrap();
    let mut env: BTreeMap<String, String> = workspace.env();
    env.insert("HERALD_TOKEN".to_owned(), "canaryHERALD4-0123456789".to_owned());
    env.insert("HERALD_LOG".to_owned(), "trace".to_owned());
    env.insert("RUST_BACKTRACE".to_owned(), "full".to_owned());
    let metrics = format!("127.0.0.1:{}", free_port());
    env.insert("HERALD_METRICS_LISTEN".to_owned(), metrics.clone());
    let collector = traced(&mut env).await;
    let port = free_port();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), named("sha256:", &hash(NAMED))).unwrap();
    let mut child = herald(&env)
        .arg("--config")
        .arg(file.path())
        .args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--log-format", "json"])
        .arg("--data-dir")
        .arg(data.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let out = tokio::spawn(all_of(child.stdout.take().unwrap()));
    let log = tokio::spawn(all_of(child.stderr.take().unwrap()));
    let client = Client::new(([127, 0, 0, 1], port).into()).with_token("canaryHERALD4-0123456789");
    let up = || async { client.try_call("list_channels", json!({})).await.is_ok() };
    until("the server answers", up).await;

    let mut answers = Vec::new();
    let mut calls = Vec::new();
    for (n, kind) in FAULTS.iter().enumerate() {
        for channel in EVERY {
            let platform = channel.split_once(':').unwrap().0;
            workspace.fault(json!({ "platform": platform, "kind": kind, "retry_after": 0.1 }));
            let client = client.clone();
            let text = format!("message {n} of the leak test");
            calls.push(tokio::spawn(async move { client.send(channel, &text).await }));
        }
    }
    let stranger = Client::new(([127, 0, 0, 1], port).into());
    for wrong in ["", "canaryWRONG9-0123456789", JWT] {
        let stranger = stranger.clone().with_token(wrong);
        assert!(stranger.try_call("list_channels", json!({})).await.is_err(), "{wrong}: no answer");
    }
    let agent = stranger.with_token(NAMED);
    for call in calls {
        answers.push(format!("{:?}", call.await.unwrap()));
    }
    answers.push(format!("{:?}", client.call("list_channels", json!({})).await));
    answers.push(format!("{:?}", agent.call("list_channels", json!({})).await));
    // What an agent writes: one of Herald's own secrets, its own token, and what looks like somebody else's.
    let github = "ghp_canaryREDACT11q7Xw2Rk9Lm4Zt6Bv8NcY3s";
    for (secret, blocked) in [("canaryHERALD4-0123456789", true), (github, false)] {
        for channel in EVERY {
            let answer = client.send(channel, &format!("The token is {secret}.")).await;
            assert_eq!(answer.failed, blocked, "{answer:?}");
            answers.push(format!("{answer:?}"));
        }
    }
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let base = format!("http://127.0.0.1:{port}");
    let routes =
        ["mcp", "healthz", "readyz", "slack/events", "nothing"].map(|it| format!("{base}/{it}"));
    let known = format!("{base}/.well-known/oauth-protected-resource");
    let page = async |url: &str| {
        let answer = http.get(url).bearer_auth("canaryWRONG9-0123456789").send().await.unwrap();
        format!("{:?} {}", answer.headers().clone(), answer.text().await.unwrap())
    };
    for url in routes.iter().chain([&known, &format!("http://{metrics}/metrics")]) {
        answers.push(page(url).await);
    }
    // Somebody writes a token where its hash belongs, while Herald runs.
    std::fs::write(file.path(), named("", "canaryHASH12-0123456789")).unwrap();
    until("the broken file is noticed", async || {
        page(&format!("{base}/readyz")).await.contains("the old rules go on")
    })
    .await;
    answers.push(page(&format!("{base}/readyz")).await);
    search("an answer", answers.join("\n").as_bytes());
    search_for(&[WRITTEN], "an answer", answers.join("\n").as_bytes());

    let pid = child.id().unwrap().to_string();
    std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap();
    tokio::time::timeout(Duration::from_secs(40), child.wait()).await.unwrap().unwrap();
    let log = log.await.unwrap();
    assert!(log.len() > 10_000, "trace level should say a lot");
    search("the log", &log);
    let text = String::from_utf8_lossy(&log);
    let ours: Vec<&str> = text.lines().filter(|it| !it.contains("\"target\":\"rmcp")).collect();
    assert!(ours.len() > 10, "Herald itself says something, too");
    search_for(&[WRITTEN], "the log", ours.join("\n").as_bytes());
    search("stdout", &out.await.unwrap());
    let everywhere: Vec<&str> = CANARIES.into_iter().chain([WRITTEN]).collect();
    search_traces(&collector, &everywhere, "POST sendMessage", "of the leak test");
    let trail = trail(data.path()).await;
    for written in ["\"guard\"", "wrong_token", "rules_refused", "github"] {
        assert!(trail.contains(written), "{written} is not in the audit trail");
    }
    search_for(&everywhere, "the audit trail", trail.as_bytes());
    for (path, bytes) in files(data.path()) {
        search_for(&everywhere, &path.display().to_string(), &bytes);
    }
}

/// A token of a client with a name, and one that no issuer gave anybody.
const NAMED: &str = "canaryCLIENT8-0123456789";
const JWT: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.canaryJWT10canaryJWT10";

fn hash(token: &str) -> String {
    format!("{:x}", Sha256::digest(token))
}

/// A file with one client.
fn named(prefix: &str, token: &str) -> String {
    format!("clients: {{k8s: {{tokens: ['{prefix}{token}'], policy: {{send: ['{SLACK}']}}}}}}")
}

/// Every row of the audit trail.
pub async fn trail(data: &Path) -> String {
    let store = open_store(None, Some(data), Arc::new(SystemClock)).await.unwrap();
    let mut all = String::new();
    for chain in store.trail.chains().await.unwrap() {
        for row in store.trail.rows(&chain.id, Page::After(0), 10_000).await.unwrap() {
            all.push_str(&row.line);
        }
    }
    store.outbox.close().await;
    all
}

/// A collector that traces go to, by a secret of its own.
async fn traced(env: &mut BTreeMap<String, String>) -> Collector {
    let collector = Collector::open().await;
    env.insert("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), collector.url.clone());
    let header = "authorization=Bearer%20canaryOTLP7-0123456789".to_owned();
    env.insert("OTEL_EXPORTER_OTLP_HEADERS".to_owned(), header);
    collector
}

/// Traces hold no token and no text, but `something`.
fn search_traces(collector: &Collector, canaries: &[&str], something: &str, text: &str) {
    let traces = collector.everything();
    search_for(canaries, "a trace", &traces);
    let shown = String::from_utf8_lossy(&traces);
    assert!(shown.contains(something), "no trace shows {something}");
    assert!(!shown.contains(text), "a message's text shows in a trace");
    let asked = collector.header("authorization");
    assert!(asked.iter().all(|value| value == "Bearer canaryOTLP7-0123456789"), "{asked:?}");
}

pub async fn all_of(mut stream: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    bytes
}

/// What the bot is told and tells in one place: approvals, questions, files, and an agent and a platform that fail.
async fn converse(workspace: &Workspace, place: Place) {
    let mut talk = Talk::new(workspace, place);
    talk.says("approve two");
    talk.presses("alice", "Approve k8s_delete_pod").await;
    talk.presses("alice", "Reject k8s_scale").await;
    talk.sees("rejected by alice").await;
    talk.says("question");
    talk.presses("alice", "PostgreSQL").await;
    talk.sees("2 of 3").await;
    talk.presses("alice", "Done").await;
    talk.says("nothing else");
    talk.sees("Answered by").await;
    talk.says("file");
    until("the agent's file is there", async || {
        talk.shown().iter().any(|message| !message.files.is_empty())
    })
    .await;
    let platform = place.channel.split_once(':').unwrap().0;
    let notes = Upload {
        name: "notes.txt".to_owned(),
        mime: "text/plain".to_owned(),
        base64: "aGVsbG8=".to_owned(),
    };
    let speech = Speech {
        channel: place.channel.to_owned(),
        text: format!("{}look at this on {platform}", place.mention),
        files: vec![notes],
        ..Speech::default()
    };
    workspace.world.speak(&speech).unwrap();
    until("the agent has the file", async || {
        let requests = workspace.world.agent_requests();
        requests.iter().any(|request| !request.files.is_empty() && request.text.contains(platform))
    })
    .await;
    let faults = ["server_error", "bad_gateway_html", "html_ok", "drop_before", "drop_after"];
    for (n, kind) in faults.into_iter().enumerate() {
        workspace.fault(json!({ "platform": platform, "kind": kind }));
        talk.says(&format!("fault {n}"));
        talk.sees(&format!("You said: fault {n}")).await;
    }
    talk.says("fail");
    talk.sees("could not finish").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_of_the_bot_shows_in_any_log_page_or_command() {
    let workspace = Workspace::with_tokens(tokens()).await;
    let data = tempfile::tempdir().unwrap();
    let secret = "canarySIGNING5-0123456789";
    let mut env: BTreeMap<String, String> = workspace.env();
    assert!(env["SLACK_APP_TOKEN"].contains("canarySLACK1"));
    for (name, value) in [
        ("SLACK_SIGNING_SECRET", secret),
        ("KAGENT_A2A_TOKEN", "canaryAGENT6-0123456789"),
        ("HERALD_LOG", "trace"),
        ("RUST_BACKTRACE", "full"),
    ] {
        env.insert(name.to_owned(), value.to_owned());
    }
    let collector = traced(&mut env).await;
    let base = format!("http://127.0.0.1:{}", free_port());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "delivery: {backoff_ms: 20}").unwrap();
    let mut child = herald(&env)
        .arg("--config")
        .arg(file.path())
        .args(["bot", "--log-format", "json", "--listen", base.trim_start_matches("http://")])
        .arg("--data-dir")
        .arg(data.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let out = tokio::spawn(all_of(child.stdout.take().unwrap()));
    let log = tokio::spawn(all_of(child.stderr.take().unwrap()));
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let page = async |path: &str| {
        let answer = http.get(format!("{base}{path}")).send().await.ok()?;
        Some(format!("{:?} {}", answer.headers().clone(), answer.text().await.ok()?))
    };
    until("every listener is connected", async || {
        page("/readyz").await.is_some_and(|page| page.matches("\"connected\"").count() == 3)
    })
    .await;

    let [slack, discord, telegram] = PLACES;
    tokio::join!(
        converse(&workspace, slack),
        converse(&workspace, discord),
        converse(&workspace, telegram)
    );
    let authorised = workspace.world.agent_requests().into_iter();
    let tokens = authorised.filter_map(|it| it.headers.get("authorization").cloned());
    assert!(tokens.collect::<String>().contains("canaryAGENT6"), "the agent is told its token");
    // A slash command where the bot is no member is answered by its response URL; over HTTP it is the same.
    for (n, over_http) in [(1, false), (2, true)] {
        if over_http {
            let url = format!("{base}/slack/events");
            workspace.world.slack_request_url(&url, secret).await.unwrap();
        }
        for kind in ["server_error", "drop_before"] {
            workspace.fault(json!({ "platform": "slack", "kind": kind, "method": "response_url" }));
        }
        let command = Speech {
            channel: "slack:C0OUTSIDE".to_owned(),
            text: format!("/mykagent number {n}"),
            ..Speech::default()
        };
        workspace.world.speak(&command).unwrap();
        until("the command is answered", async || {
            let shown = workspace.world.messages("slack:C0OUTSIDE");
            shown.iter().any(|message| message.text.contains(&format!("You said: number {n}")))
        })
        .await;
    }
    let mut pages = Vec::new();
    for path in ["/readyz", "/healthz", "/slack/events", "/"] {
        pages.push(page(path).await.unwrap());
    }
    let forged = http.post(format!("{base}/slack/events")).body("{}").send().await.unwrap();
    pages.push(format!("{forged:?}"));

    let mut printed = Vec::new();
    let outbox = async |arguments: &[&str]| {
        let mut command = herald(&env);
        command.arg("outbox").args(arguments).arg("--data-dir").arg(data.path());
        let output = command.output().await.unwrap();
        assert!(output.status.success(), "{output:?}");
        (output.stdout, output.stderr)
    };
    let (list, said) = outbox(&["list", "-o", "json"]).await;
    let deliveries: Vec<Value> = serde_json::from_slice(&list).unwrap();
    let answer = deliveries.iter().find(|it| it["channel"] == "slack:C0OUTSIDE").unwrap();
    let (shown, complained) = outbox(&["show", answer["id"].as_str().unwrap()]).await;
    printed.extend([list, said, shown, complained]);

    let pid = child.id().unwrap().to_string();
    std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap();
    tokio::time::timeout(Duration::from_secs(40), child.wait()).await.unwrap().unwrap();
    let log = log.await.unwrap();
    assert!(log.len() > 10_000, "trace level should say a lot");
    let everywhere: Vec<&str> = CANARIES.into_iter().chain(ANSWERS).collect();
    search_for(&everywhere, "the log", &log);
    search_for(&everywhere, "stdout", &out.await.unwrap());
    search_traces(&collector, &everywhere, "message/stream", "look at this on");
    search_for(&everywhere, "a page", pages.join("\n").as_bytes());
    search_for(&everywhere, "what a command prints", &printed.concat());
    let mut found = false;
    for (path, bytes) in files(data.path()) {
        search(&path.display().to_string(), &bytes);
        found |= String::from_utf8_lossy(&bytes).contains(ANSWERS[0]);
    }
    assert!(found, "the response URL was never there: this test proves nothing");
}

#[tokio::test]
async fn no_token_shows_in_what_the_commands_print() {
    let workspace = Workspace::with_tokens(tokens()).await;
    for platform in ["slack", "discord", "telegram"] {
        workspace.fault(json!({ "platform": platform, "kind": "revoked_token", "times": 0 }));
    }
    let mut env = workspace.env();
    env.insert("HERALD_LOG".to_owned(), "trace".to_owned());
    for arguments in [
        vec!["check"],
        vec!["check", "-o", "json"],
        vec!["channels"],
        vec!["send", "telegram:-1001000000001", "hello"],
        vec!["send", "slack:C0ALERTS", "hello"],
        vec!["schema"],
        vec!["--help"],
    ] {
        let output = herald(&env).args(&arguments).output().await.unwrap();
        search(&format!("{arguments:?}"), &output.stdout);
        search(&format!("{arguments:?}"), &output.stderr);
    }
    // A token in the wrong place is not quoted either.
    env.insert("SLACK_BOT_TOKEN".to_owned(), "xoxb canarySLACK1".to_owned());
    env.insert("SLACK_API_URL".to_owned(), "not a url".to_owned());
    let output = herald(&env).arg("check").output().await.unwrap();
    assert_eq!(output.status.code(), Some(2));
    search("a configuration error", &output.stderr);

    // Nor is one that stands where its hash belongs, nor the password of a database that is away.
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), named("", "canaryHASH12-0123456789")).unwrap();
    let mut env = workspace.env();
    env.insert("HERALD_LOG".to_owned(), "trace".to_owned());
    let output = herald(&env).arg("--config").arg(file.path()).arg("serve").output().await.unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    search("a configuration error", &output.stderr);
    let url = format!("postgres://herald:canaryDATABASE13@127.0.0.1:{}/herald", free_port());
    env.insert("HERALD_DATABASE_URL".to_owned(), url);
    let output = herald(&env).args(["outbox", "list"]).output().await.unwrap();
    assert!(!output.status.success());
    search("a database that is away", &output.stdout);
    search("a database that is away", &output.stderr);
}
