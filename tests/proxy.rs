//! What can stand between Herald and a platform: an HTTP/1.1 proxy that a test tells what to do with each request.
//!
//! It knows a message by its text: [`note`] makes texts that it finds again in whatever form a platform takes them.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
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

/// A request to post a message, read to its end.
#[derive(Clone, Debug)]
pub struct Heard {
    /// The text of the message that it posts.
    pub note: String,
    /// How many requests with this text came before it.
    pub before: usize,
    /// Which of the proxies heard it.
    pub via: usize,
    pub at: Instant,
    pub done: Treatment,
    /// How often the platform has applied it so far.
    pub applied: usize,
    /// Herald has read the answer. Known of [`End::LastAnswer`] alone.
    pub read: bool,
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
    /// Until the proxy's gate is opened.
    Gate,
}

#[derive(Clone, Debug)]
pub enum End {
    /// The platform's answer.
    Answer,
    /// The same, and then the connection is closed although it was to be kept.
    AnswerAndClose,
    /// The same, said to be the last on this connection: whoever has read it closes the connection.
    LastAnswer,
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
        !matches!(self.end, End::Own(_) | End::Break { .. })
    }

    /// Whether Herald cannot know if the message was posted.
    pub fn is_ambiguous(&self) -> bool {
        match &self.end {
            End::Break { .. } => true,
            End::Own(answer) => answer.starts_with("HTTP/1.1 5"),
            // No answer is shorter than a hundred bytes, and nobody waits longer than 15 s.
            End::Drip(every) => *every >= Duration::from_millis(150),
            End::Answer | End::AnswerAndClose | End::LastAnswer => false,
        }
    }
}

/// Decides about each message, when it was read. Whatever else Herald asks the platforms is passed on.
pub type Script = dyn FnMut(&Heard) -> Treatment + Send;

/// All that the proxies of one script heard, in order.
#[derive(Clone)]
pub struct Record(Arc<Mutex<Told>>);

struct Told {
    heard: Vec<Heard>,
    /// How often each text was heard.
    times: HashMap<String, usize>,
    proxies: usize,
    script: Box<Script>,
}

impl Record {
    pub fn new(script: impl FnMut(&Heard) -> Treatment + Send + 'static) -> Self {
        let (heard, times, script) = (Vec::new(), HashMap::new(), Box::new(script));
        Self(Arc::new(Mutex::new(Told { heard, times, proxies: 0, script })))
    }

    /// The requests that posted a message.
    pub fn heard(&self) -> Vec<Heard> {
        self.0.lock().unwrap().heard.clone()
    }

    /// How many of them are such.
    pub fn count(&self, such: impl Fn(&Heard) -> bool) -> usize {
        self.0.lock().unwrap().heard.iter().filter(|heard| such(heard)).count()
    }

    /// Notes a request that posts a message; returns its place and what becomes of it.
    fn hear(&self, note: String, via: usize) -> (usize, Treatment) {
        let Told { heard: all, times, script, .. } = &mut *self.0.lock().unwrap();
        let times = times.entry(note.clone()).or_default();
        let (before, at, done) = (*times, Instant::now(), Treatment::PASS);
        *times += 1;
        let mut heard = Heard { note, before, via, at, done, applied: 0, read: false };
        heard.done = script(&heard);
        let done = heard.done.clone();
        all.push(heard);
        (all.len() - 1, done)
    }

    fn mark(&self, place: Option<usize>, mark: impl FnOnce(&mut Heard)) {
        if let Some(place) = place {
            mark(&mut self.0.lock().unwrap().heard[place]);
        }
    }
}

/// A proxy before a workspace, for one Herald.
pub struct Proxy {
    pub number: usize,
    address: SocketAddr,
    base: String,
    shared: Arc<Shared>,
    _task: AbortOnDropHandle<()>,
}

struct Shared {
    number: usize,
    upstream: String,
    record: Record,
    /// So many connections were accepted.
    accepted: AtomicUsize,
    /// So many are reset at once.
    slams: AtomicUsize,
    /// So many requests have come, and not yet gone.
    under_way: AtomicUsize,
    deaf: watch::Sender<bool>,
    gate: watch::Sender<bool>,
}

impl Proxy {
    pub async fn open(workspace: &Workspace, record: &Record) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let number = {
            let mut told = record.0.lock().unwrap();
            told.proxies += 1;
            told.proxies - 1
        };
        let shared = Arc::new(Shared {
            number,
            upstream: workspace.base.trim_start_matches("http://").to_owned(),
            record: record.clone(),
            accepted: AtomicUsize::new(0),
            slams: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            deaf: watch::Sender::new(false),
            gate: watch::Sender::new(false),
        });
        let task = AbortOnDropHandle::new(tokio::spawn(accept(listener, Arc::clone(&shared))));
        Self { number, address, base: workspace.base.clone(), shared, _task: task }
    }

    /// The same setting for a Herald that calls the platforms through this proxy.
    pub fn through(&self, value: &str) -> String {
        value.replace(&self.base, &format!("http://{}", self.address))
    }

    /// So many connections are accepted and reset at once.
    pub fn slam(&self, connections: usize) {
        self.shared.slams.store(connections, Ordering::SeqCst);
    }

    /// While it is deaf, connections are accepted, and nothing is read from them.
    pub fn deafen(&self, deaf: bool) {
        self.shared.deaf.send_replace(deaf);
    }

    /// Lets go what waits for [`Pause::Gate`].
    pub fn open_gate(&self) {
        self.shared.gate.send_replace(true);
    }

    /// How many connections were accepted.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// How many messages were read and not yet answered.
    pub fn under_way(&self) -> usize {
        self.shared.under_way.load(Ordering::SeqCst)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        let slam = |left: usize| left.checked_sub(1);
        if shared.slams.fetch_update(Ordering::SeqCst, Ordering::SeqCst, slam).is_ok() {
            client.set_zero_linger().unwrap();
            continue;
        }
        let shared = Arc::clone(&shared);
        // Herald may leave at any time.
        connections.spawn(async move { drop(serve(client, &shared).await) });
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(mut client: TcpStream, shared: &Shared) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut read = Vec::new();
    loop {
        opened(&shared.deaf, false).await;
        let Some(request) = request(&mut client, &mut read).await? else { return Ok(()) };
        let (place, treatment) = match found(&request) {
            Some(note) => {
                let (place, treatment) = shared.record.hear(note, shared.number);
                (Some(place), treatment)
            }
            None => (None, Treatment::PASS),
        };
        let posts = usize::from(place.is_some());
        shared.under_way.fetch_add(posts, Ordering::SeqCst);
        let goes_on = treat(&mut client, shared, &request, place, &treatment).await;
        shared.under_way.fetch_sub(posts, Ordering::SeqCst);
        if !goes_on? {
            return Ok(());
        }
    }
}

/// Whether more may come on this connection.
async fn treat(
    client: &mut TcpStream,
    shared: &Shared,
    request: &[u8],
    place: Option<usize>,
    treatment: &Treatment,
) -> io::Result<bool> {
    treatment.before.pass(shared).await;
    let mut answer = Vec::new();
    for _ in 0..treatment.applied {
        answer = ask(&shared.upstream, request).await?;
        shared.record.mark(place, |heard| heard.applied += 1);
    }
    treatment.after.pass(shared).await;
    if !matches!(treatment.end, End::LastAnswer) {
        without_close(&mut answer);
    }
    match &treatment.end {
        End::Answer => client.write_all(&answer).await?,
        End::AnswerAndClose => {
            client.write_all(&answer).await?;
            client.shutdown().await?;
            return Ok(false);
        }
        End::LastAnswer => {
            client.write_all(&answer).await?;
            ignore(client).await?;
            shared.record.mark(place, |heard| heard.read = true);
            return Ok(false);
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
                // A reset would overtake it.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            match how {
                Break::Reset => client.set_zero_linger()?,
                Break::HalfClose => {
                    client.shutdown().await?;
                    ignore(client).await?;
                }
                Break::Silence => ignore(client).await?,
            }
            return Ok(false);
        }
    }
    Ok(true)
}

impl Pause {
    async fn pass(&self, shared: &Shared) {
        match self {
            Self::None => {}
            Self::For(time) => tokio::time::sleep(*time).await,
            Self::Gate => opened(&shared.gate, true).await,
        }
    }
}

/// Waits until it says so.
async fn opened(gate: &watch::Sender<bool>, wanted: bool) {
    // It cannot close while it is borrowed here.
    let _ = gate.subscribe().wait_for(|now| *now == wanted).await;
}

/// Reads until the other side leaves.
async fn ignore(client: &mut TcpStream) -> io::Result<()> {
    tokio::io::copy(client, &mut tokio::io::sink()).await.map(|_| ())
}

/// One request, head and body; `None` if the other side left. What was read beyond it stays in `read`.
async fn request(stream: &mut TcpStream, read: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
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

/// The platform's answer to a request, over a connection of its own.
async fn ask(upstream: &str, request: &[u8]) -> io::Result<Vec<u8>> {
    let line = find(request, b"\r\n").unwrap() + 2;
    let mut server = TcpStream::connect(upstream).await?;
    server
        .write_all(&[&request[..line], b"connection: close\r\n", &request[line..]].concat())
        .await?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).await?;
    Ok(answer)
}

/// The connection to Herald is not the one to the platform.
fn without_close(answer: &mut Vec<u8>) {
    let close = b"connection: close\r\n";
    if let Some(at) = find(answer, close) {
        answer.drain(at..at + close.len());
    }
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
