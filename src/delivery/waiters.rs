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
}

impl Watch {
    /// The delivery that is watched.
    #[must_use]
    pub const fn id(&self) -> DeliveryId {
        self.id
    }

    /// The next news of the delivery.
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
