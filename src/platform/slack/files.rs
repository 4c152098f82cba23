//! Files, both ways.
//!
//! Up: <https://docs.slack.dev/messaging/working-with-files#upload>. Nothing is to be seen before the last of the three
//! requests, so only that one can leave a doubt. Down: `url_private`, with the bot token.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, StatusCode, header};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::Slack;
use super::api::{Arguments, CallError, Reply};
use crate::model::{Attachment, Failure, FilePart, Placement, PlatformKind, Reason};
use crate::platform::Sent;
use crate::platform::http::tell_apart;
use crate::platform::verdict::{by_status, no_answer, not_understood};

const SLACK: PlatformKind = PlatformKind::Slack;

/// How long the content may take to arrive at Slack.
const UPLOAD: Duration = Duration::from_secs(11);
/// How long Slack may take to show it.
const SHOW: Duration = Duration::from_secs(8);

#[derive(Deserialize)]
struct Place {
    upload_url: String,
    file_id: String,
}

#[derive(Deserialize)]
struct Shown {
    #[serde(default)]
    files: Vec<ShownFile>,
}

#[derive(Deserialize)]
struct ShownFile {
    permalink: Option<String>,
}

#[derive(Serialize)]
struct Show<'a> {
    files: [Title<'a>; 1],
    channel_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread_ts: Option<&'a str>,
}

#[derive(Serialize)]
struct Title<'a> {
    id: &'a str,
    title: &'a str,
}

impl Slack {
    /// Uploads a file and shows it in the channel. Slack does not tell as which message.
    pub(super) async fn upload(
        &self,
        channel: &str,
        placement: &Placement,
        file: &FilePart,
    ) -> Result<Sent, Failure> {
        let bytes = STANDARD
            .decode(&file.base64)
            .map_err(|_| Failure::give_up(Reason::Internal, "the file's content is not base64"))?;
        let id = match timeout(UPLOAD, self.bring(file, bytes)).await {
            Ok(brought) => brought.map_err(Failure::unseen)?,
            Err(_) => {
                return Err(Failure::retry(Reason::Timeout, "Slack was too slow to take the file"));
            }
        };
        let show = Show {
            files: [Title { id: &id, title: &file.name }],
            channel_id: channel,
            thread_ts: placement.thread.as_deref(),
        };
        let Reply { value, .. } = self
            .api
            .within(SHOW)
            .call::<Shown>("files.completeUploadExternal", Arguments::Json(&show))
            .await?;
        let permalink = value.files.into_iter().next().and_then(|file| file.permalink);
        Ok(Sent { id: String::new(), permalink })
    }

    /// Brings the content to Slack, where nobody sees it yet.
    async fn bring(&self, file: &FilePart, bytes: Vec<u8>) -> Result<String, Failure> {
        let length = bytes.len().to_string();
        let form = [("filename", file.name.as_str()), ("length", &length)];
        let Reply { value: place, .. } = self
            .api
            .call::<Place>("files.getUploadURLExternal", Arguments::Form(&form))
            .await
            .map_err(needs("files:write"))?;
        // The address is a stranger's word until it is known to be Slack's.
        let Some(url) = self.origins.files(&place.upload_url) else {
            return Err(not_understood(SLACK));
        };
        let http = self.api.http();
        let request = http
            .request(Method::POST, url)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .body(bytes);
        let answer = http.send(request).await.map_err(|error| no_answer(SLACK, error))?;
        if !answer.status.is_success() {
            return Err(by_status(SLACK, &answer));
        }
        Ok(place.file_id)
    }

    /// Reads a file that somebody attached.
    pub(super) async fn download(
        &self,
        file: &Attachment,
        most: usize,
    ) -> Result<Vec<u8>, Failure> {
        let Some(url) = self.origins.files(&file.source) else {
            return Err(Failure::give_up(
                Reason::Denied,
                "the file does not lie on Slack's own servers, and others are not asked",
            ));
        };
        let lost = |error: reqwest::Error| no_answer(SLACK, tell_apart(&error));
        let mut answer = self.api.authorized(Method::GET, url).send().await.map_err(lost)?;
        let kind = answer.headers().get(header::CONTENT_TYPE);
        let page = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
        match answer.status() {
            // Who may not read it is sent to the page where people sign in.
            StatusCode::OK if page && !file.mime.starts_with("text/html") => {
                return Err(unreadable());
            }
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(unreadable()),
            status if status.is_redirection() => return Err(unreadable()),
            StatusCode::NOT_FOUND | StatusCode::GONE => {
                return Err(Failure::give_up(Reason::MessageNotFound, "the file is gone"));
            }
            status if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() => {
                return Err(Failure::retry(
                    Reason::ServerError,
                    format!("Slack did not give the file out (HTTP {})", status.as_u16()),
                ));
            }
            status => {
                return Err(Failure::give_up(
                    Reason::Rejected,
                    format!("Slack did not give the file out (HTTP {})", status.as_u16()),
                ));
            }
        }
        let too_large =
            || Failure::give_up(Reason::TooLong, format!("the file is larger than {most} bytes"));
        if answer.content_length().is_some_and(|length| length > most as u64) {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(lost)? {
            if bytes.len() + chunk.len() > most {
                return Err(too_large());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

/// The failure of a call, naming the scope it needs where Slack does not.
fn needs(scope: &'static str) -> impl Fn(CallError) -> Failure {
    move |error| match error {
        CallError::Refused(mut refusal) if refusal.lacks_scope() && refusal.needed.is_none() => {
            refusal.needed = Some(scope.to_owned());
            refusal.failure(None)
        }
        other => other.into(),
    }
}

fn unreadable() -> Failure {
    Failure::give_up(
        Reason::MissingPermission,
        "the bot may not read the file: the operator has to add the scope files:read under OAuth & Permissions and reinstall the app",
    )
}
