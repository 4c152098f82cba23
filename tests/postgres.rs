//! Several Heralds on one PostgreSQL database.

use std::collections::BTreeMap;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, UnixStream};
use tokio::process::Child;
use tokio::task::JoinSet;

use crate::postgres_server::schema;
use crate::world::{Client, EVERY, SLACK, Workspace, free_port, herald, until};

/// The environment of a Herald in this workspace that stores in this database.
fn env(workspace: &Workspace, url: &str) -> BTreeMap<String, String> {
    let mut env = workspace.env();
    env.insert("HERALD_DATABASE_URL".to_owned(), url.to_owned());
    env
}

/// A `herald serve` of its own process.
struct Replica {
    child: Child,
    client: Client,
    address: String,
}

impl Replica {
    /// `interval_ms` between two messages in a channel.
    async fn start(env: &BTreeMap<String, String>, interval_ms: u32) -> Self {
        let pace = format!("{{pace: {{interval_ms: {interval_ms}, burst: 1}}}}");
        let file = tempfile::NamedTempFile::new().unwrap();
        let settings = format!(
            "slack: {pace}\ndiscord: {pace}\ntelegram: {pace}\ndelivery: {{backoff_ms: 20, probe_ms: 200}}"
        );
        std::fs::write(&file, settings).unwrap();
        let port = free_port();
        let address = format!("127.0.0.1:{port}");
        let child = herald(env)
            .args(["serve", "--listen", &address, "--config"])
            .arg(file.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let client = Client::new(([127, 0, 0, 1], port).into());
        until("the server answers", || async {
            client.try_call("get_delivery", json!({ "delivery_id": "" })).await.is_ok()
        })
        .await;
        Self { child, client, address }
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().unwrap().to_string();
        assert!(
            std::process::Command::new("kill").args([signal, &pid]).status().unwrap().success()
        );
    }

    async fn ready(&self) -> (u16, String) {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = http.get(format!("http://{}/readyz", self.address)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }
}

async fn run(env: &BTreeMap<String, String>, arguments: &[&str]) -> Output {
    herald(env).args(arguments).output().await.unwrap()
}

/// The texts that were accepted for a channel, in that order.
async fn accepted(env: &BTreeMap<String, String>, channel: &str) -> Vec<String> {
    let listed = run(env, &["outbox", "list", "--most", "1000", "-o", "json"]).await;
    let deliveries: Vec<Value> = serde_json::from_slice(&listed.stdout).unwrap();
    let here = deliveries.iter().rev().filter(|delivery| delivery["channel"] == channel);
    here.map(|it| it["steps"][0]["part"]["plain"].as_str().unwrap().to_owned()).collect()
}

fn first_seen(texts: &[String]) -> Vec<String> {
    let mut seen = Vec::new();
    for text in texts {
        if !seen.contains(text) {
            seen.push(text.clone());
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_share_a_database() {
    let Some(url) = schema() else { return };
    let workspace = Workspace::open().await;
    let env = env(&workspace, &url);
    let (a, b) = tokio::join!(Replica::start(&env, 0), Replica::start(&env, 0));
    let calls = (0..90).map(|n| {
        let client = if n % 2 == 0 { a.client.clone() } else { b.client.clone() };
        async move { client.send(EVERY[n % 3], &format!("{n}")).await.content["status"].clone() }
    });
    let answers = futures_util::future::join_all(calls).await;
    assert!(answers.iter().all(|status| status == "delivered"), "{answers:?}");
    for channel in EVERY {
        let order = accepted(&env, channel).await;
        assert_eq!(order.len(), 30);
        assert_eq!(
            workspace.texts(channel),
            order,
            "{channel}: each once, in the order of acceptance"
        );
    }
    let extra = json!({ "idempotency_key": "one" });
    let (first, second) = tokio::join!(
        a.client.send_with(SLACK, "once", extra.clone()),
        b.client.send_with(SLACK, "once", extra)
    );
    assert_eq!(first.content["delivery_id"], second.content["delivery_id"]);
    assert_ne!(first.content["deduplicated"], second.content["deduplicated"]);
    assert_eq!(workspace.texts(SLACK).iter().filter(|text| *text == "once").count(), 1);

    assert_eq!(a.ready().await.0, 200);
    let check = run(&env, &["check", "-o", "json"]).await;
    let findings: Vec<Value> = serde_json::from_slice(&check.stdout).unwrap();
    let store = findings.iter().find(|finding| finding["what"] == "store").unwrap();
    assert_eq!(store["ok"], true);
    assert!(store["detail"].as_str().unwrap().starts_with("PostgreSQL at "), "{store}");
    // `herald send` is a replica for a moment.
    let sent = run(&env, &["send", SLACK, "from the shell"]).await;
    assert!(sent.status.success(), "{sent:?}");
    assert!(workspace.texts(SLACK).contains(&"from the shell".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_share_the_pace_of_a_channel() {
    const PACE: u32 = 400;
    let Some(url) = schema() else { return };
    let workspace = Workspace::open().await;
    let env = env(&workspace, &url);
    let (a, b) = tokio::join!(Replica::start(&env, PACE), Replica::start(&env, PACE));
    let calls = (0..8).map(|n| {
        let client = if n % 2 == 0 { a.client.clone() } else { b.client.clone() };
        async move { client.send(SLACK, &format!("{n}")).await.content["status"].clone() }
    });
    let answers = futures_util::future::join_all(calls).await;
    assert!(answers.iter().all(|status| status == "delivered"), "{answers:?}");
    let times: Vec<i64> = workspace.sends(SLACK).iter().map(|send| send.received_at.0).collect();
    assert_eq!(times.len(), 8);
    // Each is claimed at its time; what comes between claim and arrival differs a little from one to the next.
    assert!(times[7] - times[0] >= i64::from(7 * PACE) - 200, "{times:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_replica_accepted_another_one_sends() {
    const COUNT: usize = 60;
    let Some(url) = schema() else { return };
    let workspace = Workspace::open().await;
    for channel in EVERY {
        let (platform, id) = channel.split_once(':').unwrap();
        let slow = json!({ "platform": platform, "channel": id, "kind": "slow", "millis": 3000 });
        workspace.fault(slow);
    }
    let env = env(&workspace, &url);
    let (mut a, b) = tokio::join!(Replica::start(&env, 0), Replica::start(&env, 0));
    for n in 0..COUNT {
        let client = a.client.clone();
        tokio::spawn(async move {
            let (tool, arguments) = crate::world::message(EVERY[n % 3], &format!("{n}"), json!({}));
            // It is killed before it answers.
            let _ = client.try_call(&tool, arguments).await;
        });
    }
    until("everything is accepted", async || {
        let mut count = 0;
        for channel in EVERY {
            count += accepted(&env, channel).await.len();
        }
        count == COUNT
    })
    .await;
    until("some arrived", async || EVERY.iter().any(|it| workspace.texts(it).len() > 1)).await;
    a.signal("-KILL");
    a.child.wait().await.unwrap();
    until("everything arrived", async || {
        EVERY.iter().map(|it| first_seen(&workspace.texts(it)).len()).sum::<usize>() == COUNT
    })
    .await;
    for channel in EVERY {
        let texts = workspace.texts(channel);
        assert_eq!(first_seen(&texts), accepted(&env, channel).await, "{channel} is out of order");
        let most = usize::from(!channel.starts_with("discord"));
        assert!(texts.len() - COUNT / 3 <= most, "{channel}: {texts:?}");
    }
    assert_eq!(b.client.send(SLACK, "and on").await.content["status"], "delivered");
}

/// Between Herald and the database: a port that can be closed for a while.
struct Gate {
    port: u16,
    open: Arc<AtomicBool>,
    _task: JoinSet<()>,
}

impl Gate {
    /// Before the server whose socket is in the directory that `url` names.
    async fn before(url: &str) -> (Self, String) {
        let rest = url.strip_prefix("postgres://herald@").unwrap();
        let (directory, database) = rest.split_once('/').unwrap();
        let socket = format!("{}/.s.PGSQL.5432", directory.replace("%2F", "/"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let open = Arc::new(AtomicBool::new(true));
        let (mut task, is_open) = (JoinSet::new(), Arc::clone(&open));
        task.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let (socket, is_open) = (socket.clone(), Arc::clone(&is_open));
                if !is_open.load(Ordering::SeqCst) {
                    continue;
                }
                connections.spawn(async move {
                    let mut server = UnixStream::connect(socket).await.unwrap();
                    let closed = async {
                        while is_open.load(Ordering::SeqCst) {
                            tokio::time::sleep(Duration::from_millis(10)).await;
                        }
                    };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        () = closed => {}
                    }
                });
            }
        });
        let through = format!("postgres://herald:canaryDATABASE8@127.0.0.1:{port}/{database}");
        (Self { port, open, _task: task }, through)
    }

    fn set(&self, open: bool) {
        self.open.store(open, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_away_for_a_while_loses_nothing_and_shows_no_secret() {
    let Some(url) = schema().filter(|url| url.starts_with("postgres://herald@%2F")) else { return };
    let workspace = Workspace::open().await;
    let (gate, through) = Gate::before(&url).await;
    let mut env = env(&workspace, &through);
    env.insert("HERALD_LOG".to_owned(), "trace".to_owned());
    let mut replica = Replica::start(&env, 0).await;
    let (mut out, mut log) =
        (replica.child.stdout.take().unwrap(), replica.child.stderr.take().unwrap());
    let read = tokio::spawn(async move {
        let mut all = Vec::new();
        let mut printed = Vec::new();
        let _ = tokio::join!(log.read_to_end(&mut all), out.read_to_end(&mut printed));
        all.extend(printed);
        String::from_utf8_lossy(&all).into_owned()
    });
    let mut arrived = Vec::new();
    let mut refused = 0;
    let started = Instant::now();
    let mut n = 0;
    while refused < 3 || !gate.open.load(Ordering::SeqCst) || arrived.len() < 20 {
        // Away from the second to the ninth second.
        gate.set(!(2..9).contains(&started.elapsed().as_secs()));
        let text = format!("{n}");
        n += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
        let asked = Instant::now();
        let answers = futures_util::future::join_all(
            EVERY.map(|channel| replica.client.send(channel, &text)),
        )
        .await;
        for answer in answers {
            match answer.content["status"].as_str() {
                Some("delivered" | "queued") => arrived.push(text.clone()),
                _ => {
                    let clear = "Herald cannot store messages right now";
                    assert!(answer.text.starts_with(clear), "{}", answer.text);
                    refused += 1;
                }
            }
        }
        assert!(asked.elapsed() < Duration::from_secs(20), "a caller hears in time");
        if (4..7).contains(&started.elapsed().as_secs()) {
            let (status, why) = replica.ready().await;
            assert_eq!(status, 503, "{why}");
            assert!(why.contains(&format!("127.0.0.1:{}", gate.port)), "{why}");
        }
        assert!(started.elapsed() < Duration::from_secs(50), "{} {refused}", arrived.len());
    }
    until("all that was accepted arrived", async || {
        let seen: Vec<Vec<String>> = EVERY.iter().map(|it| workspace.texts(it)).collect();
        seen.iter().map(|texts| first_seen(texts).len()).sum::<usize>() >= arrived.len()
    })
    .await;
    assert_eq!(replica.ready().await.0, 200);
    for arguments in [&["outbox", "list"][..], &["check"]] {
        let output = run(&env, arguments).await;
        let said = [output.stdout, output.stderr].concat();
        assert!(!String::from_utf8_lossy(&said).contains("canary"), "{arguments:?}");
    }
    replica.signal("-TERM");
    assert!(replica.child.wait().await.unwrap().success());
    let log = read.await.unwrap();
    assert!(log.len() > 10_000, "trace level should say a lot");
    assert!(!log.contains("canaryDATABASE8"), "the password shows in the log");
}

#[tokio::test]
async fn what_is_wrong_with_the_database_is_said_in_a_line() {
    let workspace = Workspace::open().await;
    let port = free_port();
    let away = format!("postgres://ada:canary@127.0.0.1:{port}/chat");
    let named = format!("127.0.0.1:{port}/chat");
    let cases: [(&str, &[&str], i32, &str); 3] = [
        ("postgres://ada:canary@db:canary/chat", &["outbox", "list"], 2, "HERALD_DATABASE_URL"),
        (&away, &["outbox", "list"], 1, &named),
        (&away, &["--database-url", "mysql://canary", "outbox", "list"], 2, "HERALD_DATABASE_URL"),
    ];
    for (url, arguments, code, words) in cases {
        let output = run(&env(&workspace, url), arguments).await;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{error}");
        assert!(error.lines().last().unwrap().contains(words), "{error}");
        assert!(!error.contains("canary"), "{error}");
    }
}
