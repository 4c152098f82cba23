//! PgBouncer in between, which gives each transaction another session: everything works, and nobody listens.

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::outage::Herald;
use crate::postgres::{accepted, env, first_seen};
use crate::postgres_server::schema;
use crate::world::{EVERY, Workspace, free_port, until};

/// A PgBouncer before the server whose socket is in the directory that `url` names, with a few sessions for everybody.
/// `None`, said aloud, where it is not installed.
async fn before(url: &str, lenient: bool, directory: &std::path::Path) -> Option<(Child, String)> {
    let rest = url.strip_prefix("postgres://herald@")?;
    let (socket, database) = rest.split_once('/')?;
    let socket = socket.replace("%2F", "/");
    let (file, port) = (directory.join("pgbouncer.ini"), free_port());
    let ignored = if lenient { "options" } else { "" };
    let settings = format!(
        "[databases]\npostgres = host={socket} user=herald\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
         unix_socket_dir =\nauth_type = any\npool_mode = transaction\ndefault_pool_size = 4\n\
         ignore_startup_parameters = {ignored}\n"
    );
    std::fs::write(&file, settings).unwrap();
    let mut command = Command::new("pgbouncer");
    if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
        // It refuses to run as root; whoever runs the server may use its socket.
        let owner = Command::new("stat").args(["-c", "%U", &socket]).output().await.unwrap().stdout;
        command.args(["-u", String::from_utf8(owner).unwrap().trim()]);
    }
    let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
    let started = command.env("PATH", path).arg("-q").arg(file).kill_on_drop(true).spawn();
    let Ok(started) = started else {
        let required = std::env::var_os("HERALD_REQUIRE_PGBOUNCER").is_some();
        assert!(!required, "the tests need PgBouncer: {started:?}");
        eprintln!("SKIPPED, because there is no PgBouncer");
        return None;
    };
    until("the pooler answers", async || TcpStream::connect(("127.0.0.1", port)).await.is_ok())
        .await;
    Some((started, format!("postgres://herald@127.0.0.1:{port}/{database}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_pooler_that_refuses_settings_replicas_work() {
    work_behind_a_pooler(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_pooler_that_ignores_settings_replicas_work() {
    work_behind_a_pooler(true).await;
}

async fn work_behind_a_pooler(lenient: bool) {
    let Some(url) = schema().filter(|url| url.starts_with("postgres://herald@%2F")) else { return };
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let pooler = before(&url, lenient, directories[0].path()).await;
    let Some((_pooler, through)) = pooler else { return };
    let workspace = Workspace::open().await;
    let env = env(&workspace, &through);
    let (a, b) = tokio::join!(
        Herald::start(&env, "serve", directories[0].path()),
        Herald::start(&env, "serve", directories[1].path())
    );
    let clients = [a.client(), b.client()];
    // More at once than there are sessions.
    let calls = (0..90).map(|n| {
        let client = clients[n % 2].clone();
        async move { client.send(EVERY[n % 3], &format!("{n}")).await.content["status"].clone() }
    });
    let since = Instant::now();
    let answers = futures_util::future::join_all(calls).await;
    assert!(answers.iter().all(|status| status == "delivered"), "{answers:?}");
    assert!(since.elapsed() < Duration::from_secs(20), "{:?}", since.elapsed());
    for channel in EVERY {
        let order = accepted(&env, channel).await;
        assert_eq!(order.len(), 30);
        assert_eq!(first_seen(&workspace.texts(channel)), order, "{channel}");
        assert_eq!(workspace.texts(channel).len(), 30, "{channel}: each once");
    }
    for log in [a.terminate().await, b.terminate().await] {
        assert!(log.contains("PostgreSQL's notices do not arrive"), "{log}");
        assert!(!log.contains(" ERROR ") && !log.contains("unexpected message"), "{log}");
    }
}
