//! What the judge says about waiting: nobody sends where a platform asked for silence, and nobody waits without a reason.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Day;
use super::judge::{Answered, Judge};
use super::plan::Moment;
use super::process::Process;
use super::sends::longest_pause;
use crate::clock::Timestamp;
use crate::model::{ChannelId, PlatformKind, Scope};
use crate::store::{Claim, Settled, TOO_OFTEN};

/// How long a bot waits that failed too often, and how long a claim lasts.
const HALF_A_MINUTE: Moment = 30_000;

/// What the judge knows of a bot.
#[derive(Default)]
pub(super) struct Bot {
    failures: i64,
    /// Not before this time, because it failed too often.
    probe: Moment,
    /// Not before this time, as the platform asked; and since when that is known.
    held: (Moment, Moment),
    /// Since when nobody could send, because a secret was refused.
    stopped: Option<Moment>,
    /// The secrets that were refused, and since when that is known.
    refused: BTreeMap<u32, Moment>,
}

impl Judge {
    /// Something waits in a lane, if nothing did before.
    pub(super) fn waits_from_now(&mut self, day: &Day, n: usize, channel: &ChannelId) {
        let lane = self.lanes.entry(channel.clone()).or_default();
        if lane.pending.is_empty() {
            lane.ready = lane.ready.max(day.now());
        }
        lane.pending.insert(n);
    }

    /// Somebody ended what waited.
    pub(super) fn waits_no_more(&mut self, day: &Day, n: usize) {
        if let Some(lane) = self.lanes.get_mut(&day.plan.posts[n].channel) {
            lane.pending.remove(&n);
            lane.ready = lane.ready.max(day.now());
        }
    }

    /// The operator lets a bot try again.
    pub(super) fn resumed(&mut self, day: &Day, kind: PlatformKind) {
        self.goes_on_after_a_refusal(day, kind);
        let bot = self.bots.entry(kind).or_default();
        // What the platform asked for stays.
        *bot = Bot { held: bot.held, ..Bot::default() };
        self.service = day.now();
    }

    /// A bot that failed too often is tried with one request; and no lane waited without a reason.
    pub(super) fn is_fair(
        &mut self,
        day: &Day,
        kind: PlatformKind,
        asked: Moment,
        claims: &[Claim],
    ) {
        let (now, plan) = (day.now(), &day.plan);
        let chat = plan.chats.iter().find(|chat| chat.kind == kind).unwrap();
        let bot = self.bots.entry(kind).or_default();
        let open = bot.failures >= TOO_OFTEN;
        let free = bot.held.0.max(bot.probe);
        let early = asked + 2 * plan.apart < bot.probe;
        if open {
            bot.probe = bot.probe.max(asked + HALF_A_MINUTE);
        }
        if open && (early || claims.len() > 1) {
            let lanes = claims.len();
            self.complain(day, "breaker", || {
                format!("{kind} fails, and {lanes} lanes are claimed at once (early: {early})")
            });
        }
        // A look every second, and the way to the store.
        let turn = u64::from(chat.bot_pace.interval_ms) + 2 * plan.store_ms + 20;
        let slack =
            2_500 + 6 * plan.store_ms + 2 * plan.apart + turn * (chat.channels.len() as u64);
        for claim in claims {
            let channel = &claim.delivery.channel;
            let Some(lane) = self.lanes.get_mut(channel) else { continue };
            let ready = lane.ready.max(lane.held).max(lane.paced).max(free).max(self.service);
            lane.paced = now + u64::from(chat.pace.interval_ms);
            lane.ready = now + HALF_A_MINUTE + 2 * plan.apart;
            if now > ready + slack {
                let late = now - ready;
                self.complain(day, "prompt", || format!("{channel} waited {late} ms for nothing"));
            }
        }
    }

    /// No channel is written to faster than its pace.
    pub(super) fn in_pace(&mut self, day: &Day, channel: &ChannelId, now: Timestamp) {
        let Some(chat) = day.plan.chats.iter().find(|it| it.kind == channel.platform()) else {
            return;
        };
        let Some(lane) = self.lanes.get_mut(channel) else { return };
        lane.claims.push(now);
        let burst = usize::try_from(chat.pace.burst).unwrap();
        let before = lane.claims.len().checked_sub(burst + 1).map(|at| lane.claims[at].0);
        if before.is_some_and(|before| now.0 - before < i64::from(chat.pace.interval_ms)) {
            self.complain(day, "pace", || format!("{channel} has more than its pace allows"));
        }
    }

    /// Nobody asks where the platform asked for silence, nor shows what it refused.
    pub(super) fn may_ask(
        &mut self,
        day: &Day,
        process: &Process,
        channel: &ChannelId,
        secret: u32,
        claimed: Moment,
    ) {
        let (now, kind, who) = (day.now(), channel.platform(), &process.name);
        // Who claims knows what was stored by then.
        let bot = self.bots.entry(kind).or_default();
        let held = if claimed > bot.held.1 { bot.held.0 } else { 0 };
        let refused = bot.refused.get(&secret).is_some_and(|since| claimed > *since);
        let held =
            held.max(self.lanes.get(channel).map_or(0, |lane| lane.held_since_claim(claimed)));
        if refused {
            self.complain(day, "refused", || {
                format!("{who} shows {kind} the refused secret {secret} again")
            });
        }
        if now + 2 * day.plan.apart < held {
            let early = held - now;
            self.complain(day, "slow down", || {
                format!("{who} asks {channel} {early} ms before its time")
            });
        }
    }

    /// What was recorded lets the lane, and perhaps the bot, go on.
    pub(super) fn goes_on(&mut self, day: &Day, process: &Process, n: usize, settled: &Settled) {
        let (now, delivery) = (day.now(), &settled.delivery);
        let channel = delivery.channel.clone();
        let kind = channel.platform();
        let attempt = self.attempts.get_mut(&(process.name.clone(), channel.clone()));
        let Some(attempt) = attempt else { return };
        // A result whose answer was lost is recorded again, and its failure counted again.
        let (troubled, last) = (attempt.troubled, attempt.last);
        let bot = self.bots.entry(kind).or_default();
        let lane = self.lanes.entry(channel).or_default();
        lane.ready = now;
        if delivery.state.is_final() {
            lane.pending.remove(&n);
        } else if delivery.attempts > 0 {
            lane.ready = now + longest_pause(day, delivery.attempts);
        }
        let Some((said, at)) = last else { return };
        match said {
            Answered::SlowDown { ms: Some(ms), scope } => {
                lane.ready = now;
                match scope {
                    Scope::Channel => lane.hold(at + ms, now),
                    Scope::Credential => bot.held = (bot.held.0.max(at + ms), now),
                }
            }
            Answered::Refused => {
                let secret = process.secrets[&kind];
                bot.refused.entry(secret).or_insert(now);
                bot.stopped.get_or_insert(now);
                lane.ready = now;
            }
            _ => {}
        }
        match said {
            Answered::Unreachable | Answered::Failed => {
                bot.failures += 1;
                if bot.failures >= TOO_OFTEN {
                    bot.probe = at + HALF_A_MINUTE;
                }
            }
            Answered::Refused => {}
            _ if troubled => {
                if bot.failures >= TOO_OFTEN {
                    bot.probe = now;
                }
                bot.failures = 0;
                self.goes_on_after_a_refusal(day, kind);
            }
            _ => {}
        }
    }

    /// Whether a bot waited for another secret at a moment.
    pub(super) fn was_stopped(&self, kind: PlatformKind, at: Moment) -> bool {
        let stopped = self.bots.get(&kind).and_then(|bot| bot.stopped);
        stopped.is_some_and(|since| since <= at)
    }

    /// What waited for another secret has its time again.
    fn goes_on_after_a_refusal(&mut self, day: &Day, kind: PlatformKind) {
        let Some(since) = self.bots.get_mut(&kind).and_then(|bot| bot.stopped.take()) else {
            return;
        };
        let waited = day.now() - since;
        let lanes = self.lanes.iter().filter(|(channel, _)| channel.platform() == kind);
        for n in lanes.flat_map(|(_, lane)| &lane.pending) {
            if let Some(book) = self.books.get_mut(n) {
                let longer = Duration::from_millis(waited) + day.plan.deadline;
                book.deadline = book.deadline.after(longer);
            }
        }
    }
}

impl super::judge::Lane {
    fn hold(&mut self, until: Moment, now: Moment) {
        self.held = self.held.max(until);
        self.held_since = now;
    }

    /// Until when whoever claimed it knew that it has to wait.
    fn held_since_claim(&self, claimed: Moment) -> Moment {
        if claimed > self.held_since { self.held } else { 0 }
    }
}
