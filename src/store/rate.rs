//! How much a client may submit in any minute, counted where it is stored: all processes on one store count together.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::policy::Rate;

/// The time over which it counts.
const MINUTE: Duration = Duration::from_secs(60);

/// What a client submitted within the last minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lately {
    /// How many messages.
    pub(super) messages: u64,
    /// To how many different channels.
    pub(super) channels: u64,
    /// How many of them to the channel that it wants to submit to now.
    pub(super) here: u64,
    /// When the first of them was accepted.
    pub(super) first: Option<Timestamp>,
}

/// A submission that is one too many. Nothing was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excess {
    /// What there was too much of, such as `30 messages`.
    pub what: String,
    /// When there is room for another one.
    pub until: Timestamp,
}

/// From when on submissions count at `now`.
pub(super) fn since(now: Timestamp) -> Timestamp {
    now.before(MINUTE)
}

/// Whether one more is too many.
pub(super) fn excess(rate: Rate, lately: Lately, now: Timestamp) -> Option<Excess> {
    let over = |limit: Option<u32>, count: u64| limit.filter(|most| count >= u64::from(*most));
    let what = if let Some(most) = over(rate.messages, lately.messages) {
        format!("{most} message{}", if most == 1 { "" } else { "s" })
    } else if lately.here == 0
        && let Some(most) = over(rate.channels, lately.channels)
    {
        format!("{most} channel{}", if most == 1 { "" } else { "s" })
    } else {
        return None;
    };
    Some(Excess { what, until: lately.first.unwrap_or(now).after(MINUTE) })
}
