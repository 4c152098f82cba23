//! `herald audit`: the trail of decisions and outcomes, for whoever has to answer for them.

mod tail;

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Subcommand;
use secrecy::SecretString;

use self::tail::Tail;
use super::outbox::existing;
use super::{Output, default_data_dir, show};
use crate::app::{Store, open_audited, replica};
use crate::clock::SystemClock;
use crate::config::Config;
use crate::store::trail::{Keys, Report, verify, verify_files};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Look for rows that were altered, taken away, added or moved; exit 1 if anything is wrong
    ///
    /// Computes every hash anew. With HERALD_AUDIT_KEY nobody without that key can have written a row or taken the last ones
    /// away. Without one, whoever can write the store can write a whole chain anew, and only the log or a copy elsewhere
    /// tells (see SECURITY.md). `-o json` prints `{chains, rows, findings}`.
    Verify {
        /// Only this chain
        #[arg(long, value_name = "ID")]
        chain: Option<String>,
        /// Look at files that HERALD_AUDIT=file:… wrote instead of the store, the oldest first
        #[arg(long, value_name = "PATH")]
        file: Vec<PathBuf>,
        /// A file with a key from before HERALD_AUDIT_KEY was changed
        #[arg(long, value_name = "PATH")]
        old_key_file: Vec<PathBuf>,
        /// How to print it
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Print the trail as JSON lines, the oldest first
    Tail(Tail),
}

pub(super) async fn run(command: Command, config: &Config) -> anyhow::Result<ExitCode> {
    match command {
        Command::Verify { chain, file, old_key_file, output } => {
            let mut all: Vec<SecretString> = config.audit.key.iter().cloned().collect();
            for path in old_key_file {
                let key = std::fs::read_to_string(&path)
                    .with_context(|| format!("{} cannot be read", path.display()))?;
                all.push(key.trim().into());
            }
            let keys = Keys::new(&all);
            let report = if file.is_empty() {
                let store = open(config).await?;
                let report = verify(&*store.trail, &keys, chain.as_deref()).await?;
                store.outbox.close().await;
                report
            } else {
                let open = |path: &std::path::Path| File::open(path).map(BufReader::new);
                verify_files(&file, &keys, chain.as_deref(), open)
                    .context("the files cannot be read")?
            };
            tell(&report, output)?;
            Ok(if report.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Tail(tail) => {
            let store = open(config).await?;
            tail.run(&*store.trail, store.clock.now()).await?;
            store.outbox.close().await;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The store, without a row of our own in it: who only reads writes no chain.
async fn open(config: &Config) -> anyhow::Result<Store> {
    let database = config.database_url.as_ref();
    let data_dir = match database {
        Some(_) => None,
        None => Some(existing(config.data_dir.clone().map_or_else(default_data_dir, Ok)?)?),
    };
    let settings = config.audit.settings(replica());
    Ok(open_audited(database, data_dir.as_deref(), Arc::new(SystemClock), &settings).await?)
}

fn tell(report: &Report, output: Output) -> anyhow::Result<()> {
    if let Output::Json = output {
        return Ok(show::json(report)?);
    }
    let Report { chains, rows, findings } = report;
    let mut text: String = findings.iter().map(|finding| format!("{finding}\n")).collect();
    let wrong = match findings.len() {
        0 => "nothing is wrong".to_owned(),
        1 => "1 thing is wrong".to_owned(),
        more => format!("{more} things are wrong"),
    };
    text.push_str(&format!("{rows} rows in {chains} chains: {wrong}\n"));
    Ok(show::text(&text)?)
}
