//! `herald sandbox`: the real thing, on an embedded chat workspace.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use super::{bind, show, start_log, stop_signal};
use crate::app::{App, Mode, Serves, WAIT};
use crate::clock::SystemClock;
use crate::config::Config;
use crate::sandbox::World;
use crate::telemetry::LogFormat;

pub(super) async fn run(
    listen: SocketAddr,
    serves: Serves,
    data_dir: Option<PathBuf>,
    log_format: LogFormat,
    log: Option<&str>,
) -> anyhow::Result<ExitCode> {
    let own = |name: &str| {
        // The workspace's own tokens, never real ones; only who may call, and which agent answers, is the caller's choice.
        // Nor a real database: what waits in it would be sent in here.
        let own = name.starts_with("HERALD_") && !name.starts_with("HERALD_DATABASE_URL")
            || name.starts_with("KAGENT_")
            || name.starts_with("OTEL_");
        own.then(|| std::env::var(name).ok()).flatten()
    };
    let world = World::new(Arc::new(SystemClock));
    let listener = bind(&Config::load(None, &own)?, listen).await?;
    let address = listener.local_addr()?;
    let base = format!("http://{address}");
    let exports: BTreeMap<String, String> = world.exports(&base).into_iter().collect();
    let config = Config::load(None, &|name| own(name).or_else(|| exports.get(name).cloned()))?;
    start_log(log_format, log, &config)?;
    let mode = Mode { data_dir, own_only: false, deduplicate: true, wait: WAIT, serves };
    let stop = stop_signal()?;
    let app = App::build(config, mode, Arc::new(SystemClock), stop.clone()).await?;
    show::text(&welcome(&base, &exports))?;
    let (open_pages, stopping) = (world.clone(), stop);
    tokio::spawn(async move {
        stopping.cancelled().await;
        // An open page would hold the server for ever.
        open_pages.close();
    });
    app.serve(listener, world.router()).await?;
    Ok(ExitCode::SUCCESS)
}

fn welcome(base: &str, exports: &BTreeMap<String, String>) -> String {
    let exports: String =
        exports.iter().map(|(name, value)| format!("  export {name}='{value}'\n")).collect();
    format!(
        "Herald's sandbox is open. Nothing leaves this machine.

  page   {base}/
  MCP    {base}/mcp   (streamable HTTP)

Send a message, and see it on the page:

  curl -s {base}/mcp -H 'content-type: application/json' -H 'accept: application/json, text/event-stream' \\
    -d '{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{{\"name\":\"send_message_to_slack\",\
\"arguments\":{{\"channel_id\":\"alerts\",\"text\":\"**Hello** from Herald\"}}}}}}'

Or write to the agent on the page: it answers on all three platforms.

Run a `herald stdio` or `herald serve --listen 127.0.0.1:3001` of your own against it, or a `herald bot` if this was
started with --no-bot:

{exports}
Ctrl-C ends it.
"
    )
}
