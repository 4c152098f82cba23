//! How parameters are given: in the URL, as a form, as JSON or, with files, as a multipart form.
//! <https://core.telegram.org/bots/api#making-requests>

use axum::body::Bytes;
use axum::extract::{FromRequest, Multipart, Request};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header;
use serde_json::{Map, Value, json};

use super::{Parameters, Refused, bad_request};
use crate::sandbox::exchange::{is_json, pairs};

/// What stands in a form as it is; anything else stands there as JSON.
const TEXTS: [&str; 10] = [
    "text",
    "chat_id",
    "parse_mode",
    "action",
    "caption",
    "callback_query_id",
    "file_id",
    "url",
    "secret_token",
    "language_code",
];

pub(super) async fn read(request: Request) -> Result<Parameters, Refused> {
    let mut given = Map::new();
    let mut form = pairs(request.uri().query().unwrap_or_default().as_bytes());
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    if kind.is_some_and(|kind| kind.starts_with("multipart/form-data")) {
        multipart(request, &mut given, &mut form).await?;
    } else if is_json(request.headers()) {
        let wrong = || bad_request("can't parse JSON object");
        let body = body(request).await?;
        let value: Value = serde_json::from_slice(&body).map_err(|_| wrong())?;
        let Value::Object(object) = value else {
            return Err(wrong());
        };
        given.extend(object.into_iter().filter(|(_, value)| !value.is_null()));
    } else {
        form.extend(pairs(&body(request).await?));
    }
    for (name, value) in form {
        let value = if TEXTS.contains(&name.as_str()) {
            Value::String(value)
        } else {
            serde_json::from_str(&value).unwrap_or(Value::String(value))
        };
        given.insert(name, value);
    }
    Ok(given)
}

async fn body(request: Request) -> Result<Bytes, Refused> {
    Bytes::from_request(request, &()).await.map_err(|_| Refused {
        status: http::StatusCode::PAYLOAD_TOO_LARGE,
        description: "Request Entity Too Large".to_owned(),
        moved_to: None,
    })
}

/// A file becomes `{"file_name", "mime_type", "base64"}`.
async fn multipart(
    request: Request,
    given: &mut Parameters,
    form: &mut Vec<(String, String)>,
) -> Result<(), Refused> {
    let wrong = |_| bad_request("can't parse multipart form data");
    let mut parts = Multipart::from_request(request, &())
        .await
        .map_err(|_| bad_request("can't parse multipart form data"))?;
    while let Some(part) = parts.next_field().await.map_err(wrong)? {
        let name = part.name().unwrap_or_default().to_owned();
        let Some(file_name) = part.file_name().map(str::to_owned) else {
            form.push((name, part.text().await.map_err(wrong)?));
            continue;
        };
        let mime = part.content_type().unwrap_or("application/octet-stream").to_owned();
        let bytes = part.bytes().await.map_err(wrong)?;
        let file = json!({
            "file_name": file_name, "mime_type": mime, "base64": STANDARD.encode(&bytes),
        });
        given.insert(name, file);
    }
    Ok(())
}
