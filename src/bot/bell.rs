//! Who waits for what comes in, within this process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::store::Mark;

/// Rung when something was stored for a conversation: for who holds it, or else for who would.
#[derive(Default)]
pub(super) struct Bell {
    sessions: Mutex<HashMap<String, Arc<Notify>>>,
    anybody: Notify,
}

/// A place by the bell; leaving it takes the place away.
pub(super) struct Seat<'b> {
    bell: &'b Bell,
    conversation: String,
    notify: Arc<Notify>,
}

impl Bell {
    fn sessions(&self) -> MutexGuard<'_, HashMap<String, Arc<Notify>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn ring(&self, conversation: &str) {
        match self.sessions().get(conversation) {
            Some(session) => session.notify_one(),
            None => self.anybody.notify_one(),
        }
    }

    /// Rings from afar: for who holds the conversation here, or else for who would.
    pub(super) fn ring_for(&self, mark: Mark) {
        let sessions = self.sessions();
        match sessions.iter().find(|(conversation, _)| Mark::of(conversation) == mark) {
            Some((_, session)) => session.notify_one(),
            None => self.anybody.notify_one(),
        }
    }

    /// Rung for a conversation that nobody here holds.
    pub(super) async fn rung(&self) {
        self.anybody.notified().await;
    }

    pub(super) fn sit(&self, conversation: &str) -> Seat<'_> {
        let notify = Arc::new(Notify::new());
        self.sessions().insert(conversation.to_owned(), Arc::clone(&notify));
        Seat { bell: self, conversation: conversation.to_owned(), notify }
    }
}

impl Seat<'_> {
    pub(super) async fn rung(&self) {
        self.notify.notified().await;
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut sessions = self.bell.sessions();
        // Whoever holds it next may sit here already.
        if sessions.get(&self.conversation).is_some_and(|seat| Arc::ptr_eq(seat, &self.notify)) {
            sessions.remove(&self.conversation);
        }
        drop(sessions);
        // What came in meanwhile is for whoever looks next.
        self.bell.anybody.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn whoever_holds_a_conversation_hears_of_it_or_else_whoever_would() {
        let bell = Bell::default();
        let (seat, other) = (bell.sit("slack:C0A/1"), bell.sit("slack:C0A/2"));
        bell.ring_for(Mark::of("slack:C0A/1"));
        seat.rung().now_or_never().expect("it is held here");
        bell.ring("slack:C0A/1");
        seat.rung().now_or_never().expect("it is held here");
        assert!(bell.rung().now_or_never().is_none() && other.rung().now_or_never().is_none());
        for elsewhere in [Mark::of("slack:C0A/3"), Mark::of("")] {
            bell.ring_for(elsewhere);
            bell.rung().now_or_never().expect("anybody may hold it");
        }
        assert!(seat.rung().now_or_never().is_none() && other.rung().now_or_never().is_none());
    }
}
