//! One connection writes, and commits together what arrives together: a commit costs a disk flush, whether it holds one
//! change or a hundred.
//!
//! sqlx talks to SQLite on a thread of its own, and going there and back takes longer than most statements do. So what is
//! done with every message are [`Script`]s, and a transaction begins in the same go as the first of them and ends in that of
//! the last. The writer has a thread of its own, too, where no other task keeps it waiting.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::TryStreamExt;
use sqlx::error::ErrorKind;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{AssertSqlSafe, Connection, Either, Execute, Executor, Row, Sqlite, SqliteConnection};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::store::StoreError;
use crate::store::trail::Pen;

/// The most changes in one commit, so that the first does not wait for ever.
const MOST_PER_COMMIT: usize = 256;
/// How many changes may wait before callers are held back.
const QUEUE: usize = 1024;
/// What goes before the first statement of a change that is alone in its commit, and of one among others: the first, and
/// one after a change that succeeded.
const ALONE: &str = "BEGIN IMMEDIATE; ";
const AMONG_OTHERS: &str = "SAVEPOINT change; ";
const AFTER_ANOTHER: &str = "RELEASE change; SAVEPOINT change; ";
/// Ends a commit, and tells how many rows this connection has changed so far.
const COMMIT: &str = "COMMIT; SELECT total_changes()";

pub(super) type BoxFuture<'c, T> = Pin<Box<dyn Future<Output = T> + Send + 'c>>;

/// Statements that share their arguments: `?1` is the same in each.
pub(super) type Script = Query<'static, Sqlite, SqliteArguments>;

/// What a script did.
#[derive(Default)]
pub(super) struct Ran {
    /// The rows of each statement.
    pub(super) rows: Vec<Vec<SqliteRow>>,
    /// How many rows the last `INSERT`, `UPDATE` or `DELETE` changed.
    pub(super) changed: u64,
}

/// The transaction of a change.
pub(super) struct Tx<'c> {
    db: &'c mut SqliteConnection,
    /// What writes the audit trail.
    pub(super) pen: &'c mut Pen,
    /// Nothing else is in its commit.
    alone: bool,
    /// What begins it; empty once it has begun.
    begin: &'static str,
    /// Where it committed by itself: how many rows this connection had changed by then.
    committed: Option<i64>,
}

impl Tx<'_> {
    /// The connection, in the transaction.
    pub(super) async fn db(&mut self) -> Result<&mut SqliteConnection, sqlx::Error> {
        if !self.begin.is_empty() {
            self.db.execute(std::mem::take(&mut self.begin)).await?;
        }
        Ok(self.db)
    }

    /// Runs a script in one go.
    pub(super) async fn run(&mut self, script: Script) -> Result<Ran, sqlx::Error> {
        self.run_and(script, "").await
    }

    /// Runs a script after which nothing follows as a rule, and commits in the same go where nothing else waits. What
    /// follows all the same is a transaction of its own.
    pub(super) async fn run_last(&mut self, script: Script) -> Result<Ran, sqlx::Error> {
        if !self.alone {
            return self.run(script).await;
        }
        let mut ran = self.run_and(script, COMMIT).await?;
        let total = ran.rows.pop().unwrap_or_default();
        self.committed = total.first().map(|row| row.try_get(0)).transpose()?;
        self.begin = ALONE;
        Ok(ran)
    }

    async fn run_and(&mut self, mut script: Script, end: &str) -> Result<Ran, sqlx::Error> {
        let arguments = script.take_arguments().map_err(sqlx::Error::Encode)?;
        let begin = std::mem::take(&mut self.begin);
        let sql = format!("{begin}{}; {end}", script.sql().as_str());
        let mut results = self.db.fetch_many((AssertSqlSafe(sql), arguments));
        let (mut ran, mut rows) = (Ran::default(), Vec::new());
        while let Some(result) = results.try_next().await? {
            match result {
                Either::Left(done) => {
                    ran.changed = done.rows_affected();
                    ran.rows.push(std::mem::take(&mut rows));
                }
                Either::Right(row) => rows.push(row),
            }
        }
        Ok(ran)
    }
}

/// A change that waits for its commit.
trait Job: Send {
    fn run<'c>(&'c mut self, tx: &'c mut Tx<'_>) -> BoxFuture<'c, bool>;
    /// Whether it changes nothing, so that it needs no transaction.
    fn only_reads(&self) -> bool;
    /// Why the database would not store it.
    fn refused(&self) -> Option<String>;
    fn finish(self: Box<Self>, committed: Result<(), StoreError>);
}

struct Change<T, F> {
    work: Option<F>,
    only_reads: bool,
    outcome: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Job for Change<T, F>
where
    T: Send + 'static,
    F: for<'c> FnOnce(&'c mut Tx<'_>) -> BoxFuture<'c, Result<T, StoreError>> + Send,
{
    fn run<'c>(&'c mut self, tx: &'c mut Tx<'_>) -> BoxFuture<'c, bool> {
        Box::pin(async move {
            if let Some(work) = self.work.take() {
                self.outcome = Some(work(tx).await);
            }
            matches!(self.outcome, Some(Ok(_)))
        })
    }

    fn only_reads(&self) -> bool {
        self.only_reads
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

/// A handle on the writing thread.
#[derive(Clone)]
pub(super) struct Writer {
    jobs: mpsc::Sender<Box<dyn Job>>,
    health: Arc<Mutex<Health>>,
}

impl Writer {
    /// Starts the thread; it ends with the last handle.
    pub(super) fn start(db: SqliteConnection, pen: Pen) -> Result<Self, StoreError> {
        let (jobs, waiting) = mpsc::channel(QUEUE);
        let health = Arc::<Mutex<Health>>::default();
        let (told, runtime) = (Arc::clone(&health), Handle::current());
        std::thread::Builder::new()
            .name("herald-store".to_owned())
            .spawn(move || runtime.block_on(commit_in_groups(db, pen, waiting, told)))
            .map_err(sqlx::Error::Io)?;
        Ok(Self { jobs, health })
    }

    pub(super) fn health(&self) -> MutexGuard<'_, Health> {
        locked(&self.health)
    }

    /// Runs `work` inside a transaction, and returns once that is committed. If `work` fails, what it did is undone.
    pub(super) async fn transact<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Tx<'_>) -> BoxFuture<'c, Result<T, StoreError>> + Send + 'static,
    {
        self.submit(work, false).await
    }

    /// The same for work that knows nothing of scripts.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, StoreError>>
            + Send
            + 'static,
    {
        self.submit(|tx| Box::pin(async move { work(tx.db().await?).await }), false).await
    }

    /// Runs `work`, which changes nothing.
    pub(super) async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, StoreError>>
            + Send
            + 'static,
    {
        self.submit(|tx| Box::pin(async move { work(tx.db().await?).await }), true).await
    }

    async fn submit<T, F>(&self, work: F, only_reads: bool) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Tx<'_>) -> BoxFuture<'c, Result<T, StoreError>> + Send + 'static,
    {
        let (reply, committed) = oneshot::channel();
        let job = Box::new(Change { work: Some(work), only_reads, outcome: None, reply });
        self.jobs.send(job).await.map_err(|_| StoreError::Closed)?;
        committed.await.map_err(|_| StoreError::Closed)?
    }
}

fn locked(health: &Mutex<Health>) -> MutexGuard<'_, Health> {
    health.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn commit_in_groups(
    mut db: SqliteConnection,
    mut pen: Pen,
    mut waiting: mpsc::Receiver<Box<dyn Job>>,
    health: Arc<Mutex<Health>>,
) {
    let mut group = Vec::with_capacity(MOST_PER_COMMIT);
    let mut so_far = changes(&mut db).await;
    while waiting.recv_many(&mut group, MOST_PER_COMMIT).await > 0 {
        let end = commit(&mut db, &mut pen, &mut group).await;
        let before = so_far;
        match &end {
            Ok(End::Nothing) => {}
            Ok(End::Committed(changes)) => so_far = Some(*changes),
            // What was undone counts, too.
            Ok(End::Undone) | Err(_) => so_far = changes(&mut db).await,
        }
        match end {
            Ok(end) => {
                let refused = group.iter().find_map(|job| job.refused());
                // A commit that changed nothing needed no room, and proves nothing.
                let stored = matches!(end, End::Committed(_)) && so_far != before;
                if refused.is_some() || stored {
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

/// How many rows this connection has changed so far.
async fn changes(db: &mut SqliteConnection) -> Option<i64> {
    sqlx::query_scalar("SELECT total_changes()").fetch_one(db).await.ok()
}

/// How a group ended.
enum End {
    /// There was nothing to commit.
    Nothing,
    /// All of it was undone.
    Undone,
    /// It is committed. So many rows were changed so far.
    Committed(i64),
}

async fn commit(
    db: &mut SqliteConnection,
    pen: &mut Pen,
    group: &mut [Box<dyn Job>],
) -> Result<End, sqlx::Error> {
    let ended = async {
        let end = match group {
            [job] => run_alone(db, pen, job.as_mut()).await,
            several => run_together(db, pen, several).await?,
        };
        if let Some(end) = end {
            return Ok(end);
        }
        sqlx::query_scalar(COMMIT).fetch_one(&mut *db).await.map(End::Committed)
    }
    .await;
    if matches!(ended, Ok(End::Undone) | Err(_)) {
        // Fails where SQLite has rolled back by itself (disk full), which is just as well.
        let _ = db.execute("ROLLBACK").await;
        pen.doubt();
    } else {
        pen.keep();
    }
    ended
}

/// How it ended, or `None` if it is to be committed.
async fn run_alone(db: &mut SqliteConnection, pen: &mut Pen, job: &mut dyn Job) -> Option<End> {
    let begin = if job.only_reads() { "" } else { ALONE };
    let mut tx = Tx { db, pen, alone: true, begin, committed: None };
    let succeeded = job.run(&mut tx).await;
    // Where it has not begun, or not again, there is nothing left to commit.
    if tx.begin == begin {
        return Some(tx.committed.map_or(End::Nothing, End::Committed));
    }
    (!succeeded).then_some(End::Undone)
}

/// How they ended, or `None` if they are to be committed.
async fn run_together(
    db: &mut SqliteConnection,
    pen: &mut Pen,
    group: &mut [Box<dyn Job>],
) -> Result<Option<End>, sqlx::Error> {
    let writes = group.iter().any(|job| !job.only_reads());
    if writes {
        db.execute("BEGIN IMMEDIATE").await?;
    }
    let mut begin = AMONG_OTHERS;
    for job in group {
        if job.only_reads() {
            job.run(&mut Tx { db, pen, alone: false, begin: "", committed: None }).await;
            continue;
        }
        let mark = pen.mark();
        let mut tx = Tx { db, pen, alone: false, begin, committed: None };
        let succeeded = job.run(&mut tx).await;
        // One that did nothing needs no end.
        if tx.begin == begin {
            continue;
        }
        begin = AFTER_ANOTHER;
        if !succeeded {
            db.execute("ROLLBACK TO change; RELEASE change").await?;
            pen.back(mark);
            begin = AMONG_OTHERS;
        }
    }
    Ok((!writes).then_some(End::Nothing))
}
