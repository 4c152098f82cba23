//! What an operator sees and steers: `herald outbox`, on either engine, and how long what was sent is kept.

use std::collections::BTreeMap;
use std::process::{Output, Stdio};

use serde_json::{Value, json};
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;

use crate::postgres_server::schema;
use crate::world::{Client, DISCORD, SLACK, TELEGRAM, Workspace, free_port, herald, until};

/// A workspace, and where its Herald stores.
struct Desk {
    workspace: Workspace,
    env: BTreeMap<String, String>,
    data: tempfile::TempDir,
}

impl Desk {
    /// One for each engine that there is.
    async fn each() -> Vec<Self> {
        let mut desks = vec![Self::new().await];
        if let Some(url) = schema() {
            let mut desk = Self::new().await;
            desk.env.insert("HERALD_DATABASE_URL".to_owned(), url);
            desks.push(desk);
        }
        desks
    }

    async fn new() -> Self {
        let (workspace, data) = (Workspace::open().await, tempfile::tempdir().unwrap());
        let mut env = workspace.env();
        env.insert("HERALD_DATA_DIR".to_owned(), data.path().display().to_string());
        env.insert("SLACK_CHANNEL_IDS".to_owned(), "alerts=C0ALERTS,C0GENERAL".to_owned());
        Self { workspace, env, data }
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        herald(&self.env).args(arguments).output().await.unwrap()
    }

    /// Sends a text, which fails if its channel is archived, and returns the delivery's ID.
    async fn send(&self, channel: &str, archived: bool) -> String {
        if archived {
            let (platform, id) = channel.split_once(':').unwrap();
            let fault = match platform {
                "slack" => json!({ "platform": "slack", "kind": "archived", "channel": id }),
                "discord" => {
                    json!({ "platform": "discord", "kind": "revoked_token", "method": "create_message" })
                }
                _ => {
                    json!({ "platform": platform, "kind": "revoked_token", "method": "sendMessage" })
                }
            };
            self.workspace.fault(fault);
        }
        let sent = self.run(&["send", channel, "hello", "-o", "json"]).await;
        let receipt: Value = serde_json::from_slice(&sent.stdout).unwrap();
        assert_eq!(receipt["status"], if archived { "failed" } else { "delivered" }, "{receipt}");
        receipt["delivery_id"].as_str().unwrap().to_owned()
    }

    /// The IDs that `outbox list` shows with these filters.
    async fn list(&self, filters: &[&str]) -> Vec<String> {
        let output = self.run(&[&["outbox", "list", "-o", "json"], filters].concat()).await;
        assert!(output.status.success(), "{filters:?}: {}", stderr(&output));
        let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliveries_are_found_by_state_channel_and_age() {
    for desk in Desk::each().await {
        let a = desk.send(SLACK, true).await;
        let b = desk.send("slack:C0GENERAL", false).await;
        let c = desk.send(TELEGRAM, true).await;
        let d = desk.send(SLACK, false).await;
        let cases: [(&[&str], &[&String]); 11] = [
            (&[], &[&d, &c, &b, &a]),
            (&["--state", "failed"], &[&c, &a]),
            (&["--state", "failed,delivered", "--channel", "slack:alerts"], &[&d, &a]),
            (&["--channel", SLACK], &[&d, &a]),
            (&["--channel", "slack"], &[&d, &b, &a]),
            (&["--channel", "telegram", "--channel", "slack:C0GENERAL"], &[&c, &b]),
            (&["--channel", "discord"], &[]),
            (&["--newer-than", "1h"], &[&d, &c, &b, &a]),
            (&["--older-than", "1h"], &[]),
            (&["--most", "2"], &[&d, &c]),
            (&["--most", "2", "--after", &c], &[&b, &a]),
        ];
        for (filters, expected) in cases {
            let expected: Vec<String> = expected.iter().map(|id| (*id).clone()).collect();
            assert_eq!(desk.list(filters).await, expected, "{filters:?}");
        }
        let page = desk.run(&["outbox", "list", "--most", "2"]).await;
        assert_eq!(stdout(&page).lines().count(), 3, "a head and two rows");
        assert_eq!(stderr(&page), format!("there are more: add --after {c}\n"));
        let last = desk.run(&["outbox", "list", "--most", "2", "--after", &c]).await;
        assert!(stderr(&last).is_empty(), "{}", stderr(&last));
        let shown = desk.run(&["outbox", "show", "--channel", "slack:alerts"]).await;
        let shown: Vec<Value> = serde_json::from_slice(&shown.stdout).unwrap();
        assert_eq!(shown.len(), 2);
        assert_eq!(shown[0]["steps"][0]["part"]["plain"], "hello");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_are_retried_and_discarded_at_once() {
    for desk in Desk::each().await {
        let a = desk.send(SLACK, true).await;
        let b = desk.send("slack:C0GENERAL", true).await;
        let c = desk.send(DISCORD, true).await;
        desk.send(SLACK, false).await;

        let slack = ["--channel", "slack", "--newer-than", "2h"];
        let retry = [&["outbox", "retry"], &slack[..]].concat();
        let dry = desk.run(&[&retry[..], &["--dry-run"]].concat()).await;
        assert!(dry.status.success());
        let table = stdout(&dry);
        assert_eq!(table.lines().count(), 3, "{table}");
        assert!(table.contains(&a) && table.contains(&b), "{table}");
        assert_eq!(stderr(&dry), "2 would be retried\n");
        assert_eq!(desk.list(&["--state", "failed"]).await.len(), 3, "nothing was changed");

        let retried = desk.run(&retry).await;
        assert!(retried.status.success());
        assert_eq!(stdout(&retried), format!("{b} queued\n{a} queued\n"));
        assert_eq!(stderr(&retried), "2 were retried\n");
        assert_eq!(desk.list(&["--state", "queued"]).await, [b.clone(), a.clone()]);
        assert_eq!(desk.list(&["--state", "failed"]).await, std::slice::from_ref(&c));

        let newest = ["outbox", "discard", "--state", "queued", "--most", "1", "-o", "json"];
        let one = desk.run(&newest).await;
        let one: Value = serde_json::from_slice(&one.stdout).unwrap();
        let expected =
            json!([{ "id": b, "channel": "slack:C0GENERAL", "state": "failed", "done": true }]);
        assert_eq!(one, expected);
        let rest = desk.run(&["outbox", "discard", "--channel", "slack"]).await;
        assert_eq!(
            (stdout(&rest), stderr(&rest)),
            (format!("{a} failed\n"), "1 were discarded\n".to_owned())
        );
        let none = desk.run(&["outbox", "discard", "--channel", "slack"]).await;
        assert_eq!((none.status.code(), stderr(&none).as_str()), (Some(0), "0 were discarded\n"));
    }
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_with_the_fix() {
    let desk = Desk::new().await;
    let delivered = desk.send(SLACK, false).await;
    let cases: [(&[&str], i32, &str); 9] = [
        (&["outbox", "retry"], 2, "--state"),
        (&["outbox", "discard", "--dry-run"], 2, "--state"),
        (&["outbox", "retry", &delivered, "--state", "failed"], 2, "--state"),
        (&["outbox", "retry", "--state", "delivered"], 2, "name failed, unknown"),
        (&["outbox", "discard", "--state", "failed"], 2, "name queued, sending, unknown"),
        (&["outbox", "list", "--older-than", "10"], 2, "write 45s, 10m, 2h or 30d"),
        (&["outbox", "list", "--channel", "slack:nowhere"], 2, "C0123456789"),
        (&["outbox", "retry", &delivered], 1, "it is delivered, so it cannot be retried"),
        (&["outbox", "discard", &delivered], 1, "it is delivered, so it cannot be discarded"),
    ];
    for (arguments, code, words) in cases {
        let output = desk.run(arguments).await;
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(words), "{arguments:?}: {}", stderr(&output));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_tells_what_waits_and_what_did_not_arrive() {
    for desk in Desk::each().await {
        let id = desk.send(SLACK, true).await;
        let discarded = desk.send("slack:C0GENERAL", true).await;
        desk.run(&["outbox", "retry", &discarded]).await;
        let queue = async || {
            let output = desk.run(&["check", "-o", "json"]).await;
            assert!(output.status.success(), "{}", stderr(&output));
            let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
            let found = |what: &str| rows.iter().find(|row| row["what"] == what).cloned();
            assert_eq!(found("Telegram queue").unwrap()["detail"], "nothing waits");
            found("Slack queue").unwrap()
        };
        let waits = queue().await;
        let detail = waits["detail"].as_str().unwrap();
        assert!(detail.starts_with("1 queued, the oldest for "), "{detail}");
        assert!(detail.ends_with("; in the last day 1 failed, 0 unknown"), "{detail}");
        desk.run(&["outbox", "discard", &discarded]).await;
        let found = queue().await;
        assert_eq!(found["detail"], "nothing waits; in the last day 1 failed, 0 unknown");
        // What it says to do does it.
        let fix = found["fix"].as_str().unwrap();
        let command = fix.strip_prefix("see why with herald outbox list ").unwrap();
        let (filters, _) = command.split_once(", then").unwrap();
        let listed = desk.list(&filters.split(' ').collect::<Vec<_>>()).await;
        assert!(listed.contains(&id), "{listed:?}");
    }
}

/// A `herald serve` on the desk's store, and a client of it.
async fn serve(desk: &Desk) -> (tokio::process::Child, Client) {
    let port = free_port();
    let mut serve = herald(&desk.env);
    serve.args(["serve", "--listen", &format!("127.0.0.1:{port}")]).stderr(Stdio::null());
    let child = serve.spawn().unwrap();
    let client = Client::new(([127, 0, 0, 1], port).into());
    until("the server answers", || async {
        client.try_call("get_delivery", json!({ "delivery_id": "" })).await.is_ok()
    })
    .await;
    (child, client)
}

/// Moves the end of every delivery into the past.
async fn let_hours_pass(desk: &Desk, hours: i64) {
    let options = SqliteConnectOptions::new().filename(desk.data.path().join("herald.db"));
    let mut db = options.connect().await.unwrap();
    sqlx::query("UPDATE deliveries SET finished_at = finished_at - ?1")
        .bind(hours * 3_600_000)
        .execute(&mut db)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_message_said_goes_after_a_day_and_the_rest_after_a_month() {
    let mut desk = Desk::new().await;
    desk.env.insert("HERALD_KEEP_PAYLOAD".to_owned(), "48h".to_owned());
    desk.workspace.fault(json!({ "platform": "slack", "kind": "archived", "channel": "C0ALERTS" }));
    let (mut process, client) = serve(&desk).await;
    let failed = client.send(SLACK, "Zq7canary").await.content;
    let sent = client.send(DISCORD, "Zq7canary").await.content;
    let id = |receipt: &Value| receipt["delivery_id"].as_str().unwrap().to_owned();
    let (failed_id, sent_id) = (id(&failed), id(&sent));
    process.kill().await.unwrap();
    let expunged = async |desk: &Desk| {
        let shown = desk.run(&["outbox", "show", &failed_id, &sent_id]).await;
        !stdout(&shown).contains("Zq7canary") && shown.status.success()
    };

    // A day more than the default, and less than was asked for.
    let_hours_pass(&desk, 47).await;
    let young = client_of_a_round(&desk).await;
    assert!(!expunged(&desk).await);
    drop(young);
    let_hours_pass(&desk, 2).await;
    let (_process, client) = serve(&desk).await;
    until("what was said is gone", || expunged(&desk)).await;

    for (id, receipt) in [(&failed_id, failed), (&sent_id, sent)] {
        let now = client.call("get_delivery", json!({ "delivery_id": id })).await;
        assert_eq!(now.content, receipt, "its receipt stays");
    }
    let edited = json!({ "delivery_id": sent_id, "text": "edited" });
    assert_eq!(client.call("update_message", edited).await.content["status"], "delivered");
    let before = stdout(&desk.run(&["outbox", "show", &failed_id]).await);
    let refused = desk.run(&["outbox", "retry", &failed_id]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("no longer kept (HERALD_KEEP_PAYLOAD)"));
    let many = desk.run(&["outbox", "retry", "--state", "failed"]).await;
    assert!(
        stderr(&many).starts_with("0 were retried, 1 not: what they said"),
        "{}",
        stderr(&many)
    );
    assert_eq!(stdout(&desk.run(&["outbox", "show", &failed_id]).await), before, "as it was");
    drop(client);
    drop(_process);

    let_hours_pass(&desk, 30 * 24).await;
    let (_process, client) = serve(&desk).await;
    until("nobody knows of it any more", async || {
        let gone = client.call("get_delivery", json!({ "delivery_id": failed_id })).await;
        gone.failed && gone.text.contains("no delivery")
    })
    .await;
}

/// A server that has had the time for a first look.
async fn client_of_a_round(desk: &Desk) -> tokio::process::Child {
    let mut marker = desk.list(&["--most", "1"]).await;
    let marker = marker.remove(0);
    // Something that has had its time tells when it looked.
    let options = SqliteConnectOptions::new().filename(desk.data.path().join("herald.db"));
    let mut db = options.connect().await.unwrap();
    sqlx::query(
        "INSERT INTO deliveries (id, client, submitter, lane, placement, steps, state, content_hash, deadline, created_at, finished_at)
         SELECT '01890a5d-ac96-774b-bcce-b302099a8057', client, submitter, lane, '{}', '[{}]', 'failed', 'h', 1, 1, 1
         FROM deliveries WHERE id = ?1",
    )
    .bind(&marker)
    .execute(&mut db)
    .await
    .unwrap();
    let (process, _client) = serve(desk).await;
    until("it has looked", async || {
        let there = "SELECT count(*) FROM deliveries WHERE content_hash = 'h'";
        let options = SqliteConnectOptions::new().filename(desk.data.path().join("herald.db"));
        let mut db = options.connect().await.unwrap();
        sqlx::query_scalar::<_, i64>(there).fetch_one(&mut db).await.unwrap() == 0
    })
    .await;
    process
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_token_is_not_shown_again_until_somebody_says_so() {
    for desk in Desk::each().await {
        desk.workspace.fault(json!({ "platform": "slack", "kind": "revoked_token" }));
        for attempt in ["first", "second"] {
            let sent = desk.run(&["send", SLACK, attempt, "-o", "json"]).await;
            let receipt: Value = serde_json::from_slice(&sent.stdout).unwrap();
            assert_eq!(receipt["status"], "failed", "nobody keeps it: {receipt}");
            assert_eq!(receipt["reason"], "auth", "{receipt}");
            assert!(receipt["hint"].as_str().unwrap().contains("SLACK_BOT_TOKEN"), "{receipt}");
        }
        assert_eq!(desk.workspace.sends(SLACK).len(), 1, "the token was shown once");
        let checked = desk.run(&["check"]).await;
        assert!(stdout(&checked).contains("herald outbox resume slack"), "{}", stdout(&checked));
        let resumed = desk.run(&["outbox", "resume", "slack"]).await;
        assert!(stdout(&resumed).starts_with("Slack sends again"), "{}", stdout(&resumed));
        let again = desk.run(&["outbox", "resume", "slack"]).await;
        assert_eq!(stdout(&again), "Slack did not wait\n");
        let sent = desk.run(&["send", SLACK, "third", "-o", "json"]).await;
        let receipt: Value = serde_json::from_slice(&sent.stdout).unwrap();
        assert_eq!(receipt["status"], "delivered", "{receipt}");
        let unknown = desk.run(&["outbox", "resume", "irc"]).await;
        assert!(stderr(&unknown).contains("slack, discord or telegram"), "{}", stderr(&unknown));
    }
}
