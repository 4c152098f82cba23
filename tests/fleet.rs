//! Several `herald serve` on one store, each of which may be killed at any time.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use herald::app::open_store;
use herald::clock::SystemClock;
use herald::model::{Action, Delivery, DeliveryState, Part};
use herald::store::{Filter, Outbox};
use secrecy::SecretString;
use serde_json::json;
use sqlx::Connection;
use tempfile::TempDir;
use tokio::process::Child;

use crate::lanes::{self, OnUnknown};
use crate::postgres_server::schema;
use crate::proxy::{Heard, Proxy, Record, Treatment};
use crate::world::{Client, Workspace, free_port, herald, until};

/// What several processes share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// A data directory.
    Sqlite,
    Postgres,
}

/// What a fleet is like.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub engine: Engine,
    pub processes: usize,
    /// Between two messages in a channel.
    pub interval_ms: u32,
    pub on_unknown: OnUnknown,
    /// Slack's bot may look into the history of its channels.
    pub history: bool,
}

/// Processes, each behind a proxy of its own, and the store and the workspace that they share.
pub struct Fleet {
    pub workspace: Workspace,
    pub record: Record,
    pub outbox: Arc<dyn Outbox>,
    pub members: Vec<Member>,
    /// How to call each of them right now.
    pub clients: Arc<Mutex<Vec<Client>>>,
    data: TempDir,
    database: Option<String>,
    plan: Plan,
}

pub struct Member {
    pub proxy: Proxy,
    child: Child,
}

/// Holds the store so that nobody else can write to it.
pub enum Lock {
    Sqlite(sqlx::SqliteConnection),
    Postgres(sqlx::PgConnection),
}

impl Fleet {
    /// `None` where there is no such engine.
    pub async fn open(
        plan: Plan,
        script: impl FnMut(&Heard) -> Treatment + Send + 'static,
    ) -> Option<Self> {
        let database = match plan.engine {
            Engine::Sqlite => None,
            Engine::Postgres => Some(schema()?),
        };
        let data = tempfile::tempdir().unwrap();
        let pace = format!("{{pace: {{interval_ms: {}, burst: 1}}}}", plan.interval_ms);
        let settings = format!(
            "slack: {pace}\ndiscord: {pace}\ntelegram: {pace}\ndelivery: {{backoff_ms: 20}}\nmcp: {{requests_per_minute: 0}}\n"
        );
        std::fs::write(data.path().join("herald.yaml"), settings).unwrap();
        let url = database.clone().map(SecretString::from);
        let directory = data.path().join("data");
        let store = open_store(url.as_ref(), Some(&directory), Arc::new(SystemClock)).await;
        let (workspace, record) = (Workspace::open().await, Record::new(script));
        if !plan.history {
            lanes::forget_history(&workspace);
        }
        let (members, clients, outbox) = (Vec::new(), Arc::default(), store.unwrap().outbox);
        let mut fleet = Self { workspace, record, outbox, members, clients, data, database, plan };
        let started = (0..plan.processes).map(|_| fleet.start());
        for (member, client) in futures_util::future::join_all(started).await {
            fleet.members.push(member);
            fleet.clients.lock().unwrap().push(client);
        }
        Some(fleet)
    }

    async fn start(&self) -> (Member, Client) {
        let proxy = Proxy::open(&self.workspace, &self.record).await;
        let mut env: BTreeMap<String, String> =
            lanes::env(&self.workspace, &proxy, self.plan.on_unknown);
        env.extend(self.database.clone().map(|url| ("HERALD_DATABASE_URL".to_owned(), url)));
        let port = free_port();
        let log = std::fs::File::create(self.path(&format!("{}.log", proxy.number))).unwrap();
        let child = herald(&env)
            .args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--data-dir"])
            .arg(self.path("data"))
            .arg("--config")
            .arg(self.path("herald.yaml"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let client = Client::new(([127, 0, 0, 1], port).into());
        until("the server answers", async || {
            client.try_call("get_delivery", json!({ "delivery_id": "" })).await.is_ok()
        })
        .await;
        (Member { proxy, child }, client)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.data.path().join(name)
    }

    pub fn client(&self, member: usize) -> Client {
        self.clients.lock().unwrap()[member].clone()
    }

    /// `kill -9`, all of them at once. What they sent and nobody read is gone with them.
    pub async fn kill(&mut self, victims: &[usize]) {
        let pids = victims.iter().map(|it| self.members[*it].child.id().unwrap().to_string());
        let killed = std::process::Command::new("kill").arg("-KILL").args(pids).status();
        assert!(killed.unwrap().success());
        for victim in victims {
            self.members[*victim].child.wait().await.unwrap();
        }
    }

    /// Starts them again, behind new proxies.
    pub async fn restart(&mut self, victims: &[usize]) {
        let started = victims.iter().map(|_| self.start());
        let started = futures_util::future::join_all(started).await;
        for (victim, (member, client)) in victims.iter().zip(started) {
            self.members[*victim] = member;
            self.clients.lock().unwrap()[*victim] = client;
        }
    }

    /// All deliveries, in the order in which they were accepted.
    pub async fn deliveries(&self) -> Vec<Delivery> {
        let all = Filter { most: 1_000_000, ..Filter::default() };
        let mut deliveries = self.outbox.list(&all).await.unwrap();
        deliveries.reverse();
        deliveries
    }

    /// How many are in this state.
    pub async fn count(&self, state: DeliveryState) -> usize {
        self.deliveries().await.iter().filter(|delivery| delivery.state == state).count()
    }

    /// Keeps everybody else from writing to the store, as soon as nobody does.
    pub async fn lock(&self) -> Lock {
        match &self.database {
            Some(url) => {
                let mut db = sqlx::PgConnection::connect(url).await.unwrap();
                sqlx::raw_sql("BEGIN; LOCK TABLE lanes IN EXCLUSIVE MODE")
                    .execute(&mut db)
                    .await
                    .unwrap();
                Lock::Postgres(db)
            }
            None => {
                let file = self.path("data").join("herald.db").display().to_string();
                let mut db = sqlx::SqliteConnection::connect(&file).await.unwrap();
                sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut db).await.unwrap();
                Lock::Sqlite(db)
            }
        }
    }

    /// Where the processes' logs are, from now on for good.
    pub fn keep(self) -> PathBuf {
        self.data.keep()
    }
}

impl Lock {
    pub async fn release(self) {
        let released = match self {
            Self::Sqlite(mut db) => sqlx::raw_sql("ROLLBACK").execute(&mut db).await.map(|_| ()),
            Self::Postgres(mut db) => sqlx::raw_sql("ROLLBACK").execute(&mut db).await.map(|_| ()),
        };
        released.unwrap();
    }
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet").field("data", &self.data).finish_non_exhaustive()
    }
}

/// What a delivery says.
pub fn text(delivery: &Delivery) -> String {
    match delivery.steps.first().map(|step| &step.action) {
        Some(Action::Send { part: Part::Text(text) }) => text.plain.clone(),
        other => panic!("{other:?}"),
    }
}
