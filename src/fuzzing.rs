//! The entry points of `fuzz/`: bytes that a stranger could send, and what has to hold whatever they are. A panic is a
//! finding.
//!
//! Compiled for the fuzzers (feature `fuzzing`) and for `cargo test`, which replays `fuzz/corpus/` through the same
//! functions and draws inputs of its own. What an entry point needs of a module's inside stands in that module, in its
//! own `fuzzing.rs`.

#![expect(clippy::unwrap_used, reason = "a panic is a finding")]

mod config;
mod mcp;
#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use crate::guard::{Guard, has_active_mention};
use crate::model::{Part, PlatformKind, TextPart};
use crate::platform::{discord, slack, telegram};
use crate::policy::Terms;
use crate::{a2a as agents, render};

/// A secret of Herald's own, which leaves nowhere.
const OWN: &str = "xoxb-canary-0123456789";

/// A target's name, and its entry point.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 11] = [
    ("a2a", a2a),
    ("config", config),
    ("discord_gateway", discord_gateway),
    ("guard", guard),
    ("mcp_body", mcp_body),
    ("render_discord", render_discord),
    ("render_slack", render_slack),
    ("render_telegram", render_telegram),
    ("slack_events", slack_events),
    ("slack_socket", slack_socket),
    ("telegram_updates", telegram_updates),
];

/// What an agent answers over A2A: its first line is an HTTP status, `sse` or `card`, the rest a body.
pub fn a2a(data: &[u8]) {
    agents::fuzzing::answer(data);
}

/// A configuration file; below a line `%%` variables of the environment, `NAME=VALUE` on each line.
pub fn config(data: &[u8]) {
    config::load(data);
}

/// Frames of Discord's gateway, one on each line.
pub fn discord_gateway(data: &[u8]) {
    discord::fuzzing::gateway(data);
}

/// A text that shall leave, as Markdown and as a finished part, on each platform.
pub fn guard(data: &[u8]) {
    static GUARD: LazyLock<Guard> = LazyLock::new(|| Guard::with(&[OWN.into()]));
    let Ok(text) = std::str::from_utf8(data) else { return };
    let terms = Terms::default();
    for platform in PlatformKind::ALL {
        let mut document = render::parse(text);
        if GUARD.document(&mut document, platform, &terms).is_ok() {
            for text in document.texts() {
                judge(&text.text, platform);
            }
        }

        let part = Part::Text(TextPart::new(text, text));
        let mut parts = [part];
        if GUARD.parts(&mut parts, platform, &terms).is_ok() {
            for part in parts.iter().filter_map(Part::text) {
                judge(&part.body, platform);
                judge(&part.plain, platform);
                assert!(part.body.chars().count() <= text.chars().count(), "{platform}: {part:?}");
            }
            let [part] = &parts;
            assert!(GUARD.still_passes(part, platform, &terms), "{platform}: {part:?}");
        }
    }
}

fn judge(text: &str, platform: PlatformKind) {
    assert!(!has_active_mention(text, platform), "{platform}: {text:?}");
    assert!(!text.contains(OWN), "{platform}: {text:?}");
}

/// The body of a request to `/mcp`.
pub fn mcp_body(data: &[u8]) {
    mcp::post(data);
}

/// Markdown for Discord.
pub fn render_discord(data: &[u8]) {
    let Ok(markdown) = std::str::from_utf8(data) else { return };
    assert_eq!(discord::render::rules::check(markdown), Ok(()), "{markdown:?}");
}

/// Markdown for Slack, in both of its dialects.
pub fn render_slack(data: &[u8]) {
    let Ok(markdown) = std::str::from_utf8(data) else { return };
    assert_eq!(slack::render::rules::check(markdown), Ok(()), "{markdown:?}");
    assert_eq!(slack::render::rules::check_mrkdwn(markdown), Ok(()), "{markdown:?}");
}

/// Markdown for Telegram.
pub fn render_telegram(data: &[u8]) {
    let Ok(markdown) = std::str::from_utf8(data) else { return };
    assert_eq!(telegram::render::rules::check(markdown), Ok(()), "{markdown:?}");
}

/// A request to `/slack/events`: on its first line the content type, the time and the signature, with `|` between them;
/// below it the body.
pub fn slack_events(data: &[u8]) {
    slack::fuzzing::events(data);
}

/// Frames of Slack's Socket Mode, one on each line.
pub fn slack_socket(data: &[u8]) {
    slack::fuzzing::socket(data);
}

/// The body of Telegram's answer to `getUpdates`.
pub fn telegram_updates(data: &[u8]) {
    telegram::fuzzing::updates(data);
}
