//! The prompts: two starting points that a person picks from a menu.

use rmcp::model::{GetPromptResult, JsonObject, Prompt, PromptArgument, PromptMessage, Role};
use serde_json::Value;

use super::tools::{self, Offer};
use crate::model::PlatformKind;

pub(super) const SEVERITIES: [&str; 4] = ["critical", "high", "medium", "low"];

/// The most characters of one argument that get into a prompt.
const LONGEST_ARGUMENT: usize = 4_000;

fn argument(name: &str, description: &str, required: bool) -> PromptArgument {
    PromptArgument::new(name).with_description(description).with_required(required)
}

pub(super) fn list() -> Vec<Prompt> {
    let channel = || {
        argument(
            "channel",
            "Where to, as platform:channel, for example slack:C0123456789 or slack:alerts.",
            true,
        )
    };
    vec![
        Prompt::new(
            "announce_incident",
            Some("Announce an incident in a channel and keep its updates in one thread."),
            Some(vec![
                channel(),
                argument("title", "What is broken, in one line.", true),
                argument("severity", "critical, high, medium or low.", false),
                argument("details", "What is known so far.", false),
            ]),
        )
        .with_title("Announce an incident"),
        Prompt::new(
            "daily_summary",
            Some("Sum up the last 24 hours and post it to a channel."),
            Some(vec![
                channel(),
                argument("topic", "What to sum up. Default: what you look after.", false),
            ]),
        )
        .with_title("Post a daily summary"),
    ]
}

/// Whether there is such a prompt.
pub(super) fn exists(prompt: &str) -> bool {
    list().iter().any(|known| known.name == prompt)
}

/// Whether there is such a prompt with such an argument.
pub(super) fn takes(prompt: &str, argument: &str) -> bool {
    list()
        .into_iter()
        .filter(|known| known.name == prompt)
        .flat_map(|known| known.arguments.unwrap_or_default())
        .any(|known| known.name == argument)
}

/// # Errors
/// One sentence that names the prompt or the argument.
pub(super) fn get(
    name: &str,
    arguments: &JsonObject,
    offers: &[Offer<'_>],
) -> Result<GetPromptResult, String> {
    let unknown = || {
        let name: String = name.chars().take(128).collect();
        format!("Unknown prompt: {name}")
    };
    let prompt = list().into_iter().find(|known| known.name == name).ok_or_else(unknown)?;
    if let Some(stranger) = arguments.keys().find(|argument| !takes(name, argument)) {
        let stranger: String = stranger.chars().take(64).collect();
        return Err(format!("`{stranger}` is not an argument of {name}"));
    }
    let optional = |key: &str| match arguments.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.chars().count() > LONGEST_ARGUMENT => {
            Err(format!("`{key}` is longer than {LONGEST_ARGUMENT} characters: shorten it"))
        }
        Some(Value::String(text)) => Ok(Some(text.trim()).filter(|text| !text.is_empty())),
        Some(_) => Err(format!("`{key}` has to be a string")),
    };
    let required = |key: &str| optional(key)?.ok_or_else(|| format!("`{key}` is missing"));

    let (platform, channel) = channel(required("channel")?, offers)?;
    let to = match platform {
        PlatformKind::Telegram => format!("send_message_to_{platform} (chat_id {channel})"),
        _ => format!("send_message_to_{platform} (channel_id {channel})"),
    };
    let text = match name {
        "announce_incident" => {
            let title = required("title")?;
            let severity = optional("severity")?.unwrap_or("not given");
            let details = optional("details")?.unwrap_or("none yet");
            format!(
                "Announce this incident with {to}.\n\nTitle: {title}\nSeverity: {severity}\nDetails: {details}\n\n\
                 Start with the severity and the title in bold, then what is affected, what is known and what happens next, \
                 in at most ten lines. State only what is given above or what you have checked yourself. Make up a short \
                 thread_key for the incident, such as incident-42, use it for this message and for every later update, and \
                 tell me the key and the permalink."
            )
        }
        _ => {
            let topic = optional("topic")?.unwrap_or("everything you look after");
            format!(
                "Sum up the last 24 hours and post it with {to}.\n\nTopic: {topic}\n\n\
                 Look at the facts first with the tools you have. Then write at most fifteen lines of Markdown: one line \
                 with the overall state, a list of what changed or went wrong, and what needs somebody's attention. If \
                 nothing happened, say so in one line. Send it once, and tell me the permalink."
            )
        }
    };
    let message = PromptMessage::new_text(Role::User, text);
    let result = GetPromptResult::new(vec![message]);
    Ok(result.with_description(prompt.description.unwrap_or_default()))
}

/// `slack:alerts`, or a name alone where only one platform can be meant.
fn channel<'a>(written: &'a str, offers: &[Offer<'_>]) -> Result<(PlatformKind, &'a str), String> {
    let prefixed = written.split_once(':').and_then(|(prefix, name)| {
        let offered = offers.iter().find(|(platform, _)| platform.as_str() == prefix);
        offered.map(|(platform, _)| (*platform, name))
    });
    let mut listing = offers
        .iter()
        .filter(|(_, allowed)| tools::names(allowed).contains(&written))
        .map(|(platform, _)| *platform);
    match (prefixed, listing.next(), listing.next(), offers) {
        (Some(found), ..) => Ok(found),
        (None, Some(platform), None, _) => Ok((platform, written)),
        (None, None, _, [(platform, _)]) => Ok((*platform, written)),
        _ => {
            Err("`channel` has to name its platform, for example slack:C0123456789 or slack:alerts"
                .to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::policy::AllowList;

    fn prompt(name: &str, arguments: Value) -> Result<String, String> {
        let slack = AllowList::parse(PlatformKind::Slack, ["alerts=C0ALERTS"]).unwrap();
        let telegram = AllowList::parse(PlatformKind::Telegram, ["*"]).unwrap();
        let offers = [(PlatformKind::Slack, &slack), (PlatformKind::Telegram, &telegram)];
        let result = get(name, arguments.as_object().unwrap(), &offers)?;
        Ok(result.messages[0].content.as_text().unwrap().text.clone())
    }

    #[test]
    fn the_list_is_a_committed_promise() {
        insta::assert_json_snapshot!("prompts", list());
    }

    #[test]
    fn a_prompt_names_the_tool_and_the_channel() {
        let incident = json!({"channel": "alerts", "title": "API down", "severity": "high"});
        insta::assert_snapshot!(prompt("announce_incident", incident).unwrap());
        let summary = prompt("daily_summary", json!({"channel": "telegram:-100123"})).unwrap();
        assert!(summary.contains("send_message_to_telegram (chat_id -100123)"), "{summary}");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (name, arguments, sentence) in [
            ("no_such", json!({}), "Unknown prompt: no_such"),
            ("daily_summary", json!({}), "`channel` is missing"),
            ("daily_summary", json!({"channel": 5}), "`channel` has to be a string"),
            ("daily_summary", json!({"channel": "C0X"}), "`channel` has to name its platform"),
            ("daily_summary", json!({"channel": "irc:x"}), "`channel` has to name its platform"),
            (
                "daily_summary",
                json!({"channel": "alerts", "title": "x"}),
                "`title` is not an argument",
            ),
            ("announce_incident", json!({"channel": "alerts"}), "`title` is missing"),
        ] {
            let error = prompt(name, arguments).unwrap_err();
            assert!(error.starts_with(sentence), "{error}");
        }
    }
}
