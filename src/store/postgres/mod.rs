//! PostgreSQL: for as many replicas as you like, in a schema of its own.
//!
//! **Poolers.** Nothing lives in a session, so that PgBouncer may give each transaction another one: every access is one
//! transaction that says itself which schema it means and how long it may take; no statement is prepared under a name;
//! the only advisory locks end with their transaction.
//!
//! **Who waits for whom.** Rows are locked in one order: lane, credential, delivery; conversation, event. What waits in a
//! lane is numbered while the lane is locked, so that the numbers of a lane become visible in their order; the same
//! holds for the events of a conversation. Whoever claims skips what somebody else has locked.
//!
//! **Time.** Replicas compare each other's leases, so they have to agree on what time it is; their machines need not. With
//! this store [`Postgres::clock`] is the clock of the whole process: the database's, see [`clock`].
//!
//! **Who hears of what.** A replica tells the others what it stored, after the commit, by `NOTIFY`. All of them also look
//! by themselves, every second, and nothing depends on what they are told.
//!
//! **When it is away.** An access fails after a few seconds with [`StoreError::Away`], and the next one tries anew. An
//! answer to a commit may be lost: then the caller hears of a failure although the change was made, never the reverse.

mod claim;
pub mod clock;
mod enqueue;
mod hold;
mod inbound;
mod leases;
mod migrate;
mod notices;
mod outbox;
mod retention;
#[cfg(test)]
#[path = "../../../tests/postgres_server.rs"]
pub(crate) mod server;
#[cfg(test)]
mod tests;
mod trail;
mod url;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use secrecy::SecretString;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Connection as _, SqlSafeStr, Transaction};
use tokio_util::task::AbortOnDropHandle;

use self::clock::DatabaseClock;
use self::notices::{Notices, Patience};
use self::outbox::Probe;
use self::trail::Pens;
pub use self::url::{check, secrets};
use super::StoreError;
use super::trail::Settings;
use crate::clock::Clock;

/// How long an access waits for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// How long one may take once it has a connection. Shorter than a lease, by more than a request to a platform may take.
const ACCESS: Duration = Duration::from_secs(8);

/// How long a connection may take to show that it can be used again.
const RELEASE: Duration = Duration::from_secs(2);

/// What to do about a server that does not answer.
const SEE_TO: &str =
    "see that it runs, and that the network lets Herald through; nothing has to be restarted here";

type Db<'c> = &'c mut sqlx::PgConnection;
type Statement = Query<'static, sqlx::Postgres, PgArguments>;

/// The store in one schema of a PostgreSQL database.
pub struct Postgres {
    pool: PgPool,
    /// Begins a transaction in the schema.
    begin: Arc<str>,
    /// For people: where the database is.
    place: String,
    clock: Arc<DatabaseClock>,
    probe: Mutex<Probe>,
    notices: Arc<Notices>,
    /// What writes the audit trail.
    pens: Pens,
    /// How to reach the server, for whoever needs a connection of their own.
    options: PgConnectOptions,
    _keeping_time: AbortOnDropHandle<()>,
    _telling: AbortOnDropHandle<()>,
}

impl Postgres {
    /// Opens the store, and makes or updates its schema; several processes may do so at once. `clock` gives the jitter.
    ///
    /// # Errors
    /// When the URL is malformed, the server does not answer or does not let Herald in, or the schema was written by a
    /// newer Herald.
    pub async fn open(url: &SecretString, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        Self::open_with(url, clock, &Settings::default()).await
    }

    /// The same, with an audit trail that is written like this.
    ///
    /// # Errors
    /// Those of [`Postgres::open`].
    pub async fn open_with(
        url: &SecretString,
        clock: Arc<dyn Clock>,
        audit: &Settings,
    ) -> Result<Self, StoreError> {
        Self::open_patiently(url, clock, audit, Patience::default()).await
    }

    async fn open_patiently(
        url: &SecretString,
        clock: Arc<dyn Clock>,
        audit: &Settings,
        patience: Patience,
    ) -> Result<Self, StoreError> {
        let place = url::read(url)?;
        let pool = PgPoolOptions::new()
            .max_connections(place.connections)
            .acquire_timeout(CONNECT)
            // Beginning a transaction shows whether a connection still works.
            .test_before_acquire(false)
            // What an access that was cut left behind is cleared up here, in time: where the network has gone silent, the
            // pool itself would wait for the kernel to give up, and keep the connection's place.
            .after_release(|connection, _| {
                Box::pin(async move {
                    match tokio::time::timeout(RELEASE, connection.ping()).await {
                        Ok(alive) => alive.map(|()| true),
                        Err(_) => Err(sqlx::Error::PoolTimedOut),
                    }
                })
            })
            .connect_lazy_with(place.options.clone());
        let begin = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL search_path TO {}; \
             SET LOCAL statement_timeout = {limit}; SET LOCAL idle_in_transaction_session_timeout = {limit}",
            place.schema,
            limit = ACCESS.as_millis(),
        );
        let read = async {
            migrate::migrate(&pool, &begin, &place.schema).await?;
            DatabaseClock::read(&pool, clock).await
        };
        let clock = match tokio::time::timeout(migrate::PATIENCE, read).await {
            Ok(read) => Arc::new(read.map_err(|error| away(&place.shown, error))?),
            Err(_) => return Err(silent(&place.shown)),
        };
        let keeping_time =
            AbortOnDropHandle::new(tokio::spawn(Arc::clone(&clock).keep(pool.clone())));
        let notices = Arc::new(Notices::new(&place.schema, patience));
        let telling =
            AbortOnDropHandle::new(tokio::spawn(Arc::clone(&notices).tell_all(pool.clone())));
        Ok(Self {
            pool,
            begin: begin.into(),
            place: place.shown,
            clock,
            probe: Mutex::default(),
            notices,
            pens: Pens::new(audit, place.connections),
            options: place.options,
            _keeping_time: keeping_time,
            _telling: telling,
        })
    }

    /// The database's clock.
    #[must_use]
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::<DatabaseClock>::clone(&self.clock)
    }

    /// For people: host, port, database and schema.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// One access: what `work` does in its transaction, in time or not at all.
    async fn access<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(CONNECT + ACCESS, work).await {
            Ok(done) => done.map_err(|error| away(&self.place, error)),
            Err(_) => Err(silent(&self.place)),
        }
    }

    async fn begin(&self) -> Result<Transaction<'static, sqlx::Postgres>, StoreError> {
        self.begin_with(Arc::clone(&self.begin)).await
    }

    /// Begins a transaction that nobody else has with the same number: others wait until it ends.
    async fn begin_alone(
        &self,
        number: i64,
    ) -> Result<Transaction<'static, sqlx::Postgres>, StoreError> {
        let begin = format!("{}; SELECT pg_advisory_xact_lock({number})", self.begin);
        self.begin_with(begin.into()).await
    }

    async fn begin_with(
        &self,
        begin: Arc<str>,
    ) -> Result<Transaction<'static, sqlx::Postgres>, StoreError> {
        // After a restart of the server each idle connection is a broken one, and nothing was asked of it yet.
        let mut idle = self.pool.num_idle();
        loop {
            match self.pool.begin_with(AssertSqlSafe(Arc::clone(&begin))).await {
                Err(error) if idle > 0 && is_lost(&error) => idle -= 1,
                begun => return Ok(begun?),
            }
        }
    }
}

/// A statement that no name is kept for: a pooler may run the next one elsewhere.
fn query(sql: impl SqlSafeStr) -> Statement {
    sqlx::query(sql).persistent(false)
}

/// Whether the connection broke, and not the statement.
fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) => true,
        // Connection exceptions, and an operator's interventions: https://www.postgresql.org/docs/current/errcodes-appendix.html
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            code.starts_with("08") || code.starts_with("57P") || code == "25P03"
        }),
        _ => false,
    }
}

/// The same error; where the server does not answer or lets nobody in, one that says which server.
fn away(place: &str, error: StoreError) -> StoreError {
    let error = match error {
        StoreError::Database(error) => error,
        other => return other,
    };
    let code = error.as_database_error().and_then(|error| error.code()).unwrap_or_default();
    // Who, or which database: https://www.postgresql.org/docs/current/errcodes-appendix.html
    let refused = code.starts_with("28") || code == "3D000";
    let busy = code == "53300";
    match error {
        sqlx::Error::PoolTimedOut => StoreError::Away(format!(
            "PostgreSQL at {place} cannot be reached, or is too busy, for {} s: {SEE_TO}",
            CONNECT.as_secs()
        )),
        sqlx::Error::PoolClosed => StoreError::Closed,
        sqlx::Error::Database(error) if refused => StoreError::DatabaseUrl(format!(
            "PostgreSQL at {place} lets Herald not in ({}): see to user, password, database and sslmode in HERALD_DATABASE_URL",
            error.message()
        )),
        error if busy || is_lost(&error) || matches!(error, sqlx::Error::Tls(_)) => {
            StoreError::Away(format!("PostgreSQL at {place} cannot be reached ({error}): {SEE_TO}"))
        }
        error => StoreError::Database(error),
    }
}

fn silent(place: &str) -> StoreError {
    StoreError::Away(format!("PostgreSQL at {place} does not answer in time: {SEE_TO}"))
}

/// PostgreSQL's texts hold any character but NUL, which stands for nothing a person would miss.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{2400}")
}
