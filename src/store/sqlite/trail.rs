//! The audit trail on SQLite. What describes a change is one more statement of its script: going to SQLite once more would
//! cost more than the row does.

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row as _, SqliteConnection};

use super::writer::{Script, Tx};
use super::{Sqlite, StoreError};
use crate::clock::Timestamp;
use crate::model::audit::{Entry, Head};
use crate::store::Trail;
use crate::store::rows::{audit, chain, count, to_json};
use crate::store::trail::{
    Book, Chain, Draft, MOST_HEADS, Page, Position, Row, Seal, due, forgettable,
};

/// What follows the other statements of a script, of which the last changed something or, if that does not matter, did not:
/// what the trail says about it, `?1`, and the end of the chain. The first argument, because sqlx counts those that a
/// statement leaves out.
pub(super) fn append(if_changed: bool) -> String {
    let condition = if if_changed { "changes() > 0" } else { "TRUE" };
    format!(
        "; INSERT INTO audit (chain, n, line, prev, hash)
           SELECT ?1 ->> 'chain', row.value ->> 0, row.value ->> 1, row.value ->> 2, row.value ->> 3
           FROM json_each(?1, '$.rows') AS row WHERE {condition};
         INSERT INTO audit_chains (chain, n, hash, seal, key, at, base_n, base_hash, base_seal)
           SELECT ?1 ->> 'chain', ?1 ->> 'n', ?1 ->> 'hash', ?1 ->> 'seal', ?1 ->> 'key', ?1 ->> 'at', 0, ?1 ->> 'base',
               ?1 ->> 'base_seal'
           WHERE changes() > 0
           ON CONFLICT (chain) DO UPDATE SET n = excluded.n, hash = excluded.hash, seal = excluded.seal, at = excluded.at"
    )
}

/// The argument.
pub(super) fn argument(draft: &Draft) -> Result<String, StoreError> {
    let rows: Vec<_> =
        draft.rows.iter().map(|row| (row.n, &row.line, &row.prev, &row.hash)).collect();
    to_json(&serde_json::json!({
        "rows": rows,
        "chain": draft.chain,
        "n": draft.n,
        "hash": draft.hash,
        "seal": draft.seal,
        "key": draft.key,
        "at": draft.at.0,
        "base": crate::store::trail::ZERO,
        "base_seal": draft.base_seal,
    }))
}

impl Tx<'_> {
    /// The rows of what is about to be written.
    pub(super) async fn draft(
        &mut self,
        entries: Vec<Entry>,
        at: Timestamp,
    ) -> Result<Draft, StoreError> {
        let position = self.position().await?;
        self.pen.draft(&position, entries, at)
    }

    /// Where the chain ends that is written.
    async fn position(&mut self) -> Result<Position, StoreError> {
        if let Some(position) = self.pen.position() {
            return Ok(position.clone());
        }
        let chain = self.pen.chain().to_owned();
        let stored = end(self.db().await?, &chain).await?;
        if let Some(position) = self.pen.go_on(stored.as_ref()) {
            return Ok(position);
        }
        let others = others(self.db().await?).await?;
        Ok(self.pen.begin(others))
    }

    /// Writes entries after other statements of the same change.
    pub(super) async fn note(
        &mut self,
        entries: Vec<Entry>,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        if entries.is_empty() {
            return Ok(());
        }
        let draft = self.draft(entries, at).await?;
        self.run_last(noting(&draft)?).await?;
        self.pen.wrote(draft);
        Ok(())
    }
}

fn noting(draft: &Draft) -> Result<Script, StoreError> {
    let sql = append(false);
    let sql = sql.trim_start_matches("; ").to_owned();
    Ok(sqlx::query(AssertSqlSafe(sql)).bind(argument(draft)?))
}

/// Where a chain ends, if it is there.
async fn end(db: &mut SqliteConnection, chain: &str) -> Result<Option<Head>, StoreError> {
    let row = sqlx::query("SELECT chain, n, hash FROM audit_chains WHERE chain = ?1")
        .bind(chain)
        .fetch_optional(db)
        .await?;
    Ok(row.as_ref().map(head).transpose()?)
}

/// What the others ended with, before the first row of a chain.
async fn others(db: &mut SqliteConnection) -> Result<Vec<Head>, StoreError> {
    let found = sqlx::query(
        "SELECT chain, n, hash FROM audit_chains WHERE base_n < n ORDER BY chain DESC LIMIT ?1",
    )
    .bind(MOST_HEADS)
    .fetch_all(db)
    .await?;
    Ok(found.iter().map(head).collect::<Result<_, _>>()?)
}

fn head(row: &SqliteRow) -> Result<Head, sqlx::Error> {
    let n = count(row.try_get("n")?);
    Ok(Head { chain: row.try_get("chain")?, n, hash: row.try_get("hash")? })
}

#[async_trait]
impl Trail for Sqlite {
    async fn note(&self, entries: Vec<Entry>, at: Timestamp) -> Result<(), StoreError> {
        self.writer.transact(move |tx| Box::pin(async move { tx.note(entries, at).await })).await
    }

    async fn chains(&self) -> Result<Vec<Chain>, StoreError> {
        self.read(|db| Box::pin(chains(db))).await
    }

    async fn rows(&self, chain: &str, page: Page, most: u32) -> Result<Vec<Row>, StoreError> {
        let chain = chain.to_owned();
        self.read(move |db| Box::pin(async move { rows(db, chain, page, most).await })).await
    }

    fn book(&self) -> &Book {
        &self.book
    }

    async fn strays(&self) -> Result<Vec<String>, StoreError> {
        self.read(|db| {
            Box::pin(async move {
                let strays = "SELECT DISTINCT chain FROM audit WHERE chain NOT IN (SELECT chain FROM audit_chains)";
                Ok(sqlx::query_scalar(strays).fetch_all(db).await?)
            })
        })
        .await
    }

    async fn trim(&self, before: Timestamp, now: Timestamp, most: u32) -> Result<u64, StoreError> {
        let seal = self.seal.clone();
        self.writer
            .write(move |db| Box::pin(async move { trim(db, &seal, before, now, most).await }))
            .await
    }
}

async fn chains(db: &mut SqliteConnection) -> Result<Vec<Chain>, StoreError> {
    let found = sqlx::query("SELECT * FROM audit_chains ORDER BY chain").fetch_all(db).await?;
    found.iter().map(chain).collect()
}

async fn rows(
    db: &mut SqliteConnection,
    chain: String,
    page: Page,
    most: u32,
) -> Result<Vec<Row>, StoreError> {
    let (sql, from) = match page {
        Page::After(n) => {
            ("SELECT * FROM audit WHERE chain = ?1 AND n > ?2 ORDER BY n LIMIT ?3", n)
        }
        Page::Before(n) => {
            ("SELECT * FROM audit WHERE chain = ?1 AND n < ?2 ORDER BY n DESC LIMIT ?3", n)
        }
    };
    let found = sqlx::query(sql)
        .bind(chain)
        .bind(i64::try_from(from).unwrap_or(i64::MAX))
        .bind(most)
        .fetch_all(db)
        .await?;
    found.iter().map(audit).collect()
}

async fn trim(
    db: &mut SqliteConnection,
    seal: &Seal,
    before: Timestamp,
    now: Timestamp,
    most: u32,
) -> Result<u64, StoreError> {
    let all = chains(db).await?;
    for id in forgettable(&all, now) {
        sqlx::query("DELETE FROM audit_chains WHERE chain = ?1").bind(id).execute(&mut *db).await?;
    }
    let mut removed = 0;
    for chain in all {
        let left = most.saturating_sub(u32::try_from(removed).unwrap_or(u32::MAX));
        if left == 0 {
            break;
        }
        if !chain.may_be_trimmed(seal) {
            continue;
        }
        let oldest = rows(db, chain.id.clone(), Page::After(chain.base.n), left).await?;
        let Some(base) = due(&chain, &oldest, seal, before) else { continue };
        let n = i64::try_from(base.n).unwrap_or(i64::MAX);
        let gone = sqlx::query("DELETE FROM audit WHERE chain = ?1 AND n <= ?2")
            .bind(&chain.id)
            .bind(n)
            .execute(&mut *db)
            .await?;
        sqlx::query(
            "UPDATE audit_chains SET base_n = ?2, base_hash = ?3, base_seal = ?4,
                 at = CASE WHEN n = ?2 THEN ?5 ELSE at END
             WHERE chain = ?1",
        )
        .bind(&chain.id)
        .bind(n)
        .bind(base.hash)
        .bind(base.seal)
        .bind(now.0)
        .execute(&mut *db)
        .await?;
        removed += gone.rows_affected();
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use proptest::prelude::*;

    use super::*;
    use crate::model::audit::Act;
    use crate::store::contract;
    use crate::store::contract::audit::Intruder;
    use crate::store::trail::{Keys, Settings, verify};

    impl Intruder for Sqlite {
        const REFUSE: &'static str =
            "CREATE TRIGGER refuse BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no'); END";
        const ALLOW: &'static str = "DROP TRIGGER refuse";

        async fn run(&self, sql: &str) {
            let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
            let write = self.writer.write(move |db| {
                Box::pin(async move {
                    sql.execute(db).await?;
                    Ok(())
                })
            });
            write.await.unwrap();
        }
    }

    #[tokio::test]
    async fn keeps_the_contract_in_memory() {
        contract::audit::suite(async |settings: Settings| {
            Sqlite::in_memory_with(&settings).await.unwrap()
        })
        .await;
    }

    #[tokio::test]
    async fn keeps_the_contract_on_disk() {
        let directory = tempfile::tempdir().unwrap();
        let count = AtomicU32::new(0);
        contract::audit::suite(async |settings: Settings| {
            let n = count.fetch_add(1, Ordering::SeqCst);
            Sqlite::open_with(&directory.path().join(n.to_string()), &settings).await.unwrap()
        })
        .await;
        contract::audit::shared(async |mine: Settings, theirs: Settings| {
            let n = count.fetch_add(1, Ordering::SeqCst);
            let directory = directory.path().join(n.to_string());
            (
                Sqlite::open_with(&directory, &mine).await.unwrap(),
                Sqlite::open_with(&directory, &theirs).await.unwrap(),
            )
        })
        .await;
    }

    #[tokio::test]
    async fn a_commit_of_which_nobody_knew_counts_and_the_chain_goes_on() {
        let store = Sqlite::in_memory().await.unwrap();
        for second in 0..3 {
            let change = store.writer.transact::<(), _>(move |tx| {
                Box::pin(async move {
                    let entry = Entry::new(Act::RulesChanged);
                    // The last of a change: it is committed, and then the change fails all the same.
                    tx.note(vec![entry], Timestamp(second)).await?;
                    tx.db().await?;
                    Err(StoreError::Closed)
                })
            });
            change.await.unwrap_err();
        }
        store.note(vec![Entry::new(Act::RulesChanged)], Timestamp(3)).await.unwrap();
        let chains = store.chains().await.unwrap();
        assert_eq!(chains.iter().map(|chain| chain.n).collect::<Vec<_>>(), [5]);
        assert_eq!(verify(&store, &Keys::new(&[]), None).await.unwrap().findings, []);
    }

    /// What somebody does to a trail of some rows; numbers are taken modulo what there is.
    #[derive(Clone, Debug)]
    enum Mutation {
        Alter { n: u64, byte: usize },
        Delete { n: u64 },
        Swap { n: u64, other: u64 },
        Duplicate { n: u64 },
        Move { n: u64 },
        SetBack { n: u64 },
    }

    fn mutation() -> impl Strategy<Value = Mutation> {
        let (n, other) = (0..1000_u64, 0..1000_u64);
        prop_oneof![
            (n.clone(), 0..10_000_usize).prop_map(|(n, byte)| Mutation::Alter { n, byte }),
            n.clone().prop_map(|n| Mutation::Delete { n }),
            (n.clone(), other).prop_map(|(n, other)| Mutation::Swap { n, other }),
            n.clone().prop_map(|n| Mutation::Duplicate { n }),
            n.clone().prop_map(|n| Mutation::Move { n }),
            n.prop_map(|n| Mutation::SetBack { n }),
        ]
    }

    impl Mutation {
        /// The statements, on a chain of these rows.
        fn sql(&self, rows: &[Row]) -> String {
            let at = |n: &u64| &rows[(n % rows.len() as u64) as usize];
            match self {
                Self::Alter { n, byte } => {
                    let Row { n, line, .. } = at(n);
                    let byte = byte % line.len();
                    let other = if line.as_bytes()[byte] == b'#' { '%' } else { '#' };
                    format!(
                        "UPDATE audit SET line = substr(line, 1, {byte}) || '{other}' || substr(line, {}) WHERE n = {n}",
                        byte + 2
                    )
                }
                Self::Delete { n } => format!("DELETE FROM audit WHERE n = {}", at(n).n),
                Self::Swap { n, other } => {
                    let (a, b) = (at(n).n, at(other).n);
                    let b = if a == b { at(&(n + 1)).n } else { b };
                    format!(
                        "UPDATE audit SET n = -1 WHERE n = {a}; UPDATE audit SET n = {a} WHERE n = {b};
                         UPDATE audit SET n = {b} WHERE n = -1"
                    )
                }
                Self::Duplicate { n } => format!(
                    "INSERT INTO audit SELECT chain, {}, line, prev, hash FROM audit WHERE n = {}",
                    rows[rows.len() - 1].n + 1,
                    at(n).n
                ),
                Self::Move { n } => {
                    format!("UPDATE audit SET chain = 'another' WHERE n = {}", at(n).n)
                }
                Self::SetBack { n } => {
                    let n = at(n).n - 1;
                    format!(
                        "UPDATE audit_chains SET n = {n}, hash = coalesce((SELECT hash FROM audit WHERE n = {n}), base_hash)"
                    )
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn whatever_is_done_to_one_row_is_found(
            commits in proptest::collection::vec(1..4_usize, 1..8),
            trimmed in 0..3_u32,
            key in any::<bool>(),
            mutation in mutation(),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let key = key.then(|| secrecy::SecretString::from("canary"));
            let keys = Keys::new(&key.iter().cloned().collect::<Vec<_>>());
            let found = runtime.block_on(async {
                let settings = Settings { key, ..Settings::default() };
                let store = Sqlite::in_memory_with(&settings).await.unwrap();
                for (second, count) in (0..).zip(commits) {
                    let entries = vec![Entry::new(Act::RulesChanged); count];
                    store.note(entries, Timestamp(second * 1000)).await.unwrap();
                }
                // Where rows are left, the numbers no longer begin with 1.
                store.trim(Timestamp(1000), Timestamp(1000), trimmed).await.unwrap();
                let chain = store.chains().await.unwrap().remove(0);
                let rows = store.rows(&chain.id, Page::After(0), 100).await.unwrap();
                let whole = verify(&store, &keys, None).await.unwrap().findings;
                if rows.is_empty() || (rows.len() == 1 && matches!(mutation, Mutation::Swap { .. })) {
                    return (whole, None);
                }
                store.run(&mutation.sql(&rows)).await;
                (whole, Some(verify(&store, &keys, None).await.unwrap().findings))
            });
            prop_assert_eq!(found.0, vec![]);
            prop_assert!(found.1.is_none_or(|found| !found.is_empty()));
        }
    }
}
