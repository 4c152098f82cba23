//! What every store has to do, whatever its engine: a suite per trait, run on each.

pub(crate) mod audit;
mod doubt;
pub(crate) mod inbound;
pub(crate) mod leases;
mod listing;
pub(crate) mod outbox;
mod rate;
mod retention;

use std::time::Duration;

use crate::clock::Timestamp;

const T0: Timestamp = Timestamp(1_800_000_000_000);
const LEASE: Duration = Duration::from_secs(30);

fn second(n: u64) -> Timestamp {
    T0.after(Duration::from_secs(n))
}
