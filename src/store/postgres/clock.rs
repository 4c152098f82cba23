//! The database's clock, for all replicas.
//!
//! A lease is a promise between replicas: "until then this is mine". They compare it with what they take for now, so a
//! machine whose clock runs ahead would take over what another still holds. Asking the database in each statement would
//! settle that for leases, but not for the times that Herald computes itself from answers (Retry-After, backoff,
//! deadlines) and stores beside them. So with PostgreSQL the whole process runs on this clock: the database's time, read
//! when the store is opened and every 30 s, and counted on from there by a clock that nobody sets.
//!
//! Replicas then differ by half the way to the database and back, and by what two quartzes drift apart in that time: a few
//! milliseconds, where the leases leave ten seconds (30 s, of which a request takes at most 20 s). While the database is
//! away there is nothing to claim either. A failover to a server whose clock is wrong by less than those ten seconds is
//! harmless too; every replica follows within 30 s.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use sqlx::postgres::PgPool;
use tokio::time::Instant;

use super::StoreError;
use crate::clock::{Clock, Timestamp};

/// How often the database is asked for its time.
const EVERY: Duration = Duration::from_secs(30);
/// How soon it is asked again where it did not answer.
const AGAIN: Duration = Duration::from_secs(5);
/// An answer that took longer says too little.
const SLOW: Duration = Duration::from_secs(1);
/// So often in a row: the quickest answer counts.
const TRIES: usize = 3;

/// What the database's clock showed at a moment of this machine's own count.
#[derive(Clone, Copy, Debug)]
struct Reading {
    at: Instant,
    showed: Timestamp,
}

impl Reading {
    fn now(&self) -> Timestamp {
        self.showed.after(self.at.elapsed())
    }
}

/// The database's clock, as this process knows it.
pub struct DatabaseClock {
    reading: RwLock<Reading>,
    local: Arc<dyn Clock>,
}

impl DatabaseClock {
    /// Asks for the time. `local` gives the jitter.
    pub(super) async fn read(pool: &PgPool, local: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let (reading, _) = ask(pool).await?;
        let apart = reading.now().0.abs_diff(local.now().0);
        if apart > 5_000 {
            tracing::warn!(
                seconds = apart / 1000,
                "this machine's clock and the database's differ; the database's counts"
            );
        }
        Ok(Self { reading: RwLock::new(reading), local })
    }

    /// Asks again and again, as long as the pool is open.
    pub(super) async fn keep(self: Arc<Self>, pool: PgPool) {
        let mut pause = EVERY;
        loop {
            tokio::time::sleep(pause).await;
            pause = match ask(&pool).await {
                Ok((reading, took)) if took < SLOW => {
                    *self.reading.write().unwrap_or_else(PoisonError::into_inner) = reading;
                    EVERY
                }
                Err(sqlx::Error::PoolClosed) => return,
                // Whoever needs the database says that it is away.
                Ok(_) | Err(_) => AGAIN,
            };
        }
    }
}

impl Clock for DatabaseClock {
    fn now(&self) -> Timestamp {
        self.reading.read().unwrap_or_else(PoisonError::into_inner).now()
    }

    fn jitter(&self) -> f64 {
        self.local.jitter()
    }
}

/// The best reading of a few, and how long it took.
async fn ask(pool: &PgPool) -> Result<(Reading, Duration), sqlx::Error> {
    let mut db = pool.acquire().await?;
    let mut best: Option<(Reading, Duration)> = None;
    for _ in 0..TRIES {
        let asked = Instant::now();
        // Not as a prepared statement: one way there and back.
        let row =
            sqlx::raw_sql("SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint")
                .fetch_one(&mut *db)
                .await?;
        let took = asked.elapsed();
        let showed = Timestamp(sqlx::Row::try_get(&row, 0)?);
        if best.is_none_or(|(_, quickest)| took < quickest) {
            best = Some((Reading { at: asked + took / 2, showed }, took));
        }
    }
    best.ok_or(sqlx::Error::RowNotFound)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    #[tokio::test(start_paused = true)]
    async fn runs_on_from_its_last_reading_whatever_the_machine_says() {
        let machine = ManualClock::at(Timestamp(1));
        let read = Reading { at: Instant::now(), showed: Timestamp(1_800_000_000_000) };
        let clock = DatabaseClock { reading: RwLock::new(read), local: Arc::new(machine.clone()) };
        tokio::time::advance(Duration::from_millis(1_500)).await;
        machine.advance(Duration::from_secs(3600));
        assert_eq!(clock.now(), Timestamp(1_800_000_001_500));
    }
}
