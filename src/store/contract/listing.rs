//! What an operator looks for.

use std::collections::BTreeMap;

use super::outbox::{SLACK, claim, claim_one, enqueue, finish, submission};
use super::{T0, second};
use crate::model::{ChannelId, Delivery, DeliveryId, DeliveryState, PlatformKind, Reason};
use crate::store::{Filter, NewDelivery, Outbox, Place, Trouble};

/// Runs the suite; `open` gives an empty store each time.
pub(super) async fn suite<S: Outbox, F: Future<Output = S>>(open: &impl Fn() -> F) {
    lists_by_state_place_and_age(&open().await).await;
    lists_page_by_page(&open().await).await;
    tells_of_trouble(&open().await).await;
}

/// In a channel such as `discord:100000000000000001`, accepted so many seconds late.
fn accepted(channel: &str, late: u64) -> NewDelivery {
    let new = submission("C0A", channel);
    let channel: ChannelId = channel.parse().unwrap();
    NewDelivery { delivery: Delivery { channel, created_at: second(late), ..new.delivery }, ..new }
}

async fn listed(outbox: &dyn Outbox, filter: Filter) -> Vec<DeliveryId> {
    let most = if filter.most == 0 { 100 } else { filter.most };
    let found = outbox.list(&Filter { most, ..filter }).await.unwrap();
    found.into_iter().map(|delivery| delivery.id).collect()
}

async fn lists_by_state_place_and_age(outbox: &dyn Outbox) {
    use DeliveryState::{Delivered, Failed, Queued, Sending, Unknown};
    let (a, b, d) = ("slack:C0A", "slack:C0B", "discord:100000000000000001");
    let mut ids = Vec::new();
    // One after the other, so that each is claimed by itself.
    for (channel, late, state) in
        [(a, 0, Delivered), (a, 10, Failed), (b, 20, Unknown), (b, 30, Failed), (d, 40, Failed)]
    {
        ids.push(enqueue(outbox, &accepted(channel, late)).await);
        let claims = outbox
            .claim(&super::outbox::claimant("p1"), ids_platform(channel), T0, 10)
            .await
            .unwrap();
        for claim in claims {
            finish(outbox, claim, state).await;
        }
    }
    ids.push(enqueue(outbox, &accepted(a, 50)).await);
    claim_one(outbox, T0).await;
    ids.push(enqueue(outbox, &accepted(b, 60)).await);

    let place = |name: &str| name.parse::<Place>().unwrap();
    let all = Filter::default();
    let cases: [(&str, Filter, &[usize]); 16] = [
        ("everything", all.clone(), &[6, 5, 4, 3, 2, 1, 0]),
        ("queued", Filter { states: vec![Queued], ..all.clone() }, &[6]),
        ("pending", Filter { states: vec![Queued, Sending], ..all.clone() }, &[6, 5]),
        ("failed", Filter { states: vec![Failed], ..all.clone() }, &[4, 3, 1]),
        ("the newest", Filter { states: vec![Failed], most: 2, ..all.clone() }, &[4, 3]),
        ("a mixture", Filter { states: vec![Failed, Sending], most: 2, ..all.clone() }, &[5, 4]),
        ("a channel", Filter { places: vec![place(a)], ..all.clone() }, &[5, 1, 0]),
        ("a platform", Filter { places: vec![place("slack")], ..all.clone() }, &[6, 5, 3, 2, 1, 0]),
        (
            "places",
            Filter { places: vec![place("discord"), place(b)], ..all.clone() },
            &[6, 4, 3, 2],
        ),
        ("nowhere", Filter { places: vec![place("slack:C0X")], ..all.clone() }, &[]),
        ("no such platform", Filter { places: vec![place("telegram")], ..all.clone() }, &[]),
        ("older", Filter { until: Some(second(20)), ..all.clone() }, &[2, 1, 0]),
        ("newer", Filter { since: Some(second(40)), ..all.clone() }, &[6, 5]),
        (
            "between",
            Filter { since: Some(second(0)), until: Some(second(30)), ..all.clone() },
            &[3, 2, 1],
        ),
        (
            "all of it",
            Filter {
                states: vec![Failed, Queued],
                places: vec![place("slack")],
                since: Some(second(10)),
                until: Some(second(60)),
                ..all.clone()
            },
            &[6, 3],
        ),
        ("none at all", Filter { states: vec![Delivered], places: vec![place(b)], ..all }, &[]),
    ];
    for (name, filter, expected) in cases {
        let expected: Vec<_> = expected.iter().map(|n| ids[*n]).collect();
        assert_eq!(listed(outbox, filter).await, expected, "{name}");
    }
    // A retried one is as old as its retry, and stands where it stood.
    outbox.retry(ids[1], second(100), second(3700)).await.unwrap();
    let newer = Filter { since: Some(second(40)), ..Filter::default() };
    assert_eq!(listed(outbox, newer).await, [ids[6], ids[5], ids[1]]);
}

fn ids_platform(channel: &str) -> PlatformKind {
    channel.parse::<ChannelId>().unwrap().platform()
}

async fn lists_page_by_page(outbox: &dyn Outbox) {
    let mut ids = Vec::new();
    for n in 0..7 {
        ids.push(enqueue(outbox, &submission("C0A", &format!("{n}"))).await);
    }
    ids.reverse();
    for states in [vec![], vec![DeliveryState::Queued]] {
        let (mut seen, mut beyond) = (Vec::new(), None);
        loop {
            let filter = Filter { states: states.clone(), beyond, most: 3, ..Filter::default() };
            let page = listed(outbox, filter).await;
            let Some(last) = page.last() else { break };
            beyond = Some(*last);
            seen.extend(page);
            // What comes in meanwhile is on no page.
            enqueue(outbox, &submission("C0B", "new")).await;
        }
        assert_eq!(seen.iter().filter(|id| ids.contains(id)).count(), 7);
        assert!(seen.ends_with(&ids), "{seen:?}");
    }
    let lost = Filter { beyond: Some(DeliveryId::new(T0)), ..Filter::default() };
    assert!(listed(outbox, lost).await.is_empty(), "nothing is known to come after it");
}

async fn tells_of_trouble(outbox: &dyn Outbox) {
    use DeliveryState::{Delivered, Failed, Unknown};
    for (n, state) in [Delivered, Failed, Unknown, Failed].into_iter().enumerate() {
        enqueue(outbox, &accepted("slack:C0A", n as u64)).await;
        let claim = claim(outbox, T0).await.remove(0);
        finish(outbox, claim, state).await;
    }
    let discarded = enqueue(outbox, &accepted("slack:C0B", 9)).await;
    outbox.end(discarded, Reason::Discarded, "discarded", T0).await.unwrap();
    let of = |failed, unknown| BTreeMap::from([(SLACK, Trouble { failed, unknown })]);
    assert_eq!(outbox.trouble(T0).await.unwrap(), of(2, 1));
    assert_eq!(outbox.trouble(second(2)).await.unwrap(), of(1, 0));
    assert_eq!(outbox.trouble(second(3)).await.unwrap(), BTreeMap::new());
}
