//! Nobody knows whether it arrived: the answer was lost after the platform had done what it was asked.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use futures_util::future::join_all;
use herald::model::{DeliveryState, Doubt};
use herald::sandbox::Message;
use herald::store::sqlite::Sqlite;
use herald::store::{Filter, Outbox};
use serde_json::{Value, json};
use tokio::process::Child;

use crate::world::{
    Answer, Client, DISCORD, Options, SLACK, Server, TELEGRAM, Workspace, free_port, herald,
    message, until,
};

/// Slack's channel where the bot reads along although agents may not post to it by default.
const PRIVATE: &str = "slack:C0PRIVATE";

/// What happens to the answer, and what must become of the message.
struct Case {
    channel: &'static str,
    fault: &'static str,
    /// The scopes that Slack's token lacks.
    lacks: &'static str,
    on_unknown: &'static str,
    doubt: Doubt,
    /// How often people see it.
    shown: usize,
}

const fn case(
    channel: &'static str,
    fault: &'static str,
    lacks: &'static str,
    on_unknown: &'static str,
    doubt: Doubt,
    shown: usize,
) -> Case {
    Case { channel, fault, lacks, on_unknown, doubt, shown }
}

#[rustfmt::skip]
const CASES: [Case; 14] = [
    case(SLACK, "drop_after", "", "resend", Doubt::Found, 1),
    case(SLACK, "drop_after", "", "hold", Doubt::Found, 1),
    case(SLACK, "drop_before", "", "resend", Doubt::Absent, 1),
    case(SLACK, "drop_before", "", "hold", Doubt::Absent, 1),
    case(SLACK, "drop_after", "channels:history", "resend", Doubt::Resent, 2),
    case(SLACK, "drop_after", "channels:history", "hold", Doubt::Held, 1),
    // Each kind of channel has its own.
    case(SLACK, "drop_after", "groups:history", "resend", Doubt::Found, 1),
    case(PRIVATE, "drop_after", "channels:history", "hold", Doubt::Found, 1),
    case(PRIVATE, "drop_after", "groups:history", "hold", Doubt::Held, 1),
    case(DISCORD, "drop_after", "", "hold", Doubt::Recognised, 1),
    case(DISCORD, "drop_before", "", "hold", Doubt::Recognised, 1),
    case(TELEGRAM, "drop_after", "", "resend", Doubt::Resent, 2),
    case(TELEGRAM, "drop_before", "", "resend", Doubt::Resent, 1),
    case(TELEGRAM, "drop_after", "", "hold", Doubt::Held, 1),
];

/// A Herald of a test, and what it counted.
struct Counted {
    herald: Server,
    metrics: String,
}

impl Counted {
    async fn start(workspace: &Workspace, on_unknown: &str) -> Self {
        let port = free_port();
        let mut config = workspace.config(&[
            ("HERALD_ON_UNKNOWN", on_unknown),
            ("SLACK_CHANNEL_IDS", "C0ALERTS,C0PRIVATE"),
        ]);
        config.metrics_listen = Some(([127, 0, 0, 1], port).into());
        let options = Options { data_dir: None, wait: Duration::from_secs(30), config };
        let metrics = format!("http://127.0.0.1:{port}/metrics");
        Self { herald: Server::with(options).await, metrics }
    }

    /// How often each doubt was settled how.
    async fn doubts(&self) -> BTreeMap<String, String> {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let text = http.get(&self.metrics).send().await.unwrap().text().await.unwrap();
        let lines = text.lines().filter_map(|line| line.strip_prefix("herald_ambiguous_total"));
        lines
            .filter_map(|line| line.rsplit_once(' '))
            .filter(|(_, count)| *count != "0")
            .map(|(series, count)| (series.to_owned(), count.to_owned()))
            .collect()
    }
}

fn series(channel: &str, doubt: Doubt, count: usize) -> BTreeMap<String, String> {
    let platform = channel.split_once(':').unwrap().0;
    let outcome = doubt.as_str();
    let series = format!("{{platform=\"{platform}\",outcome=\"{outcome}\"}}");
    [(series, count.to_string())].into()
}

/// The next post in a channel goes wrong in this way.
fn strikes(workspace: &Workspace, channel: &str, fault: &str) {
    let platform = channel.split_once(':').unwrap().0;
    let method = match platform {
        "slack" => "chat.postMessage",
        "discord" => "create_message",
        _ => "sendMessage",
    };
    workspace.fault(
        json!({ "platform": platform, "channel": channel, "method": method, "kind": fault }),
    );
}

/// What people see in a channel.
fn shown(workspace: &Workspace, channel: &str) -> Vec<Message> {
    let all = workspace.world.messages(channel).into_iter();
    all.filter(|message| !message.deleted).collect()
}

fn ids(messages: &[Message]) -> Value {
    messages.iter().map(|message| message.id.clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_doubt_is_settled_as_the_platform_allows_and_told() {
    join_all(CASES.iter().map(async |case| {
        let Case { channel, fault, lacks, on_unknown, doubt, shown: often } = *case;
        let what = format!("{channel} {fault} {lacks} {on_unknown}");
        let workspace = Workspace::open().await;
        let counted = Counted::start(&workspace, on_unknown).await;
        if !lacks.is_empty() {
            workspace.fault(json!({ "platform": "slack", "kind": "missing_scope", "scopes": lacks, "times": 0 }));
        }
        strikes(&workspace, channel, fault);
        let answer = counted.herald.client.send(channel, "once, please").await;

        assert!(!answer.failed, "{what}: {answer:?}");
        let seen = shown(&workspace, channel);
        assert_eq!(seen.len(), often, "{what}: {answer:?}");
        let warnings = &answer.content["warnings"];
        match doubt.warning() {
            Some(warning) => {
                assert_eq!(answer.content["status"], "delivered", "{what}: {answer:?}");
                assert_eq!(*warnings, json!([warning]), "{what}");
                let last = seen.last().unwrap();
                assert_eq!(answer.content["message_ids"], json!([last.id]), "{what}: the ID is the message's");
            }
            None => {
                assert_eq!(answer.content["status"], "unknown", "{what}: {answer:?}");
                assert_eq!(*warnings, json!([]), "{what}");
                let hint = answer.content["hint"].as_str().unwrap();
                assert!(hint.contains("Do not send it again"), "{what}: {hint}");
            }
        }
        assert_eq!(counted.doubts().await, series(channel, doubt, 1), "{what}");
        counted.herald.stop().await;
    }))
    .await;
}

#[tokio::test]
async fn what_was_found_can_be_edited_as_if_its_answer_had_come() {
    let workspace = Workspace::open().await;
    let counted = Counted::start(&workspace, "hold").await;
    let client = &counted.herald.client;
    workspace
        .fault(json!({ "platform": "slack", "method": "chat.postMessage", "kind": "drop_after" }));
    // The history does not answer at once either.
    workspace.fault(json!({ "platform": "slack", "method": "conversations.history", "kind": "rate_limit", "retry_after": 1 }));
    workspace.fault(
        json!({ "platform": "slack", "method": "conversations.history", "kind": "server_error" }),
    );
    workspace.fault(
        json!({ "platform": "slack", "method": "conversations.history", "kind": "html_ok" }),
    );
    let sent = client.send(SLACK, "good morning").await;
    assert_eq!(sent.content["status"], "delivered", "{sent:?}");
    let seen = shown(&workspace, SLACK);
    assert_eq!(seen.len(), 1, "asking again is not sending again");
    let link = sent.content["permalink"].as_str().unwrap();
    assert!(link.ends_with(&format!("/C0ALERTS/p{}", seen[0].id.replace('.', ""))), "{link}");
    let edit = json!({ "delivery_id": sent.content["delivery_id"], "text": "good evening" });
    assert_eq!(client.call("update_message", edit).await.content["status"], "delivered");
    assert_eq!(workspace.texts(SLACK), ["good evening"]);
    assert_eq!(counted.doubts().await, series(SLACK, Doubt::Found, 1));
}

/// Where it stands in a thread it is found there: by the parent, by a reply, and if the channel shows it too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_is_found_in_its_thread() {
    let workspace = Workspace::open().await;
    let counted = Counted::start(&workspace, "hold").await;
    let client = &counted.herald.client;
    let id = |answer: &Answer| answer.content["message_ids"][0].as_str().unwrap().to_owned();
    let parent = id(&client.send(SLACK, "parent").await);
    let reply = id(&client.send_with(SLACK, "reply", json!({ "thread_ts": parent })).await);
    let lost = [
        json!({ "thread_ts": parent }),
        json!({ "thread_ts": reply }),
        json!({ "thread_ts": parent, "reply_broadcast": true }),
    ];
    for (n, placement) in lost.iter().enumerate() {
        workspace.fault(
            json!({ "platform": "slack", "method": "chat.postMessage", "kind": "drop_after" }),
        );
        let answer = client.send_with(SLACK, &format!("lost {n}"), placement.clone()).await;
        let last = shown(&workspace, SLACK).pop().unwrap();
        assert_eq!(answer.content["message_ids"], json!([last.id]), "{answer:?}");
        assert_eq!(last.thread.as_deref(), Some(parent.as_str()));
    }
    assert_eq!(workspace.texts(SLACK), ["parent", "reply", "lost 0", "lost 1", "lost 2"]);
    // Nor is a reply that never arrived taken for one of these.
    workspace
        .fault(json!({ "platform": "slack", "method": "chat.postMessage", "kind": "drop_before" }));
    let again = client.send_with(SLACK, "lost 3", json!({ "thread_ts": reply })).await;
    assert_eq!(again.content["warnings"], json!([Doubt::Absent.warning()]), "{again:?}");
    assert_eq!(workspace.texts(SLACK).len(), 6);
    let both = [series(SLACK, Doubt::Found, 3), series(SLACK, Doubt::Absent, 1)];
    assert_eq!(counted.doubts().await, both.into_iter().flatten().collect());
}

/// Each part is a step of its own, and the parts that follow stand in the thread of the one that was found.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_part_of_a_long_message_is_found() {
    let workspace = Workspace::open().await;
    let counted = Counted::start(&workspace, "hold").await;
    let text = "many words here. ".repeat(900);
    workspace.fault(json!({ "platform": "slack", "method": "chat.postMessage", "kind": "drop_after", "times": 2 }));
    let answer = counted.herald.client.send(SLACK, &text).await;
    assert_eq!(answer.content["status"], "delivered", "{answer:?}");
    let seen = shown(&workspace, SLACK);
    assert_eq!(seen.len(), 2, "each part once");
    assert_eq!(answer.content["message_ids"], ids(&seen));
    assert_eq!(seen[1].thread.as_ref(), Some(&seen[0].id));
    assert_eq!(answer.content["warnings"], json!([Doubt::Found.warning()]), "told once");
    assert_eq!(counted.doubts().await, series(SLACK, Doubt::Found, 2));
}

/// A `herald serve` of its own process, without pauses between messages.
async fn serve(workspace: &Workspace, data: &Path, on_unknown: &str) -> (Child, Client) {
    let port = free_port();
    let file = data.join("herald.yaml");
    let fast = ["slack", "discord", "telegram"]
        .map(|platform| format!("{platform}: {{pace: {{interval_ms: 0, burst: 1}}}}\n"));
    std::fs::write(&file, fast.concat() + "mcp: {requests_per_minute: 0}\n").unwrap();
    let child = herald(&workspace.env())
        .env("HERALD_ON_UNKNOWN", on_unknown)
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
    (child, client)
}

async fn a_kill_before_the_answer(on_unknown: &str, expected: [(&str, Doubt, usize); 3]) {
    let workspace = Workspace::open().await;
    let data = tempfile::tempdir().unwrap();
    let (mut child, client) = serve(&workspace, data.path(), on_unknown).await;
    for (channel, _, _) in expected {
        strikes(&workspace, channel, "hang_after");
        let (tool, arguments) = message(channel, "killed", json!({}));
        let client = client.clone();
        tokio::spawn(async move { client.try_call(&tool, arguments).await });
    }
    until("all of it has arrived", async || {
        expected.iter().all(|(channel, _, _)| !workspace.texts(channel).is_empty())
    })
    .await;
    child.kill().await.unwrap();

    let _running = serve(&workspace, data.path(), on_unknown).await;
    let outbox = Sqlite::open(&data.path().join("data")).await.unwrap();
    let all = Filter { most: 10, ..Filter::default() };
    until("every doubt is settled", async || {
        outbox.list(&all).await.unwrap().iter().all(|delivery| delivery.state.is_final())
    })
    .await;
    let deliveries = outbox.list(&all).await.unwrap();
    assert_eq!(deliveries.len(), expected.len());
    for (channel, doubt, often) in expected {
        assert_eq!(workspace.texts(channel).len(), often, "{channel} {on_unknown}");
        let mut found = deliveries.iter().filter(|it| it.channel.to_string() == channel);
        let delivery = found.next().unwrap();
        let warnings: Vec<&str> = delivery.warnings.iter().map(String::as_str).collect();
        assert_eq!(warnings, doubt.warning().into_iter().collect::<Vec<_>>(), "{channel}");
        let state = match doubt {
            Doubt::Held => DeliveryState::Unknown,
            _ => DeliveryState::Delivered,
        };
        assert_eq!(delivery.state, state, "{channel} {on_unknown}");
    }
    outbox.close().await;
}

/// It had arrived when Herald was killed, and only the platform knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_before_the_answer_is_a_doubt_that_the_next_process_settles() {
    tokio::join!(
        a_kill_before_the_answer(
            "resend",
            [
                (SLACK, Doubt::Found, 1),
                (DISCORD, Doubt::Recognised, 1),
                (TELEGRAM, Doubt::Resent, 2)
            ]
        ),
        a_kill_before_the_answer(
            "hold",
            [(SLACK, Doubt::Found, 1), (DISCORD, Doubt::Recognised, 1), (TELEGRAM, Doubt::Held, 1)]
        ),
    );
}
