//! Whether a chain is what was written: each row follows from the one before it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Chain, Row, Seal, ZERO};
use crate::model::audit::{Act, Head};

/// So many findings are told of one chain.
const MOST: usize = 100;

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// In which chain.
    pub chain: String,
    /// At which row, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n: Option<u64>,
    /// What.
    #[serde(flatten)]
    pub wrong: Wrong,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.n {
            Some(n) => write!(f, "chain {}, row {n}: {}", self.chain, self.wrong),
            None => write!(f, "chain {}: {}", self.chain, self.wrong),
        }
    }
}

/// What can be wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "wrong", rename_all = "snake_case")]
pub enum Wrong {
    /// A row does not have its hash.
    #[error("it was altered: its hash does not fit what it says")]
    Altered,
    /// It does not hold the hash of the row before it.
    #[error("it does not follow the row before it: one of them was altered or replaced")]
    Unlinked,
    /// Rows are not there.
    #[error("rows {from} to {to} are missing")]
    Missing {
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
    /// It was written as another row.
    #[error("it was written as row {n} of chain {chain}, and was moved or copied here")]
    Moved {
        /// In which chain.
        chain: String,
        /// As which row.
        n: u64,
    },
    /// It comes where an earlier one should not.
    #[error("it stands after row {after}: it was added, or the order was changed")]
    OutOfOrder {
        /// The one before it.
        after: u64,
    },
    /// It is after the end of its chain.
    #[error("it is beyond the end of its chain, row {end}: it was added, or the end was set back")]
    Beyond {
        /// The last row.
        end: u64,
    },
    /// The end of the chain is another one.
    #[error("the end that is noted for the chain has another hash than its last row")]
    OtherEnd,
    /// The end, or the beginning, was not written by whoever has the key.
    #[error("its {what} was not sealed with the key: somebody without it set it")]
    Unsealed {
        /// `end` or `beginning`.
        what: &'static str,
    },
    /// There are rows, but no chain.
    #[error(
        "the chain is not noted anywhere, but has rows: it was added, or its note was taken away"
    )]
    Stray,
    /// Another chain says that it was longer.
    #[error("chain {by} says that it went on to row {n}: it was cut off")]
    CutOff {
        /// As far as that.
        n: u64,
        /// Which chain says so.
        by: String,
    },
    /// Another chain says that this row was another one.
    #[error("chain {by} says that this row had another hash: the chain was written anew")]
    Rewritten {
        /// Which chain says so.
        by: String,
    },
    /// Another chain says that there was such a chain.
    #[error("chain {by} says that there was this chain, up to row {n}: all of it was taken away")]
    Gone {
        /// As far as that.
        n: u64,
        /// Which chain says so.
        by: String,
    },
    /// It was written with a key that was not given.
    #[error("it was written with another key ({key}): give that one")]
    OtherKey {
        /// The key's fingerprint, where it is known.
        key: String,
    },
    /// It was written without a key although there is one.
    #[error(
        "from row {from} on it was written without a key: whoever can write the store may have written it anew"
    )]
    Unkeyed {
        /// The first row for which no keyed chain answers.
        from: u64,
    },
    /// It is no line of an audit trail.
    #[error("it is no line of an audit trail")]
    Unreadable,
}

/// The keys that are known.
#[derive(Clone, Debug)]
pub struct Keys(Vec<Seal>);

impl Keys {
    /// These; none for chains without.
    #[must_use]
    pub fn new(keys: &[secrecy::SecretString]) -> Self {
        Self(keys.iter().map(|key| Seal::new(Some(key))).collect())
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What seals a chain, by the fingerprint of its key.
    fn of(&self, key: Option<&str>) -> Option<Seal> {
        let Some(key) = key else { return Some(Seal::new(None)) };
        self.0.iter().find(|seal| seal.fingerprint().as_deref() == Some(key)).cloned()
    }

    /// What made this row's hash.
    fn that_sealed(&self, row: &Row) -> Option<Seal> {
        let plain = Seal::new(None);
        let fits = |seal: &&Seal| seal.row(&row.prev, &row.line) == row.hash;
        self.0.iter().chain([&plain]).find(fits).cloned()
    }
}

/// What the first rows of chains say about the others.
#[derive(Clone, Debug, Default)]
pub struct Names(BTreeMap<String, Vec<Named>>);

#[derive(Clone, Debug)]
struct Named {
    n: u64,
    hash: String,
    by: String,
    /// By somebody who has the key.
    keyed: bool,
}

/// What is read of a line.
#[derive(Deserialize)]
struct Said {
    n: u64,
    chain: String,
    #[serde(rename = "type")]
    act: Option<Act>,
    #[serde(default)]
    heads: Vec<Head>,
}

impl Names {
    /// Adds what the first row of a chain says. Only what has its hash counts, and says so with a key if it has one.
    pub fn add(&mut self, row: &Row, keys: &Keys) {
        let Some(seal) = keys.that_sealed(row) else { return };
        let said: Option<Said> = serde_json::from_str(&row.line).ok();
        let Some(said) = said.filter(|it| it.act == Some(Act::Started)) else { return };
        for Head { chain, n, hash } in said.heads {
            let named = Named { n, hash, by: row.chain.clone(), keyed: seal.is_keyed() };
            self.0.entry(chain).or_default().push(named);
        }
    }

    /// The chains that were named and are not there.
    pub(super) fn gone(&self, there: &[Chain]) -> Vec<Finding> {
        let is_there = |id: &String| there.iter().any(|chain| chain.id == *id);
        let gone = self.0.iter().filter(|(id, _)| !is_there(id));
        gone.filter_map(|(id, named)| {
            let Named { n, by, .. } = named.iter().max_by_key(|it| it.n)?.clone();
            Some(Finding { chain: id.clone(), n: None, wrong: Wrong::Gone { n, by } })
        })
        .collect()
    }

    fn of(&self, chain: &str) -> &[Named] {
        self.0.get(chain).map_or(&[], Vec::as_slice)
    }
}

/// Looks at the rows of one chain, in their order.
#[derive(Debug)]
pub struct Check<'a> {
    chain: String,
    /// What seals it; `None` where the key is not known, or not yet.
    seal: Option<Seal>,
    names: &'a [Named],
    /// The last row so far.
    n: u64,
    hash: String,
    /// Its end: what comes after is not looked at.
    findings: Vec<Finding>,
    rows: u64,
    /// Rows whose hash some key made.
    fitting: u64,
}

impl<'a> Check<'a> {
    /// Of a chain that is noted in the store.
    #[must_use]
    pub fn stored(chain: &Chain, keys: &Keys, names: &'a Names) -> Self {
        let seal = keys.of(chain.key.as_deref());
        let mut check = Self {
            chain: chain.id.clone(),
            seal,
            names: names.of(&chain.id),
            n: chain.base.n,
            hash: chain.base.hash.clone(),
            findings: Vec::new(),
            rows: 0,
            fitting: 0,
        };
        match (&check.seal, &chain.key) {
            (None, Some(key)) => check.found(None, Wrong::OtherKey { key: key.clone() }),
            (Some(seal), Some(_)) => {
                let Chain { id, n, hash, .. } = chain;
                let end = seal.head(id, *n, hash) == chain.seal;
                // Whoever took rows away may have had a newer key.
                let base = |seal: &Seal| seal.base(id, chain.base.n, &chain.base.hash);
                let beginning = keys.0.iter().any(|seal| base(seal) == chain.base.seal);
                for (right, what) in [(end, "end"), (beginning, "beginning")] {
                    if !right {
                        check.found(None, Wrong::Unsealed { what });
                    }
                }
            }
            _ => {}
        }
        if chain.base.n == 0 && chain.base.hash != ZERO {
            check.found(Some(1), Wrong::Unlinked);
        }
        check
    }

    /// Of a chain of which a file holds a piece, from this row on.
    #[must_use]
    pub fn in_a_file(first: &Row, keys: &Keys, names: &'a Names) -> Self {
        let mut check = Self {
            chain: first.chain.clone(),
            seal: keys.that_sealed(first),
            names: names.of(&first.chain),
            n: first.n.saturating_sub(1),
            hash: first.prev.clone(),
            findings: Vec::new(),
            rows: 0,
            fitting: 0,
        };
        if first.n == 1 && first.prev != ZERO {
            check.found(Some(1), Wrong::Unlinked);
        }
        check
    }

    /// The number of the last row so far.
    #[must_use]
    pub const fn n(&self) -> u64 {
        self.n
    }

    /// The next row.
    pub fn row(&mut self, row: &Row, keys: &Keys) {
        self.rows += 1;
        let next = self.n.saturating_add(1);
        if row.n < next {
            return self.found(Some(row.n), Wrong::OutOfOrder { after: self.n });
        }
        if row.n > next {
            self.found(None, Wrong::Missing { from: next, to: row.n - 1 });
        } else if row.prev != self.hash {
            self.found(Some(row.n), Wrong::Unlinked);
        }
        if self.seal.is_none() {
            // In a file nobody says which key it was.
            self.seal = keys.that_sealed(row).filter(|_| self.fitting == 0);
        }
        let fits = |seal: &Seal| seal.row(&row.prev, &row.line) == row.hash;
        match &self.seal {
            Some(seal) if fits(seal) => self.fitting += 1,
            Some(_) => self.found(Some(row.n), Wrong::Altered),
            None => {}
        }
        match serde_json::from_str::<Said>(&row.line) {
            Ok(Said { n, chain, .. }) if n != row.n || chain != self.chain => {
                self.found(Some(row.n), Wrong::Moved { chain, n });
            }
            Ok(_) => {}
            Err(_) => self.found(Some(row.n), Wrong::Unreadable),
        }
        for named in self.names.iter().filter(|named| named.n == row.n) {
            if named.hash != row.hash {
                self.found(Some(row.n), Wrong::Rewritten { by: named.by.clone() });
            }
        }
        self.n = row.n;
        self.hash.clone_from(&row.hash);
    }

    /// There are no more rows up to the end that is noted. Returns what was found, and how many rows there were.
    #[must_use]
    pub fn end(mut self, chain: &Chain, keys: &Keys) -> (Vec<Finding>, u64) {
        if self.n < chain.n {
            self.found(None, Wrong::Missing { from: self.n + 1, to: chain.n });
        } else if self.hash != chain.hash {
            self.found(Some(self.n), Wrong::OtherEnd);
        }
        self.cut_off();
        if chain.key.is_none() && !keys.is_empty() {
            // A chain without a key is as good as the keyed one that names its end.
            let vouched = self.names.iter().filter(|named| named.keyed).map(|named| named.n).max();
            let from = vouched.unwrap_or_default() + 1;
            if from <= self.n && self.rows > 0 {
                self.found(None, Wrong::Unkeyed { from });
            }
        }
        (self.findings, self.rows)
    }

    /// The file ends here.
    #[must_use]
    pub fn end_of_file(mut self, keys: &Keys) -> (Vec<Finding>, u64) {
        self.cut_off();
        match &self.seal {
            None => {
                let key = "nobody knows which".to_owned();
                self.found(None, Wrong::OtherKey { key });
            }
            Some(seal) if !seal.is_keyed() && !keys.is_empty() => {
                let from = (self.n + 1).saturating_sub(self.rows);
                self.found(None, Wrong::Unkeyed { from });
            }
            Some(_) => {}
        }
        (self.findings, self.rows)
    }

    fn cut_off(&mut self) {
        let furthest = self.names.iter().max_by_key(|named| named.n);
        if let Some(Named { n, by, .. }) = furthest.filter(|named| named.n > self.n).cloned() {
            self.found(None, Wrong::CutOff { n, by });
        }
    }

    fn found(&mut self, n: Option<u64>, wrong: Wrong) {
        if self.findings.len() < MOST {
            self.findings.push(Finding { chain: self.chain.clone(), n, wrong });
        }
    }
}
