//! One agent: requests to it, and what the answers mean.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use secrecy::SecretString;
use serde_json::Value;
use tokio::sync::watch;
use url::Url;

use super::card::{self, AgentCard};
use super::config::{Config, UserId, Version};
use super::dialect::{Call, Dialect};
use super::error::Error;
use super::read::{Heard, Reader};
use super::run::{Run, Watcher};
use super::sse::{Frame, Stream};
use super::turn::{Caller, Cancel, Content, Outgoing, Snapshot, State};
use super::wire::{self, Refusal, Reply};
use crate::clock::{Clock, Timestamp};
use crate::platform::http::HttpClient;
use crate::telemetry::OwnSecrets;

/// How long a card that could not be read is not asked for again.
const CARD_REST: Duration = Duration::from_secs(30);

/// How long to wait for what. Tests use shorter ones.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For the card.
    pub(super) card: Duration,
    /// For an answer's head, and for the first event of a stream.
    pub(super) answer: Duration,
    /// For the next event of a stream.
    pub(super) idle: Duration,
    /// Without any news before a task is no longer watched.
    pub(super) silence: Duration,
    /// The first and the longest pause between two polls.
    pub(super) first_pause: Duration,
    pub(super) last_pause: Duration,
    /// Between two updates of the text.
    pub(super) text: Duration,
}

impl Patience {
    const fn new(silence: Duration) -> Self {
        Self {
            card: Duration::from_secs(10),
            answer: Duration::from_secs(120),
            idle: Duration::from_secs(120),
            silence,
            first_pause: Duration::from_secs(2),
            last_pause: Duration::from_secs(15),
            text: Duration::from_millis(200),
        }
    }
}

/// What every request needs.
pub(super) struct Settings {
    pub(super) url: Url,
    version: Version,
    pub(super) user_id: UserId,
    pub(super) token: Option<SecretString>,
    pub(super) token_file: Option<PathBuf>,
    pub(super) known: OwnSecrets,
    pub(super) http: HttpClient,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) patience: Patience,
}

/// What was learnt about the agent.
#[derive(Clone, Copy, Debug, Default)]
struct Learnt {
    dialect: Option<Dialect>,
    /// It does not stream.
    silent: bool,
    /// When the card was last asked for in vain.
    tried: Option<Timestamp>,
}

/// A client for one agent. Cheap to clone; the clones share what they learnt about its dialect.
#[derive(Clone)]
pub struct Client {
    pub(super) settings: Arc<Settings>,
    learnt: Arc<Mutex<Learnt>>,
    /// The task that was cancelled last: whoever watches it looks at it at once.
    pub(super) cancelled: Arc<watch::Sender<String>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a user or a key.
        f.debug_struct("Client").field("learnt", &self.learnt()).finish_non_exhaustive()
    }
}

impl Client {
    /// A client for the agent at `url` (several agents share the other settings). Calls nobody yet.
    #[must_use]
    pub fn new(config: &Config, url: Url, http: HttpClient, clock: Arc<dyn Clock>) -> Self {
        Self::with(config, url, http, clock, Patience::new(config.patience()))
    }

    pub(super) fn with(
        config: &Config,
        mut url: Url,
        http: HttpClient,
        clock: Arc<dyn Clock>,
        patience: Patience,
    ) -> Self {
        if !url.path().ends_with('/') {
            // Without it, older controllers redirect.
            let path = format!("{}/", url.path());
            url.set_path(&path);
        }
        let settings = Settings {
            url,
            version: config.version,
            user_id: config.user_id.clone(),
            token: config.token.clone(),
            token_file: config.token_file.clone(),
            known: config.known.clone(),
            http,
            clock,
            patience,
        };
        Self { settings: Arc::new(settings), learnt: Arc::default(), cancelled: Arc::default() }
    }

    /// Reads the agent's card, and chooses the dialect anew.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn card(&self) -> Result<AgentCard, Error> {
        self.read_card(&Caller::default()).await
    }

    async fn read_card(&self, caller: &Caller) -> Result<AgentCard, Error> {
        let url = card::location(&self.settings.url);
        let read = wire::card(&self.settings, url, caller).await;
        let read = read.and_then(|card| {
            AgentCard::read(&card).ok_or(Error::Malformed("there is no agent card"))
        });
        match read {
            Ok(mut card) => {
                let dialect = self.fixed().unwrap_or_else(|| card.choice());
                dialect.name().clone_into(&mut card.dialect);
                let silent = !card.streaming;
                self.learn(|learnt| {
                    *learnt = Learnt { dialect: Some(dialect), silent, tried: None };
                });
                Ok(card)
            }
            Err(error) => {
                let now = self.settings.clock.now();
                self.learn(|learnt| learnt.tried = Some(now));
                Err(error)
            }
        }
    }

    /// Starts a turn, or goes on with a task: sends the message, once, and waits for the agent's first word.
    ///
    /// Takes at most two minutes, or the settings' patience with an agent that does not stream. Nothing is sent a second
    /// time, except after the agent refused it unread: in the other dialect, or without streaming.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::may_have_arrived`] tells whether it may be running.
    pub async fn send(&self, message: &Outgoing, caller: &Caller) -> Result<Run, Error> {
        let (mut dialect, mut silent) = self.dialect(caller).await?;
        let mut switched = false;
        loop {
            let call = if silent { Call::Send } else { Call::Stream };
            let params = dialect.send(call, message);
            let reply = wire::call(&self.settings, dialect, call, params, caller).await;
            let refusal = match reply.map_err(|error| self.failed(error))? {
                Reply::Refusal(refusal) => refusal,
                Reply::Result(result) => {
                    let mut watcher = Watcher::new(self.clone(), dialect, caller.clone());
                    if let Heard::Nothing = watcher.hear(&result) {
                        return Err(Error::Malformed("neither a task nor a message"));
                    }
                    return Ok(self.started(dialect, switched, watcher, None));
                }
                Reply::Stream(mut stream) => match self.first_word(&mut stream).await? {
                    Reply::Refusal(refusal) => refusal,
                    Reply::Result(result) => {
                        let mut watcher = Watcher::new(self.clone(), dialect, caller.clone());
                        watcher.begin(&result, message.task_id.is_some());
                        return Ok(self.started(dialect, switched, watcher, Some(stream)));
                    }
                    Reply::Stream(_) => return Err(Error::Malformed("a stream in a stream")),
                },
            };
            // Refused unread. A method that is not found may be of the other dialect.
            let unread = refusal.is_version() || refusal.code == Refusal::METHOD_NOT_FOUND;
            if unread && self.fixed().is_none() && !switched {
                switched = true;
                dialect = dialect.other();
            } else if unread {
                self.forget();
                return Err(Error::VersionMismatch);
            } else if !silent && refuses_streams(&refusal) {
                silent = true;
                self.learn(|learnt| learnt.silent = true);
            } else {
                return Err(refused(refusal, message));
            }
        }
    }

    fn started(
        &self,
        dialect: Dialect,
        switched: bool,
        watcher: Watcher,
        stream: Option<Box<Stream>>,
    ) -> Run {
        if switched {
            self.learn(|learnt| learnt.dialect = Some(dialect));
        }
        Run::start(watcher, stream)
    }

    /// The agent may come back as another version.
    fn failed(&self, error: Error) -> Error {
        self.forget();
        written(error)
    }

    async fn first_word(&self, stream: &mut Stream) -> Result<Reply, Error> {
        let frame = async {
            loop {
                match stream.next().await {
                    Ok(Some(Frame::Alive)) => {}
                    Ok(Some(Frame::Data(value))) => return wire::envelope(value),
                    Ok(Some(Frame::Error(value))) => {
                        let error = value.get("error").unwrap_or(&value);
                        return Ok(Reply::Refusal(Refusal::read(error)));
                    }
                    Ok(None) => return Err(Error::MayHaveArrived("the stream ended at once")),
                    Err(error) => return Err(written(error)),
                }
            }
        };
        let frame = tokio::time::timeout(self.settings.patience.answer, frame).await;
        let frame = frame.unwrap_or(Err(Error::MayHaveArrived("nothing came in time")));
        frame.inspect_err(|error| stream.fail(error.as_str()))
    }

    /// Goes on with a task, as after a restart: asks how it stands, listens again if it is at work, else polls.
    ///
    /// Trouble on the way is part of the run: it is waited out, and ends in [`State::Lost`] or [`State::StillRunning`] if
    /// it stays.
    #[must_use]
    pub fn resume(&self, task_id: &str, caller: &Caller) -> Run {
        let dialect = self.fixed().or_else(|| self.learnt().dialect);
        let mut watcher =
            Watcher::new(self.clone(), dialect.unwrap_or(Dialect::V0_3), caller.clone());
        watcher.resume(task_id);
        Run::start(watcher, None)
    }

    /// How a task stands now.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn task(&self, task_id: &str, caller: &Caller) -> Result<Snapshot, Error> {
        let (_, result) = self.get(task_id, caller).await?;
        let mut reader = Reader::default();
        match reader.read(&result, &mut Vec::new()) {
            Heard::Stopped(state) => Ok(Snapshot::Stopped(reader.outcome(state))),
            Heard::Working | Heard::Closing => Ok(Snapshot::Working { answer: reader.answer() }),
            Heard::Nothing => Err(Error::Malformed("no task")),
        }
    }

    /// Asks the agent to stop.
    ///
    /// # Errors
    /// When it cannot be asked. That it does not want to is [`Cancel::Refused`].
    pub async fn cancel(&self, task_id: &str, caller: &Caller) -> Result<Cancel, Error> {
        let cancelled = self.try_cancel(task_id, caller).await?;
        if !matches!(cancelled, Cancel::Refused { .. }) {
            self.cancelled.send_replace(task_id.to_owned());
        }
        Ok(cancelled)
    }

    async fn try_cancel(&self, task_id: &str, caller: &Caller) -> Result<Cancel, Error> {
        let why = match self.ask(Call::Cancel, task_id, caller).await?.1 {
            Reply::Refusal(refusal) => {
                if refusal.code == Refusal::TASK_NOT_FOUND {
                    return Err(Error::UnknownTask);
                }
                format!("{} {}", refusal.code, refusal.message)
            }
            Reply::Result(result) => match Reader::default().read(&result, &mut Vec::new()) {
                Heard::Stopped(State::Canceled) => return Ok(Cancel::Cancelled),
                _ => "it answered with another state".to_owned(),
            },
            Reply::Stream(_) => return Err(Error::Malformed("a stream for a task")),
        };
        // It may have been over before; only the task itself knows.
        match self.task(task_id, caller).await {
            Ok(Snapshot::Stopped(outcome)) if outcome.state == State::Canceled => {
                Ok(Cancel::Cancelled)
            }
            Ok(Snapshot::Stopped(outcome)) if outcome.state.is_over() => Ok(Cancel::AlreadyOver),
            _ => Ok(Cancel::Refused { why }),
        }
    }

    /// The task, and the dialect that was understood.
    pub(super) async fn get(
        &self,
        task_id: &str,
        caller: &Caller,
    ) -> Result<(Dialect, Value), Error> {
        match self.ask(Call::Get, task_id, caller).await? {
            (dialect, Reply::Result(result)) => Ok((dialect, result)),
            (_, Reply::Refusal(refusal)) => Err(refusal.into_error()),
            (_, Reply::Stream(_)) => Err(Error::Malformed("a stream for a task")),
        }
    }

    /// Listens to a task again.
    pub(super) async fn attach(
        &self,
        dialect: Dialect,
        task_id: &str,
        caller: &Caller,
    ) -> Result<Reply, Error> {
        let params = Dialect::task(Call::Attach, task_id);
        wire::call(&self.settings, dialect, Call::Attach, params, caller).await
    }

    /// A question about a task, in the other dialect after the agent refused the version. A method that is not found is no
    /// reason to switch here: it may mean that the agent cannot do that.
    async fn ask(
        &self,
        call: Call,
        task_id: &str,
        caller: &Caller,
    ) -> Result<(Dialect, Reply), Error> {
        let (dialect, _) = self.dialect(caller).await?;
        let params = || Dialect::task(call, task_id);
        let reply = wire::call(&self.settings, dialect, call, params(), caller).await?;
        match (reply, self.fixed()) {
            (Reply::Refusal(refusal), None) if refusal.is_version() => {
                let other = dialect.other();
                let reply = wire::call(&self.settings, other, call, params(), caller).await?;
                if !matches!(&reply, Reply::Refusal(refusal) if refusal.is_version()) {
                    self.learn(|learnt| learnt.dialect = Some(other));
                }
                Ok((other, reply))
            }
            (reply, _) => Ok((dialect, reply)),
        }
    }

    /// The dialect to speak, and whether the agent does not stream. Reads the card if nothing is known yet.
    async fn dialect(&self, caller: &Caller) -> Result<(Dialect, bool), Error> {
        let learnt = self.learnt();
        if let Some(dialect) = learnt.dialect {
            return Ok((dialect, learnt.silent));
        }
        let fixed = self.fixed();
        let now = self.settings.clock.now();
        let rests = learnt.tried.is_some_and(|tried| now.since(tried) < CARD_REST);
        if !rests {
            match self.read_card(caller).await {
                Ok(card) => return Ok((fixed.unwrap_or_else(|| card.choice()), !card.streaming)),
                // Without a connection the message would not get there either, and nothing is lost by asking again.
                Err(error @ (Error::Unreachable(_) | Error::Setup(_))) => {
                    self.forget();
                    return Err(error);
                }
                // No card is no reason to stay silent: 0.3 is what stable kagent speaks, and a refusal switches.
                Err(_) => {}
            }
        }
        Ok((fixed.unwrap_or(Dialect::V0_3), learnt.silent))
    }

    /// The dialect that the settings name.
    fn fixed(&self) -> Option<Dialect> {
        match self.settings.version {
            Version::Auto => None,
            Version::V0_3 => Some(Dialect::V0_3),
            Version::V1_0 => Some(Dialect::V1_0),
        }
    }

    pub(super) fn streams(&self) -> bool {
        !self.learnt().silent
    }

    /// After a failure the agent may come back as another version.
    pub(super) fn forget(&self) {
        self.learn(|learnt| *learnt = Learnt::default());
    }

    fn learnt(&self) -> Learnt {
        *self.learnt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn learn(&self, change: impl FnOnce(&mut Learnt)) {
        change(&mut self.learnt.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The request was written: what is no answer to a question is a message that may have arrived.
fn written(error: Error) -> Error {
    match error {
        Error::NoAnswer(why) => Error::MayHaveArrived(why),
        other => other,
    }
}

/// An agent that cannot stream says that the operation is not supported; so does one whose task is over.
fn refuses_streams(refusal: &Refusal) -> bool {
    refusal.code == Refusal::UNSUPPORTED && refusal.message.to_lowercase().contains("stream")
}

/// What a refusal means for this message.
fn refused(refusal: Refusal, message: &Outgoing) -> Error {
    let over = [Refusal::INVALID_PARAMS, Refusal::UNSUPPORTED].contains(&refusal.code);
    let Refusal { code, message: said } = refusal.clone();
    match (&message.content, &message.task_id) {
        (Content::Decision(_), Some(_)) if over => Error::AlreadyDecided { code, message: said },
        (Content::Parts(_), Some(_)) if over => Error::TaskOver { code, message: said },
        _ => refusal.into_error(),
    }
}
