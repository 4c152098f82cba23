//! What the disk and SQLite alone take for what Herald stores of a message: three transactions (accepted, being sent,
//! settled), `synchronous=FULL`.

use std::path::Path;
use std::time::{Duration, Instant};

use herald::store::Outbox;
use herald::store::sqlite::Sqlite;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, QueryBuilder, Row, SqliteConnection};
use uuid::Uuid;

use super::{AT_ONCE, channel, median};

/// How many transactions a message takes.
const TRANSACTIONS: usize = 3;

async fn connect(file: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    options.connect().await.unwrap()
}

/// Nothing but commits.
pub struct Commits(SqliteConnection);

impl Commits {
    pub async fn open(directory: &Path) -> Self {
        let mut db = connect(&directory.join("commits.db")).await;
        sqlx::query("CREATE TABLE row (text)").execute(&mut db).await.unwrap();
        Self(db)
    }

    /// The median of what the transactions of one message take.
    pub async fn one_by_one(&mut self, messages: usize) -> Duration {
        let mut took = Vec::with_capacity(messages);
        for _ in 0..messages {
            let since = Instant::now();
            for _ in 0..TRANSACTIONS {
                let insert = sqlx::query("INSERT INTO row VALUES (?1)").bind("x".repeat(500));
                insert.execute(&mut self.0).await.unwrap();
            }
            took.push(since.elapsed());
        }
        median(took)
    }
}

/// The same transactions in bulk: [`AT_ONCE`] messages in each, written as if by one who knows them all beforehand.
pub struct Bulk {
    db: SqliteConnection,
    /// A settled message as Herald stored it.
    like: Like,
}

struct Like {
    steps: String,
    content_hash: String,
    messages: String,
    permalink: Option<String>,
}

impl Bulk {
    /// A database of its own in `directory`, filled with what Herald stored in `herald`, over and over.
    pub async fn open(directory: &Path, herald: &Path) -> Self {
        let sql = "SELECT steps, content_hash, messages, permalink FROM deliveries
                   WHERE state = 'delivered' ORDER BY seq DESC LIMIT 1";
        let mut stored = connect(&herald.join("herald.db")).await;
        let row = sqlx::query(sql).fetch_one(&mut stored).await.unwrap();
        let like = Like {
            steps: row.get("steps"),
            content_hash: row.get("content_hash"),
            messages: row.get("messages"),
            permalink: row.get("permalink"),
        };
        // Herald's own schema, indexes and all.
        Sqlite::open(directory).await.unwrap().close().await;
        Self { db: connect(&directory.join("herald.db")).await, like }
    }

    /// What so many groups of [`AT_ONCE`] messages take.
    pub async fn groups(&mut self, groups: usize) -> Duration {
        let since = Instant::now();
        for _ in 0..groups {
            self.group().await;
        }
        since.elapsed()
    }

    async fn group(&mut self) {
        self.begin().await;
        let mut lanes =
            QueryBuilder::new("INSERT INTO lanes (lane, platform, pending, interval_ms, burst) ");
        lanes.push_values(0..AT_ONCE, |mut row, n| {
            row.push_bind(format!("slack:{}", channel(n))).push("'slack', 1, 0, 1");
        });
        lanes.push(" ON CONFLICT (lane) DO UPDATE SET pending = pending + 1");
        lanes.build().execute(&mut self.db).await.unwrap();
        let mut rows = QueryBuilder::new(
            "INSERT INTO deliveries (id, client, submitter, lane, placement, steps, state, content_hash, deadline, created_at) ",
        );
        rows.push_values(0..AT_ONCE, |mut row, n| {
            row.push_bind(Uuid::now_v7().to_string())
                .push("'anonymous', 'bulk'")
                .push_bind(format!("slack:{}", channel(n)))
                .push("'{}'")
                .push_bind(&self.like.steps)
                .push("'queued'")
                .push_bind(&self.like.content_hash)
                .push("1, 1");
        });
        let last = rows.build().execute(&mut self.db).await.unwrap().last_insert_rowid();
        self.commit().await;
        let first = last - AT_ONCE as i64 + 1;

        self.begin().await;
        self.run("UPDATE lanes SET epoch = epoch + 1, owner = 'bulk', lease_until = 1").await;
        let sending = "UPDATE deliveries SET state = 'sending', attempts = 1 WHERE seq >= ?1";
        sqlx::query(sending).bind(first).execute(&mut self.db).await.unwrap();
        self.commit().await;

        self.begin().await;
        self.run("UPDATE lanes SET pending = pending - 1, owner = NULL, lease_until = 0").await;
        let settled =
            "UPDATE deliveries SET state = 'delivered', cursor = 1, messages = ?2, permalink = ?3,
                           finished_at = 1 WHERE seq >= ?1";
        sqlx::query(settled)
            .bind(first)
            .bind(&self.like.messages)
            .bind(&self.like.permalink)
            .execute(&mut self.db)
            .await
            .unwrap();
        self.commit().await;
    }

    async fn begin(&mut self) {
        self.run("BEGIN IMMEDIATE").await;
    }

    async fn commit(&mut self) {
        self.run("COMMIT").await;
    }

    async fn run(&mut self, sql: &'static str) {
        sqlx::query(sql).execute(&mut self.db).await.unwrap();
    }
}
