mod cards;
mod chats;
mod files;

use serde_json::{Value, json};

use super::*;
use crate::model::{Disposition, Scope};
use crate::platform::scripted::{self, CANARY, Reply as Wire, Scripted, hi, send, step};

const CHAT: &str = "telegram:-1001000000001";

fn telegram(world: &Scripted) -> Telegram {
    let config = Config {
        bot_token: Some(CANARY.into()),
        api_url: Some(world.url.clone()),
        ..Config::default()
    };
    Telegram::new(&config, scripted::client()).unwrap()
}

async fn deliver_to(
    telegram: &Telegram,
    chat: &str,
    placement: &Placement,
    step: &Step,
) -> Result<Sent, Failure> {
    let route = scripted::route(chat);
    telegram.deliver(&route, placement, step).await
}

async fn deliver(telegram: &Telegram, step: &Step) -> Result<Sent, Failure> {
    deliver_to(telegram, CHAT, &Placement::default(), step).await
}

async fn fails(answer: Wire) -> Failure {
    let world = Scripted::always(answer).await;
    let result = deliver(&telegram(&world), &send()).await;
    scripted::failure(PlatformKind::Telegram, result)
}

fn refused(status: u16, description: &str) -> Wire {
    let body = json!({"ok": false, "error_code": status, "description": description});
    Wire::json(status, body)
}

fn posted() -> Wire {
    let chat = json!({"id": -1_001_000_000_001_i64, "type": "supergroup", "title": "Ops"});
    let message = json!({"message_id": 7, "date": 1, "chat": chat, "text": "hi"});
    Wire::json(200, json!({"ok": true, "result": message}))
}

fn edit() -> Step {
    step(Action::Edit { message_id: "7".to_owned(), part: hi(), thread: None })
}

fn delete() -> Step {
    step(Action::Delete { message_id: "7".to_owned(), thread: None })
}

#[tokio::test]
async fn a_message_is_html_without_previews() {
    let world = Scripted::always(posted()).await;
    let sent = deliver(&telegram(&world), &send()).await.unwrap();
    assert_eq!(sent.id, "7");
    assert_eq!(sent.permalink.unwrap(), "https://t.me/c/1000000001/7");

    let asked = world.asked("/sendMessage");
    assert_eq!(asked[0].path, format!("/api/bot{CANARY}/sendMessage"));
    assert_eq!(asked[0].method, "POST");
    assert_eq!(
        asked[0].json(),
        json!({
            "chat_id": -1_001_000_000_001_i64,
            "text": "**hi**",
            "parse_mode": "HTML",
            "link_preview_options": {"is_disabled": true},
        })
    );
}

#[tokio::test]
async fn a_silent_reply_in_a_topic_survives_the_deletion_of_what_it_replies_to() {
    let world = Scripted::always(posted()).await;
    let placement = Placement {
        thread: Some("42".to_owned()),
        reply_to: Some("6".to_owned()),
        silent: true,
        broadcast: false,
        respond: None,
    };
    let sent = deliver_to(&telegram(&world), CHAT, &placement, &send()).await;
    assert_eq!(sent.unwrap().permalink.unwrap(), "https://t.me/c/1000000001/42/7");
    let body = world.asked("/sendMessage")[0].json();
    assert_eq!(body["message_thread_id"], 42);
    assert_eq!(body["disable_notification"], true);
    assert_eq!(
        body["reply_parameters"],
        json!({"message_id": 6, "allow_sending_without_reply": true})
    );
}

#[tokio::test]
async fn a_chat_is_addressed_by_number_name_and_topic() {
    let world = Scripted::always(posted()).await;
    let telegram = telegram(&world);
    let here = Placement::default();
    let caller = Placement { thread: Some("9".to_owned()), ..Placement::default() };
    for (chat, placement, id, topic) in [
        ("telegram:123456789", &here, json!(123_456_789), json!(null)),
        ("telegram:@Acme_News", &here, json!("@acme_news"), json!(null)),
        ("telegram:-1001/42", &here, json!(-1001), json!(42)),
        ("telegram:-1001", &caller, json!(-1001), json!(9)),
        ("telegram:-1001/9", &caller, json!(-1001), json!(9)),
        // Telegram finds no topic 1: it is where messages without a topic stand.
        ("telegram:-1001/1", &here, json!(-1001), json!(null)),
    ] {
        deliver_to(&telegram, chat, placement, &send()).await.unwrap();
        let body = world.asked("/sendMessage").pop().unwrap().json();
        assert_eq!(body["chat_id"], id, "{chat}");
        assert_eq!(body["message_thread_id"], topic, "{chat}");
    }
}

#[tokio::test]
async fn a_topic_that_is_allowed_does_not_open_the_others() {
    let world = Scripted::always(posted()).await;
    let other = Placement { thread: Some("9".to_owned()), ..Placement::default() };
    let result = deliver_to(&telegram(&world), "telegram:-1001/42", &other, &send()).await;
    let failure = scripted::failure(PlatformKind::Telegram, result);
    assert_eq!(failure.reason, Reason::Denied);
    assert!(world.asked("/sendMessage").is_empty());
}

#[tokio::test]
async fn a_public_chat_is_linked_by_name_and_a_person_not_at_all() {
    for (chat, link) in [
        (
            json!({"id": -1_001_000_000_001_i64, "type": "channel", "username": "acme"}),
            Some("https://t.me/acme/7"),
        ),
        (json!({"id": 4242, "type": "private", "username": "bob"}), None),
        (json!({"id": -4242, "type": "group"}), None),
        (
            json!({"id": -1_001_000_000_001_i64, "type": "channel", "username": "../x"}),
            Some("https://t.me/c/1000000001/7"),
        ),
    ] {
        let message = json!({"message_id": 7, "chat": chat});
        let answer = json!({"ok": true, "result": message});
        let world = Scripted::always(Wire::json(200, answer)).await;
        let sent = deliver(&telegram(&world), &send()).await.unwrap();
        assert_eq!(sent.permalink.as_deref(), link);
    }
}

#[tokio::test]
async fn markup_that_telegram_refuses_goes_out_once_more_as_plain_text() {
    for (step, method) in [(send(), "/sendMessage"), (edit(), "/editMessageText")] {
        let world = Scripted::new(|seen| match seen.json().get("parse_mode") {
            Some(_) => refused(400, "Bad Request: can't parse entities: Unsupported start tag"),
            None => posted(),
        })
        .await;
        assert_eq!(deliver(&telegram(&world), &step).await.unwrap().id, "7");
        let asked = world.asked(method);
        assert_eq!(asked.len(), 2);
        let (marked, mut plain) = (asked[0].json(), asked[1].json());
        assert_eq!((&marked["text"], &plain["text"]), (&json!("**hi**"), &json!("hi")));
        plain["text"] = json!("**hi**");
        plain["parse_mode"] = json!("HTML");
        assert_eq!(marked, plain, "nothing else differs");
    }
}

#[tokio::test]
async fn markup_that_is_refused_even_plain_is_refused_after_two_tries() {
    let world = Scripted::always(refused(400, "Bad Request: can't parse entities")).await;
    let result = deliver(&telegram(&world), &send()).await;
    let failure = scripted::failure(PlatformKind::Telegram, result);
    assert_eq!(failure.reason, Reason::Rejected);
    assert_eq!(world.asked("/sendMessage").len(), 2);
}

#[tokio::test]
async fn a_message_is_edited_and_deleted_by_its_number() {
    let world = Scripted::new(|seen| match seen.path.ends_with("/deleteMessage") {
        true => Wire::json(200, json!({"ok": true, "result": true})),
        false => posted(),
    })
    .await;
    let telegram = telegram(&world);
    assert_eq!(deliver(&telegram, &edit()).await.unwrap().id, "7");
    assert_eq!(
        world.asked("/editMessageText")[0].json(),
        json!({
            "chat_id": -1_001_000_000_001_i64,
            "message_id": 7,
            "text": "**hi**",
            "parse_mode": "HTML",
            "link_preview_options": {"is_disabled": true},
        })
    );
    deliver(&telegram, &delete()).await.unwrap();
    assert_eq!(
        world.asked("/deleteMessage")[0].json(),
        json!({"chat_id": -1_001_000_000_001_i64, "message_id": 7})
    );
}

#[tokio::test]
async fn what_is_so_already_is_done() {
    for (step, said) in [
        (edit(), "Bad Request: message is not modified: specified new message content"),
        (delete(), "Bad Request: message to delete not found"),
    ] {
        let world = Scripted::always(refused(400, said)).await;
        assert_eq!(deliver(&telegram(&world), &step).await.unwrap().id, "7");
    }
}

#[rustfmt::skip]
const REFUSALS: &[(Reason, u16, &[&str])] = &[
    (Reason::Auth, 401, &["Unauthorized"]),
    (Reason::Auth, 404, &["Not Found"]),
    (Reason::MissingPermission, 403, &["Forbidden: bot was blocked by the user", "Forbidden: bot can't initiate conversation with a user", "Forbidden: something new"]),
    (Reason::MissingPermission, 400, &["Bad Request: CHAT_WRITE_FORBIDDEN", "Bad Request: not enough rights to send text messages to the chat", "Bad Request: have no rights to send a message"]),
    (Reason::NotInChannel, 403, &["Forbidden: bot was kicked from the supergroup chat", "Forbidden: bot is not a member of the channel chat"]),
    (Reason::ChannelNotFound, 400, &["Bad Request: chat not found", "Bad Request: PEER_ID_INVALID"]),
    (Reason::ChannelNotFound, 403, &["Forbidden: user is deactivated"]),
    (Reason::ChannelArchived, 400, &["Bad Request: TOPIC_CLOSED", "Bad Request: group chat was deactivated"]),
    (Reason::MessageNotFound, 400, &["Bad Request: message thread not found", "Bad Request: message to edit not found", "Bad Request: message to be replied not found"]),
    (Reason::MessageNotFound, 400, &["Bad Request: wrong file_id or the file is temporarily unavailable", "Bad Request: invalid file_id", "Bad Request: wrong remote file identifier specified: can't unserialize it"]),
    (Reason::TooLong, 400, &["Bad Request: message is too long", "Bad Request: file is too big"]),
    (Reason::TooLong, 413, &["Request Entity Too Large"]),
    (Reason::Rejected, 400, &["Bad Request: message text is empty", "Bad Request: something new", "Bad Request: message can't be edited", "Bad Request: there is no text in the message to edit", "Bad Request: file must be non-empty"]),
    (Reason::Rejected, 409, &["Conflict: terminated by other getUpdates request"]),
];

#[tokio::test]
async fn every_refusal_is_classified_and_none_is_quoted() {
    for (reason, status, descriptions) in REFUSALS {
        for description in *descriptions {
            let said = format!("{description} {}", scripted::hostile());
            let failure = fails(refused(*status, &said)).await;
            assert_eq!(failure.reason, *reason, "{description}");
            assert_eq!(failure.disposition, Disposition::GiveUp, "{description}");
            assert!(!failure.hint.contains("something new"), "{failure}");
        }
    }
}

#[tokio::test]
async fn a_group_that_moved_is_named_to_the_operator_and_not_followed() {
    let body = json!({
        "ok": false, "error_code": 400,
        "description": "Bad Request: group chat was upgraded to a supergroup chat",
        "parameters": {"migrate_to_chat_id": -1_001_000_000_009_i64},
    });
    let world = Scripted::always(Wire::json(400, body)).await;
    let result = deliver(&telegram(&world), &send()).await;
    let failure = scripted::failure(PlatformKind::Telegram, result);
    assert_eq!(failure.disposition, Disposition::GiveUp);
    assert!(failure.hint.contains("-1001000000009"), "{failure}");
    assert!(failure.hint.contains("TELEGRAM_CHAT_IDS"), "{failure}");
    assert_eq!(world.asked("/sendMessage").len(), 1);
}

#[tokio::test]
async fn retry_after_is_honoured_in_full_and_holds_back_the_chat_alone() {
    let body = json!({
        "ok": false, "error_code": 429, "description": "Too Many Requests: retry after 3600",
        "parameters": {"retry_after": 3600},
    });
    for answer in [
        Wire::json(429, body).with("retry-after", "1"),
        Wire::text(429, scripted::hostile()).with("retry-after", "3600"),
    ] {
        let failure = fails(answer).await;
        assert_eq!(failure.reason, Reason::RateLimited);
        let wait =
            Disposition::Retry { after: Some(Duration::from_secs(3600)), scope: Scope::Channel };
        assert_eq!(failure.disposition, wait);
    }
}

#[tokio::test]
async fn an_answer_that_proves_nothing_is_ambiguous() {
    for (answer, reason) in [
        (Wire::text(200, scripted::hostile()), Reason::InvalidAnswer),
        (Wire::json(200, json!({"ok": true})), Reason::InvalidAnswer),
        (Wire::json(200, json!({"ok": true, "result": true})), Reason::InvalidAnswer),
        (Wire::json(200, json!({"ok": false})), Reason::InvalidAnswer),
        (Wire::text(502, scripted::hostile()), Reason::ServerError),
        (refused(500, "Internal Server Error: chat not found"), Reason::ServerError),
    ] {
        let shown = format!("{answer:?}");
        let failure = fails(answer).await;
        assert_eq!(failure.reason, reason, "{shown}");
        assert_eq!(failure.disposition, Disposition::Ambiguous, "{shown}");
    }
}

/// The token is in the path, and libraries like to quote URLs.
#[tokio::test]
async fn no_error_of_the_connection_shows_the_token() {
    let telegram = |url: &str| {
        let config = Config {
            bot_token: Some(CANARY.into()),
            api_url: Some(url.parse().unwrap()),
            ..Config::default()
        };
        Telegram::new(&config, scripted::client()).unwrap()
    };
    let dropping = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = dropping.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = dropping.accept().await {
            drop(stream);
        }
    });
    for (url, reason) in [
        ("http://127.0.0.1:9".to_owned(), Reason::Unreachable),
        (format!("https://{address}"), Reason::Unreachable),
        (format!("http://{address}"), Reason::ConnectionLost),
        ("ftp://127.0.0.1".to_owned(), Reason::Auth),
        ("data:text".to_owned(), Reason::Auth),
    ] {
        let telegram = telegram(&url);
        let result = deliver(&telegram, &send()).await;
        let failure = scripted::failure(PlatformKind::Telegram, result);
        assert_eq!(failure.reason, reason, "{url}");
        assert!(!format!("{telegram:?}").contains("canary"));
    }
}

#[tokio::test]
async fn a_probe_tells_who_we_are_and_a_list_why_there_is_none() {
    let me = json!({"ok": true, "result": {"id": 4242, "is_bot": true, "username": "herald_bot"}});
    let world = Scripted::always(Wire::json(200, me)).await;
    let telegram = telegram(&world);
    let me = telegram.probe().await.unwrap();
    assert_eq!((me.id.as_str(), me.name.as_str()), ("4242", "herald_bot"));
    let failure = scripted::failure(PlatformKind::Telegram, telegram.list().await);
    assert!(failure.hint.contains("TELEGRAM_CHAT_IDS"));
}

#[test]
fn without_a_token_telegram_is_off_and_with_one_it_needs_no_url() {
    let http = scripted::client();
    assert!(Telegram::new(&Config::default(), http.clone()).is_none());
    let config = Config { bot_token: Some(CANARY.into()), ..Config::default() };
    assert!(Telegram::new(&config, http).is_some());
}

#[tokio::test]
async fn groups_are_paced_slower_than_people_unless_the_operator_says_otherwise() {
    let world = Scripted::always(posted()).await;
    let mut telegram = telegram(&world);
    let pace = |t: &Telegram, chat: &str| t.pace(&chat.parse().unwrap()).interval_ms;
    assert_eq!(pace(&telegram, "telegram:4242"), 1000);
    assert_eq!(pace(&telegram, "telegram:-4242"), 3333);
    assert_eq!(pace(&telegram, "telegram:@acme"), 3333);
    telegram.pace = Some(Pace::new(Duration::from_millis(5), 9));
    assert_eq!(pace(&telegram, "telegram:-4242"), 5);
}

#[tokio::test]
async fn a_malformed_placement_is_named_as_the_tool_names_it() {
    let world = Scripted::always(posted()).await;
    let telegram = telegram(&world);
    assert_eq!(telegram.check(&telegram.thread_of("7")), Ok(()));
    for id in ["", "0", "-7", "7.5", "seven", "99999999999999999999"] {
        let error = telegram.check(&telegram.thread_of(id)).unwrap_err();
        assert!(error.contains("`reply_to`"), "{error}");
        let topic = Placement { thread: Some(id.to_owned()), ..Placement::default() };
        let error = telegram.check(&topic).unwrap_err();
        assert!(error.contains("`message_thread_id`"), "{error}");
    }
}
