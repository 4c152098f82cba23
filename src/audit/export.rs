//! Passes on what was committed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Destination;
use super::sink::Sink;
use crate::store::trail::{Head, Page};
use crate::store::{StoreError, Trail};

/// So many rows are read and written at once.
const AT_ONCE: u32 = 200;
/// How soon a place that could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How often it is tried once more at the end.
const LAST_TRIES: u32 = 2;

/// Writes all that this process commits to one place.
pub struct Export {
    trail: Arc<dyn Trail>,
    sink: Option<Sink>,
    /// How far each chain was passed on.
    done: BTreeMap<String, u64>,
    /// That it fails was told.
    told: bool,
}

/// Why rows could not be passed on.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{0}")]
    Sink(#[from] std::io::Error),
    #[error("the write was cut")]
    Cut,
}

impl Export {
    /// Nothing happens before [`Export::run`].
    #[must_use]
    pub fn new(trail: Arc<dyn Trail>, to: Destination) -> Self {
        Self { trail, sink: Some(Sink::new(to)), done: BTreeMap::new(), told: false }
    }

    /// Passes on what is committed, until `stop`, and then what is left.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut written = self.trail.book().written();
        while !stop.is_cancelled() {
            written.borrow_and_update();
            let again = self.pass_on().await.is_err();
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(AGAIN), if again => {}
                changed = written.changed(), if !again => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
        for _ in 0..LAST_TRIES {
            if self.pass_on().await.is_ok() {
                return;
            }
        }
    }

    /// Everything up to now; says once that it cannot be done.
    async fn pass_on(&mut self) -> Result<(), ()> {
        for Head { chain, n, .. } in self.trail.book().heads() {
            while self.done.get(&chain).copied().unwrap_or_default() < n {
                match self.next(&chain).await {
                    Ok(true) => {}
                    // They have had their time already.
                    Ok(false) => break,
                    Err(error) => {
                        if !std::mem::replace(&mut self.told, true) {
                            let to = self.sink.as_ref().map(Sink::name).unwrap_or_default();
                            tracing::error!(to, %error, "the audit trail cannot be written there; it is kept in the store and tried again");
                        }
                        return Err(());
                    }
                }
            }
        }
        if std::mem::take(&mut self.told) {
            tracing::info!("the audit trail is written again, nothing is left out");
        }
        Ok(())
    }

    /// The next rows of a chain; false if there are none.
    async fn next(&mut self, chain: &str) -> Result<bool, Failure> {
        let after = self.done.get(chain).copied().unwrap_or_default();
        let rows = self.trail.rows(chain, Page::After(after), AT_ONCE).await?;
        let Some(last) = rows.last().map(|row| row.n) else { return Ok(false) };
        let mut sink = self.sink.take().ok_or(Failure::Cut)?;
        // A disk that hangs keeps a thread of its own waiting.
        let (sink, written) = tokio::task::spawn_blocking(move || {
            let written = sink.write(&rows);
            (sink, written)
        })
        .await
        .map_err(|_| Failure::Cut)?;
        self.sink = Some(sink);
        written?;
        self.done.insert(chain.to_owned(), last);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::model::audit::{Act, Entry};
    use crate::store::sqlite::Sqlite;
    use crate::store::trail::Row;

    const T0: Timestamp = Timestamp(1_800_000_000_000);

    async fn note(store: &Sqlite, count: usize) {
        for _ in 0..count {
            store.note(vec![Entry::new(Act::RulesChanged)], T0).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_place_that_fails_for_a_while_gets_every_row_once_and_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("later/audit.jsonl");
        let store = Arc::new(Sqlite::in_memory().await.unwrap());
        let mut export = Export::new(Arc::<Sqlite>::clone(&store), Destination::File(path.clone()));
        note(&store, 250).await;
        assert_eq!(export.pass_on().await, Err(()));
        assert!(export.told);
        std::fs::create_dir(directory.path().join("later")).unwrap();
        assert_eq!(export.pass_on().await, Ok(()));
        let stop = CancellationToken::new();
        let running = tokio::spawn(export.run(stop.clone()));
        note(&store, 3).await;
        stop.cancel();
        running.await.unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        let rows: Vec<_> = text.lines().map(|line| Row::with_hashes_read(line).unwrap()).collect();
        let chain = store.chains().await.unwrap().remove(0).id;
        assert_eq!(rows, store.rows(&chain, Page::After(0), 1000).await.unwrap());
        assert_eq!(rows.len(), 254);
    }
}
