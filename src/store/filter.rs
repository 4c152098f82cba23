//! Which deliveries an operator means.

use std::fmt;
use std::str::FromStr;

use crate::clock::Timestamp;
use crate::model::{ChannelId, DeliveryId, DeliveryState, InvalidChannel, PlatformKind};

/// Which deliveries to list: those of which everything that is set holds.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only these states; empty for all.
    pub states: Vec<DeliveryState>,
    /// Only there; empty for everywhere.
    pub places: Vec<Place>,
    /// Only what was accepted after this time.
    pub since: Option<Timestamp>,
    /// Only what was accepted at this time or before.
    pub until: Option<Timestamp>,
    /// Only what comes after this one, newest first: the next page of the same list. Nothing does if it is not there.
    pub beyond: Option<DeliveryId>,
    /// At most so many, the newest.
    pub most: u32,
}

/// A channel, or every channel of a platform. Written `slack:C0123456789`, or `slack`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Every channel of this platform.
    Platform(PlatformKind),
    /// This one.
    Channel(ChannelId),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Platform(platform) => platform.fmt(f),
            Self::Channel(channel) => channel.fmt(f),
        }
    }
}

impl FromStr for Place {
    type Err = InvalidChannel;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match PlatformKind::named(s.trim()) {
            Some(platform) => Ok(Self::Platform(platform)),
            None => s.parse().map(Self::Channel),
        }
    }
}

/// The states in which a delivery has come to its end, each a part of the index `deliveries_ended`.
const ENDED: [DeliveryState; 3] =
    [DeliveryState::Delivered, DeliveryState::Failed, DeliveryState::Unknown];
const PENDING: [DeliveryState; 2] = [DeliveryState::Queued, DeliveryState::Sending];

impl Filter {
    /// How each place is written: a channel's name, which is its lane's, or a platform's.
    pub(super) fn place_names(&self) -> Vec<String> {
        self.places.iter().map(Place::to_string).collect()
    }

    /// The times between which it was accepted: after the first, not after the second.
    pub(super) fn accepted(&self) -> (i64, i64) {
        (self.since.map_or(i64::MIN, |at| at.0), self.until.map_or(i64::MAX, |at| at.0))
    }

    /// The statement that finds the numbers (`deliveries.seq`) of the newest deliveries that are meant, and perhaps more
    /// than `most` of them. `ended` is where the engine finds what has come to its end, by the index `deliveries_ended`;
    /// `also` is the condition for all but the state, on a delivery `d`; `most` is how the engine writes the limit.
    ///
    /// A delivery's row is large, and there may be a million of them: each state is looked through on its own, by an index
    /// that holds all that is asked for. What is pending is found by its lanes, as everywhere.
    pub(super) fn numbers(&self, ended: &str, also: &str, most: &str) -> String {
        let all = self.states.is_empty();
        if all && self.places.is_empty() && self.since.is_none() && self.until.is_none() {
            return format!(
                "SELECT d.seq FROM deliveries d WHERE {also} ORDER BY d.seq DESC LIMIT {most}"
            );
        }
        let wanted = |state: &&DeliveryState| all || self.states.contains(state);
        // Each index in its own words, and then the state.
        let ended = ENDED.iter().filter(wanted).map(|state| {
            format!(
                "SELECT d.seq FROM {ended} WHERE d.state IN ('delivered', 'failed', 'unknown') AND d.state = '{}'",
                state.as_str()
            )
        });
        let pending: Vec<String> =
            PENDING.iter().filter(wanted).map(|state| format!("'{}'", state.as_str())).collect();
        let pending = (!pending.is_empty()).then(|| {
            format!(
                "SELECT d.seq FROM lanes l CROSS JOIN deliveries d
                 WHERE d.lane = l.lane AND l.pending > 0 AND d.finished_at IS NULL AND d.state IN ({})",
                pending.join(", ")
            )
        });
        let each = ended.chain(pending).map(|select| {
            format!(
                "SELECT seq FROM ({select} AND {also} ORDER BY d.seq DESC LIMIT {most}) AS found"
            )
        });
        each.collect::<Vec<_>>().join(" UNION ALL ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_platform_or_a_channel() {
        for name in ["slack", "slack:C0ALERTS", "telegram:-1001000000001/42"] {
            assert_eq!(name.parse::<Place>().unwrap().to_string(), name);
        }
        assert!("irc".parse::<Place>().unwrap_err().to_string().contains("PLATFORM:ID"));
    }
}
