//! What Discord says, in our words: <https://docs.discord.com/developers/events/gateway-events>.
//!
//! Read leniently, field by field: what has another shape than documented is left out, and takes nothing else with it.

use std::collections::HashMap;

use serde_json::Value;

use super::channels::Channel;
use super::is_id;
use crate::model::{Attachment, Person};
use crate::platform::known::Known;

/// What of a stranger's text is read, in characters.
const MOST_TEXT: usize = 8_000;
/// How many attachments are read.
const MOST_FILES: usize = 10;
/// What of a stranger's name for anything is read, in characters.
const MOST_NAME: usize = 100;
/// What is longer than this between `<` and `>` is no mention, in bytes.
const MOST_MENTION: usize = 2_048;

/// An ordinary message, and a reply.
const ORDINARY: [u64; 2] = [0, 19];
const COMMAND: u64 = 2;
const COMPONENT: u64 = 3;
const TEXT_COMMAND: u64 = 1;

/// Something that somebody said or did. Whether its channel is a thread is not known yet.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Heard {
    /// The snowflake of the message or of the interaction.
    pub(super) id: String,
    pub(super) channel: String,
    pub(super) direct: bool,
    pub(super) person: Person,
    pub(super) what: What,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum What {
    /// `meant`: the bot is mentioned, answered, or spoken to alone.
    Message {
        text: String,
        meant: bool,
        files: Vec<Attachment>,
    },
    Command {
        name: String,
        text: String,
        token: Token,
    },
    Press {
        key: String,
        message_id: Option<String>,
        token: Token,
    },
}

/// An interaction's own token: whoever has it may answer in the bot's name.
#[derive(Clone, PartialEq)]
pub(super) struct Token(String);

impl Token {
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

/// A role, as far as people mention it.
#[derive(Clone, Debug)]
struct Role {
    name: String,
    /// It is the bot's own, which Discord offers beside the bot where somebody types its name.
    own: bool,
}

/// What is known about the servers: learned as Discord tells it.
#[derive(Clone, Debug, Default)]
pub(super) struct Servers {
    pub(super) channels: Known<Channel>,
    roles: Known<Role>,
}

pub(super) fn word<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name)?.as_str()
}

fn id(value: &Value, name: &str) -> Option<String> {
    word(value, name).filter(|id| is_id(id)).map(str::to_owned)
}

pub(super) fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value.get(name).and_then(Value::as_array).into_iter().flatten()
}

/// A stranger's name for something: bounded, on one line.
fn name(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MOST_NAME).collect()
}

impl Servers {
    /// Learns what an event tells about channels, threads and roles. `me` is the bot's user ID.
    pub(super) fn learn(&self, event: &str, data: &Value, me: &str) {
        match event {
            "GUILD_CREATE" => {
                let guild = id(data, "id");
                for channel in list(data, "channels").chain(list(data, "threads")) {
                    self.channel(channel, guild.as_deref());
                }
                for role in list(data, "roles") {
                    self.role(role, me);
                }
            }
            "GUILD_ROLE_CREATE" | "GUILD_ROLE_UPDATE" => {
                self.role(data.get("role").unwrap_or(&Value::Null), me);
            }
            "THREAD_LIST_SYNC" => {
                let guild = id(data, "guild_id");
                for thread in list(data, "threads") {
                    self.channel(thread, guild.as_deref());
                }
            }
            "CHANNEL_CREATE" | "CHANNEL_UPDATE" | "THREAD_CREATE" | "THREAD_UPDATE" => {
                self.channel(data, None);
            }
            "INTERACTION_CREATE" => {
                let guild = id(data, "guild_id");
                self.channel(data.get("channel").unwrap_or(&Value::Null), guild.as_deref());
            }
            _ => {}
        }
    }

    fn channel(&self, channel: &Value, guild: Option<&str>) {
        let (Some(id), Some(kind)) = (id(channel, "id"), channel.get("type")) else {
            return;
        };
        let Some(kind) = kind.as_u64().and_then(|kind| u8::try_from(kind).ok()) else {
            return;
        };
        let guild = self::id(channel, "guild_id").or_else(|| guild.map(str::to_owned));
        let parent = self::id(channel, "parent_id");
        let known = Channel::new(id.clone(), kind, guild, parent, word(channel, "name").map(name));
        // A thread without its parent says less than asking for it would.
        if !known.is_thread() || known.parent_id.is_some() {
            self.channels.keep(&id, known);
        }
    }

    fn role(&self, role: &Value, me: &str) {
        if let (Some(id), Some(text)) = (id(role, "id"), word(role, "name")) {
            let own = role.pointer("/tags/bot_id").and_then(Value::as_str) == Some(me);
            self.roles.keep(&id, Role { name: name(text), own });
        }
    }
}

/// What somebody said or did, if this event is about that, and not about another bot or ourselves.
pub(super) fn read(event: &str, data: &Value, me: &str, servers: &Servers) -> Option<Heard> {
    match event {
        "MESSAGE_CREATE" => message(data, me, servers),
        "INTERACTION_CREATE" => interaction(data),
        _ => None,
    }
}

fn message(data: &Value, me: &str, servers: &Servers) -> Option<Heard> {
    let kind = data.get("type").map_or(Some(0), Value::as_u64)?;
    let author = data.get("author")?;
    if !ORDINARY.contains(&kind) || data.get("webhook_id").is_some_and(|id| !id.is_null()) {
        return None;
    }
    let person = person(author, data.get("member"))?;
    if person.id == me {
        return None;
    }
    let direct = data.get("guild_id").is_none_or(Value::is_null);
    let content = word(data, "content").unwrap_or_default();
    let (text, named) = plain(content, data, me, servers);
    let mentioned = list(data, "mentions").any(|user| word(user, "id") == Some(me));
    let answers = data.pointer("/referenced_message/author/id").and_then(Value::as_str) == Some(me);
    let meant = direct || mentioned || answers || named;
    let files: Vec<_> = list(data, "attachments").filter_map(attachment).take(MOST_FILES).collect();
    // A sticker, a poll, or something that the bot may not read.
    if !meant && text.is_empty() && files.is_empty() {
        return None;
    }
    Some(Heard {
        id: id(data, "id")?,
        channel: id(data, "channel_id")?,
        direct,
        person,
        what: What::Message { text, meant, files },
    })
}

fn interaction(data: &Value) -> Option<Heard> {
    let inner = data.get("data")?;
    let token = Token(word(data, "token").filter(|token| !token.is_empty())?.to_owned());
    let what = match data.get("type").and_then(Value::as_u64)? {
        COMMAND
            if inner.get("type").map_or(Some(TEXT_COMMAND), Value::as_u64)
                == Some(TEXT_COMMAND) =>
        {
            let text = list(inner, "options").find_map(|option| word(option, "value"));
            What::Command {
                name: name(word(inner, "name")?).to_lowercase(),
                text: text.unwrap_or_default().trim().chars().take(MOST_TEXT).collect(),
                token,
            }
        }
        COMPONENT => What::Press {
            key: name(word(inner, "custom_id")?),
            message_id: data.get("message").and_then(|message| id(message, "id")),
            token,
        },
        _ => return None,
    };
    let member = data.get("member");
    let user = member.and_then(|member| member.get("user")).or_else(|| data.get("user"))?;
    Some(Heard {
        id: id(data, "id")?,
        channel: id(data, "channel_id")?,
        direct: data.get("guild_id").is_none_or(Value::is_null),
        person: person(user, member)?,
        what,
    })
}

/// A person; `None` for bots and for Discord itself.
fn person(user: &Value, member: Option<&Value>) -> Option<Person> {
    let is = |flag: &str| user.get(flag).and_then(Value::as_bool).unwrap_or_default();
    if is("bot") || is("system") {
        return None;
    }
    Some(Person { id: id(user, "id")?, name: called(user, member), outsider: false })
}

/// What people see somebody called: a nickname, a display name, the name of the account.
fn called(user: &Value, member: Option<&Value>) -> Option<String> {
    let nick = member.and_then(|member| word(member, "nick"));
    let called = nick.or_else(|| word(user, "global_name")).or_else(|| word(user, "username"));
    called.map(name).filter(|name| !name.is_empty())
}

fn attachment(file: &Value) -> Option<Attachment> {
    let mime = word(file, "content_type").unwrap_or("application/octet-stream");
    Some(Attachment {
        name: name(word(file, "filename").unwrap_or("file")),
        mime: name(mime),
        size: file.get("size").and_then(Value::as_u64),
        source: word(file, "url").filter(|url| url.len() <= MOST_MENTION)?.to_owned(),
    })
}

/// A message's text as people see it, and whether it names the bot, which is taken out of it.
///
/// Markup: <https://docs.discord.com/developers/reference#message-formatting>.
fn plain(content: &str, message: &Value, me: &str, servers: &Servers) -> (String, bool) {
    let people: HashMap<&str, String> = list(message, "mentions")
        .filter_map(|user| Some((word(user, "id")?, called(user, user.get("member"))?)))
        .collect();
    let (mut text, mut named, mut rest) = (String::new(), false, content);
    while let Some((before, after)) = rest.split_once('<') {
        text.push_str(before);
        let inside = after
            .split_once('>')
            .filter(|(inside, _)| inside.len() <= MOST_MENTION && !inside.contains(['<', '\n']));
        let said = inside.and_then(|(inside, _)| match mention(inside)? {
            Mention::User(id) if id == me => {
                named = true;
                Some(String::new())
            }
            Mention::User(id) => {
                Some(format!("@{}", people.get(id).map_or("someone", String::as_str)))
            }
            Mention::Role(id) => match servers.roles.get(id) {
                Some(role) if role.own => {
                    named = true;
                    Some(String::new())
                }
                Some(role) => Some(format!("@{}", role.name)),
                None => Some("@role".to_owned()),
            },
            Mention::Channel(id) => {
                let name = servers.channels.get(id).and_then(|channel| channel.name);
                Some(format!("#{}", name.as_deref().unwrap_or("channel")))
            }
            Mention::Emoji(name) => Some(format!(":{name}:")),
            Mention::Command(name) => Some(format!("/{name}")),
            Mention::Address(url) => Some(url.to_owned()),
        });
        match (said, inside) {
            (Some(said), Some((_, behind))) => {
                text.push_str(&said);
                rest = behind;
            }
            _ => {
                text.push('<');
                rest = after;
            }
        }
    }
    text.push_str(rest);
    (text.trim().chars().take(MOST_TEXT).collect(), named)
}

enum Mention<'a> {
    User(&'a str),
    Role(&'a str),
    Channel(&'a str),
    Emoji(&'a str),
    Command(&'a str),
    Address(&'a str),
}

/// What stands between `<` and `>`.
fn mention(inside: &str) -> Option<Mention<'_>> {
    let id = |prefix: &str| inside.strip_prefix(prefix).filter(|id| is_id(id));
    let named = |prefix: &str| {
        let (name, id) = inside.strip_prefix(prefix)?.rsplit_once(':')?;
        (is_id(id) && !name.is_empty()).then_some(name)
    };
    id("@&")
        .map(Mention::Role)
        .or_else(|| id("@!").or_else(|| id("@")).map(Mention::User))
        .or_else(|| id("#").map(Mention::Channel))
        .or_else(|| named("a:").or_else(|| named(":")).map(Mention::Emoji))
        .or_else(|| named("/").map(Mention::Command))
        .or_else(|| {
            let web = inside.starts_with("https://") || inside.starts_with("http://");
            (web && !inside.contains(' ')).then_some(Mention::Address(inside))
        })
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
