//! Facts that are nice to have and never change: learned in the background, never waited for.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

/// The most facts kept; beyond it all are learned anew.
const MOST: usize = 10_000;

/// What is known by name. `None` stands for what is being asked.
#[derive(Clone, Debug)]
pub(super) struct Known<T>(Arc<Mutex<HashMap<String, Option<T>>>>);

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Clone + Send + 'static> Known<T> {
    /// The fact, if it is known by now.
    pub(super) fn get(&self, name: &str) -> Option<T> {
        self.lock().get(name).cloned().flatten()
    }

    /// Keeps a fact.
    pub(super) fn keep(&self, name: &str, fact: T) {
        let mut known = self.lock();
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(name.to_owned(), Some(fact));
    }

    /// Starts asking for a fact, unless it is known or being asked for. What cannot be learned is asked again next time.
    pub(super) fn learn<F>(&self, name: &str, ask: impl FnOnce() -> F)
    where
        F: Future<Output = Option<T>> + Send + 'static,
    {
        {
            let mut known = self.lock();
            if known.contains_key(name) {
                return;
            }
            known.insert(name.to_owned(), None);
        }
        let (answer, this, name) = (ask(), self.clone(), name.to_owned());
        tokio::spawn(async move {
            match answer.await {
                Some(fact) => this.keep(&name, fact),
                None => {
                    this.lock().remove(&name);
                }
            }
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Option<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    async fn settled(known: &Known<u8>) -> Option<u8> {
        // What was spawned runs when this task yields.
        tokio::task::yield_now().await;
        known.get("x")
    }

    #[tokio::test]
    async fn a_fact_is_asked_for_once_and_never_waited_for() {
        let known = Known::default();
        known.learn("x", pending);
        known.learn("x", || -> std::future::Ready<_> { panic!("asked twice") });
        assert_eq!(settled(&known).await, None);

        let known = Known::default();
        known.learn("x", || ready(Some(1)));
        assert_eq!(settled(&known).await, Some(1));
        known.learn("x", || -> std::future::Ready<_> { panic!("asked again") });
    }

    #[tokio::test]
    async fn what_could_not_be_learned_is_asked_again() {
        let known = Known::default();
        known.learn("x", || ready(None));
        assert_eq!(settled(&known).await, None);
        known.learn("x", || ready(Some(2)));
        assert_eq!(settled(&known).await, Some(2));
    }
}
