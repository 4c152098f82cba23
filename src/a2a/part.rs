//! The parts of messages and artifacts, in either dialect. Whatever is missing is empty.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use super::pause::{ASK_USER, CONFIRMATION};
use super::turn::{File, Link, ToolState};

/// A list that may be absent.
pub(super) fn list_of<'a>(object: &'a Value, key: &str) -> &'a [Value] {
    object.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The parts of a message or an artifact.
pub(super) fn list(holder: &Value) -> &[Value] {
    list_of(holder, "parts")
}

/// The text of parts, without the model's thoughts. Streamed text comes in many parts, so nothing is put between them.
pub(super) fn text(parts: &[Value]) -> String {
    let texts = parts.iter().filter(|part| !flag(part, "thought"));
    texts.filter_map(|part| part.get("text")?.as_str()).collect()
}

/// Whether a part's metadata has a key that ends so, and says yes: the prefix is `kagent_`, `adk_` or a URL.
fn flag(part: &Value, suffix: &str) -> bool {
    let metadata = part.get("metadata").and_then(Value::as_object);
    metadata.into_iter().flatten().any(|(key, value)| key.ends_with(suffix) && value == true)
}

/// A tool that a data part tells about: the call's ID, the tool's name and what it does.
pub(super) fn tool(part: &Value) -> Option<(&str, &str, ToolState)> {
    let data = part.get("data")?;
    let metadata = part.get("metadata")?;
    let kind = ["kagent_type", "kagent.dev/a2a/part-type", "adk_type"]
        .iter()
        .find_map(|key| metadata.get(key)?.as_str())?;
    let name = data.get("name")?.as_str()?;
    if [CONFIRMATION, ASK_USER].contains(&name) {
        return None;
    }
    let id = data.get("id").and_then(Value::as_str).unwrap_or(name);
    match kind {
        "function_call" => Some((id, name, ToolState::Running)),
        "function_response" if !waits(data) => Some((id, name, ToolState::Done)),
        _ => None,
    }
}

/// A response that only says that a person is asked.
fn waits(data: &Value) -> bool {
    let status = data.get("response").and_then(|response| response.get("status"));
    matches!(status.and_then(Value::as_str), Some("confirmation_requested" | "pending"))
}

/// A part that is a file.
pub(super) enum Attachment {
    File(File),
    Link(Link),
}

/// The file that a part is, if it is one.
pub(super) fn attachment(part: &Value) -> Option<Attachment> {
    let holder = part.get("file").unwrap_or(part);
    let word = |keys: &[&str]| {
        keys.iter().find_map(|key| holder.get(key)?.as_str()).map(ToOwned::to_owned)
    };
    let name = word(&["name", "filename"]);
    if let Some(encoded) = word(&["bytes", "raw", "fileWithBytes"]) {
        let bytes = BASE64.decode(encoded.as_bytes()).ok()?;
        let mime = word(&["mimeType", "mediaType"]);
        return Some(Attachment::File(File { name, mime, bytes }));
    }
    let url = word(&["uri", "url", "fileWithUri"])?;
    Some(Attachment::Link(Link { name, url }))
}
