//! Discord's error codes, and what each means for a message.
//!
//! The codes are those of <https://docs.discord.com/developers/topics/opcodes-and-status-codes#json>.

use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use crate::model::{Failure, PlatformKind, Reason, Scope};
use crate::platform::http::Answer;
use crate::platform::verdict::{
    Verdict::{self, GiveUp, Retry},
    by_status, slow_down,
};

const DISCORD: PlatformKind = PlatformKind::Discord;

/// No such message; after a repeated nonce, the first message with it was deleted.
pub(super) const UNKNOWN_MESSAGE: u32 = 10_008;
/// The message has a thread already.
pub(super) const THREAD_EXISTS: u32 = 160_004;
/// A field of the body is wrong; the body's `errors` says which.
const INVALID_FORM: u32 = 50_035;

/// Codes that mean the same, and what to do about them.
struct Row {
    codes: &'static [u32],
    reason: Reason,
    verdict: Verdict,
    hint: &'static str,
}

const fn row(codes: &'static [u32], reason: Reason, verdict: Verdict, hint: &'static str) -> Row {
    Row { codes, reason, verdict, hint }
}

#[rustfmt::skip]
static TABLE: &[Row] = &[
    // The token.
    row(&[40_001, 50_014], Reason::Auth, GiveUp,
        "Discord does not accept the bot token: the operator has to reset it in the developer portal and set DISCORD_BOT_TOKEN"),
    row(&[40_002], Reason::Auth, GiveUp,
        "Discord wants the bot's account verified: the operator has to do that in the developer portal"),
    // The channel.
    row(&[10_003, 10_004], Reason::ChannelNotFound, GiveUp,
        "Discord knows no such channel (any more): check the ID"),
    row(&[50_001], Reason::NotInChannel, GiveUp,
        "the bot cannot see the channel: invite it to the server, and give it View Channel there"),
    row(&[50_013], Reason::MissingPermission, GiveUp,
        "the bot lacks a permission in the channel: give it Send Messages (in threads: Send Messages in Threads; to open one: Create Public Threads)"),
    row(&[50_007, 50_278], Reason::MissingPermission, GiveUp,
        "this person does not accept direct messages from the bot"),
    row(&[50_008], Reason::Rejected, GiveUp,
        "this is no text channel: use one, or a thread of the forum"),
    row(&[50_024], Reason::Rejected, GiveUp,
        "Discord does not offer that in this kind of channel"),
    row(&[50_083, 160_005], Reason::ChannelArchived, GiveUp,
        "the thread is archived or locked: unlock it or post outside of it"),
    row(&[160_006, 160_007], Reason::Quota, GiveUp,
        "the server has as many active threads as it may have: archive some"),
    // The message that is referred to.
    row(&[UNKNOWN_MESSAGE], Reason::MessageNotFound, GiveUp,
        "that message does not exist (any more)"),
    row(&[50_005], Reason::Rejected, GiveUp,
        "Discord lets the bot change its own messages only"),
    row(&[50_021, 160_002], Reason::Rejected, GiveUp,
        "Discord does not offer that for this message"),
    // The content.
    row(&[200_000, 200_001, 240_000], Reason::Rejected, GiveUp,
        "a filter of the server blocks this text: reword it, or have a moderator exempt the bot from AutoMod"),
    row(&[50_006], Reason::Rejected, GiveUp, "the text is empty: write something to send"),
    row(&[40_005], Reason::TooLong, GiveUp,
        "Discord finds the message too long: shorten it or send it in several calls"),
    row(&[50_109], Reason::Internal, GiveUp, "Discord could not read the request"),
    // Certainly not posted.
    row(&[130_000], Reason::ServerError, Retry, "Discord is overloaded right now"),
    row(&[20_016, 20_028, 20_029, 40_003, 40_062], Reason::RateLimited, Retry,
        "Discord asked to slow down"),
];

/// What Discord said about a request that it refused.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Refusal {
    code: u32,
    errors: Value,
    retry_after: Option<f64>,
    global: bool,
}

/// Discord's code for a refusal, where it gave one.
pub(super) fn code(answer: &Answer) -> Option<u32> {
    answer.json::<Refusal>().map(|r| r.code).filter(|c| *c != 0)
}

/// The failure behind an answer that does not say success.
pub(super) fn of(answer: &Answer) -> Failure {
    if answer.status == StatusCode::TOO_MANY_REQUESTS {
        return rate_limit(answer);
    }
    // A token is bad whatever the code, and what a server failed at may have happened.
    if matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::REQUEST_TIMEOUT)
        || !answer.status.is_client_error()
    {
        return by_status(DISCORD, answer);
    }
    let Some(refusal) = answer.json::<Refusal>() else {
        return by_status(DISCORD, answer);
    };
    if refusal.code == INVALID_FORM {
        return invalid_form(&refusal.errors);
    }
    match TABLE.iter().find(|row| row.codes.contains(&refusal.code)) {
        Some(row) => row.verdict.failure(row.reason, row.hint),
        None if refusal.code == 0 => by_status(DISCORD, answer),
        None => Failure::give_up(
            match answer.status {
                StatusCode::FORBIDDEN => Reason::MissingPermission,
                _ => Reason::Rejected,
            },
            format!("Discord refused this (code {})", refusal.code),
        ),
    }
}

/// <https://docs.discord.com/developers/topics/rate-limits#exceeding-a-rate-limit>
fn rate_limit(answer: &Answer) -> Failure {
    let Some(refusal) = answer.json::<Refusal>().filter(|r| r.retry_after.is_some()) else {
        // Not Discord's own words: Cloudflare stops everything from this address.
        return slow_down(DISCORD, answer.retry_after(), Scope::Credential);
    };
    let global = refusal.global || answer.header("x-ratelimit-scope") == Some("global");
    let scope = if global { Scope::Credential } else { Scope::Channel };
    let named = refusal.retry_after.and_then(|s| Duration::try_from_secs_f64(s).ok());
    slow_down(DISCORD, named.or_else(|| answer.retry_after()), scope)
}

/// Names the field that Discord found wrong: it is Herald's rendering that is at fault, or the caller's text.
fn invalid_form(errors: &Value) -> Failure {
    let Some((field, code)) = first_error(errors, 0) else {
        return Failure::give_up(Reason::Rejected, "Discord did not understand the message");
    };
    if code.ends_with("_MAX_LENGTH") {
        return Failure::give_up(
            Reason::TooLong,
            format!("Discord finds `{field}` too long: shorten it or send it in several calls"),
        );
    }
    Failure::give_up(
        Reason::Rejected,
        format!("Discord did not understand the message: {field}: {code}"),
    )
}

/// The first `{"content": {"_errors": [{"code": …}]}}`, as `content` and its code, if both are plain words.
fn first_error(errors: &Value, depth: usize) -> Option<(String, String)> {
    let word = |s: &str| {
        (1..=64).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    if depth > 8 {
        return None;
    }
    errors.as_object()?.iter().find_map(|(field, below)| {
        if !word(field) {
            return None;
        }
        let code = below.pointer("/_errors/0/code").and_then(Value::as_str);
        match code {
            Some(code) if word(code) => Some((field.clone(), code.to_owned())),
            Some(_) => None,
            None => first_error(below, depth + 1),
        }
    })
}
