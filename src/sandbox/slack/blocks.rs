//! Slack's blocks: what Block Kit accepts. <https://docs.slack.dev/reference/block-kit/blocks>

use serde_json::{Map, Value};

use crate::sandbox::state::Button;

const MOST_BLOCKS: usize = 50;
/// All `markdown` blocks of a message together.
const MARKDOWN: usize = 12_000;

/// Slack says no.
pub(super) struct Refused {
    pub error: String,
    pub message: Option<String>,
    /// The scope that is needed, and those there are.
    pub scope: Option<(&'static str, String)>,
}

impl Refused {
    pub(super) fn code(error: &str) -> Self {
        Self { error: error.to_owned(), message: None, scope: None }
    }

    pub(super) fn because(error: &str, message: impl Into<String>) -> Self {
        Self { message: Some(message.into()), ..Self::code(error) }
    }

    pub(super) fn scope(needed: &'static str, provided: String) -> Self {
        Self { scope: Some((needed, provided)), ..Self::code("missing_scope") }
    }
}

/// What the blocks say.
#[derive(Default)]
pub(super) struct Said {
    /// Everything that people read.
    pub shown: String,
    /// The part of it in which mentions work.
    pub active: String,
}

impl Said {
    fn add(&mut self, text: &str, active: bool) {
        for (target, wanted) in [(&mut self.shown, true), (&mut self.active, active)] {
            if wanted {
                if !target.is_empty() {
                    target.push('\n');
                }
                target.push_str(text);
            }
        }
    }
}

/// Whom text with working mentions notifies: `<!channel>`, `<!subteam^S0ONCALL>` and `<@U0ALICE>`, each also with a label.
/// <https://docs.slack.dev/messaging/formatting-message-text#mentions>
pub(super) fn pings(text: &str) -> Vec<String> {
    let named = |token: &str| {
        let what = token.split('|').next().unwrap_or_default();
        let id = |id: &str, kinds: &[char]| {
            let shaped = id.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
            (id.starts_with(kinds) && shaped).then(|| format!("@{id}"))
        };
        match what.strip_prefix('!') {
            Some(word @ ("channel" | "here" | "everyone")) => Some(format!("@{word}")),
            Some(group) => id(group.strip_prefix("subteam^")?, &['S']),
            None => id(what.strip_prefix('@')?, &['U', 'W']),
        }
    };
    let mut pings = Vec::new();
    for piece in text.split('<').skip(1) {
        if let Some(ping) = piece.split_once('>').and_then(|(token, _)| named(token))
            && !pings.contains(&ping)
        {
            pings.push(ping);
        }
    }
    pings
}

fn wrong(pointer: &str, why: &str) -> Refused {
    Refused::because("invalid_blocks", format!("[ERROR] {why} [json-pointer:{pointer}]"))
}

/// Checks all blocks. `None` where there are none.
pub(super) fn check(blocks: &[Value]) -> Result<Option<Said>, Refused> {
    if blocks.len() > MOST_BLOCKS {
        return Err(Refused::because(
            "msg_blocks_too_many",
            "[ERROR] no more than 50 items allowed [json-pointer:/blocks]",
        ));
    }
    let mut said = Said::default();
    let mut markdown = 0;
    for (index, block) in blocks.iter().enumerate() {
        let pointer = format!("/blocks/{index}");
        let block = block.as_object().ok_or_else(|| wrong(&pointer, "must be an object"))?;
        markdown += check_block(block, &pointer, &mut said)?;
    }
    if markdown > MARKDOWN {
        return Err(Refused::code("msg_blocks_too_long"));
    }
    Ok((!blocks.is_empty()).then_some(said))
}

/// Checks one block; the characters of Markdown in it.
fn check_block(
    block: &Map<String, Value>,
    pointer: &str,
    said: &mut Said,
) -> Result<usize, Refused> {
    let kind = block.get("type").and_then(Value::as_str).unwrap_or_default();
    let fields: &[&str] = match kind {
        "markdown" | "header" => &["text"],
        "divider" => &[],
        "section" => &["text", "fields", "accessory", "expand"],
        "context" | "actions" | "rich_text" => &["elements"],
        "image" => &["image_url", "slack_file", "alt_text", "title"],
        "table" => &["rows", "column_settings"],
        _ => {
            let why = format!("unsupported type: {kind}");
            return Err(wrong(&format!("{pointer}/type"), &why));
        }
    };
    only(block, fields, pointer)?;
    if block.get("block_id").is_some_and(|id| id.as_str().is_none_or(|id| id.chars().count() > 255))
    {
        return Err(wrong(&format!("{pointer}/block_id"), "must be less than 256 characters"));
    }
    match kind {
        "markdown" => {
            let text = block
                .get("text")
                .and_then(Value::as_str)
                .filter(|text| !text.is_empty())
                .ok_or_else(|| wrong(&format!("{pointer}/text"), "missing required field: text"))?;
            said.add(text, true);
            return Ok(text.chars().count());
        }
        "header" => text_object(block.get("text"), true, 150, &format!("{pointer}/text"), said)?,
        "section" => section(block, pointer, said)?,
        "context" => {
            for (at, element) in elements(block, 10, pointer)?.iter().enumerate() {
                if element.get("type").and_then(Value::as_str) != Some("image") {
                    let pointer = format!("{pointer}/elements/{at}");
                    text_object(Some(element), false, 2000, &pointer, said)?;
                }
            }
        }
        "actions" => {
            let elements = elements(block, 25, pointer)?;
            for (at, element) in elements.iter().enumerate() {
                let pointer = format!("{pointer}/elements/{at}");
                button(element, &pointer)?;
                let id = element.get("action_id").filter(|id| id.is_string());
                let before = elements.iter().take(at);
                if id.is_some() && before.filter_map(|e| e.get("action_id")).any(|e| Some(e) == id)
                {
                    return Err(wrong(
                        &format!("{pointer}/action_id"),
                        "`action_id` already exists",
                    ));
                }
            }
        }
        "rich_text" => {
            elements(block, usize::MAX, pointer)?;
        }
        "image" if block.get("alt_text").and_then(Value::as_str).is_none() => {
            return Err(wrong(pointer, "missing required field: alt_text"));
        }
        "table" if block.get("rows").and_then(Value::as_array).is_none() => {
            return Err(wrong(pointer, "missing required field: rows"));
        }
        _ => {}
    }
    Ok(0)
}

/// No field but these, `type` and `block_id`.
fn only(object: &Map<String, Value>, fields: &[&str], pointer: &str) -> Result<(), Refused> {
    let extra = object.keys().find(|key| {
        !matches!(key.as_str(), "type" | "block_id") && !fields.contains(&key.as_str())
    });
    match extra {
        Some(extra) => Err(wrong(pointer, &format!("invalid additional property: {extra}"))),
        None => Ok(()),
    }
}

fn elements<'a>(
    block: &'a Map<String, Value>,
    most: usize,
    pointer: &str,
) -> Result<&'a [Value], Refused> {
    let pointer = format!("{pointer}/elements");
    let elements = block
        .get("elements")
        .and_then(Value::as_array)
        .filter(|elements| !elements.is_empty())
        .ok_or_else(|| wrong(&pointer, "no less than 1 items required"))?;
    if elements.len() > most {
        return Err(wrong(&pointer, &format!("no more than {most} items allowed")));
    }
    Ok(elements)
}

fn section(block: &Map<String, Value>, pointer: &str, said: &mut Said) -> Result<(), Refused> {
    let fields = block.get("fields").and_then(Value::as_array);
    if block.get("text").is_none() && fields.is_none_or(Vec::is_empty) {
        return Err(wrong(pointer, "missing required field: text"));
    }
    if let Some(text) = block.get("text") {
        text_object(Some(text), false, 3000, &format!("{pointer}/text"), said)?;
    }
    for (at, field) in fields.into_iter().flatten().enumerate() {
        let pointer = format!("{pointer}/fields/{at}");
        if at >= 10 {
            return Err(wrong(&pointer, "no more than 10 items allowed"));
        }
        text_object(Some(field), false, 2000, &pointer, said)?;
    }
    Ok(())
}

/// <https://docs.slack.dev/reference/block-kit/composition-objects/text-object>
fn text_object(
    value: Option<&Value>,
    plain_only: bool,
    most: usize,
    pointer: &str,
    said: &mut Said,
) -> Result<(), Refused> {
    let object =
        value.and_then(Value::as_object).ok_or_else(|| wrong(pointer, "must be an object"))?;
    let plain = match object.get("type").and_then(Value::as_str) {
        Some("plain_text") => true,
        Some("mrkdwn") if !plain_only => false,
        _ => {
            return Err(wrong(&format!("{pointer}/type"), "must be a valid text type"));
        }
    };
    only(object, if plain { &["text", "emoji"] } else { &["text", "verbatim"] }, pointer)?;
    let text = object.get("text").and_then(Value::as_str).unwrap_or_default();
    if text.is_empty() {
        return Err(wrong(&format!("{pointer}/text"), "must be more than 0 characters"));
    }
    if text.chars().count() > most {
        let why = format!("must be less than {} characters", most + 1);
        return Err(wrong(&format!("{pointer}/text"), &why));
    }
    said.add(text, !plain);
    Ok(())
}

/// The buttons of checked blocks, row by row.
pub(super) fn buttons(blocks: &[Value]) -> Vec<Vec<Button>> {
    let rows = blocks.iter().filter(|b| b.get("type").and_then(Value::as_str) == Some("actions"));
    let row = |block: &Value| {
        let elements = block.get("elements").and_then(Value::as_array);
        let read = |element: &Value| {
            let text = |pointer| element.pointer(pointer).and_then(Value::as_str);
            Button {
                key: text("/value").unwrap_or_default().to_owned(),
                label: text("/text/text").unwrap_or_default().to_owned(),
                style: match text("/style") {
                    Some("primary") => "good",
                    Some("danger") => "danger",
                    _ => "plain",
                },
            }
        };
        elements.into_iter().flatten().map(read).collect()
    };
    rows.map(row).collect()
}

/// <https://docs.slack.dev/reference/block-kit/block-elements/button-element>
fn button(element: &Value, pointer: &str) -> Result<(), Refused> {
    let object = element.as_object().ok_or_else(|| wrong(pointer, "must be an object"))?;
    if object.get("type").and_then(Value::as_str) != Some("button") {
        return Err(wrong(&format!("{pointer}/type"), "unsupported type"));
    }
    let fields = ["text", "action_id", "url", "value", "style", "confirm", "accessibility_label"];
    only(object, &fields, pointer)?;
    let mut label = Said::default();
    text_object(object.get("text"), true, 75, &format!("{pointer}/text"), &mut label)?;
    for (name, most) in [("action_id", 255), ("value", 2000), ("url", 3000)] {
        let value = object.get(name).and_then(Value::as_str).unwrap_or_default();
        if value.chars().count() > most {
            let why = format!("must be less than {} characters", most + 1);
            return Err(wrong(&format!("{pointer}/{name}"), &why));
        }
    }
    match object.get("style").and_then(Value::as_str) {
        None | Some("primary" | "danger") => Ok(()),
        Some(_) => Err(wrong(&format!("{pointer}/style"), "must be a valid style")),
    }
}
