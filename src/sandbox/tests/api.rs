use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::super::{Tokens, World};
use super::{json as answer, serve};
use crate::clock::SystemClock;

#[tokio::test]
async fn people_speak_and_the_page_reads() {
    let served = serve().await;
    let url = served.url("/sandbox/api/messages");
    let say = json!({ "channel": "slack:C0ALERTS", "text": "hello", "author": "bob" });
    let (status, said) = answer(served.client.post(&url).json(&say)).await;
    assert_eq!((status, &said["author"], &said["bot"]), (201, &json!("bob"), &json!(false)));
    let (_, read) = answer(served.client.get(format!("{url}?channel=slack:C0ALERTS"))).await;
    assert_eq!(read["messages"], json!([said]));
    let nowhere = json!({ "channel": "slack:C0NOWHERE", "text": "hello" });
    assert_eq!(answer(served.client.post(&url).json(&nowhere)).await.0, 404);
    let silent = json!({ "channel": "slack:C0ALERTS", "text": " " });
    assert_eq!(answer(served.client.post(&url).json(&silent)).await.0, 400);
    assert_eq!(answer(served.client.get(format!("{url}?channel=slack:C0NOWHERE"))).await.0, 404);
    let (_, channels) = answer(served.client.get(served.url("/sandbox/api/channels"))).await;
    assert_eq!(channels["channels"][0]["platform"], "slack");
    assert_eq!(channels["channels"][0]["allowed"], true);
    let (_, hints) = answer(served.client.get(served.url("/sandbox/api/hints"))).await;
    assert_eq!(hints["people"], json!(["alice", "bob", "mallory"]));
    assert!(hints["scripts"].to_string().contains("approve two"));
}

#[tokio::test]
async fn messages_are_pushed_as_they_come() {
    let served = serve().await;
    let mut events = served.client.get(served.url("/sandbox/api/events")).send().await.unwrap();
    let post = json!({ "channel": "C0ALERTS", "text": "pushed" });
    let (_, sent) = answer(served.slack("chat.postMessage").json(&post)).await;
    let edit = json!({ "channel": "C0ALERTS", "ts": sent["ts"], "text": "changed" });
    answer(served.slack("chat.update").json(&edit)).await;
    let delete = json!({ "channel": "C0ALERTS", "ts": sent["ts"] });
    answer(served.slack("chat.delete").json(&delete)).await;
    let mut seen = String::new();
    let read = async {
        while !seen.contains("\"type\":\"deleted\"") {
            let chunk = events.chunk().await.unwrap().unwrap();
            seen.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    };
    tokio::time::timeout(Duration::from_secs(10), read).await.unwrap();
    served.world.close();
    let end = tokio::time::timeout(Duration::from_secs(10), events.chunk());
    assert!(end.await.unwrap().unwrap().is_none(), "the stream ends");
    assert!(seen.contains("event: update"));
    assert!(seen.contains("\"type\":\"message\"") && seen.contains("pushed"));
    assert!(seen.contains("\"type\":\"edited\"") && seen.contains("changed"));
}

#[tokio::test]
async fn the_page_loads_nothing_from_elsewhere() {
    let served = serve().await;
    let page = served.client.get(served.url("/")).send().await.unwrap();
    assert!(
        page.headers()["content-security-policy"].to_str().unwrap().contains("default-src 'none'")
    );
    let page = page.text().await.unwrap();
    let scripts = ["faults", "markup", "message", "page", "speak", "workspace"];
    let scripts = scripts.map(|name| format!("/sandbox/{name}.js"));
    for asset in scripts.iter().map(String::as_str).chain(["/sandbox/page.css"]) {
        let text = served.client.get(served.url(asset)).send().await.unwrap();
        assert_eq!(text.status(), 200);
        let text = text.text().await.unwrap();
        assert!(!text.contains("innerHTML"), "{asset}");
        assert!(!text.contains("//cdn") && !text.contains("@import"), "{asset}");
    }
    assert!(page.contains("/sandbox/page.js"));
    assert!(!page.contains("src=\"http") && !page.contains("href=\"http"));
}

#[tokio::test]
async fn tokens_can_be_set_and_are_never_shown() {
    let tokens = Tokens {
        slack: "xoxb-canary".to_owned(),
        discord: "canary".to_owned(),
        telegram: "1:canary".to_owned(),
    };
    let world = World::with_tokens(Arc::new(SystemClock), tokens.clone());
    let exports = world.exports("http://127.0.0.1:3000/");
    let get = |name: &str| &exports.iter().find(|(n, _)| n == name).unwrap().1;
    assert_eq!(get("SLACK_BOT_TOKEN"), "xoxb-canary");
    assert_eq!(get("SLACK_API_URL"), "http://127.0.0.1:3000/sandbox/slack/api");
    assert_eq!(get("DISCORD_API_URL"), "http://127.0.0.1:3000/sandbox/discord/api/v10");
    assert_eq!(get("TELEGRAM_API_URL"), "http://127.0.0.1:3000/sandbox/telegram");
    assert_eq!(get("KAGENT_A2A_URL"), "http://127.0.0.1:3000/sandbox/agent/");
    assert_eq!(get("SLACK_CHANNEL_IDS"), "C0GENERAL,alerts=C0ALERTS");
    assert!(!format!("{world:?} {tokens:?}").contains("canary"));
}
