//! A Herald inside the test's process, and what its `/metrics` says.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use herald::app::{App, Mode, Serves};
use herald::clock::SystemClock;
use herald::config::Config;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::world::{Client, free_port, until};

/// What `/mcp` asks for in these tests.
pub const TOKEN: &str = "only-for-this-test-0123456789";

/// What is sent and said in these tests, and who says it where: none of it is a label's value.
const PRIVATE: [&str; 10] = [
    "C0ALERTS",
    "C0GENERAL",
    "100000000000000001",
    "1001000000001",
    "U0ALICE",
    "alice",
    "morning",
    "delete_pod",
    "make_coffee",
    TOKEN,
];

/// A Herald inside the test's process that is scraped.
pub struct Herald {
    pub client: Client,
    pub scraped: String,
    http: reqwest::Client,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Herald {
    pub async fn start(config: Config, serves: Serves, data: &Path) -> Self {
        Self::patient(config, serves, data, Duration::from_secs(10)).await
    }

    /// One whose callers wait for so long.
    pub async fn patient(mut config: Config, serves: Serves, data: &Path, wait: Duration) -> Self {
        let port = free_port();
        config.metrics_listen = Some(([127, 0, 0, 1], port).into());
        config.mcp.token = Some(TOKEN.into());
        let mode = Mode {
            data_dir: Some(data.to_owned()),
            own_only: false,
            deduplicate: true,
            wait,
            serves,
        };
        let stop = CancellationToken::new();
        let app = App::build(config, mode, Arc::new(SystemClock), stop.clone()).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = Client::new(listener.local_addr().unwrap()).with_token(TOKEN);
        let task = tokio::spawn(app.serve(listener, Router::new()));
        let scraped = format!("http://127.0.0.1:{port}/metrics");
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let herald = Self { client, scraped, http, stop, task };
        until("it can be scraped", async || herald.http.get(&herald.scraped).send().await.is_ok())
            .await;
        herald
    }

    pub async fn get(&self, url: &str) -> reqwest::Response {
        self.http.get(url).send().await.unwrap()
    }

    pub async fn scrape(&self) -> Scrape {
        Scrape(self.get(&self.scraped).await.text().await.unwrap())
    }

    /// Waits until this series has this value, and returns what is there by then.
    pub async fn until(&self, series: &str, value: f64) -> Scrape {
        until(&format!("{series} is {value}"), async || {
            self.scrape().await.series().get(series) == Some(&value)
        })
        .await;
        self.scrape().await
    }

    /// Waits until nothing waits, and returns what is there by then.
    pub async fn idle(&self) -> Scrape {
        until("nothing waits", async || self.scrape().await.sum("herald_queue") == 0.0).await;
        self.scrape().await
    }

    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

/// What `/metrics` said.
pub struct Scrape(String);

impl Scrape {
    pub fn series(&self) -> BTreeMap<&str, f64> {
        let lines = self.0.lines().filter(|line| !line.starts_with('#'));
        lines
            .map(|line| {
                let (series, value) = line.rsplit_once(' ').unwrap();
                (series, value.parse().unwrap())
            })
            .collect()
    }

    /// What was counted: every counter that is not zero, and how often something was timed.
    pub fn counted(&self) -> BTreeMap<String, f64> {
        let name = |series: &str| series.split('{').next().unwrap().to_owned();
        let counted = self.series().into_iter().filter(|(series, value)| {
            let name = name(series);
            let counted = name.ends_with("_total") || name.ends_with("_count");
            // How often the worker looks hangs on the clock.
            *value != 0.0 && counted && !series.contains("access=\"claim\"")
        });
        counted
            .map(|(series, value)| (series.trim_start_matches("herald_").to_owned(), value))
            .collect()
    }

    /// The sum of the series that begin like this.
    pub fn sum(&self, begin: &str) -> f64 {
        let all = self.series().into_iter();
        all.filter(|(series, _)| series.starts_with(begin)).map(|(_, value)| value).sum()
    }

    /// Asserts what holds of each scrape, and keeps it where `HERALD_METRICS_OUT` says: tests/monitoring compares the
    /// dashboard and the alerts with it.
    pub fn keep(&self, name: &str) {
        let Self(text) = self;
        assert!(text.ends_with("# EOF\n"), "{text}");
        for private in PRIVATE {
            assert!(!text.contains(private), "{private} is in\n{text}");
        }
        assert!(self.series().len() < 1_000, "{} series", self.series().len());
        if let Some(directory) = std::env::var_os("HERALD_METRICS_OUT") {
            std::fs::write(Path::new(&directory).join(format!("{name}.txt")), text).unwrap();
        }
    }
}
