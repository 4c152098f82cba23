//! One connection of Socket Mode: envelopes in, acknowledgements out.
//!
//! An envelope is acknowledged once its event is stored, and what becomes of the event is nobody's business here. Events of
//! one thread are stored in their order, those of different threads side by side. What finds no room is not
//! acknowledged: Slack tells it again.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::inbound::{Home, Reader, Told};
use super::listener::Timing;
use super::origin::Origins;
use crate::clock::Clock;
use crate::model::{Event, Occurrence, Visit};
use crate::platform::listener::Inbox;
use crate::platform::socket::WebSocket;

/// How many threads' events are stored side by side: what is stored together costs one flush of the disk.
const LANES: usize = 128;
/// How many events may wait to be stored.
const ROOM: usize = 2048;
/// How long a frame may take to be written.
const WRITE: Duration = Duration::from_secs(10);

/// What a connection says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// Slack is there.
    Hello,
    /// Slack will close it soon: open another one. This one still hears.
    Replace,
    /// It hears no more.
    Ended(End),
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Socket Mode was switched off.
    LinkDisabled,
    /// There are too many.
    Crowded,
    /// Nothing came for too long.
    Silent,
    /// It broke.
    Lost,
    /// Slack closed it.
    Closed,
}

/// What a connection works with.
pub(super) struct Wiring {
    pub(super) home: Home,
    pub(super) origins: Origins,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) timing: Timing,
    pub(super) lanes: Lanes,
}

/// A connection, from outside.
pub(super) struct Connection {
    pub(super) notes: mpsc::UnboundedReceiver<Note>,
    /// Ends it, once it has acknowledged what it holds.
    pub(super) close: CancellationToken,
}

impl Connection {
    pub(super) fn start(
        socket: WebSocket,
        wiring: Wiring,
        tracker: &TaskTracker,
        close: CancellationToken,
    ) -> Self {
        let (told, notes) = mpsc::unbounded_channel();
        let closing = close.clone();
        tracker.spawn(async move { wiring.run(socket, told, closing).await });
        Self { notes, close }
    }
}

impl Wiring {
    async fn run(
        self,
        mut socket: WebSocket,
        notes: mpsc::UnboundedSender<Note>,
        close: CancellationToken,
    ) {
        let (acks, mut stored) = mpsc::unbounded_channel();
        let end = self.hear(&mut socket, &notes, &close, &acks, &mut stored).await;
        if let Some(end) = end {
            let _ = notes.send(Note::Ended(end));
        }
        if matches!(end, Some(End::Lost | End::Silent)) {
            return;
        }
        // Whoever still stores an event holds a sender; after the last of them the channel ends.
        drop(acks);
        let rest = async {
            while let Some(envelope) = stored.recv().await {
                if !write(&mut socket, acknowledgement(&envelope)).await {
                    return;
                }
            }
        };
        let _ = timeout(self.timing.drain, rest).await;
        let _ = timeout(self.timing.drain, socket.close(None)).await;
    }

    /// Hears until the end; `None` when it was told to close.
    async fn hear(
        &self,
        socket: &mut WebSocket,
        notes: &mpsc::UnboundedSender<Note>,
        close: &CancellationToken,
        acks: &mpsc::UnboundedSender<String>,
        stored: &mut mpsc::UnboundedReceiver<String>,
    ) -> Option<End> {
        let mut pings = interval(self.timing.ping);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        loop {
            let written = tokio::select! {
                () = close.cancelled() => return None,
                Some(envelope) = stored.recv() => write(socket, acknowledgement(&envelope)).await,
                frame = socket.next() => {
                    let Some(Ok(frame)) = frame else { return Some(End::Lost) };
                    heard = Instant::now();
                    match frame {
                        Message::Text(text) => match self.told(&text, acks) {
                            Some(Note::Ended(end)) => return Some(end),
                            Some(note) => {
                                // Nobody listens to one that was replaced.
                                let _ = notes.send(note);
                                true
                            }
                            None => true,
                        },
                        Message::Close(_) => return Some(End::Closed),
                        _ => true,
                    }
                }
                _ = pings.tick() => {
                    if heard.elapsed() > self.timing.silence {
                        return Some(End::Silent);
                    }
                    write(socket, Message::Ping(Vec::new().into())).await
                }
            };
            if !written {
                return Some(End::Lost);
            }
        }
    }

    /// Understands a frame: what is to be stored goes to the lanes, what concerns nobody is acknowledged.
    pub(super) fn told(&self, text: &str, acks: &mpsc::UnboundedSender<String>) -> Option<Note> {
        let frame: Value = serde_json::from_str(text).ok()?;
        let string = |name: &str| frame.get(name).and_then(Value::as_str);
        let kind = string("type")?;
        match kind {
            "hello" => return Some(Note::Hello),
            "disconnect" => {
                return Some(match string("reason") {
                    Some("link_disabled") => Note::Ended(End::LinkDisabled),
                    Some("too_many_websockets") => Note::Ended(End::Crowded),
                    // `warning`, `refresh_requested`, and what else there may be.
                    _ => Note::Replace,
                });
            }
            _ => {}
        }
        let envelope = string("envelope_id")?.to_owned();
        let payload = frame.get("payload").unwrap_or(&Value::Null);
        let told = match kind {
            "events_api" => Some(Told::Callback(payload)),
            "slash_commands" => Some(Told::Command(payload)),
            "interactive" => Some(Told::Interaction(payload)),
            _ => None,
        };
        let reader = Reader {
            home: &self.home,
            origins: &self.origins,
            fallback: &envelope,
            now: self.clock.now(),
        };
        match told.and_then(|told| reader.read(told)) {
            Some(event) => self.lanes.put(event, envelope, acks.clone()),
            None => {
                let _ = acks.send(envelope);
            }
        }
        None
    }
}

fn acknowledgement(envelope: &str) -> Message {
    Message::text(json!({ "envelope_id": envelope }).to_string())
}

/// Whether a frame was written.
async fn write(socket: &mut WebSocket, message: Message) -> bool {
    matches!(timeout(WRITE, socket.send(message)).await, Ok(Ok(())))
}

/// An event that waits to be stored.
struct Held {
    event: Event,
    envelope: String,
    acks: mpsc::UnboundedSender<String>,
    _room: OwnedSemaphorePermit,
}

/// Where events wait to be stored: by thread, so that each thread's keep their order.
#[derive(Clone)]
pub(super) struct Lanes {
    lanes: Arc<Vec<mpsc::UnboundedSender<Held>>>,
    room: Arc<Semaphore>,
    /// Ends with the last clone.
    _tasks: Arc<JoinSet<()>>,
}

impl Lanes {
    pub(super) fn new(inbox: &Arc<dyn Inbox>) -> Self {
        let mut tasks = JoinSet::new();
        let lanes = (0..LANES).map(|_| {
            let (sender, mut held) = mpsc::unbounded_channel::<Held>();
            let inbox = inbox.clone();
            tasks.spawn(async move {
                while let Some(Held { event, envelope, acks, _room }) = held.recv().await {
                    if inbox.take(event).await.is_ok() {
                        let _ = acks.send(envelope);
                    }
                }
            });
            sender
        });
        Self {
            lanes: Arc::new(lanes.collect()),
            room: Arc::new(Semaphore::new(ROOM)),
            _tasks: Arc::new(tasks),
        }
    }

    fn put(&self, event: Event, envelope: String, acks: mpsc::UnboundedSender<String>) {
        let Ok(room) = self.room.clone().try_acquire_owned() else {
            tracing::warn!(
                platform = "slack",
                "too many events wait to be stored; Slack tells this one again"
            );
            return;
        };
        let mut hasher = DefaultHasher::new();
        thread_of(&event).hash(&mut hasher);
        let lane = usize::try_from(hasher.finish() % LANES as u64).unwrap_or_default();
        if let Some(lane) = self.lanes.get(lane) {
            let _ = lane.send(Held { event, envelope, acks, _room: room });
        }
    }
}

/// What keeps its order: a thread, from its first message on, or a direct chat.
fn thread_of(event: &Event) -> (&str, Option<&str>) {
    let Visit { channel, thread, direct, .. } = &event.visit;
    let root = match &event.what {
        _ if *direct => None,
        Occurrence::Message { message_id, .. } => thread.as_ref().or(Some(message_id)),
        Occurrence::Press { message_id, .. } => thread.as_ref().or(message_id.as_ref()),
        Occurrence::Command { .. } => thread.as_ref(),
    };
    (channel.id(), root.map(String::as_str))
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::clock::Timestamp;
    use crate::model::{Occurrence, Person, Visit};
    use crate::platform::listener::{NotTaken, Taken};

    /// Never gets done with one channel.
    struct Stuck;

    #[async_trait]
    impl Inbox for Stuck {
        async fn take(&self, event: Event) -> Result<Taken, NotTaken> {
            if event.visit.channel.id() == "C0STUCK" {
                std::future::pending::<()>().await;
            }
            Ok(Taken::Stored)
        }
    }

    fn event(channel: &str) -> Event {
        Event {
            id: channel.to_owned(),
            visit: Visit {
                channel: format!("slack:{channel}").parse().unwrap(),
                thread: None,
                direct: false,
                person: Person { id: "U0ALICE".to_owned(), name: None, outsider: false },
            },
            what: Occurrence::Press { key: "k".to_owned(), message_id: None },
            respond: None,
            at: Timestamp(0),
            traceparent: None,
            happened_at: None,
        }
    }

    #[tokio::test]
    async fn a_stuck_channel_holds_back_itself_alone_and_what_finds_no_room_is_let_go() {
        let inbox: Arc<dyn Inbox> = Arc::new(Stuck);
        let lanes = Lanes::new(&inbox);
        let (acks, mut stored) = mpsc::unbounded_channel();
        lanes.put(event("C0STUCK"), "stuck".to_owned(), acks.clone());
        // One or the other may share its lane, but not all of them.
        for n in 0..10 {
            lanes.put(event(&format!("C0OTHER{n}")), n.to_string(), acks.clone());
        }
        assert_ne!(stored.recv().await.unwrap(), "stuck");
        for n in 0..2 * ROOM {
            lanes.put(event("C0STUCK"), format!("more {n}"), acks.clone());
        }
        assert_eq!(lanes.room.available_permits(), 0);
        // Whoever waits for the acknowledgements of a connection does not wait for what was let go.
        drop((lanes, acks));
        while let Some(envelope) = stored.recv().await {
            assert!(envelope.len() <= 2, "{envelope}");
        }
    }
}
