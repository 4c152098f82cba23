//! What writes one chain: it knows where the chain ends, as far as that is committed.

use std::sync::Arc;

use serde::Serialize;
use uuid::Uuid;

use super::{Book, Row, Seal, Settings, ZERO};
use crate::clock::Timestamp;
use crate::model::Delivery;
use crate::model::audit::{Act, Entry, Head};
use crate::store::rows::to_json;
use crate::store::{NewDelivery, StoreError};

/// The version of a line.
const VERSION: u8 = 1;

/// A line of the trail: its place, and what it says.
#[derive(Serialize)]
struct Line<'a> {
    v: u8,
    n: u64,
    at: String,
    replica: &'a str,
    chain: &'a str,
    #[serde(flatten)]
    entry: &'a Entry,
}

/// The end of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Position {
    /// The number of its last row; 0 before the first.
    pub(in crate::store) n: u64,
    pub(in crate::store) hash: String,
    /// Before the first row: what the other chains ended with.
    pub(in crate::store) others: Vec<Head>,
}

impl Position {
    /// Before the first row.
    pub(in crate::store) fn start(others: Vec<Head>) -> Self {
        Self { n: 0, hash: ZERO.to_owned(), others }
    }
}

/// Rows that follow a position, and what is stored with them.
#[derive(Clone, Debug)]
pub(in crate::store) struct Draft {
    pub(in crate::store) chain: String,
    pub(in crate::store) rows: Vec<Row>,
    pub(in crate::store) n: u64,
    pub(in crate::store) hash: String,
    pub(in crate::store) seal: Option<String>,
    pub(in crate::store) key: Option<String>,
    /// The seal of a base before the first row.
    pub(in crate::store) base_seal: Option<String>,
    pub(in crate::store) at: Timestamp,
    acts: Vec<Act>,
}

/// Writes one chain.
#[derive(Debug)]
pub(in crate::store) struct Pen {
    chain: String,
    seal: Seal,
    settings: Settings,
    book: Arc<Book>,
    /// Where the chain ends, once that is known and as long as it is certain.
    position: Option<Position>,
    /// What was written since the last commit.
    pending: Vec<Act>,
}

impl Pen {
    /// For a new chain.
    pub(in crate::store) fn new(settings: &Settings, book: &Arc<Book>) -> Self {
        Self {
            chain: Uuid::now_v7().to_string(),
            seal: Seal::new(settings.key.as_ref()),
            settings: settings.clone(),
            book: Arc::clone(book),
            position: None,
            pending: Vec::new(),
        }
    }

    pub(in crate::store) fn chain(&self) -> &str {
        &self.chain
    }

    /// Where the chain ends, if that is known.
    pub(in crate::store) const fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// It ends there.
    pub(in crate::store) fn place(&mut self, position: Position) {
        self.position = Some(position);
    }

    /// What is said about a submission, which is stored as this delivery.
    pub(in crate::store) fn submitted(&self, delivery: &Delivery, new: &NewDelivery) -> Vec<Entry> {
        self.settings.submitted(&self.seal, delivery, new)
    }

    /// The rows of these entries after a position. A chain begins with a row of its own.
    pub(in crate::store) fn draft(
        &self,
        after: &Position,
        entries: Vec<Entry>,
        at: Timestamp,
    ) -> Result<Draft, StoreError> {
        let began = entries.first().is_some_and(|first| first.act == Act::Started);
        let mut entries = entries;
        if after.n == 0 && !began {
            entries.insert(0, Entry::new(Act::Started));
        }
        if let Some(first) = entries.first_mut().filter(|_| after.n == 0) {
            first.heads.clone_from(&after.others);
        }
        let (mut n, mut hash) = (after.n, after.hash.clone());
        let mut rows = Vec::with_capacity(entries.len());
        for entry in &entries {
            n += 1;
            let (replica, chain) = (self.settings.replica.as_str(), self.chain.as_str());
            let line = to_json(&Line { v: VERSION, n, at: at.rfc3339(), replica, chain, entry })?;
            let prev = std::mem::take(&mut hash);
            hash = self.seal.row(&prev, &line);
            rows.push(Row { chain: self.chain.clone(), n, line, prev, hash: hash.clone() });
        }
        Ok(Draft {
            chain: self.chain.clone(),
            rows,
            seal: self.seal.head(&self.chain, n, &hash),
            key: self.seal.fingerprint(),
            base_seal: self.seal.base(&self.chain, 0, ZERO),
            n,
            hash,
            at,
            acts: entries.iter().map(|entry| entry.act).collect(),
        })
    }

    /// These rows are written, and not yet committed.
    pub(in crate::store) fn wrote(&mut self, draft: Draft) {
        let Draft { n, hash, acts, .. } = draft;
        self.position = Some(Position { n, hash, others: Vec::new() });
        self.pending.extend(acts);
    }

    /// What was written is committed.
    pub(in crate::store) fn keep(&mut self) {
        let acts = std::mem::take(&mut self.pending);
        if let Some(Position { n, hash, .. }) = self.position.as_ref().filter(|_| !acts.is_empty())
        {
            let head = Head { chain: self.chain.clone(), n: *n, hash: hash.clone() };
            self.book.enter(head, &acts);
        }
    }

    /// What was written may be undone: where the chain ends has to be asked.
    pub(in crate::store) fn doubt(&mut self) -> Option<Position> {
        self.pending.clear();
        self.position.take()
    }

    /// Where it is now, to come back to.
    pub(in crate::store) fn mark(&self) -> (Option<Position>, usize) {
        (self.position.clone(), self.pending.len())
    }

    /// What was written since then is undone.
    pub(in crate::store) fn back(&mut self, (position, pending): (Option<Position>, usize)) {
        self.position = position;
        self.pending.truncate(pending);
    }
}
