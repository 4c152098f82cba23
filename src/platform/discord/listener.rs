//! Listening on Discord: one session at a time, resumed wherever that is possible.
//!
//! An own loop, not a library's: the one HTTP client knows the proxy and the authorities, a server that accepts and closes
//! must not be connected to in a hurry (a thousand sessions a day, then Discord resets the token), and what Discord says has
//! to be read leniently.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::mpsc::{Sender, channel};
use tokio::time::Instant;
use url::Url;

use super::Discord;
use super::config::Config;
use super::events::Servers;
use super::gateway::{BAD_TOKEN, Connection, End, MISSING_INTENT};
use super::intake::{Intake, Item, Listened};
use super::session::{MESSAGE_CONTENT, Session, intents, is_gateway};
use crate::clock::Clock;
use crate::model::{Failure, PlatformKind, Reason};
use crate::platform::finding;
use crate::platform::http::HttpClient;
use crate::platform::listener::{Ears, Fatal, Listener, Standing, backoff};

/// How many events wait between the socket and the inbox; then nothing is read until there is room.
const QUEUE: usize = 1_000;
/// After this many connections that led to nothing, the address is asked for again.
const ASK_AGAIN: u32 = 3;
/// After this many that were opened and led to nothing, the session is given up.
const GIVE_UP: u32 = 5;

/// The token is shown to no such server.
const STRANGE_GATEWAY: &str = "the gateway that was named is neither Discord's nor on the host of DISCORD_API_URL: correct that, or take it away";

/// The pauses, so that tests need not wait for them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// Before the second try.
    pub(super) first_pause: Duration,
    /// Before any.
    pub(super) longest_pause: Duration,
    /// Between two new sessions.
    pub(super) identify_every: Duration,
    /// The least pause after a session that Discord ended; it may be five times as long.
    pub(super) after_expiry: Duration,
    /// A connection that lasts so long was a good one.
    pub(super) stable: Duration,
    /// Between two times that the cursor is saved.
    pub(super) cursor_every: Duration,
    /// How long to go on after being told to stop, and how long the last things may take then.
    pub(super) finish: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(60),
            identify_every: Duration::from_millis(5_100),
            after_expiry: Duration::from_secs(1),
            stable: Duration::from_secs(60),
            cursor_every: Duration::from_secs(1),
            finish: Duration::from_millis(350),
        }
    }
}

/// What listens on Discord as configured; `None` without a bot token. Calls nobody.
#[must_use]
pub fn listener(
    config: &Config,
    http: &HttpClient,
    clock: &Arc<dyn Clock>,
) -> Option<Arc<dyn Listener>> {
    Some(Arc::new(Gateway::new(config, http, clock, Timing::default())?))
}

/// Discord's gateway.
pub(super) struct Gateway {
    discord: Arc<Discord>,
    servers: Servers,
    listened: Listened,
    intents: u64,
    clock: Arc<dyn Clock>,
    timing: Timing,
}

/// <https://docs.discord.com/developers/events/gateway#get-gateway-bot>
#[derive(Debug, Deserialize)]
struct Offer {
    url: Url,
    #[serde(default)]
    session_start_limit: Value,
}

impl Offer {
    fn limit(&self, name: &str) -> Option<u64> {
        self.session_start_limit.get(name).and_then(Value::as_u64)
    }
}

/// The bot's application, as far as the privileged intents go.
/// <https://docs.discord.com/developers/resources/application#application-object-application-flags>
#[derive(Debug, Deserialize)]
struct Application {
    flags: Option<u64>,
}

impl Application {
    /// `GATEWAY_MESSAGE_CONTENT`, and the same for bots in fewer than 100 servers.
    const MESSAGE_CONTENT: u64 = 1 << 18 | 1 << 19;
}

/// How it has been going.
#[derive(Debug, Default)]
struct Luck {
    /// Connections in a row that did not last.
    short: u32,
    /// Those in a row that never came to READY or RESUMED, opened or not.
    vain: u32,
    /// Those of them that were opened.
    hollow: u32,
    /// When the last new session was asked for.
    identified: Option<Instant>,
}

/// What is done next.
enum Next {
    Connect(Url),
    Wait { why: String, at_least: Duration },
}

impl Gateway {
    pub(super) fn new(
        config: &Config,
        http: &HttpClient,
        clock: &Arc<dyn Clock>,
        timing: Timing,
    ) -> Option<Self> {
        Some(Self {
            discord: Arc::new(Discord::new(config, http.clone())?),
            servers: Servers::default(),
            listened: Listened::new(config),
            intents: intents(config.mention_only),
            clock: clock.clone(),
            timing,
        })
    }

    async fn connect(&self, ears: &Ears, queue: Sender<Item>) -> Result<(), Fatal> {
        let cursor = ears.cursor.load().await;
        let base = &self.discord.api.base;
        let mut session = cursor.and_then(|c| Session::remembered(&c, self.intents, base));
        let mut luck = Luck::default();
        while !ears.stop.is_cancelled() {
            let next = tokio::select! {
                () = ears.stop.cancelled() => break,
                next = self.next(session.as_ref(), &luck) => next?,
            };
            let (why, at_least) = match next {
                Next::Wait { why, at_least } => {
                    luck.short = luck.short.saturating_add(1);
                    (why, at_least)
                }
                Next::Connect(url) => {
                    let mut connection = Connection {
                        discord: &self.discord,
                        servers: &self.servers,
                        clock: &*self.clock,
                        ears,
                        queue: &queue,
                        intents: self.intents,
                        session: &mut session,
                        identified: &mut luck.identified,
                        established: None,
                    };
                    let end = connection.run(&url).await;
                    let established = connection.established;
                    luck.after(&end, established, self.timing.stable);
                    match end {
                        End::Stopped => break,
                        End::Fatal(fatal) => return Err(fatal),
                        End::Unopened(why) => (why, Duration::ZERO),
                        End::Lost(why) => {
                            if luck.hollow >= GIVE_UP {
                                session = None;
                            }
                            (why, Duration::ZERO)
                        }
                        End::Expired(why) => {
                            session = None;
                            let factor = 4.0f64.mul_add(self.clock.jitter(), 1.0);
                            (why, self.timing.after_expiry.mul_f64(factor))
                        }
                    }
                }
            };
            tracing::info!(why, "Discord is connected to again");
            ears.stands(Standing::Retrying { why });
            let pause = self.pause(luck.short).max(at_least);
            tokio::select! {
                () = ears.stop.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
            }
        }
        Ok(())
    }

    /// Where to connect to, once that is allowed.
    async fn next(&self, session: Option<&Session>, luck: &Luck) -> Result<Next, Fatal> {
        let resume = session.and_then(|session| session.resume.clone());
        if let Some(url) = resume.filter(|_| luck.vain < ASK_AGAIN) {
            return Ok(Next::Connect(url));
        }
        if session.is_none()
            && let Some(last) = luck.identified
        {
            tokio::time::sleep_until(last + self.timing.identify_every).await;
        }
        let offer: Offer = match self.discord.api.get(&["gateway", "bot"], &[]).await {
            Ok(offer) => offer,
            Err(failure) if failure.reason == Reason::Auth => {
                return Err(Fatal(BAD_TOKEN.to_owned()));
            }
            Err(failure) => {
                let at_least = failure.retry_after().unwrap_or_default();
                return Ok(Next::Wait { why: failure.hint, at_least });
            }
        };
        if session.is_none() && offer.limit("remaining") == Some(0) {
            let at_least = Duration::from_millis(offer.limit("reset_after").unwrap_or_default());
            let why = format!(
                "Discord allows this bot no new session for {} s: too many were begun today",
                at_least.as_secs()
            );
            return Ok(Next::Wait { why, at_least });
        }
        if !is_gateway(&offer.url, &self.discord.api.base) {
            return Ok(Next::Wait { why: STRANGE_GATEWAY.to_owned(), at_least: Duration::ZERO });
        }
        Ok(Next::Connect(offer.url))
    }

    /// Growing, jittered: half of it at least.
    fn pause(&self, short: u32) -> Duration {
        let Timing { first_pause, longest_pause, .. } = self.timing;
        backoff(first_pause, longest_pause, short.saturating_sub(1), self.clock.jitter())
    }
}

impl Luck {
    fn after(&mut self, end: &End, established: Option<Instant>, stable: Duration) {
        match established {
            Some(since) => {
                self.vain = 0;
                self.hollow = 0;
                let lasted = since.elapsed() >= stable;
                self.short = if lasted { 1 } else { self.short.saturating_add(1) };
            }
            None => {
                self.vain = self.vain.saturating_add(1);
                self.short = self.short.saturating_add(1);
                if !matches!(end, End::Unopened(_)) {
                    self.hollow = self.hollow.saturating_add(1);
                }
            }
        }
    }
}

#[async_trait]
impl Listener for Gateway {
    fn kind(&self) -> PlatformKind {
        PlatformKind::Discord
    }

    fn exclusive(&self) -> bool {
        true
    }

    async fn check(&self) -> Result<String, Fatal> {
        let refused = |failure: Failure| {
            let token = failure.reason == Reason::Auth;
            let told = || finding::sentence(PlatformKind::Discord, &failure);
            Fatal(if token { BAD_TOKEN.to_owned() } else { told() })
        };
        let api = &self.discord.api;
        let offer: Offer = api.get(&["gateway", "bot"], &[]).await.map_err(refused)?;
        if !is_gateway(&offer.url, &api.base) {
            return Err(Fatal(STRANGE_GATEWAY.to_owned()));
        }
        let left = match offer.limit("remaining") {
            Some(left) => format!("; {left} new sessions are left today"),
            None => String::new(),
        };
        if self.intents & MESSAGE_CONTENT == 0 {
            return Ok(format!("gateway; it answers mentions only{left}"));
        }
        let me: Application = api.get(&["applications", "@me"], &[]).await.map_err(refused)?;
        match me.flags {
            Some(flags) if flags & Application::MESSAGE_CONTENT == 0 => {
                Err(Fatal(MISSING_INTENT.to_owned()))
            }
            Some(_) => Ok(format!("gateway; the message content intent is on{left}")),
            None => Ok(format!("gateway; Discord does not tell its intents{left}")),
        }
    }

    async fn listen(&self, ears: Ears) -> Result<(), Fatal> {
        let (queue, queued) = channel(QUEUE);
        let intake = Intake {
            discord: &self.discord,
            servers: &self.servers,
            listened: &self.listened,
            clock: &*self.clock,
            ears: &ears,
            timing: self.timing,
            over: ears.stop.child_token(),
        };
        ears.stands(Standing::Starting);
        let over = intake.over.clone();
        let gateway = async {
            let ended = self.connect(&ears, queue).await;
            over.cancel();
            ended
        };
        let (ended, ()) = tokio::join!(gateway, intake.run(queued));
        match &ended {
            Ok(()) => ears.stands(Standing::Stopped),
            Err(fatal) => ears.stands(Standing::Failed { why: fatal.0.clone() }),
        }
        ended
    }
}
