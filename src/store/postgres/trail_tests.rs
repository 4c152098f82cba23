use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use super::*;
use crate::clock::SystemClock;
use crate::model::audit::{Act, Refused};
use crate::store::postgres::server::schema;
use crate::store::trail::{Keys, Scribe, verify};

/// Far longer than a row takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

async fn open(url: &str) -> Postgres {
    Postgres::open(&url.into(), Arc::new(SystemClock)).await.unwrap()
}

/// A proxy to the server of `url`. While it is to lose commits, each reaches the server and no answer comes back.
async fn losing_commits(url: &str) -> (String, Arc<AtomicBool>) {
    let asked: PgConnectOptions = url.parse().unwrap();
    let (host, port) = (asked.get_host().to_owned(), asked.get_port());
    let socket = asked.get_socket().map(|directory| directory.join(format!(".s.PGSQL.{port}")));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut at = ::url::Url::parse(url).unwrap();
    at.set_host(Some("127.0.0.1")).unwrap();
    at.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
    let losing = Arc::new(AtomicBool::new(false));
    let lost = Arc::clone(&losing);
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let lost = Arc::clone(&lost);
            match &socket {
                Some(path) => {
                    tokio::spawn(carry(client, UnixStream::connect(path).await.unwrap(), lost));
                }
                None => {
                    let server = TcpStream::connect((host.as_str(), port)).await.unwrap();
                    tokio::spawn(carry(client, server, lost));
                }
            }
        }
    });
    (at.into(), losing)
}

async fn carry<S: AsyncRead + AsyncWrite + Unpin>(
    mut client: TcpStream,
    mut server: S,
    losing: Arc<AtomicBool>,
) {
    let (mut asked, mut answered) = ([0; 16_384], [0; 16_384]);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Some(asked) = asked.get(..read.unwrap_or(0)).filter(|it| !it.is_empty()) else { return };
                server.write_all(asked).await.unwrap();
                let commits = asked.ends_with(b"COMMIT\0");
                if commits && losing.load(Ordering::Relaxed) {
                    // It is committed once there is an answer.
                    assert!(server.read(&mut answered).await.unwrap() > 0);
                    return;
                }
            }
            read = server.read(&mut answered) => {
                let Some(answer) = answered.get(..read.unwrap_or(0)).filter(|it| !it.is_empty()) else { return };
                if client.write_all(answer).await.is_err() {
                    return;
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_counts_and_the_chain_goes_on() {
    let Some(url) = schema() else { return };
    let (url, losing) = losing_commits(&url).await;
    let store = open(&url).await;
    let note = || store.note(vec![Entry::new(Act::RulesChanged)], Timestamp(0));
    for lost in [false, true, false, true, true, false] {
        losing.store(lost, Ordering::Relaxed);
        assert_eq!(note().await.is_err(), lost);
    }
    losing.store(false, Ordering::Relaxed);
    let chains = store.chains().await.unwrap();
    assert_eq!(chains.iter().map(|chain| chain.n).collect::<Vec<_>>(), [7], "started, and six");
    assert_eq!(verify(&store, &Keys::new(&[]), None).await.unwrap().findings, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_written_although_the_caller_hangs_up_meanwhile() {
    let Some(url) = schema() else { return };
    let (store, admin) = tokio::join!(open(&url), open(&url));
    let store = Arc::new(store);
    let scribe = Scribe::with_patience(Arc::<Postgres>::clone(&store), Arc::new(SystemClock), LONG);
    let mut lock = admin.begin().await.unwrap();
    query("LOCK TABLE audit IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    let refused = scribe.refused(Entry::new(Act::Denied).refused(Refused::Channel));
    let caller = tokio::spawn(refused);
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'audit'::regclass";
    while query(waits).fetch_one(&mut *lock).await.unwrap().get::<i64, _>(0) == 0 {
        tokio::task::yield_now().await;
    }
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    lock.rollback().await.unwrap();
    assert!(scribe.finish(LONG).await);
    assert_eq!(store.chains().await.unwrap().remove(0).n, 2);
}
