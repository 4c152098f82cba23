//! Who calls: an agent over HTTP or stdio, and somebody who does without Herald.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin};
use tokio::sync::{Mutex as Turns, oneshot};

use super::process::command;
use super::{AT_ONCE, Workspace, channel, median, serve};

/// Sends one message a call, and returns once the platform has confirmed it.
pub enum Caller {
    Http(Http),
    Stdio(Box<Pipes>),
    Bare(Bare),
}

impl Caller {
    /// Sends message `n` to its channel.
    pub async fn send(&self, n: usize) {
        match self {
            Self::Http(http) => http.send(n).await,
            Self::Stdio(stdio) => stdio.send(n).await,
            Self::Bare(bare) => bare.send(n).await,
        }
    }

    /// One message after the other: the median of what each took.
    pub async fn one_by_one(&self, numbers: std::ops::Range<usize>) -> Duration {
        let mut took = Vec::with_capacity(numbers.len());
        for n in numbers {
            let since = Instant::now();
            self.send(n).await;
            took.push(since.elapsed());
        }
        median(took)
    }

    /// [`AT_ONCE`] messages at a time: what all of them took.
    pub async fn at_once(&self, numbers: std::ops::Range<usize>) -> Duration {
        let since = Instant::now();
        stream::iter(numbers).for_each_concurrent(AT_ONCE, |n| self.send(n)).await;
        since.elapsed()
    }
}

/// A tool call. No two texts are the same, because those would be one delivery.
fn call(n: usize) -> Value {
    let text = format!(
        "**Rollout {n}** of `checkout` to *eu-west-1* is done: 12 of 12 pods are ready.\n\n\
         - error rate 0.02 %, as before\n- p95 latency 182 ms, was 210 ms\n- no restarts\n\n\
         The [dashboard](https://grafana.example.com/d/checkout?orgId=1) has the rest. \
         Nothing is left to do; the previous version stays for an hour."
    );
    json!({
        "jsonrpc": "2.0", "id": n, "method": "tools/call",
        "params": { "name": "send_message_to_slack", "arguments": { "channel_id": channel(n), "text": text } },
    })
}

fn must_be_delivered(answer: &Value) {
    let status = &answer["result"]["structuredContent"]["status"];
    assert_eq!(status, "delivered", "{answer}");
}

/// An MCP client over streamable HTTP.
pub struct Http {
    client: reqwest::Client,
    url: String,
}

impl Http {
    pub fn new(base: &str) -> Self {
        Self { client: client(), url: format!("{base}/mcp") }
    }

    async fn send(&self, n: usize) {
        let request = self
            .client
            .post(&self.url)
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", "2025-11-25")
            .json(&call(n));
        must_be_delivered(&request.send().await.unwrap().json().await.unwrap());
    }
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Value>>>>;

/// An MCP client on the pipes of a `herald stdio`.
pub struct Pipes {
    _child: Child,
    stdin: Turns<ChildStdin>,
    waiting: Waiting,
}

impl Pipes {
    /// Starts the process and says hello.
    pub async fn start(env: &BTreeMap<String, String>, data_dir: Option<&Path>) -> Self {
        let mut command = command(env);
        command.arg("stdio");
        if let Some(directory) = data_dir {
            command.arg("--data-dir").arg(directory);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let waiting = Waiting::default();
        let answers = Arc::clone(&waiting);
        tokio::spawn(async move {
            let mut lines = BufReader::new(stdout).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let answer: Value = serde_json::from_str(&line).unwrap();
                let asked =
                    answer["id"].as_u64().and_then(|id| answers.lock().unwrap().remove(&id));
                if let Some(asked) = asked {
                    let _ = asked.send(answer);
                }
            }
        });
        let stdio = Self { _child: child, stdin: Turns::new(stdin), waiting };
        let hello = json!({
            "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "bench", "version": "0" },
        });
        stdio.request(0, "initialize", hello).await;
        stdio.write(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
        stdio
    }

    /// Asks, and waits for the answer.
    pub async fn request(&self, id: u64, method: &str, params: Value) -> Value {
        self.ask(id, json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }))
            .await
    }

    async fn send(&self, n: usize) {
        must_be_delivered(&self.ask(n as u64, call(n)).await);
    }

    async fn ask(&self, id: u64, request: Value) -> Value {
        let (asked, answer) = oneshot::channel();
        self.waiting.lock().unwrap().insert(id, asked);
        self.write(&request).await;
        answer.await.unwrap()
    }

    async fn write(&self, message: &Value) {
        let line = format!("{message}\n");
        self.stdin.lock().await.write_all(line.as_bytes()).await.unwrap();
    }
}

/// A client of a bare axum handler that forwards what it gets to the platform.
pub struct Bare {
    client: reqwest::Client,
    url: String,
    /// A request as Herald made it.
    payload: Value,
}

/// What the handler forwards with.
#[derive(Clone)]
struct Forwarder {
    client: reqwest::Client,
    url: String,
    token: String,
}

impl Bare {
    /// Starts the handler. `herald` sends one message first, to see what it asks of the platform.
    pub async fn start(workspace: &Workspace, herald: &Caller, n: usize) -> Self {
        herald.send(n).await;
        let seen = workspace.world.messages(&format!("slack:{}", channel(n)));
        let env = workspace.env();
        let forwarder = Forwarder {
            client: client(),
            url: format!("{}/chat.postMessage", env["SLACK_API_URL"]),
            token: env["SLACK_BOT_TOKEN"].clone(),
        };
        let url = serve(Router::new().route("/", post(forward)).with_state(forwarder)).await;
        Self { client: client(), url, payload: seen.last().unwrap().payload.clone() }
    }

    async fn send(&self, n: usize) {
        let mut payload = self.payload.clone();
        payload["channel"] = channel(n).into();
        let request = self.client.post(&self.url).json(&payload);
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        assert_eq!(answer["ok"], true, "{answer}");
    }
}

async fn forward(State(to): State<Forwarder>, Json(message): Json<Value>) -> Json<Value> {
    let request = to.client.post(&to.url).bearer_auth(&to.token).json(&message);
    Json(request.send().await.unwrap().json().await.unwrap())
}
