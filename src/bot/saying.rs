//! Saying something: everything takes the one way out.

use std::sync::Arc;

use super::conversation::address;
use super::session::{LetGo, Session};
use crate::model::{Event, MessageRef, Placement, Receipt, Visit};
use crate::notifier::{Content, Reply, SubmitError};

impl Session {
    /// Answers what somebody said, in a line.
    pub(super) async fn answer(&mut self, event: &Event, line: &str) -> Result<(), LetGo> {
        let (_, thread) = address(event);
        let placement = Placement {
            thread: self.talk.thread_for(&event.visit).or(thread),
            respond: event.respond.clone(),
            ..Placement::default()
        };
        self.said += 1;
        let key = format!("{}:{}:answer:{}", event.visit.platform(), event.id, self.said);
        let content = vec![Content::Text(line.to_owned())];
        self.say(&event.visit, placement, content, None, &key).await?;
        Ok(())
    }

    /// Says something, and waits a bounded time for its delivery. What cannot be said is logged.
    pub(super) async fn say(
        &mut self,
        visit: &Visit,
        placement: Placement,
        content: Vec<Content>,
        replaces: Option<MessageRef>,
        key: &str,
    ) -> Result<Option<Receipt>, LetGo> {
        match self.try_say(visit, placement, content, replaces, key).await? {
            Ok(receipt) => Ok(Some(receipt)),
            Err(error) => {
                tracing::warn!(conversation = %self.conversation(), %error, "something could not be said");
                Ok(None)
            }
        }
    }

    pub(super) async fn try_say(
        &mut self,
        visit: &Visit,
        placement: Placement,
        content: Vec<Content>,
        replaces: Option<MessageRef>,
        key: &str,
    ) -> Result<Result<Receipt, SubmitError>, LetGo> {
        let (visit, key) = (visit.clone(), key.to_owned());
        let notifier = Arc::clone(&self.inner.notifier);
        let reply = Reply { visit, placement, content, replaces, key };
        let said = self.meanwhile(notifier.reply(reply)).await?;
        match said {
            // It has to be said, or nothing may be noted of it either.
            Err(SubmitError::Store) => Err(LetGo::Unsaid),
            said => Ok(said),
        }
    }
}
