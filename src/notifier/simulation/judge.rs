//! The judge: sees what people see, what passes the doors and what callers are told, and knows what must not happen.
//!
//! It has its own books, kept by the right time, and asks nobody: what a store or a worker believes is no evidence. It
//! judges sends here and in [`super::sends`], waiting in [`super::waits`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Day;
use super::plan::Moment;
use super::process::Process;
use super::waits::Bot;
use super::world::Message;
use crate::clock::Timestamp;
use crate::model::{
    ChannelId, Delivery, DeliveryId, DeliveryState, Doubt, PlatformKind, Reason, Receipt, Scope,
    Status, Step,
};
use crate::notifier::SubmitError;
use crate::store::{Claim, Enqueued, Recorded, Settled};

/// What a platform is asked.
pub(super) struct Asked {
    pub(super) channel: ChannelId,
    /// What it shall do; nothing where it is asked what arrived.
    pub(super) step: Option<Step>,
}

/// What a platform says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answered {
    Done,
    SlowDown {
        ms: Option<u64>,
        scope: Scope,
    },
    /// It does not like the message.
    Rejected,
    /// The bot may not be there any more.
    NotIn,
    Refused,
    Unreachable,
    Failed,
}

/// What the judge knows of a message that somebody wants to send.
#[derive(Default)]
pub(super) struct Book {
    pub(super) id: Option<DeliveryId>,
    /// Its place in its lane.
    pub(super) place: usize,
    /// How often it was put back after it had ended.
    pub(super) life: usize,
    pub(super) deadline: Timestamp,
}

/// A channel's queue.
#[derive(Default)]
pub(super) struct Lane {
    /// How many were ever in it.
    places: usize,
    pub(super) pending: BTreeSet<usize>,
    pub(super) epoch: i64,
    /// What appeared in it last: place and part.
    pub(super) last: (usize, usize),
    /// When it was claimed, by the clocks of the claimants.
    pub(super) claims: Vec<Timestamp>,
    /// Since when nothing of its own keeps it waiting, as far as its pace, what the platform asked for, and claims go.
    pub(super) paced: Moment,
    pub(super) held: Moment,
    pub(super) held_since: Moment,
    pub(super) ready: Moment,
}

/// A claim, by whoever made it.
pub(super) struct Attempt {
    pub(super) n: usize,
    pub(super) epoch: i64,
    pub(super) at: Moment,
    pub(super) troubled: bool,
    pub(super) last: Option<(Answered, Moment)>,
    pub(super) requests: Vec<usize>,
}

/// A request to a platform.
pub(super) struct Request {
    pub(super) process: Arc<Process>,
    pub(super) channel: ChannelId,
    /// The message, its part, and its life; nothing where a message is not made.
    pub(super) sends: Option<(usize, usize, usize)>,
    pub(super) asks: bool,
    pub(super) ended: bool,
    pub(super) applied: bool,
    /// Whoever asked cannot know whether it was applied.
    pub(super) doubtful: bool,
    /// What came of it is stored.
    pub(super) recorded: bool,
}

#[derive(Default)]
pub(super) struct Judge {
    /// The first thing that must not happen, and did.
    pub(super) complaint: Option<String>,
    pub(super) books: BTreeMap<usize, Book>,
    pub(super) ids: BTreeMap<DeliveryId, usize>,
    pub(super) lanes: BTreeMap<ChannelId, Lane>,
    pub(super) bots: BTreeMap<PlatformKind, Bot>,
    pub(super) attempts: BTreeMap<(String, ChannelId), Attempt>,
    pub(super) requests: Vec<Request>,
    /// What people see, by message, part and life.
    pub(super) copies: BTreeMap<(usize, usize, usize), Vec<usize>>,
    /// The thread that a client's word stands for, and since when.
    pub(super) threads: BTreeMap<(String, ChannelId, String), (Option<String>, Moment)>,
    /// When the processes, or the way to the store, last changed.
    pub(super) service: Moment,
}

/// `m12p0` is part 0 of message 12.
pub(super) fn numbers(word: &str) -> Option<(usize, usize)> {
    let (n, part) = word.strip_prefix('m')?.split_once('p')?;
    Some((n.parse().ok()?, part.parse().ok()?))
}

impl Judge {
    /// Something happened that must not.
    pub(super) fn complain(
        &mut self,
        day: &Day,
        what: &'static str,
        about: impl FnOnce() -> String,
    ) {
        if self.complaint.is_none() {
            let complaint = format!("{what}: {}", about());
            day.tell(|| format!("!! {complaint}"));
            self.complaint = Some(complaint);
        }
    }

    /// A submission reached the store.
    pub(super) fn enqueued(&mut self, day: &Day, asked: &Delivery, enqueued: &Enqueued) {
        let Some((n, _)) = asked.steps.first().and_then(super::said).and_then(|it| numbers(&it))
        else {
            return;
        };
        day.tell(|| format!("m{n} for {} is stored: {}", asked.channel, outcome(enqueued)));
        match enqueued {
            Enqueued::New => {
                let lane = self.lanes.entry(asked.channel.clone()).or_default();
                lane.places += 1;
                let place = lane.places;
                if self.books.contains_key(&n) {
                    self.complain(day, "once", || format!("m{n} is stored again"));
                    return;
                }
                let (id, deadline) = (Some(asked.id), asked.deadline);
                self.books.insert(n, Book { id, place, life: 0, deadline });
                self.ids.insert(asked.id, n);
                self.waits_from_now(day, n, &asked.channel);
            }
            Enqueued::Retried(_) => self.put_back(day, n, asked.deadline),
            Enqueued::Repeated(_) | Enqueued::KeyReused | Enqueued::TooMuch(_) => {}
        }
    }

    /// What had ended waits once more, because somebody wants it.
    pub(super) fn put_back(&mut self, day: &Day, n: usize, deadline: Timestamp) {
        let Some(book) = self.books.get_mut(&n) else { return };
        book.life += 1;
        book.deadline = deadline;
        self.waits_from_now(day, n, &day.plan.posts[n].channel);
    }

    /// Lanes were claimed.
    pub(super) fn claimed(
        &mut self,
        day: &Day,
        process: &Process,
        kind: PlatformKind,
        now: Timestamp,
        claims: &[Claim],
    ) {
        let asked = u64::try_from(now.0 - process.at(0).0).unwrap_or_default();
        self.is_fair(day, kind, asked, claims);
        for claim in claims {
            let channel = claim.delivery.channel.clone();
            let Some(n) = self.ids.get(&claim.delivery.id).copied() else { continue };
            day.tell(|| {
                let after = if claim.interrupted { ", after an interruption" } else { "" };
                format!("{} claims m{n} in {channel}, {}{after}", process.name, claim.epoch)
            });
            self.in_pace(day, &channel, now);
            if let Some(lane) = self.lanes.get_mut(&channel) {
                lane.epoch = lane.epoch.max(claim.epoch);
            }
            let attempt = Attempt {
                n,
                epoch: claim.epoch,
                at: day.now(),
                troubled: claim.troubled,
                last: None,
                requests: Vec::new(),
            };
            self.attempts.insert((process.name.clone(), channel), attempt);
        }
    }

    /// A result reached the store.
    pub(super) fn recorded(
        &mut self,
        day: &Day,
        process: &Process,
        epoch: i64,
        settled: &Settled,
        recorded: Recorded,
    ) {
        let delivery = &settled.delivery;
        let channel = &delivery.channel;
        let Some(n) = self.ids.get(&delivery.id).copied() else { return };
        day.tell(|| {
            let Delivery { state, reason, cursor, .. } = delivery;
            format!(
                "{} records m{n}: {state:?} at {cursor}, {reason:?}: {recorded:?}",
                process.name
            )
        });
        let newest = self.lanes.get(channel).map_or(0, |lane| lane.epoch);
        if recorded == Recorded::Fenced {
            return;
        }
        if epoch < newest {
            let (old, new) = (epoch, newest);
            self.complain(day, "fence", || format!("m{n} by claim {old}, when {new} was made"));
        }
        if let (Some(key), Some(thread)) = (&delivery.thread_key, &settled.thread) {
            let key = (delivery.client.to_string(), channel.clone(), key.clone());
            self.threads.entry(key).or_insert((thread.thread.clone(), day.now()));
        }
        let key = (process.name.clone(), channel.clone());
        let Some(attempt) = self.attempts.get_mut(&key).filter(|it| it.epoch == epoch) else {
            return;
        };
        for request in std::mem::take(&mut attempt.requests) {
            self.requests[request].recorded = true;
        }
        self.goes_on(day, process, n, settled);
    }

    /// Whether a result comes from a claim that is not the newest of its lane.
    pub(super) fn is_fenced(&self, epoch: i64, settled: &Settled) -> bool {
        self.lanes.get(&settled.delivery.channel).is_some_and(|lane| epoch < lane.epoch)
    }

    pub(super) fn changed_by_a_fenced_result(&mut self, day: &Day, settled: &Settled) {
        let n = self.ids.get(&settled.delivery.id).copied().unwrap_or_default();
        self.complain(day, "fence", || format!("a void result changed m{n}"));
    }

    /// A caller was answered.
    pub(super) fn told(
        &mut self,
        day: &Day,
        n: usize,
        told: Result<Receipt, SubmitError>,
        messages: &[Message],
    ) {
        let receipt = match told {
            Ok(receipt) => receipt,
            Err(error) => {
                day.tell(|| format!("whoever sent m{n} hears: {error}"));
                return;
            }
        };
        day.tell(|| format!("whoever sent m{n} hears: {:?}", receipt.status));
        if !self.books.contains_key(&n) {
            let told = receipt.status;
            self.complain(day, "accepted", || format!("m{n} is {told:?} and not stored"));
        }
        if receipt.status == Status::Delivered {
            self.is_there(day, n, messages);
        }
    }

    /// Every part of a message is where people see it.
    fn is_there(&mut self, day: &Day, n: usize, messages: &[Message]) {
        let missing = (0..day.plan.posts[n].parts).find(|part| {
            let word = format!("m{n}p{part}");
            !messages.iter().any(|message| message.said.contains(&word))
        });
        if let Some(part) = missing {
            self.complain(day, "delivered", || format!("nobody ever saw m{n}p{part}"));
        }
    }

    /// The day is over, and this is what is stored.
    pub(super) fn ends_the_day(&mut self, day: &Day, stored: &[Delivery], messages: &[Message]) {
        let stored: BTreeMap<_, _> = stored.iter().map(|it| (it.id, it)).collect();
        let books: Vec<_> =
            self.books.iter().filter_map(|(n, book)| Some((*n, book.id?, book.life))).collect();
        for (n, id, life) in books {
            let Some(delivery) = stored.get(&id) else {
                self.complain(day, "lost", || format!("m{n} was accepted and is gone"));
                return;
            };
            match delivery.state {
                DeliveryState::Queued | DeliveryState::Sending => {
                    let state = delivery.state;
                    self.complain(day, "ended", || format!("m{n} is still {state:?}"));
                }
                DeliveryState::Delivered => {
                    self.is_there(day, n, messages);
                    let twice = self.copies.range((n, 0, life)..=(n, usize::MAX, life));
                    let twice = twice.filter(|(key, it)| key.2 == life && it.len() > 1).count() > 0;
                    let says = |it: &String| Some(it.as_str()) == Doubt::Resent.warning();
                    if twice && life == 0 && !delivery.warnings.iter().any(says) {
                        self.complain(day, "told", || {
                            format!(
                                "m{n} appears twice, and nobody says so: {:?}",
                                delivery.warnings
                            )
                        });
                    }
                }
                // The operator's word counts, whatever had happened.
                DeliveryState::Failed if delivery.reason == Some(Reason::Discarded) => {}
                DeliveryState::Failed => {
                    let arrived = delivery.messages.len();
                    let seen = self.copies.keys().find(|(m, part, _)| *m == n && *part >= arrived);
                    if let Some((_, part, _)) = seen.filter(|_| life == 0).copied() {
                        self.complain(day, "failed", || {
                            format!("people see m{n}p{part}, which is called failed")
                        });
                    }
                }
                DeliveryState::Unknown => {}
            }
        }
    }

    pub(super) fn service_changes(&mut self, day: &Day) {
        self.service = day.now();
    }
}

fn outcome(enqueued: &Enqueued) -> &'static str {
    match enqueued {
        Enqueued::New => "new",
        Enqueued::Retried(_) => "tried again",
        Enqueued::Repeated(_) => "known",
        Enqueued::KeyReused => "another one's key",
        Enqueued::TooMuch(_) => "too much",
    }
}
