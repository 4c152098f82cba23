use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use secrecy::ExposeSecret;
use sqlx::Row;
use tokio::time::Instant;

use super::server::schema;
use super::*;
use crate::clock::{SystemClock, Timestamp};
use crate::model::PlatformKind;
use crate::platform::{Credential, Pace};
use crate::store::{
    Claimant, Conversations, Enqueued, Filter, Held, Leases, Outbox, Recorded, Saved, Settled,
    contract,
};

const T0: Timestamp = Timestamp(1_800_000_000_000);
const LEASE: Duration = Duration::from_secs(30);
const SLACK: PlatformKind = PlatformKind::Slack;

async fn open(url: &str) -> Postgres {
    Postgres::open(&SecretString::from(url), Arc::new(SystemClock)).await.unwrap()
}

/// Two replicas on one new schema; `None` where there is no server.
async fn replicas() -> Option<(Postgres, Postgres)> {
    let url = schema()?;
    Some(tokio::join!(open(&url), open(&url)))
}

async fn run(store: &Postgres, sql: &'static str) {
    let mut db = store.begin().await.unwrap();
    query(sql).execute(&mut *db).await.unwrap();
    db.commit().await.unwrap();
}

fn claimant(process: &str) -> Claimant {
    Claimant {
        process: process.to_owned(),
        own_only: false,
        lease: LEASE,
        credentials: BTreeMap::new(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_the_contract_of_the_outbox() {
    let Some(_) = schema() else { return };
    contract::outbox::suite(async || open(&schema().unwrap()).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_the_contract_of_the_way_in() {
    let Some(_) = schema() else { return };
    contract::inbound::suite(async || open(&schema().unwrap()).await).await;
    contract::leases::suite(async || open(&schema().unwrap()).await).await;
}

impl contract::audit::Intruder for Postgres {
    // At the commit itself.
    const REFUSE: &'static str = "
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
        CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON audit DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION refuse()";
    const ALLOW: &'static str = "DROP TRIGGER refuse ON audit; DROP FUNCTION refuse()";

    async fn run(&self, sql: &str) {
        let mut db = self.begin().await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut *db).await.unwrap();
        db.commit().await.unwrap();
    }
}

async fn open_audited(url: &str, settings: &Settings) -> Postgres {
    Postgres::open_with(&url.into(), Arc::new(SystemClock), settings).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_the_contract_of_the_audit_trail() {
    let Some(_) = schema() else { return };
    contract::audit::suite(async |settings: Settings| {
        open_audited(&schema().unwrap(), &settings).await
    })
    .await;
    contract::audit::shared(async |mine: Settings, theirs: Settings| {
        let url = schema().unwrap();
        (open_audited(&url, &mine).await, open_audited(&url, &theirs).await)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_replicas_may_start_at_once() {
    let Some(url) = schema() else { return };
    let stores = join_all((0..12).map(|_| open(&url))).await;
    let id = contract::outbox::one_queued(&stores[0]).await;
    assert!(stores[11].delivery(id).await.unwrap().is_some());
}

#[tokio::test]
async fn a_schema_of_a_newer_herald_is_left_alone() {
    let Some(url) = schema() else { return };
    let store = open(&url).await;
    run(&store, "UPDATE schema_version SET version = 99").await;
    let again = Postgres::open(&SecretString::from(url), Arc::new(SystemClock)).await;
    let error = again.err().unwrap();
    assert!(matches!(error, StoreError::DatabaseUrl(_)));
    assert!(error.to_string().contains("newer Herald (version 99"), "{error}");
}

#[tokio::test]
async fn a_role_that_may_make_nothing_is_told_what_to_ask_for_and_needs_nothing_later() {
    let Some(url) = schema() else { return };
    let admin = open(&url).await;
    let name = admin.place.rsplit("schema ").next().unwrap().trim_end_matches(')').to_owned();
    let (role, other) = (format!("{name}_role"), format!("{name}_other"));
    let mut db = admin.begin().await.unwrap();
    let sql = AssertSqlSafe(format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'canary'; GRANT USAGE ON SCHEMA {name} TO {role};
         GRANT ALL ON ALL TABLES IN SCHEMA {name} TO {role}"
    ));
    sqlx::raw_sql(sql).execute(&mut *db).await.unwrap();
    db.commit().await.unwrap();
    let theirs = url.replacen("herald@", &format!("{role}:canary@"), 1);
    let lowly = open(&theirs).await;
    contract::outbox::one_queued(&lowly).await;
    let elsewhere = SecretString::from(theirs.replace(&name, &other).replacen(
        &format!("{other}_role"),
        &role,
        1,
    ));
    let error = Postgres::open(&elsewhere, Arc::new(SystemClock)).await.err().unwrap();
    let error = error.to_string();
    assert!(error.contains(&format!("CREATE SCHEMA {other}")), "{error}");
    assert!(!error.contains("canary"), "{error}");
}

#[tokio::test]
async fn its_clock_is_the_databases() {
    let Some(url) = schema() else { return };
    // A machine whose clock is a day behind.
    let machine =
        crate::clock::ManualClock::at(SystemClock.now().before(Duration::from_secs(86_400)));
    let store = Postgres::open(&SecretString::from(url), Arc::new(machine)).await.unwrap();
    let asked = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now";
    let mut db = store.begin().await.unwrap();
    let before = store.clock().now().0;
    let row = query(asked).fetch_one(&mut *db).await.unwrap();
    let after = store.clock().now().0;
    let truth: i64 = row.try_get("now").unwrap();
    // The way there and back is part of what may differ.
    assert!((before - 500..=after + 500).contains(&truth), "{before} {truth} {after}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_two_replicas_are_asked_for_at_once_is_stored_once() {
    let Some((a, b)) = replicas().await else { return };
    for round in 0..20 {
        let by_key = round % 2 == 0;
        let text = format!("{round}");
        let ask = |store, n| contract::outbox::submit_again(store, &text, by_key, n);
        let answers = join_all((0..6).map(|n| ask(if n % 2 == 0 { &a } else { &b }, n))).await;
        let new = answers.iter().filter(|answer| **answer == Enqueued::New).count();
        assert_eq!(new, 1, "{answers:?}");
    }
    let all = Filter { most: 100, ..Filter::default() };
    assert_eq!(a.list(&all).await.unwrap().len(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_send_each_message_once_and_in_the_order_of_acceptance() {
    let Some((a, b)) = replicas().await else { return };
    let sent = Mutex::new(Vec::new());
    let work = async |store: &Postgres, name: &str| {
        let mut idle = 0;
        while idle < 40 {
            let claims = store.claim(&claimant(name), SLACK, T0, 3).await.unwrap();
            idle = if claims.is_empty() { idle + 1 } else { 0 };
            for claim in claims {
                let mut delivery = claim.delivery;
                assert!(!claim.interrupted);
                sent.lock().unwrap().push((delivery.channel.to_string(), delivery.id));
                delivery.state = crate::model::DeliveryState::Delivered;
                delivery.finished_at = Some(T0);
                let recorded = store.record(claim.epoch, &Settled::new(delivery)).await.unwrap();
                assert_eq!(recorded, Recorded::Done);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    // Several at once in each lane, from both sides, while both send.
    let accept = async |store: &Postgres, from: usize| {
        let accepted = (from..from + 40).map(async |n| {
            let channel = format!("C0{}", n % 4);
            contract::outbox::queue_in(store, &channel, &format!("{n}")).await
        });
        join_all(accepted).await
    };
    tokio::join!(accept(&a, 0), accept(&b, 40), work(&a, "a"), work(&b, "b"));
    let sent = sent.into_inner().unwrap();
    assert_eq!(sent.len(), 80);
    assert_eq!(a.next_due(&claimant("a"), &[SLACK]).await.unwrap(), None, "nothing is counted on");
    assert_eq!(sent.iter().map(|(_, id)| id).collect::<BTreeSet<_>>().len(), 80, "each once");
    // The order of acceptance is the order of the numbers.
    let all = a.list(&Filter { most: 100, ..Filter::default() }).await.unwrap();
    let mut accepted: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for delivery in all.iter().rev() {
        accepted.entry(delivery.channel.to_string()).or_default().push(delivery.id);
    }
    let mut order: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for (channel, id) in sent {
        order.entry(channel).or_default().push(id);
    }
    assert_eq!(order, accepted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_share_the_pace_of_a_bot() {
    let Some((a, b)) = replicas().await else { return };
    for n in 0..20 {
        contract::outbox::queue_in(&a, &format!("C0{n}"), "x").await;
    }
    let paced = |name: &str| Claimant {
        credentials: BTreeMap::from([(
            SLACK,
            Credential { fingerprint: "f".to_owned(), pace: Pace { interval_ms: 1000, burst: 3 } },
        )]),
        ..claimant(name)
    };
    let claim = async |store: &Postgres, name: &str, now| {
        store.claim(&paced(name), SLACK, now, 10).await.unwrap().len()
    };
    for round in 0..30 {
        // So much later that every lane is free again.
        let now = T0.after(100 * round * Duration::from_secs(1));
        let (by_a, by_b) = tokio::join!(claim(&a, "a", now), claim(&b, "b", now));
        // Whoever comes second may find the lanes locked, and comes again.
        let later = claim(&b, "b", now).await;
        assert_eq!(by_a + by_b + later, 3, "{by_a} {by_b} {later}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_never_hold_the_same_event() {
    let Some((a, b)) = replicas().await else { return };
    let take_all = async |store: &Postgres| {
        let mut new = 0;
        for n in 0..60 {
            let event = contract::inbound::event(&format!("{n}"), T0);
            let taken = store.take(&format!("slack:C0A/{}", n % 20), &event).await.unwrap();
            new += u32::from(taken);
        }
        new
    };
    let (by_a, by_b) = tokio::join!(take_all(&a), take_all(&b));
    assert_eq!(by_a + by_b, 60, "each is stored once");
    let hold_all = async |store: &Postgres, who: &str| {
        let mut all: Vec<Held> = Vec::new();
        let mut idle = 0;
        while idle < 5 {
            let held = store.hold(who, T0, LEASE, 2).await.unwrap();
            idle = if held.is_empty() { idle + 1 } else { 0 };
            all.extend(held);
        }
        all
    };
    let (mine, theirs) = tokio::join!(hold_all(&a, "a"), hold_all(&b, "b"));
    let events = |held: &[Held]| -> BTreeSet<String> {
        held.iter().flat_map(contract::inbound::ids).map(str::to_owned).collect()
    };
    assert!(events(&mine).is_disjoint(&events(&theirs)));
    assert_eq!(events(&mine).len() + events(&theirs).len(), 60, "and none is left out");
    let later = T0.after(LEASE);
    let handed_over = b.hold("b", later, LEASE, 100).await.unwrap();
    assert_eq!(handed_over.len(), 20);
    let release = Saved { release: true, ..Saved::default() };
    for held in &mine {
        assert_eq!(a.save(held, &release, later, LEASE).await.unwrap(), Recorded::Fenced);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_replica_listens() {
    let Some((a, b)) = replicas().await else { return };
    for n in 0..10 {
        let name = format!("listen:{n}");
        let (by_a, by_b) =
            tokio::join!(a.lease(&name, "a", T0, LEASE), b.lease(&name, "b", T0, LEASE));
        assert!(by_a.unwrap() ^ by_b.unwrap());
    }
}

#[tokio::test]
async fn one_unreadable_row_holds_up_its_own_channel_alone() {
    let Some(url) = schema() else { return };
    let store = open(&url).await;
    let damaged = contract::outbox::queue_in(&store, "C0A", "damaged").await;
    let whole = contract::outbox::queue_in(&store, "C0B", "whole").await;
    run(&store, "UPDATE deliveries SET steps = 'damaged' WHERE lane = 'slack:C0A'").await;
    let listed = store.list(&Filter { most: 10, ..Filter::default() }).await.unwrap();
    assert_eq!(listed.iter().map(|delivery| delivery.id).collect::<Vec<_>>(), [whole]);
    assert!(store.delivery(damaged).await.is_err(), "asked for, it says what is wrong");
    let claims = store.claim(&claimant("p"), SLACK, T0, 10).await.unwrap();
    assert_eq!(claims.iter().map(|claim| claim.delivery.id).collect::<Vec<_>>(), [whole]);
    for (conversation, id) in [("slack:C0A", "1"), ("slack:C0B", "2")] {
        let event = contract::inbound::event(id, T0);
        store.take(&conversation.to_owned(), &event).await.unwrap();
    }
    run(&store, "UPDATE events SET event = 'damaged' WHERE id = '1'").await;
    let held = store.hold("p1", T0, LEASE, 10).await.unwrap();
    assert_eq!(held.iter().map(|held| &held.conversation).collect::<Vec<_>>(), ["slack:C0B"]);
}

/// What a platform says may hold anything, and a result that cannot be recorded would be sent again.
#[tokio::test]
async fn a_result_with_a_nul_in_it_is_recorded() {
    let Some(url) = schema() else { return };
    let store = open(&url).await;
    let id = contract::outbox::queue_in(&store, "C0A", "x").await;
    let claim = store.claim(&claimant("p"), SLACK, T0, 1).await.unwrap().remove(0);
    let mut delivery = claim.delivery;
    delivery.hint = Some("it said \0".to_owned());
    delivery.permalink = Some("https://\0".to_owned());
    delivery.state = crate::model::DeliveryState::Failed;
    store.record(claim.epoch, &Settled::new(delivery)).await.unwrap();
    let read = store.delivery(id).await.unwrap().unwrap();
    assert_eq!(read.hint.as_deref(), Some("it said \u{2400}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_connections_are_replaced_unnoticed() {
    let Some(url) = schema() else { return };
    let (store, admin) = tokio::join!(open(&url), open(&url));
    join_all((0..8).map(|_| store.next_look())).await;
    let own = store.pool.size();
    assert!(own > 1, "several connections");
    // As a restart of the server would, but for our own sessions alone.
    let mut pids = Vec::new();
    let mut open_now = Vec::new();
    for _ in 0..own {
        let mut db = store.begin().await.unwrap();
        let row = query("SELECT pg_backend_pid()").fetch_one(&mut *db).await.unwrap();
        pids.push(row.try_get::<i32, _>(0).unwrap());
        open_now.push(db);
    }
    for db in open_now {
        db.rollback().await.unwrap();
    }
    let mut db = admin.begin().await.unwrap();
    query("SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) AS p (pid)")
        .bind(pids)
        .execute(&mut *db)
        .await
        .unwrap();
    db.commit().await.unwrap();
    for n in 0..12 {
        contract::outbox::queue_in(&store, "C0A", &format!("{n}")).await;
    }
}

#[tokio::test]
async fn a_server_that_is_away_is_named_and_no_secret_is() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = SecretString::from(format!("postgres://ada:canary@127.0.0.1:{port}/chat"));
    let error = Postgres::open(&url, Arc::new(SystemClock)).await.err().unwrap();
    assert!(matches!(error, StoreError::Away(_)), "{error}");
    let error = error.to_string();
    assert!(error.contains(&format!("127.0.0.1:{port}/chat")), "{error}");
    assert!(!error.contains("canary") && !error.contains("ada"), "{error}");
    assert!(url.expose_secret().contains("canary"));
}

/// Were a number given before, a later one could be seen, and sent, first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_are_given_while_the_lane_or_the_conversation_is_locked() {
    let Some((a, b)) = replicas().await else { return };
    let conversation = "slack:C0A".to_owned();
    contract::outbox::queue_in(&a, "C0A", "first").await;
    a.take(&conversation, &contract::inbound::event("1", T0)).await.unwrap();
    let mut db = a.begin().await.unwrap();
    query("SELECT 1 FROM lanes FOR UPDATE").execute(&mut *db).await.unwrap();
    query("SELECT 1 FROM conversations FOR UPDATE").execute(&mut *db).await.unwrap();
    let event = contract::inbound::event("2", T0);
    let both = async {
        tokio::join!(contract::outbox::queue_in(&b, "C0A", "second"), b.take(&conversation, &event))
    };
    let given = async {
        loop {
            let row = query(
                "SELECT (SELECT last_value FROM deliveries_seq_seq), (SELECT last_value FROM events_seq_seq),
                     count(*) FROM pg_locks WHERE NOT granted AND transactionid = pg_current_xact_id()::xid",
            )
            .fetch_one(&mut *db)
            .await
            .unwrap();
            // Both wait for us.
            if row.try_get::<i64, _>(2).unwrap() == 2 {
                break (row.try_get::<i64, _>(0).unwrap(), row.try_get::<i64, _>(1).unwrap());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::pin!(both);
    let given = tokio::select! {
        given = given => given,
        _ = &mut both => panic!("nobody waited"),
    };
    assert_eq!(given, (1, 1));
    db.rollback().await.unwrap();
    assert!(both.await.1.unwrap());
}

#[tokio::test]
async fn who_is_not_let_in_is_told_what_to_see_to() {
    let Some(url) = schema() else { return };
    let elsewhere = url.replacen("/postgres", "/nowhere", 1);
    let refused = Postgres::open(&SecretString::from(elsewhere), Arc::new(SystemClock)).await;
    let error = refused.err().unwrap();
    assert!(matches!(error, StoreError::DatabaseUrl(_)), "{error}");
    let error = error.to_string();
    assert!(error.contains("\"nowhere\" does not exist") && error.contains("HERALD_DATABASE_URL"));
}

#[tokio::test]
async fn an_error_says_its_cause_once() {
    let Some(url) = schema() else { return };
    let store = open(&url).await;
    run(&store, "DROP TABLE deliveries").await;
    let error = contract::outbox::try_queue(&store, "x").await.unwrap_err();
    for printed in [format!("{error}"), format!("{:#}", anyhow::Error::from(error))] {
        assert_eq!(printed.matches("\"deliveries\" does not exist").count(), 1, "{printed}");
    }
}

/// A proxy to the server of `url`, and what makes it go silent: connections that are open then stay open and carry nothing
/// any more, as on a network that has lost a node; new ones work.
async fn silenced(url: &str) -> (String, Arc<tokio::sync::Notify>) {
    let asked: PgConnectOptions = url.parse().unwrap();
    let (host, port, socket) = (asked.get_host(), asked.get_port(), asked.get_socket());
    let socket = socket.map(|directory| directory.join(format!(".s.PGSQL.{port}")));
    let host = format!("{host}:{port}");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut at = ::url::Url::parse(url).unwrap();
    at.set_host(Some("127.0.0.1")).unwrap();
    at.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
    at.query_pairs_mut().append_pair("pool_max_conns", "2");
    let silence = Arc::new(tokio::sync::Notify::new());
    let silent = Arc::clone(&silence);
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let silent = Arc::clone(&silent);
            match &socket {
                Some(path) => {
                    let server = tokio::net::UnixStream::connect(path).await.unwrap();
                    tokio::spawn(carry(client, server, silent));
                }
                None => {
                    let server = tokio::net::TcpStream::connect(&host).await.unwrap();
                    tokio::spawn(carry(client, server, silent));
                }
            }
        }
    });
    (at.into(), silence)
}

async fn carry<S>(
    mut client: tokio::net::TcpStream,
    mut server: S,
    silent: Arc<tokio::sync::Notify>,
) where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
        () = silent.notified() => std::future::pending().await,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_goes_silent_costs_the_connections_and_no_restart() {
    let Some(url) = schema() else { return };
    let (url, silence) = silenced(&url).await;
    let store = open(&url).await;
    join_all((0..4).map(|_| store.next_look())).await;
    assert_eq!(store.pool.size(), 2, "all that it may have");
    // One that is on its way back to the pool is asked once more, and would be replaced before anybody meets the silence.
    while store.pool.num_idle() < 2 {
        tokio::task::yield_now().await;
    }
    silence.notify_waiters();
    let lost = join_all((0..2).map(|_| store.next_look())).await;
    assert!(lost.iter().any(|it| matches!(it, Err(StoreError::Away(_)))), "{lost:?}");
    let again = Instant::now();
    while join_all((0..4).map(|_| store.next_look())).await.iter().any(Result::is_err) {
        assert!(again.elapsed() < Duration::from_secs(40), "it never comes back");
    }
}
