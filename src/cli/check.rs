//! `herald check`: what works, what does not, and the fix.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use futures_util::future::join_all;
use serde::Serialize;

use super::show::{self, Table};
use super::{Output, build_for_shell, default_data_dir, operator};
use crate::app::{App, open_store};
use crate::bot::Agents;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::model::PlatformKind;
use crate::platform;
use crate::platform::http::{self, HttpClient};
use crate::platform::listener::Fatal;
use crate::store::Outbox;

/// One thing that was checked.
#[derive(Debug, Serialize)]
struct Row {
    what: String,
    ok: bool,
    detail: String,
}

pub(super) async fn run(config: Config, output: Output) -> anyhow::Result<ExitCode> {
    let mut rows = vec![store(config.data_dir.clone()).await];
    let agents = agents(&config).await;
    let listeners = if agents.is_empty() { Vec::new() } else { listeners(&config).await };
    let app = build_for_shell(Config { data_dir: None, ..config }).await?;
    if app.platforms().is_empty() {
        let detail =
            "none is configured: set SLACK_BOT_TOKEN, DISCORD_BOT_TOKEN or TELEGRAM_BOT_TOKEN";
        rows.push(Row { what: "platforms".to_owned(), ok: false, detail: detail.to_owned() });
    }
    rows.extend(tokens(&app).await);
    rows.extend(channels(&app, !agents.is_empty()).await);
    rows.extend(listeners);
    rows.extend(agents);
    let ok = rows.iter().all(|row| row.ok);
    match output {
        Output::Json => show::json(&rows)?,
        Output::Text => {
            let mut table = Table::new(["CHECK", "OK", "DETAIL"]);
            for row in rows {
                table.row([row.what, if row.ok { "yes" } else { "NO" }.to_owned(), row.detail]);
            }
            table.print()?;
        }
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether the data directory that `serve` would use can be written.
async fn store(data_dir: Option<PathBuf>) -> Row {
    let what = "store".to_owned();
    let directory = match data_dir.map_or_else(default_data_dir, Ok) {
        Ok(directory) => directory,
        Err(error) => return Row { what, ok: false, detail: error.to_string() },
    };
    let writable = async {
        let outbox = open_store(Some(&directory)).await?;
        outbox.check_writable().await?;
        outbox.close().await;
        anyhow::Ok(())
    };
    match writable.await {
        Ok(()) => Row { what, ok: true, detail: directory.display().to_string() },
        Err(error) => Row { what, ok: false, detail: error.to_string() },
    }
}

/// Whether each agent answers for itself.
async fn agents(config: &Config) -> Vec<Row> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let agents = HttpClient::new(&http::Settings::default())
        .map_err(|error| error.to_string())
        .and_then(|http| {
            Agents::new(&config.agent, &config.agents, &http, &clock).map_err(|e| e.to_string())
        });
    let agents = match agents {
        Ok(agents) => agents,
        Err(detail) => return vec![Row { what: "agents".to_owned(), ok: false, detail }],
    };
    let cards = agents.iter().flat_map(Agents::all).map(|(name, client)| async move {
        let what = format!("agent {name}");
        match client.card().await {
            Ok(card) => {
                let detail = format!("{}, A2A {}", card.name, card.dialect);
                Row { what, ok: true, detail }
            }
            Err(error) => Row { what, ok: false, detail: error.to_string() },
        }
    });
    join_all(cards).await
}

/// Whether each platform would be heard. Only a bot listens, and it needs an agent.
async fn listeners(config: &Config) -> Vec<Row> {
    let what = |platform: PlatformKind| format!("{} listener", platform.title());
    let http = match HttpClient::new(&http::Settings::default()) {
        Ok(http) => http,
        Err(error) => {
            let detail = error.to_string();
            return vec![Row { what: "listeners".to_owned(), ok: false, detail }];
        }
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let Config { slack, discord, telegram, .. } = config;
    let listeners = platform::listeners(slack, discord, telegram, &http, &clock);
    let checks = listeners.iter().map(|listener| async {
        let what = what(listener.kind());
        match listener.check().await {
            Ok(detail) => Row { what, ok: true, detail },
            Err(Fatal(detail)) => Row { what, ok: false, detail },
        }
    });
    let mut rows = join_all(checks).await;
    if slack.bot_token.is_some() && slack.app_token.is_none() {
        let (ok, detail) = match slack.signing_secret {
            Some(_) => (true, "HTTP: Slack has to reach POST /slack/events, which this cannot see"),
            // Others may be all that is wanted.
            None => (
                !rows.is_empty(),
                "none: set SLACK_APP_TOKEN (Socket Mode) or SLACK_SIGNING_SECRET (HTTP) to be talked to on Slack",
            ),
        };
        rows.insert(0, Row { what: what(PlatformKind::Slack), ok, detail: detail.to_owned() });
    }
    rows
}

/// Who each token belongs to.
async fn tokens(app: &App) -> Vec<Row> {
    let probes = app.platforms().values().map(|platform| async {
        let what = format!("{} token", platform.kind().title());
        match platform.probe().await {
            Ok(identity) => {
                let mut detail = format!("{} ({})", identity.name, identity.id);
                if let Some(workspace) = identity.workspace {
                    detail.push_str(&format!(" in {workspace}"));
                }
                if let Some(scopes) = identity.scopes {
                    detail.push_str(&format!("; scopes: {}", scopes.join(", ")));
                }
                Row { what, ok: true, detail }
            }
            Err(failure) => Row { what, ok: false, detail: failure.hint },
        }
    });
    join_all(probes).await
}

/// Whether each allowed channel can be posted to.
async fn channels(app: &App, bot: bool) -> Vec<Row> {
    let mut rows = Vec::new();
    for kind in app.platforms().keys() {
        let allowed = app.notifier().allowed(&operator(), *kind);
        if !allowed.any() && allowed.listed().is_empty() {
            rows.push(Row {
                what: format!("{} channels", kind.title()),
                // A bot answers where it is spoken to, all the same.
                ok: bot,
                detail: "no channel is allowed, so agents can post nothing: list them".to_owned(),
            });
        }
    }
    for channel in app.notifier().channels(&operator(), None).await {
        let name = channel.alias.or(channel.name).filter(|name| !name.is_empty());
        rows.push(Row {
            what: format!("{}:{}", channel.platform, channel.id),
            ok: channel.can_post,
            detail: [name, channel.note].into_iter().flatten().collect::<Vec<_>>().join("; "),
        });
    }
    rows
}
