//! What Herald does and refuses stands in the audit trail, and nothing else does.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use herald::app::{Store, open_store};
use herald::clock::{Clock, SystemClock};
use herald::config::Config;
use herald::store::trail::{Keys, Page, verify};
use serde_json::{Value, json};

use crate::talking::{Bot, PLACES, Talk};
use crate::world::{Options, SLACK, Server, Workspace, free_port, herald, until};

async fn store(data: &Path) -> Store {
    open_store(None, Some(data), Arc::new(SystemClock)).await.unwrap()
}

/// All lines but those that say that a process began or ended, the oldest chain first. The hashes are right.
async fn lines(data: &Path) -> Vec<Value> {
    let store = store(data).await;
    let mut all = Vec::new();
    for chain in store.trail.chains().await.unwrap() {
        for row in store.trail.rows(&chain.id, Page::After(0), 10_000).await.unwrap() {
            all.push(serde_json::from_str::<Value>(&row.line).unwrap());
        }
    }
    let report = verify(&*store.trail, &Keys::new(&[]), None).await.unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    store.outbox.close().await;
    all.retain(|line| line["type"] != "started" && line["type"] != "stopped");
    all
}

/// The lines of one kind.
pub async fn of(data: &Path, act: &str) -> Vec<Value> {
    let mut all = lines(data).await;
    all.retain(|line| line["type"] == act);
    all
}

fn text<'l>(line: &'l Value, field: &str) -> &'l str {
    line[field].as_str().unwrap_or_default()
}

async fn serving(data: &Path, config: Config) -> Server {
    let wait = Duration::from_secs(10);
    Server::with(Options { data_dir: Some(data.to_owned()), wait, config }).await
}

#[tokio::test]
async fn what_a_client_is_refused_is_written_down_without_its_words() {
    let workspace = Workspace::open().await;
    let data = tempfile::tempdir().unwrap();
    let mut config = workspace.config(&[("HERALD_TOKEN", "an-own-secret-of-herald")]);
    config.policy.threads = false;
    config.policy.longest_text = Some(200);
    config.policy.messages_per_minute = Some(2);
    let server = serving(data.path(), config).await;
    let client = server.client.clone().with_token("an-own-secret-of-herald");

    // Arguments that make no sense are none of the trail's business.
    assert!(client.send(SLACK, "").await.failed);
    let argument = json!({ "delivery_id": "anything at all" });
    assert!(client.call("get_delivery", argument).await.failed);

    let theirs = "0198c1f0-0000-7000-8000-000000000000";
    let key = json!({ "idempotency_key": "k" });
    assert!(client.send("slack:C0PRIVATE", "psst").await.failed);
    assert!(client.send("slack:not-a-channel-but-words", "psst").await.failed);
    assert!(client.send_with(SLACK, "x", json!({ "thread_key": "t" })).await.failed);
    assert!(client.send(SLACK, &"long ".repeat(50)).await.failed);
    assert!(client.send(SLACK, "it is an-own-secret-of-herald, psst").await.failed);
    assert!(client.call("get_delivery", json!({ "delivery_id": theirs })).await.failed);
    assert!(!client.send_with(SLACK, "one", key.clone()).await.failed);
    assert!(client.send_with(SLACK, "another", key).await.failed);
    assert!(!client.send(SLACK, "two").await.failed);
    assert!(client.send(SLACK, "three").await.failed);

    let denied = of(data.path(), "denied").await;
    let said: Vec<_> = denied.iter().map(|it| (text(it, "reason"), text(it, "channel"))).collect();
    assert_eq!(
        said,
        [
            ("channel", "slack:C0PRIVATE"),
            ("channel", ""),
            ("threads", SLACK),
            ("length", SLACK),
            ("guard", SLACK),
            ("no_such_delivery", ""),
            ("key_reused", SLACK),
            ("rate", SLACK),
        ]
    );
    assert!(denied.iter().all(|line| line["client"] == "default"), "{denied:?}");
    assert_eq!(denied[4]["filtered"][0]["treatment"], "blocked");
    assert_eq!((text(&denied[1], "platform"), text(&denied[5], "delivery")), ("slack", theirs));
    let all = format!("{:?}", lines(data.path()).await);
    for words in ["psst", "words", "an-own-secret", "another", "anything at all"] {
        assert!(!all.contains(words), "{words} is in the trail: {all}");
    }
    server.stop().await;
}

#[tokio::test]
async fn who_is_not_let_in_is_written_down_without_what_they_showed() {
    let workspace = Workspace::open().await;
    let data = tempfile::tempdir().unwrap();
    let server = serving(data.path(), workspace.config(&[("HERALD_TOKEN", "the-token")])).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    assert_eq!(http.post(&server.client.url).send().await.unwrap().status(), 401);
    for n in 0..100 {
        let wrong = server.client.clone().with_token(&format!("wrong-{n}"));
        assert!(wrong.try_call("list_channels", json!({})).await.is_err());
    }
    let client = server.client.clone().with_token("the-token");
    let evil = http.post(&client.url).header("origin", "https://evil.example");
    let evil = evil.bearer_auth("the-token").json(&json!({})).send().await.unwrap();
    assert_eq!(evil.status(), 403);

    let denied = of(data.path(), "denied").await;
    let of = |why: &str| denied.iter().filter(|line| line["reason"] == why).count();
    assert_eq!((of("unauthenticated"), of("origin")), (1, 1), "{denied:?}");
    // A minute may have begun anew meanwhile.
    assert!((30..=60).contains(&of("wrong_token")), "a flood does not fill the store");
    assert_eq!(denied.len(), 2 + of("wrong_token"));
    assert!(!format!("{denied:?}").contains("wrong-"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_with_an_approval_stands_in_the_trail_in_its_order() {
    let workspace = Workspace::open().await;
    let bot = Bot::start(&workspace, &[]).await;
    let mut talk = Talk::new(&workspace, PLACES[0]);
    talk.says("approve two");
    talk.presses("bob", "Approve k8s_delete_pod").await;
    talk.sees("not yours to decide").await;
    talk.presses("alice", "Approve k8s_delete_pod").await;
    talk.presses("alice", "Reject k8s_scale").await;
    until("the turn has ended", async || of(bot.data(), "turn_ended").await.len() == 1).await;
    talk.says("approve");
    until("somebody is asked", async || of(bot.data(), "approval_asked").await.len() == 2).await;
    talk.sees("Approval needed").await;
    talk.says_as("bob", "cancel");
    until("the turn has ended", async || of(bot.data(), "turn_ended").await.len() == 2).await;

    let mut told = lines(bot.data()).await;
    told.retain(|line| line.get("turn").is_some());
    let said: Vec<_> = told
        .iter()
        .map(|it| {
            let tools = it["tools"].as_array().map_or(0, Vec::len);
            (text(it, "type"), text(it, "person"), text(it, "outcome"), tools)
        })
        .collect();
    let (alice, bob) = ("slack:U0ALICE", "slack:U0BOB");
    assert_eq!(
        said,
        [
            ("turn_started", alice, "", 0),
            ("approval_asked", alice, "", 2),
            ("denied", bob, "", 1),
            ("approval_decided", alice, "approved", 1),
            ("approval_decided", alice, "rejected", 1),
            ("turn_ended", alice, "answered", 0),
            ("turn_started", alice, "", 0),
            ("approval_asked", alice, "", 1),
            ("approval_decided", bob, "rejected", 1),
            ("turn_ended", alice, "cancelled", 0),
        ]
    );
    assert_eq!(told[2]["reason"], "not_theirs");
    assert_eq!(told[3]["tools"], json!(["k8s_delete_pod"]));
    assert!(told.iter().all(|line| line["agent"] == "default"), "{told:?}");
    assert!(told[..6].iter().all(|line| line["turn"] == told[0]["turn"]));
    bot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_that_nobody_made_is_nobodys() {
    let workspace = Workspace::open().await;
    let mut config = workspace.config(&[]);
    config.bot.approval_seconds = 1;
    let bot = Bot::configured(config, Duration::from_secs(10)).await;
    let mut talk = Talk::new(&workspace, PLACES[0]);
    talk.says("approve");
    until("the turn has ended", async || of(bot.data(), "turn_ended").await.len() == 1).await;
    let decided = of(bot.data(), "approval_decided").await;
    assert_eq!((decided.len(), text(&decided[0], "outcome")), (1, "expired"));
    assert!(decided[0].get("person").is_none(), "{decided:?}");
    bot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_heard_is_written_down_once_a_minute() {
    let workspace = Workspace::open().await;
    let bot = Bot::start(&workspace, &[("SLACK_ALLOWED_USERS", "U0ALICE")]).await;
    for n in 0..5 {
        Talk::new(&workspace, PLACES[0]).says_as("mallory", &format!("let me in {n}"));
    }
    Talk::new(&workspace, PLACES[0]).says("hello");
    until("alice is heard", async || !of(bot.data(), "turn_ended").await.is_empty()).await;
    let refused = of(bot.data(), "inbound_refused").await;
    assert_eq!(refused.len(), 1, "{refused:?}");
    let line = &refused[0];
    assert_eq!((text(line, "person"), text(line, "reason")), ("slack:U0MALLORY", "stranger"));
    assert!(!format!("{:?}", lines(bot.data()).await).contains("let me in"));
    bot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_bot_leaves_the_state_and_its_lines_or_neither() {
    let workspace = Workspace::open().await;
    let data = tempfile::tempdir().unwrap();
    let listen = format!("127.0.0.1:{}", free_port());
    let mut child = herald(&workspace.env())
        .args(["bot", "--listen", &listen, "--data-dir"])
        .arg(data.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    until("every listener is connected", async || {
        let Ok(answer) = http.get(format!("http://{listen}/readyz")).send().await else {
            return false;
        };
        answer.text().await.unwrap().matches("\"connected\"").count() == 3
    })
    .await;
    // The conversations are in different places when it dies.
    let mut talks: Vec<_> = PLACES.map(|place| Talk::new(&workspace, place)).into();
    for talk in &mut talks {
        talk.says("approve two");
    }
    talks[0].sees("Approval needed").await;
    child.kill().await.unwrap();

    let told = lines(data.path()).await;
    let store = store(data.path()).await;
    let later = SystemClock.now().after(Duration::from_secs(3_600));
    let held = store.conversations.hold("test", later, Duration::from_secs(30), 10).await.unwrap();
    let states: Vec<Value> = held
        .iter()
        .filter_map(|it| it.state.as_deref())
        .map(|state| serde_json::from_str(state).unwrap())
        .collect();
    let count = |act: &str, turn: &Value| {
        told.iter().filter(|line| line["type"] == act && line["turn"] == *turn).count()
    };
    let turns: Vec<&Value> =
        states.iter().map(|it| &it["turn"]).filter(|it| it.is_object()).collect();
    assert!(turns.iter().any(|turn| turn["pauses"] == 1), "one waits for approval: {states:?}");
    for turn in &turns {
        assert_eq!(count("turn_started", &turn["id"]), 1);
        assert_eq!(count("approval_asked", &turn["id"]) as u64, turn["pauses"].as_u64().unwrap());
    }
    let started = told.iter().filter(|line| line["type"] == "turn_started").count();
    assert_eq!(started, turns.len(), "no line tells of a turn that is not there: {told:?}");
    store.outbox.close().await;
}

/// A server whose rules stand in a file, and the file.
async fn ruled(workspace: &Workspace, data: &Path) -> (tempfile::NamedTempFile, Server) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "policy: {send: ['slack:C0ALERTS']}").unwrap();
    let env = workspace.env();
    let config = Config::load(Some(file.path()), &|name| env.get(name).cloned()).unwrap();
    let server = serving(data, config).await;
    (file, server)
}

#[tokio::test(flavor = "multi_thread")]
async fn other_rules_and_broken_ones_are_written_down() {
    let workspace = Workspace::open().await;
    let data = tempfile::tempdir().unwrap();
    let (file, server) = ruled(&workspace, data.path()).await;
    std::fs::write(file.path(), "policy: {send: ['slack:C0PRIVATE']}").unwrap();
    until("they count", async || of(data.path(), "rules_changed").await.len() == 1).await;
    std::fs::write(file.path(), "policy: {send: 'no-list-canary'}").unwrap();
    until("they do not", async || of(data.path(), "rules_refused").await.len() == 1).await;
    assert!(!format!("{:?}", lines(data.path()).await).contains("canary"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_rules_are_written_down_once_the_store_is_there_again() {
    let workspace = Workspace::open().await;
    let data = tempfile::tempdir().unwrap();
    let (file, server) = ruled(&workspace, data.path()).await;
    let url = format!("sqlite://{}", data.path().join("herald.db").display());
    let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
    let mut db = pool.acquire().await.unwrap();
    sqlx::query("ALTER TABLE audit RENAME TO away").execute(&mut *db).await.unwrap();
    std::fs::write(file.path(), "policy: {send: ['slack:C0PRIVATE']}").unwrap();
    until("they count, written down or not", async || {
        let listed = server.client.call("list_channels", json!({ "platform": "slack" })).await;
        listed.text.contains("C0PRIVATE")
    })
    .await;
    sqlx::query("ALTER TABLE away RENAME TO audit").execute(&mut *db).await.unwrap();
    drop(db);
    until("they are written down", async || of(data.path(), "rules_changed").await.len() == 1)
        .await;
    server.stop().await;
}

#[tokio::test]
async fn a_refusal_stays_one_when_the_trail_cannot_be_written() {
    let workspace = Workspace::open().await;
    let data = tempfile::tempdir().unwrap();
    let server = serving(data.path(), workspace.config(&[])).await;
    let answer = server.client.send("slack:C0PRIVATE", "psst").await;
    // Another process holds the store, for longer than anybody waits.
    let url = format!("sqlite://{}", data.path().join("herald.db").display());
    let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
    let mut db = pool.acquire().await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *db).await.unwrap();
    let again = server.client.send("slack:C0PRIVATE", "psst").await;
    assert_eq!((again.failed, again.text), (answer.failed, answer.text));
    sqlx::query("ROLLBACK").execute(&mut *db).await.unwrap();
    drop(db);
    server.stop().await;
}
