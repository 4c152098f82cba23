//! Which deliveries an operator means, as it is said on the command line.

use std::time::Duration;

use clap::Args;

use crate::cli::{destination, operator};
use crate::clock::{Timestamp, length};
use crate::config::{Config, ConfigError};
use crate::model::DeliveryState;
use crate::store::{Filter, Place};

/// Filters; all that are given have to hold.
#[derive(Debug, Args)]
pub(in crate::cli) struct Which {
    /// Only those in one of these states: queued, sending, delivered, failed, unknown
    #[arg(long, value_delimiter = ',')]
    state: Vec<DeliveryState>,
    /// Only those to one of these channels, such as slack:C0123456789 or slack:alerts, or to a whole platform: slack
    #[arg(long, value_delimiter = ',')]
    channel: Vec<String>,
    /// Only those accepted longer ago than this: 45s, 10m, 2h, 7d
    #[arg(long, value_name = "TIME", value_parser = length)]
    older_than: Option<Duration>,
    /// Only those accepted within this time
    #[arg(long, value_name = "TIME", value_parser = length)]
    newer_than: Option<Duration>,
}

impl Which {
    /// What the filters are called.
    pub(super) const NAMES: [&str; 4] = ["state", "channel", "older_than", "newer_than"];

    /// Whether nothing is asked for.
    pub(super) fn is_empty(&self) -> bool {
        self.state.is_empty()
            && self.channel.is_empty()
            && self.older_than.is_none()
            && self.newer_than.is_none()
    }

    /// The filter, at `now`.
    pub(super) fn filter(&self, config: &Config, now: Timestamp) -> anyhow::Result<Filter> {
        let places = self.channel.iter().map(|name| place(name, config));
        Ok(Filter {
            states: self.state.clone(),
            places: places.collect::<anyhow::Result<_>>()?,
            since: self.newer_than.map(|age| now.before(age)),
            until: self.older_than.map(|age| now.before(age)),
            ..Filter::default()
        })
    }
}

/// A platform, a channel, or one of the operator's names for a channel.
fn place(name: &str, config: &Config) -> anyhow::Result<Place> {
    let error = match name.parse() {
        Ok(place) => return Ok(place),
        Err(error) => error,
    };
    let (platform, alias) = destination(name)?;
    let policy = config.policy()?;
    match policy.allowed(&operator(), platform).by_alias(&alias) {
        Some(channel) => Ok(Place::Channel(channel.clone())),
        None => Err(ConfigError::setting("--channel", error).into()),
    }
}
