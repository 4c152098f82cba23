//! The door between a process and the store: here accesses take time or fail, and whoever judges sees what passes.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;

use super::Day;
use super::bugs::Bug;
use super::process::Process;
use crate::clock::Timestamp;
use crate::model::{ClientName, Delivery, DeliveryId, Pause, PlatformKind, Reason};
use crate::store::{
    Backlog, Claim, Claimant, Enqueued, Filter, NewDelivery, Outbox, Recorded, Settled, StoreError,
    Trouble,
};

/// The store, as one process sees it.
pub(super) struct Door {
    pub(super) day: Arc<Day>,
    pub(super) process: Arc<Process>,
}

/// Finishes what a store does while the day stands still: a real one works on threads of its own.
pub(super) fn at_once<T>(work: impl Future<Output = T>) -> T {
    let mut work = pin!(tokio::task::unconstrained(work));
    let mut context = Context::from_waker(Waker::noop());
    loop {
        match work.as_mut().poll(&mut context) {
            Poll::Ready(done) => return done,
            Poll::Pending => std::thread::yield_now(),
        }
    }
}

impl Door {
    /// On the way to the store.
    async fn there(&self) -> Result<(), StoreError> {
        self.process.step().await;
        let (day, plan) = (&*self.day, &self.day.plan);
        let (quick, stalled) = {
            let mut dice = day.dice();
            let stalled = !day.is_calm() && plan.stalls > 0 && dice.chance(plan.stalls);
            let stalled = if stalled { dice.within(1_000..40_000) } else { 0 };
            (if plan.store_ms == 0 { 0 } else { dice.within(0..plan.store_ms) }, stalled)
        };
        if stalled > 0 {
            day.tell(|| format!("{} waits {stalled} ms for the store", self.process.name));
        }
        if quick + stalled > 0 {
            tokio::time::sleep(Duration::from_millis(quick + stalled)).await;
        }
        if stalled > 0 {
            day.judge().service_changes(day);
        }
        if !self.process.is_alive() {
            self.process.step().await;
        }
        if plan.store_away.contains(&day.now()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
            day.judge().service_changes(day);
            return Err(away());
        }
        Ok(())
    }

    /// What is stored of a delivery.
    fn stored(&self, settled: &Settled) -> Option<Delivery> {
        at_once(self.day.store.delivery(settled.delivery.id)).unwrap()
    }

    /// On the way back from a change.
    async fn back<T>(&self, answer: T) -> Result<T, StoreError> {
        self.process.step().await;
        let (lost, stalled) = {
            let (day, plan) = (&*self.day, &self.day.plan);
            let mut dice = day.dice();
            let troubled = !day.is_calm();
            let lost = troubled && plan.lost_answers > 0 && dice.chance(plan.lost_answers);
            let stalled = troubled && plan.stalls > 0 && dice.chance(plan.stalls);
            (lost, if stalled { dice.within(1_000..40_000) } else { 0 })
        };
        if stalled > 0 {
            self.day.tell(|| format!("{} hears of it {stalled} ms later", self.process.name));
            self.day.judge().service_changes(&self.day);
            tokio::time::sleep(Duration::from_millis(stalled)).await;
            self.day.judge().service_changes(&self.day);
            self.process.step().await;
        }
        if lost {
            self.day.tell(|| format!("{} does not hear of it", self.process.name));
            self.day.judge().service_changes(&self.day);
            return Err(away());
        }
        Ok(answer)
    }
}

fn away() -> StoreError {
    StoreError::Away("the database does not answer".to_owned())
}

#[async_trait]
impl Outbox for Door {
    async fn enqueue(&self, new: NewDelivery) -> Result<Enqueued, StoreError> {
        let (asked, day) = (new.delivery.clone(), &*self.day);
        match self.there().await {
            Err(_) if day.bug == Some(Bug::HidesThatTheStoreIsAway) => return Ok(Enqueued::New),
            reached => reached?,
        }
        let enqueued = at_once(day.store.enqueue(new))?;
        day.judge().enqueued(day, &asked, &enqueued);
        self.back(enqueued).await
    }

    async fn claim(
        &self,
        who: &Claimant,
        platform: PlatformKind,
        now: Timestamp,
        most: u32,
    ) -> Result<Vec<Claim>, StoreError> {
        self.there().await?;
        let day = &*self.day;
        let claims = at_once(day.store.claim(who, platform, now, most))?;
        if claims.is_empty() {
            return Ok(claims);
        }
        day.judge().claimed(day, &self.process, platform, now, &claims);
        self.back(claims).await
    }

    async fn record(&self, epoch: i64, settled: &Settled) -> Result<Recorded, StoreError> {
        self.there().await?;
        let day = &*self.day;
        let fenced = day.judge().is_fenced(epoch, settled);
        let before = fenced.then(|| self.stored(settled));
        let recorded = at_once(day.store.record(epoch, settled))?;
        day.judge().recorded(day, &self.process, epoch, settled, recorded);
        if before.is_some_and(|before| before != self.stored(settled)) {
            day.judge().changed_by_a_fenced_result(day, settled);
        }
        self.back(recorded).await
    }

    async fn next_due(
        &self,
        who: &Claimant,
        platforms: &[PlatformKind],
    ) -> Result<Option<Timestamp>, StoreError> {
        self.there().await?;
        at_once(self.day.store.next_due(who, platforms))
    }

    async fn delivery(&self, id: DeliveryId) -> Result<Option<Delivery>, StoreError> {
        self.there().await?;
        at_once(self.day.store.delivery(id))
    }

    async fn latest(
        &self,
        client: &ClientName,
        id: DeliveryId,
    ) -> Result<Option<Delivery>, StoreError> {
        self.there().await?;
        at_once(self.day.store.latest(client, id))
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<Delivery>, StoreError> {
        at_once(self.day.store.list(filter))
    }

    async fn retry(
        &self,
        id: DeliveryId,
        now: Timestamp,
        deadline: Timestamp,
    ) -> Result<Option<Delivery>, StoreError> {
        at_once(self.day.store.retry(id, now, deadline))
    }

    async fn end(
        &self,
        id: DeliveryId,
        reason: Reason,
        hint: &str,
        now: Timestamp,
    ) -> Result<Option<Delivery>, StoreError> {
        at_once(self.day.store.end(id, reason, hint, now))
    }

    async fn backlog(&self) -> Result<BTreeMap<PlatformKind, Backlog>, StoreError> {
        at_once(self.day.store.backlog())
    }

    async fn pauses(&self) -> Result<BTreeMap<PlatformKind, Pause>, StoreError> {
        at_once(self.day.store.pauses())
    }

    async fn resume(&self, platform: PlatformKind, now: Timestamp) -> Result<(), StoreError> {
        at_once(self.day.store.resume(platform, now))
    }

    async fn trouble(
        &self,
        since: Timestamp,
    ) -> Result<BTreeMap<PlatformKind, Trouble>, StoreError> {
        at_once(self.day.store.trouble(since))
    }

    async fn expunge(
        &self,
        ended: Timestamp,
        now: Timestamp,
        most: u32,
    ) -> Result<u64, StoreError> {
        at_once(self.day.store.expunge(ended, now, most))
    }

    async fn remove(&self, ended: Timestamp, most: u32) -> Result<u64, StoreError> {
        at_once(self.day.store.remove(ended, most))
    }

    async fn shrink(&self) -> Result<bool, StoreError> {
        at_once(self.day.store.shrink())
    }

    async fn check_writable(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn close(&self) {}
}
