//! Whether a channel can be used, permission by permission: `herald check`.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::channels::Channel;
use super::permissions::{
    ATTACH, HISTORY, Membership, OPEN_THREADS, Permission, SEND, SEND_IN_THREADS, VIEW,
};
use super::{Discord, Me};
use crate::model::{ChannelId, Disposition, Failure, PlatformKind};
use crate::platform::finding::{Finding, Purpose};

/// A channel, with what is different in it from its server.
#[derive(Debug, Deserialize)]
struct Place {
    #[serde(flatten)]
    channel: Channel,
    #[serde(default)]
    permission_overwrites: Value,
}

impl Discord {
    pub(super) async fn checkup(&self, channel: &ChannelId, purpose: Purpose) -> Finding {
        let what = channel.to_string();
        let place = match self.look_at(channel.id()).await {
            Ok(place) => place,
            Err(failure) => return Finding::failed(what, PlatformKind::Discord, &failure),
        };
        let name = place.channel.name.clone().unwrap_or_default();
        // A forum is a place to listen to all the same.
        if let Some(obstacle) = place.channel.obstacle()
            && (purpose.posts || !place.channel.is_forum())
        {
            return Finding::told(what, obstacle).named(&name);
        }
        match self.permissions(&place).await {
            Ok(Some(may)) => {
                let threads = place.channel.is_thread() || place.channel.is_forum();
                permitted(what, may, threads, purpose).named(&name)
            }
            Ok(None) => Finding::fine(what, name),
            // The channel itself could be read: no more is known, and a send tells.
            Err(failure) if failure.disposition == Disposition::GiveUp => {
                Finding::fine(what, "the bot's permissions are not known").named(&name)
            }
            Err(failure) => Finding::failed(what, PlatformKind::Discord, &failure).named(&name),
        }
    }

    async fn look_at(&self, id: &str) -> Result<Place, Failure> {
        self.api.get(&["channels", id], &[]).await
    }

    /// What the bot may there; `None` in direct messages, or where Discord does not tell.
    async fn permissions(&self, place: &Place) -> Result<Option<u64>, Failure> {
        let Some(guild) = place.channel.guild_id.as_deref() else { return Ok(None) };
        let Some(membership) = self.membership(guild).await? else { return Ok(None) };
        let parent = place.channel.parent_id.as_deref().filter(|_| place.channel.is_thread());
        let overwrites = match parent {
            // A thread's are its channel's.
            Some(parent) => self.look_at(parent).await?.permission_overwrites,
            None => place.permission_overwrites.clone(),
        };
        Ok(Some(membership.may(&overwrites)))
    }

    /// What the bot is in a server.
    async fn membership(&self, guild: &str) -> Result<Option<Arc<Membership>>, Failure> {
        if let Some(known) = self.memberships.get(guild) {
            return Ok(Some(known));
        }
        let me: Me = self.api.get(&["users", "@me"], &[]).await?;
        let server: Value = self.api.get(&["guilds", guild], &[]).await?;
        let member: Value = self.api.get(&["guilds", guild, "members", &me.id], &[]).await?;
        let membership = Membership::read(&server, &member, &me.id).map(Arc::new);
        if let Some(membership) = &membership {
            self.memberships.keep(guild, Arc::clone(membership));
        }
        Ok(membership)
    }
}

/// Whether these permissions are enough, in a channel or where everything stands in threads. Pure.
fn permitted(what: String, may: u64, threads: bool, purpose: Purpose) -> Finding {
    let missing = |wanted: &[Permission]| -> Vec<&'static str> {
        wanted.iter().filter(|it| may & it.bit == 0).map(|it| it.name).collect()
    };
    let mut needed = vec![VIEW, if threads { SEND_IN_THREADS } else { SEND }];
    if purpose.listens {
        // An answer refers to its question.
        needed.push(HISTORY);
    }
    let fix = |missing: &[&str]| {
        format!(
            "give the bot's role {} in this channel (Edit Channel, Permissions)",
            missing.join(", ")
        )
    };
    let needed = missing(&needed);
    if !needed.is_empty() {
        return Finding::fault(what, format!("the bot lacks {}", needed.join(", ")), fix(&needed));
    }
    let better = if threads { vec![ATTACH] } else { vec![ATTACH, OPEN_THREADS, SEND_IN_THREADS] };
    let better = missing(&better);
    if !better.is_empty() {
        let detail = format!("works, but for files and threads: without {}", better.join(", "));
        return Finding::advice(what, detail, fix(&better));
    }
    Finding::fine(what, String::new())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Config;
    use super::*;
    use crate::platform::Platform as _;
    use crate::platform::scripted::{self, CANARY, Reply, Scripted};

    /// A server whose channel takes messages of the bot's, but none in its threads.
    async fn server() -> Scripted {
        Scripted::new(|seen| {
            let denied = SEND_IN_THREADS.bit.to_string();
            let body = match seen.path.trim_start_matches("/api") {
                "/users/@me" => json!({ "id": "9" }),
                "/guilds/1" => json!({ "id": "1", "owner_id": "8", "roles": [
                    { "id": "1", "permissions": (!8_u64).to_string() },
                ]}),
                "/guilds/1/members/9" => json!({ "roles": [] }),
                "/channels/100000000000000001" => json!({
                    "id": "100000000000000001", "type": 0, "guild_id": "1", "name": "ops", "parent_id": "7",
                    "permission_overwrites": [{ "id": "9", "type": 1, "allow": "0", "deny": denied }],
                }),
                "/channels/100000000000000002" => json!({
                    "id": "100000000000000002", "type": 11, "guild_id": "1", "name": "incident",
                    "parent_id": "100000000000000001",
                }),
                "/channels/100000000000000003" => json!({
                    "id": "100000000000000003", "type": 15, "guild_id": "1", "name": "forum",
                    "permission_overwrites": null,
                }),
                "/channels/100000000000000004" => json!({ "id": "100000000000000004", "type": 1 }),
                "/channels/100000000000000005" => {
                    json!({ "id": "100000000000000005", "type": 0, "guild_id": "2", "name": "far" })
                }
                _ => return Reply::json(404, json!({ "message": "Unknown Channel", "code": 10003 })),
            };
            Reply::json(200, body)
        })
        .await
    }

    #[tokio::test]
    async fn a_thread_is_judged_by_its_channel_and_the_server_asked_once() {
        let world = server().await;
        let config = Config {
            bot_token: Some(CANARY.into()),
            api_url: Some(world.url.clone()),
            ..Config::default()
        };
        let discord = Discord::new(&config, scripted::client()).unwrap();
        for (n, posts, listens, ok, words) in [
            (
                1,
                true,
                true,
                true,
                "ops; works, but for files and threads: without Send Messages in Threads",
            ),
            (2, true, false, false, "incident; the bot lacks Send Messages in Threads"),
            (3, true, true, false, "forum; this is a forum"),
            (3, false, true, true, "forum"),
            (4, true, false, true, ""),
            (5, true, false, true, "far; the bot's permissions are not known"),
            (6, true, false, false, "knows no such channel"),
        ] {
            let channel = format!("discord:10000000000000000{n}").parse().unwrap();
            let found = discord.examine_channel(&channel, Purpose { posts, listens }).await;
            assert!(found.ok == ok && found.detail.contains(words), "{found:?}");
            assert_eq!(found.what, channel.to_string());
            scripted::assert_no_leak(&found.detail);
        }
        assert_eq!(world.asked("/guilds/1").len(), 1);
    }

    #[test]
    fn what_is_needed_depends_on_the_place_and_what_it_is_for() {
        let all = u64::MAX;
        let found = |may, thread, listens| {
            permitted("x".to_owned(), may, thread, Purpose { posts: true, listens })
        };
        assert_eq!(found(all, false, true).fix, None);
        assert_eq!(found(all, true, true).fix, None);
        for (lacks, thread, listens, ok) in [
            (VIEW, false, false, false),
            (SEND, false, false, false),
            (SEND, true, false, true),
            (SEND_IN_THREADS, true, false, false),
            (HISTORY, false, true, false),
            (HISTORY, false, false, true),
            (ATTACH, false, true, true),
            (OPEN_THREADS, false, false, true),
        ] {
            let found = found(all & !lacks.bit, thread, listens);
            assert_eq!(found.ok, ok, "{lacks:?} {found:?}");
            if let Some(fix) = found.fix {
                assert!(fix.contains(lacks.name), "{fix}");
            } else {
                assert!(ok && !found.detail.contains(lacks.name));
            }
        }
    }
}
