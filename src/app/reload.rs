//! Rules and tokens that change while Herald runs.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::secret_rules;
use crate::config::{Config, Source};
use crate::guard::Guard;
use crate::mcp::{Door, Gate};
use crate::model::audit::{Act, Entry};
use crate::policy::Rulebook;
use crate::store::trail::Scribe;
use crate::telemetry::Metrics;

/// How often the files are looked at. Kubernetes swaps a mounted file by a link: its contents are what counts.
const LOOK: Duration = Duration::from_millis(500);

/// How many rows may wait for a store that is away; further ones are lost, and said to be.
const MOST_OWED: usize = 64;

/// How long these may take once nothing is looked at any more.
pub(super) const LAST: Duration = Duration::from_secs(2);

/// How the rules stand: why the newest ones could not be read, if so.
pub(super) type Standing = watch::Receiver<Option<String>>;

/// Reads the settings again when their files change, and lets the rules and tokens in them count from then on.
pub(super) struct Reload {
    source: watch::Sender<Source>,
    rules: Rulebook,
    guard: Arc<Guard>,
    gate: Option<Gate>,
    scribe: Arc<Scribe>,
    metrics: Metrics,
    standing: watch::Sender<Option<String>>,
}

/// What is still to be written down, in its order.
type Owed = mpsc::Sender<Entry>;

impl Reload {
    pub(super) fn new(
        source: Source,
        rules: Rulebook,
        guard: Arc<Guard>,
        gate: Option<Gate>,
        scribe: Arc<Scribe>,
        metrics: Metrics,
    ) -> Self {
        let (source, standing) = (watch::Sender::new(source), watch::Sender::new(None));
        Self { source, rules, guard, gate, scribe, metrics, standing }
    }

    pub(super) fn standing(&self) -> Standing {
        self.standing.subscribe()
    }

    /// Looks at the files until `stop`, and writes down what is left then. A store that is away is no reason to wait with
    /// what counts: what is to be written down waits for it beside.
    pub(super) async fn run(self, stop: CancellationToken) {
        let (owed, mut owing) = mpsc::channel(MOST_OWED);
        let late = {
            let mut write = pin!(async {
                while let Some(entry) = owing.recv().await {
                    self.scribe.insist(entry).await;
                }
            });
            tokio::select! {
                _ = stop.run_until_cancelled(self.look(owed)) => {}
                () = &mut write => return,
            }
            // Nothing is added any more, so it ends with what is there.
            tokio::time::timeout(LAST, write).await.is_err()
        };
        if late {
            // One was being written.
            let left = owing.len() + 1;
            tracing::warn!(
                left,
                "changes of rules are missing in the audit trail: the store took too long"
            );
        }
    }

    /// What has changed is read once two looks saw the same: a file that is being written may be good YAML halfway. What
    /// cannot be read is tried again at each look.
    async fn look(&self, owed: Owed) -> Infallible {
        let mut seen = self.follow().await;
        let mut last = seen;
        // What was read at the start may be older than what is there now.
        self.read(false, &owed).await;
        loop {
            tokio::time::sleep(LOOK).await;
            let now = self.digest().await;
            let settled = std::mem::replace(&mut last, now) == now;
            let broken = self.standing.borrow().is_some();
            if settled && (now != seen || broken) {
                let changed = now != seen;
                // Other files may be named now.
                let now = self.follow().await;
                self.read(changed, &owed).await;
                // Changed again while it was read: it is read once more.
                if self.digest().await == now {
                    seen = now;
                }
            }
        }
    }

    /// The digest of everything that may change from now on: the settings may name another file with rules for secrets,
    /// which is looked at before it is read, so that what is read is what was looked at.
    async fn follow(&self) -> Option<[u8; 32]> {
        // What cannot be loaded is told by whoever reads it.
        if let Ok(Config { source: Some(source), .. }) = self.source().load() {
            self.source.send_replace(source);
        }
        self.digest().await
    }

    fn source(&self) -> Source {
        self.source.borrow().clone()
    }

    async fn digest(&self) -> Option<[u8; 32]> {
        let source = self.source();
        tokio::task::spawn_blocking(move || source.digest()).await.ok()
    }

    /// Reads everything, and lets all of it count or nothing. `changed`: the files did, whether the rules did or the tokens.
    async fn read(&self, changed: bool, owed: &Owed) {
        match self.source().load().map_err(|error| error.to_string()).and_then(|it| self.put(&it)) {
            Ok(others) => {
                let mended = self.standing.send_replace(None).is_some();
                if others || mended || changed {
                    tracing::info!(
                        "the rules and tokens that are configured now count; other settings count after a restart"
                    );
                    self.tell(Act::RulesChanged, owed);
                }
            }
            // Told once.
            Err(error) if self.standing.borrow().as_ref() == Some(&error) => {}
            Err(error) => {
                tracing::error!(%error, "the settings cannot be read: the old rules and tokens go on");
                self.standing.send_replace(Some(error));
                self.tell(Act::RulesRefused, owed);
            }
        }
    }

    fn tell(&self, act: Act, owed: &Owed) {
        self.metrics.rules_read(act == Act::RulesChanged);
        if owed.try_send(Entry::new(act)).is_err() {
            tracing::error!(?act, "too many lines wait for the audit trail: this one is lost");
        }
    }

    /// Lets these settings count. Says whether they are others.
    fn put(&self, config: &Config) -> Result<bool, String> {
        let policy = config.policy().map_err(|error| error.to_string())?;
        let door = Door::new(&config.mcp, &config.credentials())?;
        let secret_rules = config.guard.rules().map_err(|it| secret_rules(it).to_string())?;
        // Nothing that counts from now on may show anywhere.
        config.keep_secrets();
        if let Some(gate) = &self.gate {
            gate.replace(door)?;
        }
        self.guard.follow(secret_rules);
        Ok(self.rules.put(policy))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use sqlx::sqlite::SqliteConnectOptions;
    use sqlx::{ConnectOptions, Executor, SqliteConnection};

    use super::*;
    use crate::clock::SystemClock;
    use crate::store::Trail;
    use crate::store::sqlite::Sqlite;
    use crate::store::trail::Page;

    /// Of the settings in this file, which are others than those that count.
    fn reload(file: &Path, store: &Arc<Sqlite>) -> Reload {
        let old = Config::load(None, &|_| None).unwrap();
        let source = Config::load(Some(file), &|_| None).unwrap().source.unwrap();
        let scribe = Scribe::new(Arc::<Sqlite>::clone(store), Arc::new(SystemClock));
        let rules = Rulebook::from(old.policy().unwrap());
        Reload::new(source, rules, Arc::default(), None, Arc::new(scribe), Metrics::new(&[]))
    }

    /// A store that another process writes to, so that it takes nothing; and the settings whose change is owed to it.
    struct Away {
        directory: tempfile::TempDir,
        store: Arc<Sqlite>,
        writer: SqliteConnection,
    }

    impl Away {
        async fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let store = Arc::new(Sqlite::open(directory.path()).await.unwrap());
            std::fs::write(directory.path().join("herald.yaml"), "policy: {threads: false}")
                .unwrap();
            let file = SqliteConnectOptions::new().filename(directory.path().join("herald.db"));
            let mut writer = file.connect().await.unwrap();
            writer.execute("BEGIN IMMEDIATE").await.unwrap();
            Self { directory, store, writer }
        }

        /// Runs until the change counts, and is stopped then.
        async fn stopped(&self) -> tokio::task::JoinHandle<()> {
            let reload = reload(&self.directory.path().join("herald.yaml"), &self.store);
            let (rules, stop) = (reload.rules.clone(), CancellationToken::new());
            let old = rules.now();
            let running = tokio::spawn(reload.run(stop.clone()));
            while rules.now() == old {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            stop.cancel();
            running
        }
    }

    #[tokio::test]
    async fn a_row_that_waits_for_the_store_is_written_at_the_end() {
        let mut away = Away::new().await;
        let running = away.stopped().await;
        away.writer.execute("ROLLBACK").await.unwrap();
        running.await.unwrap();
        let chain = away.store.chains().await.unwrap().remove(0).id;
        let rows = away.store.rows(&chain, Page::After(0), 10).await.unwrap();
        let changed = rows.iter().filter(|row| row.line.contains("\"rules_changed\""));
        assert_eq!(changed.count(), 1, "{rows:?}");
    }

    #[tokio::test]
    async fn a_store_that_is_away_is_not_waited_for_for_long() {
        let away = Away::new().await;
        let running = away.stopped().await;
        tokio::time::pause();
        let before = tokio::time::Instant::now();
        running.await.unwrap();
        let took = before.elapsed();
        assert!(took >= LAST && took < 2 * LAST, "{took:?}");
    }

    #[tokio::test]
    async fn a_change_that_names_another_file_is_one_change() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let rule = |name: &str, word: &str| {
            let text = format!("[[rules]]\nid = '{word}'\nregex = '''{word}_[a-z]{{12}}'''\n");
            std::fs::write(path(name), text).unwrap();
        };
        let settings = |name: &str| {
            let text = format!("guard: {{secret_rules: {:?}}}", path(name));
            std::fs::write(path("herald.yaml"), text).unwrap();
        };
        rule("1.toml", "acme");
        rule("2.toml", "beta");
        settings("1.toml");
        let reload = reload(&path("herald.yaml"), &Arc::new(Sqlite::in_memory().await.unwrap()));
        // Time goes on only while nothing is done: so many looks there are, however slow this machine is.
        tokio::time::pause();
        let looks = async || tokio::time::sleep(LOOK * 6).await;
        let (owed, owing) = mpsc::channel(MOST_OWED);
        let looking = tokio::spawn(async move { reload.look(owed).await });
        looks().await;
        assert_eq!(owing.len(), 0);
        settings("2.toml");
        looks().await;
        assert_eq!(owing.len(), 1);
        // From now on that one is watched, and the other one is not.
        rule("2.toml", "gamma");
        looks().await;
        assert_eq!(owing.len(), 2);
        rule("1.toml", "delta");
        looks().await;
        assert_eq!(owing.len(), 2);
        looking.abort();
    }
}
