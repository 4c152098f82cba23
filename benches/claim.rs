//! What a claim costs in an outbox that has grown: `cargo bench --bench claim`.
//!
//! Outboxes of different sizes take turns: one row in ten waits in one of 64 lanes, the others are delivered. In each round
//! the heads of 32 lanes are claimed, settled, and followed by new ones, so that the claims go through the outbox. Only the
//! claims count. PostgreSQL is measured where it is installed.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a measurement that cannot go on should stop"
)]

#[expect(dead_code, reason = "the other benchmarks use the rest")]
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use herald::clock::{Clock, SystemClock};
use herald::model::{
    Action, ChannelId, ClientName, Delivery, DeliveryId, DeliveryState, Part, PlatformKind, Step,
    TextPart,
};
use herald::platform::Pace;
use herald::store::postgres::Postgres;
use herald::store::sqlite::Sqlite;
use herald::store::{Claimant, Enqueued, NewDelivery, Outbox, Settled};
use sqlx::postgres::PgConnection;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};
use tempfile::TempDir;

use world::{CHANNELS, argument, channel, median, on_disk, postgres};

/// How many rows there are.
const SIZES: [usize; 4] = [0, 1_000, 10_000, 1_000_000];
/// The size that the others are compared with.
const SMALL: usize = 1;
/// How many lanes are claimed at once.
const LANES: u32 = 32;

const SLACK: PlatformKind = PlatformKind::Slack;

#[tokio::main]
async fn main() {
    let rounds = argument("--rounds", 41);
    let largest = argument("--rows", SIZES[3]);
    let sizes = SIZES.map(|size| size.min(largest));
    let mut directories = Vec::new();
    let mut engines: Vec<(&str, Vec<Arc<dyn Outbox>>)> = Vec::new();
    let mut embedded: Vec<Arc<dyn Outbox>> = Vec::new();
    for rows in sizes {
        let (directory, outbox) = sqlite(rows).await;
        directories.push(directory);
        embedded.push(Arc::new(outbox));
    }
    engines.push(("SQLite", embedded));
    let mut served: Vec<Arc<dyn Outbox>> = Vec::new();
    for rows in sizes {
        if let Some(url) = postgres::schema() {
            served.push(Arc::new(postgresql(&url, rows).await));
        }
    }
    if !served.is_empty() {
        engines.push(("PostgreSQL", served));
    }
    println!(
        "\nclaiming {LANES} of {CHANNELS} lanes, median, and the ratio to {} rows",
        sizes[SMALL]
    );
    for (engine, outboxes) in engines {
        for outbox in &outboxes {
            let all = (0..CHANNELS).map(|n| ChannelId::new(SLACK, &channel(n)).unwrap());
            fill(outbox.as_ref(), all).await;
        }
        let mut took = vec![Vec::new(); outboxes.len()];
        for round in 0..=rounds {
            for (size, outbox) in outboxes.iter().enumerate() {
                let claim = once(outbox.as_ref()).await;
                // The first round fills caches.
                if round > 0 {
                    took[size].push(claim);
                }
            }
        }
        for (size, figures) in took.iter().enumerate() {
            let ratios = figures.iter().zip(&took[SMALL]).map(|(a, b)| a.div_duration_f64(*b));
            let ratio = median(ratios.collect());
            println!(
                "  {engine:<10} {:>9} rows {:>10.1?} {ratio:>6.2}",
                sizes[size],
                median(figures.clone())
            );
        }
    }
}

/// Claims, settles what was claimed, and lets more follow. Returns what the claim took.
async fn once(outbox: &dyn Outbox) -> Duration {
    let who = Claimant {
        process: "bench".to_owned(),
        own_only: false,
        lease: Duration::from_secs(30),
        credentials: BTreeMap::new(),
    };
    let now = SystemClock.now();
    let since = Instant::now();
    let claims = outbox.claim(&who, SLACK, now, LANES).await.unwrap();
    let took = since.elapsed();
    assert_eq!(claims.len(), LANES as usize);
    let lanes: Vec<_> = claims.iter().map(|claim| claim.delivery.channel.clone()).collect();
    let settle = claims.into_iter().map(|claim| async move {
        let state = DeliveryState::Delivered;
        let delivery = Delivery { state, finished_at: Some(now), ..claim.delivery };
        outbox.record(claim.epoch, &Settled::new(delivery)).await.unwrap();
    });
    join_all(settle).await;
    fill(outbox, lanes).await;
    took
}

/// Queues a message in each of these lanes.
async fn fill(outbox: &dyn Outbox, lanes: impl IntoIterator<Item = ChannelId>) {
    join_all(lanes.into_iter().map(|to| async move {
        let now = SystemClock.now();
        let part = Part::Text(TextPart::new("new", "new"));
        let steps = vec![Step { nonce: "n".to_owned(), action: Action::Send { part } }];
        let (id, deadline) = (DeliveryId::new(now), now.after(Duration::from_secs(3600)));
        let new = NewDelivery {
            delivery: Delivery::new(id, ClientName::new("agent"), to, steps, now, deadline),
            submitter: "bench".to_owned(),
            pace: Pace { interval_ms: 0, burst: 1 },
            idempotency_key: None,
            rate: Default::default(),
            filtered: Vec::new(),
            content_hash: id.to_string(),
            same_since: None,
        };
        assert_eq!(outbox.enqueue(new).await.unwrap(), Enqueued::New);
    }))
    .await;
}

/// The columns of `rows` rows, numbered `i`; `hex` writes a number as 12 hexadecimal digits, `two` as two decimal ones.
fn rows(hex: &str, two: &str) -> String {
    let text = "x".repeat(200);
    format!(
        "'00000000-0000-7000-8000-' || {hex}, 'agent', 'bench', 'slack:C0BENCH' || {two}, '{{}}',
         '[{{\"nonce\":\"n\",\"do\":\"send\",\"part\":{{\"kind\":\"text\",\"body\":\"{text}\",\"plain\":\"{text}\"}}}}]',
         CASE WHEN (i / {CHANNELS}) % 10 = 0 THEN 'queued' ELSE 'delivered' END, '' || i, 4000000000000, 1700000000000 + i"
    )
}

const COLUMNS: &str =
    "id, client, submitter, lane, placement, steps, state, content_hash, deadline, created_at";
const LANES_OF: &str = "INSERT INTO lanes (lane, platform, pending, interval_ms, burst)
    SELECT lane, 'slack', sum(CASE WHEN state = 'queued' THEN 1 ELSE 0 END), 0, 1 FROM deliveries GROUP BY lane";

async fn sqlite(count: usize) -> (TempDir, Sqlite) {
    let directory = on_disk();
    Sqlite::open(directory.path()).await.unwrap().close().await;
    let options = SqliteConnectOptions::new()
        .filename(directory.path().join("herald.db"))
        .foreign_keys(false)
        .pragma("synchronous", "OFF");
    let mut db = options.connect().await.unwrap();
    let load = format!(
        "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {count})
         INSERT INTO deliveries ({COLUMNS}) SELECT {} FROM n WHERE {count} > 0;
         {LANES_OF}; ANALYZE; PRAGMA wal_checkpoint(TRUNCATE)",
        rows("printf('%012x', i)", &format!("printf('%02d', i % {CHANNELS})"))
    );
    sqlx::raw_sql(AssertSqlSafe(load)).execute(&mut db).await.unwrap();
    db.close().await.unwrap();
    let outbox = Sqlite::open(directory.path()).await.unwrap();
    (directory, outbox)
}

async fn postgresql(url: &str, count: usize) -> Postgres {
    let outbox = Postgres::open(&url.to_owned().into(), Arc::new(SystemClock)).await.unwrap();
    let mut db = PgConnection::connect(url).await.unwrap();
    let hex = "lpad(to_hex(i), 12, '0')";
    let two = format!("lpad((i % {CHANNELS})::text, 2, '0')");
    // Without its foreign key, which names lanes that come last.
    let load = format!(
        "ALTER TABLE deliveries DISABLE TRIGGER ALL;
         INSERT INTO deliveries ({COLUMNS}) SELECT {} FROM generate_series(0, {count} - 1) AS n (i);
         {LANES_OF}; ALTER TABLE deliveries ENABLE TRIGGER ALL; ANALYZE",
        rows(hex, &two)
    );
    db.execute(sqlx::raw_sql(AssertSqlSafe(load))).await.unwrap();
    outbox
}
