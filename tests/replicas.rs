//! Replicas on one PostgreSQL database: whichever is left goes on with what another one began.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use herald::sandbox::AgentRequest;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::postgres::{Replica, accepted, env};
use crate::postgres_server::schema;
use crate::recovery::{
    Process, asked, nobody_quarrels, on_postgres, sessions, settles, talks, with,
};
use crate::talking::PLACES;
use crate::world::{Client, EVERY, SLACK, Workspace, until};

/// How a replica ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Killed,
    Terminated,
}

fn decisions(workspace: &Workspace) -> Vec<AgentRequest> {
    let requests = workspace.world.agent_requests().into_iter();
    requests.filter(|request| !request.decisions.is_empty()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_replicas_waiting_approval_goes_on_in_the_other_one() {
    an_approval_goes_on_in_the_other_one(End::Killed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_updated_replicas_waiting_approval_goes_on_in_the_other_one() {
    an_approval_goes_on_in_the_other_one(End::Terminated).await;
}

async fn an_approval_goes_on_in_the_other_one(end: End) {
    let Some(data) = on_postgres() else { return };
    let workspace = Workspace::open().await;
    let first = Process::alone(&workspace, data.path()).await;
    let second = Process::start(&workspace, data.path(), &[]).await;
    second.stands_by().await;
    let mut talks = talks(&workspace, &PLACES, "remember the blue door");
    for talk in &mut talks {
        talk.sees("I will remember: the blue door").await;
        settles(talk).await;
        talk.says("approve two");
    }
    let mut cards = Vec::new();
    for talk in &talks {
        talk.presses("alice", "Approve k8s_delete_pod").await;
        cards.push(talk.sees("approved by alice").await);
    }
    assert_eq!(sessions(&workspace), 1, "one of them has Discord's session");

    let since = Instant::now();
    match end {
        End::Killed => first.kill().await,
        End::Terminated => drop(first.terminate().await),
    }
    second.listens().await;
    assert!(since.elapsed() < Duration::from_secs(20), "{:?}", since.elapsed());
    for (talk, card) in talks.iter().zip(&cards) {
        talk.presses("alice", "Reject k8s_scale").await;
        let decided = talk.sees("rejected by alice").await;
        assert_eq!(decided.id, card.id, "the same card tells");
        assert!(decided.text.to_lowercase().contains("approved by alice"), "{}", decided.text);
    }
    until("the agent has every decision", async || decisions(&workspace).len() >= PLACES.len())
        .await;
    for talk in &mut talks {
        settles(talk).await;
        talk.says("what did I say?");
        talk.sees("I remember: the blue door").await;
        settles(talk).await;
        assert_eq!(with(&talk.shown(), "I remember:").len(), 1, "{:?}", talk.texts());
    }
    let decisions = decisions(&workspace);
    assert_eq!(decisions.len(), PLACES.len(), "each was passed on once");
    for request in decisions {
        let mut verdicts: Vec<bool> = request.decisions.into_values().collect();
        verdicts.sort_unstable();
        assert_eq!(verdicts, [false, true], "what was decided before and after");
    }
    for text in ["remember the blue door", "approve two", "what did I say?"] {
        assert_eq!(asked(&workspace, text).len(), PLACES.len(), "{text}: each was asked once");
    }
    assert!(sessions(&workspace) <= 2, "{}", sessions(&workspace));
    nobody_quarrels(data.path());
    second.terminate().await;
}

/// A Service sends each request to any Pod.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_call_of_a_client_may_reach_another_replica() {
    let Some(url) = schema() else { return };
    let workspace = Workspace::open().await;
    let env = env(&workspace, &url);
    let (a, b) = tokio::join!(Replica::start(&env, 0), Replica::start(&env, 0));
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let post = async |replica: &Replica, message: Value| {
        let request = http
            .post(&replica.client.url)
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", "2025-11-25");
        let answer = request.json(&message).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
        assert!(answer.headers().get("mcp-session-id").is_none(), "nothing binds it to a replica");
        answer.text().await.unwrap()
    };
    let client = json!({ "name": "test", "version": "1" });
    let hello =
        json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client });
    post(&a, json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello })).await;
    post(&b, json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
    let list = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/list" });
    let (at_a, at_b) = (post(&a, list.clone()).await, post(&b, list).await);
    assert!(at_a.contains("send_message_to_slack"), "{at_a}");
    assert_eq!(at_a, at_b, "they offer the same");

    let key = json!({ "idempotency_key": "incident-42", "thread_key": "incident-42" });
    let sent = a.client.send_with(SLACK, "the database is slow", key.clone()).await;
    assert_eq!(sent.content["status"], "delivered", "{}", sent.text);
    let id = json!({ "delivery_id": sent.content["delivery_id"] });
    let there = b.client.call("get_delivery", id.clone()).await;
    assert_eq!(there.content["message_ids"], sent.content["message_ids"], "{}", there.text);
    let again = b.client.send_with(SLACK, "the database is slow", key.clone()).await;
    assert_eq!(again.content["delivery_id"], sent.content["delivery_id"]);
    assert_eq!(again.content["deduplicated"], true);
    let other = b.client.send_with(SLACK, "the database is fast", key).await;
    assert!(other.failed && other.text.contains("idempotency_key"), "{}", other.text);
    let thread = json!({ "thread_key": "incident-42" });
    let follow = b.client.send_with(SLACK, "it is fast again", thread).await;
    assert_eq!(follow.content["status"], "delivered", "{}", follow.text);
    let shown = workspace.world.messages(SLACK);
    assert_eq!(shown.len(), 2);
    assert_eq!(shown[1].thread.as_ref(), Some(&shown[0].id), "the thread that A opened");
    let mut edit = id;
    edit["text"] = json!("the database was slow");
    let edited = b.client.call("update_message", edit).await;
    assert_eq!(edited.content["status"], "delivered", "{}", edited.text);
    assert_eq!(workspace.texts(SLACK)[0], "the database was slow");
}

/// The pause that the manifests' preStop gives the Service to send new calls elsewhere, shortened.
const PRE_STOP: Duration = Duration::from_millis(250);

/// Old and new Pods at once. What the old one is sending, it finishes; what waits there, the new one sends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_update_under_load_loses_no_call() {
    let Some(url) = schema() else { return };
    let workspace = Workspace::open().await;
    for platform in ["slack", "discord", "telegram"] {
        let slow = json!({ "platform": platform, "kind": "slow", "millis": 400, "times": 0 });
        workspace.fault(slow);
    }
    let env = env(&workspace, &url);
    let mut old = Replica::start(&env, 0).await;
    let service: Arc<Mutex<Client>> = Arc::new(Mutex::new(old.client.clone()));
    let calls: Arc<Mutex<Vec<Value>>> = Arc::default();
    let mut load = JoinSet::new();
    for (n, channel) in EVERY.into_iter().cycle().take(9).enumerate() {
        let (service, calls) = (Arc::clone(&service), Arc::clone(&calls));
        load.spawn(async move {
            for number in 0.. {
                let client = service.lock().unwrap().clone();
                let answer = client.send(channel, &format!("{n}-{number}")).await;
                calls.lock().unwrap().push(answer.content["status"].clone());
            }
        });
    }
    let flow = async || {
        let before = calls.lock().unwrap().len();
        until("calls are answered", async || calls.lock().unwrap().len() > before + 12).await;
    };
    flow().await;
    for _ in 0..2 {
        let new = Replica::start(&env, 0).await;
        *service.lock().unwrap() = new.client.clone();
        tokio::time::sleep(PRE_STOP).await;
        let told = Instant::now();
        old.signal("-TERM");
        assert!(old.child.wait().await.unwrap().success());
        assert!(told.elapsed() < Duration::from_secs(10), "{:?}", told.elapsed());
        old = new;
        flow().await;
    }
    assert!(load.try_join_next().is_none(), "no call failed");
    load.shutdown().await;
    let calls = std::mem::take(&mut *calls.lock().unwrap());
    assert!(calls.iter().all(|it| it == "delivered" || it == "queued"), "{calls:?}");
    assert!(calls.contains(&json!("queued")), "some waited at the old one when it ended");
    for channel in EVERY {
        until("all arrived", async || {
            accepted(&env, channel).await.len() == workspace.texts(channel).len()
        })
        .await;
        let order = accepted(&env, channel).await;
        assert_eq!(workspace.texts(channel), order, "{channel}: once, in the order of acceptance");
    }
}
