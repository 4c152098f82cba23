//! What Slack tells, understood: envelopes and requests become events.
//!
//! Read leniently: what is unknown, or not for the bot, is no event. Shapes:
//! <https://docs.slack.dev/apis/events-api/>, <https://docs.slack.dev/interactivity/implementing-slash-commands>,
//! <https://docs.slack.dev/reference/interaction-payloads/block_actions-payload>.

use serde_json::Value;

use super::is_ts;
use super::origin::Origins;
use super::speech::{self, Spoken};
use crate::clock::Timestamp;
use crate::model::{
    Attachment, ChannelId, Event, Occurrence, Person, PlatformKind, ResponseUrl, Visit,
};

/// The most files of one message that are looked at.
const MOST_FILES: usize = 10;
/// The most characters of a name somebody gave to something.
const MOST_NAME: usize = 200;
/// The most characters of an ID.
const MOST_ID: usize = 255;
/// The longest key of a button, in bytes; Herald's are shorter.
const MOST_KEY: usize = 64;

/// Who the bot is, and where it belongs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Home {
    /// The bot's user ID.
    pub(super) user: String,
    /// Its workspace.
    pub(super) team: Option<String>,
    /// Its organisation, on Enterprise Grid.
    pub(super) enterprise: Option<String>,
    /// It was installed for all workspaces of the organisation.
    pub(super) org_wide: bool,
}

impl Home {
    /// Whether somebody of `team` is from elsewhere; `shared`: the channel is shared with other organisations.
    /// Who cannot be placed in a shared channel is.
    fn is_outside(&self, team: Option<&str>, shared: bool) -> bool {
        let ours = [&self.team, &self.enterprise];
        let known = ours.iter().any(|id| id.is_some());
        let at_home = team.is_some_and(|team| ours.iter().any(|id| id.as_deref() == Some(team)));
        match team {
            _ if at_home => false,
            // An organisation's workspaces are many; their IDs do not tell whose they are.
            Some(_) if known && !self.org_wide => true,
            _ => shared,
        }
    }
}

/// What arrived, before it is known what it means.
#[derive(Clone, Copy, Debug)]
pub(super) enum Told<'a> {
    /// The Events API's callback, with the event inside.
    Callback(&'a Value),
    /// A slash command's fields.
    Command(&'a Value),
    /// Something was pressed, or submitted.
    Interaction(&'a Value),
}

/// What everything that is told is read with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    pub(super) home: &'a Home,
    pub(super) origins: &'a Origins,
    /// The event's ID where the payload names none.
    pub(super) fallback: &'a str,
    pub(super) now: Timestamp,
}

impl Reader<'_> {
    /// The event, if it is one that concerns the bot.
    pub(super) fn read(&self, told: Told<'_>) -> Option<Event> {
        match told {
            Told::Callback(callback) => self.message(callback),
            Told::Command(fields) => self.command(fields),
            Told::Interaction(payload) => self.press(payload),
        }
    }

    /// `message` and `app_mention`.
    fn message(&self, callback: &Value) -> Option<Event> {
        if text(callback, "type") != Some("event_callback") {
            return None;
        }
        let event = callback.get("event")?;
        let mentioned = match text(event, "type")? {
            "app_mention" => true,
            "message" => false,
            _ => return None,
        };
        let said = match text(event, "subtype") {
            None => true,
            Some(subtype) => matches!(subtype, "file_share" | "thread_broadcast"),
        };
        let by_bot = ["bot_id", "bot_profile"].iter().any(|name| is_there(event, name));
        // Edited and hidden ones were told before, or are not for people's eyes.
        if !said || by_bot || is_there(event, "edited") || is_true(event, "hidden") {
            return None;
        }
        let user = id(event, "user").filter(|user| *user != self.home.user)?;
        if user == "USLACKBOT" {
            return None;
        }
        let channel = channel(text(event, "channel")?)?;
        let ts = text(event, "ts").filter(|ts| is_ts(ts))?;
        let direct = text(event, "channel_type") == Some("im") || channel.id().starts_with('D');
        let team = ["user_team", "source_team", "team"].iter().find_map(|name| text(event, name));
        let Spoken { text: said, mentioned: named } =
            speech::plain(text(event, "text").unwrap_or_default(), &self.home.user);
        let files = event.get("files").and_then(Value::as_array);
        Some(Event {
            id: format!("{}:{ts}", channel.id()),
            visit: Visit {
                channel,
                thread: thread(text(event, "thread_ts"), ts),
                direct,
                person: Person {
                    id: user.to_owned(),
                    name: None,
                    outsider: self
                        .home
                        .is_outside(team, is_true(callback, "is_ext_shared_channel")),
                },
            },
            what: Occurrence::Message {
                message_id: ts.to_owned(),
                text: said,
                addressed: mentioned || named || direct,
                files: files.into_iter().flatten().filter_map(file).take(MOST_FILES).collect(),
            },
            respond: None,
            at: self.now,
            traceparent: None,
            happened_at: moment(ts),
        })
    }

    fn command(&self, fields: &Value) -> Option<Event> {
        let name = text(fields, "command")?.trim_start_matches('/');
        let user = id(fields, "user_id").filter(|user| *user != self.home.user)?;
        let channel = channel(text(fields, "channel_id")?)?;
        Some(Event {
            id: id(fields, "trigger_id").unwrap_or(self.fallback).to_owned(),
            visit: Visit {
                direct: channel.id().starts_with('D'),
                channel,
                thread: None,
                person: Person {
                    id: user.to_owned(),
                    name: name_of(text(fields, "user_name")),
                    // A command is there for the members of the workspace that has the app.
                    outsider: self.home.is_outside(text(fields, "team_id"), false),
                },
            },
            what: Occurrence::Command {
                name: name.chars().take(MOST_NAME).collect::<String>().to_lowercase(),
                text: speech::plain(text(fields, "text").unwrap_or_default(), &self.home.user).text,
                message_id: None,
            },
            respond: self.respond(fields),
            at: self.now,
            traceparent: None,
            happened_at: None,
        })
    }

    fn press(&self, payload: &Value) -> Option<Event> {
        if text(payload, "type") != Some("block_actions") {
            return None;
        }
        let action = payload.get("actions")?.get(0)?;
        let selected = || action.get("selected_option").and_then(|option| text(option, "value"));
        let key = text(action, "value").or_else(selected)?;
        if key.is_empty() || key.len() > MOST_KEY {
            return None;
        }
        let of = |object: &str, field: &str| {
            payload.get(object).and_then(|object| text(object, field)).map(str::to_owned)
        };
        let (who, container) = (payload.get("user")?, payload.get("container"));
        let user = id(who, "id").filter(|user| *user != self.home.user)?;
        let channel = channel(&of("channel", "id").or_else(|| of("container", "channel_id"))?)?;
        let message = of("container", "message_ts").or_else(|| of("message", "ts"));
        let message = message.filter(|ts| is_ts(ts));
        let parent = of("container", "thread_ts").or_else(|| of("message", "thread_ts"));
        let team = text(who, "team_id");
        // Where Slack names no workspace for the interaction, it is the app's own.
        let elsewhere = of("team", "id").is_some_and(|team| Some(team) != self.home.team);
        let ephemeral = container.is_some_and(|container| is_true(container, "is_ephemeral"));
        Some(Event {
            id: id(payload, "trigger_id").unwrap_or(self.fallback).to_owned(),
            visit: Visit {
                direct: channel.id().starts_with('D'),
                channel,
                thread: thread(parent.as_deref(), message.as_deref().unwrap_or_default()),
                person: Person {
                    id: user.to_owned(),
                    name: name_of(text(who, "username").or_else(|| text(who, "name"))),
                    outsider: self.home.is_outside(team, elsewhere && !self.home.org_wide),
                },
            },
            what: Occurrence::Press {
                key: key.to_owned(),
                // What only one person sees cannot be edited by its ID.
                message_id: message.filter(|_| !ephemeral),
            },
            respond: self.respond(payload),
            at: self.now,
            traceparent: None,
            happened_at: text(action, "action_ts").and_then(moment),
        })
    }

    fn respond(&self, payload: &Value) -> Option<ResponseUrl> {
        let url = text(payload, "response_url")?;
        self.origins.answers(url).map(|_| ResponseUrl::new(url))
    }
}

/// A file that can be fetched. <https://docs.slack.dev/reference/objects/file-object>
fn file(file: &Value) -> Option<Attachment> {
    if matches!(text(file, "mode"), Some("tombstone" | "hidden_by_limit" | "external")) {
        return None;
    }
    let source = text(file, "url_private").filter(|url| url.len() <= 2000)?;
    let short = |name: &str| text(file, name).map(clean).filter(|value| !value.is_empty());
    Some(Attachment {
        name: short("name").or_else(|| short("title")).unwrap_or_else(|| "file".to_owned()),
        mime: short("mimetype").unwrap_or_else(|| "application/octet-stream".to_owned()),
        size: file.get("size").and_then(Value::as_u64),
        source: source.to_owned(),
    })
}

fn channel(id: &str) -> Option<ChannelId> {
    ChannelId::new(PlatformKind::Slack, id).ok()
}

/// A `ts` as a time.
fn moment(ts: &str) -> Option<Timestamp> {
    let (seconds, micros) = ts.split_once('.')?;
    let (seconds, micros): (i64, i64) = (seconds.parse().ok()?, micros.parse().ok()?);
    Some(Timestamp(seconds.checked_mul(1000)?.checked_add(micros / 1000)?))
}

/// The parent of a message in a thread; a parent itself stands in none.
fn thread(parent: Option<&str>, ts: &str) -> Option<String> {
    parent.filter(|parent| is_ts(parent) && *parent != ts).map(str::to_owned)
}

fn text<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object.get(name).and_then(Value::as_str)
}

fn id<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    text(object, name).filter(|id| !id.is_empty() && id.len() <= MOST_ID)
}

fn is_there(object: &Value, name: &str) -> bool {
    object.get(name).is_some_and(|value| !value.is_null())
}

fn is_true(object: &Value, name: &str) -> bool {
    object.get(name).and_then(Value::as_bool).unwrap_or(false)
}

fn name_of(name: Option<&str>) -> Option<String> {
    name.map(clean).filter(|name| !name.is_empty())
}

/// A stranger's word for something: bounded, on one line.
fn clean(name: &str) -> String {
    let name: String = name.chars().filter(|c| !c.is_control()).take(MOST_NAME).collect();
    name.trim().to_owned()
}

#[cfg(test)]
#[path = "inbound_tests.rs"]
mod tests;
