//! Buttons below a message. <https://core.telegram.org/bots/api#inlinekeyboardmarkup>

use serde_json::Value;

use super::{Parameters, Refused, bad_request};
use crate::sandbox::state::Button;

/// The most buttons of a message, and of a row.
const MOST: usize = 100;
const MOST_IN_A_ROW: usize = 8;

/// The buttons of a request; none where it says nothing of them.
pub(super) fn buttons(given: &Parameters) -> Result<Vec<Vec<Button>>, Refused> {
    let Some(markup) = given.get("reply_markup") else {
        return Ok(Vec::new());
    };
    let wrong = || bad_request("can't parse inline keyboard markup JSON object");
    let fields = markup.as_object().ok_or_else(wrong)?;
    // Keyboards in place of the phone's own are not understood here.
    if fields.keys().any(|name| name != "inline_keyboard") {
        return Err(wrong());
    }
    let rows = markup.get("inline_keyboard").and_then(Value::as_array).ok_or_else(wrong)?;
    let mut keyboard = Vec::new();
    for row in rows {
        let row = row
            .as_array()
            .ok_or_else(|| bad_request("field \"inline_keyboard\" must be an Array of Arrays"))?;
        let row: Result<Vec<Button>, Refused> = row.iter().map(button).collect();
        keyboard.push(row?);
    }
    let count: usize = keyboard.iter().map(Vec::len).sum();
    if count > MOST || keyboard.iter().any(|row| row.len() > MOST_IN_A_ROW) {
        return Err(bad_request("reply markup is too long"));
    }
    keyboard.retain(|row| !row.is_empty());
    Ok(keyboard)
}

/// <https://core.telegram.org/bots/api#inlinekeyboardbutton>, of the kind that calls back.
fn button(button: &Value) -> Result<Button, Refused> {
    let fields = button
        .as_object()
        .ok_or_else(|| bad_request("can't parse inline keyboard button: expected an Object"))?;
    let known = ["text", "callback_data", "style"];
    if let Some(extra) = fields.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(bad_request(format!("unknown field \"{extra}\"")));
    }
    let text = |name: &str| button.get(name).and_then(Value::as_str).unwrap_or_default();
    let (label, key) = (text("text"), text("callback_data"));
    if label.trim().is_empty() {
        return Err(bad_request(
            "can't parse inline keyboard button: field \"text\" must be non-empty",
        ));
    }
    if !fields.contains_key("callback_data") {
        return Err(bad_request("text buttons are unallowed in the inline keyboard"));
    }
    if key.is_empty() || key.len() > 64 {
        return Err(bad_request("BUTTON_DATA_INVALID"));
    }
    let style = match button.get("style").map(|style| style.as_str().unwrap_or_default()) {
        None | Some("primary") => "plain",
        Some("success") => "good",
        Some("danger") => "danger",
        Some(_) => return Err(bad_request("invalid button style specified")),
    };
    Ok(Button { key: key.to_owned(), label: label.to_owned(), style })
}
