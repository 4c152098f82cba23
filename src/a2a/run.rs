//! One run of a task, watched to its end: listened to as long as the stream holds, then asked about.

use std::fmt;

use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use super::client::Client;
use super::dialect::Dialect;
use super::error::Error;
use super::read::{Heard, Reader};
use super::sse::{Frame, Stream};
use super::turn::{Caller, State, Update};
use super::wire::{self, Refusal, Reply};
use crate::telemetry::trace;

/// How often a task may be refused in a row before it counts as lost: a controller may know it a moment later.
const REFUSALS: u32 = 3;
/// How often a stream may be refused in a row before the task is only polled.
const ATTACHES: u32 = 3;

/// A task that is being watched. Dropping it stops watching; the task goes on.
pub struct Run {
    updates: mpsc::Receiver<Update>,
    watching: AbortHandle,
    task_id: Option<String>,
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").field("task_id", &self.task_id).finish_non_exhaustive()
    }
}

impl Run {
    pub(super) fn start(watcher: Watcher, stream: Option<Box<Stream>>) -> Self {
        let task_id = watcher.reader.task_id.clone();
        let (sender, updates) = mpsc::channel(32);
        let watching = tokio::spawn(trace::carry(watcher.watch(stream, sender))).abort_handle();
        Self { updates, watching, task_id }
    }

    /// What happens next; `None` after [`Update::Ended`]. May be dropped and called again without loss.
    pub async fn next(&mut self) -> Option<Update> {
        self.updates.recv().await
    }

    /// The task's ID. `None` only where the agent answered without a task.
    #[must_use]
    pub fn task_id(&self) -> Option<&str> {
        self.task_id.as_deref()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

/// How listening ended.
enum Listened {
    /// The task stopped.
    Stopped(State),
    /// The stream did, or nothing happens in it.
    Broken,
    /// Somebody cancelled the task: not every server says so in the stream.
    Cancelled,
    /// The agent does not let us listen.
    Refused(Refusal),
}

/// Nobody wants to know any more.
struct Dropped;

/// What does the watching.
pub(super) struct Watcher {
    client: Client,
    dialect: Dialect,
    caller: Caller,
    reader: Reader,
    /// What was heard before anybody listened.
    waiting: Vec<Update>,
    stopped: Option<State>,
    /// A stream broke: the end has to be read from the task.
    gap: bool,
    cancelled: watch::Receiver<String>,
    unsaid: bool,
    last_text: Option<Instant>,
    last_news: Instant,
    last_quiet: Instant,
}

impl Watcher {
    pub(super) fn new(client: Client, dialect: Dialect, caller: Caller) -> Self {
        let now = Instant::now();
        let cancelled = client.cancelled.subscribe();
        Self {
            client,
            dialect,
            caller,
            cancelled,
            reader: Reader::default(),
            waiting: Vec::new(),
            stopped: None,
            gap: false,
            unsaid: false,
            last_text: None,
            last_news: now,
            last_quiet: now,
        }
    }

    pub(super) fn resume(&mut self, task_id: &str) {
        self.reader.task_id = Some(task_id.to_owned());
        self.gap = true;
        self.reader.miss();
    }

    /// The first event of a stream. Where it goes on with a paused task, the task may come as it was before.
    pub(super) fn begin(&mut self, result: &Value, goes_on: bool) {
        let stale = goes_on && {
            let mut probe = Reader::default();
            let heard = probe.read(result, &mut Vec::new());
            matches!(heard, Heard::Stopped(State::InputRequired(_) | State::AuthRequired { .. }))
        };
        if stale {
            self.reader.note(result);
        } else {
            self.hear(result);
        }
    }

    /// Reads an event.
    pub(super) fn hear(&mut self, result: &Value) -> Heard {
        let before = self.waiting.len();
        let heard = self.reader.read(result, &mut self.waiting);
        let news = self.reader.news();
        self.unsaid |= news;
        if news || self.waiting.len() > before {
            self.last_news = Instant::now();
        }
        if let Heard::Stopped(state) = &heard {
            self.stopped = Some(state.clone());
        }
        heard
    }

    async fn watch(mut self, mut stream: Option<Box<Stream>>, to: mpsc::Sender<Update>) {
        // Who drops the run wants nothing more; there is nothing to do about it.
        let Ok(state) = self.follow(&mut stream, &to).await else { return };
        let outcome = self.reader.outcome(state);
        let _ = to.send(Update::Ended(outcome)).await;
    }

    async fn follow(
        &mut self,
        stream: &mut Option<Box<Stream>>,
        to: &mpsc::Sender<Update>,
    ) -> Result<State, Dropped> {
        if let Some(id) = self.reader.task_id.clone() {
            say(to, Update::Task { id }).await?;
        }
        self.tell(to, true).await?;
        if let Some(state) = self.stopped.take() {
            return Ok(state);
        }
        let patience = self.client.settings.patience;
        let mut pause = patience.first_pause;
        let (mut refusals, mut attaches) = (0, 0);
        let mut listens = self.client.streams();
        // After a restart, and when a stream breaks, the task is looked at without a pause; but not in a tight circle.
        let mut eager = self.gap || stream.is_some();
        let mut last_eager: Option<Instant> = None;
        loop {
            let news = self.last_news;
            if let Some(stream) = stream.take() {
                match self.listen(stream, to).await? {
                    Listened::Stopped(state) if !self.gap => return Ok(state),
                    Listened::Stopped(state) => return Ok(self.last_look(state).await),
                    Listened::Broken => attaches = 0,
                    Listened::Cancelled => eager = true,
                    Listened::Refused(refusal) => {
                        attaches += 1;
                        listens &= refusal.code != Refusal::METHOD_NOT_FOUND;
                    }
                }
                self.gap = true;
                self.reader.miss();
                eager |= self.last_news != news;
            }
            if eager && last_eager.is_none_or(|last| last.elapsed() >= patience.first_pause) {
                last_eager = Some(Instant::now());
            } else {
                if self.gap || self.last_quiet.max(self.last_news).elapsed() >= patience.idle {
                    self.quiet(to).await?;
                }
                let jitter = 0.75 + self.client.settings.clock.jitter() / 2.0;
                tokio::time::sleep(pause.mul_f64(jitter)).await;
                pause = pause.mul_f64(1.5).min(patience.last_pause);
            }
            eager = false;
            let Some(task_id) = self.reader.task_id.clone() else {
                return Ok(State::Lost(Error::MayHaveArrived("the stream broke")));
            };
            match self.client.get(&task_id, &self.caller).await {
                Ok((dialect, task)) => {
                    self.dialect = dialect;
                    refusals = 0;
                    self.hear(&task);
                    self.tell(to, true).await?;
                    if let Some(state) = self.stopped.take() {
                        return Ok(state);
                    }
                }
                Err(error) if error.is_passing() => self.client.forget(),
                Err(error) => {
                    refusals += 1;
                    if refusals >= REFUSALS {
                        return Ok(State::Lost(error));
                    }
                }
            }
            if self.last_news != news {
                pause = patience.first_pause;
            }
            if self.last_news.elapsed() >= patience.silence {
                return Ok(State::StillRunning);
            }
            if listens && attaches < ATTACHES && refusals == 0 {
                match self.client.attach(self.dialect, &task_id, &self.caller).await {
                    Ok(Reply::Stream(again)) => *stream = Some(again),
                    Ok(Reply::Refusal(refusal)) => {
                        attaches += 1;
                        listens = refusal.code != Refusal::METHOD_NOT_FOUND;
                    }
                    // One answer instead of a stream: the next look at the task tells as much.
                    Ok(Reply::Result(_)) => listens = false,
                    Err(_) => {}
                }
            }
        }
    }

    async fn listen(
        &mut self,
        mut stream: Box<Stream>,
        to: &mpsc::Sender<Update>,
    ) -> Result<Listened, Dropped> {
        let patience = self.client.settings.patience;
        // Pings keep a connection, but a task can end without its stream: only events count.
        let mut heard_at = Instant::now();
        let mut first = true;
        let ended = loop {
            let wait = if self.unsaid { patience.text.min(patience.idle) } else { patience.idle };
            let next = tokio::select! {
                next = timeout(wait, stream.next()) => Some(next),
                () = was_cancelled(&mut self.cancelled, self.reader.task_id.as_deref()) => None,
            };
            match next {
                None => break Listened::Cancelled,
                Some(Err(_)) => self.tell(to, true).await?,
                Some(Ok(Err(_))) => break Listened::Broken,
                Some(Ok(Ok(None))) => {
                    stream.fail("closed");
                    break Listened::Broken;
                }
                Some(Ok(Ok(Some(frame)))) => {
                    let answer = match frame {
                        Frame::Alive => None,
                        Frame::Data(value) => Some(wire::envelope(value)),
                        Frame::Error(value) => {
                            let error = value.get("error").unwrap_or(&value);
                            Some(Ok(Reply::Refusal(Refusal::read(error))))
                        }
                    };
                    if answer.is_some() {
                        heard_at = Instant::now();
                    }
                    if let Some(Ok(Reply::Refusal(refusal))) = answer {
                        // In the middle it says nothing about the task.
                        break if first { Listened::Refused(refusal) } else { Listened::Broken };
                    }
                    first &= answer.is_none();
                    if let Some(Ok(Reply::Result(result))) = answer {
                        let heard = self.hear(&result);
                        self.tell(to, false).await?;
                        if let Some(state) = self.stopped.take() {
                            return Ok(Listened::Stopped(state));
                        }
                        if heard == Heard::Closing {
                            break Listened::Broken;
                        }
                    }
                }
            }
            if self.last_quiet.max(self.last_news).elapsed() >= patience.idle {
                self.quiet(to).await?;
            }
            if heard_at.elapsed() >= patience.idle || self.last_news.elapsed() >= patience.silence {
                stream.fail("silent");
                break Listened::Broken;
            }
        };
        self.tell(to, true).await?;
        Ok(ended)
    }

    /// Pieces were missed, so the task itself has the whole answer.
    async fn last_look(&mut self, state: State) -> State {
        let Some(task_id) = self.reader.task_id.clone() else { return state };
        if let Ok((_, task)) = self.client.get(&task_id, &self.caller).await {
            self.reader.keep_streamed();
            self.hear(&task);
        }
        self.stopped.take().unwrap_or(state)
    }

    /// Says what was heard. Text is said now and then only: it may come a word at a time.
    async fn tell(&mut self, to: &mpsc::Sender<Update>, now: bool) -> Result<(), Dropped> {
        let due = self.last_text.is_none_or(|at| {
            now || !self.waiting.is_empty() || at.elapsed() >= self.client.settings.patience.text
        });
        // The end brings the whole answer.
        if self.unsaid && due && self.stopped.is_none() {
            self.unsaid = false;
            self.last_text = Some(Instant::now());
            say(to, Update::Text(self.reader.showing().to_owned())).await?;
        }
        for update in self.waiting.drain(..) {
            say(to, update).await?;
        }
        Ok(())
    }

    async fn quiet(&mut self, to: &mpsc::Sender<Update>) -> Result<(), Dropped> {
        self.last_quiet = Instant::now();
        say(to, Update::Quiet { since: self.last_news.elapsed() }).await
    }
}

/// Waits until that task is cancelled by way of this client.
async fn was_cancelled(cancelled: &mut watch::Receiver<String>, task_id: Option<&str>) {
    loop {
        if cancelled.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        if Some(cancelled.borrow_and_update().as_str()) == task_id {
            return;
        }
    }
}

async fn say(to: &mpsc::Sender<Update>, update: Update) -> Result<(), Dropped> {
    to.send(update).await.map_err(|_| Dropped)
}
