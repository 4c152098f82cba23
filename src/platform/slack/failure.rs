//! Slack's error codes, and what each means for a message.
//!
//! The codes are those of <https://docs.slack.dev/reference/methods/chat.postMessage#errors> and its siblings.

use crate::model::{Failure, PlatformKind, Reason, Scope};
use crate::platform::verdict::{
    Verdict::{self, Ambiguous, GiveUp, Retry},
    is_code, slow_down,
};

/// Codes that mean the same, and what to do about them.
struct Row {
    codes: &'static [&'static str],
    reason: Reason,
    verdict: Verdict,
    hint: &'static str,
}

const fn row(
    codes: &'static [&'static str],
    reason: Reason,
    verdict: Verdict,
    hint: &'static str,
) -> Row {
    Row { codes, reason, verdict, hint }
}

#[rustfmt::skip]
static TABLE: &[Row] = &[
    // The token.
    row(&["not_authed", "invalid_auth", "account_inactive", "token_revoked", "token_expired"], Reason::Auth, GiveUp,
        "Slack does not accept the bot token: the operator has to reinstall the app and set its new SLACK_BOT_TOKEN"),
    row(&["not_allowed_token_type", "is_bot"], Reason::Auth, GiveUp,
        "this kind of token cannot do that: the operator has to set SLACK_BOT_TOKEN to the bot token (xoxb-…)"),
    row(&["org_login_required", "two_factor_setup_required", "team_access_not_granted", "app_access_restricted",
          "enterprise_is_restricted", "ekm_access_denied", "access_denied", "accesslimited", "no_permission"],
        Reason::MissingPermission, GiveUp,
        "the Slack workspace does not let the app do that: a workspace admin has to approve it"),
    row(&["missing_scope"], Reason::MissingPermission, GiveUp,
        "the bot token lacks a scope: the operator has to add it under OAuth & Permissions and reinstall the app"),
    row(&["messages_tab_disabled"], Reason::MissingPermission, GiveUp,
        "the app accepts no direct messages: the operator has to switch on the Messages tab under App Home"),
    // The channel.
    row(&["not_in_channel"], Reason::NotInChannel, GiveUp,
        "the bot is not in the channel: invite it with /invite @your-bot, or grant it the scope chat:write.public"),
    row(&["channel_not_found"], Reason::ChannelNotFound, GiveUp,
        "Slack knows no such channel, or it is private and the bot is not in it: check the ID, or invite the bot with /invite @your-bot"),
    row(&["team_not_found"], Reason::ChannelNotFound, GiveUp,
        "Slack does not know the workspace: the operator has to check SLACK_TEAM_ID"),
    row(&["is_archived"], Reason::ChannelArchived, GiveUp,
        "the channel is archived: unarchive it or use another one"),
    row(&["restricted_action", "restricted_action_read_only_channel"], Reason::MissingPermission, GiveUp,
        "a workspace setting keeps the bot from posting in this channel: an admin has to allow it under the channel's posting permissions"),
    row(&["restricted_action_thread_only_channel"], Reason::MissingPermission, GiveUp,
        "only replies in threads are allowed in this channel: pass `thread_ts`"),
    row(&["restricted_action_non_threadable_channel", "cannot_reply_to_message"], Reason::Rejected, GiveUp,
        "this message cannot be replied to in a thread: leave out `thread_ts`"),
    row(&["restricted_action_thread_locked"], Reason::ChannelArchived, GiveUp,
        "the thread is locked: post outside of it"),
    row(&["slack_connect_file_link_sharing_blocked", "slack_connect_lists_sharing_blocked",
          "slack_connect_canvas_sharing_blocked", "slack_connect_clip_sharing_blocked"], Reason::MissingPermission, GiveUp,
        "Slack Connect does not let this content be shared with the other workspace: leave the link out"),
    // The message that is referred to.
    row(&["message_not_found", "thread_not_found"], Reason::MessageNotFound, GiveUp,
        "that message does not exist (any more)"),
    row(&["cant_update_message", "cant_delete_message", "edit_window_closed"], Reason::Rejected, GiveUp,
        "Slack does not let the bot change that message: it is too old, or not the bot's own"),
    // A file.
    row(&["file_uploads_disabled", "file_uploads_except_images_disabled", "restricted_action_file"], Reason::MissingPermission, GiveUp,
        "a workspace setting keeps the bot from uploading files: an admin has to allow it"),
    row(&["file_not_found", "file_deleted", "files_not_found", "upload_not_found"], Reason::Rejected, GiveUp,
        "Slack lost the file while it was uploaded"),
    row(&["over_file_size_limit", "file_upload_size_restricted", "post_upload_quota_exceeded"], Reason::TooLong, GiveUp,
        "Slack finds the file too large"),
    row(&["storage_limit_reached", "team_quota_exceeded"], Reason::Quota, GiveUp,
        "the workspace has no room left for files: an admin has to make some"),
    // The content.
    row(&["no_text"], Reason::Rejected, GiveUp, "the text is empty: write something to send"),
    row(&["msg_too_long", "msg_blocks_too_long", "msg_blocks_too_many", "metadata_too_large"], Reason::TooLong, GiveUp,
        "Slack finds the message too long: shorten it or send it in several calls"),
    row(&["invalid_blocks", "invalid_blocks_format", "markdown_text_conflict", "too_many_attachments", "attachment_payload_limit_exceeded",
          "invalid_metadata_format", "invalid_metadata_schema", "metadata_must_be_sent_from_app",
          "invalid_arguments", "invalid_arg_name", "invalid_array_arg", "invalid_charset", "invalid_form_data", "invalid_json",
          "json_not_object", "invalid_post_type", "missing_post_type", "too_many_contact_cards"], Reason::Rejected, GiveUp,
        "Slack did not understand the message: simplify its formatting"),
    // Certainly not posted.
    row(&["request_timeout"], Reason::Timeout, Retry, "Slack did not receive the whole request"),
    row(&["service_unavailable"], Reason::ServerError, Retry, "Slack is not available right now"),
    row(&["team_added_to_org"], Reason::ServerError, Retry, "Slack is moving the workspace into an organisation; that passes"),
    row(&["message_limit_exceeded"], Reason::Quota, GiveUp,
        "the workspace has used up Slack's limit on messages: an admin has to raise it or wait"),
    // Perhaps posted.
    row(&["fatal_error", "internal_error"], Reason::ServerError, Ambiguous, "Slack failed on its side"),
    row(&["duplicate_message_not_found", "duplicate_channel_not_found"], Reason::ServerError, Ambiguous,
        "Slack took the message for a repetition but does not find the first one"),
    // Herald's own mistakes.
    row(&["unknown_method", "deprecated_endpoint", "method_deprecated"], Reason::Internal, GiveUp,
        "Slack no longer knows this API method: check SLACK_API_URL, or update Herald"),
];

/// What Slack said about a request that it refused.
#[derive(Debug, Default, serde::Deserialize)]
pub(super) struct Refusal {
    pub(super) error: Option<String>,
    /// With `missing_scope`: the scopes that would do.
    pub(super) needed: Option<String>,
}

impl Refusal {
    /// Whether a scope is missing.
    pub(super) fn lacks_scope(&self) -> bool {
        self.error.as_deref() == Some("missing_scope")
    }

    /// The failure; `wait` is the answer's `Retry-After`.
    pub(super) fn failure(&self, wait: Option<std::time::Duration>) -> Failure {
        let code = self.error.as_deref().unwrap_or_default();
        if matches!(code, "ratelimited" | "rate_limited") {
            return slow_down(PlatformKind::Slack, wait, Scope::Channel);
        }
        match TABLE.iter().find(|row| row.codes.contains(&code)) {
            Some(row) => row.verdict.failure(row.reason, self.named(row.hint)),
            None if is_code(code) => {
                Failure::give_up(Reason::Rejected, format!("Slack refused this: {code}"))
            }
            None => Failure::give_up(Reason::Rejected, "Slack refused this"),
        }
    }

    /// The hint, with the missing scope where Slack named it.
    fn named(&self, hint: &str) -> String {
        match self.needed.as_deref().filter(|needed| is_scopes(needed)) {
            Some(needed) if self.lacks_scope() => {
                hint.replacen("a scope", &format!("the scope {needed}"), 1)
            }
            _ => hint.to_owned(),
        }
    }
}

/// `chat:write,channels:read` and nothing else.
fn is_scopes(needed: &str) -> bool {
    needed.len() <= 200
        && needed.split(',').all(|scope| is_code(&scope.trim().replace([':', '.'], "_")))
}
