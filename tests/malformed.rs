//! Ten thousand malformed requests to every route at once, with valid load beside it: nothing panics, no bad input is the
//! server's fault, memory stays bounded, connections end, and valid calls are unharmed.

mod nonsense;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use herald::clock::{Clock, SystemClock};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::time::timeout;

use self::nonsense::{Aim, Attempt, Dice, Manner, attempt};
use crate::world::{Client, EVERY, SLACK, Workspace, free_port, herald, until};

const COUNT: usize = 10_000;
const AT_ONCE: usize = 48;
const TOKEN: &str = "only-for-this-test-0123456789";
const SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";

/// What the manifests give the process, in KiB.
const MOST_MEMORY: usize = 256 * 1024;

/// Longer than a body or a head may take.
const PATIENCE: Duration = Duration::from_secs(45);

const FILE: &str = "
mcp: {requests_per_minute: 0}
slack: {pace: {interval_ms: 0, burst: 1}}
discord: {pace: {interval_ms: 0, burst: 1}}
telegram: {pace: {interval_ms: 0, burst: 1}}
";

/// A `herald serve --with-bot` with every route there is.
struct Process {
    child: Child,
    client: Client,
    address: String,
    metrics: String,
    log: PathBuf,
}

impl Process {
    async fn start(workspace: &Workspace, data: &std::path::Path) -> Self {
        let (port, metrics) = (free_port(), free_port());
        let (address, metrics) = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{metrics}"));
        let mut env = workspace.env();
        for (name, value) in [
            ("HERALD_TOKEN", TOKEN),
            ("HERALD_METRICS_LISTEN", &metrics),
            ("SLACK_APP_TOKEN", ""),
            ("SLACK_SIGNING_SECRET", SECRET),
        ] {
            env.insert(name.to_owned(), value.to_owned());
        }
        let (file, log) = (data.join("herald.yaml"), data.join("log"));
        std::fs::write(&file, FILE).unwrap();
        let child = herald(&env)
            .args(["serve", "--with-bot", "--listen", &address, "--data-dir"])
            .arg(data.join("data"))
            .arg("--config")
            .arg(file)
            .stderr(Stdio::from(std::fs::File::create(&log).unwrap()))
            .spawn()
            .unwrap();
        let client = Client::new(address.parse().unwrap()).with_token(TOKEN);
        until("the server answers", || async {
            client.try_call("list_channels", json!({})).await.is_ok()
        })
        .await;
        Self { child, client, address, metrics, log }
    }

    fn proc(&self, file: &str) -> PathBuf {
        format!("/proc/{}/{file}", self.child.id().unwrap()).into()
    }

    /// A line of the process's status, in KiB.
    fn memory(&self, name: &str) -> usize {
        let status = std::fs::read_to_string(self.proc("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// The connections that it has not closed. Its descriptors only root may count.
    fn connections(&self) -> usize {
        let ends = [&self.address, &self.metrics].map(|address| {
            format!(":{:04X}", address.parse::<std::net::SocketAddr>().unwrap().port())
        });
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let open = |line: &&str| {
            let mut fields = line.split_whitespace().skip(1);
            let (local, state) = (fields.next().unwrap(), fields.nth(1).unwrap());
            // Established, and left by the other side alone.
            ends.iter().any(|end| local.ends_with(end)) && ["01", "08"].contains(&state)
        };
        table.lines().skip(1).filter(open).count()
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap()).into_owned()
    }

    /// Makes one attempt, and returns the status of the answer if one came.
    async fn try_it(&self, attempt: &Attempt) -> Result<Option<(u16, String)>, String> {
        let address = if attempt.metrics { &self.metrics } else { &self.address };
        let mut stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        // A refused one may be gone before all of it was sent.
        let sent = timeout(PATIENCE, stream.write_all(&attempt.bytes)).await;
        let _ = sent.map_err(|_| "nobody reads it".to_owned())?;
        match attempt.manner {
            Manner::Leaves => return Ok(None),
            Manner::Stops => drop(stream.shutdown().await),
            Manner::Listens => {}
        }
        let mut bytes = Vec::new();
        let read = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await;
        let _ = read.map_err(|_| format!("it stays open: {}", String::from_utf8_lossy(&bytes)))?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let text = text.trim_start_matches("HTTP/1.1 100 Continue\r\n\r\n");
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
        match (status, attempt.manner) {
            (None, Manner::Listens) => Err(format!("no answer: {text}")),
            (status, _) => Ok(status.map(|status| (status, text.to_owned()))),
        }
    }
}

/// Slack's signature. <https://docs.slack.dev/authentication/verifying-requests-from-slack>
fn signature(secret: &str, time: &str, body: &[u8]) -> String {
    let pad = |with: u8| {
        let mut block = [with; 64];
        block.iter_mut().zip(secret.bytes()).for_each(|(place, byte)| *place ^= byte);
        block
    };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(format!("v0:{time}:"));
    let inner = inner.chain_update(body).finalize();
    let outer = Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize();
    let hex: String = outer.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("v0={hex}")
}

/// Whether a server's error is the machine's slowness: a readiness check has 2 s.
fn slow(attempt: &Attempt, text: &str) -> bool {
    attempt.path == "/readyz" && text.contains("the checks take too long")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_malformed_requests_harm_nobody() {
    let seed = std::env::var("HERALD_MALFORMED_SEED").ok().and_then(|seed| seed.parse().ok());
    // The same on each run, unless somebody looks for news.
    let seed = seed.unwrap_or(1);
    eprintln!("HERALD_MALFORMED_SEED={seed}");
    let workspace = Workspace::open().await;
    let data = tempfile::tempdir().unwrap();
    let process = Process::start(&workspace, data.path()).await;
    let aim = Aim { token: TOKEN, secret: SECRET, now: SystemClock.now().0 / 1000 };
    let mut dice = Dice(seed);
    let attempts: Vec<Attempt> = (0..COUNT).map(|_| attempt(&mut dice, &aim)).collect();
    let connections = process.connections();

    let (next, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let answers = Mutex::new(BTreeMap::<(String, u16), usize>::new());
    let halfway = AtomicUsize::new(0);
    let attack = async {
        let one_by_one = async || {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                let Some(attempt) = attempts.get(n) else { break };
                if n == COUNT / 2 {
                    halfway.store(process.memory("VmHWM"), Ordering::Relaxed);
                }
                let shown = || {
                    String::from_utf8_lossy(attempt.bytes.get(..2000).unwrap_or(&attempt.bytes))
                        .into_owned()
                };
                let answer = process.try_it(attempt).await;
                let answer = answer
                    .unwrap_or_else(|why| panic!("seed {seed}, request {n}: {why}\n{}", shown()));
                if let Some((status, text)) = answer {
                    let fine = status < 500 || slow(attempt, &text);
                    assert!(fine, "seed {seed}, request {n}: {text}\nanswered\n{}", shown());
                    *answers.lock().unwrap().entry((attempt.path.clone(), status)).or_default() +=
                        1;
                }
            }
        };
        futures_util::future::join_all((0..AT_ONCE).map(|_| one_by_one())).await;
        over.store(true, Ordering::Relaxed);
    };
    let valid = async |channel: &str| {
        let mut sent = 0;
        while !over.load(Ordering::Relaxed) || sent == 0 {
            let answer = process.client.try_call("list_channels", json!({})).await;
            let answer = answer.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            assert!(!answer.failed, "seed {seed}: {answer:?}");
            let answer = process.client.send(channel, &format!("valid {sent}")).await;
            let status = answer.content["status"].as_str().unwrap_or_default().to_owned();
            assert!(status == "delivered" || status == "queued", "seed {seed}: {answer:?}");
            sent += 1;
        }
        sent
    };
    let ((), sent) = tokio::join!(attack, futures_util::future::join_all(EVERY.map(valid)));

    let answers = answers.into_inner().unwrap();
    let mut statuses = BTreeMap::<u16, usize>::new();
    answers.iter().for_each(|((_, status), count)| *statuses.entry(*status).or_default() += count);
    eprintln!("{sent:?} valid messages beside {statuses:?}");
    // It got far: what is refused at each door was there, and what passes all of them.
    for status in [200, 400, 401, 403, 404, 405, 406, 413, 415, 431] {
        assert!(statuses.contains_key(&status), "seed {seed}: nothing was answered {status}");
    }
    until("all valid messages are there", async || {
        EVERY.iter().zip(&sent).all(|(channel, sent)| {
            let mut seen = workspace.texts(channel);
            seen.retain(|text| text.starts_with("valid "));
            seen == (0..*sent).map(|n| format!("valid {n}")).collect::<Vec<_>>()
        })
    })
    .await;
    let most = process.memory("VmHWM");
    let halfway = halfway.into_inner();
    eprintln!("memory: {halfway} KiB halfway, {most} KiB at most");
    assert!(most < MOST_MEMORY, "seed {seed}: {most} KiB");
    assert!(most < halfway + halfway / 4, "seed {seed}: it grows, {halfway} to {most} KiB");
    until("every connection has ended", async || process.connections() <= connections + 8).await;
    let log = process.log();
    assert!(!log.contains("panicked"), "seed {seed}: {log}");

    let address = &process.address;
    let ready = reqwest::get(format!("http://{address}/readyz")).await.unwrap();
    assert_eq!(ready.status(), 200);
    assert_eq!(process.client.send(SLACK, "as before").await.content["status"], "delivered");
    let metrics = reqwest::get(format!("http://{}/metrics", process.metrics)).await.unwrap();
    let metrics = metrics.text().await.unwrap();
    for why in ["bad_head", "too_large", "broken", "guessing"] {
        let counted =
            |line: &str| line.contains(&format!("why=\"{why}\"")) && !line.ends_with(" 0");
        assert!(metrics.lines().any(counted), "{why} was not counted");
    }
    drop(process.child);
}
