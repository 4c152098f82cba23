//! Answers through a response URL: where somebody used a slash command or a button in a channel that the bot is no
//! member of. Five of them, within 30 minutes.
//! <https://docs.slack.dev/interactivity/handling-user-interaction#message_responses>

use std::time::Duration;

use http::{Method, StatusCode};
use serde::Serialize;
use slack_morphism::prelude::SlackMessageContent;

use super::origin::Origins;
use crate::model::{Failure, PlatformKind, Reason, ResponseUrl};
use crate::platform::http::HttpClient;
use crate::platform::verdict::{by_status, no_answer};

const SLACK: PlatformKind = PlatformKind::Slack;

/// How long it may take: it follows a call that was refused, within the same step.
const WITHIN: Duration = Duration::from_secs(5);

/// Whether a failed call may be made good through a response URL: the bot is no member.
pub(super) const fn would_help(failure: &Failure) -> bool {
    matches!(failure.reason, Reason::NotInChannel | Reason::ChannelNotFound)
}

/// What is posted to a response URL.
#[derive(Serialize)]
struct Response<'a> {
    #[serde(flatten)]
    content: &'a SlackMessageContent,
    response_type: &'static str,
    replace_original: bool,
    /// No previews: what a link leads to is not fetched.
    unfurl_links: bool,
    unfurl_media: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread_ts: Option<&'a str>,
}

/// Answers there for everyone to see; `replace`: in place of what was answered or pressed.
pub(super) async fn answer(
    http: &HttpClient,
    origins: &Origins,
    url: &ResponseUrl,
    content: &SlackMessageContent,
    thread: Option<&str>,
    replace: bool,
) -> Result<(), Failure> {
    let Some(url) = origins.answers(url.expose()) else {
        return Err(over("is not one of Slack's"));
    };
    let body = Response {
        content,
        response_type: "in_channel",
        replace_original: replace,
        unfurl_links: false,
        unfurl_media: false,
        thread_ts: thread,
    };
    let request = http.request(Method::POST, url).timeout(WITHIN).json(&body);
    let answer = http.send(request).await.map_err(|error| no_answer(SLACK, error))?;
    match answer.status {
        status if status.is_success() => Ok(()),
        StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::FORBIDDEN => {
            Err(over("is used up or older than 30 minutes"))
        }
        _ => Err(by_status(SLACK, &answer)),
    }
}

fn over(why: &str) -> Failure {
    Failure::give_up(
        Reason::NotInChannel,
        format!(
            "the bot is not in the channel, and the address that Slack gave for answers {why}: invite the bot with /invite @your-bot"
        ),
    )
}
