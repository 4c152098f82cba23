//! What the benchmarks share: a chat workspace, Herald in front of it, callers, and how figures are taken.
//!
//! The machines these run on are noisy, so nothing is compared with another run: what is measured takes turns with what
//! it is compared with, round by round, and the ratio is the median of the rounds' ratios.

pub mod callers;
pub mod process;
pub mod sql;

#[path = "../../tests/postgres_server.rs"]
pub mod postgres;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use herald::app::{App, Mode, Serves};
use herald::clock::SystemClock;
use herald::config::Config;
use herald::platform::http::install_crypto_provider;
use herald::sandbox::{Vendor, World};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How many calls are under way at once.
pub const AT_ONCE: usize = 64;
/// How many channels there are: each call under way has one of its own.
pub const CHANNELS: usize = 64;

/// No pause between messages: what is measured is Herald, not the platforms' limits.
const FILE: &str = "
mcp: {requests_per_minute: 0}
slack: {pace: {interval_ms: 0, burst: 1}, bot_pace: {interval_ms: 0, burst: 1}}
discord: {pace: {interval_ms: 0, burst: 1}, bot_pace: {interval_ms: 0, burst: 1}}
telegram: {pace: {interval_ms: 0, burst: 1}, bot_pace: {interval_ms: 0, burst: 1}}
";

/// The channel number `n`, in turn.
pub fn channel(n: usize) -> String {
    format!("C0BENCH{:02}", n % CHANNELS)
}

/// A chat workspace with many channels, on a port of its own.
pub struct Workspace {
    pub world: World,
    pub base: String,
    directory: TempDir,
}

impl Workspace {
    pub async fn open() -> Self {
        install_crypto_provider();
        let world = World::new(Arc::new(SystemClock));
        (0..CHANNELS).for_each(|n| world.open_channel(Vendor::Slack, &channel(n)));
        let base = serve(world.router()).await;
        let workspace = Self { world, base, directory: on_disk() };
        std::fs::write(workspace.directory.path().join("herald.yaml"), FILE).unwrap();
        workspace
    }

    /// The environment of a Herald that may post to every channel, as fast as it can.
    pub fn env(&self) -> BTreeMap<String, String> {
        let mut env: BTreeMap<_, _> = self.world.exports(&self.base).into_iter().collect();
        let channels: Vec<_> = (0..CHANNELS).map(channel).collect();
        env.insert("SLACK_CHANNEL_IDS".to_owned(), channels.join(","));
        let file = self.directory.path().join("herald.yaml");
        env.insert("HERALD_CONFIG".to_owned(), file.display().to_string());
        env
    }

    pub fn config(&self) -> Config {
        let env = self.env();
        let file = env.get("HERALD_CONFIG").map(Path::new);
        Config::load(file, &|name| env.get(name).cloned()).unwrap()
    }
}

/// A directory on the disk of the build, which is no memory.
pub fn on_disk() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// Serves `routes` on a port of their own.
pub async fn serve(routes: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    base
}

/// Starts a Herald in this process, and returns its base URL.
pub async fn herald(
    config: Config,
    data_dir: Option<&Path>,
    serves: Serves,
    stop: CancellationToken,
) -> String {
    let mode = Mode {
        data_dir: data_dir.map(Path::to_owned),
        own_only: false,
        deduplicate: true,
        wait: Duration::from_secs(10),
        serves,
    };
    let app = App::build(config, mode, Arc::new(SystemClock), stop).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(app.serve(listener, Router::new()));
    base
}

/// The middle one.
pub fn median<T: Copy + PartialOrd>(mut values: Vec<T>) -> T {
    values.sort_by(|a, b| a.partial_cmp(b).unwrap());
    values[values.len() / 2]
}

/// The number after `--name` on the command line, or `otherwise`.
pub fn argument(name: &str, otherwise: usize) -> usize {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1).and_then(|number| number.parse().ok()).unwrap_or(otherwise)
}
