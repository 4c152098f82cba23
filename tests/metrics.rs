//! `/metrics` after everything that is counted has happened: each fact once, and nobody's name or words.

mod scraped;

use std::collections::BTreeMap;
use std::time::Duration;

use herald::app::Serves;
use herald::clock::Timestamp;
use herald::config::Config;
use herald::model::PlatformKind;
use herald::store::Outbox as _;
use herald::store::sqlite::Sqlite;
use herald::telemetry::metrics::MEDIA_TYPE;
use serde_json::json;
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;

use self::scraped::{Herald, TOKEN};
use crate::talking::{PLACES, Talk};
use crate::world::{DISCORD, EVERY, SLACK, TELEGRAM, Workspace};

fn counts(all: &[(&str, u32)]) -> BTreeMap<String, f64> {
    all.iter().map(|(series, count)| ((*series).to_owned(), f64::from(*count))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_leaves_is_counted_once() {
    let workspace = Workspace::open().await;
    let data = tempfile::tempdir().unwrap();
    let config = workspace.config(&[("HERALD_ON_UNKNOWN", "hold")]);
    let herald = Herald::start(config, Serves::Mcp, data.path()).await;
    let client = &herald.client;

    for channel in EVERY {
        client.send(channel, "good morning").await;
    }
    let sent = client.send(SLACK, "good morning").await;
    assert_eq!(sent.content["deduplicated"], true);
    let id = sent.content["delivery_id"].as_str().unwrap();
    client.call("get_delivery", json!({ "delivery_id": id })).await;
    client.call("update_message", json!({ "delivery_id": id, "text": "fine morning" })).await;
    client.call("list_channels", json!({ "platform": "slack" })).await;

    // Two kinds of mention in one message are one message.
    client.send(SLACK, "@everyone <@U0ALICE> wake up").await;
    client.send("slack:C0PRIVATE", "psst").await;
    client.send(SLACK, " ").await;
    client.try_call("make_coffee", json!({})).await.unwrap();
    let stranger = client.clone().with_token("wrong");
    stranger.try_call("list_channels", json!({})).await.unwrap_err();
    let long = "x".repeat(2 * 1024 * 1024);
    client.try_call("list_channels", json!({ "platform": long })).await.unwrap_err();

    workspace.fault(json!({ "platform": "slack", "channel": "C0ALERTS", "kind": "archived" }));
    client.send(SLACK, "too late").await;
    workspace.fault(json!({ "platform": "telegram", "method": "sendMessage", "kind": "html_ok" }));
    client.send(TELEGRAM, "perhaps").await;
    workspace
        .fault(json!({ "platform": "discord", "method": "create_message", "kind": "drop_after" }));
    client.send(DISCORD, "said twice, seen once").await;
    workspace.fault(json!({ "platform": "discord", "method": "create_message", "kind": "rate_limit", "retry_after": 0.2, "scope": "global" }));
    client.send(DISCORD, "all of it later").await;
    workspace.fault(json!({ "platform": "telegram", "method": "sendMessage", "kind": "rate_limit", "retry_after": 1 }));
    client.send(TELEGRAM, "here later").await;

    let scrape = herald.until("herald_delivery_seconds_count{platform=\"telegram\"}", 2.0).await;
    assert_eq!(
        scrape.counted(),
        counts(&[
            ("ambiguous_total{platform=\"discord\",outcome=\"recognised\"}", 1),
            ("ambiguous_total{platform=\"telegram\",outcome=\"held\"}", 1),
            ("audit_entries_total{type=\"delivered\"}", 8),
            ("audit_entries_total{type=\"denied\"}", 2),
            ("audit_entries_total{type=\"failed\"}", 1),
            ("audit_entries_total{type=\"redacted\"}", 1),
            ("audit_entries_total{type=\"started\"}", 1),
            ("audit_entries_total{type=\"submitted\"}", 10),
            ("audit_entries_total{type=\"unknown\"}", 1),
            ("deliveries_accepted_total{platform=\"discord\",source=\"tool\"}", 3),
            ("deliveries_accepted_total{platform=\"slack\",source=\"tool\"}", 4),
            ("deliveries_accepted_total{platform=\"telegram\",source=\"tool\"}", 3),
            ("deliveries_deduplicated_total{platform=\"slack\"}", 1),
            ("deliveries_delivered_total{platform=\"discord\"}", 3),
            ("deliveries_delivered_total{platform=\"slack\"}", 3),
            ("deliveries_delivered_total{platform=\"telegram\"}", 2),
            ("deliveries_denied_total{platform=\"slack\",at=\"submit\"}", 1),
            ("deliveries_failed_total{platform=\"slack\",reason=\"channel_archived\"}", 1),
            ("deliveries_unknown_total{platform=\"telegram\",reason=\"invalid_answer\"}", 1),
            ("delivery_seconds_count{platform=\"discord\"}", 3),
            ("delivery_seconds_count{platform=\"slack\"}", 3),
            ("delivery_seconds_count{platform=\"telegram\"}", 2),
            ("http_refused_total{route=\"mcp\",why=\"too_large\"}", 1),
            ("http_unauthorized_total", 1),
            ("mcp_call_seconds_count{tool=\"get_delivery\"}", 1),
            ("mcp_call_seconds_count{tool=\"list_channels\"}", 1),
            ("mcp_call_seconds_count{tool=\"send_message_to_discord\"}", 3),
            ("mcp_call_seconds_count{tool=\"send_message_to_slack\"}", 6),
            ("mcp_call_seconds_count{tool=\"send_message_to_telegram\"}", 3),
            ("mcp_call_seconds_count{tool=\"unknown\"}", 1),
            ("mcp_call_seconds_count{tool=\"update_message\"}", 1),
            ("mcp_calls_total{tool=\"get_delivery\",outcome=\"ok\"}", 1),
            ("mcp_calls_total{tool=\"list_channels\",outcome=\"ok\"}", 1),
            ("mcp_calls_total{tool=\"send_message_to_discord\",outcome=\"ok\"}", 3),
            ("mcp_calls_total{tool=\"send_message_to_slack\",outcome=\"error\"}", 3),
            ("mcp_calls_total{tool=\"send_message_to_slack\",outcome=\"ok\"}", 3),
            ("mcp_calls_total{tool=\"send_message_to_telegram\",outcome=\"ok\"}", 3),
            ("mcp_calls_total{tool=\"unknown\",outcome=\"error\"}", 1),
            ("mcp_calls_total{tool=\"update_message\",outcome=\"ok\"}", 1),
            ("rate_limited_total{platform=\"discord\",scope=\"credential\"}", 1),
            ("rate_limited_total{platform=\"telegram\",scope=\"channel\"}", 1),
            ("redactions_total{platform=\"slack\",kind=\"mention\"}", 1),
            ("send_seconds_count{platform=\"discord\",outcome=\"connection_lost\"}", 1),
            ("send_seconds_count{platform=\"discord\",outcome=\"ok\"}", 3),
            ("send_seconds_count{platform=\"discord\",outcome=\"rate_limited\"}", 1),
            ("send_seconds_count{platform=\"slack\",outcome=\"channel_archived\"}", 1),
            ("send_seconds_count{platform=\"slack\",outcome=\"ok\"}", 3),
            ("send_seconds_count{platform=\"telegram\",outcome=\"invalid_answer\"}", 1),
            ("send_seconds_count{platform=\"telegram\",outcome=\"ok\"}", 2),
            ("send_seconds_count{platform=\"telegram\",outcome=\"rate_limited\"}", 1),
            // Once for each message, and for the call that repeated one; once for each request.
            ("store_seconds_count{access=\"enqueue\"}", 11),
            ("store_seconds_count{access=\"record\"}", 13),
        ])
    );
    assert_eq!(scrape.sum("herald_store_up"), 1.0);
    herald.idle().await.keep("out");
    herald.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_shown_and_what_is_not_allowed_any_more_is_counted() {
    let workspace = Workspace::open().await;
    let data = tempfile::tempdir().unwrap();
    let wait = Duration::from_secs(2);
    let herald = Herald::patient(workspace.config(&[]), Serves::Mcp, data.path(), wait).await;
    // Longer than the call waits.
    workspace.fault(json!({ "platform": "slack", "channel": "C0ALERTS", "kind": "rate_limit", "retry_after": 5 }));
    let queued = herald.client.send(SLACK, "good morning").await;
    assert_eq!(queued.content["status"], "queued", "{queued:?}");
    let depth = "herald_queue_depth{platform=\"slack\",state=\"queued\"}";
    let scrape = herald.until(depth, 1.0).await;
    let age = scrape.sum("herald_queue_oldest_age_seconds{platform=\"slack\"}");
    assert!(age > 0.0 && age < 5.0, "{age}");
    assert_eq!(scrape.sum("herald_queue_oldest_age_seconds{platform=\"discord\"}"), 0.0);
    scrape.keep("waiting");
    herald.stop().await;

    let config = workspace.config(&[("SLACK_CHANNEL_IDS", "C0GENERAL")]);
    let herald = Herald::start(config, Serves::Mcp, data.path()).await;
    let failed = "herald_deliveries_failed_total{platform=\"slack\",reason=\"denied\"}";
    herald.until(failed, 1.0).await;
    let scrape = herald.idle().await;
    assert_eq!(
        scrape.counted(),
        counts(&[
            ("audit_entries_total{type=\"denied\"}", 1),
            ("audit_entries_total{type=\"started\"}", 1),
            ("deliveries_denied_total{platform=\"slack\",at=\"send\"}", 1),
            ("deliveries_failed_total{platform=\"slack\",reason=\"denied\"}", 1),
            ("store_seconds_count{access=\"record\"}", 1),
        ])
    );
    herald.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_that_waits_as_a_whole_is_seen_until_it_sends_again() {
    let workspace = Workspace::open().await;
    let data = tempfile::tempdir().unwrap();
    let mut config = workspace.config(&[]);
    config.delivery.probe_ms = 600_000;
    let herald = Herald::patient(config, Serves::Mcp, data.path(), Duration::from_secs(1)).await;
    workspace.fault(json!({ "platform": "slack", "channel": "C0ALERTS", "kind": "revoked_token" }));
    workspace.fault(
        json!({ "platform": "discord", "method": "create_message", "kind": "server_error", "times": 5 }),
    );
    let closed =
        |platform| format!("herald_breaker_state{{platform=\"{platform}\",state=\"closed\"}}");
    herald.until(&closed("slack"), 1.0).await;
    for channel in EVERY {
        herald.client.send(channel, "good morning").await;
    }
    herald.until("herald_breaker_state{platform=\"slack\",state=\"refused\"}", 1.0).await;
    let open = "herald_breaker_state{platform=\"discord\",state=\"open\"}";
    let scrape = herald.until(open, 1.0).await;
    assert_eq!(scrape.series()[closed("telegram").as_str()], 1.0);
    assert_eq!(scrape.sum("herald_breaker_state"), 3.0, "one state at a time");
    assert_eq!(scrape.sum("herald_deliveries_failed_total"), 0.0, "nothing is lost");
    scrape.keep("broken");

    let store = Sqlite::open(data.path()).await.unwrap();
    for platform in [PlatformKind::Slack, PlatformKind::Discord] {
        store.resume(platform, Timestamp(0)).await.unwrap();
        herald.until(&closed(platform.as_str()), 1.0).await;
    }
    let scrape = herald.idle().await;
    assert_eq!(scrape.sum("herald_deliveries_delivered_total"), 3.0);
    assert_eq!(scrape.sum("herald_breaker_state"), 3.0, "one state at a time");
    herald.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_over_is_counted_by_whoever_lost_it() {
    let workspace = Workspace::open().await;
    let data = tempfile::tempdir().unwrap();
    let herald = Herald::start(workspace.config(&[]), Serves::Mcp, data.path()).await;
    workspace.fault(
        json!({ "platform": "telegram", "method": "sendMessage", "kind": "slow", "millis": 3_000 }),
    );
    let client = herald.client.clone();
    let call = tokio::spawn(async move { client.send(TELEGRAM, "good morning").await });
    herald.until("herald_queue_depth{platform=\"telegram\",state=\"sending\"}", 1.0).await;
    // As if the process had been paused until its lease was over.
    let other = SqliteConnectOptions::new().filename(data.path().join("herald.db"));
    let mut other = other.connect().await.unwrap();
    sqlx::query("UPDATE lanes SET lease_until = 0").execute(&mut other).await.unwrap();
    assert_eq!(call.await.unwrap().content["status"], "delivered");
    let scrape = herald.until("herald_leases_lost_total{kind=\"lane\"}", 1.0).await;
    assert_eq!(
        scrape.counted(),
        counts(&[
            ("ambiguous_total{platform=\"telegram\",outcome=\"resent\"}", 1),
            ("audit_entries_total{type=\"delivered\"}", 1),
            ("audit_entries_total{type=\"started\"}", 1),
            ("audit_entries_total{type=\"submitted\"}", 1),
            ("deliveries_accepted_total{platform=\"telegram\",source=\"tool\"}", 1),
            ("deliveries_delivered_total{platform=\"telegram\"}", 1),
            ("delivery_seconds_count{platform=\"telegram\"}", 1),
            ("leases_lost_total{kind=\"lane\"}", 1),
            ("mcp_call_seconds_count{tool=\"send_message_to_telegram\"}", 1),
            ("mcp_calls_total{tool=\"send_message_to_telegram\",outcome=\"ok\"}", 1),
            ("send_seconds_count{platform=\"telegram\",outcome=\"ok\"}", 2),
            ("store_seconds_count{access=\"enqueue\"}", 1),
            // That it had been interrupted, the repetition, and the first answer, which came too late.
            ("store_seconds_count{access=\"record\"}", 3),
        ])
    );
    scrape.keep("taken-over");
    herald.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forgotten_is_counted() {
    let workspace = Workspace::open().await;
    let data = tempfile::tempdir().unwrap();
    let herald = Herald::start(workspace.config(&[]), Serves::Mcp, data.path()).await;
    for text in ["two days ago", "two months ago"] {
        assert_eq!(herald.client.send(SLACK, text).await.content["status"], "delivered");
    }
    herald.stop().await;
    let store = SqliteConnectOptions::new().filename(data.path().join("herald.db"));
    let mut store = store.connect().await.unwrap();
    sqlx::query("UPDATE deliveries SET finished_at = finished_at - iif(seq = 1, 2, 60) * 86400000")
        .execute(&mut store)
        .await
        .unwrap();
    let herald = Herald::start(workspace.config(&[]), Serves::Mcp, data.path()).await;
    herald.until("herald_retention_removed_total{what=\"deliveries\"}", 1.0).await;
    let scrape = herald.until("herald_retention_expunged_total", 2.0).await;
    scrape.keep("forgotten");
    herald.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_takes_nothing_is_seen() {
    let workspace = Workspace::open().await;
    let data = tempfile::tempdir().unwrap();
    let herald = Herald::start(workspace.config(&[]), Serves::Mcp, data.path()).await;
    herald.until("herald_store_up", 1.0).await;
    // Another process that does not let go of the database can be read past, but nothing can be written.
    let other = SqliteConnectOptions::new().filename(data.path().join("herald.db"));
    let mut other = other.connect().await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    herald.until("herald_store_up", 0.0).await;
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    herald.until("herald_store_up", 1.0).await;
    herald.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_cannot_be_read_are_seen_until_they_can() {
    let workspace = Workspace::open().await;
    let data = tempfile::tempdir().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("herald.yaml");
    // As Kubernetes does it: another file takes the place of the old one.
    let write = |text: &str| {
        let new = file.with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, &file).unwrap();
    };
    write("policy: {threads: true}");
    let mut env = workspace.env();
    env.insert("HERALD_TOKEN".to_owned(), TOKEN.to_owned());
    let config = Config::load(Some(&file), &|name| env.get(name).cloned()).unwrap();
    let herald = Herald::start(config, Serves::Mcp, data.path()).await;
    assert_eq!(herald.scrape().await.series().get("herald_rules_stale"), Some(&0.0));
    write("policy: {treads: true}");
    let refused = "herald_rules_read_total{outcome=\"refused\"}";
    let scrape = herald.until(refused, 1.0).await;
    assert_eq!(scrape.sum("herald_rules_stale"), 1.0);
    scrape.keep("stale");
    write("policy: {threads: false}");
    let changed = "herald_audit_entries_total{type=\"rules_changed\"}";
    let scrape = herald.until(changed, 1.0).await;
    assert_eq!(scrape.sum("herald_rules_stale"), 0.0);
    assert_eq!(
        scrape.counted(),
        counts(&[
            ("audit_entries_total{type=\"rules_changed\"}", 1),
            ("audit_entries_total{type=\"rules_refused\"}", 1),
            ("audit_entries_total{type=\"started\"}", 1),
            ("rules_read_total{outcome=\"ok\"}", 1),
            ("rules_read_total{outcome=\"refused\"}", 1),
        ])
    );
    herald.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_in_is_counted_once() {
    let workspace = Workspace::open().await;
    let data = tempfile::tempdir().unwrap();
    let extra = [("SLACK_ALLOWED_USERS", "U0ALICE")];
    let herald = Herald::start(workspace.config(&extra), Serves::Both, data.path()).await;
    for platform in ["slack", "discord", "telegram"] {
        let connected =
            format!("herald_listener_state{{platform=\"{platform}\",state=\"connected\"}}");
        herald.until(&connected, 1.0).await;
    }
    // Slack tells a mention twice, as `message` and as `app_mention`: stored once, and refused once.
    let mut talk = Talk::new(&workspace, PLACES[0]);
    talk.says("good morning");
    talk.sees("You said: good morning").await;
    let mut stranger = Talk::new(&workspace, PLACES[0]);
    stranger.says_as("mallory", "good morning");
    stranger.sees("You may not use this bot").await;
    let mut talk = Talk::new(&workspace, PLACES[1]);
    talk.says("fail");
    talk.sees("could not finish").await;
    talk.says("lost");
    talk.sees("may have received").await;
    talk.says("slow 60");
    talk.sees("running").await;
    talk.says("cancel");
    let cancelled = "herald_turns_total{agent=\"default\",outcome=\"cancelled\"}";
    herald.until(cancelled, 1.0).await;
    let mut talk = Talk::new(&workspace, PLACES[2]);
    talk.says("approve two");
    talk.presses("alice", "Approve k8s_delete_pod").await;
    talk.presses("alice", "Reject k8s_scale").await;
    talk.sees("deleted pod").await;
    let answered = "herald_turns_total{agent=\"default\",outcome=\"answered\"}";
    herald.until(answered, 2.0).await;
    let scrape = herald.until("herald_conversations_held", 0.0).await;

    let mut counted = scrape.counted();
    // How many messages the bot needs for that depends on how quick it is; all of them arrive.
    for platform in ["slack", "discord", "telegram"] {
        let accepted =
            format!("deliveries_accepted_total{{platform=\"{platform}\",source=\"bot\"}}");
        let delivered = format!("deliveries_delivered_total{{platform=\"{platform}\"}}");
        let accepted = counted.remove(&accepted);
        assert!(accepted.is_some());
        assert_eq!(accepted, counted.remove(&delivered), "{platform}");
    }
    counted.retain(|series, _| {
        !["send_", "delivery_", "store_", "audit_"].iter().any(|many| series.starts_with(many))
    });
    assert_eq!(
        counted,
        counts(&[
            ("approvals_total{agent=\"default\",decision=\"approved\"}", 1),
            ("approvals_total{agent=\"default\",decision=\"asked\"}", 2),
            ("approvals_total{agent=\"default\",decision=\"rejected\"}", 1),
            ("events_total{platform=\"discord\",outcome=\"stored\"}", 4),
            ("events_total{platform=\"slack\",outcome=\"refused\"}", 1),
            ("events_total{platform=\"slack\",outcome=\"stored\"}", 1),
            ("events_total{platform=\"telegram\",outcome=\"stored\"}", 3),
            ("inbound_lag_seconds_count{platform=\"discord\"}", 4),
            ("inbound_lag_seconds_count{platform=\"slack\"}", 1),
            ("inbound_lag_seconds_count{platform=\"telegram\"}", 1),
            ("turn_seconds_count{agent=\"default\"}", 5),
            ("turns_total{agent=\"default\",outcome=\"answered\"}", 2),
            ("turns_total{agent=\"default\",outcome=\"cancelled\"}", 1),
            ("turns_total{agent=\"default\",outcome=\"failed\"}", 1),
            ("turns_total{agent=\"default\",outcome=\"lost\"}", 1),
        ])
    );
    scrape.keep("in");

    // Discord and Telegram allow one listener.
    let second = Herald::start(workspace.config(&extra), Serves::Bot, data.path()).await;
    let standby = "herald_listener_state{platform=\"discord\",state=\"standby\"}";
    let scrape = second.until(standby, 1.0).await;
    assert_eq!(
        scrape.sum("herald_listener_state{platform=\"discord\""),
        1.0,
        "one state at a time"
    );
    second.stop().await;
    herald.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_decides_expires_and_a_listener_that_gave_up_is_seen() {
    let workspace = Workspace::open().await;
    let data = tempfile::tempdir().unwrap();
    workspace.fault(
        json!({ "platform": "telegram", "method": "getUpdates", "kind": "revoked_token", "times": 0 }),
    );
    let mut config = workspace.config(&[]);
    config.bot.approval_seconds = 1;
    let herald = Herald::start(config, Serves::Bot, data.path()).await;
    herald.until("herald_listener_state{platform=\"telegram\",state=\"failed\"}", 1.0).await;
    herald.until("herald_listener_state{platform=\"discord\",state=\"connected\"}", 1.0).await;
    let mut talk = Talk::new(&workspace, PLACES[1]);
    talk.says("approve");
    let expired = "herald_approvals_total{agent=\"default\",decision=\"expired\"}";
    let scrape = herald.until(expired, 1.0).await;
    assert_eq!(scrape.sum("herald_approvals_total"), 2.0, "one was asked, and expired");
    scrape.keep("failed");
    herald.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_that_hears_nobody_is_not_ready_and_a_server_beside_it_is() {
    for (serves, status) in [(Serves::Bot, 503), (Serves::Both, 200)] {
        let workspace = Workspace::open().await;
        let data = tempfile::tempdir().unwrap();
        workspace.fault(
            json!({ "platform": "telegram", "method": "getUpdates", "kind": "revoked_token", "times": 0 }),
        );
        let alone = [("SLACK_BOT_TOKEN", ""), ("DISCORD_BOT_TOKEN", "")];
        let herald = Herald::start(workspace.config(&alone), serves, data.path()).await;
        herald.until("herald_listener_state{platform=\"telegram\",state=\"failed\"}", 1.0).await;
        let ready = herald.get(&herald.client.url.replace("/mcp", "/readyz")).await;
        assert_eq!(ready.status(), status, "{serves:?}");
        assert!(ready.text().await.unwrap().contains("failed: "), "it says so all the same");
        herald.stop().await;
    }
}

#[tokio::test]
async fn metrics_have_a_port_of_their_own_and_begin_at_zero() {
    let workspace = Workspace::open().await;
    let data = tempfile::tempdir().unwrap();
    let herald = Herald::start(workspace.config(&[]), Serves::Both, data.path()).await;
    let answer = herald.get(&herald.scraped).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], MEDIA_TYPE);
    // Else the first failure would be a series that is new, and no rate would see it.
    let scrape = herald.scrape().await;
    for series in [
        "herald_deliveries_failed_total{platform=\"slack\",reason=\"expired\"}",
        "herald_ambiguous_total{platform=\"slack\",outcome=\"resent\"}",
        "herald_leases_lost_total{kind=\"lane\"}",
        "herald_turns_total{agent=\"default\",outcome=\"failed\"}",
        "herald_approvals_total{agent=\"default\",decision=\"expired\"}",
        "herald_mcp_calls_total{tool=\"send_message_to_slack\",outcome=\"error\"}",
        "herald_mcp_calls_total{tool=\"unknown\",outcome=\"error\"}",
        "herald_http_refused_total{route=\"mcp\",why=\"full\"}",
    ] {
        assert_eq!(scrape.series().get(series), Some(&0.0), "{series}");
    }
    let main = herald.client.url.replace("/mcp", "/metrics");
    assert_eq!(herald.get(&main).await.status(), 404);
    for path in ["/mcp", "/healthz", "/"] {
        let other = herald.scraped.replace("/metrics", path);
        assert_eq!(herald.get(&other).await.status(), 404, "{path}");
    }
    herald.stop().await;
}
