//! Who may speak where. Deny by default; the only place that can make a [`Route`].

mod access;
mod channels;
mod rights;
mod rulebook;

use std::collections::BTreeMap;

pub use access::{Access, Users};
pub use channels::{AllowList, Allowed, InvalidAllowList};
pub use rights::{Config, Mention, Rate, Rights, Secrets, Terms};
pub use rulebook::Rulebook;

use crate::model::{ChannelId, ClientName, Invitation, PlatformKind};

/// Who calls without a name of their own in the file: whoever has `HERALD_TOKEN`, whoever needs none, the one client of
/// `herald stdio`, the person at a shell, and the bot. They share one policy; nobody in the file may be called so.
pub const UNNAMED: [&str; 5] = ["anonymous", "bot", "default", "shell", "stdio"];

/// Permission, now, for one client to speak in one channel.
///
/// It has no public constructor: holding one proves that [`Policy::authorize`] or [`Policy::reply`] said yes.
///
/// ```compile_fail
/// use herald::model::{ChannelId, ClientName, PlatformKind};
/// let channel = ChannelId::new(PlatformKind::Slack, "C0ALERTS").unwrap();
/// let forged = herald::policy::Route { client: ClientName::new("mallory"), channel };
/// ```
#[derive(Debug)]
pub struct Route {
    client: ClientName,
    channel: ChannelId,
    terms: Terms,
}

impl Route {
    /// Who may speak.
    #[must_use]
    pub const fn client(&self) -> &ClientName {
        &self.client
    }

    /// Where.
    #[must_use]
    pub const fn channel(&self) -> &ChannelId {
        &self.channel
    }

    /// What the guard lets pass there.
    #[must_use]
    pub const fn terms(&self) -> &Terms {
        &self.terms
    }
}

static NOTHING: AllowList = AllowList::NONE;

/// The operator's rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    named: BTreeMap<ClientName, Rights>,
    /// Those of the [`UNNAMED`].
    unnamed: Rights,
    nobody: Rights,
    access: Access,
}

/// This person may not talk to the agent there, or not any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the person this answers may not talk to the agent there")]
pub struct Unwelcome;

/// This client may not do that there. Says nothing about whether the channel exists.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It may not speak there.
    #[error("posting to that {} channel is not allowed; {allowed}", platform.title())]
    Channel {
        /// The platform.
        platform: PlatformKind,
        /// Where it may.
        allowed: String,
    },
    /// It may not write in threads.
    #[error(
        "writing in threads is not allowed: leave out what names or opens one, and post to the channel itself"
    )]
    Threads,
}

impl Policy {
    /// Rules that allow the [`UNNAMED`] to send to what `channels` lists, and nothing on platforms that it does not name.
    #[must_use]
    pub fn new(channels: BTreeMap<PlatformKind, AllowList>) -> Self {
        Self::default().with_unnamed(Rights::to_send(channels))
    }

    /// The same with other rights for the [`UNNAMED`].
    #[must_use]
    pub fn with_unnamed(self, unnamed: Rights) -> Self {
        Self { unnamed, ..self }
    }

    /// The same with rights for clients that have a name of their own.
    #[must_use]
    pub fn with_clients(self, named: BTreeMap<ClientName, Rights>) -> Self {
        Self { named, ..self }
    }

    /// The same with rules for what comes in.
    #[must_use]
    pub fn with_access(self, access: Access) -> Self {
        Self { access, ..self }
    }

    /// Who may talk to the agent, and decide for it.
    #[must_use]
    pub const fn access(&self) -> &Access {
        &self.access
    }

    /// What `client` may do: nothing if nobody is called so, or not any more.
    #[must_use]
    pub fn rights(&self, client: &ClientName) -> &Rights {
        match self.named.get(client) {
            Some(rights) => rights,
            None if UNNAMED.contains(&client.as_str()) => &self.unnamed,
            None => &self.nobody,
        }
    }

    /// Whether anybody may post anywhere on a platform.
    #[must_use]
    pub fn lets_anybody_post(&self, platform: PlatformKind) -> bool {
        let lists =
            self.named.values().chain([&self.unnamed]).filter_map(|it| it.send.get(&platform));
        lists.into_iter().any(|list| list.any() || !list.listed().is_empty())
    }

    /// Permission to answer where somebody spoke to the bot, in that conversation alone.
    ///
    /// # Errors
    /// When that person may not talk to the agent there, or not any more.
    pub fn reply(&self, client: &ClientName, invitation: &Invitation) -> Result<Route, Unwelcome> {
        let visit = invitation.visit();
        let welcome = match invitation {
            Invitation::Answer { .. } => self.access.admits(visit),
            Invitation::TurnAway { .. } => self.access.listens(visit),
        };
        if welcome { Ok(self.route(client, &visit.channel)) } else { Err(Unwelcome) }
    }

    /// The channels of one platform that `client` may post to.
    #[must_use]
    pub fn allowed(&self, client: &ClientName, platform: PlatformKind) -> &AllowList {
        self.rights(client).send.get(&platform).unwrap_or(&NOTHING)
    }

    /// The channels of one platform that `client` may see besides.
    #[must_use]
    pub fn shown(&self, client: &ClientName, platform: PlatformKind) -> &AllowList {
        self.rights(client).list.get(&platform).unwrap_or(&NOTHING)
    }

    /// The channel that `name` stands for: an alias of the operator's, or an ID.
    ///
    /// # Errors
    /// When it is neither. The answer is the same as for a channel that is not allowed.
    pub fn resolve(
        &self,
        client: &ClientName,
        platform: PlatformKind,
        name: &str,
    ) -> Result<ChannelId, Denied> {
        let prefix = format!("{platform}:");
        let name = name.trim();
        let name = name.strip_prefix(&prefix).unwrap_or(name);
        self.allowed(client, platform)
            .by_alias(name)
            .cloned()
            .or_else(|| ChannelId::new(platform, name).ok())
            .ok_or_else(|| self.denied(client, platform))
    }

    /// Permission for `client` to speak in `channel`.
    ///
    /// # Errors
    /// When the operator did not allow it.
    pub fn authorize(&self, client: &ClientName, channel: &ChannelId) -> Result<Route, Denied> {
        if self.allowed(client, channel.platform()).contains(channel) {
            Ok(self.route(client, channel))
        } else {
            Err(self.denied(client, channel.platform()))
        }
    }

    /// Permission for `client` to write in threads.
    ///
    /// # Errors
    /// When the operator did not allow it.
    pub fn authorize_threads(&self, client: &ClientName) -> Result<(), Denied> {
        if self.rights(client).threads { Ok(()) } else { Err(Denied::Threads) }
    }

    fn route(&self, client: &ClientName, channel: &ChannelId) -> Route {
        let terms = self.rights(client).terms(channel);
        Route { client: client.clone(), channel: channel.clone(), terms }
    }

    fn denied(&self, client: &ClientName, platform: PlatformKind) -> Denied {
        Denied::Channel { platform, allowed: self.allowed(client, platform).to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Person, Visit};

    fn policy(slack: &str) -> Policy {
        let list = AllowList::parse(PlatformKind::Slack, slack.split(',')).unwrap();
        Policy::new(BTreeMap::from([(PlatformKind::Slack, list)]))
    }

    fn speak(policy: &Policy, name: &str) -> Result<String, Denied> {
        let client = ClientName::new("default");
        let channel = policy.resolve(&client, PlatformKind::Slack, name)?;
        Ok(policy.authorize(&client, &channel)?.channel().to_string())
    }

    #[test]
    fn nothing_is_allowed_by_default() {
        assert!(speak(&Policy::default(), "C0ALERTS").is_err());
        assert!(speak(&policy(""), "C0ALERTS").is_err());
    }

    #[test]
    fn whoever_left_the_file_may_do_nothing() {
        let list = AllowList::parse(PlatformKind::Slack, ["C0ALERTS"]).unwrap();
        let rights = Rights::to_send(BTreeMap::from([(PlatformKind::Slack, list)]));
        let (agent, channel) = (ClientName::new("agent"), "slack:C0ALERTS".parse().unwrap());
        let named = policy("*").with_clients(BTreeMap::from([(agent.clone(), rights)]));
        assert!(named.authorize(&agent, &channel).is_ok());
        assert!(named.authorize(&agent, &"slack:C0OTHER".parse().unwrap()).is_err());
        let gone = named.with_clients(BTreeMap::new());
        assert!(gone.authorize(&agent, &channel).is_err(), "nor what those without a name may");
        assert!(gone.authorize(&ClientName::new("default"), &channel).is_ok());
    }

    #[test]
    fn an_answer_is_allowed_where_nobody_may_post_and_no_longer_than_its_person_is() {
        let visit = Visit {
            channel: "slack:C0PRIVATE".parse().unwrap(),
            thread: None,
            direct: false,
            person: Person { id: "U0ALICE".to_owned(), name: None, outsider: false },
        };
        let bot = ClientName::new("bot");
        let answer = Invitation::Answer { visit: visit.clone() };
        let open = Policy::default();
        assert!(speak(&open, "C0PRIVATE").is_err());
        assert_eq!(open.reply(&bot, &answer).unwrap().channel(), &visit.channel);
        let users = Users::parse(PlatformKind::Slack, &["U0BOB".to_owned()]).unwrap();
        let closed =
            Policy::default().with_access(Access::default().users(PlatformKind::Slack, users));
        assert!(closed.reply(&bot, &answer).is_err());
        assert!(closed.reply(&bot, &Invitation::TurnAway { visit }).is_ok());
    }

    #[test]
    fn a_listed_channel_is_allowed_by_id_alias_and_full_name() {
        let policy = policy("alerts=C0ALERTS, C0GENERAL");
        for name in ["C0ALERTS", "alerts", " slack:C0ALERTS "] {
            assert_eq!(speak(&policy, name).unwrap(), "slack:C0ALERTS");
        }
    }

    #[test]
    fn a_denial_is_the_same_for_what_exists_and_what_does_not() {
        let policy = policy("alerts=C0ALERTS");
        let private = speak(&policy, "C0PRIVATE").unwrap_err();
        assert_eq!(private, speak(&policy, "no such thing").unwrap_err());
        assert_eq!(
            private.to_string(),
            "posting to that Slack channel is not allowed; you may use: C0ALERTS (alerts)"
        );
    }

    #[test]
    fn a_star_allows_every_well_formed_id() {
        let policy = policy("*");
        assert!(speak(&policy, "C0ANYTHING").is_ok());
        assert!(speak(&policy, "#general").is_err());
    }
}
