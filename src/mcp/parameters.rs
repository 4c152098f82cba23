//! What the tools take: one struct per tool. The schema that a client reads is made from it, and arguments are
//! checked against that same schema, so the two cannot disagree.

use rmcp::model::JsonObject;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::model::{Placement, PlatformKind, Submission};
use crate::notifier::MOST_TEXT_CHARACTERS;
use crate::policy::Allowed;

/// Arguments of `send_message_to_slack`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SendToSlack {
    #[schemars(length(min = 1, max = 128))]
    channel_id: String,
    /// The message, in Markdown: headings, bold, lists, tables, quotes, links and fenced code all show. A long one is
    /// split. @channel, @here and @everyone notify nobody unless the operator lets them.
    #[schemars(length(min = 1, max = MOST_TEXT_CHARACTERS))]
    text: String,
    /// To reply in a thread: the `ts` of its first message, such as 1712345678.123456 (what `message_ids` holds).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 32))]
    thread_ts: Option<String>,
    /// A word of your own, such as incident-42, instead of `thread_ts`: the first message with it opens a thread in
    /// that channel, later ones land in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 128))]
    thread_key: Option<String>,
    /// Show a reply in the channel too. Only in a thread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    reply_broadcast: Option<bool>,
    /// Your own name for this message: calling again with the same key and content never sends it twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 128))]
    idempotency_key: Option<String>,
}

/// Arguments of `send_message_to_discord`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SendToDiscord {
    #[schemars(length(min = 1, max = 128))]
    channel_id: String,
    /// The message, in Markdown: headings, bold, lists, quotes, links and fenced code show; a table becomes a code block.
    /// A long one is split. @everyone and @here notify nobody unless the operator lets them.
    #[schemars(length(min = 1, max = MOST_TEXT_CHARACTERS))]
    text: String,
    /// The ID of the message to reply to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 32))]
    reply_to: Option<String>,
    /// A word of your own, such as incident-42: the first message with it opens a thread in that channel, later ones
    /// land in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 128))]
    thread_key: Option<String>,
    /// Your own name for this message: calling again with the same key and content never sends it twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 128))]
    idempotency_key: Option<String>,
}

/// Arguments of `send_message_to_telegram`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SendToTelegram {
    #[schemars(length(min = 1, max = 128))]
    chat_id: String,
    /// The message, in Markdown: bold, lists, quotes, links and fenced code show; a heading becomes bold, a table a code
    /// block. A long one is split.
    #[schemars(length(min = 1, max = MOST_TEXT_CHARACTERS))]
    text: String,
    /// The forum topic to post in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 32))]
    message_thread_id: Option<String>,
    /// The ID of the message to reply to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 32))]
    reply_to: Option<String>,
    /// A word of your own, such as incident-42: later messages with it reply to the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 128))]
    thread_key: Option<String>,
    /// Deliver without a sound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    silent: Option<bool>,
    /// Your own name for this message: calling again with the same key and content never sends it twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 128))]
    idempotency_key: Option<String>,
}

/// Arguments of `update_message`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UpdateMessage {
    /// The `delivery_id` that a send tool returned.
    #[schemars(length(min = 1, max = 64))]
    pub(super) delivery_id: String,
    /// What the message says from now on, in Markdown.
    #[schemars(length(min = 1, max = MOST_TEXT_CHARACTERS))]
    pub(super) text: String,
}

/// Arguments of `list_channels`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListChannels {
    /// Only this platform's channels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "PlatformKind")]
    pub(super) platform: Option<PlatformKind>,
}

/// Arguments of `get_delivery`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GetDelivery {
    /// The `delivery_id` that a send tool returned.
    #[schemars(length(min = 1, max = 64))]
    pub(super) delivery_id: String,
}

impl SendToSlack {
    pub(super) fn into_submission(self) -> Result<Submission, String> {
        let thread = self.thread_ts.map(|ts| six_decimals(&ts));
        one_thread("thread_ts", thread.as_ref(), self.thread_key.as_ref())?;
        let broadcast = self.reply_broadcast.unwrap_or_default();
        if broadcast && thread.is_none() && self.thread_key.is_none() {
            return Err("`reply_broadcast` shows a reply in the channel too: give `thread_ts` or `thread_key`, or leave \
                        it out"
                .to_owned());
        }
        Ok(Submission {
            platform: PlatformKind::Slack,
            channel: self.channel_id,
            text: self.text,
            placement: Placement { thread, broadcast, ..Placement::default() },
            thread_key: printable("thread_key", self.thread_key)?,
            idempotency_key: printable("idempotency_key", self.idempotency_key)?,
        })
    }
}

impl SendToDiscord {
    pub(super) fn into_submission(self) -> Result<Submission, String> {
        Ok(Submission {
            platform: PlatformKind::Discord,
            channel: self.channel_id,
            text: self.text,
            placement: Placement { reply_to: self.reply_to, ..Placement::default() },
            thread_key: printable("thread_key", self.thread_key)?,
            idempotency_key: printable("idempotency_key", self.idempotency_key)?,
        })
    }
}

impl SendToTelegram {
    pub(super) fn into_submission(self) -> Result<Submission, String> {
        Ok(Submission {
            platform: PlatformKind::Telegram,
            channel: self.chat_id,
            text: self.text,
            placement: Placement {
                thread: self.message_thread_id,
                reply_to: self.reply_to,
                silent: self.silent.unwrap_or_default(),
                ..Placement::default()
            },
            thread_key: printable("thread_key", self.thread_key)?,
            idempotency_key: printable("idempotency_key", self.idempotency_key)?,
        })
    }
}

/// The JSON schema of `T`, without `$ref`, for one of the two directions.
pub(super) fn schema<T: JsonSchema>(output: bool) -> JsonObject {
    let mut settings = SchemaSettings::draft2020_12();
    settings.inline_subschemas = true;
    settings.meta_schema = None;
    if output {
        settings = settings.for_serialize();
    }
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    simplify(&mut schema);
    let Value::Object(mut schema) = schema else {
        return JsonObject::new();
    };
    schema.remove("title");
    schema.remove("description");
    // A tool without required arguments still says so: some clients take a missing key for a missing schema.
    schema.entry("properties").or_insert_with(|| Value::Object(JsonObject::new()));
    schema
}

/// Turns `oneOf` of constants, which is how schemars keeps the words about each choice, into a plain `enum`, which
/// every model API understands; and puts a description on one line.
fn simplify(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(simplify),
        Value::Object(object) => {
            let constants: Option<Vec<_>> = object
                .get("oneOf")
                .and_then(Value::as_array)
                .and_then(|options| options.iter().map(|o| o.get("const").cloned()).collect());
            if let Some(constants) = constants {
                object.remove("oneOf");
                object.insert("type".into(), "string".into());
                object.insert("enum".into(), constants.into());
            }
            if let Some(Value::String(description)) = object.get_mut("description") {
                *description = description.replace('\n', " ");
            }
            object.values_mut().for_each(simplify);
        }
        _ => {}
    }
}

/// Reads arguments by their schema, leniently where models are careless: a number or a word in quotes or without
/// (`chat_id: -100123`), and `null` for "not given".
///
/// # Errors
/// One sentence that names the argument and says what to change.
pub(super) fn read<T: DeserializeOwned>(
    schema: &JsonObject,
    arguments: Option<JsonObject>,
) -> Result<T, String> {
    let mut arguments = arguments.unwrap_or_default();
    arguments.retain(|_, value| !value.is_null());
    let no_properties = JsonObject::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&no_properties);
    for (name, value) in &mut arguments {
        let property = properties.get(name).ok_or_else(|| unknown(name, properties))?;
        coerce(value, property);
        check(name, value, property)?;
    }
    let required = schema.get("required").and_then(Value::as_array);
    for name in required.into_iter().flatten().filter_map(Value::as_str) {
        if !arguments.contains_key(name) {
            return Err(format!("`{name}` is missing: this tool needs it"));
        }
    }
    serde_json::from_value(Value::Object(arguments))
        .map_err(|error| format!("the arguments cannot be read: {error}"))
}

fn unknown(name: &str, properties: &JsonObject) -> String {
    let known: Vec<_> = properties.keys().map(|name| format!("`{name}`")).collect();
    let name: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
    format!("`{name}` is not an argument of this tool; it takes {}", known.join(", "))
}

/// JavaScript reads a number as a 64-bit float, and so loses the last digits of a Discord ID that stands without quotes.
/// Where exactly one listed channel reads the same, that is the one.
pub(super) fn restore_channel(arguments: Option<&mut JsonObject>, listed: &[Allowed]) {
    let Some(value) = arguments.and_then(|arguments| arguments.get_mut("channel_id")) else {
        return;
    };
    let Some(number) = value.as_f64().filter(|_| is_rounded(value)) else { return };
    let mut same = listed
        .iter()
        .map(|allowed| allowed.channel.id())
        .filter(|id| id.parse::<f64>().is_ok_and(|id| (id - number).abs() < f64::EPSILON));
    if let (Some(id), None) = (same.next(), same.next()) {
        *value = Value::String(id.to_owned());
    }
}

/// Whether a number may have lost digits on its way through a 64-bit float.
fn is_rounded(value: &Value) -> bool {
    /// Above 2^53 not every whole number has a 64-bit float.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    value.as_f64().is_some_and(|number| number.abs() > EXACT)
}

fn coerce(value: &mut Value, property: &Value) {
    let wanted = property.get("type").and_then(Value::as_str);
    let better = match (wanted, &*value) {
        (Some("string"), Value::Number(number)) if !is_rounded(value) => {
            Some(Value::String(number.to_string()))
        }
        (Some("boolean"), Value::String(word)) => match word.trim().to_ascii_lowercase().as_str() {
            "true" => Some(Value::Bool(true)),
            "false" => Some(Value::Bool(false)),
            _ => None,
        },
        _ => None,
    };
    if let Some(better) = better {
        *value = better;
    }
}

fn check(name: &str, value: &Value, property: &Value) -> Result<(), String> {
    match property.get("type").and_then(Value::as_str) {
        Some("boolean") if !value.is_boolean() => {
            return Err(format!("`{name}` has to be true or false"));
        }
        Some("string") => {
            if is_rounded(value) {
                return Err(format!(
                    "`{name}` has to stand in quotes: as a number it loses its last digits on the way"
                ));
            }
            let Some(text) = value.as_str() else {
                return Err(format!("`{name}` has to be a string"));
            };
            let limit = |key| property.get(key).and_then(Value::as_u64);
            let length = text.chars().count() as u64;
            if limit("minLength").is_some_and(|least| length < least) {
                return Err(format!(
                    "`{name}` is empty: write something, or leave it out if it is optional"
                ));
            }
            if let Some(most) = limit("maxLength").filter(|most| length > *most) {
                return Err(format!(
                    "`{name}` has {length} characters, more than the {most} that are accepted: shorten it, or use several calls"
                ));
            }
        }
        _ => {}
    }
    if let Some(choices) = property.get("enum").and_then(Value::as_array)
        && !choices.contains(value)
    {
        let choices: Vec<_> = choices.iter().map(Value::to_string).collect();
        return Err(format!("`{name}` has to be one of {}", choices.join(", ")));
    }
    Ok(())
}

fn printable(name: &str, word: Option<String>) -> Result<Option<String>, String> {
    let blank = |word: &String| word.trim().is_empty() || word.chars().any(char::is_control);
    if word.as_ref().is_some_and(blank) {
        return Err(format!("`{name}` has to be a printable word such as incident-42"));
    }
    Ok(word)
}

fn one_thread(name: &str, thread: Option<&String>, key: Option<&String>) -> Result<(), String> {
    if thread.is_some() && key.is_some() {
        return Err(format!("`{name}` and `thread_key` both name a thread: give one of them"));
    }
    Ok(())
}

/// A Slack `ts` always has six decimals; a model that writes it as a number loses the zeros at its end.
fn six_decimals(ts: &str) -> String {
    match ts.split_once('.') {
        Some((seconds, fraction))
            if fraction.len() < 6 && fraction.bytes().all(|b| b.is_ascii_digit()) =>
        {
            format!("{seconds}.{fraction:0<6}")
        }
        _ => ts.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_id_that_lost_its_last_digits_is_recognised_or_asked_for_in_quotes() {
        let listed = |ids: &str| {
            let list = crate::policy::AllowList::parse(PlatformKind::Discord, ids.split(','));
            list.unwrap().listed().to_vec()
        };
        let channel = |ids: &str| {
            let mut arguments = json!({ "channel_id": 100_000_000_000_000_000_u64, "text": "x" });
            restore_channel(arguments.as_object_mut(), &listed(ids));
            let schema = schema::<SendToDiscord>(false);
            let read = read::<SendToDiscord>(&schema, arguments.as_object().cloned());
            read.map(|arguments| arguments.channel_id)
        };
        assert_eq!(channel("100000000000000001").unwrap(), "100000000000000001");
        let two = channel("100000000000000001,100000000000000002").unwrap_err();
        assert!(two.contains("in quotes"), "{two}");
        assert!(channel("123456789012345678").unwrap_err().contains("in quotes"));
    }

    use serde_json::json;

    use super::*;

    fn slack(arguments: Value) -> Result<Submission, String> {
        let Value::Object(arguments) = arguments else { panic!("not an object") };
        read::<SendToSlack>(&schema::<SendToSlack>(false), Some(arguments))?.into_submission()
    }

    fn telegram(arguments: Value) -> Result<Submission, String> {
        let Value::Object(arguments) = arguments else { panic!("not an object") };
        read::<SendToTelegram>(&schema::<SendToTelegram>(false), Some(arguments))?.into_submission()
    }

    #[test]
    fn every_argument_finds_its_place() {
        let submission = slack(json!({
            "channel_id": "alerts", "text": "hi", "thread_ts": "1712345678.123456",
            "reply_broadcast": true, "idempotency_key": "k",
        }));
        assert_eq!(
            submission,
            Ok(Submission {
                platform: PlatformKind::Slack,
                channel: "alerts".into(),
                text: "hi".into(),
                placement: Placement {
                    thread: Some("1712345678.123456".into()),
                    broadcast: true,
                    ..Placement::default()
                },
                thread_key: None,
                idempotency_key: Some("k".into()),
            })
        );
    }

    #[test]
    fn what_models_write_carelessly_is_understood() {
        let submission = telegram(json!({
            "chat_id": -1001234567890_i64, "text": 42, "message_thread_id": 7, "reply_to": "9",
            "silent": "True", "thread_key": null,
        }))
        .unwrap();
        assert_eq!(submission.channel, "-1001234567890");
        assert_eq!(submission.text, "42");
        assert_eq!(submission.placement.thread.as_deref(), Some("7"));
        assert_eq!(submission.placement.reply_to.as_deref(), Some("9"));
        assert!(submission.placement.silent);
        assert_eq!(submission.thread_key, None);

        let ts = slack(json!({"channel_id": "C01", "text": "x", "thread_ts": 1712345678.1234}));
        assert_eq!(ts.unwrap().placement.thread.as_deref(), Some("1712345678.123400"));
    }

    #[test]
    fn a_bad_argument_is_named_with_what_to_change() {
        let long = "x".repeat(1_000_000);
        for (arguments, sentence) in [
            (json!({"text": "x"}), "`channel_id` is missing"),
            (json!({"channel_id": "C01"}), "`text` is missing"),
            (json!({"channel_id": "C01", "text": null}), "`text` is missing"),
            (json!({"channel_id": "C01", "text": ""}), "`text` is empty"),
            (json!({"channel_id": "C01", "text": long}), "`text` has 1000000 characters"),
            (json!({"channel_id": "C01", "text": ["x"]}), "`text` has to be a string"),
            (json!({"channel_id": {"id": 1}, "text": "x"}), "`channel_id` has to be a string"),
            (
                json!({"channel_id": "C01", "text": "x", "channel": "C02"}),
                "`channel` is not an argument of this tool; it takes `channel_id`, ",
            ),
            (
                json!({"channel_id": "C01", "text": "x", "reply_broadcast": "maybe"}),
                "`reply_broadcast` has to be true or false",
            ),
            (
                json!({"channel_id": "C01", "text": "x", "thread_key": "x".repeat(129)}),
                "`thread_key` has 129 characters",
            ),
            (
                json!({"channel_id": "C01", "text": "x", "thread_key": "a\nb"}),
                "`thread_key` has to be a printable word",
            ),
            (
                json!({"channel_id": "C01", "text": "x", "idempotency_key": " "}),
                "`idempotency_key` has to be a printable word",
            ),
            (
                json!({"channel_id": "C01", "text": "x", "thread_key": "k", "thread_ts": "1.2"}),
                "`thread_ts` and `thread_key` both name a thread",
            ),
            (
                json!({"channel_id": "C01", "text": "x", "reply_broadcast": true}),
                "`reply_broadcast` shows a reply in the channel too: give `thread_ts` or `thread_key`",
            ),
        ] {
            let error = slack(arguments).unwrap_err();
            assert!(error.starts_with(sentence), "{error}");
        }
    }

    #[test]
    fn a_reply_in_either_kind_of_thread_may_show_in_the_channel() {
        for (thread, name) in [("thread_ts", "1712345678.123456"), ("thread_key", "incident-42")] {
            let reply =
                json!({"channel_id": "C01", "text": "x", thread: name, "reply_broadcast": true});
            assert!(slack(reply).unwrap().placement.broadcast);
        }
        let plain = json!({"channel_id": "C01", "text": "x", "reply_broadcast": false});
        assert!(!slack(plain).unwrap().placement.broadcast);
    }

    #[test]
    fn a_choice_names_its_choices() {
        let arguments = json!({"platform": "irc"}).as_object().cloned();
        let error = read::<ListChannels>(&schema::<ListChannels>(false), arguments).unwrap_err();
        assert_eq!(error, r#"`platform` has to be one of "slack", "discord", "telegram""#);
    }
}
