//! The rules that count right now.

use std::sync::{Arc, PoisonError, RwLock};

use super::Policy;

/// The rules that count right now. Cloning it shares it: whoever asks anew sees the rules that were put in last.
#[derive(Clone, Debug, Default)]
pub struct Rulebook(Arc<RwLock<Arc<Policy>>>);

impl Rulebook {
    /// The rules as they stand. Ask anew for each decision: they may change in the middle of anything.
    #[must_use]
    pub fn now(&self) -> Arc<Policy> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on these count. Says whether they are others.
    pub fn put(&self, policy: Policy) -> bool {
        let mut rules = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let others = **rules != policy;
        *rules = Arc::new(policy);
        others
    }
}

impl From<Policy> for Rulebook {
    fn from(policy: Policy) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(policy))))
    }
}
