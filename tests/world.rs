//! Herald in a world of its own: the sandbox on one port, Herald on another, and an MCP client's view of both.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use herald::app::{App, Mode};
use herald::clock::SystemClock;
use herald::config::Config;
use herald::platform::Pace;
use herald::platform::http::install_crypto_provider;
use herald::sandbox::{Request, Tokens, World};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// No pause between messages: the pace has tests of its own.
pub const FAST: Pace = Pace { interval_ms: 0, burst: 1 };

/// A channel of each platform that Herald may post to.
pub const SLACK: &str = "slack:C0ALERTS";
pub const DISCORD: &str = "discord:100000000000000001";
pub const TELEGRAM: &str = "telegram:-1001000000001";
pub const EVERY: [&str; 3] = [SLACK, DISCORD, TELEGRAM];

/// The chat workspace on a port of its own.
pub struct Workspace {
    pub world: World,
    pub base: String,
    task: JoinHandle<()>,
}

impl Workspace {
    pub async fn open() -> Self {
        Self::with_tokens(Tokens::default()).await
    }

    pub async fn with_tokens(tokens: Tokens) -> Self {
        install_crypto_provider();
        let world = World::with_tokens(Arc::new(SystemClock), tokens);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let router = world.router();
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { world, base, task }
    }

    /// The environment of a Herald that talks to this workspace.
    pub fn env(&self) -> BTreeMap<String, String> {
        self.world.exports(&self.base).into_iter().collect()
    }

    /// The configuration of one, with these variables on top.
    pub fn config(&self, extra: &[(&str, &str)]) -> Config {
        let mut env = self.env();
        env.extend(extra.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let mut config = Config::load(None, &|name| env.get(name).cloned()).unwrap();
        config.slack.pace = Some(FAST);
        config.discord.pace = Some(FAST);
        config.telegram.pace = Some(FAST);
        config.delivery.backoff_ms = 10;
        config.delivery.probe_ms = 100;
        // Tests look again and again; the limit has tests of its own.
        config.mcp.requests_per_minute = Some(0);
        config
    }

    pub fn fault(&self, fault: Value) {
        self.world.fault(serde_json::from_value(fault).unwrap());
    }

    /// The requests that asked to post in a channel.
    pub fn sends(&self, channel: &str) -> Vec<Request> {
        let (platform, id) = channel.split_once(':').unwrap();
        let ours = |request: &Request| {
            let named = request.channel.as_deref().map(|name| name.rsplit(':').next().unwrap());
            let posts = ["chat.postMessage", "create_message", "sendMessage"];
            request.platform.as_str() == platform
                && named == Some(id)
                && posts.contains(&request.method.as_str())
        };
        self.world.requests().into_iter().filter(ours).collect()
    }

    /// The texts that people see in a channel, in order.
    pub fn texts(&self, channel: &str) -> Vec<String> {
        let shown = self.world.messages(channel).into_iter();
        shown.filter(|message| !message.deleted).map(|message| message.text).collect()
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How a Herald in a test differs from an ordinary one.
pub struct Options {
    pub data_dir: Option<PathBuf>,
    pub wait: Duration,
    pub config: Config,
}

/// A Herald that serves HTTP inside the test's process.
pub struct Server {
    pub client: Client,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Server {
    pub async fn start(workspace: &Workspace) -> Self {
        Self::with(Options {
            data_dir: None,
            wait: Duration::from_secs(10),
            config: workspace.config(&[]),
        })
        .await
    }

    pub async fn with(options: Options) -> Self {
        let mode = Mode {
            data_dir: options.data_dir,
            own_only: false,
            deduplicate: true,
            wait: options.wait,
            serves: herald::app::Serves::Mcp,
        };
        let stop = CancellationToken::new();
        let app =
            App::build(options.config, mode, Arc::new(SystemClock), stop.clone()).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = Client::new(listener.local_addr().unwrap());
        let task = tokio::spawn(app.serve(listener, Router::new()));
        Self { client, stop, task }
    }

    /// Stops as SIGTERM does, and waits for the end.
    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

/// An MCP client.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    pub url: String,
    token: String,
}

/// What a tool answered.
#[derive(Debug)]
pub struct Answer {
    pub failed: bool,
    pub text: String,
    pub content: Value,
}

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        install_crypto_provider();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { http, url: format!("http://{address}/mcp"), token: String::new() }
    }

    pub fn with_token(mut self, token: &str) -> Self {
        token.clone_into(&mut self.token);
        self
    }

    pub async fn call(&self, tool: &str, arguments: Value) -> Answer {
        self.try_call(tool, arguments).await.unwrap()
    }

    /// An error is a connection that ended before the answer.
    pub async fn try_call(&self, tool: &str, arguments: Value) -> reqwest::Result<Answer> {
        let body = json!({
            "jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": { "name": tool, "arguments": arguments },
        });
        let answer: Value = self
            .http
            .post(&self.url)
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", "2025-11-25")
            .bearer_auth(&self.token)
            .json(&body)
            .send()
            .await?
            .error_for_status()?
            .json()
            .await?;
        let result = &answer["result"];
        Ok(Answer {
            failed: result["isError"].as_bool().unwrap_or(false),
            text: result["content"][0]["text"].as_str().unwrap_or_default().to_owned(),
            content: result["structuredContent"].clone(),
        })
    }

    /// Sends `text` to one of [`EVERY`] channel.
    pub async fn send(&self, channel: &str, text: &str) -> Answer {
        self.send_with(channel, text, json!({})).await
    }

    pub async fn send_with(&self, channel: &str, text: &str, extra: Value) -> Answer {
        let (tool, arguments) = message(channel, text, extra);
        self.call(&tool, arguments).await
    }
}

/// The tool call that sends `text` to a channel.
pub fn message(channel: &str, text: &str, extra: Value) -> (String, Value) {
    let (platform, id) = channel.split_once(':').unwrap();
    let argument = if platform == "telegram" { "chat_id" } else { "channel_id" };
    let mut arguments = json!({ argument: id, "text": text });
    for (name, value) in extra.as_object().unwrap() {
        arguments[name] = value.clone();
    }
    (format!("send_message_to_{platform}"), arguments)
}

/// The built binary, in a clean environment with these variables.
pub fn herald(env: &BTreeMap<String, String>) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_herald"));
    // A home of its own: nothing of the machine's comes in, nothing is left behind.
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let state = home().join(COUNT.fetch_add(1, Ordering::Relaxed).to_string());
    command.env_clear().env("XDG_STATE_HOME", state).envs(env).kill_on_drop(true);
    command
}

/// A directory for the tests' state, made once.
fn home() -> &'static Path {
    static HOME: std::sync::OnceLock<tempfile::TempDir> = std::sync::OnceLock::new();
    HOME.get_or_init(|| tempfile::tempdir().unwrap()).path()
}

/// Waits until `done`, at most 60 s (or `HERALD_TEST_PATIENCE` seconds): a lane whose process was killed waits 30 s for its lease to run out.
pub async fn until<F: Future<Output = bool>>(what: &str, mut done: impl FnMut() -> F) {
    let patience = std::env::var("HERALD_TEST_PATIENCE").ok().and_then(|s| s.parse().ok());
    let give_up = Instant::now() + Duration::from_secs(patience.unwrap_or(60));
    while !done().await {
        assert!(Instant::now() < give_up, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A loopback port that nobody listens on.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Every file below `directory`, as bytes.
pub fn files(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (path.clone(), std::fs::read(&path).unwrap())).collect()
}
