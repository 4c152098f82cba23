//! Clients with names: each has its own channels, and learns nothing of the others'; rules change while Herald runs.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use herald::config::Config;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::world::{Client, Options, Server, Workspace, herald, until};

const ONE: &str = "slack:C0GENERAL";
const OTHER: &str = "slack:C0ALERTS";
const THREAD: &str = "1700000000.000100";

fn hash(token: &str) -> String {
    format!("sha256:{:x}", Sha256::digest(token))
}

/// Two clients with a channel each, and another Discord channel for the second one.
fn two() -> Value {
    json!({
        "mcp": { "requests_per_minute": 0 },
        "clients": {
            "one": { "tokens": [hash("token-one")], "policy": { "send": ["room=slack:C0GENERAL"] } },
            "other": {
                "tokens": [hash("token-other"), hash("token-next")],
                "policy": { "send": ["alarms=slack:C0ALERTS", "discord:100000000000000001"] },
            },
        },
    })
}

fn write(file: &Path, settings: &Value) {
    // As Kubernetes does it: another file takes the place of the old one.
    let new = file.with_extension("new");
    std::fs::write(&new, settings.to_string()).unwrap();
    std::fs::rename(new, file).unwrap();
}

struct Trusting {
    workspace: Workspace,
    server: Server,
    file: PathBuf,
    _directory: tempfile::TempDir,
}

impl Trusting {
    async fn with(settings: Value) -> Self {
        let workspace = Workspace::open().await;
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("herald.yaml");
        write(&file, &settings);
        let mut env = workspace.env();
        // Without a name nobody may post anywhere here.
        env.retain(|name, _| !name.ends_with("_CHANNEL_IDS") && !name.ends_with("_CHAT_IDS"));
        let config = Config::load(Some(&file), &|name| env.get(name).cloned()).unwrap();
        // Shorter than Slack is made to ask for.
        let wait = Duration::from_secs(4);
        let server =
            Server::with(Options { data_dir: Some(directory.path().join("data")), wait, config })
                .await;
        Self { workspace, server, file, _directory: directory }
    }

    fn client(&self, token: &str) -> Client {
        self.server.client.clone().with_token(token)
    }

    /// The answer to any request, as text.
    async fn ask(&self, token: &str, method: &str, params: Value) -> String {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let asked =
            reqwest::Client::builder().no_proxy().build().unwrap().post(&self.server.client.url);
        let asked = asked
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", "2025-11-25")
            .bearer_auth(token)
            .json(&body);
        asked.send().await.unwrap().text().await.unwrap()
    }

    async fn ready(&self) -> Value {
        let url = self.server.client.url.replace("/mcp", "/readyz");
        reqwest::get(url).await.unwrap().json().await.unwrap()
    }
}

#[tokio::test]
async fn a_client_neither_uses_nor_learns_of_anothers_channels() {
    let herald = Trusting::with(two()).await;
    let (one, other) = (herald.client("token-one"), herald.client("token-other"));
    let sent = other.send(OTHER, "for the alarms").await;
    assert!(!sent.failed, "{}", sent.text);
    let delivery = sent.content["delivery_id"].as_str().unwrap().to_owned();
    assert!(!one.send(ONE, "for the room").await.failed);

    // Neither by ID nor by alias, in a thread, by an edit or a key; and always the same words.
    let refused = one.send("slack:C0NOSUCH", "x").await;
    assert!(refused.failed && refused.text.contains("C0GENERAL (room)"), "{}", refused.text);
    let ways = [
        one.send(OTHER, "x").await,
        one.send("slack:alarms", "x").await,
        one.send_with(OTHER, "x", json!({ "thread_ts": THREAD })).await,
        one.send_with(OTHER, "x", json!({ "thread_key": "incident" })).await,
        one.send_with(OTHER, "for the alarms", json!({ "idempotency_key": "k" })).await,
    ];
    for way in ways {
        assert_eq!((way.failed, &way.text), (true, &refused.text));
    }
    for tool in ["get_delivery", "update_message"] {
        let ask = async |id: &str| {
            let answer = one.call(tool, json!({ "delivery_id": id, "text": "x" })).await;
            let answer = if tool == "get_delivery" {
                one.call(tool, json!({ "delivery_id": id })).await
            } else {
                answer
            };
            assert!(answer.failed);
            answer.text.replace(id, "ID")
        };
        let unknown = ask("01900000-0000-7000-8000-000000000000").await;
        assert_eq!(ask(&delivery).await, unknown, "{tool}");
    }

    let everything = [
        ("tools/list", json!({})),
        ("tools/call", json!({ "name": "list_channels", "arguments": {} })),
        ("resources/read", json!({ "uri": "herald://channels" })),
        (
            "completion/complete",
            json!({
                "ref": { "type": "ref/prompt", "name": "announce_incident" },
                "argument": { "name": "channel", "value": "" },
            }),
        ),
        (
            "prompts/get",
            json!({
                "name": "announce_incident",
                "arguments": { "channel": "alarms", "title": "x", "severity": "high", "details": "y" },
            }),
        ),
    ];
    for (method, params) in everything {
        let answer = herald.ask("token-one", method, params).await;
        for secret in ["C0ALERTS", "100000000000000001", "for the alarms"] {
            assert!(!answer.contains(secret), "{method}: {answer}");
        }
        assert!(method == "prompts/get" || answer.contains("C0GENERAL"), "{method}: {answer}");
    }
    assert_eq!(herald.workspace.texts(OTHER).len(), 1);
    herald.server.stop().await;
}

#[tokio::test]
async fn a_caller_is_known_by_its_token_and_by_nothing_else_that_it_says() {
    let herald = Trusting::with(two()).await;
    let (tool, arguments) = crate::world::message(OTHER, "psst", json!({}));
    let body = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": { "name": tool, "arguments": arguments },
    });
    let asked = reqwest::Client::builder().no_proxy().build().unwrap();
    let asked = asked
        .post(format!("{}?client=other&access_token=token-other", herald.server.client.url))
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", "2025-11-25");
    let asked = ["x-user-id", "x-client", "x-forwarded-user", "x-kagent-agent", "from"]
        .into_iter()
        .fold(asked, |asked, name| asked.header(name, "other"));
    let answer = asked.bearer_auth("token-one").json(&body).send().await.unwrap();
    let answer = answer.text().await.unwrap();
    assert!(answer.contains("is not allowed"), "{answer}");
    assert!(herald.workspace.texts(OTHER).is_empty());
    herald.server.stop().await;
}

#[tokio::test]
async fn a_token_is_changed_without_a_restart() {
    let herald = Trusting::with(two()).await;
    let works = async |token: &str| {
        let call = herald.client(token).try_call("list_channels", json!({})).await;
        call.is_ok_and(|answer| !answer.failed)
    };
    assert!(works("token-other").await && works("token-next").await);
    let mut settings = two();
    settings["clients"]["other"]["tokens"] = json!([hash("token-next")]);
    write(&herald.file, &settings);
    until("the old token is refused", async || !works("token-other").await).await;
    assert!(works("token-next").await && works("token-one").await);
    herald.server.stop().await;
}

#[tokio::test]
async fn rules_change_without_a_restart_and_for_what_is_queued() {
    let herald = Trusting::with(two()).await;
    let other = herald.client("token-other");
    // Slack asks for patience, and the message waits.
    let slow = json!({ "platform": "slack", "kind": "rate_limit", "retry_after": 6 });
    herald.workspace.fault(slow);
    let queued = other.send(OTHER, "too late").await;
    assert_eq!(queued.content["status"], "queued", "{}", queued.text);
    let mut settings = two();
    settings["clients"]["other"]["policy"]["send"] = json!(["discord:100000000000000001"]);
    write(&herald.file, &settings);
    let id = queued.content["delivery_id"].clone();
    until("what was queued is refused", async || {
        let now = other.call("get_delivery", json!({ "delivery_id": id })).await;
        now.content["reason"] == "denied"
    })
    .await;
    assert!(other.send(OTHER, "nor now").await.failed);
    assert!(herald.workspace.texts(OTHER).is_empty());
    herald.server.stop().await;
}

/// Whatever the rules say now counts for what waits, and for whoever sends that again.
#[tokio::test]
async fn a_queued_link_is_stopped_by_a_shorter_list_and_sent_again_by_it() {
    let herald = Trusting::with(two()).await;
    let other = herald.client("token-other");
    let slow = json!({ "platform": "slack", "kind": "rate_limit", "retry_after": 6 });
    herald.workspace.fault(slow);
    let key = json!({ "idempotency_key": "k" });
    let text = "see [the log](https://bad.example/log)";
    let queued = other.send_with(OTHER, text, key.clone()).await;
    assert_eq!(queued.content["status"], "queued", "{}", queued.text);
    let mut settings = two();
    settings["clients"]["other"]["policy"]["link_domains"] = json!(["ok.example"]);
    write(&herald.file, &settings);
    let id = queued.content["delivery_id"].clone();
    let now = async || other.call("get_delivery", json!({ "delivery_id": id })).await.content;
    until("the link is stopped", async || now().await["status"] == "failed").await;
    let why = now().await;
    assert_eq!(why["reason"], "denied", "{why}");
    assert!(why["hint"].as_str().unwrap().contains("send it again"), "{why}");
    assert!(herald.workspace.texts(OTHER).is_empty());

    let again = other.send_with(OTHER, text, key).await;
    assert_eq!(again.content["delivery_id"], id, "{}", again.text);
    until("it arrives", async || now().await["status"] == "delivered").await;
    let shown = herald.workspace.texts(OTHER);
    assert_eq!(shown, ["see the log (`https://bad.example/log`)"]);
    assert!(now().await["warnings"].to_string().contains("not allowed"), "{}", now().await);
    herald.server.stop().await;
}

#[tokio::test]
async fn the_name_of_a_queued_thread_is_looked_at_again() {
    let mut settings = two();
    settings["clients"]["other"]["policy"]["secrets"] = json!("flag");
    let herald = Trusting::with(settings).await;
    let other = herald.client("token-other");
    let room = "discord:100000000000000001";
    let slow = json!({
        "platform": "discord", "kind": "rate_limit", "retry_after": 6, "method": "start_thread",
    });
    herald.workspace.fault(slow);
    let name = format!("ghp_{}", "16C7e42F292c6912E7710c838347Ae178B4a");
    let queued = other.send_with(room, "calm", json!({ "thread_key": name })).await;
    assert_eq!(queued.content["status"], "queued", "{}", queued.text);
    write(&herald.file, &two());
    let id = queued.content["delivery_id"].clone();
    let now = async || other.call("get_delivery", json!({ "delivery_id": id })).await.content;
    until("the thread is not opened", async || now().await["status"] == "failed").await;
    assert_eq!(now().await["reason"], "denied", "{}", now().await);
    let requests = herald.workspace.world.requests();
    let tries = requests.iter().filter(|it| it.method == "start_thread").count();
    assert_eq!(tries, 1, "the one that was told to wait");
    herald.server.stop().await;
}

/// One client's guesses cost another one nothing, and its answers tell another one nothing.
#[tokio::test]
async fn whose_thread_a_channel_is_is_asked_for_each_client_by_itself() {
    let mut settings = two();
    settings["clients"]["one"]["policy"] = json!({ "send": ["discord:100000000000000002"] });
    let herald = Trusting::with(settings).await;
    let (one, other) = (herald.client("token-one"), herald.client("token-other"));
    let room = "discord:100000000000000001";
    let first = other.send_with(room, "opens", json!({ "thread_key": "incident" })).await;
    let thread = format!("discord:{}", first.content["message_ids"][0].as_str().unwrap());
    let questions = || {
        let requests = herald.workspace.world.requests().into_iter();
        requests.filter(|it| it.method == "get_channel").count()
    };
    assert_eq!(other.send(&thread, "into it").await.content["status"], "delivered");
    let before = questions();
    let refused = one.send(&thread, "theirs").await;
    assert!(refused.failed && refused.text.contains("is not allowed"), "{}", refused.text);
    assert_eq!(questions(), before + 1, "no sooner than for one that nobody has ever used");
    assert!(one.send(&thread, "theirs").await.failed);
    assert_eq!(questions(), before + 1, "its own answers are remembered");

    let mut told = Vec::new();
    for n in 0..70 {
        told.push(one.send(&format!("discord:4000000000000000{n:02}"), "x").await.text);
    }
    let unasked = told.iter().filter(|text| text.contains("cannot be asked right now")).count();
    assert_eq!(unasked, 11, "no denial that is none: {told:?}");
    let fresh = other.send_with(room, "another", json!({ "thread_key": "other" })).await;
    let thread = format!("discord:{}", fresh.content["message_ids"][0].as_str().unwrap());
    let sent = other.send(&thread, "others are not kept from it").await;
    assert_eq!(sent.content["status"], "delivered", "{}", sent.text);
    herald.server.stop().await;
}

#[tokio::test]
async fn a_broken_file_keeps_the_old_rules_and_says_so() {
    let herald = Trusting::with(two()).await;
    assert_eq!(herald.ready().await["checks"]["rules"]["ok"], true);
    for broken in ["clients: [", "clients: {one: {tokenz: []}}", "colour: blue"] {
        std::fs::write(&herald.file, broken).unwrap();
        until("it says so", async || herald.ready().await["checks"]["rules"]["ok"] == false).await;
        let ready = herald.ready().await;
        assert_eq!(ready["status"], "ready", "the old rules go on: {ready}");
        assert!(!herald.client("token-one").send(ONE, broken).await.failed);
        assert!(herald.client("token-one").send(OTHER, broken).await.failed);
        write(&herald.file, &two());
        until("it is well again", async || herald.ready().await["checks"]["rules"]["ok"] == true)
            .await;
    }
    // Nor does a file without clients let everybody in.
    write(&herald.file, &json!({}));
    until("it says so", async || herald.ready().await["checks"]["rules"]["ok"] == false).await;
    assert!(herald.client("").try_call("list_channels", json!({})).await.is_err());
    herald.server.stop().await;
}

#[tokio::test]
async fn a_client_sends_no_more_than_its_rate() {
    let mut settings = two();
    settings["clients"]["other"]["policy"]["messages_per_minute"] = json!(2);
    settings["clients"]["one"]["policy"] = json!({ "send": [ONE, OTHER], "channels_per_minute": 1, "longest_text": 10, "threads": false });
    let herald = Trusting::with(settings).await;
    let (one, other) = (herald.client("token-one"), herald.client("token-other"));
    assert!(!other.send(OTHER, "1").await.failed && !other.send(OTHER, "2").await.failed);
    let third = other.send(OTHER, "3").await;
    assert!(third.failed && third.text.contains("2 messages in any minute"), "{}", third.text);
    assert!(!other.send(OTHER, "2").await.failed, "a repetition is no message more");
    assert!(!one.send(ONE, "1").await.failed, "others are not slowed down");
    let elsewhere = one.send(OTHER, "2").await;
    assert!(elsewhere.text.contains("1 channel in any minute"), "{}", elsewhere.text);
    let long = one.send(ONE, "eleven char").await;
    assert!(long.failed && long.text.contains("the most is 10"), "{}", long.text);
    for thread in [json!({ "thread_ts": THREAD }), json!({ "thread_key": "incident" })] {
        let threaded = one.send_with(ONE, "x", thread).await;
        assert!(threaded.failed && threaded.text.contains("threads"), "{}", threaded.text);
    }
    assert_eq!(herald.workspace.texts(OTHER), ["1", "2"]);
    herald.server.stop().await;
}

#[tokio::test]
async fn a_secret_does_not_leave_by_a_message() {
    let mut settings = two();
    settings["clients"]["one"]["policy"]["secrets"] = json!("block");
    let herald = Trusting::with(settings).await;
    let (one, other) = (herald.client("token-one"), herald.client("token-other"));
    // Made up, as random as a real one.
    let token = format!("ghp_{}", "16C7e42F292c6912E7710c838347Ae178B4a");
    let text = format!("the token is {token}, look");
    let blocked = one.send(ONE, &text).await;
    assert!(blocked.failed && blocked.text.contains("secret"), "{}", blocked.text);
    assert!(!blocked.text.contains(&token));
    let redacted = other.send(OTHER, &text).await;
    assert!(!redacted.failed, "{}", redacted.text);
    let shown = herald.workspace.texts(OTHER).concat();
    assert!(shown.contains("[redacted:") && !shown.contains(&token), "{shown}");
    let warnings = redacted.content["warnings"].to_string();
    assert!(warnings.contains("taken out"), "{warnings}");

    // Herald's own never leaves, whatever it is dressed as.
    let own = herald.workspace.env()["SLACK_BOT_TOKEN"].clone();
    let spread: String = own.chars().flat_map(|c| [c, ' ']).collect();
    let (one_half, other_half) = own.split_at(9);
    for dressed in [own.clone(), spread, format!("**{one_half}**`{other_half}`")] {
        let answer = other.send(OTHER, &dressed).await;
        assert!(answer.failed && answer.text.contains("own-secret"), "{}", answer.text);
    }
    assert_eq!(herald.workspace.texts(OTHER).len(), 1);
    herald.server.stop().await;
}

/// A whole process, as an operator runs it.
#[tokio::test]
async fn more_rules_for_secrets_come_from_a_file_of_the_operators() {
    let workspace = Workspace::open().await;
    let directory = tempfile::tempdir().unwrap();
    let rules = directory.path().join("rules.toml");
    let acme = "[[rules]]\nid = 'acme'\nregex = '''acme_[a-z]{12}'''\nkeywords = ['acme_']\n";
    std::fs::write(&rules, acme).unwrap();
    let mut env = workspace.env();
    env.insert("HERALD_SECRET_RULES".to_owned(), rules.to_str().unwrap().to_owned());
    let sent = herald(&env).args(["send", OTHER, "it is acme_abcdefghijkl here"]).output();
    assert!(sent.await.unwrap().status.success());
    assert_eq!(workspace.texts(OTHER), ["it is \\[redacted:acme\\] here"]);
    std::fs::write(&rules, "[[rules]]\nid = 'acme'\nregex = '''('''\n").unwrap();
    let refused = herald(&env).args(["send", OTHER, "x"]).output().await.unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("HERALD_SECRET_RULES") && said.contains("acme"), "{said}");
}

fn rule(word: &str) -> String {
    format!("[[rules]]\nid = '{word}'\nregex = '''{word}_[a-z]{{12}}'''\nkeywords = ['{word}_']\n")
}

/// No text is said twice.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// Waits until a rule of this name counts.
async fn until_hidden(workspace: &Workspace, client: &Client, word: &str) {
    until(&format!("{word} is hidden"), async || {
        // One that was accepted by the old rules fails when the new ones count before it is sent.
        let text = format!("number {} is", COUNT.fetch_add(1, Ordering::Relaxed));
        client.send(OTHER, &format!("{text} {word}_abcdefghijkl")).await;
        let shown = workspace.texts(OTHER);
        shown.last().is_some_and(|last| {
            last.starts_with(&text) && last.contains(&format!("redacted:{word}"))
        })
    })
    .await;
}

#[tokio::test]
async fn rules_for_secrets_change_without_a_restart_and_broken_ones_do_not_count() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (directory.path().join("1.toml"), directory.path().join("2.toml"));
    std::fs::write(&first, rule("acme")).unwrap();
    std::fs::write(&second, rule("gamma")).unwrap();
    let mut settings = two();
    settings["guard"]["secret_rules"] = json!(first);
    let herald = Trusting::with(settings.clone()).await;
    let (workspace, client) = (&herald.workspace, herald.client("token-other"));
    until_hidden(workspace, &client, "acme").await;
    std::fs::write(&first, rule("beta")).unwrap();
    until_hidden(workspace, &client, "beta").await;

    for broken in [Some("[[rules]]\nid = 'beta'\nregex = '''('''\n"), None] {
        match broken {
            Some(text) => std::fs::write(&first, text).unwrap(),
            None => std::fs::remove_file(&first).unwrap(),
        }
        until("it says so", async || herald.ready().await["checks"]["rules"]["ok"] == false).await;
        until_hidden(workspace, &client, "beta").await;
        std::fs::write(&first, rule("beta")).unwrap();
        until("it is well again", async || herald.ready().await["checks"]["rules"]["ok"] == true)
            .await;
    }

    // Another file is watched like the first one.
    settings["guard"]["secret_rules"] = json!(second);
    write(&herald.file, &settings);
    until_hidden(workspace, &client, "gamma").await;
    std::fs::write(&second, rule("delta")).unwrap();
    until_hidden(workspace, &client, "delta").await;
    herald.server.stop().await;
}

#[tokio::test]
async fn rules_for_secrets_are_watched_where_nothing_else_can_change() {
    let workspace = Workspace::open().await;
    let rules = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(rules.path(), rule("acme")).unwrap();
    let config = workspace.config(&[("HERALD_SECRET_RULES", rules.path().to_str().unwrap())]);
    let wait = Duration::from_secs(4);
    let server = Server::with(Options { data_dir: None, wait, config }).await;
    until_hidden(&workspace, &server.client, "acme").await;
    std::fs::write(rules.path(), rule("beta")).unwrap();
    until_hidden(&workspace, &server.client, "beta").await;
    server.stop().await;
}
