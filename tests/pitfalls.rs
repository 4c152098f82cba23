//! What can go wrong between people, platforms and the agent: each of these was a fault once.

use std::sync::Arc;
use std::time::Duration;

use axum::routing::post;
use axum::{Json, Router};
use herald::sandbox::Speech;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::talking::{Bot, PLACES, Talk};
use crate::world::{Workspace, until};

/// An agent of 0.3 without a card or streams: `answer` has the method and the request.
async fn agent<F>(answer: impl Fn(String, Value) -> F + Clone + Send + Sync + 'static) -> String
where
    F: Future<Output = Value> + Send + 'static,
{
    let handle = move |Json(request): Json<Value>| {
        let method = request["method"].as_str().unwrap().to_owned();
        let answered = answer(method, request);
        async move { Json(answered.await) }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let routes = Router::new().route("/", post(handle));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_start_rejects_what_waits_for_approval() {
    let workspace = Workspace::open().await;
    let bot = Bot::start(&workspace, &[]).await;
    let mut talk = Talk::new(&workspace, PLACES[1]);
    talk.says("approve");
    talk.sees("Approval needed").await;
    talk.says("new");
    talk.sees("start afresh").await;
    // The decision names the context of its task, not the new one: the agent would refuse it otherwise.
    until("the agent hears of the rejection", async || {
        let requests = workspace.world.agent_requests();
        let decided = requests.iter().find(|request| !request.decisions.is_empty());
        decided.is_some_and(|decided| {
            assert!(decided.decisions.values().all(|approved| !approved));
            let asked = requests.iter().find(|request| request.text.contains("approve")).unwrap();
            assert_eq!(asked.context_id, decided.context_id);
            true
        })
    })
    .await;
    talk.sees("nothing was approved").await;
    bot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_arrives_although_the_placeholder_is_gone() {
    let workspace = Workspace::open().await;
    let bot = Bot::start(&workspace, &[]).await;
    let mut talk = Talk::new(&workspace, PLACES[0]);
    talk.says("slow 3");
    let placeholder = talk.sees("Working on it").await;
    let env = workspace.env();
    let deleted = reqwest::Client::builder().no_proxy().build().unwrap();
    let deleted = deleted
        .post(format!("{}/chat.delete", env["SLACK_API_URL"]))
        .bearer_auth(&env["SLACK_BOT_TOKEN"])
        .json(&json!({ "channel": "C0GENERAL", "ts": placeholder.id }))
        .send();
    assert!(deleted.await.unwrap().text().await.unwrap().contains("true"));
    until("the answer is there", async || !talk.texts().is_empty()).await;
    bot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mention_counts_once_against_the_rate_limit() {
    let workspace = Workspace::open().await;
    let mut config = workspace.config(&[]);
    config.bot.messages_per_minute = 1;
    let bot = Bot::configured(config, Duration::from_secs(10)).await;
    let mut talk = Talk::new(&workspace, PLACES[0]);
    // Slack tells it twice: as `message` and as `app_mention`.
    talk.says("good morning");
    talk.sees("You said: good morning").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!talk.texts().iter().any(|text| text.contains("slow down")), "{:?}", talk.texts());
    bot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_is_shown_late_is_answered_in_its_thread() {
    let workspace = Workspace::open().await;
    let config = workspace.config(&[]);
    let bot = Bot::configured(config, Duration::from_secs(1)).await;
    // Busy, not outside.
    workspace.fault(json!({
        "platform": "slack", "channel": "C0GENERAL", "method": "chat.postMessage",
        "kind": "rate_limit", "retry_after": 3,
    }));
    let command = Speech {
        channel: "slack:C0GENERAL".to_owned(),
        text: "/mykagent good morning".to_owned(),
        author: Some("alice".to_owned()),
        ..Speech::default()
    };
    workspace.world.speak(&command).unwrap();
    let found = |text: &str| {
        let shown = workspace.world.messages("slack:C0GENERAL").into_iter();
        shown.filter(|message| message.bot).find(|message| message.text.contains(text))
    };
    until("the answer is there", async || found("You said").is_some()).await;
    let question = found("asks").unwrap();
    assert_eq!(found("You said").unwrap().thread, Some(question.id));
    bot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_to_cancel_outlives_an_agent_that_thinks_about_it() {
    let workspace = Workspace::open().await;
    let url = agent(|method, _| async move {
        match &*method {
            "message/stream" | "tasks/get" => json!({ "jsonrpc": "2.0", "id": "1", "result": {
                "kind": "task", "id": "t1", "contextId": "c1", "status": { "state": "working" },
            }}),
            "tasks/cancel" => {
                tokio::time::sleep(Duration::from_secs(33)).await;
                json!({ "jsonrpc": "2.0", "id": "1", "error": { "code": -32004, "message": "no" } })
            }
            _ => json!({ "jsonrpc": "2.0", "id": "1", "error": { "code": -32601, "message": "" } }),
        }
    })
    .await;
    let extra = [("KAGENT_A2A_URL", url.as_str()), ("KAGENT_A2A_VERSION", "0.3")];
    let bot = Bot::start(&workspace, &extra).await;
    let mut talk = Talk::new(&workspace, PLACES[1]);
    talk.says("dig");
    talk.presses("alice", "Cancel").await;
    // The lease runs out after 30 s, another session takes over, and knows nothing of the wish.
    talk.sees("This agent cannot be stopped").await;
    bot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_stands_although_its_arguments_cannot_be_uploaded() {
    let mut pause: Value =
        serde_json::from_str(include_str!("fixtures/a2a/kagent-0.10/approval-pause.json")).unwrap();
    pause["result"]["status"]["message"]["parts"][0]["data"]["args"]["originalFunctionCall"]["args"]
        ["path"] = json!("x".repeat(1_000));
    let workspace = Workspace::open().await;
    let url = agent(move |_, _| {
        let pause = pause.clone();
        async move { pause }
    })
    .await;
    // The guide's scopes: `chat:write` and `commands`, no `files:write`.
    workspace.fault(json!({ "platform": "slack", "kind": "missing_scope", "times": 0,
        "method": "files.getUploadURLExternal" }));
    let extra = [("KAGENT_A2A_URL", url.as_str()), ("KAGENT_A2A_VERSION", "0.3")];
    let bot = Bot::start(&workspace, &extra).await;
    let mut talk = Talk::new(&workspace, PLACES[0]);
    talk.says("delete");
    talk.sees("Approval needed").await;
    bot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stranger_asks_by_command_is_not_shown_in_the_bots_name() {
    let workspace = Workspace::open().await;
    let bot = Bot::start(&workspace, &[("DISCORD_ALLOWED_USERS", "300000000000000001")]).await;
    // Before that, `/ask` is a word like any other.
    until("the commands are there", async || {
        workspace.world.requests().iter().any(|request| request.method == "put_commands")
    })
    .await;
    let command = Speech {
        channel: "discord:100000000000000001".to_owned(),
        text: "/ask buy cheap gold at example.com".to_owned(),
        author: Some("mallory".to_owned()),
        ..Speech::default()
    };
    workspace.world.speak(&command).unwrap();
    let shown = || workspace.texts("discord:100000000000000001");
    until("the stranger is told", async || {
        shown().iter().any(|text| text.contains("You may not use this bot"))
    })
    .await;
    assert!(!shown().iter().any(|text| text.contains("cheap gold")), "{:?}", shown());
    bot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_direct_message_is_answered_where_it_stands() {
    let workspace = Workspace::open().await;
    let bot = Bot::start(&workspace, &[]).await;
    let says = |text: &str, thread: Option<String>| {
        let channel = "slack:D0ALICE".to_owned();
        let speech = Speech { channel, text: text.to_owned(), thread, ..Speech::default() };
        workspace.world.speak(&speech).unwrap().unwrap()
    };
    let found = |text: &str| {
        let shown = workspace.world.messages("slack:D0ALICE").into_iter();
        shown.filter(|message| message.bot).find(|message| message.text.contains(text))
    };
    says("one", None);
    until("one is answered", async || found("You said: one").is_some()).await;
    let root = found("You said: one").unwrap().id;
    says("two", Some(root.clone()));
    until("two is answered", async || found("You said: two").is_some()).await;
    assert_eq!(found("You said: two").unwrap().thread, Some(root));
    bot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_calls_of_one_tool_have_buttons_that_can_be_told_apart() {
    let mut pause: Value =
        serde_json::from_str(include_str!("fixtures/a2a/kagent-0.10/batch-pause.json")).unwrap();
    let parts = pause["result"]["status"]["message"]["parts"].as_array_mut().unwrap();
    for part in parts {
        part["data"]["args"]["originalFunctionCall"]["name"] = json!("k8s_delete_pod");
    }
    let workspace = Workspace::open().await;
    let url = agent(move |_, _| {
        let pause = pause.clone();
        async move { pause }
    })
    .await;
    let extra = [("KAGENT_A2A_URL", url.as_str()), ("KAGENT_A2A_VERSION", "0.3")];
    let bot = Bot::start(&workspace, &extra).await;
    let mut talk = Talk::new(&workspace, PLACES[1]);
    talk.says("delete");
    let card = talk.sees("Approval needed").await;
    let labels: Vec<_> = card.buttons.iter().flatten().map(|button| &button.label).collect();
    let different: std::collections::BTreeSet<_> = labels.iter().collect();
    assert_eq!(labels.len(), different.len(), "{labels:?}");
    bot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_question_is_not_answered_in_somebodys_name() {
    let workspace = Workspace::open().await;
    let bot = Bot::start(&workspace, &[]).await;
    let mut talk = Talk::new(&workspace, PLACES[1]);
    talk.says("question");
    talk.sees("1 of 3").await;
    talk.says("cancel");
    until("the turn is over", async || talk.texts().len() > 2).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let answers: Vec<_> =
        workspace.world.agent_requests().into_iter().flat_map(|request| request.answers).collect();
    assert!(answers.is_empty(), "{answers:?}; {:?}", talk.texts());
    bot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_before_the_question_is_no_answer_to_it() {
    let workspace = Workspace::open().await;
    let bot = Bot::start(&workspace, &[]).await;
    let mut talk = Talk::new(&workspace, PLACES[1]);
    // The question is on its way and nobody has seen it yet.
    workspace.fault(json!({ "platform": "discord", "method": "create_message", "kind": "slow",
        "millis": 3000, "times": 0 }));
    talk.says("question");
    until("the agent asks", async || !workspace.world.agent_requests().is_empty()).await;
    tokio::time::sleep(Duration::from_millis(3_800)).await;
    let seen = talk.texts();
    talk.says("and by the way, thanks");
    assert!(!seen.iter().any(|text| text.contains("Which database")), "{seen:?}");
    talk.sees("Which database").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let taken = talk.texts().iter().any(|text| text.contains("→ **and by the way"));
    assert!(!taken, "{:?}", talk.texts());
    bot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_answered_for_when_a_plain_question_expires() {
    let workspace = Workspace::open().await;
    let sent = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = Arc::clone(&sent);
    let url = agent(move |method, request| {
        if method == "message/stream" {
            log.lock().unwrap().push(request["params"]["message"]["parts"].clone());
        }
        async {
            json!({ "jsonrpc": "2.0", "id": "1", "result": {
                "kind": "task", "id": "t1", "contextId": "c1",
                "status": { "state": "input-required", "message": {
                    "kind": "message", "role": "agent", "messageId": "m1",
                    "parts": [{ "kind": "text", "text": "Which namespace?" }],
                }},
            }})
        }
    })
    .await;
    let mut config = workspace.config(&[("KAGENT_A2A_URL", &url), ("KAGENT_A2A_VERSION", "0.3")]);
    config.bot.approval_seconds = 2;
    let bot = Bot::configured(config, Duration::from_secs(10)).await;
    let mut talk = Talk::new(&workspace, PLACES[1]);
    talk.says("restart it");
    talk.sees("Which namespace").await;
    talk.sees("Nobody replied in time").await;
    let sent = sent.lock().unwrap().clone();
    assert_eq!(sent.len(), 1, "{sent:?}");
    bot.stop().await;
}
