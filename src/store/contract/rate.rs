//! How much a client may submit in any minute.

use std::time::Duration;

use super::outbox::{enqueue, submission};
use super::{T0, second};
use crate::clock::Timestamp;
use crate::model::{ClientName, DeliveryId, DeliveryState};
use crate::policy::Rate;
use crate::store::{Enqueued, Excess, NewDelivery, Outbox};

/// Runs the suite; `open` gives an empty store each time.
pub(super) async fn suite<S: Outbox, F: Future<Output = S>>(open: &impl Fn() -> F) {
    counts_messages_over_a_minute(&open().await).await;
    counts_channels_over_a_minute(&open().await).await;
    many_at_once_are_counted_one_after_the_other(&open().await).await;
}

fn at(new: NewDelivery, at: Timestamp, rate: Rate) -> NewDelivery {
    let mut new = NewDelivery { rate, ..new };
    new.delivery.id = DeliveryId::new(at);
    new.delivery.created_at = at;
    new
}

async fn counts_messages_over_a_minute(outbox: &dyn Outbox) {
    let rate = Rate { messages: Some(2), channels: None };
    let keyed = NewDelivery { idempotency_key: Some("k".to_owned()), ..submission("C0A", "1") };
    enqueue(outbox, &at(keyed.clone(), second(0), rate)).await;
    enqueue(outbox, &at(submission("C0B", "2"), second(30), rate)).await;
    let third = |when| at(submission("C0A", "3"), when, rate);
    let too_much =
        |until| Enqueued::TooMuch(Excess { what: "2 messages".to_owned(), until: second(until) });
    assert_eq!(outbox.enqueue(third(second(59))).await.unwrap(), too_much(60));
    let again = outbox.enqueue(at(keyed, second(59), rate)).await.unwrap();
    assert!(matches!(again, Enqueued::Repeated(_)), "a repetition is no message more: {again:?}");
    let failing = NewDelivery { idempotency_key: Some("f".to_owned()), ..submission("C0F", "f") };
    let mut stranger = at(failing, second(0), rate);
    stranger.delivery.client = ClientName::new("stranger");
    enqueue(outbox, &stranger).await;
    let claim = super::outbox::claim(outbox, second(1)).await;
    for claim in claim.into_iter().filter(|it| it.delivery.channel.id() == "C0F") {
        super::outbox::finish(outbox, claim, DeliveryState::Failed).await;
    }
    for text in ["s1", "s2"] {
        let mut more = at(submission("C0S", text), second(20), rate);
        more.delivery.client = ClientName::new("stranger");
        let _ = outbox.enqueue(more).await.unwrap();
    }
    let mut anew = stranger.clone();
    anew.delivery.created_at = second(40);
    let anew = outbox.enqueue(anew).await.unwrap();
    assert!(matches!(anew, Enqueued::TooMuch(_)), "to try anew is one more: {anew:?}");
    let mut other = third(second(59));
    other.delivery.client = ClientName::new("another agent");
    enqueue(outbox, &other).await;
    enqueue(outbox, &third(second(61))).await;
    let fourth = at(submission("C0A", "4"), second(62), rate);
    assert_eq!(outbox.enqueue(fourth).await.unwrap(), too_much(90));
}

async fn counts_channels_over_a_minute(outbox: &dyn Outbox) {
    let rate = Rate { messages: None, channels: Some(1) };
    let to = |channel, text, when| at(submission(channel, text), when, rate);
    enqueue(outbox, &to("C0A", "1", second(0))).await;
    enqueue(outbox, &to("C0A", "2", second(1))).await;
    let what = "1 channel".to_owned();
    let too_much = Enqueued::TooMuch(Excess { what, until: second(60) });
    assert_eq!(outbox.enqueue(to("C0B", "3", second(2))).await.unwrap(), too_much);
    enqueue(outbox, &to("C0B", "3", second(62))).await;
}

async fn many_at_once_are_counted_one_after_the_other(outbox: &dyn Outbox) {
    let rate = Rate { messages: Some(3), channels: None };
    let submissions = (0..12).map(|n| {
        let at_once = T0.after(Duration::from_millis(n));
        outbox.enqueue(at(submission(&format!("C0{n}"), &format!("{n}")), at_once, rate))
    });
    let accepted = futures_util::future::join_all(submissions).await;
    let new = accepted.iter().filter(|it| matches!(it, Ok(Enqueued::New))).count();
    assert_eq!(new, 3, "{accepted:?}");
}
