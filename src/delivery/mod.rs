//! The worker: takes lanes whose turn has come, sends the first step of each, and records what became of it.
//!
//! - [`Worker::tick`] is the unit under test; [`Worker::run`] only repeats it, woken by a signal and by a timer.
//! - A lane is claimed in one short transaction and recorded in another; the network call stands between them, and is
//!   always shorter than the lease. Nothing sleeps while it holds a lane.
//! - What an answer means for the delivery is computed in [`settle`], which knows no I/O.

mod backoff;
mod breaker;
mod settle;
mod waiters;
mod worker;
#[cfg(test)]
mod worker_tests;

pub use settle::{OnUnknown, Rules, settle};
pub use waiters::{Waiters, Watch};
pub use worker::{Settings, TickReport, Worker};
