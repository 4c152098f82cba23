//! What writes one chain at a time: it knows where the chain ends, as far as that is committed.
//!
//! After a commit that failed, or whose answer was lost, the store is asked where the chain ends. It is believed only where
//! that is one of the two ends that there can be: with what the commit held, or without. Anything else was done by somebody
//! who can write the store, and whoever goes on there would hide it. So a new chain begins, and names the end that is known.

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
    fn start(others: Vec<Head>) -> Self {
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
    /// Where the chain ended when a commit was last known to have succeeded; `None` before the first.
    kept: Option<Head>,
    /// Where the last draft would have it end.
    drafted: Option<Head>,
    /// Where else it may end by now: commits of which nobody knows would have it end there.
    possible: Vec<Head>,
    /// How the chain before this one ended, if the store said otherwise.
    lost: Option<Head>,
}

impl Pen {
    /// For a new chain.
    pub(in crate::store) fn new(settings: &Settings, book: &Arc<Book>) -> Self {
        Self {
            chain: new_chain(),
            seal: Seal::new(settings.key.as_ref()),
            settings: settings.clone(),
            book: Arc::clone(book),
            position: None,
            pending: Vec::new(),
            kept: None,
            drafted: None,
            possible: Vec::new(),
            lost: None,
        }
    }

    pub(in crate::store) fn chain(&self) -> &str {
        &self.chain
    }

    /// Where the chain ends, if that is known.
    pub(in crate::store) const fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// The chain ends there as the store has it, or is not there. Where to go on; `None` if a chain has to
    /// [begin](Self::begin).
    pub(in crate::store) fn go_on(&mut self, stored: Option<&Head>) -> Option<Position> {
        let possible = std::mem::take(&mut self.possible);
        match stored {
            Some(head) if self.kept.as_ref() == stored || possible.contains(head) => {
                let Head { n, hash, .. } = head.clone();
                self.position = Some(Position { n, hash, others: Vec::new() });
                self.kept = Some(head.clone());
                self.lost = None;
                return self.position.clone();
            }
            None if self.kept.is_none() => {
                // A commit that is still on its way would begin the chain a second time.
                if !possible.is_empty() {
                    self.chain = new_chain();
                }
            }
            _ => self.lose(stored),
        }
        None
    }

    /// The chain ends where this process did not leave it.
    fn lose(&mut self, stored: Option<&Head>) {
        let known = self.kept.take();
        let before = std::mem::replace(&mut self.chain, new_chain());
        let row = |head: Option<&Head>| head.map_or(0, |head| head.n);
        let hash = |head: Option<&Head>| head.map_or_else(String::new, |head| head.hash.clone());
        tracing::error!(
            chain = %before,
            known_n = row(known.as_ref()),
            known_hash = hash(known.as_ref()),
            found_n = row(stored),
            found_hash = hash(stored),
            new_chain = %self.chain,
            "the audit trail does not end where this process left it: somebody else wrote in the store; \
             another chain begins, which names the end that was known"
        );
        self.lost = known.or_else(|| self.lost.take());
    }

    /// A chain begins, and these are what the others ended with, as the store has them.
    pub(in crate::store) fn begin(&mut self, mut others: Vec<Head>) -> Position {
        if let Some(lost) = &self.lost {
            others.retain(|other| other.chain != lost.chain);
            others.insert(0, lost.clone());
        }
        let position = Position::start(others);
        self.position = Some(position.clone());
        position
    }

    /// What is said about a submission, which is stored as this delivery.
    pub(in crate::store) fn submitted(&self, delivery: &Delivery, new: &NewDelivery) -> Vec<Entry> {
        self.settings.submitted(&self.seal, delivery, new)
    }

    /// The rows of these entries after a position. A chain begins with a row of its own.
    pub(in crate::store) fn draft(
        &mut self,
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
        self.drafted = Some(Head { chain: self.chain.clone(), n, hash: hash.clone() });
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
        self.drafted = None;
        if let Some(head) = self.end().filter(|_| !acts.is_empty()) {
            self.book.enter(head.clone(), &acts);
            self.kept = Some(head);
            self.possible.clear();
            self.lost = None;
        }
    }

    /// What was written may be undone, or not: where the chain ends has to be asked.
    pub(in crate::store) fn doubt(&mut self) {
        let written = self.end().filter(|_| !self.pending.is_empty());
        self.possible.extend(written.into_iter().chain(self.drafted.take()));
        self.pending.clear();
        self.position = None;
    }

    fn end(&self) -> Option<Head> {
        let Position { n, hash, .. } = self.position.clone()?;
        Some(Head { chain: self.chain.clone(), n, hash })
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

fn new_chain() -> String {
    Uuid::now_v7().to_string()
}
