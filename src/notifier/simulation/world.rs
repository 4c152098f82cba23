//! The platforms, as people see them: what stands in which channel. And the faces that they show to a process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::bugs::Bug;
use super::judge::{Answered, Asked};
use super::plan::{Chat, Dice, Moment, Plan};
use super::process::Process;
use super::{Day, word};
use crate::clock::Timestamp;
use crate::model::{
    Action, Attachment, ChannelId, ChannelInfo, Disposition, Failure, Identity, Part, Placement,
    PlatformKind, Reason, Scope, Step, TextPart,
};
use crate::platform::{Capabilities, Credential, Pace, Platform, Sent, Signal};
use crate::policy::Route;
use crate::render::{Document, RenderError};

/// For how long a platform that recognises repetitions does so: "the past few minutes".
pub(super) const RECOGNISES: Moment = 3 * 60_000;

/// A message, as it stands in a channel.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) channel: ChannelId,
    pub(super) thread: Option<String>,
    /// What it said first, and after each edit.
    pub(super) said: Vec<String>,
    nonce: String,
    at: Moment,
}

/// What the platforms know.
#[derive(Default)]
pub(super) struct World {
    /// A message's ID is its place in here.
    pub(super) messages: Vec<Message>,
    nonces: BTreeMap<(ChannelId, String), usize>,
    /// The secret that a platform takes.
    pub(super) valid: BTreeMap<PlatformKind, u32>,
    /// What was ever asked for: what a platform says about a message it says at once.
    asked: BTreeSet<String>,
    /// For how many seconds at most somebody is asked to wait.
    silence: u64,
    /// Until when a channel, or a whole bot, was asked to wait.
    waits: BTreeMap<ChannelId, Moment>,
    bot_waits: BTreeMap<PlatformKind, Moment>,
}

/// What a platform does with a request.
#[derive(Clone, Copy, Debug)]
struct Answer {
    /// It is done.
    applied: bool,
    /// What is said about it; `None` if the answer is lost.
    said: Option<Answered>,
    /// Milliseconds until it is done, and then until the answer is there.
    takes: (u64, u64),
}

impl World {
    pub(super) fn new(plan: &Plan) -> Self {
        let valid = plan.chats.iter().map(|chat| (chat.kind, 0)).collect();
        Self { valid, silence: plan.silence, ..Self::default() }
    }

    /// What a platform is going to do with a request.
    fn answer(
        &mut self,
        chat: &Chat,
        secret: u32,
        asked: &Asked,
        now: Moment,
        calm: bool,
        dice: &mut Dice,
    ) -> Answer {
        let channel = &asked.channel;
        let new = asked.step.as_ref().is_some_and(|step| self.asked.insert(step.nonce.clone()));
        let quick = (dice.within(1..80), dice.within(1..80));
        let say = |said| Answer { applied: false, said: Some(said), takes: quick };
        let accept = Answer { applied: true, ..say(Answered::Done) };
        if self.valid.get(&chat.kind) != Some(&secret) {
            return say(Answered::Refused);
        }
        let waits = self.waits.get(channel).copied().unwrap_or_default();
        let bot_waits = self.bot_waits.get(&chat.kind).copied().unwrap_or_default();
        for (until, scope) in [(bot_waits, Scope::Credential), (waits, Scope::Channel)] {
            if until > now {
                return say(Answered::SlowDown { ms: Some(until - now), scope });
            }
        }
        if calm {
            return accept;
        }
        if chat.storm.contains(&now) {
            let applied = dice.chance(20);
            return match dice.within(0..10) {
                0 => Answer { applied, said: None, takes: (quick.0, 60_000) },
                1 => Answer { applied, said: None, takes: quick },
                2 => say(Answered::Unreachable),
                3 => self.slow_down(chat, channel, Scope::Credential, now, quick, dice),
                _ => Answer { applied, said: Some(Answered::Failed), takes: quick },
            };
        }
        if !dice.chance(chat.trouble) {
            return accept;
        }
        let scope = dice.one_of(&[Scope::Channel, Scope::Channel, Scope::Credential]);
        match dice.within(0..12) {
            0 | 1 => self.slow_down(chat, channel, scope, now, quick, dice),
            2 => say(Answered::SlowDown { ms: None, scope: Scope::Channel }),
            // Whoever may not read the history always may not.
            3 if asked.step.is_none() => accept,
            3 if new => say(Answered::Rejected),
            3 => say(Answered::NotIn),
            4 => say(Answered::Unreachable),
            5 | 6 => Answer { applied: dice.chance(50), said: None, takes: quick },
            7 => Answer { applied: dice.chance(50), said: None, takes: (quick.0, 60_000) },
            8 => Answer { applied: dice.chance(20), ..say(Answered::Failed) },
            _ => {
                let takes = (dice.within(0..12_000), dice.within(0..12_000));
                Answer { takes, ..accept }
            }
        }
    }

    /// Asks for silence.
    fn slow_down(
        &mut self,
        chat: &Chat,
        channel: &ChannelId,
        scope: Scope,
        now: Moment,
        takes: (u64, u64),
        dice: &mut Dice,
    ) -> Answer {
        let ms = dice.within(1..self.silence + 1) * 1000;
        let until = now + takes.0 + takes.1 + ms;
        match scope {
            Scope::Channel => self.waits.insert(channel.clone(), until),
            Scope::Credential => self.bot_waits.insert(chat.kind, until),
        };
        Answer { applied: false, said: Some(Answered::SlowDown { ms: Some(ms), scope }), takes }
    }

    /// Does what a step asks for; the message's ID, and the message if it is a new one.
    fn apply(
        &mut self,
        chat: &Chat,
        channel: &ChannelId,
        placement: &Placement,
        step: &Step,
        now: Moment,
    ) -> (String, bool) {
        match &step.action {
            Action::Send { part } => {
                let key = (channel.clone(), step.nonce.clone());
                if chat.capabilities.dedupes
                    && let Some(known) = self.nonces.get(&key)
                    && now - self.messages[*known].at < RECOGNISES
                {
                    return (known.to_string(), false);
                }
                let id = self.messages.len();
                self.nonces.insert(key, id);
                self.messages.push(Message {
                    channel: channel.clone(),
                    thread: placement.thread.clone(),
                    said: vec![word(part)],
                    nonce: step.nonce.clone(),
                    at: now,
                });
                (id.to_string(), true)
            }
            Action::OpenThread { .. } => (placement.reply_to.clone().unwrap_or_default(), false),
            Action::Edit { message_id, part, .. } => {
                let id: usize = message_id.parse().unwrap();
                self.messages[id].said.push(word(part));
                (message_id.clone(), false)
            }
            Action::Delete { message_id, .. } => (message_id.clone(), false),
        }
    }
}

/// A platform, as one process sees it.
pub(super) struct Face {
    pub(super) day: Arc<Day>,
    pub(super) process: Arc<Process>,
    pub(super) chat: Chat,
    /// What it is asked with.
    pub(super) secret: u32,
}

impl Face {
    /// One request, from its first byte to its answer; `work` is what the platform does where it does something.
    async fn request(
        &self,
        asked: Asked,
        work: impl FnOnce(&mut World, Moment) -> (Sent, bool) + Send,
    ) -> Result<Sent, Failure> {
        let day = &self.day;
        self.process.step().await;
        let channel = asked.channel.clone();
        let answer = {
            let calm = day.is_calm();
            let mut dice = day.dice();
            day.world().answer(&self.chat, self.secret, &asked, day.now(), calm, &mut dice)
        };
        let mut under_way = day.judge().begins(day, &self.process, asked, self.secret);
        day.tell(|| format!("{} asks {channel}: {answer:?}", self.process.name));
        tokio::time::sleep(Duration::from_millis(answer.takes.0)).await;
        let mut sent = Sent::default();
        if answer.applied {
            let (done, new) = work(&mut day.world(), day.now());
            sent = done;
            day.judge().applied(day, under_way.request, &sent.id, new);
        }
        self.process.step().await;
        tokio::time::sleep(Duration::from_millis(answer.takes.1)).await;
        under_way.answered(answer.said);
        drop(under_way);
        self.process.step().await;
        let Some(said) = answer.said else {
            return match day.bug {
                Some(Bug::CallsLostAnswersRetryable) => {
                    Err(Failure::retry(Reason::ConnectionLost, "lost"))
                }
                Some(Bug::CallsLostAnswersDelivered) => Ok(sent),
                _ => Err(Failure::ambiguous(Reason::ConnectionLost, "lost")),
            };
        };
        Err(match said {
            Answered::Done => return Ok(sent),
            Answered::SlowDown { ms, scope } => {
                let after = ms.map(Duration::from_millis);
                let after = after.filter(|_| day.bug != Some(Bug::DropsRetryAfter));
                let disposition = Disposition::Retry { after, scope };
                Failure { reason: Reason::RateLimited, disposition, hint: "slowly".to_owned() }
            }
            Answered::Rejected => Failure::give_up(Reason::Rejected, "no"),
            Answered::NotIn => Failure::give_up(Reason::NotInChannel, "not any more"),
            Answered::Refused => Failure::give_up(Reason::Auth, "another token"),
            Answered::Unreachable => Failure::retry(Reason::Unreachable, "not there"),
            Answered::Failed => Failure::ambiguous(Reason::ServerError, "it failed"),
        })
    }
}

#[async_trait]
impl Platform for Face {
    fn kind(&self) -> PlatformKind {
        self.chat.kind
    }

    fn capabilities(&self) -> Capabilities {
        self.chat.capabilities
    }

    fn pace(&self, _: &ChannelId) -> Pace {
        self.chat.pace
    }

    fn credential(&self) -> Credential {
        Credential { fingerprint: format!("secret-{}", self.secret), pace: self.chat.bot_pace }
    }

    /// Each word is a part.
    fn render(&self, document: &Document) -> Result<Vec<Part>, RenderError> {
        let words = document.texts().flat_map(|text| text.text.split_whitespace());
        let part = |word: &str| TextPart::new(word, word);
        Ok(words.map(|word| Part::Text(part(word))).collect())
    }

    fn check(&self, _: &Placement) -> Result<(), String> {
        Ok(())
    }

    fn thread_of(&self, first: &str) -> Placement {
        let first = Some(first.to_owned());
        match self.chat.capabilities.threads {
            true => Placement { thread: first, ..Placement::default() },
            false => Placement { reply_to: first, ..Placement::default() },
        }
    }

    async fn deliver(
        &self,
        route: &Route,
        placement: &Placement,
        step: &Step,
    ) -> Result<Sent, Failure> {
        let channel = route.channel().clone();
        let asked = Asked { channel: channel.clone(), step: Some(step.clone()) };
        self.request(asked, |world, now| {
            let (id, new) = world.apply(&self.chat, &channel, placement, step, now);
            (Sent { id, permalink: None }, new)
        })
        .await
    }

    async fn recall(
        &self,
        route: &Route,
        _: &Placement,
        step: &Step,
        since: Timestamp,
    ) -> Result<Option<Sent>, Failure> {
        let channel = route.channel().clone();
        let asked = Asked { channel: channel.clone(), step: None };
        let tells = self.chat.tells;
        let read = |world: &mut World, now: Moment| {
            // What was just said is not there yet. It is awaited by clocks that are apart.
            let settles = 1_500_u64.saturating_sub(self.day.plan.apart);
            let found = world.messages.iter().position(|message| {
                let shown = message.at + settles <= now;
                let told = self.process.at(message.at) >= since;
                shown && told && message.channel == channel && message.nonce == step.nonce
            });
            let id = found.map_or_else(String::new, |id| id.to_string());
            (Sent { id, permalink: None }, false)
        };
        let found = self.request(asked, read).await?;
        if !tells {
            return Err(Failure::give_up(Reason::MissingPermission, "not for you"));
        }
        Ok(Some(found).filter(|sent| !sent.id.is_empty()))
    }

    async fn signal(&self, _: &Route, _: &Placement, _: &Signal) -> Result<(), Failure> {
        Ok(())
    }

    async fn fetch(&self, _: &Attachment, _: usize) -> Result<Vec<u8>, Failure> {
        Err(nothing())
    }

    async fn describe(&self, _: &ChannelId) -> Result<ChannelInfo, Failure> {
        Err(nothing())
    }

    async fn list(&self) -> Result<Vec<ChannelInfo>, Failure> {
        Err(nothing())
    }

    async fn probe(&self) -> Result<Identity, Failure> {
        Err(nothing())
    }
}

fn nothing() -> Failure {
    Failure::give_up(Reason::Internal, "nobody asks for this")
}
