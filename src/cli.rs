//! The command line.

mod audit;
mod check;
mod healthcheck;
mod outbox;
mod privacy;
#[cfg(feature = "sandbox")]
mod sandbox;
mod show;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use clap::{Parser, Subcommand, ValueEnum};
use secrecy::SecretString;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::show::Table;
use crate::app::{App, Mode, Serves, WAIT};
use crate::clock::SystemClock;
use crate::config::{Config, ConfigError, VARIABLES};
use crate::model::{ChannelId, ClientName, Placement, PlatformKind, Status, Submission};
use crate::platform::http::install_crypto_provider;
use crate::store::StoreError;
use crate::telemetry::{self, LogFormat, otlp};
use crate::{mcp, platform};

/// Where `serve` and `sandbox` listen when nobody says otherwise.
const LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 3000);
/// Where `bot` does.
const LISTEN_BOT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 3001);
/// What every platform's bot needs besides.
const START: &str = "
Then name the agent, check everything, and start:

export KAGENT_A2A_URL=http://kagent-controller.kagent:8083/api/a2a/kagent/my-agent/
herald check
herald bot
";
/// A usage or configuration error.
const USAGE: u8 = 2;

/// Gives kagent agents a voice in Slack, Discord and Telegram.
#[derive(Debug, Parser)]
#[command(name = "herald", version, about, after_long_help = variables())]
struct Cli {
    /// A YAML file with settings; `herald schema` prints what it may hold
    #[arg(long, global = true, env = "HERALD_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where messages and conversations are stored
    #[arg(long, global = true, env = "HERALD_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// A PostgreSQL database to store them in instead; in HERALD_DATABASE_URL no other user of this machine sees it
    #[arg(long, global = true, value_name = "URL")]
    database_url: Option<SecretString>,
    /// How log lines on stderr look
    #[arg(long, global = true, value_enum, default_value_t)]
    log_format: LogFormat,
    /// What is logged, as a tracing filter such as `herald=debug,warn`
    #[arg(long, global = true, env = "HERALD_LOG", value_name = "FILTER")]
    log: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve MCP over streamable HTTP at /mcp
    Serve {
        /// The address to listen on [env: HERALD_LISTEN] [default: 127.0.0.1:3000]
        #[arg(long, value_name = "ADDR")]
        listen: Option<SocketAddr>,
        /// Let people talk to the agent too, as `herald bot` does
        #[arg(long)]
        with_bot: bool,
    },
    /// Let people talk to a kagent agent from Slack, Discord and Telegram
    ///
    /// Needs an agent (KAGENT_A2A_URL) and a platform to listen on: SLACK_BOT_TOKEN with SLACK_APP_TOKEN (Socket Mode) or
    /// SLACK_SIGNING_SECRET (HTTP), DISCORD_BOT_TOKEN, or TELEGRAM_BOT_TOKEN with TELEGRAM_ALLOWED_USERS. `herald setup` says
    /// where they come from, `herald check` whether they work, and `herald --help` lists every variable.
    Bot {
        /// The address for /slack/events and the probes [env: HERALD_LISTEN] [default: 127.0.0.1:3001]
        #[arg(long, value_name = "ADDR")]
        listen: Option<SocketAddr>,
    },
    /// Print what to paste where to set up a platform's bot
    ///
    /// What is set already shapes it: SLACK_SIGNING_SECRET (events over HTTP), SLACK_COMMAND, DISCORD_BOT_TOKEN (the invite
    /// link), DISCORD_MENTION_ONLY, TELEGRAM_ALLOWED_USERS. Calls nobody and shows no secret.
    Setup {
        /// Which platform: slack, discord or telegram
        #[arg(value_parser = platform_named)]
        platform: PlatformKind,
    },
    /// Serve MCP over stdin and stdout
    Stdio,
    /// Run everything on an embedded chat workspace, with no account
    #[cfg(feature = "sandbox")]
    Sandbox {
        /// The address to listen on
        #[arg(long, value_name = "ADDR", default_value_t = LISTEN)]
        listen: SocketAddr,
        /// Leave listening to a `herald bot` of your own: two bots on one token get in each other's way
        #[arg(long)]
        no_bot: bool,
    },
    /// Ask the Herald that runs beside this process whether it is alive: for exec probes; exit 1 if it is not
    ///
    /// In the image `serve` and `bot` listen on one port. Elsewhere a `herald bot` is asked with --listen 127.0.0.1:3001,
    /// unless HERALD_LISTEN says where it is.
    Healthcheck {
        /// The address it listens on; 0.0.0.0 is asked on loopback [env: HERALD_LISTEN] [default: 127.0.0.1:3000]
        #[arg(long, value_name = "ADDR")]
        listen: Option<SocketAddr>,
        /// Ask whether it can do its work (/readyz), not only whether it answers (/healthz)
        #[arg(long)]
        ready: bool,
    },
    /// Check tokens, scopes, channels, listeners, agents, the store, its queues and the clock; exit 1 if anything fails
    ///
    /// Says what is wrong and the fix for it. Ends within 30 s, binds no port, sends nothing and takes nothing away from a
    /// Herald that runs, so that it can be an init container or a Job. `-o json` prints a list of `{what, ok, detail, fix}`;
    /// `fix` is there where something is wrong or could be better.
    ///
    /// The store is opened and its schema brought up to date, as `serve` does: beside a Herald that serves from it, run the
    /// same version, because an older one does not open what a newer one has touched.
    Check {
        /// How to print it
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Send one message, the way a tool call does
    Send {
        /// The channel, such as slack:C0123456789 or slack:alerts
        channel: String,
        /// The text, as Markdown; `-` or nothing reads it from stdin
        text: Option<String>,
        /// How to print the receipt
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// List the channels that agents may use
    Channels {
        /// How to print them
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// See and steer deliveries
    Outbox {
        #[command(subcommand)]
        command: outbox::Command,
    },
    /// See and verify the audit trail
    Audit {
        #[command(subcommand)]
        command: audit::Command,
    },
    /// Print the JSON Schema of the configuration file
    Schema,
}

/// How a result is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// Parses the command line, runs the command, and says how it went: 0 done, 1 failed, 2 usage or configuration error.
#[must_use]
pub fn main() -> ExitCode {
    privacy::keep();
    install_crypto_provider();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Prints help and version to stdout, errors to stderr.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    let code = runtime.block_on(async { run(cli).await.unwrap_or_else(|error| failed(&error)) });
    otlp::finish();
    // Where stdin is no pipe, a thread blocks on it for ever.
    runtime.shutdown_timeout(Duration::from_millis(100));
    code
}

/// One line on stderr that names what is wrong.
fn failed(error: &anyhow::Error) -> ExitCode {
    show::complain(&format!("herald: {error:#}"));
    let configuration = error.is::<ConfigError>()
        || matches!(
            error.downcast_ref(),
            Some(StoreError::DataDirectory(_) | StoreError::DatabaseUrl(_))
        );
    if configuration { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let Cli { config: file, data_dir, database_url, log_format, log, command } = cli;
    if matches!(command, Command::Schema) {
        show::json(&Config::schema())?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Command::Healthcheck { listen, ready } = command {
        return healthcheck::run(listen, ready, file.as_deref()).await;
    }
    let env = |name: &str| std::env::var(name).ok();
    #[cfg(feature = "sandbox")]
    if let Command::Sandbox { listen, no_bot } = command {
        if file.is_some() {
            let error = "the sandbox takes no configuration file: leave it out; what HERALD_* \
                         variables say about the MCP server counts";
            return Err(ConfigError::setting("--config (HERALD_CONFIG)", error).into());
        }
        if database_url.is_some() {
            let error = "the sandbox takes no database: what waits in it would be sent there";
            return Err(ConfigError::setting("--database-url", error).into());
        }
        let serves = if no_bot { Serves::Mcp } else { Serves::Both };
        return sandbox::run(listen, serves, data_dir, log_format, log.as_deref()).await;
    }
    let mut config = Config::load(file.as_deref(), &env)?;
    config.data_dir = data_dir.or(config.data_dir);
    if database_url.is_some() {
        config.database_url = database_url;
        config.check_database()?;
    }
    start_log(log_format, log.as_deref(), &config)?;
    let kept = config.data_dir.clone();
    match command {
        Command::Serve { listen, with_bot } => {
            let address = listen.or(config.listen).unwrap_or(LISTEN);
            serve(config, address, if with_bot { Serves::Both } else { Serves::Mcp }).await
        }
        Command::Bot { listen } => {
            let address = listen.or(config.listen).unwrap_or(LISTEN_BOT);
            serve(config, address, Serves::Bot).await
        }
        Command::Setup { platform } => {
            let mut text = match platform {
                PlatformKind::Slack => platform::slack::setup(&config.slack),
                PlatformKind::Discord => platform::discord::setup(&config.discord),
                PlatformKind::Telegram => platform::telegram::setup(&config.telegram),
            };
            text.push_str(START);
            show::text(&text)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Stdio => {
            let mode = Mode {
                data_dir: kept,
                own_only: true,
                deduplicate: true,
                wait: WAIT,
                serves: Serves::Mcp,
            };
            let app = App::build(config, mode, Arc::new(SystemClock), stop_signal()?).await?;
            app.stdio().await?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Check { output } => check::run(config, output).await,
        Command::Send { channel, text, output } => send(config, &channel, text, output).await,
        Command::Channels { output } => channels(config, output).await,
        Command::Outbox { command } => outbox::run(command, &config).await,
        Command::Audit { command } => audit::run(command, &config).await,
        #[cfg(feature = "sandbox")]
        Command::Sandbox { .. } => Ok(ExitCode::SUCCESS),
        Command::Schema | Command::Healthcheck { .. } => Ok(ExitCode::SUCCESS),
    }
}

/// Log lines and, where the environment names a collector, traces.
fn start_log(format: LogFormat, filter: Option<&str>, config: &Config) -> anyhow::Result<()> {
    let traces = otlp::Settings::read(&|name| std::env::var(name).ok());
    config.keep_secrets();
    telemetry::init(format, filter, config.known.clone())
        .map_err(|error| ConfigError::setting("HERALD_LOG", error))?;
    // Whoever set it may have meant all Pods of a cluster: Herald serves all the same.
    if let Err(error) = traces.and_then(|traces| traces.as_ref().map_or(Ok(()), otlp::start)) {
        tracing::warn!("no traces are exported: {error}");
    }
    Ok(())
}

/// Binds the address, refusing one that would let strangers in.
async fn bind(config: &Config, address: SocketAddr) -> anyhow::Result<TcpListener> {
    mcp::check_exposure(&config.mcp, &config.credentials(), address)
        .map_err(|sentence| ConfigError::setting("HERALD_LISTEN", sentence))?;
    listen(address).await
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}; choose another with --listen"))
}

async fn serve(config: Config, address: SocketAddr, serves: Serves) -> anyhow::Result<ExitCode> {
    let listener = match serves {
        // Slack's signature guards its one route.
        Serves::Bot => listen(address).await?,
        Serves::Mcp | Serves::Both => bind(&config, address).await?,
    };
    let data_dir = match &config.database_url {
        Some(_) => None,
        None => Some(config.data_dir.clone().map_or_else(default_data_dir, Ok)?),
    };
    let stop = stop_signal()?;
    let mode = Mode { data_dir, own_only: false, deduplicate: true, wait: WAIT, serves };
    let app = App::build(config, mode, Arc::new(SystemClock), stop).await?;
    let address = listener.local_addr()?;
    let platforms: Vec<_> = app.platforms().keys().map(|kind| kind.as_str()).collect();
    let platforms = platforms.join(",");
    match serves {
        Serves::Bot => tracing::info!(%address, platforms, "listening for people"),
        Serves::Mcp => {
            tracing::info!(url = %format!("http://{address}/mcp"), platforms, "serving MCP");
        }
        Serves::Both => {
            tracing::info!(url = %format!("http://{address}/mcp"), platforms, "serving MCP and listening for people");
        }
    }
    app.serve(listener, Router::new()).await?;
    Ok(ExitCode::SUCCESS)
}

/// The person at the shell is a client of its own.
fn operator() -> ClientName {
    ClientName::new("shell")
}

/// An application for one command: what it submits, it delivers itself.
async fn build_for_shell(config: Config) -> anyhow::Result<App> {
    let mode = Mode {
        data_dir: config.data_dir.clone(),
        own_only: true,
        deduplicate: false,
        wait: WAIT,
        serves: Serves::Mcp,
    };
    App::build(config, mode, Arc::new(SystemClock), CancellationToken::new()).await
}

async fn send(
    config: Config,
    channel: &str,
    text: Option<String>,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let (platform, channel) = destination(channel)?;
    let text = match text.as_deref() {
        Some("-") | None => {
            let mut text = String::new();
            tokio::io::stdin().read_to_string(&mut text).await.context("the text on stdin")?;
            text
        }
        Some(text) => text.to_owned(),
    };
    let app = build_for_shell(config).await?;
    let running = app.start();
    let submission = Submission {
        platform,
        channel,
        text,
        placement: Placement::default(),
        thread_key: None,
        idempotency_key: None,
    };
    let receipt = app.notifier().submit(&operator(), submission).await;
    running.finish(WAIT).await;
    let receipt = receipt?;
    match output {
        Output::Json => show::json(&receipt)?,
        Output::Text => show::receipt(&receipt)?,
    }
    let arrives = matches!(receipt.status, Status::Delivered | Status::Queued);
    Ok(if arrives { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn platform_named(name: &str) -> Result<PlatformKind, String> {
    PlatformKind::named(name).ok_or_else(|| "write slack, discord or telegram".to_owned())
}

/// `slack:C0123456789` or `slack:alerts`.
fn destination(channel: &str) -> anyhow::Result<(PlatformKind, String)> {
    let known = channel
        .split_once(':')
        .and_then(|(prefix, name)| Some((PlatformKind::named(prefix)?, name.to_owned())));
    match known {
        Some(destination) => Ok(destination),
        // Says what a channel looks like.
        None => Err(ConfigError::setting(
            "CHANNEL",
            channel.parse::<ChannelId>().err().map_or_else(
                || "write PLATFORM:ID, for example slack:C0123456789".to_owned(),
                |error| error.to_string(),
            ),
        )
        .into()),
    }
}

async fn channels(config: Config, output: Output) -> anyhow::Result<ExitCode> {
    let app = build_for_shell(config).await?;
    let channels = app.notifier().channels(&operator(), None).await;
    if output == Output::Json {
        show::json(&channels)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(["CHANNEL", "ALIAS", "NAME", "KIND", "CAN POST", "NOTE"]);
    for channel in channels {
        table.row([
            format!("{}:{}", channel.platform, channel.id),
            channel.alias.unwrap_or_default(),
            channel.name.unwrap_or_default(),
            show::word(&channel.kind),
            if channel.can_post { "yes" } else { "no" }.to_owned(),
            channel.note.unwrap_or_default(),
        ]);
    }
    table.print()?;
    Ok(ExitCode::SUCCESS)
}

/// Cancelled by SIGTERM or Ctrl-C.
fn stop_signal() -> anyhow::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping: what is under way is finished first");
        stopping.cancel();
    });
    Ok(stop)
}

/// `$XDG_STATE_HOME/herald`, or `~/.local/state/herald`.
fn default_data_dir() -> anyhow::Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let state = set("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".local/state")));
    state.map(|state| state.join("herald")).ok_or_else(|| {
        let error = "there is no home directory to store messages in: name a writable directory";
        ConfigError::setting("HERALD_DATA_DIR", error).into()
    })
}

/// The environment variables, for `--help`.
fn variables() -> String {
    let mut text =
        "Environment (a secret X can also be read from the file that X_FILE names):\n".to_owned();
    for variable in VARIABLES {
        text.push_str(&format!("  {:<24} {}\n", variable.name, variable.meaning));
    }
    text.push_str(
        "\nHTTPS_PROXY, NO_PROXY and SSL_CERT_FILE work as everywhere. With OTEL_EXPORTER_OTLP_ENDPOINT traces are exported\n\
         (http/protobuf; OpenTelemetry's other variables work too).\n\
         Exit codes: 0 done, 1 failed, 2 usage or configuration error.",
    );
    text
}
