//! What may leave: reads the document, then the finished parts.
//!
//! No platform can be told reliably to ignore mentions in a text (Slack has no such parameter at all), so they are broken
//! up here: an agent that was fooled shall not wake a thousand people.

mod mentions;

use crate::model::{Part, PlatformKind};
use crate::render::{Document, Style, ZERO_WIDTH_SPACE};

pub use mentions::has_active_mention;
use mentions::{Hit, Mention, find};

/// Breaks up the mentions in a document before it is rendered: a character of no width goes into each, so that it reads
/// as before. Says what was changed in sentences for the caller, one per kind of mention.
pub fn document(document: &mut Document, platform: PlatformKind) -> Vec<String> {
    let mut warnings = Warnings::default();
    for text in document.texts_mut() {
        let hits = find(&text.text, platform);
        let offsets: Vec<usize> = hits.iter().map(|hit| hit.range.end).collect();
        text.insert_all(&offsets, ZERO_WIDTH_SPACE);
        warnings.add(&hits);
        for span in &mut text.spans {
            if let Style::Link(url) = &mut span.style {
                let hits = find(url, platform);
                // An address still leads to the same place with its signs percent-encoded.
                replace(url, &hits, |sign| format!("%{:02X}", u32::from(sign)));
                warnings.add(&hits);
            }
        }
    }
    warnings.sentences
}

/// The last look at finished parts: whatever became a mention only through rendering is broken up.
///
/// Its sign is replaced by the wide form of the same sign, one character for one, so that no part outgrows its limit.
pub fn parts(parts: &mut [Part], platform: PlatformKind) -> Vec<String> {
    let mut warnings = Warnings::default();
    for part in parts {
        let Some(text) = part.text_mut() else { continue };
        for text in [&mut text.body, &mut text.plain] {
            let hits = find(text, platform);
            replace(text, &hits, |sign| wide(sign).to_string());
            warnings.add(&hits);
        }
    }
    warnings.sentences
}

/// The fullwidth form of an ASCII sign.
fn wide(sign: char) -> char {
    char::from_u32(u32::from(sign) + 0xFEE0).unwrap_or(' ')
}

/// Replaces the sign of each hit.
fn replace(text: &mut String, hits: &[Hit], with: impl Fn(char) -> String) {
    for hit in hits.iter().rev() {
        text.replace_range(hit.range.clone(), &with(hit.sign));
    }
}

/// One sentence per kind of mention.
#[derive(Default)]
struct Warnings {
    told: Vec<Mention>,
    sentences: Vec<String>,
}

impl Warnings {
    fn add(&mut self, hits: &[Hit]) {
        for hit in hits {
            let kind = std::mem::discriminant(&hit.mention);
            if !self.told.iter().any(|told| std::mem::discriminant(told) == kind) {
                self.told.push(hit.mention);
                self.sentences.push(hit.mention.warning());
            }
        }
    }
}

/// The whole way of a text to a platform: read, guarded, rendered, guarded again.
#[cfg(test)]
pub(crate) fn rehearse(
    markdown: &str,
    platform: PlatformKind,
    render: fn(&Document) -> Result<Vec<crate::model::TextPart>, crate::render::RenderError>,
) -> (Document, Result<Vec<crate::model::TextPart>, crate::render::RenderError>) {
    let mut read = crate::render::parse(markdown);
    document(&mut read, platform);
    let rendered = render(&read).map(|texts| {
        let mut finished: Vec<Part> = texts.into_iter().map(Part::Text).collect();
        parts(&mut finished, platform);
        finished.into_iter().filter_map(|part| part.text().cloned()).collect()
    });
    (read, rendered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TextPart;
    use crate::render::parse;

    fn guarded(markdown: &str, platform: PlatformKind) -> (String, Vec<String>) {
        let mut parsed = parse(markdown);
        let warnings = document(&mut parsed, platform);
        let texts: Vec<&str> = parsed.texts().map(|text| text.text.as_str()).collect();
        (texts.join("\n"), warnings)
    }

    #[test]
    fn each_kind_of_mention_is_broken_up_and_told_once() {
        use PlatformKind::{Discord, Slack, Telegram};
        for (platform, markdown, text, warnings) in [
            (
                Slack,
                "@channel and @here",
                "@\u{200b}channel and @\u{200b}here",
                vec!["a broadcast mention (@channel) was neutralised"],
            ),
            (
                Slack,
                "`<!subteam^S1>` <@U123>",
                "<!\u{200b}subteam^S1> <@\u{200b}U123>",
                vec![
                    "a mention of a group or role was neutralised",
                    "a mention of a person was neutralised",
                ],
            ),
            (
                Slack,
                "&lt;!every**one**&gt;",
                "<!\u{200b}everyone>",
                vec!["a broadcast mention (@everyone) was neutralised"],
            ),
            (
                Discord,
                "x@Everyone <@&5> <@!7>",
                "x@\u{200b}Everyone <@\u{200b}&5> <@\u{200b}!7>",
                vec![
                    "a broadcast mention (@everyone) was neutralised",
                    "a mention of a group or role was neutralised",
                    "a mention of a person was neutralised",
                ],
            ),
            (
                Telegram,
                "tg://user?id=1 @everyone",
                "tg:\u{200b}//user?id=1 @everyone",
                vec!["a link to a Telegram user (tg://user) was neutralised"],
            ),
            (
                Slack,
                "`a&#64;channels`",
                "a&#64;\u{200b}channels",
                vec!["a broadcast mention (@channel) was neutralised"],
            ),
            (Slack, "mail ops@channel.example", "mail ops@channel.example", vec![]),
        ] {
            let (got, told) = guarded(markdown, platform);
            assert_eq!(got, text, "{platform}: {markdown}");
            assert_eq!(told, warnings, "{platform}: {markdown}");
        }
    }

    #[test]
    fn a_mention_in_an_address_is_percent_encoded() {
        let mut parsed = parse("[x](https://x.example/@everyone)");
        document(&mut parsed, PlatformKind::Discord);
        let text = parsed.texts().next().unwrap();
        assert_eq!(text.spans[0].style, Style::Link("https://x.example/%40everyone".to_owned()));
    }

    #[test]
    fn finished_parts_are_looked_at_through_entities_and_backslashes() {
        for (platform, body) in [
            (PlatformKind::Slack, "&lt;!channel&gt;"),
            (PlatformKind::Slack, "&amp;lt;!channel&amp;gt;"),
            (PlatformKind::Slack, "<!chan\\nel>"),
            (PlatformKind::Slack, "&#64;channel"),
            (PlatformKind::Discord, "\\<@&123>"),
            (PlatformKind::Discord, "@every\\one"),
            (PlatformKind::Telegram, "tg:&#47;/user?id=1"),
        ] {
            let mut finished =
                [Part::Text(TextPart { body: body.to_owned(), plain: "@here <@1>".to_owned() })];
            assert!(
                has_active_mention(body, platform) || body.contains("&#47;"),
                "{body} is a mention to begin with"
            );
            assert!(!parts(&mut finished, platform).is_empty(), "{body}");
            let text = finished[0].text().unwrap();
            assert!(!has_active_mention(&text.body, platform), "{}", text.body);
            assert!(!has_active_mention(&text.plain, platform), "{}", text.plain);
            assert!(text.body.chars().count() <= body.chars().count());
        }
    }
}
