//! What has had its time.

use super::outbox::{claim_one, enqueue, finish, finish_in, submission};
use super::{T0, second};
use crate::model::{
    ClientName, Delivery, DeliveryId, DeliveryState, Invitation, MessageRef, Person, Placement,
    Reason, ResponseUrl, Visit,
};
use crate::store::{Enqueued, Filter, NewDelivery, Outbox};

/// Runs the suite; `open` gives an empty store each time.
pub(super) async fn suite<S: Outbox, F: Future<Output = S>>(open: &impl Fn() -> F) {
    takes_out_what_was_said_and_keeps_what_became_of_it(&open().await).await;
    touches_nothing_that_is_not_over(&open().await).await;
    takes_so_many_at_once_the_oldest_first(&open().await).await;
    what_was_expunged_is_not_retried(&open().await).await;
    who_asks_again_with_the_same_key_brings_it_along(&open().await).await;
    goes_on_where_it_stopped(&open().await).await;
    what_the_rules_stood_against_is_guarded_by_those_of_now(&open().await).await;
    keeps_the_thread_of_a_word_as_long_as_its_messages(&open().await).await;
    keeps_what_was_edited_as_long_as_its_edits(&open().await).await;
}

/// One that says all that one can say.
fn talkative(text: &str) -> NewDelivery {
    let mut new = submission("C0A", text);
    let person = Person { id: "U1".to_owned(), name: Some("Ada".to_owned()), outsider: false };
    let channel = new.delivery.channel.clone();
    let visit = Visit { channel, thread: None, direct: false, person };
    new.delivery.invitation = Some(Invitation::Answer { visit });
    new.delivery.placement.respond = Some(ResponseUrl::new("https://hooks.slack.test/secret"));
    new
}

async fn read(outbox: &dyn Outbox, new: &NewDelivery) -> Option<Delivery> {
    outbox.delivery(new.delivery.id).await.unwrap()
}

async fn takes_out_what_was_said_and_keeps_what_became_of_it(outbox: &dyn Outbox) {
    let new = talkative("psst");
    let id = enqueue(outbox, &new).await;
    let mut claim = claim_one(outbox, T0).await;
    claim.delivery.messages = vec![MessageRef { id: "1.2".to_owned(), thread: None }];
    claim.delivery.hint = Some("a hint".to_owned());
    finish(outbox, claim, DeliveryState::Unknown).await;
    let before = read(outbox, &new).await.unwrap();
    assert_eq!(
        outbox.expunge(T0.before(std::time::Duration::from_millis(1)), T0, 9).await.unwrap(),
        0
    );
    assert_eq!(read(outbox, &new).await.unwrap(), before, "not before its time");
    assert_eq!(outbox.expunge(T0, second(9), 9).await.unwrap(), 1);
    assert_eq!(outbox.expunge(T0, second(10), 9).await.unwrap(), 0, "once");
    let after = read(outbox, &new).await.unwrap();
    let bare = Delivery {
        steps: Vec::new(),
        invitation: None,
        placement: Placement::default(),
        expunged_at: Some(second(9)),
        ..before.clone()
    };
    assert_eq!(after, bare);
    assert_eq!(after.receipt(T0, false), before.receipt(T0, false), "what its caller hears");
    let client = ClientName::new("agent");
    assert_eq!(outbox.latest(&client, id).await.unwrap().unwrap().messages.len(), 1);
    assert_eq!(outbox.remove(T0.before(std::time::Duration::from_millis(1)), 9).await.unwrap(), 0);
    assert_eq!(outbox.remove(T0, 9).await.unwrap(), 1);
    assert_eq!(read(outbox, &new).await, None);
    assert!(outbox.backlog().await.unwrap().is_empty());
    while outbox.shrink().await.unwrap() {}
    outbox.check_writable().await.unwrap();
}

async fn touches_nothing_that_is_not_over(outbox: &dyn Outbox) {
    let (sending, queued, ended) = (talkative("one"), talkative("two"), submission("C0B", "three"));
    enqueue(outbox, &sending).await;
    claim_one(outbox, T0).await;
    enqueue(outbox, &queued).await;
    enqueue(outbox, &ended).await;
    finish(outbox, claim_one(outbox, T0).await, DeliveryState::Delivered).await;
    let before = [read(outbox, &sending).await, read(outbox, &queued).await];
    assert_eq!(outbox.remove(second(1_000_000), 9).await.unwrap(), 0, "not before it was expunged");
    assert_eq!(outbox.expunge(second(1_000_000), second(1_000_000), 9).await.unwrap(), 1);
    assert_eq!(outbox.remove(second(1_000_000), 9).await.unwrap(), 1);
    assert_eq!([read(outbox, &sending).await, read(outbox, &queued).await], before);
    assert_eq!(read(outbox, &ended).await, None);
}

async fn takes_so_many_at_once_the_oldest_first(outbox: &dyn Outbox) {
    let mut ids = Vec::new();
    for n in 0..5 {
        let id = enqueue(outbox, &submission("C0A", &format!("{n}"))).await;
        // The last one to come ended first.
        outbox.end(id, Reason::Discarded, "discarded", second(10 - n)).await.unwrap();
        ids.push(id);
    }
    assert_eq!(outbox.expunge(second(9), second(9), 2).await.unwrap(), 2);
    let expunged = async || {
        let listed = outbox.list(&Filter { most: 9, ..Filter::default() }).await.unwrap();
        let gone = listed.into_iter().filter(|delivery| delivery.expunged_at.is_some());
        gone.map(|delivery| delivery.id).collect::<Vec<_>>()
    };
    assert_eq!(expunged().await, [ids[4], ids[3]]);
    assert_eq!(outbox.expunge(second(9), second(9), 9).await.unwrap(), 2);
    assert_eq!(outbox.remove(second(9), 3).await.unwrap(), 3);
    assert_eq!(outbox.remove(second(9), 3).await.unwrap(), 1);
    assert!(outbox.delivery(ids[0]).await.unwrap().is_some());
}

async fn what_was_expunged_is_not_retried(outbox: &dyn Outbox) {
    for state in [DeliveryState::Failed, DeliveryState::Unknown] {
        let new = submission("C0A", "one");
        enqueue(outbox, &new).await;
        finish(outbox, claim_one(outbox, T0).await, state).await;
        outbox.expunge(T0, T0, 9).await.unwrap();
        let before = read(outbox, &new).await;
        let refused = outbox.retry(new.delivery.id, second(1), second(9)).await.unwrap();
        assert_eq!(refused, before, "it hears what there is");
        assert_eq!(read(outbox, &new).await, before);
        assert!(
            outbox
                .claim(&super::outbox::claimant("p1"), super::outbox::SLACK, second(9), 9)
                .await
                .unwrap()
                .is_empty()
        );
    }
    // Nobody has to look at it again, all the same.
    let unknown = Filter { states: vec![DeliveryState::Unknown], most: 9, ..Filter::default() };
    let id = outbox.list(&unknown).await.unwrap()[0].id;
    let ended = outbox.end(id, Reason::Discarded, "seen", second(9)).await.unwrap().unwrap();
    assert_eq!((ended.state, ended.finished_at), (DeliveryState::Failed, Some(second(9))));
}

async fn who_asks_again_with_the_same_key_brings_it_along(outbox: &dyn Outbox) {
    let keyed = || NewDelivery { idempotency_key: Some("k".to_owned()), ..talkative("one") };
    let first = keyed();
    enqueue(outbox, &first).await;
    finish(outbox, claim_one(outbox, T0).await, DeliveryState::Failed).await;
    outbox.expunge(T0, T0, 9).await.unwrap();
    let other = NewDelivery { content_hash: "other".to_owned(), ..keyed() };
    assert_eq!(outbox.enqueue(other).await.unwrap(), Enqueued::KeyReused, "it is still known");
    let again = keyed();
    let Enqueued::Retried(retried) = outbox.enqueue(again.clone()).await.unwrap() else {
        panic!("it failed before")
    };
    assert_eq!(retried.id, first.delivery.id);
    let claimed = claim_one(outbox, T0).await.delivery;
    assert_eq!(claimed.steps, again.delivery.steps);
    assert_eq!(claimed.placement, again.delivery.placement);
    assert_eq!(claimed.invitation, again.delivery.invitation);
    assert_eq!(claimed.expunged_at, None);
    assert_eq!(outbox.expunge(second(9), second(9), 9).await.unwrap(), 0, "it is under way");

    // What has no key is not compared with anything any more.
    let recent = || NewDelivery {
        same_since: Some(T0.before(std::time::Duration::from_secs(60))),
        ..submission("C0B", "b")
    };
    let first = enqueue(outbox, &recent()).await;
    finish(outbox, claim_one(outbox, T0).await, DeliveryState::Delivered).await;
    assert!(
        matches!(outbox.enqueue(recent()).await.unwrap(), Enqueued::Repeated(same) if same.id == first)
    );
    outbox.expunge(T0, T0, 9).await.unwrap();
    enqueue(outbox, &recent()).await;
}

async fn what_the_rules_stood_against_is_guarded_by_those_of_now(outbox: &dyn Outbox) {
    let minute_ago = T0.before(std::time::Duration::from_secs(60));
    let keyed = NewDelivery { idempotency_key: Some("k".to_owned()), ..submission("C0A", "same") };
    let recent = NewDelivery { same_since: Some(minute_ago), ..submission("C0B", "unkeyed") };
    for (new, reason, arrived, takes) in [
        (&keyed, Reason::Denied, 0, true),
        (&recent, Reason::Denied, 0, true),
        // What was on its way when it failed is what is sent.
        (&keyed, Reason::Rejected, 0, false),
        (&keyed, Reason::Denied, 1, false),
    ] {
        let idempotency_key = new.idempotency_key.as_ref().map(|_| format!("{reason}{arrived}"));
        let mut first = NewDelivery { idempotency_key, ..new.clone() };
        first.delivery.id = DeliveryId::new(T0);
        enqueue(outbox, &first).await;
        let mut claim = claim_one(outbox, T0).await;
        claim.delivery.reason = Some(reason);
        claim.delivery.messages = vec![MessageRef { id: "1".to_owned(), thread: None }; arrived];
        finish(outbox, claim, DeliveryState::Failed).await;
        let mut again = first.clone();
        again.delivery.id = DeliveryId::new(T0);
        again.delivery.steps = submission("C0A", "guarded anew").delivery.steps;
        again.delivery.warnings = vec!["guarded anew".to_owned()];
        let Enqueued::Retried(retried) = outbox.enqueue(again.clone()).await.unwrap() else {
            panic!("it failed before")
        };
        let (wanted, sent) = (if takes { &again } else { &first }, claim_one(outbox, T0).await);
        assert_eq!((retried.id, sent.delivery.id), (first.delivery.id, first.delivery.id));
        assert_eq!(sent.delivery.steps, wanted.delivery.steps, "{reason} {arrived}");
        assert_eq!(sent.delivery.warnings, wanted.delivery.warnings);
        assert_eq!(retried.steps, wanted.delivery.steps);
        finish(outbox, sent, DeliveryState::Delivered).await;
    }
}

/// Two of three parts had arrived, in a thread.
async fn goes_on_where_it_stopped(outbox: &dyn Outbox) {
    let keyed = |parts: usize| {
        let mut new =
            NewDelivery { idempotency_key: Some("k".to_owned()), ..submission("C0A", "long") };
        new.delivery.steps = vec![new.delivery.steps[0].clone(); parts];
        new
    };
    for (parts, cursor, thread) in [(3, 2, Some("1.2")), (2, 0, None)] {
        let first = NewDelivery { idempotency_key: Some(format!("{parts}")), ..keyed(3) };
        enqueue(outbox, &first).await;
        let mut claim = claim_one(outbox, T0).await;
        claim.delivery.cursor = 2;
        claim.delivery.messages = vec![MessageRef { id: "1.2".to_owned(), thread: None }; 2];
        claim.delivery.placement.thread = Some("1.2".to_owned());
        finish(outbox, claim, DeliveryState::Failed).await;
        outbox.expunge(T0, T0, 9).await.unwrap();
        let again = NewDelivery { idempotency_key: Some(format!("{parts}")), ..keyed(parts) };
        assert!(matches!(outbox.enqueue(again).await.unwrap(), Enqueued::Retried(_)));
        let claim = claim_one(outbox, T0).await;
        let delivery = &claim.delivery;
        assert_eq!((delivery.cursor, delivery.messages.len()), (cursor, cursor));
        assert_eq!(delivery.placement.thread.as_deref(), thread);
        assert_eq!(delivery.steps.len(), parts);
        finish(outbox, claim, DeliveryState::Delivered).await;
    }
}

async fn keeps_the_thread_of_a_word_as_long_as_its_messages(outbox: &dyn Outbox) {
    let in_thread = |text| {
        let mut new = submission("C0A", text);
        new.delivery.thread_key = Some("incident-42".to_owned());
        new
    };
    let remove = async |ended| {
        outbox.expunge(ended, ended, 9).await.unwrap();
        outbox.remove(ended, 9).await.unwrap()
    };
    enqueue(outbox, &in_thread("one")).await;
    finish_in(outbox, claim_one(outbox, T0).await, "1.2").await;
    let second_one = enqueue(outbox, &in_thread("two")).await;
    assert_eq!(remove(T0).await, 1);
    let claim = claim_one(outbox, T0).await;
    assert_eq!(claim.thread.as_ref().unwrap().thread.as_deref(), Some("1.2"));
    assert_eq!(claim.delivery.id, second_one);
    finish(outbox, claim, DeliveryState::Delivered).await;
    assert_eq!(remove(T0).await, 1);
    enqueue(outbox, &in_thread("three")).await;
    assert_eq!(claim_one(outbox, T0).await.thread, None, "it begins anew");
}

async fn keeps_what_was_edited_as_long_as_its_edits(outbox: &dyn Outbox) {
    let first = submission("C0A", "one");
    enqueue(outbox, &first).await;
    finish(outbox, claim_one(outbox, T0).await, DeliveryState::Delivered).await;
    let mut edit = submission("C0A", "two");
    edit.delivery.edits = Some(first.delivery.id);
    enqueue(outbox, &edit).await;
    outbox.expunge(T0, T0, 9).await.unwrap();
    assert_eq!(outbox.remove(T0, 9).await.unwrap(), 0);
    finish(outbox, claim_one(outbox, T0).await, DeliveryState::Delivered).await;
    outbox.expunge(T0, T0, 9).await.unwrap();
    assert_eq!(outbox.remove(T0, 9).await.unwrap(), 1, "the edit");
    assert_eq!(outbox.remove(T0, 9).await.unwrap(), 1, "then what it edited");
    assert_eq!(read(outbox, &first).await, None);
}
