//! What people asked is answered once: over kills, restarts and two processes on one data directory.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use herald::model::DeliveryState;
use herald::sandbox::{AgentRequest, Message, Speech};
use herald::store::sqlite::Sqlite;
use herald::store::{Filter, Outbox};
use serde_json::Value;
use tokio::process::Child;

use crate::postgres_server::schema;
use crate::talking::{PLACES, Place, Talk};
use crate::world::{Workspace, free_port, herald, until};

/// Other conversations than those of [`PLACES`], one on each platform.
pub const ELSEWHERE: [Place; 3] = [
    Place { channel: "slack:C0ALERTS", mention: "<@U0HERALD> " },
    Place { channel: "discord:400000000000000001", mention: "" },
    Place { channel: "telegram:-1001000000001", mention: "@herald_sandbox_bot " },
];

/// Settings without pauses between messages, and with quick retries.
pub const FAST_FILE: &str = "
mcp: {requests_per_minute: 0}
slack: {pace: {interval_ms: 0, burst: 1}}
discord: {pace: {interval_ms: 0, burst: 1}}
telegram: {pace: {interval_ms: 0, burst: 1}}
delivery: {backoff_ms: 20, probe_ms: 200}
bot: {messages_per_minute: 100000}
";

/// A file in a test's directory: the URL of the database that its processes use instead of the directory.
const DATABASE: &str = "database-url";

/// A directory whose processes share a PostgreSQL database; `None` where there is no server.
pub fn on_postgres() -> Option<tempfile::TempDir> {
    let url = schema()?;
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join(DATABASE), url).unwrap();
    Some(data)
}

/// What the agent's `slow` says at last.
pub const ANSWER: &str = "api-0 runs";

/// A `herald bot` of its own process.
pub struct Process {
    child: Child,
    base: String,
    http: reqwest::Client,
}

impl Process {
    /// Starts one that is the only one, and waits until it listens everywhere.
    pub async fn alone(workspace: &Workspace, data: &Path) -> Self {
        let process = Self::start(workspace, data, &[]).await;
        process.listens().await;
        process
    }

    pub async fn start(workspace: &Workspace, data: &Path, extra: &[(&str, &str)]) -> Self {
        let port = free_port();
        let file = data.join("herald.yaml");
        std::fs::write(&file, FAST_FILE).unwrap();
        let log = std::fs::File::create(data.join(format!("{port}.log"))).unwrap();
        let mut env = workspace.env();
        let database = data.join(DATABASE);
        if database.exists() {
            let file = database.display().to_string();
            env.insert("HERALD_DATABASE_URL_FILE".to_owned(), file);
        }
        let child = herald(&env)
            .envs(extra.iter().copied())
            .arg("bot")
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .arg("--data-dir")
            .arg(data.join("data"))
            .arg("--config")
            .arg(file)
            .stderr(Stdio::from(log))
            .spawn()
            .unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let process = Self { child, base: format!("http://127.0.0.1:{port}"), http };
        until("the process answers", async || process.standings().await.is_some()).await;
        process
    }

    /// How each platform's listener stands.
    async fn standings(&self) -> Option<Vec<String>> {
        let answer = self.http.get(format!("{}/readyz", self.base)).send().await.ok()?;
        let report: Value = answer.json().await.ok()?;
        let checks = report["checks"].as_object()?.iter();
        let listeners = checks.filter(|(name, _)| name.ends_with("_listener"));
        Some(listeners.map(|(_, check)| check["detail"].as_str().unwrap().to_owned()).collect())
    }

    pub async fn listens(&self) {
        until("every listener is connected", async || {
            self.standings().await.is_some_and(|all| all.iter().all(|it| it == "connected"))
        })
        .await;
    }

    /// Slack lets several listen; the others have one.
    pub async fn stands_by(&self) {
        until("another process listens to two of the platforms", async || {
            let standings = self.standings().await.unwrap_or_default();
            standings.iter().filter(|it| *it == "another process listens").count() == 2
        })
        .await;
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().unwrap().to_string();
        let sent = std::process::Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(sent.success());
    }

    pub async fn kill(mut self) {
        self.signal("-KILL");
        self.child.wait().await.unwrap();
    }

    /// Ends it as Kubernetes does, and tells how long it took.
    pub async fn terminate(mut self) -> Duration {
        let started = Instant::now();
        self.signal("-TERM");
        let ended = tokio::time::timeout(Duration::from_secs(30), self.child.wait()).await;
        assert!(ended.unwrap().unwrap().success());
        started.elapsed()
    }
}

/// The requests that asked the agent something with `text` in it.
pub fn asked(workspace: &Workspace, text: &str) -> Vec<AgentRequest> {
    let asks = |method: &str| method == "message/stream" || method == "SendStreamingMessage";
    let requests = workspace.world.agent_requests().into_iter();
    requests.filter(|request| asks(&request.method) && request.text.contains(text)).collect()
}

pub fn talks<'w>(workspace: &'w Workspace, places: &[Place], text: &str) -> Vec<Talk<'w>> {
    let start = |place: &Place| {
        let mut talk = Talk::new(workspace, *place);
        talk.says(text);
        talk
    };
    places.iter().map(start).collect()
}

pub fn with<'m>(shown: &'m [Message], text: &str) -> Vec<&'m Message> {
    shown.iter().filter(|message| message.text.contains(text)).collect()
}

/// Waits until nothing in the conversation looks as if it were in progress.
pub async fn settles(talk: &Talk<'_>) {
    let what = format!("nothing is in progress in {:?}", talk.texts());
    until(&what, async || {
        let open = |message: &Message| {
            message.text.contains("Working on it")
                || message.buttons.iter().flatten().any(|button| button.label == "Cancel")
        };
        !talk.shown().iter().any(open)
    })
    .await;
}

async fn nothing_is_on_its_way(data: &Path) {
    let outbox = Sqlite::open(&data.join("data")).await.unwrap();
    let states = vec![DeliveryState::Queued, DeliveryState::Sending];
    let open = Filter { states, most: 1, ..Filter::default() };
    until("nothing is on its way", async || outbox.list(&open).await.unwrap().is_empty()).await;
    outbox.close().await;
}

/// Whatever was still to be said comes before the answer to what is asked now.
pub async fn goes_on(talk: &mut Talk<'_>, text: &str) {
    talk.says(text);
    talk.sees(&format!("You said: {text}")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_during_a_turn_loses_no_answer_and_asks_nothing_twice() {
    let workspace = Workspace::open().await;
    let data = tempfile::tempdir().unwrap();
    let process = Process::alone(&workspace, data.path()).await;
    let mut running = talks(&workspace, &PLACES, "slow 8");
    for talk in &running {
        talk.sees("k8s_get_pods").await;
    }
    // From now on nobody learns what became of a message.
    workspace.world.agent_mute(true);
    let mut unheard = talks(&workspace, &ELSEWHERE, "remember the tea");
    until("the agent has it", async || asked(&workspace, "tea").len() == ELSEWHERE.len()).await;
    // A message whose sending is interrupted may stand there twice, and nobody knows of the first one.
    for talk in &unheard {
        talk.sees("Working on it").await;
    }
    nothing_is_on_its_way(data.path()).await;
    process.kill().await;
    workspace.world.agent_mute(false);

    let _process = Process::start(&workspace, data.path(), &[]).await;
    for talk in &mut running {
        talk.sees(ANSWER).await;
        settles(talk).await;
        goes_on(talk, "good morning").await;
        assert_eq!(with(&talk.shown(), ANSWER).len(), 1, "{:?}", talk.texts());
    }
    assert_eq!(asked(&workspace, "slow 8").len(), PLACES.len(), "each was asked once");

    for talk in &unheard {
        talk.sees("It may have received your message").await;
        settles(talk).await;
    }
    assert_eq!(asked(&workspace, "tea").len(), ELSEWHERE.len(), "never again by itself");
    for talk in &mut unheard {
        talk.presses("alice", "Ask again").await;
        talk.sees("I will remember: the tea").await;
        settles(talk).await;
        goes_on(talk, "good morning").await;
        let shown = talk.shown();
        assert_eq!(with(&shown, "may have received").len(), 1, "{:?}", talk.texts());
        assert_eq!(with(&shown, "I will remember").len(), 1, "{:?}", talk.texts());
    }
    assert_eq!(asked(&workspace, "tea").len(), 2 * ELSEWHERE.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_while_an_approval_waits_leaves_its_buttons_working() {
    buttons_outlive_a_kill(tempfile::tempdir().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_while_an_approval_waits_leaves_its_buttons_working_on_postgres() {
    if let Some(data) = on_postgres() {
        buttons_outlive_a_kill(data).await;
    }
}

async fn buttons_outlive_a_kill(data: tempfile::TempDir) {
    let workspace = Workspace::open().await;
    let process = Process::alone(&workspace, data.path()).await;
    let mut talks = talks(&workspace, &PLACES, "approve two");
    for talk in &talks {
        talk.presses("alice", "Approve k8s_delete_pod").await;
        talk.sees("approved by alice").await;
    }
    process.kill().await;

    let process = Process::alone(&workspace, data.path()).await;
    for talk in &talks {
        let card = talk.sees("approved by alice").await;
        talk.presses("alice", "Reject k8s_scale").await;
        let decided = talk.sees("rejected by alice").await;
        assert_eq!(decided.id, card.id, "the card tells");
        assert!(decided.text.to_lowercase().contains("approved by alice"), "{}", decided.text);
        until("the card has no buttons", async || {
            let card = talk.shown().into_iter().find(|message| message.id == card.id);
            card.is_some_and(|card| card.buttons.is_empty())
        })
        .await;
    }
    let decided = || {
        let requests = workspace.world.agent_requests().into_iter();
        requests.filter(|request| !request.decisions.is_empty()).collect::<Vec<_>>()
    };
    until("the agent has every decision", async || decided().len() >= PLACES.len()).await;
    for talk in &mut talks {
        settles(talk).await;
        goes_on(talk, "good morning").await;
    }
    let decisions = decided();
    assert_eq!(decisions.len(), PLACES.len(), "each was passed on once");
    for request in decisions {
        let mut verdicts: Vec<bool> = request.decisions.into_values().collect();
        verdicts.sort_unstable();
        assert_eq!(verdicts, [false, true], "every tool's ID is answered");
    }
    process.terminate().await;
}

/// How often Discord was asked for a session.
pub fn sessions(workspace: &Workspace) -> usize {
    let requests = workspace.world.requests().into_iter();
    requests.filter(|request| request.method == "gateway.identify").count()
}

/// No process was told that another one polls. (A process that ends gives its own last poll up by another one.)
pub fn nobody_quarrels(data: &Path) {
    for entry in std::fs::read_dir(data).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|it| it != "log") {
            continue;
        }
        let log = std::fs::read_to_string(&path).unwrap();
        let quarrel = log.lines().find(|line| line.contains("Telegram is not heard"));
        assert_eq!(quarrel, None, "{}", path.display());
    }
}

async fn answered_once(workspace: &Workspace, talks: &mut [Talk<'_>], text: &str) {
    for talk in &mut *talks {
        talk.sees(&format!("You said: {text}")).await;
        settles(talk).await;
        assert_eq!(
            with(&talk.shown(), &format!("You said: {text}")).len(),
            1,
            "{:?}",
            talk.texts()
        );
    }
    assert_eq!(asked(workspace, text).len(), talks.len(), "{text}");
}

fn everybody_says(talks: &mut [Talk<'_>], text: &str) {
    for talk in talks {
        talk.says(text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_processes_one_listens_and_the_other_takes_over() {
    one_listens_and_the_other_takes_over(tempfile::tempdir().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_processes_one_listens_and_the_other_takes_over_on_postgres() {
    if let Some(data) = on_postgres() {
        one_listens_and_the_other_takes_over(data).await;
    }
}

async fn one_listens_and_the_other_takes_over(data: tempfile::TempDir) {
    let workspace = Workspace::open().await;
    let first = Process::alone(&workspace, data.path()).await;
    let second = Process::start(&workspace, data.path(), &[]).await;
    second.stands_by().await;
    let mut talks = talks(&workspace, &PLACES, "one");
    answered_once(&workspace, &mut talks, "one").await;
    assert_eq!(sessions(&workspace), 1);

    let killed = Instant::now();
    first.kill().await;
    everybody_says(&mut talks, "two");
    second.listens().await;
    assert!(killed.elapsed() < Duration::from_secs(20), "{:?}", killed.elapsed());
    answered_once(&workspace, &mut talks, "two").await;

    let third = Process::start(&workspace, data.path(), &[]).await;
    third.stands_by().await;
    let told = Instant::now();
    let ending = tokio::spawn(second.terminate());
    everybody_says(&mut talks, "three");
    third.listens().await;
    assert!(told.elapsed() < Duration::from_secs(10), "{:?}", told.elapsed());
    let took = ending.await.unwrap();
    assert!(took < Duration::from_secs(5), "{took:?}");
    answered_once(&workspace, &mut talks, "three").await;
    assert!(sessions(&workspace) <= 3, "{}", sessions(&workspace));
    third.terminate().await;
    nobody_quarrels(data.path());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_during_a_turn_hands_it_to_another_process() {
    sigterm_hands_a_turn_over(tempfile::tempdir().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_during_a_turn_hands_it_to_another_process_on_postgres() {
    if let Some(data) = on_postgres() {
        sigterm_hands_a_turn_over(data).await;
    }
}

async fn sigterm_hands_a_turn_over(data: tempfile::TempDir) {
    let workspace = Workspace::open().await;
    let first = Process::alone(&workspace, data.path()).await;
    let mut talks = talks(&workspace, &PLACES, "slow 6");
    for talk in &talks {
        talk.sees("k8s_get_pods").await;
    }
    let second = Process::start(&workspace, data.path(), &[]).await;
    let took = first.terminate().await;
    assert!(took < Duration::from_secs(5), "{took:?}");
    for talk in &mut talks {
        talk.sees(ANSWER).await;
        settles(talk).await;
        goes_on(talk, "good morning").await;
        assert_eq!(with(&talk.shown(), ANSWER).len(), 1, "{:?}", talk.texts());
    }
    assert_eq!(asked(&workspace, "slow 6").len(), PLACES.len(), "each was asked once");
    second.terminate().await;
    nobody_quarrels(data.path());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_a_thousand_events_is_stored_in_time_and_answered_once() {
    const SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";
    const THREADS: usize = 125;
    const EACH: usize = 8;
    for over_http in [false, true] {
        let workspace = Workspace::open().await;
        let data = tempfile::tempdir().unwrap();
        let extra = [("SLACK_SIGNING_SECRET", SECRET)];
        let extra = if over_http { &extra[..] } else { &[] };
        let process = Process::start(&workspace, data.path(), extra).await;
        process.listens().await;
        if over_http {
            let url = format!("{}/slack/events", process.base);
            workspace.world.slack_request_url(&url, SECRET).await.unwrap();
        }
        // No turn ends before everything is acknowledged.
        workspace.world.agent_mute(true);
        let say = |text: String, thread: Option<String>| {
            let channel = "slack:C0GENERAL".to_owned();
            let speech = Speech { channel, text, thread, ..Speech::default() };
            workspace.world.speak(&speech).unwrap().unwrap().id
        };
        let acknowledged = || async { workspace.world.slack_waiting() == 0 };
        let roots: Vec<String> =
            (0..THREADS).map(|n| say(format!("<@U0HERALD> thread {n}"), None)).collect();
        until("the threads have begun", acknowledged).await;
        for n in 0..THREADS * EACH {
            say(format!("[{n}]"), Some(roots[n % THREADS].clone()));
        }
        until("all is acknowledged", acknowledged).await;
        let slowest = workspace.world.slack_slowest();
        assert!(slowest < Duration::from_secs(3), "{slowest:?} (HTTP: {over_http})");

        workspace.world.agent_mute(false);
        let counts = || {
            let mut counts = vec![0; THREADS * EACH];
            for request in asked(&workspace, "[") {
                for (number, _) in request.text.split('[').filter_map(|rest| rest.split_once(']')) {
                    counts[number.parse::<usize>().unwrap()] += 1;
                }
            }
            counts
        };
        until("all is passed on", async || counts().iter().all(|count| *count > 0)).await;
        assert!(counts().iter().all(|count| *count == 1), "asked twice (HTTP: {over_http})");
        process.kill().await;
    }
}
