//! The database is gone for half a minute, under load, and comes back: nothing that was accepted is lost.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::process::Child;
use tokio::task::JoinSet;

use crate::postgres::{accepted, env, first_seen, run};
use crate::postgres_server::{start, unless_missing};
use crate::recovery::{ANSWER, ELSEWHERE, FAST_FILE, asked, settles, talks, with};
use crate::talking::PLACES;
use crate::world::{Client, EVERY, Workspace, free_port, herald, until};

/// As long as a node takes to go, and its database to come up on another one.
const AWAY: Duration = Duration::from_secs(30);

/// A server of the test's own, which others do not notice.
struct Database {
    url: String,
    tell: ChildStdin,
    told: BufReader<ChildStdout>,
}

impl Database {
    /// `None` where there is no PostgreSQL.
    fn start() -> Option<Self> {
        let (url, tell, told) = unless_missing(start())?;
        Some(Self { url, tell, told })
    }

    /// As a crash does.
    fn stop(&mut self) {
        self.do_it("stop");
    }

    fn start_again(&mut self) {
        self.do_it("start");
    }

    fn do_it(&mut self, word: &str) {
        writeln!(self.tell, "{word}").unwrap();
        let mut done = String::new();
        self.told.read_line(&mut done).unwrap();
        assert_eq!(done.trim(), word);
    }
}

/// A Herald of its own process.
pub struct Herald {
    child: Child,
    pub base: String,
    log: PathBuf,
}

impl Herald {
    pub async fn start(env: &BTreeMap<String, String>, command: &str, directory: &Path) -> Self {
        let (address, file) = (format!("127.0.0.1:{}", free_port()), directory.join("herald.yaml"));
        std::fs::write(&file, FAST_FILE).unwrap();
        let log = directory.join(format!("{command}.log"));
        let child = herald(env)
            .args([command, "--listen", &address, "--config"])
            .arg(file)
            .stderr(Stdio::from(std::fs::File::create(&log).unwrap()))
            .spawn()
            .unwrap();
        let herald = Self { child, base: format!("http://{address}"), log };
        until("it is ready", async || herald.ready().await.is_some_and(|(ok, _)| ok)).await;
        herald
    }

    pub fn client(&self) -> Client {
        let port = self.base.rsplit(':').next().unwrap().parse().unwrap();
        Client::new(([127, 0, 0, 1], port).into())
    }

    /// Whether it is ready, and what it says about it.
    async fn ready(&self) -> Option<(bool, Value)> {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = http.get(format!("{}/readyz", self.base)).send().await.ok()?;
        let ready = answer.status().as_u16() == 200;
        let report: Value = answer.json().await.ok()?;
        let listeners = report["checks"].as_object()?.iter();
        let mut listeners = listeners.filter(|(name, _)| name.ends_with("_listener"));
        let hears = listeners.all(|(_, check)| check["detail"] == "connected");
        Some((ready && hears, report["checks"]["store"].clone()))
    }

    async fn is_not_ready(&self, place: &str) {
        let (ready, store) = self.ready().await.unwrap();
        assert!(!ready, "{store}");
        let detail = store["detail"].as_str().unwrap();
        assert!(detail.contains(place) && detail.contains("see that it runs"), "{detail}");
    }

    /// Ends it as Kubernetes does, and tells what it logged.
    pub async fn terminate(mut self) -> String {
        let pid = self.child.id().unwrap().to_string();
        assert!(
            std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success()
        );
        let ended = tokio::time::timeout(Duration::from_secs(30), self.child.wait()).await;
        assert!(ended.unwrap().unwrap().success(), "it is the process of the beginning");
        std::fs::read_to_string(&self.log).unwrap()
    }
}

/// What became of the calls.
#[derive(Default)]
struct Calls {
    /// The texts that were accepted, by channel.
    accepted: BTreeMap<&'static str, Vec<String>>,
    refused: usize,
}

/// Calls without end, two at once in each channel.
fn call_all_the_time(client: &Client, calls: &Arc<Mutex<Calls>>) -> JoinSet<()> {
    let mut load = JoinSet::new();
    for (n, channel) in EVERY.into_iter().cycle().take(6).enumerate() {
        let (client, calls) = (client.clone(), Arc::clone(calls));
        load.spawn(async move {
            for number in 0.. {
                let text = format!("{n}-{number}");
                let asked = Instant::now();
                let answer = client.send(channel, &text).await;
                assert!(asked.elapsed() < Duration::from_secs(20), "a caller hears in time");
                match answer.content["status"].as_str() {
                    Some("delivered" | "queued") => {
                        let mut calls = calls.lock().unwrap();
                        calls.accepted.entry(channel).or_default().push(text);
                    }
                    _ => {
                        let clear = "Herald cannot store messages right now, so nothing was sent; try again";
                        assert!(answer.failed && answer.text.starts_with(clear), "{}", answer.text);
                        calls.lock().unwrap().refused += 1;
                    }
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
    }
    load
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_gone_for_half_a_minute_loses_nothing() {
    let Some(mut server) = Database::start() else { return };
    let directory = tempfile::tempdir().unwrap();
    let workspace = Workspace::open().await;
    // What is not acknowledged is told again so late that the database is back: Slack's own 60 s would be as good.
    workspace.world.slack_patience(Duration::from_secs(25));
    let env = env(&workspace, &server.url);
    let (serve, bot) = tokio::join!(
        Herald::start(&env, "serve", directory.path()),
        Herald::start(&env, "bot", directory.path())
    );
    let place = server.url.split_once('@').unwrap().1.replace("%2F", "/");
    let calls = Arc::new(Mutex::new(Calls::default()));
    let mut load = call_all_the_time(&serve.client(), &calls);
    let count = || calls.lock().unwrap().accepted.values().map(Vec::len).sum::<usize>();
    until("messages flow", async || count() > 50).await;
    let running = talks(&workspace, &PLACES, "slow 6");
    for talk in &running {
        talk.sees("k8s_get_pods").await;
    }

    server.stop();
    let gone = Instant::now();
    let after = async |seconds| {
        tokio::time::sleep_until((gone + Duration::from_secs(seconds)).into()).await
    };
    after(5).await;
    tokio::join!(serve.is_not_ready(&place), bot.is_not_ready(&place));
    let listed = run(&env, &["outbox", "list"]).await;
    let error = String::from_utf8_lossy(&listed.stderr).into_owned();
    assert_eq!(listed.status.code(), Some(1), "{error}");
    assert!(error.contains(&place) && error.contains("see that it runs"), "{error}");
    after(10).await;
    let unheard = talks(&workspace, &ELSEWHERE, "meanwhile");
    after(28).await;
    tokio::join!(serve.is_not_ready(&place), bot.is_not_ready(&place));
    after(AWAY.as_secs()).await;
    server.start_again();

    let before = count();
    until("messages flow again", async || count() > before + 50).await;
    assert!(load.try_join_next().is_none(), "no call was answered otherwise than it should be");
    load.shutdown().await;
    until("both are ready", async || {
        let (serve, bot) = tokio::join!(serve.ready(), bot.ready());
        [serve, bot].into_iter().all(|ready| ready.is_some_and(|(ok, _)| ok))
    })
    .await;
    for talk in &running {
        talk.sees(ANSWER).await;
        settles(talk).await;
        assert_eq!(with(&talk.shown(), ANSWER).len(), 1, "{:?}", talk.texts());
    }
    assert_eq!(asked(&workspace, "slow 6").len(), PLACES.len(), "each was asked once");
    for talk in &unheard {
        talk.sees("You said: meanwhile").await;
    }
    assert_eq!(asked(&workspace, "meanwhile").len(), ELSEWHERE.len(), "each was asked once");

    let calls = std::mem::take(&mut *calls.lock().unwrap());
    assert!(calls.refused > 20, "{}", calls.refused);
    for (channel, accepted_here) in calls.accepted {
        until("all that was accepted arrived", async || {
            let texts = workspace.texts(channel);
            accepted_here.iter().all(|text| texts.contains(text))
        })
        .await;
        let ours = |text: &String| text.contains('-') && text.len() < 8;
        let texts: Vec<String> = workspace.texts(channel).into_iter().filter(ours).collect();
        let order: Vec<String> = accepted(&env, channel).await.into_iter().filter(ours).collect();
        assert_eq!(first_seen(&texts), order, "{channel}: in the order of acceptance");
        // What was on its way when the database went; Discord recognises it.
        let most = usize::from(!channel.starts_with("discord"));
        assert!(
            texts.len() - order.len() <= most,
            "{channel}: {} twice",
            texts.len() - order.len()
        );
    }
    for log in [serve.terminate().await, bot.terminate().await] {
        let lines = log.lines().filter(|line| line.contains("cannot be reached")).count();
        assert!((1..40).contains(&lines), "{lines} lines about one trouble:\n{log}");
        assert!(log.contains("can be read again"), "{log}");
    }
}
