//! Updates: what Telegram tells a bot. <https://core.telegram.org/bots/api#update>
//!
//! Read field by field, so that whatever Telegram adds or changes costs at most the one update that needs it.

use serde_json::Value;

use super::text::{self, bounded};
use crate::clock::Timestamp;
use crate::model::{Attachment, ChannelId, Event, Occurrence, Person, PlatformKind, Visit};

/// The most characters of a name.
const MOST_NAME: usize = 128;
/// The most bytes of a button's key: Telegram's limit.
const MOST_KEY: usize = 64;

/// The bot itself: <https://core.telegram.org/bots/api#getme>.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Me {
    pub(super) id: i64,
    /// Without `@`.
    pub(super) username: Option<String>,
    /// Privacy mode is off: it hears everything that is written in its groups.
    pub(super) hears_everything: bool,
}

impl Me {
    pub(super) fn read(me: &Value) -> Option<Self> {
        Some(Self {
            id: me.get("id")?.as_i64()?,
            username: string(me, "username").map(str::to_owned),
            hears_everything: is_true(me, "can_read_all_group_messages"),
        })
    }

    /// Whether `@name` is the bot.
    pub(super) fn is_called(&self, mention: &str) -> bool {
        mention.strip_prefix('@').is_some_and(|name| self.is_named(name))
    }

    fn is_named(&self, name: &str) -> bool {
        self.username.as_deref().is_some_and(|username| username.eq_ignore_ascii_case(name))
    }
}

/// What an update says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) event: Event,
    /// The press of a button that Telegram wants answered.
    pub(super) query: Option<String>,
}

/// Why nothing comes of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Skipped {
    /// It is nothing that the bot listens to.
    NotForUs,
    /// It is not what the documentation says: what is missing.
    Odd(&'static str),
}

use Skipped::{NotForUs, Odd};

/// The number of an update, by which it is confirmed.
pub(super) fn number(update: &Value) -> Option<i64> {
    update.get("update_id")?.as_i64().filter(|id| *id >= 0)
}

/// Reads an update that arrived at `at`.
pub(super) fn read(update: &Value, me: &Me, at: Timestamp) -> Result<Heard, Skipped> {
    let id = number(update).ok_or(Odd("update_id"))?.to_string();
    let (visit, what, query) = match (update.get("message"), update.get("callback_query")) {
        (Some(message), _) => {
            let (visit, what) = written(message, me)?;
            (visit, what, None)
        }
        (None, Some(query)) => pressed(query)?,
        (None, None) => return Err(NotForUs),
    };
    // A press says no time: its message's is older.
    let date = update.get("message").and_then(|message| message.get("date")?.as_i64());
    let happened_at = date.map(|seconds| Timestamp(seconds.saturating_mul(1000)));
    Ok(Heard {
        event: Event { id, visit, what, respond: None, at, traceparent: None, happened_at },
        query,
    })
}

/// <https://core.telegram.org/bots/api#message>
fn written(message: &Value, me: &Me) -> Result<(Visit, Occurrence), Skipped> {
    // Channels and anonymous administrators: nobody that Telegram vouches for.
    if message.get("sender_chat").is_some() {
        return Err(NotForUs);
    }
    let from = message.get("from").ok_or(Odd("from"))?;
    let visit = visit(message, person(from)?)?;
    let message_id = integer(message, "message_id").ok_or(Odd("message_id"))?.to_string();
    let (text, entities) = match string(message, "text") {
        Some(text) => (text, message.get("entities")),
        None => (string(message, "caption").unwrap_or_default(), message.get("caption_entities")),
    };
    let read = text::read(text, entities, me);
    let files = files(message);
    if text.trim().is_empty() && files.is_empty() {
        // Somebody joined, pinned, moved: Telegram tells that as messages too.
        return Err(NotForUs);
    }
    let addressed = visit.direct || read.mentioned || answers_us(message, me);
    let Some(command) = read.command else {
        return Ok((visit, Occurrence::Message { message_id, text: read.text, addressed, files }));
    };
    // A bare command in a group reaches every bot there.
    let ours = command.bot.as_deref().map_or(addressed, |bot| me.is_named(bot));
    if !ours {
        return Err(NotForUs);
    }
    let what = if files.is_empty() {
        Occurrence::Command { name: command.name, text: read.text, message_id: Some(message_id) }
    } else {
        // A command has no files, and the files matter more than its form.
        let text = format!("/{} {}", command.name, read.text).trim_end().to_owned();
        Occurrence::Message { message_id, text, addressed: true, files }
    };
    Ok((visit, what))
}

/// <https://core.telegram.org/bots/api#callbackquery>
fn pressed(query: &Value) -> Result<(Visit, Occurrence, Option<String>), Skipped> {
    let person = person(query.get("from").ok_or(Odd("from"))?)?;
    // Buttons of inline messages and games are not ours.
    let message = query.get("message").ok_or(NotForUs)?;
    let key = string(query, "data").ok_or(NotForUs)?;
    if key.is_empty() || key.len() > MOST_KEY {
        return Err(Odd("data"));
    }
    let visit = visit(message, person)?;
    let message_id = integer(message, "message_id").map(|id| id.to_string());
    let what = Occurrence::Press { key: key.to_owned(), message_id };
    Ok((visit, what, string(query, "id").map(str::to_owned)))
}

/// Where a message stands, and who stood there.
fn visit(message: &Value, person: Person) -> Result<Visit, Skipped> {
    let chat = message.get("chat").ok_or(Odd("chat"))?;
    let id = integer(chat, "id").ok_or(Odd("chat.id"))?.to_string();
    let channel = ChannelId::new(PlatformKind::Telegram, &id).map_err(|_| Odd("chat.id"))?;
    let topic =
        integer(message, "message_thread_id").filter(|_| is_true(message, "is_topic_message"));
    Ok(Visit {
        channel,
        thread: topic.map(|topic| topic.to_string()),
        direct: string(chat, "type") == Some("private"),
        person,
    })
}

/// <https://core.telegram.org/bots/api#user>; bots are not listened to.
fn person(user: &Value) -> Result<Person, Skipped> {
    if is_true(user, "is_bot") {
        return Err(NotForUs);
    }
    let id = integer(user, "id").filter(|id| *id > 0).ok_or(Odd("from.id"))?.to_string();
    Ok(Person { id, name: name_of(user), outsider: false })
}

/// What somebody calls themselves, on one line.
pub(super) fn name_of(user: &Value) -> Option<String> {
    let names = [string(user, "first_name"), string(user, "last_name")];
    let name: Vec<&str> = names.into_iter().flatten().collect();
    let name: String = name.join(" ").chars().filter(|c| !c.is_control()).take(MOST_NAME).collect();
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// Whether it is a reply to one of our messages. In a forum every message is one to the topic's first, too.
fn answers_us(message: &Value, me: &Me) -> bool {
    message.get("reply_to_message").is_some_and(|answered| {
        let author = answered.get("from").and_then(|from| integer(from, "id"));
        author == Some(me.id) && answered.get("forum_topic_created").is_none()
    })
}

/// What is attached: a message of Telegram's has one file.
fn files(message: &Value) -> Vec<Attachment> {
    // An animation is told as a document as well, a photo in several sizes.
    const KINDS: [(&str, &str, &str); 6] = [
        ("animation", "animation.mp4", "video/mp4"),
        ("document", "document", "application/octet-stream"),
        ("audio", "audio.mp3", "audio/mpeg"),
        ("video", "video.mp4", "video/mp4"),
        ("video_note", "video.mp4", "video/mp4"),
        ("voice", "voice.ogg", "audio/ogg"),
    ];
    let photo = message.get("photo").and_then(Value::as_array).and_then(|sizes| {
        let largest = sizes.iter().max_by_key(|size| {
            let area = |side: &str| integer(size, side).unwrap_or(0).max(0);
            area("width").saturating_mul(area("height"))
        });
        file(largest?, "photo.jpg", "image/jpeg")
    });
    let other = KINDS.iter().find_map(|(kind, name, mime)| file(message.get(*kind)?, name, mime));
    photo.or(other).into_iter().collect()
}

fn file(file: &Value, name: &str, mime: &str) -> Option<Attachment> {
    let bounded = |text: &str, most| -> String {
        bounded(text, most).chars().filter(|c| !c.is_control()).collect()
    };
    Some(Attachment {
        name: bounded(string(file, "file_name").unwrap_or(name), 255),
        mime: bounded(string(file, "mime_type").unwrap_or(mime), 255),
        size: file.get("file_size").and_then(Value::as_u64),
        source: string(file, "file_id").filter(|id| id.len() <= 1024)?.to_owned(),
    })
}

fn string<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name)?.as_str()
}

fn integer(value: &Value, name: &str) -> Option<i64> {
    value.get(name)?.as_i64()
}

fn is_true(value: &Value, name: &str) -> bool {
    value.get(name).and_then(Value::as_bool) == Some(true)
}

#[cfg(test)]
#[path = "updates_tests.rs"]
mod tests;
