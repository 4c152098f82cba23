//! What comes in is looked at once, stored, and only then acknowledged.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::Inner;
use super::conversation::address;
use super::wish::{Wish, wish};
use crate::clock::Timestamp;
use crate::model::audit::{Act, Entry, Refused};
use crate::model::{Event, Occurrence, Placement, PlatformKind, Receipt, Visit};
use crate::notifier::{Content, Reply, SubmitError};
use crate::platform::listener::{Inbox, NotTaken, Taken};
use crate::store::StoreError;
use crate::telemetry::metrics::{StoreAccess, Taking};
use crate::telemetry::spans;

/// A person is told something like "not you" or "not so fast" at most this often.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// How many people are remembered for that.
const MOST_PEOPLE: usize = 10_000;
const MINUTE: Duration = Duration::from_secs(60);

/// Who said how much lately.
#[derive(Default)]
pub(super) struct Crowd {
    people: Mutex<HashMap<(PlatformKind, String), Recent>>,
}

#[derive(Default)]
struct Recent {
    minute: Timestamp,
    /// By their IDs: Slack tells a mention twice, and every platform what was not acknowledged.
    messages: HashSet<String>,
    told: Option<Timestamp>,
    /// When a refusal was written down, and how many were not since then.
    noted: Option<Timestamp>,
    unwritten: u64,
    /// The last event that nothing came of.
    refused: Option<String>,
}

impl Crowd {
    fn people(&self) -> MutexGuard<'_, HashMap<(PlatformKind, String), Recent>> {
        self.people.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an event of this person; false if it is one too many.
    fn admit(&self, event: &Event, most: u32, now: Timestamp) -> bool {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let mut people = self.people();
        let recent = recent(&mut people, &event.visit, now);
        if now.since(recent.minute) >= MINUTE {
            recent.minute = now;
            recent.messages.clear();
        }
        let room = recent.messages.len() < most;
        recent.messages.contains(&event.id) || room && recent.messages.insert(event.id.clone())
    }

    /// Whether it is news that nothing comes of this event: Slack tells a mention twice, one right after the other.
    fn refuses(&self, visit: &Visit, id: &str, now: Timestamp) -> bool {
        let mut people = self.people();
        let last = &mut recent(&mut people, visit, now).refused;
        let news = last.as_deref() != Some(id);
        if news {
            *last = Some(id.to_owned());
        }
        news
    }

    /// Whether a refusal of this person is written down: how many were not since the last one.
    fn may_note(&self, visit: &Visit, now: Timestamp) -> Option<u64> {
        let mut people = self.people();
        let recent = recent(&mut people, visit, now);
        if recent.noted.is_some_and(|noted| now.since(noted) < TELL_EVERY) {
            recent.unwritten += 1;
            return None;
        }
        recent.noted = Some(now);
        Some(std::mem::take(&mut recent.unwritten))
    }

    /// Whether this person may be told off now.
    fn may_tell(&self, visit: &Visit, now: Timestamp) -> bool {
        let mut people = self.people();
        let recent = recent(&mut people, visit, now);
        let long_ago = recent.told.is_none_or(|told| now.since(told) >= TELL_EVERY);
        if long_ago {
            recent.told = Some(now);
        }
        long_ago
    }
}

/// What is remembered of a person; who was quiet for a minute is forgotten when there are many.
fn recent<'p>(
    people: &'p mut HashMap<(PlatformKind, String), Recent>,
    visit: &Visit,
    now: Timestamp,
) -> &'p mut Recent {
    if people.len() >= MOST_PEOPLE {
        people.retain(|_, recent| {
            let told = recent.told.is_some_and(|told| now.since(told) < TELL_EVERY);
            let noted = recent.noted.is_some_and(|noted| now.since(noted) < TELL_EVERY);
            told || noted || now.since(recent.minute) < MINUTE
        });
    }
    people.entry((visit.platform(), visit.person.id.clone())).or_default()
}

#[async_trait]
impl Inbox for super::Bot {
    async fn take(&self, event: Event) -> Result<Taken, NotTaken> {
        let (visit, id, happened_at) = (event.visit.clone(), event.id.clone(), event.happened_at);
        let refusal = Entry::event(Act::InboundRefused, &event);
        let now = self.inner.clock.now();
        let (taken, outcome) = match self.inner.take(event).await {
            Ok(Heard::News) => (Ok(Taken::Stored), Taking::Stored),
            // Counted when it was news.
            Ok(Heard::Known) => return Ok(Taken::Stored),
            Ok(Heard::Refused(_)) if !self.inner.crowd.refuses(&visit, &id, now) => {
                return Ok(Taken::Refused);
            }
            Ok(Heard::Refused(why)) => {
                if let Some(why) = why {
                    self.inner.note_refusal(&visit, refusal.refused(why));
                }
                (Ok(Taken::Refused), Taking::Refused)
            }
            Err(error) => {
                tracing::error!(%error, "an event could not be stored; the platform will send it again");
                (Err(NotTaken), Taking::Lost)
            }
        };
        let lag = happened_at.map(|then| self.inner.clock.now().since(then));
        self.inner.metrics.event(visit.platform(), outcome, lag);
        taken
    }
}

/// What became of an event.
enum Heard {
    /// It is stored by now.
    News,
    /// It was stored before.
    Known,
    /// Nothing comes of it: why, unless people merely talked to each other.
    Refused(Option<Refused>),
}

impl Inner {
    async fn take(&self, mut event: Event) -> Result<Heard, StoreError> {
        let Event { visit, what, .. } = &event;
        let policy = self.rules.now();
        let access = policy.access();
        let key = match what {
            Occurrence::Press { key, .. } => {
                // Who may decide is asked when the press is handled; who may do nothing here is not heard at all.
                if !(access.admits(visit) || access.may_decide(visit, "")) {
                    return Ok(Heard::Refused(Some(Refused::Stranger)));
                }
                let Some(conversation) = self.store.button(key, self.clock.now()).await? else {
                    self.outdated(&event);
                    return Ok(Heard::Refused(Some(Refused::Outdated)));
                };
                conversation
            }
            Occurrence::Message { addressed: false, .. } => {
                // Others talk to each other: heard only where the bot takes part.
                if visit.thread.is_none() || !access.admits(visit) {
                    return Ok(Heard::Refused(None));
                }
                let key = self.conversation(&event).await?;
                if !self.store.knows(&key).await? {
                    return Ok(Heard::Refused(None));
                }
                key
            }
            Occurrence::Message { .. } | Occurrence::Command { .. } => {
                if !access.listens(visit) {
                    return Ok(Heard::Refused(Some(Refused::NotListening)));
                }
                if !access.admits(visit) {
                    self.turn_away(&event);
                    return Ok(Heard::Refused(Some(Refused::Stranger)));
                }
                self.conversation(&event).await?
            }
        };
        // Buttons and a wish to end something jump the queue.
        let counts = !matches!(wish(what, &self.agents), None | Some(Wish::Cancel));
        let most = self.settings.messages_per_minute;
        if counts && !self.crowd.admit(&event, most, self.clock.now()) {
            self.slow_down(&event);
            return Ok(Heard::Refused(Some(Refused::TooFast)));
        }
        let span = spans::event(&event);
        event.traceparent = span.traceparent();
        let take = self.metrics.access(StoreAccess::Take, self.store.take(&key, &event));
        let new = span.around(take).await;
        spans::event_stored(&span, new.as_ref().ok());
        if !new? {
            return Ok(Heard::Known);
        }
        self.bell.ring(&key);
        Ok(Heard::News)
    }

    /// The conversation an event belongs to: that of its thread, wherever that began.
    async fn conversation(&self, event: &Event) -> Result<String, StoreError> {
        let (key, _) = address(event);
        let now = self.clock.now();
        if let Some(known) = self.store.button(&at(&key), now).await? {
            return Ok(known);
        }
        // Where the bot is no member, a person's slash commands are one conversation.
        if let Occurrence::Command { .. } = event.what
            && let Some(known) = self.store.button(&at(&of_person(&event.visit)), now).await?
        {
            return Ok(known);
        }
        Ok(key)
    }

    /// Writes down that somebody was not heard: now and then, without keeping the platform waiting.
    fn note_refusal(&self, visit: &Visit, entry: Entry) {
        let Some(missed) = self.crowd.may_note(visit, self.clock.now()) else { return };
        let entry = Entry { unwritten: Some(missed).filter(|missed| *missed > 0), ..entry };
        // Written from now on, which a process that ends waits for.
        drop(self.scribe.refused(entry));
    }

    fn outdated(&self, event: &Event) {
        let text = "This button is not in use any more.";
        self.tell(event, text.to_owned());
    }

    fn slow_down(&self, event: &Event) {
        tracing::warn!(platform = %event.visit.platform(), user = %event.visit.person.id, "writes too fast");
        self.tell(
            event,
            "Please slow down: I did not pass that on. Try again in a minute.".to_owned(),
        );
    }

    /// Says one line to somebody, now and then, without keeping the platform waiting.
    fn tell(&self, event: &Event, text: String) {
        if !self.crowd.may_tell(&event.visit, self.clock.now()) {
            return;
        }
        let notifier = std::sync::Arc::clone(&self.notifier);
        let reply = Reply {
            visit: event.visit.clone(),
            placement: placement(event),
            content: vec![Content::Text(text)],
            replaces: None,
            key: format!("{}:{}:told", event.visit.platform(), event.id),
        };
        tokio::spawn(async move {
            told(notifier.reply(reply).await);
        });
    }

    fn turn_away(&self, event: &Event) {
        let visit = event.visit.clone();
        tracing::warn!(platform = %visit.platform(), user = %visit.person.id, channel = %visit.channel, "turned away");
        if !self.crowd.may_tell(&visit, self.clock.now()) {
            return;
        }
        let notifier = std::sync::Arc::clone(&self.notifier);
        let key = format!("{}:{}:away", visit.platform(), event.id);
        let placement = placement(event);
        tokio::spawn(async move {
            told(notifier.turn_away(visit, placement, key).await);
        });
    }
}

/// Logs that a person was not told. That nothing can be stored has been logged already.
fn told(said: Result<Receipt, SubmitError>) {
    if let Err(error) = said
        && error != SubmitError::Store
    {
        tracing::warn!(%error, "a person could not be told");
    }
}

fn placement(event: &Event) -> Placement {
    let (_, thread) = address(event);
    Placement { thread, respond: event.respond.clone(), ..Placement::default() }
}

/// The name under which a conversation is found by its thread.
pub(super) fn at(key: &str) -> String {
    format!("at {key}")
}

/// The place of a person's slash commands in a channel whose member the bot is not.
pub(super) fn of_person(visit: &Visit) -> String {
    format!("{}/{}", visit.channel, visit.person.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Person;

    #[test]
    fn a_message_that_is_told_twice_counts_once() {
        let now = Timestamp(1_800_000_000_000);
        let person = Person { id: "U1".to_owned(), name: None, outsider: false };
        let channel = "slack:C0GENERAL".parse().unwrap();
        let visit = Visit { channel, thread: None, direct: false, person };
        let what = Occurrence::Press { key: "k".to_owned(), message_id: None };
        let event = |id: &str| Event {
            id: id.to_owned(),
            visit: visit.clone(),
            what: what.clone(),
            respond: None,
            at: now,
            traceparent: None,
            happened_at: None,
        };
        let crowd = Crowd::default();
        let told: Vec<bool> =
            ["a", "a", "b", "b", "c", "a"].map(|id| crowd.admit(&event(id), 2, now)).into();
        assert_eq!(told, [true, true, true, true, false, true]);
        assert!(crowd.admit(&event("c"), 2, now.after(MINUTE)), "a minute later there is room");
    }
}
