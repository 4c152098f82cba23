//! A model of a store: the outbox in plain memory, so that thousands of simulated days take seconds. It keeps the same
//! contract as the engines, and shares the arithmetic of paces and breakers with them.
//! It ends with its process, so it keeps everything: retention is not for it.
//!
//! A [`Flaw`] makes it a bad store on purpose, so that whoever judges by what people see can be judged as well.

mod flaw;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

pub(crate) use self::flaw::Flaw;
use super::bot::Bot;
use super::rows::next_turn;
use super::trail::{self, Book, Chain, Page};
use super::{
    Backlog, Claim, Claimant, Enqueued, Filter, Hold, NewDelivery, Outbox, Place, Recorded,
    Settled, StoreError, Trail, Trouble, Verdict,
};
use crate::clock::Timestamp;
use crate::model::audit::Entry;
use crate::model::{
    ChannelId, ClientName, Delivery, DeliveryId, DeliveryState, Pause, Placement, PlatformKind,
    Reason, Scope,
};
use crate::platform::Pace;

/// The store.
#[derive(Default)]
pub(crate) struct Memory {
    tables: Mutex<Tables>,
    flaw: Option<Flaw>,
    book: Book,
}

#[derive(Default)]
struct Tables {
    /// In the order in which they were accepted.
    rows: Vec<Row>,
    ids: BTreeMap<DeliveryId, usize>,
    lanes: BTreeMap<ChannelId, Lane>,
    bots: BTreeMap<PlatformKind, Bot>,
    threads: BTreeMap<(ClientName, ChannelId, String), Placement>,
    /// Changes so far: what a flaw that strikes now and then counts.
    changes: usize,
    noted: Vec<Entry>,
}

struct Row {
    delivery: Delivery,
    submitter: String,
    idempotency_key: Option<String>,
    content_hash: String,
}

impl Row {
    fn waits(&self) -> bool {
        !self.delivery.state.is_final()
    }
}

/// A row of `lanes`.
struct Lane {
    /// The rows that have not come to their end, in their order.
    pending: Vec<usize>,
    epoch: i64,
    lease_until: i64,
    not_before: i64,
    tat: i64,
    pace: Pace,
}

impl Memory {
    /// A store with a flaw.
    pub(crate) fn with(flaw: Option<Flaw>) -> Self {
        Self { flaw, ..Self::default() }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }
}

impl Tables {
    /// The delivery of a row as it is read: with what its lane and its bot wait for.
    fn read(&self, row: usize) -> Delivery {
        let mut delivery = self.rows[row].delivery.clone();
        let lane = self.lanes.get(&delivery.channel).map_or(0, |lane| lane.not_before);
        let bot = self.bots.get(&delivery.channel.platform());
        delivery.not_before = Timestamp(lane.max(bot.map_or(0, |bot| bot.not_before)));
        delivery.paused = bot.and_then(|bot| bot.pause.clone());
        delivery
    }

    fn by_id(&self, id: DeliveryId) -> Option<usize> {
        self.ids.get(&id).copied()
    }

    fn put_back(&mut self, row: usize, now: Timestamp, deadline: Timestamp) {
        let delivery = &mut self.rows[row].delivery;
        delivery.state = DeliveryState::Queued;
        delivery.attempts = 0;
        delivery.doubtful_since = None;
        delivery.resent = false;
        delivery.reason = None;
        delivery.hint = None;
        delivery.finished_at = None;
        delivery.deadline = deadline;
        delivery.created_at = now;
        let channel = delivery.channel.clone();
        self.count(row, &channel);
    }

    /// Keeps a lane's list of what waits in it.
    fn count(&mut self, row: usize, channel: &ChannelId) {
        let waits = self.rows[row].waits();
        let Some(lane) = self.lanes.get_mut(channel) else { return };
        lane.pending.retain(|it| *it != row);
        if waits {
            lane.pending.push(row);
            lane.pending.sort_unstable();
        }
    }

    fn save(&mut self, row: usize, delivery: Delivery) {
        let kept = &mut self.rows[row].delivery;
        let changed = Delivery {
            deadline: kept.deadline.min(delivery.deadline),
            created_at: kept.created_at,
            not_before: kept.not_before,
            paused: None,
            steps: std::mem::take(&mut kept.steps),
            ..delivery
        };
        let channel = changed.channel.clone();
        *kept = changed;
        self.count(row, &channel);
    }

    /// What waited while its bot's secret was refused, from one time to another, has as long again as it had.
    fn prolong(&mut self, platform: PlatformKind, refused: Option<(Timestamp, Timestamp)>) {
        let Some((since, until)) = refused else { return };
        let rows = self.rows.iter_mut().map(|row| &mut row.delivery);
        let waited = rows.filter(|it| {
            it.channel.platform() == platform && !it.state.is_final() && it.deadline > since
        });
        for delivery in waited {
            let again = until.after(delivery.deadline.since(delivery.created_at));
            delivery.deadline = delivery.deadline.max(again);
        }
    }

    /// The row that a submission repeats.
    fn same(&self, new: &NewDelivery) -> Option<usize> {
        let client = &new.delivery.client;
        let mut own =
            self.rows.iter().enumerate().rev().filter(|(_, row)| row.delivery.client == *client);
        let found = if new.idempotency_key.is_some() {
            own.find(|(_, row)| row.idempotency_key == new.idempotency_key)
        } else {
            let since = new.same_since?;
            own.find(|(_, row)| {
                row.content_hash == new.content_hash && row.delivery.created_at > since
            })
        };
        found.map(|(row, _)| row)
    }

    /// The first delivery of a lane that `who` may send.
    fn head(&self, lane: &Lane, who: &Claimant, newest: bool) -> Option<usize> {
        let own = |row: &&usize| !who.own_only || self.rows[**row].submitter == who.process;
        let mut waiting = lane.pending.iter().filter(own);
        if newest { waiting.next_back() } else { waiting.next() }.copied()
    }
}

#[async_trait]
impl Outbox for Memory {
    async fn enqueue(&self, new: NewDelivery) -> Result<Enqueued, StoreError> {
        let tables = &mut *self.tables();
        tables.changes += 1;
        if let Some(row) = tables.same(&new).filter(|_| !self.has(Flaw::ForgetsKeys)) {
            if tables.rows[row].content_hash != new.content_hash {
                return Ok(Enqueued::KeyReused);
            }
            if tables.rows[row].delivery.state != DeliveryState::Failed {
                return Ok(Enqueued::Repeated(Box::new(tables.read(row))));
            }
            let earlier = &mut tables.rows[row].delivery;
            if earlier.is_refillable() {
                earlier.refill(&new.delivery);
            }
            tables.put_back(row, new.delivery.created_at, new.delivery.deadline);
            tables.rows[row].submitter = new.submitter;
            let kept = &mut tables.rows[row].delivery.traceparent;
            *kept = new.delivery.traceparent.or(kept.take());
            return Ok(Enqueued::Retried(Box::new(tables.read(row))));
        }
        if self.has(Flaw::LosesRows) && tables.changes.is_multiple_of(5) {
            return Ok(Enqueued::New);
        }
        let NewDelivery { delivery, submitter, pace, idempotency_key, content_hash, .. } = new;
        let row = tables.rows.len();
        let (epoch, lease_until, not_before, tat) = (0, 0, 0, 0);
        let lane = || Lane { pending: Vec::new(), epoch, lease_until, not_before, tat, pace };
        let lane = tables.lanes.entry(delivery.channel.clone()).or_insert_with(lane);
        lane.pace = pace;
        lane.pending.push(row);
        tables.ids.insert(delivery.id, row);
        tables.rows.push(Row { delivery, submitter, idempotency_key, content_hash });
        Ok(Enqueued::New)
    }

    async fn claim(
        &self,
        who: &Claimant,
        platform: PlatformKind,
        now: Timestamp,
        most: u32,
    ) -> Result<Vec<Claim>, StoreError> {
        let tables = &mut *self.tables();
        let mut bot = tables.bots.get(&platform).cloned().unwrap_or_default();
        if bot.not_before > now.0 {
            return Ok(Vec::new());
        }
        let mut due: Vec<_> = tables
            .lanes
            .iter()
            .filter(|(channel, lane)| channel.platform() == platform && lane.not_before <= now.0)
            .filter(|(_, lane)| lane.lease_until <= now.0 || self.has(Flaw::IgnoresLeases))
            .filter_map(|(channel, lane)| {
                let head = tables.head(lane, who, self.has(Flaw::NewestFirst))?;
                Some((lane.not_before, channel.clone(), head))
            })
            .collect();
        due.sort();
        due.truncate(usize::try_from(most).unwrap_or(usize::MAX));
        let credential = who.credentials.get(&platform);
        let mut claims = Vec::with_capacity(due.len());
        for (_, channel, row) in due {
            let probing = self.has(Flaw::ProbesWithAll) && !claims.is_empty();
            if !probing && !bot.take_turn(credential, who.lease, now) {
                break;
            }
            let Some(lane) = tables.lanes.get_mut(&channel) else { continue };
            let claimed_last = Timestamp(lane.lease_until).before(who.lease);
            if !self.has(Flaw::IgnoresPaces) {
                (lane.tat, lane.not_before) = next_turn(lane.pace, lane.tat, now);
            }
            lane.epoch += 1;
            lane.lease_until =
                if self.has(Flaw::KeepsLeases) { i64::MAX } else { now.after(who.lease).0 };
            let epoch = lane.epoch;
            let head = &mut tables.rows[row].delivery;
            let interrupted =
                head.state == DeliveryState::Sending && !self.has(Flaw::ForgetsInterruptions);
            if interrupted {
                head.doubtful_since.get_or_insert(claimed_last);
            }
            head.state = DeliveryState::Sending;
            head.attempts += 1;
            let mut delivery = tables.read(row);
            if self.has(Flaw::RenewsNonces) {
                let attempt = delivery.attempts;
                delivery
                    .steps
                    .iter_mut()
                    .for_each(|step| step.nonce.push_str(&attempt.to_string()));
            }
            if self.has(Flaw::ForgetsDeadlines) {
                delivery.deadline = now.after(Duration::from_secs(3600));
            }
            let thread = delivery.thread_key.clone().and_then(|key| {
                tables.threads.get(&(delivery.client.clone(), channel.clone(), key)).cloned()
            });
            claims.push(Claim { delivery, epoch, interrupted, thread, troubled: bot.troubled() });
        }
        tables.bots.insert(platform, bot);
        Ok(claims)
    }

    async fn record(&self, epoch: i64, settled: &Settled) -> Result<Recorded, StoreError> {
        let tables = &mut *self.tables();
        let Settled { mut delivery, hold, thread, verdict, doubt: _ } = settled.clone();
        // It keeps its own, which may have been moved meanwhile.
        delivery.deadline = Timestamp(i64::MAX);
        let channel = delivery.channel.clone();
        let platform = channel.platform();
        let Some(row) = tables.by_id(delivery.id) else { return Ok(Recorded::Fenced) };
        let Some(lane) = tables.lanes.get_mut(&channel) else { return Ok(Recorded::Fenced) };
        if lane.epoch != epoch && !self.has(Flaw::ForgetsTheFence) {
            if self.has(Flaw::KeepsWhatIsFenced) {
                tables.save(row, delivery);
            }
            return Ok(Recorded::Fenced);
        }
        lane.lease_until = if self.has(Flaw::KeepsLeases) { lane.lease_until } else { 0 };
        if let Some(Hold { until, scope: Scope::Channel }) = hold
            && !self.has(Flaw::IgnoresChannelHolds)
        {
            lane.not_before = lane.not_before.max(until.0);
        }
        let hold = hold
            .map(|hold| match self.has(Flaw::SpreadsHolds) {
                true => Hold { scope: Scope::Credential, ..hold },
                false => hold,
            })
            .filter(|_| !self.has(Flaw::IgnoresBotHolds));
        let verdict = verdict.filter(|verdict| match verdict {
            Verdict::Fails { .. } => !self.has(Flaw::CountsNoFailures),
            Verdict::Refused { .. } => !self.has(Flaw::ForgetsRefusals),
            Verdict::Works { .. } => true,
        });
        let refused = tables.bots.entry(platform).or_default().record(hold, verdict);
        if let (Some(key), Some(thread)) = (&delivery.thread_key, thread)
            && !self.has(Flaw::ForgetsThreads)
        {
            let key = (delivery.client.clone(), channel.clone(), key.clone());
            tables.threads.entry(key).or_insert(thread);
        }
        if self.has(Flaw::ForgetsDoubts) {
            delivery.doubtful_since = None;
        }
        if self.has(Flaw::ForgetsResends) {
            delivery.resent = false;
        }
        if self.has(Flaw::ForgetsWarnings) {
            delivery.warnings.clear();
        }
        if self.has(Flaw::SkipsParts) && delivery.cursor > 0 {
            delivery.state = DeliveryState::Delivered;
        }
        let again = delivery.state == DeliveryState::Queued && hold.is_some();
        tables.save(row, delivery);
        tables.prolong(platform, refused);
        if self.has(Flaw::RetriesLast) && again {
            let lane = tables.lanes.get_mut(&channel).unwrap();
            lane.pending.retain(|it| *it != row);
            lane.pending.push(row);
        }
        Ok(Recorded::Done)
    }

    async fn next_due(
        &self,
        who: &Claimant,
        platforms: &[PlatformKind],
    ) -> Result<Option<Timestamp>, StoreError> {
        let tables = &*self.tables();
        let fingerprints = who.fingerprints(platforms);
        let due = tables.lanes.iter().filter_map(|(channel, lane)| {
            let fingerprint = fingerprints.get(&channel.platform())?;
            let bot = tables.bots.get(&channel.platform());
            if bot.is_some_and(|bot| bot.refuses(fingerprint)) {
                return None;
            }
            tables.head(lane, who, false)?;
            let bot = bot.map_or(0, |bot| bot.not_before);
            Some(lane.not_before.max(lane.lease_until).max(bot))
        });
        Ok(due.min().map(Timestamp))
    }

    async fn delivery(&self, id: DeliveryId) -> Result<Option<Delivery>, StoreError> {
        let tables = self.tables();
        Ok(tables.by_id(id).map(|row| tables.read(row)))
    }

    async fn latest(
        &self,
        client: &ClientName,
        id: DeliveryId,
    ) -> Result<Option<Delivery>, StoreError> {
        let tables = self.tables();
        let found = tables.rows.iter().rposition(|row| {
            let delivery = &row.delivery;
            let edit = delivery.edits == Some(id) && delivery.state == DeliveryState::Delivered;
            delivery.client == *client && (delivery.id == id || edit)
        });
        Ok(found.map(|row| tables.read(row)))
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<Delivery>, StoreError> {
        let tables = self.tables();
        let (since, until) = filter.accepted();
        let end = match filter.beyond {
            None => tables.rows.len(),
            Some(id) => tables.by_id(id).unwrap_or_default(),
        };
        let wanted = |row: &usize| {
            let Delivery { state, channel, created_at, .. } = &tables.rows[*row].delivery;
            let there = |place: &Place| match place {
                Place::Platform(platform) => *platform == channel.platform(),
                Place::Channel(it) => it == channel,
            };
            (filter.states.is_empty() || filter.states.contains(state))
                && (filter.places.is_empty() || filter.places.iter().any(there))
                && created_at.0 > since
                && created_at.0 <= until
        };
        let most = usize::try_from(filter.most).unwrap_or(usize::MAX);
        Ok((0..end).rev().filter(wanted).take(most).map(|row| tables.read(row)).collect())
    }

    async fn retry(
        &self,
        id: DeliveryId,
        now: Timestamp,
        deadline: Timestamp,
    ) -> Result<Option<Delivery>, StoreError> {
        let tables = &mut *self.tables();
        let Some(row) = tables.by_id(id) else { return Ok(None) };
        let state = tables.rows[row].delivery.state;
        if matches!(state, DeliveryState::Failed | DeliveryState::Unknown) {
            tables.put_back(row, now, deadline);
        }
        Ok(Some(tables.read(row)))
    }

    async fn end(
        &self,
        id: DeliveryId,
        reason: Reason,
        hint: &str,
        now: Timestamp,
    ) -> Result<Option<Delivery>, StoreError> {
        let tables = &mut *self.tables();
        let Some(row) = tables.by_id(id) else { return Ok(None) };
        let mut delivery = tables.rows[row].delivery.clone();
        delivery.call_off(reason, hint.to_owned(), now);
        tables.save(row, delivery);
        Ok(Some(tables.read(row)))
    }

    async fn backlog(&self) -> Result<BTreeMap<PlatformKind, Backlog>, StoreError> {
        let tables = self.tables();
        let mut backlog = BTreeMap::<PlatformKind, Backlog>::new();
        for Row { delivery, .. } in tables.rows.iter().filter(|row| row.waits()) {
            let of = backlog.entry(delivery.channel.platform()).or_default();
            match delivery.state {
                DeliveryState::Sending => of.sending += 1,
                _ => of.queued += 1,
            }
            let oldest = of.oldest.unwrap_or(delivery.created_at);
            of.oldest = Some(oldest.min(delivery.created_at));
        }
        Ok(backlog)
    }

    async fn pauses(&self) -> Result<BTreeMap<PlatformKind, Pause>, StoreError> {
        let tables = self.tables();
        let pauses = tables.bots.iter();
        Ok(pauses.filter_map(|(kind, bot)| Some((*kind, bot.pause.clone()?))).collect())
    }

    async fn resume(&self, platform: PlatformKind, now: Timestamp) -> Result<(), StoreError> {
        let tables = &mut *self.tables();
        let refused = tables.bots.entry(platform).or_default().resume(now);
        tables.prolong(platform, refused);
        Ok(())
    }

    async fn trouble(
        &self,
        since: Timestamp,
    ) -> Result<BTreeMap<PlatformKind, Trouble>, StoreError> {
        let tables = self.tables();
        let mut trouble = BTreeMap::<PlatformKind, Trouble>::new();
        for Row { delivery, .. } in &tables.rows {
            let (failed, unknown) = match delivery.state {
                DeliveryState::Failed if delivery.reason != Some(Reason::Discarded) => (1, 0),
                DeliveryState::Unknown => (0, 1),
                _ => continue,
            };
            if delivery.created_at > since {
                let of = trouble.entry(delivery.channel.platform()).or_default();
                of.failed += failed;
                of.unknown += unknown;
            }
        }
        Ok(trouble)
    }

    async fn expunge(&self, _: Timestamp, _: Timestamp, _: u32) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn remove(&self, _: Timestamp, _: u32) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn shrink(&self) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn check_writable(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn close(&self) {}
}

/// What is noted; nothing is chained, and what describes a change is not written.
#[async_trait]
impl Trail for Memory {
    async fn note(&self, entries: Vec<Entry>, _: Timestamp) -> Result<(), StoreError> {
        self.tables().noted.extend(entries);
        Ok(())
    }

    async fn chains(&self) -> Result<Vec<Chain>, StoreError> {
        Ok(Vec::new())
    }

    async fn rows(&self, _: &str, _: Page, _: u32) -> Result<Vec<trail::Row>, StoreError> {
        Ok(Vec::new())
    }

    fn book(&self) -> &Book {
        &self.book
    }

    async fn strays(&self) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }

    async fn trim(&self, _: Timestamp, _: Timestamp, _: u32) -> Result<u64, StoreError> {
        Ok(0)
    }
}

#[tokio::test]
async fn keeps_the_contract() {
    super::contract::outbox::without_retention(&async || Memory::default()).await;
}
