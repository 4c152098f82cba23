//! SQLite: the embedded default. WAL mode, `synchronous=FULL`, so that accepted means on the disk.
//!
//! Several processes on one machine may share a data directory: each write takes SQLite's write lock, lanes have leases.
//! A network file system is refused, because its locks cannot be trusted.

mod claim;
mod enqueue;
mod hold;
mod inbound;
mod leases;
mod outbox;
mod retention;
mod trail;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, SqliteConnection, SqlitePool};
use tokio::time::Instant;

use self::writer::{BoxFuture, Writer};
use super::StoreError;
use super::trail::{Book, Pen, Seal, Settings};

/// The database's name in the data directory.
const FILE: &str = "herald.db";
/// How long a process waits for another one's write.
const BUSY: Duration = Duration::from_secs(5);
/// Each brings the schema to its own number (`PRAGMA user_version`).
const MIGRATIONS: [&str; 8] = [
    include_str!("migrations/1.sql"),
    include_str!("migrations/2.sql"),
    include_str!("migrations/3.sql"),
    include_str!("migrations/4.sql"),
    include_str!("migrations/5.sql"),
    include_str!("migrations/6.sql"),
    include_str!("migrations/7.sql"),
    include_str!("migrations/8.sql"),
];

/// The store in one SQLite database.
pub struct Sqlite {
    writer: Writer,
    /// `None` in memory, where the one connection is the database.
    readers: Option<SqlitePool>,
    /// What seals the audit trail.
    seal: Seal,
    book: Arc<Book>,
}

impl Sqlite {
    /// A store that ends with this process.
    ///
    /// # Errors
    /// When SQLite cannot start.
    pub async fn in_memory() -> Result<Self, StoreError> {
        Self::in_memory_with(&Settings::default()).await
    }

    /// The same, with an audit trail that is written like this.
    ///
    /// # Errors
    /// When SQLite cannot start.
    pub async fn in_memory_with(audit: &Settings) -> Result<Self, StoreError> {
        let mut db = SqliteConnectOptions::new().in_memory(true).connect().await?;
        migrate(&mut db).await?;
        Self::start(db, None, audit)
    }

    fn start(
        db: SqliteConnection,
        readers: Option<SqlitePool>,
        audit: &Settings,
    ) -> Result<Self, StoreError> {
        let book = Arc::default();
        let writer = Writer::start(db, Pen::new(audit, &book))?;
        Ok(Self { writer, readers, seal: Seal::new(audit.key.as_ref()), book })
    }

    /// Whether there is a store in `directory`. Makes nothing.
    #[must_use]
    pub fn is_in(directory: &Path) -> bool {
        directory.join(FILE).exists()
    }

    /// The store in `directory`, which is made if it does not exist.
    ///
    /// # Errors
    /// When the directory cannot be made or written, is on a network file system, or the database was written by a
    /// newer Herald.
    pub async fn open(directory: &Path) -> Result<Self, StoreError> {
        Self::open_with(directory, &Settings::default()).await
    }

    /// The same, with an audit trail that is written like this.
    ///
    /// # Errors
    /// Those of [`Sqlite::open`].
    pub async fn open_with(directory: &Path, audit: &Settings) -> Result<Self, StoreError> {
        prepare(directory)?;
        let options = SqliteConnectOptions::new()
            .filename(directory.join(FILE))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            // What was expunged is not to be read in the file either.
            .pragma("secure_delete", "ON")
            .busy_timeout(BUSY)
            .foreign_keys(true);
        let unusable = |error: sqlx::Error| {
            StoreError::DataDirectory(format!(
                "the data directory {} cannot be used ({error}): give a writable one with --data-dir (HERALD_DATA_DIR)",
                directory.display()
            ))
        };
        create(&directory.join(FILE)).map_err(|error| unusable(error.into()))?;
        let (db, readers) = connect(options).await.map_err(|error| match error {
            StoreError::Database(error) => unusable(error),
            other => other,
        })?;
        Self::start(db, Some(readers), audit)
    }

    /// Runs `work` on a snapshot of what is committed.
    async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, StoreError>>
            + Send
            + 'static,
    {
        match &self.readers {
            Some(pool) => work(&mut *pool.acquire().await?).await,
            None => self.writer.read(work).await,
        }
    }
}

/// Opens the database, for writing and for reading, and brings it up to date. Several processes may come and go at once,
/// and what has to do with the mode of the journal does not wait for another one by itself.
async fn connect(
    options: SqliteConnectOptions,
) -> Result<(SqliteConnection, SqlitePool), StoreError> {
    let give_up = Instant::now() + BUSY;
    loop {
        let opened = async {
            let mut writing = options.clone();
            // Only an empty file can learn to give room back, when the retention asks for it.
            if std::fs::metadata(options.get_filename()).is_ok_and(|file| file.len() == 0) {
                writing = writing.auto_vacuum(SqliteAutoVacuum::Incremental);
            }
            let mut db = writing.connect().await?;
            migrate(&mut db).await?;
            let readers = SqlitePoolOptions::new()
                .max_connections(2)
                // A file does not hang up.
                .test_before_acquire(false)
                .connect_with(options.clone().read_only(true).create_if_missing(false))
                .await?;
            Ok((db, readers))
        };
        match opened.await {
            Err(StoreError::Database(error)) if is_busy(&error) && Instant::now() < give_up => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            opened => return opened,
        }
    }
}

/// `SQLITE_BUSY` and its kinds: <https://www.sqlite.org/rescode.html#busy>.
fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.and_then(|code| code.parse::<u32>().ok()).is_some_and(|code| code & 0xFF == 5)
}

async fn migrate(db: &mut SqliteConnection) -> Result<(), StoreError> {
    // The lock first: several processes may start at once.
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *db).await?;
    let version: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut *db).await?;
    let version = usize::try_from(version).unwrap_or(usize::MAX);
    let Some(missing) = MIGRATIONS.get(version..) else {
        return Err(StoreError::DataDirectory(format!(
            "the database was written by a newer Herald (schema {version}, this one knows {}): use that version",
            MIGRATIONS.len()
        )));
    };
    for migration in missing {
        sqlx::raw_sql(*migration).execute(&mut *db).await?;
    }
    let to = sqlx::AssertSqlSafe(format!("PRAGMA user_version = {}", MIGRATIONS.len()));
    sqlx::query(to).execute(&mut *db).await?;
    sqlx::query("COMMIT").execute(&mut *db).await?;
    Ok(())
}

/// Makes the directory, readable by its owner alone, and refuses one that cannot keep a database safe.
fn prepare(directory: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::DirBuilderExt;
    let shown = directory.display();
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|error| {
        StoreError::DataDirectory(format!(
            "the data directory {shown} cannot be made ({error}): give a writable one with --data-dir (HERALD_DATA_DIR)"
        ))
    })?;
    let kind = rustix::fs::statfs(directory)
        .map_err(|error| {
            StoreError::DataDirectory(format!(
                "the data directory {shown} cannot be read ({error}): give another one with --data-dir (HERALD_DATA_DIR)"
            ))
        })?
        .f_type;
    match network_file_system(i128::from(kind)) {
        Some(name) => Err(StoreError::DataDirectory(format!(
            "the data directory {shown} is on a network file system ({name}), whose locks cannot be trusted: \
             use a local disk with --data-dir (HERALD_DATA_DIR)"
        ))),
        None => Ok(()),
    }
}

/// Makes the database's file, readable by its owner alone: SQLite gives its other files the same mode.
fn create(file: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// The name of a network file system, by the magic number of `statfs(2)`.
fn network_file_system(kind: i128) -> Option<&'static str> {
    // Some machines sign-extend the 32-bit number.
    match kind & 0xFFFF_FFFF {
        0x6969 => Some("NFS"),
        0xFF53_4D42 | 0x517B => Some("CIFS"),
        0xFE53_4D42 => Some("SMB"),
        0x0102_1997 => Some("9p"),
        0x00C3_6400 => Some("CephFS"),
        0x5346_414F => Some("AFS"),
        0x0BD0_0BD0 => Some("Lustre"),
        _ => None,
    }
}

#[cfg(test)]
impl Sqlite {
    /// Makes a channel's deliveries unreadable.
    pub(crate) async fn damage(&self, channel: &str) {
        let lane = format!("slack:{channel}");
        self.writer
            .write(move |db| {
                Box::pin(async move {
                    let sql = "UPDATE deliveries SET steps = 'damaged' WHERE lane = ?1";
                    sqlx::query(sql).bind(lane).execute(db).await?;
                    Ok(())
                })
            })
            .await
            .unwrap();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Outbox, contract};

    #[tokio::test]
    async fn keeps_the_contract_in_memory() {
        contract::outbox::suite(async || Sqlite::in_memory().await.unwrap()).await;
    }

    #[tokio::test]
    async fn keeps_the_contract_on_disk() {
        let directory = tempfile::tempdir().unwrap();
        let count = std::sync::atomic::AtomicU32::new(0);
        contract::outbox::suite(async || {
            let n = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            Sqlite::open(&directory.path().join(n.to_string())).await.unwrap()
        })
        .await;
    }

    #[tokio::test]
    async fn what_was_accepted_is_there_after_a_restart_and_for_another_process() {
        let directory = tempfile::tempdir().unwrap();
        let (a, b) = (
            Sqlite::open(directory.path()).await.unwrap(),
            Sqlite::open(directory.path()).await.unwrap(),
        );
        let id = contract::outbox::one_queued(&a).await;
        assert!(b.delivery(id).await.unwrap().is_some());
        a.close().await;
        b.close().await;
        drop((a, b));
        let again = Sqlite::open(directory.path()).await.unwrap();
        assert!(again.delivery(id).await.unwrap().is_some());
    }

    /// Lets the database have so many pages, or as many as it has.
    async fn most_pages(store: &Sqlite, most: u32) {
        let sql = sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {most}"));
        let set = store.writer.write(move |db| {
            Box::pin(async move {
                sqlx::query(sql).execute(db).await?;
                Ok(())
            })
        });
        set.await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn many_may_come_and_go_on_a_directory_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let guests = (0..8).map(|_| {
            let path = directory.path().to_owned();
            tokio::spawn(async move {
                for _ in 0..25 {
                    Sqlite::open(&path).await.unwrap().close().await;
                }
            })
        });
        for guest in futures_util::future::join_all(guests).await {
            guest.unwrap();
        }
    }

    #[tokio::test]
    async fn a_full_disk_is_an_error_that_loses_nothing_and_passes() {
        let directory = tempfile::tempdir().unwrap();
        let store = Sqlite::open(directory.path()).await.unwrap();
        // SQLite answers a full disk and a full page count alike: SQLITE_FULL.
        most_pages(&store, 48).await;
        let mut accepted = Vec::new();
        let error = loop {
            match contract::outbox::try_queue(&store, &"x".repeat(2_000)).await {
                Ok(id) => accepted.push(id),
                Err(error) => break error.to_string(),
            }
        };
        assert!(error.contains("full"), "{error}");
        assert!(!accepted.is_empty());
        for id in accepted {
            assert!(store.delivery(id).await.unwrap().is_some());
        }
        most_pages(&store, 1_000_000).await;
        contract::outbox::try_queue(&store, "there is room again").await.unwrap();
    }

    #[test]
    fn a_network_file_system_is_known_by_its_number() {
        assert_eq!(network_file_system(0x6969), Some("NFS"));
        assert_eq!(network_file_system(i128::from(0xFF53_4D42_u32 as i32)), Some("CIFS"));
        assert_eq!(network_file_system(0xEF53), None, "ext4");
        assert_eq!(network_file_system(0x0102_1994), None, "tmpfs");
    }

    #[tokio::test]
    async fn a_database_of_a_newer_herald_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        drop(Sqlite::open(directory.path()).await.unwrap());
        let options = SqliteConnectOptions::new().filename(directory.path().join(FILE));
        let mut db = options.connect().await.unwrap();
        sqlx::query("PRAGMA user_version = 99").execute(&mut db).await.unwrap();
        let error = Sqlite::open(directory.path()).await.err().unwrap().to_string();
        assert!(error.contains("newer Herald (schema 99"), "{error}");
    }

    #[tokio::test]
    async fn what_an_older_herald_stored_is_sent() {
        let directory = tempfile::tempdir().unwrap();
        let options = SqliteConnectOptions::new()
            .filename(directory.path().join(FILE))
            .create_if_missing(true);
        let mut db = options.connect().await.unwrap();
        for migration in &MIGRATIONS[..2] {
            sqlx::raw_sql(*migration).execute(&mut db).await.unwrap();
        }
        let old = "PRAGMA user_version = 2;
            INSERT INTO lanes (lane, platform, pending, interval_ms, burst) VALUES ('slack:C0A', 'slack', 1, 0, 1);
            INSERT INTO deliveries (id, client, submitter, lane, placement, steps, state, content_hash, deadline, created_at)
            VALUES ('01890a5d-ac96-774b-bcce-b302099a8057', 'agent', 'p1', 'slack:C0A', '{}', '[]', 'queued', 'h', 1, 0);";
        sqlx::raw_sql(old).execute(&mut db).await.unwrap();
        drop(db);
        let store = Sqlite::open(directory.path()).await.unwrap();
        let filter = crate::store::Filter { most: 10, ..Default::default() };
        let listed = store.list(&filter).await.unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!((listed[0].client.as_str(), &listed[0].traceparent), ("agent", &None));
    }

    #[tokio::test]
    async fn a_file_where_the_directory_should_be_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Sqlite::open(file.path()).await.err().unwrap().to_string();
        assert!(error.contains(file.path().to_str().unwrap()), "{error}");
        assert!(error.contains("--data-dir"), "{error}");
    }

    #[tokio::test]
    async fn one_unreadable_row_does_not_hide_the_others() {
        let store = Sqlite::in_memory().await.unwrap();
        let damaged = contract::outbox::one_queued(&store).await;
        store.damage("C0A").await;
        let whole = contract::outbox::try_queue(&store, "whole").await.unwrap();
        let filter = crate::store::Filter { most: 10, ..Default::default() };
        let listed = store.list(&filter).await.unwrap();
        let ids: Vec<_> = listed.iter().map(|delivery| delivery.id).collect();
        assert_eq!(ids, [whole]);
        assert!(
            store.delivery(damaged).await.is_err(),
            "asked for by its ID, it says what is wrong"
        );
    }

    #[tokio::test]
    async fn only_its_owner_reads_the_database() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let store = Sqlite::open(directory.path()).await.unwrap();
        contract::outbox::one_queued(&store).await;
        let files: Vec<_> =
            std::fs::read_dir(directory.path()).unwrap().map(Result::unwrap).collect();
        assert!(files.len() >= 2, "the database and its log");
        for file in files {
            let mode = file.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}", file.path().display());
        }
    }

    #[tokio::test]
    async fn a_full_disk_shows_before_anything_was_refused() {
        let directory = tempfile::tempdir().unwrap();
        let store = Sqlite::open(directory.path()).await.unwrap();
        contract::outbox::one_queued(&store).await;
        // As small as it can be: what it has now.
        most_pages(&store, 1).await;
        let error = store.check_writable().await.unwrap_err().to_string();
        assert!(error.contains("full"), "{error}");
    }

    #[tokio::test]
    async fn a_refused_change_shows_until_one_is_stored() {
        let directory = tempfile::tempdir().unwrap();
        let store = Sqlite::open(directory.path()).await.unwrap();
        store.check_writable().await.unwrap();
        most_pages(&store, 48).await;
        while contract::outbox::try_queue(&store, &"x".repeat(2_000)).await.is_ok() {}
        let error = store.check_writable().await.unwrap_err().to_string();
        assert!(error.contains("full"), "{error}");
        most_pages(&store, 1_000_000).await;
        assert!(store.check_writable().await.is_err(), "within a second nothing is tried");
        contract::outbox::try_queue(&store, "there is room again").await.unwrap();
        store.check_writable().await.unwrap();
    }

    #[tokio::test]
    async fn room_shows_although_nobody_sends() {
        let directory = tempfile::tempdir().unwrap();
        let store = Sqlite::open(directory.path()).await.unwrap();
        most_pages(&store, 48).await;
        while contract::outbox::try_queue(&store, &"x".repeat(2_000)).await.is_ok() {}
        assert!(store.check_writable().await.is_err());
        most_pages(&store, 1_000_000).await;
        store.writer.health().probed = None;
        store.check_writable().await.unwrap();
    }

    #[tokio::test]
    async fn a_probe_that_fails_costs_no_other_change() {
        let directory = tempfile::tempdir().unwrap();
        let store = Sqlite::open(directory.path()).await.unwrap();
        most_pages(&store, 1).await;
        let small = "INSERT INTO credentials (platform) VALUES ('slack')";
        let changes = store.writer.write(move |db| {
            Box::pin(async move {
                sqlx::query(small).execute(&mut *db).await?;
                assert!(outbox::probe(db).await.is_err());
                Ok(())
            })
        });
        changes.await.unwrap();
        let kept = store.read(|db| {
            Box::pin(async move {
                let count = "SELECT count(*) FROM credentials";
                Ok(sqlx::query_scalar::<_, i64>(count).fetch_one(db).await?)
            })
        });
        assert_eq!(kept.await.unwrap(), 1);
    }
}
