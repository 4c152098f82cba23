//! The commands, as a person at a shell meets them.

use std::collections::BTreeMap;
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::world::{SLACK, Workspace, free_port, herald, until};

async fn run(workspace: &Workspace, extra: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut env = workspace.env();
    for (name, value) in extra {
        env.insert((*name).to_owned(), (*value).to_owned());
    }
    let running = herald(&env).args(arguments).output();
    tokio::time::timeout(Duration::from_secs(30), running).await.unwrap().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test]
async fn send_sends_one_message_and_prints_its_receipt() {
    let workspace = Workspace::open().await;
    let output = run(&workspace, &[], &["send", "slack:alerts", "**hello**", "-o", "json"]).await;
    assert!(output.status.success(), "{}", stderr(&output));
    let receipt: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(receipt["status"], "delivered");
    let again = run(&workspace, &[], &["send", SLACK, "**hello**"]).await;
    assert!(stdout(&again).starts_with("delivered "), "{}", stdout(&again));
    assert_eq!(workspace.texts(SLACK).len(), 2, "a person who sends twice means it");
}

#[tokio::test]
async fn send_fails_with_advice() {
    let workspace = Workspace::open().await;
    let denied = run(&workspace, &[], &["send", "slack:C0PRIVATE", "hello"]).await;
    assert_eq!(denied.status.code(), Some(1));
    assert!(stderr(&denied).contains("C0ALERTS (alerts)"), "{}", stderr(&denied));
    let unclear = run(&workspace, &[], &["send", "alerts", "hello"]).await;
    assert_eq!(unclear.status.code(), Some(2));
    assert!(stderr(&unclear).contains("slack:C0123456789"), "{}", stderr(&unclear));
}

#[tokio::test]
async fn check_is_content_with_the_sandbox_and_finds_what_is_wrong() {
    let workspace = Workspace::open().await;
    let fine = run(&workspace, &[], &["check"]).await;
    assert!(fine.status.success(), "{}{}", stdout(&fine), stderr(&fine));
    let extra = [("SLACK_BOT_TOKEN", "xoxb-wrong"), ("DISCORD_CHANNEL_IDS", "100000000000000099")];
    let wrong = run(&workspace, &extra, &["check", "-o", "json"]).await;
    assert_eq!(wrong.status.code(), Some(1));
    let rows: Value = serde_json::from_slice(&wrong.stdout).unwrap();
    let failing = |what: &str| {
        let row = rows.as_array().unwrap().iter().find(|row| row["what"] == what).unwrap();
        (row["ok"] == false).then(|| format!("{}: {}", row["detail"], row["fix"]))
    };
    assert!(failing("Slack token").unwrap().contains("SLACK_BOT_TOKEN"));
    let unnamed = failing("discord:100000000000000099").unwrap();
    assert!(unnamed.starts_with("\"Discord knows no such channel"), "{unnamed}");
    assert!(failing("Telegram token").is_none());
}

#[tokio::test]
async fn check_says_whether_each_platform_would_be_heard_and_the_agent_asked() {
    let workspace = Workspace::open().await;
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a str, Option<bool>, &'a str);
    let cases: [Case<'_>; 11] = [
        (&[], "Slack listener", Some(true), "Socket Mode"),
        (&[], "Discord listener", Some(true), "intent is on"),
        (&[], "Telegram listener", Some(true), "long polling"),
        (&[], "agent default", Some(true), "A2A 0.3"),
        (&[("SLACK_APP_TOKEN", "xapp-wrong")], "Slack listener", Some(false), "SLACK_APP_TOKEN"),
        (&[("SLACK_APP_TOKEN", "")], "Slack listener", Some(true), "SLACK_SIGNING_SECRET"),
        (
            &[("SLACK_APP_TOKEN", ""), ("SLACK_SIGNING_SECRET", "s")],
            "Slack listener",
            Some(true),
            "/slack/events",
        ),
        (&[("DISCORD_BOT_TOKEN", "wrong")], "Discord token", Some(false), "DISCORD_BOT_TOKEN"),
        // One thing to fix is told once.
        (&[("DISCORD_BOT_TOKEN", "wrong")], "Discord listener", None, ""),
        (
            &[("KAGENT_A2A_URL", "http://127.0.0.1:1/agent/")],
            "agent default",
            Some(false),
            "reached",
        ),
        // Without an agent there is no bot, and an intent that only a bot needs is no fault.
        (&[("KAGENT_A2A_URL", "")], "Discord listener", None, ""),
    ];
    for (extra, what, ok, words) in cases {
        let output = run(&workspace, extra, &["check", "-o", "json"]).await;
        let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
        let row = rows.as_array().unwrap().iter().find(|row| row["what"] == what);
        assert_eq!(row.and_then(|row| row["ok"].as_bool()), ok, "{extra:?}: {rows}");
        let told = row.map_or_else(String::new, |row| format!("{}: {}", row["detail"], row["fix"]));
        assert!(told.contains(words), "{what}: {told}");
        let failed = rows.as_array().unwrap().iter().any(|row| row["ok"] == false);
        assert_eq!(output.status.code(), Some(i32::from(failed)), "{rows}");
    }
}

#[tokio::test]
async fn a_sandbox_leaves_listening_to_others_if_it_is_told_to() {
    for (arguments, listens) in [(&["--no-bot"][..], false), (&[], true)] {
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = herald(&BTreeMap::new());
        command.args(["sandbox", "--listen", &address]).args(arguments);
        let _sandbox = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let ready = async {
            loop {
                let answer = client.get(format!("http://{address}/readyz")).send().await;
                if let Ok(answer) = answer {
                    return answer.text().await.unwrap();
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let ready = tokio::time::timeout(Duration::from_secs(30), ready).await.unwrap();
        assert_eq!(ready.contains("telegram_listener"), listens, "{ready}");
    }
}

#[tokio::test]
async fn channels_are_listed_with_their_names() {
    let workspace = Workspace::open().await;
    let output = run(&workspace, &[], &["channels"]).await;
    let text = stdout(&output);
    assert!(text.contains("slack:C0ALERTS") && text.contains("alerts"), "{text}");
    assert!(!text.contains("C0PRIVATE"));
}

#[tokio::test]
async fn the_operator_sees_and_steers_deliveries() {
    let workspace = Workspace::open().await;
    let data = tempfile::tempdir().unwrap();
    let dir = data.path().to_str().unwrap();
    workspace.fault(json!({ "platform": "slack", "kind": "archived", "channel": "C0ALERTS" }));
    let failed = run(&workspace, &[], &["--data-dir", dir, "send", SLACK, "hello"]).await;
    assert_eq!(failed.status.code(), Some(1), "{}", stdout(&failed));
    let listed = run(
        &workspace,
        &[],
        &["--data-dir", dir, "outbox", "list", "--state", "failed", "-o", "json"],
    )
    .await;
    let rows: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(rows[0]["reason"], "channel_archived");
    let id = rows[0]["id"].as_str().unwrap();
    let shown = run(&workspace, &[], &["--data-dir", dir, "outbox", "show", id]).await;
    assert!(stdout(&shown).contains("hello"));
    let retried = run(&workspace, &[], &["--data-dir", dir, "outbox", "retry", id]).await;
    assert_eq!(stdout(&retried), format!("{id} queued\n"));
    let discarded = run(&workspace, &[], &["--data-dir", dir, "outbox", "discard", id]).await;
    assert_eq!(stdout(&discarded), format!("{id} failed\n"));
    let missing = "0198c0de-0000-7000-8000-000000000000";
    let absent = run(&workspace, &[], &["--data-dir", dir, "outbox", "show", missing]).await;
    assert_eq!(absent.status.code(), Some(1));
}

#[tokio::test]
async fn each_startup_error_is_one_line_that_names_the_setting() {
    let workspace = Workspace::open().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, "slack:\n  chanels: [C0ALERTS]\n").unwrap();
    let file = file.path().to_str().unwrap();
    let free = format!("127.0.0.1:{}", free_port());
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str], i32, &'a [&'a str]);
    let cases: [Case<'_>; 13] = [
        (&[], &["serve", "--listen", "0.0.0.0:0"], 2, &["HERALD_TOKEN", "HERALD_ALLOW_ANONYMOUS"]),
        (&[], &["serve", "--listen", &address, "--data-dir", "/tmp"], 1, &[&address, "--listen"]),
        (&[("SLACK_CHANNEL_IDS", "#general")], &["check"], 2, &["SLACK_CHANNEL_IDS", "#general"]),
        (
            &[("HERALD_ALLOW_ANONYMOUS", "perhaps")],
            &["check"],
            2,
            &["HERALD_ALLOW_ANONYMOUS", "true or false"],
        ),
        (&[("HERALD_ALLOWED_ORIGINS", "foo")], &["serve"], 2, &["HERALD_ALLOWED_ORIGINS", "foo"]),
        (&[("HERALD_ALLOWED_ORIGINS", "foo")], &["check"], 2, &["HERALD_ALLOWED_ORIGINS", "foo"]),
        (&[("HERALD_TOKEN", "Bearer")], &["check"], 2, &["HERALD_TOKEN"]),
        (&[("HERALD_LOG", "a=b=c")], &["check"], 2, &["HERALD_LOG: not a log filter"]),
        (&[], &["--config", file, "check"], 2, &["chanels", "herald schema"]),
        (&[], &["--config", "/nowhere.yaml", "check"], 2, &["/nowhere.yaml"]),
        (&[], &["--config", file, "sandbox"], 2, &["sandbox", "--config"]),
        (&[("HERALD_CONFIG", file)], &["sandbox"], 2, &["sandbox", "HERALD_CONFIG"]),
        (
            &[],
            &["serve", "--listen", &free, "--data-dir", "/proc/herald"],
            2,
            &["/proc/herald", "--data-dir"],
        ),
    ];
    for (env, arguments, code, words) in cases {
        let output = run(&workspace, env, arguments).await;
        let error = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
        let line = error.lines().last().unwrap();
        for word in words {
            assert!(line.contains(word), "{arguments:?}: {line:?} does not name {word}");
        }
        assert!(output.stdout.is_empty());
    }
}

#[tokio::test]
async fn the_schema_describes_the_file() {
    let workspace = Workspace::open().await;
    let output = run(&workspace, &[], &["schema"]).await;
    let schema: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(schema["additionalProperties"], false);
    assert!(schema["properties"]["slack"].is_object());
}

#[tokio::test]
async fn healthcheck_says_whether_the_process_beside_it_answers() {
    let workspace = Workspace::open().await;
    let data = tempfile::tempdir().unwrap();
    let port = free_port();
    let (address, everywhere) = (format!("127.0.0.1:{port}"), format!("0.0.0.0:{port}"));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, format!("listen: {everywhere}\n")).unwrap();
    let file = file.path().to_str().unwrap();
    let edited = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&edited, "lisen: nowhere\n").unwrap();
    let edited = edited.path().to_str().unwrap();
    // What would lead astray: a proxy that is none, and a token file that is being replaced.
    let astray = [("HTTP_PROXY", "http://127.0.0.1:1"), ("ALL_PROXY", "http://127.0.0.1:1")];
    let listen = ("HERALD_LISTEN", everywhere.as_str());
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);
    let here: [Case<'_>; 4] = [
        (&[], &["healthcheck", "--listen", &address]),
        (&[listen], &["healthcheck", "--ready"]),
        (&[listen, ("HERALD_TOKEN_FILE", "/nowhere")], &["healthcheck", "--config", edited]),
        (&[], &["--config", file, "healthcheck", "--ready"]),
    ];
    let mut serve = herald(&workspace.env());
    serve.args(["serve", "--listen", &address, "--data-dir", data.path().to_str().unwrap()]);
    let mut serve = serve.stderr(Stdio::null()).spawn().unwrap();
    until("serve is ready", || async {
        run(&workspace, &[listen], &["healthcheck", "--ready"]).await.status.success()
    })
    .await;
    for (env, arguments) in here {
        let output = run(&workspace, &[env, &astray].concat(), arguments).await;
        assert!(output.status.success(), "{env:?} {arguments:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty() && output.stderr.is_empty());
    }
    serve.kill().await.unwrap();
    for (env, arguments) in here {
        let output = run(&workspace, env, arguments).await;
        let error = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{env:?} {arguments:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(error.contains(&format!("http://{address}/")) && error.contains("--listen"));
    }
}

#[tokio::test]
async fn a_bot_that_nobody_will_ever_reach_is_alive_and_not_ready() {
    let workspace = Workspace::open().await;
    let data = tempfile::tempdir().unwrap();
    let address = format!("127.0.0.1:{}", free_port());
    let mut env = workspace.env();
    env.retain(|name, _| !name.starts_with("DISCORD_") && !name.starts_with("TELEGRAM_"));
    env.insert("SLACK_APP_TOKEN".to_owned(), "xapp-wrong".to_owned());
    let mut bot = herald(&env);
    bot.args(["bot", "--listen", &address, "--data-dir", data.path().to_str().unwrap()]);
    let _bot = bot.stderr(Stdio::null()).spawn().unwrap();
    let check = ["healthcheck", "--listen", &address];
    until("the bot is alive", || async { run(&workspace, &[], &check).await.status.success() })
        .await;
    let ready = [&check[..], &["--ready"]].concat();
    until("its only listener has failed for good", || async {
        let output = run(&workspace, &[], &ready).await;
        let error = stderr(&output);
        let told = error.contains("503") && error.contains("slack_listener");
        assert!(!told || (error.lines().count() == 1 && output.status.code() == Some(1)));
        told
    })
    .await;
    assert!(run(&workspace, &[], &check).await.status.success());
}

#[tokio::test]
async fn healthcheck_does_not_wait_for_ever() {
    let workspace = Workspace::open().await;
    // Takes the connection, and never says a word.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let output = run(&workspace, &[], &["healthcheck", "--listen", &address]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("no answer in time"), "{}", stderr(&output));
}

/// A data directory that another user's Herald wrote: this process may read it, and no more.
#[tokio::test]
async fn a_data_directory_that_cannot_be_written_is_named_with_the_fix() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let workspace = Workspace::open().await;
    let data = tempfile::tempdir().unwrap();
    let dir = data.path().to_str().unwrap();
    let first = run(&workspace, &[], &["--data-dir", dir, "send", SLACK, "hello"]).await;
    assert!(first.status.success(), "{}", stderr(&first));
    let allow = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    allow(&data.path().join("herald.db"), 0o444);
    allow(data.path(), 0o555);
    let mut command = herald(&workspace.env());
    let bin = tempfile::tempdir().unwrap();
    if std::fs::metadata(data.path()).unwrap().uid() == 0 {
        // Permissions do not bind root, and nobody else may reach root's build.
        allow(bin.path(), 0o755);
        let binary = bin.path().join("herald");
        // In a process of its own: a file that this one has open for writing cannot be run.
        let mut cp = std::process::Command::new("cp");
        assert!(cp.arg(env!("CARGO_BIN_EXE_herald")).arg(&binary).status().unwrap().success());
        let mut other = tokio::process::Command::new("setpriv");
        other.args(["--reuid=65534", "--clear-groups"]).arg(binary);
        other.env_clear().envs(workspace.env()).env("PATH", "/usr/bin:/bin").kill_on_drop(true);
        command = other;
    }
    let running = command.args(["--data-dir", dir, "outbox", "list"]).output();
    let output = tokio::time::timeout(Duration::from_secs(30), running).await.unwrap().unwrap();
    allow(data.path(), 0o755);
    let error = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{error}");
    let line = error.lines().last().unwrap();
    assert!(line.contains(dir) && line.contains("--data-dir"), "{line}");
}

#[tokio::test]
async fn a_database_that_is_none_is_named_with_its_directory() {
    let workspace = Workspace::open().await;
    let data = tempfile::tempdir().unwrap();
    let dir = data.path().to_str().unwrap();
    std::fs::write(data.path().join("herald.db"), "not a database".repeat(500)).unwrap();
    let output = run(&workspace, &[], &["--data-dir", dir, "outbox", "list"]).await;
    let error = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains(dir) && error.contains("--data-dir"), "{error}");
}
