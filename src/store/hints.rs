//! What another process changed, told at once.
//!
//! A hint may come late, twice or never, and nothing depends on it: whoever waits looks again from time to time, and finds
//! the same. A store that others share and that can tell them does; the others' hints never come.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::model::DeliveryId;

/// What another process did to the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Something waits to be sent.
    Queued,
    /// A delivery that was accepted here has come to its end there.
    Ended(DeliveryId),
}

/// A conversation in which another process left something to do. Its name is nobody else's business, and others may share
/// the database: it is told as a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(u64);

impl Mark {
    /// The mark of a conversation.
    #[must_use]
    pub fn of(conversation: &str) -> Self {
        let digest = Sha256::digest(conversation);
        Self(digest.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes)))
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Mark {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

/// Hints as they come, from when this was made.
#[derive(Debug)]
pub struct Hints<T>(Option<Receiver<T>>);

impl<T: Clone> Hints<T> {
    /// None will ever come.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    pub(super) const fn from(heard: Receiver<T>) -> Self {
        Self(Some(heard))
    }

    /// The next one. Never returns where none comes. Dropping the future loses nothing.
    pub async fn next(&mut self) -> T {
        while let Some(heard) = &mut self.0 {
            match heard.recv().await {
                Ok(hint) => return hint,
                // Too many at once: what was left out is found by looking.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => self.0 = None,
            }
        }
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_comes_back_as_it_was_written() {
        let mark = Mark::of("slack:C0A/1700000000.000100");
        assert_eq!(mark.to_string().parse(), Ok(mark));
        assert_ne!(mark, Mark::of("slack:C0A/1700000000.000200"));
        assert!(!mark.to_string().contains("C0A"));
    }

    #[tokio::test]
    async fn the_latest_hints_come_however_many_there_were() {
        let (tell, heard) = tokio::sync::broadcast::channel(2);
        let mut hints = Hints::from(heard);
        for n in 0..5 {
            tell.send(n).unwrap();
        }
        assert_eq!((hints.next().await, hints.next().await), (3, 4));
        drop(tell);
        let forever = tokio::time::timeout(std::time::Duration::from_millis(20), hints.next());
        assert!(forever.await.is_err(), "nobody is left to tell anything");
    }
}
