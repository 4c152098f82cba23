//! Finds what a platform would take for a mention, also where entities or backslashes hide it.

use std::ops::Range;

use crate::model::{Mentions, PlatformKind};

/// What somebody would be called by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mention {
    /// Everybody in a channel, by this word.
    Broadcast(&'static str),
    /// A role or a user group.
    Group,
    /// One person.
    Person,
    /// A link that opens and may notify a Telegram user.
    TelegramUser,
}

impl Mention {
    /// Whether mentions of this kind may call people.
    pub const fn permitted(self, by: Mentions) -> bool {
        match self {
            Self::Broadcast(_) => by.broadcast,
            Self::Group => by.groups,
            Self::Person | Self::TelegramUser => by.people,
        }
    }

    /// Counts this kind among those that call people.
    pub const fn count(self, among: &mut Mentions) {
        match self {
            Self::Broadcast(_) => among.broadcast = true,
            Self::Group => among.groups = true,
            Self::Person | Self::TelegramUser => among.people = true,
        }
    }

    /// What is told to the caller.
    pub fn warning(self) -> String {
        match self {
            Self::Broadcast(word) => {
                format!("a broadcast mention (@{word}) was neutralised")
            }
            Self::Group => "a mention of a group or role was neutralised".to_owned(),
            Self::Person => "a mention of a person was neutralised".to_owned(),
            Self::TelegramUser => {
                "a link to a Telegram user (tg://user) was neutralised".to_owned()
            }
        }
    }
}

/// A mention, and the one character that makes it one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hit {
    pub mention: Mention,
    /// `@`, `!` or `:`.
    pub sign: char,
    /// The bytes it is written with: itself, or an entity.
    pub range: Range<usize>,
}

/// A character as a platform may see it, and the bytes it is written with.
#[derive(Clone, Copy)]
struct Seen {
    c: char,
    start: usize,
    end: usize,
}

/// Entities in entities in entities are read this deep.
const DEEPEST: usize = 8;

/// Every mention in `text`, in order.
pub(super) fn find(text: &str, platform: PlatformKind) -> Vec<Hit> {
    let suspicious = match platform {
        PlatformKind::Slack | PlatformKind::Discord => ['@', '!', '&'].as_slice(),
        PlatformKind::Telegram => [':', '&'].as_slice(),
    };
    if !text.contains(suspicious) {
        return Vec::new();
    }
    let mut seen: Vec<Seen> = text
        .char_indices()
        .map(|(start, c)| Seen { c, start, end: start + c.len_utf8() })
        .filter(|seen| seen.c != '\\')
        .collect();
    let mut hits = search(&seen, platform);
    // A reader may stop at any depth: what is a mention at one of them is one.
    for _ in 0..DEEPEST {
        let Some(read) = read_entities(&seen) else {
            break;
        };
        seen = read;
        hits.extend(search(&seen, platform));
    }
    hits.sort_by_key(|hit| (hit.range.start, hit.range.end));
    // The same sign found at several depths: the longest way it is written counts.
    hits.reverse();
    hits.dedup_by_key(|hit| hit.range.start);
    hits.reverse();
    hits
}

fn search(seen: &[Seen], platform: PlatformKind) -> Vec<Hit> {
    let mut hits = Vec::new();
    for (i, one) in seen.iter().enumerate() {
        let behind = seen.get(i + 1..).unwrap_or_default();
        let before = i.checked_sub(1).and_then(|i| seen.get(i)).map(|seen| seen.c);
        let mention = match (platform, one.c) {
            (PlatformKind::Telegram, ':') => telegram(seen, i),
            (PlatformKind::Slack, '@') => slack(*one, before, behind),
            (PlatformKind::Slack, '!') if before == Some('<') => slack_special(behind),
            (PlatformKind::Discord, '@') => discord(before, behind),
            _ => None,
        };
        if let Some(mention) = mention {
            hits.push(Hit { mention, sign: one.c, range: one.start..one.end });
        }
    }
    hits
}

fn starts(seen: &[Seen], word: &str) -> bool {
    seen.len() >= word.len()
        && seen.iter().zip(word.chars()).all(|(seen, c)| seen.c.eq_ignore_ascii_case(&c))
}

fn slack(sign: Seen, before: Option<char>, behind: &[Seen]) -> Option<Mention> {
    let next = behind.first().map(|seen| seen.c);
    if before == Some('<') && next.is_some_and(|c| c.is_ascii_alphanumeric()) {
        return Some(Mention::Person);
    }
    // Within an address (`ops@channel.example`) it is nobody's name. Nobody writes an address with an entity, and markup or
    // a cut may yet part it from its letters.
    let plain = sign.end - sign.start == sign.c.len_utf8();
    let letter = |c: Option<char>| plain && c.is_some_and(char::is_alphanumeric);
    if letter(before) {
        return None;
    }
    let word = ["channel", "everyone", "here"]
        .into_iter()
        .find(|word| starts(behind, word) && !letter(behind.get(word.len()).map(|seen| seen.c)))?;
    Some(Mention::Broadcast(word))
}

fn slack_special(behind: &[Seen]) -> Option<Mention> {
    if starts(behind, "subteam") {
        return Some(Mention::Group);
    }
    let word = ["channel", "everyone", "here", "group"].into_iter().find(|w| starts(behind, w))?;
    Some(Mention::Broadcast(word))
}

fn discord(before: Option<char>, behind: &[Seen]) -> Option<Mention> {
    // Discord looks for these anywhere, in the middle of a word too.
    if let Some(word) = ["everyone", "here"].into_iter().find(|word| starts(behind, word)) {
        return Some(Mention::Broadcast(word));
    }
    match behind.first().map(|seen| seen.c) {
        Some('&') if before == Some('<') => Some(Mention::Group),
        Some(c) if before == Some('<') && (c == '!' || c.is_ascii_digit()) => Some(Mention::Person),
        _ => None,
    }
}

fn telegram(seen: &[Seen], colon: usize) -> Option<Mention> {
    let scheme = seen.get(colon.checked_sub(2)?..)?;
    starts(scheme, "tg://user").then_some(Mention::TelegramUser)
}

/// The text with its entities read once, or nothing where there are none.
fn read_entities(seen: &[Seen]) -> Option<Vec<Seen>> {
    if !seen.iter().any(|seen| seen.c == '&') {
        return None;
    }
    let mut read = Vec::with_capacity(seen.len());
    let mut changed = false;
    let mut at = 0;
    while let Some(one) = seen.get(at) {
        let rest = seen.get(at + 1..).unwrap_or_default();
        if let Some((c, length)) = (one.c == '&').then(|| entity(rest)).flatten() {
            let end = seen.get(at + length).map_or(one.end, |last| last.end);
            read.push(Seen { c, start: one.start, end });
            at += length;
            changed = true;
        } else {
            read.push(*one);
        }
        at += 1;
    }
    read.retain(|seen| seen.c != '\\');
    changed.then_some(read)
}

/// The character an entity stands for, and how many characters follow its ampersand.
fn entity(rest: &[Seen]) -> Option<(char, usize)> {
    let length = rest.iter().take(12).position(|seen| seen.c == ';')?;
    let name: String = rest.iter().take(length).map(|seen| seen.c).collect();
    // In any case, although only a few have two: a reader that is more tolerant than the standard shall find nothing.
    let c = match name.to_ascii_lowercase().as_str() {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "excl" => '!',
        "commat" => '@',
        "colon" => ':',
        "sol" => '/',
        "bsol" => '\\',
        "num" => '#',
        "semi" => ';',
        name => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix('x') {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)?
        }
    };
    Some((c, length + 1))
}

/// Whether anything in `text` could still call somebody. Judged from the text alone and on the safe side: it reads
/// entities and drops backslashes even where the platform might not. Meant for tests.
#[must_use]
pub fn has_active_mention(text: &str, platform: PlatformKind) -> bool {
    const ENTITIES: [(&str, &str); 15] = [
        ("&amp;", "&"),
        ("&#38;", "&"),
        ("&lt;", "<"),
        ("&#60;", "<"),
        ("&#x3c;", "<"),
        ("&gt;", ">"),
        ("&excl;", "!"),
        ("&#33;", "!"),
        ("&#x21;", "!"),
        ("&commat;", "@"),
        ("&#64;", "@"),
        ("&#x40;", "@"),
        ("&colon;", ":"),
        ("&#58;", ":"),
        ("&#x3a;", ":"),
    ];
    let mut text = text.to_ascii_lowercase();
    for _ in 0..3 {
        text = text.replace('\\', "");
        for (entity, c) in ENTITIES {
            text = text.replace(entity, c);
        }
    }
    let text = text.replace('\\', "");
    let after = |marker: &str, test: &dyn Fn(char) -> bool| {
        text.match_indices(marker).any(|(at, _)| {
            text.get(at + marker.len()..).and_then(|rest| rest.chars().next()).is_some_and(test)
        })
    };
    match platform {
        PlatformKind::Slack => {
            after("<@", &|c| c.is_ascii_alphanumeric())
                || ["<!here", "<!channel", "<!everyone", "<!subteam"]
                    .iter()
                    .any(|m| text.contains(m))
                || ["@here", "@channel", "@everyone"].iter().any(|word| {
                    text.match_indices(word).any(|(at, _)| {
                        let left = text.get(..at).and_then(|t| t.chars().next_back());
                        let right = text.get(at + word.len()..).and_then(|t| t.chars().next());
                        !left.is_some_and(char::is_alphanumeric)
                            && !right.is_some_and(char::is_alphanumeric)
                    })
                })
        }
        PlatformKind::Discord => {
            text.contains("@everyone")
                || text.contains("@here")
                || after("<@&", &|c| c.is_ascii_digit())
                || after("<@", &|c| c == '!' || c.is_ascii_digit())
        }
        PlatformKind::Telegram => text.contains("tg://user"),
    }
}
