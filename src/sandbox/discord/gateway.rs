//! Discord's gateway: <https://docs.discord.com/developers/events/gateway>.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message as Frame, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State as Shared};
use axum::response::Response;
use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::inbound::{self, Gateway, MESSAGE_CONTENT};
use crate::sandbox::faults::FaultKind;
use crate::sandbox::state::Request;
use crate::sandbox::{Event, Vendor, World};

/// Where the gateway is.
pub(super) const PATH: &str = "/sandbox/discord/gateway";

/// Close codes: <https://docs.discord.com/developers/topics/opcodes-and-status-codes#gateway-gateway-close-event-codes>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Code {
    UnknownOpcode = 4001,
    DecodeError = 4002,
    NotAuthenticated = 4003,
    AuthenticationFailed = 4004,
    AlreadyAuthenticated = 4005,
    InvalidSeq = 4007,
    SessionTimedOut = 4009,
    InvalidVersion = 4012,
    InvalidIntents = 4013,
    DisallowedIntents = 4014,
}

/// How a connection ends.
enum End {
    /// In order, with a code.
    Closed(Code),
    /// The cable is cut.
    Cut,
}

#[derive(Debug, Deserialize)]
pub(super) struct Version {
    #[serde(default)]
    v: String,
    #[serde(default)]
    encoding: String,
}

impl World {
    /// Has Discord's gateway behave otherwise, from the next connection on.
    pub fn set_gateway(&self, gateway: Gateway) {
        self.state().discord.settings = gateway;
    }
}

pub(super) async fn open(
    Shared(world): Shared<World>,
    Query(version): Query<Version>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    super::learn_base(&world, &headers);
    upgrade.on_upgrade(move |socket| async move {
        let (connection, gateway) = {
            let mut state = world.state();
            let connection = state.discord.next_id().parse().unwrap_or_default();
            (connection, state.discord.settings)
        };
        let known = version.v == "10" && version.encoding == "json";
        let line = Line { world, socket, connection, gateway, session: None, asked: false };
        line.serve(known).await;
    })
}

/// One connection.
struct Line {
    world: World,
    socket: WebSocket,
    connection: u64,
    gateway: Gateway,
    /// The session's ID, and up to where it was told.
    session: Option<(String, u64)>,
    /// It was asked to reconnect, or told that its session is over.
    asked: bool,
}

impl Line {
    async fn serve(mut self, known_version: bool) {
        self.log("gateway.connect", "ok");
        if self.struck(&[FaultKind::DropBefore]).is_some() {
            return;
        }
        let end =
            if known_version { self.talk().await } else { Err(End::Closed(Code::InvalidVersion)) };
        if let Err(End::Closed(code)) = end {
            self.log("gateway.close", &(code as u16).to_string());
            let reason = format!("{code:?}").into();
            let close = CloseFrame { code: code as u16, reason };
            let _ = self.socket.send(Frame::Close(Some(close))).await;
        }
        if let Some((id, _)) = &self.session {
            let mut state = self.world.state();
            let now = self.world.inner.clock.now();
            let session = state.discord.sessions.get_mut(id);
            if let Some(session) = session.filter(|s| s.connection == self.connection) {
                session.left_at = Some(now);
            }
        }
    }

    /// Until the client leaves (`Ok`) or is sent away.
    async fn talk(&mut self) -> Result<(), End> {
        let interval = u64::try_from(self.gateway.heartbeat.as_millis()).unwrap_or(u64::MAX);
        self.send(10, json!({ "heartbeat_interval": interval })).await?;
        let wake = self.world.state().discord.wake.clone();
        let mut events = self.world.inner.events.subscribe();
        let patience = self.gateway.heartbeat.saturating_mul(2) + Duration::from_millis(200);
        let mut deaf_at = Instant::now() + patience;
        loop {
            let woken = wake.notified();
            tokio::pin!(woken);
            woken.as_mut().enable();
            self.tell().await?;
            self.strike().await?;
            tokio::select! {
                frame = self.socket.recv() => match frame {
                    Some(Ok(Frame::Text(text))) => {
                        if self.hear(text.as_str()).await? {
                            deaf_at = Instant::now() + patience;
                        }
                    }
                    Some(Ok(Frame::Close(frame))) => {
                        self.left(frame.as_ref());
                        return Ok(());
                    }
                    Some(Ok(Frame::Binary(_))) => return Err(End::Closed(Code::DecodeError)),
                    Some(Ok(Frame::Ping(_) | Frame::Pong(_))) => {}
                    Some(Err(_)) | None => return Ok(()),
                },
                () = &mut woken => {}
                event = events.recv() => if matches!(event, Ok(Event::Closing) | Err(tokio::sync::broadcast::error::RecvError::Closed)) {
                    return Err(End::Cut);
                },
                () = tokio::time::sleep_until(deaf_at) => {
                    return Err(End::Closed(Code::SessionTimedOut));
                }
            }
        }
    }

    /// A client that says goodbye in order gives its session up.
    fn left(&self, frame: Option<&CloseFrame>) {
        if let (Some((id, _)), Some(1000 | 1001)) = (&self.session, frame.map(|f| f.code)) {
            self.world.state().discord.sessions.remove(id);
        }
    }

    /// Tells what the session has not heard.
    async fn tell(&mut self) -> Result<(), End> {
        let Some((id, from)) = self.session.clone() else {
            return Ok(());
        };
        let frames = {
            let state = self.world.state();
            let Some(session) = state.discord.sessions.get(&id) else {
                return Ok(());
            };
            if session.connection != self.connection {
                // Somebody else has resumed it.
                return Err(End::Cut);
            }
            let waiting = state.discord.after(&id, from).unwrap_or_default();
            let intents = session.intents;
            waiting
                .into_iter()
                .map(|(seq, told)| (seq, inbound::event(&told, intents, &state)))
                .collect::<Vec<_>>()
        };
        for (seq, (name, data)) in frames {
            self.dispatch(Some(seq), name, data).await?;
            self.session = Some((id.clone(), seq));
        }
        Ok(())
    }

    /// Lets something go wrong, if that is wanted.
    async fn strike(&mut self) -> Result<(), End> {
        let Some((id, _)) = self.session.clone().filter(|_| !self.asked) else {
            return Ok(());
        };
        let kinds = [FaultKind::Reconnect, FaultKind::InvalidSession, FaultKind::Drop];
        match self.struck(&kinds) {
            Some(FaultKind::Reconnect) => {
                self.asked = true;
                self.send(7, Value::Null).await?;
            }
            Some(FaultKind::InvalidSession) => {
                self.asked = true;
                self.world.state().discord.sessions.remove(&id);
                self.send(9, json!(false)).await?;
            }
            Some(_) => return Err(End::Cut),
            None => {}
        }
        Ok(())
    }

    /// Hears the client out; whether it was a heartbeat.
    async fn hear(&mut self, text: &str) -> Result<bool, End> {
        let decode = End::Closed(Code::DecodeError);
        let Ok(frame) = serde_json::from_str::<Value>(text) else {
            return Err(decode);
        };
        let data = frame.get("d").cloned().unwrap_or_default();
        match frame.get("op").and_then(Value::as_u64) {
            Some(1) => {
                if self.struck(&[FaultKind::NoAck]).is_none() {
                    self.send(11, Value::Null).await?;
                }
                return Ok(true);
            }
            Some(2 | 6) if self.session.is_some() => {
                return Err(End::Closed(Code::AlreadyAuthenticated));
            }
            Some(2) => self.identify(&data).await?,
            Some(6) => self.resume(&data).await?,
            Some(3 | 4 | 8) if self.session.is_some() => {}
            Some(3 | 4 | 8) => return Err(End::Closed(Code::NotAuthenticated)),
            Some(_) => return Err(End::Closed(Code::UnknownOpcode)),
            None => return Err(decode),
        }
        Ok(false)
    }

    /// The token, without `Bot `.
    fn authenticate(&self, data: &Value) -> Result<(), End> {
        let token = data.get("token").and_then(Value::as_str).unwrap_or_default();
        let revoked = self.struck(&[FaultKind::RevokedToken]).is_some();
        if revoked || token != self.world.inner.tokens.discord {
            return Err(End::Closed(Code::AuthenticationFailed));
        }
        Ok(())
    }

    async fn identify(&mut self, data: &Value) -> Result<(), End> {
        self.log("gateway.identify", "ok");
        self.authenticate(data)?;
        let properties = data.get("properties").filter(|p| p.is_object());
        let intents = data.get("intents").and_then(Value::as_u64);
        let (Some(_), Some(intents)) = (properties, intents) else {
            return Err(End::Closed(Code::DecodeError));
        };
        if intents >= 1 << 26 {
            return Err(End::Closed(Code::InvalidIntents));
        }
        if intents & MESSAGE_CONTENT != 0 && self.struck(&[FaultKind::MissingIntent]).is_some() {
            return Err(End::Closed(Code::DisallowedIntents));
        }
        let session = {
            let now = self.world.inner.clock.now();
            let mut guard = self.world.state();
            let state = &mut *guard;
            state.discord.forget(now);
            let settings = state.discord.settings;
            let early = |last| now.since(last) < settings.identify_every;
            if state.discord.started >= settings.starts {
                // Discord resets the token of a bot that does not know when to stop.
                return Err(End::Closed(Code::AuthenticationFailed));
            }
            let early = state.discord.last_start.is_some_and(early);
            state.discord.started += 1;
            state.discord.last_start = Some(now);
            let resume = format!("{}{PATH}/resume", state.discord.base.replacen("http", "ws", 1));
            (!early).then(|| inbound::identified(state, intents, self.connection, &resume))
        };
        let Some(id) = session else {
            self.log("gateway.too_early", "invalid session");
            return self.send(9, json!(false)).await;
        };
        self.session = Some((id, 0));
        Ok(())
    }

    async fn resume(&mut self, data: &Value) -> Result<(), End> {
        self.log("gateway.resume", "ok");
        self.authenticate(data)?;
        let id = data.get("session_id").and_then(Value::as_str).unwrap_or_default().to_owned();
        let Some(seq) = data.get("seq").and_then(Value::as_u64) else {
            return Err(End::Closed(Code::DecodeError));
        };
        let taken = {
            let mut state = self.world.state();
            state.discord.forget(self.world.inner.clock.now());
            let replayed = state.discord.after(&id, seq).is_some();
            match state.discord.sessions.get_mut(&id) {
                Some(session) if session.seq < seq => {
                    return Err(End::Closed(Code::InvalidSeq));
                }
                Some(session) if replayed => {
                    session.connection = self.connection;
                    session.left_at = None;
                    true
                }
                _ => false,
            }
        };
        if !taken {
            return self.send(9, json!(false)).await;
        }
        self.world.state().discord.wake.notify_waiters();
        self.session = Some((id, seq));
        self.tell().await?;
        let seq = self.session.as_ref().map(|(_, seq)| *seq);
        self.dispatch(seq, "RESUMED", json!({})).await
    }

    async fn send(&mut self, op: u8, data: Value) -> Result<(), End> {
        self.write(json!({ "op": op, "d": data, "s": null, "t": null })).await
    }

    async fn dispatch(&mut self, seq: Option<u64>, name: &str, data: Value) -> Result<(), End> {
        self.write(json!({ "op": 0, "d": data, "s": seq, "t": name })).await
    }

    async fn write(&mut self, frame: Value) -> Result<(), End> {
        self.socket.send(Frame::text(frame.to_string())).await.map_err(|_| End::Cut)
    }

    /// The first fault of these kinds, used up.
    fn struck(&self, kinds: &[FaultKind]) -> Option<FaultKind> {
        let fault = self.world.state().faults.take_socket(Vendor::Discord, kinds)?;
        self.log("gateway.fault", &format!("fault:{}", fault.kind.as_str()));
        let _ = self.world.inner.events.send(Event::Faults);
        Some(fault.kind)
    }

    fn log(&self, method: &str, outcome: &str) {
        self.world.state().log(Request {
            number: 0,
            platform: Vendor::Discord,
            method: method.to_owned(),
            path: format!("WS {PATH}"),
            channel: None,
            received_at: self.world.inner.clock.now(),
            outcome: outcome.to_owned(),
        });
    }
}
