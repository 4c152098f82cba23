//! One connection to Discord's gateway: <https://docs.discord.com/developers/events/gateway>.

use std::time::Duration;

use futures_util::{Sink, SinkExt, StreamExt};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use url::Url;

use super::Discord;
use super::events::{self, Servers};
use super::intake::Item;
use super::session::{MESSAGE_CONTENT, Session, is_gateway, versioned};
use crate::clock::Clock;
use crate::platform::listener::{Ears, Fatal, Standing};
use crate::platform::socket::{self, WebSocket};

/// How long the gateway may keep silent until it has said READY or RESUMED.
const SILENCE: Duration = Duration::from_secs(30);
/// How long a frame may take to be written.
const WRITE: Duration = Duration::from_secs(10);
/// How long saying goodbye may take.
const GOODBYE: Duration = Duration::from_millis(200);
/// Closes the connection and keeps the session; 1000 and 1001 would end it.
const KEEP_SESSION: u16 = 4900;
/// A heartbeat is asked for no more often than this.
const SHORTEST_BEAT: Duration = Duration::from_millis(100);

/// How a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// It was told to stop.
    Stopped,
    /// Nobody answered, or no WebSocket was opened.
    Unopened(String),
    /// It is lost; the session can be resumed.
    Lost(String),
    /// It is lost, and the session with it.
    Expired(String),
    /// Trying again would change nothing.
    Fatal(Fatal),
}

/// What a connection works with, for as long as it lasts.
pub(super) struct Connection<'a> {
    pub(super) discord: &'a Discord,
    pub(super) servers: &'a Servers,
    pub(super) clock: &'a dyn Clock,
    pub(super) ears: &'a Ears,
    pub(super) queue: &'a Sender<Item>,
    pub(super) intents: u64,
    /// The session, up to the last event that was queued.
    pub(super) session: &'a mut Option<Session>,
    /// When a new session was last asked for.
    pub(super) identified: &'a mut Option<Instant>,
    /// When READY or RESUMED came.
    pub(super) established: Option<Instant>,
}

/// The heart of a connection.
pub(super) struct Heart {
    every: Duration,
    next: Instant,
    /// A heartbeat was sent and not acknowledged yet.
    waits: bool,
}

impl Connection<'_> {
    /// Talks with the gateway at `url` until the connection ends.
    pub(super) async fn run(&mut self, url: &Url) -> End {
        let stop = self.ears.stop.clone();
        let url = versioned(url.clone());
        let opened = tokio::select! {
            () = stop.cancelled() => return End::Stopped,
            opened = socket::open(&self.discord.api.http, &url) => opened,
        };
        let mut socket = match opened {
            Ok(socket) => socket,
            Err(error) => return End::Unopened(format!("Discord's gateway: {error}")),
        };
        let end = tokio::select! {
            biased;
            () = stop.cancelled() => End::Stopped,
            end = self.talk(&mut socket) => end,
        };
        let close = CloseFrame { code: CloseCode::from(KEEP_SESSION), reason: "".into() };
        let _ = timeout(GOODBYE, socket.close(Some(close))).await;
        end
    }

    async fn talk(&mut self, socket: &mut WebSocket) -> End {
        let mut heart: Option<Heart> = None;
        let mut silent_at = Instant::now() + SILENCE;
        // What the queue has no room for: nothing more is read until it has, but the heart goes on beating.
        let mut held: Option<Item> = None;
        loop {
            let beat_at = heart.as_ref().map_or(silent_at, |heart| heart.next);
            tokio::select! {
                biased;
                () = sleep_until(beat_at), if heart.is_some() => {
                    let Some(heart) = &mut heart else { continue };
                    if heart.waits {
                        return End::Lost("Discord's gateway does not answer any more".to_owned());
                    }
                    heart.waits = true;
                    heart.next = Instant::now() + heart.every;
                    if let Err(end) = self.beat(socket).await {
                        return end;
                    }
                }
                permit = self.queue.reserve(), if held.is_some() => {
                    let (Ok(permit), Some(item)) = (permit, held.take()) else {
                        return End::Stopped;
                    };
                    if let (Some(session), Some(seq)) = (self.session.as_mut(), item.seq) {
                        session.seq = seq;
                    }
                    permit.send(item);
                }
                frame = socket.next(), if held.is_none() => {
                    silent_at = Instant::now() + SILENCE;
                    let text = match frame {
                        Some(Ok(Message::Text(text))) => text,
                        Some(Ok(Message::Close(frame))) => {
                            return self.closed(frame.map(|frame| u16::from(frame.code)));
                        }
                        Some(Ok(_)) => continue,
                        Some(Err(_)) | None => {
                            return End::Lost("the connection to Discord's gateway broke".to_owned());
                        }
                    };
                    match self.hear(&text, socket, &mut heart).await {
                        Ok(item) => held = item,
                        Err(end) => return end,
                    }
                }
                () = sleep_until(silent_at), if self.established.is_none() && held.is_none() => {
                    return End::Lost("Discord's gateway keeps silent".to_owned());
                }
            }
        }
    }

    /// Understands a frame; what is to be queued comes back.
    pub(super) async fn hear(
        &mut self,
        text: &str,
        socket: &mut (impl Sink<Message> + Unpin),
        heart: &mut Option<Heart>,
    ) -> Result<Option<Item>, End> {
        let Ok(frame) = serde_json::from_str::<Value>(text) else {
            return Ok(None);
        };
        let data = frame.get("d").unwrap_or(&Value::Null);
        match frame.get("op").and_then(Value::as_u64) {
            Some(0) => {
                let event = frame.get("t").and_then(Value::as_str).unwrap_or_default();
                let seq = frame.get("s").and_then(Value::as_u64);
                return Ok(self.dispatched(event, seq, data));
            }
            Some(1) => self.beat(socket).await?,
            Some(7) => return Err(End::Lost("Discord asked to reconnect".to_owned())),
            Some(9) if data.as_bool() == Some(true) => {
                return Err(End::Lost("Discord interrupted the session".to_owned()));
            }
            Some(9) => return Err(End::Expired("Discord ended the session".to_owned())),
            Some(10) if heart.is_none() => {
                let every = data.get("heartbeat_interval").and_then(Value::as_u64);
                let Some(every) = every.map(Duration::from_millis) else {
                    return Err(End::Lost("Discord's gateway did not say hello".to_owned()));
                };
                let every = every.max(SHORTEST_BEAT);
                let first = Instant::now() + every.mul_f64(self.clock.jitter());
                *heart = Some(Heart { every, next: first, waits: false });
                self.introduce(socket).await?;
            }
            Some(11) => {
                if let Some(heart) = heart {
                    heart.waits = false;
                }
            }
            _ => {}
        }
        Ok(None)
    }

    fn dispatched(&mut self, event: &str, seq: Option<u64>, data: &Value) -> Option<Item> {
        match event {
            "READY" => {
                *self.session = Some(self.ready(data)?);
                self.connected();
            }
            "RESUMED" => self.connected(),
            _ => {}
        }
        let session = self.session.as_ref()?;
        self.servers.learn(event, data, &session.user);
        let heard = events::read(event, data, &session.user, self.servers);
        Some(Item { session: session.clone(), seq, heard })
    }

    fn ready(&self, data: &Value) -> Option<Session> {
        let word = |pointer: &str| data.pointer(pointer).and_then(Value::as_str);
        let user = word("/user/id")?.to_owned();
        let resume = word("/resume_gateway_url").and_then(|url| url.parse().ok());
        let base = &self.discord.api.base;
        Some(Session {
            id: word("/session_id")?.to_owned(),
            seq: 0,
            resume: resume.filter(|url| is_gateway(url, base)),
            // The same for every bot since 2016.
            application: word("/application/id").unwrap_or(&user).to_owned(),
            user,
            intents: self.intents,
        })
    }

    fn connected(&mut self) {
        self.established = Some(Instant::now());
        self.ears.stands(Standing::Connected);
    }

    /// Resumes the session, or begins one.
    async fn introduce(&mut self, socket: &mut (impl Sink<Message> + Unpin)) -> Result<(), End> {
        let token = self.discord.api.token.expose_secret().trim();
        let frame = match &*self.session {
            Some(session) => json!({ "op": 6, "d": {
                "token": token, "session_id": session.id, "seq": session.seq,
            }}),
            None => {
                *self.identified = Some(Instant::now());
                json!({ "op": 2, "d": {
                    "token": token, "intents": self.intents,
                    "properties": { "os": std::env::consts::OS, "browser": "herald", "device": "herald" },
                }})
            }
        };
        write(socket, &frame).await
    }

    async fn beat(&self, socket: &mut (impl Sink<Message> + Unpin)) -> Result<(), End> {
        let seq = self.session.as_ref().map(|session| session.seq);
        write(socket, &json!({ "op": 1, "d": seq })).await
    }

    /// <https://docs.discord.com/developers/topics/opcodes-and-status-codes#gateway-gateway-close-event-codes>
    fn closed(&self, code: Option<u16>) -> End {
        let fatal = |why: &str| End::Fatal(Fatal(why.to_owned()));
        match code {
            Some(4004) => fatal(BAD_TOKEN),
            Some(4014) if self.intents & MESSAGE_CONTENT != 0 => fatal(MISSING_INTENT),
            Some(4013 | 4014) => fatal(
                "Discord refuses the intents that this bot asks for: check the bot in the developer portal",
            ),
            Some(4010 | 4011) => fatal(
                "Discord wants this bot to share its servers among several sessions, which Herald does not do: it is in too many servers",
            ),
            Some(4012) => {
                fatal("Discord does not speak version 10 of its gateway any more: update Herald")
            }
            Some(code @ (1000 | 1001 | 4003 | 4007 | 4009)) => {
                End::Expired(format!("Discord's gateway closed the session ({code})"))
            }
            Some(code) => End::Lost(format!("Discord's gateway closed the connection ({code})")),
            None => End::Lost("Discord's gateway closed the connection".to_owned()),
        }
    }
}

/// The token is not accepted.
pub(super) const BAD_TOKEN: &str =
    "Discord does not accept the bot token: set a valid DISCORD_BOT_TOKEN";
/// The intent is not switched on.
pub(super) const MISSING_INTENT: &str = "Discord does not grant the message content intent: switch on \"Message Content Intent\" for the bot in the developer portal, or set DISCORD_MENTION_ONLY=true";

async fn write(socket: &mut (impl Sink<Message> + Unpin), frame: &Value) -> Result<(), End> {
    match timeout(WRITE, socket.send(Message::text(frame.to_string()))).await {
        Ok(Ok(())) => Ok(()),
        _ => Err(End::Lost("the connection to Discord's gateway broke".to_owned())),
    }
}
