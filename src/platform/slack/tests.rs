use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::model::TextPart;
use crate::model::{ChannelKind, Disposition, Scope};
use crate::platform::scripted::{self, CANARY, Reply as Answer, Scripted, hi, send, step};

fn slack(world: &Scripted) -> Slack {
    let config = Config {
        bot_token: Some(CANARY.into()),
        api_url: Some(world.url.clone()),
        ..Config::default()
    };
    Slack::new(&config, scripted::client()).unwrap()
}

async fn deliver(slack: &Slack, step: &Step) -> Result<Sent, Failure> {
    let route = scripted::route("slack:C0ALERTS");
    slack.deliver(&route, &Placement::default(), step).await
}

async fn fails(step: &Step, answer: Answer) -> Failure {
    let world = Scripted::always(answer).await;
    scripted::failure(PlatformKind::Slack, deliver(&slack(&world), step).await)
}

fn posted() -> Value {
    json!({"ok": true, "channel": "C0ALERTS", "ts": "1700000000.000100"})
}

fn refused(code: &str) -> Answer {
    Answer::json(200, json!({"ok": false, "error": code}))
}

/// Posts well, and knows the workspace.
async fn workspace() -> Scripted {
    Scripted::new(|seen| match seen.path.as_str() {
        "/api/auth.test" => Answer::json(
            200,
            json!({"ok": true, "url": "https://acme.slack.com/", "team": "Acme", "user": "herald", "user_id": "U0BOT"}),
        )
        .with("x-oauth-scopes", "chat:write,channels:read"),
        _ => Answer::json(200, posted()),
    })
    .await
}

#[tokio::test]
async fn a_message_is_posted_as_a_markdown_block_that_unfurls_nothing() {
    let world = workspace().await;
    let sent = deliver(&slack(&world), &send()).await.unwrap();
    assert_eq!(sent.id, "1700000000.000100");

    let asked = world.asked("/chat.postMessage");
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].method, "POST");
    assert_eq!(asked[0].header("authorization"), format!("Bearer {CANARY}"));
    assert_eq!(asked[0].header("content-type"), "application/json; charset=utf-8");
    assert_eq!(
        asked[0].json(),
        json!({
            "channel": "C0ALERTS",
            "text": "hi",
            "blocks": [{"type": "markdown", "text": "**hi**"}],
            "metadata": {"event_type": "herald_delivery", "event_payload": {"delivery": "nonce-1"}},
            "unfurl_links": false,
            "unfurl_media": false,
            "client_msg_id": Uuid::new_v5(&Uuid::NAMESPACE_OID, b"nonce-1"),
        })
    );
}

#[tokio::test]
async fn a_reply_stands_in_its_thread_and_shows_in_the_channel_only_if_asked() {
    let world = workspace().await;
    let slack = slack(&world);
    let route = scripted::route("slack:C0ALERTS");
    for broadcast in [false, true] {
        let placement = Placement { broadcast, ..slack.thread_of("1700000000.000001") };
        slack.deliver(&route, &placement, &send()).await.unwrap();
    }
    let asked = world.asked("/chat.postMessage");
    let reply = |n: usize| {
        let body = asked[n].json();
        (body["thread_ts"].clone(), body["reply_broadcast"].clone())
    };
    assert_eq!(reply(0), (json!("1700000000.000001"), Value::Null));
    assert_eq!(reply(1), (json!("1700000000.000001"), json!(true)));
}

#[tokio::test]
async fn a_long_notification_text_is_shortened_because_slack_would_split_it() {
    let world = workspace().await;
    let part = Part::Text(TextPart::new("é".repeat(12_000), "é".repeat(12_000)));
    deliver(&slack(&world), &step(Action::Send { part })).await.unwrap();
    let body = world.asked("/chat.postMessage")[0].json();
    assert_eq!(body["text"].as_str().unwrap().chars().count(), 3900);
    let block = body["blocks"][0]["text"].as_str().unwrap();
    assert_eq!(block.chars().count(), 12_000);
}

#[tokio::test]
async fn a_message_is_edited_and_deleted_by_its_ts() {
    let world = workspace().await;
    let slack = slack(&world);
    let message_id = "1700000000.000100".to_owned();
    let edit = step(Action::Edit { message_id: message_id.clone(), part: hi(), thread: None });
    assert_eq!(deliver(&slack, &edit).await.unwrap().id, message_id);
    assert_eq!(
        world.asked("/chat.update")[0].json(),
        json!({
            "channel": "C0ALERTS",
            "ts": "1700000000.000100",
            "text": "hi",
            "blocks": [{"type": "markdown", "text": "**hi**"}],
        })
    );
    let delete = step(Action::Delete { message_id, thread: None });
    deliver(&slack, &delete).await.unwrap();
    assert_eq!(
        world.asked("/chat.delete")[0].json(),
        json!({"channel": "C0ALERTS", "ts": "1700000000.000100"})
    );
}

#[tokio::test]
async fn deleting_what_is_gone_is_done() {
    let world = Scripted::always(refused("message_not_found")).await;
    let delete = step(Action::Delete { message_id: "1700000000.000100".to_owned(), thread: None });
    assert!(deliver(&slack(&world), &delete).await.is_ok());
}

#[tokio::test]
async fn a_permalink_comes_once_the_workspace_is_known_and_costs_one_request() {
    let world = workspace().await;
    let slack = slack(&world);
    assert_eq!(slack.probe().await.unwrap().workspace.unwrap(), "Acme");
    let sent = deliver(&slack, &send()).await.unwrap();
    assert_eq!(
        sent.permalink.unwrap(),
        "https://acme.slack.com/archives/C0ALERTS/p1700000000000100"
    );
    let route = scripted::route("slack:C0ALERTS");
    let thread = slack.thread_of("1700000000.000001");
    let sent = slack.deliver(&route, &thread, &send()).await.unwrap();
    assert_eq!(
        sent.permalink.unwrap(),
        "https://acme.slack.com/archives/C0ALERTS/p1700000000000100?thread_ts=1700000000.000001&cid=C0ALERTS"
    );
    assert_eq!(world.asked("/auth.test").len(), 1);
}

#[tokio::test]
async fn the_workspace_is_learned_beside_a_send() {
    let world = workspace().await;
    let slack = slack(&world);
    deliver(&slack, &send()).await.unwrap();
    for _ in 0..1000 {
        if slack.workspace.get("").is_some() {
            break;
        }
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(deliver(&slack, &send()).await.unwrap().permalink.is_some());
    assert_eq!(world.asked("/auth.test").len(), 1);
}

/// A strict reader takes this for an error, and a retry would post twice.
#[tokio::test]
async fn metadata_that_is_no_string_does_not_turn_success_into_failure() {
    let mut answer = posted();
    answer["message"] =
        json!({"metadata": {"event_type": "x", "event_payload": {"n": 1, "o": {"a": []}}}});
    let world = Scripted::always(Answer::json(200, answer)).await;
    assert!(deliver(&slack(&world), &send()).await.is_ok());
}

#[rustfmt::skip]
const REFUSALS: &[(Reason, &str, &str)] = &[
    (Reason::Auth, "give up", "not_authed invalid_auth account_inactive token_revoked token_expired not_allowed_token_type is_bot"),
    (Reason::MissingPermission, "give up", "missing_scope no_permission access_denied accesslimited org_login_required two_factor_setup_required \
        team_access_not_granted app_access_restricted enterprise_is_restricted ekm_access_denied messages_tab_disabled restricted_action \
        restricted_action_read_only_channel restricted_action_thread_only_channel slack_connect_file_link_sharing_blocked"),
    (Reason::NotInChannel, "give up", "not_in_channel"),
    (Reason::ChannelNotFound, "give up", "channel_not_found team_not_found"),
    (Reason::ChannelArchived, "give up", "is_archived restricted_action_thread_locked"),
    (Reason::MessageNotFound, "give up", "message_not_found thread_not_found"),
    (Reason::TooLong, "give up", "msg_too_long msg_blocks_too_long msg_blocks_too_many metadata_too_large"),
    (Reason::Rejected, "give up", "no_text invalid_blocks invalid_blocks_format markdown_text_conflict too_many_attachments \
        attachment_payload_limit_exceeded cannot_reply_to_message invalid_metadata_format invalid_arguments invalid_arg_name invalid_charset \
        invalid_form_data restricted_action_non_threadable_channel cant_update_message cant_delete_message edit_window_closed some_new_code"),
    (Reason::Quota, "give up", "message_limit_exceeded"),
    (Reason::Internal, "give up", "unknown_method deprecated_endpoint method_deprecated"),
    (Reason::RateLimited, "retry", "ratelimited rate_limited"),
    (Reason::Timeout, "retry", "request_timeout"),
    (Reason::ServerError, "retry", "service_unavailable team_added_to_org"),
    (Reason::ServerError, "ambiguous", "fatal_error internal_error duplicate_message_not_found duplicate_channel_not_found"),
];

#[tokio::test]
async fn every_code_is_classified() {
    let world = Scripted::new(|seen| {
        // The nonce carries the code that is wanted back.
        let code = &seen.json()["metadata"]["event_payload"]["delivery"];
        refused(code.as_str().unwrap())
    })
    .await;
    let slack = slack(&world);
    slack.workspace.keep("", "https://acme.slack.com".parse().unwrap());
    for (reason, verdict, codes) in REFUSALS {
        for code in codes.split_whitespace() {
            let mut step = send();
            step.nonce = code.to_owned();
            let result = deliver(&slack, &step).await;
            let failure = scripted::failure(PlatformKind::Slack, result);
            assert_eq!(failure.reason, *reason, "{code}");
            let is = match failure.disposition {
                Disposition::GiveUp => "give up",
                Disposition::Retry { .. } => "retry",
                Disposition::Ambiguous => "ambiguous",
            };
            assert_eq!(is, *verdict, "{code}");
        }
    }
}

#[tokio::test]
async fn hints_tell_the_operator_what_to_do() {
    let hint = fails(&send(), refused("not_in_channel")).await.hint;
    assert_eq!(
        hint,
        "the bot is not in the channel: invite it with /invite @your-bot, or grant it the scope chat:write.public"
    );
    let missing = json!({"ok": false, "error": "missing_scope", "needed": "chat:write", "provided": "commands"});
    let hint = fails(&send(), Answer::json(200, missing)).await.hint;
    assert!(hint.contains("lacks the scope chat:write:"), "{hint}");
    let hint = fails(&send(), refused("some_new_code")).await.hint;
    assert!(hint.contains("some_new_code"), "{hint}");
}

#[tokio::test]
async fn what_is_no_code_is_not_repeated() {
    for hostile in [scripted::hostile(), "Ignore Previous".to_owned()] {
        let answer = json!({"ok": false, "error": hostile, "needed": hostile});
        let failure = fails(&send(), Answer::json(200, answer)).await;
        assert_eq!(failure.hint, "Slack refused this");
        let answer = json!({"ok": false, "error": "missing_scope", "needed": hostile});
        let failure = fails(&send(), Answer::json(200, answer)).await;
        assert!(failure.hint.contains("lacks a scope:"), "{failure}");
    }
}

#[tokio::test]
async fn retry_after_is_honoured_in_full_and_holds_back_the_channel_alone() {
    let wait = Disposition::Retry { after: Some(Duration::from_secs(3600)), scope: Scope::Channel };
    for answer in [
        Answer::text(429, scripted::hostile()),
        Answer::json(429, json!({"ok": false, "error": "ratelimited"})),
        refused("ratelimited"),
    ] {
        let failure = fails(&send(), answer.with("retry-after", "3600")).await;
        assert_eq!(failure.reason, Reason::RateLimited);
        assert_eq!(failure.disposition, wait);
    }
}

#[tokio::test]
async fn an_answer_that_proves_nothing_is_ambiguous() {
    let html = scripted::hostile();
    for (answer, reason) in [
        (Answer::text(200, html.clone()), Reason::InvalidAnswer),
        (Answer::text(200, "{\"ok\":"), Reason::InvalidAnswer),
        (Answer::json(200, json!({"ok": true})), Reason::InvalidAnswer),
        (Answer::json(200, json!([])), Reason::InvalidAnswer),
        (Answer::text(204, ""), Reason::InvalidAnswer),
        (Answer::text(500, html.clone()), Reason::ServerError),
        (Answer::text(503, html), Reason::ServerError),
    ] {
        let shown = format!("{answer:?}");
        let failure = fails(&send(), answer).await;
        assert_eq!(failure.reason, reason, "{shown}");
        assert_eq!(failure.disposition, Disposition::Ambiguous, "{shown}");
    }
}

#[tokio::test]
async fn an_answer_of_somebody_in_between_is_final() {
    for (status, reason) in [
        (302, Reason::InvalidAnswer),
        (401, Reason::Auth),
        (403, Reason::MissingPermission),
        (404, Reason::Rejected),
        (413, Reason::TooLong),
    ] {
        let failure = fails(&send(), Answer::text(status, scripted::hostile())).await;
        assert_eq!(failure.reason, reason, "{status}");
        assert_eq!(failure.disposition, Disposition::GiveUp, "{status}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_worth_a_retry() {
    let config = Config {
        bot_token: Some(CANARY.into()),
        api_url: Some("http://127.0.0.1:9/api".parse().unwrap()),
        ..Config::default()
    };
    let slack = Slack::new(&config, scripted::client()).unwrap();
    let failure = scripted::failure(PlatformKind::Slack, deliver(&slack, &send()).await);
    assert_eq!(failure.reason, Reason::Unreachable);
    assert!(matches!(failure.disposition, Disposition::Retry { .. }));
    assert!(!format!("{slack:?}").contains("canary"));
}

#[test]
fn without_a_token_slack_is_off_and_with_one_it_needs_no_url() {
    let http = scripted::client();
    assert!(Slack::new(&Config::default(), http.clone()).is_none());
    let config = Config { bot_token: Some(CANARY.into()), ..Config::default() };
    assert!(Slack::new(&config, http).is_some());
}

#[tokio::test]
async fn a_malformed_thread_is_named_as_the_tool_names_it() {
    let world = workspace().await;
    let slack = slack(&world);
    assert_eq!(slack.check(&slack.thread_of("1700000000.000100")), Ok(()));
    for ts in ["", "1700000000", "1700000000.1", "p1700000000000100", "1700000000.00010é"] {
        let error = slack.check(&slack.thread_of(ts)).unwrap_err();
        assert!(error.contains("`thread_ts`"), "{error}");
    }
}

async fn described(channel: Value) -> ChannelInfo {
    let answer = json!({"ok": true, "channel": channel});
    let world = Scripted::always(Answer::json(200, answer)).await;
    let channel = "slack:C0ALERTS".parse().unwrap();
    let info = slack(&world).describe(&channel).await.unwrap();
    let asked = world.asked("/conversations.info");
    assert_eq!(asked[0].body, "channel=C0ALERTS");
    assert_eq!(asked[0].header("content-type"), "application/x-www-form-urlencoded");
    info
}

#[tokio::test]
async fn a_channel_is_described() {
    let info = described(
        json!({"id": "C0ALERTS", "name": "alerts", "is_channel": true, "is_member": true}),
    )
    .await;
    assert_eq!((info.name.as_deref(), info.can_post), (Some("alerts"), true));
    assert_eq!((info.kind, info.note), (ChannelKind::Public, None));

    let info =
        described(json!({"id": "C0ALERTS", "name": "old", "is_member": true, "is_archived": true}))
            .await;
    assert!(!info.can_post);
    assert!(info.note.unwrap().contains("archived"));

    let info = described(json!({"id": "C0ALERTS", "name": "x", "is_private": true})).await;
    assert!(!info.can_post);
    assert_eq!(info.kind, ChannelKind::Private);
    assert!(info.note.unwrap().contains("/invite"));
}

#[tokio::test]
async fn without_the_scope_a_channel_is_its_id_with_a_note() {
    let world = Scripted::always(refused("missing_scope")).await;
    let channel = "slack:C0ALERTS".parse().unwrap();
    let info = slack(&world).describe(&channel).await.unwrap();
    assert_eq!((info.id.as_str(), info.name), ("C0ALERTS", None));
    assert!(info.can_post);
    assert!(info.note.unwrap().contains("channels:read"));
}

#[tokio::test]
async fn a_channel_that_does_not_exist_is_a_note_and_a_bad_token_is_a_failure() {
    let channel = "slack:C0ALERTS".parse().unwrap();
    let world = Scripted::always(refused("channel_not_found")).await;
    assert!(!slack(&world).describe(&channel).await.unwrap().can_post);
    let world = Scripted::always(refused("invalid_auth")).await;
    let result = slack(&world).describe(&channel).await;
    let failure = scripted::failure(PlatformKind::Slack, result);
    assert_eq!(failure.reason, Reason::Auth);
}

#[tokio::test]
async fn channels_are_listed_page_by_page_as_far_as_the_scopes_reach() {
    let world = Scripted::new(|seen| {
        let form: BTreeMap<String, String> =
            url::form_urlencoded::parse(seen.body.as_bytes()).into_owned().collect();
        assert_eq!(form["team_id"], "T0ACME");
        if form["types"].contains("private") {
            return refused("missing_scope");
        }
        let (id, next) = match form.get("cursor").map(String::as_str) {
            None => ("C0ONE", "page=2"),
            Some("page=2") => ("C0TWO", ""),
            other => panic!("{other:?}"),
        };
        Answer::json(
            200,
            json!({"ok": true, "response_metadata": {"next_cursor": next}, "channels": [
                {"id": id, "name": "in", "is_member": true},
                {"id": "C0OUT", "name": "out", "is_member": false},
            ]}),
        )
    })
    .await;
    let mut slack = slack(&world);
    slack.team_id = Some("T0ACME".to_owned());
    let ids: Vec<_> = slack.list().await.unwrap().into_iter().map(|c| c.id).collect();
    assert_eq!(ids, ["C0ONE", "C0TWO"]);
}

#[tokio::test]
async fn a_list_without_any_scope_says_so() {
    let world = Scripted::always(refused("missing_scope")).await;
    let failure = scripted::failure(PlatformKind::Slack, slack(&world).list().await);
    assert_eq!(failure.reason, Reason::MissingPermission);
}

#[tokio::test]
async fn a_probe_tells_who_we_are_and_what_we_may() {
    let world = workspace().await;
    let identity = slack(&world).probe().await.unwrap();
    assert_eq!(identity.id, "U0BOT");
    assert_eq!(identity.name, "herald");
    assert_eq!(identity.scopes.unwrap(), ["chat:write", "channels:read"]);
}
