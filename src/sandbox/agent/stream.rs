//! Server-sent events of a task, and waiting for its end.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use futures_util::stream;
use http::{HeaderValue, header};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::super::World;
use super::super::moment::iso;
use super::Dialect;
use super::task::What;

/// How often the Python runtimes say that they are alive.
const PING: Duration = Duration::from_secs(15);

/// One open connection to a task.
pub(super) struct Line {
    pub dialect: Dialect,
    /// The Go runtime's line ends, and no comments.
    pub go: bool,
    /// Of the JSON-RPC request.
    pub id: Value,
    pub task: String,
    /// The first entry that is told.
    pub from: usize,
    /// What is told before it.
    pub first: Option<Value>,
    /// That is all.
    pub over: bool,
}

impl Line {
    fn event(&self, result: &Value) -> Vec<u8> {
        let data = json!({ "id": self.id, "jsonrpc": "2.0", "result": result });
        let end = if self.go { "\n\n" } else { "\r\n\r\n" };
        format!("data: {data}{end}").into_bytes()
    }
}

/// One event, as 0.3 tells an error to who asked for a stream.
pub(super) fn once(body: &Value) -> Response {
    response(Body::from(format!("data: {body}\r\n\r\n")))
}

fn response(body: Body) -> Response {
    let mut response = Response::new(body);
    let kind = HeaderValue::from_static("text/event-stream; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// What a look at the log brings.
enum Look {
    Events(Vec<Vec<u8>>),
    /// Told to the end.
    Over,
    Broke,
    Nothing,
}

struct Open {
    world: World,
    line: Line,
    told: usize,
    ready: VecDeque<Vec<u8>>,
    over: bool,
    length: watch::Receiver<usize>,
    down: watch::Receiver<bool>,
    silent: bool,
}

/// Tells a task until its run is over.
pub(super) fn open(world: &World, line: Line) -> Response {
    let watched =
        world.inner.agent.desk().tasks.get(&line.task).map(|task| (task.watch(), task.silent));
    let Some((length, silent)) = watched else { return super::broken(Vec::new()) };
    let open = Open {
        world: world.clone(),
        told: line.from,
        ready: line.first.iter().map(|first| line.event(first)).collect(),
        over: line.over,
        length,
        down: world.inner.agent.down.subscribe(),
        silent: silent || line.go,
        line,
    };
    response(Body::from_stream(stream::unfold(open, |mut open| async move {
        let next = open.next().await?;
        Some((next, open))
    })))
}

/// Comes back when the agent is off the network.
async fn broken(down: &mut watch::Receiver<bool>) {
    if down.wait_for(|down| *down).await.is_err() {
        std::future::pending::<()>().await;
    }
}

impl Open {
    async fn next(&mut self) -> Option<io::Result<Vec<u8>>> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Some(Ok(bytes));
            }
            if self.over {
                return None;
            }
            self.length.mark_unchanged();
            match self.look() {
                Look::Events(events) => self.ready.extend(events),
                Look::Over => return None,
                Look::Broke => return self.breaks(),
                Look::Nothing => {
                    tokio::select! {
                        () = broken(&mut self.down) => return self.breaks(),
                        changed = self.length.changed() => if changed.is_err() { return None },
                        () = tokio::time::sleep(PING), if !self.silent => {
                            let time = iso(self.world.inner.clock.now()).replace('T', " ");
                            self.ready.push_back(format!(": ping - {time}\r\n\r\n").into_bytes());
                        }
                    }
                }
            }
        }
    }

    fn breaks(&mut self) -> Option<io::Result<Vec<u8>>> {
        self.over = true;
        Some(Err(io::ErrorKind::ConnectionReset.into()))
    }

    /// Takes the next entry of the log.
    fn look(&mut self) -> Look {
        let desk = self.world.inner.agent.desk();
        let Some(task) = desk.tasks.get(&self.line.task) else { return Look::Over };
        let Some(entry) = task.entries.get(self.told) else { return Look::Nothing };
        if matches!(entry.what, What::Broke) {
            return Look::Broke;
        }
        let told = self.line.dialect.events(task, self.told);
        self.over = entry.what.ends();
        self.told += 1;
        Look::Events(told.iter().map(|event| self.line.event(event)).collect())
    }
}

/// Waits for the end of a run: the number of entries then, or nothing if the connection breaks first.
pub(super) async fn wait(world: &World, task: &str, from: usize) -> Option<usize> {
    let mut length = world.inner.agent.desk().tasks.get(task)?.watch();
    let mut down = world.inner.agent.down.subscribe();
    loop {
        length.mark_unchanged();
        let ended = {
            let desk = world.inner.agent.desk();
            let entries = desk.tasks.get(task)?.entries.iter().enumerate().skip(from);
            let mut ends = entries.filter_map(|(place, entry)| match &entry.what {
                What::Broke => Some(None),
                what => what.ends().then_some(Some(place + 1)),
            });
            ends.next()
        };
        if let Some(end) = ended {
            return end;
        }
        tokio::select! {
            () = broken(&mut down) => return None,
            changed = length.changed() => changed.ok()?,
        }
    }
}
