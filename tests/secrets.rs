//! Canary tokens: whatever goes wrong, at the loudest log level, no token shows anywhere.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use herald::sandbox::Tokens;
use serde_json::json;
use tokio::io::AsyncReadExt;

use crate::world::{Client, EVERY, Workspace, files, free_port, herald, until};

/// Parts of the tokens that nothing else contains.
const CANARIES: [&str; 4] = ["canarySLACK1", "canaryDISCORD2", "canaryTELEGRAM3", "canaryHERALD4"];

fn tokens() -> Tokens {
    Tokens {
        slack: "xoxb-canarySLACK1-0123456789".to_owned(),
        discord: "canaryDISCORD2.abcdef.0123456789".to_owned(),
        telegram: "123456789:canaryTELEGRAM3_0123456789abcdefghij".to_owned(),
    }
}

fn search(place: &str, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for canary in CANARIES {
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
    let port = free_port();
    let mut child = herald(&env)
        .args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--log-format", "json"])
        .arg("--data-dir")
        .arg(data.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let out = tokio::spawn(async move {
        let mut bytes = Vec::new();
        stdout.read_to_end(&mut bytes).await.unwrap();
        bytes
    });
    let log = tokio::spawn(async move {
        let mut bytes = Vec::new();
        stderr.read_to_end(&mut bytes).await.unwrap();
        bytes
    });
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
    assert!(stranger.try_call("list_channels", json!({})).await.is_err(), "no token, no answer");
    for call in calls {
        answers.push(format!("{:?}", call.await.unwrap()));
    }
    answers.push(format!("{:?}", client.call("list_channels", json!({})).await));
    search("an answer", answers.join("\n").as_bytes());

    let pid = child.id().unwrap().to_string();
    std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap();
    tokio::time::timeout(Duration::from_secs(40), child.wait()).await.unwrap().unwrap();
    let log = log.await.unwrap();
    assert!(log.len() > 10_000, "trace level should say a lot");
    search("the log", &log);
    search("stdout", &out.await.unwrap());
    for (path, bytes) in files(data.path()) {
        search(&path.display().to_string(), &bytes);
    }
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
}
