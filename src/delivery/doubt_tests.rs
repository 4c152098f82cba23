//! Doubts that are settled late: what was true of an attempt when it was made need not be true any more.

use std::sync::Arc;
use std::time::Duration;

use super::OnUnknown;
use super::worker_tests::{Bench, Turn};
use crate::model::{DeliveryState, Reason};
use crate::store::Outbox;

const LOST: Turn = Turn::Lose { applied: true };

#[tokio::test]
async fn a_repetition_that_came_too_late_to_be_recognised_follows_the_operators_rule() {
    // Nobody remembers a nonce for five minutes.
    let script = [LOST, Turn::RateLimit(300)];
    let bench = Bench::new(&script, true, OnUnknown::Hold).await;
    let id = bench.queue("C0A", &["1".to_owned()], None).await;
    bench.run().await;
    let delivery = &bench.states(&[id]).await[0];
    assert_eq!(delivery.state, DeliveryState::Unknown, "{delivery:?}");
    assert!(bench.outbox.pauses().await.unwrap().is_empty());

    let bench = Bench::new(&script, true, OnUnknown::Resend).await;
    let id = bench.queue("C0A", &["1".to_owned()], None).await;
    bench.run().await;
    let delivery = &bench.states(&[id]).await[0];
    assert_eq!((delivery.state, delivery.warnings.len()), (DeliveryState::Delivered, 1));
    assert!(delivery.warnings[0].contains("may appear twice"), "{:?}", delivery.warnings);
}

#[tokio::test]
async fn a_history_that_may_not_be_read_says_nothing_about_the_secret() {
    let mut bench = Bench::new(&[LOST], false, OnUnknown::Resend).await;
    Arc::get_mut(&mut bench.platform).unwrap().recalls = Some(false);
    let id = bench.queue("C0A", &["1".to_owned()], None).await;
    let worker = bench.worker("p0");
    worker.tick().await.unwrap();
    // The answer is lost, then the secret refused, then there is another one.
    let mut waiting = bench.states(&[id]).await.remove(0);
    assert_eq!(waiting.state, DeliveryState::Queued);
    bench.clock.advance(Duration::from_secs(60));
    let claimant = crate::store::Claimant {
        process: "p0".to_owned(),
        own_only: false,
        lease: Duration::from_secs(30),
        credentials: Default::default(),
    };
    let kind = waiting.channel.platform();
    let now = crate::clock::Clock::now(&bench.clock);
    let claim = bench.outbox.claim(&claimant, kind, now, 1).await.unwrap().remove(0);
    waiting = claim.delivery;
    waiting.state = DeliveryState::Queued;
    waiting.reason = Some(Reason::Auth);
    bench.outbox.record(claim.epoch, &crate::store::Settled::new(waiting)).await.unwrap();
    bench.run().await;
    let delivery = &bench.states(&[id]).await[0];
    assert_eq!(delivery.state, DeliveryState::Delivered, "{delivery:?}");
    assert!(bench.outbox.pauses().await.unwrap().is_empty(), "the new secret was not refused");
}

#[tokio::test]
async fn a_refusal_speaks_for_a_lost_attempt_only_if_it_is_about_the_message() {
    let script = [LOST, Turn::Refuse];
    let bench = Bench::new(&script, true, OnUnknown::Resend).await;
    let id = bench.queue("C0A", &["1".to_owned()], None).await;
    bench.run().await;
    assert_eq!(bench.states(&[id]).await[0].state, DeliveryState::Failed);

    let bench = Bench::new(&[LOST, Turn::PutOut], true, OnUnknown::Resend).await;
    let id = bench.queue("C0A", &["1".to_owned()], None).await;
    bench.run().await;
    let delivery = &bench.states(&[id]).await[0];
    assert_eq!(
        (delivery.state, delivery.reason),
        (DeliveryState::Unknown, Some(Reason::NotInChannel)),
        "people see it"
    );
}
