//! The resources: the channels, and what Markdown each platform shows.

use rmcp::ErrorData;
use rmcp::model::{ReadResourceResult, Resource, ResourceContents};
use serde_json::json;

use super::tools::Channels;

pub(super) const CHANNELS: &str = "herald://channels";
pub(super) const FORMATTING: &str = "herald://formatting";

/// Platforms are asked again after this time at the earliest.
const CHANNELS_TTL_MS: u64 = 60_000;

pub(super) fn list() -> Vec<Resource> {
    vec![
        Resource::new(CHANNELS, "channels")
            .with_title("Channels")
            .with_description("The channels you may post to: what list_channels shows.")
            .with_mime_type("application/json"),
        Resource::new(FORMATTING, "formatting")
            .with_title("Formatting")
            .with_description("What Markdown each platform shows, and how long texts are split.")
            .with_mime_type("text/markdown"),
    ]
}

pub(super) fn formatting() -> ReadResourceResult {
    let text = ResourceContents::text(include_str!("formatting.md"), FORMATTING);
    ReadResourceResult::new(vec![text.with_mime_type("text/markdown")])
}

pub(super) fn channels(channels: &Channels) -> Result<ReadResourceResult, ErrorData> {
    let text = serde_json::to_string(channels)
        .map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
    let text = ResourceContents::text(text, CHANNELS).with_mime_type("application/json");
    Ok(ReadResourceResult::new(vec![text]).with_ttl_ms(CHANNELS_TTL_MS))
}

pub(super) fn not_found(uri: &str) -> ErrorData {
    // rmcp turns the code into -32602 for clients of 2026-07-28.
    ErrorData::resource_not_found("Resource not found", Some(json!({ "uri": uri })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_a_committed_promise() {
        insta::assert_json_snapshot!("resources", list());
    }
}
