use std::collections::BTreeMap;

use secrecy::SecretString;

use super::*;
use crate::clock::{SystemClock, Timestamp};
use crate::model::{DeliveryState, PlatformKind};
use crate::store::postgres::server::schema;
use crate::store::postgres::{Postgres, query};
use crate::store::{Claimant, Conversations, Outbox, Saved, Settled, contract};

const T0: Timestamp = Timestamp(1_800_000_000_000);
const LEASE: Duration = Duration::from_secs(30);
/// Far longer than a notice takes.
const SOON: Duration = Duration::from_secs(20);

const QUICK: Patience = Patience {
    say: Duration::from_secs(60),
    silence: Duration::from_secs(60),
    pause: Duration::from_millis(5),
    longest: Duration::from_millis(5),
};

async fn open(url: &str, patience: Patience) -> Postgres {
    let url = SecretString::from(url);
    Postgres::open_patiently(
        &url,
        Arc::new(SystemClock),
        &crate::store::trail::Settings::default(),
        patience,
    )
    .await
    .unwrap()
}

/// The connections that listen in the schema of this store.
async fn listeners(store: &Postgres) -> Vec<i32> {
    let mut db = store.begin().await.unwrap();
    let rows = query("SELECT pid FROM pg_stat_activity WHERE query = 'LISTEN \"' || current_schema() || '\"' ORDER BY pid")
        .fetch_all(&mut *db)
        .await
        .unwrap();
    rows.iter().map(|row| row.try_get("pid").unwrap()).collect()
}

async fn until_listening(store: &Postgres, count: usize) -> Vec<i32> {
    let listening = async {
        loop {
            let pids = listeners(store).await;
            if pids.len() == count {
                return pids;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, listening).await.expect("they listen")
}

async fn next<T: Clone>(hints: &mut Hints<T>) -> T {
    timeout(SOON, hints.next()).await.expect("a hint comes")
}

fn claimant(process: &str) -> Claimant {
    Claimant {
        process: process.to_owned(),
        own_only: false,
        lease: LEASE,
        credentials: BTreeMap::new(),
    }
}

/// Claims the one delivery that is due, ends it, and tells which it was.
async fn finish(store: &Postgres, state: DeliveryState) -> DeliveryId {
    let claim = store.claim(&claimant("any"), PlatformKind::Slack, T0, 1).await.unwrap().remove(0);
    let mut delivery = claim.delivery;
    delivery.state = state;
    let id = delivery.id;
    store.record(claim.epoch, &Settled::new(delivery)).await.unwrap();
    id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_replica_does_to_the_outbox_the_others_hear() {
    let Some(url) = schema() else { return };
    let (a, b) = tokio::join!(open(&url, QUICK), open(&url, QUICK));
    let (mut at_a, mut at_b) = (a.hints(), b.hints());
    until_listening(&a, 2).await;
    contract::outbox::queue_in(&a, "C0A", "x").await;
    assert_eq!(next(&mut at_b).await, Hint::Queued);
    // What B ends of A's, A hears, and B does not.
    let id = finish(&b, DeliveryState::Failed).await;
    assert_eq!(next(&mut at_a).await, Hint::Ended(id));
    // A retry too, even from a process that only did that and is over, such as `herald outbox retry`.
    let shell = open(&url, QUICK).await;
    shell.retry(id, T0, T0.after(LEASE)).await.unwrap();
    shell.close().await;
    assert_eq!(next(&mut at_a).await, Hint::Queued);
    assert_eq!(next(&mut at_b).await, Hint::Queued);
    // What A ends of its own is news to nobody; neither has anybody heard of it what it said itself.
    finish(&a, DeliveryState::Delivered).await;
    shell_says_nothing_more(&b, &mut at_a, &mut at_b).await;
}

/// The next thing that both hear is one that is told now.
async fn shell_says_nothing_more(any: &Postgres, at_a: &mut Hints<Hint>, at_b: &mut Hints<Hint>) {
    let id = DeliveryId::new(T0);
    let notify = format!("NOTIFY \"{}\", 'somebody e{id}'", any.notices.channel);
    sqlx::raw_sql(AssertSqlSafe(notify)).execute(&any.pool).await.unwrap();
    assert_eq!(next(at_a).await, Hint::Ended(id));
    assert_eq!(next(at_b).await, Hint::Ended(id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_is_called_by_its_mark() {
    let Some(url) = schema() else { return };
    let (a, b) = tokio::join!(open(&url, QUICK), open(&url, QUICK));
    let mut at_b = b.calls();
    until_listening(&a, 1).await;
    let conversation = "slack:C0SECRET/1.2".to_owned();
    let mut said = PgListener::connect_with(&a.pool).await.unwrap();
    said.listen(&a.notices.channel).await.unwrap();
    a.take(&conversation, &contract::inbound::event("1", T0)).await.unwrap();
    assert_eq!(next(&mut at_b).await, Mark::of(&conversation));
    let payload = timeout(SOON, said.recv()).await.unwrap().unwrap().payload().to_owned();
    assert!(!payload.contains("C0SECRET"), "others may share the database: {payload}");
    // Known already: nothing is new.
    a.take(&conversation, &contract::inbound::event("1", T0)).await.unwrap();
    // Kept for later: nothing is to do now. Given up now: somebody else goes on.
    let held = a.hold("a", T0, LEASE, 1).await.unwrap().remove(0);
    let later = "slack:C0LATER/1.2".to_owned();
    let due = Some(T0.after(LEASE));
    let saved = Saved { due, release: true, handled: vec![held.events[0].seq], ..Saved::default() };
    a.save(&held, &saved, T0, LEASE).await.unwrap();
    a.take(&later, &contract::inbound::event("2", T0)).await.unwrap();
    assert_eq!(next(&mut at_b).await, Mark::of(&later));
    let held = a.hold("a", T0, LEASE, 1).await.unwrap().remove(0);
    let saved = Saved { due: Some(T0), release: true, ..Saved::default() };
    a.save(&held, &saved, T0, LEASE).await.unwrap();
    assert_eq!(next(&mut at_b).await, Mark::of(&later));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_connection_is_made_anew_and_nonsense_is_ignored() {
    let Some(url) = schema() else { return };
    let (a, b) = tokio::join!(open(&url, QUICK), open(&url, QUICK));
    let mut at_b = b.hints();
    for _ in 0..3 {
        let pids = until_listening(&a, 1).await;
        let nonsense = format!(
            "NOTIFY \"{0}\"; NOTIFY \"{0}\", 'x'; NOTIFY \"{0}\", 'x z e9 c! q'",
            a.notices.channel
        );
        sqlx::raw_sql(AssertSqlSafe(nonsense)).execute(&a.pool).await.unwrap();
        assert_eq!(next(&mut at_b).await, Hint::Queued, "what can be read is");
        let mut db = a.begin().await.unwrap();
        let end = "SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) AS p (pid)";
        query(end).bind(pids.clone()).execute(&mut *db).await.unwrap();
        db.commit().await.unwrap();
        let anew = async {
            loop {
                let now = until_listening(&a, 1).await;
                if now != pids {
                    return;
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(SOON, anew).await.expect("another connection");
    }
}

/// As behind a pooler that gives each transaction another session.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_hears_nothing_is_made_anew_and_does_no_harm() {
    let Some(url) = schema() else { return };
    let deaf = Patience { silence: Duration::from_millis(20), ..QUICK };
    let (a, b) = tokio::join!(open(&url, deaf), open(&url, QUICK));
    let _hints = a.hints();
    let mut seen = BTreeSet::new();
    let replaced = async {
        while seen.len() < 3 {
            seen.extend(listeners(&b).await);
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, replaced).await.expect("one connection after the other");
    contract::outbox::queue_in(&a, "C0A", "x").await;
    assert_eq!(a.claim(&claimant("a"), PlatformKind::Slack, T0, 1).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_listens_says_something_now_and_then_and_who_does_not_is_silent() {
    let Some(url) = schema() else { return };
    let talkative = Patience { say: Duration::from_millis(20), ..QUICK };
    let (a, b) = tokio::join!(open(&url, talkative), open(&url, talkative));
    let mut said = PgListener::connect_with(&b.pool).await.unwrap();
    said.listen(&b.notices.channel).await.unwrap();
    let _hints = a.hints();
    for _ in 0..5 {
        let notice = timeout(SOON, said.recv()).await.expect("something is said").unwrap();
        assert!(notice.payload().starts_with(&a.notices.source));
    }
}
