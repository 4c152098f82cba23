//! The audit trail: written with what it tells about, or not at all, and nobody alters it unnoticed.

use std::time::Duration;

use futures_util::future::join_all;
use secrecy::SecretString;
use serde_json::Value;

use super::outbox::{SLACK, claim_one, enqueue, finish, queue_in, submission};
use super::{LEASE, T0, inbound, second};
use crate::model::audit::{Act, Entry, Filtered, Treatment};
use crate::model::{DeliveryState, Reason};
use crate::store::trail::{Keys, Page, Row, Settings, Wrong, ZERO, verify};
use crate::store::{Conversations, Enqueued, NewDelivery, Outbox, Recorded, Saved, Settled, Trail};

/// Somebody who can write to the database.
pub(crate) trait Intruder {
    /// Lets commits fail that write a row of the trail, and lets them succeed again.
    const REFUSE: &'static str;
    const ALLOW: &'static str;

    async fn run(&self, sql: &str);
}

const KEY: &str = "canary-audit-key";

pub(super) fn plain() -> Settings {
    Settings { replica: "pod-1".to_owned(), ..Settings::default() }
}

pub(super) fn keyed() -> Settings {
    Settings { key: Some(KEY.into()), ..plain() }
}

pub(super) fn keys() -> Keys {
    Keys::new(&[SecretString::from(KEY)])
}

/// What a new store has to do. It is closed to others.
pub(crate) async fn suite<S: Outbox + Conversations + Trail + Intruder>(
    open: impl AsyncFn(Settings) -> S,
) {
    each_change_says_what_it_did(&open(plain()).await).await;
    what_changes_nothing_says_nothing(&open(plain()).await).await;
    what_is_undone_leaves_no_row_and_no_gap(&open(keyed()).await).await;
    what_a_message_says_is_told_to_whoever_asks_for_it(&open).await;
    what_has_had_its_time_goes_and_the_rest_still_holds(&open(keyed()).await).await;
    whoever_counts_hears_of_each_commit(&open(plain()).await).await;
    for settings in [plain(), keyed()] {
        every_kind_of_tampering_is_found(&open, &settings).await;
    }
    without_the_key_nobody_writes_a_row(&open).await;
    another_key_is_called_that(&open(keyed()).await).await;
    super::doubt::suite(open).await;
}

/// What two processes on one store have to do.
pub(crate) async fn shared<S: Outbox + Trail + Intruder>(
    open: impl AsyncFn(Settings, Settings) -> (S, S),
) {
    each_process_has_chains_of_its_own(open(keyed(), keyed()).await).await;
    a_chain_that_was_cut_is_known_by_the_others(open(keyed(), keyed()).await).await;
    let both = open(plain(), keyed()).await;
    a_chain_from_before_the_key_counts_as_far_as_a_keyed_one_names_it(both).await;
}

pub(super) async fn rows(trail: &dyn Trail) -> Vec<Row> {
    let mut all = Vec::new();
    for chain in trail.chains().await.unwrap() {
        all.extend(trail.rows(&chain.id, Page::After(0), 10_000).await.unwrap());
    }
    all
}

async fn lines(trail: &dyn Trail) -> Vec<Value> {
    let line = |row: Row| serde_json::from_str(&row.line).unwrap();
    rows(trail).await.into_iter().map(line).collect()
}

async fn acts(trail: &dyn Trail) -> Vec<String> {
    let act = |line: Value| line["type"].as_str().unwrap().to_owned();
    lines(trail).await.into_iter().map(act).collect()
}

/// What is found wrong.
pub(super) async fn wrongs(trail: &dyn Trail, keys: &Keys) -> Vec<Wrong> {
    let report = verify(trail, keys, None).await.unwrap();
    report.findings.into_iter().map(|finding| finding.wrong).collect()
}

pub(super) async fn holds(trail: &dyn Trail, keys: &Keys) {
    assert_eq!(wrongs(trail, keys).await, []);
}

async fn each_change_says_what_it_did<S: Outbox + Conversations + Trail>(store: &S) {
    let filtered = vec![Filtered { rule: "mention".to_owned(), treatment: Treatment::Redacted }];
    let first = NewDelivery { filtered, ..submission("C0A", "Zq7canary") };
    enqueue(store, &first).await;
    finish(store, claim_one(store, T0).await, DeliveryState::Delivered).await;
    let unsure = queue_in(store, "C0A", "two").await;
    finish(store, claim_one(store, T0).await, DeliveryState::Unknown).await;
    store.retry(unsure, second(5), second(3600)).await.unwrap();
    store.end(unsure, Reason::Discarded, "not wanted", second(6)).await.unwrap();
    queue_in(store, "C0A", "three").await;
    let mut denied = claim_one(store, second(6)).await;
    denied.delivery.abandon(Reason::Denied, "no".to_owned(), second(7));
    store.record(denied.epoch, &Settled::new(denied.delivery)).await.unwrap();
    let sending = queue_in(store, "C0A", "four").await;
    let four = claim_one(store, second(8)).await;
    store.end(sending, Reason::Discarded, "not wanted", second(8)).await.unwrap();
    finish(store, four, DeliveryState::Failed).await;
    store.resume(SLACK, second(9)).await.unwrap();
    let event = inbound::event("E1", second(10));
    let conversation = "slack:C0A/1".to_owned();
    store.take(&conversation, &event).await.unwrap();
    let held = store.hold("p1", second(10), LEASE, 1).await.unwrap().remove(0);
    let started = Entry { turn: Some("t1".to_owned()), ..Entry::new(Act::TurnStarted) };
    let saved = Saved { state: "{}".to_owned(), audit: vec![started], ..Saved::default() };
    store.save(&held, &saved, second(11), LEASE).await.unwrap();
    store.note(vec![Entry::new(Act::RulesChanged)], second(12)).await.unwrap();

    assert_eq!(
        acts(store).await,
        [
            "started",
            "redacted",
            "submitted",
            "delivered",
            "submitted",
            "unknown",
            "operator_retried",
            "operator_discarded",
            "submitted",
            "denied",
            "submitted",
            "operator_discarded",
            "failed",
            "operator_resumed",
            "inbound_accepted",
            "turn_started",
            "rules_changed",
        ]
    );
    let lines = lines(store).await;
    let chain = store.chains().await.unwrap().remove(0);
    for (n, line) in (1..).zip(&lines) {
        assert_eq!(
            (&line["v"], &line["n"], &line["replica"]),
            (&1.into(), &n.into(), &"pod-1".into())
        );
        assert_eq!(line["chain"], chain.id.as_str());
    }
    assert_eq!(lines[2]["delivery"], first.delivery.id.to_string());
    assert_eq!(lines[2]["content"], serde_json::json!({ "parts": 1, "characters": 9 }));
    assert_eq!(lines[2]["at"], T0.rfc3339());
    assert_eq!(lines[1]["filtered"][0]["rule"], "mention");
    assert_eq!((&lines[9]["reason"], &lines[13]["platform"]), (&"denied".into(), &"slack".into()));
    assert_eq!((&lines[14]["event"], &lines[15]["turn"]), (&"E1".into(), &"t1".into()));
    let said = rows(store).await.iter().map(|row| row.line.as_str()).collect::<String>();
    assert!(!said.contains("Zq7canary"), "{said}");
    assert_eq!(chain.n, 17);
    holds(store, &Keys::new(&[])).await;
}

async fn what_changes_nothing_says_nothing<S: Outbox + Conversations + Trail>(store: &S) {
    assert!(store.chains().await.unwrap().is_empty(), "who only reads writes no chain");
    let keyed = NewDelivery { idempotency_key: Some("k".to_owned()), ..submission("C0A", "one") };
    enqueue(store, &keyed).await;
    let before = rows(store).await;
    let again = NewDelivery { delivery: submission("C0A", "one").delivery, ..keyed.clone() };
    assert!(matches!(store.enqueue(again.clone()).await.unwrap(), Enqueued::Repeated(_)));
    let other = NewDelivery { content_hash: "other".to_owned(), ..again };
    assert_eq!(store.enqueue(other).await.unwrap(), Enqueued::KeyReused);
    let id = keyed.delivery.id;
    store.retry(id, second(1), second(3600)).await.unwrap();
    let late = claim_one(store, T0).await;
    let now = claim_one(store, second(60)).await;
    let mut delivery = late.delivery.clone();
    delivery.state = DeliveryState::Delivered;
    delivery.finished_at = Some(second(61));
    let fenced = store.record(late.epoch, &Settled::new(delivery)).await.unwrap();
    assert_eq!(fenced, Recorded::Fenced);
    let mut delivery = now.delivery.clone();
    delivery.state = DeliveryState::Queued;
    store.record(now.epoch, &Settled::new(delivery)).await.unwrap();
    assert_eq!(rows(store).await, before);

    finish(store, claim_one(store, second(62)).await, DeliveryState::Delivered).await;
    let (conversation, event) = ("slack:C0A/1".to_owned(), inbound::event("E1", T0));
    assert!(store.take(&conversation, &event).await.unwrap());
    let before = rows(store).await;
    assert!(!store.take(&conversation, &event).await.unwrap());
    store.end(id, Reason::Discarded, "", second(70)).await.unwrap();
    let late = store.hold("p1", T0, LEASE, 1).await.unwrap().remove(0);
    store.hold("p2", T0.after(LEASE), LEASE, 1).await.unwrap();
    let saved = Saved { audit: vec![Entry::new(Act::TurnEnded)], ..Saved::default() };
    let fenced = store.save(&late, &saved, T0.after(LEASE), LEASE).await.unwrap();
    assert_eq!(fenced, Recorded::Fenced);
    assert_eq!(rows(store).await, before);
    holds(store, &Keys::new(&[])).await;
}

async fn what_is_undone_leaves_no_row_and_no_gap<S: Outbox + Trail>(store: &S) {
    // All at once, so that they share commits and chains where they can; every third has an ID that is taken.
    let taken = submission("C0A", "taken");
    enqueue(store, &taken).await;
    let many = (0..90).map(|n| {
        let mut new = submission("C0A", &format!("{n}"));
        if n % 3 == 0 {
            new.delivery.id = taken.delivery.id;
        }
        store.enqueue(new)
    });
    let stored = join_all(many).await.into_iter().filter(Result::is_ok).count();
    assert_eq!(stored, 60);
    let submitted = acts(store).await.into_iter().filter(|act| act == "submitted").count();
    assert_eq!(submitted, 61);
    holds(store, &keys()).await;
}

async fn what_a_message_says_is_told_to_whoever_asks_for_it<S: Outbox + Trail>(
    open: &impl AsyncFn(Settings) -> S,
) {
    let text = async |settings| {
        let store = open(settings).await;
        enqueue(&store, &submission("C0A", "hello")).await;
        lines(&store).await.remove(1)["content"].clone()
    };
    let told = text(Settings { bodies: true, ..plain() }).await;
    assert_eq!(told, serde_json::json!({ "parts": 1, "characters": 5, "text": "hello" }));
    let hashed = text(keyed()).await;
    // printf 'text:hello' | openssl dgst -sha256 -hmac canary-audit-key
    let hmac = "6b5f3af1daca1e57ecbdb4b9f0da88906fbcdd76758cd34977df22ea041c5dde";
    assert_eq!(hashed, serde_json::json!({ "parts": 1, "characters": 5, "hmac": hmac }));
}

async fn what_has_had_its_time_goes_and_the_rest_still_holds<S: Outbox + Trail>(store: &S) {
    let note = async |at| store.note(vec![Entry::new(Act::RulesChanged)], at).await.unwrap();
    for n in 0..10 {
        note(second(n)).await;
    }
    // Started and four of them; in two goes.
    assert_eq!(store.trim(second(4), second(100), 3).await.unwrap(), 3);
    holds(store, &keys()).await;
    assert_eq!(store.trim(second(4), second(100), 3).await.unwrap(), 2);
    assert_eq!(store.trim(second(4), second(100), 3).await.unwrap(), 0);
    let left: Vec<_> = rows(store).await.iter().map(|row| row.n).collect();
    assert_eq!(left, [6, 7, 8, 9, 10, 11]);
    holds(store, &keys()).await;
    note(second(200)).await;
    holds(store, &keys()).await;
    // All of it; whoever writes the chain goes on with it.
    assert_eq!(store.trim(second(300), second(300), 100).await.unwrap(), 7);
    holds(store, &keys()).await;
    store
        .trim(second(300), second(300).after(Duration::from_secs(86_400 * 200)), 100)
        .await
        .unwrap();
    note(second(400)).await;
    assert_eq!(rows(store).await.iter().map(|row| row.n).collect::<Vec<_>>(), [13]);
    holds(store, &keys()).await;
}

async fn whoever_counts_hears_of_each_commit<S: Outbox + Trail>(store: &S) {
    let mut written = store.book().written();
    assert_eq!(*written.borrow_and_update(), 0);
    queue_in(store, "C0A", "one").await;
    assert!(written.has_changed().unwrap());
    assert_eq!(*written.borrow_and_update(), 2);
    let counts = store.book().counts();
    assert_eq!((counts[&Act::Started], counts[&Act::Submitted]), (1, 1));
    let head = store.book().heads().remove(0);
    let chain = store.chains().await.unwrap().remove(0);
    assert_eq!((head.chain, head.n, head.hash), (chain.id, chain.n, chain.hash));
}

/// A trail of one chain, of these rows: started, and five submissions.
async fn some<S: Outbox + Trail>(store: &S) -> Vec<Row> {
    for n in 0..5 {
        queue_in(store, "C0A", &format!("{n}")).await;
    }
    rows(store).await
}

/// What somebody does to the database, and what is found.
const TAMPERING: [(&str, &str); 13] = [
    ("UPDATE audit SET line = replace(line, 'C0A', 'C0B') WHERE n = 3", "altered"),
    ("UPDATE audit SET hash = prev WHERE n = 3", "altered"),
    ("UPDATE audit SET prev = hash WHERE n = 3", "unlinked"),
    ("DELETE FROM audit WHERE n = 1", "missing"),
    ("DELETE FROM audit WHERE n = 3", "missing"),
    ("DELETE FROM audit WHERE n = 6", "missing"),
    ("DELETE FROM audit", "missing"),
    (
        "UPDATE audit SET n = 99 WHERE n = 3; UPDATE audit SET n = 3 WHERE n = 4; UPDATE audit SET n = 4 WHERE n = 99",
        "moved",
    ),
    ("INSERT INTO audit SELECT chain, 7, line, prev, hash FROM audit WHERE n = 6", "beyond"),
    ("UPDATE audit_chains SET n = 5, hash = (SELECT hash FROM audit WHERE n = 5)", "beyond"),
    ("UPDATE audit_chains SET hash = (SELECT hash FROM audit WHERE n = 5)", "other_end"),
    ("UPDATE audit SET chain = 'another'", "stray"),
    ("DELETE FROM audit_chains", "stray"),
];

async fn every_kind_of_tampering_is_found<S: Outbox + Trail + Intruder>(
    open: &impl AsyncFn(Settings) -> S,
    settings: &Settings,
) {
    let keys = if settings.key.is_some() { keys() } else { Keys::new(&[]) };
    for (sql, what) in TAMPERING {
        let store = open(settings.clone()).await;
        some(&store).await;
        holds(&store, &keys).await;
        store.run(sql).await;
        let found = verify(&store, &keys, None).await.unwrap().findings;
        let names = found.iter().map(|it| serde_json::to_value(it).unwrap()["wrong"].clone());
        let names: Vec<_> = names.collect();
        assert!(names.contains(&what.into()), "{sql}: {names:?}");
    }
}

/// Rewrites a chain from its third row on as somebody would who does not have the key.
async fn rewrite<S: Trail + Intruder>(store: &S) {
    let seal = crate::store::trail::Seal::new(None);
    let mut prev = ZERO.to_owned();
    for row in rows(store).await {
        let line = row.line.replace("C0A", "C0B");
        let hash = seal.row(&prev, &line);
        let sql = format!(
            "UPDATE audit SET line = '{line}', prev = '{prev}', hash = '{hash}' WHERE n = {}",
            row.n
        );
        store.run(&sql).await;
        prev = hash;
    }
    store.run(&format!("UPDATE audit_chains SET hash = '{prev}'")).await;
}

async fn without_the_key_nobody_writes_a_row<S: Outbox + Trail + Intruder>(
    open: &impl AsyncFn(Settings) -> S,
) {
    let store = open(plain()).await;
    some(&store).await;
    rewrite(&store).await;
    // What the documentation says: this is what the key is for.
    holds(&store, &Keys::new(&[])).await;
    let store = open(keyed()).await;
    some(&store).await;
    rewrite(&store).await;
    assert!(wrongs(&store, &keys()).await.contains(&Wrong::Altered));
    store.run("UPDATE audit_chains SET key = NULL, seal = NULL, base_seal = NULL").await;
    assert_eq!(wrongs(&store, &keys()).await, [Wrong::Unkeyed { from: 1 }]);
    // Back to where it was an hour ago: its end was sealed for another row.
    let store = open(keyed()).await;
    some(&store).await;
    store.run("DELETE FROM audit WHERE n = 6").await;
    store.run("UPDATE audit_chains SET n = 5, hash = (SELECT hash FROM audit WHERE n = 5)").await;
    assert_eq!(wrongs(&store, &keys()).await, [Wrong::Unsealed { what: "end" }]);
    // Its beginning as if it had had its time.
    let store = open(keyed()).await;
    some(&store).await;
    store
        .run("UPDATE audit_chains SET base_n = 2, base_hash = (SELECT hash FROM audit WHERE n = 2)")
        .await;
    store.run("DELETE FROM audit WHERE n < 3").await;
    assert_eq!(wrongs(&store, &keys()).await, [Wrong::Unsealed { what: "beginning" }]);
}

async fn another_key_is_called_that<S: Outbox + Trail>(store: &S) {
    some(store).await;
    let other = Keys::new(&[SecretString::from("another")]);
    for keys in [&other, &Keys::new(&[])] {
        let wrongs = wrongs(store, keys).await;
        assert!(matches!(wrongs.as_slice(), [Wrong::OtherKey { .. }]), "{wrongs:?}");
    }
    // After a rotation both are known.
    holds(store, &Keys::new(&["another".into(), KEY.into()])).await;
    let said = format!("{:?} {:?}", store.chains().await.unwrap(), rows(store).await);
    assert!(!said.contains(KEY), "{said}");
}

async fn each_process_has_chains_of_its_own<S: Outbox + Trail>((a, b): (S, S)) {
    let many = |store| join_all((0..20).map(move |n| queue_in_own(store, n)));
    tokio::join!(many(&a), many(&b));
    let (mine, theirs) = (a.book().heads(), b.book().heads());
    assert!(mine.iter().all(|head| theirs.iter().all(|other| head.chain != other.chain)));
    assert_eq!(a.chains().await.unwrap().len(), mine.len() + theirs.len());
    holds(&a, &keys()).await;
    holds(&b, &keys()).await;
}

async fn queue_in_own<S: Outbox>(store: &S, n: usize) {
    queue_in(store, &format!("C0A{n}"), "text").await;
}

/// It was cut at its end, and the end set back, by somebody who had seen that end sealed.
async fn a_chain_that_was_cut_is_known_by_the_others<S: Outbox + Trail + Intruder>((a, b): (S, S)) {
    queue_in(&a, "C0A", "one").await;
    let earlier = a.chains().await.unwrap().remove(0);
    queue_in(&a, "C0A", "two").await;
    queue_in(&b, "C0B", "three").await;
    holds(&a, &keys()).await;
    let (id, seal) = (earlier.id, earlier.seal.unwrap());
    a.run(&format!("DELETE FROM audit WHERE chain = '{id}' AND n > {}", earlier.n)).await;
    let set_back = format!(
        "UPDATE audit_chains SET n = {}, hash = '{}', seal = '{seal}' WHERE chain = '{id}'",
        earlier.n, earlier.hash
    );
    a.run(&set_back).await;
    let by = b.book().heads().remove(0).chain;
    assert_eq!(wrongs(&a, &keys()).await, [Wrong::CutOff { n: 3, by: by.clone() }]);
    a.run(&format!("DELETE FROM audit WHERE chain = '{id}'")).await;
    a.run(&format!("DELETE FROM audit_chains WHERE chain = '{id}'")).await;
    assert_eq!(wrongs(&a, &keys()).await, [Wrong::Gone { n: 3, by }]);
}

async fn a_chain_from_before_the_key_counts_as_far_as_a_keyed_one_names_it<S: Outbox + Trail>(
    (before, after): (S, S),
) {
    queue_in(&before, "C0A", "one").await;
    assert_eq!(wrongs(&before, &keys()).await, [Wrong::Unkeyed { from: 1 }]);
    queue_in(&after, "C0B", "two").await;
    holds(&after, &keys()).await;
    queue_in(&before, "C0A", "three").await;
    assert_eq!(wrongs(&before, &keys()).await, [Wrong::Unkeyed { from: 3 }]);
}
