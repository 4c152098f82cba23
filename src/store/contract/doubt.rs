//! Where a chain goes on after a commit that failed: where it ended, unless somebody has set that end back meanwhile.

use super::audit::{Intruder, holds, keyed, keys, plain, wrongs};
use super::outbox::{queue_in, submission};
use crate::store::trail::{Chain, Keys, Settings, Wrong};
use crate::store::{Outbox, Trail};

/// What a new store has to do. It is closed to others.
pub(super) async fn suite<S: Outbox + Trail + Intruder>(open: impl AsyncFn(Settings) -> S) {
    what_was_rolled_back_leaves_the_chain_as_it_is(&open(keyed()).await).await;
    an_end_that_is_cut_while_a_commit_fails_is_found(&open(keyed()).await).await;
    an_end_that_is_written_anew_while_a_commit_fails_is_found(&open(plain()).await).await;
    a_chain_that_is_taken_away_while_a_commit_fails_is_missed(&open(keyed()).await).await;
}

/// Somebody makes a commit fail, and does this before the next.
async fn behind_its_back<S: Outbox + Trail + Intruder>(store: &S, sql: &str) {
    store.run(S::REFUSE).await;
    let refused = submission("C0A", "refused");
    store.enqueue(refused.clone()).await.unwrap_err();
    // Nothing happens that the trail does not say.
    assert_eq!(store.delivery(refused.delivery.id).await.unwrap(), None);
    store.run(sql).await;
    store.run(S::ALLOW).await;
}

async fn chain(store: &dyn Trail) -> Chain {
    let mut chains = store.chains().await.unwrap();
    assert_eq!(chains.len(), 1, "{chains:?}");
    chains.remove(0)
}

/// Who is found wrong by which chain, after the process has written a row more.
async fn found_after_another<S: Outbox + Trail>(store: &S, keys: &Keys) -> (Vec<Wrong>, String) {
    queue_in(store, "C0A", "later").await;
    let found = wrongs(store, keys).await;
    // It goes on in the new one.
    let before = store.chains().await.unwrap();
    queue_in(store, "C0A", "later still").await;
    let after = store.chains().await.unwrap();
    assert_eq!(before.len(), after.len());
    assert_eq!(wrongs(store, keys).await, found);
    (found, after.last().unwrap().id.clone())
}

async fn what_was_rolled_back_leaves_the_chain_as_it_is<S: Outbox + Trail + Intruder>(store: &S) {
    behind_its_back(store, "SELECT 1").await;
    assert_eq!(store.chains().await.unwrap(), []);
    for n in 0..3 {
        queue_in(store, "C0A", &format!("{n}")).await;
        behind_its_back(store, "SELECT 1").await;
    }
    // Started, and three submissions.
    assert_eq!(chain(store).await.n, 4);
    holds(store, &keys()).await;
}

/// By somebody who has no key, but had seen the end sealed that it is set back to.
async fn an_end_that_is_cut_while_a_commit_fails_is_found<S: Outbox + Trail + Intruder>(store: &S) {
    queue_in(store, "C0A", "one").await;
    let Chain { id, n, hash, seal, .. } = chain(store).await;
    queue_in(store, "C0A", "two").await;
    let cut = format!(
        "DELETE FROM audit WHERE n > {n};
         UPDATE audit_chains SET n = {n}, hash = '{hash}', seal = '{}'",
        seal.unwrap()
    );
    behind_its_back(store, &cut).await;
    holds(store, &keys()).await;
    let (found, by) = found_after_another(store, &keys()).await;
    assert_ne!(by, id);
    assert_eq!(found, [Wrong::CutOff { n: 3, by }]);
}

/// Without a key whoever can write the store can make any end; the number of rows is the same.
async fn an_end_that_is_written_anew_while_a_commit_fails_is_found<S: Outbox + Trail + Intruder>(
    store: &S,
) {
    queue_in(store, "C0A", "one").await;
    let row = super::audit::rows(store).await.remove(1);
    let line = row.line.replace("C0A", "C0B");
    let hash = crate::store::trail::Seal::new(None).row(&row.prev, &line);
    let anew = format!(
        "UPDATE audit SET line = '{line}', hash = '{hash}' WHERE n = 2;
         UPDATE audit_chains SET hash = '{hash}'"
    );
    behind_its_back(store, &anew).await;
    let nobody = Keys::new(&[]);
    holds(store, &nobody).await;
    let (found, by) = found_after_another(store, &nobody).await;
    assert_eq!(found, [Wrong::Rewritten { by }]);
}

async fn a_chain_that_is_taken_away_while_a_commit_fails_is_missed<S: Outbox + Trail + Intruder>(
    store: &S,
) {
    queue_in(store, "C0A", "one").await;
    behind_its_back(store, "DELETE FROM audit; DELETE FROM audit_chains").await;
    let (found, by) = found_after_another(store, &keys()).await;
    assert_eq!(found, [Wrong::Gone { n: 2, by }]);
}
