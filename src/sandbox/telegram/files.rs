//! Files, up and down. <https://core.telegram.org/bots/api#sending-files>

use axum::extract::{Path, State as Shared};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{StatusCode, header};
use serde_json::{Value, json};

use super::{
    MOST_UPLOAD, Parameters, Refused, bad_request, messages, not_found, refuse, turned_off, written,
};
use crate::sandbox::exchange::{Answer, Call, Desk, exchange, turned_away};
use crate::sandbox::state::File;
use crate::sandbox::{Vendor, World};

/// The most bytes of a file that a bot may read.
const MOST_DOWNLOAD: usize = 20 * 1024 * 1024;

/// <https://core.telegram.org/bots/api#senddocument>
pub(super) fn send(given: &Parameters, desk: Desk<'_>) -> Result<Value, Refused> {
    let file = match given.get("document") {
        None => return Err(bad_request("there is no document in the request")),
        Some(Value::Object(upload)) => {
            let text = |name: &str| upload.get(name).map(written).unwrap_or_default();
            let bytes = STANDARD.decode(text("base64")).unwrap_or_default();
            if bytes.is_empty() {
                return Err(bad_request("file must be non-empty"));
            }
            if bytes.len() > MOST_UPLOAD {
                return Err(Refused {
                    status: StatusCode::PAYLOAD_TOO_LARGE,
                    description: "Request Entity Too Large".to_owned(),
                    moved_to: None,
                });
            }
            // Telegram keeps the name alone.
            let name = text("file_name");
            let name = name.rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
            let id = format!("BQACAgIAAxkDAAI{:05}", desk.state.telegram.files.len());
            File { id, name, mime: text("mime_type"), bytes }
        }
        Some(id) => desk.state.telegram.files.get(&written(id)).cloned().ok_or_else(|| {
            bad_request("wrong remote file identifier specified: Wrong string length")
        })?,
    };
    // What was uploaded is not told again.
    let mut payload = given.clone();
    let shown =
        json!({ "file_name": file.name, "mime_type": file.mime, "bytes": file.bytes.len() });
    payload.insert("document".to_owned(), shown);
    messages::send_file(given, payload, file, desk)
}

/// <https://core.telegram.org/bots/api#getfile>
pub(super) fn find(given: &Parameters, desk: &Desk<'_>) -> Result<Value, Refused> {
    let id = given.get("file_id").map(written).unwrap_or_default();
    if id.is_empty() {
        return Err(bad_request("file_id not specified"));
    }
    let file = desk
        .state
        .telegram
        .files
        .get(&id)
        .ok_or_else(|| bad_request("wrong file_id or the file is temporarily unavailable"))?;
    if file.bytes.len() > MOST_DOWNLOAD {
        return Err(bad_request("file is too big"));
    }
    Ok(json!({
        "file_id": file.id, "file_unique_id": unique(file), "file_size": file.bytes.len(),
        "file_path": format!("documents/{}", file.id),
    }))
}

/// The same file has the same, whoever asks.
pub(super) fn unique(file: &File) -> String {
    format!("AgAD{}", file.id)
}

/// `GET /file/bot<token>/<file_path>`
pub(super) async fn download(
    Shared(world): Shared<World>,
    Path((bot, path)): Path<(String, String)>,
) -> Response {
    let call = Call {
        vendor: Vendor::Telegram,
        method: "file".to_owned(),
        path: format!("GET /file/{path}"),
        channel: None,
    };
    let token = bot.strip_prefix("bot").unwrap_or_default();
    if let Some(answer) = turned_off(token, &world) {
        return turned_away(&world, &call, answer);
    }
    let mut found = None;
    let answer = exchange(&world, call, refuse, |desk| {
        let id = path.strip_prefix("documents/").unwrap_or_default();
        match desk.state.telegram.files.get(id) {
            Some(file) => {
                found = Some(file.clone());
                Answer::new(StatusCode::OK, json!(null), "ok")
            }
            None => not_found(),
        }
    })
    .await;
    match found {
        Some(file) => {
            ([(header::CONTENT_TYPE, "application/octet-stream")], file.bytes).into_response()
        }
        None => answer,
    }
}
