//! `herald audit`: what happened is written down, and nobody alters it unnoticed.

use std::collections::BTreeMap;
use std::process::{Output, Stdio};

use serde_json::{Value, json};
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::collector::Collector;
use crate::postgres_server::schema;
use crate::world::{Workspace, herald};

const KEY: &str = "canary-audit-key-0123456789abcdef";

/// A workspace, and where its Herald writes its trail.
struct Desk {
    workspace: Workspace,
    env: BTreeMap<String, String>,
    data: tempfile::TempDir,
}

impl Desk {
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
        let file = data.path().join("audit.jsonl");
        for (name, value) in [
            ("HERALD_DATA_DIR", data.path().display().to_string()),
            ("SLACK_CHANNEL_IDS", "C0ALERTS,C0GENERAL".to_owned()),
            ("HERALD_AUDIT", format!("file:{}", file.display())),
            ("HERALD_AUDIT_KEY", KEY.to_owned()),
        ] {
            env.insert(name.to_owned(), value);
        }
        Self { workspace, env, data }
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        herald(&self.env).args(arguments).output().await.unwrap()
    }

    async fn send(&self, channel: &str) -> Value {
        let sent = self.run(&["send", channel, "Zq7canary", "-o", "json"]).await;
        serde_json::from_slice(&sent.stdout).unwrap()
    }

    /// The types of the rows that `audit tail` prints.
    async fn tail(&self, arguments: &[&str]) -> Vec<String> {
        let output = self.run(&[&["audit", "tail"], arguments].concat()).await;
        assert!(output.status.success(), "{}", text(&output.stderr));
        let act = |line: &str| {
            let line: Value = serde_json::from_str(line).unwrap();
            line["type"].as_str().unwrap().to_owned()
        };
        text(&output.stdout).lines().map(act).collect()
    }

    /// What `audit verify` says, and whether it is content.
    async fn verify(&self, arguments: &[&str]) -> (String, bool) {
        let output = self.run(&[&["audit", "verify"], arguments].concat()).await;
        assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
        (text(&output.stdout), output.status.success())
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_row_that_was_altered_is_found() {
    for desk in Desk::each().await {
        assert_eq!(desk.send("slack:C0GENERAL").await["status"], "delivered");
        desk.workspace
            .fault(json!({ "platform": "slack", "kind": "archived", "channel": "C0ALERTS" }));
        let failed = desk.send("slack:C0ALERTS").await;
        assert_eq!(failed["status"], "failed");
        let id = failed["delivery_id"].as_str().unwrap();
        desk.run(&["outbox", "retry", id]).await;
        desk.run(&["outbox", "discard", id]).await;

        let all = [
            "started",
            "submitted",
            "delivered",
            "stopped",
            "started",
            "submitted",
            "failed",
            "stopped",
            "started",
            "operator_retried",
            "stopped",
            "started",
            "operator_discarded",
            "stopped",
        ];
        assert_eq!(desk.tail(&["-n", "100"]).await, all);
        assert_eq!(
            desk.tail(&["-n", "2", "--since", "1h"]).await,
            ["operator_discarded", "stopped"]
        );
        let there = ["--channel", "slack:C0ALERTS", "--type", "failed"];
        assert_eq!(desk.tail(&there).await, ["failed"]);
        let said = text(&desk.run(&["audit", "tail", "-n", "100"]).await.stdout);
        assert!(!said.contains("Zq7canary") && !said.contains(KEY), "{said}");

        assert_eq!(
            desk.verify(&[]).await,
            ("14 rows in 4 chains: nothing is wrong\n".to_owned(), true)
        );
        let file = desk.data.path().join("audit.jsonl");
        let path = file.to_str().unwrap();
        let (told, content) = desk.verify(&["--file", path, "-o", "json"]).await;
        let report: Value = serde_json::from_str(&told).unwrap();
        // The commands that an operator types are told in the store alone.
        assert_eq!((content, &report["rows"], &report["findings"]), (true, &json!(8), &json!([])));

        let mut stranger = desk.env.clone();
        stranger.insert("HERALD_AUDIT_KEY".to_owned(), KEY.replace("canary", "zanary"));
        let output = herald(&stranger).args(["audit", "verify"]).output().await.unwrap();
        let told = text(&output.stdout);
        assert!(!output.status.success());
        assert_eq!(told.lines().filter(|line| line.contains("another key")).count(), 4, "{told}");
        assert!(!told.contains("altered"), "{told}");

        let lines = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, lines.replace("\"failed\"", "\"delivered\"")).unwrap();
        let (told, content) = desk.verify(&["--file", path]).await;
        assert!(!content && told.contains("row 3: it was altered"), "{told}");

        if desk.env.contains_key("HERALD_DATABASE_URL") {
            continue;
        }
        let options = SqliteConnectOptions::new().filename(desk.data.path().join("herald.db"));
        let mut db = options.connect().await.unwrap();
        let forge = "UPDATE audit SET line = replace(line, '\"failed\"', '\"delivered\"')";
        sqlx::query(forge).execute(&mut db).await.unwrap();
        let (told, content) = desk.verify(&[]).await;
        assert!(!content && told.contains("row 3: it was altered"), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tail_follows_until_nobody_reads_any_more() {
    let desk = Desk::new().await;
    desk.send("slack:C0GENERAL").await;
    let mut following = herald(&desk.env)
        .args(["audit", "tail", "-f", "-n", "1"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    let mut next = async || -> Value {
        serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap()
    };
    assert_eq!(next().await["type"], "stopped");
    desk.send("slack:C0GENERAL").await;
    for act in ["started", "submitted", "delivered", "stopped"] {
        assert_eq!(next().await["type"], act);
    }
    drop(lines);
    desk.send("slack:C0GENERAL").await;
    assert!(following.wait().await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_each_row_as_it_is_stored() {
    let (mut desk, collector) = (Desk::new().await, Collector::open().await);
    for (name, value) in [
        ("HERALD_AUDIT", "otlp"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url),
        ("OTEL_EXPORTER_OTLP_LOGS_HEADERS", "authorization=Bearer%20canary-otlp"),
        ("OTEL_TRACES_EXPORTER", "none"),
    ] {
        desk.env.insert(name.to_owned(), value.to_owned());
    }
    let sent = desk.run(&["send", "slack:C0GENERAL", "Zq7canary"]).await;
    assert!(sent.status.success() && !text(&sent.stderr).contains("canary-otlp"));
    let stored = text(&desk.run(&["audit", "tail", "-n", "100"]).await.stdout);
    let records = collector.logs();
    assert_eq!(
        records.iter().map(|it| it.body.as_str()).collect::<Vec<_>>(),
        stored.lines().collect::<Vec<_>>()
    );
    let events: Vec<_> = records.iter().map(|it| it.event.as_str()).collect();
    assert_eq!(events, ["started", "submitted", "delivered", "stopped"]);
    let mut prev = "0".repeat(64);
    for (n, record) in (1..).zip(&records) {
        let line: Value = serde_json::from_str(&record.body).unwrap();
        let says = |key: &str| record.attributes[key].clone();
        assert_eq!(says("herald.audit.chain"), line["chain"].as_str().unwrap());
        assert_eq!(says("herald.audit.n"), n.to_string());
        assert_eq!(
            says("herald.audit.prev"),
            std::mem::replace(&mut prev, says("herald.audit.hash"))
        );
        assert!(record.at > 0 && record.service == "herald");
        assert_eq!(record.authorization, "Bearer canary-otlp");
    }
    // Whoever wants rows there is told what cannot be done, before anything is.
    desk.env.insert("OTEL_EXPORTER_OTLP_PROTOCOL".to_owned(), "grpc".to_owned());
    let refused = desk.run(&["send", "slack:C0GENERAL", "Zq7canary"]).await;
    let told = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{told}");
    assert!(told.contains("HERALD_AUDIT (audit.to): otlp: OTEL_EXPORTER_OTLP_PROTOCOL"), "{told}");
}
