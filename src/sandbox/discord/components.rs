//! Buttons under a message: <https://docs.discord.com/developers/components/reference>.
//!
//! Refused here although Discord takes it: a `custom_id` that is more than an opaque word. What it says, anybody reads.

use serde_json::{Map, Value};

use super::Refused;
use crate::sandbox::state::Button;

const ROWS: usize = 5;
const IN_A_ROW: usize = 5;
const CUSTOM_ID: usize = 100;
const LABEL: usize = 80;

const ROW: u64 = 1;
const BUTTON: u64 = 2;

fn wrong(code: &str, why: &str) -> Refused {
    Refused::field("components", code, why)
}

fn list(value: &Value, most: usize) -> Result<&[Value], Refused> {
    let list = value
        .as_array()
        .ok_or_else(|| wrong("LIST_TYPE_CONVERT", "Only iterables may be used in a ListType"))?;
    if list.len() > most {
        return Err(wrong("BASE_TYPE_BAD_LENGTH", "Must be between 1 and 5 in length."));
    }
    Ok(list)
}

/// The buttons of a request, row by row; `None` where it says nothing about them.
pub(super) fn buttons(body: &Map<String, Value>) -> Result<Option<Vec<Vec<Button>>>, Refused> {
    let Some(rows) = body.get("components").filter(|rows| !rows.is_null()) else {
        return Ok(None);
    };
    let mut found: Vec<Vec<Button>> = Vec::new();
    for row in list(rows, ROWS)? {
        if row.get("type").and_then(Value::as_u64) != Some(ROW) {
            return Err(wrong(
                "UNION_TYPE_CHOICES",
                "Value of field \"type\" must be one of (1,).",
            ));
        }
        let inside = list(row.get("components").unwrap_or(&Value::Null), IN_A_ROW)?;
        if inside.is_empty() {
            return Err(wrong("BASE_TYPE_BAD_LENGTH", "Must be between 1 and 5 in length."));
        }
        let row = inside.iter().map(button).collect::<Result<Vec<_>, _>>()?;
        let known =
            |key: &str| found.iter().chain([&row]).flatten().filter(|b| b.key == key).count();
        if row.iter().any(|button| known(&button.key) > 1) {
            let why = "Component custom id cannot be duplicated";
            return Err(wrong("COMPONENT_CUSTOM_ID_DUPLICATED", why));
        }
        found.push(row);
    }
    Ok(Some(found))
}

fn button(component: &Value) -> Result<Button, Refused> {
    let known = ["type", "style", "label", "custom_id", "disabled"];
    let fields = component.as_object();
    if fields.is_none_or(|fields| fields.keys().any(|key| !known.contains(&key.as_str()))) {
        return Err(wrong("UNKNOWN_FIELD", "The sandbox knows no such field."));
    }
    if component.get("type").and_then(Value::as_u64) != Some(BUTTON) {
        return Err(wrong("UNION_TYPE_CHOICES", "The sandbox knows buttons alone."));
    }
    let word = |name: &str| component.get(name).and_then(Value::as_str).unwrap_or_default();
    let style = match component.get("style").and_then(Value::as_u64) {
        Some(1 | 2) => "plain",
        Some(3) => "good",
        Some(4) => "danger",
        _ => return Err(wrong("BASE_TYPE_CHOICES", "Value must be one of {1, 2, 3, 4}.")),
    };
    let (key, label) = (word("custom_id"), word("label"));
    let opaque = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !(1..=CUSTOM_ID).contains(&key.chars().count()) || !key.chars().all(opaque) {
        return Err(wrong("BASE_TYPE_BAD_LENGTH", "Must be between 1 and 100 in length."));
    }
    if !(1..=LABEL).contains(&label.chars().count()) {
        return Err(wrong("BASE_TYPE_BAD_LENGTH", "Must be between 1 and 80 in length."));
    }
    Ok(Button { key: key.to_owned(), label: label.to_owned(), style })
}
