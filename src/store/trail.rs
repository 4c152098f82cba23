//! The audit trail: what was decided and what came of it, written in the transaction of what it tells about.
//!
//! **Chains.** A row holds the hash of the row before it, so that none can be altered, taken away, added or moved without
//! the others telling. Rows of one chain are committed one after another; so that replicas do not wait for each other, each
//! process writes chains of its own, a new one each time it starts, and as many as it commits at once. The first row of a
//! chain names what the others ended with, so that one that was cut at its end is found out by the next.
//!
//! **With a key** all hashes are HMACs: whoever has the database but not the key cannot write a row. Without one, whoever
//! rewrites a chain from one row to its end, and its head, is not found out by the chain itself.
//!
//! A row's hash can be computed with nothing of ours: `printf '%s%s' "$prev" "$line" | sha256sum`, or with a key
//! `openssl dgst -sha256 -hmac "$HERALD_AUDIT_KEY"` instead.

mod check;
mod file;
mod pen;
mod scribe;
mod seal;
mod verify;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretString;
use tokio::sync::watch;
use uuid::Uuid;

pub use self::check::{Check, Finding, Keys, Names, Wrong};
pub use self::file::verify_files;
pub(in crate::store) use self::pen::{Draft, Pen, Position};
pub use self::scribe::Scribe;
pub use self::seal::{Seal, ZERO};
pub use self::verify::{Report, verify};
use super::{NewDelivery, StoreError};
use crate::clock::Timestamp;
use crate::model::Delivery;
pub use crate::model::audit::Head;
use crate::model::audit::{Act, Content, Entry};

/// So many other chains are named by the first row of a chain: the newest.
pub const MOST_HEADS: u32 = 100;

const DAY: Duration = Duration::from_secs(86_400);
/// How long a chain is known of which nothing is left.
const REMEMBERED: Duration = Duration::from_secs(365 * 86_400);

/// How the trail is written.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// What the hashes are keyed with.
    pub key: Option<SecretString>,
    /// Whether what messages say stands in it.
    pub bodies: bool,
    /// What this process is called: its host's or pod's name.
    pub replica: String,
}

impl Settings {
    /// What is said about a submission, which is stored as this delivery.
    pub(in crate::store) fn submitted(
        &self,
        seal: &Seal,
        delivery: &Delivery,
        new: &NewDelivery,
    ) -> Vec<Entry> {
        let text = Content::text(&new.delivery);
        let content = Content {
            hmac: seal.text(&text),
            text: self.bodies.then_some(text),
            ..Content::of(&new.delivery)
        };
        Entry::submitted(delivery, content, &new.filtered)
    }
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The chain that it is in.
    pub chain: String,
    /// Its number there: 1, 2, 3 …
    pub n: u64,
    /// One JSON object, as it was written.
    pub line: String,
    /// The hash of the row before it; [`ZERO`] where there is none.
    pub prev: String,
    /// Its own: of `prev` and `line`, see [`Seal::row`].
    pub hash: String,
}

/// A chain as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// A UUID, version 7, so that chains sort by when they began.
    pub id: String,
    /// The number of its last row.
    pub n: u64,
    /// The hash of that row.
    pub hash: String,
    /// With a key: see [`Seal::head`].
    pub seal: Option<String>,
    /// Which key, by its fingerprint: see [`Seal::fingerprint`].
    pub key: Option<String>,
    /// When its last row was written, or taken away.
    pub at: Timestamp,
    /// What was before the first row that is still kept.
    pub base: Base,
}

impl Chain {
    /// Whether there may be rows to take away, and whoever takes them away can seal what is left: whoever has no key leaves
    /// alone what was written with one.
    pub(in crate::store) fn may_be_trimmed(&self, seal: &Seal) -> bool {
        self.base.n < self.n && (seal.is_keyed() || self.key.is_none())
    }

    /// When it began, as its name says.
    fn began(&self) -> Option<Timestamp> {
        let (seconds, nanos) = Uuid::parse_str(&self.id).ok()?.get_timestamp()?.to_unix();
        let millis = i64::try_from(seconds).ok()?.checked_mul(1000)?;
        Some(Timestamp(millis + i64::from(nanos / 1_000_000)))
    }
}

/// Chains of which nothing is left, for so long that nobody writes them any more, and that no first row names that is still
/// there: it would have been written before they were emptied.
pub(in crate::store) fn forgettable(chains: &[Chain], now: Timestamp) -> Vec<&str> {
    // Chains are named by when they began, on whatever machine: its clock may be another one.
    let began = chains.iter().filter(|it| it.base.n == 0 && it.n > 0).filter_map(Chain::began);
    let oldest = began.min().unwrap_or(Timestamp(i64::MAX)).before(DAY);
    let until = oldest.min(now.before(REMEMBERED));
    let empty = chains.iter().filter(|it| it.base.n >= it.n && it.at < until);
    empty.map(|it| it.id.as_str()).collect()
}

/// Where a chain is to begin, if some of these rows, its oldest, were written before this time, as all before them were.
/// What was altered stays, and what is behind it, for whoever verifies: taken away, it would be gone with what it shows.
pub(in crate::store) fn due(
    chain: &Chain,
    oldest: &[Row],
    with: &Seal,
    before: Timestamp,
) -> Option<Base> {
    let (before, unkeyed) = (before.rfc3339(), Seal::new(None));
    let seal = match &chain.key {
        None => &unkeyed,
        Some(_) if chain.key == with.fingerprint() => with,
        // Of a key that is not this one's nothing can be said.
        Some(_) => return None,
    };
    let Base { n, hash, seal: sealed } = &chain.base;
    if *n > 0 && seal.base(&chain.id, *n, hash) != *sealed && chain.key.is_some() {
        return None;
    }
    let (mut n, mut prev) = (*n, hash.as_str());
    let whole = oldest.iter().take_while(|row| {
        let follows = row.n == n + 1 && row.prev == prev && seal.row(prev, &row.line) == row.hash;
        (n, prev) = (row.n, &row.hash);
        follows && written(&row.line).is_some_and(|at| at < before)
    });
    let Row { n, hash, .. } = whole.last()?;
    Some(Base { n: *n, hash: hash.clone(), seal: with.base(&chain.id, *n, hash) })
}

/// When a line was written, as it says: in UTC, so that these sort.
fn written(line: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Written {
        at: String,
    }
    serde_json::from_str(line).ok().map(|Written { at }| at)
}

/// Where a chain begins by now: the rows before have had their time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// The number of the last row that is gone; 0 where none is.
    pub n: u64,
    /// The hash of that row, or [`ZERO`].
    pub hash: String,
    /// With a key: see [`Seal::base`].
    pub seal: Option<String>,
}

/// Which rows of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// Those after this number, the oldest first.
    After(u64),
    /// Those before this number, the newest first.
    Before(u64),
}

/// The audit trail. What describes a change of state is written by what changes it; this is for everything else.
#[async_trait]
pub trait Trail: Send + Sync + 'static {
    /// Writes entries that describe no change of state. Committed when this returns.
    async fn note(&self, entries: Vec<Entry>, at: Timestamp) -> Result<(), StoreError>;

    /// All chains, the oldest first.
    async fn chains(&self) -> Result<Vec<Chain>, StoreError>;

    /// At most `most` rows of a chain.
    async fn rows(&self, chain: &str, page: Page, most: u32) -> Result<Vec<Row>, StoreError>;

    /// What this process has written.
    fn book(&self) -> &Book;

    /// The chains that have rows and are not noted.
    async fn strays(&self) -> Result<Vec<String>, StoreError>;

    /// Removes at most `most` rows that were written before `before` from the beginnings of chains, and forgets chains of
    /// which nothing is left once no other can name them any more. Returns how many rows there were; fewer than `most` are
    /// the last, or another process is at the others.
    async fn trim(&self, before: Timestamp, now: Timestamp, most: u32) -> Result<u64, StoreError>;
}

/// What one process has written, for whoever counts it or passes it on.
#[derive(Debug)]
pub struct Book {
    pages: Mutex<Pages>,
    rows: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Pages {
    counts: BTreeMap<Act, u64>,
    heads: BTreeMap<String, Head>,
}

impl Default for Book {
    fn default() -> Self {
        Self { pages: Mutex::default(), rows: watch::Sender::new(0) }
    }
}

impl Book {
    /// How many entries of each kind.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<Act, u64> {
        self.pages().counts.clone()
    }

    /// How far its chains have come.
    #[must_use]
    pub fn heads(&self) -> Vec<Head> {
        self.pages().heads.values().cloned().collect()
    }

    /// How many rows were committed; changes with each commit.
    #[must_use]
    pub fn written(&self) -> watch::Receiver<u64> {
        self.rows.subscribe()
    }

    /// These are committed.
    fn enter(&self, head: Head, acts: &[Act]) {
        {
            let mut pages = self.pages();
            for act in acts {
                *pages.counts.entry(*act).or_default() += 1;
            }
            pages.heads.insert(head.chain.clone(), head);
        }
        let more = u64::try_from(acts.len()).unwrap_or_default();
        self.rows.send_modify(|rows| *rows += more);
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
