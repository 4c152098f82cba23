//! A turn that waits for people: the card, who may decide, what was decided, and telling the agent.

use std::time::Duration;

use uuid::Uuid;

use super::conversation::{Ending, Stage, Turn, name};
use super::facts::{decision, person};
use super::flow::Flow;
use super::pause::{Choice, Pending, Step, code, escaped, shortened};
use super::session::{LetGo, Session};
use crate::a2a::{self, Answer, Caller, Cancel, Client, Pause};
use crate::clock::Timestamp;
use crate::model::{Event, MessageRef, Occurrence, Placement, Status, Visit};
use crate::notifier::{Content, Show};
use crate::telemetry::metrics::{Decision, TurnOutcome};

/// When a turn is looked at again whose agent could not be asked, or that runs for very long.
pub(super) const LATER: Duration = Duration::from_secs(30);

/// What follows a decision.
pub(super) enum Next {
    /// The agent goes on.
    Listen(Flow),
    /// It cannot be asked now.
    Later,
    /// The turn is over.
    Over,
}

impl Session {
    /// The agent waits for a person.
    pub(super) async fn pause(
        &mut self,
        pause: Pause,
        answer: Answer,
    ) -> Result<Option<Timestamp>, LetGo> {
        let now = self.now();
        let expires_at = now.after(self.inner.settings.approval());
        let Some(turn) = &mut self.talk.turn else { return Ok(None) };
        if turn.pause.as_ref().is_some_and(|known| known.pause == pause && known.is_complete()) {
            // What was decided has not reached the agent.
            turn.stage = Stage::Deciding;
            self.save(false, None).await?;
            return Ok(Some(now.after(LATER)));
        }
        let mut pending = Pending::new(pause, expires_at);
        if !matches!(pending.pause, Pause::Text(_)) {
            pending.preface = shortened(answer.text.trim(), 3_000);
        }
        let keys: Vec<String> = pending.buttons.iter().map(|(key, _)| key.clone()).collect();
        let asked = match &pending.pause {
            Pause::Approval(approval) => approval.tools.len(),
            Pause::Questions(_) | Pause::Text(_) => 0,
        };
        turn.pauses += 1;
        turn.stage = Stage::Paused;
        turn.slow = false;
        turn.pause = Some(pending);
        for key in keys {
            self.name_button(key, expires_at);
        }
        self.note_asked();
        // The buttons lead somewhere before anybody can see them.
        self.save(false, None).await?;
        self.inner.metrics.approvals(&self.talk.agent, Decision::Asked, asked);
        self.post_card().await?;
        Ok(None)
    }

    /// Whether what the agent waits for is not shown yet.
    pub(super) fn lacks_card(&self) -> bool {
        let pause = self.talk.turn.as_ref().and_then(|turn| turn.pause.as_ref());
        pause.is_some_and(|pending| pending.shown_at.is_none())
    }

    /// Shows what the agent waits for.
    pub(super) async fn post_card(&mut self) -> Result<(), LetGo> {
        let Some(turn) = self.talk.turn.clone() else { return Ok(()) };
        let (Some(pending), Some(asker)) = (&turn.pause, turn.asker()) else { return Ok(()) };
        let placement = self.talk.placement(asker);
        let key = format!("{}:pause:{}", turn.id, turn.pauses);
        let (text, rows) = pending.card();
        let mut content = Vec::new();
        if !pending.preface.is_empty() {
            content.push(Content::Text(pending.preface.clone()));
        }
        content.push(Content::Card { text, rows: rows.clone() });
        let mut said = self.try_say(&asker.visit, placement.clone(), content, None, &key).await?;
        if said.as_ref().map_or(true, |receipt| receipt.status == Status::Failed) {
            let text = pending.short_card();
            let content = vec![Content::Card { text, rows }];
            let key = format!("{key}:short");
            said = self.try_say(&asker.visit, placement.clone(), content, None, &key).await?;
        }
        let card = match said {
            Ok(receipt) if receipt.status == Status::Delivered => {
                receipt.message_ids.into_iter().next_back()
            }
            // It is looked at again soon.
            Ok(_) => return Ok(()),
            Err(error) => {
                tracing::error!(conversation = self.conversation(), %error, "a decision cannot be asked for");
                return Ok(());
            }
        };
        let now = self.now();
        if let Some((name, bytes)) = pending.long_arguments() {
            let mime = "application/json".to_owned();
            let content = vec![Content::File { name, mime, bytes }];
            let key = format!("{key}:arguments");
            self.say(&asker.visit, placement.clone(), content, None, &key).await?;
        }
        self.finish_placeholder(&turn).await?;
        if let Some(turn) = &mut self.talk.turn {
            turn.placeholder = None;
            if let Some(pending) = &mut turn.pause {
                let thread = placement.thread;
                pending.card = card.filter(|id| !id.is_empty()).map(|id| MessageRef { id, thread });
                pending.shown_at = Some(now);
            }
        }
        self.save(false, None).await
    }

    /// A button was pressed.
    pub(super) async fn pressed(&mut self, event: &Event) -> Result<(), LetGo> {
        let Occurrence::Press { key, .. } = &event.what else { return Ok(()) };
        if let Some(again) = self.talk.again.take_if(|again| again.key == *key) {
            self.talk.waiting.splice(0..0, again.inputs);
            return self.answer(event, "I ask again.").await;
        }
        let now = self.now();
        let Some(turn) = &mut self.talk.turn else {
            return self.answer(event, "That is over already.").await;
        };
        if turn.cancel_key == *key {
            return self.cancel(event).await;
        }
        let asker = turn.asker().map_or("", |input| &input.visit.person.id).to_owned();
        let paused = turn.stage == Stage::Paused;
        let Some((pending, choice)) = turn
            .pause
            .as_mut()
            .and_then(|pending| pending.choice(key).cloned().map(|choice| (pending, choice)))
        else {
            return self.answer(event, "That was decided already.").await;
        };
        let policy = self.inner.rules.now();
        let access = policy.access();
        let question = matches!(choice, Choice::Pick(..) | Choice::Done(_));
        if !(access.may_decide(&event.visit, &asker)
            || (question && event.visit.person.id == asker))
        {
            self.note_not_theirs(event, &choice);
            let line = format!("{}, this is not yours to decide.", escaped(&name(&event.visit)));
            return self.answer(event, &line).await;
        }
        if !paused {
            return self.answer(event, "That was decided already.").await;
        }
        let before = pending.clone();
        let step = pending.press(&choice, &name(&event.visit), now);
        pending.respond = event.respond.clone().or(pending.respond.take());
        tracing::info!(conversation = self.conversation(), by = %event.visit.person.id, ?choice, ?step, "decided");
        if step == Step::Late {
            return self.answer(event, "That was decided already.").await;
        }
        self.note_rulings(Some(&before), person(&event.visit).as_deref());
        self.stepped(step).await
    }

    /// The card shows what was decided; once all is, the agent hears of it.
    pub(super) async fn stepped(&mut self, step: Step) -> Result<(), LetGo> {
        if step == Step::Complete
            && let Some(turn) = &mut self.talk.turn
        {
            turn.stage = Stage::Deciding;
        }
        let Some(turn) = &self.talk.turn else { return Ok(()) };
        let (Step::Partly, Some(asker), Some(pending)) = (step, turn.asker(), &turn.pause) else {
            return Ok(());
        };
        let Some(card) = pending.card.clone() else { return Ok(()) };
        let (text, rows) = pending.card();
        let (visit, placement) = (asker.visit.clone(), self.talk.placement(asker));
        let notifier = std::sync::Arc::clone(&self.inner.notifier);
        let show = Show::Text { message: card, text, rows };
        if let Err(failure) = self.meanwhile(notifier.show(&visit, &placement, show)).await? {
            tracing::warn!(conversation = self.conversation(), %failure, "the card could not be changed");
        }
        Ok(())
    }

    /// Nobody decided in time: what is open is rejected. A question in plain words has no such answer: its turn ends.
    pub(super) fn decide_late(&mut self) {
        let now = self.now();
        let Some(turn) = &mut self.talk.turn else { return };
        let before = turn.pause.clone();
        match &mut turn.pause {
            Some(pending) if matches!(pending.pause, Pause::Approval(_)) => {
                pending.close(None, now);
                turn.stage = Stage::Deciding;
                self.note_rulings(before.as_ref(), None);
            }
            _ => {
                turn.stage = Stage::Running;
                turn.ending = Some(Ending::late());
            }
        }
    }

    /// Makes what is about to be passed on durable, and counts it: once, however often it is passed on.
    async fn save_decisions(&mut self) -> Result<(), LetGo> {
        let pending = self.talk.turn.as_mut().and_then(|turn| turn.pause.as_mut());
        let mut news = Vec::new();
        if let Some(pending) = pending
            && !std::mem::replace(&mut pending.counted, true)
        {
            news.extend(pending.rulings.values().map(decision));
        }
        self.save(false, None).await?;
        for decision in news {
            self.inner.metrics.approvals(&self.talk.agent, decision, 1);
        }
        Ok(())
    }

    /// Somebody wants the turn in progress to end; [`Session::drive`] sees to it.
    pub(super) fn end_turn_for(&mut self, visit: &Visit) {
        if let Some(turn) = &mut self.talk.turn {
            if turn.stage == Stage::Paused {
                turn.stage = Stage::Running;
            }
            turn.ending.get_or_insert_with(|| Ending::by(visit));
        }
    }

    /// Passes a decision on, if the task still waits for it.
    pub(super) async fn decide(
        &mut self,
        client: &Client,
        caller: &Caller,
        turn: &Turn,
        task: &str,
    ) -> Result<Next, LetGo> {
        let Some(pending) = &turn.pause else {
            return Ok(Next::Listen(Flow::resume(client, task, caller)));
        };
        self.close_card(turn, pending).await?;
        let snapshot = match self.meanwhile(client.task(task, caller)).await? {
            Ok(snapshot) => snapshot,
            Err(error) if error.is_passing() => {
                tracing::warn!(conversation = self.conversation(), %error, "a decision waits for the agent");
                if let Some(turn) = &mut self.talk.turn
                    && !std::mem::replace(&mut turn.slow, true)
                {
                    let key = format!("{}:decision-waits:{}", turn.id, turn.pauses);
                    let line = "The agent cannot be reached right now; I pass the decision on as soon as it can.";
                    self.line(line, &key).await?;
                }
                return Ok(Next::Later);
            }
            Err(error) => {
                self.failed(&error).await?;
                return Ok(Next::Over);
            }
        };
        let waits_for_this = snapshot.pause().is_some_and(|pause| *pause == pending.pause);
        Ok(Next::Listen(match (waits_for_this, snapshot) {
            (true, _) => {
                let content = match pending.decision() {
                    Some(decision) => a2a::Content::Decision(decision),
                    None => {
                        let text = pending.answers.first().map(|answer| answer.join("\n"));
                        let inputs = turn.asker().cloned().into_iter().collect::<Vec<_>>();
                        self.parts(text.unwrap_or_default(), &inputs).await?
                    }
                };
                // Another process may have taken over meanwhile: then it decides.
                self.save_decisions().await?;
                let id = Uuid::now_v7().to_string();
                let message = self.outgoing(turn, id, Some(task.to_owned()), content);
                Flow::send(client, message, caller.clone())
            }
            // It was passed on before, or somebody decided elsewhere.
            (false, a2a::Snapshot::Working { .. }) => Flow::resume(client, task, caller),
            (false, a2a::Snapshot::Stopped(outcome)) => Flow::ended(outcome),
        }))
    }

    /// The card says what was decided, and has no buttons any more.
    async fn close_card(&mut self, turn: &Turn, pending: &Pending) -> Result<(), LetGo> {
        let Some(asker) = turn.asker() else { return Ok(()) };
        let mut placement = self.talk.placement(asker);
        let card = match (&pending.card, &pending.respond) {
            (Some(card), _) => card.clone(),
            // Where the bot is no member, the press tells how to reach its own card.
            (None, Some(respond)) => {
                placement = Placement { respond: Some(respond.clone()), ..Placement::default() };
                MessageRef { id: String::new(), thread: None }
            }
            (None, None) => return Ok(()),
        };
        let (text, _) = pending.card();
        let key = format!("{}:decided:{}", turn.id, turn.pauses);
        self.say(&asker.visit, placement, vec![Content::Text(text)], Some(card), &key).await?;
        Ok(())
    }

    /// Ends the turn because somebody wishes it, or nobody replied. What waits for approval is rejected: it must not run.
    pub(super) async fn call_off(
        &mut self,
        client: &Client,
        caller: &Caller,
        ending: &Ending,
    ) -> Result<(), LetGo> {
        let now = self.now();
        let mut waited = false;
        let before = self.talk.turn.as_ref().and_then(|turn| turn.pause.clone());
        if let Some(turn) = &mut self.talk.turn
            && let Some(pending) = &mut turn.pause
        {
            waited = turn.stage == Stage::Deciding || !pending.is_complete();
            if waited {
                // What was decided and not passed on does not count any more.
                pending.rulings.clear();
                pending.close(ending.by.as_deref(), now);
            }
        }
        if waited {
            self.note_rulings(before.as_ref(), ending.person.as_deref());
            self.save_decisions().await?;
        }
        let Some(turn) = self.talk.turn.clone() else { return Ok(()) };
        let mut unanswered = "the agent gets no answer";
        if let Some(pending) = turn.pause.as_ref().filter(|_| waited) {
            self.close_card(&turn, pending).await?;
            if let (Pause::Approval(asked), Some(task)) = (&pending.pause, &turn.task_id) {
                unanswered = "nothing was approved";
                let decision = asked.reject_all("rejected: the turn was ended", None);
                let content = a2a::Content::Decision(decision);
                let id = Uuid::now_v7().to_string();
                let message = self.outgoing(&turn, id, Some(task.clone()), content);
                // Not listened to any more: that it arrives is enough.
                if let Err(error) = self.meanwhile(client.send(&message, caller)).await? {
                    tracing::warn!(conversation = self.conversation(), %error, "a rejection may not have arrived");
                }
            }
        }
        let ended = ending.by.as_ref().map(|by| format!("Ended by {}; {unanswered}.", escaped(by)));
        let (cancelled, ignored) = match &ending.by {
            Some(by) => {
                let by = escaped(by);
                let ignored = format!(
                    "This agent cannot be stopped: it goes on, and I ignore what comes of it. (asked by {by})"
                );
                (format!("Cancelled by {by}."), ignored)
            }
            None => {
                let line = "Nobody replied in time, so I do not wait any longer.".to_owned();
                (line.clone(), line)
            }
        };
        let line = match &turn.task_id {
            None if turn.stage == Stage::Accepted => {
                format!("{cancelled} The agent was not asked.")
            }
            None => ignored,
            Some(task) => match self.meanwhile(client.cancel(task, caller)).await? {
                Ok(Cancel::Cancelled) => cancelled,
                // It waited for people, and does nothing more that they could see.
                Ok(_) if waited => ended.unwrap_or(cancelled),
                Ok(Cancel::AlreadyOver) => {
                    // Its answer is there: it is shown.
                    if let Some(turn) = &mut self.talk.turn {
                        turn.ending = None;
                    }
                    return Ok(());
                }
                Ok(Cancel::Refused { why }) => {
                    tracing::info!(
                        conversation = self.conversation(),
                        why,
                        "the agent cannot be stopped"
                    );
                    ignored
                }
                Err(error) => {
                    tracing::warn!(conversation = self.conversation(), %error, "the agent could not be stopped");
                    ignored
                }
            },
        };
        tracing::info!(
            conversation = self.conversation(),
            task = turn.task_id.as_deref().map(code),
            "called off"
        );
        self.conclude(vec![Content::Text(line)], TurnOutcome::Cancelled).await
    }
}
