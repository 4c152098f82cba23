//! What people in the channels see, and what the agent hears about it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use herald::app::{App, Mode};
use herald::clock::SystemClock;
use herald::model::{ClientName, Placement, PlatformKind, Status, Submission};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::world::{DISCORD, EVERY, FAST, Options, SLACK, Server, TELEGRAM, Workspace};

#[tokio::test]
async fn a_message_arrives_on_each_platform_and_the_receipt_says_so() {
    let workspace = Workspace::open().await;
    let herald = Server::start(&workspace).await;
    for channel in EVERY {
        let answer = herald.client.send(channel, "**Disk full** on `db-1`").await;
        assert!(!answer.failed, "{answer:?}");
        assert_eq!(answer.content["status"], "delivered");
        let shown = workspace.world.messages(channel);
        assert_eq!(shown.len(), 1, "{channel}");
        assert_eq!(answer.content["message_ids"], json!([shown[0].id]));
        assert!(shown[0].text.contains("Disk full"), "{}", shown[0].text);
        let delivery = json!({ "delivery_id": answer.content["delivery_id"] });
        let later = herald.client.call("get_delivery", delivery).await;
        assert_eq!(later.content["status"], "delivered");
    }
}

#[tokio::test]
async fn an_alias_stands_for_its_channel() {
    let workspace = Workspace::open().await;
    let herald = Server::start(&workspace).await;
    assert!(!herald.client.send("slack:alerts", "hello").await.failed);
    assert_eq!(workspace.texts(SLACK).len(), 1);
}

#[tokio::test]
async fn a_long_message_arrives_in_order_the_rest_in_a_thread_where_there_are_threads() {
    let workspace = Workspace::open().await;
    let herald = Server::start(&workspace).await;
    let text: String = (0..900).map(|n| format!("line {n} of a long report\n\n")).collect();
    for channel in EVERY {
        let answer = herald.client.send(channel, &text).await;
        assert_eq!(answer.content["status"], "delivered", "{channel}: {answer:?}");
        let shown = workspace.world.messages(channel);
        assert!(shown.len() > 1, "{channel}");
        let all: String = shown.iter().map(|message| message.text.as_str()).collect();
        let at = |n: usize| all.find(&format!("line {n} of")).unwrap();
        assert!((1..900).all(|n| at(n - 1) < at(n)), "{channel} is out of order");
        let threads: Vec<_> =
            shown.iter().skip(1).map(|message| message.thread.is_some()).collect();
        assert!(
            threads.iter().all(|thread| *thread == (channel != TELEGRAM)),
            "{channel}: {threads:?}"
        );
    }
}

#[tokio::test]
async fn one_thread_key_is_one_thread() {
    let workspace = Workspace::open().await;
    let herald = Server::start(&workspace).await;
    for channel in EVERY {
        for text in ["it burns", "it is out"] {
            let extra = json!({ "thread_key": "incident-42" });
            let answer = herald.client.send_with(channel, text, extra).await;
            assert_eq!(answer.content["status"], "delivered", "{answer:?}");
        }
        let shown = workspace.world.messages(channel);
        let root = Some(shown[0].id.clone());
        assert_eq!(shown[0].thread, None);
        assert!(shown[1].thread == root || shown[1].reply_to == root, "{channel}: {shown:?}");
    }
}

#[tokio::test]
async fn a_message_in_a_discord_thread_needs_its_parent_to_be_allowed() {
    let workspace = Workspace::open().await;
    let herald = Server::start(&workspace).await;
    let extra = json!({ "thread_key": "incident" });
    let first = herald.client.send_with(DISCORD, "opens a thread", extra).await;
    let thread = format!("discord:{}", first.content["message_ids"][0].as_str().unwrap());
    let answer = herald.client.send(&thread, "into the thread by its ID").await;
    assert_eq!(answer.content["status"], "delivered", "{answer:?}");
    let answer = herald.client.send("discord:100000000000000002", "not allowed").await;
    assert!(answer.failed);
    assert!(workspace.texts("discord:100000000000000002").is_empty());
}

#[tokio::test]
async fn a_thread_of_a_channel_that_is_not_allowed_is_refused_like_one_that_is_not_there() {
    let workspace = Workspace::open().await;
    let (staff, wait) = ("discord:100000000000000002", Duration::from_secs(10));
    let config = workspace.config(&[("DISCORD_CHANNEL_IDS", "100000000000000002")]);
    let theirs = Server::with(Options { data_dir: None, wait, config }).await;
    let opened = theirs.client.send_with(staff, "psst", json!({ "thread_key": "incident" })).await;
    let thread = format!("discord:{}", opened.content["message_ids"][0].as_str().unwrap());
    let before = workspace.sends(&thread).len();
    let herald = Server::start(&workspace).await;
    let refused = herald.client.send(&thread, "into their thread").await;
    let unknown = herald.client.send("discord:400000000000000001", "into nothing").await;
    assert_eq!((refused.failed, &refused.text), (true, &unknown.text));
    assert_eq!(workspace.sends(&thread).len(), before);
}

#[tokio::test]
async fn an_update_edits_what_was_sent_and_takes_away_what_is_left_over() {
    let workspace = Workspace::open().await;
    let herald = Server::start(&workspace).await;
    for channel in EVERY {
        let long: String = (0..900).map(|n| format!("line {n} of a long report\n\n")).collect();
        let sent = herald.client.send(channel, &long).await;
        let id = sent.content["delivery_id"].clone();
        let edit = json!({ "delivery_id": id, "text": "all **done**" });
        let answer = herald.client.call("update_message", edit).await;
        assert_eq!(answer.content["status"], "delivered", "{channel}: {answer:?}");
        let texts = workspace.texts(channel);
        assert_eq!(texts.len(), 1, "{channel}: {texts:?}");
        assert!(texts[0].contains("done"));
        let longer = json!({ "delivery_id": id, "text": long });
        let answer = herald.client.call("update_message", longer).await;
        assert!(answer.failed && answer.text.contains("the one to edit has 1"), "{answer:?}");
    }
}

#[tokio::test]
async fn repeating_a_call_sends_nothing_new() {
    let workspace = Workspace::open().await;
    let herald = Server::start(&workspace).await;
    let (a, b) =
        tokio::join!(herald.client.send(SLACK, "the same"), herald.client.send(SLACK, "the same"));
    assert_eq!(a.content["delivery_id"], b.content["delivery_id"]);
    let told: Vec<_> = [&a, &b].map(|answer| answer.content["deduplicated"].clone()).into();
    assert!(told.contains(&json!(true)) && told.contains(&json!(false)), "{told:?}");

    let key = json!({ "idempotency_key": "deploy-7" });
    herald.client.send_with(SLACK, "deployed", key.clone()).await;
    let again = herald.client.send_with(SLACK, "deployed", key.clone()).await;
    assert_eq!(again.content["deduplicated"], true);
    let other = herald.client.send_with(SLACK, "something else", key).await;
    assert!(other.failed && other.text.contains("idempotency_key"), "{other:?}");
    assert_eq!(workspace.texts(SLACK).len(), 2);
}

#[tokio::test]
async fn a_failed_key_is_tried_anew() {
    let workspace = Workspace::open().await;
    let herald = Server::start(&workspace).await;
    workspace.fault(json!({ "platform": "slack", "kind": "archived", "channel": "C0ALERTS" }));
    let key = json!({ "idempotency_key": "deploy-7" });
    let failed = herald.client.send_with(SLACK, "deployed", key.clone()).await;
    assert!(failed.failed);
    assert_eq!(failed.content["reason"], "channel_archived");
    let again = herald.client.send_with(SLACK, "deployed", key).await;
    assert_eq!(again.content["status"], "delivered");
    assert_eq!(again.content["delivery_id"], failed.content["delivery_id"]);
}

/// The acceptance line: 429 with `Retry-After: 2`, then 500, then accepting.
#[tokio::test]
async fn a_message_waits_out_a_429_and_survives_a_500_and_others_are_not_delayed() {
    for (channel, method, other) in [
        (SLACK, "chat.postMessage", "slack:C0GENERAL"),
        (DISCORD, "create_message", TELEGRAM),
        (TELEGRAM, "sendMessage", "slack:C0GENERAL"),
    ] {
        let workspace = Workspace::open().await;
        let herald = Server::start(&workspace).await;
        let (platform, id) = channel.split_once(':').unwrap();
        for fault in [json!("rate_limit"), json!("server_error")] {
            workspace.fault(json!({
                "platform": platform, "channel": id, "method": method, "kind": fault,
                "retry_after": 2.0,
            }));
        }
        let client = herald.client.clone();
        let first = tokio::spawn(async move { client.send(channel, "first").await });
        // The second call goes out once the first is in the queue, so that their order is known.
        let asked = || async { !workspace.sends(channel).is_empty() };
        crate::world::until("the first was tried", asked).await;
        let client = herald.client.clone();
        let second = tokio::spawn(async move { client.send(channel, "second").await });
        let elsewhere = herald.client.send(other, "elsewhere").await;
        assert_eq!(elsewhere.content["status"], "delivered");
        for answer in [first.await.unwrap(), second.await.unwrap()] {
            assert_eq!(answer.content["status"], "delivered", "{channel}: {answer:?}");
        }
        assert_eq!(workspace.texts(channel), ["first", "second"]);
        let at = |channel: &str| -> Vec<i64> {
            workspace.sends(channel).iter().map(|request| request.received_at.0).collect()
        };
        let tries = at(channel);
        assert!(tries.len() >= 4, "{tries:?}");
        assert!(tries[1] - tries[0] >= 2000, "{channel} was asked again too early: {tries:?}");
        let elsewhere = at(other);
        assert!(elsewhere[0] < tries[1], "{other} had to wait for {channel}");
    }
}

#[tokio::test]
async fn a_lost_answer_is_settled_and_told() {
    for (channel, most) in [(DISCORD, 1), (SLACK, 1), (TELEGRAM, 2)] {
        let workspace = Workspace::open().await;
        let herald = Server::start(&workspace).await;
        let platform = channel.split_once(':').unwrap().0;
        workspace.fault(json!({ "platform": platform, "kind": "drop_after" }));
        let answer = herald.client.send(channel, "once").await;
        assert_eq!(answer.content["status"], "delivered", "{channel}: {answer:?}");
        let seen = workspace.texts(channel).len();
        assert!((1..=most).contains(&seen), "{channel}: {seen}");
        assert_eq!(answer.content["warnings"].as_array().unwrap().len(), 1, "{answer:?}");
    }
}

#[tokio::test]
async fn with_hold_a_lost_answer_is_unknown_and_nothing_is_repeated() {
    let workspace = Workspace::open().await;
    let config = workspace.config(&[("HERALD_ON_UNKNOWN", "hold")]);
    let herald =
        Server::with(Options { data_dir: None, wait: Duration::from_secs(10), config }).await;
    // Slack cannot be asked.
    workspace.fault(json!({ "platform": "slack", "kind": "missing_scope", "scopes": "channels:history", "times": 0 }));
    for (channel, kind) in [(SLACK, "drop_after"), (TELEGRAM, "drop_before")] {
        let platform = channel.split_once(':').unwrap().0;
        workspace.fault(json!({ "platform": platform, "kind": kind }));
        let answer = herald.client.send(channel, "perhaps").await;
        assert!(!answer.failed, "unknown is no error: {answer:?}");
        assert_eq!(answer.content["status"], "unknown");
        assert!(answer.content["hint"].as_str().unwrap().contains("Do not send it again"));
        let sends = workspace.sends(channel).len();
        assert_eq!(sends, 1);
    }
}

#[tokio::test]
async fn a_retry_after_beyond_the_callers_patience_is_queued_at_once_when_it_can_be_kept() {
    let workspace = Workspace::open().await;
    let data = tempfile::tempdir().unwrap();
    for durable in [true, false] {
        let herald = Server::with(Options {
            data_dir: durable.then(|| data.path().to_owned()),
            wait: Duration::from_secs(3),
            config: workspace.config(&[]),
        })
        .await;
        workspace.fault(json!({
            "platform": "slack", "kind": "rate_limit", "retry_after": 40.0,
        }));
        let started = std::time::Instant::now();
        let answer = herald.client.send(SLACK, "later").await;
        assert!(started.elapsed() < Duration::from_secs(3), "it did not come at once");
        assert_eq!(answer.content["reason"], "rate_limited", "{answer:?}");
        let hint = answer.content["hint"].as_str().unwrap();
        if durable {
            assert!(!answer.failed);
            assert_eq!(answer.content["status"], "queued");
            let seconds = answer.content["retry_after_seconds"].as_u64().unwrap();
            assert!((38..=40).contains(&seconds), "{seconds}");
            assert!(hint.ends_with("Herald tries again by itself"), "{hint}");
        } else {
            assert!(answer.failed, "what only memory holds cannot be promised");
            assert_eq!(answer.content["status"], "failed");
            assert!(hint.ends_with("send it again later"), "{hint}");
        }
        herald.stop().await;
    }
}

#[tokio::test]
async fn a_platform_that_hangs_does_not_keep_the_caller_or_the_other_platforms() {
    let workspace = Workspace::open().await;
    let data = tempfile::tempdir().unwrap();
    let herald = Server::with(Options {
        data_dir: Some(data.path().to_owned()),
        wait: Duration::from_secs(1),
        config: workspace.config(&[]),
    })
    .await;
    workspace.fault(json!({ "platform": "slack", "kind": "hang" }));
    let (slow, quick) = tokio::join!(
        herald.client.send(SLACK, "into the void"),
        herald.client.send(DISCORD, "meanwhile")
    );
    assert_eq!(slow.content["status"], "queued", "{slow:?}");
    assert_eq!(quick.content["status"], "delivered", "{quick:?}");
}

/// A dead platform fills its own room, not that of the others.
#[tokio::test]
async fn forty_hanging_channels_do_not_delay_another_platform() {
    let workspace = Workspace::open().await;
    let data = tempfile::tempdir().unwrap();
    let herald = Server::with(Options {
        data_dir: Some(data.path().to_owned()),
        wait: Duration::from_secs(2),
        config: workspace.config(&[("SLACK_CHANNEL_IDS", "*")]),
    })
    .await;
    workspace.fault(json!({ "platform": "slack", "kind": "hang", "times": 0 }));
    let hanging = (0..40).map(|n| {
        let client = herald.client.clone();
        async move { client.send(&format!("slack:C0HANGS{n}"), "into the void").await }
    });
    let quick = async {
        let full = || async { workspace.world.requests().len() >= 32 };
        crate::world::until("Slack's room is full", full).await;
        let started = std::time::Instant::now();
        (herald.client.send(DISCORD, "meanwhile").await, started.elapsed())
    };
    let (_, (answer, took)) = tokio::join!(futures_util::future::join_all(hanging), quick);
    assert_eq!(answer.content["status"], "delivered", "{answer:?}");
    assert!(took < Duration::from_secs(1), "it took {took:?}");
}

#[tokio::test]
async fn a_channel_is_paced() {
    let workspace = Workspace::open().await;
    let mut config = workspace.config(&[]);
    config.slack.pace = Some(herald::platform::Pace { interval_ms: 150, burst: 2 });
    let herald =
        Server::with(Options { data_dir: None, wait: Duration::from_secs(10), config }).await;
    let sends = (0..5).map(|n| {
        let client = herald.client.clone();
        async move { client.send(SLACK, &format!("{n}")).await }
    });
    futures_util::future::join_all(sends).await;
    let shown = workspace.world.messages(SLACK);
    let (first, last) = (shown[0].received_at.0, shown[4].received_at.0);
    assert!(last - first >= 400, "five messages in {} ms", last - first);
    assert_eq!(FAST.interval_ms, 0);
}

#[tokio::test]
async fn nobody_is_pinged() {
    let workspace = Workspace::open().await;
    let herald = Server::start(&workspace).await;
    let text = "@everyone @here @channel <!channel> <!here> <!subteam^S123> <@&42> &lt;!channel&gt; \\<!here>";
    for channel in EVERY {
        let answer = herald.client.send(channel, text).await;
        assert_eq!(answer.content["status"], "delivered", "{answer:?}");
        let shown = workspace.world.messages(channel);
        assert!(!shown[0].pinged_everyone, "{:?}", shown[0]);
        let warnings = answer.content["warnings"].as_array().unwrap();
        assert_eq!(!warnings.is_empty(), channel != TELEGRAM, "{warnings:?}");
    }
}

#[tokio::test]
async fn list_channels_shows_what_the_platforms_tell_and_notes_what_they_do_not() {
    let workspace = Workspace::open().await;
    let extra = [("SLACK_CHANNEL_IDS", "alerts=C0ALERTS,C0ARCHIVE,C0OUTSIDE")];
    let config = workspace.config(&extra);
    let herald =
        Server::with(Options { data_dir: None, wait: Duration::from_secs(10), config }).await;
    let answer = herald.client.call("list_channels", json!({})).await;
    let channels = answer.content["channels"].as_array().unwrap().clone();
    let find = |id: &str| channels.iter().find(|channel| channel["id"] == id).unwrap();
    assert_eq!(find("C0ALERTS")["alias"], "alerts");
    assert_eq!(find("C0ALERTS")["can_post"], true);
    assert!(find("C0ALERTS")["name"].is_string());
    for id in ["C0ARCHIVE", "C0OUTSIDE"] {
        assert_eq!(find(id)["can_post"], false, "{channels:?}");
        assert!(find(id)["note"].is_string());
    }
    assert!(channels.iter().any(|channel| channel["platform"] == "telegram"));
    assert!(!answer.content.to_string().contains("C0PRIVATE"));

    let workspace = Workspace::open().await;
    workspace.fault(json!({ "platform": "slack", "kind": "missing_scope", "times": 0 }));
    let herald = Server::start(&workspace).await;
    let answer = herald.client.call("list_channels", json!({ "platform": "slack" })).await;
    let channels = answer.content["channels"].as_array().unwrap();
    assert_eq!(channels.len(), 2, "{channels:?}");
    assert!(channels.iter().all(|channel| channel["note"].is_string()), "{channels:?}");
}

#[tokio::test]
async fn what_was_accepted_is_not_called_unsent_although_the_store_cannot_be_read_any_more() {
    let workspace = Workspace::open().await;
    workspace.fault(json!({ "platform": "slack", "kind": "slow", "millis": 1500 }));
    let data = tempfile::tempdir().unwrap();
    let mode = Mode {
        data_dir: Some(data.path().to_owned()),
        own_only: true,
        deduplicate: false,
        wait: Duration::from_secs(10),
        serves: herald::app::Serves::Mcp,
    };
    let stop = CancellationToken::new();
    let app = App::build(workspace.config(&[]), mode, Arc::new(SystemClock), stop).await.unwrap();
    let running = app.start();
    // No more reading; writing goes on.
    app.outbox().close().await;
    let submission = Submission {
        platform: PlatformKind::Slack,
        channel: "C0ALERTS".to_owned(),
        text: "still".to_owned(),
        placement: Placement::default(),
        thread_key: None,
        idempotency_key: None,
    };
    let receipt = app.notifier().submit(&ClientName::new("default"), submission).await.unwrap();
    assert_eq!(receipt.status, Status::Delivered);
    running.finish(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_message_behind_a_wait_of_the_whole_bot_is_queued_at_once() {
    let workspace = Workspace::open().await;
    let data = tempfile::tempdir().unwrap();
    let both = [("DISCORD_CHANNEL_IDS", "100000000000000001,100000000000000002")];
    let herald = Server::with(Options {
        data_dir: Some(data.path().to_owned()),
        wait: Duration::from_secs(8),
        config: workspace.config(&both),
    })
    .await;
    workspace.fault(json!({ "platform": "discord", "kind": "rate_limit", "retry_after": 60.0, "scope": "global" }));
    assert_eq!(herald.client.send(DISCORD, "first").await.content["status"], "queued");
    let started = Instant::now();
    let second = herald.client.send("discord:100000000000000002", "second").await;
    assert_eq!(second.content["status"], "queued");
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    assert!(second.content["retry_after_seconds"].as_u64().unwrap() > 50, "{second:?}");
}

#[tokio::test]
async fn a_platform_that_cannot_be_asked_whose_thread_it_is_is_no_denial() {
    let workspace = Workspace::open().await;
    let herald = Server::start(&workspace).await;
    workspace.fault(json!({ "platform": "discord", "kind": "hang", "times": 0 }));
    let started = Instant::now();
    let answer = herald.client.send("discord:100000000000000099", "in a thread").await;
    assert!(answer.failed);
    assert!(!answer.text.contains("not allowed"), "{}", answer.text);
    assert!(answer.text.contains("try again"), "{}", answer.text);
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
}
