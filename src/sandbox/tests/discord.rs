use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use super::{Served, json as answer, serve};
use crate::sandbox::Speech;

const ALERTS: &str = "100000000000000001";

async fn post(served: &Served, channel: &str, body: Value) -> (u16, Value) {
    let path = format!("/channels/{channel}/messages");
    answer(served.discord(Method::POST, &path).json(&body)).await
}

#[tokio::test]
async fn a_message_is_kept_as_sent_and_answered_in_discords_form() {
    let served = serve().await;
    let sent = json!({
        "content": "**hi** @everyone", "allowed_mentions": { "parse": [] }, "flags": 4,
        "nonce": "n1", "enforce_nonce": true,
    });
    let path = format!("/channels/{ALERTS}/messages");
    let response = served.discord(Method::POST, &path).json(&sent).send().await.unwrap();
    assert_eq!(response.headers()["x-ratelimit-remaining"], "4");
    assert!(response.headers().contains_key("x-ratelimit-bucket"));
    // Exactly this: discord.py compares the whole value.
    assert_eq!(response.headers()["content-type"], "application/json");
    let (status, body) = super::read(response).await;
    assert_eq!(status, 200);
    assert_eq!(body["content"], "**hi** @everyone");
    assert_eq!(body["author"]["bot"], true);
    assert_eq!(body["nonce"], "n1");
    assert_eq!(body["timestamp"], "2026-09-21T14:13:20.000000+00:00");
    let messages = served.world.messages(&format!("discord:{ALERTS}"));
    assert_eq!(messages[0].payload, sent);
    assert_eq!(messages[0].id, body["id"].as_str().unwrap());
    assert!(!messages[0].pinged_everyone, "nobody may be mentioned");
}

#[tokio::test]
async fn mentions_notify_unless_they_are_off() {
    let served = serve().await;
    let all = "@everyone <@&5> <@7> <@!8> <@x>";
    let cases: [(serde_json::Value, &[&str]); 9] = [
        (json!({ "content": all }), &["@everyone", "@&5", "@7", "@8"]),
        (json!({ "content": all, "allowed_mentions": {} }), &[]),
        (json!({ "content": all, "allowed_mentions": { "parse": [] } }), &[]),
        (json!({ "content": all, "allowed_mentions": { "parse": ["users"] } }), &["@7", "@8"]),
        (json!({ "content": all, "allowed_mentions": { "parse": ["roles"] } }), &["@&5"]),
        (
            json!({ "content": all, "allowed_mentions": { "users": ["8"], "roles": ["1"] } }),
            &["@8"],
        ),
        (json!({ "content": "x@here", "allowed_mentions": { "parse": ["everyone"] } }), &["@here"]),
        (json!({ "content": "@\u{200b}everyone <@\u{200b}7>" }), &["@everyone"]),
        (json!({ "content": "everyone" }), &[]),
    ];
    let channel = format!("discord:{ALERTS}");
    for (body, pings) in cases {
        let answer = post(&served, ALERTS, body.clone()).await.1;
        let last = served.world.messages(&channel).pop().unwrap();
        assert_eq!(last.pings, pings, "{body}");
        let everyone = pings.iter().any(|ping| ["@everyone", "@here"].contains(ping));
        assert_eq!(answer["mention_everyone"], everyone, "{body}");
    }
    let text = "a question".to_owned();
    let speech = Speech { channel: channel.clone(), text, ..Speech::default() };
    let said = served.world.speak(&speech).unwrap().unwrap().id;
    for (allowed, pings) in [
        (json!(null), vec!["@300000000000000001"]),
        (json!({ "parse": [], "replied_user": true }), vec!["@300000000000000001"]),
        (json!({ "parse": ["users"] }), vec![]),
    ] {
        let reference = json!({ "message_id": said });
        let body =
            json!({ "content": "x", "message_reference": reference, "allowed_mentions": allowed });
        assert_eq!(post(&served, ALERTS, body).await.0, 200);
        assert_eq!(served.world.messages(&channel).pop().unwrap().pings, pings, "{allowed}");
    }
}

#[tokio::test]
async fn what_discord_refuses_to_post() {
    let served = serve().await;
    for (channel, status, code) in [
        ("100000000000000099", 404, 10003),
        ("100000000000000003", 403, 50013),
        ("100000000000000004", 403, 50001),
        ("100000000000000005", 400, 50008),
    ] {
        let (got, body) = post(&served, channel, json!({ "content": "x" })).await;
        assert_eq!((got, body["code"].as_u64().unwrap()), (status, code));
    }
    for (body, code, field, error) in [
        (json!({ "content": "" }), 50006, "", ""),
        (json!({}), 50006, "", ""),
        (json!({ "content": "é".repeat(2001) }), 50035, "content", "BASE_TYPE_MAX_LENGTH"),
        (json!({ "content": 1 }), 50035, "content", "BASE_TYPE_BAD_STRING"),
        (json!({ "content": "x", "contents": "y" }), 50035, "contents", "UNKNOWN_FIELD"),
        (
            json!({ "content": "x", "nonce": "x".repeat(26) }),
            50035,
            "nonce",
            "BASE_TYPE_MAX_LENGTH",
        ),
        (json!({ "content": "x", "flags": 64 }), 50035, "flags", "BASE_TYPE_CHOICES"),
        (
            json!({ "content": "x", "allowed_mentions": { "parse": ["all"] } }),
            50035,
            "allowed_mentions",
            "BASE_TYPE_CHOICES",
        ),
        (
            json!({ "content": "x", "message_reference": { "message_id": "1" } }),
            50035,
            "message_reference",
            "REPLIES_UNKNOWN_MESSAGE",
        ),
        (
            json!({ "embeds": [{ "description": "x".repeat(4097) }] }),
            50035,
            "embeds",
            "BASE_TYPE_MAX_LENGTH",
        ),
    ] {
        let (status, answer) = post(&served, ALERTS, body.clone()).await;
        assert_eq!((status, &answer["code"]), (400, &json!(code)), "{body}");
        if !field.is_empty() {
            assert_eq!(answer["errors"][field]["_errors"][0]["code"], error, "{body}");
        }
    }
    assert!(served.world.messages(&format!("discord:{ALERTS}")).is_empty());
    let (status, _) = post(&served, ALERTS, json!({ "content": "é".repeat(2000) })).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn a_repeated_nonce_returns_the_first_message_for_five_minutes() {
    let served = serve().await;
    let body = json!({ "content": "once", "nonce": "n", "enforce_nonce": true });
    let first = post(&served, ALERTS, body.clone()).await.1;
    served.clock.advance(Duration::from_secs(299));
    let again = post(&served, ALERTS, body.clone()).await.1;
    assert_eq!(first["id"], again["id"]);
    assert_eq!(served.world.messages(&format!("discord:{ALERTS}")).len(), 1);
    served.clock.advance(Duration::from_secs(2));
    let late = post(&served, ALERTS, body).await.1;
    assert_ne!(first["id"], late["id"]);
    // Without `enforce_nonce` a nonce is only an echo.
    let plain = json!({ "content": "once", "nonce": "n" });
    assert_ne!(post(&served, ALERTS, plain).await.1["id"], late["id"]);
}

#[tokio::test]
async fn strangers_are_turned_away() {
    let served = serve().await;
    let url = served.url("/sandbox/discord/api/v10/users/@me");
    let agent = "DiscordBot (https://example.org, 1.0)";
    let named = || served.client.get(&url).header("user-agent", agent);
    assert_eq!(answer(named()).await, (401, json!({ "message": "401: Unauthorized", "code": 0 })));
    let wrong = named().header("authorization", "Bot wrong");
    assert_eq!(answer(wrong).await.0, 401);
    let token = format!("Bot {}", super::Tokens::default().discord);
    let bare =
        served.client.get(&url).header("authorization", token).header("user-agent", "curl/8");
    let response = bare.send().await.unwrap();
    assert_eq!(response.status(), 403);
    assert!(response.text().await.unwrap().contains("Cloudflare"));
    assert_eq!(answer(served.discord(Method::GET, "/nothing")).await.0, 404);
}

#[tokio::test]
async fn reading() {
    let served = serve().await;
    let me = answer(served.discord(Method::GET, "/users/@me")).await.1;
    assert_eq!(me["username"], "herald");
    let guilds = answer(served.discord(Method::GET, "/users/@me/guilds")).await.1;
    let path = format!("/guilds/{}/channels", guilds[0]["id"].as_str().unwrap());
    let channels = answer(served.discord(Method::GET, &path)).await.1;
    assert_eq!(channels.as_array().unwrap().len(), 5);
    assert_eq!(answer(served.discord(Method::GET, "/guilds/1/channels")).await.1["code"], 10004);
    let guild = format!("/guilds/{}", guilds[0]["id"].as_str().unwrap());
    let server = answer(served.discord(Method::GET, &guild)).await.1;
    assert_eq!(server["roles"][0]["id"], server["id"], "@everyone's role has the server's ID");
    let member = format!("{guild}/members/{}", me["id"].as_str().unwrap());
    let member = answer(served.discord(Method::GET, &member)).await.1;
    assert_eq!(member["roles"][0], server["roles"][1]["id"]);
    let nobody = format!("{guild}/members/1");
    assert_eq!(answer(served.discord(Method::GET, &nobody)).await.1["code"], 10007);
    let quiet = answer(served.discord(Method::GET, "/channels/100000000000000003")).await.1;
    assert_eq!(quiet["permission_overwrites"][0]["deny"], "2048");
    let forum = answer(served.discord(Method::GET, "/channels/100000000000000005")).await.1;
    assert_eq!(forum["type"], 15);
    let hidden = answer(served.discord(Method::GET, "/channels/100000000000000004")).await;
    assert_eq!((hidden.0, &hidden.1["code"]), (403, &json!(50001)));
    let typing = served.discord(Method::POST, &format!("/channels/{ALERTS}/typing"));
    assert_eq!(typing.send().await.unwrap().status(), 204);
}

#[tokio::test]
async fn threads_edits_deletions_and_replies() {
    let served = serve().await;
    let first = post(&served, ALERTS, json!({ "content": "first" })).await.1;
    let first = first["id"].as_str().unwrap();
    let path = format!("/channels/{ALERTS}/messages/{first}/threads");
    let thread = || served.discord(Method::POST, &path).json(&json!({ "name": "incident" }));
    let (status, opened) = answer(thread()).await;
    assert_eq!((status, &opened["type"], &opened["parent_id"]), (201, &json!(11), &json!(ALERTS)));
    assert_eq!(opened["id"], first);
    assert_eq!(answer(thread()).await.1["code"], 160_004);
    let unknown = format!("/channels/{ALERTS}/messages/1/threads");
    let unknown = served.discord(Method::POST, &unknown).json(&json!({ "name": "x" }));
    assert_eq!(answer(unknown).await.1["code"], 10008);

    let inside = post(&served, first, json!({ "content": "inside" })).await.1;
    assert_eq!(inside["channel_id"], first);
    let all = served.world.messages(&format!("discord:{ALERTS}"));
    assert_eq!(all[1].thread.as_deref(), Some(first));
    assert_eq!(served.world.messages(&format!("discord:{first}")).len(), 1);

    let reply = json!({ "content": "re", "message_reference": { "message_id": first } });
    let reply = post(&served, ALERTS, reply).await.1;
    assert_eq!(reply["type"], 19);
    let lenient = json!({
        "content": "re", "message_reference": { "message_id": "1", "fail_if_not_exists": false },
    });
    assert_eq!(post(&served, ALERTS, lenient).await.1["type"], 0);

    let path = format!("/channels/{ALERTS}/messages/{first}");
    let edit = served.discord(Method::PATCH, &path).json(&json!({ "content": "new" }));
    let (status, edited) = answer(edit).await;
    assert_eq!((status, &edited["content"]), (200, &json!("new")));
    assert!(edited["edited_timestamp"].is_string());
    let quiet = served.discord(Method::PATCH, &path).json(&json!({ "flags": 4 }));
    let quiet = answer(quiet).await.1;
    assert_eq!((&quiet["content"], &quiet["flags"]), (&json!("new"), &json!(4)));
    let deleted = served.discord(Method::DELETE, &path).send().await.unwrap();
    assert_eq!(deleted.status(), 204);
    let gone = served.discord(Method::PATCH, &path).json(&json!({ "content": "x" }));
    assert_eq!(answer(gone).await.1["code"], 10008);
    let all = served.world.messages(&format!("discord:{ALERTS}"));
    assert!(all[0].edited && all[0].deleted);
}
