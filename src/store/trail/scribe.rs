//! Writes down what describes no change of state: refusals above all. Whoever is refused does not fill the store by that,
//! does not prevent it by hanging up, and a trail that cannot be written makes no other answer of a refusal.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::task::TaskTracker;

use super::Trail;
use crate::clock::{Clock, Timestamp};
use crate::model::audit::Entry;

/// So many refusals of one client, or one platform's people, for one reason are written in a minute; the next row says how
/// many more there were.
const MOST: u64 = 30;
const MINUTE: Duration = Duration::from_secs(60);
/// How long a row may take, and with it the answer of a refusal.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long to wait until a row that has to be written is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Writes entries, and says once when that fails.
pub struct Scribe {
    desk: Arc<Desk>,
    /// What is being written, whoever still waits for it.
    writing: TaskTracker,
}

struct Desk {
    trail: Arc<dyn Trail>,
    clock: Arc<dyn Clock>,
    recent: Mutex<BTreeMap<Kind, Recent>>,
    failing: AtomicBool,
    patience: Duration,
}

/// Who was refused, and why. Few: clients are named by the operator, reasons are a closed list.
type Kind = (String, String);

#[derive(Default)]
struct Recent {
    minute: Timestamp,
    rows: u64,
    unwritten: u64,
}

impl Scribe {
    /// Writes to this trail.
    #[must_use]
    pub fn new(trail: Arc<dyn Trail>, clock: Arc<dyn Clock>) -> Self {
        Self::with_patience(trail, clock, PATIENCE)
    }

    pub(in crate::store) fn with_patience(
        trail: Arc<dyn Trail>,
        clock: Arc<dyn Clock>,
        patience: Duration,
    ) -> Self {
        let (recent, failing) = (Mutex::default(), AtomicBool::new(false));
        let desk = Arc::new(Desk { trail, clock, recent, failing, patience });
        Self { desk, writing: TaskTracker::new() }
    }

    /// Writes a refusal, which takes a second at most, unless there were too many like it: those are counted, and the next row
    /// says how many. It is written from now on, whether somebody waits for that or not. Has to be called inside a runtime.
    pub fn refused(&self, entry: Entry) -> impl Future<Output = ()> + Send + use<> {
        let desk = Arc::clone(&self.desk);
        let written = self.writing.spawn(async move { desk.refused(entry).await });
        // Nothing comes of it where the runtime ends.
        async move { written.await.unwrap_or_default() }
    }

    /// Writes an entry that nobody waits for, and tries again until it is written, with the time of the first try. One whose
    /// commit was in doubt may stand there twice.
    pub async fn insist(&self, entry: Entry) {
        self.desk.insist(entry).await;
    }

    /// Waits until everything is written, for so long at most. Says whether it is.
    pub async fn finish(&self, patience: Duration) -> bool {
        self.writing.close();
        tokio::time::timeout(patience, self.writing.wait()).await.is_ok()
    }
}

impl Desk {
    /// Writes an entry, and waits for that for at most a second. Says whether it is committed; that it is not is logged.
    async fn note(&self, entry: Entry) -> bool {
        let written = self.trail.note(vec![entry], self.clock.now());
        self.is_written(match tokio::time::timeout(self.patience, written).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("it takes longer than {} s", self.patience.as_secs())),
        })
    }

    async fn insist(&self, entry: Entry) {
        let at = self.clock.now();
        loop {
            let written = self.trail.note(vec![entry.clone()], at).await;
            if self.is_written(written.map_err(|error| error.to_string())) {
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Says once that the trail cannot be written, and once that it can.
    fn is_written(&self, tried: Result<(), String>) -> bool {
        let failed = tried.is_err();
        match (tried, self.failing.swap(failed, Ordering::Relaxed)) {
            (Err(error), false) => tracing::error!(
                error,
                "the audit trail cannot be written: what is refused meanwhile is counted, and stands in the next row"
            ),
            (Ok(()), true) => tracing::info!("the audit trail can be written again"),
            _ => {}
        }
        !failed
    }

    async fn refused(&self, mut entry: Entry) {
        let kind = kind(&entry);
        let before = entry.unwritten.unwrap_or_default();
        let Some(missed) = self.admit(&kind, before) else { return };
        entry.unwritten = Some(missed).filter(|missed| *missed > 0);
        if !self.note(entry).await {
            self.recent().entry(kind).or_default().unwritten += missed + 1;
        }
    }

    /// How many were not written so far, if this one may be. It stands for itself and for `before`.
    fn admit(&self, kind: &Kind, before: u64) -> Option<u64> {
        let now = self.clock.now();
        let mut all = self.recent();
        let recent = all.entry(kind.clone()).or_default();
        if now.since(recent.minute) >= MINUTE {
            recent.minute = now;
            recent.rows = 0;
        }
        if recent.rows >= MOST {
            recent.unwritten += before + 1;
            return None;
        }
        recent.rows += 1;
        Some(before + std::mem::take(&mut recent.unwritten))
    }

    fn recent(&self) -> MutexGuard<'_, BTreeMap<Kind, Recent>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn kind(entry: &Entry) -> Kind {
    let platform = entry.channel.as_ref().map(|it| it.platform()).or(entry.platform);
    let who = match (&entry.client, platform) {
        (Some(client), _) => client.to_string(),
        // No client is called like that.
        (None, Some(platform)) => format!("{platform}:"),
        (None, None) => String::new(),
    };
    (who, entry.reason.clone().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicI64;

    use sqlx::sqlite::SqliteConnectOptions;
    use sqlx::{ConnectOptions, Executor};

    use super::*;
    use crate::model::ClientName;
    use crate::model::audit::{Act, Refused};
    use crate::store::sqlite::Sqlite;
    use crate::store::trail::Page;

    struct Hand(AtomicI64);

    impl Clock for Hand {
        fn now(&self) -> Timestamp {
            Timestamp(self.0.load(Ordering::Relaxed))
        }

        fn jitter(&self) -> f64 {
            0.0
        }
    }

    fn denied(client: &str, why: Refused) -> Entry {
        let client = Some(ClientName::new(client));
        Entry { client, ..Entry::new(Act::Denied) }.refused(why)
    }

    async fn lines(trail: &dyn Trail) -> Vec<serde_json::Value> {
        let mut all = Vec::new();
        for chain in trail.chains().await.unwrap() {
            for row in trail.rows(&chain.id, Page::After(0), 10_000).await.unwrap() {
                all.push(serde_json::from_str(&row.line).unwrap());
            }
        }
        all.retain(|line: &serde_json::Value| line["type"] == "denied");
        all
    }

    #[tokio::test]
    async fn a_flood_of_refusals_does_not_fill_the_store_and_is_counted() {
        let (store, clock) =
            (Arc::new(Sqlite::in_memory().await.unwrap()), Arc::new(Hand(AtomicI64::new(1_000))));
        let scribe = Scribe::new(store.clone(), clock.clone());
        for _ in 0..1_000 {
            scribe.refused(denied("a", Refused::WrongToken)).await;
        }
        assert_eq!(lines(&*store).await.len(), 30);
        // Neither others nor other reasons are drowned by that.
        scribe.refused(denied("b", Refused::WrongToken)).await;
        scribe.refused(denied("a", Refused::Channel)).await;
        assert_eq!(lines(&*store).await.len(), 32);

        clock.0.store(61_000, Ordering::Relaxed);
        scribe.refused(denied("a", Refused::WrongToken)).await;
        scribe.refused(denied("a", Refused::WrongToken)).await;
        let lines = lines(&*store).await;
        let unwritten: Vec<_> = lines.iter().map(|line| line["unwritten"].as_u64()).collect();
        assert_eq!(unwritten.get(32..), Some(&[Some(970), None][..]));
    }

    #[tokio::test]
    async fn what_could_not_be_written_is_counted_once_it_can_be() {
        let directory = tempfile::tempdir().unwrap();
        let store = Sqlite::open(directory.path()).await.unwrap();
        let clock = Arc::new(Hand(AtomicI64::new(1_000)));
        let scribe = Scribe::new(Arc::new(store), clock);
        let file = SqliteConnectOptions::new().filename(directory.path().join("herald.db"));
        file.connect().await.unwrap().execute("DROP TABLE audit").await.unwrap();
        for _ in 0..2 {
            scribe.refused(denied("a", Refused::Channel)).await;
        }
        assert!(scribe.desk.failing.load(Ordering::Relaxed));
        let missed = scribe.desk.admit(&kind(&denied("a", Refused::Channel)), 0);
        assert_eq!(missed, Some(2));
    }

    #[tokio::test]
    async fn a_refusal_that_nobody_waits_for_is_written() {
        let store = Arc::new(Sqlite::in_memory().await.unwrap());
        let scribe = Scribe::new(store.clone(), Arc::new(Hand(AtomicI64::new(1_000))));
        drop(scribe.refused(denied("a", Refused::Channel)));
        assert!(scribe.finish(Duration::from_secs(60)).await);
        assert_eq!(lines(&*store).await.len(), 1);
    }
}
