//! Bad input gets a clear error, and nothing is lost.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::world::{DISCORD, EVERY, Options, SLACK, Server, TELEGRAM, Workspace, message};

#[tokio::test]
async fn a_channel_that_is_not_allowed_is_refused_the_same_way_whether_it_exists_or_not() {
    let workspace = Workspace::open().await;
    let herald = Server::start(&workspace).await;
    let private = herald.client.send("slack:C0PRIVATE", "psst").await;
    assert!(private.failed);
    assert_eq!(
        private.text,
        "posting to that Slack channel is not allowed; you may use: C0GENERAL, C0ALERTS (alerts)"
    );
    for name in ["C0NOSUCH", "#general", "100000000000000001", "telegram:-1001000000001"] {
        let answer = herald.client.send(&format!("slack:{name}"), "psst").await;
        assert_eq!((answer.failed, &answer.text), (true, &private.text), "{name}");
    }
    assert!(workspace.world.requests().is_empty(), "nothing was asked of Slack");
}

#[tokio::test]
async fn each_bad_argument_is_named() {
    let workspace = Workspace::open().await;
    let herald = Server::start(&workspace).await;
    let huge = "x".repeat(1_000_000);
    let too_many = "many words ".repeat(9_000);
    let cases: [(&str, Value, &str); 17] = [
        ("send_message_to_slack", json!({ "text": "hi" }), "channel_id"),
        ("send_message_to_slack", json!({ "channel_id": "C0ALERTS" }), "text"),
        ("send_message_to_slack", json!({ "channel_id": "C0ALERTS", "text": ["hi"] }), "text"),
        ("send_message_to_slack", json!({ "channel_id": "C0ALERTS", "text": "" }), "empty"),
        ("send_message_to_slack", json!({ "channel_id": "C0ALERTS", "text": " \n\t " }), "empty"),
        (
            "send_message_to_slack",
            json!({ "channel_id": "C0ALERTS", "text": "\u{0}\u{7}" }),
            "empty",
        ),
        ("send_message_to_slack", json!({ "channel_id": "C0ALERTS", "text": huge }), "text"),
        (
            "send_message_to_discord",
            json!({ "channel_id": "100000000000000001", "text": too_many }),
            "too long",
        ),
        (
            "send_message_to_slack",
            json!({ "channel_id": "C0ALERTS", "text": "x", "colour": 1 }),
            "colour",
        ),
        (
            "send_message_to_slack",
            json!({ "channel_id": "C0ALERTS", "text": "x", "thread_ts": "yesterday" }),
            "thread_ts",
        ),
        (
            "send_message_to_slack",
            json!({ "channel_id": "C0ALERTS", "text": "x", "thread_key": "" }),
            "thread_key",
        ),
        (
            "send_message_to_discord",
            json!({ "channel_id": "100000000000000001", "text": "x", "reply_to": "it" }),
            "reply_to",
        ),
        (
            "send_message_to_telegram",
            json!({ "chat_id": "-1001000000001", "text": "x", "message_thread_id": "a" }),
            "message_thread_id",
        ),
        ("update_message", json!({ "delivery_id": "nonsense", "text": "x" }), "delivery_id"),
        (
            "get_delivery",
            json!({ "delivery_id": "0198c0de-0000-7000-8000-000000000000" }),
            "delivery_id",
        ),
        ("get_delivery", json!({}), "delivery_id"),
        ("list_channels", json!({ "platform": "irc" }), "platform"),
    ];
    for (tool, arguments, named) in cases {
        let shown: String = arguments.to_string().chars().take(120).collect();
        let answer = herald.client.call(tool, arguments).await;
        assert!(answer.failed, "{tool} {shown}: {answer:?}");
        assert!(
            answer.text.contains(named),
            "{tool} {shown}: {:?} does not name {named}",
            answer.text
        );
        assert!(answer.text.len() < 600, "{tool} {shown}: too long an answer");
    }
    assert!(EVERY.iter().all(|channel| workspace.texts(channel).is_empty()));
}

#[tokio::test]
async fn control_characters_are_dropped_and_the_text_arrives() {
    let workspace = Workspace::open().await;
    let herald = Server::start(&workspace).await;
    for channel in EVERY {
        let answer = herald.client.send(channel, "a\u{0}b\u{1b}[31mc\u{7f}").await;
        assert_eq!(answer.content["status"], "delivered", "{channel}: {answer:?}");
        let text = &workspace.texts(channel)[0];
        assert!(!text.chars().any(|c| c.is_control()), "{text:?}");
    }
}

#[tokio::test]
async fn a_text_of_only_mentions_arrives_without_its_sting() {
    let workspace = Workspace::open().await;
    let herald = Server::start(&workspace).await;
    for channel in EVERY {
        let answer = herald.client.send(channel, "@everyone <!channel>").await;
        assert_eq!(answer.content["status"], "delivered", "{channel}: {answer:?}");
        assert!(!workspace.world.messages(channel)[0].pinged_everyone);
    }
}

/// What the platform does, what the agent hears, and a word of the advice. This Herald keeps nothing, as `herald send`
/// and stdio do: it says at once that it failed.
#[tokio::test]
async fn each_refusal_of_a_platform_becomes_advice() {
    let cases = [
        (SLACK, "revoked_token", "failed", "auth", "SLACK_BOT_TOKEN"),
        (DISCORD, "revoked_token", "failed", "auth", "DISCORD_BOT_TOKEN"),
        (TELEGRAM, "revoked_token", "failed", "auth", "TELEGRAM_BOT_TOKEN"),
        (SLACK, "archived", "failed", "channel_archived", "archived"),
        (TELEGRAM, "blocked", "failed", "", "bot"),
    ];
    for (channel, kind, status, reason, advice) in cases {
        let workspace = Workspace::open().await;
        let herald = Server::start(&workspace).await;
        let platform = channel.split_once(':').unwrap().0;
        workspace.fault(json!({ "platform": platform, "kind": kind, "times": 0 }));
        let answer = herald.client.send(channel, "hello").await;
        assert!(answer.failed, "{channel} {kind}: {answer:?}");
        assert_eq!(answer.content["status"], status, "{channel} {kind}");
        if !reason.is_empty() {
            assert_eq!(answer.content["reason"], reason, "{channel} {kind}: {answer:?}");
        }
        assert!(answer.text.contains(advice), "{channel} {kind}: {}", answer.text);
        assert!(workspace.texts(channel).is_empty());
    }
}

/// Whoever keeps messages keeps these: the next secret delivers them.
#[tokio::test]
async fn a_refused_token_is_not_shown_again_and_what_waits_goes_out_with_the_next_one() {
    for (channel, name, wrong) in [
        (SLACK, "SLACK_BOT_TOKEN", "xoxb-revoked-not-a-secret"),
        (DISCORD, "DISCORD_BOT_TOKEN", "revoked.not-a.secret"),
        (TELEGRAM, "TELEGRAM_BOT_TOKEN", "1:revoked-not-a-secret"),
    ] {
        let workspace = Workspace::open().await;
        let data = tempfile::tempdir().unwrap();
        let start = async |config| {
            let data_dir = Some(data.path().to_owned());
            Server::with(Options { data_dir, wait: Duration::from_secs(18), config }).await
        };
        let herald = start(workspace.config(&[(name, wrong)])).await;
        let mut accepted = Vec::new();
        for text in ["one", "two", "three"] {
            let called = Instant::now();
            let answer = herald.client.send(channel, text).await;
            // Long before the caller's patience ends.
            assert!(called.elapsed() < Duration::from_secs(9), "{channel}: {:?}", called.elapsed());
            assert!(!answer.failed, "it is not lost: {answer:?}");
            assert_eq!(answer.content["status"], "queued", "{answer:?}");
            assert_eq!(answer.content["reason"], "auth", "{answer:?}");
            let hint = answer.content["hint"].as_str().unwrap();
            assert!(hint.contains(name) && hint.contains("stays queued"), "{hint}");
            assert!(!answer.text.contains(wrong), "{answer:?}");
            accepted.push(answer.content["delivery_id"].clone());
        }
        assert_eq!(posts(&workspace), 1, "{channel}: the token was shown again");
        herald.stop().await;

        // The same secret is not tried by the next process either.
        let herald = start(workspace.config(&[(name, wrong)])).await;
        let id = json!({ "delivery_id": accepted[0] });
        let stands = herald.client.call("get_delivery", id.clone()).await;
        assert_eq!(
            (&stands.content["status"], &stands.content["reason"]),
            (&json!("queued"), &json!("auth"))
        );
        herald.stop().await;
        assert_eq!(posts(&workspace), 1, "{channel}: the token was shown again");

        let herald = start(workspace.config(&[])).await;
        crate::world::until("all of it is delivered", async || workspace.texts(channel).len() == 3)
            .await;
        assert_eq!(workspace.texts(channel), ["one", "two", "three"], "{channel}: in order, once");
        crate::world::until("it is recorded", async || {
            let stands = herald.client.call("get_delivery", id.clone()).await;
            stands.content["status"] == "delivered"
        })
        .await;
        assert_eq!(herald.client.send(channel, "four").await.content["status"], "delivered");
    }
}

/// How often anybody asked to post anything.
fn posts(workspace: &Workspace) -> usize {
    let posts = ["chat.postMessage", "create_message", "sendMessage"];
    let requests = workspace.world.requests().into_iter();
    requests.filter(|request| posts.contains(&request.method.as_str())).count()
}

#[tokio::test]
async fn a_channel_the_bot_cannot_post_to_says_what_the_operator_has_to_do() {
    let workspace = Workspace::open().await;
    let config = workspace.config(&[
        ("SLACK_CHANNEL_IDS", "C0OUTSIDE,C0ARCHIVE"),
        ("DISCORD_CHANNEL_IDS", "100000000000000003"),
    ]);
    let herald =
        Server::with(Options { data_dir: None, wait: Duration::from_secs(10), config }).await;
    for (channel, reason, advice) in [
        ("slack:C0OUTSIDE", "not_in_channel", "/invite"),
        ("slack:C0ARCHIVE", "channel_archived", "archived"),
        ("discord:100000000000000003", "missing_permission", "Send Messages"),
    ] {
        let answer = herald.client.send(channel, "hello").await;
        assert!(answer.failed, "{channel}: {answer:?}");
        assert_eq!(answer.content["reason"], reason, "{channel}: {answer:?}");
        assert!(answer.text.contains(advice), "{channel}: {}", answer.text);
    }
}

#[tokio::test]
async fn html_with_200_is_not_taken_for_a_message() {
    let workspace = Workspace::open().await;
    let config = workspace.config(&[("HERALD_ON_UNKNOWN", "hold")]);
    let herald =
        Server::with(Options { data_dir: None, wait: Duration::from_secs(10), config }).await;
    // Slack cannot be asked.
    workspace.fault(json!({ "platform": "slack", "kind": "missing_scope", "scopes": "channels:history", "times": 0 }));
    for channel in [SLACK, TELEGRAM] {
        let platform = channel.split_once(':').unwrap().0;
        workspace.fault(json!({ "platform": platform, "kind": "html_ok" }));
        let answer = herald.client.send(channel, "hello").await;
        assert_eq!(answer.content["status"], "unknown", "{channel}: {answer:?}");
        assert_eq!(answer.content["reason"], "invalid_answer", "{channel}: {answer:?}");
    }
}

#[tokio::test]
async fn a_platform_that_cannot_be_reached_is_tried_again_until_it_can() {
    let workspace = Workspace::open().await;
    let port = crate::world::free_port();
    let url = format!("http://127.0.0.1:{port}/sandbox/slack/api");
    let config = workspace.config(&[("SLACK_API_URL", &url)]);
    let herald =
        Server::with(Options { data_dir: None, wait: Duration::from_secs(15), config }).await;
    let client = herald.client.clone();
    let sent = tokio::spawn(async move { client.send(SLACK, "patience").await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let router = workspace.world.router();
    let late = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let answer = sent.await.unwrap();
    assert_eq!(answer.content["status"], "delivered", "{answer:?}");
    assert_eq!(workspace.texts(SLACK), ["patience"]);
    late.abort();
}

#[tokio::test]
async fn a_platform_that_is_not_configured_has_no_tool() {
    let workspace = Workspace::open().await;
    let mut config = workspace.config(&[]);
    config.telegram.bot_token = None;
    let herald =
        Server::with(Options { data_dir: None, wait: Duration::from_secs(5), config }).await;
    let (tool, arguments) = message(TELEGRAM, "hello", json!({}));
    let body = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": { "name": tool, "arguments": arguments },
    });
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer: Value = http
        .post(&herald.client.url)
        .header("accept", "application/json, text/event-stream")
        .json(&body)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(answer["error"]["code"], -32602, "{answer}");
}
