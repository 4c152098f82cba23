//! The agent over real HTTP, against the captures of the real one where there is one.

mod captures;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::super::World;
use super::HITL;
use crate::clock::SystemClock;

const PATIENCE: Duration = Duration::from_secs(20);

struct Served {
    world: World,
    base: String,
    client: reqwest::Client,
}

async fn serve() -> Served {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let world = World::new(Arc::new(SystemClock));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/sandbox", listener.local_addr().unwrap());
    let router = world.router();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(PATIENCE)
        .build()
        .unwrap();
    Served { world, base, client }
}

/// One dialect, as a client writes it.
#[derive(Clone, Copy, PartialEq)]
enum Dialect {
    Old,
    New,
}
use Dialect::{New, Old};

impl Dialect {
    fn method(self, name: &str) -> &'static str {
        match (self, name) {
            (Old, "send") => "message/send",
            (Old, "stream") => "message/stream",
            (Old, "get") => "tasks/get",
            (Old, "cancel") => "tasks/cancel",
            (Old, _) => "tasks/resubscribe",
            (New, "send") => "SendMessage",
            (New, "stream") => "SendStreamingMessage",
            (New, "get") => "GetTask",
            (New, "cancel") => "CancelTask",
            (New, _) => "SubscribeToTask",
        }
    }

    fn message(self, text: &str) -> Value {
        match self {
            Old => json!({
                "kind": "message", "messageId": "m1", "role": "user", "contextId": "c1",
                "parts": [{ "kind": "text", "text": text }],
            }),
            New => json!({
                "messageId": "m1", "role": "ROLE_USER", "contextId": "c1", "parts": [{ "text": text }],
            }),
        }
    }

    /// A decision on `task`.
    fn decision(self, task: &Value, payload: Value) -> Value {
        let mut message = self.message("decided in chat");
        message["taskId"] = task["id"].clone();
        match self {
            Old => {
                let part = json!({ "kind": "data", "metadata": {}, "data": payload });
                message["parts"].as_array_mut().unwrap().insert(0, part);
            }
            New => {
                message["extensions"] = json!([HITL]);
                message["metadata"] = json!({ HITL: payload });
            }
        }
        message
    }
}

impl Served {
    fn request(
        &self,
        agent: &str,
        dialect: Dialect,
        method: &str,
        params: Value,
    ) -> reqwest::RequestBuilder {
        let body = json!({ "jsonrpc": "2.0", "id": "1", "method": dialect.method(method), "params": params });
        let request = self.client.post(format!("{}/{agent}/", self.base)).json(&body);
        match dialect {
            Old => request,
            New => request.header("A2A-Version", "1.0").header("A2A-Extensions", HITL),
        }
    }

    async fn ask(&self, dialect: Dialect, method: &str, params: Value) -> Value {
        self.request("agent", dialect, method, params).send().await.unwrap().json().await.unwrap()
    }

    /// The task that a blocking send leads to.
    async fn send(&self, dialect: Dialect, message: Value) -> Value {
        let answer = self.ask(dialect, "send", json!({ "message": message })).await;
        match dialect {
            Old => answer["result"].clone(),
            New => answer["result"]["task"].clone(),
        }
    }

    async fn say(&self, dialect: Dialect, text: &str) -> Value {
        self.send(dialect, dialect.message(text)).await
    }
}

/// The results on a stream.
fn events(text: &str) -> Vec<Value> {
    let lines = text.split("\r\n").filter_map(|line| line.strip_prefix("data: "));
    lines.map(|line| serde_json::from_str::<Value>(line).unwrap()["result"].clone()).collect()
}

fn state(task: &Value) -> &str {
    task["status"]["state"].as_str().unwrap()
}

/// The answer of a finished task.
fn said(task: &Value) -> String {
    let parts = task["artifacts"].as_array().unwrap().last().unwrap()["parts"].as_array().unwrap();
    parts.iter().filter_map(|part| part["text"].as_str()).collect()
}

/// The ids that a pause asks about.
fn asked(dialect: Dialect, task: &Value) -> Vec<String> {
    let message = &task["status"]["message"];
    let ids: Vec<&Value> = match dialect {
        Old => {
            let parts = message["parts"].as_array().unwrap().iter();
            parts.map(|part| &part["data"]["args"]["originalFunctionCall"]["id"]).collect()
        }
        New => {
            let tools = message["metadata"][HITL]["tools"].as_array().unwrap().iter();
            tools.map(|tool| &tool["id"]).collect()
        }
    };
    ids.into_iter().map(|id| id.as_str().unwrap().to_owned()).collect()
}

/// What somebody decides: one id after the other.
fn verdicts(dialect: Dialect, decided: &[(&str, bool)]) -> Value {
    match dialect {
        Old => {
            let word = |approved: bool| json!(if approved { "approve" } else { "reject" });
            let by_id: Map<String, Value> =
                decided.iter().map(|(id, approved)| ((*id).to_owned(), word(*approved))).collect();
            json!({ "decision_type": "batch", "decisions": by_id })
        }
        New => {
            let approvals: Vec<Value> = decided
                .iter()
                .map(|(id, approved)| json!({ "id": id, "approved": approved }))
                .collect();
            json!({ "type": "tool_approval_response", "approvals": approvals })
        }
    }
}

fn paused(dialect: Dialect) -> &'static str {
    if dialect == Old { "input-required" } else { "TASK_STATE_INPUT_REQUIRED" }
}

fn completed(dialect: Dialect) -> &'static str {
    if dialect == Old { "completed" } else { "TASK_STATE_COMPLETED" }
}

#[tokio::test]
async fn echoes_and_remembers_per_conversation_and_user() {
    let served = serve().await;
    for dialect in [Old, New] {
        let context = if dialect == Old { "old" } else { "new" };
        let in_context = |text: &str| {
            let mut message = dialect.message(text);
            message["contextId"] = json!(context);
            message
        };
        let first = served.send(dialect, in_context("remember the pager")).await;
        assert_eq!(state(&first), completed(dialect));
        assert_eq!(said(&first), "I will remember: the pager");
        let echo = served.send(dialect, in_context("hello")).await;
        assert_eq!(said(&echo), "You said: hello\n\nThis conversation has seen 2 messages.");
        let recalled = said(&served.send(dialect, in_context("what did I say?")).await);
        assert!(recalled.contains("- remember the pager\n- hello"), "{recalled}");
        assert!(recalled.contains("I remember: the pager"), "{recalled}");
        let other = json!({ "message": in_context("what did I say?") });
        let request = served.request("agent", dialect, "send", other).header("X-User-Id", "bob");
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        assert!(answer.to_string().contains("nothing so far"), "{answer}");
    }
}

#[tokio::test]
async fn a_batch_is_decided_one_by_one() {
    let served = serve().await;
    for dialect in [Old, New] {
        let task = served.say(dialect, "approve two").await;
        assert_eq!(state(&task), paused(dialect));
        let ids = asked(dialect, &task);
        let decided = verdicts(dialect, &[(&ids[0], true), (&ids[1], false)]);
        let message = dialect.decision(&task, decided);
        let done = served.send(dialect, message.clone()).await;
        assert_eq!(state(&done), completed(dialect), "{done}");
        assert_eq!(
            said(&done),
            "Tool results: deleted pod production/api-1 | Tool call was rejected by user."
        );
        // Twice is an error.
        let again = served.ask(dialect, "send", json!({ "message": message })).await;
        let code = if dialect == Old { -32602 } else { -32004 };
        assert_eq!(again["error"]["code"], code);
        assert!(again["error"]["message"].as_str().unwrap().contains("is in terminal state"));
    }
}

#[tokio::test]
async fn an_id_left_out_is_run_by_the_old_and_fails_the_new() {
    let served = serve().await;
    let task = served.say(Old, "approve two").await;
    let ids = asked(Old, &task);
    let done = served.send(Old, Old.decision(&task, verdicts(Old, &[(&ids[0], false)]))).await;
    assert_eq!(state(&done), "completed");
    assert!(said(&done).contains("RUN WITHOUT A DECISION: scaled production/api to 3"));

    for (wrong, why) in [
        (vec![0], "missing ids: adk-"),
        (vec![0, 1, 1], "duplicate ids: adk-"),
        (vec![0, 1, 2], "unknown ids: nobody"),
    ] {
        let task = served.say(New, "approve two").await;
        let mut ids = asked(New, &task);
        ids.push("nobody".to_owned());
        let decided: Vec<(&str, bool)> = wrong.iter().map(|at| (ids[*at].as_str(), true)).collect();
        let failed = served.send(New, New.decision(&task, verdicts(New, &decided))).await;
        assert_eq!(state(&failed), "TASK_STATE_FAILED");
        let told = failed["status"]["message"]["parts"][0]["text"].as_str().unwrap();
        assert!(told.contains(why), "{told}");
    }
}

#[tokio::test]
async fn plain_text_decides_nothing() {
    let served = serve().await;
    let task = served.say(Old, "approve").await;
    let mut message = Old.message("yes go ahead");
    message["taskId"] = task["id"].clone();
    let done = served.send(Old, message).await;
    assert_eq!((state(&done), said(&done).as_str()), ("completed", "You said: yes go ahead"));

    let task = served.say(New, "approve").await;
    let mut message = New.message("yes go ahead");
    message["taskId"] = task["id"].clone();
    let waits = served.send(New, message).await;
    assert_eq!(state(&waits), "TASK_STATE_INPUT_REQUIRED");
    assert!(waits["status"]["message"].get("metadata").is_none());
    let ids = asked(New, &task);
    let failed = served.send(New, New.decision(&task, verdicts(New, &[(&ids[0], true)]))).await;
    assert_eq!(state(&failed), "TASK_STATE_FAILED");
}

#[tokio::test]
async fn a_decision_by_another_user_finds_nothing_to_decide() {
    let served = serve().await;
    for dialect in [Old, New] {
        let as_user = |user: &'static str, message: Value| {
            let request = served.request("agent", dialect, "send", json!({ "message": message }));
            let sent = request.header("X-User-Id", user).send();
            async move { sent.await.unwrap().json::<Value>().await.unwrap() }
        };
        let paused = as_user("one", dialect.message("approve")).await["result"].clone();
        let task = if dialect == Old { paused } else { paused["task"].clone() };
        let ids = asked(dialect, &task);
        let decision = dialect.decision(&task, verdicts(dialect, &[(&ids[0], true)]));
        let answer = as_user("two", decision).await;
        match dialect {
            Old => {
                // The JSON is what the model hears.
                let said = said(&answer["result"]);
                assert!(said.starts_with("You said: {\"decision_type\":\"batch\""), "{said}");
            }
            New => assert_eq!(answer["error"]["code"], -32001),
        }
    }
}

#[tokio::test]
async fn questions_are_answered_together() {
    let served = serve().await;
    let answers = json!([{ "answer": ["PostgreSQL"] }, { "answer": ["Auth", "Caching"] }, { "answer": ["no"] }]);
    let task = served.say(Old, "question").await;
    let done = served
        .send(
            Old,
            Old.decision(&task, json!({ "decision_type": "approve", "ask_user_answers": answers })),
        )
        .await;
    assert!(said(&done).contains("\"answer\":[\"Auth\",\"Caching\"]"), "{}", said(&done));
    for (given, good) in [(answers.clone(), true), (json!([{ "answer": ["PostgreSQL"] }]), false)] {
        let task = served.say(New, "question").await;
        let id = &task["status"]["message"]["metadata"][HITL]["id"];
        let payload = json!({ "type": "ask_user_response", "id": id, "answers": given });
        let done = served.send(New, New.decision(&task, payload)).await;
        assert_eq!(state(&done) == "TASK_STATE_COMPLETED", good);
    }
    let logged: Vec<_> =
        served.world.agent_requests().into_iter().filter(|r| !r.answers.is_empty()).collect();
    assert_eq!(logged[0].answers[1], ["Auth", "Caching"]);
}

#[tokio::test]
async fn a_sub_agents_tool_is_decided_by_its_own_id() {
    let served = serve().await;
    let task = served.say(Old, "nested").await;
    let payload =
        &task["status"]["message"]["parts"][0]["data"]["args"]["toolConfirmation"]["payload"];
    let id = payload["hitl_parts"][0]["originalFunctionCall"]["id"].as_str().unwrap();
    let done = served.send(Old, Old.decision(&task, verdicts(Old, &[(id, false)]))).await;
    assert!(said(&done).contains("rejected by user"));
    let task = served.say(New, "nested").await;
    let id = &task["status"]["message"]["metadata"][HITL]["nested"]["tools"][0]["id"];
    let decided = verdicts(New, &[(id.as_str().unwrap(), true)]);
    let done = served.send(New, New.decision(&task, decided)).await;
    assert_eq!(said(&done), "Tool results: Tool results: upgraded api to 1.4.2");
}

#[tokio::test]
async fn without_the_extension_header_there_is_nothing_to_decide_with() {
    let served = serve().await;
    let body = json!({ "jsonrpc": "2.0", "id": 7, "method": "SendMessage", "params": { "message": New.message("approve") } });
    let request = served.client.post(format!("{}/agent-1.0/", served.base)).json(&body);
    let answer: Value =
        request.header("A2A-Version", "1.0").send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["id"], 7);
    let message = &answer["result"]["task"]["status"]["message"];
    assert!(message["parts"][0]["text"].as_str().unwrap().contains("requires approval"));
    assert!(message.get("metadata").is_none() && message.get("extensions").is_none());
}

#[tokio::test]
async fn cancelling_depends_on_the_runtime() {
    let served = serve().await;
    for (agent, dialect, stopped) in [
        ("agent", Old, None),
        ("agent-go", Old, Some("canceled")),
        ("agent", New, Some("TASK_STATE_CANCELED")),
    ] {
        let configuration = json!({ "blocking": false, "returnImmediately": true });
        let params =
            json!({ "message": dialect.message("slow 600"), "configuration": configuration });
        let sent: Value = served
            .request(agent, dialect, "send", params)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        let task = if dialect == Old { &sent["result"] } else { &sent["result"]["task"] };
        let params = json!({ "id": task["id"] });
        let answer: Value = served
            .request(agent, dialect, "cancel", params.clone())
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        let now: Value = served
            .request(agent, dialect, "get", params)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        match stopped {
            None => {
                assert_eq!(
                    answer["error"],
                    json!({ "code": -32603, "message": "Cancellation is not supported" })
                );
                assert!(["submitted", "working"].contains(&state(&now["result"])));
            }
            Some(state_then) => {
                assert_eq!(state(&answer["result"]), state_then);
                assert_eq!(state(&now["result"]), state_then);
            }
        }
    }
}

#[tokio::test]
async fn broken_connections_leave_the_task_running() {
    let served = serve().await;
    for dialect in [Old, New] {
        let params = json!({ "message": dialect.message("drop 0.2") });
        let mut answer = served.request("agent", dialect, "stream", params).send().await.unwrap();
        let mut text = String::new();
        let end = loop {
            match answer.chunk().await {
                Ok(Some(chunk)) => text.push_str(std::str::from_utf8(&chunk).unwrap()),
                other => break other,
            }
        };
        assert!(end.is_err(), "the stream ends as if all were well");
        let first = events(&text)[0].clone();
        let id = if dialect == Old { &first["taskId"] } else { &first["task"]["id"] };
        let rest = served
            .request("agent", dialect, "again", json!({ "id": id }))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        assert!(
            rest.contains("Pod **api-1** crashes") || rest.contains("is in terminal state"),
            "{rest}"
        );

        let lost = json!({ "message": dialect.message("lost") });
        assert!(served.request("agent", dialect, "send", lost.clone()).send().await.is_err());
        assert!(served.request("agent", dialect, "stream", lost).send().await.is_err());
    }
}

#[tokio::test]
async fn an_agent_that_is_down_breaks_every_connection() {
    let served = serve().await;
    let params = json!({ "message": Old.message("slow 600") });
    let mut open = served.request("agent", Old, "stream", params.clone()).send().await.unwrap();
    assert!(open.chunk().await.unwrap().is_some());
    served.world.agent_down(true);
    let broke = tokio::time::timeout(PATIENCE, async {
        loop {
            if open.chunk().await.is_err() {
                break;
            }
        }
    });
    broke.await.unwrap();
    assert!(served.request("agent", Old, "send", params).send().await.is_err());
    let card = format!("{}/agent/.well-known/agent-card.json", served.base);
    assert!(served.client.get(&card).send().await.is_err());
    served.world.agent_down(false);
    assert!(served.client.get(&card).send().await.unwrap().status().is_success());
}

#[tokio::test]
async fn cards_offer_what_is_spoken_at_an_address_that_is_not() {
    let served = serve().await;
    let dialects = |card: &Value| {
        let interfaces = card["supportedInterfaces"].as_array().into_iter().flatten();
        let versions = interfaces.map(|one| one["protocolVersion"].as_str().unwrap().to_owned());
        versions.chain(card["protocolVersion"].as_str().map(str::to_owned)).collect::<BTreeSet<_>>()
    };
    for (agent, offered) in [
        ("agent", vec!["0.3", "1.0"]),
        ("agent-0.3", vec!["0.3.0"]),
        ("agent-1.0", vec!["1.0"]),
        ("agent-go", vec!["0.3.0"]),
    ] {
        let url = format!("{}/{agent}/.well-known/agent-card.json", served.base);
        let card: Value = served.client.get(url).send().await.unwrap().json().await.unwrap();
        assert_eq!(dialects(&card), offered.into_iter().map(str::to_owned).collect());
        assert!(card.to_string().contains("http://127.0.0.1:8083/"));
        let slashless = served.client.post(format!("{}/{agent}", served.base)).json(&json!({}));
        let answer = slashless.send().await.unwrap();
        assert_eq!(answer.status(), 307);
        assert_eq!(answer.headers()["location"].to_str().unwrap(), format!("/sandbox/{agent}/"));
    }
}

#[tokio::test]
async fn the_log_has_what_tests_ask_for() {
    let served = serve().await;
    let task = served.say(New, "approve").await;
    let ids = asked(New, &task);
    let message = New.decision(&task, verdicts(New, &[(&ids[0], false)]));
    let request = served.request("agent-1.0", New, "send", json!({ "message": message }));
    request.bearer_auth("canary").header("X-User-Id", "u").send().await.unwrap();
    let log = served.world.agent_requests();
    let last = log.last().unwrap();
    assert_eq!((last.agent, last.method.as_str()), ("agent-1.0", "SendMessage"));
    assert_eq!(last.headers["authorization"], "Bearer canary");
    assert_eq!(last.headers["a2a-extensions"], HITL);
    assert_eq!(last.context_id.as_deref(), Some("c1"));
    assert_eq!(last.task_id.as_deref(), task["id"].as_str());
    assert!(!last.decisions[&ids[0]]);
    assert_eq!(log[0].text, "approve");
}

#[tokio::test]
async fn silence_has_no_comments_and_slowness_has() {
    tokio::time::pause();
    // Over a real socket a paused clock would run ahead of the bytes; the body itself does not need one.
    let world = World::new(Arc::new(SystemClock));
    for (text, pings) in [("slow 40", true), ("silent 40", false)] {
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": "message/stream", "params": { "message": Old.message(text) } });
        let answer = super::call::call(
            &world,
            super::Flavour::Old,
            &http::HeaderMap::new(),
            request.to_string().as_bytes(),
        )
        .await;
        let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        let body = std::str::from_utf8(&body).unwrap();
        assert_eq!(body.contains("\r\n: ping - 20"), pings, "{body}");
        assert!(body.contains("\"state\":\"completed\""));
    }
}
