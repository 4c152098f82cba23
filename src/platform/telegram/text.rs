//! What somebody wrote: text and its entities, whose places are counted in UTF-16 units.
//! <https://core.telegram.org/bots/api#messageentity>

use std::ops::Range;

use serde_json::Value;

use super::updates::{Me, name_of};

/// The most characters of a text that are read. Telegram's own limit is lower.
const MOST: usize = 8_000;
/// The most entities that are looked at. Telegram sends 100.
const MOST_ENTITIES: usize = 200;

/// A text, read for the bot.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Read {
    /// Without the bot's own mention and its command; links with their address.
    pub(super) text: String,
    /// It mentions the bot.
    pub(super) mentioned: bool,
    /// It begins with a command.
    pub(super) command: Option<Command>,
}

/// `/new@herald_bot`
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Command {
    /// In lower case, without the slash.
    pub(super) name: String,
    /// The bot that is named in it, without `@`.
    pub(super) bot: Option<String>,
}

/// What becomes of a piece of the text.
enum Instead {
    Nothing,
    Other(String),
}

/// Reads a text with its entities. One that does not lie within the text is left out.
pub(super) fn read(text: &str, entities: Option<&Value>, me: &Me) -> Read {
    let text = bounded(text, MOST);
    let mut read = Read::default();
    let mut done = 0;
    for (place, entity) in places(text, entities) {
        let shown = text.get(place.clone()).unwrap_or_default();
        let instead = match entity.get("type").and_then(Value::as_str) {
            _ if place.start < done => continue,
            Some("bot_command") if place.start == 0 => match command(shown) {
                None => continue,
                command => {
                    read.command = command;
                    Instead::Nothing
                }
            },
            Some("mention") if me.is_called(shown) => {
                read.mentioned = true;
                Instead::Nothing
            }
            Some("text_mention") => {
                let user = entity.get("user");
                if user.and_then(|user| user.get("id")).and_then(Value::as_i64) == Some(me.id) {
                    read.mentioned = true;
                    Instead::Nothing
                } else {
                    let name = user.and_then(name_of).unwrap_or_else(|| shown.to_owned());
                    Instead::Other(format!("@{name}"))
                }
            }
            Some("text_link") => match entity.get("url").and_then(Value::as_str) {
                Some(url) if url != shown => Instead::Other(format!("{shown} ({url})")),
                _ => continue,
            },
            _ => continue,
        };
        read.text.push_str(text.get(done..place.start).unwrap_or_default());
        done = place.end;
        match instead {
            Instead::Other(other) => read.text.push_str(&other),
            // "@herald_bot, do" and "do @herald_bot this" leave no trace of the name.
            Instead::Nothing => {
                let rest = text.get(done..).unwrap_or_default();
                let first = read.text.trim().is_empty();
                let empty = |c: char| c == ' ' || (first && (c == ',' || c == ':'));
                if first || read.text.ends_with(char::is_whitespace) {
                    done += rest.len() - rest.trim_start_matches(empty).len();
                }
            }
        }
    }
    read.text.push_str(text.get(done..).unwrap_or_default());
    let trimmed = bounded(read.text.trim(), MOST);
    if trimmed.len() != read.text.len() {
        read.text = trimmed.to_owned();
    }
    read
}

fn command(written: &str) -> Option<Command> {
    let name = written.strip_prefix('/')?;
    let (name, bot) = match name.split_once('@') {
        Some((name, bot)) => (name, Some(bot.to_owned())),
        None => (name, None),
    };
    let named = (1..=32).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    named.then(|| Command { name: name.to_ascii_lowercase(), bot })
}

/// The entities in the order of the text, each with its place in bytes.
fn places<'a>(text: &str, entities: Option<&'a Value>) -> Vec<(Range<usize>, &'a Value)> {
    let Some(Value::Array(entities)) = entities else {
        return Vec::new();
    };
    let place = |entity: &Value| {
        let unit = |name: &str| usize::try_from(entity.get(name)?.as_u64()?).ok();
        let (offset, length) = (unit("offset")?, unit("length")?);
        let start = byte_at(text, offset)?;
        let end = byte_at(text, offset.checked_add(length)?)?;
        (start < end).then_some(start..end)
    };
    let mut found: Vec<_> = entities
        .iter()
        .take(MOST_ENTITIES)
        .filter_map(|entity| Some((place(entity)?, entity)))
        .collect();
    found.sort_by_key(|(place, _)| place.start);
    found
}

/// Where in `text` the UTF-16 unit number `unit` begins; nothing in the middle of a character or behind the end.
fn byte_at(text: &str, unit: usize) -> Option<usize> {
    let mut units = 0;
    for (at, c) in text.char_indices() {
        if units >= unit {
            return (units == unit).then_some(at);
        }
        units += c.len_utf16();
    }
    (units == unit).then_some(text.len())
}

/// At most `most` characters of a text.
pub(super) fn bounded(text: &str, most: usize) -> &str {
    match text.char_indices().nth(most) {
        Some((end, _)) => text.get(..end).unwrap_or_default(),
        None => text,
    }
}
