//! Rules and tokens that change while Herald runs.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Source};
use crate::guard::Guard;
use crate::mcp::{Door, Gate};
use crate::model::audit::{Act, Entry};
use crate::policy::Rulebook;
use crate::store::trail::Scribe;
use crate::telemetry::Metrics;

/// How often the files are looked at. Kubernetes swaps a mounted file by a link: its contents are what counts.
const LOOK: Duration = Duration::from_millis(500);

/// How the rules stand: why the newest ones could not be read, if so.
pub(super) type Standing = watch::Receiver<Option<String>>;

/// Reads the settings again when their files change, and lets the rules and tokens in them count from then on.
pub(super) struct Reload {
    source: Source,
    rules: Rulebook,
    guard: Arc<Guard>,
    gate: Option<Gate>,
    scribe: Arc<Scribe>,
    metrics: Metrics,
    standing: watch::Sender<Option<String>>,
}

impl Reload {
    pub(super) fn new(
        source: Source,
        rules: Rulebook,
        guard: Arc<Guard>,
        gate: Option<Gate>,
        scribe: Arc<Scribe>,
        metrics: Metrics,
    ) -> Self {
        Self { source, rules, guard, gate, scribe, metrics, standing: watch::Sender::new(None) }
    }

    pub(super) fn standing(&self) -> Standing {
        self.standing.subscribe()
    }

    /// Looks at the files until `stop`. What has changed is read once two looks saw the same: a file that is being written
    /// may be good YAML halfway. What cannot be read is tried again at each look.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut seen = self.digest().await;
        let mut last = seen;
        // What was read at the start may be older than what is there now.
        self.read(false).await;
        while stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
            let now = self.digest().await;
            let settled = std::mem::replace(&mut last, now) == now;
            let broken = self.standing.borrow().is_some();
            if settled && (now != seen || broken) {
                self.read(now != seen).await;
                // Changed again while it was read: it is read once more.
                if self.digest().await == now {
                    seen = now;
                }
            }
        }
    }

    async fn digest(&self) -> Option<[u8; 32]> {
        let source = self.source.clone();
        tokio::task::spawn_blocking(move || source.digest()).await.ok()
    }

    /// Reads everything, and lets all of it count or nothing. `changed`: the files did, whether the rules did or the tokens.
    async fn read(&self, changed: bool) {
        match self.source.load().map_err(|error| error.to_string()).and_then(|it| self.put(&it)) {
            Ok(others) => {
                let mended = self.standing.send_replace(None).is_some();
                if others || mended || changed {
                    tracing::info!(
                        "the rules and tokens that are configured now count; other settings count after a restart"
                    );
                    self.metrics.rules_read(true);
                    self.scribe.note(Entry::new(Act::RulesChanged)).await;
                }
            }
            // Told once.
            Err(error) if self.standing.borrow().as_ref() == Some(&error) => {}
            Err(error) => {
                tracing::error!(%error, "the settings cannot be read: the old rules and tokens go on");
                self.metrics.rules_read(false);
                self.standing.send_replace(Some(error));
                self.scribe.note(Entry::new(Act::RulesRefused)).await;
            }
        }
    }

    /// Lets these settings count. Says whether they are others.
    fn put(&self, config: &Config) -> Result<bool, String> {
        let policy = config.policy().map_err(|error| error.to_string())?;
        let door = Door::new(&config.mcp, &config.credentials())?;
        // Nothing that counts from now on may leave by a message.
        self.guard.keep(&config.secrets());
        if let Some(gate) = &self.gate {
            gate.replace(door)?;
        }
        Ok(self.rules.put(policy))
    }
}
