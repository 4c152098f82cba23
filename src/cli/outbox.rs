//! `herald outbox`: the operator's view of deliveries.

mod steer;
mod which;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};

use self::steer::{Act, Steering};
use self::which::Which;
use super::show::{self, Table};
use super::{ConfigError, Output, default_data_dir};
use crate::app::{open_audited, replica};
use crate::clock::{SystemClock, Timestamp};
use crate::config::Config;
use crate::model::audit::{self, Entry};
use crate::model::{Delivery, DeliveryId, PlatformKind};
use crate::store::{Filter, Outbox, Trail};

/// What happened more than one of these ago is shown in the next.
const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Deliveries, the newest first
    ///
    /// Without a filter all of them. Ages count from when a delivery was accepted, or accepted anew by a retry.
    List {
        #[command(flatten)]
        which: Which,
        /// At most so many
        #[arg(long, default_value_t = 50)]
        most: u32,
        /// Only those that come after this one: the next page of the same list
        #[arg(long, value_name = "ID")]
        after: Option<DeliveryId>,
        /// How to print them
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Everything that is known about deliveries, as JSON, their texts included as long as they are kept
    ///
    /// One ID prints one object; several IDs, or filters as in `list`, print a list.
    Show {
        #[command(flatten)]
        chosen: Chosen,
        /// At most so many of those that the filters choose
        #[arg(long, default_value_t = 50)]
        most: u32,
    },
    /// Put failed or unknown deliveries back into their queue; a running `herald serve` sends them
    ///
    /// Those with these IDs, or all that the filters choose: `herald outbox retry --state failed --channel slack:C0ALERTS
    /// --newer-than 2h`. What was said is kept for a day after a delivery's end (HERALD_KEEP_PAYLOAD); after that it cannot
    /// be retried.
    Retry {
        #[command(flatten)]
        chosen: Chosen,
        #[command(flatten)]
        how: How,
    },
    /// End queued or unknown deliveries without sending them
    ///
    /// Those with these IDs, or all that the filters choose. One that is being sent is not tried again. `retry` takes it back.
    Discard {
        #[command(flatten)]
        chosen: Chosen,
        #[command(flatten)]
        how: How,
    },
    /// Let a bot that waits send again at once
    ///
    /// A bot waits as a whole where its platform failed five times in a row, or refused its secret. It goes on by itself
    /// once the platform answers, or with a new secret; this is for one that was right all along.
    Resume {
        /// slack, discord or telegram
        #[arg(value_parser = platform)]
        platform: PlatformKind,
    },
}

fn platform(name: &str) -> Result<PlatformKind, String> {
    PlatformKind::named(name).ok_or_else(|| "slack, discord or telegram".to_owned())
}

/// By ID, or by filters.
#[derive(Debug, Args)]
pub(super) struct Chosen {
    /// Their IDs
    #[arg(conflicts_with_all = Which::NAMES)]
    ids: Vec<DeliveryId>,
    #[command(flatten)]
    which: Which,
}

impl Chosen {
    /// The filter that stands for them where there are no IDs. Everything is meant by nobody.
    fn filter(&self, config: &Config, now: Timestamp) -> anyhow::Result<Filter> {
        if self.ids.is_empty() && self.which.is_empty() {
            let error = "name deliveries by their IDs, or choose them with --state, --channel, --older-than, --newer-than";
            return Err(ConfigError::setting("IDS", error).into());
        }
        self.which.filter(config, now)
    }
}

/// How many, and whether at all.
#[derive(Debug, Args)]
pub(super) struct How {
    /// At most so many of those that the filters choose, the newest
    #[arg(long)]
    most: Option<u32>,
    /// Change nothing; show which ones they are, and how many
    #[arg(long)]
    dry_run: bool,
    /// How to print what became of them
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

pub(super) async fn run(command: Command, config: &Config) -> anyhow::Result<ExitCode> {
    let database = config.database_url.as_ref();
    let data_dir = match database {
        Some(_) => None,
        None => Some(existing(config.data_dir.clone().map_or_else(default_data_dir, Ok)?)?),
    };
    let audit = config.audit.settings(replica());
    let store = open_audited(database, data_dir.as_deref(), Arc::new(SystemClock), &audit).await?;
    let (outbox, now) = (store.outbox, store.clock.now());
    let all_done = match command {
        Command::List { which, most, after, output } => {
            let filter = Filter { beyond: after, ..which.filter(config, now)? };
            list(&*outbox, &filter, most, output, now).await?
        }
        Command::Show { chosen, most } => {
            let filter = Filter { most, ..chosen.filter(config, now)? };
            show(&*outbox, &chosen.ids, &filter).await?
        }
        Command::Retry { chosen, how } => {
            let deadline = now.after(config.delivery.deadline());
            let filter = chosen.filter(config, now)?;
            let steering = Steering { outbox: &*outbox, act: Act::Retry { deadline }, now, how };
            steering.run(&chosen.ids, filter).await?
        }
        Command::Discard { chosen, how } => {
            let filter = chosen.filter(config, now)?;
            let steering = Steering { outbox: &*outbox, act: Act::Discard, now, how };
            steering.run(&chosen.ids, filter).await?
        }
        Command::Resume { platform } => {
            resume(&*outbox, platform, now).await?;
            true
        }
    };
    finish(&*store.trail, &*outbox, now).await;
    Ok(if all_done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Says that this process ended, if it did anything that the trail tells about.
async fn finish(trail: &dyn Trail, outbox: &dyn Outbox, now: Timestamp) {
    if !trail.book().heads().is_empty() {
        // What it did is durable; that its chain ends without this is told by nobody.
        let _ = trail.note(vec![Entry::new(audit::Act::Stopped)], now).await;
    }
    outbox.close().await;
}

/// A mistyped directory is an error, and not an empty outbox.
pub(super) fn existing(data_dir: PathBuf) -> Result<PathBuf, ConfigError> {
    if data_dir.is_dir() {
        return Ok(data_dir);
    }
    let error = format!("{} does not exist: name the one that `serve` uses", data_dir.display());
    Err(ConfigError::setting("HERALD_DATA_DIR", error))
}

async fn list(
    outbox: &dyn Outbox,
    filter: &Filter,
    most: u32,
    output: Output,
    now: Timestamp,
) -> anyhow::Result<bool> {
    // One more, to know whether there is one.
    let mut found = outbox.list(&Filter { most: most.saturating_add(1), ..filter.clone() }).await?;
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let more = found.len() > most;
    found.truncate(most);
    match output {
        Output::Json => show::json(&found)?,
        Output::Text => table(&found, now)?,
    }
    if let (true, Some(last), Output::Text) = (more, found.last(), output) {
        show::complain(&format!("there are more: add --after {}", last.id));
    }
    Ok(true)
}

async fn resume(outbox: &dyn Outbox, platform: PlatformKind, now: Timestamp) -> anyhow::Result<()> {
    let paused = outbox.pauses().await?.remove(&platform);
    outbox.resume(platform, now).await?;
    let said = match paused {
        Some(pause) => {
            format!("{} sends again; it waited because {}", platform.title(), pause.hint)
        }
        None => format!("{} did not wait", platform.title()),
    };
    Ok(show::text(&format!("{said}\n"))?)
}

async fn show(outbox: &dyn Outbox, ids: &[DeliveryId], filter: &Filter) -> anyhow::Result<bool> {
    let mut found = Vec::new();
    let mut complete = true;
    for id in ids {
        match outbox.delivery(*id).await? {
            Some(delivery) => found.push(delivery),
            None => {
                complete = false;
                show::complain(&format!("herald: there is no delivery {id}"));
            }
        }
    }
    if ids.is_empty() {
        found = outbox.list(filter).await?;
    }
    match (ids, &found[..]) {
        ([_], [delivery]) => show::json(delivery)?,
        ([_], _) => {}
        _ => show::json(&found)?,
    }
    Ok(complete)
}

fn table(deliveries: &[Delivery], now: Timestamp) -> std::io::Result<()> {
    let mut table = Table::new(["ID", "STATE", "CHANNEL", "CLIENT", "AGE", "TRIES", "REASON"]);
    for delivery in deliveries {
        table.row([
            delivery.id.to_string(),
            delivery.state.as_str().to_owned(),
            delivery.channel.to_string(),
            delivery.client.to_string(),
            age(now.since(delivery.created_at)),
            delivery.attempts.to_string(),
            delivery.reason.map(|reason| reason.to_string()).unwrap_or_default(),
        ]);
    }
    table.print()
}

/// As kubectl shows it: 42s, 7m, 3h, 2d.
pub(super) fn age(age: Duration) -> String {
    match age.as_secs() {
        s if s < 2 * MINUTE => format!("{s}s"),
        s if s < 2 * HOUR => format!("{}m", s / MINUTE),
        s if s < 2 * DAY => format!("{}h", s / HOUR),
        s => format!("{}d", s / DAY),
    }
}
