//! What a client of `/mcp` sees.

use super::*;

#[tokio::test]
async fn the_older_era_works_without_a_session() {
    let server = Server::start().await;
    let hello = json!({
        "protocolVersion": "2025-11-25", "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    });
    let answer = server.post(&[], &rpc("initialize", hello)).await;
    assert_eq!(answer.json()["result"]["protocolVersion"], "2025-11-25");
    assert!(answer.head.contains("content-type: application/json"), "{}", answer.head);
    assert!(!answer.head.contains("mcp-session-id"), "{}", answer.head);

    let note = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    assert_eq!(server.post(&[], &note).await.status, 202);

    let version = [("mcp-protocol-version", "2025-11-25")];
    let answer = server.post(&version, &rpc("tools/list", json!({}))).await.json();
    let names: Vec<_> =
        answer["result"]["tools"].as_array().unwrap().iter().map(|t| &t["name"]).collect();
    assert_eq!(
        names,
        [
            "get_delivery",
            "list_channels",
            "send_message_to_slack",
            "send_message_to_telegram",
            "update_message"
        ]
    );
    assert_eq!(answer["result"].get("ttlMs"), None);
    assert_eq!(answer["result"].get("resultType"), None);

    let answer = server.call("list_channels", json!({"platform": "slack"})).await;
    let result = &answer["result"];
    assert_eq!(result["isError"], false, "{answer}");
    assert_eq!(result["structuredContent"]["channels"][0]["id"], "C0ALERTS");
    let text = result["content"][0]["text"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(text).unwrap(), result["structuredContent"]);
}

fn modern(method: &str, mut params: Value) -> Value {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    });
    rpc(method, params)
}

#[tokio::test]
async fn the_modern_era_works_without_a_handshake() {
    let server = Server::start().await;
    let version = ("mcp-protocol-version", "2026-07-28");
    let ask = async |method: &str, params: Value| {
        let headers = [version, ("mcp-method", method)];
        server.post(&headers, &modern(method, params)).await.json()["result"].clone()
    };
    let result = ask("server/discover", json!({})).await;
    assert!(result["supportedVersions"].as_array().unwrap().contains(&json!("2026-07-28")));
    for list in ["tools/list", "prompts/list", "resources/list", "resources/templates/list"] {
        let result = ask(list, json!({})).await;
        assert_eq!(result["cacheScope"], "private", "{list}: {result}");
        assert_eq!(result["ttlMs"], 300_000, "{list}: {result}");
        assert_eq!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "herald");
    }

    let call = json!({"name": "send_message_to_slack", "arguments": {"channel_id": "alerts", "text": "hi"}});
    let headers = [version, ("mcp-method", "tools/call"), ("mcp-name", "send_message_to_slack")];
    let result =
        server.post(&headers, &modern("tools/call", call.clone())).await.json()["result"].clone();
    assert_eq!(result["structuredContent"]["platform"], "slack", "{result}");
    assert_eq!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "herald");

    let elsewhere = [version, ("mcp-method", "tools/call"), ("mcp-name", "list_channels")];
    let answer = server.post(&elsewhere, &modern("tools/call", call.clone())).await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (400, &json!(-32020)));
    let answer = server.post(&headers, &rpc("tools/call", call)).await;
    assert_eq!(answer.status, 400, "{}", answer.body);
}

#[tokio::test]
async fn prompts_resources_and_completions_answer() {
    let server = Server::start().await;
    let ask =
        async |method: &str, params: Value| server.post(&[], &rpc(method, params)).await.json();

    let answer = ask("resources/read", json!({"uri": "herald://formatting"})).await;
    let text = answer["result"]["contents"][0]["text"].as_str().unwrap();
    assert!(text.starts_with("# Formatting"), "{text}");
    let answer = ask("resources/read", json!({"uri": "herald://channels"})).await;
    let resource = answer["result"]["contents"][0]["text"].as_str().unwrap();
    let tool = server.call("list_channels", json!({})).await;
    assert_eq!(
        serde_json::from_str::<Value>(resource).unwrap(),
        tool["result"]["structuredContent"]
    );
    let answer = ask("resources/read", json!({"uri": "herald://nothing"})).await;
    assert_eq!(answer["error"]["code"], -32002);
    assert_eq!(answer["error"]["data"]["uri"], "herald://nothing");

    let incident =
        json!({"name": "announce_incident", "arguments": {"channel": "alerts", "title": "x"}});
    let answer = ask("prompts/get", incident).await;
    assert_eq!(answer["result"]["messages"][0]["role"], "user", "{answer}");
    let answer = ask("prompts/get", json!({"name": "announce_incident"})).await;
    assert_eq!(answer["error"]["code"], -32602);

    let channel = json!({
        "ref": {"type": "ref/prompt", "name": "daily_summary"},
        "argument": {"name": "channel", "value": "slack:"},
    });
    let answer = ask("completion/complete", channel).await;
    assert_eq!(answer["result"]["completion"]["values"], json!(["slack:C0ALERTS", "slack:alerts"]));
}

#[tokio::test]
async fn no_stream_and_no_session_is_kept() {
    let server = Server::start().await;
    for method in ["GET", "DELETE"] {
        let answer = server.send(method, "/mcp", &[("mcp-session-id", "x")], "").await;
        assert_eq!(answer.status, 405);
        assert!(answer.head.contains("allow: post"), "{}", answer.head);
    }
}

#[tokio::test]
async fn an_unknown_tool_is_a_protocol_error() {
    let server = Server::start().await;
    let answer = server.call("no_such_tool", json!({})).await;
    assert_eq!(answer["error"]["code"], -32602);
    assert_eq!(answer["error"]["message"], "Unknown tool: no_such_tool");
}

#[tokio::test]
async fn bad_arguments_and_failures_are_results() {
    let server = Server::start().await;
    for (tool, arguments, sentence) in [
        ("send_message_to_slack", json!({"channel_id": "C0ALERTS"}), "`text` is missing"),
        (
            "send_message_to_slack",
            json!({"channel_id": "C0ALERTS", "text": {}}),
            "`text` has to be a string",
        ),
        ("send_message_to_slack", json!({"channel_id": "C0ALERTS", "text": ""}), "`text` is empty"),
        (
            "send_message_to_slack",
            json!({"channel_id": "C0ALERTS", "text": "x".repeat(1_000_000)}),
            "`text` has 1000000 characters",
        ),
        (
            "send_message_to_slack",
            json!({"channel": "C0ALERTS", "text": "x"}),
            "`channel` is not an argument",
        ),
        (
            "send_message_to_telegram",
            json!({"chat_id": -5, "text": "x"}),
            "posting to that Telegram channel is not allowed",
        ),
        ("get_delivery", json!({"delivery_id": "nonsense"}), "no delivery `nonsense` of yours"),
        ("list_channels", json!({"platform": "irc"}), "`platform` has to be one of"),
    ] {
        let result = server.call(tool, arguments).await["result"].clone();
        assert_eq!(result["isError"], true, "{result}");
        let text = result["content"][0]["text"].as_str().unwrap();
        assert!(text.starts_with(sentence), "{text}");
    }
}

#[tokio::test]
async fn a_body_that_is_no_message_gets_a_clear_error() {
    let server = Server::start().await;
    let surrogate = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"send_message_to_slack","arguments":{"channel_id":"C0ALERTS","text":"\ud800"}}}"#;
    for body in ["{", "", "[]", "\"x\"", surrogate] {
        let answer = server.send("POST", "/mcp", &[], body).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.body);
        assert_eq!(answer.json()["error"]["code"], -32700, "{body}");
    }
    let list = rpc("tools/list", json!({}));
    assert_eq!(server.post(&[("content-type", "text/plain")], &list).await.status, 415);
    assert_eq!(server.post(&[("accept", "text/html")], &list).await.status, 406);
    let huge = " ".repeat(3 * 1024 * 1024);
    assert_eq!(server.send("POST", "/mcp", &[], &huge).await.status, 413);
    // The server is none the worse for it.
    assert_eq!(server.post(&[], &list).await.status, 200);
}

#[tokio::test]
async fn a_panicking_tool_answers() {
    let server = Setup::default().start(hooked(|| async { panic!("a test's panic") }).await).await;
    let answer = server.call("list_channels", json!({})).await;
    assert_eq!(answer["result"]["isError"], true);
}

#[tokio::test]
async fn on_loopback_only_loopback_names_are_trusted() {
    let server = Server::start().await;
    let list = rpc("tools/list", json!({}));
    for (header, status) in [
        (("host", "localhost:3000"), 200),
        (("host", "[::1]:3000"), 200),
        (("host", "herald.kagent:3000"), 403),
        (("host", "evil.example"), 403),
        (("origin", "http://localhost:6274"), 200),
        (("origin", "https://evil.example"), 403),
        (("origin", "null"), 403),
    ] {
        let answer = server.post(&[header], &list).await;
        assert_eq!(answer.status, status, "{header:?}: {}", answer.body);
    }
}

#[tokio::test]
async fn in_a_cluster_any_host_and_no_web_page_is_trusted() {
    let list = rpc("tools/list", json!({}));
    let setup = Setup { listen: NETWORK, ..Setup::default() };
    let server = setup.clone().start(herald().await).await;
    for (header, status) in [
        (("host", "herald.kagent:3000"), 200),
        (("origin", "http://localhost:3000"), 403),
        (("origin", "https://page.example"), 403),
    ] {
        assert_eq!(server.post(&[header], &list).await.status, status, "{header:?}");
    }

    let config = Config {
        allowed_hosts: vec!["herald.kagent".into()],
        allowed_origins: vec!["https://page.example".into()],
        ..Config::default()
    };
    let server = Setup { config, ..setup }.start(herald().await).await;
    for (header, status) in [
        (("host", "herald.kagent:3000"), 200),
        (("host", "localhost:3000"), 200),
        (("host", "other.kagent:3000"), 403),
        (("origin", "https://page.example"), 200),
        (("origin", "https://page.example:8443"), 403),
        (("origin", "http://page.example"), 403),
    ] {
        assert_eq!(server.post(&[header], &list).await.status, status, "{header:?}");
    }
}

#[tokio::test]
async fn a_token_guards_mcp_and_nothing_else() {
    let config = Config { token: Some(SecretString::from("Bearer s3cret")), ..Config::default() };
    let server = Setup { config, ..Setup::default() }.start(herald().await).await;
    let list = rpc("tools/list", json!({}));
    for wrong in [None, Some("Bearer wrong"), Some("s3cret"), Some("Basic czNjcmV0")] {
        let headers: Vec<_> = wrong.iter().map(|value| ("authorization", *value)).collect();
        let answer = server.post(&headers, &list).await;
        assert_eq!(answer.status, 401);
        assert!(answer.head.contains("www-authenticate: bearer"), "{}", answer.head);
        assert!(answer.json()["error_description"].as_str().unwrap().len() > 20);
    }
    assert_eq!(server.post(&[("authorization", "Bearer s3cret")], &list).await.status, 200);
    assert_eq!(server.send("GET", "/healthz", &[], "").await.status, 200);
    assert_eq!(server.send("GET", "/readyz", &[], "").await.status, 200);
}
