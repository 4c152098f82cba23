//! Callers that wait for their delivery, told by the worker of the same process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::model::{Delivery, DeliveryId};

type Waiting = Mutex<HashMap<DeliveryId, watch::Sender<Option<Delivery>>>>;

/// Who waits for which delivery.
#[derive(Clone, Default)]
pub struct Waiters(Arc<Waiting>);

/// One caller's view of a delivery. Dropping it ends the wait.
pub struct Watch {
    waiting: Arc<Waiting>,
    id: DeliveryId,
    latest: watch::Receiver<Option<Delivery>>,
}

impl Waiters {
    /// Starts to wait. Call this before the delivery can be claimed, so that nothing is missed.
    #[must_use]
    pub fn watch(&self, id: DeliveryId) -> Watch {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = waiting.entry(id).or_insert_with(|| watch::channel(None).0);
        Watch { waiting: Arc::clone(&self.0), id, latest: sender.subscribe() }
    }

    /// Tells whoever waits for this delivery how it stands.
    pub fn publish(&self, delivery: &Delivery) {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = waiting.get(&delivery.id) {
            sender.send_replace(Some(delivery.clone()));
        }
    }

    /// Tells whoever waits for this delivery to look how it stands: another process has ended it.
    pub fn nudge(&self, id: DeliveryId) {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = waiting.get(&id) {
            sender.send_replace(None);
        }
    }
}

impl Watch {
    /// The delivery that is watched.
    #[must_use]
    pub const fn id(&self) -> DeliveryId {
        self.id
    }

    /// The next news of the delivery; `None` if they are in the store.
    pub async fn next(&mut self) -> Option<Delivery> {
        match self.latest.changed().await {
            Ok(()) => self.latest.borrow_and_update().clone(),
            // The sender lives in the map as long as this watch does.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.get(&self.id).is_some_and(|sender| sender.receiver_count() <= 1) {
            waiting.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::clock::Timestamp;

    #[tokio::test]
    async fn whoever_waits_is_told_to_look_and_others_are_left_alone() {
        let waiters = Waiters::default();
        let [ended, other] = [1, 2].map(|at| DeliveryId::new(Timestamp(at)));
        let (mut watch, mut elsewhere) = (waiters.watch(ended), waiters.watch(other));
        waiters.nudge(ended);
        assert_eq!(watch.next().await, None);
        assert!(elsewhere.next().now_or_never().is_none());
    }
}
