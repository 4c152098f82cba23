//! Files: <https://docs.slack.dev/messaging/working-with-files>.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State as Shared};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};

use super::blocks::Refused;
use super::{Arguments, HOST, chat, need_scope, required, text_of};
use crate::sandbox::exchange::Desk;
use crate::sandbox::state::{File, Message};
use crate::sandbox::{Event, Vendor, World};

/// The largest file that is taken here, in bytes. Slack takes 1 GB.
const MOST: usize = 32 * 1024 * 1024;

/// A file that is being uploaded, by its ID.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    name: String,
    length: usize,
    bytes: Option<Vec<u8>>,
}

pub(super) fn router() -> Router<World> {
    Router::new()
        .route("/sandbox/slack/upload/{id}", post(upload))
        .route("/sandbox/slack/files/{id}", get(download))
        .layer(DefaultBodyLimit::max(MOST))
}

/// `files.getUploadURLExternal`.
pub(super) fn begin(arguments: &Arguments, desk: Desk<'_>) -> Result<Value, Refused> {
    need_scope("files:write", &desk)?;
    let name = required(arguments, "filename")?.to_owned();
    let length = required(arguments, "length")?;
    let length = length.parse().ok().filter(|length| *length > 0);
    let length = length.ok_or_else(|| Refused::code("invalid_arguments"))?;
    let id = format!("F0UPLOAD{}", desk.state.slack.count());
    let url = desk.state.slack.address(&format!("/sandbox/slack/upload/{id}"));
    desk.state.slack.uploads.insert(id.clone(), Pending { name, length, bytes: None });
    Ok(json!({ "ok": true, "upload_url": url, "file_id": id }))
}

async fn upload(Shared(world): Shared<World>, Path(id): Path<String>, body: Bytes) -> Response {
    let mut state = world.state();
    let Some(pending) = state.slack.uploads.get_mut(&id).filter(|it| it.bytes.is_none()) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if pending.length != body.len() {
        return (StatusCode::BAD_REQUEST, "length mismatch").into_response();
    }
    pending.bytes = Some(body.to_vec());
    (StatusCode::OK, format!("OK - {}", body.len())).into_response()
}

/// `files.completeUploadExternal`.
pub(super) fn complete(arguments: &Arguments, desk: Desk<'_>) -> Result<Value, Refused> {
    need_scope("files:write", &desk)?;
    let wanted = arguments.get("files").and_then(Value::as_array).filter(|it| !it.is_empty());
    let wanted = wanted.ok_or_else(|| Refused::code("invalid_arguments"))?;
    let channel = chat::writable(text_of(arguments, "channel_id"), desk.state)?.id.clone();
    let thread = text_of(arguments, "thread_ts");
    let thread = thread.map(|ts| chat::parent_of(desk.state, &channel, ts)).transpose()?;
    let (mut files, mut shown) = (Vec::new(), Vec::new());
    for file in wanted {
        let id = file.get("id").and_then(Value::as_str).unwrap_or_default();
        let arrived = desk.state.slack.uploads.get(id).filter(|it| it.bytes.is_some());
        if arrived.is_none() {
            return Err(Refused::code("file_not_found"));
        }
        let Some(Pending { name, bytes: Some(bytes), .. }) = desk.state.slack.uploads.remove(id)
        else {
            return Err(Refused::code("file_not_found"));
        };
        shown.push(json!({
            "id": id, "title": file.get("title").cloned().unwrap_or_else(|| json!(name)),
            "name": name, "permalink": format!("{HOST}/files/U0HERALD/{id}"),
        }));
        // Slack tells a file's type by itself.
        let mime = if std::str::from_utf8(&bytes).is_ok() {
            "text/plain"
        } else {
            "application/octet-stream"
        };
        files.push(File { id: id.to_owned(), name, mime: mime.to_owned(), bytes });
    }
    let message = Message {
        channel: Vendor::Slack.key(&channel),
        id: desk.state.next_id(Vendor::Slack, desk.now),
        author: "herald".to_owned(),
        bot: true,
        text: text_of(arguments, "initial_comment").unwrap_or_default().to_owned(),
        payload: Value::Object(arguments.clone()),
        thread,
        reply_to: None,
        edited: false,
        deleted: false,
        pinged_everyone: false,
        pings: Vec::new(),
        buttons: Vec::new(),
        files,
        only_for: None,
        received_at: desk.now,
    };
    desk.state.keep(message.clone());
    desk.events.push(Event::Message { message });
    Ok(json!({ "ok": true, "files": shown }))
}

/// `url_private`: for whoever shows the token; everybody else is sent to where people sign in.
async fn download(
    Shared(world): Shared<World>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = bearer.and_then(|value| value.strip_prefix("Bearer "));
    if token != Some(world.inner.tokens.slack.as_str()) {
        return (StatusCode::FOUND, [(header::LOCATION, HOST)]).into_response();
    }
    let state = world.state();
    let channels: Vec<String> = state.channels().map(|channel| channel.key()).collect();
    let messages = channels.iter().flat_map(|key| state.messages(key));
    let file = messages.filter(|m| !m.deleted).flat_map(|m| m.files).find(|file| file.id == id);
    match file {
        Some(file) => ([(header::CONTENT_TYPE, file.mime)], file.bytes).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
