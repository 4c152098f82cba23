//! An embedded chat workspace: the HTTP APIs of Slack, Discord and Telegram on loopback, in their real wire
//! format, and a live page of what people would see there.
//!
//! It needs no account and no network, and it is the world that Herald's own tests run in. It refuses what the
//! vendors refuse (sizes, scopes, archived channels, broken markup) and, more strictly than they do, arguments
//! it does not know, so that a misspelt field is caught here. To keep it honest it shares no code with what it
//! judges: of Herald's modules it uses [`clock`](crate::clock) alone.
//!
//! ```text
//! POST /sandbox/slack/api/{method}            slack/       exchange.rs: one request, from token and fault
//! ANY  /sandbox/discord/api/v10/{path}        discord/       to answer, and its line in the log
//! ANY  /sandbox/telegram/bot{token}/{method}  telegram/    state.rs, channels.rs: what there is
//! POST /sandbox/agent/                        agent/       a scripted agent that speaks A2A
//! GET  /sandbox/telegram/file/bot{token}/{path}
//! ANY  /sandbox/api/…                         api.rs       faults.rs: what to break next
//! GET  /                                      page/        what people see, pushed live
//! ```
//!
//! What people say and press reaches the bot the vendor's way: Slack's Socket Mode or events, Discord's gateway,
//! Telegram's `getUpdates`, each with a queue of its own (`Inbound`) in the workspace's state.

mod agent;
mod api;
mod channels;
mod discord;
mod exchange;
mod faults;
mod moment;
mod people;
mod slack;
mod state;
mod telegram;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use axum::extract::State as Shared;
use axum::response::Response;
use axum::{Router, middleware};
use http::{HeaderValue, header};
use httpdate::fmt_http_date;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::clock::Clock;

pub use agent::AgentRequest;
pub use discord::Gateway;
pub use faults::{Fault, FaultKind, InvalidFault, Scope};
pub use people::Person;
pub use slack::NotVerified;
pub use state::{Button, File, Message, NotPressed, NotSpoken, Press, Request, Speech, Upload};

use state::State;

/// Whose API a request, a channel or a fault belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Vendor {
    /// Slack's Web API.
    Slack,
    /// Discord's REST API, version 10.
    Discord,
    /// Telegram's Bot API.
    Telegram,
}

impl Vendor {
    /// The lower-case name, which is also the prefix of its channels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Slack => "slack",
            Self::Discord => "discord",
            Self::Telegram => "telegram",
        }
    }

    /// `channel` with this vendor's prefix: `slack:C0ALERTS`.
    fn key(self, channel: &str) -> String {
        format!("{}:{channel}", self.as_str())
    }
}

/// The bot tokens that the world accepts. The default ones look like real ones and are obviously not.
#[derive(Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Slack's, `xoxb-…`.
    pub slack: String,
    /// Discord's, without `Bot `.
    pub discord: String,
    /// Telegram's, `{digits}:{35 characters}`.
    pub telegram: String,
}

impl Default for Tokens {
    fn default() -> Self {
        Self {
            slack: "xoxb-sandbox-not-a-secret".to_owned(),
            discord: "sandbox-discord-bot.SANDBX.works-on-loopback-only".to_owned(),
            telegram: "1000000001:Sandbox_bot_works_on_loopback_only_".to_owned(),
        }
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Tests put canaries in here and then look for them in every output.
        f.write_str("Tokens(…)")
    }
}

/// What happened in a channel, as the page and its event stream learn it.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(in crate::sandbox) enum Event {
    Message {
        message: Message,
    },
    Edited {
        message: Message,
    },
    Deleted {
        message: Message,
    },
    Faults,
    /// The server drains: the event streams end.
    Closing,
}

/// The workspace. Clones share one state.
#[derive(Clone)]
pub struct World {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Arc<dyn Clock>,
    tokens: Tokens,
    state: Mutex<State>,
    agent: agent::Agent,
    /// How many seconds the answers' `Date` is ahead of the clock.
    ahead: AtomicI64,
    events: broadcast::Sender<Event>,
}

/// How many events a page may lag behind before it has to load the channel again.
const EVENTS: usize = 1024;

impl World {
    /// A fresh workspace with the default tokens.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self::with_tokens(clock, Tokens::default())
    }

    /// A fresh workspace that accepts these tokens and no others.
    #[must_use]
    pub fn with_tokens(clock: Arc<dyn Clock>, tokens: Tokens) -> Self {
        Self {
            inner: Arc::new(Inner {
                agent: agent::Agent::new(clock.now()),
                clock,
                tokens,
                state: Mutex::new(State::default()),
                ahead: AtomicI64::new(0),
                events: broadcast::channel(EVENTS).0,
            }),
        }
    }

    /// Everything the workspace serves: the three APIs, the scripted agent, the page and the page's own API.
    pub fn router(&self) -> Router {
        Router::new()
            .merge(slack::router())
            .merge(discord::router())
            .merge(telegram::router())
            .merge(agent::router())
            .merge(api::router())
            .layer(middleware::map_response_with_state(self.clone(), dated))
            .with_state(self.clone())
    }

    /// The messages of a channel (`slack:C0ALERTS`) in the order of arrival, deleted ones included, and those
    /// of its threads among them. Empty for a channel that does not exist.
    #[must_use]
    pub fn messages(&self, channel: &str) -> Vec<Message> {
        self.state().messages(channel)
    }

    /// Opens a channel of this ID, in which the bot may post. One that there is already stays as it is.
    pub fn open_channel(&self, vendor: Vendor, id: &str) {
        let mut state = self.state();
        if state.channel(vendor, id).is_none() {
            state.add_channel(channels::opened(vendor, id));
        }
    }

    /// Says something as a person.
    ///
    /// What begins with a slash is a command where the platform has slash commands: then nobody sees it, and `None`
    /// comes back.
    ///
    /// # Errors
    /// When there is no such channel, or nothing is said.
    pub fn speak(&self, speech: &Speech) -> Result<Option<Message>, NotSpoken> {
        let now = self.inner.clock.now();
        let message = {
            let mut state = self.state();
            if let Some(command) = state.command(speech) {
                state.hear(&command, now);
                return Ok(None);
            }
            state.speak(speech, now)?
        };
        self.tell(Event::Message { message: message.clone() });
        Ok(Some(message))
    }

    /// Presses a button as a person.
    ///
    /// # Errors
    /// When there is no such button.
    pub fn press(&self, press: &Press) -> Result<(), NotPressed> {
        let mut state = self.state();
        let heard = state.press(press)?;
        state.hear(&heard, self.inner.clock.now());
        Ok(())
    }

    /// Queues a fault. Faults are used up in the order in which they were queued. One that fails
    /// [`Fault::check`] is queued too and may strike nobody.
    pub fn fault(&self, fault: Fault) {
        self.state().faults.push(fault);
        self.tell(Event::Faults);
    }

    /// Forgets every fault that is still queued.
    pub fn clear_faults(&self) {
        self.state().faults.clear();
        self.tell(Event::Faults);
    }

    /// The faults still queued, each with the number of times that are left.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        self.state().faults.pending()
    }

    /// The latest requests to the three APIs, oldest first. At most 10,000 are kept.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.state().requests.iter().cloned().collect()
    }

    /// Lets the `Date` of every answer be so many seconds ahead of the clock, or behind it.
    pub fn clock_ahead(&self, seconds: i64) {
        self.inner.ahead.store(seconds, Ordering::Relaxed);
    }

    /// Ends the pages' event streams, which would otherwise keep a server that drains from stopping.
    pub fn close(&self) {
        self.tell(Event::Closing);
    }

    /// The environment for a Herald that talks to this workspace, served under `base`
    /// (`http://127.0.0.1:3000`).
    #[must_use]
    pub fn exports(&self, base: &str) -> Vec<(String, String)> {
        let base = base.trim_end_matches('/');
        let tokens = &self.inner.tokens;
        self.state().slack.served_under(base);
        [
            ("SLACK_API_URL", format!("{base}/sandbox/slack/api")),
            ("SLACK_BOT_TOKEN", tokens.slack.clone()),
            ("SLACK_APP_TOKEN", slack::app_token(tokens)),
            ("SLACK_CHANNEL_IDS", channels::SLACK_ALLOWED.to_owned()),
            ("DISCORD_API_URL", format!("{base}/sandbox/discord/api/v10")),
            ("DISCORD_BOT_TOKEN", tokens.discord.clone()),
            ("DISCORD_CHANNEL_IDS", channels::DISCORD_ALLOWED.to_owned()),
            ("DISCORD_ALLOWED_USERS", "*".to_owned()),
            ("TELEGRAM_API_URL", format!("{base}/sandbox/telegram")),
            ("TELEGRAM_BOT_TOKEN", tokens.telegram.clone()),
            ("TELEGRAM_CHAT_IDS", channels::TELEGRAM_ALLOWED.to_owned()),
            ("KAGENT_A2A_URL", format!("{base}/sandbox/agent/")),
            ("TELEGRAM_ALLOWED_USERS", "*".to_owned()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves at worst half a message; the world goes on.
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whoever listens, the bot included. Nobody listening is fine.
    fn tell(&self, event: Event) {
        if let Event::Message { message } = &event {
            let now = self.inner.clock.now();
            let mut state = self.state();
            if let Some(heard) = state.heard(message) {
                state.hear(&heard, now);
            }
        }
        let _ = self.inner.events.send(event);
    }
}

/// Dates an answer where the workspace's clock is off; elsewhere the server does.
async fn dated(Shared(world): Shared<World>, mut response: Response) -> Response {
    let ahead = world.inner.ahead.load(Ordering::Relaxed);
    let seconds = world.inner.clock.now().0 / 1000 + ahead;
    if ahead != 0
        && let Ok(seconds) = u64::try_from(seconds)
    {
        let date = fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
        if let Ok(date) = HeaderValue::try_from(date) {
            response.headers_mut().insert(header::DATE, date);
        }
    }
    response
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").finish_non_exhaustive()
    }
}
