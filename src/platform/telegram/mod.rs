//! Telegram, over the Bot API.

mod api;
mod chats;
mod config;
mod failure;
mod files;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod messages;
mod polling;
pub mod render;
mod setup;
mod text;
mod trouble;
mod updates;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
pub use config::Config;
use serde::Deserialize;
use serde_json::json;
pub use setup::setup;
use url::Url;

use self::api::Api;
use super::http::HttpClient;
use super::listener::Listener;
use super::verdict::not_understood;
use super::{Capabilities, Credential, Pace, Platform, Sent, Signal};
use crate::clock::Clock;
use crate::model::{
    Action, Attachment, ChannelId, ChannelInfo, Failure, Identity, Part, Placement, PlatformKind,
    Reason, Step,
};
use crate::policy::Route;
use crate::render::{Document, RenderError};

/// For a signal's request. With a second one, where the markup is refused, it stays within 10 s.
const SIGNAL: Duration = Duration::from_secs(6);

/// What listens on Telegram as configured; `None` where the settings for it are missing. Calls nobody.
#[must_use]
pub fn listener(
    config: &Config,
    http: &HttpClient,
    clock: &Arc<dyn Clock>,
) -> Option<Arc<dyn Listener>> {
    let api = api(config, http.clone())?;
    Some(Arc::new(polling::Polling::new(api, config.drop_pending_updates, clock.clone())))
}

fn api(config: &Config, http: HttpClient) -> Option<Api> {
    let token = config.bot_token.clone()?;
    let base = config.api_url.clone().or_else(|| api::BASE.parse().ok())?;
    Some(Api::new(http, base, token))
}

/// One Telegram bot.
#[derive(Debug)]
pub struct Telegram {
    api: Api,
    pace: Option<Pace>,
    bot_pace: Pace,
}

impl Telegram {
    /// Telegram as configured; `None` without a bot token. Calls nobody.
    #[must_use]
    pub fn new(config: &Config, http: HttpClient) -> Option<Self> {
        // Telegram's own limit is about 30 in any second.
        let bot_pace = config.bot_pace.unwrap_or(Pace::new(Duration::from_millis(40), 5));
        Some(Self { api: api(config, http)?, pace: config.pace, bot_pace })
    }
}

fn is_id(id: &str) -> bool {
    id.parse::<i64>().is_ok_and(|id| id > 0)
}

#[async_trait]
impl Platform for Telegram {
    fn kind(&self) -> PlatformKind {
        PlatformKind::Telegram
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { dedupes: false, recalls: false, threads: false, opens_threads: false }
    }

    fn pace(&self, channel: &ChannelId) -> Pace {
        // Groups and channels, whose IDs are negative or names, take 20 a minute.
        let person = channel.id().starts_with(|c: char| c.is_ascii_digit());
        let vendor = if person {
            Pace::new(Duration::from_secs(1), 3)
        } else {
            Pace::new(Duration::from_millis(3333), 3)
        };
        self.pace.unwrap_or(vendor)
    }

    fn credential(&self) -> Credential {
        self.api.credential(self.bot_pace)
    }

    fn render(&self, document: &Document) -> Result<Vec<Part>, RenderError> {
        Ok(render::parts(document)?.into_iter().map(Part::Text).collect())
    }

    fn check(&self, placement: &Placement) -> Result<(), String> {
        let bad = |id: &Option<String>| id.as_deref().is_some_and(|id| !is_id(id));
        if bad(&placement.thread) {
            Err("`message_thread_id` has to be a forum topic's number, such as 42".to_owned())
        } else if bad(&placement.reply_to) {
            Err(
                "`reply_to` has to be a message's number, such as 42 (the message_ids of a receipt)"
                    .to_owned(),
            )
        } else {
            Ok(())
        }
    }

    fn thread_of(&self, first: &str) -> Placement {
        Placement { reply_to: Some(first.to_owned()), ..Placement::default() }
    }

    async fn deliver(
        &self,
        route: &Route,
        placement: &Placement,
        step: &Step,
    ) -> Result<Sent, Failure> {
        let channel = route.channel();
        match &step.action {
            Action::Send { part: Part::File(file) } => self.upload(channel, placement, file).await,
            Action::Send { part } => self.post(channel, placement, part).await,
            Action::Edit { message_id, part, .. } => {
                self.edit(channel, message_id, part, self.api.timeout()).await
            }
            Action::Delete { message_id, .. } => self.delete(channel, message_id).await,
            Action::OpenThread { .. } => {
                Err(Failure::give_up(Reason::Internal, "Telegram opens no threads from messages"))
            }
        }
    }

    async fn signal(
        &self,
        route: &Route,
        placement: &Placement,
        signal: &Signal,
    ) -> Result<(), Failure> {
        match signal {
            Signal::Typing => self.typing(route.channel(), placement, SIGNAL).await,
            Signal::Edit { message_id, part } => {
                self.edit(route.channel(), message_id, part, SIGNAL).await.map(drop)
            }
        }
    }

    async fn fetch(&self, file: &Attachment, most: usize) -> Result<Vec<u8>, Failure> {
        self.file(file, most).await
    }

    async fn describe(&self, channel: &ChannelId) -> Result<ChannelInfo, Failure> {
        self.chat(channel).await
    }

    async fn list(&self) -> Result<Vec<ChannelInfo>, Failure> {
        Err(Failure::give_up(
            Reason::Rejected,
            "Telegram does not tell a bot which chats it is in: the operator can name them in TELEGRAM_CHAT_IDS",
        ))
    }

    fn address(&self) -> Option<&Url> {
        Some(self.api.base())
    }

    async fn probe(&self) -> Result<Identity, Failure> {
        #[derive(Deserialize)]
        struct Me {
            id: i64,
            username: Option<String>,
        }
        let me: Me = serde_json::from_value(self.api.ask("getMe", &json!({})).await?)
            .map_err(|_| not_understood(PlatformKind::Telegram))?;
        let id = me.id.to_string();
        Ok(Identity {
            name: me.username.unwrap_or_else(|| id.clone()),
            id,
            workspace: None,
            scopes: None,
        })
    }
}

#[cfg(test)]
mod tests;
