//! Socket Mode: one WebSocket that is replaced whenever Slack asks for it.
//! <https://docs.slack.dev/apis/events-api/using-socket-mode>
//!
//! Each connection is a task of its own ([`socket_mode`](super::socket_mode)); this is what opens them, one after another,
//! and never in a hurry: `apps.connections.open` may be called about once a minute in the long run.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use super::api::{Api, Arguments, CallError};
use super::home::Finder;
use super::origin::Origins;
use super::socket_mode::{Connection, End, Lanes, Note, Wiring};
use super::{Config, NOTHING};
use crate::clock::Clock;
use crate::model::{Failure, PlatformKind, Reason};
use crate::platform::finding;
use crate::platform::http::HttpClient;
use crate::platform::listener::{Ears, Fatal, Listener, Standing, backoff};
use crate::platform::socket;

/// What listens on Slack as configured; `None` without an app token, or without the bot's own. Calls nobody.
#[must_use]
pub fn listener(
    config: &Config,
    http: &HttpClient,
    clock: &Arc<dyn Clock>,
) -> Option<Arc<dyn Listener>> {
    SocketMode::new(config, http, clock).map(|it| Arc::new(it) as Arc<dyn Listener>)
}

/// How long things take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// Between two pings.
    pub(super) ping: Duration,
    /// After that long without a word the connection is given up.
    pub(super) silence: Duration,
    /// The first pause before another connection; it doubles.
    pub(super) pause: Duration,
    /// The longest.
    pub(super) longest: Duration,
    /// A connection that held that long was a good one: pauses begin anew.
    pub(super) stable: Duration,
    /// How long a connection that ends waits for what is being stored.
    pub(super) drain: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            ping: Duration::from_secs(10),
            silence: Duration::from_secs(45),
            pause: Duration::from_secs(1),
            longest: Duration::from_secs(60),
            stable: Duration::from_secs(60),
            drain: Duration::from_millis(700),
        }
    }
}

/// The pause after `too_many_websockets`: others have to go first.
const CROWDED: Duration = Duration::from_secs(10);

/// How long connections may take to close at the end.
const CLOSE: Duration = Duration::from_millis(900);

/// Slack's Socket Mode.
pub(super) struct SocketMode {
    api: Api,
    origins: Origins,
    finder: Finder,
    clock: Arc<dyn Clock>,
    timing: Timing,
}

/// No connection could be opened.
enum Setback {
    /// And none will be, until somebody changes something.
    Fatal(String),
    Passing {
        why: String,
        after: Option<Duration>,
    },
}

/// What to do once a connection is no longer the one to listen to.
enum Next {
    Stop,
    GiveUp(String),
    Reconnect {
        why: String,
        /// Slack asked for it.
        asked: bool,
        at_least: Duration,
    },
}

impl SocketMode {
    pub(super) fn new(config: &Config, http: &HttpClient, clock: &Arc<dyn Clock>) -> Option<Self> {
        let (app, bot) = (config.app_token.clone()?, config.bot_token.clone()?);
        let base = super::base(config)?;
        Some(Self {
            api: Api::new(http.clone(), base.clone(), app),
            finder: Finder::new(Api::new(http.clone(), base.clone(), bot)),
            origins: Origins::new(base),
            clock: clock.clone(),
            timing: Timing::default(),
        })
    }

    /// With other times, for tests.
    #[cfg(test)]
    pub(super) fn timed(self, timing: Timing) -> Self {
        Self { timing, ..self }
    }

    /// Asks for the address of a WebSocket: <https://docs.slack.dev/reference/methods/apps.connections.open>.
    async fn ask(&self) -> Result<String, CallError> {
        #[derive(Deserialize)]
        struct Opened {
            url: String,
        }
        let opened =
            self.api.call::<Opened>("apps.connections.open", Arguments::Form(&NOTHING)).await?;
        Ok(opened.value.url)
    }

    async fn address(&self) -> Result<Url, Setback> {
        let url = self.ask().await.map_err(|error| match refusal(error) {
            Ok(why) => Setback::Fatal(why.to_owned()),
            Err(failure) => passing(failure),
        })?;
        self.origins.socket(&url).ok_or_else(|| Setback::Passing {
            why: "Slack named no address for a WebSocket".to_owned(),
            after: None,
        })
    }

    /// Opens a connection: asks who the bot is, then for an address, then there.
    async fn connect(
        &self,
        lanes: &Lanes,
        tracker: &TaskTracker,
        close: CancellationToken,
    ) -> Result<Connection, Setback> {
        let home = self.finder.find().await.map_err(|error| match Failure::from(error) {
            Failure { reason: Reason::Auth, hint, .. } => Setback::Fatal(hint),
            failure => passing(failure),
        })?;
        let url = self.address().await?;
        let socket =
            socket::open(self.api.http(), &url).await.map_err(|error| Setback::Passing {
                why: format!("no WebSocket to Slack could be opened: {error}"),
                after: None,
            })?;
        let wiring = Wiring {
            home: home.clone(),
            origins: self.origins.clone(),
            clock: self.clock.clone(),
            timing: self.timing,
            lanes: lanes.clone(),
        };
        Ok(Connection::start(socket, wiring, tracker, close))
    }

    /// Listens to a connection until it has to be replaced. Once it is greeted, the one before it closes.
    async fn attend(
        &self,
        connection: &mut Connection,
        before: &mut Option<Connection>,
        pauses: &mut Pauses,
        ears: &Ears,
    ) -> Next {
        loop {
            let note = tokio::select! {
                biased;
                () = ears.stop.cancelled() => return Next::Stop,
                note = connection.notes.recv() => note,
            };
            match note {
                Some(Note::Hello) => {
                    pauses.connected();
                    if let Some(before) = before.take() {
                        before.close.cancel();
                    }
                    ears.stands(Standing::Connected);
                }
                Some(Note::Replace) => {
                    return Next::Reconnect {
                        why: "Slack asked for another connection".to_owned(),
                        asked: true,
                        at_least: Duration::ZERO,
                    };
                }
                Some(Note::Ended(end)) => return after(end),
                None => return after(End::Lost),
            }
        }
    }
}

/// What the end of a connection means.
fn after(end: End) -> Next {
    let (why, at_least) = match end {
        End::LinkDisabled => {
            return Next::GiveUp(
                "Socket Mode is switched off: switch it on in the app's settings under Socket Mode, or set SLACK_SIGNING_SECRET for events over HTTP and take SLACK_APP_TOKEN away"
                    .to_owned(),
            );
        }
        End::Crowded => ("Slack has too many connections of this app: at most 10", CROWDED),
        End::Silent => ("Slack fell silent", Duration::ZERO),
        End::Lost => ("the connection to Slack broke", Duration::ZERO),
        End::Closed => ("Slack closed the connection", Duration::ZERO),
    };
    Next::Reconnect { why: why.to_owned(), asked: false, at_least }
}

/// What a refused `apps.connections.open` means: what somebody has to change, or something that passes. It is the app
/// token's call, and the table of failures speaks of the bot's.
fn refusal(error: CallError) -> Result<&'static str, Failure> {
    let code = match &error {
        CallError::Refused(refusal) => refusal.error.clone().unwrap_or_default(),
        CallError::Failed(_) => String::new(),
    };
    let failure = Failure::from(error);
    Ok(match (failure.reason, &*code) {
        (Reason::Auth, "not_allowed_token_type") => {
            "SLACK_APP_TOKEN is a token of another kind: set it to the app-level token (xapp-…)"
        }
        (Reason::Auth, _) => {
            "Slack does not accept SLACK_APP_TOKEN: generate an app-level token (xapp-…) with the scope connections:write under Basic Information, and set it"
        }
        (Reason::MissingPermission, "missing_scope") => {
            "SLACK_APP_TOKEN lacks the scope connections:write: generate an app-level token with it under Basic Information, and set it"
        }
        (Reason::MissingPermission, code) if !code.is_empty() => {
            "the Slack workspace does not let the app of SLACK_APP_TOKEN connect: a workspace admin has to approve it"
        }
        _ => return Err(failure),
    })
}

fn passing(failure: Failure) -> Setback {
    let after = failure.retry_after();
    Setback::Passing { why: failure.hint, after }
}

/// Growing pauses between connections.
struct Pauses {
    timing: Timing,
    tries: u32,
    connected: Option<Instant>,
}

impl Pauses {
    const fn new(timing: Timing) -> Self {
        Self { timing, tries: 0, connected: None }
    }

    fn connected(&mut self) {
        self.connected = Some(Instant::now());
    }

    /// The next pause. What Slack asked for after a good while happens at once.
    fn next(&mut self, asked: bool, at_least: Duration, jitter: f64) -> Duration {
        let good = self.connected.take().is_some_and(|at| at.elapsed() >= self.timing.stable);
        if good {
            self.tries = 0;
        }
        let tries = self.tries;
        self.tries = self.tries.saturating_add(1);
        if asked && tries == 0 {
            return at_least;
        }
        backoff(self.timing.pause, self.timing.longest, tries, jitter).max(at_least)
    }
}

#[async_trait]
impl Listener for SocketMode {
    fn kind(&self) -> PlatformKind {
        PlatformKind::Slack
    }

    fn exclusive(&self) -> bool {
        // Slack gives each envelope to one of an app's connections.
        false
    }

    async fn check(&self) -> Result<String, Fatal> {
        match self.ask().await {
            Ok(_) => Ok("Socket Mode; SLACK_APP_TOKEN is accepted".to_owned()),
            Err(error) => Err(Fatal(match refusal(error) {
                Ok(why) => why.to_owned(),
                Err(failure) => finding::sentence(PlatformKind::Slack, &failure),
            })),
        }
    }

    fn has_own_token(&self) -> bool {
        true
    }

    async fn listen(&self, ears: Ears) -> Result<(), Fatal> {
        let lanes = Lanes::new(&ears.inbox);
        let (tracker, all) = (TaskTracker::new(), ears.stop.child_token());
        let mut pauses = Pauses::new(self.timing);
        // Serves on while its successor is opened.
        let mut before: Option<Connection> = None;
        let end = loop {
            let opened = tokio::select! {
                biased;
                () = ears.stop.cancelled() => break Ok(()),
                opened = self.connect(&lanes, &tracker, all.child_token()) => opened,
            };
            let (why, asked, at_least) = match opened {
                Err(Setback::Fatal(why)) => break Err(Fatal(why)),
                Err(Setback::Passing { why, after }) => (why, false, after.unwrap_or_default()),
                Ok(mut connection) => {
                    let next = self.attend(&mut connection, &mut before, &mut pauses, &ears).await;
                    match next {
                        Next::Stop => break Ok(()),
                        Next::GiveUp(why) => break Err(Fatal(why)),
                        Next::Reconnect { why, asked, at_least } => {
                            if asked && let Some(older) = before.replace(connection) {
                                older.close.cancel();
                            }
                            (why, asked, at_least)
                        }
                    }
                }
            };
            let pause = pauses.next(asked, at_least, self.clock.jitter());
            if !pause.is_zero() {
                tracing::warn!(platform = "slack", ?pause, "{why}; another connection is opened");
                ears.stands(Standing::Retrying { why });
            }
            if timeout(pause, ears.stop.cancelled()).await.is_ok() {
                break Ok(());
            }
        };
        all.cancel();
        tracker.close();
        let _ = timeout(CLOSE, tracker.wait()).await;
        ears.stands(match &end {
            Ok(()) => Standing::Stopped,
            Err(Fatal(why)) => Standing::Failed { why: why.clone() },
        });
        end
    }
}

#[cfg(test)]
#[path = "listener_tests.rs"]
mod tests;
