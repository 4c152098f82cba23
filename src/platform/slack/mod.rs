//! Slack, over its Web API.

mod api;
mod channels;
mod checkup;
mod config;
pub mod events;
mod failure;
mod files;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod home;
mod inbound;
mod listener;
mod origin;
mod recall;
pub mod render;
mod respond;
mod setup;
mod socket_mode;
mod speech;

use std::time::Duration;

use async_trait::async_trait;
pub use config::Config;
pub use listener::listener;
use serde::{Deserialize, Serialize};
pub use setup::setup;
use slack_morphism::prelude::{
    SlackActionsBlock, SlackApiChatDeleteRequest, SlackApiChatPostMessageRequest,
    SlackApiChatUpdateRequest, SlackBlock, SlackBlockButtonElement, SlackBlockButtonStyle,
    SlackMarkdownBlock, SlackMessageContent, SlackMessageMetadata,
};
use tokio::sync::OnceCell;
use url::Url;
use uuid::Uuid;

use self::api::{Api, Arguments, CallError, Reply};
use self::origin::Origins;
use super::finding::{Finding, Purpose};
use super::http::HttpClient;
use super::known::Known;
use super::verdict::not_understood;
use super::{Capabilities, Credential, Pace, Platform, Sent, Signal};
use crate::clock::Timestamp;
use crate::model::{
    Action, Attachment, Button, ButtonStyle, CardPart, ChannelId, ChannelInfo, Failure, Identity,
    Part, Placement, PlatformKind, Reason, Step,
};
use crate::policy::Route;
use crate::render::{Document, RenderError};

/// Slack cuts, or splits, a longer `text`; next to blocks it is only what notifications show.
const MOST_FALLBACK: usize = 3900;

/// The most characters on a button.
const MOST_LABEL: usize = 75;

/// How long a signal may take.
const SIGNAL: Duration = Duration::from_secs(10);

/// The metadata that names a delivery's step, so that it can be found in the channel's history.
const EVENT_TYPE: &str = "herald_delivery";

/// What the step's nonce is called in it.
const NONCE: &str = "delivery";

/// One Slack app's bot.
#[derive(Debug)]
pub struct Slack {
    api: Api,
    team_id: Option<String>,
    pace: Pace,
    bot_pace: Pace,
    /// The workspace's URL, for permalinks, under the empty name.
    workspace: Known<Url>,
    /// The bot's own user ID, once it had to be known.
    user: OnceCell<String>,
    origins: Origins,
}

impl Slack {
    /// Slack as configured; `None` without a bot token. Calls nobody.
    #[must_use]
    pub fn new(config: &Config, http: HttpClient) -> Option<Self> {
        let token = config.bot_token.clone()?;
        let base = base(config)?;
        Some(Self {
            origins: Origins::new(base.clone()),
            api: Api::new(http, base, token),
            team_id: config.team_id.clone(),
            pace: config.pace.unwrap_or(Pace::new(Duration::from_secs(1), 3)),
            // Slack names no number for a workspace; its 429 says when it is too much.
            bot_pace: config.bot_pace.unwrap_or(Pace::new(Duration::from_millis(20), 50)),
            workspace: Known::default(),
            user: OnceCell::new(),
        })
    }

    async fn post(
        &self,
        channel: &str,
        placement: &Placement,
        nonce: &str,
        part: &Part,
    ) -> Result<Sent, Failure> {
        let mut content = content(part);
        // String values alone: Slack's own metadata would allow more, strict readers of it do not.
        let payload = [(NONCE.to_owned(), nonce.to_owned())].into();
        content.metadata =
            Some(SlackMessageMetadata::new(EVENT_TYPE.to_owned()).with_event_payload(payload));
        let mut typed = SlackApiChatPostMessageRequest::new(channel.into(), content)
            .with_unfurl_links(false)
            .with_unfurl_media(false);
        if let Some(thread) = &placement.thread {
            typed.thread_ts = Some(thread.as_str().into());
            typed.reply_broadcast = placement.broadcast.then_some(true);
        }
        // What slack-morphism's model does not know. Undocumented by Slack, so a best effort only.
        #[derive(Serialize)]
        struct Post {
            #[serde(flatten)]
            typed: SlackApiChatPostMessageRequest,
            client_msg_id: Uuid,
        }
        let post =
            Post { typed, client_msg_id: Uuid::new_v5(&Uuid::NAMESPACE_OID, nonce.as_bytes()) };

        self.learn_workspace();
        let Reply { value, .. } =
            self.api.call::<Posted>("chat.postMessage", Arguments::Json(&post)).await?;
        let Some(ts) = value.ts else {
            return Err(not_understood(PlatformKind::Slack));
        };
        let channel = value.channel.as_deref().unwrap_or(channel);
        Ok(Sent { permalink: self.permalink(channel, &ts, placement.thread.as_deref()), id: ts })
    }

    async fn edit(&self, api: &Api, channel: &str, ts: &str, part: &Part) -> Result<(), Failure> {
        if ts.is_empty() {
            // It was sent through a response URL, which tells no ID.
            return Err(Failure::give_up(
                Reason::NotInChannel,
                "the bot is not in the channel and cannot edit what it said there: invite it with /invite @your-bot",
            ));
        }
        let request = SlackApiChatUpdateRequest::new(channel.into(), content(part), ts.into());
        api.call::<Posted>("chat.update", Arguments::Json(&request)).await?;
        Ok(())
    }

    /// Sends or edits; where the bot is no member, through the response URL if there is one.
    async fn say(
        &self,
        channel: &str,
        placement: &Placement,
        nonce: &str,
        edits: Option<&str>,
        part: &Part,
    ) -> Result<Sent, Failure> {
        let said = match (edits, part) {
            (None, Part::File(file)) => self.upload(channel, placement, file).await,
            (Some(_), Part::File(_)) => {
                return Err(Failure::give_up(
                    Reason::Internal,
                    "a message cannot be edited into a file",
                ));
            }
            (None, part) => self.post(channel, placement, nonce, part).await,
            (Some(ts), part) => self
                .edit(&self.api, channel, ts, part)
                .await
                .map(|()| Sent { id: ts.to_owned(), permalink: self.permalink(channel, ts, None) }),
        };
        match (said, &placement.respond) {
            (Err(failure), Some(url)) if respond::would_help(&failure) && part.text().is_some() => {
                let thread = placement.thread.as_deref();
                let (http, content) = (self.api.http(), content(part));
                let replace = edits.is_some();
                respond::answer(http, &self.origins, url, &content, thread, replace).await?;
                Ok(Sent { id: edits.unwrap_or_default().to_owned(), permalink: None })
            }
            (said, _) => said,
        }
    }

    async fn delete(&self, channel: &str, ts: &str) -> Result<Sent, Failure> {
        let request = SlackApiChatDeleteRequest::new(channel.into(), ts.into());
        let answer = self.api.call::<Posted>("chat.delete", Arguments::Json(&request)).await;
        match answer {
            Ok(_) => {}
            // Gone is gone: an earlier try may have done it.
            Err(CallError::Refused(r)) if r.error.as_deref() == Some("message_not_found") => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Sent { id: ts.to_owned(), permalink: None })
    }

    /// Asks for the workspace's URL while the message travels; who comes too early has no permalink.
    fn learn_workspace(&self) {
        self.workspace.learn("", || {
            let api = self.api.clone();
            async move {
                let reply = api.call::<Who>("auth.test", Arguments::Form(&NOTHING)).await.ok()?;
                reply.value.url
            }
        });
    }

    /// `https://x.slack.com/archives/C…/p1700000000000100?thread_ts=…`, once the workspace is known.
    fn permalink(&self, channel: &str, ts: &str, thread: Option<&str>) -> Option<String> {
        let workspace = self.workspace.get("")?;
        let digits = ts.replace('.', "");
        let mut url =
            super::http::endpoint(&workspace, ["archives", channel, &format!("p{digits}")]);
        if let Some(thread) = thread {
            url.query_pairs_mut().append_pair("thread_ts", thread).append_pair("cid", channel);
        }
        Some(url.into())
    }
}

const NOTHING: [(&str, &str); 0] = [];

/// What is read of an answer about a message: as little as possible, so that nothing else in it can fail.
#[derive(Debug, Deserialize)]
struct Posted {
    channel: Option<String>,
    ts: Option<String>,
}

/// What is read of `auth.test`.
#[derive(Debug, Deserialize)]
struct Who {
    url: Option<Url>,
    user: Option<String>,
    user_id: Option<String>,
    team: Option<String>,
}

/// The base URL of the Web API.
fn base(config: &Config) -> Option<Url> {
    config.api_url.clone().or_else(|| api::BASE.parse().ok())
}

/// The text as a `markdown` block, and without markup for notifications; below it the buttons, row by row.
fn content(part: &Part) -> SlackMessageContent {
    let (body, plain) = part.text().map_or(("", ""), |text| (&*text.body, &*text.plain));
    let rows = match part {
        Part::Card(CardPart { rows, .. }) => rows.as_slice(),
        Part::Text(_) | Part::File(_) => &[],
    };
    let text: SlackBlock = SlackMarkdownBlock::new(body.to_owned()).into();
    let buttons = rows.iter().filter(|row| !row.is_empty()).enumerate().map(|(row, buttons)| {
        let buttons = buttons.iter().enumerate();
        let buttons = buttons.map(|(column, it)| button(it, &format!("{row}-{column}")).into());
        SlackBlock::from(SlackActionsBlock::new(buttons.collect()))
    });
    SlackMessageContent::new()
        .with_text(shorten(plain))
        .with_blocks(std::iter::once(text).chain(buttons).collect())
}

/// A button; its ID has to be the only one of its kind in the message.
fn button(button: &Button, id: &str) -> SlackBlockButtonElement {
    let label: String = button.label.chars().take(MOST_LABEL).collect();
    let mut element = SlackBlockButtonElement::new(label.as_str().into())
        .with_action_id(id.to_owned().into())
        .with_value(button.key.clone());
    element.style = match button.style {
        ButtonStyle::Plain => None,
        ButtonStyle::Good => Some(SlackBlockButtonStyle::Primary),
        ButtonStyle::Danger => Some(SlackBlockButtonStyle::Danger),
    };
    element
}

fn shorten(plain: &str) -> String {
    if plain.chars().count() <= MOST_FALLBACK {
        return plain.to_owned();
    }
    plain.chars().take(MOST_FALLBACK - 1).chain(['…']).collect()
}

/// `1700000000.000100`.
fn is_ts(ts: &str) -> bool {
    let digits = |s: &str, n: usize| s.len() == n && s.bytes().all(|b| b.is_ascii_digit());
    ts.split_once('.').is_some_and(|(seconds, fraction)| digits(seconds, 10) && digits(fraction, 6))
}

#[async_trait]
impl Platform for Slack {
    fn kind(&self) -> PlatformKind {
        PlatformKind::Slack
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { dedupes: false, recalls: true, threads: true, opens_threads: false }
    }

    fn pace(&self, _channel: &ChannelId) -> Pace {
        self.pace
    }

    fn credential(&self) -> Credential {
        self.api.credential(self.bot_pace)
    }

    fn render(&self, document: &Document) -> Result<Vec<Part>, RenderError> {
        Ok(render::parts(document)?.into_iter().map(Part::Text).collect())
    }

    fn check(&self, placement: &Placement) -> Result<(), String> {
        match &placement.thread {
            Some(ts) if !is_ts(ts) => Err(
                "`thread_ts` has to be the parent message's ts, such as 1700000000.000100 (the message_ids of a receipt)"
                    .to_owned(),
            ),
            _ => Ok(()),
        }
    }

    fn thread_of(&self, first: &str) -> Placement {
        Placement { thread: Some(first.to_owned()), ..Placement::default() }
    }

    async fn deliver(
        &self,
        route: &Route,
        placement: &Placement,
        step: &Step,
    ) -> Result<Sent, Failure> {
        let channel = route.channel().id();
        match &step.action {
            Action::Send { part } => self.say(channel, placement, &step.nonce, None, part).await,
            Action::Edit { message_id, part, .. } => {
                self.say(channel, placement, &step.nonce, Some(message_id), part).await
            }
            Action::Delete { message_id, .. } => self.delete(channel, message_id).await,
            Action::OpenThread { .. } => {
                Err(Failure::give_up(Reason::Internal, "Slack's threads need not be opened"))
            }
        }
    }

    async fn recall(
        &self,
        route: &Route,
        placement: &Placement,
        step: &Step,
        since: Timestamp,
    ) -> Result<Option<Sent>, Failure> {
        if !matches!(&step.action, Action::Send { part: Part::Text(_) | Part::Card(_) }) {
            return Err(Failure::give_up(
                Reason::MessageNotFound,
                "whether it arrived cannot be looked up: Slack's files carry no metadata",
            ));
        }
        let (channel, thread) = (route.channel().id(), placement.thread.as_deref());
        let found = self.look_up(channel, thread, &step.nonce, since).await?;
        Ok(found.map(|ts| Sent { permalink: self.permalink(channel, &ts, thread), id: ts }))
    }

    async fn signal(
        &self,
        route: &Route,
        _placement: &Placement,
        signal: &Signal,
    ) -> Result<(), Failure> {
        match signal {
            // Bots cannot type on Slack. What has no ID went through a response URL, which allows five answers: too
            // few for signs of progress.
            Signal::Typing => Ok(()),
            Signal::Edit { message_id, .. } if message_id.is_empty() => Ok(()),
            Signal::Edit { part: Part::File(_), .. } => Ok(()),
            Signal::Edit { message_id, part } => {
                self.edit(&self.api.within(SIGNAL), route.channel().id(), message_id, part).await
            }
        }
    }

    async fn fetch(&self, file: &Attachment, most: usize) -> Result<Vec<u8>, Failure> {
        self.download(file, most).await
    }

    async fn describe(&self, channel: &ChannelId) -> Result<ChannelInfo, Failure> {
        self.channel(channel).await
    }

    async fn list(&self) -> Result<Vec<ChannelInfo>, Failure> {
        self.channels().await
    }

    fn address(&self) -> Option<&Url> {
        Some(self.api.base())
    }

    async fn examine(&self, purpose: Purpose) -> Vec<Finding> {
        self.checkup(purpose).await
    }

    async fn probe(&self) -> Result<Identity, Failure> {
        let Reply { value, scopes } =
            self.api.call::<Who>("auth.test", Arguments::Form(&NOTHING)).await?;
        if let Some(url) = value.url {
            self.workspace.keep("", url);
        }
        let Some(id) = value.user_id else {
            return Err(not_understood(PlatformKind::Slack));
        };
        Ok(Identity {
            name: value.user.unwrap_or_else(|| id.clone()),
            id,
            workspace: value.team,
            scopes,
        })
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
#[path = "answers_tests.rs"]
mod answers_tests;

#[cfg(test)]
#[path = "recall_tests.rs"]
mod recall_tests;
