//! What `/readyz` says.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use super::Serves;
use crate::model::PlatformKind;
use crate::platform::listener::Standing;
use crate::server::{Check, Readiness};
use crate::store::Outbox;

/// Ready means: what is accepted can be stored. A platform that is down changes nothing about that; only where there is
/// nothing but a bot, and every listener of it has failed for good, there is nothing left to be ready for.
pub(super) struct Ready {
    pub(super) serves: Serves,
    pub(super) outbox: Arc<dyn Outbox>,
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
        listeners.chain([("store".to_owned(), store)]).collect()
    }
}
