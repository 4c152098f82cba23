//! Deliveries and their lanes.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{LEASE, T0, second};
use crate::clock::Timestamp;
use crate::model::{
    Action, ChannelId, ClientName, Delivery, DeliveryId, DeliveryState, MessageRef, Part, Pause,
    Placement, PlatformKind, Reason, Scope, Step, TextPart,
};
use crate::platform::{Credential, Pace};
use crate::policy::Rate;
use crate::store::{
    Backlog, Claim, Claimant, Enqueued, Filter, Hold, NewDelivery, Outbox, Recorded, Settled,
    StoreError, TOO_OFTEN, Verdict,
};

pub(super) const SLACK: PlatformKind = PlatformKind::Slack;
const FAST: Pace = Pace { interval_ms: 0, burst: 1 };

pub(super) fn claimant(process: &str) -> Claimant {
    Claimant {
        process: process.to_owned(),
        own_only: false,
        lease: LEASE,
        credentials: BTreeMap::new(),
    }
}

fn with_secret(fingerprint: &str, pace: Pace) -> Claimant {
    let credential = Credential { fingerprint: fingerprint.to_owned(), pace };
    Claimant { credentials: BTreeMap::from([(SLACK, credential)]), ..claimant("p1") }
}

pub(super) fn submission(channel: &str, text: &str) -> NewDelivery {
    let part = Part::Text(TextPart::new(text, text));
    let step = Step { nonce: text.to_owned(), action: Action::Send { part } };
    let channel = ChannelId::new(PlatformKind::Slack, channel).unwrap();
    let (id, client) = (DeliveryId::new(T0), ClientName::new("agent"));
    let delivery = Delivery {
        warnings: vec!["a warning".to_owned()],
        not_before: Timestamp(0),
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
        ..Delivery::new(id, client, channel, vec![step], T0, second(3600))
    };
    NewDelivery {
        delivery,
        submitter: "p1".to_owned(),
        pace: FAST,
        idempotency_key: None,
        rate: Rate::default(),
        filtered: Vec::new(),
        content_hash: text.to_owned(),
        same_since: None,
    }
}

pub(super) async fn enqueue(outbox: &dyn Outbox, new: &NewDelivery) -> DeliveryId {
    assert_eq!(outbox.enqueue(new.clone()).await.unwrap(), Enqueued::New);
    new.delivery.id
}

pub(super) async fn claim(outbox: &dyn Outbox, at: Timestamp) -> Vec<Claim> {
    outbox.claim(&claimant("p1"), SLACK, at, 10).await.unwrap()
}

pub(super) async fn claim_one(outbox: &dyn Outbox, at: Timestamp) -> Claim {
    let mut claims = claim(outbox, at).await;
    assert_eq!(claims.len(), 1);
    claims.remove(0)
}

pub(super) async fn finish(outbox: &dyn Outbox, claim: Claim, state: DeliveryState) {
    let mut delivery = claim.delivery;
    delivery.state = state;
    delivery.finished_at = Some(T0);
    let recorded = outbox.record(claim.epoch, &Settled::new(delivery)).await.unwrap();
    assert_eq!(recorded, Recorded::Done);
}

/// Likewise; from now on its word stands for this thread.
pub(super) async fn finish_in(outbox: &dyn Outbox, claim: Claim, thread: &str) {
    let thread = Placement { thread: Some(thread.to_owned()), ..Placement::default() };
    let mut delivery = claim.delivery;
    delivery.state = DeliveryState::Delivered;
    delivery.finished_at = Some(T0);
    let settled = Settled { thread: Some(thread), ..Settled::new(delivery) };
    outbox.record(claim.epoch, &settled).await.unwrap();
}

/// One queued delivery.
pub(crate) async fn one_queued(outbox: &dyn Outbox) -> DeliveryId {
    enqueue(outbox, &submission("C0A", "one")).await
}

/// One more delivery of this text, if it can be stored.
pub(crate) async fn try_queue(outbox: &dyn Outbox, text: &str) -> Result<DeliveryId, StoreError> {
    let new = submission("C0A", text);
    let id = new.delivery.id;
    outbox.enqueue(new).await.map(|_| id)
}

/// One more delivery of this text, in a Slack channel.
pub(crate) async fn queue_in(outbox: &dyn Outbox, channel: &str, text: &str) -> DeliveryId {
    enqueue(outbox, &submission(channel, text)).await
}

/// What somebody hears who asks for the same as others: by a key of theirs, or by its content. `n` tells the askers apart.
pub(crate) async fn submit_again(
    outbox: &dyn Outbox,
    text: &str,
    by_key: bool,
    n: u32,
) -> Enqueued {
    let new = submission("C0A", text);
    let key = by_key.then(|| format!("key of {text}"));
    let since = (!by_key).then(|| T0.before(Duration::from_secs(60)));
    let submitter = format!("p{n}");
    let new = NewDelivery { idempotency_key: key, same_since: since, submitter, ..new };
    outbox.enqueue(new).await.unwrap()
}

/// Runs the suite; `open` gives an empty store each time.
pub(crate) async fn suite<S: Outbox, F: Future<Output = S>>(open: impl Fn() -> F) {
    without_retention(&open).await;
    super::retention::suite(&open).await;
    super::rate::suite(&open).await;
}

/// The same for a store that keeps everything.
pub(crate) async fn without_retention<S: Outbox, F: Future<Output = S>>(open: &impl Fn() -> F) {
    reads_back_what_it_stored(&open().await).await;
    sends_a_lane_in_order_one_at_a_time(&open().await).await;
    gives_a_lane_to_one_claimant_until_the_lease_ends(&open().await).await;
    holds_a_lane_or_a_whole_bot(&open().await).await;
    a_bot_that_waits_takes_no_room_from_the_others(&open().await).await;
    a_bot_that_fails_too_often_is_tried_with_one_request_at_a_time(&open().await).await;
    a_refused_secret_is_not_shown_again(&open().await).await;
    paces_a_lane(&open().await).await;
    finds_what_a_submission_repeats(&open().await).await;
    own_only_claims_what_this_process_submitted(&open().await).await;
    remembers_the_thread_of_a_key(&open().await).await;
    an_operator_retries_and_ends(&open().await).await;
    finds_the_newest_edit(&open().await).await;
    tells_what_waits(&open().await).await;
    super::listing::suite(open).await;
}

async fn tells_what_waits(outbox: &dyn Outbox) {
    assert!(outbox.backlog().await.unwrap().is_empty());
    for text in ["a1", "a2", "a3"] {
        enqueue(outbox, &submission("C0A", text)).await;
    }
    let first = claim_one(outbox, T0).await;
    let waiting =
        |queued, sending| BTreeMap::from([(SLACK, Backlog { queued, sending, oldest: Some(T0) })]);
    assert_eq!(outbox.backlog().await.unwrap(), waiting(2, 1));
    finish(outbox, first, DeliveryState::Delivered).await;
    assert_eq!(outbox.backlog().await.unwrap(), waiting(2, 0));
}

async fn reads_back_what_it_stored(outbox: &dyn Outbox) {
    let mut new = submission("C0A", "one");
    new.delivery.placement.thread = Some("1.2".to_owned());
    new.delivery.thread_key = Some("incident".to_owned());
    enqueue(outbox, &new).await;
    let read = outbox.delivery(new.delivery.id).await.unwrap().unwrap();
    assert_eq!(read, new.delivery);
    assert_eq!(outbox.delivery(DeliveryId::new(T0)).await.unwrap(), None);
    let only = |state| Filter { states: vec![state], most: 10, ..Filter::default() };
    assert_eq!(outbox.list(&only(DeliveryState::Queued)).await.unwrap(), [read]);
    assert!(outbox.list(&only(DeliveryState::Failed)).await.unwrap().is_empty());
    outbox.check_writable().await.unwrap();
}

async fn sends_a_lane_in_order_one_at_a_time(outbox: &dyn Outbox) {
    for text in ["a1", "a2"] {
        enqueue(outbox, &submission("C0A", text)).await;
    }
    enqueue(outbox, &submission("C0B", "b1")).await;
    let first: Vec<_> = claim(outbox, T0).await;
    let texts = |claims: &[Claim]| -> Vec<String> {
        let mut texts: Vec<_> =
            claims.iter().map(|claim| claim.delivery.steps[0].nonce.clone()).collect();
        texts.sort();
        texts
    };
    assert_eq!(texts(&first), ["a1", "b1"]);
    assert!(claim(outbox, T0).await.is_empty(), "both lanes are busy");
    for claim in first {
        finish(outbox, claim, DeliveryState::Delivered).await;
    }
    assert_eq!(texts(&claim(outbox, T0).await), ["a2"]);
}

async fn gives_a_lane_to_one_claimant_until_the_lease_ends(outbox: &dyn Outbox) {
    enqueue(outbox, &submission("C0A", "one")).await;
    let stale = claim_one(outbox, T0).await;
    assert!(!stale.interrupted);
    assert_eq!(outbox.next_due(&claimant("p2"), &[SLACK]).await.unwrap(), Some(T0.after(LEASE)));
    let again = outbox.claim(&claimant("p2"), SLACK, second(31), 10).await.unwrap().remove(0);
    assert!(again.interrupted, "the first claim never recorded");
    assert_eq!(again.delivery.attempts, 2);
    assert_eq!(again.delivery.doubtful_since, Some(T0));
    let mut late = stale.delivery;
    late.state = DeliveryState::Failed;
    let recorded = outbox.record(stale.epoch, &Settled::new(late)).await.unwrap();
    assert_eq!(recorded, Recorded::Fenced);
    let now = outbox.delivery(again.delivery.id).await.unwrap().unwrap();
    assert_eq!(now.state, DeliveryState::Sending, "a fenced result changes nothing");
}

async fn holds_a_lane_or_a_whole_bot(outbox: &dyn Outbox) {
    enqueue(outbox, &submission("C0A", "a")).await;
    enqueue(outbox, &submission("C0B", "b")).await;
    let claims = claim(outbox, T0).await;
    for (claim, scope, until) in claims
        .into_iter()
        .zip([(Scope::Channel, 10), (Scope::Credential, 20)])
        .map(|(c, (s, u))| (c, s, u))
    {
        let mut delivery = claim.delivery;
        delivery.state = DeliveryState::Queued;
        delivery.reason = Some(Reason::RateLimited);
        let hold = Some(Hold { until: second(until), scope });
        outbox.record(claim.epoch, &Settled { hold, ..Settled::new(delivery) }).await.unwrap();
    }
    assert!(claim(outbox, second(15)).await.is_empty(), "the whole bot waits");
    assert_eq!(outbox.next_due(&claimant("p1"), &[SLACK]).await.unwrap(), Some(second(20)));
    assert_eq!(claim(outbox, second(20)).await.len(), 2);
}

async fn a_bot_that_waits_takes_no_room_from_the_others(outbox: &dyn Outbox) {
    for channel in ["C0A", "C0B", "C0C"] {
        enqueue(outbox, &submission(channel, channel)).await;
    }
    let claim = outbox.claim(&claimant("p1"), SLACK, T0, 1).await.unwrap().remove(0);
    let mut delivery = claim.delivery;
    delivery.state = DeliveryState::Queued;
    let hold = Some(Hold { until: second(20), scope: Scope::Credential });
    outbox.record(claim.epoch, &Settled { hold, ..Settled::new(delivery) }).await.unwrap();
    let mut other = submission("C0A", "other");
    other.delivery.channel = ChannelId::new(PlatformKind::Discord, "100000000000000001").unwrap();
    let id = enqueue(outbox, &other).await;
    assert!(outbox.claim(&claimant("p1"), SLACK, second(1), 2).await.unwrap().is_empty());
    let claims = outbox.claim(&claimant("p1"), PlatformKind::Discord, second(1), 2).await.unwrap();
    assert_eq!(claims.iter().map(|claim| claim.delivery.id).collect::<Vec<_>>(), [id]);
}

fn failing(probe_at: Timestamp) -> Verdict {
    let pause = Pause {
        reason: Reason::ServerError,
        hint: "it fails".to_owned(),
        since: T0,
        refused: None,
    };
    Verdict::Fails { pause, probe_at }
}

/// The attempt said this about the bot, and is tried again.
async fn retry_later(outbox: &dyn Outbox, claim: Claim, verdict: Verdict) {
    let mut delivery = claim.delivery;
    delivery.state = DeliveryState::Queued;
    let settled = Settled { verdict: Some(verdict), ..Settled::new(delivery) };
    assert_eq!(outbox.record(claim.epoch, &settled).await.unwrap(), Recorded::Done);
}

async fn a_bot_that_fails_too_often_is_tried_with_one_request_at_a_time(outbox: &dyn Outbox) {
    for channel in ["C0A", "C0B", "C0C"] {
        enqueue(outbox, &submission(channel, channel)).await;
    }
    for failure in 1..=TOO_OFTEN {
        let claim = outbox.claim(&claimant("p1"), SLACK, T0, 1).await.unwrap().remove(0);
        assert_eq!(claim.troubled, failure > 1);
        retry_later(outbox, claim, failing(second(30))).await;
    }
    assert!(claim(outbox, second(29)).await.is_empty(), "it waits");
    let waiting = outbox.list(&Filter { most: 9, ..Filter::default() }).await.unwrap();
    let reasons = waiting.iter().map(|delivery| delivery.receipt(T0, false).reason);
    assert!(reasons.clone().all(|reason| reason == Some(Reason::ServerError)), "{waiting:?}");
    assert_eq!(reasons.count(), 3, "also those that were never tried");
    assert_eq!(outbox.pauses().await.unwrap()[&SLACK].hint, "it fails");
    assert_eq!(outbox.next_due(&claimant("p1"), &[SLACK]).await.unwrap(), Some(second(30)));
    let probe = claim_one(outbox, second(30)).await;
    assert!(claim(outbox, second(31)).await.is_empty(), "one at a time");
    retry_later(outbox, probe, failing(second(35))).await;
    assert!(claim(outbox, second(34)).await.is_empty());
    let stuck = claim_one(outbox, second(35)).await;
    let probe = claim_one(outbox, second(35).after(LEASE)).await;
    assert_ne!(stuck.delivery.id, probe.delivery.id, "a probe that vanished is no end");
    retry_later(outbox, probe, Verdict::Works { at: second(70) }).await;
    assert!(outbox.pauses().await.unwrap().is_empty());
    assert_eq!(claim(outbox, second(35).after(LEASE)).await.len(), 3, "all go on");
}

async fn a_refused_secret_is_not_shown_again(outbox: &dyn Outbox) {
    for channel in ["C0A", "C0B"] {
        enqueue(outbox, &submission(channel, channel)).await;
    }
    let old = with_secret("old", FAST);
    let claim = outbox.claim(&old, SLACK, T0, 1).await.unwrap().remove(0);
    let pause = Pause {
        reason: Reason::Auth,
        hint: "new token".to_owned(),
        since: second(1),
        refused: Some("old".to_owned()),
    };
    let refused = Verdict::Refused { pause };
    retry_later(outbox, claim, refused.clone()).await;
    assert!(outbox.claim(&old, SLACK, second(9999), 9).await.unwrap().is_empty(), "nor ever");
    assert_eq!(outbox.next_due(&old, &[SLACK]).await.unwrap(), None);
    let waiting = outbox.list(&Filter { most: 9, ..Filter::default() }).await.unwrap();
    for receipt in waiting.iter().map(|delivery| delivery.receipt(second(1), false)) {
        assert_eq!((receipt.reason, receipt.retry_after_seconds), (Some(Reason::Auth), None));
        assert_eq!(receipt.hint.as_deref(), Some("new token; it stays queued until then"));
    }
    let new = with_secret("new", FAST);
    assert_eq!(outbox.next_due(&new, &[SLACK]).await.unwrap(), Some(T0));
    let claim = outbox.claim(&new, SLACK, second(9000), 1).await.unwrap().remove(0);
    assert!(claim.troubled);
    retry_later(outbox, claim, Verdict::Works { at: second(9001) }).await;
    assert!(outbox.pauses().await.unwrap().is_empty());
    let waiting = outbox.list(&Filter { most: 9, ..Filter::default() }).await.unwrap();
    let deadlines: Vec<_> = waiting.iter().map(|delivery| delivery.deadline).collect();
    assert_eq!(deadlines, [second(9001 + 3600); 2], "they have as long as they had");
    let out = outbox.claim(&old, SLACK, second(9002), 9).await.unwrap();
    assert!(out.is_empty(), "the old one stays out");
    let wrong = with_secret("wrong", FAST);
    let claim = outbox.claim(&wrong, SLACK, second(9002), 1).await.unwrap().remove(0);
    let Verdict::Refused { pause } = refused else { unreachable!() };
    let pause = Pause { refused: Some("wrong".to_owned()), ..pause };
    retry_later(outbox, claim, Verdict::Refused { pause }).await;
    for secret in [&old, &wrong] {
        let claims = outbox.claim(secret, SLACK, second(9003), 9).await.unwrap();
        assert!(claims.is_empty(), "each that was refused stays out");
        assert_eq!(outbox.next_due(secret, &[SLACK]).await.unwrap(), None);
    }
    outbox.resume(SLACK, second(9003)).await.unwrap();
    assert_eq!(outbox.claim(&old, SLACK, second(9004), 9).await.unwrap().len(), 2);
}

async fn paces_a_lane(outbox: &dyn Outbox) {
    for n in 0..4 {
        let pace = Pace { interval_ms: 1000, burst: 2 };
        enqueue(outbox, &NewDelivery { pace, ..submission("C0A", &format!("{n}")) }).await;
    }
    let mut sent = Vec::new();
    for half_seconds in 0..8 {
        let at = T0.after(Duration::from_millis(500 * half_seconds));
        for claim in claim(outbox, at).await {
            sent.push(half_seconds);
            finish(outbox, claim, DeliveryState::Delivered).await;
        }
    }
    assert_eq!(sent, [0, 1, 2, 4], "two at once, then one a second");
    let who = with_secret("f", Pace { interval_ms: 500, burst: 1 });
    for channel in ["C0X", "C0Y"] {
        enqueue(outbox, &submission(channel, channel)).await;
    }
    assert_eq!(outbox.claim(&who, SLACK, second(100), 10).await.unwrap().len(), 1);
    let later = second(100).after(Duration::from_millis(500));
    assert_eq!(outbox.claim(&who, SLACK, later, 10).await.unwrap().len(), 1);
}

async fn finds_what_a_submission_repeats(outbox: &dyn Outbox) {
    let keyed =
        |text| NewDelivery { idempotency_key: Some("k".to_owned()), ..submission("C0A", text) };
    let id = enqueue(outbox, &keyed("one")).await;
    match outbox.enqueue(keyed("one")).await.unwrap() {
        Enqueued::Repeated(earlier) => assert_eq!(earlier.id, id),
        other => panic!("{other:?}"),
    }
    assert_eq!(outbox.enqueue(keyed("two")).await.unwrap(), Enqueued::KeyReused);
    let mut stranger = keyed("two");
    stranger.delivery.client = ClientName::new("another agent");
    enqueue(outbox, &stranger).await;

    let recent = |since| NewDelivery { same_since: Some(since), ..submission("C0B", "b") };
    let first = enqueue(outbox, &recent(T0)).await;
    let before = T0.before(Duration::from_secs(60));
    match outbox.enqueue(recent(before)).await.unwrap() {
        Enqueued::Repeated(earlier) => assert_eq!(earlier.id, first),
        other => panic!("{other:?}"),
    }
    enqueue(outbox, &recent(T0)).await;

    let failed = claim(outbox, T0).await;
    for claim in failed {
        finish(outbox, claim, DeliveryState::Failed).await;
    }
    match outbox.enqueue(keyed("one")).await.unwrap() {
        Enqueued::Retried(earlier) => {
            assert_eq!((earlier.id, earlier.state), (id, DeliveryState::Queued));
        }
        other => panic!("{other:?}"),
    }
}

async fn own_only_claims_what_this_process_submitted(outbox: &dyn Outbox) {
    enqueue(outbox, &submission("C0A", "theirs")).await;
    let mine = NewDelivery { submitter: "p2".to_owned(), ..submission("C0A", "mine") };
    let who = Claimant { own_only: true, ..claimant("p2") };
    assert_eq!(outbox.next_due(&who, &[SLACK]).await.unwrap(), None);
    assert!(outbox.claim(&who, SLACK, T0, 10).await.unwrap().is_empty());
    let id = enqueue(outbox, &mine).await;
    assert!(outbox.next_due(&who, &[SLACK]).await.unwrap().is_some());
    assert_eq!(outbox.claim(&who, SLACK, T0, 10).await.unwrap()[0].delivery.id, id);
    // A process that asks again for what an earlier one failed to send is the one to send it.
    let keyed = |submitter: &str| NewDelivery {
        submitter: submitter.to_owned(),
        idempotency_key: Some("k".to_owned()),
        ..submission("C0B", "again")
    };
    let id = enqueue(outbox, &keyed("p1")).await;
    outbox.end(id, Reason::Expired, "too late", T0).await.unwrap();
    outbox.enqueue(keyed("p2")).await.unwrap();
    let claims = outbox.claim(&who, SLACK, T0, 10).await.unwrap();
    assert!(claims.iter().any(|claim| claim.delivery.id == id), "nobody sends it");
}

async fn remembers_the_thread_of_a_key(outbox: &dyn Outbox) {
    let in_thread = |text| {
        let mut new = submission("C0A", text);
        new.delivery.thread_key = Some("incident-42".to_owned());
        new
    };
    enqueue(outbox, &in_thread("one")).await;
    enqueue(outbox, &in_thread("two")).await;
    let claim = claim_one(outbox, T0).await;
    assert_eq!(claim.thread, None);
    let thread = Placement { thread: Some("1.2".to_owned()), ..Placement::default() };
    let mut delivery = claim.delivery;
    delivery.state = DeliveryState::Delivered;
    outbox
        .record(claim.epoch, &Settled { thread: Some(thread.clone()), ..Settled::new(delivery) })
        .await
        .unwrap();
    assert_eq!(claim_one(outbox, T0).await.thread, Some(thread));
}

async fn an_operator_retries_and_ends(outbox: &dyn Outbox) {
    let id = enqueue(outbox, &submission("C0A", "one")).await;
    let ended = outbox.end(id, Reason::Discarded, "discarded", T0).await.unwrap().unwrap();
    assert_eq!((ended.state, ended.reason), (DeliveryState::Failed, Some(Reason::Discarded)));
    assert!(claim(outbox, T0).await.is_empty());
    let retried = outbox.retry(id, second(3), second(7200)).await.unwrap().unwrap();
    assert_eq!(retried.created_at, second(3), "it is as old as its retry");
    assert_eq!((retried.state, retried.deadline), (DeliveryState::Queued, second(7200)));
    let claim = claim_one(outbox, T0).await;
    assert_eq!(claim.delivery.doubtful_since, None);
    let sending = outbox.end(id, Reason::Discarded, "discarded", second(1)).await.unwrap().unwrap();
    assert_eq!((sending.state, sending.deadline), (DeliveryState::Sending, sending.created_at));
    finish(outbox, claim, DeliveryState::Delivered).await;
    let untouched = outbox.retry(id, second(4), second(7200)).await.unwrap().unwrap();
    assert_eq!(untouched.state, DeliveryState::Delivered);
    assert_eq!(outbox.retry(DeliveryId::new(T0), T0, T0).await.unwrap(), None);
}

async fn finds_the_newest_edit(outbox: &dyn Outbox) {
    let client = ClientName::new("agent");
    let id = enqueue(outbox, &submission("C0A", "one")).await;
    let latest = outbox.latest(&client, id).await.unwrap().unwrap();
    assert_eq!(latest.id, id);
    finish(outbox, claim_one(outbox, T0).await, DeliveryState::Delivered).await;
    let mut edit = submission("C0A", "two");
    edit.delivery.edits = Some(id);
    enqueue(outbox, &edit).await;
    assert_eq!(outbox.latest(&client, id).await.unwrap().unwrap().id, id, "not delivered yet");
    let claim = claim_one(outbox, T0).await;
    let mut delivery = claim.delivery;
    delivery.state = DeliveryState::Delivered;
    delivery.messages = vec![MessageRef { id: "1".to_owned(), thread: None }];
    outbox.record(claim.epoch, &Settled::new(delivery)).await.unwrap();
    let latest = outbox.latest(&client, id).await.unwrap().unwrap();
    assert_eq!((latest.id, latest.messages.len()), (edit.delivery.id, 1));
    assert_eq!(outbox.latest(&ClientName::new("other"), id).await.unwrap(), None);
}
