//! The placeholder: the message that shows how a turn goes.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::conversation::Turn;
use super::progress::{Progress, summary};
use super::session::{LetGo, Session};
use crate::model::{Button, ButtonStyle, Disposition, Failure, MessageRef, Receipt};
use crate::notifier::{Content, Reply, Show, SubmitError};
use crate::telemetry::trace;

/// It is edited at most this often.
const EDIT_EVERY: Duration = Duration::from_millis(1_500);
/// The sign that the bot is typing fades after five seconds on Telegram.
const TYPE_EVERY: Duration = Duration::from_secs(4);

/// The placeholder, as it is shown.
pub(super) struct Shown {
    pub(super) progress: Progress,
    posting: Option<JoinHandle<Result<Receipt, SubmitError>>>,
    showing: Option<JoinHandle<Result<(), Failure>>>,
    shown: String,
    /// Not faster than the channel's pace.
    every: Duration,
    next_edit: Instant,
    next_typing: Instant,
}

impl Shown {
    fn new(posting: Option<JoinHandle<Result<Receipt, SubmitError>>>, every: Duration) -> Self {
        let now = Instant::now();
        Self {
            progress: Progress::default(),
            posting,
            showing: None,
            shown: String::new(),
            every,
            next_edit: now + every,
            next_typing: now,
        }
    }
}

impl Session {
    fn cancel_row(turn: &Turn) -> Vec<Vec<Button>> {
        let (key, label) = (turn.cancel_key.clone(), "Cancel".to_owned());
        vec![vec![Button { key, label, style: ButtonStyle::Plain }]]
    }

    /// Says at once that something is being done. Where an ended process has said it before, the same key tells which
    /// message that is.
    pub(super) fn placeholder(&self, post: bool) -> Shown {
        let pace = self.talk.turn.as_ref().and_then(Turn::asker).and_then(|asker| {
            let platform = self.inner.platforms.get(&asker.visit.platform())?;
            Some(platform.pace(&asker.visit.channel).interval_ms)
        });
        let every = Duration::from_millis(pace.unwrap_or_default().into()).max(EDIT_EVERY);
        Shown::new(if post { self.post_placeholder() } else { None }, every)
    }

    fn post_placeholder(&self) -> Option<JoinHandle<Result<Receipt, SubmitError>>> {
        let turn = self.talk.turn.as_ref()?;
        // A response URL takes five posts: the question and the answers are worth more.
        if turn.placeholder.is_some() || self.talk.outside {
            return None;
        }
        let asker = turn.asker()?;
        let rows = Self::cancel_row(turn);
        let reply = Reply {
            visit: asker.visit.clone(),
            placement: self.talk.placement(asker),
            content: vec![Content::Card { text: Progress::default().shown(), rows }],
            replaces: None,
            key: format!("{}:placeholder:{}", turn.id, turn.pauses),
        };
        let notifier = std::sync::Arc::clone(&self.inner.notifier);
        Some(tokio::spawn(trace::carry(async move { notifier.reply(reply).await })))
    }

    /// Learns which message the placeholder is, once it stands.
    async fn note_placeholder(&mut self, view: &mut Shown) -> Result<(), LetGo> {
        let Some(posting) = view.posting.take() else { return Ok(()) };
        let receipt = match posting.await {
            Ok(Ok(receipt)) => receipt,
            // That has been logged already.
            Ok(Err(SubmitError::Store)) => return Ok(()),
            Ok(Err(error)) => {
                tracing::warn!(conversation = self.conversation(), %error, "no placeholder");
                return Ok(());
            }
            Err(_) => return Ok(()),
        };
        let asker = self.talk.turn.as_ref().and_then(Turn::asker);
        let thread = asker.and_then(|asker| self.talk.thread_for(&asker.visit));
        let id = receipt.message_ids.into_iter().next().filter(|id| !id.is_empty());
        if let (Some(turn), Some(id)) = (&mut self.talk.turn, id) {
            turn.placeholder = Some(MessageRef { id, thread });
            view.shown = Progress::default().shown();
            self.save(false, None).await?;
        }
        Ok(())
    }

    pub(super) async fn show_progress(&mut self, view: &mut Shown) -> Result<(), LetGo> {
        if view.posting.as_ref().is_some_and(JoinHandle::is_finished) {
            self.note_placeholder(view).await?;
        }
        if view.showing.as_ref().is_some_and(JoinHandle::is_finished)
            && let Some(showing) = view.showing.take()
            && let Ok(Err(failure)) = showing.await
        {
            tracing::debug!(conversation = self.conversation(), %failure, "progress could not be shown");
            let pause = match failure.disposition {
                // A message that cannot be edited stays as it is.
                Disposition::GiveUp => Duration::from_secs(3600),
                _ => failure.retry_after().unwrap_or(view.every),
            };
            view.next_edit = Instant::now() + pause.max(view.every);
            view.next_typing = view.next_typing.max(view.next_edit);
        }
        let now = Instant::now();
        let Some(turn) = &self.talk.turn else { return Ok(()) };
        let (Some(asker), true) = (turn.asker(), view.showing.is_none()) else { return Ok(()) };
        let mut text = view.progress.shown();
        if !self.talk.waiting.is_empty() {
            text.push_str(&format!(" *({} waiting)*", self.talk.waiting.len()));
        }
        let show = match &turn.placeholder {
            Some(message) if now >= view.next_edit && text != view.shown => {
                view.next_edit = now + view.every;
                view.shown.clone_from(&text);
                Show::Text { message: message.clone(), text, rows: Self::cancel_row(turn) }
            }
            _ if now >= view.next_typing => {
                view.next_typing = now + TYPE_EVERY;
                Show::Typing
            }
            _ => return Ok(()),
        };
        let (visit, placement) = (asker.visit.clone(), self.talk.placement(asker));
        let notifier = std::sync::Arc::clone(&self.inner.notifier);
        // Signals are no part of the trace: there are many, and nobody misses one.
        view.showing =
            Some(tokio::spawn(async move { notifier.show(&visit, &placement, show).await }));
        Ok(())
    }

    /// Nothing about the placeholder is on its way any more: what is said next stays.
    pub(super) async fn settle_placeholder(&mut self, view: &mut Shown) -> Result<(), LetGo> {
        self.keep().await?;
        self.note_placeholder(view).await?;
        if let Some(showing) = view.showing.take() {
            let _ = showing.await;
        }
        self.keep().await
    }

    /// The placeholder tells how long it took, and has no button any more.
    pub(super) async fn finish_placeholder(&mut self, turn: &Turn) -> Result<(), LetGo> {
        let (Some(message), Some(asker)) = (turn.placeholder.clone(), turn.asker()) else {
            return Ok(());
        };
        let text = summary(self.now().since(turn.started_at), &turn.tools);
        let placement = self.talk.placement(asker);
        let key = format!("{}:summary:{}", turn.id, message.id);
        self.say(&asker.visit, placement, vec![Content::Text(text)], Some(message), &key).await?;
        Ok(())
    }
}
