//! The channels there are, and how the bot stands in each.

use super::Vendor;

/// What [`World::exports`](super::World::exports) lets agents post to.
pub(super) const SLACK_ALLOWED: &str = "C0GENERAL,alerts=C0ALERTS";
pub(super) const DISCORD_ALLOWED: &str = "100000000000000001";
pub(super) const TELEGRAM_ALLOWED: &str = "-1001000000001";

/// How the bot stands in a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It may post.
    Member,
    /// Slack: it was never invited. Discord: it cannot see the channel. Telegram: it was removed.
    Outside,
    /// It sees the channel and may not post.
    ReadOnly,
    /// Nobody may post any more.
    Archived,
    /// Nothing can be posted in a channel of this type (a Discord forum).
    NotText,
    /// Telegram: the group became a supergroup with another ID.
    Moved,
}

/// A channel, or a Discord thread, which is a channel too.
#[derive(Clone, Debug)]
pub(super) struct Channel {
    pub vendor: Vendor,
    pub id: String,
    pub name: String,
    pub topic: &'static str,
    pub standing: Standing,
    /// Slack: a private channel. Telegram: a chat without a public name.
    pub private: bool,
    /// In the allow-list of `exports`.
    pub allowed: bool,
    /// Telegram: a supergroup with topics.
    pub forum: bool,
    /// Discord: the channel that this thread belongs to.
    pub parent: Option<String>,
    /// A conversation of the bot with this person alone.
    pub direct: Option<&'static str>,
}

impl Channel {
    fn new(vendor: Vendor, id: &str, name: &str, topic: &'static str) -> Self {
        Self {
            vendor,
            id: id.to_owned(),
            name: name.to_owned(),
            topic,
            standing: Standing::Member,
            private: false,
            allowed: false,
            forum: false,
            parent: None,
            direct: None,
        }
    }

    /// A Discord thread of `parent`.
    pub(super) fn thread(parent: &Self, id: &str, name: &str) -> Self {
        let mut thread = Self::new(Vendor::Discord, id, name, "");
        thread.standing = parent.standing;
        thread.parent = Some(parent.id.clone());
        thread
    }

    fn allowed(mut self) -> Self {
        self.allowed = true;
        self
    }

    fn private(mut self) -> Self {
        self.private = true;
        self
    }

    fn direct(mut self, with: &'static str) -> Self {
        self.direct = Some(with);
        self.private = true;
        self
    }

    fn standing(mut self, standing: Standing) -> Self {
        self.standing = standing;
        self
    }

    /// `slack:C0ALERTS`.
    pub(super) fn key(&self) -> String {
        self.vendor.key(&self.id)
    }
}

/// The workspace as it is on the first day.
pub(super) fn all() -> Vec<Channel> {
    use Vendor::{Discord, Slack, Telegram};
    let mut forum =
        Channel::new(Telegram, "-1001000000003", "Platform forum", "A forum; topic 5 exists");
    forum.forum = true;
    vec![
        Channel::new(Slack, "C0GENERAL", "general", "Everyone").allowed(),
        Channel::new(Slack, "C0ALERTS", "alerts", "What the agents found").allowed(),
        Channel::new(Slack, "C0PRIVATE", "leadership", "Not for agents").private(),
        Channel::new(Slack, "C0ARCHIVE", "old-project", "Archived").standing(Standing::Archived),
        Channel::new(Slack, "C0OUTSIDE", "elsewhere", "The bot was not invited")
            .standing(Standing::Outside),
        Channel::new(Discord, "100000000000000001", "alerts", "What the agents found").allowed(),
        Channel::new(Discord, "100000000000000002", "staff", "Not for agents"),
        Channel::new(Discord, "100000000000000003", "announcements", "The bot may only read")
            .standing(Standing::ReadOnly),
        Channel::new(Discord, "100000000000000004", "hidden", "The bot cannot see it")
            .standing(Standing::Outside),
        Channel::new(Discord, "100000000000000005", "ideas", "A forum: posts need a thread")
            .standing(Standing::NotText),
        Channel::new(Telegram, "-1001000000001", "Alerts", "@sandbox_alerts").allowed(),
        Channel::new(Telegram, "-1001000000002", "Management", "Not for agents").private(),
        forum,
        Channel::new(Telegram, "-1001000000004", "Gone", "The bot was removed")
            .private()
            .standing(Standing::Outside),
        Channel::new(Telegram, "-1001000000005", "Quiet", "The bot may only read")
            .private()
            .standing(Standing::ReadOnly),
        Channel::new(Telegram, "-4000000001", "Old group", "Now the supergroup Alerts")
            .private()
            .standing(Standing::Moved),
        Channel::new(Slack, "D0ALICE", "alice", "Alice and the bot").direct("alice"),
        Channel::new(Discord, "400000000000000001", "alice", "Alice and the bot").direct("alice"),
        // Telegram's direct chats have the person's ID.
        Channel::new(Telegram, "5000000001", "alice", "Alice and the bot").direct("alice"),
    ]
}

/// One more channel, which the bot is a member of.
pub(super) fn opened(vendor: Vendor, id: &str) -> Channel {
    Channel::new(vendor, id, id, "Opened later")
}
