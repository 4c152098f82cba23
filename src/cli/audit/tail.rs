//! `herald audit tail`: the newest rows of all chains, and those that follow.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use clap::Args;
use serde::Deserialize;

use crate::clock::{Timestamp, length};
use crate::model::audit::Act;
use crate::store::trail::{Page, Row};
use crate::store::{StoreError, Trail};

/// How often it is looked for more.
const LOOK: Duration = Duration::from_secs(1);
/// So many rows are read at once.
const AT_ONCE: u32 = 200;

#[derive(Debug, Args)]
pub(in crate::cli) struct Tail {
    /// Go on with what is written from now on, by whichever process, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// So many rows, the newest
    #[arg(short, default_value_t = 20)]
    n: usize,
    /// Only of this type, such as denied or submitted
    #[arg(long = "type", value_name = "TYPE", value_parser = act)]
    act: Option<Act>,
    /// Only about this client
    #[arg(long)]
    client: Option<String>,
    /// Only about this channel, such as slack:C0123456789
    #[arg(long)]
    channel: Option<String>,
    /// Only what was written within this time: 45s, 10m, 2h, 7d
    #[arg(long, value_name = "TIME", value_parser = length)]
    since: Option<Duration>,
}

fn act(name: &str) -> Result<Act, String> {
    Act::named(name).ok_or_else(|| {
        let all: Vec<_> = Act::ALL.iter().map(|act| act.as_str()).collect();
        format!("no type of row: one of {}", all.join(", "))
    })
}

/// What is read of a line.
#[derive(Deserialize)]
struct Said {
    at: String,
    #[serde(rename = "type")]
    act: Act,
    client: Option<String>,
    channel: Option<String>,
}

impl Tail {
    /// Ends with the rows, at Ctrl-C, or when nobody reads them any more.
    pub(super) async fn run(self, trail: &dyn Trail, now: Timestamp) -> anyhow::Result<()> {
        tokio::select! {
            done = self.print(trail, now) => match done {
                Err(error) if is_closed(&error) => Ok(()),
                done => done,
            },
            interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
        }
    }

    async fn print(&self, trail: &dyn Trail, now: Timestamp) -> anyhow::Result<()> {
        let since = self.since.map(|age| now.before(age).rfc3339());
        let chains = trail.chains().await?;
        let mut seen: BTreeMap<String, u64> =
            chains.iter().map(|chain| (chain.id.clone(), chain.n)).collect();
        let mut newest = Vec::new();
        // Chains that were written last come first: the others are mostly older than what was found by then.
        let mut by_time = chains;
        by_time.sort_by_key(|chain| std::cmp::Reverse(chain.at));
        for chain in by_time {
            let oldest: Option<&(String, Row)> = newest.first().filter(|_| newest.len() >= self.n);
            if oldest.is_some_and(|(at, _)| *at > chain.at.rfc3339()) {
                break;
            }
            newest.extend(self.newest(trail, &chain.id, chain.n, since.as_deref()).await?);
            newest.sort_by(|(a, one), (b, other)| {
                (a, &one.chain, one.n).cmp(&(b, &other.chain, other.n))
            });
            newest.drain(..newest.len().saturating_sub(self.n));
        }
        write(newest.iter().map(|(_, row)| row))?;
        if !self.follow {
            return Ok(());
        }
        loop {
            tokio::time::sleep(LOOK).await;
            let mut more = Vec::new();
            for chain in trail.chains().await? {
                let last = seen.entry(chain.id.clone()).or_default();
                while *last < chain.n {
                    let rows = trail.rows(&chain.id, Page::After(*last), AT_ONCE).await?;
                    *last = rows.last().map_or(chain.n, |row| row.n);
                    more.extend(rows.into_iter().filter_map(|row| Some((self.means(&row)?, row))));
                }
            }
            more.sort_by(|(a, one), (b, other)| {
                (a, &one.chain, one.n).cmp(&(b, &other.chain, other.n))
            });
            write(more.iter().map(|(_, row)| row))?;
        }
    }

    /// The newest rows of a chain that are meant, and when each was written.
    async fn newest(
        &self,
        trail: &dyn Trail,
        chain: &str,
        end: u64,
        since: Option<&str>,
    ) -> Result<Vec<(String, Row)>, StoreError> {
        let mut found = Vec::new();
        let mut before = end.saturating_add(1);
        loop {
            let rows = trail.rows(chain, Page::Before(before), AT_ONCE).await?;
            let Some(last) = rows.last() else { return Ok(found) };
            before = last.n;
            let too_old = since.is_some_and(|since| {
                serde_json::from_str::<Said>(&last.line).is_ok_and(|said| *said.at < *since)
            });
            let meant = rows.into_iter().filter_map(|row| Some((self.means(&row)?, row)));
            found.extend(meant.filter(|(at, _)| since.is_none_or(|since| **at >= *since)));
            found.truncate(self.n);
            if found.len() >= self.n || too_old {
                return Ok(found);
            }
        }
    }

    /// When it was written, if it is meant.
    fn means(&self, row: &Row) -> Option<String> {
        let Said { at, act, client, channel } = serde_json::from_str(&row.line).ok()?;
        let same = |wanted: &Option<String>, is: &Option<String>| wanted.is_none() || wanted == is;
        let meant = self.act.is_none_or(|wanted| wanted == act)
            && same(&self.client, &client)
            && same(&self.channel, &channel);
        meant.then_some(at)
    }
}

fn write<'a>(rows: impl Iterator<Item = &'a Row>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for row in rows {
        writeln!(out, "{}", row.line)?;
    }
    out.flush()
}

/// Nobody reads any more.
fn is_closed(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
