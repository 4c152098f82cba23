//! A turn: ask the agent, show how it goes, say what came of it.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use super::bell::Seat;
use super::conversation::{Stage, Turn};
use super::deciding::{LATER, Next};
use super::flow::{Flow, News};
use super::pause::{code, escaped, shortened};
use super::placeholder::Shown;
use super::session::{LetGo, Session};
use super::words;
use crate::a2a::{self, Caller, Client, Outcome, State, ToolState, Update};
use crate::clock::Timestamp;
use crate::notifier::Content;
use crate::telemetry::metrics::TurnOutcome;
use crate::telemetry::spans;
use crate::telemetry::trace::{self, Span};

/// Other processes' events are seen after this time.
const LOOK_EVERY: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_millis(250);
/// How long an ending process waits for the task of a message that is on its way.
const FAREWELL: Duration = Duration::from_secs(10);
/// When something is looked at again that is about to happen.
const SOON: Duration = Duration::from_secs(2);

impl Session {
    /// Drives the turn in progress to its end or its next pause. `Some` is when it wants to be looked at again although
    /// it is let go of.
    pub(super) async fn drive(&mut self, seat: &Seat<'_>) -> Result<Option<Timestamp>, LetGo> {
        let span = self.talk.turn.as_ref().map_or(Span::none(), |turn| {
            let events = turn.inputs.iter().map(|input| input.traceparent.as_deref());
            spans::turn(&self.talk.agent, self.conversation(), &turn.id, events)
        });
        let driven = span.around(self.drive_it(seat)).await;
        driven.inspect_err(|_| span.fail("let_go"))
    }

    async fn drive_it(&mut self, seat: &Seat<'_>) -> Result<Option<Timestamp>, LetGo> {
        let Some(turn) = self.talk.turn.clone() else { return Ok(None) };
        let Some(client) = self.inner.agents.client(&self.talk.agent).cloned() else {
            return Ok(None);
        };
        let caller = self.caller(&turn);
        if turn.stage == Stage::Accepted && turn.ending.is_none() {
            if !turn
                .asker()
                .is_some_and(|asker| self.inner.rules.now().access().admits(&asker.visit))
            {
                tracing::warn!(
                    conversation = self.conversation(),
                    "who asked may not talk to the agent any more"
                );
                self.turn_over(&turn, TurnOutcome::Cancelled).await?;
                return Ok(None);
            }
            if !self.show_question().await? {
                return Ok(Some(self.now().after(SOON)));
            }
        }
        // A decision may end the turn at once; else the placeholder follows it.
        let decides = turn.stage == Stage::Deciding && turn.ending.is_none();
        let mut shown = self.placeholder(!decides);
        if let Some(ending) = &turn.ending {
            self.settle_placeholder(&mut shown).await?;
            self.call_off(&client, &caller, ending).await?;
            return Ok(None);
        }
        let flow = match (turn.stage, &turn.task_id) {
            (Stage::Accepted, _) => {
                let message = self.message(&turn).await?;
                if let Some(turn) = &mut self.talk.turn {
                    turn.stage = Stage::Asked;
                }
                self.save(false, None).await?;
                Flow::send(&client, message, caller.clone())
            }
            (Stage::Running | Stage::Paused, Some(task)) => Flow::resume(&client, task, &caller),
            (Stage::Deciding, Some(task)) => {
                match self.decide(&client, &caller, &turn, task).await? {
                    Next::Listen(flow) => {
                        shown = self.placeholder(true);
                        flow
                    }
                    Next::Later => return Ok(Some(self.now().after(LATER))),
                    Next::Over => return Ok(None),
                }
            }
            // Asked, and nobody knows what came of it.
            _ => {
                self.settle_placeholder(&mut shown).await?;
                self.may_have_arrived(words::MAYBE.to_owned()).await?;
                return Ok(None);
            }
        };
        self.watch(&client, &caller, flow, shown, seat).await
    }

    /// Where no trace is exported, the turn's own name is what the agent's traces can be found by.
    fn caller(&self, turn: &Turn) -> Caller {
        let trace = turn.id.replace('-', "");
        let span: String = trace.chars().rev().take(16).collect();
        Caller {
            user_id: Some(self.talk.user_id.clone()),
            traceparent: Some(format!("00-{trace}-{span}-01")),
        }
    }

    /// Listens to the agent and to the people until the turn ends, pauses, or has to be let go of.
    async fn watch(
        &mut self,
        client: &Client,
        caller: &Caller,
        mut flow: Flow,
        mut shown: Shown,
        seat: &Seat<'_>,
    ) -> Result<Option<Timestamp>, LetGo> {
        let now = Instant::now();
        let mut next_look = now + LOOK_EVERY;
        let mut farewell: Option<Instant> = None;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                news = flow.news.recv() => {
                    let ended = self.hear(news, &mut shown).await?;
                    if let Some(end) = ended {
                        self.settle_placeholder(&mut shown).await?;
                        return self.end(end).await;
                    }
                }
                () = seat.rung() => {
                    self.look_again().await?;
                    self.handle_waiting().await?;
                }
                _ = tick.tick() => {
                    self.keep().await?;
                    if Instant::now() >= next_look {
                        next_look = Instant::now() + LOOK_EVERY;
                        self.look_again().await?;
                        self.handle_waiting().await?;
                    }
                    self.show_progress(&mut shown).await?;
                }
                () = self.stop.cancelled(), if farewell.is_none() => {
                    farewell = Some(Instant::now() + FAREWELL);
                }
            }
            if let Some(ending) = self.talk.turn.as_ref().and_then(|turn| turn.ending.clone()) {
                self.settle_placeholder(&mut shown).await?;
                self.call_off(client, caller, &ending).await?;
                return Ok(None);
            }
            let known = self.talk.turn.as_ref().is_some_and(|turn| turn.stage != Stage::Asked);
            if farewell.is_some_and(|at| known || Instant::now() >= at) {
                self.settle_placeholder(&mut shown).await?;
                return Ok(Some(self.now()));
            }
        }
    }

    /// Notes what the agent did; `Some` is the end of it.
    async fn hear(&mut self, news: Option<News>, shown: &mut Shown) -> Result<Option<End>, LetGo> {
        let update = match news {
            Some(News::Update(update)) => update,
            Some(News::Failed(error)) => return Ok(Some(End::Failed(error))),
            None => return Ok(Some(End::Silence)),
        };
        match update {
            Update::Task { id } => {
                if let Some(turn) = &mut self.talk.turn
                    && (turn.task_id.as_deref() != Some(&id) || turn.stage != Stage::Running)
                {
                    turn.task_id = Some(id);
                    turn.stage = Stage::Running;
                    self.save(false, None).await?;
                }
            }
            Update::Text(text) => shown.progress.text(text),
            Update::Tool { id, name, state } => {
                shown.progress.tool(id, name, state == ToolState::Done);
                if let Some(turn) = &mut self.talk.turn {
                    for name in shown.progress.tools() {
                        if !turn.tools.contains(&name) {
                            turn.tools.push(name);
                        }
                    }
                }
            }
            Update::Quiet { since } => shown.progress.quiet(since),
            Update::Ended(outcome) => return Ok(Some(End::Outcome(outcome))),
        }
        Ok(None)
    }

    async fn end(&mut self, end: End) -> Result<Option<Timestamp>, LetGo> {
        let outcome = match end {
            End::Outcome(outcome) => outcome,
            End::Failed(error) => {
                trace::note_failure(error.as_str());
                let task = self.talk.turn.as_ref().and_then(|turn| turn.task_id.clone());
                // A decision that may have arrived, or that was made elsewhere: how the task stands tells.
                let decided = matches!(
                    error,
                    a2a::Error::AlreadyDecided { .. } | a2a::Error::TaskOver { .. }
                );
                if decided && let Some(turn) = &mut self.talk.turn {
                    turn.stage = Stage::Running;
                }
                if task.is_some() && (decided || error.may_have_arrived() || error.is_passing()) {
                    tracing::warn!(conversation = self.conversation(), %error, "the agent is asked how it stands");
                    return Ok(Some(self.now().after(SOON)));
                }
                self.failed(&error).await?;
                return Ok(None);
            }
            End::Silence => return Ok(Some(self.now().after(SOON))),
        };
        let reference = self.reference();
        match outcome.state {
            State::Completed => self.say_answer(outcome.answer).await?,
            State::InputRequired(pause) => return self.pause(pause, outcome.answer).await,
            State::Failed { message } => {
                trace::note_failure("agent_failed");
                tracing::warn!(
                    conversation = self.conversation(),
                    reference,
                    message,
                    "the agent failed"
                );
                let words = vec![Content::Text(words::failed(&message, &reference))];
                self.conclude(words, TurnOutcome::Failed).await?;
            }
            State::Canceled => {
                let words = vec![Content::Text("Cancelled.".to_owned())];
                self.conclude(words, TurnOutcome::Cancelled).await?;
            }
            State::Rejected { message } => {
                let why = shortened(&escaped(message.trim()), 500);
                let line = format!("The agent declined. {why}");
                self.conclude(vec![Content::Text(line)], TurnOutcome::Failed).await?;
            }
            State::AuthRequired { message } => {
                let why = shortened(&escaped(message.trim()), 500);
                let line = format!("The agent waits for somebody to sign in. {why}");
                self.conclude(vec![Content::Text(line)], TurnOutcome::Failed).await?;
            }
            State::StillRunning => {
                if let Some(turn) = &mut self.talk.turn
                    && !std::mem::replace(&mut turn.slow, true)
                {
                    let task = turn.task_id.as_deref().map(code).unwrap_or_default();
                    let key = format!("{}:slow", turn.id);
                    let line = format!(
                        "This takes very long. I keep looking after the agent's task {task} and answer when it ends; `cancel` stops that."
                    );
                    self.line(&line, &key).await?;
                }
                self.save(false, None).await?;
                return Ok(Some(self.now().after(LATER)));
            }
            State::Lost(error) => {
                trace::note_failure(error.as_str());
                self.failed(&error).await?;
            }
        }
        Ok(None)
    }
}

/// How a run ended for us.
enum End {
    Outcome(Outcome),
    Failed(a2a::Error),
    /// Nothing more comes, and nothing was said about why.
    Silence,
}
