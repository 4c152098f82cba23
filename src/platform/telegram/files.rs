//! Files that people attach: <https://core.telegram.org/bots/api#getfile>.

use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::Telegram;
use super::failure;
use crate::model::{Attachment, Failure, PlatformKind, Reason};
use crate::platform::verdict::not_understood;

/// For one file on its way down.
const DOWNLOAD: Duration = Duration::from_secs(30);

/// <https://core.telegram.org/bots/api#file>
#[derive(Deserialize)]
struct File {
    file_path: Option<String>,
    file_size: Option<u64>,
}

impl Telegram {
    /// A file's bytes, at most `most` of them. It comes from the same base URL that everything goes to.
    pub(super) async fn file(&self, file: &Attachment, most: usize) -> Result<Vec<u8>, Failure> {
        let larger = |size: Option<u64>| size.is_some_and(|size| size > most as u64);
        if larger(file.size) {
            return Err(too_large(most));
        }
        let found = self.api.ask("getFile", &json!({"file_id": file.source})).await?;
        let found: File =
            serde_json::from_value(found).map_err(|_| not_understood(PlatformKind::Telegram))?;
        if larger(found.file_size) {
            return Err(too_large(most));
        }
        let path = found.file_path.ok_or_else(gone)?;
        // A Bot API server in local mode names a path on its own disk.
        if path.starts_with('/')
            || path.split('/').any(|segment| matches!(segment, "" | "." | ".."))
        {
            return Err(Failure::give_up(
                Reason::Rejected,
                "the Bot API server does not serve files over HTTP: run it without --local",
            ));
        }
        let read = self.api.download(path.split('/'), DOWNLOAD, most).await?;
        match read.answer.status {
            status if status.is_success() && read.cut => Err(too_large(most)),
            status if status.is_success() => Ok(read.answer.body),
            StatusCode::NOT_FOUND => Err(gone()),
            _ => Err(failure::of(&read.answer)),
        }
    }
}

fn gone() -> Failure {
    Failure::give_up(Reason::MessageNotFound, "Telegram no longer has that file")
}

fn too_large(most: usize) -> Failure {
    Failure::give_up(
        Reason::TooLong,
        format!("the file is larger than {} KB, which is the most that is read", most / 1024),
    )
}
