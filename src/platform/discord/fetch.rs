//! Attachments, from Discord's own servers alone.

use http::{Method, StatusCode};
use url::Url;

use super::Discord;
use crate::model::{Attachment, Failure, PlatformKind, Reason};
use crate::platform::http::{Answer, TransportError, tell_apart};
use crate::platform::verdict::{by_status, no_answer};

/// Where Discord keeps attachments.
const HOSTS: [&str; 2] = ["cdn.discordapp.com", "media.discordapp.net"];

impl Discord {
    /// Reads an attachment. Its address carries its own permission: the token stays here.
    pub(super) async fn attachment(
        &self,
        file: &Attachment,
        most: usize,
    ) -> Result<Vec<u8>, Failure> {
        let too_large =
            || Failure::give_up(Reason::TooLong, format!("the file is larger than {most} bytes"));
        let url = self.address(&file.source).ok_or_else(|| {
            Failure::give_up(Reason::Denied, "the file is not on one of Discord's own servers")
        })?;
        let exceeds = |size: Option<u64>| {
            size.is_some_and(|size| usize::try_from(size).map_or(true, |size| size > most))
        };
        if exceeds(file.size) {
            return Err(too_large());
        }
        // Nothing was to be sent: reading it again does no harm.
        let lost = |error: TransportError| {
            let reason = no_answer(PlatformKind::Discord, error).reason;
            Failure::retry(reason, "the file could not be read from Discord")
        };
        let broke = |error: reqwest::Error| lost(tell_apart(&error));
        let request = self.api.http.request(Method::GET, url);
        let mut response = request.send().await.map_err(broke)?;
        if matches!(response.status(), StatusCode::NOT_FOUND | StatusCode::FORBIDDEN) {
            let why = "Discord does not give out this file (any more): attach it again";
            return Err(Failure::give_up(Reason::MessageNotFound, why));
        }
        if response.status() != StatusCode::OK {
            let (status, headers) = (response.status(), response.headers().clone());
            return Err(by_status(
                PlatformKind::Discord,
                &Answer { status, headers, body: Vec::new() },
            ));
        }
        if exceeds(response.content_length()) {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(broke)? {
            if bytes.len().saturating_add(chunk.len()) > most {
                return Err(too_large());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    /// An address that is Discord's, or on the server that stands in for it.
    fn address(&self, source: &str) -> Option<Url> {
        let url: Url = source.parse().ok()?;
        let host = url.host_str()?;
        let vendors = url.scheme() == "https"
            && HOSTS.contains(&host)
            && url.port_or_known_default() == Some(443);
        let base = &self.api.base;
        let configured = url.scheme() == base.scheme()
            && Some(host) == base.host_str()
            && url.port_or_known_default() == base.port_or_known_default();
        let plain = url.username().is_empty() && url.password().is_none();
        ((vendors || configured) && plain).then_some(url)
    }
}
