//! Passes on what was committed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Destination;
use super::sink::{NotWritten, Sink};
use crate::store::trail::{Head, Page};
use crate::store::{StoreError, Trail};

/// So many rows are read and written at once, at most.
const AT_ONCE: u32 = 200;
/// How soon a place that could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How often it is tried once more at the end.
const LAST_TRIES: u32 = 2;

/// Writes all that this process commits to one place.
pub struct Export {
    trail: Arc<dyn Trail>,
    sink: Sink,
    /// How far each chain was passed on.
    done: BTreeMap<String, u64>,
    /// So many rows are written next.
    at_once: u32,
    /// That it fails was told.
    told: bool,
}

/// Why rows could not be passed on.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{0}")]
    Sink(#[from] NotWritten),
}

impl Export {
    /// Nothing happens before [`Export::run`].
    #[must_use]
    pub fn new(trail: Arc<dyn Trail>, to: Destination) -> Self {
        let (sink, done) = (Sink::new(to), BTreeMap::new());
        Self { trail, sink, done, at_once: AT_ONCE, told: false }
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
                            let to = self.sink.name();
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

    /// The next rows of a chain; false if there are none. Rows that are refused together are halved.
    async fn next(&mut self, chain: &str) -> Result<bool, Failure> {
        let after = self.done.get(chain).copied().unwrap_or_default();
        let rows = self.trail.rows(chain, Page::After(after), self.at_once).await?;
        let Some(last) = rows.last().map(|row| row.n) else { return Ok(false) };
        let half = u32::try_from(rows.len() / 2).unwrap_or(AT_ONCE);
        match self.sink.write(rows).await {
            Ok(()) => {
                self.done.insert(chain.to_owned(), last);
                self.at_once = (self.at_once * 2).min(AT_ONCE);
            }
            Err(error) if error.is_for_good() && half > 0 => self.at_once = half,
            Err(error) => return Err(error.into()),
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::logs::v1::LogRecord;
    use prost::Message as _;

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

    type Bodies = Arc<std::sync::Mutex<Vec<axum::body::Bytes>>>;

    /// The records of a request.
    fn records(body: axum::body::Bytes) -> Vec<LogRecord> {
        let request = ExportLogsServiceRequest::decode(body).unwrap();
        let scopes = request.resource_logs.into_iter().flat_map(|resource| resource.scope_logs);
        scopes.flat_map(|scope| scope.log_records).collect()
    }

    fn line(record: LogRecord) -> String {
        let Some(Value::StringValue(line)) = record.body.unwrap().value else {
            panic!("it is no text");
        };
        line
    }

    /// A collector that takes nothing for the first requests; and its URL.
    async fn collector(nothing: usize) -> (String, Bodies) {
        answering(move |bodies| match bodies.len() > nothing {
            true => StatusCode::OK,
            false => StatusCode::SERVICE_UNAVAILABLE,
        })
        .await
    }

    /// A collector that answers by what it has got, the newest last; and its URL.
    async fn answering<F>(answer: F) -> (String, Bodies)
    where
        F: Fn(&[axum::body::Bytes]) -> StatusCode + Clone + Send + Sync + 'static,
    {
        use axum::extract::State;
        let bodies = Bodies::default();
        let take = async move |State(bodies): State<Bodies>, body: axum::body::Bytes| {
            let mut bodies = bodies.lock().unwrap();
            bodies.push(body);
            answer(&bodies)
        };
        let router = axum::Router::new().route("/v1/logs", axum::routing::post(take));
        let router = router.with_state(Arc::clone(&bodies));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (url, bodies)
    }

    fn to_collector(url: &str) -> Destination {
        let env = |name: &str| (name == "OTEL_EXPORTER_OTLP_ENDPOINT").then(|| url.to_owned());
        Destination::Collector(crate::telemetry::otlp::Settings::read_for_logs(&env).unwrap())
    }

    #[tokio::test]
    async fn a_collector_that_is_away_for_a_while_gets_every_row_and_in_order() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let store = Arc::new(Sqlite::in_memory().await.unwrap());
        note(&store, 250).await;
        let nobody = to_collector("http://127.0.0.1:9");
        let mut export = Export::new(Arc::<Sqlite>::clone(&store), nobody);
        assert_eq!(export.pass_on().await, Err(()));
        let (url, bodies) = collector(2).await;
        let mut export = Export::new(Arc::<Sqlite>::clone(&store), to_collector(&url));
        for _ in 0..2 {
            assert_eq!(export.pass_on().await, Err(()));
        }
        assert_eq!(export.pass_on().await, Ok(()));
        note(&store, 3).await;
        assert_eq!(export.pass_on().await, Ok(()));

        let bodies = bodies.lock().unwrap().clone();
        // Nothing was skipped for what it did not take, and nothing that it took comes again.
        assert_eq!(bodies.len(), 5);
        assert!(bodies[0] == bodies[1] && bodies[1] == bodies[2]);
        let records: Vec<_> = bodies[2..].iter().flat_map(|body| records(body.clone())).collect();
        assert!(records.iter().all(|record| record.time_unix_nano == 1_800_000_000_000_000_000));
        let lines: Vec<_> =
            records.into_iter().map(|it| (it.event_name.clone(), line(it))).collect();
        let chain = store.chains().await.unwrap().remove(0).id;
        let rows = store.rows(&chain, Page::After(0), 1000).await.unwrap();
        assert_eq!(rows.len(), 254);
        let said = |row: Row| row.line;
        let told = lines.iter().map(|(_, line)| line.clone()).collect::<Vec<_>>();
        assert_eq!(told, rows.into_iter().map(said).collect::<Vec<_>>());
        assert_eq!((&*lines[0].0, &*lines[1].0), ("started", "rules_changed"));
    }

    #[tokio::test]
    async fn what_a_collector_refuses_for_good_is_halved_and_a_single_row_is_passed_over() {
        /// Two rows of these have room, of the small ones many.
        const MOST: usize = 16 * 1024;
        let _ = rustls::crypto::ring::default_provider().install_default();
        let store = Arc::new(Sqlite::in_memory().await.unwrap());
        note(&store, 100).await;
        for reason in ["refused".to_owned(), "x".repeat(6 * 1024), "y".repeat(6 * 1024)] {
            let entry = Entry { reason: Some(reason), ..Entry::new(Act::Denied) };
            store.note(vec![entry], T0).await.unwrap();
        }
        note(&store, 150).await;
        let refuses = |line: &str| line.contains("\"refused\"");
        let takes = move |body: &axum::body::Bytes| {
            if body.len() > MOST {
                return StatusCode::PAYLOAD_TOO_LARGE;
            }
            let bad = records(body.clone()).into_iter().any(|record| refuses(&line(record)));
            if bad { StatusCode::BAD_REQUEST } else { StatusCode::OK }
        };
        let (url, bodies) = answering(move |bodies| takes(bodies.last().unwrap())).await;
        let mut export = Export::new(Arc::<Sqlite>::clone(&store), to_collector(&url));
        assert_eq!(export.pass_on().await, Ok(()));

        let bodies = bodies.lock().unwrap().clone();
        let (taken, not): (Vec<_>, Vec<_>) =
            bodies.into_iter().partition(|body| takes(body) == StatusCode::OK);
        assert!(not.iter().any(|body| body.len() > MOST));
        assert!(not.iter().any(|body| records(body.clone()).len() == 1));
        let taken: Vec<_> = taken.into_iter().flat_map(records).map(line).collect();
        let chain = store.chains().await.unwrap().remove(0).id;
        let rows = store.rows(&chain, Page::After(0), 1000).await.unwrap();
        assert_eq!(rows.len(), 254);
        let all: Vec<_> = rows.into_iter().map(|row| row.line).collect();
        // Each of the others once, and in order.
        assert_eq!(taken.len(), 253);
        assert_eq!(taken, all.into_iter().filter(|line| !refuses(line)).collect::<Vec<_>>());
    }
}
