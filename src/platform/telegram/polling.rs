//! Listening: long polling with `getUpdates`. <https://core.telegram.org/bots/api#getupdates>
//!
//! Telegram forgets an update once a poll asks for a later one. So the offset moves only behind what was taken.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

use super::api::{Api, understood};
use super::trouble::{Trouble, refused};
use super::updates::{self, Me, Skipped};
use crate::clock::{Clock, Timestamp};
use crate::model::{PlatformKind, Reason};
use crate::platform::finding;
use crate::platform::listener::{Ears, Fatal, Listener, NotTaken, Standing, backoff};
use crate::platform::verdict::not_understood;

/// How many updates one poll brings. With a reply in it and every character escaped, one may take 100 KB.
const BATCH: usize = 50;
/// How many bytes of a poll's answer are read. What does not fit is asked for in smaller pieces.
const MOST_BYTES: usize = 8 * 1024 * 1024;
/// For how long an offset is good: after a week without updates Telegram starts to count anew, anywhere.
const GOOD_FOR: Duration = Duration::from_secs(6 * 24 * 3600);
/// When it has to end: for what is being taken, and then for the last word to Telegram.
const LAST_TAKE: Duration = Duration::from_millis(250);
const LAST_WORD: Duration = Duration::from_millis(400);
/// How many answers to presses may be on their way; a press that goes without one only spins for a while.
const MOST_ANSWERS: usize = 32;

/// The bot's menu.
const COMMANDS: [(&str, &str); 5] = [
    ("start", "Who I am, and what I can do"),
    ("help", "What I can do"),
    ("new", "Start a new conversation"),
    ("status", "What I am doing"),
    ("cancel", "Stop what I am doing"),
];

/// How long everything takes.
#[derive(Clone, Debug)]
pub(super) struct Patience {
    /// How long Telegram may hold a poll, in whole seconds.
    pub(super) poll: Duration,
    /// The same after a conflict, so that it shows soon whether it is over.
    pub(super) after_conflict: Duration,
    /// How much longer than that we wait for the answer.
    pub(super) grace: Duration,
    /// The least time between two polls that bring nothing.
    pub(super) empty: Duration,
    /// The first pause after trouble, and the longest.
    pub(super) pause: Duration,
    pub(super) longest: Duration,
    /// Without trouble for so long, the pauses begin anew.
    pub(super) stable: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            poll: Duration::from_secs(30),
            after_conflict: Duration::from_secs(5),
            grace: Duration::from_secs(10),
            empty: Duration::from_millis(500),
            pause: Duration::from_secs(1),
            longest: Duration::from_secs(60),
            stable: Duration::from_secs(120),
        }
    }
}

/// Listens to one bot.
#[derive(Clone)]
pub(super) struct Polling {
    api: Api,
    drop_pending: bool,
    clock: Arc<dyn Clock>,
    pub(super) patience: Patience,
}

impl Polling {
    pub(super) fn new(api: Api, drop_pending: bool, clock: Arc<dyn Clock>) -> Self {
        Self { api, drop_pending, clock, patience: Patience::default() }
    }
}

#[async_trait]
impl Listener for Polling {
    fn kind(&self) -> PlatformKind {
        PlatformKind::Telegram
    }

    fn exclusive(&self) -> bool {
        true
    }

    async fn check(&self) -> Result<String, Fatal> {
        let ask = async |method: &'static str| {
            let asked = self.api.ask(method, &json!({})).await;
            asked.map_err(|failure| match failure.reason {
                Reason::Auth => Fatal(failure.hint),
                _ => Fatal(finding::sentence(PlatformKind::Telegram, &failure)),
            })
        };
        let odd = || Fatal(not_understood(PlatformKind::Telegram).hint);
        let me = Me::read(&ask("getMe").await?).ok_or_else(odd)?;
        let webhook = ask("getWebhookInfo").await?;
        let mut told = match me.hears_everything {
            true => "long polling; in groups it hears everything",
            false => {
                "long polling; in groups it hears commands, mentions and replies (privacy mode, which /setprivacy at @BotFather switches off)"
            }
        }
        .to_owned();
        match webhook.get("pending_update_count").and_then(Value::as_u64) {
            None | Some(0) => {}
            Some(waiting) if self.drop_pending => {
                told.push_str(&format!("; {waiting} waiting, and thrown away when it starts"));
            }
            Some(waiting) => told.push_str(&format!("; {waiting} waiting to be answered")),
        }
        if webhook.get("url").and_then(Value::as_str).is_some_and(|url| !url.is_empty()) {
            // Its address may hold a secret.
            told.push_str("; a webhook is set, which the bot takes down when it starts: if another program set it, give this bot a token of its own");
        }
        Ok(told)
    }

    async fn listen(&self, ears: Ears) -> Result<(), Fatal> {
        let ended = Session::new(self, &ears).run().await;
        ears.stands(match &ended {
            Ok(()) => Standing::Stopped,
            Err(Fatal(why)) => Standing::Failed { why: why.clone() },
        });
        ended
    }
}

/// The next update to ask for, and since when that is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Offset {
    next: i64,
    since: Timestamp,
}

impl Offset {
    fn read(cursor: &str) -> Option<Self> {
        let (next, since) = cursor.split_once('@')?;
        let next = next.parse().ok().filter(|next| *next >= 0)?;
        Some(Self { next, since: Timestamp(since.parse().ok()?) })
    }

    fn write(self) -> String {
        format!("{}@{}", self.next, self.since.0)
    }
}

/// From when it begins to listen until it stops.
struct Session<'a> {
    polling: &'a Polling,
    ears: &'a Ears,
    me: Option<Me>,
    dropped: bool,
    offset: Option<Offset>,
    /// Telegram does not know of the offset yet.
    unconfirmed: bool,
    limit: usize,
    hold: Duration,
    troubles: u32,
    last_trouble: Option<Instant>,
    answers: JoinSet<()>,
}

impl<'a> Session<'a> {
    fn new(polling: &'a Polling, ears: &'a Ears) -> Self {
        Self {
            polling,
            ears,
            me: None,
            dropped: false,
            offset: None,
            unconfirmed: false,
            limit: BATCH,
            // The first answer comes at once, and tells that we are connected.
            hold: Duration::ZERO,
            troubles: 0,
            last_trouble: None,
            answers: JoinSet::new(),
        }
    }

    async fn run(&mut self) -> Result<(), Fatal> {
        let cursor = self.unless_stopped(self.ears.cursor.load()).await;
        self.offset = cursor.ok().flatten().as_deref().and_then(Offset::read);
        let ended = loop {
            if self.ears.stop.is_cancelled() {
                break Ok(());
            }
            let went = match self.me.clone() {
                None => self.begin().await,
                Some(me) => self.round(&me).await,
            };
            match went {
                Ok(()) => {}
                Err(Trouble::Stopped) => break Ok(()),
                Err(Trouble::Fatal(why)) => break Err(Fatal(why)),
                Err(Trouble::Passing { why, after, conflict }) => {
                    self.wait_out(why, after, conflict).await;
                }
            }
        };
        self.last_word().await;
        ended
    }

    async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T, Trouble> {
        tokio::select! {
            biased;
            () = self.ears.stop.cancelled() => Err(Trouble::Stopped),
            done = work => Ok(done),
        }
    }

    async fn ask(&self, method: &'static str, body: &Value) -> Result<Value, Trouble> {
        let api = &self.polling.api;
        let answer = self.unless_stopped(api.call(method, body, api.timeout())).await??;
        if answer.status.is_success() { Ok(understood(&answer)?) } else { Err(refused(&answer)) }
    }

    /// Who we are; polling instead of a webhook; the menu.
    async fn begin(&mut self) -> Result<(), Trouble> {
        let me = Me::read(&self.ask("getMe", &json!({})).await?)
            .ok_or_else(|| not_understood(PlatformKind::Telegram))?;
        let webhook = self.ask("getWebhookInfo", &json!({})).await?;
        let webhook = webhook.get("url").and_then(Value::as_str).unwrap_or_default();
        let drop_pending = self.polling.drop_pending && !self.dropped;
        if !webhook.is_empty() || drop_pending {
            let body = if drop_pending { json!({"drop_pending_updates": true}) } else { json!({}) };
            self.ask("deleteWebhook", &body).await?;
            self.dropped = true;
        }
        if !webhook.is_empty() {
            // Its address may hold a secret.
            warn!(
                "the bot had a webhook: it is taken down, because Herald asks for messages instead"
            );
        }
        if drop_pending {
            info!("what was written while no bot listened is thrown away, as configured");
        }
        self.show_menu().await?;
        info!(
            bot = me.username.as_deref().unwrap_or_default(),
            hears_everything_in_groups = me.hears_everything,
            "listening on Telegram"
        );
        self.me = Some(me);
        Ok(())
    }

    /// <https://core.telegram.org/bots/api#setmycommands>. The bot works without.
    async fn show_menu(&self) -> Result<(), Trouble> {
        let commands = COMMANDS.map(|(name, what)| json!({"command": name, "description": what}));
        match self.ask("setMyCommands", &json!({"commands": commands})).await {
            Ok(_) => Ok(()),
            Err(Trouble::Stopped) => Err(Trouble::Stopped),
            Err(Trouble::Fatal(why) | Trouble::Passing { why, .. }) => {
                warn!(%why, "the bot's menu could not be set");
                Ok(())
            }
        }
    }

    /// One poll, and what comes of it.
    async fn round(&mut self, me: &Me) -> Result<(), Trouble> {
        let now = self.polling.clock.now();
        if self.offset.is_some_and(|offset| now.since(offset.since) > GOOD_FOR) {
            self.offset = None;
        }
        let asked = Instant::now();
        let hold = self.hold;
        let updates = self.poll(hold).await?;
        self.unconfirmed = false;
        if self.last_trouble.is_none_or(|last| last.elapsed() > self.polling.patience.stable) {
            self.troubles = 0;
        }
        self.hold = self.polling.patience.poll;
        let moved = self.take(me, &updates).await?;
        self.ears.stands(Standing::Connected);
        if !moved && !updates.is_empty() {
            return Err(Trouble::passing(
                "Telegram answers with updates that were asked for before, or that have no number",
            ));
        }
        let least = self.polling.patience.empty;
        if !moved && !hold.is_zero() && asked.elapsed() < least {
            self.unless_stopped(sleep(least.saturating_sub(asked.elapsed()))).await?;
        }
        Ok(())
    }

    fn body(&self, limit: usize, hold: Duration) -> Value {
        let mut body = json!({
            "limit": limit, "timeout": hold.as_secs(),
            "allowed_updates": ["message", "callback_query"],
        });
        if let (Some(offset), Some(body)) = (self.offset, body.as_object_mut()) {
            body.insert("offset".to_owned(), json!(offset.next));
        }
        body
    }

    /// Asks for updates; those that came before the offset, and those without a number, are still among them.
    async fn poll(&mut self, hold: Duration) -> Result<Vec<Value>, Trouble> {
        let body = self.body(self.limit, hold);
        let within = hold + self.polling.patience.grace;
        let poll = self.polling.api.read("getUpdates", &body, within, MOST_BYTES);
        let read = self.unless_stopped(poll).await??;
        if !read.answer.status.is_success() {
            return Err(refused(&read.answer));
        }
        let result = understood(&read.answer);
        match (result, read.cut) {
            (Ok(Value::Array(updates)), false) => {
                self.limit = (self.limit * 2).min(BATCH);
                Ok(updates)
            }
            // Too large, or one among them is no JSON: fewer at a time, until it is alone.
            _ if self.limit > 1 && number_within(&read.answer.body).is_some() => {
                self.limit /= 2;
                Ok(Vec::new())
            }
            _ => match number_within(&read.answer.body) {
                Some(number) => {
                    warn!(number, "an update cannot be read and is left out");
                    Ok(vec![json!({"update_id": number})])
                }
                None => Err(not_understood(PlatformKind::Telegram).into()),
            },
        }
    }

    /// Takes updates one after the other, and remembers how far it came. Tells whether it came any further.
    async fn take(&mut self, me: &Me, updates: &[Value]) -> Result<bool, Trouble> {
        let mut numbered: Vec<(i64, &Value)> =
            updates.iter().filter_map(|update| Some((updates::number(update)?, update))).collect();
        numbered.sort_by_key(|(number, _)| *number);
        let mut moved = false;
        let mut result = Ok(());
        for (number, update) in numbered {
            if self.offset.is_some_and(|offset| number < offset.next) {
                continue;
            }
            if self.ears.stop.is_cancelled() {
                // Whoever listens next gets it: it is not confirmed.
                result = Err(Trouble::Stopped);
                break;
            }
            if let Err(not_taken) = self.take_one(me, number, update).await {
                result = Err(not_taken.into());
                break;
            }
            let since = self.polling.clock.now();
            self.offset = Some(Offset { next: number.saturating_add(1), since });
            (moved, self.unconfirmed) = (true, true);
        }
        if let Some(offset) = self.offset.filter(|_| moved) {
            let saved = self.at_last(self.ears.cursor.save(&offset.write())).await;
            result = result.and(saved.map_err(Trouble::from));
        }
        result.map(|()| moved)
    }

    async fn take_one(&mut self, me: &Me, number: i64, update: &Value) -> Result<(), NotTaken> {
        match updates::read(update, me, self.polling.clock.now()) {
            Ok(heard) => {
                self.at_last(self.ears.inbox.take(heard.event)).await?;
                if let Some(query) = heard.query {
                    self.answer(query);
                }
            }
            Err(Skipped::NotForUs) => debug!(number, "an update that is not for the bot"),
            Err(Skipped::Odd(missing)) => {
                warn!(number, missing, "an update of unknown shape is left out");
            }
        }
        Ok(())
    }

    /// Finishes what is being stored, for a while even if it has to end.
    async fn at_last<T>(
        &self,
        work: impl Future<Output = Result<T, NotTaken>>,
    ) -> Result<T, NotTaken> {
        let late = async {
            self.ears.stop.cancelled().await;
            sleep(LAST_TAKE).await;
        };
        tokio::select! {
            biased;
            done = work => done,
            () = late => Err(NotTaken),
        }
    }

    /// Lets a pressed button stop spinning: <https://core.telegram.org/bots/api#answercallbackquery>.
    fn answer(&mut self, query: String) {
        while self.answers.try_join_next().is_some() {}
        if self.answers.len() >= MOST_ANSWERS {
            return;
        }
        let api = self.polling.api.clone();
        self.answers.spawn(async move {
            let body = json!({"callback_query_id": query});
            let answer = api.call("answerCallbackQuery", &body, api.timeout()).await;
            if let Err(failure) = answer.and_then(|answer| understood(&answer)) {
                // Telegram takes it for a few seconds only, and a bot that was away comes too late.
                debug!(why = %failure, "a pressed button could not be answered");
            }
        });
    }

    /// Pauses: longer each time, and never as long as any other.
    async fn wait_out(&mut self, why: String, after: Option<Duration>, conflict: bool) {
        let Patience { pause, longest, after_conflict, .. } = self.polling.patience;
        let jitter = self.polling.clock.jitter();
        let pause = after.unwrap_or_else(|| backoff(pause, longest, self.troubles, jitter));
        self.troubles = self.troubles.saturating_add(1);
        self.last_trouble = Some(Instant::now());
        self.hold = if conflict { after_conflict } else { Duration::ZERO };
        warn!(%why, pause_ms = pause.as_millis(), "Telegram is not heard");
        self.ears.stands(Standing::Retrying { why });
        let _ = self.unless_stopped(sleep(pause)).await;
    }

    /// Tells Telegram what was taken, and lets the answers out that are on their way.
    async fn last_word(&mut self) {
        let body = self.body(1, Duration::ZERO);
        let confirm = async {
            if self.unconfirmed {
                let _ = self.polling.api.call("getUpdates", &body, LAST_WORD).await;
            }
        };
        let answers = async { while self.answers.join_next().await.is_some() {} };
        let _ = timeout(LAST_WORD, async { tokio::join!(confirm, answers) }).await;
    }
}

/// The number of the first update in an answer of Telegram's that cannot be read as a whole.
pub(super) fn number_within(body: &[u8]) -> Option<i64> {
    const NAME: &[u8] = b"\"update_id\":";
    if !body.trim_ascii_start().starts_with(b"{\"ok\":true") {
        return None;
    }
    let at = body.windows(NAME.len()).position(|window| window == NAME)?;
    let rest = body.get(at + NAME.len()..)?.trim_ascii_start();
    let digits: Vec<u8> = rest.iter().copied().take_while(u8::is_ascii_digit).take(18).collect();
    String::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
#[path = "polling_tests.rs"]
mod tests;
