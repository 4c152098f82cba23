//! Whether a message stands in a channel whose answer was lost.
//!
//! Each message carries its step's nonce as [metadata](https://docs.slack.dev/messaging/message-metadata), which every app
//! in the workspace may read: it is a name and no secret. The history tells it again to a bot that is in the channel and
//! may read it. `conversations.history` and `conversations.replies` take 50 requests a minute from an app of one's own; one
//! request, of 15 messages, from an app that is sold outside the Marketplace:
//! <https://docs.slack.dev/reference/methods/conversations.history>.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::api::{Arguments, CallError, Reply};
use super::{EVENT_TYPE, NONCE, Slack};
use crate::clock::Timestamp;
use crate::model::{Disposition, Failure, Reason};
use crate::platform::Platform as _;

/// The most messages on a page; Slack advises no more than 200.
const PAGE: &str = "200";
/// The most pages that are read. Whoever is not on them is not found, which does not mean that it is not there.
const MOST_PAGES: usize = 5;
/// How far Slack's clock and ours may be apart. Slack's own signatures are refused where they differ by more.
const CLOCKS: Duration = Duration::from_secs(5 * 60);
/// A pause after a further page that only an app with the small limit is asked for: it would be asked for again next time.
const ENDLESS: Duration = Duration::from_secs(30);

/// What the operator has to grant, kind by kind of channel.
const SCOPES: &str = "channels:history (private channels: groups:history; direct messages: im:history, mpim:history)";

/// What is read of a page. A message is looked at one field at a time: an odd one must not hide the others.
#[derive(Deserialize)]
struct Page {
    messages: Vec<Value>,
    #[serde(default)]
    response_metadata: Option<Next>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Next {
    next_cursor: String,
}

impl Slack {
    /// The `ts` of the bot's own message with this nonce that was posted at `since` or later; `None` if there is none.
    pub(super) async fn look_up(
        &self,
        channel: &str,
        thread: Option<&str>,
        nonce: &str,
        since: Timestamp,
    ) -> Result<Option<String>, Failure> {
        let ask = || async { self.probe().await.map(|who| who.id) };
        let me = self.user.get_or_try_init(ask).await.map_err(Failure::unseen)?;
        let oldest = ts(since.before(CLOCKS));
        let ours = |message: &Value| {
            let text = |path: &str| message.pointer(path).and_then(Value::as_str);
            text("/metadata/event_type") == Some(EVENT_TYPE)
                && text(&format!("/metadata/event_payload/{NONCE}")) == Some(nonce)
                // Another app may have copied it, metadata and all.
                && text("/user").is_none_or(|user| user == me)
        };
        let found = self.search(channel, thread, &oldest, ours).await?;
        let Some(thread) = thread.filter(|_| found.is_none()) else { return Ok(found) };
        // Slack takes the `ts` of a reply for the thread that it stands in, but shows that thread only by its parent's.
        match self.parent(channel, thread).await? {
            Some(parent) if parent != thread => {
                self.search(channel, Some(&parent), &oldest, ours).await
            }
            _ => Ok(None),
        }
    }

    /// The `ts` of the first message that is `wanted`, newest first in a channel, oldest first in a thread.
    async fn search(
        &self,
        channel: &str,
        thread: Option<&str>,
        oldest: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Option<String>, Failure> {
        let mut cursor = String::new();
        for read in 0..MOST_PAGES {
            let mut form = BTreeMap::from([
                ("oldest", oldest),
                ("limit", PAGE),
                // Without it Slack leaves the payload out.
                ("include_all_metadata", "true"),
            ]);
            if !cursor.is_empty() {
                form.insert("cursor", &cursor);
            }
            let page = self.page(channel, thread, form, read > 0).await?;
            if let Some(message) = page.messages.iter().find(|message| wanted(message)) {
                let ts = message.get("ts").and_then(Value::as_str).unwrap_or_default();
                return Ok(Some(ts.to_owned()));
            }
            cursor = page.response_metadata.unwrap_or_default().next_cursor;
            if cursor.is_empty() {
                return Ok(None);
            }
        }
        Err(Failure::give_up(
            Reason::MessageNotFound,
            "whether it arrived cannot be looked up: too much was said in the channel since then",
        ))
    }

    /// The `ts` of the message whose thread this one stands in.
    async fn parent(&self, channel: &str, message: &str) -> Result<Option<String>, Failure> {
        let form = BTreeMap::from([("limit", "1")]);
        let page = self.page(channel, Some(message), form, true).await?;
        let parent = page.messages.first().and_then(|first| first.get("thread_ts"));
        Ok(parent.and_then(Value::as_str).map(str::to_owned))
    }

    /// A page; `further` if it is not the first that is asked for.
    async fn page<'a>(
        &self,
        channel: &'a str,
        thread: Option<&'a str>,
        mut form: BTreeMap<&'a str, &'a str>,
        further: bool,
    ) -> Result<Page, Failure> {
        form.insert("channel", channel);
        let method = match thread {
            // It has what was broadcast to the channel as well.
            Some(thread) => {
                form.insert("ts", thread);
                "conversations.replies"
            }
            None => "conversations.history",
        };
        match self.api.call::<Page>(method, Arguments::Form(&form)).await {
            Ok(Reply { value, .. }) => Ok(value),
            Err(error) => Err(unread(error, further)),
        }
    }
}

/// Why a page could not be read. Nothing is sent by asking: no failure leaves a doubt, and none but a refused token says
/// anything about what comes next.
fn unread(error: CallError, further: bool) -> Failure {
    let code = match &error {
        CallError::Refused(refusal) => refusal.error.clone().unwrap_or_default(),
        CallError::Failed(_) => String::new(),
    };
    let failure = Failure::from(error).unseen();
    let why = match (code.as_str(), failure.disposition) {
        ("missing_scope" | "not_allowed_token_type", _) => format!(
            "the operator has to grant the bot {SCOPES} under OAuth & Permissions and reinstall the app"
        ),
        ("not_in_channel" | "channel_not_found", _) => {
            "only who is in a channel may read it, so invite the bot with /invite @your-bot"
                .to_owned()
        }
        (_, Disposition::Retry { after: Some(after), .. }) if further && after >= ENDLESS => {
            "Slack lets this app read too little of a channel at a time".to_owned()
        }
        (_, Disposition::GiveUp) if failure.reason != Reason::Auth => failure.hint,
        _ => return failure,
    };
    let reason = match code.as_str() {
        "not_allowed_token_type" => Reason::MissingPermission,
        _ => failure.reason,
    };
    Failure::give_up(reason, format!("whether it arrived cannot be looked up: {why}"))
}

/// `1700000000.000100`.
fn ts(at: Timestamp) -> String {
    format!("{}.{:03}000", at.0.div_euclid(1000), at.0.rem_euclid(1000))
}
