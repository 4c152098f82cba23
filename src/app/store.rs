//! Which engine stores what is accepted.

use std::path::Path;
use std::sync::Arc;

use secrecy::SecretString;

use crate::clock::Clock;
use crate::store::postgres::Postgres;
use crate::store::sqlite::Sqlite;
use crate::store::trail::Settings;
use crate::store::{Conversations, Leases, Outbox, StoreError, Trail};

/// The store that the commands share, on either engine.
pub struct Store {
    /// Deliveries and their lanes.
    pub outbox: Arc<dyn Outbox>,
    /// Events and conversations.
    pub conversations: Arc<dyn Conversations>,
    /// Who may do what only one process may do.
    pub leases: Arc<dyn Leases>,
    /// The audit trail.
    pub trail: Arc<dyn Trail>,
    /// What everybody who shares the store takes for now.
    pub clock: Arc<dyn Clock>,
    /// Where it is, for people.
    pub place: String,
}

impl Store {
    fn new<S: Outbox + Conversations + Leases + Trail>(
        store: Arc<S>,
        clock: Arc<dyn Clock>,
        place: String,
    ) -> Self {
        let (outbox, conversations) = (Arc::<S>::clone(&store), Arc::<S>::clone(&store));
        let trail = Arc::<S>::clone(&store);
        Self { outbox, conversations, leases: store, trail, clock, place }
    }
}

/// Opens the store: the database, if there is one, else the data directory, else memory.
///
/// # Errors
/// When the database or the directory cannot be used.
pub async fn open_store(
    database: Option<&SecretString>,
    data_dir: Option<&Path>,
    clock: Arc<dyn Clock>,
) -> Result<Store, StoreError> {
    open_audited(database, data_dir, clock, &Settings::default()).await
}

/// The same, with an audit trail that is written like this.
///
/// # Errors
/// Those of [`open_store`].
pub async fn open_audited(
    database: Option<&SecretString>,
    data_dir: Option<&Path>,
    clock: Arc<dyn Clock>,
    audit: &Settings,
) -> Result<Store, StoreError> {
    if let Some(url) = database {
        let store = Arc::new(Postgres::open_with(url, clock, audit).await?);
        let (clock, place) = (store.clock(), format!("PostgreSQL at {}", store.place()));
        return Ok(Store::new(store, clock, place));
    }
    let (store, place) = match data_dir {
        Some(directory) => {
            (Sqlite::open_with(directory, audit).await?, directory.display().to_string())
        }
        None => (Sqlite::in_memory_with(audit).await?, "memory".to_owned()),
    };
    Ok(Store::new(Arc::new(store), clock, place))
}

/// What this process is called in the audit trail: its host's name, which is a pod's.
#[must_use]
pub fn replica() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
