//! The client against an agent that misbehaves by script.

use std::time::Duration;

use serde_json::{Value, json};

use super::client::Patience;
use super::scripted::{
    Agent, Piece, Reply, caller, client, done, ended, in_turn, message, quick, task, whole,
};
use super::*;
use crate::platform::scripted::{assert_no_leak, hostile};

fn config() -> Config {
    Config::default()
}

#[tokio::test]
async fn the_message_goes_to_the_configured_url_and_never_to_the_cards() {
    let agent = Agent::v03(|_| whole("pong")).await;
    assert!(!agent.url.path().ends_with('/'));
    let run = agent.client(&config()).send(&message("ping"), &caller()).await.unwrap();
    assert_eq!(run.task_id(), Some("t-1"));
    let outcome = ended(run).await;
    assert_eq!((outcome.state, outcome.answer.text.as_str()), (State::Completed, "pong"));
    assert_eq!(agent.asked()[0].path, "/api/a2a/ns/agent/");
    assert_eq!(agent.cards_asked(), 1);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Agent::v03(|_| whole("gotcha")).await;
    let location = format!("{}/", elsewhere.url);
    let agent =
        Agent::v03(move |_| Reply::new(307, "text/plain", "").with("location", &location)).await;
    let error = agent.client(&config()).send(&message("x"), &caller()).await.unwrap_err();
    assert!(matches!(error, Error::Refused { code: 307, .. }), "{error:?}");
    assert_eq!(agent.methods(), ["message/stream"]);
    assert!(elsewhere.asked().is_empty());
}

#[tokio::test]
async fn the_dialect_is_switched_once_and_remembered() {
    let by_code: fn() -> Reply = || Reply::error(-32009, "A2A version '0.3' is not supported");
    let by_status: fn() -> Reply =
        || Reply::new(400, "text/plain", "unsupported A2A Version: \"\"");
    let by_event: fn() -> Reply = || {
        Reply::sse(
            "data: {\"jsonrpc\":\"2.0\",\"error\":{\"code\":-32009.0,\"message\":\"no\"}}\n\n",
        )
    };
    for refusal in [by_code, by_status, by_event] {
        let agent = Agent::v03(move |seen| match seen.header("a2a-version") {
            Some("1.0") => Reply::result(json!({"task": done("pong")})),
            _ => refusal(),
        })
        .await;
        let client = agent.client(&config());
        for _ in 0..2 {
            let run = client.send(&message("ping"), &caller()).await.unwrap();
            assert_eq!(ended(run).await.answer.text, "pong");
        }
        let stream = "SendStreamingMessage";
        assert_eq!(agent.methods(), ["message/stream", stream, stream]);
    }
}

#[tokio::test]
async fn an_agent_of_neither_dialect_is_asked_twice_and_no_more() {
    let agent = Agent::v03(|_| Reply::error(-32009, "no")).await;
    let client = agent.client(&config());
    let error = client.send(&message("x"), &caller()).await.unwrap_err();
    assert_eq!(error, Error::VersionMismatch);
    assert_eq!(agent.methods(), ["message/stream", "SendStreamingMessage"]);
    // The settings' word is final.
    let agent = Agent::v03(|_| Reply::error(-32009, "no")).await;
    let fixed = agent.client(&Config { version: Version::V1_0, ..config() });
    let error = fixed.send(&message("x"), &caller()).await.unwrap_err();
    assert_eq!(error, Error::VersionMismatch);
    assert_eq!(agent.methods(), ["SendStreamingMessage"]);
}

#[tokio::test]
async fn a_method_that_is_not_found_switches_for_messages_only() {
    let agent = Agent::v03(|_| Reply::error(-32601, "Method not found")).await;
    let client = agent.client(&config());
    assert!(client.send(&message("x"), &caller()).await.is_err());
    assert!(client.task("t-1", &caller()).await.is_err());
    let cancelled = client.cancel("t-1", &caller()).await.unwrap();
    assert!(matches!(cancelled, Cancel::Refused { .. }));
    let expected =
        ["message/stream", "SendStreamingMessage", "tasks/get", "tasks/cancel", "tasks/get"];
    assert_eq!(agent.methods(), expected);
}

#[tokio::test]
async fn without_a_card_the_agent_is_asked_all_the_same() {
    let agent = Agent::new(|seen| {
        if seen.is_card() { Reply::new(404, "text/plain", "no") } else { whole("pong") }
    })
    .await;
    let client = agent.client(&config());
    for _ in 0..3 {
        ended(client.send(&message("x"), &caller()).await.unwrap()).await;
    }
    assert_eq!(agent.methods(), ["message/stream"; 3]);
    assert_eq!(agent.cards_asked(), 1, "a card that is not there is not asked for every time");
    assert_eq!(client.card().await, Err(Error::NoSuchAgent));
}

#[tokio::test]
async fn after_a_failure_the_card_is_read_again() {
    let agent = Agent::v03(in_turn(vec![
        whole("pong"),
        Reply::new(503, "text/plain", "restarting"),
        whole("pong"),
    ]))
    .await;
    let client = agent.client(&config());
    assert!(client.send(&message("x"), &caller()).await.is_ok());
    let error = client.send(&message("x"), &caller()).await.unwrap_err();
    assert_eq!(error, Error::Unavailable(503));
    assert!(!error.may_have_arrived());
    assert!(client.send(&message("x"), &caller()).await.is_ok());
    assert_eq!(agent.cards_asked(), 2);
}

#[tokio::test]
async fn the_headers_say_who_asks_and_what_is_spoken() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let agent = Agent::v03(|_| Reply::result(json!({"task": done("pong")}))).await;
    let config = Config {
        version: Version::V1_0,
        token_file: Some(file.path().to_owned()),
        ..Config::default()
    };
    let client = agent.client(&config);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let caller = Caller { user_id: Some("slack:T1".into()), traceparent: Some(trace.into()) };
    for token in ["first\n", "Bearer second"] {
        std::fs::write(file.path(), token).unwrap();
        ended(client.send(&message("x"), &caller).await.unwrap()).await;
        client.task("t-1", &caller).await.unwrap();
    }
    let asked = agent.asked();
    let tokens: Vec<_> = asked.iter().map(|seen| seen.header("authorization").unwrap()).collect();
    assert_eq!(tokens, ["Bearer first", "Bearer first", "Bearer second", "Bearer second"]);
    for seen in &asked {
        assert_eq!(seen.header("a2a-version"), Some("1.0"));
        assert_eq!(seen.header("a2a-extensions"), Some("https://kagent.dev/extensions/hitl/v1"));
        assert_eq!(seen.headers.get_all("x-user-id").iter().count(), 1);
        assert_eq!(seen.header("x-user-id"), Some("slack:T1"));
        assert_eq!(seen.header("traceparent"), Some(trace));
    }
    std::fs::write(file.path(), "  ").unwrap();
    let error = client.send(&message("x"), &caller).await.unwrap_err();
    assert_eq!(error, Error::Setup("its token file is empty"));
    std::fs::write(file.path(), "Zq7secret\u{1}\n").unwrap();
    assert_no_leak(&client.send(&message("x"), &caller).await.unwrap_err());
    drop(file);
    let error = client.send(&message("x"), &caller).await.unwrap_err();
    assert_eq!(error, Error::Setup("its token file cannot be read"));
    assert_eq!(agent.asked().len(), 4, "without a token nothing is sent");
}

#[tokio::test]
async fn the_user_id_follows_the_settings() {
    for (user_id, expected) in [
        (UserId::Conversation, Some("slack:T1:C1")),
        (UserId::None, None),
        (UserId::Fixed("bot".into()), Some("bot")),
    ] {
        let agent = Agent::v03(|_| whole("pong")).await;
        let client = agent.client(&Config { user_id, ..config() });
        ended(client.send(&message("x"), &caller()).await.unwrap()).await;
        assert_eq!(agent.asked()[0].header("x-user-id"), expected);
    }
}

#[tokio::test]
async fn an_http_failure_says_whether_the_message_may_have_arrived() {
    for (code, expected, arrived) in [
        (401, Error::NotAllowed(401), false),
        (403, Error::NotAllowed(403), false),
        (404, Error::NoSuchAgent, false),
        (429, Error::Unavailable(429), false),
        (500, Error::Unavailable(500), true),
        (502, Error::Unavailable(502), true),
        (503, Error::Unavailable(503), false),
        (504, Error::Unavailable(504), true),
    ] {
        let agent = Agent::v03(move |_| Reply::new(code, "text/html", hostile())).await;
        let error = agent.client(&config()).send(&message("x"), &caller()).await.unwrap_err();
        assert_eq!((error.may_have_arrived(), &error), (arrived, &expected));
        assert_eq!(agent.methods().len(), 1, "{code}");
        assert_no_leak(&error);
    }
    let agent = Agent::v03(|_| Reply::new(200, "text/html", hostile())).await;
    let error = agent.client(&config()).send(&message("x"), &caller()).await.unwrap_err();
    assert_eq!(error, Error::Malformed("the answer is not JSON"));
    assert!(error.may_have_arrived());
}

#[tokio::test]
async fn nobody_there_is_unreachable_and_nothing_was_sent() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    drop(listener);
    let client = client(&url, &config(), quick());
    let error = client.send(&message("x"), &caller()).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable(_)), "{error:?}");
    assert!(!error.may_have_arrived());
    assert_no_leak(&error);
}

/// Takes every connection, and says nothing or hangs up.
async fn mute(hangs_up: bool) -> url::Url {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let _ = tokio::io::AsyncReadExt::read(&mut socket, &mut request).await;
            if !hangs_up {
                kept.push(socket);
            }
        }
    });
    url.parse().unwrap()
}

#[tokio::test]
async fn a_server_that_says_nothing_may_have_got_the_message() {
    for hangs_up in [true, false] {
        let short = Duration::from_millis(60);
        let patience = Patience { card: short, answer: short, ..quick() };
        let client = client(&mute(hangs_up).await, &config(), patience);
        let error = client.send(&message("x"), &caller()).await.unwrap_err();
        assert!(matches!(error, Error::MayHaveArrived(_)), "{error:?}");
        let error = client.task("t-1", &caller()).await.unwrap_err();
        assert!(matches!(error, Error::NoAnswer(_)), "{error:?}");
    }
}

#[tokio::test]
async fn a_message_without_an_answer_may_have_arrived_and_is_not_sent_again() {
    let breaks = Reply::sse("").then(Piece::Break);
    let ends = Reply::sse(": ping\r\n\r\n");
    let hangs = Reply::sse(": ping\r\n\r\n").then(Piece::Hang);
    for reply in [breaks, ends, hangs] {
        let agent = Agent::v03(move |_| reply.clone()).await;
        let patience = Patience { answer: Duration::from_millis(60), ..quick() };
        let client = client(&agent.url, &config(), patience);
        let error = client.send(&message("x"), &caller()).await.unwrap_err();
        assert!(matches!(error, Error::MayHaveArrived(_)), "{error:?}");
        assert!(error.may_have_arrived());
        assert_eq!(agent.methods(), ["message/stream"]);
    }
}

#[tokio::test]
async fn cancelling_tells_the_truth() {
    for (answer, then, expected) in [
        (Reply::result(task("canceled")), task("canceled"), Cancel::Cancelled),
        (Reply::error(-32002, "no"), task("completed"), Cancel::AlreadyOver),
        (Reply::error(-32603, "no"), task("canceled"), Cancel::Cancelled),
        (
            Reply::error(-32603, "no"),
            task("working"),
            Cancel::Refused { why: "-32603 no".to_owned() },
        ),
        (
            Reply::error(-32004, "no"),
            task("input-required"),
            Cancel::Refused { why: "-32004 no".to_owned() },
        ),
    ] {
        let agent = Agent::v03(move |seen| match seen.method.as_str() {
            "tasks/cancel" => answer.clone(),
            _ => Reply::result(then.clone()),
        })
        .await;
        let cancelled = agent.client(&config()).cancel("t-1", &caller()).await;
        assert_eq!(cancelled, Ok(expected));
    }
}

#[tokio::test]
async fn files_are_sent_by_value_in_either_dialect() {
    for (version, expected) in [
        (
            Version::V0_3,
            json!({"kind": "file",
                "file": {"name": "a.txt", "mimeType": "text/plain", "bytes": "aGk="}}),
        ),
        (Version::V1_0, json!({"filename": "a.txt", "mediaType": "text/plain", "raw": "aGk="})),
    ] {
        let agent = Agent::v03(|_| whole("pong")).await;
        let file = File {
            name: Some("a.txt".into()),
            mime: Some("text/plain".into()),
            bytes: b"hi".to_vec(),
        };
        let mut sent = message("");
        sent.content = Content::Parts(vec![OutPart::File(file)]);
        sent.metadata.insert("speaker".into(), json!("Ann"));
        let client = agent.client(&Config { version, ..config() });
        ended(client.send(&sent, &caller()).await.unwrap()).await;
        let written = &agent.asked()[0].params["message"];
        assert_eq!(written["parts"], json!([expected]));
        assert_eq!(written["metadata"], json!({"speaker": "Ann"}));
    }
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    let page = "x".repeat(1 << 20);
    let agent = Agent::v03(move |_| {
        let body = format!("{{\"result\": \"{}", page.repeat(17));
        Reply::new(200, "application/json", body)
    })
    .await;
    let error = agent.client(&config()).task("t-1", &caller()).await.unwrap_err();
    assert_eq!(error, Error::TooLarge);
}

#[test]
fn a_decision_leaves_no_tool_out() {
    let tool = |id: &str| ToolCall { id: id.into(), name: "t".into(), args: Value::Null };
    let approval = Approval {
        hint: None,
        subagent: None,
        tools: vec![tool("a"), tool("b"), tool("c")],
        shape: Shape::Adk,
    };
    let decision = approval.reject_all("", Some("too late"));
    let stored = serde_json::to_value(&decision).unwrap();
    assert_eq!(serde_json::from_value::<Decision>(stored).unwrap(), decision);
    for (shape, key) in [(Shape::Adk, "parts"), (Shape::Hitl, "metadata")] {
        let decision = Approval { shape, ..approval.clone() }.reject_all("", Some("too late"));
        let mut sent = message("");
        sent.content = Content::Decision(decision);
        for dialect in [dialect::Dialect::V0_3, dialect::Dialect::V1_0] {
            let params = dialect.send(dialect::Call::Stream, &sent);
            let written = params["message"][key].to_string();
            assert_eq!(written.matches("too late").count(), 3, "{written}");
            assert_eq!(part::text(part::list(&params["message"])), "decided");
        }
    }
}

#[test]
fn the_settings_are_read_as_they_are_written() {
    let config: Config =
        serde_json::from_value(json!({"version": "1.0", "user_id": "none"})).unwrap();
    assert_eq!((config.version, config.user_id), (Version::V1_0, UserId::None));
    let config: Config = serde_json::from_value(json!({"user_id": "bot-7"})).unwrap();
    assert_eq!((config.version, config.user_id), (Version::Auto, UserId::Fixed("bot-7".into())));
    assert_eq!(config.patience_minutes, 30);
    for version in [Version::Auto, Version::V0_3, Version::V1_0] {
        assert_eq!(version.to_string().parse(), Ok(version));
    }
    assert_eq!("2".parse::<Version>(), Err(UnknownVersion));
}
