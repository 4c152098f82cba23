//! Cards, files, signals, and answers where the bot is no member.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::*;
use crate::model::{Disposition, FilePart, ResponseUrl, TextPart};
use crate::platform::scripted::{self, CANARY, Reply as Answer, Scripted, hi, step};

fn slack(world: &Scripted) -> Slack {
    let config = Config {
        bot_token: Some(CANARY.into()),
        api_url: Some(world.url.clone()),
        ..Config::default()
    };
    Slack::new(&config, scripted::client()).unwrap()
}

fn refused(code: &str) -> Answer {
    Answer::json(200, json!({ "ok": false, "error": code }))
}

fn posted() -> Answer {
    Answer::json(200, json!({ "ok": true, "channel": "C0ALERTS", "ts": "1700000000.000100" }))
}

fn button(key: &str, style: ButtonStyle) -> Button {
    Button { key: key.to_owned(), label: format!("Press {key}"), style }
}

fn card() -> Part {
    Part::Card(CardPart {
        text: TextPart::new("**ask**", "ask"),
        rows: vec![
            vec![button("k1", ButtonStyle::Good), button("k2", ButtonStyle::Danger)],
            Vec::new(),
            vec![button("k3", ButtonStyle::Plain)],
        ],
    })
}

async fn deliver(slack: &Slack, placement: &Placement, action: Action) -> Result<Sent, Failure> {
    slack.deliver(&scripted::route("slack:C0ALERTS"), placement, &step(action)).await
}

fn edit(message_id: &str, part: Part) -> Action {
    Action::Edit { message_id: message_id.to_owned(), thread: None, part }
}

#[tokio::test]
async fn a_card_has_its_buttons_below_and_an_edit_into_text_takes_them_away() {
    let world = Scripted::always(posted()).await;
    let slack = slack(&world);
    let place = Placement::default();
    deliver(&slack, &place, Action::Send { part: card() }).await.unwrap();
    deliver(&slack, &place, edit("1700000000.000100", hi())).await.unwrap();
    let text = |label: &str| json!({ "type": "plain_text", "text": label });
    assert_eq!(
        world.asked("/chat.postMessage")[0].json()["blocks"],
        json!([
            { "type": "markdown", "text": "**ask**" },
            { "type": "actions", "elements": [
                { "type": "button", "action_id": "0-0", "text": text("Press k1"), "value": "k1", "style": "primary" },
                { "type": "button", "action_id": "0-1", "text": text("Press k2"), "value": "k2", "style": "danger" },
            ] },
            { "type": "actions", "elements": [
                { "type": "button", "action_id": "1-0", "text": text("Press k3"), "value": "k3" },
            ] },
        ])
    );
    let edited = world.asked("/chat.update")[0].json();
    assert_eq!(edited["blocks"], json!([{ "type": "markdown", "text": "**hi**" }]));
}

#[tokio::test]
async fn signals_are_shown_once_or_not_at_all() {
    let world = Scripted::always(posted()).await;
    let (route, place) = (scripted::route("slack:C0ALERTS"), Placement::default());
    let slack = slack(&world);
    slack.signal(&route, &place, &Signal::Typing).await.unwrap();
    // What went through a response URL has no ID.
    let edit = |id: &str| Signal::Edit { message_id: id.to_owned(), part: hi() };
    slack.signal(&route, &place, &edit("")).await.unwrap();
    assert!(world.asked("").is_empty());
    slack.signal(&route, &place, &edit("1700000000.000100")).await.unwrap();
    assert_eq!(world.asked("/chat.update").len(), 1);

    let world = Scripted::always(refused("ratelimited").with("retry-after", "7")).await;
    let failed = self::slack(&world).signal(&route, &place, &edit("1700000000.000100")).await;
    let after = Some(Duration::from_secs(7));
    let failure = scripted::failure(PlatformKind::Slack, failed);
    assert!(matches!(failure.disposition, Disposition::Retry { after: a, .. } if a == after));
}

/// Slack where the bot is no member, and what its response URL answers.
async fn outside(code: &'static str, response: Answer) -> (Scripted, Placement) {
    let world = Scripted::new(move |seen| match seen.path.as_str() {
        "/response/Zq7secret" => response.clone(),
        _ => refused(code),
    })
    .await;
    let url = world.url.join("/response/Zq7secret").unwrap();
    let respond = Some(ResponseUrl::new(url));
    (world, Placement { respond, ..Placement::default() })
}

#[tokio::test]
async fn where_the_bot_is_no_member_it_answers_through_the_response_url() {
    for code in ["not_in_channel", "channel_not_found"] {
        let (world, place) = outside(code, Answer::text(200, "ok")).await;
        let slack = slack(&world);
        let sent = deliver(&slack, &place, Action::Send { part: card() }).await.unwrap();
        assert_eq!(sent, Sent::default());
        // Editing what has no ID replaces the last answer.
        let sent = deliver(&slack, &place, edit("", hi())).await.unwrap();
        assert_eq!(sent, Sent::default());
        let asked = world.asked("/response/Zq7secret");
        let (first, second) = (asked[0].json(), asked[1].json());
        assert_eq!(first["response_type"], "in_channel");
        assert_eq!(first["replace_original"], false);
        assert_eq!(first["text"], "ask");
        assert_eq!(first["blocks"][1]["type"], "actions");
        assert_eq!(second["replace_original"], true);
        assert_eq!(second["text"], "hi");
        assert_eq!(asked[0].header("authorization"), "", "the token is none of its business");
        assert!(world.asked("/chat.update").is_empty());
        // A pressed message has an ID and may still be out of reach.
        let sent = deliver(&slack, &place, edit("1700000000.000100", hi())).await.unwrap();
        assert_eq!(sent.id, "1700000000.000100");
        assert_eq!(world.asked("/chat.update").len(), 1);
    }
}

#[tokio::test]
async fn an_answer_through_a_response_url_unfurls_nothing() {
    let (world, place) = outside("not_in_channel", Answer::text(200, "ok")).await;
    deliver(&slack(&world), &place, Action::Send { part: hi() }).await.unwrap();
    let asked = world.asked("/response/Zq7secret")[0].json();
    assert_eq!([&asked["unfurl_links"], &asked["unfurl_media"]], [&json!(false); 2]);
}

#[tokio::test]
async fn a_response_url_is_used_only_where_it_helps() {
    let (world, place) = outside("msg_too_long", Answer::text(200, "ok")).await;
    let failed = deliver(&slack(&world), &place, Action::Send { part: hi() }).await;
    assert_eq!(failed.unwrap_err().reason, Reason::TooLong);
    assert!(world.asked("/response/Zq7secret").is_empty());

    let (world, _) = outside("not_in_channel", Answer::text(200, "ok")).await;
    let elsewhere = ResponseUrl::new("http://127.0.0.1:9/response/Zq7secret");
    let place = Placement { respond: Some(elsewhere), ..Placement::default() };
    let failed = deliver(&slack(&world), &place, Action::Send { part: hi() }).await;
    let failure = scripted::failure(PlatformKind::Slack, failed);
    assert_eq!((failure.reason, failure.disposition), (Reason::NotInChannel, Disposition::GiveUp));
}

#[tokio::test]
async fn what_a_response_url_refuses_is_classified_and_never_shown() {
    let gone = json!({ "ok": false, "error": "expired_url" });
    for (answer, reason, disposition) in [
        (Answer::json(404, gone), Reason::NotInChannel, Disposition::GiveUp),
        (Answer::text(410, scripted::hostile()), Reason::NotInChannel, Disposition::GiveUp),
        (Answer::text(500, scripted::hostile()), Reason::ServerError, Disposition::Ambiguous),
        (Answer::text(400, scripted::hostile()), Reason::Rejected, Disposition::GiveUp),
        (
            Answer::text(302, "").with("location", "https://evil.example/"),
            Reason::InvalidAnswer,
            Disposition::GiveUp,
        ),
    ] {
        let (world, place) = outside("not_in_channel", answer).await;
        let failed = deliver(&slack(&world), &place, Action::Send { part: hi() }).await;
        let failure = scripted::failure(PlatformKind::Slack, failed);
        assert_eq!((failure.reason, failure.disposition), (reason, disposition), "{failure:?}");
        if reason == Reason::NotInChannel {
            assert!(failure.hint.contains("/invite"), "{failure}");
        }
    }
}

fn report() -> Part {
    Part::File(FilePart {
        name: "pods & more.txt".to_owned(),
        mime: "text/plain".to_owned(),
        base64: STANDARD.encode("all is well"),
        held_to: None,
    })
}

/// Takes files; `upload` is where their content goes, `complete` what is answered at the end.
async fn storage(upload: Option<&'static str>, complete: Answer) -> Scripted {
    let own = std::sync::Arc::new(std::sync::OnceLock::new());
    let known = own.clone();
    let world = Scripted::new(move |seen| match seen.path.as_str() {
        "/api/files.getUploadURLExternal" => {
            let own: &Url = known.get().unwrap();
            let url = upload.map_or_else(|| own.join("/upload/F1").unwrap().into(), str::to_owned);
            Answer::json(200, json!({ "ok": true, "upload_url": url, "file_id": "F1" }))
        }
        "/upload/F1" => Answer::text(200, "OK - 11"),
        _ => complete.clone(),
    })
    .await;
    own.set(world.url.clone()).unwrap();
    world
}

#[tokio::test]
async fn a_file_is_brought_first_and_shown_last() {
    let shown =
        json!({ "ok": true, "files": [{ "id": "F1", "permalink": "https://acme.slack.com/f" }] });
    let world = storage(None, Answer::json(200, shown)).await;
    let slack = slack(&world);
    let place = slack.thread_of("1700000000.000001");
    let sent = deliver(&slack, &place, Action::Send { part: report() }).await.unwrap();
    assert_eq!(sent.id, "");
    assert_eq!(sent.permalink.as_deref(), Some("https://acme.slack.com/f"));
    let begun = &world.asked("/files.getUploadURLExternal")[0];
    assert_eq!(begun.body, "filename=pods+%26+more.txt&length=11");
    let brought = &world.asked("/upload/F1")[0];
    assert_eq!((brought.body.as_str(), brought.header("authorization")), ("all is well", ""));
    assert_eq!(
        world.asked("/files.completeUploadExternal")[0].json(),
        json!({
            "files": [{ "id": "F1", "title": "pods & more.txt" }],
            "channel_id": "C0ALERTS", "thread_ts": "1700000000.000001",
        })
    );
}

#[tokio::test]
async fn only_the_last_step_of_an_upload_can_leave_a_doubt() {
    let upload = |world| async move {
        let failed =
            deliver(&slack(&world), &Placement::default(), Action::Send { part: report() }).await;
        scripted::failure(PlatformKind::Slack, failed)
    };
    let lacks = json!({ "ok": false, "error": "missing_scope", "provided": "chat:write" });
    let failure = upload(Scripted::always(Answer::json(200, lacks)).await).await;
    assert_eq!(failure.reason, Reason::MissingPermission);
    assert!(failure.hint.contains("files:write"), "{failure}");
    let failure = upload(Scripted::always(Answer::text(502, scripted::hostile())).await).await;
    assert!(matches!(failure.disposition, Disposition::Retry { .. }), "{failure:?}");
    // The content goes to Slack's own servers alone.
    let world = storage(Some("https://evil.example/upload"), posted()).await;
    assert!(matches!(upload(world).await.disposition, Disposition::Retry { .. }));
    let failure = upload(storage(None, Answer::text(502, "")).await).await;
    assert_eq!(failure.disposition, Disposition::Ambiguous);
    let failure = upload(storage(None, refused("not_in_channel")).await).await;
    assert_eq!((failure.reason, failure.disposition), (Reason::NotInChannel, Disposition::GiveUp));
    assert!(failure.hint.contains("/invite"));
    // A response URL takes no files.
    let (world, place) = outside("not_in_channel", Answer::text(200, "ok")).await;
    deliver(&slack(&world), &place, Action::Send { part: report() }).await.unwrap_err();
    assert!(world.asked("/response/Zq7secret").is_empty());
}

#[tokio::test]
async fn a_files_content_is_brought_to_slack_alone() {
    let elsewhere = Scripted::always(Answer::text(200, "OK - 11")).await;
    let url = elsewhere.url.join("/upload/F1").unwrap().to_string();
    let world = storage(Some(String::leak(url)), posted()).await;
    let sent = Action::Send { part: report() };
    let failed = deliver(&slack(&world), &Placement::default(), sent).await;
    assert_eq!(failed.unwrap_err().reason, Reason::InvalidAnswer);
    assert!(elsewhere.asked("").is_empty());
}

fn attachment(source: impl Into<String>) -> Attachment {
    Attachment {
        name: "a.txt".to_owned(),
        mime: "text/plain".to_owned(),
        size: None,
        source: source.into(),
    }
}

#[tokio::test]
async fn a_file_is_read_from_slack_alone_and_up_to_the_limit() {
    let world = Scripted::new(|seen| match seen.path.as_str() {
        "/files/F1" => Answer::text(200, "0123456789"),
        "/files/F2" => Answer::text(302, "").with("location", "https://evil.example/"),
        "/files/F3" => Answer::text(200, "sign in").with("content-type", "text/html"),
        "/files/F5" => Answer::text(503, scripted::hostile()),
        _ => Answer::text(404, ""),
    })
    .await;
    let slack = slack(&world);
    let at = |path: &str| attachment(world.url.join(path).unwrap());
    assert_eq!(slack.fetch(&at("/files/F1"), 10).await.unwrap(), b"0123456789");
    assert_eq!(world.asked("/files/F1")[0].header("authorization"), format!("Bearer {CANARY}"));
    for (file, most, reason) in [
        (at("/files/F1"), 9, Reason::TooLong),
        (at("/files/F2"), 10, Reason::MissingPermission),
        (at("/files/F3"), 10, Reason::MissingPermission),
        (at("/files/F4"), 10, Reason::MessageNotFound),
        (at("/files/F5"), 10, Reason::ServerError),
        (attachment("https://evil.example/F1"), 10, Reason::Denied),
        (attachment("http://files.slack.com/F1"), 10, Reason::Denied),
        (attachment("file:///etc/passwd"), 10, Reason::Denied),
    ] {
        let failed = slack.fetch(&file, most).await;
        assert_eq!(scripted::failure(PlatformKind::Slack, failed).reason, reason, "{file:?}");
    }
}

#[tokio::test]
async fn a_message_cannot_become_a_file() {
    let world = Scripted::always(posted()).await;
    let failed =
        deliver(&slack(&world), &Placement::default(), edit("1700000000.000100", report())).await;
    assert_eq!(failed.unwrap_err().reason, Reason::Internal);
    assert!(world.asked("").is_empty());
}
