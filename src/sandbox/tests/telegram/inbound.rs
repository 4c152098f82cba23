//! What the bot is told, and how it asks.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::super::{Fault, FaultKind, Press, Speech, Upload, Vendor};
use super::super::{Served, serve};
use super::{ALERTS, call, send};

const ALERTS_KEY: &str = "telegram:-1001000000001";
const FORUM: &str = "telegram:-1001000000003";
const DIRECT: &str = "telegram:5000000001";

fn say(served: &Served, speech: Speech) -> String {
    served.world.speak(&speech).unwrap().unwrap().id
}

fn speech(channel: &str, text: &str) -> Speech {
    Speech { channel: channel.to_owned(), text: text.to_owned(), ..Speech::default() }
}

async fn poll(served: &Served, parameters: Value) -> Vec<Value> {
    let (status, body) = call(served, "getUpdates", parameters).await;
    assert_eq!(status, 200, "{body}");
    body["result"].as_array().unwrap().clone()
}

fn ids(updates: &[Value]) -> Vec<i64> {
    updates.iter().map(|update| update["update_id"].as_i64().unwrap()).collect()
}

#[tokio::test]
async fn updates_are_told_until_they_are_confirmed() {
    let served = serve().await;
    assert!(poll(&served, json!({})).await.is_empty());
    for text in ["one", "two", "three"] {
        say(&served, speech(ALERTS_KEY, text));
    }
    let all = ids(&poll(&served, json!({})).await);
    assert_eq!(all[1], all[0] + 1);
    assert_eq!(ids(&poll(&served, json!({})).await), all, "nothing was confirmed");
    assert_eq!(ids(&poll(&served, json!({ "limit": 2 })).await), all[..2]);
    assert_eq!(ids(&poll(&served, json!({ "offset": all[1] })).await), all[1..]);
    assert_eq!(
        ids(&poll(&served, json!({ "offset": all[0] })).await),
        all[1..],
        "the first is gone"
    );
    assert_eq!(ids(&poll(&served, json!({ "offset": -1 })).await), all[2..]);
    assert!(poll(&served, json!({ "offset": all[2] + 1 })).await.is_empty());
    // Kinds that were not asked for are never told.
    assert!(poll(&served, json!({ "allowed_updates": ["callback_query"] })).await.is_empty());
    say(&served, speech(ALERTS_KEY, "four"));
    assert!(poll(&served, json!({})).await.is_empty());
    assert!(poll(&served, json!({ "allowed_updates": [] })).await.is_empty());
    say(&served, speech(ALERTS_KEY, "five"));
    assert_eq!(poll(&served, json!({})).await.len(), 1);
    // After a day Telegram forgets.
    served.clock.advance(Duration::from_secs(25 * 3600));
    assert!(poll(&served, json!({})).await.is_empty());
}

#[tokio::test]
async fn a_poll_is_held_until_somebody_speaks_and_ends_when_another_comes() {
    let served = serve().await;
    let held = |timeout: u32| {
        let request = served.telegram("getUpdates").json(&json!({ "timeout": timeout }));
        tokio::spawn(async move { super::answer(request).await })
    };
    let waiting = |polls: usize| {
        let world = served.world.clone();
        async move {
            let open = |r: &super::super::super::Request| r.method == "getUpdates";
            while world.requests().iter().filter(|r| open(r)).count() < polls {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    };
    let first = held(30);
    waiting(1).await;
    assert_eq!(served.last_outcome(), "open");
    say(&served, speech(ALERTS_KEY, "hello"));
    let (status, body) = first.await.unwrap();
    assert_eq!((status, body["result"].as_array().unwrap().len()), (200, 1));
    let next = body["result"][0]["update_id"].as_i64().unwrap() + 1;
    poll(&served, json!({ "offset": next })).await;

    let older = held(30);
    waiting(3).await;
    let newer = held(1);
    let (status, body) = older.await.unwrap();
    let words = "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running";
    assert_eq!((status, &body["description"]), (409, &json!(words)));
    let (status, body) = newer.await.unwrap();
    assert_eq!((status, &body["result"]), (200, &json!([])), "its time is over");

    let held_by_webhook = held(30);
    waiting(5).await;
    let hook = json!({ "url": "https://example.org/hook" });
    assert_eq!(call(&served, "setWebhook", hook).await.1["result"], true);
    assert_eq!(held_by_webhook.await.unwrap().0, 409);
    let (status, body) = call(&served, "getUpdates", json!({})).await;
    assert_eq!(status, 409);
    assert!(body["description"].as_str().unwrap().contains("while webhook is active"), "{body}");

    let closing = held(30);
    assert_eq!(closing.await.unwrap().0, 409);
    call(&served, "deleteWebhook", json!({})).await;
    let last = held(30);
    waiting(8).await;
    served.world.close();
    assert_eq!(tokio::time::timeout(Duration::from_secs(10), last).await.unwrap().unwrap().0, 200);
}

#[tokio::test]
async fn webhooks_and_pending_updates() {
    let served = serve().await;
    let insecure = call(&served, "setWebhook", json!({ "url": "http://example.org" })).await;
    assert_eq!(insecure.0, 400);
    say(&served, speech(ALERTS_KEY, "one"));
    call(&served, "setWebhook", json!({ "url": "https://example.org/hook" })).await;
    let info = call(&served, "getWebhookInfo", json!({})).await.1;
    assert_eq!(info["result"]["url"], "https://example.org/hook");
    assert_eq!(info["result"]["pending_update_count"], 1);
    call(&served, "deleteWebhook", json!({})).await;
    assert_eq!(poll(&served, json!({})).await.len(), 1, "nothing is dropped unasked");
    call(&served, "deleteWebhook", json!({ "drop_pending_updates": true })).await;
    assert!(poll(&served, json!({})).await.is_empty());
}

#[tokio::test]
async fn messages_are_told_as_telegram_tells_them() {
    let served = serve().await;
    let first = say(&served, speech(DIRECT, "/new@herald_sandbox_bot 🦀 @somebody"));
    let sent =
        send(&served, json!({ "chat_id": ALERTS, "text": "<b>hi</b>", "parse_mode": "HTML" }))
            .await;
    let bots = sent.1["result"]["message_id"].to_string();
    say(&served, Speech { reply_to: Some(bots), ..speech(ALERTS_KEY, "and?") });
    say(
        &served,
        Speech {
            thread: Some("5".to_owned()),
            author: Some("bob".to_owned()),
            ..speech(FORUM, "x")
        },
    );
    let updates = poll(&served, json!({})).await;
    assert_eq!(updates.len(), 3, "a bot does not hear itself");

    let direct = &updates[0]["message"];
    assert_eq!(direct["message_id"].to_string(), first);
    assert_eq!(
        direct["from"],
        json!({ "id": 5_000_000_001_i64, "is_bot": false, "first_name": "Alice", "username": "alice", "language_code": "en" })
    );
    assert_eq!(
        direct["chat"],
        json!({ "id": 5_000_000_001_i64, "type": "private", "first_name": "Alice", "username": "alice" })
    );
    assert_eq!(
        direct["entities"],
        json!([{ "type": "bot_command", "offset": 0, "length": 23 }, { "type": "mention", "offset": 27, "length": 9 }])
    );

    let reply = &updates[1]["message"];
    assert_eq!(reply["chat"]["type"], "supergroup");
    assert_eq!(reply["reply_to_message"]["from"]["is_bot"], true);
    assert_eq!(reply["reply_to_message"]["text"], "hi");
    assert_eq!(reply["message_thread_id"], reply["reply_to_message"]["message_id"]);
    assert!(reply.get("is_topic_message").is_none());

    let topic = &updates[2]["message"];
    assert_eq!(
        (&topic["message_thread_id"], &topic["is_topic_message"]),
        (&json!(5), &json!(true))
    );
    assert!(topic["reply_to_message"].get("forum_topic_created").is_some());

    // Where the bot is not, it hears nothing.
    say(&served, speech("telegram:-1001000000004", "secret"));
    assert_eq!(poll(&served, json!({})).await.len(), 3);
}

#[tokio::test]
async fn buttons_are_checked_shown_pressed_and_answered() {
    let served = serve().await;
    let keyboard = |button: Value| json!({ "chat_id": ALERTS, "text": "May I?", "reply_markup": { "inline_keyboard": [[button]] } });
    for (button, words) in [
        (json!({ "text": "x", "callback_data": "k".repeat(65) }), "BUTTON_DATA_INVALID"),
        (json!({ "text": "x", "callback_data": "" }), "BUTTON_DATA_INVALID"),
        (json!({ "text": "x" }), "text buttons are unallowed in the inline keyboard"),
        (json!({ "text": " ", "callback_data": "k" }), "must be non-empty"),
        (json!({ "text": "x", "callback_data": "k", "style": "green" }), "invalid button style"),
        (
            json!({ "text": "x", "callback_data": "k", "colour": "green" }),
            "unknown field \"colour\"",
        ),
        (json!("x"), "expected an Object"),
    ] {
        let (status, body) = send(&served, keyboard(button.clone())).await;
        assert_eq!(status, 400, "{button}");
        assert!(body["description"].as_str().unwrap().contains(words), "{button}: {body}");
    }
    let good = json!({ "text": "Yes", "callback_data": "k-1", "style": "success" });
    let sent = send(&served, keyboard(good)).await.1;
    assert_eq!(sent["result"]["reply_markup"]["inline_keyboard"][0][0]["callback_data"], "k-1");
    let message = served.world.messages(ALERTS_KEY).pop().unwrap();
    let button = &message.buttons[0][0];
    assert_eq!((button.key.as_str(), button.label.as_str(), button.style), ("k-1", "Yes", "good"));

    let press = Press {
        channel: ALERTS_KEY.to_owned(),
        message: message.id.clone(),
        key: "k-1".to_owned(),
        author: Some("bob".to_owned()),
    };
    served.world.press(&press).unwrap();
    served.world.press(&press).unwrap();
    let updates = poll(&served, json!({})).await;
    let query = &updates[0]["callback_query"];
    assert_eq!((&query["data"], &query["from"]["username"]), (&json!("k-1"), &json!("bob")));
    assert_eq!(query["message"]["message_id"].to_string(), message.id);
    assert_eq!(query["message"]["text"], "May I?");

    let id = &query["id"];
    let said = json!({ "callback_query_id": id, "text": "Only you see this" });
    assert_eq!(call(&served, "answerCallbackQuery", said.clone()).await.1["result"], true);
    let shown = served.world.messages(ALERTS_KEY).pop().unwrap();
    assert_eq!(
        (shown.text.as_str(), shown.only_for.as_deref()),
        ("Only you see this", Some("bob"))
    );
    let (status, again) = call(&served, "answerCallbackQuery", said).await;
    assert_eq!(status, 400);
    assert!(again["description"].as_str().unwrap().contains("query is too old"), "{again}");
    served.clock.advance(Duration::from_secs(31));
    let late = json!({ "callback_query_id": updates[1]["callback_query"]["id"] });
    assert_eq!(call(&served, "answerCallbackQuery", late).await.0, 400);

    let edit = json!({ "chat_id": ALERTS, "message_id": message.id, "text": "Approved" });
    assert_eq!(call(&served, "editMessageText", edit).await.0, 200);
    assert!(served.world.press(&press).is_err(), "the keyboard is gone");
}

#[tokio::test]
async fn files_go_up_and_down() {
    let served = serve().await;
    let document = || {
        let file = reqwest::multipart::Part::bytes(b"hello".to_vec());
        file.file_name("../pods.txt").mime_str("text/plain").unwrap()
    };
    let form = reqwest::multipart::Form::new()
        .text("chat_id", ALERTS.to_string())
        .text("caption", "<b>all</b> of them")
        .text("parse_mode", "HTML")
        .text("reply_parameters", "{\"message_id\": 1, \"allow_sending_without_reply\": true}")
        .part("document", document());
    let (status, body) = super::answer(served.telegram("sendDocument").multipart(form)).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["result"]["document"]["file_name"], "pods.txt");
    assert_eq!(body["result"]["caption"], "all of them");
    let kept = served.world.messages(ALERTS_KEY).pop().unwrap();
    assert_eq!(
        (kept.files[0].name.as_str(), kept.files[0].bytes.as_slice()),
        ("pods.txt", b"hello".as_slice())
    );
    assert_eq!(kept.payload["document"]["bytes"], 5);
    let edit = json!({ "chat_id": ALERTS, "message_id": kept.id, "text": "x" });
    let (_, refused) = call(&served, "editMessageText", edit).await;
    assert_eq!(refused["description"], "Bad Request: there is no text in the message to edit");

    let empty = reqwest::multipart::Part::bytes(Vec::new()).file_name("x");
    let form =
        reqwest::multipart::Form::new().text("chat_id", ALERTS.to_string()).part("document", empty);
    assert_eq!(super::answer(served.telegram("sendDocument").multipart(form)).await.0, 400);
    let large = reqwest::multipart::Part::bytes(vec![b'x'; 8 * 1024 * 1024]).file_name("x");
    let form =
        reqwest::multipart::Form::new().text("chat_id", ALERTS.to_string()).part("document", large);
    assert_eq!(super::answer(served.telegram("sendDocument").multipart(form)).await.0, 200);

    for (mime, kind) in [
        ("text/plain", "document"),
        ("image/png", "photo"),
        ("audio/ogg", "voice"),
        ("video/mp4", "video"),
    ] {
        let upload =
            Upload { name: "a b.bin".to_owned(), mime: mime.to_owned(), base64: "aGk=".to_owned() };
        say(&served, Speech { files: vec![upload], ..speech(DIRECT, "@herald_sandbox_bot look") });
        let updates = poll(&served, json!({ "offset": -1 })).await;
        let message = &updates[0]["message"];
        assert_eq!(message["caption_entities"][0]["type"], "mention");
        assert!(message.get("text").is_none());
        let file = if kind == "photo" { &message[kind][0] } else { &message[kind] };
        let (_, found) = call(&served, "getFile", json!({ "file_id": file["file_id"] })).await;
        let path = found["result"]["file_path"].as_str().unwrap();
        let token = super::super::Tokens::default().telegram;
        let url = served.url(&format!("/sandbox/telegram/file/bot{token}/{path}"));
        assert_eq!(served.client.get(url).send().await.unwrap().bytes().await.unwrap(), "hi");
    }
    let gone = call(&served, "getFile", json!({ "file_id": "nope" })).await.1;
    assert!(gone["description"].as_str().unwrap().contains("wrong file_id"), "{gone}");
    let nobody = served.url("/sandbox/telegram/file/botx/documents/x");
    assert_eq!(served.client.get(nobody).send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn the_menu_is_checked_and_kept() {
    let served = serve().await;
    let set = |name: &str| json!({ "commands": [{ "command": name, "description": "x" }] });
    for name in ["New", "", "a b", "/new"] {
        assert_eq!(
            call(&served, "setMyCommands", set(name)).await.1["description"],
            "Bad Request: BOT_COMMAND_INVALID"
        );
    }
    assert_eq!(call(&served, "setMyCommands", set("new")).await.0, 200);
    let kept = call(&served, "getMyCommands", json!({})).await.1;
    assert_eq!(kept["result"], set("new")["commands"]);
}

#[tokio::test]
async fn faults_of_polls() {
    let served = serve().await;
    // What is meant for others does not hit a poll that happens to come first.
    served.world.fault(Fault::new(Vendor::Telegram, FaultKind::ServerError));
    assert!(poll(&served, json!({})).await.is_empty());
    served.world.clear_faults();
    for (kind, status) in [
        (FaultKind::Conflict, 409),
        (FaultKind::BadGatewayHtml, 502),
        (FaultKind::RevokedToken, 401),
    ] {
        served.world.fault(Fault::new(Vendor::Telegram, kind).method("getUpdates"));
        let response = served.telegram("getUpdates").json(&json!({})).send().await.unwrap();
        assert_eq!(response.status(), status, "{kind:?}");
    }
    say(&served, speech(ALERTS_KEY, "one"));
    served.world.fault(Fault::new(Vendor::Telegram, FaultKind::OddUpdate));
    let updates = poll(&served, json!({})).await;
    assert_eq!(updates.len(), 2);
    assert_eq!(updates[1]["message"]["chat"]["type"], "new_chat_type");
    assert_eq!(
        ids(&poll(&served, json!({})).await),
        ids(&updates),
        "it stays until it is confirmed"
    );
    assert!(Fault::new(Vendor::Slack, FaultKind::Conflict).check().is_err());
}
