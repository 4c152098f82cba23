//! Getting updates, and what belongs to it. <https://core.telegram.org/bots/api#getupdates>

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use super::{Parameters, Refused, bad_request, number, written};
use crate::sandbox::exchange::Desk;
use crate::sandbox::state::Message;
use crate::sandbox::{Event, Vendor, World};

/// The longest time a poll is held.
const LONGEST: i64 = 50;

/// One `getUpdates`.
pub(super) struct Poll {
    offset: i64,
    limit: usize,
    timeout: Duration,
    allowed: Option<Vec<String>>,
    ticket: AtomicU64,
}

impl Poll {
    /// What is out of range is moved into it, as Telegram does.
    pub(super) fn read(given: &Parameters) -> Self {
        let within = |name: &str, default: i64, least: i64, most: i64| {
            let value = number(given.get(name)).unwrap_or(default).clamp(least, most);
            value.unsigned_abs()
        };
        let allowed = given.get("allowed_updates").and_then(Value::as_array);
        let allowed = allowed.map(|kinds| kinds.iter().map(written).collect());
        Self {
            offset: number(given.get("offset")).unwrap_or(0),
            limit: usize::try_from(within("limit", 100, 1, 100)).unwrap_or(100),
            timeout: Duration::from_secs(within("timeout", 0, 0, LONGEST)),
            allowed,
            ticket: AtomicU64::new(0),
        }
    }

    /// Waits for updates, or for something else that ends the poll.
    pub(super) async fn hold(&self, world: &World) {
        let deadline = Instant::now() + self.timeout;
        let mut events = world.inner.events.subscribe();
        let now = world.inner.clock.now();
        let woken = {
            let inbound = &mut world.state().telegram;
            let ticket = inbound.begin(self.offset, self.allowed.as_ref(), now);
            self.ticket.store(ticket, Ordering::Relaxed);
            inbound.woken.clone()
        };
        let ready = async {
            loop {
                let notified = woken.notified();
                tokio::pin!(notified);
                notified.as_mut().enable();
                if world.state().telegram.is_ready(self.ticket.load(Ordering::Relaxed)) {
                    return;
                }
                notified.await;
            }
        };
        // A server that drains does not wait for polls.
        let closing = async {
            loop {
                if let Ok(Event::Closing) | Err(RecvError::Closed) = events.recv().await {
                    return;
                }
            }
        };
        tokio::select! {
            () = ready => {}
            () = closing => {}
            () = tokio::time::sleep_until(deadline) => {}
        }
    }

    pub(super) fn answer(&self, desk: Desk<'_>) -> Result<Value, Refused> {
        let inbound = &mut desk.state.telegram;
        let latest = inbound.is_latest(self.ticket.load(Ordering::Relaxed));
        if inbound.has_webhook() {
            return Err(conflict(if self.timeout.is_zero() || latest {
                "can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first"
            } else {
                "terminated by setWebhook request"
            }));
        }
        if !latest {
            return Err(terminated());
        }
        if desk.odd_update {
            inbound.push_odd(desk.now);
        }
        Ok(Value::Array(inbound.updates(self.limit)))
    }
}

fn conflict(why: &str) -> Refused {
    Refused {
        status: StatusCode::CONFLICT,
        description: format!("Conflict: {why}"),
        moved_to: None,
    }
}

/// Another poll came.
pub(super) fn terminated() -> Refused {
    conflict(
        "terminated by other getUpdates request; make sure that only one bot instance is running",
    )
}

/// <https://core.telegram.org/bots/api#answercallbackquery>: what it says shows for the one who pressed.
pub(super) fn answer(given: &Parameters, desk: Desk<'_>) -> Result<Value, Refused> {
    let id = given.get("callback_query_id").map(written).unwrap_or_default();
    let query = desk.state.telegram.query(&id, desk.now).ok_or_else(|| {
        bad_request("query is too old and response timeout expired or query ID is invalid")
    })?;
    let text = given.get("text").map(written).unwrap_or_default();
    if text.encode_utf16().count() > 200 {
        return Err(bad_request("MESSAGE_TOO_LONG"));
    }
    if !text.is_empty() {
        let message = Message {
            channel: query.channel,
            id: desk.state.next_id(Vendor::Telegram, desk.now),
            author: "herald".to_owned(),
            bot: true,
            text,
            payload: Value::Object(given.clone()),
            thread: None,
            reply_to: None,
            edited: false,
            deleted: false,
            pinged_everyone: false,
            pings: Vec::new(),
            buttons: Vec::new(),
            files: Vec::new(),
            only_for: Some(query.author),
            received_at: desk.now,
        };
        desk.state.keep(message.clone());
        desk.events.push(Event::Message { message });
    }
    Ok(json!(true))
}

/// <https://core.telegram.org/bots/api#setwebhook>. It is remembered; nothing is ever sent there.
pub(super) fn set_webhook(given: &Parameters, desk: Desk<'_>) -> Result<Value, Refused> {
    let url = given.get("url").map(written).unwrap_or_default();
    if !url.is_empty() && !url.starts_with("https://") {
        return Err(bad_request("bad webhook: An HTTPS URL must be provided for webhook"));
    }
    desk.state.telegram.set_webhook(&url, drops(given));
    Ok(json!(true))
}

/// <https://core.telegram.org/bots/api#deletewebhook>
pub(super) fn delete_webhook(given: &Parameters, desk: Desk<'_>) -> Value {
    desk.state.telegram.set_webhook("", drops(given));
    json!(true)
}

fn drops(given: &Parameters) -> bool {
    given.get("drop_pending_updates").is_some_and(|drop| written(drop) == "true")
}

/// <https://core.telegram.org/bots/api#setmycommands>
pub(super) fn set_commands(given: &Parameters, desk: Desk<'_>) -> Result<Value, Refused> {
    let commands = given.get("commands").cloned().unwrap_or_default();
    let list = commands
        .as_array()
        .filter(|list| list.len() <= 100)
        .ok_or_else(|| bad_request("can't parse BotCommands JSON object"))?;
    for command in list {
        let text = |name: &str| command.get(name).and_then(Value::as_str).unwrap_or_default();
        let name = text("command");
        let named = (1..=32).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if !named {
            return Err(bad_request("BOT_COMMAND_INVALID"));
        }
        if !(1..=256).contains(&text("description").chars().count()) {
            return Err(bad_request("BOT_COMMAND_DESCRIPTION_INVALID"));
        }
    }
    desk.state.telegram.set_commands(commands);
    Ok(json!(true))
}
