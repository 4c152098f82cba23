//! Canary tokens, again: those that Herald reads in files and headers, those that strangers repeat, a crash and its core.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::to_bytes;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use herald::app::{App, Mode, Serves};
use herald::clock::SystemClock;
use herald::config::Config;
use herald::telemetry::{self, LogFormat};
use http::StatusCode;
use secrecy::ExposeSecret as _;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::issuer::{Issuer, Signer};
use crate::postgres_server::{start, unless_missing};
use crate::secrets::{all_of, search_for, tokens, trail};
use crate::talking::{PLACES, Talk};
use crate::world::{Client, EVERY, Workspace, files, free_port, herald, until};

const TOKEN: &str = "canaryHERALD4-0123456789";
const PASSWORD: &str = "canaryDATABASE13-0123456789";

/// A Herald that says everything it can, in a process of its own.
struct Loud {
    child: Child,
    address: String,
    data: tempfile::TempDir,
    said: tokio::task::JoinHandle<Vec<u8>>,
}

impl Loud {
    /// `command` with these variables and this file; it is not waited for.
    fn start(env: &BTreeMap<String, String>, command: &[&str], file: &str) -> Self {
        let data = tempfile::tempdir().unwrap();
        let config = data.path().join("herald.yaml");
        std::fs::write(&config, file).unwrap();
        let address = format!("127.0.0.1:{}", free_port());
        let mut process = herald(env);
        process
            .args(command)
            .args(["--listen", &address, "--log-format", "json", "--config"])
            .arg(config)
            .env("HERALD_LOG", "trace")
            .env("RUST_BACKTRACE", "full")
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        if !env.contains_key("HERALD_DATABASE_URL") {
            process.arg("--data-dir").arg(data.path().join("data"));
        }
        let mut child = process.spawn().unwrap();
        let said = tokio::spawn(all_of(child.stderr.take().unwrap()));
        Self { child, address, data, said }
    }

    fn client(&self, token: &str) -> Client {
        Client::new(self.address.parse().unwrap()).with_token(token)
    }

    async fn page(&self, path: &str) -> Option<String> {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = http.get(format!("http://{}{path}", self.address)).send().await.ok()?;
        answer.text().await.ok()
    }

    async fn listens(&self, listeners: usize) {
        until("it listens", async || {
            let page = self.page("/readyz").await;
            page.is_some_and(|page| page.matches("\"connected\"").count() == listeners)
        })
        .await;
    }

    /// Ends it in good order; what it said, and what it wrote, as far as it went to a directory.
    async fn end(mut self) -> Vec<(String, Vec<u8>)> {
        let pid = self.child.id().unwrap().to_string();
        std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        tokio::time::timeout(Duration::from_secs(40), self.child.wait()).await.unwrap().unwrap();
        let log = self.said.await.unwrap();
        assert!(log.len() > 1000, "trace level should say a lot");
        let mut found = vec![("the log".to_owned(), log)];
        let data = self.data.path().join("data");
        if data.is_dir() {
            found.push(("the audit trail".to_owned(), trail(&data).await.into_bytes()));
            let stored = files(&data).into_iter();
            found.extend(stored.map(|(path, bytes)| (path.display().to_string(), bytes)));
        }
        found
    }
}

fn set(env: &mut BTreeMap<String, String>, variables: &[(&str, &str)]) {
    env.extend(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
}

/// What is sent stands in the log of the MCP library at this level, before anybody looks at it: what is not taken out of the
/// log there was not known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_herald_holds_is_known_to_the_guard_and_to_the_log_and_stays_known_when_it_changes()
 {
    let workspace = Workspace::with_tokens(tokens()).await;
    let held = tempfile::tempdir().unwrap();
    let path = |name: &str| held.path().join(name).to_str().unwrap().to_owned();
    let write = |name: &str, text: &str| std::fs::write(path(name), format!("{text}\n")).unwrap();
    write("agent", "canaryAGENTFILE-first-01234");
    write("jwks", "canaryJWKSFILE-first-012345");
    write("herald", TOKEN);
    let key = Signer::curve("key");
    let issuer = Issuer::open(&[&key]).await;
    let mut env = workspace.env();
    set(
        &mut env,
        &[
            ("HERALD_TOKEN_FILE", &path("herald")),
            ("HERALD_AUDIT_KEY", "canaryAUDIT-0123456789-0123456789-0123"),
            ("KAGENT_A2A_TOKEN_FILE", &path("agent")),
            ("HERALD_JWT_ISSUER", "https://issuer.example"),
            ("HERALD_JWT_AUDIENCE", "herald"),
            ("HERALD_JWKS_URL", &issuer.url),
            ("HERALD_JWKS_TOKEN_FILE", &path("jwks")),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20canaryOTLP-0123456789"),
            ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x-key=canaryTRACES-0123456789"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://ada:canaryCOLLECTOR-01234@127.0.0.1:1"),
        ],
    );
    let herald = Loud::start(&env, &["serve", "--with-bot"], "delivery: {backoff_ms: 20}");
    herald.listens(3).await;
    let client = herald.client(TOKEN);
    let mut answers = Vec::new();
    let mut blocked = async |client: &Client, secrets: &[&str]| {
        for secret in secrets {
            for channel in EVERY {
                let answer = client.send(channel, &format!("It is {secret}.")).await;
                assert!(answer.failed, "{secret} in {channel}: {answer:?}");
                answers.push(answer.text);
            }
        }
    };
    let held = [
        "canaryAUDIT-0123456789-0123456789-0123",
        "canaryOTLP-0123456789",
        "canaryTRACES-0123456789",
        "canaryCOLLECTOR-01234",
        "canaryAGENTFILE-first-01234",
        "canaryJWKSFILE-first-012345",
    ];
    blocked(&client, &held).await;

    // Files change, and whoever reads them next knows what they hold now.
    write("agent", "canaryAGENTFILE-second-0123");
    write("jwks", "canaryJWKSFILE-second-01234");
    Talk::new(&workspace, PLACES[0]).says("good morning");
    until("the agent was shown the new one", async || {
        let requests = workspace.world.agent_requests();
        let shown = |it: &herald::sandbox::AgentRequest| it.headers.get("authorization").cloned();
        requests.iter().filter_map(shown).any(|it| it.contains("AGENTFILE-second"))
    })
    .await;
    let stranger = herald.client(&key.token(&json!({ "iss": "https://issuer.example" })));
    assert!(stranger.try_call("list_channels", json!({})).await.is_err());
    assert_eq!(issuer.authorization().unwrap(), "Bearer canaryJWKSFILE-second-01234");
    blocked(&client, &["canaryAGENTFILE-second-0123", "canaryJWKSFILE-second-01234"]).await;

    // So does a token of the settings, by a reload.
    write("herald", "canaryHERALD5-0123456789");
    let renewed = herald.client("canaryHERALD5-0123456789");
    until("the new token counts", async || {
        renewed.try_call("list_channels", json!({})).await.is_ok()
    })
    .await;
    blocked(&renewed, &["canaryHERALD5-0123456789", TOKEN]).await;
    blocked(&renewed, &held).await;

    let canaries = ["canary", "Y2FuYXJ5"];
    search_for(&canaries, "an answer", answers.join("\n").as_bytes());
    for (place, bytes) in herald.end().await {
        search_for(&canaries, &place, &bytes);
    }
}

/// A server that repeats what it was shown, in every field of a platform's error.
async fn echo() -> String {
    let app = Router::new().fallback(async |request: Request| -> Response {
        let (head, body) = request.into_parts();
        let body = to_bytes(body, 1 << 20).await.unwrap();
        let shown = head.headers.get("authorization");
        let shown = shown.map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
        let echo = format!("bad {shown} at {}", head.uri);
        if String::from_utf8_lossy(&body).contains("answer me") {
            // An agent that was fooled.
            let message = json!({"kind": "message", "role": "agent", "messageId": "m", "parts": [{"kind": "text", "text": echo}]});
            let answer = json!({"jsonrpc": "2.0", "id": "1", "result": message});
            return axum::Json(answer).into_response();
        }
        let slack = head.uri.path().starts_with("/slack");
        let answer = json!({
            "ok": false, "error": if slack { &echo } else { "bad" }, "needed": echo, "provided": echo, "warning": echo,
            "response_metadata": {"messages": [echo]},
            "code": 50035, "message": echo, "errors": {"content": {"_errors": [{"code": echo, "message": echo}]}},
            "error_code": 400, "description": format!("Bad Request: {echo}"),
            "title": echo, "detail": echo,
        });
        let rpc = json!({"jsonrpc": "2.0", "id": "1", "error": {"code": -32603, "message": echo, "data": echo}});
        if head.uri.path().starts_with("/agent") {
            let status = if String::from_utf8_lossy(&body).contains("teapot") {
                StatusCode::IM_A_TEAPOT
            } else {
                StatusCode::OK
            };
            return (status, axum::Json(rpc)).into_response();
        }
        let status = if slack { StatusCode::OK } else { StatusCode::BAD_REQUEST };
        (status, [("x-echo", echo)], axum::Json(answer)).into_response()
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    base
}

const ECHOED: [&str; 4] = ["canarySLACK1", "canaryDISCORD2", "canaryTELEGRAM3", "canaryAGENT6"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_platform_repeats_of_its_token_shows_nowhere() {
    let workspace = Workspace::with_tokens(tokens()).await;
    let base = echo().await;
    let mut env = workspace.env();
    let urls = [
        ("SLACK_API_URL", format!("{base}/slack/")),
        ("DISCORD_API_URL", format!("{base}/discord/")),
        ("TELEGRAM_API_URL", format!("{base}/telegram/")),
    ];
    set(&mut env, &urls.each_ref().map(|(name, url)| (*name, url.as_str())));
    set(&mut env, &[("HERALD_TOKEN", TOKEN)]);
    let herald = Loud::start(&env, &["serve"], "delivery: {backoff_ms: 20}");
    let client = herald.client(TOKEN);
    until("it answers", async || client.try_call("get_delivery", json!({})).await.is_ok()).await;
    let mut answers = Vec::new();
    for channel in EVERY {
        let answer = client.send(channel, "hello").await;
        assert!(answer.failed, "{answer:?}");
        let id = json!({ "delivery_id": answer.content["delivery_id"] });
        answers.push(format!("{answer:?} {:?}", client.call("get_delivery", id).await));
    }
    answers.push(format!("{:?}", client.call("list_channels", json!({})).await));
    answers.extend(herald.page("/readyz").await);
    for arguments in [&["check"] as &[_], &["channels"], &["send", EVERY[0], "hello"]] {
        let output = crate::world::herald(&env).args(arguments).output().await.unwrap();
        answers.push(format!("{output:?}"));
        search_for(&ECHOED, &format!("{arguments:?}"), &[output.stdout, output.stderr].concat());
    }
    let found = herald.end().await;
    assert!(found.iter().any(|(_, bytes)| String::from_utf8_lossy(bytes).contains("failed")));
    found.iter().for_each(|(place, bytes)| search_for(&ECHOED, place, bytes));
    search_for(&ECHOED, "an answer", answers.join("\n").as_bytes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_agent_repeats_of_its_token_shows_nowhere() {
    let workspace = Workspace::with_tokens(tokens()).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "canaryAGENT6-0123456789").unwrap();
    let mut env = workspace.env();
    let url = format!("{}/agent/", echo().await);
    set(
        &mut env,
        &[
            ("KAGENT_A2A_URL", &url),
            ("KAGENT_A2A_VERSION", "0.3"),
            ("KAGENT_A2A_TOKEN_FILE", file.path().to_str().unwrap()),
        ],
    );
    let herald = Loud::start(&env, &["bot"], "delivery: {backoff_ms: 20}");
    herald.listens(3).await;
    let mut shown = Vec::new();
    for place in PLACES {
        for (says, sees) in [
            ("fail", "refused the request"),
            ("teapot", "refused the request"),
            ("answer me", "secret"),
        ] {
            let mut talk = Talk::new(&workspace, place);
            talk.says(says);
            talk.sees(sees).await;
            shown.extend(talk.texts());
        }
    }
    search_for(&ECHOED, "the chat", shown.join("\n").as_bytes());
    let found = herald.end().await;
    let log = String::from_utf8_lossy(&found[0].1).into_owned();
    assert!(log.contains("Bearer [redacted]"), "nobody logs what it said: this test proves less");
    found.iter().for_each(|(place, bytes)| search_for(&ECHOED, place, bytes));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_away_shows_no_password() {
    let workspace = Workspace::with_tokens(tokens()).await;
    let canaries = ["canary"];
    for address in [format!("127.0.0.1:{}", free_port()), "localhost:1".to_owned()] {
        let mut env = workspace.env();
        let url = format!("postgres://herald:{PASSWORD}@{address}/herald?options=-c%20a%3Db");
        set(&mut env, &[("HERALD_DATABASE_URL", &url), ("HERALD_LOG", "trace")]);
        let listen = format!("127.0.0.1:{}", free_port());
        for command in [
            &["serve", "--listen", &listen] as &[_],
            &["bot", "--listen", &listen],
            &["check"],
            &["audit", "list"],
        ] {
            let output = herald(&env).args(command).output().await.unwrap();
            assert!(!output.status.success(), "{command:?}");
            let said = [output.stdout, output.stderr].concat();
            assert!(!said.is_empty(), "{command:?}");
            search_for(&canaries, &format!("{command:?}"), &said);
        }
    }

    // And one that goes away later.
    let Some((url, mut tell, _told)) = unless_missing(start()) else { return };
    let mut env = workspace.env();
    let url = url.replace("herald@", &format!("herald:{PASSWORD}@"));
    set(&mut env, &[("HERALD_DATABASE_URL", &url), ("HERALD_TOKEN", TOKEN)]);
    let herald = Loud::start(&env, &["serve"], "{}");
    let client = herald.client(TOKEN);
    until("it answers", async || client.try_call("get_delivery", json!({})).await.is_ok()).await;
    assert!(!client.send(EVERY[0], "hello").await.failed);
    let refused = client.send(EVERY[0], &format!("The password is {PASSWORD}.")).await;
    assert!(refused.failed, "{refused:?}");
    std::io::Write::write_all(&mut tell, b"stop\n").unwrap();
    until("it says that the store is away", async || {
        herald.page("/readyz").await.is_some_and(|page| page.contains("see that it runs"))
    })
    .await;
    let answers = [
        herald.page("/readyz").await.unwrap(),
        format!("{refused:?} {:?}", client.send(EVERY[0], "hello again").await),
    ];
    search_for(&canaries, "an answer", answers.join("\n").as_bytes());
    for (place, bytes) in herald.end().await {
        search_for(&canaries, &place, &bytes);
    }
}

/// Everything that holds a token panics, and says all it can of itself.
#[tokio::test]
async fn a_panic_shows_no_secret() {
    let workspace = Workspace::with_tokens(tokens()).await;
    let mut env = workspace.env();
    let url = format!("postgres://herald:{PASSWORD}@127.0.0.1:1/herald");
    set(
        &mut env,
        &[
            (PANICS, "1"),
            ("HERALD_TOKEN", TOKEN),
            ("HERALD_AUDIT_KEY", "canaryAUDIT-0123456789-0123456789-0123"),
            ("KAGENT_A2A_TOKEN", "canaryAGENT6-0123456789"),
            ("HERALD_DATABASE_URL", &url),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20canaryOTLP-0123456789"),
            ("RUST_BACKTRACE", "full"),
        ],
    );
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "canaries::a_process_that_panics", "--ignored", "--nocapture"])
        .env_clear()
        .envs(&env)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    for there in ["stack backtrace", "Config {", "App", "quotes it: http", "[redacted]", "FAILED"] {
        assert!(said.contains(there), "{there} is not in what it says: {said}");
    }
    assert!(said.matches("panicked at").count() >= 2, "{said}");
    search_for(&["canary"], "what a panic says", said.as_bytes());
}

fn failed(why: String) -> Result<(), String> {
    Err(why)
}

const PANICS: &str = "HERALD_TEST_PANICS";

#[tokio::test]
#[ignore = "`a_panic_shows_no_secret` starts it, in a process of its own"]
async fn a_process_that_panics() {
    if std::env::var_os(PANICS).is_none() {
        return;
    }
    let mut config = Config::load(None, &|name| std::env::var(name).ok()).unwrap();
    config.keep_secrets();
    telemetry::init(LogFormat::Json, Some("trace"), config.known.clone()).unwrap();
    let shown = format!("{config:?} {:?}", config.known);
    // The database is away, and what is put together is no less for it.
    config.database_url = None;
    let mode = Mode {
        data_dir: None,
        own_only: false,
        deduplicate: true,
        wait: Duration::from_secs(1),
        serves: Serves::Both,
    };
    let token = config.telegram.bot_token.clone().unwrap();
    let api = config.telegram.api_url.clone().unwrap();
    let stop = CancellationToken::new();
    let app = App::build(config, mode, Arc::new(SystemClock), stop).await.unwrap();
    let platforms = format!("{:?}", app.platforms().keys());
    // An error of a library quotes the address that it was given, and somebody unwraps it.
    let quotes = failed(format!("quotes it: {api}bot{}/getMe", token.expose_secret()));
    let ended = tokio::spawn(async move { quotes.unwrap() }).await;
    panic!("App of {platforms}: {shown} {}", ended.unwrap_err());
}

/// What `sh` does with `kill -ABRT $$` where core files are allowed: whether this machine writes them where a process runs.
fn leaves_cores(directory: &Path) -> bool {
    let killed = std::process::Command::new("sh")
        .args(["-c", "ulimit -c unlimited && kill -ABRT $$"])
        .current_dir(directory)
        .status()
        .unwrap();
    !killed.success() && std::fs::read_dir(directory).unwrap().next().is_some()
}

#[tokio::test]
async fn a_crash_leaves_no_core_and_nobody_else_reads_the_process() {
    let workspace = Workspace::with_tokens(tokens()).await;
    let (here, control) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::set_permissions(here.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777))
        .unwrap();
    let port = free_port();
    // Where the tests run as root, Herald runs as nobody: root reads everything, and everything of root's is root's.
    let nobody =
        "[ $(id -u) != 0 ] || set -- setpriv --reuid 65534 --regid 65534 --clear-groups -- \"$@\"";
    let script = format!("ulimit -c unlimited || ulimit -c hard; {nobody}; exec \"$@\"");
    let mut child = Command::new("sh")
        .args(["-c", &script, "sh", env!("CARGO_BIN_EXE_herald"), "serve", "--listen"])
        .args([&format!("127.0.0.1:{port}"), "--data-dir"])
        .arg(here.path().join("data"))
        .current_dir(here.path())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .envs(workspace.env())
        .kill_on_drop(true)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let client = Client::new(([127, 0, 0, 1], port).into());
    until("it answers", async || client.try_call("get_delivery", json!({})).await.is_ok()).await;
    let process = format!("/proc/{}", child.id().unwrap());
    if cfg!(target_os = "linux") {
        let limits = std::fs::read_to_string(format!("{process}/limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"]);
        // Of a process that keeps its memory to itself these are root's, whoever it runs as, and for root's eyes alone.
        let status = std::fs::read_to_string(format!("{process}/status")).unwrap();
        assert!(!status.contains("Uid:\t0\t"), "it runs as root: this proves nothing");
        for file in ["environ", "mem", "maps"] {
            assert_eq!(std::fs::metadata(format!("{process}/{file}")).unwrap().uid(), 0, "{file}");
        }
    }
    std::process::Command::new("kill")
        .args(["-ABRT", &child.id().unwrap().to_string()])
        .status()
        .unwrap();
    let status = child.wait().await.unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(6), "{status:?}");
    let left = files_of(here.path());
    assert_eq!(left, ["data"], "a core?");
    if !leaves_cores(control.path()) {
        eprintln!(
            "this machine leaves no core files where a process runs: only the limit was looked at"
        );
    }
}

fn files_of(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}
