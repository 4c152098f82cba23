//! What the platforms tell about channels, remembered for five minutes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use tokio::time::Instant;

use crate::clock::{Clock, Timestamp};
use crate::model::{
    ChannelId, ChannelInfo, ChannelKind, ClientName, Failure, PlatformKind, Reason,
};
use crate::platform::Platform;
use crate::policy::AllowList;

/// For how long an answer is good.
const FRESH: Duration = Duration::from_secs(5 * 60);
/// How soon a failure is asked about again.
const FRESH_FAILURE: Duration = Duration::from_secs(30);
/// How many questions a platform is asked at once.
const AT_ONCE: usize = 4;
/// The longest a caller waits for a platform, over all its channels.
const PATIENCE: Duration = Duration::from_secs(12);
/// The most channels that are asked about in a minute because one client named them.
const MOST_PARENTS_A_MINUTE: u32 = 60;
/// The same for all clients together: Discord bans who is refused 10,000 times in ten minutes
/// (<https://docs.discord.com/developers/topics/rate-limits#invalid-request-limit>).
const MOST_IN_ALL: u32 = 600;
/// The most answers that are remembered of one kind.
const MOST_REMEMBERED: usize = 4096;

/// Answers with the time they are good until.
struct Cache<K, V>(Mutex<HashMap<K, (Timestamp, V)>>);

impl<K: std::hash::Hash + Eq, V: Clone> Cache<K, V> {
    fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    fn get(&self, key: &K, now: Timestamp) -> Option<V> {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.get(key).filter(|(until, _)| *until > now).map(|(_, value)| value.clone())
    }

    fn put(&self, key: K, value: V, until: Timestamp, now: Timestamp) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= MOST_REMEMBERED {
            entries.retain(|_, (until, _)| *until > now);
        }
        if entries.len() < MOST_REMEMBERED {
            entries.insert(key, (until, value));
        }
    }
}

pub(super) struct Directory {
    clock: Arc<dyn Clock>,
    described: Cache<ChannelId, ChannelInfo>,
    listed: Cache<PlatformKind, Vec<ChannelInfo>>,
    /// For each client by itself, as is what is counted: what one asks makes no difference to another.
    parents: Cache<(ClientName, ChannelId), Option<ChannelId>>,
    /// Since when so many parents were asked for, by each client and (`None`) in all.
    asked: Mutex<HashMap<Option<ClientName>, (Timestamp, u32)>>,
}

impl Directory {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            described: Cache::new(),
            listed: Cache::new(),
            parents: Cache::new(),
            asked: Mutex::default(),
        }
    }

    /// The channels that may be posted to, and those that are `shown` besides, as their platform describes them. What it
    /// does not tell becomes a note.
    pub(super) async fn list(
        &self,
        platform: &Arc<dyn Platform>,
        allowed: &AllowList,
        shown: &AllowList,
    ) -> Vec<ChannelInfo> {
        let until = Instant::now() + PATIENCE;
        let besides = shown.listed().iter().filter(|entry| !allowed.contains(&entry.channel));
        let entries: Vec<_> = allowed.listed().iter().chain(besides).cloned().collect();
        let mut channels = Vec::with_capacity(entries.len());
        let mut answers = stream::iter(entries)
            .map(|entry| async move {
                let info = self.describe(platform, &entry.channel, until).await;
                let can_post = info.can_post && allowed.contains(&entry.channel);
                ChannelInfo { alias: entry.alias, can_post, ..info }
            })
            .buffered(AT_ONCE);
        while let Some(info) = answers.next().await {
            channels.push(info);
        }
        if allowed.any() || shown.any() {
            for found in self.every(platform, until).await {
                if !channels.iter().any(|channel| channel.id == found.id) {
                    let can_post = found.can_post && allowed.any();
                    channels.push(ChannelInfo { can_post, ..found });
                }
            }
        }
        channels
    }

    /// The channel that `channel` is a thread of. A failure where that cannot be asked, or not by this client for now.
    pub(super) async fn parent(
        &self,
        client: &ClientName,
        platform: &Arc<dyn Platform>,
        channel: &ChannelId,
    ) -> Result<Option<ChannelId>, Failure> {
        let now = self.clock.now();
        let key = (client.clone(), channel.clone());
        if let Some(parent) = self.parents.get(&key, now) {
            return Ok(parent);
        }
        if !self.may_ask(client, now) {
            let hint = "it was asked about too many channels in this minute";
            return Err(Failure::retry(Reason::RateLimited, hint));
        }
        let parent = platform.parent(channel).await?;
        self.parents.put(key, parent.clone(), now.after(FRESH), now);
        Ok(parent)
    }

    /// Whoever guesses channel IDs makes us ask about each.
    fn may_ask(&self, client: &ClientName, now: Timestamp) -> bool {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        [(Some(client), MOST_PARENTS_A_MINUTE), (None, MOST_IN_ALL)].into_iter().all(
            |(who, most)| {
                let (since, count) = asked.entry(who.cloned()).or_default();
                if now.since(*since) > Duration::from_secs(60) {
                    (*since, *count) = (now, 0);
                }
                *count += 1;
                *count <= most
            },
        )
    }

    async fn describe(
        &self,
        platform: &Arc<dyn Platform>,
        channel: &ChannelId,
        until: Instant,
    ) -> ChannelInfo {
        let now = self.clock.now();
        if let Some(info) = self.described.get(channel, now) {
            return info;
        }
        let (info, fresh) = match in_time(until, platform.describe(channel)).await {
            Ok(info) => (info, FRESH),
            Err(note) => (unknown(channel, note), FRESH_FAILURE),
        };
        self.described.put(channel.clone(), info.clone(), now.after(fresh), now);
        info
    }

    async fn every(&self, platform: &Arc<dyn Platform>, until: Instant) -> Vec<ChannelInfo> {
        let (kind, now) = (platform.kind(), self.clock.now());
        if let Some(list) = self.listed.get(&kind, now) {
            return list;
        }
        let (list, fresh) = match in_time(until, platform.list()).await {
            Ok(list) => (list, FRESH),
            Err(note) => {
                let any = ChannelInfo {
                    platform: kind,
                    id: "*".to_owned(),
                    alias: None,
                    name: None,
                    kind: ChannelKind::Unknown,
                    can_post: true,
                    note: Some(format!("any channel the bot is in, by its ID; {note}")),
                };
                (vec![any], FRESH_FAILURE)
            }
        };
        self.listed.put(kind, list.clone(), now.after(fresh), now);
        list
    }
}

/// An answer, or a sentence about why there is none.
async fn in_time<T>(
    until: Instant,
    question: impl Future<Output = Result<T, Failure>>,
) -> Result<T, String> {
    match tokio::time::timeout_at(until, question).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(failure)) => Err(failure.hint),
        Err(_) => Err("the platform did not answer in time".to_owned()),
    }
}

fn unknown(channel: &ChannelId, note: String) -> ChannelInfo {
    ChannelInfo {
        platform: channel.platform(),
        id: channel.id().to_owned(),
        alias: None,
        name: None,
        kind: ChannelKind::Unknown,
        can_post: false,
        note: Some(note),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn one_clients_guesses_are_counted_and_those_of_all_together() {
        let directory = Directory::new(Arc::new(SystemClock));
        let start = Timestamp(1_000_000);
        let asks = |client: u32, now| directory.may_ask(&ClientName::new(client.to_string()), now);
        for client in 0..10 {
            assert!((0..60).all(|_| asks(client, start)), "{client}");
            assert!(!asks(client, start), "{client}");
        }
        assert!(!asks(10, start), "a bot that is banned is of no use to anybody");
        let later = start.after(Duration::from_secs(61));
        assert!(asks(0, later) && asks(10, later));
    }
}
