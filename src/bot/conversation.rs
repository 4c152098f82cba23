//! What the bot knows of a conversation: it is saved after every step, so that any process can go on with it.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::pause::Pending;
use crate::clock::Timestamp;
use crate::model::{
    Attachment, Event, MessageRef, Occurrence, Person, Placement, PlatformKind, ResponseUrl, Visit,
};

/// How many people's names are remembered.
const MOST_PEOPLE: usize = 200;
/// The most messages that wait for the next turn.
pub(super) const MOST_WAITING: usize = 10;

/// One chat thread, or one direct chat, bound to one context of one agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Conversation {
    /// The agent's name.
    pub agent: String,
    /// The agent's memory of it. Minted here, so that a lost answer does not lose it.
    pub context_id: String,
    /// Whose name the agent keeps that memory under. It must never change within a context.
    pub user_id: String,
    /// The thread in which the bot answers, where the platform has them.
    pub thread: Option<String>,
    /// What was said since the turn in progress began.
    pub waiting: Vec<Input>,
    /// The turn in progress.
    pub turn: Option<Turn>,
    /// When somebody last said something.
    pub last_at: Timestamp,
    /// What people are called, by their IDs: not every event of theirs says it.
    #[serde(default)]
    pub people: std::collections::BTreeMap<String, String>,
    /// What can be asked again at the press of a button.
    #[serde(default)]
    pub again: Option<Again>,
    /// The bot is no member of the channel: it answers by the response URL alone.
    #[serde(default)]
    pub outside: bool,
}

/// What may or may not have reached the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Again {
    /// The button's key.
    pub key: String,
    /// What was said.
    pub inputs: Vec<Input>,
    /// From then on nobody can ask it again, and it is forgotten.
    #[serde(default)]
    pub until: Option<Timestamp>,
}

/// Something somebody said to the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Input {
    /// Who, where.
    pub visit: Visit,
    /// What.
    pub text: String,
    /// With what.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<Attachment>,
    /// The platform's ID of the message.
    pub message_id: Option<String>,
    /// Where it can be answered without being a member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub respond: Option<ResponseUrl>,
    /// It came as a slash command, which nobody else saw.
    #[serde(default)]
    pub unseen: bool,
    /// The trace context of the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// How far a turn has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stage {
    /// Nothing was sent to the agent.
    Accepted,
    /// The message may be with the agent; its task is not known.
    Asked,
    /// The agent is at work.
    Running,
    /// It waits for a person.
    Paused,
    /// The person has decided; the decision may be with the agent.
    Deciding,
}

/// Why a turn is called off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ending {
    /// Who wants it, by name; `None`: nobody replied in time.
    pub by: Option<String>,
    /// The same by platform and ID.
    #[serde(default)]
    pub person: Option<String>,
}

/// One request to the agent, and its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Turn {
    /// Its name; the message to the agent has it too.
    pub id: String,
    /// What was said, in order; never empty.
    pub inputs: Vec<Input>,
    /// How far it has come.
    pub stage: Stage,
    /// The agent's task.
    pub task_id: Option<String>,
    /// The message that shows how it goes.
    pub placeholder: Option<MessageRef>,
    /// The key of its cancel button.
    pub cancel_key: String,
    /// What the agent waits for.
    pub pause: Option<Pending>,
    /// How often it paused.
    pub pauses: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// The agent's memory that it belongs to.
    pub context_id: String,
    /// Somebody wants it to end.
    #[serde(default)]
    pub ending: Option<Ending>,
    /// The tools it has used, in the order of their first use.
    pub tools: Vec<String>,
    /// A person was told that it takes longer than Herald watches it all the time.
    #[serde(default)]
    pub slow: bool,
}

impl Conversation {
    /// A conversation that begins.
    pub(super) fn new(agent: &str, key: &str, thread: Option<String>, now: Timestamp) -> Self {
        Self {
            agent: agent.to_owned(),
            context_id: Uuid::now_v7().to_string(),
            user_id: format!("herald:{key}"),
            thread,
            waiting: Vec::new(),
            turn: None,
            last_at: now,
            people: std::collections::BTreeMap::new(),
            again: None,
            outside: false,
        }
    }

    /// The same without what nobody can ask again by now.
    pub(super) fn at(self, now: Timestamp) -> Self {
        let again = self.again.filter(|again| again.until.is_none_or(|until| now < until));
        Self { again, ..self }
    }

    /// From when on something of it is to be forgotten.
    pub(super) fn forgets_at(&self) -> Option<Timestamp> {
        self.again.as_ref()?.until
    }

    /// The thread in which somebody is answered: in a direct chat, where they spoke.
    pub(super) fn thread_for(&self, visit: &Visit) -> Option<String> {
        if visit.direct { visit.thread.clone() } else { self.thread.clone() }
    }

    /// Learns what somebody is called, or says it of whom it is known.
    pub(super) fn meet(&mut self, person: &mut Person) {
        match &person.name {
            Some(name) if self.people.len() < MOST_PEOPLE => {
                self.people.insert(person.id.clone(), name.clone());
            }
            Some(_) => {}
            None => person.name = self.people.get(&person.id).cloned(),
        }
    }

    /// The agent remembers nothing from here on.
    pub(super) fn start_afresh(&mut self) {
        self.context_id = Uuid::now_v7().to_string();
    }

    /// Where the bot answers `input`.
    pub(super) fn placement(&self, input: &Input) -> Placement {
        let quotes = input.visit.platform() != PlatformKind::Slack && !input.visit.direct;
        Placement {
            thread: self.thread_for(&input.visit),
            reply_to: input.message_id.clone().filter(|_| quotes),
            respond: input.respond.clone(),
            ..Placement::default()
        }
    }

    /// The next turn, of everything that waits.
    pub(super) fn next_turn(&mut self, now: Timestamp) -> Option<&mut Turn> {
        if self.turn.is_some() || self.waiting.is_empty() {
            return None;
        }
        Some(self.turn.insert(Turn {
            id: Uuid::now_v7().to_string(),
            inputs: std::mem::take(&mut self.waiting),
            stage: Stage::Accepted,
            task_id: None,
            placeholder: None,
            cancel_key: new_key(),
            pause: None,
            pauses: 0,
            started_at: now,
            context_id: self.context_id.clone(),
            ending: None,
            tools: Vec::new(),
            slow: false,
        }))
    }
}

impl Turn {
    /// The one whom the answer is for: who spoke last.
    pub(super) fn asker(&self) -> Option<&Input> {
        self.inputs.last()
    }

    /// What is sent to the agent: in a conversation of several people, with their names.
    pub(super) fn text(&self) -> String {
        let people: std::collections::BTreeSet<&str> =
            self.inputs.iter().map(|input| input.visit.person.id.as_str()).collect();
        let texts: Vec<String> =
            self.inputs
                .iter()
                .map(|Input { visit, text, .. }| {
                    if people.len() > 1 { format!("{}: {text}", name(visit)) } else { text.clone() }
                })
                .collect();
        texts.join("\n\n")
    }
}

/// What a person is called where others read it.
pub(super) fn name(visit: &Visit) -> String {
    let name = visit.person.name.as_deref().unwrap_or_default();
    let name: String = name.chars().filter(|c| !c.is_control()).take(60).collect();
    if name.trim().is_empty() { visit.person.id.clone() } else { name.trim().to_owned() }
}

/// A button's key: nobody can guess it, and it says nothing.
pub(super) fn new_key() -> String {
    Uuid::new_v4().simple().to_string()
}

/// Which conversation an event belongs to, and the thread in which it is answered.
pub(super) fn address(event: &Event) -> (String, Option<String>) {
    let Visit { channel, thread, direct, .. } = &event.visit;
    match (channel.platform(), &event.what) {
        // One conversation per person, whatever thread of it.
        _ if *direct => (channel.to_string(), thread.clone()),
        (PlatformKind::Slack, Occurrence::Message { message_id, .. }) => {
            let root = thread.as_ref().unwrap_or(message_id).clone();
            (format!("{channel}/{root}"), Some(root))
        }
        // A slash command has no message yet that others could answer.
        (PlatformKind::Slack, Occurrence::Command { .. }) if thread.is_none() => {
            (format!("{channel}/command-{}", event.id), None)
        }
        _ => match thread {
            Some(thread) => (format!("{channel}/{thread}"), Some(thread.clone())),
            None => (channel.to_string(), None),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn visit(channel: &str, thread: Option<&str>, person: &str) -> Visit {
        let person =
            Person { id: person.to_owned(), name: Some(person.to_lowercase()), outsider: false };
        let thread = thread.map(str::to_owned);
        Visit { channel: channel.parse().unwrap(), thread, direct: false, person }
    }

    fn said(visit: Visit, message_id: &str) -> Event {
        let what = Occurrence::Message {
            message_id: message_id.to_owned(),
            text: "hi".to_owned(),
            addressed: true,
            files: Vec::new(),
        };
        Event {
            id: message_id.to_owned(),
            visit,
            what,
            respond: None,
            at: NOW,
            traceparent: None,
            happened_at: None,
        }
    }

    fn input(person: &str, text: &str) -> Input {
        Input {
            visit: visit("slack:C0GENERAL", None, person),
            text: text.to_owned(),
            files: Vec::new(),
            message_id: None,
            respond: None,
            unseen: false,
            traceparent: None,
        }
    }

    #[test]
    fn a_conversation_is_a_thread_a_chat_or_a_person() {
        let cases = [
            (visit("slack:C0GENERAL", None, "U1"), "slack:C0GENERAL/1.2", Some("1.2")),
            (visit("slack:C0GENERAL", Some("0.9"), "U1"), "slack:C0GENERAL/0.9", Some("0.9")),
            (visit("discord:100000000000000001", None, "3"), "discord:100000000000000001", None),
            (
                visit("telegram:-1001000000001", Some("5"), "4"),
                "telegram:-1001000000001/5",
                Some("5"),
            ),
        ];
        for (visit, key, thread) in cases {
            assert_eq!(address(&said(visit, "1.2")), (key.to_owned(), thread.map(str::to_owned)));
        }
        let direct = Visit { direct: true, ..visit("slack:D0ALICE", Some("0.9"), "U1") };
        assert_eq!(address(&said(direct, "1.2")).0, "slack:D0ALICE");
    }

    #[test]
    fn what_can_be_asked_again_is_forgotten_with_its_button() {
        let mut talk = Conversation::new("k8s", "slack:C0GENERAL/1.2", None, NOW);
        assert_eq!(talk.forgets_at(), None);
        let (until, inputs) = (Timestamp(NOW.0 + 10), vec![input("ALICE", "psst")]);
        talk.again = Some(Again { key: "k".to_owned(), inputs, until: Some(until) });
        assert_eq!(talk.forgets_at(), Some(until));
        let saved = serde_json::to_string(&talk).unwrap();
        let read = |now| serde_json::from_str::<Conversation>(&saved).unwrap().at(now);
        assert_eq!(read(Timestamp(NOW.0 + 9)), talk);
        let later = read(until);
        assert_eq!((&later.again, later.forgets_at()), (&None, None));
        assert!(!serde_json::to_string(&later).unwrap().contains("psst"));
        // What an older Herald saved says nothing about that: its button decides.
        let old = saved.replace(&format!(",\"until\":{}", until.0), "");
        assert!(serde_json::from_str::<Conversation>(&old).unwrap().at(until).again.is_some());
    }

    #[test]
    fn what_waits_becomes_one_turn_with_names_where_several_spoke() {
        let mut talk = Conversation::new("k8s", "slack:C0GENERAL/1.2", None, NOW);
        assert!(talk.next_turn(NOW).is_none());
        talk.waiting = vec![input("ALICE", "a"), input("ALICE", "b")];
        assert_eq!(talk.next_turn(NOW).unwrap().text(), "a\n\nb");
        talk.waiting = vec![input("ALICE", "a"), input("BOB", "b")];
        assert!(talk.next_turn(NOW).is_none(), "one at a time");
        talk.turn = None;
        assert_eq!(talk.next_turn(NOW).unwrap().text(), "alice: a\n\nbob: b");
    }
}
