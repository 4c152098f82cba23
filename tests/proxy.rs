//! What can stand between Herald and a platform: an HTTP/1.1 proxy that a test tells what to do with each request.
//!
//! It knows a message by its text: [`note`] makes texts that it finds again in whatever form a platform takes them.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::world::Workspace;

/// The nth message of a lane.
pub fn note(lane: usize, n: usize) -> String {
    format!("note-{lane}-{n:04}")
}

/// The lane of such a message.
pub fn lane_of(note: &str) -> usize {
    note.split('-').nth(1).unwrap().parse().unwrap()
}

/// A request that was read to its end.
#[derive(Clone, Debug)]
pub struct Heard {
    /// The text of the message that it posts; `None` for whatever else Herald asks the platform.
    pub note: Option<String>,
    /// How many requests with this text came before it.
    pub before: usize,
    pub at: Instant,
    pub done: Treatment,
    /// How often the platform has applied it so far.
    pub applied: usize,
}

/// What becomes of a request.
#[derive(Clone, Debug)]
pub struct Treatment {
    /// Before anything else.
    pub before: Pause,
    /// How often the platform gets it. More than once is no fault of a network, but a planted mistake.
    pub applied: usize,
    /// Before Herald hears anything.
    pub after: Pause,
    pub end: End,
}

#[derive(Clone, Debug)]
pub enum Pause {
    None,
    For(Duration),
    /// Until the gate is opened.
    Until(watch::Receiver<bool>),
}

#[derive(Clone, Debug)]
pub enum End {
    /// The platform's answer.
    Answer,
    /// The same, and then the connection is closed although it was to be kept.
    AnswerAndClose,
    /// The same, one byte at a time, with this pause after each.
    Drip(Duration),
    /// An answer of the proxy's own.
    Own(String),
    /// Nothing, or half of the platform's answer, and then the connection breaks.
    Break { half: bool, how: Break },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// RST.
    Reset,
    /// FIN; what Herald writes is still read.
    HalfClose,
    /// Nothing more ever comes.
    Silence,
}

impl Treatment {
    /// Passed on, and answered by the platform.
    pub const PASS: Self =
        Self { before: Pause::None, applied: 1, after: Pause::None, end: End::Answer };

    pub const fn late(by: Duration) -> Self {
        Self { before: Pause::For(by), ..Self::PASS }
    }

    pub const fn drip(every: Duration) -> Self {
        Self { end: End::Drip(every), ..Self::PASS }
    }

    /// The platform never gets it, and Herald no answer.
    pub const fn lost(how: Break) -> Self {
        Self { applied: 0, end: End::Break { half: false, how }, ..Self::PASS }
    }

    /// The platform applies it, and Herald gets no answer, or half of one.
    pub const fn swallowed(half: bool, how: Break) -> Self {
        Self { end: End::Break { half, how }, ..Self::PASS }
    }

    /// The platform never gets it; this is what Herald hears.
    pub fn own(status: u16, headers: &[(&str, &str)], body: &str) -> Self {
        let mut answer = format!("HTTP/1.1 {status} Fault\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in headers {
            write!(answer, "{name}: {value}\r\n").unwrap();
        }
        Self { applied: 0, end: End::Own(format!("{answer}\r\n{body}")), ..Self::PASS }
    }

    /// Whether Herald gets a whole answer of the platform's, as long as it waits for it.
    pub const fn answers(&self) -> bool {
        matches!(self.end, End::Answer | End::AnswerAndClose | End::Drip(_))
    }

    /// Whether Herald cannot know if the message was posted.
    pub fn is_ambiguous(&self) -> bool {
        match &self.end {
            End::Break { .. } => true,
            End::Own(answer) => answer.starts_with("HTTP/1.1 5"),
            // No answer is shorter than a hundred bytes, and nobody waits longer than 15 s.
            End::Drip(every) => *every >= Duration::from_millis(150),
            End::Answer | End::AnswerAndClose => false,
        }
    }
}

/// Decides about each request, when it was read.
pub type Script = dyn FnMut(&Heard) -> Treatment + Send;

/// All that the proxies of one script heard, in order.
#[derive(Clone)]
pub struct Record {
    heard: Arc<Mutex<Vec<Heard>>>,
    script: Arc<Mutex<Box<Script>>>,
}

impl Record {
    pub fn new(script: impl FnMut(&Heard) -> Treatment + Send + 'static) -> Self {
        Self { heard: Arc::default(), script: Arc::new(Mutex::new(Box::new(script))) }
    }

    /// The requests that posted a message.
    pub fn heard(&self) -> Vec<Heard> {
        let heard = self.heard.lock().unwrap();
        heard.iter().filter(|heard| heard.note.is_some()).cloned().collect()
    }

    /// Notes a request; returns its place and what becomes of it.
    fn hear(&self, note: Option<String>) -> (usize, Treatment) {
        let mut all = self.heard.lock().unwrap();
        let before = all.iter().filter(|heard| heard.note == note).count();
        let (at, done) = (Instant::now(), Treatment::PASS);
        let mut heard = Heard { note, before, at, done, applied: 0 };
        if heard.note.is_some() {
            heard.done = (self.script.lock().unwrap())(&heard);
        }
        let done = heard.done.clone();
        all.push(heard);
        (all.len() - 1, done)
    }
}

/// A proxy before a workspace, for one Herald.
pub struct Proxy {
    pub address: SocketAddr,
    base: String,
    accepted: Arc<AtomicUsize>,
    slams: Arc<AtomicUsize>,
    deaf: watch::Sender<bool>,
    _task: AbortOnDropHandle<()>,
}

impl Proxy {
    pub async fn open(workspace: &Workspace, record: &Record) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (accepted, deaf) = (Arc::<AtomicUsize>::default(), watch::Sender::new(false));
        let upstream = workspace.base.trim_start_matches("http://").to_owned();
        let (record, count, deafness) = (record.clone(), Arc::clone(&accepted), deaf.subscribe());
        let slams = Arc::<AtomicUsize>::default();
        let left = Arc::clone(&slams);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let slam = |left: usize| left.checked_sub(1);
                if left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, slam).is_ok() {
                    client.set_zero_linger().unwrap();
                    continue;
                }
                let (record, upstream, deaf) = (record.clone(), upstream.clone(), deafness.clone());
                connections.spawn(async move {
                    // Herald may leave at any time.
                    let _ = serve(client, &upstream, &record, deaf).await;
                });
                while connections.try_join_next().is_some() {}
            }
        });
        let base = workspace.base.clone();
        Self { address, base, accepted, slams, deaf, _task: AbortOnDropHandle::new(task) }
    }

    /// The same setting for a Herald that calls the platforms through this proxy.
    pub fn through(&self, value: &str) -> String {
        value.replace(&self.base, &format!("http://{}", self.address))
    }

    /// So many connections are accepted and reset at once.
    pub fn slam(&self, connections: usize) {
        self.slams.store(connections, Ordering::SeqCst);
    }

    /// From now on connections are accepted, and nothing is read from them.
    pub fn turn_deaf(&self) {
        self.deaf.send_replace(true);
    }

    /// How many connections were accepted.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

async fn serve(
    mut client: TcpStream,
    upstream: &str,
    record: &Record,
    mut deaf: watch::Receiver<bool>,
) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut read = Vec::new();
    loop {
        if *deaf.borrow_and_update() {
            return std::future::pending().await;
        }
        let Some(request) = message(&mut client, &mut read).await? else { return Ok(()) };
        let (place, treatment) = record.hear(found(&request));
        treatment.before.pass().await;
        let mut answer = Vec::new();
        for _ in 0..treatment.applied {
            answer = ask(upstream, &request).await?;
            record.heard.lock().unwrap()[place].applied += 1;
        }
        treatment.after.pass().await;
        match &treatment.end {
            End::Answer => client.write_all(&answer).await?,
            End::AnswerAndClose => {
                client.write_all(&answer).await?;
                return client.shutdown().await;
            }
            End::Drip(every) => {
                for byte in answer {
                    client.write_all(&[byte]).await?;
                    tokio::time::sleep(*every).await;
                }
            }
            End::Own(answer) => client.write_all(answer.as_bytes()).await?,
            End::Break { half, how } => {
                if *half {
                    client.write_all(&answer[..answer.len() / 2]).await?;
                    client.flush().await?;
                    // The reset would overtake it.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                match how {
                    Break::Reset => client.set_zero_linger()?,
                    Break::HalfClose => {
                        client.shutdown().await?;
                        tokio::io::copy(&mut client, &mut tokio::io::sink()).await?;
                    }
                    Break::Silence => {
                        tokio::io::copy(&mut client, &mut tokio::io::sink()).await?;
                    }
                }
                return Ok(());
            }
        }
    }
}

impl Pause {
    async fn pass(&self) {
        match self {
            Self::None => {}
            Self::For(time) => tokio::time::sleep(*time).await,
            Self::Until(gate) => {
                // A gate that is gone stays shut.
                if gate.clone().wait_for(|open| *open).await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        }
    }
}

/// One request, head and body; `None` if the other side left. What was read beyond it stays in `read`.
async fn message(stream: &mut TcpStream, read: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    loop {
        if let Some(head) = find(read, b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&read[..head]).to_ascii_lowercase();
            assert!(!text.contains("transfer-encoding"), "the proxy reads no chunks: {text}");
            let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
            let end = head + 4 + length.map_or(0, |length| length.trim().parse::<usize>().unwrap());
            if read.len() >= end {
                return Ok(Some(read.drain(..end).collect()));
            }
        }
        if stream.read_buf(read).await? == 0 {
            return Ok(None);
        }
    }
}

/// The platform's answer to a request, over a connection of its own; Herald's may be kept.
async fn ask(upstream: &str, request: &[u8]) -> io::Result<Vec<u8>> {
    let line = find(request, b"\r\n").unwrap() + 2;
    let mut server = TcpStream::connect(upstream).await?;
    server
        .write_all(&[&request[..line], b"connection: close\r\n", &request[line..]].concat())
        .await?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).await?;
    let close = b"connection: close\r\n";
    if let Some(at) = find(&answer, close) {
        answer.drain(at..at + close.len());
    }
    Ok(answer)
}

/// The [`note`] in a request.
fn found(request: &[u8]) -> Option<String> {
    let at = find(request, b"note-")?;
    let text =
        request[at..].iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'-');
    Some(text.map(|byte| char::from(*byte)).collect())
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
