//! Who may talk to the agent, from where, and who may decide for it.

use std::collections::BTreeMap;

use crate::model::{ChannelId, PlatformKind, Visit};

/// Who may talk to the agent on one platform.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Users {
    /// What the platform's operators would expect: Slack's members wherever the bot is invoked, whoever writes in a Discord
    /// channel the bot listens in (but not in direct messages), nobody on Telegram.
    #[default]
    Usual,
    /// Everyone (`*`).
    Everyone,
    /// These, by the platform's IDs of them.
    Listed(Vec<String>),
}

impl Users {
    /// Reads a list of user IDs; `*` is everyone, nothing is the usual.
    ///
    /// # Errors
    /// When an entry is no ID of that platform; the error quotes it.
    pub fn parse(platform: PlatformKind, entries: &[String]) -> Result<Self, String> {
        let mut listed = Vec::new();
        for entry in entries.iter().map(|entry| entry.trim()).filter(|entry| !entry.is_empty()) {
            if entry == "*" {
                return Ok(Self::Everyone);
            }
            if !is_user_id(platform, entry) {
                let shown: String = entry.chars().filter(|c| !c.is_control()).take(64).collect();
                return Err(format!("`{shown}` is not {}", user_id_shape(platform)));
            }
            listed.push(entry.to_owned());
        }
        Ok(if listed.is_empty() { Self::Usual } else { Self::Listed(listed) })
    }

    fn admit(&self, visit: &Visit) -> bool {
        match self {
            Self::Everyone => true,
            Self::Listed(ids) => ids.contains(&visit.person.id),
            Self::Usual => match visit.platform() {
                PlatformKind::Slack => !visit.person.outsider,
                PlatformKind::Discord => !visit.direct,
                PlatformKind::Telegram => false,
            },
        }
    }
}

fn is_user_id(platform: PlatformKind, id: &str) -> bool {
    match platform {
        PlatformKind::Slack => {
            (3..=32).contains(&id.len())
                && id.starts_with(['U', 'W'])
                && id.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
        }
        PlatformKind::Discord => {
            (17..=20).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_digit())
        }
        PlatformKind::Telegram => {
            (1..=16).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_digit())
        }
    }
}

const fn user_id_shape(platform: PlatformKind) -> &'static str {
    match platform {
        PlatformKind::Slack => "a Slack user ID such as U0123456789 (not a name)",
        PlatformKind::Discord => "a Discord user ID of 17 to 20 digits",
        PlatformKind::Telegram => "a Telegram user ID such as 123456789 (not an @name)",
    }
}

/// Somebody on a platform: an approver.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Approver {
    platform: PlatformKind,
    /// `None` is everyone who may talk to the agent there.
    user: Option<String>,
}

/// The rules for what comes in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    users: BTreeMap<PlatformKind, Users>,
    /// Where the bot listens, where that is limited.
    channels: BTreeMap<PlatformKind, Vec<ChannelId>>,
    approvers: Vec<Approver>,
}

impl Access {
    /// Limits who may talk to the agent on a platform.
    #[must_use]
    pub fn users(mut self, platform: PlatformKind, users: Users) -> Self {
        self.users.insert(platform, users);
        self
    }

    /// Limits where the bot listens; direct messages stay.
    #[must_use]
    pub fn only_in(mut self, platform: PlatformKind, channels: Vec<ChannelId>) -> Self {
        if !channels.is_empty() {
            self.channels.insert(platform, channels);
        }
        self
    }

    /// Says who may decide about an agent's tool calls: `slack:U0123456789`, `telegram:123456789`, `discord:*`. Without
    /// any it is the person who asked.
    ///
    /// # Errors
    /// When an entry is malformed; the error quotes it.
    pub fn approvers(mut self, entries: &[String]) -> Result<Self, String> {
        for entry in entries.iter().map(|entry| entry.trim()).filter(|entry| !entry.is_empty()) {
            let shape = || {
                let shown: String = entry.chars().filter(|c| !c.is_control()).take(64).collect();
                format!(
                    "`{shown}` is no approver: write PLATFORM:USER_ID, for example slack:U0123456789"
                )
            };
            let (prefix, id) = entry.split_once(':').ok_or_else(shape)?;
            let platform = PlatformKind::named(prefix).ok_or_else(shape)?;
            let user = if id == "*" { None } else { Some(id.to_owned()) };
            if user.as_deref().is_some_and(|id| !is_user_id(platform, id)) {
                return Err(shape());
            }
            self.approvers.push(Approver { platform, user });
        }
        Ok(self)
    }

    /// Whether this person may talk to the agent there.
    #[must_use]
    pub fn admits(&self, visit: &Visit) -> bool {
        self.listens(visit)
            && self.users.get(&visit.platform()).unwrap_or(&Users::Usual).admit(visit)
    }

    /// Whether the bot listens there at all. A Discord thread has an ID like a channel's, and may be named like one.
    #[must_use]
    pub fn listens(&self, visit: &Visit) -> bool {
        let Some(channels) = self.channels.get(&visit.platform()) else { return true };
        let thread = visit.thread.as_deref().filter(|_| visit.platform() == PlatformKind::Discord);
        let here = |listed: &ChannelId| *listed == visit.channel || Some(listed.id()) == thread;
        visit.direct || channels.iter().any(here)
    }

    /// Whether this person may decide about a tool call that `asker` (a user ID on the same platform) brought about.
    #[must_use]
    pub fn may_decide(&self, visit: &Visit, asker: &str) -> bool {
        if self.approvers.is_empty() {
            return visit.person.id == asker && self.admits(visit);
        }
        self.approvers.iter().any(|approver| {
            approver.platform == visit.platform()
                && match &approver.user {
                    Some(id) => *id == visit.person.id,
                    None => self.admits(visit),
                }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Person;

    fn visit(channel: &str, user: &str) -> Visit {
        let person = Person { id: user.to_owned(), name: None, outsider: false };
        Visit { channel: channel.parse().unwrap(), thread: None, direct: false, person }
    }

    fn list(entries: &str) -> Vec<String> {
        entries.split(',').map(str::to_owned).collect()
    }

    #[test]
    fn who_may_talk_by_default() {
        let access = Access::default();
        let slack = visit("slack:C0GENERAL", "U0ALICE");
        let discord = visit("discord:100000000000000001", "300000000000000001");
        assert!(access.admits(&slack));
        let outsider = Person { outsider: true, ..slack.person.clone() };
        assert!(!access.admits(&Visit { person: outsider, ..slack }));
        assert!(access.admits(&discord));
        assert!(!access.admits(&Visit { direct: true, ..discord }));
        assert!(!access.admits(&visit("telegram:5000000001", "5000000001")));
    }

    #[test]
    fn a_list_is_the_whole_list() {
        for (platform, entries, channel, in_, out) in [
            (PlatformKind::Slack, "U0ALICE", "slack:C0GENERAL", "U0ALICE", "U0BOB"),
            (PlatformKind::Telegram, "11, 22", "telegram:-1001000000001", "22", "33"),
        ] {
            let users = Users::parse(platform, &list(entries)).unwrap();
            let access = Access::default().users(platform, users);
            assert!(access.admits(&visit(channel, in_)));
            assert!(!access.admits(&visit(channel, out)));
        }
        let error = Users::parse(PlatformKind::Telegram, &list("@alice")).unwrap_err();
        assert!(error.contains("@alice") && error.contains("123456789"), "{error}");
    }

    #[test]
    fn it_listens_only_where_it_was_told_to() {
        let here: ChannelId = "discord:100000000000000001".parse().unwrap();
        let access = Access::default().only_in(PlatformKind::Discord, vec![here]);
        assert!(access.admits(&visit("discord:100000000000000001", "300000000000000001")));
        assert!(!access.admits(&visit("discord:100000000000000002", "300000000000000001")));
    }

    #[test]
    fn a_discord_thread_may_be_listed_by_its_own_id() {
        let thread = "discord:600000000000000001".parse().unwrap();
        let access = Access::default().only_in(PlatformKind::Discord, vec![thread]);
        let within = |thread: Option<&str>| Visit {
            thread: thread.map(str::to_owned),
            ..visit("discord:100000000000000001", "300000000000000001")
        };
        assert!(access.listens(&within(Some("600000000000000001"))));
        assert!(!access.listens(&within(Some("600000000000000002"))));
        assert!(!access.listens(&within(None)));

        // Elsewhere a thread is named by a message, whose number says nothing about channels.
        let chat = "telegram:42".parse().unwrap();
        let access = Access::default().only_in(PlatformKind::Telegram, vec![chat]);
        let topic = visit("telegram:-1001000000001", "11");
        assert!(!access.listens(&Visit { thread: Some("42".to_owned()), ..topic }));
    }

    #[test]
    fn whoever_decides_may_talk_to_the_agent_there() {
        let (alice, bob) = (visit("slack:C0GENERAL", "U0ALICE"), visit("slack:C0GENERAL", "U0BOB"));
        let users = Users::parse(PlatformKind::Slack, &list("U0BOB")).unwrap();
        let access = Access::default()
            .users(PlatformKind::Slack, users)
            .users(PlatformKind::Telegram, Users::Everyone);
        assert!(!access.may_decide(&alice, "U0ALICE"), "not any more");
        let anybody = access.approvers(&list("slack:*")).unwrap();
        assert!(!anybody.may_decide(&alice, "U0BOB") && anybody.may_decide(&bob, "U0ALICE"));
        assert!(!anybody.may_decide(&visit("telegram:-1001000000001", "11"), "11"), "elsewhere");
    }

    #[test]
    fn the_person_who_asked_decides_unless_others_are_named() {
        let (alice, bob) = (visit("slack:C0GENERAL", "U0ALICE"), visit("slack:C0GENERAL", "U0BOB"));
        let access = Access::default();
        assert!(access.may_decide(&alice, "U0ALICE") && !access.may_decide(&bob, "U0ALICE"));
        let access = access.approvers(&list("slack:U0BOB")).unwrap();
        assert!(!access.may_decide(&alice, "U0ALICE") && access.may_decide(&bob, "U0ALICE"));
        let telegram = visit("telegram:-1001000000001", "11");
        assert!(!access.may_decide(&telegram, "11"));
        assert!(
            Access::default().approvers(&list("bob")).unwrap_err().contains("slack:U0123456789")
        );
    }
}
