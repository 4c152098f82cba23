//! `herald outbox`: the operator's view of deliveries.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Subcommand;

use super::show::{self, Table};
use super::{ConfigError, Output, default_data_dir};
use crate::app::open_store;
use crate::clock::{SystemClock, Timestamp};
use crate::config::Config;
use crate::model::{Delivery, DeliveryId, DeliveryState, Reason};
use crate::store::Filter;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Deliveries, the newest first
    List {
        /// Only those in this state: queued, sending, delivered, failed, unknown
        #[arg(long)]
        state: Vec<DeliveryState>,
        /// At most so many
        #[arg(long, default_value_t = 50)]
        most: u32,
        /// How to print them
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// One delivery, with everything that is known about it, its text included
    Show {
        /// Its ID
        id: DeliveryId,
    },
    /// Put failed or unknown deliveries back into their queue; a running `herald serve` sends them
    Retry {
        /// Their IDs
        #[arg(required = true)]
        ids: Vec<DeliveryId>,
    },
    /// End queued or unknown deliveries without sending them
    Discard {
        /// Their IDs
        #[arg(required = true)]
        ids: Vec<DeliveryId>,
    },
}

pub(super) async fn run(command: Command, config: &Config) -> anyhow::Result<ExitCode> {
    let database = config.database_url.as_ref();
    let data_dir = match database {
        Some(_) => None,
        None => Some(existing(config.data_dir.clone().map_or_else(default_data_dir, Ok)?)?),
    };
    let store = open_store(database, data_dir.as_deref(), Arc::new(SystemClock)).await?;
    let (outbox, now) = (store.outbox, store.clock.now());
    let deadline = config.delivery.deadline();
    let mut missing = false;
    match command {
        Command::List { state, most, output } => {
            let deliveries = outbox.list(&Filter { states: state, most }).await?;
            match output {
                Output::Json => show::json(&deliveries)?,
                Output::Text => list(&deliveries, now)?,
            }
        }
        Command::Show { id } => match outbox.delivery(id).await? {
            Some(delivery) => show::json(&delivery)?,
            None => missing = absent(id),
        },
        Command::Retry { ids } => {
            for id in ids {
                match outbox.retry(id, now, now.after(deadline)).await? {
                    Some(delivery) => say(&delivery)?,
                    None => missing = absent(id),
                }
            }
        }
        Command::Discard { ids } => {
            for id in ids {
                let hint = "an operator discarded it";
                match outbox.end(id, Reason::Discarded, hint, now).await? {
                    Some(delivery) => say(&delivery)?,
                    None => missing = absent(id),
                }
            }
        }
    }
    outbox.close().await;
    Ok(if missing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A mistyped directory is an error, and not an empty outbox.
fn existing(data_dir: PathBuf) -> Result<PathBuf, ConfigError> {
    if data_dir.is_dir() {
        return Ok(data_dir);
    }
    let error = format!("{} does not exist: name the one that `serve` uses", data_dir.display());
    Err(ConfigError::setting("HERALD_DATA_DIR", error))
}

fn list(deliveries: &[Delivery], now: Timestamp) -> std::io::Result<()> {
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

fn say(delivery: &Delivery) -> std::io::Result<()> {
    show::text(&format!("{} {}\n", delivery.id, delivery.state.as_str()))
}

fn absent(id: DeliveryId) -> bool {
    show::complain(&format!("herald: there is no delivery {id}"));
    true
}

/// As kubectl shows it: 42s, 7m, 3h, 2d.
fn age(age: Duration) -> String {
    match age.as_secs() {
        s @ 0..120 => format!("{s}s"),
        s @ 120..7_200 => format!("{}m", s / 60),
        s @ 7_200..172_800 => format!("{}h", s / 3_600),
        s => format!("{}d", s / 86_400),
    }
}
