//! Where the audit trail goes besides the store: every line to stderr, or to a file that something else collects.
//!
//! What is passed on is read back from the store, in order, after it was committed. So the way of a message never waits for
//! a log file, however slow, and while a process lives nothing is left out, however long the file cannot be written. What a
//! process could not pass on before it died stands in the store alone.

mod config;
mod export;
mod sink;

pub use self::config::{Config, Destination};
pub use self::export::Export;
