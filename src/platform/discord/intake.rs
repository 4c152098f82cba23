//! From the gateway's queue to the inbox: where it happened, taken, answered, remembered. One by one, in order.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::Receiver;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::Discord;
use super::config::Config;
use super::events::{Heard, Servers, What};
use super::interactions;
use super::listener::Timing;
use super::session::Session;
use crate::clock::{Clock, Timestamp};
use crate::model::{ChannelId, Disposition, Event, Occurrence, PlatformKind, Visit};
use crate::platform::listener::{Ears, NotTaken, Standing, backoff};

/// How often it is asked which channel a thread belongs to.
const MOST_QUESTIONS: u32 = 4;

/// An event of the gateway, as it waits to be taken.
pub(super) struct Item {
    /// The session it belongs to.
    pub(super) session: Session,
    pub(super) seq: Option<u64>,
    /// `None`: nothing that anybody said or did.
    pub(super) heard: Option<Heard>,
}

/// Which channels the bot listens in: what is said elsewhere is meant for the bot only if it says so.
#[derive(Clone, Debug)]
pub(super) struct Listened {
    mention_only: bool,
    /// Empty: all.
    channels: Vec<String>,
}

impl Listened {
    pub(super) fn new(config: &Config) -> Self {
        let bare = |id: &String| id.trim().trim_start_matches("discord:").to_owned();
        Self {
            mention_only: config.mention_only,
            channels: config.listen_in.iter().map(bare).collect(),
        }
    }

    fn to(&self, visit: &Visit) -> bool {
        let here = |id: &String| id == visit.channel.id() || visit.thread.as_ref() == Some(id);
        !self.mention_only && (self.channels.is_empty() || self.channels.iter().any(here))
    }
}

/// Takes what the gateway queued.
pub(super) struct Intake<'a> {
    pub(super) discord: &'a Arc<Discord>,
    pub(super) servers: &'a Servers,
    pub(super) listened: &'a Listened,
    pub(super) clock: &'a dyn Clock,
    pub(super) ears: &'a Ears,
    pub(super) timing: Timing,
    /// Cancelled when nothing more comes.
    pub(super) over: CancellationToken,
}

/// How far it has come, and what of that is remembered.
#[derive(Default)]
struct Place {
    reached: Option<Session>,
    saved: Option<Session>,
    saved_at: Option<Instant>,
}

impl Intake<'_> {
    /// Until the queue is empty and its other end gone, or the time for that is up: what is not taken then comes again.
    pub(super) async fn run(self, mut queue: Receiver<Item>) {
        let mut answers = JoinSet::new();
        let mut place = Place::default();
        {
            let over = async {
                self.over.cancelled().await;
                sleep(self.timing.finish).await;
            };
            let work = async {
                loop {
                    let save_at = place.due(self.timing.cursor_every);
                    tokio::select! {
                        biased;
                        () = sleep_until(save_at.unwrap_or_else(Instant::now)), if save_at.is_some() => {
                            self.save(&mut place).await;
                        }
                        item = queue.recv() => match item {
                            Some(item) => self.work(item, &mut place, &mut answers).await,
                            None => break,
                        },
                        Some(_) = answers.join_next() => {}
                    }
                }
            };
            tokio::select! {
                () = work => {}
                () = over => {}
            }
        }
        let last = async {
            self.save(&mut place).await;
            while answers.join_next().await.is_some() {}
        };
        let _ = timeout(self.timing.finish, last).await;
    }

    async fn work(&self, item: Item, place: &mut Place, answers: &mut JoinSet<()>) {
        let Item { session, seq, heard } = item;
        if place.reached.is_none() {
            let (api, application) = (self.discord.api.clone(), session.application.clone());
            answers.spawn(interactions::register(api, application, self.timing.first_pause));
        }
        if let Some(heard) = heard {
            self.take(heard, answers).await;
        }
        place.reach(session, seq);
    }

    /// Returns once it is taken. A message that cannot be stored is tried until it can; whoever pressed a button is told.
    async fn take(&self, heard: Heard, answers: &mut JoinSet<()>) {
        let Some(event) = self.event(&heard).await else { return };
        let message = matches!(heard.what, What::Message { .. });
        let Timing { first_pause, longest_pause, .. } = self.timing;
        let mut failures = 0_u32;
        let waits = Standing::Retrying { why: NotTaken.to_string() };
        let taken = loop {
            match self.ears.inbox.take(event.clone()).await {
                Ok(taken) => break Ok(taken),
                Err(error) if !message => break Err(error),
                Err(error) => {
                    // Whoever could not store it has said so.
                    tracing::debug!(%error, failures, "what was heard on Discord waits");
                    self.ears.stands(waits.clone());
                    sleep(backoff(first_pause, longest_pause, failures, self.clock.jitter())).await;
                    failures = failures.saturating_add(1);
                }
            }
        };
        // Whatever else happened meanwhile has been said since.
        if failures > 0 && *self.ears.standing.borrow() == waits {
            self.ears.stands(Standing::Connected);
        }
        if !message {
            let api = self.discord.api.clone();
            answers.spawn(async move { interactions::answer(&api, &heard, taken).await });
        }
    }

    async fn event(&self, heard: &Heard) -> Option<Event> {
        let (channel, thread) = self.place(heard).await;
        let channel = ChannelId::new(PlatformKind::Discord, &channel).ok()?;
        let visit = Visit { channel, thread, direct: heard.direct, person: heard.person.clone() };
        let what = match heard.what.clone() {
            What::Message { text, meant, files } => Occurrence::Message {
                message_id: heard.id.clone(),
                text,
                addressed: meant || self.listened.to(&visit),
                files,
            },
            What::Command { name, text, .. } => {
                Occurrence::Command { name, text, message_id: None }
            }
            What::Press { key, message_id, .. } => Occurrence::Press { key, message_id },
        };
        let at = self.clock.now();
        let happened_at = moment(&heard.id);
        Some(Event {
            id: heard.id.clone(),
            visit,
            what,
            respond: None,
            at,
            traceparent: None,
            happened_at,
        })
    }

    /// The channel, and the thread of it, if it is one.
    async fn place(&self, heard: &Heard) -> (String, Option<String>) {
        let id = &heard.channel;
        if heard.direct {
            return (id.clone(), None);
        }
        let mut known = self.servers.channels.get(id);
        let mut pause = self.timing.first_pause;
        for _ in 0..MOST_QUESTIONS {
            if known.is_some() {
                break;
            }
            match self.discord.look_up(id).await {
                Ok(channel) => {
                    self.servers.channels.keep(id, channel.clone());
                    known = Some(channel);
                }
                Err(failure) => {
                    tracing::warn!(%failure, "it is not known whether a Discord channel is a thread");
                    let after = match failure.disposition {
                        Disposition::Retry { after, .. } => after,
                        Disposition::Ambiguous => None,
                        Disposition::GiveUp => break,
                    };
                    sleep(after.unwrap_or(pause).min(self.timing.longest_pause)).await;
                    pause *= 2;
                }
            }
        }
        match known.filter(super::channels::Channel::is_thread).and_then(|thread| thread.parent_id)
        {
            Some(parent) => (parent, Some(id.clone())),
            None => (id.clone(), None),
        }
    }

    async fn save(&self, place: &mut Place) {
        let Some(reached) = place.reached.clone().filter(|now| place.saved.as_ref() != Some(now))
        else {
            return;
        };
        // Whatever comes of it: the next try is not at once.
        place.saved_at = Some(Instant::now());
        let Some(cursor) = reached.to_cursor() else { return };
        match self.ears.cursor.save(&cursor).await {
            Ok(()) => place.saved = Some(reached),
            Err(_) => tracing::debug!("how far Discord was heard could not be remembered"),
        }
    }
}

impl Place {
    fn reach(&mut self, session: Session, seq: Option<u64>) {
        let seq = seq.unwrap_or(match &self.reached {
            Some(reached) if reached.id == session.id => reached.seq,
            _ => session.seq,
        });
        self.reached = Some(Session { seq, ..session });
    }

    /// When there is something to remember: at once, but not more often than every `every`.
    fn due(&self, every: Duration) -> Option<Instant> {
        let news = self.reached.is_some() && self.reached != self.saved;
        news.then(|| self.saved_at.map_or_else(Instant::now, |last| last + every))
    }
}

/// When a snowflake was made: its upper bits are milliseconds since 2015.
/// <https://docs.discord.com/developers/reference#snowflakes>
fn moment(snowflake: &str) -> Option<Timestamp> {
    const EPOCH: i64 = 1_420_070_400_000;
    let snowflake: u64 = snowflake.parse().ok()?;
    i64::try_from(snowflake >> 22).ok().map(|millis| Timestamp(EPOCH + millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snowflake_says_when_it_was_made() {
        // The documentation's example.
        assert_eq!(moment("175928847299117063"), Some(Timestamp(1_462_015_105_796)));
        assert_eq!(moment("not one"), None);
    }
}
