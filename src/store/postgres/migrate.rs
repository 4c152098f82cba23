//! The schema, made and brought up to date when a process starts, by one process at a time.

use std::time::Duration;

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgPool;

use super::{Db, StoreError, query};

/// How long all of it may take, and another process's before it.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);
/// Each brings the schema to its own number.
const MIGRATIONS: [&str; 3] = [
    include_str!("migrations/1.sql"),
    include_str!("migrations/2.sql"),
    include_str!("migrations/3.sql"),
];
/// Whoever migrates holds this lock until its transaction ends: "herald" in ASCII.
const LOCK: i64 = 0x6865_7261_6C64;

pub(super) async fn migrate(pool: &PgPool, begin: &str, schema: &str) -> Result<(), StoreError> {
    let mut db = pool.begin_with(AssertSqlSafe(begin)).await?;
    // Mostly nothing is to do, and nobody has to wait; and Herald's role need not be allowed to make anything.
    if version(&mut db).await? == Some(MIGRATIONS.len()) {
        return Ok(());
    }
    query("SET LOCAL statement_timeout = 0").execute(&mut *db).await?;
    query("SELECT pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *db).await?;
    let there: bool = query_scalar(
        "SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)",
        schema,
        &mut db,
    )
    .await?;
    if !there {
        let create = AssertSqlSafe(format!("CREATE SCHEMA {schema}"));
        query(create).execute(&mut *db).await.map_err(|error| refused(schema, error))?;
    }
    let version = version(&mut db).await?;
    if version.is_none() {
        query("CREATE TABLE schema_version (version BIGINT NOT NULL)")
            .execute(&mut *db)
            .await
            .map_err(|error| refused(schema, error))?;
        query("INSERT INTO schema_version VALUES (0)").execute(&mut *db).await?;
    }
    let version = version.unwrap_or_default();
    let Some(missing) = MIGRATIONS.get(version..) else {
        return Err(StoreError::DatabaseUrl(format!(
            "the database's schema {schema} was written by a newer Herald (version {version}, this one knows {}): \
             use that Herald",
            MIGRATIONS.len()
        )));
    };
    for migration in missing {
        sqlx::raw_sql(*migration).execute(&mut *db).await?;
    }
    let to = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    query("UPDATE schema_version SET version = $1").bind(to).execute(&mut *db).await?;
    db.commit().await?;
    Ok(())
}

/// The schema's number; `None` where there is no schema of Herald's.
async fn version(db: Db<'_>) -> Result<Option<usize>, StoreError> {
    let sql = "SELECT to_regclass(current_schema() || '.schema_version') IS NOT NULL";
    let there: Option<bool> = sqlx::query_scalar(sql).persistent(false).fetch_one(&mut *db).await?;
    if there != Some(true) {
        return Ok(None);
    }
    let sql = "SELECT max(version) FROM schema_version";
    let version: Option<i64> = sqlx::query_scalar(sql).persistent(false).fetch_one(db).await?;
    Ok(version.map(|version| usize::try_from(version).unwrap_or(usize::MAX)))
}

async fn query_scalar(sql: &'static str, schema: &str, db: Db<'_>) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar(sql).bind(schema).persistent(false).fetch_one(db).await?)
}

/// The role may not make what Herald needs (`insufficient_privilege`): the operator can.
fn refused(schema: &str, error: sqlx::Error) -> StoreError {
    let code = error.as_database_error().and_then(|error| error.code());
    if code.as_deref() != Some("42501") {
        return error.into();
    }
    StoreError::DatabaseUrl(format!(
        "the database's role may not make what Herald needs ({error}): run CREATE SCHEMA {schema} AUTHORIZATION its_role once"
    ))
}
