//! What the audit trail says about a conversation: in the transaction of the state that it describes, see [`Session::save`].

use super::conversation::{Ending, Turn};
use super::pause::{Choice, Pending, Ruling};
use super::session::Session;
use crate::a2a::{Approval, Pause};
use crate::model::audit::{Act, Entry, Refused};
use crate::model::{Event, Visit};
use crate::telemetry::metrics::{Decision, TurnOutcome};

/// The most tools of one line, and the longest name of one, in characters: both are the agent's own words.
const MOST_TOOLS: usize = 50;
const LONGEST_NAME: usize = 64;

impl Session {
    /// What is said about a turn.
    fn about(&self, act: Act, turn: &Turn) -> Entry {
        let entry = match turn.asker() {
            Some(asker) => {
                Entry { traceparent: asker.traceparent.clone(), ..Entry::visit(act, &asker.visit) }
            }
            None => Entry::new(act),
        };
        Entry {
            conversation: Some(self.conversation().to_owned()),
            agent: Some(self.talk.agent.clone()),
            turn: Some(turn.id.clone()),
            ..entry
        }
    }

    pub(super) fn note_start(&mut self) {
        let Some(turn) = &self.talk.turn else { return };
        let entry = self.about(Act::TurnStarted, turn);
        self.audit.push(entry);
    }

    pub(super) fn note_end(&mut self, turn: &Turn, outcome: TurnOutcome) {
        let outcome = Some(outcome.as_str().to_owned());
        let entry = Entry { outcome, ..self.about(Act::TurnEnded, turn) };
        self.audit.push(entry);
    }

    /// People are asked whether tools may be used.
    pub(super) fn note_asked(&mut self) {
        let Some(turn) = &self.talk.turn else { return };
        let Some(Pause::Approval(asked)) = turn.pause.as_ref().map(|it| &it.pause) else { return };
        let tools = asked.tools.iter().map(|tool| named(&tool.name)).take(MOST_TOOLS).collect();
        let entry = Entry { tools, ..self.about(Act::ApprovalAsked, turn) };
        self.audit.push(entry);
    }

    /// What was decided since `before`: one line per tool. Nobody decided what nobody decided in time.
    pub(super) fn note_rulings(&mut self, before: Option<&Pending>, by: Option<&str>) {
        let Some(turn) = &self.talk.turn else { return };
        let Some(pending) = &turn.pause else { return };
        let Pause::Approval(asked) = &pending.pause else { return };
        let known = |id: &str| before.and_then(|it| it.rulings.get(id));
        let same =
            |one: &Ruling, other: &Ruling| one.approved == other.approved && one.by == other.by;
        let news = asked.tools.iter().filter_map(|tool| {
            let ruling = pending.rulings.get(&tool.id)?;
            let old = known(&tool.id).is_some_and(|old| same(old, ruling));
            (!old).then_some((tool, ruling))
        });
        let entries = news.take(MOST_TOOLS).map(|(tool, ruling)| Entry {
            person: ruling.by.as_ref().and(by.map(str::to_owned)),
            tools: vec![named(&tool.name)],
            outcome: Some(decision(ruling).as_str().to_owned()),
            ..self.about(Act::ApprovalDecided, turn)
        });
        let entries: Vec<_> = entries.collect();
        self.audit.extend(entries);
    }

    /// Somebody pressed a button that is not theirs to press.
    pub(super) fn note_not_theirs(&mut self, event: &Event, choice: &Choice) {
        let Some(turn) = &self.talk.turn else { return };
        let tools = match turn.pause.as_ref().map(|it| &it.pause) {
            Some(Pause::Approval(asked)) => chosen(asked, choice),
            _ => Vec::new(),
        };
        let about = self.about(Act::Denied, turn);
        let by = Entry::event(Act::Denied, event);
        let entry = Entry { person: by.person, event: by.event, tools, ..about };
        self.audit.push(entry.refused(Refused::NotTheirs));
    }
}

impl Ending {
    /// Somebody wants it.
    pub(super) fn by(visit: &Visit) -> Self {
        let by = Some(super::conversation::name(visit));
        Self { by, person: person(visit) }
    }

    /// Nobody replied in time.
    pub(super) const fn late() -> Self {
        Self { by: None, person: None }
    }
}

/// Who that is: `slack:U0123456789`.
pub(super) fn person(visit: &Visit) -> Option<String> {
    Entry::visit(Act::Denied, visit).person
}

pub(super) fn decision(ruling: &Ruling) -> Decision {
    match ruling {
        Ruling { approved: true, .. } => Decision::Approved,
        Ruling { by: Some(_), .. } => Decision::Rejected,
        Ruling { by: None, .. } => Decision::Expired,
    }
}

fn chosen(asked: &Approval, choice: &Choice) -> Vec<String> {
    let one = match choice {
        Choice::Approve(id) | Choice::Reject(id) => Some(id),
        _ => None,
    };
    let tools = asked.tools.iter().filter(|tool| one.is_none_or(|id| tool.id == *id));
    tools.map(|tool| named(&tool.name)).take(MOST_TOOLS).collect()
}

/// A tool's name as far as it is one.
fn named(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_graphic() { c } else { '_' };
    name.chars().take(LONGEST_NAME).map(plain).collect()
}
