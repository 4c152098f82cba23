use std::time::Duration;

use http::Method;
use reqwest::RequestBuilder;
use serde_json::{Value, json};

use super::super::{Fault, FaultKind, Scope, Vendor};
use super::{Served, json as answer, serve};

const ALL: [Vendor; 3] = [Vendor::Slack, Vendor::Discord, Vendor::Telegram];

fn channel(vendor: Vendor) -> &'static str {
    match vendor {
        Vendor::Slack => "C0ALERTS",
        Vendor::Discord => "100000000000000001",
        Vendor::Telegram => "-1001000000001",
    }
}

/// A post to the platform's alerts channel.
fn post(served: &Served, vendor: Vendor) -> RequestBuilder {
    let channel = channel(vendor);
    match vendor {
        Vendor::Slack => {
            served.slack("chat.postMessage").json(&json!({ "channel": channel, "text": "x" }))
        }
        Vendor::Discord => served
            .discord(Method::POST, &format!("/channels/{channel}/messages"))
            .json(&json!({ "content": "x" })),
        Vendor::Telegram => {
            served.telegram("sendMessage").json(&json!({ "chat_id": channel, "text": "x" }))
        }
    }
}

fn kept(served: &Served, vendor: Vendor) -> usize {
    served.world.messages(&vendor.key(channel(vendor))).len()
}

#[tokio::test]
async fn rate_limits_in_each_vendors_form() {
    for vendor in ALL {
        let served = serve().await;
        served.world.fault(Fault::new(vendor, FaultKind::RateLimit).retry_after(1.5));
        let response = post(&served, vendor).send().await.unwrap();
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["retry-after"], "2", "{vendor:?} rounds up");
        let scope = response.headers().get("x-ratelimit-scope").cloned();
        let (_, body) = super::read(response).await;
        match vendor {
            Vendor::Slack => assert_eq!(body["error"], "ratelimited"),
            Vendor::Discord => {
                assert_eq!((&body["retry_after"], &body["global"]), (&json!(1.5), &json!(false)));
                assert_eq!(scope.unwrap(), "user");
            }
            Vendor::Telegram => assert_eq!(body["parameters"]["retry_after"], 2),
        }
        assert_eq!(kept(&served, vendor), 0);
        assert_eq!(post(&served, vendor).send().await.unwrap().status(), 200);
        assert_eq!(kept(&served, vendor), 1, "{vendor:?} is well again");
    }
    let served = serve().await;
    let mut fault = Fault::new(Vendor::Discord, FaultKind::RateLimit);
    fault.scope = Some(Scope::Global);
    served.world.fault(fault);
    let response = post(&served, Vendor::Discord).send().await.unwrap();
    assert_eq!(response.headers()["x-ratelimit-scope"], "global");
    assert_eq!(response.headers()["x-ratelimit-global"], "true");
    assert_eq!(super::read(response).await.1["global"], true);
}

#[tokio::test]
async fn refusals_in_each_vendors_words() {
    use FaultKind::{Archived, RevokedToken, ServerError};
    let at = |kind, vendor| match (kind, vendor) {
        (ServerError, _) => 500,
        (RevokedToken, Vendor::Discord | Vendor::Telegram) => 401,
        (Archived, Vendor::Discord | Vendor::Telegram) => 400,
        _ => 200,
    };
    let words = |kind, vendor| match (kind, vendor) {
        (ServerError, Vendor::Slack) => json!({ "error": "internal_error" }),
        (ServerError, Vendor::Discord) => json!({ "code": 0 }),
        (ServerError, Vendor::Telegram) => json!({ "error_code": 500 }),
        (RevokedToken, Vendor::Slack) => json!({ "error": "token_revoked" }),
        (RevokedToken, Vendor::Discord) => json!({ "message": "401: Unauthorized" }),
        (RevokedToken, Vendor::Telegram) => json!({ "description": "Unauthorized" }),
        (_, Vendor::Slack) => json!({ "error": "is_archived" }),
        (_, Vendor::Discord) => json!({ "code": 50083 }),
        (_, Vendor::Telegram) => json!({ "description": "Bad Request: TOPIC_CLOSED" }),
    };
    for vendor in ALL {
        for kind in [ServerError, RevokedToken, Archived] {
            let served = serve().await;
            served.world.fault(Fault::new(vendor, kind));
            let (status, body) = answer(post(&served, vendor)).await;
            assert_eq!(status, at(kind, vendor), "{vendor:?} {kind:?}");
            for (name, value) in words(kind, vendor).as_object().unwrap() {
                assert_eq!(&body[name], value, "{vendor:?} {kind:?}");
            }
            assert_eq!(kept(&served, vendor), 0);
            assert_eq!(served.last_outcome(), format!("fault:{}", kind.as_str()));
        }
    }
    let served = serve().await;
    served.world.fault(Fault::new(Vendor::Telegram, FaultKind::Blocked));
    let (status, body) = answer(post(&served, Vendor::Telegram)).await;
    assert_eq!(
        (status, &body["description"]),
        (403, &json!("Forbidden: bot was blocked by the user"))
    );
}

#[tokio::test]
async fn pages_of_proxies() {
    for vendor in ALL {
        for (kind, status) in [(FaultKind::BadGatewayHtml, 502), (FaultKind::HtmlOk, 200)] {
            let served = serve().await;
            served.world.fault(Fault::new(vendor, kind));
            let response = post(&served, vendor).send().await.unwrap();
            assert_eq!(response.status(), status);
            assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/html"));
            assert!(response.text().await.unwrap().starts_with("<!DOCTYPE html>"));
            assert_eq!(kept(&served, vendor), 0);
        }
    }
}

#[tokio::test]
async fn broken_connections_before_and_after() {
    for vendor in ALL {
        for (kind, messages) in [(FaultKind::DropBefore, 0), (FaultKind::DropAfter, 1)] {
            let served = serve().await;
            served.world.fault(Fault::new(vendor, kind));
            match post(&served, vendor).send().await {
                Err(error) => {
                    assert_eq!(kind, FaultKind::DropBefore, "{vendor:?} {error:?}");
                    assert!(!error.is_timeout());
                }
                Ok(response) => {
                    assert_eq!(kind, FaultKind::DropAfter, "{vendor:?}");
                    assert!(response.bytes().await.is_err(), "{vendor:?}");
                }
            }
            assert_eq!(kept(&served, vendor), messages, "{vendor:?} {kind:?}");
            assert_eq!(served.world.requests().len(), 1);
        }
    }
}

#[tokio::test]
async fn a_hanging_request_gets_no_answer() {
    let kinds = [(FaultKind::Hang, 0), (FaultKind::HangAfter, 1)];
    for (vendor, (kind, messages)) in ALL.into_iter().flat_map(|it| kinds.map(|kind| (it, kind))) {
        let served = serve().await;
        served.world.fault(Fault::new(vendor, kind));
        let request = tokio::spawn(post(&served, vendor).send());
        let arrived = async {
            while served.world.requests().is_empty() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), arrived).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!request.is_finished(), "{vendor:?} answered");
        request.abort();
        assert_eq!(served.last_outcome(), format!("fault:{}", kind.as_str()));
        assert_eq!(kept(&served, vendor), messages);
    }
}

#[tokio::test]
async fn a_slow_answer_is_an_answer() {
    for vendor in ALL {
        let served = serve().await;
        let mut fault = Fault::new(vendor, FaultKind::Slow);
        fault.millis = Some(30);
        served.world.fault(fault);
        let start = std::time::Instant::now();
        assert_eq!(post(&served, vendor).send().await.unwrap().status(), 200);
        assert!(start.elapsed() >= Duration::from_millis(30));
        assert_eq!(kept(&served, vendor), 1);
    }
}

#[tokio::test]
async fn a_missing_scope_hits_the_methods_that_need_it() {
    let served = serve().await;
    served.world.fault(Fault::new(Vendor::Slack, FaultKind::MissingScope).times(0));
    assert_eq!(answer(post(&served, Vendor::Slack)).await.1["ok"], true);
    let info = served.slack("conversations.info").form(&[("channel", "C0ALERTS")]);
    let body = answer(info).await.1;
    assert_eq!(
        (&body["error"], &body["needed"]),
        (&json!("missing_scope"), &json!("channels:read"))
    );
    assert!(!body["provided"].as_str().unwrap().contains("channels:read"));
    let me = served.slack("auth.test").send().await.unwrap();
    let scopes = me.headers()["x-oauth-scopes"].to_str().unwrap().to_owned();
    assert!(!scopes.contains("channels:read") && scopes.contains("chat:write"));
    let private = [("types", "private_channel")];
    let list = answer(served.slack("conversations.list").form(&private)).await.1;
    assert_eq!(list["ok"], true, "{list}");
}

#[tokio::test]
async fn which_scopes_are_missing_can_be_said() {
    let served = serve().await;
    let mut fault = Fault::new(Vendor::Slack, FaultKind::MissingScope).times(0);
    fault.scopes = Some("chat:write, commands".to_owned());
    served.world.fault(fault);
    let body = answer(post(&served, Vendor::Slack)).await.1;
    assert_eq!((&body["error"], &body["needed"]), (&json!("missing_scope"), &json!("chat:write")));
    let me = served.slack("auth.test").send().await.unwrap();
    let scopes = me.headers()["x-oauth-scopes"].to_str().unwrap().to_owned();
    assert!(scopes.contains("channels:read") && !scopes.contains("commands"), "{scopes}");
    assert_eq!(kept(&served, Vendor::Slack), 0);
}

#[tokio::test]
async fn a_clock_may_be_off_and_an_agent_may_want_a_token() {
    let served = serve().await;
    let card = served.url("/sandbox/agent/.well-known/agent-card.json");
    let ask = async |token: &str| {
        let asked = served.client.get(&card).header("authorization", format!("Bearer {token}"));
        asked.send().await.unwrap()
    };
    let date = |answer: &reqwest::Response| {
        let date = answer.headers()["date"].to_str().unwrap().to_owned();
        httpdate::parse_http_date(&date).unwrap()
    };
    served.world.clock_ahead(-1800);
    let behind = date(&ask("").await);
    served.world.clock_ahead(1800);
    let apart = date(&ask("").await).duration_since(behind).unwrap();
    assert!((3600..3700).contains(&apart.as_secs()), "{apart:?}");
    served.world.agent_token(Some("right"));
    assert_eq!(ask("wrong").await.status(), 401);
    assert_eq!(ask("right").await.status(), 200);
    let call = served.client.post(served.url("/sandbox/agent/")).json(&json!({}));
    assert_eq!(call.send().await.unwrap().status(), 401);
    served.world.agent_token(None);
    assert_eq!(ask("").await.status(), 200);
}

#[tokio::test]
async fn faults_strike_in_order_and_only_whom_they_are_meant_for() {
    let served = serve().await;
    served.world.fault(Fault::new(Vendor::Slack, FaultKind::RateLimit).channel("slack:C0GENERAL"));
    served
        .world
        .fault(Fault::new(Vendor::Slack, FaultKind::ServerError).channel("C0ALERTS").times(2));
    served.world.fault(Fault::new(Vendor::Slack, FaultKind::Archived).method("chat.postMessage"));
    let mut outcomes = Vec::new();
    for _ in 0..4 {
        post(&served, Vendor::Slack).send().await.unwrap();
        outcomes.push(served.last_outcome());
    }
    assert_eq!(outcomes, ["fault:server_error", "fault:server_error", "fault:archived", "ok"]);
    assert_eq!(served.world.faults().len(), 1, "that of the other channel");
    served.world.clear_faults();
    assert!(served.world.faults().is_empty());

    // A fault of a Discord channel strikes its threads too.
    let (_, first) = answer(post(&served, Vendor::Discord)).await;
    let id = first["id"].as_str().unwrap();
    let path = format!("/channels/{}/messages/{id}/threads", channel(Vendor::Discord));
    answer(served.discord(Method::POST, &path).json(&json!({ "name": "t" }))).await;
    served.world.fault(
        Fault::new(Vendor::Discord, FaultKind::ServerError).channel(channel(Vendor::Discord)),
    );
    let inside = format!("/channels/{id}/messages");
    let inside = served.discord(Method::POST, &inside).json(&json!({ "content": "x" }));
    assert_eq!(answer(inside).await.0, 500);
}

#[tokio::test]
async fn faults_over_http() {
    let served = serve().await;
    let url = served.url("/sandbox/api/faults");
    let add = |body: Value| answer(served.client.post(&url).json(&body));
    let (status, body) =
        add(json!({ "platform": "telegram", "kind": "rate_limit", "retry_after": 2 })).await;
    assert_eq!((status, body["faults"].as_array().unwrap().len()), (201, 1));
    assert_eq!(answer(post(&served, Vendor::Telegram)).await.1["parameters"]["retry_after"], 2);
    assert_eq!(answer(served.client.get(&url)).await.1, json!({ "faults": [] }));
    for (wrong, words) in [
        (json!({ "platform": "telegram", "kind": "missing_scope" }), "slack only"),
        (json!({ "platform": "slack", "kind": "blocked" }), "telegram only"),
        (json!({ "platform": "slack", "kind": "rate_limit", "retry_after": -1 }), "`retry_after`"),
        (json!({ "platform": "slack", "kind": "explode" }), "unknown variant"),
        (json!({ "platform": "slack", "kind": "hang", "tiems": 2 }), "unknown field"),
    ] {
        let (status, body) = add(wrong).await;
        assert!(status == 400 || status == 422);
        assert!(body["error"].as_str().unwrap().contains(words), "{body}");
    }
    add(json!({ "platform": "slack", "kind": "hang", "times": 0 })).await;
    assert_eq!(answer(served.client.delete(&url)).await.0, 200);
    assert!(served.world.faults().is_empty());
}
