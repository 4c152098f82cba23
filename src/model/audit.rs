//! What the audit trail says: one entry for each decision and each outcome. Names, numbers and IDs; what was written is
//! in it only where an operator asks for that.
//!
//! A call that sends has the lines of its delivery; a call that is refused has one. Calls that only read and are answered
//! have none: they change nothing, show a client nothing but its own, and agents make them all the time.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{
    Action, ChannelId, ClientName, Delivery, DeliveryId, DeliveryState, Event, Part, PlatformKind,
    Reason, Visit,
};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// A message was accepted, or a failed one accepted anew.
    Submitted,
    /// The guard changed what a message says, or let something pass that looks like a secret.
    Redacted,
    /// A call, a message or a decision was refused.
    Denied,
    /// A message arrived.
    Delivered,
    /// A message will not arrive.
    Failed,
    /// Nobody knows whether a message arrived.
    Unknown,
    /// What somebody wrote or pressed was taken in.
    InboundAccepted,
    /// What somebody wrote or pressed was not taken in.
    InboundRefused,
    /// An agent is asked.
    TurnStarted,
    /// An agent has answered, or will not.
    TurnEnded,
    /// People are asked whether an agent may use a tool.
    ApprovalAsked,
    /// Somebody decided, or nobody did in time.
    ApprovalDecided,
    /// An operator had a delivery tried again.
    OperatorRetried,
    /// An operator discarded a delivery.
    OperatorDiscarded,
    /// An operator let a bot that waits try again.
    OperatorResumed,
    /// Other rules count from now on.
    RulesChanged,
    /// The rules could not be read: the old ones go on.
    RulesRefused,
    /// A process began to write: what every chain ended with by then stands beside it.
    Started,
    /// A process ended in good order.
    Stopped,
}

impl Act {
    /// Every act.
    pub const ALL: [Self; 19] = [
        Self::Submitted,
        Self::Redacted,
        Self::Denied,
        Self::Delivered,
        Self::Failed,
        Self::Unknown,
        Self::InboundAccepted,
        Self::InboundRefused,
        Self::TurnStarted,
        Self::TurnEnded,
        Self::ApprovalAsked,
        Self::ApprovalDecided,
        Self::OperatorRetried,
        Self::OperatorDiscarded,
        Self::OperatorResumed,
        Self::RulesChanged,
        Self::RulesRefused,
        Self::Started,
        Self::Stopped,
    ];

    /// The snake-case name: the `type` of a line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Submitted => "submitted",
            Self::Redacted => "redacted",
            Self::Denied => "denied",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::InboundAccepted => "inbound_accepted",
            Self::InboundRefused => "inbound_refused",
            Self::TurnStarted => "turn_started",
            Self::TurnEnded => "turn_ended",
            Self::ApprovalAsked => "approval_asked",
            Self::ApprovalDecided => "approval_decided",
            Self::OperatorRetried => "operator_retried",
            Self::OperatorDiscarded => "operator_discarded",
            Self::OperatorResumed => "operator_resumed",
            Self::RulesChanged => "rules_changed",
            Self::RulesRefused => "rules_refused",
            Self::Started => "started",
            Self::Stopped => "stopped",
        }
    }

    /// The act of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|act| act.as_str() == name)
    }
}

/// A closed list of words.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$of])* $variant,)+
        }

        impl $name {
            /// The word.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }
    };
}

words! {
    /// Why something was refused: the `reason` of a line that says [`Act::Denied`] of a call or a press, or
    /// [`Act::InboundRefused`].
    Refused {
        /// The client may not speak in that channel.
        Channel = "channel",
        /// The client may not write in threads.
        Threads = "threads",
        /// The guard found what may not leave: `filtered` says by which rules.
        Guard = "guard",
        /// The client has submitted as much as it may for now.
        Rate = "rate",
        /// The client may not write texts as long as that.
        Length = "length",
        /// An idempotency key came with another message than before.
        KeyReused = "key_reused",
        /// The client has no delivery of that name; another may have.
        NoSuchDelivery = "no_such_delivery",
        /// A call came with nothing that could be a token.
        Unauthenticated = "unauthenticated",
        /// A call came with a token that opens nothing.
        WrongToken = "wrong_token",
        /// A call came with a good token, whose subject is no client's.
        UnknownSubject = "unknown_subject",
        /// A call came by a host name, or from a web page's origin, that is not served.
        Origin = "origin",
        /// The client calls more often than it may, or has too many calls under way.
        Calls = "calls",
        /// That person may not talk to the agent.
        Stranger = "stranger",
        /// The bot does not listen there.
        NotListening = "not_listening",
        /// That person has written as much as they may for now.
        TooFast = "too_fast",
        /// The button is not in use any more.
        Outdated = "outdated",
        /// The decision is not that person's.
        NotTheirs = "not_theirs",
    }
}

/// What the guard did about one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Treatment {
    /// It was taken out or made harmless.
    Redacted,
    /// The message was refused for it.
    Blocked,
    /// It was let through, and is told.
    Flagged,
}

/// What the guard found: which rule, and what was done.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Filtered {
    /// The rule: `mention`, `own-secret`, or a secret rule's name such as `github-token`.
    pub rule: String,
    /// What was done.
    pub treatment: Treatment,
}

/// What a message says, without saying it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// How many messages and files it is in the chat.
    pub parts: usize,
    /// How many characters (Unicode scalar values) of text, without markup.
    pub characters: usize,
    /// HMAC-SHA-256 of [`Content::text`] with the operator's key, in hexadecimal: whoever has the key can tell whether it was
    /// this text. Without a key there is none: short texts are guessed from a bare digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hmac: Option<String>,
    /// The text itself, where an operator asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

impl Content {
    /// What people will read of a delivery, without markup: its parts, with an empty line between them. Of a file it is the
    /// name.
    #[must_use]
    pub fn text(delivery: &Delivery) -> String {
        let texts = parts(delivery).map(|part| match part {
            Part::File(file) => file.name.as_str(),
            Part::Text(text) => text.plain.as_str(),
            Part::Card(card) => card.text.plain.as_str(),
        });
        texts.collect::<Vec<_>>().join("\n\n")
    }

    /// Its size.
    #[must_use]
    pub fn of(delivery: &Delivery) -> Self {
        let texts = parts(delivery).filter_map(Part::text);
        Self {
            parts: parts(delivery).count(),
            characters: texts.map(|text| text.plain.chars().count()).sum(),
            hmac: None,
            text: None,
        }
    }
}

fn parts(delivery: &Delivery) -> impl Iterator<Item = &Part> {
    delivery.steps.iter().filter_map(|step| match &step.action {
        Action::Send { part } | Action::Edit { part, .. } => Some(part),
        Action::OpenThread { .. } | Action::Delete { .. } => None,
    })
}

/// How far a chain had come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Which chain.
    pub chain: String,
    /// The number of its last row.
    pub n: u64,
    /// The hash of that row.
    pub hash: String,
}

/// One line of the audit trail, before it is given its place in a chain. What does not apply is left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What happened.
    #[serde(rename = "type")]
    pub act: Act,
    /// Who called: a client's name, `bot`, `shell`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientName>,
    /// Who on a platform: `slack:U0123456789`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
    /// Where a refused call came from, as the connection says: behind an ingress, that is the ingress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<IpAddr>,
    /// Which platform, where it is about no channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<PlatformKind>,
    /// Where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<ChannelId>,
    /// In which thread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
    /// Which delivery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<DeliveryId>,
    /// The delivery that it edits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edits: Option<DeliveryId>,
    /// How often the last step was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// The platform's IDs of the messages that arrived.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<String>,
    /// The platform's ID of an event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// Which conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<String>,
    /// Which agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Which turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<String>,
    /// The tools that a decision is about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<String>,
    /// How it ended or what was decided: a word of a closed list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Why: a word of a closed list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// So many more like it were refused before it and are in no line: whoever is refused very often does not fill the
    /// store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unwritten: Option<u64>,
    /// What the guard did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filtered: Vec<Filtered>,
    /// What it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
    /// What the other chains ended with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub heads: Vec<Head>,
    /// The W3C trace context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

impl Entry {
    /// An entry of which nothing more is known.
    #[must_use]
    pub const fn new(act: Act) -> Self {
        Self {
            act,
            client: None,
            person: None,
            peer: None,
            platform: None,
            channel: None,
            thread: None,
            delivery: None,
            edits: None,
            attempts: None,
            messages: Vec::new(),
            event: None,
            conversation: None,
            agent: None,
            turn: None,
            tools: Vec::new(),
            outcome: None,
            reason: None,
            unwritten: None,
            filtered: Vec::new(),
            content: None,
            heads: Vec::new(),
            traceparent: None,
        }
    }

    /// About a delivery.
    #[must_use]
    pub fn of(act: Act, delivery: &Delivery) -> Self {
        let person = delivery.invitation.as_ref().map(|it| person(it.visit()));
        Self {
            client: Some(delivery.client.clone()),
            person,
            channel: Some(delivery.channel.clone()),
            thread: delivery.placement.thread.clone(),
            delivery: Some(delivery.id),
            edits: delivery.edits,
            traceparent: delivery.traceparent.clone(),
            ..Self::new(act)
        }
    }

    /// What a submission says for itself: what the guard did about it, if anything, and that it was accepted.
    #[must_use]
    pub fn submitted(delivery: &Delivery, content: Content, filtered: &[Filtered]) -> Vec<Self> {
        let redacted = (!filtered.is_empty())
            .then(|| Self { filtered: filtered.to_vec(), ..Self::of(Act::Redacted, delivery) });
        let submitted = Self { content: Some(content), ..Self::of(Act::Submitted, delivery) };
        redacted.into_iter().chain([submitted]).collect()
    }

    /// How a delivery ended; nothing while it has not.
    #[must_use]
    pub fn ended(delivery: &Delivery) -> Option<Self> {
        let act = match (delivery.state, delivery.reason) {
            (DeliveryState::Queued | DeliveryState::Sending, _) => return None,
            (DeliveryState::Delivered, _) => Act::Delivered,
            (DeliveryState::Unknown, _) => Act::Unknown,
            (DeliveryState::Failed, Some(Reason::Denied)) => Act::Denied,
            (DeliveryState::Failed, Some(Reason::Discarded)) => Act::OperatorDiscarded,
            (DeliveryState::Failed, _) => Act::Failed,
        };
        Some(Self {
            attempts: Some(delivery.attempts),
            messages: delivery.messages.iter().map(|message| message.id.clone()).collect(),
            reason: delivery.reason.map(|reason| reason.as_str().to_owned()),
            ..Self::of(act, delivery)
        })
    }

    /// An operator had it tried again.
    #[must_use]
    pub fn retried(delivery: Option<&Delivery>) -> Vec<Self> {
        delivery.map(|it| Self::of(Act::OperatorRetried, it)).into_iter().collect()
    }

    /// An operator let a bot that waits try again.
    #[must_use]
    pub fn resumed(platform: PlatformKind) -> Vec<Self> {
        vec![Self { platform: Some(platform), ..Self::new(Act::OperatorResumed) }]
    }

    /// Somebody did not want it sent any more, for this reason; it was in this state before. One that is being sent is not
    /// ended by that, but not tried again either.
    #[must_use]
    pub fn called_off(delivery: &Delivery, before: DeliveryState, reason: Reason) -> Vec<Self> {
        let said = match before {
            DeliveryState::Delivered | DeliveryState::Failed => None,
            DeliveryState::Queued | DeliveryState::Unknown => Self::ended(delivery),
            DeliveryState::Sending if reason != Reason::Discarded => None,
            DeliveryState::Sending => {
                let outcome = Some("not_tried_again".to_owned());
                Some(Self { outcome, ..Self::of(Act::OperatorDiscarded, delivery) })
            }
        };
        said.into_iter().collect()
    }

    /// About what somebody did on a platform.
    #[must_use]
    pub fn event(act: Act, event: &Event) -> Self {
        Self {
            event: Some(event.id.clone()),
            traceparent: event.traceparent.clone(),
            ..Self::visit(act, &event.visit)
        }
    }

    /// About somebody on a platform.
    #[must_use]
    pub fn visit(act: Act, visit: &Visit) -> Self {
        Self {
            person: Some(person(visit)),
            channel: Some(visit.channel.clone()),
            thread: visit.thread.clone(),
            ..Self::new(act)
        }
    }

    /// The same, refused for this reason.
    #[must_use]
    pub fn refused(self, why: Refused) -> Self {
        self.because(why.as_str())
    }

    /// The same, with a reason.
    #[must_use]
    pub fn because(self, reason: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()), ..self }
    }
}

fn person(visit: &Visit) -> String {
    format!("{}:{}", visit.platform(), visit.person.id)
}
