//! One connection writes, and commits together what arrives together: a commit costs a disk flush, whether it holds one
//! change or a hundred.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sqlx::error::ErrorKind;
use sqlx::{Connection, SqliteConnection};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::store::StoreError;

/// The most changes in one commit, so that the first does not wait for ever.
const MOST_PER_COMMIT: usize = 256;
/// How many changes may wait before callers are held back.
const QUEUE: usize = 1024;

pub(super) type BoxFuture<'c, T> = Pin<Box<dyn Future<Output = T> + Send + 'c>>;

/// A change that waits for its commit.
trait Job: Send {
    fn run<'c>(&'c mut self, db: &'c mut SqliteConnection) -> BoxFuture<'c, bool>;
    /// Why the database would not store it.
    fn refused(&self) -> Option<String>;
    fn finish(self: Box<Self>, committed: Result<(), StoreError>);
}

struct Change<T, F> {
    work: Option<F>,
    outcome: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Job for Change<T, F>
where
    T: Send + 'static,
    F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, StoreError>> + Send,
{
    fn run<'c>(&'c mut self, db: &'c mut SqliteConnection) -> BoxFuture<'c, bool> {
        Box::pin(async move {
            if let Some(work) = self.work.take() {
                self.outcome = Some(work(db).await);
            }
            matches!(self.outcome, Some(Ok(_)))
        })
    }

    fn refused(&self) -> Option<String> {
        match &self.outcome {
            Some(Err(StoreError::Database(sqlx::Error::Database(error))))
                // Not one that broke a rule of the schema: that is about the change, not about the disk.
                if matches!(error.kind(), ErrorKind::Other) =>
            {
                Some(error.to_string())
            }
            _ => None,
        }
    }

    fn finish(self: Box<Self>, committed: Result<(), StoreError>) {
        let outcome = match (self.outcome, committed) {
            (Some(Ok(value)), Ok(())) => Ok(value),
            (Some(Err(error)), _) | (_, Err(error)) => Err(error),
            (None, Ok(())) => Err(StoreError::Closed),
        };
        // The caller may have stopped waiting; the change is durable all the same.
        let _ = self.reply.send(outcome);
    }
}

/// Whether changes can be stored, as far as is known.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Why the last change could not be stored, until one is.
    pub(super) refused: Option<String>,
    /// When somebody last tried on purpose.
    pub(super) probed: Option<Instant>,
}

/// A handle on the writing task.
#[derive(Clone)]
pub(super) struct Writer {
    jobs: mpsc::Sender<Box<dyn Job>>,
    health: Arc<Mutex<Health>>,
}

impl Writer {
    pub(super) fn start(db: SqliteConnection) -> Self {
        let (jobs, waiting) = mpsc::channel(QUEUE);
        let health = Arc::<Mutex<Health>>::default();
        tokio::spawn(commit_in_groups(db, waiting, Arc::clone(&health)));
        Self { jobs, health }
    }

    pub(super) fn health(&self) -> MutexGuard<'_, Health> {
        locked(&self.health)
    }

    /// Runs `work` inside a transaction, and returns once that is committed. If `work` fails, what it did is undone.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, StoreError>>
            + Send
            + 'static,
    {
        let (reply, committed) = oneshot::channel();
        let job = Box::new(Change { work: Some(work), outcome: None, reply });
        self.jobs.send(job).await.map_err(|_| StoreError::Closed)?;
        committed.await.map_err(|_| StoreError::Closed)?
    }
}

fn locked(health: &Mutex<Health>) -> MutexGuard<'_, Health> {
    health.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn commit_in_groups(
    mut db: SqliteConnection,
    mut waiting: mpsc::Receiver<Box<dyn Job>>,
    health: Arc<Mutex<Health>>,
) {
    let mut group = Vec::with_capacity(MOST_PER_COMMIT);
    while waiting.recv_many(&mut group, MOST_PER_COMMIT).await > 0 {
        match commit(&mut db, &mut group).await {
            Ok(changed) => {
                let refused = group.iter().find_map(|job| job.refused());
                // A commit that changed nothing needed no room, and proves nothing.
                if refused.is_some() || changed {
                    locked(&health).refused = refused;
                }
                group.drain(..).for_each(|job| job.finish(Ok(())));
            }
            Err(error) => {
                // Where SQLite has rolled back by itself, the last error is only that there is no savepoint any more.
                let text = group.iter().find_map(|job| job.refused());
                let text = text.unwrap_or_else(|| error.to_string());
                locked(&health).refused = Some(text.clone());
                // Every caller is told, and says what that means.
                tracing::debug!(error = %text, changes = group.len(), "a commit failed");
                let mut group = group.drain(..);
                // sqlx's errors cannot be copied: the first caller gets the error, the others its text.
                if let Some(first) = group.next() {
                    first.finish(Err(error.into()));
                }
                group.for_each(|job| {
                    job.finish(Err(sqlx::Error::Protocol(text.clone()).into()));
                });
            }
        }
    }
    if let Err(error) = db.close().await {
        tracing::warn!(error = %error, "the store did not close cleanly");
    }
}

/// Whether anything was changed.
async fn commit(
    db: &mut SqliteConnection,
    group: &mut [Box<dyn Job>],
) -> Result<bool, sqlx::Error> {
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *db).await?;
    let before = changes(db).await;
    let done = async {
        for job in group.iter_mut() {
            sqlx::query("SAVEPOINT change").execute(&mut *db).await?;
            if !job.run(db).await {
                sqlx::query("ROLLBACK TO change").execute(&mut *db).await?;
            }
            sqlx::query("RELEASE change").execute(&mut *db).await?;
        }
        sqlx::query("COMMIT").execute(&mut *db).await
    }
    .await;
    if let Err(error) = done {
        // Fails where SQLite has rolled back by itself (disk full), which is just as well.
        let _ = sqlx::query("ROLLBACK").execute(&mut *db).await;
        return Err(error);
    }
    Ok(changes(db).await != before)
}

/// How many rows this connection has changed so far.
async fn changes(db: &mut SqliteConnection) -> Option<i64> {
    sqlx::query_scalar("SELECT total_changes()").fetch_one(db).await.ok()
}
