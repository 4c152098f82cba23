//! Mentions that are let through, where the operator said so: as an agent writes them, and as their platform takes them.
//!
//! Only what is plainly meant calls people: a mention that is written out whole, in running text. One in code, in a link or
//! in a table is shown and calls nobody, as is one that is pieced together of different markup, or stuck to another word.

use std::ops::Range;

use super::mentions::{Hit, Mention};
use crate::model::PlatformKind;
use crate::render::{Edit, Span, Style, Text};

/// A mention that calls people.
struct Call {
    /// Where it stands in the text.
    range: Range<usize>,
    /// As its platform takes it.
    written: String,
}

/// Marks what calls people among the mentions in running text. `permitted` are those that may, in order. What comes back
/// puts their meaning over them.
pub(super) fn calls(text: &Text, permitted: &[&Hit], platform: PlatformKind) -> Vec<Edit> {
    let mut edits: Vec<Edit> = Vec::new();
    let mut spans = text.spans.iter().peekable();
    let mut around: Vec<&Span> = Vec::new();
    for hit in permitted {
        let Some(Call { range, written }) = call(&text.text, hit, platform) else { continue };
        if edits.last().is_some_and(|last| range.start < last.range.end) {
            continue;
        }
        while let Some(span) = spans.next_if(|span| span.range.start < range.end) {
            around.push(span);
        }
        around.retain(|span| span.range.end > range.start);
        let whole = around.iter().all(|span| {
            let covers = span.range.start <= range.start && range.end <= span.range.end;
            covers && matches!(span.style, Style::Bold | Style::Italic | Style::Strike)
        });
        if whole && let Some(shown) = text.text.get(range.clone()) {
            let span = Span { range: 0..shown.len(), style: Style::Mention(written) };
            edits.push(Edit { with: shown.to_owned(), range, spans: vec![span] });
        }
    }
    edits
}

/// What a mention calls people by, if it is written as people write one.
fn call(text: &str, hit: &Hit, platform: PlatformKind) -> Option<Call> {
    // An entity stands for its sign only where somebody wanted it to be read as text.
    if text.get(hit.range.clone()).is_none_or(|sign| sign.chars().ne([hit.sign])) {
        return None;
    }
    match (platform, hit.mention, hit.sign) {
        (PlatformKind::Slack, Mention::Broadcast(word), '@') => {
            Some(Call { range: alone(text, hit.range.start, word)?, written: format!("<!{word}>") })
        }
        (PlatformKind::Slack, Mention::Broadcast(word), _) => {
            let (range, inside) = labelled(text, hit.range.start)?;
            let named = ["channel", "everyone", "here"].contains(&word)
                && inside.strip_prefix('!') == Some(word);
            named.then(|| Call { range, written: format!("<!{word}>") })
        }
        (PlatformKind::Slack, Mention::Group, _) => {
            let (range, inside) = labelled(text, hit.range.start)?;
            let id = inside.strip_prefix("!subteam^").filter(|id| slack_id(id, &['S']))?;
            Some(Call { range, written: format!("<!subteam^{id}>") })
        }
        (PlatformKind::Slack, Mention::Person, _) => {
            let (range, inside) = labelled(text, hit.range.start)?;
            let id = inside.strip_prefix('@').filter(|id| slack_id(id, &['U', 'W']))?;
            Some(Call { range, written: format!("<@{id}>") })
        }
        (PlatformKind::Discord, Mention::Broadcast(word), _) => {
            Some(Call { range: alone(text, hit.range.start, word)?, written: format!("@{word}") })
        }
        (PlatformKind::Discord, Mention::Group, _) => {
            let (range, inside) = bracketed(text, hit.range.start)?;
            let id = inside.strip_prefix("@&").filter(|id| snowflake(id))?;
            Some(Call { range, written: format!("<@&{id}>") })
        }
        (PlatformKind::Discord, Mention::Person, _) => {
            let (range, inside) = bracketed(text, hit.range.start)?;
            let id = inside.strip_prefix("@!").or_else(|| inside.strip_prefix('@'));
            let id = id.filter(|id| snowflake(id))?;
            Some(Call { range, written: format!("<@{id}>") })
        }
        // Telegram's are links: see `Style::User`.
        (_, Mention::TelegramUser, _) | (PlatformKind::Telegram, ..) => None,
    }
}

/// Where `@word` stands, if it is no part of a longer word, name or address.
fn alone(text: &str, sign: usize, word: &str) -> Option<Range<usize>> {
    let behind = text.get(sign + 1..)?.strip_prefix(word)?;
    let before = text.get(..sign)?.chars().next_back();
    let joined = |c: char| c.is_alphanumeric() || "@_/\\".contains(c);
    let stuck = before.is_some_and(|c| joined(c) || ".-+".contains(c))
        || behind.chars().next().is_some_and(joined);
    (!stuck).then(|| sign..sign + 1 + word.len())
}

/// What stands in angle brackets, of which the one before `sign` is the first: where, and what it is.
fn bracketed(text: &str, sign: usize) -> Option<(Range<usize>, &str)> {
    let start = sign.checked_sub(1).filter(|start| text.get(*start..sign) == Some("<"))?;
    let rest = text.get(sign..)?;
    let length = rest.char_indices().take(128).find(|(_, c)| matches!(c, '>' | '<' | '\n'))?.0;
    let (inside, end) = rest.split_at_checked(length)?;
    end.starts_with('>').then_some((start..sign + length + 1, inside))
}

/// The same, without the label that Slack's may have behind a bar: Slack shows the name that belongs to the ID, and no
/// person at all where there is another.
fn labelled(text: &str, sign: usize) -> Option<(Range<usize>, &str)> {
    let (range, inside) = bracketed(text, sign)?;
    Some((range, inside.split('|').next().unwrap_or_default()))
}

/// `U0123456789`: <https://docs.slack.dev/messaging/formatting-message-text#advanced>.
fn slack_id(id: &str, kinds: &[char]) -> bool {
    id.starts_with(kinds)
        && (2..=24).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
}

/// <https://docs.discord.com/developers/reference#message-formatting>
fn snowflake(id: &str) -> bool {
    (1..=20).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_digit())
}
