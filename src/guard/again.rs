//! Finished parts, read as their platforms read them: the list of domains may have become shorter since they were accepted.

use std::cmp::Reverse;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::links;
use crate::model::{CardPart, Part, PlatformKind};
use crate::render::{self, Content, Document, Span, Style};

/// What tells whether a list of domains is still the same: links are written by what the list says, and what comes of odd
/// markup may read otherwise.
pub(super) fn digest(domains: &[String]) -> String {
    let digest = Sha256::digest(serde_json::to_string(domains).unwrap_or_default());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Whether the links of a finished part lead to these domains alone.
pub(super) fn leads_to(part: &Part, platform: PlatformKind, domains: &[String]) -> bool {
    let mut read = match (part, platform) {
        (Part::File(file), _) => {
            let bytes = STANDARD.decode(&file.base64).unwrap_or_default();
            render::parse(&String::from_utf8_lossy(&bytes))
        }
        (Part::Text(text) | Part::Card(CardPart { text, .. }), PlatformKind::Telegram) => {
            html(&text.body)
        }
        (
            Part::Text(text) | Part::Card(CardPart { text, .. }),
            PlatformKind::Slack | PlatformKind::Discord,
        ) => render::parse(&text.body),
    };
    // What is done whatever the list is was done before.
    links::unmask(&mut read, None);
    let before = read.clone();
    links::unmask(&mut read, Some(domains));
    read == before
}

/// What Telegram's tags say about links and code. They are ours: every other `<` is an entity.
fn html(body: &str) -> Document {
    let (mut text, mut spans) = (String::new(), Vec::new());
    let (mut link, mut code, mut depth) = (None, 0, 0_u32);
    let mut pieces = body.split('<');
    text.push_str(&read(pieces.next().unwrap_or_default()));
    for piece in pieces {
        let (tag, words) = piece.split_once('>').unwrap_or((piece, ""));
        match tag.split(' ').next().unwrap_or_default() {
            "a" => link = Some((text.len(), address(tag))),
            "/a" => {
                if let Some((start, Some(url))) = link.take() {
                    spans.push(Span { range: start..text.len(), style: Style::Link(url) });
                }
            }
            "code" | "pre" => {
                code = if depth == 0 { text.len() } else { code };
                depth += 1;
            }
            "/code" | "/pre" => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    spans.push(Span { range: code..text.len(), style: Style::Code });
                }
            }
            _ => {}
        }
        text.push_str(&read(words));
    }
    spans.retain(|span| !span.range.is_empty());
    spans.sort_by_key(|span| (span.range.start, Reverse(span.range.end)));
    let mut document = Document::plain(&text);
    for block in &mut document.blocks {
        if let Content::Paragraph(text) = &mut block.content {
            text.spans = std::mem::take(&mut spans);
        }
    }
    document
}

/// Where a link leads, unless that is one of Telegram's own. Schemes are kept as they were written: `HTTPS:` is one.
fn address(tag: &str) -> Option<String> {
    let url = read(tag.split('"').nth(1)?);
    (!url.starts_with("tg://")).then_some(url)
}

fn read(written: &str) -> String {
    let signs = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&amp;", "&")];
    signs.iter().fold(written.to_owned(), |text, (entity, sign)| text.replace(entity, sign))
}
