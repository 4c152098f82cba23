//! Whether each platform can be spoken to and heard: its token, its listener, its channels.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt};
use tokio::time::Instant;

use super::{in_time, late};
use crate::cli::operator;
use crate::config::{Config, channels_variable};
use crate::model::{ChannelId, PlatformKind};
use crate::platform::Platform;
use crate::platform::finding::{Finding, Purpose};
use crate::platform::listener::{Fatal, Listener};
use crate::policy::{AllowList, Policy};

/// How many channels a platform is asked about at once.
const AT_ONCE: usize = 4;
/// How many channels are named where any is allowed.
const MOST_NAMES: usize = 20;

/// One platform, and what it is for.
pub(super) struct Subject<'a> {
    pub(super) config: &'a Config,
    pub(super) policy: &'a Policy,
    pub(super) platform: &'a Arc<dyn Platform>,
    /// What listens there, where the bot is on.
    pub(super) listener: Option<&'a Arc<dyn Listener>>,
    pub(super) bot: bool,
    /// Whether anything listens on any platform.
    pub(super) heard: bool,
}

impl Subject<'_> {
    /// The token first. Where it is refused, nothing else is asked that needs it: there is one thing to fix.
    pub(super) async fn findings(&self, until: Instant) -> Vec<Finding> {
        let kind = self.platform.kind();
        let allowed = self.policy.allowed(&operator(), kind);
        let posts = allowed.any() || !allowed.listed().is_empty();
        let purpose = Purpose { posts, listens: self.bot };
        let what = format!("{} token", kind.title());
        let examined = async { self.platform.examine(purpose).await };
        let examined = tokio::time::timeout_at(until, examined);
        let mut found = examined.await.unwrap_or_else(|_| vec![late(what)]);
        let usable = found.first().is_some_and(|token| token.ok);
        found.extend(self.listener(usable, until).await);
        if usable {
            found.extend(self.channels(allowed, until).await);
        }
        found
    }

    async fn listener(&self, usable: bool, until: Instant) -> Option<Finding> {
        let kind = self.platform.kind();
        let what = format!("{} listener", kind.title());
        match self.listener {
            Some(listener) if usable || listener.has_own_token() => {
                let check = async {
                    match listener.check().await {
                        Ok(sentence) => Finding::heard(what.clone(), &sentence),
                        Err(Fatal(sentence)) => Finding::told(what.clone(), &sentence),
                    }
                };
                Some(in_time(until, what.clone(), check).await)
            }
            None if self.bot && kind == PlatformKind::Slack => Some(self.slack_over_http(what)),
            _ => None,
        }
    }

    /// Without an app token Slack has to call, or is not listened to.
    fn slack_over_http(&self, what: String) -> Finding {
        if self.config.slack.signing_secret.is_some() {
            let detail =
                "HTTP; Slack has to reach POST /slack/events, which cannot be seen from here";
            return Finding::fine(what, detail);
        }
        let (detail, fix) = (
            "none, so that nobody can talk to the agent on Slack",
            "set SLACK_APP_TOKEN (Socket Mode) or SLACK_SIGNING_SECRET (HTTP); herald setup slack says where they come from",
        );
        // Others may be all that is wanted.
        if self.heard {
            Finding::advice(what, detail, fix)
        } else {
            Finding::fault(what, detail, fix)
        }
    }

    async fn channels(&self, allowed: &AllowList, until: Instant) -> Vec<Finding> {
        let mut found = Vec::new();
        if !allowed.any() && allowed.listed().is_empty() {
            found.push(self.none_allowed());
        }
        let places = self.places(allowed);
        let examined = stream::iter(&places).map(|place| async move {
            let what = place.channel.to_string();
            let examined = self.platform.examine_channel(&place.channel, place.purpose);
            let mut examined = in_time(until, what, examined).await;
            if let Some(alias) = &place.alias
                && !examined.detail.starts_with(alias.as_str())
            {
                examined = examined.named(alias);
            }
            examined
        });
        found.extend(examined.buffered(AT_ONCE).collect::<Vec<_>>().await);
        if allowed.any() {
            found.push(self.any(until).await);
        }
        found
    }

    fn none_allowed(&self) -> Finding {
        let kind = self.platform.kind();
        let what = format!("{} channels", kind.title());
        let detail = "none is allowed, so agents can post nothing by themselves";
        let fix = format!("list those that they may post to in {}", channels_variable(kind));
        // A bot answers where it is spoken to, all the same.
        if self.bot {
            Finding::advice(what, detail, fix)
        } else {
            Finding::fault(what, detail, fix)
        }
    }

    /// Every channel that is named somewhere.
    fn places(&self, allowed: &AllowList) -> Vec<Place> {
        let kind = self.platform.kind();
        let mut places: Vec<Place> = Vec::new();
        let listened = self.listened();
        for entry in allowed.listed() {
            let listens = self.bot && (listened.is_empty() || listened.contains(&entry.channel));
            let purpose = Purpose { posts: true, listens };
            let (channel, alias) = (entry.channel.clone(), entry.alias.clone());
            places.push(Place { channel, alias, purpose });
        }
        let ways = self.config.agents.values().flat_map(|agent| &agent.channels);
        let ways = ways.filter_map(|channel| channel.parse::<ChannelId>().ok());
        for channel in listened.into_iter().chain(ways).filter(|_| self.bot) {
            if channel.platform() == kind && !places.iter().any(|it| it.channel == channel) {
                let purpose = Purpose { posts: false, listens: true };
                places.push(Place { channel, alias: None, purpose });
            }
        }
        places
    }

    /// Where the bot listens, where that is limited.
    fn listened(&self) -> Vec<ChannelId> {
        let listen_in = self.config.discord.listen_in.iter();
        let listen_in = listen_in.filter(|_| self.platform.kind() == PlatformKind::Discord);
        listen_in.filter_map(|id| ChannelId::new(PlatformKind::Discord, id).ok()).collect()
    }

    /// Whatever the bot is in, for an allow-list of `*`: that it cannot post in one of them is no fault.
    async fn any(&self, until: Instant) -> Finding {
        let kind = self.platform.kind();
        let what = format!("{kind}:*");
        let channels = match tokio::time::timeout_at(until, self.platform.list()).await {
            Ok(Ok(channels)) => channels,
            // Telegram has no such list, a token may lack the scope; posting needs neither.
            Ok(Err(failure)) => {
                return Finding { ok: true, ..Finding::told(what, &failure.hint) };
            }
            Err(_) => return late(what),
        };
        let names: Vec<_> = channels.iter().filter_map(|it| it.name.as_deref()).collect();
        match &names[..] {
            [] => Finding::advice(
                what,
                "the bot is in no channel",
                "invite it to those that agents may post to",
            ),
            names if names.len() <= MOST_NAMES => Finding::fine(what, names.join(", ")),
            [first @ .., _] => {
                let shown: Vec<_> = first.iter().copied().take(MOST_NAMES).collect();
                let more = names.len() - shown.len();
                Finding::fine(what, format!("{} and {more} more", shown.join(", ")))
            }
        }
    }
}

/// A channel, and what for.
struct Place {
    channel: ChannelId,
    alias: Option<String>,
    purpose: Purpose,
}
