//! Traces at a collector: what belongs together hangs together, and a collector that is away costs nothing.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use herald::sandbox::Speech;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::Child;

use crate::collector::{Collector, Span};
use crate::talking::{PLACES, Talk};
use crate::world::{Client, SLACK, TELEGRAM, Workspace, free_port, herald, message, until};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// A Herald of its own process.
struct Process {
    child: Child,
    client: Client,
    base: String,
    data: tempfile::TempDir,
}

impl Process {
    async fn start(command: &str, env: &BTreeMap<String, String>) -> Self {
        Self::on(tempfile::tempdir().unwrap(), command, env).await
    }

    async fn on(data: tempfile::TempDir, command: &str, env: &BTreeMap<String, String>) -> Self {
        let file = data.path().join("herald.yaml");
        std::fs::write(&file, "delivery: {backoff_ms: 20}").unwrap();
        let port = free_port();
        let child = herald(env)
            .args([command, "--log-format", "json", "--listen", &format!("127.0.0.1:{port}")])
            .arg("--data-dir")
            .arg(data.path().join("data"))
            .arg("--config")
            .arg(file)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let client = Client::new(([127, 0, 0, 1], port).into());
        let base = format!("http://127.0.0.1:{port}");
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        until("it is ready", async || {
            let Ok(answer) = http.get(format!("{base}/readyz")).send().await else { return false };
            let report: Value = answer.json().await.unwrap_or_default();
            let checks = report["checks"].as_object();
            checks.is_some_and(|checks| checks.values().all(|check| check["ok"] == true))
        })
        .await;
        Self { child, client, base, data }
    }

    /// A tool call with a trace context in `_meta` and in the header.
    async fn call(&self, tool: &str, arguments: Value, meta: Value, header: Option<&str>) -> Value {
        let params = json!({ "name": tool, "arguments": arguments, "_meta": meta });
        self.post(json!(7), "tools/call", params, header).await
    }

    /// A request with an ID of one's own.
    async fn ask(&self, id: &str, method: &str, params: Value) -> Value {
        self.post(json!(id), method, params, None).await
    }

    async fn post(&self, id: Value, method: &str, params: Value, header: Option<&str>) -> Value {
        let body = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut request = http
            .post(format!("{}/mcp", self.base))
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", "2025-11-25")
            .json(&body);
        if let Some(header) = header {
            request = request.header("traceparent", header);
        }
        request.send().await.unwrap().json().await.unwrap()
    }

    /// Ends it as Kubernetes does; how long that took, and what it logged.
    async fn stop(mut self) -> (Duration, String, tempfile::TempDir) {
        let mut log = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        let pid = self.child.id().unwrap().to_string();
        let asked = Instant::now();
        std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        stderr.read_to_string(&mut log).await.unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(40), self.child.wait()).await;
        assert!(ended.unwrap().unwrap().success(), "{log}");
        (asked.elapsed(), log, self.data)
    }
}

fn env_with(workspace: &Workspace, extra: &[(&str, &str)]) -> BTreeMap<String, String> {
    let mut env = workspace.env();
    env.extend(extra.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    env
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_ties_call_delivery_and_platform_request_together() {
    let workspace = Workspace::open().await;
    let collector = Collector::open().await;
    // Whatever is logged, everything is exported; what waits in a batch is sent at the end.
    let env = env_with(
        &workspace,
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url),
            ("OTEL_BSP_SCHEDULE_DELAY", "60000"),
            ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test"),
            ("HERALD_LOG", "error"),
        ],
    );
    let herald = Process::start("serve", &env).await;
    let busy = json!({
        "platform": "slack", "channel": "C0ALERTS", "kind": "rate_limit", "retry_after": 0.1,
    });
    workspace.fault(busy);
    let meta = json!({ "traceparent": format!("00-{TRACE}-{CALLER}-01") });
    let other = "00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb-01";
    let (tool, arguments) = message(SLACK, "a text of the trace test", json!({}));
    let answer = herald.call(&tool, arguments, meta, Some(other)).await;
    let receipt = &answer["result"]["structuredContent"];
    assert_eq!(receipt["status"], "delivered", "{answer}");

    let (tool, arguments) = message(TELEGRAM, "another text of the trace test", json!({}));
    let wrong = json!({ "traceparent": "00-zz-1-1" });
    herald.call(&tool, arguments, wrong, Some(other)).await;
    // What a client made up may be anything: none of it is exported.
    let own = "xoxb-1234-SECRETLOOKING";
    herald.call(own, json!({}), json!({}), None).await;
    herald.ask(own, "prompts/get", json!({ "name": own })).await;
    let prompt = json!({ "name": "daily_summary", "arguments": { "channel": "alerts" } });
    herald.ask(own, "prompts/get", prompt).await;
    herald.call("get_delivery", json!({ "delivery_id": "x" }), json!({}), Some("nonsense")).await;
    herald.stop().await;

    let call = collector.one("tools/call send_message_to_slack");
    assert_eq!((call.trace.as_str(), call.parent.as_str()), (TRACE, CALLER));
    assert_eq!((call.kind, call.service.as_str()), (SpanKind::Server, "herald"));
    for (key, value) in [
        ("mcp.method.name", "tools/call"),
        ("mcp.protocol.version", "2025-11-25"),
        ("gen_ai.tool.name", "send_message_to_slack"),
        ("gen_ai.operation.name", "execute_tool"),
        ("jsonrpc.request.id", "7"),
        ("network.transport", "tcp"),
    ] {
        assert_eq!(call.says(key), value, "{key}");
    }

    let mut attempts = collector.named("deliver slack");
    attempts.sort_by_key(|span| span.says("herald.delivery.attempt").to_owned());
    assert_eq!(attempts.len(), 2, "{attempts:?}");
    for (n, attempt) in attempts.iter().enumerate() {
        assert_eq!(attempt.kind, SpanKind::Consumer);
        assert_eq!((&attempt.trace, &attempt.parent), (&call.trace, &call.id));
        assert_eq!(attempt.links, [(call.trace.clone(), call.id.clone())]);
        let requests = collector.named("POST chat.postMessage");
        let requests: Vec<_> = requests.iter().filter(|it| it.parent == attempt.id).collect();
        assert_eq!(requests.len(), 1, "{requests:?}");
        assert_eq!((requests[0].kind, &requests[0].trace), (SpanKind::Client, &call.trace));
        for span in [attempt, requests[0]] {
            assert_eq!(span.says("herald.platform"), "slack");
            assert_eq!(span.says("herald.channel.id"), "C0ALERTS");
            assert_eq!(span.says("herald.delivery.id"), receipt["delivery_id"].as_str().unwrap());
            assert_eq!(span.says("herald.delivery.attempt"), (n + 1).to_string());
            assert_eq!(span.failed, n == 0);
        }
        assert_eq!(requests[0].says("http.request.method"), "POST");
        assert_eq!(requests[0].says("server.address"), "127.0.0.1");
        let status = requests[0].says("http.response.status_code");
        assert_eq!(status, if n == 0 { "429" } else { "200" });
    }
    assert_eq!(attempts[0].says("herald.reason"), "rate_limited");
    assert_eq!(attempts[1].says("herald.delivery.state"), "delivered");

    // What is no trace context in `_meta` does not hide the header's.
    let call = collector.one("tools/call send_message_to_telegram");
    assert_eq!(call.parent, "bbbbbbbbbbbbbbbb");
    let request = collector.one("POST sendMessage");
    assert_eq!(request.trace, call.trace);
    let unknown = collector.one("tools/call");
    assert_eq!(unknown.says("gen_ai.tool.name"), "");
    assert!(unknown.failed && unknown.says("error.type") == "-32602", "{unknown:?}");
    let prompt = collector.one("prompts/get daily_summary");
    assert_eq!(prompt.says("gen_ai.prompt.name"), "daily_summary");
    assert!(collector.one("prompts/get").failed);
    let failed = collector.one("tools/call get_delivery");
    assert!(failed.failed && failed.says("error.type") == "tool_error", "{failed:?}");
    assert!(failed.parent.is_empty() && failed.trace != TRACE);

    let bytes = collector.everything();
    let bytes = String::from_utf8_lossy(&bytes);
    assert!(bytes.contains("deployment.environment.name") && bytes.contains("service.version"));
    assert!(!bytes.contains("of the trace test"), "a message's text was exported");
    assert!(!bytes.contains("SECRETLOOKING"), "what a client made up was exported");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_ties_event_turn_and_agent_together_whoever_goes_on_with_it() {
    let workspace = Workspace::open().await;
    let collector = Collector::open().await;
    let env = env_with(&workspace, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url)]);
    let first = Process::start("bot", &env).await;
    let mut talk = Talk::new(&workspace, PLACES[0]);
    talk.says("slow 4");
    until("the agent is asked", async || {
        workspace.world.agent_requests().iter().any(|request| request.text.contains("slow 4"))
    })
    .await;
    // Another process goes on with it.
    let (_, _, data) = first.stop().await;
    let second = Process::on(data, "bot", &env).await;
    talk.sees("api-0 runs").await;
    until("the turn is over", async || !talk.texts().iter().any(|it| it.contains("Working on it")))
        .await;
    second.stop().await;

    // Slack tells a mention twice.
    let mut events = collector.named("take slack event");
    events.retain(|event| event.says("herald.event.new") == "true");
    assert_eq!(events.len(), 1, "{events:?}");
    let event = events.remove(0);
    assert_eq!((event.kind, event.parent.as_str()), (SpanKind::Consumer, ""));
    assert_eq!(event.says("herald.channel.id"), "C0GENERAL");
    let turns = collector.named("turn");
    assert!(turns.len() >= 2, "one of each process: {turns:?}");
    for turn in &turns {
        assert_eq!((&turn.trace, &turn.parent), (&event.trace, &event.id));
        assert_eq!(turn.says("gen_ai.agent.name"), "default");
        assert_eq!(turn.says("herald.turn.id"), turns[0].says("herald.turn.id"));
    }
    let parents: Vec<&String> = turns.iter().map(|turn| &turn.id).collect();
    let mut calls = collector.spans();
    let is_card = |span: &Span| span.name == "GET agent card";
    calls.retain(|span| span.says("rpc.system.name") == "jsonrpc" || is_card(span));
    let asked = workspace.world.agent_requests();
    assert!(asked.len() >= 4, "a card and a request of each process: {asked:?}");
    assert_eq!(calls.len(), asked.len());
    for request in asked {
        let call = calls.iter().find(|call| {
            format!("00-{}-{}-01", call.trace, call.id) == request.headers["traceparent"]
        });
        let call = call.unwrap_or_else(|| panic!("{request:?} belongs to none of {calls:?}"));
        assert_eq!((call.kind, &call.trace), (SpanKind::Client, &event.trace));
        assert!(parents.contains(&&call.parent), "{call:?}");
        let card = request.method == "agent-card.json";
        assert!(if card { is_card(call) } else { call.says("rpc.method") == request.method });
        assert_eq!(call.says("http.response.status_code"), "200");
    }
    let said = collector.named("deliver slack");
    assert!(!said.is_empty());
    for delivery in said {
        assert_eq!(delivery.trace, event.trace);
        assert!(parents.contains(&&delivery.parent), "{delivery:?}");
        assert_eq!(delivery.links, [(event.trace.clone(), delivery.parent.clone())]);
    }
    let exported = String::from_utf8_lossy(&collector.everything()).into_owned();
    assert!(!exported.contains("slow 4") && !exported.contains("api-0"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_person_and_no_text_shows_in_a_trace() {
    let workspace = Workspace::open().await;
    let collector = Collector::open().await;
    let env = env_with(&workspace, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url)]);
    let herald = Process::start("bot", &env).await;
    for place in &PLACES[..2] {
        let mut talk = Talk::new(&workspace, *place);
        talk.says("approve");
        talk.presses("alice", "Approve k8s_delete_pod").await;
        talk.sees("deleted pod").await;
    }
    herald.stop().await;
    assert!(!collector.named("take slack event").is_empty());
    assert!(!collector.named("take discord event").is_empty());
    let exported = String::from_utf8_lossy(&collector.everything()).into_owned();
    for hidden in ["U0ALICE", "300000000000000001", "alice", "approve", "deleted pod"] {
        assert!(!exported.contains(hidden), "{hidden} shows in a trace");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_whose_agent_fails_says_so() {
    let workspace = Workspace::open().await;
    let collector = Collector::open().await;
    let env = env_with(&workspace, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url)]);
    let herald = Process::start("bot", &env).await;
    let mut talk = Talk::new(&workspace, PLACES[2]);
    talk.says("fail");
    talk.sees("could not finish").await;
    let (_, log, _) = herald.stop().await;
    let turn = collector.one("turn");
    assert!(turn.failed && turn.says("error.type") == "agent_failed", "{turn:?}");
    // The log names the same trace, in one line.
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let warnings: Vec<_> = lines.iter().filter(|line| line["level"] != "INFO").collect();
    assert_eq!(warnings.len(), 1, "{log}");
    assert_eq!(warnings[0]["trace_id"], turn.trace);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_to_an_agent_that_goes_wrong_says_how_once() {
    let workspace = Workspace::open().await;
    let collector = Collector::open().await;
    let mut env = env_with(&workspace, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url)]);
    let herald = Process::start("bot", &env).await;
    let mut talk = Talk::new(&workspace, PLACES[1]);
    talk.says("drop");
    talk.sees("api-0 runs").await;
    let over = async || !talk.texts().iter().any(|it| it.contains("Working on it"));
    until("the turn is over", over).await;
    herald.stop().await;
    let broken = collector.one("message/stream");
    assert_eq!(broken.says("http.response.status_code"), "200");
    assert!(broken.failed && broken.says("error.type") == "connection_lost", "{broken:?}");

    // Nobody is there.
    let collector = Collector::open().await;
    env.insert("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), collector.url.clone());
    let agent = env.get_mut("KAGENT_A2A_URL").unwrap();
    *agent = format!("{}/no-such-agent/", agent.trim_end_matches('/'));
    let herald = Process::start("bot", &env).await;
    let mut talk = Talk::new(&workspace, PLACES[1]);
    talk.says("hello");
    talk.sees("There is no such agent").await;
    herald.stop().await;
    for name in ["GET agent card", "message/stream"] {
        let call = collector.named(name).remove(0);
        assert_eq!(call.says("http.response.status_code"), "404");
        assert!(call.failed && call.says("error.type") == "no_such_agent", "{call:?}");
    }
}

#[tokio::test]
async fn stdio_sends_its_traces_before_it_ends() {
    let workspace = Workspace::open().await;
    let collector = Collector::open().await;
    let env = env_with(
        &workspace,
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url), ("OTEL_SERVICE_NAME", "by-pipe")],
    );
    let mut command = herald(&env);
    command.arg("stdio").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let hello = json!({
        "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
            "protocolVersion": "2025-11-25", "capabilities": {},
            "clientInfo": { "name": "test", "version": "0" },
        },
    });
    let ready = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    let call = json!({
        "jsonrpc": "2.0", "id": "one", "method": "tools/call", "params": {
            "name": "send_message_to_slack", "arguments": { "channel_id": "alerts", "text": "hi" },
            "_meta": { "traceparent": format!("00-{TRACE}-{CALLER}-01") },
        },
    });
    stdin.write_all(format!("{hello}\n{ready}\n{call}\n").as_bytes()).await.unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    while !out.next_line().await.unwrap().unwrap().contains("delivered") {}
    drop(stdin);
    tokio::time::timeout(Duration::from_secs(5), child.wait()).await.unwrap().unwrap();
    let call = collector.one("tools/call send_message_to_slack");
    assert_eq!((call.parent.as_str(), call.service.as_str()), (CALLER, "by-pipe"));
    assert_eq!((call.says("network.transport"), call.says("jsonrpc.request.id")), ("pipe", ""));
    assert_eq!(call.says("mcp.protocol.version"), "2025-11-25");
    assert_eq!(collector.one("deliver slack").parent, call.id);
    assert_eq!(collector.one("initialize").kind, SpanKind::Server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chat_platform_hears_nothing_of_a_trace() {
    let workspace = Workspace::open().await;
    let collector = Collector::open().await;
    let seen = Arc::<Mutex<Vec<HeaderMap>>>::default();
    let take = async |State(seen): State<Arc<Mutex<Vec<_>>>>, headers: HeaderMap| {
        seen.lock().unwrap().push(headers);
        axum::Json(json!({ "ok": true, "channel": "C0ALERTS", "ts": "1700000000.000100" }))
    };
    let router = Router::new().fallback(take).with_state(seen.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let slack = format!("http://{}/api", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let env = env_with(
        &workspace,
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url), ("SLACK_API_URL", &slack)],
    );
    let herald = Process::start("serve", &env).await;
    let meta = json!({
        "traceparent": format!("00-{TRACE}-{CALLER}-01"), "tracestate": "vendor=1",
    });
    let (tool, arguments) = message(SLACK, "hello", json!({}));
    let answer = herald.call(&tool, arguments, meta, None).await;
    assert_eq!(answer["result"]["structuredContent"]["status"], "delivered", "{answer}");
    herald.stop().await;
    assert_eq!(collector.one("POST chat.postMessage").trace, TRACE);
    let seen = seen.lock().unwrap();
    assert!(!seen.is_empty());
    for headers in seen.iter() {
        let leaks = ["traceparent", "tracestate", "baggage"].map(|name| headers.contains_key(name));
        assert_eq!(leaks, [false; 3], "{headers:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_away_or_hangs_costs_nothing() {
    let workspace = Workspace::open().await;
    let hangs = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let away = format!("http://127.0.0.1:{}", free_port());
    for (url, complains) in
        [(away, true), (format!("http://{}", hangs.local_addr().unwrap()), false)]
    {
        let env = env_with(
            &workspace,
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", &url),
                ("OTEL_BSP_SCHEDULE_DELAY", "10"),
                ("HERALD_LOG", "info"),
            ],
        );
        let herald = Process::start("serve", &env).await;
        let answer = herald.client.send(SLACK, &format!("by way of {url}")).await;
        assert_eq!(answer.content["status"], "delivered", "{answer:?}");
        let (took, log, _) = herald.stop().await;
        assert!(took < Duration::from_secs(3), "it took {took:?} to end: {log}");
        let told = log.matches("does not take traces").count();
        assert_eq!(told, usize::from(complains), "{log}");
        let delivered = log.lines().find(|line| line.contains("\"delivered\"")).unwrap();
        let line: Value = serde_json::from_str(delivered).unwrap();
        assert_eq!(line["trace_id"].as_str().unwrap().len(), 32, "{delivered}");
    }
    assert_eq!(workspace.texts(SLACK).len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_setting_that_cannot_be_used_is_one_line_and_no_reason_not_to_serve() {
    let workspace = Workspace::open().await;
    let collector = Collector::open().await;
    let missing = "/nowhere/ca.pem";
    for (variable, value, fix) in [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", missing, missing),
    ] {
        let set = [("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.as_str()), (variable, value)];
        let herald = Process::start("serve", &env_with(&workspace, &set)).await;
        let answer = herald.client.send(SLACK, &format!("in spite of {value}")).await;
        assert_eq!(answer.content["status"], "delivered", "{answer:?}");
        let (_, log, _) = herald.stop().await;
        let warnings: Vec<_> = log.lines().filter(|line| line.contains("\"WARN\"")).collect();
        assert_eq!(warnings.len(), 1, "{log}");
        let told = warnings[0];
        let named = told.contains("no traces") && told.contains(variable) && told.contains(fix);
        assert!(named, "{told}");
    }
    assert!(collector.everything().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_asked_for_and_what_is_not_sampled_makes_no_trace() {
    let workspace = Workspace::open().await;
    let collector = Collector::open().await;
    let env = env_with(&workspace, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url)]);
    let herald = Process::start("bot", &env).await;
    let unheard = Speech {
        channel: "slack:C0GENERAL".to_owned(),
        text: "nobody is addressed".to_owned(),
        ..Speech::default()
    };
    workspace.world.speak(&unheard).unwrap();
    herald.stop().await;
    let herald = Process::start("serve", &env).await;
    let meta = json!({ "traceparent": format!("00-{TRACE}-{CALLER}-00") });
    let (tool, arguments) = message(SLACK, "not sampled", json!({}));
    let answer = herald.call(&tool, arguments, meta, None).await;
    assert_eq!(answer["result"]["structuredContent"]["status"], "delivered", "{answer}");
    herald.stop().await;
    let names: Vec<_> = collector.spans().into_iter().map(|span| span.name).collect();
    assert_eq!(names, Vec::<String>::new());
}
