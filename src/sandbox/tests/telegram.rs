mod inbound;

use serde_json::{Value, json};

use super::{Served, json as answer, serve};

const ALERTS: i64 = -1_001_000_000_001;

async fn call(served: &Served, method: &str, parameters: Value) -> (u16, Value) {
    answer(served.telegram(method).json(&parameters)).await
}

async fn send(served: &Served, parameters: Value) -> (u16, Value) {
    call(served, "sendMessage", parameters).await
}

#[tokio::test]
async fn names_and_links_to_users_notify() {
    let served = serve().await;
    for (text, pings) in [
        (
            "🦀 @alice_x, ask <a href=\"tg://user?id=5000000001\">her</a>",
            vec!["@alice_x", "@5000000001"],
        ),
        ("<a href=\"https://x.example\">x</a> tg://user?id=1 mail a@bcdef.example", vec![]),
    ] {
        let sent = json!({ "chat_id": ALERTS, "text": text, "parse_mode": "HTML" });
        assert_eq!(send(&served, sent).await.0, 200);
        let last = served.world.messages(&format!("telegram:{ALERTS}")).pop().unwrap();
        assert_eq!(last.pings, pings, "{text}");
    }
}

#[tokio::test]
async fn a_message_is_kept_as_sent_and_answered_in_telegrams_form() {
    let served = serve().await;
    let sent = json!({
        "chat_id": ALERTS, "text": "<b>hi</b> &amp; 🦀", "parse_mode": "HTML",
        "link_preview_options": { "is_disabled": true },
    });
    let (status, body) = send(&served, sent.clone()).await;
    assert_eq!((status, &body["ok"]), (200, &json!(true)));
    let result = &body["result"];
    assert_eq!(result["text"], "hi & 🦀");
    assert_eq!(result["entities"], json!([{ "type": "bold", "offset": 0, "length": 2 }]));
    assert_eq!(result["chat"]["id"], ALERTS);
    assert_eq!(result["date"], 1_790_000_000);
    let messages = served.world.messages("telegram:-1001000000001");
    assert_eq!(messages[0].text, "<b>hi</b> &amp; 🦀");
    assert_eq!(messages[0].payload, sent);
    assert_eq!(messages[0].id, result["message_id"].to_string());
}

#[tokio::test]
async fn chats_by_name_and_bodies_as_forms() {
    let served = serve().await;
    let reply = json!({ "message_id": 1, "allow_sending_without_reply": true }).to_string();
    let form = served.telegram("sendMessage").form(&[
        ("chat_id", "@Sandbox_Alerts"),
        ("text", "12"),
        ("reply_parameters", &reply),
        ("disable_notification", "true"),
    ]);
    let (status, body) = answer(form).await;
    assert_eq!((status, &body["result"]["text"]), (200, &json!("12")));
    assert_eq!(body["result"]["chat"]["id"], ALERTS);
    assert_eq!(
        served.world.messages("telegram:-1001000000001")[0].payload["disable_notification"],
        true
    );
    let me = call(&served, "getMe", json!({})).await.1["result"]["id"].clone();
    let member = async |chat: &str| {
        let asked = json!({ "chat_id": chat, "user_id": me });
        call(&served, "getChatMember", asked).await.1["result"].clone()
    };
    assert_eq!(member("@sandbox_alerts").await["status"], "member");
    assert_eq!(member("-1001000000005").await["can_send_messages"], false);
    let quiet = json!({ "chat_id": "-1001000000005", "text": "x" });
    assert_eq!(call(&served, "sendMessage", quiet).await.0, 400);
    let chat = call(&served, "getChat", json!({ "chat_id": "@sandbox_alerts" })).await.1;
    assert_eq!(chat["result"]["type"], "supergroup");
    let me = call(&served, "GETME", json!({})).await.1;
    assert_eq!(me["result"]["is_bot"], true);
}

#[tokio::test]
async fn what_telegram_refuses_to_post() {
    let served = serve().await;
    for (parameters, status, words) in [
        (json!({ "chat_id": 1, "text": "x" }), 400, "Bad Request: chat not found"),
        (json!({ "text": "x" }), 400, "Bad Request: chat_id is empty"),
        (json!({ "chat_id": ALERTS }), 400, "Bad Request: message text is empty"),
        (json!({ "chat_id": ALERTS, "text": " \n" }), 400, "Bad Request: message text is empty"),
        (
            json!({ "chat_id": ALERTS, "text": "<b></b>", "parse_mode": "HTML" }),
            400,
            "Bad Request: message text is empty",
        ),
        (
            json!({ "chat_id": ALERTS, "text": "🦀".repeat(2049) }),
            400,
            "Bad Request: message is too long",
        ),
        (
            json!({ "chat_id": ALERTS, "text": "<b>x", "parse_mode": "HTML" }),
            400,
            "Bad Request: can't parse entities: Can't find end tag corresponding to start tag \"b\"",
        ),
        (
            json!({ "chat_id": ALERTS, "text": "x", "parse_mode": "BBCode" }),
            400,
            "Bad Request: unsupported parse_mode",
        ),
        (
            json!({ "chat_id": ALERTS, "text": "x", "txet": "y" }),
            400,
            "Bad Request: unknown parameter \"txet\"",
        ),
        (
            json!({ "chat_id": ALERTS, "text": "x", "link_preview_options": { "disabled": true } }),
            400,
            "Bad Request: unknown field \"disabled\"",
        ),
        (
            json!({ "chat_id": ALERTS, "text": "x", "message_thread_id": 5 }),
            400,
            "Bad Request: message thread not found",
        ),
        (
            json!({ "chat_id": -1_001_000_000_003_i64, "text": "x", "message_thread_id": 6 }),
            400,
            "Bad Request: message thread not found",
        ),
        (
            json!({ "chat_id": ALERTS, "text": "x", "reply_parameters": { "message_id": 1 } }),
            400,
            "Bad Request: message to be replied not found",
        ),
        (
            json!({ "chat_id": -1_001_000_000_004_i64, "text": "x" }),
            403,
            "Forbidden: bot was kicked from the supergroup chat",
        ),
    ] {
        let (got, body) = send(&served, parameters.clone()).await;
        assert_eq!((got, body["description"].as_str().unwrap()), (status, words), "{parameters}");
        assert_eq!(body["error_code"], status);
        assert_eq!(served.last_outcome(), words);
    }
    assert!(served.world.messages("telegram:-1001000000001").is_empty());
    let moved = send(&served, json!({ "chat_id": -4_000_000_001_i64, "text": "x" })).await.1;
    assert_eq!(moved["parameters"]["migrate_to_chat_id"], ALERTS);
    // Markup does not count, and a crab is two units.
    let text = format!("<b>{}</b>", "🦀".repeat(2048));
    let at = json!({ "chat_id": ALERTS, "text": text, "parse_mode": "HTML" });
    assert_eq!(send(&served, at).await.0, 200);
}

#[tokio::test]
async fn tokens_and_methods() {
    let served = serve().await;
    let url = |bot: &str, method: &str| served.url(&format!("/sandbox/telegram/{bot}/{method}"));
    let wrong = format!("bot1:{}", "x".repeat(35));
    let (status, body) = answer(served.client.get(url(&wrong, "getMe"))).await;
    assert_eq!((status, &body["description"]), (401, &json!("Unauthorized")));
    let (status, body) = answer(served.client.get(url("botx", "getMe"))).await;
    assert_eq!((status, &body["description"]), (404, &json!("Not Found")));
    assert_eq!(call(&served, "sendRichMessage", json!({})).await.0, 404);
    let log = serde_json::to_string(&served.world.requests()).unwrap();
    assert!(!log.contains(&super::Tokens::default().telegram), "{log}");
}

#[tokio::test]
async fn topics_replies_edits_and_deletions() {
    let served = serve().await;
    let topic = json!({ "chat_id": -1_001_000_000_003_i64, "text": "x", "message_thread_id": 5 });
    assert_eq!(send(&served, topic).await.1["result"]["is_topic_message"], true);

    let first = send(&served, json!({ "chat_id": ALERTS, "text": "one" })).await.1;
    let id = &first["result"]["message_id"];
    let reply =
        json!({ "chat_id": ALERTS, "text": "two", "reply_parameters": { "message_id": id } });
    let reply = send(&served, reply).await.1;
    assert_eq!(&reply["result"]["reply_to_message"]["message_id"], id);

    let same = json!({ "chat_id": ALERTS, "message_id": id, "text": "one" });
    let same = call(&served, "editMessageText", same).await;
    assert!(
        same.1["description"].as_str().unwrap().starts_with("Bad Request: message is not modified")
    );
    let edit =
        json!({ "chat_id": ALERTS, "message_id": id, "text": "<i>new</i>", "parse_mode": "HTML" });
    assert_eq!(call(&served, "editMessageText", edit).await.1["result"]["text"], "new");
    let unknown = json!({ "chat_id": ALERTS, "message_id": 9, "text": "x" });
    let unknown = call(&served, "editMessageText", unknown).await.1;
    assert_eq!(unknown["description"], "Bad Request: message to edit not found");

    let gone = json!({ "chat_id": ALERTS, "message_id": id });
    assert_eq!(call(&served, "deleteMessage", gone.clone()).await.1["result"], true);
    let again = call(&served, "deleteMessage", gone).await.1;
    assert_eq!(again["description"], "Bad Request: message to delete not found");
    let all = served.world.messages("telegram:-1001000000001");
    assert!(all[0].edited && all[0].deleted);
    assert_eq!(all[1].reply_to, Some(id.to_string()));

    let typing = json!({ "chat_id": ALERTS, "action": "typing" });
    assert_eq!(call(&served, "sendChatAction", typing).await.1["result"], true);
    let dancing = json!({ "chat_id": ALERTS, "action": "dancing" });
    assert_eq!(call(&served, "sendChatAction", dancing).await.0, 400);
}
