//! What `/readyz` says.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use super::{Serves, reload};
use crate::model::PlatformKind;
use crate::platform::listener::Standing;
use crate::server::{Check, Readiness};
use crate::store::Outbox;

/// Ready means: what is accepted can be stored. A platform that is down changes nothing about that; only where there is
/// nothing but a bot, and every listener of it has failed for good, there is nothing left to be ready for.
pub(super) struct Ready {
    pub(super) serves: Serves,
    pub(super) outbox: Arc<dyn Outbox>,
    /// Why the configured rules could not be read, where they can change.
    pub(super) rules: Option<reload::Standing>,
    pub(super) standings: Vec<(PlatformKind, watch::Receiver<Standing>)>,
}

#[async_trait]
impl Readiness for Ready {
    async fn checks(&self) -> BTreeMap<String, Check> {
        let error = self.outbox.check_writable().await.err();
        let store =
            Check { ok: error.is_none(), required: true, detail: error.map(|e| e.to_string()) };
        let standings: Vec<_> = self
            .standings
            .iter()
            .map(|(kind, standing)| (kind, standing.borrow().clone()))
            .collect();
        let failed = |(_, standing): &(_, Standing)| matches!(standing, Standing::Failed { .. });
        let deaf = self.serves == Serves::Bot && standings.iter().all(failed);
        let listeners = standings.into_iter().map(|(kind, standing)| {
            let ok = matches!(standing, Standing::Connected | Standing::Standby);
            let detail = match standing {
                Standing::Starting => "starting".to_owned(),
                Standing::Standby => "another process listens".to_owned(),
                Standing::Connected => "connected".to_owned(),
                Standing::Retrying { why } => format!("trying again: {why}"),
                Standing::Failed { why } => format!("failed: {why}"),
                Standing::Stopped => "stopped".to_owned(),
            };
            (format!("{kind}_listener"), Check { ok, required: deaf, detail: Some(detail) })
        });
        // The old rules go on: no reason to serve nobody.
        let rules = self.rules.as_ref().map(|standing| {
            // Whoever reaches the port may ask: what is wrong may name clients and channels, and stands in the log.
            let broken = standing.borrow().is_some();
            let detail =
                broken.then(|| "the old rules go on: the log says what is wrong".to_owned());
            ("rules".to_owned(), Check { ok: !broken, required: false, detail })
        });
        listeners.chain([("store".to_owned(), store)]).chain(rules).collect()
    }
}
