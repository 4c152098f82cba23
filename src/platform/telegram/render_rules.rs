//! What everything that is rendered for Telegram keeps, whatever was written.

use super::*;
use crate::guard::{has_active_mention, rehearse};
use crate::model::PlatformKind;
use crate::render::judge::{holds, seen, words};

/// Reads a body as Telegram does: what it shows, or what is wrong with it.
fn shown(body: &str) -> Result<String, String> {
    let mut text = String::new();
    let mut open = Vec::new();
    let mut rest = body;
    while let Some(at) = rest.find(['<', '&', '>']) {
        let (before, from) = rest.split_at(at);
        text.push_str(before);
        rest = from;
        let end = rest.find(if rest.starts_with('<') { '>' } else { ';' });
        let Some(end) = end else {
            return Err(format!("unended at {rest:?}"));
        };
        let (token, after) = rest.split_at(end + 1);
        rest = after;
        match token {
            "&amp;" => text.push('&'),
            "&lt;" => text.push('<'),
            "&gt;" => text.push('>'),
            _ => {
                let Some(tag) = token.strip_prefix('<').and_then(|t| t.strip_suffix('>')) else {
                    return Err(format!("stray {token:?}"));
                };
                if let Some(name) = tag.strip_prefix('/') {
                    if open.pop() != Some(name.to_owned()) {
                        return Err(format!("badly nested {token:?}"));
                    }
                    continue;
                }
                let (name, attribute) = tag.split_once(' ').unwrap_or((tag, ""));
                let known = match name {
                    "b" | "i" | "s" | "pre" | "blockquote" => attribute.is_empty(),
                    "code" => attribute.is_empty() || attribute.starts_with("class=\"language-"),
                    "a" => ["http", "mailto:"]
                        .iter()
                        .any(|s| attribute.to_lowercase().starts_with(&format!("href=\"{s}"))),
                    _ => false,
                };
                let quotes = attribute.matches('"').count();
                if !known || !matches!(quotes, 0 | 2) || open.iter().any(|o| o == name) {
                    return Err(format!("bad tag {token:?}"));
                }
                open.push(name.to_owned());
            }
        }
    }
    text.push_str(rest);
    if open.is_empty() { Ok(text) } else { Err(format!("left open: {open:?}")) }
}

/// Whether the renderings keep it; if not, what is wrong.
pub(crate) fn check(markdown: &str) -> Result<(), String> {
    let (document, rendered) = rehearse(markdown, PlatformKind::Telegram, parts);
    let rendered = match rendered {
        Err(RenderError::Empty) if document.is_blank() => return Ok(()),
        Err(RenderError::TooLong { .. }) if words(&document).len() > 16_000 => return Ok(()),
        other => other.map_err(|error| error.to_string())?,
    };
    let mut all = String::new();
    for part in &rendered {
        let ensure = |good: bool, what: &str| {
            good.then_some(()).ok_or_else(|| format!("{what}: {:.400?}", part.body))
        };
        let shown = shown(&part.body)?;
        ensure(shown.encode_utf16().count() <= MOST_UNITS, "too long")?;
        ensure(part.plain == shown, "plain is not what is shown")?;
        ensure(!seen(&shown).is_empty(), "blank")?;
        ensure(!has_active_mention(&part.body, PlatformKind::Telegram), "mention")?;
        all.push_str(&shown);
    }
    holds(&all, &words(&document))
}
