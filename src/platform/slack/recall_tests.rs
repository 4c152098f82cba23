//! Whether a message stands in the channel.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::model::{Disposition, FilePart, Scope};
use crate::platform::scripted::{self, CANARY, Reply as Answer, Scripted, Seen, send, step};

const SINCE: Timestamp = Timestamp(1_700_000_300_007);

fn slack(world: &Scripted) -> Slack {
    let config = Config {
        bot_token: Some(CANARY.into()),
        api_url: Some(world.url.clone()),
        ..Config::default()
    };
    Slack::new(&config, scripted::client()).unwrap()
}

fn form(seen: &Seen) -> BTreeMap<String, String> {
    url::form_urlencoded::parse(seen.body.as_bytes()).into_owned().collect()
}

/// Slack, with this answer to whoever reads.
async fn world(
    read: impl Fn(&str, &BTreeMap<String, String>) -> Answer + Send + Sync + 'static,
) -> Scripted {
    Scripted::new(move |seen| match seen.path.as_str() {
        "/api/auth.test" => Answer::json(
            200,
            json!({ "ok": true, "url": "https://acme.slack.com/", "user": "herald", "user_id": "U0BOT" }),
        ),
        path => read(path.trim_start_matches("/api/conversations."), &form(seen)),
    })
    .await
}

fn message(ts: &str, user: &str, nonce: &str) -> Value {
    json!({
        "type": "message", "ts": ts, "user": user, "text": "hi",
        "metadata": { "event_type": "herald_delivery", "event_payload": { "delivery": nonce } },
    })
}

fn page(messages: &[Value], next: &str) -> Answer {
    let metadata = json!({ "next_cursor": next });
    Answer::json(
        200,
        json!({ "ok": true, "messages": messages, "has_more": !next.is_empty(), "response_metadata": metadata }),
    )
}

fn in_thread(thread: &str) -> Placement {
    Placement { thread: Some(thread.to_owned()), ..Placement::default() }
}

async fn recall(world: &Scripted, placement: &Placement) -> Result<Option<Sent>, Failure> {
    let route = scripted::route("slack:C0ALERTS");
    slack(world).recall(&route, placement, &send(), SINCE).await
}

#[tokio::test]
async fn a_message_is_found_by_its_nonce_among_others() {
    let world = world(|_, _| {
        page(
            &[
                json!({ "type": "message", "subtype": "channel_join", "ts": 17, "metadata": "?" }),
                message("1700000000.000400", "U0BOT", "nonce-2"),
                message("1700000000.000300", "U0COPY", "nonce-1"),
                json!({ "ts": "1700000000.000200", "metadata": { "event_type": "task", "event_payload": { "delivery": "nonce-1" } } }),
                message("1700000000.000100", "U0BOT", "nonce-1"),
            ],
            "",
        )
    })
    .await;
    let sent = recall(&world, &Placement::default()).await.unwrap().unwrap();
    assert_eq!(sent.id, "1700000000.000100");
    let link = "https://acme.slack.com/archives/C0ALERTS/p1700000000000100";
    assert_eq!(sent.permalink.as_deref(), Some(link), "as if it had just been sent");
    let asked = world.asked("/conversations.history");
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].header("content-type"), "application/x-www-form-urlencoded");
    let wanted = [
        ("channel", "C0ALERTS"),
        ("include_all_metadata", "true"),
        ("limit", "200"),
        // Five minutes earlier: clocks differ.
        ("oldest", "1700000000.007000"),
    ];
    let wanted: BTreeMap<_, _> =
        wanted.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    assert_eq!(form(&asked[0]), wanted);
}

#[tokio::test]
async fn what_is_not_there_is_absent() {
    let world = world(|_, _| page(&[message("1700000000.000400", "U0BOT", "nonce-2")], "")).await;
    assert_eq!(recall(&world, &Placement::default()).await.unwrap(), None);
}

#[tokio::test]
async fn a_reply_is_looked_for_in_its_thread() {
    let world = world(|method, asked| match (method, asked.get("ts").map(String::as_str)) {
        ("replies", Some("1700000000.000001")) => page(
            &[
                json!({ "ts": "1700000000.000001", "user": "U0ALICE", "thread_ts": "1700000000.000001" }),
                message("1700000000.000100", "U0BOT", "nonce-1"),
            ],
            "",
        ),
        // Of a reply Slack shows the reply alone.
        ("replies", Some("1700000000.000002")) => page(
            &[json!({ "ts": "1700000000.000002", "user": "U0ALICE", "thread_ts": "1700000000.000001" })],
            "",
        ),
        ("replies", _) => page(&[json!({ "ts": "1700000000.000003", "user": "U0ALICE" })], ""),
        _ => panic!("not asked about the channel"),
    })
    .await;
    for thread in ["1700000000.000001", "1700000000.000002"] {
        let sent = recall(&world, &in_thread(thread)).await.unwrap().unwrap();
        assert_eq!(sent.id, "1700000000.000100", "{thread}");
        let link = sent.permalink.unwrap();
        assert!(link.ends_with(&format!("?thread_ts={thread}&cid=C0ALERTS")), "{link}");
    }
    assert_eq!(recall(&world, &in_thread("1700000000.000003")).await.unwrap(), None);
}

#[tokio::test]
async fn pages_are_read_up_to_a_bound() {
    let world = world(|_, asked| match asked.get("cursor").map(String::as_str) {
        None => page(&[], "a"),
        Some("a") => page(&[message("1700000000.000100", "U0BOT", "nonce-1")], "b"),
        _ => panic!("read too much"),
    })
    .await;
    assert!(recall(&world, &Placement::default()).await.unwrap().is_some());

    let endless = Scripted::always(Answer::json(
        200,
        json!({ "ok": true, "user_id": "U0BOT", "messages": [], "response_metadata": { "next_cursor": "more" } }),
    ))
    .await;
    let result = recall(&endless, &Placement::default()).await;
    let failure = scripted::failure(PlatformKind::Slack, result);
    assert_eq!(failure.disposition, Disposition::GiveUp, "not found is not absent: {failure}");
    assert_eq!(endless.asked("/conversations.history").len(), 5);
}

#[tokio::test]
async fn a_channel_that_may_not_be_read_says_what_to_grant() {
    for (code, reason, advice) in [
        ("missing_scope", Reason::MissingPermission, "groups:history"),
        ("not_allowed_token_type", Reason::MissingPermission, "channels:history"),
        ("not_in_channel", Reason::NotInChannel, "/invite"),
        ("channel_not_found", Reason::ChannelNotFound, "/invite"),
        ("no_permission", Reason::MissingPermission, "workspace admin"),
        ("restricted_action", Reason::MissingPermission, "admin"),
        ("method_not_supported_for_channel_type", Reason::Rejected, "method_not_supported"),
        ("thread_not_found", Reason::MessageNotFound, "does not exist"),
    ] {
        let answer = Answer::json(200, json!({ "ok": false, "error": code }));
        let world = world(move |_, _| answer.clone()).await;
        let result = recall(&world, &in_thread("1700000000.000001")).await;
        let failure = scripted::failure(PlatformKind::Slack, result);
        assert_eq!((failure.reason, failure.disposition), (reason, Disposition::GiveUp), "{code}");
        assert!(failure.hint.starts_with("whether it arrived cannot be looked up: "), "{failure}");
        assert!(failure.hint.contains(advice), "{failure}");
    }
    let upload = FilePart {
        name: "a".to_owned(),
        mime: "b".to_owned(),
        base64: String::new(),
        held_to: None,
    };
    let step = step(Action::Send { part: Part::File(upload) });
    let world = world(|_, _| panic!("asked in vain")).await;
    let route = scripted::route("slack:C0ALERTS");
    let result = slack(&world).recall(&route, &Placement::default(), &step, SINCE).await;
    let failure = scripted::failure(PlatformKind::Slack, result);
    assert_eq!(failure.disposition, Disposition::GiveUp, "{failure}");
}

/// Nothing is sent by asking, and no answer is not the answer that there is nothing.
#[tokio::test]
async fn a_question_that_fails_is_asked_again_and_leaves_no_doubt() {
    for answer in [
        Answer::text(200, scripted::hostile()),
        Answer::json(200, json!({ "ok": true })),
        Answer::text(500, scripted::hostile()),
        Answer::json(200, json!({ "ok": false, "error": "internal_error" })),
        Answer::json(200, json!({ "ok": false, "error": "fatal_error" })),
    ] {
        let shown = format!("{answer:?}");
        let world = world(move |_, _| answer.clone()).await;
        let result = recall(&world, &Placement::default()).await;
        let failure = scripted::failure(PlatformKind::Slack, result);
        let again = matches!(failure.disposition, Disposition::Retry { .. });
        assert!(again, "{shown}: {failure:?}");
    }
    let revoked = Answer::json(200, json!({ "ok": false, "error": "token_revoked" }));
    let world = Scripted::always(revoked).await;
    let result = recall(&world, &Placement::default()).await;
    let failure = scripted::failure(PlatformKind::Slack, result);
    assert_eq!(failure.reason, Reason::Auth);
}

#[tokio::test]
async fn a_limit_is_waited_for_but_not_page_by_page() {
    let limited = |seconds: u64| {
        let answer = Answer::json(429, json!({ "ok": false, "error": "ratelimited" }));
        answer.with("retry-after", seconds.to_string())
    };
    let ask = async |first: bool, seconds: u64| {
        let world = world(move |_, asked| match asked.get("cursor") {
            None if !first => page(&[], "next"),
            _ => limited(seconds),
        })
        .await;
        let result = recall(&world, &Placement::default()).await;
        scripted::failure(PlatformKind::Slack, result)
    };
    for (first, seconds) in [(true, 60), (false, 5)] {
        let after = Some(Duration::from_secs(seconds));
        let failure = ask(first, seconds).await;
        let wait = Disposition::Retry { after, scope: Scope::Channel };
        assert_eq!(failure.disposition, wait, "posting is not limited: {failure:?}");
    }
    // With one page a minute the second would never come.
    let failure = ask(false, 60).await;
    assert_eq!(failure.disposition, Disposition::GiveUp, "{failure:?}");
    assert!(failure.hint.contains("too little"), "{failure}");
}
