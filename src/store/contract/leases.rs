//! What only one process may do, and how far it has come.

use super::{LEASE, T0, second};
use crate::store::{Leases, Recorded};

/// Runs the suite; `open` gives an empty store each time.
pub(crate) async fn suite<S: Leases, F: Future<Output = S>>(open: impl Fn() -> F) {
    elects_one_until_its_lease_ends(&open().await).await;
    what_is_given_back_is_free_at_once(&open().await).await;
    only_whoever_has_the_lease_moves_the_cursor(&open().await).await;
    a_cursor_without_a_lease_is_anybodys(&open().await).await;
}

async fn elects_one_until_its_lease_ends(leases: &dyn Leases) {
    let ask = async |who: &str, at| leases.lease("listen:telegram", who, at, LEASE).await.unwrap();
    assert!(ask("p1", T0).await);
    assert!(!ask("p2", second(1)).await);
    assert!(leases.lease("listen:discord", "p2", second(1), LEASE).await.unwrap(), "another one");
    assert!(ask("p1", second(20)).await, "renewed");
    assert!(!ask("p2", second(49)).await, "it counts from the renewal");
    assert!(ask("p2", second(50)).await, "p1 vanished");
    assert!(!ask("p1", second(51)).await, "it came back too late");
}

async fn what_is_given_back_is_free_at_once(leases: &dyn Leases) {
    let name = "listen:telegram";
    assert!(leases.lease(name, "p1", T0, LEASE).await.unwrap());
    leases.give_back(name, "p2").await.unwrap();
    assert!(!leases.lease(name, "p2", T0, LEASE).await.unwrap(), "it was not p2's to give");
    leases.give_back(name, "p1").await.unwrap();
    leases.give_back("never taken", "p1").await.unwrap();
    assert!(leases.lease(name, "p2", T0, LEASE).await.unwrap());
}

async fn only_whoever_has_the_lease_moves_the_cursor(leases: &dyn Leases) {
    let name = "listen:telegram";
    let move_to = async |who: &str, value: &str| leases.set_cursor(name, who, value).await.unwrap();
    assert_eq!(leases.cursor(name).await.unwrap(), None);
    leases.lease(name, "p1", T0, LEASE).await.unwrap();
    assert_eq!(move_to("p2", "9").await, Recorded::Fenced, "not even the first value");
    assert_eq!(leases.cursor(name).await.unwrap(), None);
    assert_eq!(move_to("p1", "1").await, Recorded::Done);
    assert_eq!(move_to("p1", "2").await, Recorded::Done);
    leases.lease(name, "p2", second(31), LEASE).await.unwrap();
    assert_eq!(move_to("p1", "9").await, Recorded::Fenced);
    assert_eq!(leases.cursor(name).await.unwrap().as_deref(), Some("2"), "it outlives p1");
    assert_eq!(move_to("p2", "3").await, Recorded::Done);
    leases.give_back(name, "p2").await.unwrap();
    for who in ["p1", "p2"] {
        assert_eq!(move_to(who, "9").await, Recorded::Fenced, "{who} does not have it");
    }
    assert_eq!(leases.cursor(name).await.unwrap().as_deref(), Some("3"));
}

async fn a_cursor_without_a_lease_is_anybodys(leases: &dyn Leases) {
    for (who, value) in [("p1", "1"), ("p2", "2")] {
        let moved = leases.set_cursor("listen:slack", who, value).await.unwrap();
        assert_eq!(moved, Recorded::Done);
    }
    assert_eq!(leases.cursor("listen:slack").await.unwrap().as_deref(), Some("2"));
    assert_eq!(leases.cursor("listen:telegram").await.unwrap(), None);
}
