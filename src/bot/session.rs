//! One conversation, held by this process: what comes in is handled in order, one turn at a time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::bell::Seat;
use super::conversation::{Again, Conversation, Input, MOST_WAITING, Stage, Turn, address, name};
use super::deciding::LATER;
use super::intake::{at, of_person};
use super::pause::code;
use super::progress::span;
use super::saying::asked;
use super::wish::{Wish, wish};
use super::{Inner, LEASE, agents, words};
use crate::a2a::Pause;
use crate::clock::Timestamp;
use crate::model::audit::Entry;
use crate::model::{Event, Occurrence, PlatformKind, Status};
use crate::notifier::Content;
use crate::store::{Held, Recorded, Saved, StoreError, Waiting};
use crate::telemetry::trace::Origin;

/// Longer messages are not passed on, in characters.
const MOST_CHARACTERS: usize = 8_000;
/// How long a button that asks again stays.
const AGAIN: Duration = Duration::from_secs(24 * 3600);
/// The lease is renewed when it is this old.
const RENEW: Duration = Duration::from_secs(8);

/// Why a conversation was let go of in the middle. What was saved of it stays.
#[derive(Debug, thiserror::Error)]
pub(super) enum LetGo {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("another process holds it")]
    Fenced,
    #[error("what it has to say cannot be stored")]
    Unsaid,
    #[error("it cannot be written down: {0}")]
    Unwritable(serde_json::Error),
}

/// A conversation in this process's hands.
pub(super) struct Session {
    pub(super) inner: Arc<Inner>,
    held: Held,
    pub(super) talk: Conversation,
    waiting: VecDeque<Waiting>,
    seen: i64,
    handled: Vec<i64>,
    renewed: Timestamp,
    /// How often the event being handled was answered.
    pub(super) said: u32,
    /// Buttons and places to be saved.
    names: Vec<(String, Timestamp)>,
    /// What the audit trail says about what is saved next.
    pub(super) audit: Vec<Entry>,
    pub(super) stop: CancellationToken,
}

impl Session {
    /// Does what there is to do, and lets go of the conversation.
    pub(super) async fn run(
        inner: Arc<Inner>,
        held: Held,
        stop: CancellationToken,
    ) -> Result<(), LetGo> {
        let bell = Arc::clone(&inner);
        let seat = bell.bell.sit(&held.conversation);
        Self::open(inner, held, stop).work(&seat).await
    }

    fn open(inner: Arc<Inner>, held: Held, stop: CancellationToken) -> Self {
        let now = inner.clock.now();
        let saved = held.state.as_deref().and_then(|state| {
            serde_json::from_str::<Conversation>(state)
                .inspect_err(|error| {
                    tracing::error!(conversation = %held.conversation, %error, "it begins anew: what was saved of it cannot be read");
                })
                .ok()
        });
        let talk = match (saved, held.events.first()) {
            (Some(talk), _) => talk,
            (None, Some(first)) => {
                let agent = inner.agents.for_event(&first.event);
                let (_, thread) = address(&first.event);
                Conversation::new(agent, &held.conversation, thread, now)
            }
            // Nothing can be read of it, and nothing waits: it begins anew whenever somebody writes.
            (None, None) => Conversation::new(agents::DEFAULT, &held.conversation, None, now),
        };
        let talk = talk.at(now);
        let waiting: VecDeque<_> = held.events.iter().cloned().collect();
        Self {
            inner,
            seen: waiting.back().map_or(0, |waiting| waiting.seq),
            held,
            talk,
            waiting,
            handled: Vec::new(),
            renewed: now,
            said: 0,
            names: Vec::new(),
            audit: Vec::new(),
            stop,
        }
    }

    async fn work(&mut self, seat: &Seat<'_>) -> Result<(), LetGo> {
        loop {
            self.handle_waiting().await?;
            if self.stop.is_cancelled() {
                return self.let_go(Some(self.now())).await;
            }
            match self.talk.turn.as_ref().map(|turn| turn.stage) {
                Some(Stage::Paused) => {
                    let now = self.now();
                    let expires = self.expires_at();
                    if expires.is_some_and(|at| at > now) {
                        if self.lacks_card() {
                            self.post_card().await?;
                        }
                        if self.look_again().await? {
                            continue;
                        }
                        let soon = self.lacks_card().then(|| now.after(LATER));
                        return self.let_go(soon.min(expires).or(expires)).await;
                    }
                    self.decide_late();
                }
                Some(_) => {
                    if let Some(again_at) = self.drive(seat).await? {
                        return self.let_go(Some(again_at)).await;
                    }
                }
                None => {
                    let now = self.now();
                    if self.talk.next_turn(now).is_none() {
                        if self.look_again().await? {
                            continue;
                        }
                        return self.let_go(None).await;
                    }
                    self.open_turn().await?;
                }
            }
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    fn expires_at(&self) -> Option<Timestamp> {
        Some(self.talk.turn.as_ref()?.pause.as_ref()?.expires_at)
    }

    /// A turn begins: its buttons are known before anybody can see them.
    async fn open_turn(&mut self) -> Result<(), LetGo> {
        let far = self.far();
        let key = self.talk.turn.as_ref().map(|turn| turn.cancel_key.clone());
        self.names.extend(key.map(|key| (key, far)));
        self.name_thread();
        self.note_start();
        self.save(false, None).await
    }

    /// A command of Slack's that nobody saw is shown; the thread below it is the conversation's. False if it is still on its way.
    pub(super) async fn show_question(&mut self) -> Result<bool, LetGo> {
        let Some(turn) = &self.talk.turn else { return Ok(true) };
        let (id, first) = (turn.id.clone(), turn.inputs.first().cloned());
        let Some(input) = first.filter(|input| input.unseen && self.talk.thread.is_none()) else {
            return Ok(true);
        };
        let placement = self.talk.placement(&input);
        let content = vec![Content::Text(asked(&input.visit, &input.text))];
        let key = format!("{id}:question");
        let said = self.say(&input.visit, placement, content, None, &key).await?;
        let Some(receipt) = said else { return Ok(true) };
        match receipt.status {
            Status::Queued => return Ok(false),
            Status::Failed | Status::Unknown => return Ok(true),
            Status::Delivered => {}
        }
        let ts = receipt.message_ids.into_iter().next().filter(|id| !id.is_empty());
        self.talk.outside = ts.is_none();
        if self.talk.outside {
            self.names.push((at(&of_person(&input.visit)), self.far()));
        } else if !input.visit.direct {
            self.talk.thread = ts;
            self.name_thread();
        }
        self.save(false, None).await?;
        Ok(true)
    }

    /// A thread that began with a command leads here for as long as it is used.
    fn name_thread(&mut self) {
        if let Some(input) = self.talk.turn.as_ref().and_then(Turn::asker)
            && let (Some(thread), false) = (&self.talk.thread, input.visit.direct)
        {
            let place = format!("{}/{thread}", input.visit.channel);
            if place != self.held.conversation {
                self.names.push((at(&place), self.far()));
            }
        }
    }

    /// When nobody remembers a conversation any more.
    fn far(&self) -> Timestamp {
        self.now().after(self.inner.settings.idle())
    }

    /// Handles what has come in so far.
    pub(super) async fn handle_waiting(&mut self) -> Result<(), LetGo> {
        let any = !self.waiting.is_empty();
        while let Some(Waiting { seq, mut event }) = self.waiting.pop_front() {
            self.talk.meet(&mut event.visit.person);
            self.said = 0;
            let origin = Origin::stored(event.traceparent.as_deref());
            origin.around(self.handle(&event)).await?;
            self.handled.push(seq);
        }
        if any { self.save(false, None).await } else { Ok(()) }
    }

    /// Whether something came in that waits.
    pub(super) async fn look_again(&mut self) -> Result<bool, LetGo> {
        let new = self.inner.store.waiting(&self.held.conversation, self.seen).await?;
        if let Some(last) = new.last() {
            self.seen = last.seq;
        }
        self.waiting.extend(new);
        Ok(!self.waiting.is_empty())
    }

    async fn handle(&mut self, event: &Event) -> Result<(), LetGo> {
        let Some(wish) = wish(&event.what, &self.inner.agents) else {
            return self.pressed(event).await;
        };
        match wish {
            Wish::Ask(text) => self.ask(event, text).await,
            Wish::New(text) => {
                self.end_turn_for(&event.visit);
                self.talk.waiting.clear();
                self.talk.start_afresh();
                if text.is_empty() {
                    self.answer(event, "I start afresh: what was said before is forgotten.").await
                } else {
                    self.ask(event, text).await
                }
            }
            Wish::Cancel => self.cancel(event).await,
            Wish::Status => {
                let status = self.status();
                self.answer(event, &status).await
            }
            Wish::Help => self.answer(event, words::HELP).await,
        }
    }

    async fn ask(&mut self, event: &Event, text: String) -> Result<(), LetGo> {
        let now = self.now();
        if text.chars().count() >= MOST_CHARACTERS {
            let line = format!("That is too long: I pass on at most {MOST_CHARACTERS} characters.");
            return self.answer(event, &line).await;
        }
        if self.talk.turn.is_none() && now.since(self.talk.last_at) > self.inner.settings.idle() {
            self.talk.start_afresh();
        }
        self.talk.last_at = now;
        let (message_id, files, unseen) = match &event.what {
            Occurrence::Message { message_id, files, .. } => {
                (Some(message_id.clone()), files.clone(), false)
            }
            Occurrence::Command { message_id, .. } => {
                let unseen = event.visit.platform() == PlatformKind::Slack;
                (message_id.clone(), Vec::new(), unseen)
            }
            Occurrence::Press { .. } => (None, Vec::new(), false),
        };
        // Slack's opens a thread: it is shown with its turn.
        if let Occurrence::Command { message_id: None, .. } = &event.what
            && !unseen
        {
            self.show_asked(event, &text).await?;
        }
        let mut input = Input {
            visit: event.visit.clone(),
            text,
            files,
            message_id,
            respond: event.respond.clone(),
            unseen,
            traceparent: event.traceparent.clone(),
        };
        if let Some(turn) = &mut self.talk.turn
            && turn.stage == Stage::Paused
            && let Some(pending) = &mut turn.pause
            && pending.shown_at.is_some_and(|shown| shown <= event.at)
        {
            let asker = turn.inputs.last().map_or("", |input| &input.visit.person.id);
            let may = self.inner.rules.now().access().may_decide(&input.visit, asker);
            match &pending.pause {
                Pause::Text(_) if input.visit.person.id == asker || may => {
                    pending.answers = vec![vec![input.text.clone()]];
                    turn.inputs.push(input);
                    turn.stage = Stage::Deciding;
                    return Ok(());
                }
                Pause::Questions(_) if input.visit.person.id == asker || may => {
                    let step = pending.write(&input.text, &name(&input.visit));
                    return self.stepped(step).await;
                }
                // Plain text would drop the pause: it waits.
                _ if !std::mem::replace(&mut pending.told, true) => {
                    let line = "This waits for a decision: use the buttons above, or `cancel`. I keep your message \
                                and pass it on after that.";
                    self.answer(event, line).await?;
                }
                _ => {}
            }
        }
        if self.talk.turn.is_none()
            && self.talk.waiting.is_empty()
            && let Some((agent, rest)) = self.inner.agents.by_prefix(&input.text)
        {
            if agent != self.talk.agent {
                self.talk.agent = agent.to_owned();
                self.talk.start_afresh();
            }
            if rest.is_empty() {
                return self.answer(event, words::HELP).await;
            }
            input.text = rest.to_owned();
        }
        if self.talk.waiting.len() >= MOST_WAITING {
            let line = format!(
                "{MOST_WAITING} messages wait already, so I do not pass this one on. Try again later."
            );
            return self.answer(event, &line).await;
        }
        self.talk.waiting.push(input);
        Ok(())
    }

    pub(super) async fn cancel(&mut self, event: &Event) -> Result<(), LetGo> {
        let dropped = std::mem::take(&mut self.talk.waiting).len();
        if self.talk.turn.is_none() {
            let line = if dropped > 0 {
                "Cancelled: I ask nothing."
            } else if self.is_new() {
                "Nothing is in progress here. In a thread, write `cancel` to me there."
            } else {
                "Nothing is in progress here."
            };
            return self.answer(event, line).await;
        }
        self.end_turn_for(&event.visit);
        Ok(())
    }

    fn is_new(&self) -> bool {
        self.held.state.is_none()
    }

    fn status(&self) -> String {
        let agent = code(&self.talk.agent);
        let Some(turn) = &self.talk.turn else {
            return format!("Agent {agent}: ready.");
        };
        let since = span(self.now().since(turn.started_at));
        let stands = match turn.stage {
            Stage::Paused => "waits for a decision",
            Stage::Accepted | Stage::Asked | Stage::Running | Stage::Deciding => "is working",
        };
        let mut status = format!("Agent {agent}: {stands}, for {since} so far.");
        if let Some(task) = &turn.task_id {
            status.push_str(&format!(" Task {}.", code(task)));
        }
        match self.talk.waiting.len() {
            0 => {}
            1 => status.push_str(" One message waits."),
            n => status.push_str(&format!(" {n} messages wait.")),
        }
        status
    }

    /// Asks for a decision whether to ask again what may have been received.
    pub(super) fn offer_again(&mut self, inputs: Vec<Input>) -> String {
        if let Some(again) = self.talk.again.as_ref().filter(|again| again.inputs == inputs) {
            return again.key.clone();
        }
        let key = super::conversation::new_key();
        let until = self.now().after(AGAIN);
        self.names.push((key.clone(), until));
        self.talk.again = Some(Again { key: key.clone(), inputs, until: Some(until) });
        key
    }

    pub(super) fn name_button(&mut self, key: String, until: Timestamp) {
        self.names.push((key, until));
    }

    /// Waits for something that may take long, and keeps hold of the conversation meanwhile.
    pub(super) async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> Result<T, LetGo> {
        let mut work = std::pin::pin!(work);
        loop {
            self.keep().await?;
            tokio::select! {
                done = &mut work => return Ok(done),
                () = tokio::time::sleep(RENEW) => {}
            }
        }
    }

    /// Renews the lease if it is getting old.
    pub(super) async fn keep(&mut self) -> Result<(), LetGo> {
        let now = self.now();
        if now.since(self.renewed) < RENEW {
            return Ok(());
        }
        match self.inner.store.renew(&self.held, now, LEASE).await? {
            Recorded::Done => {
                self.renewed = now;
                Ok(())
            }
            Recorded::Fenced => Err(LetGo::Fenced),
        }
    }

    /// Makes everything so far durable.
    pub(super) async fn save(
        &mut self,
        release: bool,
        due: Option<Timestamp>,
    ) -> Result<(), LetGo> {
        let now = self.now();
        let saved = Saved {
            state: serde_json::to_string(&self.talk).map_err(LetGo::Unwritable)?,
            handled: std::mem::take(&mut self.handled),
            due,
            buttons: std::mem::take(&mut self.names),
            release,
            audit: std::mem::take(&mut self.audit),
        };
        match self.inner.store.save(&self.held, &saved, now, LEASE).await? {
            Recorded::Done => {
                self.renewed = now;
                self.held.state = Some(saved.state);
                Ok(())
            }
            Recorded::Fenced => Err(LetGo::Fenced),
        }
    }

    async fn let_go(&mut self, due: Option<Timestamp>) -> Result<(), LetGo> {
        // A turn in progress has to be looked at again by somebody, and what can be asked again is to be forgotten.
        let due = due.filter(|_| self.talk.turn.is_some() || !self.talk.waiting.is_empty());
        let due = due.or_else(|| self.talk.forgets_at());
        self.save(true, due).await
    }

    pub(super) fn conversation(&self) -> &str {
        &self.held.conversation
    }
}
