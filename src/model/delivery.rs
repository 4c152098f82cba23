//! Deliveries: the durable record of a submission, and what its caller is told.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{ChannelId, ClientName, Invitation, Part, Placement, PlatformKind, Reason};
use crate::clock::Timestamp;

/// A delivery's name: a UUID, version 7, so that it sorts by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeliveryId(pub Uuid);

impl DeliveryId {
    /// A new one, made at `now`.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        let millis = u64::try_from(now.0).unwrap_or(0);
        let nanos = u32::try_from(millis % 1000).unwrap_or(0) * 1_000_000;
        let time = uuid::Timestamp::from_unix(uuid::NoContext, millis / 1000, nanos);
        Self(Uuid::new_v7(time))
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for DeliveryId {
    type Err = uuid::Error;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        s.parse().map(Self)
    }
}

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum DeliveryState {
    /// Waits for its turn.
    Queued,
    /// A request is on its way.
    Sending,
    /// Every part arrived.
    Delivered,
    /// It will not arrive; kept as a dead letter.
    Failed,
    /// It may have arrived, and is not sent again by itself.
    Unknown,
}

impl DeliveryState {
    /// The snake-case name, as stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sending => "sending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }

    /// Whether it has come to its end.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Delivered | Self::Failed | Self::Unknown)
    }
}

impl FromStr for DeliveryState {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        [Self::Queued, Self::Sending, Self::Delivered, Self::Failed, Self::Unknown]
            .into_iter()
            .find(|state| state.as_str() == s)
            .ok_or_else(|| {
                format!("`{s}` is no state: queued, sending, delivered, failed or unknown")
            })
    }
}

/// Why a whole bot waits, whatever the channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Why.
    pub reason: Reason,
    /// One sentence: what is wrong and what to do.
    pub hint: String,
    /// Since when.
    pub since: Timestamp,
    /// The secret that was refused, by its [fingerprint](crate::platform::Credential::fingerprint): nothing is tried with
    /// it. Without one, the bot is tried again by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// How it was settled whether an attempt without an answer had reached the chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Doubt {
    /// It was repeated, and the platform recognises repetitions.
    Recognised,
    /// The channel's history has it.
    Found,
    /// The channel's history does not have it: it was sent again.
    Absent,
    /// Nobody can tell: it was sent again.
    Resent,
    /// Nobody can tell: it was not sent again.
    Held,
}

impl Doubt {
    /// Every way.
    pub const ALL: [Self; 5] =
        [Self::Recognised, Self::Found, Self::Absent, Self::Resent, Self::Held];

    /// The snake-case name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Recognised => "recognised",
            Self::Found => "found",
            Self::Absent => "absent",
            Self::Resent => "resent",
            Self::Held => "held",
        }
    }

    /// What the caller is told about it. One that was held back is told in the hint.
    #[must_use]
    pub const fn warning(self) -> Option<&'static str> {
        match self {
            Self::Recognised => Some(
                "the first answer to one part was lost; the platform recognised its repetition, so it appears once",
            ),
            Self::Found => Some(
                "the first answer to one part was lost; the channel's history shows that it arrived",
            ),
            Self::Absent => Some(
                "the first answer to one part was lost; the channel's history did not have it, so it was sent again",
            ),
            Self::Resent => Some(
                "one part was sent twice because its first answer was lost: it may appear twice",
            ),
            Self::Held => None,
        }
    }
}

/// One request to the platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Action {
    /// Post a new message.
    Send {
        /// What to post.
        part: Part,
    },
    /// Open a thread from the first message, for those that follow.
    OpenThread {
        /// What people see as the thread's name.
        name: String,
    },
    /// Replace one of our own messages.
    Edit {
        /// The platform's ID of the message.
        message_id: String,
        /// The thread it stands in.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        thread: Option<String>,
        /// What it says from now on.
        part: Part,
    },
    /// Take one of our own messages away.
    Delete {
        /// The platform's ID of the message.
        message_id: String,
        /// The thread it stands in.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        thread: Option<String>,
    },
}

impl Action {
    /// What it shows, if it shows anything new.
    #[must_use]
    pub const fn part(&self) -> Option<&Part> {
        match self {
            Self::Send { part } | Self::Edit { part, .. } => Some(part),
            Self::OpenThread { .. } | Self::Delete { .. } => None,
        }
    }
}

impl Action {
    /// Whether doing it twice does no more than doing it once.
    #[must_use]
    pub const fn is_idempotent(&self) -> bool {
        !matches!(self, Self::Send { .. })
    }
}

/// One message that arrived: its ID, and the thread it stands in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageRef {
    /// The platform's ID.
    pub id: String,
    /// The thread it stands in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
}

/// A step of a delivery: the request, and the name under which the platform can recognise its repetition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// At most 25 characters, unique to this step (Discord's `nonce`).
    pub nonce: String,
    /// The request.
    #[serde(flatten)]
    pub action: Action,
}

/// The durable record of a submission.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Delivery {
    /// Its name.
    pub id: DeliveryId,
    /// Who asked.
    pub client: ClientName,
    /// Where to.
    pub channel: ChannelId,
    /// Where in the channel; filled in once a thread key is resolved.
    #[serde(serialize_with = "without_secret")]
    pub placement: Placement,
    /// Whom it answers, where the bot answers: it may then go where nobody may post.
    pub invitation: Option<Invitation>,
    /// The agent's word for the thread.
    pub thread_key: Option<String>,
    /// The delivery whose messages this one edits.
    pub edits: Option<DeliveryId>,
    /// What there is to do, in order.
    pub steps: Vec<Step>,
    /// How many steps are done.
    pub cursor: usize,
    /// Where it stands.
    pub state: DeliveryState,
    /// How often the current step was tried.
    pub attempts: u32,
    /// When an attempt at the current step may first have succeeded without our knowing.
    pub doubtful_since: Option<Timestamp>,
    /// Whether an ambiguous attempt of the current step was already repeated.
    pub resent: bool,
    /// What has arrived.
    pub messages: Vec<MessageRef>,
    /// A link to the first message, where the platform has such links.
    pub permalink: Option<String>,
    /// Why it failed or waits.
    pub reason: Option<Reason>,
    /// What to do about it.
    pub hint: Option<String>,
    /// What was changed about the text, and what the caller should know.
    pub warnings: Vec<String>,
    /// Not tried before this time: its lane waits until then.
    pub not_before: Timestamp,
    /// Why its bot waits, if it does: read with it, and not its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<Pause>,
    /// Given up after this time.
    pub deadline: Timestamp,
    /// When it was accepted, or accepted anew after it had failed.
    pub created_at: Timestamp,
    /// When it came to its end.
    pub finished_at: Option<Timestamp>,
    /// When what it said was taken out of it, some time after its end. Its steps are gone: it can no longer be sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expunged_at: Option<Timestamp>,
    /// The W3C trace context of whoever asked for it, where traces are exported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

impl Delivery {
    /// A delivery of `steps`, accepted `now`, nothing done yet.
    #[must_use]
    pub fn new(
        id: DeliveryId,
        client: ClientName,
        channel: ChannelId,
        steps: Vec<Step>,
        now: Timestamp,
        deadline: Timestamp,
    ) -> Self {
        Self {
            id,
            client,
            channel,
            placement: Placement::default(),
            invitation: None,
            thread_key: None,
            edits: None,
            steps,
            cursor: 0,
            state: DeliveryState::Queued,
            attempts: 0,
            doubtful_since: None,
            resent: false,
            messages: Vec::new(),
            permalink: None,
            reason: None,
            hint: None,
            warnings: Vec::new(),
            not_before: now,
            paused: None,
            deadline,
            created_at: now,
            finished_at: None,
            expunged_at: None,
            traceparent: None,
        }
    }

    /// Whether an attempt at the current step may have reached the chat without our knowing.
    #[must_use]
    pub fn may_have_arrived(&self) -> bool {
        let step = self.steps.get(self.cursor);
        self.doubtful_since.is_some() && step.is_some_and(|step| !step.action.is_idempotent())
    }

    /// How it ends where it is not tried any more: `failed`, or `unknown` where it may have arrived, because whoever
    /// hears `failed` sends it again.
    pub fn abandon(&mut self, reason: Reason, hint: String, now: Timestamp) {
        let sends = self.steps.iter().filter(|step| matches!(step.action, Action::Send { .. }));
        let (arrived, parts) = (self.messages.len(), sends.count());
        if arrived > 0 && parts > 1 {
            self.warnings.push(format!("{arrived} of {parts} parts arrived"));
        }
        let doubt = self.may_have_arrived();
        self.state = if doubt { DeliveryState::Unknown } else { DeliveryState::Failed };
        self.hint = Some(if doubt {
            format!("it may have arrived before this, do not send it again: {hint}")
        } else {
            hint
        });
        self.reason = Some(reason);
        self.finished_at = Some(now);
    }

    /// Whether a submission of the same content, once this has failed, brings along what is sent: what was to be sent was
    /// taken out of it, or the rules stood against it before any of it arrived, and those of now may not.
    #[must_use]
    pub fn is_refillable(&self) -> bool {
        let unsent = self.cursor == 0 && self.messages.is_empty();
        self.expunged_at.is_some() || (self.reason == Some(Reason::Denied) && unsent)
    }

    /// Gets from `same`, a submission of the same content, what is to be sent. What has arrived stays arrived, unless the
    /// rendering has changed so much that the place where it stopped is not there any more.
    pub fn refill(&mut self, same: &Self) {
        let Self { steps, placement, invitation, warnings, .. } = same.clone();
        if self.cursor == 0 || self.cursor >= steps.len() {
            self.cursor = 0;
            self.messages.clear();
            self.placement = placement;
        } else {
            // It goes on in the thread in which it stopped.
            self.placement.respond = placement.respond;
        }
        self.steps = steps;
        self.invitation = invitation;
        self.warnings = warnings;
        self.expunged_at = None;
    }

    /// Somebody does not want it sent any more.
    pub fn call_off(&mut self, reason: Reason, hint: String, now: Timestamp) {
        match self.state {
            DeliveryState::Delivered | DeliveryState::Failed => {}
            // What is under way cannot be called back, but nothing follows it: it has no time at all.
            DeliveryState::Sending => self.deadline = self.created_at,
            DeliveryState::Queued if reason != Reason::Discarded => {
                self.abandon(reason, hint, now);
            }
            DeliveryState::Queued | DeliveryState::Unknown => {
                self.state = DeliveryState::Failed;
                self.reason = Some(reason);
                self.hint = Some(hint);
                self.finished_at = Some(now);
            }
        }
    }

    /// What its caller is told at `now`.
    #[must_use]
    pub fn receipt(&self, now: Timestamp, deduplicated: bool) -> Receipt {
        let status = match self.state {
            DeliveryState::Queued | DeliveryState::Sending => Status::Queued,
            DeliveryState::Delivered => Status::Delivered,
            DeliveryState::Failed => Status::Failed,
            DeliveryState::Unknown => Status::Unknown,
        };
        let queued = status == Status::Queued;
        let paused = self.paused.as_ref().filter(|_| queued);
        let stopped = paused.is_some_and(|pause| pause.refused.is_some());
        Receipt {
            status,
            delivery_id: self.id.to_string(),
            platform: self.channel.platform(),
            channel_id: self.channel.id().to_owned(),
            message_ids: self.messages.iter().map(|message| message.id.clone()).collect(),
            permalink: self.permalink.clone(),
            deduplicated,
            retry_after_seconds: (queued && !stopped)
                .then(|| self.not_before.since(now).as_millis().div_ceil(1000))
                .and_then(|seconds| u64::try_from(seconds).ok()),
            // What its whole bot waits for comes before what went wrong the last time.
            reason: paused.map(|pause| pause.reason).or(self.reason),
            hint: match paused.map(|pause| &pause.hint).or(self.hint.as_ref()) {
                // Only the delivery knows whether it is tried again; a failure's hint does not.
                Some(hint) if stopped => Some(format!("{hint}; it stays queued until then")),
                Some(hint) if queued => Some(format!("{hint}; Herald tries again by itself")),
                hint => hint.cloned(),
            },
            warnings: self.warnings.clone(),
        }
    }
}

/// How a send went, as the caller hears it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Status {
    /// The platform confirmed every part.
    Delivered,
    /// Stored, and will be sent.
    Queued,
    /// It will not arrive.
    Failed,
    /// It may have arrived. Do not send it again.
    Unknown,
}

/// What the caller of a send tool gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Receipt {
    /// How it went.
    pub status: Status,
    /// The delivery's name, for `get_delivery` and `update_message`.
    pub delivery_id: String,
    /// The platform.
    pub platform: PlatformKind,
    /// The channel's ID.
    pub channel_id: String,
    /// The platform's IDs of the messages that arrived, in order.
    pub message_ids: Vec<String>,
    /// A link to the first message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub permalink: Option<String>,
    /// True if this call repeated an earlier one and nothing new was sent.
    pub deduplicated: bool,
    /// When queued: seconds until the next try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u64", transform = without_format)]
    pub retry_after_seconds: Option<u64>,
    /// Why it failed or waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Reason")]
    pub reason: Option<Reason>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub hint: Option<String>,
    /// What was changed about the text.
    pub warnings: Vec<String>,
}

/// A response URL is for the store alone.
fn without_secret<S: serde::Serializer>(placement: &Placement, to: S) -> Result<S::Ok, S::Error> {
    Placement { respond: None, ..placement.clone() }.serialize(to)
}

/// Strict validators know no `uint64`.
fn without_format(schema: &mut schemars::Schema) {
    schema.remove("format");
}
