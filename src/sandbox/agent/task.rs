//! Tasks: a log of what happened, from which each dialect words its events and its snapshots.

use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::script::{Act, Part, Pause};
use crate::clock::Timestamp;

/// Where ids come from: unique in one workspace.
#[derive(Debug, Default)]
pub(super) struct Ids {
    seed: u64,
    given: u64,
}

impl Ids {
    pub(super) fn seeded(now: Timestamp) -> Self {
        Self { seed: u64::try_from(now.0).unwrap_or_default(), given: 0 }
    }

    pub(super) fn uuid(&mut self) -> String {
        self.given += 1;
        Uuid::from_u64_pair(self.seed, self.given).to_string()
    }

    /// As models number their tool calls.
    pub(super) fn call(&mut self) -> String {
        self.given += 1;
        format!("call_{:012x}", self.given)
    }

    /// As ADK numbers its confirmations.
    pub(super) fn confirmation(&mut self) -> String {
        format!("adk-{}", self.uuid())
    }
}

/// One line of a task's log.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub at: Timestamp,
    pub what: What,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    /// The user's message, as it came.
    Asked(Value),
    Working,
    /// A piece of the text of step `step`.
    Token {
        step: usize,
        text: String,
        first: bool,
    },
    /// `streamed`: its text came in tokens before.
    Said {
        step: usize,
        parts: Vec<Part>,
        streamed: bool,
    },
    /// `hitl`: with what is needed to decide, in 1.0.
    Paused {
        pause: Pause,
        hitl: bool,
    },
    /// 1.0: it waits on, but nothing can be decided any more.
    StillWaiting,
    Failed {
        why: String,
        model: bool,
    },
    Completed,
    Canceled,
    /// Open connections break here.
    Broke,
}

impl What {
    /// The run is over: a stream ends here.
    pub(super) fn ends(&self) -> bool {
        matches!(self, Self::Paused { .. } | Self::StillWaiting) || self.is_terminal()
    }

    pub(super) fn is_terminal(&self) -> bool {
        matches!(self, Self::Failed { .. } | Self::Completed | Self::Canceled)
    }
}

pub(super) struct Task {
    pub id: String,
    pub context: String,
    /// Who it belongs to, `X-User-Id` or made from the context.
    pub user: String,
    pub entries: Vec<Entry>,
    /// No comments keep its connections alive.
    pub silent: bool,
    /// The Go runtime can stop it.
    pub slow: bool,
    pub stop: CancellationToken,
    length: watch::Sender<usize>,
    steps: usize,
    streamed: bool,
}

impl Task {
    pub(super) fn new(id: String, context: String, user: String) -> Self {
        Self {
            id,
            context,
            user,
            entries: Vec::new(),
            silent: false,
            slow: false,
            stop: CancellationToken::new(),
            length: watch::channel(0).0,
            steps: 0,
            streamed: false,
        }
    }

    /// Writes down what happened. Nothing happens to a run that is over, until somebody asks again.
    pub(super) fn push(&mut self, at: Timestamp, what: What) {
        let over = self.last().is_some_and(What::ends);
        let goes_on = match what {
            What::Asked(_) | What::Canceled => !self.is_terminal(),
            _ => !over,
        };
        if goes_on {
            self.entries.push(Entry { at, what });
            self.length.send_replace(self.entries.len());
        }
    }

    /// Does what needs no waiting.
    pub(super) fn act(&mut self, at: Timestamp, act: Act, hitl: bool) {
        match act {
            Act::Tokens(tokens) => {
                for (n, text) in tokens.into_iter().enumerate() {
                    self.push(at, What::Token { step: self.steps, text, first: n == 0 });
                }
                self.streamed = true;
            }
            Act::Step(parts) => {
                let streamed = std::mem::take(&mut self.streamed);
                self.push(at, What::Said { step: self.steps, parts, streamed });
                self.steps += 1;
            }
            Act::Pause(pause) => self.push(at, What::Paused { pause, hitl }),
            Act::Fail(why) => self.push(at, What::Failed { why, model: true }),
            Act::Refuse(why) => self.push(at, What::Failed { why, model: false }),
            Act::Break => self.push(at, What::Broke),
            Act::Wait(_) => {}
        }
    }

    pub(super) fn last(&self) -> Option<&What> {
        self.entries.last().map(|entry| &entry.what)
    }

    pub(super) fn is_terminal(&self) -> bool {
        self.last().is_some_and(What::is_terminal)
    }

    /// What it waits for, if it waits.
    pub(super) fn pause(&self) -> Option<&Pause> {
        match self.last() {
            Some(What::Paused { pause, .. }) => Some(pause),
            _ => None,
        }
    }

    /// Learns how long the log is.
    pub(super) fn watch(&self) -> watch::Receiver<usize> {
        self.length.subscribe()
    }

    /// The same id for the same thing, each time that it is told.
    pub(super) fn id_of(&self, thing: &str) -> String {
        Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{}/{thing}", self.id).as_bytes()).to_string()
    }

    /// The answer among the first `until` entries: what the last step with text said.
    pub(super) fn answer(&self, until: usize) -> Vec<Part> {
        let said = self.entries.iter().take(until).rev().find_map(|entry| match &entry.what {
            What::Said { parts, .. } if parts.iter().any(|p| matches!(p, Part::Text(_))) => {
                Some(parts)
            }
            _ => None,
        });
        let plain = |part: &&Part| matches!(part, Part::Text(_) | Part::File { .. });
        said.into_iter().flatten().filter(plain).cloned().collect()
    }
}
