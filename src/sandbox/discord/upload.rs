//! Files that come with a message: <https://docs.discord.com/developers/reference#uploading-files>.

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, FromRequest, Multipart, Request};
use http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value};

use super::{Refused, object};
use crate::sandbox::state::File;

/// The most bytes of one file, without any boosts.
const MOST_FILE_BYTES: usize = 10 * 1024 * 1024;
/// The most bytes of a whole request.
pub(super) const MOST_REQUEST_BYTES: usize = 25 * 1024 * 1024;
const MOST_FILES: usize = 10;

const TOO_LARGE: Refused =
    Refused::new(StatusCode::PAYLOAD_TOO_LARGE, 40005, "Request entity too large");

/// A file as it was sent.
pub(super) struct Upload {
    name: String,
    mime: String,
    bytes: Vec<u8>,
}

impl Upload {
    pub(super) fn kept(self, id: &str) -> File {
        let Self { name, mime, bytes } = self;
        File { id: id.to_owned(), name, mime, bytes }
    }
}

/// The JSON of a request, and the files beside it.
pub(super) async fn read(
    headers: &HeaderMap,
    body: Bytes,
) -> Result<(Map<String, Value>, Vec<Upload>), Refused> {
    let kind = headers.get(header::CONTENT_TYPE).cloned();
    let form = kind.as_ref().and_then(|kind| kind.to_str().ok());
    if !form.is_some_and(|kind| kind.starts_with("multipart/form-data")) {
        return Ok((object(&body)?, Vec::new()));
    }
    let broken = || Refused::new(StatusCode::BAD_REQUEST, 50109, "The form could not be read.");
    let mut request = Request::new(Body::from(body));
    if let Some(kind) = kind {
        request.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    DefaultBodyLimit::max(MOST_REQUEST_BYTES).apply(&mut request);
    let mut form = Multipart::from_request(request, &()).await.map_err(|_| broken())?;
    let (mut payload, mut files) = (None, Vec::new());
    while let Some(field) = form.next_field().await.map_err(|_| broken())? {
        let name = field.name().unwrap_or_default().to_owned();
        let file = field.file_name().map(str::to_owned);
        let mime = field.content_type().unwrap_or("application/octet-stream").to_owned();
        let bytes = field.bytes().await.map_err(|_| broken())?.to_vec();
        if name == "payload_json" {
            payload = Some(object(&bytes)?);
            continue;
        }
        let number = name.strip_prefix("files[").and_then(|rest| rest.strip_suffix(']'));
        let (Some(number), Some(file)) = (number.and_then(|n| n.parse::<u64>().ok()), file) else {
            return Err(Refused::field(
                "files",
                "UNKNOWN_FIELD",
                "The sandbox knows no such field.",
            ));
        };
        if bytes.len() > MOST_FILE_BYTES {
            return Err(TOO_LARGE);
        }
        files.push((number, Upload { name: file, mime, bytes }));
    }
    if files.len() > MOST_FILES {
        return Err(Refused::field("files", "BASE_TYPE_MAX_LENGTH", "Must be 10 or fewer."));
    }
    let payload = payload.unwrap_or_default();
    // What describes a file has to be about one that is there.
    for described in payload.get("attachments").and_then(Value::as_array).into_iter().flatten() {
        let id = described.get("id");
        let id = id.and_then(|id| id.as_u64().or_else(|| id.as_str()?.parse().ok()));
        if !files.iter().any(|(number, _)| Some(*number) == id) {
            return Err(Refused::field("attachments", "ATTACHMENT_NOT_FOUND", "No such file."));
        }
    }
    Ok((payload, files.into_iter().map(|(_, file)| file).collect()))
}
