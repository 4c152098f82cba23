//! Telegram's errors, and what each means for a message.
//!
//! Telegram has no codes beyond the HTTP status, so its descriptions are matched; none is repeated to anyone.
//! See <https://core.telegram.org/bots/api#making-requests>.

use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;

use crate::model::{Failure, PlatformKind, Reason, Scope};
use crate::platform::http::Answer;
use crate::platform::verdict::{by_status, refused_token, slow_down};

const TELEGRAM: PlatformKind = PlatformKind::Telegram;

/// Descriptions that mean the same, in lower case and without their ends, and what to do about them. None is worth a retry.
struct Row {
    said: &'static [&'static str],
    reason: Reason,
    hint: &'static str,
}

const fn row(said: &'static [&'static str], reason: Reason, hint: &'static str) -> Row {
    Row { said, reason, hint }
}

#[rustfmt::skip]
static TABLE: &[Row] = &[
    // 403: the chat does not want the bot.
    row(&["bot was blocked by the user"], Reason::MissingPermission,
        "this person has blocked the bot: they have to unblock it"),
    row(&["bot can't initiate conversation", "bot can't send messages to bots"], Reason::MissingPermission,
        "the bot may not write first: the person has to open the bot's chat and press Start"),
    row(&["user is deactivated"], Reason::ChannelNotFound, "this person's account no longer exists"),
    row(&["bot was kicked", "bot is not a member", "not a member of the"], Reason::NotInChannel,
        "the bot is not in the chat: add it to the group, or to the channel as an administrator"),
    // 400: the chat.
    row(&["chat not found", "peer_id_invalid", "user not found"], Reason::ChannelNotFound,
        "Telegram knows no such chat, or the bot is not in it: check the ID, and add the bot (a person has to press Start first)"),
    row(&["group chat was deactivated", "topic_closed", "topic_deleted"], Reason::ChannelArchived,
        "the group or topic is closed: reopen it or use another one"),
    row(&["chat_write_forbidden", "not enough rights", "have no rights", "need administrator rights", "chat_admin_required",
          "chat_restricted", "chat_send_plain_forbidden", "topic_not_modified"], Reason::MissingPermission,
        "the bot lacks a right in the chat: let it send messages (in a channel: make it an administrator who may post)"),
    // 400: what is referred to.
    row(&["message thread not found", "topic_id_invalid"], Reason::MessageNotFound,
        "there is no such forum topic: check `message_thread_id`"),
    row(&["message to edit not found", "message to delete not found", "message_id_invalid",
          "message to reply not found", "message to be replied not found", "replied message not found"], Reason::MessageNotFound,
        "that message does not exist (any more)"),
    row(&["message can't be edited", "message can't be deleted"], Reason::Rejected,
        "Telegram does not let the bot change that message: it is too old, or not the bot's own"),
    row(&["wrong file_id", "invalid file_id", "wrong remote file", "file_reference_", "wrong file identifier"],
        Reason::MessageNotFound, "Telegram no longer has that file"),
    row(&["file is too big"], Reason::TooLong,
        "Telegram lets a bot read files of at most 20 MB: share a smaller one"),
    // 400: the content.
    row(&["message is too long", "message_too_long", "text is too long"], Reason::TooLong,
        "Telegram finds the message too long: shorten it or send it in several calls"),
    row(&["message text is empty", "text must be non-empty"], Reason::Rejected,
        "the text is empty: write something to send"),
    row(&["can't parse entities"], Reason::Rejected,
        "Telegram did not understand the message: simplify its formatting"),
    row(&["no text in the message to edit"], Reason::Rejected,
        "that message is a file, which text cannot replace: send a new message"),
    row(&["file must be non-empty"], Reason::Rejected, "the file is empty: Telegram takes none without content"),
];

/// What Telegram said about a request that it refused.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Refusal {
    ok: bool,
    description: String,
    parameters: Parameters,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Parameters {
    retry_after: Option<f64>,
    migrate_to_chat_id: Option<i64>,
}

impl Refusal {
    /// What a refusing answer says; nothing, where Telegram did not write it.
    pub(super) fn read(answer: &Answer) -> Option<Self> {
        let refusal: Self = answer.json()?;
        (!refusal.ok && !refusal.description.is_empty()).then_some(refusal)
    }

    /// Whether Telegram said this, whatever the case.
    pub(super) fn says(&self, what: &str) -> bool {
        self.description.to_lowercase().contains(what)
    }
}

/// The failure behind an answer that does not say success.
pub(super) fn of(answer: &Answer) -> Failure {
    let Some(refusal) = Refusal::read(answer) else {
        return by_status(TELEGRAM, answer);
    };
    if answer.status == StatusCode::TOO_MANY_REQUESTS {
        let named = refusal.parameters.retry_after;
        let named = named.and_then(|s| Duration::try_from_secs_f64(s).ok());
        return slow_down(TELEGRAM, named.or_else(|| answer.retry_after()), Scope::Channel);
    }
    // The token is part of the path, so a wrong one is not found.
    if answer.status == StatusCode::NOT_FOUND {
        return refused_token(TELEGRAM);
    }
    if let Some(id) = refusal.parameters.migrate_to_chat_id {
        return Failure::give_up(
            Reason::ChannelNotFound,
            format!(
                "the group became a supergroup with the new ID {id}: the operator has to allow that one in TELEGRAM_CHAT_IDS"
            ),
        );
    }
    let explained = matches!(answer.status, StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN);
    TABLE
        .iter()
        .filter(|_| explained)
        .find(|row| row.said.iter().any(|what| refusal.says(what)))
        .map_or_else(|| by_status(TELEGRAM, answer), |row| Failure::give_up(row.reason, row.hint))
}
