//! The bot: people talk to agents from the chats.
//!
//! ```text
//! Listener (listening.rs supervises it)
//!   -> Inbox::take            intake.rs: may this person, here? which conversation? stored, then acknowledged
//!   -> Bot::run               holds every conversation in which something waits
//!        -> Session           session.rs: one event after the other; one turn at a time; saved after each step
//!             -> a2a::Client  turn.rs: asks (question.rs), shows how it goes (placeholder.rs), lets
//!                             people decide (deciding.rs, pause.rs), says what came of it (answer.rs)
//!             -> Notifier     everything the bot says takes the one way out
//! ```
//!
//! A conversation is held by one process at a time, under a lease with a fence. What is known of it is saved before anything
//! is done that must not be done twice; whoever holds it next, here or elsewhere, goes on from there. The agent is never
//! asked twice by itself: where nobody knows whether it got a message, a person decides.

mod agents;
mod answer;
mod bell;
pub mod config;
mod conversation;
mod deciding;
mod facts;
mod flow;
mod intake;
pub mod listening;
mod pause;
mod placeholder;
mod progress;
mod question;
mod saying;
mod session;
mod turn;
mod wish;
mod words;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use self::agents::{Agents, DEFAULT, InvalidAgents};
use self::bell::Bell;
pub use self::config::Config;
use self::intake::Crowd;
use self::session::{LetGo, Session};
use crate::clock::Clock;
use crate::model::PlatformKind;
use crate::notifier::Notifier;
use crate::platform::Platform;
use crate::policy::Rulebook;
use crate::store::Conversations;
use crate::store::trail::Scribe;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::Lease;

/// How long a conversation is held without a sign of life.
pub(crate) const LEASE: Duration = Duration::from_secs(30);
/// Other processes' events, and missed signals, are seen after this time.
const POLL: Duration = Duration::from_secs(1);

/// What the bot works with.
pub struct Parts {
    /// The one way out.
    pub notifier: Arc<Notifier>,
    /// Events and conversations.
    pub store: Arc<dyn Conversations>,
    /// Who writes down what is refused.
    pub scribe: Arc<Scribe>,
    /// Who is asked.
    pub agents: Agents,
    /// For what people attach.
    pub platforms: BTreeMap<PlatformKind, Arc<dyn Platform>>,
    /// Who may talk, and decide.
    pub rules: Rulebook,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: Metrics,
    /// This process.
    pub process: String,
    /// How it behaves.
    pub settings: Config,
}

/// The bot. Cheap to clone; clones are the same bot.
#[derive(Clone)]
pub struct Bot {
    inner: Arc<Inner>,
}

struct Inner {
    notifier: Arc<Notifier>,
    store: Arc<dyn Conversations>,
    scribe: Arc<Scribe>,
    agents: Agents,
    platforms: BTreeMap<PlatformKind, Arc<dyn Platform>>,
    rules: Rulebook,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    process: String,
    settings: Config,
    crowd: Crowd,
    bell: Bell,
}

impl Bot {
    /// A bot; nothing happens before [`Bot::run`].
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts {
            notifier,
            store,
            scribe,
            agents,
            platforms,
            rules,
            clock,
            metrics,
            process,
            settings,
        } = parts;
        for (agent, _) in agents.all() {
            metrics.begin_agent(agent);
        }
        Self {
            inner: Arc::new(Inner {
                notifier,
                store,
                scribe,
                agents,
                platforms,
                rules,
                clock,
                metrics,
                process,
                settings,
                crowd: Crowd::default(),
                bell: Bell::default(),
            }),
        }
    }

    /// The agents it asks.
    #[must_use]
    pub fn agents(&self) -> &Agents {
        &self.inner.agents
    }

    /// Works until `stop`; then every conversation is saved and let go of, so that another process can go on with it.
    pub async fn run(&self, stop: CancellationToken) {
        let room = usize::try_from(self.inner.settings.turns.max(1)).unwrap_or(usize::MAX);
        let room = Arc::new(Semaphore::new(room.min(Semaphore::MAX_PERMITS)));
        let mut sessions = JoinSet::new();
        let mut calls = self.inner.store.calls();
        let mut trouble = None;
        while !stop.is_cancelled() {
            let may_hold_more =
                self.hold_what_waits(&room, &mut sessions, &stop, &mut trouble).await;
            // With no room, or a store that is away, there is nothing to look for.
            let pause = if may_hold_more { self.pause().await } else { POLL };
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.inner.bell.rung() => {}
                mark = calls.next() => self.inner.bell.ring_for(mark),
                Some(ended) = sessions.join_next() => if let Err(error) = ended {
                    tracing::error!(%error, "a conversation ended badly; it goes on when its lease has run out");
                },
                () = tokio::time::sleep(pause) => {}
            }
        }
        while sessions.join_next().await.is_some() {}
    }

    /// Takes on what there is room for; false if nothing more can be. What is wrong with the store is told once, until it
    /// changes or the store works again.
    async fn hold_what_waits(
        &self,
        room: &Arc<Semaphore>,
        sessions: &mut JoinSet<()>,
        stop: &CancellationToken,
        trouble: &mut Option<String>,
    ) -> bool {
        let inner = &self.inner;
        let most = u32::try_from(room.available_permits()).unwrap_or(u32::MAX).min(32);
        if most == 0 {
            return false;
        }
        let held = match inner.store.hold(&inner.process, inner.clock.now(), LEASE, most).await {
            Ok(held) => held,
            Err(error) => {
                let error = error.to_string();
                if trouble.as_ref() != Some(&error) {
                    tracing::error!(error, "the conversations cannot be read; trying again");
                    *trouble = Some(error);
                }
                return false;
            }
        };
        if trouble.take().is_some() {
            tracing::info!("the conversations can be read again");
        }
        for held in held {
            let (inner, stop) = (Arc::clone(inner), stop.clone());
            let permit = Arc::clone(room).try_acquire_owned();
            sessions.spawn(async move {
                let _permit = permit;
                let (metrics, _holding) = (inner.metrics.clone(), inner.metrics.conversation());
                let conversation = held.conversation.clone();
                match Session::run(inner, held, stop).await {
                    Ok(()) => {}
                    // Whoever could not store what it says has logged that.
                    Err(error @ LetGo::Unsaid) => {
                        tracing::debug!(%conversation, %error, "a conversation was let go of");
                    }
                    Err(error) => {
                        if matches!(error, LetGo::Fenced) {
                            metrics.lease_lost(Lease::Conversation);
                        }
                        tracing::warn!(%conversation, %error, "a conversation was let go of");
                    }
                }
            });
        }
        true
    }

    /// How long nothing will be due.
    async fn pause(&self) -> Duration {
        let next = self.inner.store.next_look().await.ok().flatten();
        next.map_or(POLL, |due| {
            due.since(self.inner.clock.now()).clamp(Duration::from_millis(20), POLL)
        })
    }
}
