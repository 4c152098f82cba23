//! Where the audit trail goes besides the store: every line to stderr, to a file that something else collects, or to a
//! collector.
//!
//! What is passed on is read back from the store, in order, after it was committed. So the way of a message never waits for
//! a log file or a collector, however slow, and while a process lives nothing is left out, however long neither can be
//! written. A collector may get rows twice; chain and number tell which. What a process could not pass on before it died
//! stands in the store alone.

mod collector;
mod config;
mod export;
mod sink;

pub use self::config::{Config, Destination};
pub use self::export::Export;
