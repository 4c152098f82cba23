//! Breaks mentions up, in documents and in finished parts, but for those that the operator lets through.

use super::calls::calls;
use super::mentions::{Hit, Mention, find};
use crate::model::{Mentions, Part, PlatformKind};
use crate::render::{Content, Document, Edit, Style, Text, ZERO_WIDTH_SPACE};

/// Breaks up the mentions in a document before it is rendered, but for those that are `permitted` and meant: a character
/// of no width goes into each, so that it reads as before. Says what was changed in sentences for the caller, one per kind
/// of mention.
pub(super) fn break_mentions(
    document: &mut Document,
    platform: PlatformKind,
    permitted: Mentions,
) -> Vec<String> {
    let mut warnings = Warnings::default();
    for block in &mut document.blocks {
        let permitted = match block.content {
            Content::Paragraph(_) | Content::Heading { .. } => permitted,
            // A table may be shown as code; nobody is called by code.
            Content::Table(_) | Content::Code { .. } | Content::Rule => Mentions::NONE,
        };
        for text in block.content.texts_mut() {
            break_mentions_of(text, platform, permitted, &mut warnings);
        }
    }
    warnings.sentences
}

fn break_mentions_of(
    text: &mut Text,
    platform: PlatformKind,
    permitted: Mentions,
    warnings: &mut Warnings,
) {
    let users = platform == PlatformKind::Telegram && permitted.people;
    text.spans.retain(|span| {
        let kept = users || !matches!(span.style, Style::User(_));
        if !kept && platform == PlatformKind::Telegram {
            warnings.tell(Mention::TelegramUser);
        }
        kept
    });
    let hits = find(&text.text, platform);
    let may: Vec<&Hit> = hits.iter().filter(|hit| hit.mention.permitted(permitted)).collect();
    let mut called = calls(text, &may, platform).into_iter().peekable();
    let mut edits = Vec::new();
    for hit in &hits {
        while let Some(call) = called.next_if(|call| call.range.end <= hit.range.start) {
            edits.push(call);
        }
        // What else stands in a mention that calls is not written.
        if called.peek().is_some_and(|call| call.range.contains(&hit.range.start)) {
            continue;
        }
        warnings.tell(hit.mention);
        let behind = hit.range.end..hit.range.end;
        edits.push(Edit::plain(behind, ZERO_WIDTH_SPACE.to_string()));
    }
    edits.extend(called);
    text.rewrite(edits);
    for span in &mut text.spans {
        if let Style::Link(url) = &mut span.style {
            let hits = find(url, platform);
            // An address still leads to the same place with its signs percent-encoded.
            replace(url, &hits, |sign| format!("%{:02X}", u32::from(sign)));
            warnings.add(&hits);
        }
    }
}

/// The last look at finished parts: whatever became a mention only through rendering is broken up, unless its kind is
/// `permitted`. Each part then says which kinds call people in it.
///
/// Its sign is replaced by the wide form of the same sign, one character for one, so that no part outgrows its limit.
pub(super) fn break_mentions_in(
    parts: &mut [Part],
    platform: PlatformKind,
    permitted: Mentions,
) -> Vec<String> {
    let mut warnings = Warnings::default();
    for part in parts {
        let Some(text) = part.text_mut() else { continue };
        text.mentions = Mentions::NONE;
        for written in [&mut text.body, &mut text.plain] {
            // What stands between two signs may have kept the second from being one.
            loop {
                let (live, dead): (Vec<Hit>, Vec<Hit>) = find(written, platform)
                    .into_iter()
                    .partition(|hit| hit.mention.permitted(permitted));
                if dead.is_empty() {
                    live.iter().for_each(|hit| hit.mention.count(&mut text.mentions));
                    break;
                }
                replace(written, &dead, |sign| wide(sign).to_string());
                warnings.add(&dead);
            }
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
            self.tell(hit.mention);
        }
    }

    fn tell(&mut self, mention: Mention) {
        let kind = std::mem::discriminant(&mention);
        if !self.told.iter().any(|told| std::mem::discriminant(told) == kind) {
            self.told.push(mention);
            self.sentences.push(mention.warning());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::has_active_mention;
    use super::*;
    use crate::model::TextPart;
    use crate::render::parse;

    fn guarded(markdown: &str, platform: PlatformKind) -> (String, Vec<String>) {
        let mut parsed = parse(markdown);
        let warnings = break_mentions(&mut parsed, platform, Mentions::NONE);
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
        break_mentions(&mut parsed, PlatformKind::Discord, Mentions::NONE);
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
            let mut finished = [Part::Text(TextPart::new(body, "@here <@1>"))];
            assert!(
                has_active_mention(body, platform) || body.contains("&#47;"),
                "{body} is a mention to begin with"
            );
            assert!(
                !break_mentions_in(&mut finished, platform, Mentions::NONE).is_empty(),
                "{body}"
            );
            let text = finished[0].text().unwrap();
            assert!(!has_active_mention(&text.body, platform), "{}", text.body);
            assert!(!has_active_mention(&text.plain, platform), "{}", text.plain);
            assert!(text.body.chars().count() <= body.chars().count());
        }
    }
}
