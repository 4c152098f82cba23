//! `herald check`: what works, what does not, and the fix.
//!
//! It may run beside a Herald that serves: it binds nothing, opens no WebSocket, takes no update, sends nothing.
//! The store is the real one, opened and brought up to date as `serve` does: beside a Herald that serves, it has to be the
//! same version, or an older one no longer opens the store.
//!
//! ```text
//! platforms.rs   token, scopes, listener, channels: asked of each platform, which knows best (Platform::examine)
//! agents.rs      each agent: its card, and a question that starts nothing
//! queue.rs       what waits in the store, and what did not arrive lately
//! clock.rs       this machine's clock against the others'
//! conflicts.rs   settings that do not go together
//! table.rs       how people see it
//! ```

mod agents;
mod clock;
mod conflicts;
mod platforms;
mod queue;
mod table;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{OptionFuture, join_all};
use tokio::time::{Instant, timeout_at};
use url::Url;

use self::clock::Teller;
use self::platforms::Subject;
use self::queue::Queues;
use super::{Output, default_data_dir, show};
use crate::app::open_store;
use crate::bot::Agents;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::model::PlatformKind;
use crate::platform;
use crate::platform::finding::Finding;
use crate::platform::http::{self, HttpClient};
use crate::store::sqlite::Sqlite;

/// For everything together. What is not answered by then is a finding of its own.
const LIMIT: Duration = Duration::from_secs(25);
/// For one request.
const REQUEST: Duration = Duration::from_secs(10);

pub(super) async fn run(config: Config, output: Output) -> anyhow::Result<ExitCode> {
    let findings = findings(&config, Instant::now() + LIMIT).await?;
    match output {
        Output::Json => show::json(&findings)?,
        Output::Text => show::text(&table::text(&findings))?,
    }
    let ok = findings.iter().all(|found| found.ok);
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Everything at once, in the order in which it is shown.
async fn findings(config: &Config, until: Instant) -> anyhow::Result<Vec<Finding>> {
    let policy = config.policy()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let http = HttpClient::new(&http::Settings { total_timeout: REQUEST, ..Default::default() });
    let http = match http {
        Ok(http) => http,
        Err(error) => return Ok(vec![Finding::told("TLS", &error.to_string())]),
    };
    let agents = Agents::new(&config.agent, &config.agents, &http, &clock)?;
    let Config { slack, discord, telegram, .. } = config;
    let platforms = platform::configured(slack, discord, telegram, &http);
    let bot = agents.is_some();
    let mut listeners = platform::listeners(slack, discord, telegram, &http, &clock);
    listeners.retain(|_| bot);

    let kinds: Vec<_> = platforms.iter().map(|platform| platform.kind()).collect();
    let store = async {
        let found = timeout_at(until, store(config.clone(), kinds)).await;
        found.unwrap_or_else(|_| vec![late("store")])
    };
    let told = told_by(config, &platforms);
    let time = in_time(until, clock::WHAT, clock::finding(&told, &http, &*clock));
    let asked = join_all(platforms.iter().map(|platform| {
        let listener = listeners.iter().find(|it| it.kind() == platform.kind());
        let heard = !listeners.is_empty();
        let subject = Subject { config, policy: &policy, platform, listener, bot, heard };
        async move { subject.findings(until).await }
    }));
    let agents: OptionFuture<_> = agents
        .as_ref()
        .map(|agents| {
            join_all(agents.all().map(|(name, client)| {
                let asked = agents::finding(name, client, config.agent.version);
                in_time(until, agents::what(name), asked)
            }))
        })
        .into();
    let (store, time, asked, agents) = tokio::join!(store, time, asked, agents);

    let mut found = store;
    found.push(time);
    found.extend(conflicts::findings(config, bot));
    if platforms.is_empty() {
        found.push(Finding::fault(
            "platforms",
            "none is configured",
            "set SLACK_BOT_TOKEN, DISCORD_BOT_TOKEN or TELEGRAM_BOT_TOKEN; herald setup says where they come from",
        ));
    }
    found.extend(asked.into_iter().flatten());
    found.extend(agents.into_iter().flatten());
    Ok(found)
}

/// Whether the store that `serve` would use can be written, and what waits in it. On a task of its own: a disk that hangs
/// holds up the thread that waits for it.
async fn store(config: Config, platforms: Vec<PlatformKind>) -> Vec<Finding> {
    match tokio::spawn(opened(config, platforms)).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => vec![Finding::told("store", &format!("{error:#}"))],
        Err(error) => vec![Finding::told("store", &error.to_string())],
    }
}

async fn opened(config: Config, platforms: Vec<PlatformKind>) -> anyhow::Result<Vec<Finding>> {
    let database = config.database_url.as_ref();
    let data_dir = match database {
        Some(_) => None,
        None => Some(config.data_dir.map_or_else(default_data_dir, Ok)?),
    };
    let used = data_dir.as_deref().is_none_or(Sqlite::is_in);
    let store = open_store(database, data_dir.as_deref(), Arc::new(SystemClock)).await?;
    let checked = store.outbox.check_writable().await;
    let queues = Queues::read(&*store.outbox, store.clock.now()).await;
    store.outbox.close().await;
    checked?;
    let mut found = vec![Finding::fine("store", store.place)];
    match queues {
        Ok(queues) if used => found.extend(queues.findings(&platforms)),
        Ok(_) => found.push(Finding::fine(
            "queues",
            "nothing was stored here before; what a stdio, send or sandbox keeps in its own memory cannot be seen from here",
        )),
        Err(error) => found.push(Finding::told("queues", &error.to_string())),
    }
    Ok(found)
}

/// Whose answers tell the time: the platforms', and the agents'.
fn told_by(config: &Config, platforms: &[Arc<dyn platform::Platform>]) -> Vec<(Teller, Url)> {
    let platforms = platforms
        .iter()
        .filter_map(|it| Some((Teller::Platform(it.kind()), it.address()?.clone())));
    let agents = config.agent.url.iter().chain(config.agents.values().map(|agent| &agent.url));
    let agents = agents.map(|url| (Teller::Agent, url.clone()));
    platforms.chain(agents).collect()
}

/// What is found until then.
async fn in_time(
    until: Instant,
    what: impl Into<String>,
    finding: impl Future<Output = Finding>,
) -> Finding {
    timeout_at(until, finding).await.unwrap_or_else(|_| late(what))
}

/// What could not be found out in time.
fn late(what: impl Into<String>) -> Finding {
    let detail = format!("no answer within {} s", LIMIT.as_secs());
    Finding::fault(what, detail, "see what slows down the way there, and run this again")
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_does_not_answer_is_a_finding_and_holds_nobody_up() {
        let until = Instant::now() + LIMIT;
        let found = in_time(until, "Slack token", pending()).await;
        assert!(!found.ok && found.detail.contains("25 s") && found.fix.is_some());
        let in_time = in_time(until, "x", async { Finding::fine("x", "here at once") }).await;
        assert!(in_time.ok, "{in_time:?}");
    }
}
