//! What becomes of the audit trail while a process runs: it is passed on, and from time to time the log says how far it has
//! come, so that an end that was cut off can be told from elsewhere.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::audit::{Config, Export};
use crate::clock::Clock;
use crate::model::audit::{Act, Entry, Head};
use crate::store::Trail;
use crate::store::trail::Scribe;

/// How often the log says how far the trail has come.
const EVERY: Duration = Duration::from_secs(3600);
/// How long the last row may take, and passing on what is left.
const LAST: Duration = Duration::from_secs(2);

/// The trail, looked after.
pub(super) struct Trailing {
    trail: Arc<dyn Trail>,
    scribe: Arc<Scribe>,
    clock: Arc<dyn Clock>,
    exports: JoinSet<()>,
    stop: CancellationToken,
}

impl Trailing {
    pub(super) fn start(
        trail: &Arc<dyn Trail>,
        scribe: &Arc<Scribe>,
        clock: &Arc<dyn Clock>,
        config: &Config,
    ) -> Self {
        let (mut exports, stop) = (JoinSet::new(), CancellationToken::new());
        // They were checked when the configuration was read.
        for to in config.destinations().unwrap_or_default() {
            exports.spawn(Export::new(Arc::clone(trail), to).run(stop.clone()));
        }
        let (telling, watched) = (stop.clone(), Arc::clone(trail));
        exports.spawn(async move {
            let mut told = Vec::new();
            while telling.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
                tell(&*watched, &mut told);
            }
        });
        let (trail, scribe, clock) = (Arc::clone(trail), Arc::clone(scribe), Arc::clone(clock));
        Self { trail, scribe, clock, exports, stop }
    }

    /// Says that this process ends, if it wrote anything, and passes on what is left.
    pub(super) async fn finish(mut self) {
        if !self.scribe.finish(LAST).await {
            tracing::warn!("refusals are missing in the audit trail: the store took too long");
        }
        if !self.trail.book().heads().is_empty() {
            let note = self.trail.note(vec![Entry::new(Act::Stopped)], self.clock.now());
            match tokio::time::timeout(LAST, note).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the audit trail does not say that this process ended")
                }
                Err(_) => tracing::warn!(
                    "the audit trail does not say that this process ended: the store took too long"
                ),
            }
            tell(&*self.trail, &mut Vec::new());
        }
        self.stop.cancel();
        let left = async { while self.exports.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST, left).await.is_err() {
            tracing::warn!("the end of the audit trail is in the store alone");
        }
    }
}

/// How far each chain has come, unless that was told.
fn tell(trail: &dyn Trail, told: &mut Vec<Head>) {
    let heads = trail.book().heads();
    for head in heads.iter().filter(|head| !told.contains(head)) {
        let Head { chain, n, hash } = head;
        tracing::info!(%chain, n, %hash, "the audit trail has come this far");
    }
    *told = heads;
}
