//! Slash commands and pressed buttons: <https://docs.discord.com/developers/interactions/receiving-and-responding>.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::places::{channel_object, member_object, user_object};
use super::{BOT_ID, GUILD, Refused, UNKNOWN_MESSAGE, message};
use crate::clock::Timestamp;
use crate::sandbox::Vendor;
use crate::sandbox::channels::Channel;
use crate::sandbox::exchange::Desk;
use crate::sandbox::state::{Message, State};

/// Who answers later has nobody to answer.
const IN_TIME: Duration = Duration::from_secs(3);
/// How long more can be said.
const TOKEN_LIFE: Duration = Duration::from_secs(15 * 60);
/// The flag of what one person alone sees.
const EPHEMERAL: u64 = 1 << 6;

const UNKNOWN_INTERACTION: Refused =
    Refused::new(StatusCode::NOT_FOUND, 10062, "Unknown interaction");
const UNKNOWN_WEBHOOK: Refused = Refused::new(StatusCode::NOT_FOUND, 10015, "Unknown Webhook");
const INVALID_TOKEN: Refused =
    Refused::new(StatusCode::UNAUTHORIZED, 50027, "Invalid Webhook Token");
const ALREADY: Refused =
    Refused::new(StatusCode::BAD_REQUEST, 40060, "Interaction has already been acknowledged.");

/// What somebody did.
#[derive(Clone, Debug)]
pub(super) enum What {
    Command { text: String },
    Press { message: Box<Message>, key: String },
}

/// How it was answered.
#[derive(Clone, Debug)]
enum Answered {
    /// Something will be said later.
    Deferred { ephemeral: bool },
    /// Nothing has to be said.
    Quietly,
    /// By this message.
    With(String),
}

/// A command or a pressed button, from when somebody did it.
#[derive(Clone, Debug)]
pub(super) struct Interaction {
    id: String,
    pub(super) token: String,
    channel: Channel,
    author: String,
    what: What,
    at: Timestamp,
    answered: Option<Answered>,
}

impl Interaction {
    pub(super) fn new(id: &str, channel: &Channel, by: &str, what: What, at: Timestamp) -> Self {
        Self {
            id: id.to_owned(),
            token: format!("sandbox-interaction-{id}"),
            channel: channel.clone(),
            author: by.to_owned(),
            what,
            at,
            answered: None,
        }
    }

    /// As the gateway tells it.
    pub(super) fn object(&self, state: &State) -> Value {
        let mut channel = channel_object(&self.channel);
        if let Some(channel) = channel.as_object_mut() {
            channel.insert("permissions".to_owned(), json!("0"));
        }
        let (kind, data) = match &self.what {
            What::Command { text } => (2, command_data(text, &state.discord.commands)),
            What::Press { key, .. } => (3, json!({ "component_type": 2, "custom_id": key })),
        };
        let mut object = json!({
            "id": self.id, "application_id": BOT_ID, "type": kind, "token": self.token,
            "version": 1, "channel_id": self.channel.id, "channel": channel, "data": data,
            "locale": "en-GB", "entitlements": [], "app_permissions": "0",
            "context": if self.channel.direct.is_some() { 1 } else { 0 },
        });
        let Some(fields) = object.as_object_mut() else {
            return object;
        };
        let user = user_object(&self.author);
        if self.channel.direct.is_some() {
            fields.insert("user".to_owned(), user);
        } else {
            let mut member = member_object();
            if let Some(member) = member.as_object_mut() {
                member.insert("user".to_owned(), user);
            }
            fields.insert("member".to_owned(), member);
            fields.insert("guild_id".to_owned(), json!(GUILD));
        }
        if let What::Press { message, .. } = &self.what {
            let message = message::object(message, &self.channel.id, state);
            fields.insert("message".to_owned(), message);
        }
        object
    }

    /// The message that `@original` is.
    fn original(&self) -> Option<&str> {
        match (&self.answered, &self.what) {
            (Some(Answered::With(id)), _) => Some(id),
            (Some(Answered::Quietly), What::Press { message, .. }) => Some(&message.id),
            _ => None,
        }
    }
}

/// `/ask why` as a client sends it: the words behind the name are the first option's value.
fn command_data(line: &str, commands: &[Value]) -> Value {
    let line = line.trim().trim_start_matches('/');
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let command = commands.iter().find(|command| command.get("name") == Some(&json!(name)));
    let id = command.and_then(|command| command.get("id")).cloned().unwrap_or_default();
    let mut data = json!({ "id": id, "name": name, "type": 1 });
    let option = command.and_then(|command| command.pointer("/options/0/name"));
    if let (Some(option), false, Some(data)) =
        (option, rest.trim().is_empty(), data.as_object_mut())
    {
        let option = json!([{ "type": 3, "name": option, "value": rest.trim() }]);
        data.insert("options".to_owned(), option);
    }
    data
}

/// Answers an interaction, once and in time.
pub(super) fn answer(
    id: &str,
    token: &str,
    body: &Map<String, Value>,
    desk: &mut Desk<'_>,
) -> Result<(StatusCode, Value), Refused> {
    message::only(body, &["type", "data"])?;
    let known = desk.state.discord.interactions.get(id).filter(|i| i.token == token);
    let interaction = known.cloned().ok_or(UNKNOWN_INTERACTION)?;
    if desk.now.since(interaction.at) > IN_TIME {
        return Err(UNKNOWN_INTERACTION);
    }
    if interaction.answered.is_some() {
        return Err(ALREADY);
    }
    let nothing = Map::new();
    let data = body.get("data").and_then(Value::as_object).unwrap_or(&nothing);
    let pressed = match &interaction.what {
        What::Press { message, .. } => Some(message),
        What::Command { .. } => None,
    };
    let answered = match (body.get("type").and_then(Value::as_u64), pressed) {
        (Some(4), _) => Answered::With(say(&interaction, data, false, desk)?),
        (Some(5), _) => Answered::Deferred { ephemeral: is_ephemeral(data) },
        (Some(6), Some(_)) => Answered::Quietly,
        (Some(7), Some(message)) => {
            message::edit(&interaction.channel.id, &message.id, data, desk)?;
            Answered::Quietly
        }
        _ => {
            let why = "Value must be one of {4, 5, 6, 7}.";
            return Err(Refused::field("type", "BASE_TYPE_CHOICES", why));
        }
    };
    settle(id, answered, desk);
    Ok((StatusCode::NO_CONTENT, Value::Null))
}

fn settle(id: &str, answered: Answered, desk: &mut Desk<'_>) {
    if let Some(interaction) = desk.state.discord.interactions.get_mut(id) {
        interaction.answered = Some(answered);
    }
}

fn is_ephemeral(data: &Map<String, Value>) -> bool {
    data.get("flags").and_then(Value::as_u64).is_some_and(|flags| flags & EPHEMERAL != 0)
}

/// Posts something where the interaction happened; returns its ID.
fn say(
    interaction: &Interaction,
    data: &Map<String, Value>,
    ephemeral: bool,
    desk: &mut Desk<'_>,
) -> Result<String, Refused> {
    message::only(data, &["tts", "content", "embeds", "allowed_mentions", "flags", "components"])?;
    let ephemeral = ephemeral || is_ephemeral(data);
    let mut checked = data.clone();
    if let Some(flags) = data.get("flags").and_then(Value::as_u64) {
        // Elsewhere nobody may set this one.
        checked.insert("flags".to_owned(), json!(flags & !EPHEMERAL));
    }
    let content = message::content(&checked, false)?;
    let (message, _) = message::post(&interaction.channel.id, content, data, desk, |message, _| {
        message.only_for = ephemeral.then(|| interaction.author.clone());
    });
    Ok(message.id)
}

/// The interaction behind a webhook's token, while it lives.
fn by_token(app: &str, token: &str, desk: &Desk<'_>) -> Result<Interaction, Refused> {
    if app != BOT_ID {
        return Err(UNKNOWN_WEBHOOK);
    }
    let mut all = desk.state.discord.interactions.values();
    let found = all.find(|i| i.token == token).cloned().ok_or(UNKNOWN_WEBHOOK)?;
    if desk.now.since(found.at) > TOKEN_LIFE {
        return Err(INVALID_TOKEN);
    }
    // Before the first answer there is nothing to follow up.
    if found.answered.is_none() { Err(UNKNOWN_WEBHOOK) } else { Ok(found) }
}

/// One more message.
pub(super) fn follow_up(
    app: &str,
    token: &str,
    body: &Map<String, Value>,
    desk: &mut Desk<'_>,
) -> Result<(StatusCode, Value), Refused> {
    let interaction = by_token(app, token, desk)?;
    let id = say(&interaction, body, false, desk)?;
    if matches!(interaction.answered, Some(Answered::Deferred { .. })) {
        settle(&interaction.id, Answered::With(id.clone()), desk);
    }
    shown(&interaction, &id, desk)
}

fn shown(
    interaction: &Interaction,
    id: &str,
    desk: &Desk<'_>,
) -> Result<(StatusCode, Value), Refused> {
    let channel = &interaction.channel.id;
    let found = desk.state.find(Vendor::Discord, channel, id).ok_or(UNKNOWN_MESSAGE)?;
    Ok((StatusCode::OK, message::object(found, channel, desk.state)))
}

/// The answer itself, as it is.
pub(super) fn get_original(
    app: &str,
    token: &str,
    desk: &Desk<'_>,
) -> Result<(StatusCode, Value), Refused> {
    let interaction = by_token(app, token, desk)?;
    shown(&interaction, interaction.original().ok_or(UNKNOWN_MESSAGE)?, desk)
}

/// The answer itself, changed; said at last if it was deferred.
pub(super) fn edit_original(
    app: &str,
    token: &str,
    body: &Map<String, Value>,
    desk: &mut Desk<'_>,
) -> Result<(StatusCode, Value), Refused> {
    let interaction = by_token(app, token, desk)?;
    if let Some(Answered::Deferred { ephemeral }) = interaction.answered {
        let id = say(&interaction, body, ephemeral, desk)?;
        settle(&interaction.id, Answered::With(id.clone()), desk);
        return shown(&interaction, &id, desk);
    }
    let id = interaction.original().ok_or(UNKNOWN_MESSAGE)?;
    let object = message::edit(&interaction.channel.id, id, body, desk)?;
    Ok((StatusCode::OK, object))
}

/// The answer itself, taken away.
pub(super) fn delete_original(
    app: &str,
    token: &str,
    desk: &mut Desk<'_>,
) -> Result<(StatusCode, Value), Refused> {
    let interaction = by_token(app, token, desk)?;
    let id = interaction.original().ok_or(UNKNOWN_MESSAGE)?;
    super::delete(&interaction.channel.id, id, desk)?;
    Ok((StatusCode::NO_CONTENT, Value::Null))
}

/// Replaces the bot's commands: <https://docs.discord.com/developers/interactions/application-commands>.
pub(super) fn put_commands(
    app: &str,
    commands: &Value,
    desk: &mut Desk<'_>,
) -> Result<(StatusCode, Value), Refused> {
    if app != BOT_ID {
        return Err(Refused::new(
            StatusCode::FORBIDDEN,
            20012,
            "You are not authorized to perform this action on this application",
        ));
    }
    let wrong = |field: &str| Refused::field(field, "BASE_TYPE_BAD_LENGTH", "Not as it has to be.");
    let list = commands.as_array().filter(|list| list.len() <= 100).ok_or_else(|| wrong("0"))?;
    let mut kept = Vec::new();
    for command in list {
        let fields = command.as_object().ok_or_else(|| wrong("0"))?;
        message::only(
            fields,
            &["name", "description", "type", "options", "contexts", "integration_types"],
        )?;
        described(command)?;
        for option in command.get("options").and_then(Value::as_array).into_iter().flatten() {
            let fields = option.as_object().ok_or_else(|| wrong("options"))?;
            message::only(
                fields,
                &["name", "description", "type", "required", "max_length", "min_length"],
            )?;
            described(option)?;
        }
        let mut command = fields.clone();
        command.insert("id".to_owned(), json!(desk.state.discord.next_id()));
        command.insert("application_id".to_owned(), json!(app));
        kept.push(Value::Object(command));
    }
    desk.state.discord.commands.clone_from(&kept);
    Ok((StatusCode::OK, kept.into()))
}

/// A name of lower-case letters and a description.
fn described(what: &Value) -> Result<(), Refused> {
    let word = |name: &str| what.get(name).and_then(Value::as_str).unwrap_or_default();
    let name = word("name");
    let letters = |c: char| (c.is_alphanumeric() && !c.is_uppercase()) || "-_'".contains(c);
    if !(1..=32).contains(&name.chars().count()) || !name.chars().all(letters) {
        let why = "String value did not match validation regex.";
        return Err(Refused::field("name", "APPLICATION_COMMAND_INVALID_NAME", why));
    }
    if !(1..=100).contains(&word("description").chars().count()) {
        let why = "Must be between 1 and 100 in length.";
        return Err(Refused::field("description", "BASE_TYPE_BAD_LENGTH", why));
    }
    Ok(())
}
