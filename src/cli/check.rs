//! `herald check`: what works, what does not, and the fix.

use std::path::PathBuf;
use std::process::ExitCode;

use futures_util::future::join_all;
use serde::Serialize;

use super::show::{self, Table};
use super::{Output, build_for_shell, default_data_dir, operator};
use crate::app::{App, open_store};
use crate::config::Config;

/// One thing that was checked.
#[derive(Debug, Serialize)]
struct Row {
    what: String,
    ok: bool,
    detail: String,
}

pub(super) async fn run(config: Config, output: Output) -> anyhow::Result<ExitCode> {
    let mut rows = vec![store(config.data_dir.clone()).await];
    let app = build_for_shell(Config { data_dir: None, ..config }).await?;
    if app.platforms().is_empty() {
        let detail =
            "none is configured: set SLACK_BOT_TOKEN, DISCORD_BOT_TOKEN or TELEGRAM_BOT_TOKEN";
        rows.push(Row { what: "platforms".to_owned(), ok: false, detail: detail.to_owned() });
    }
    rows.extend(tokens(&app).await);
    rows.extend(channels(&app).await);
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
async fn channels(app: &App) -> Vec<Row> {
    let mut rows = Vec::new();
    for kind in app.platforms().keys() {
        let allowed = app.notifier().allowed(&operator(), *kind);
        if !allowed.any() && allowed.listed().is_empty() {
            rows.push(Row {
                what: format!("{} channels", kind.title()),
                ok: false,
                detail: "no channel is allowed, so nothing can be posted: list them".to_owned(),
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
