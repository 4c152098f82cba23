//! `NOTIFY`: other replicas hear at once what they would find a little later by looking.
//!
//! **After the commit, in a transaction of its own.** PostgreSQL locks the whole server from a `NOTIFY` to the end of its
//! commit, so that notices come in the order of commits
//! (`PreCommit_Notify`: <https://github.com/postgres/postgres/blob/master/src/backend/commands/async.c>): commits that carry
//! one wait for each other's disk. With 32 at once that was a tenth of the throughput (1,050 instead of 11,000 a second).
//! A transaction with nothing but a notice writes nothing, waits for no disk and holds the lock for a moment. One per
//! process is under way at a time, and tells everything that happened meanwhile. A process that is killed in between
//! told nothing: others find it by looking.
//!
//! **One more connection, with `LISTEN`,** in a process that sends or holds conversations. Behind a pooler in transaction mode
//! it would hear nothing (<https://www.pgbouncer.org/features.html>), and worse: others would hear in its place, in the middle of
//! what they asked for, which the driver takes for a broken connection. So it asks for a setting of its own when it begins, which no
//! pooler passes on, and listens only where it is found again. A broken network may not say that it is broken: each process
//! says something at least once a minute, if only to itself, and a connection that hears nothing for longer is made anew. Every new
//! one comes after a pause that grows. Herald works without.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Row};
use tokio::sync::{Notify, broadcast};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::{ACCESS, CONNECT};
use crate::model::DeliveryId;
use crate::store::hints::{Hint, Hints, Mark};

/// Between two notices of a process: what happens meanwhile goes into the next one.
const GAP: Duration = Duration::from_millis(10);
/// The most that one tells; PostgreSQL allows 8,000 bytes. What is more is found by looking.
const MOST: usize = 128;
/// The most that wait within the process to be looked at.
const HEARD: usize = 1_024;

/// The setting by which a session is known again. PostgreSQL lets anybody have settings with such a name.
const OWN: &str = "herald.session";

/// How long to wait for what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// A process that listens says something this often.
    pub(super) say: Duration,
    /// After this time without a word, its own or others', a connection is taken for deaf.
    pub(super) silence: Duration,
    /// The first pause before a new connection; doubled each time.
    pub(super) pause: Duration,
    /// The longest one.
    pub(super) longest: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            say: Duration::from_secs(60),
            silence: Duration::from_secs(150),
            pause: Duration::from_secs(1),
            longest: Duration::from_secs(300),
        }
    }
}

/// What this process tells others, and hears from them.
pub(super) struct Notices {
    /// Where they are told: the schema's name, so that two Heralds in one database do not wake each other.
    channel: String,
    /// Who tells: this store. It need not hear what it said itself.
    source: String,
    patience: Patience,
    untold: Mutex<BTreeSet<String>>,
    wake: Notify,
    outbox: broadcast::Sender<Hint>,
    conversations: broadcast::Sender<Mark>,
    /// Under what name this process accepts messages, if it does: it waits for those itself.
    submitter: OnceLock<String>,
    listening: OnceLock<AbortOnDropHandle<()>>,
}

impl Notices {
    pub(super) fn new(schema: &str, patience: Patience) -> Self {
        Self {
            channel: schema.to_owned(),
            source: Uuid::new_v4().simple().to_string(),
            patience,
            untold: Mutex::default(),
            wake: Notify::new(),
            outbox: broadcast::channel(HEARD).0,
            conversations: broadcast::channel(HEARD).0,
            submitter: OnceLock::new(),
            listening: OnceLock::new(),
        }
    }

    /// What others do to the outbox, from now on.
    pub(super) fn outbox(self: &Arc<Self>, options: &PgConnectOptions) -> Hints<Hint> {
        let hints = Hints::from(self.outbox.subscribe());
        self.start_listening(options);
        hints
    }

    /// The conversations in which others leave something to do, from now on.
    pub(super) fn conversations(self: &Arc<Self>, options: &PgConnectOptions) -> Hints<Mark> {
        let hints = Hints::from(self.conversations.subscribe());
        self.start_listening(options);
        hints
    }

    /// Messages are accepted here under this name.
    pub(super) fn accepts_as(&self, submitter: &str) {
        if self.submitter.get().is_none() {
            let _ = self.submitter.set(submitter.to_owned());
        }
    }

    pub(super) fn queued(&self) {
        self.tell("q".to_owned());
    }

    /// Tells whoever accepted it, unless that is this process: its own callers hear of it at once.
    pub(super) fn ended(&self, id: DeliveryId, submitter: &str) {
        if self.submitter.get().is_none_or(|own| own != submitter) {
            self.tell(format!("e{id}"));
        }
    }

    pub(super) fn conversation(&self, name: &str) {
        self.tell(format!("c{}", Mark::of(name)));
    }

    fn tell(&self, word: String) {
        let mut untold = self.untold();
        if untold.len() < MOST {
            untold.insert(word);
        }
        drop(untold);
        self.wake.notify_one();
    }

    fn untold(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.untold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells what there is to tell, for as long as the process lives.
    pub(super) async fn tell_all(self: Arc<Self>, pool: PgPool) {
        loop {
            let news = timeout(self.patience.say, self.wake.notified()).await.is_ok();
            if news {
                self.tell_rest(&pool).await;
                sleep(GAP).await;
            } else if self.listening.get().is_some() {
                self.say(&pool, &[]).await;
            }
        }
    }

    /// Tells what nobody was told yet, if there is anything.
    pub(super) async fn tell_rest(&self, pool: &PgPool) {
        let words: Vec<String> = std::mem::take(&mut *self.untold()).into_iter().collect();
        if !words.is_empty() {
            self.say(pool, &words).await;
        }
    }

    async fn say(&self, pool: &PgPool, words: &[String]) {
        // Letters, digits, hyphens and spaces; the schema's name is plain.
        let notify = format!("NOTIFY \"{}\", '{} {}'", self.channel, self.source, words.join(" "));
        let told = timeout(ACCESS, sqlx::raw_sql(AssertSqlSafe(notify)).execute(pool)).await;
        if let Ok(Err(error)) = told {
            tracing::debug!(%error, "other replicas were not told; they look by themselves");
        }
    }

    fn start_listening(self: &Arc<Self>, options: &PgConnectOptions) {
        self.listening.get_or_init(|| {
            AbortOnDropHandle::new(tokio::spawn(listen(Arc::downgrade(self), options.clone())))
        });
    }

    /// Hears and tells nothing more.
    pub(super) fn stop(&self) {
        if let Some(listening) = self.listening.get() {
            listening.abort();
        }
    }

    /// What others say is passed on; what cannot be read was said by a stranger, or a newer Herald.
    fn heard(&self, payload: &str) {
        let mut words = payload.split(' ');
        if words.next() == Some(&self.source) {
            return;
        }
        for word in words {
            // Nobody may wait for it.
            if word == "q" {
                let _ = self.outbox.send(Hint::Queued);
            } else if let Some(Ok(id)) = word.strip_prefix('e').map(str::parse) {
                let _ = self.outbox.send(Hint::Ended(id));
            } else if let Some(Ok(mark)) = word.strip_prefix('c').map(str::parse) {
                let _ = self.conversations.send(mark);
            }
        }
    }
}

/// Listens, on a connection of its own that is made anew whenever it breaks or says nothing. What is wrong is told once.
async fn listen(notices: Weak<Notices>, options: PgConnectOptions) {
    let Some(Patience { pause: first, longest, .. }) = patience_of(&notices) else { return };
    let (mut pause, mut told) = (first, false);
    loop {
        let since = Instant::now();
        match hear(&notices, &options, &mut told).await {
            // Whoever needs the database says that it is away.
            Ended::Broken(why) => tracing::debug!(why, "PostgreSQL's notices are not heard"),
            Ended::Deaf if !std::mem::replace(&mut told, true) => tracing::info!(
                "PostgreSQL's notices do not arrive, as behind a pooler in transaction mode: what other replicas do is \
                 seen by looking, every second"
            ),
            Ended::Deaf => {}
            Ended::Unwanted => return,
        }
        if since.elapsed() > longest {
            pause = first;
        }
        sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}

fn patience_of(notices: &Weak<Notices>) -> Option<Patience> {
    notices.upgrade().map(|notices| notices.patience)
}

/// Why there is no more to hear.
enum Ended {
    Broken(String),
    /// Somebody in between gives each transaction a session, or not even this process's own notices arrive.
    Deaf,
    /// Nobody wants to know.
    Unwanted,
}

/// Hears what others say. Whether it was `told` that nothing arrives is set right as soon as something does.
async fn hear(notices: &Weak<Notices>, options: &PgConnectOptions, told: &mut bool) -> Ended {
    let about =
        notices.upgrade().map(|n| (n.channel.clone(), n.source.clone(), n.patience.silence));
    let Some((channel, source, silence)) = about else { return Ended::Unwanted };
    // A connection that hangs while it ends must not keep the next one waiting: each has a pool of its own.
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(CONNECT)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_lazy_with(options.clone().options([(OWN, &source)]));
    let begin = async {
        let mut listener = PgListener::connect_with(&pool).await?;
        let asked = AssertSqlSafe(format!("SELECT current_setting('{OWN}', true)"));
        let found = sqlx::raw_sql(asked).fetch_one(&mut listener).await?;
        if found.try_get::<Option<String>, _>(0)?.as_ref() != Some(&source) {
            return Ok(None);
        }
        listener.eager_reconnect(false);
        listener.listen(&channel).await?;
        Ok::<_, sqlx::Error>(Some(listener))
    };
    let mut listener = match timeout(CONNECT + ACCESS, begin).await {
        Ok(Ok(Some(listener))) => listener,
        Ok(Ok(None)) => return Ended::Deaf,
        Ok(Err(error)) if is_refused(&error) => return Ended::Deaf,
        Ok(Err(error)) => return Ended::Broken(error.to_string()),
        Err(_) => return Ended::Broken("the server does not answer in time".to_owned()),
    };
    loop {
        let notice = match timeout(silence, listener.try_recv()).await {
            Ok(Ok(Some(notice))) => notice,
            Ok(Ok(None)) => return Ended::Broken("the connection broke".to_owned()),
            Ok(Err(error)) => return Ended::Broken(error.to_string()),
            Err(_) => return Ended::Deaf,
        };
        if std::mem::take(told) {
            tracing::info!("PostgreSQL's notices arrive");
        }
        let Some(notices) = notices.upgrade() else { return Ended::Unwanted };
        notices.heard(notice.payload());
    }
}

/// Whether a pooler does not let a session begin with settings of its own: to PostgreSQL that is no violation of the protocol.
fn is_refused(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.code().as_deref() == Some("08P01"))
}

#[cfg(test)]
#[path = "notices_tests.rs"]
mod tests;
