//! What `herald check` finds out: one thing each, and the fix.
//!
//! The house's sentences say what is wrong, then, after the first colon, what to do about it. Here they are taken apart.

use serde::Serialize;

use crate::model::{ChannelId, ChannelInfo, Failure, Identity, PlatformKind, Reason};

/// One thing that was checked. A program reads it as `{what, ok, detail, fix?}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was checked: `Slack token`, `slack:C0123456789`.
    pub what: String,
    /// Whether Herald can do its work as far as this is concerned.
    pub ok: bool,
    /// What was found; never a secret.
    pub detail: String,
    /// What to do, in one sentence: always where it is not ok, and where it is, but could be better.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// What a token or a channel is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purpose {
    /// Agents post there by themselves.
    pub posts: bool,
    /// The bot listens there, and answers.
    pub listens: bool,
}

/// Where a sentence says what is wrong and no more.
const AGAIN: &str = "run this again; if it stays, HERALD_LOG=herald=debug shows more";

impl Finding {
    /// All is well.
    pub fn fine(what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { what: what.into(), ok: true, detail: detail.into(), fix: None }
    }

    /// It works, and could be better.
    pub fn advice(
        what: impl Into<String>,
        detail: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { fix: Some(fix.into()), ..Self::fine(what, detail) }
    }

    /// It does not work.
    pub fn fault(
        what: impl Into<String>,
        detail: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { ok: false, ..Self::advice(what, detail, fix) }
    }

    /// It does not work, in a sentence that says both what is wrong and what to do.
    pub fn told(what: impl Into<String>, sentence: &str) -> Self {
        let (detail, fix) = apart(sentence);
        Self::fault(what, detail, fix)
    }

    /// It works, in a sentence that may say, after the first colon, what would be better.
    pub fn heard(what: impl Into<String>, sentence: &str) -> Self {
        match sentence.split_once(": ") {
            Some((detail, fix)) => Self::advice(what, detail, fix),
            None => Self::fine(what, sentence),
        }
    }

    /// The platform could not be asked, or refused.
    #[must_use]
    pub fn failed(what: impl Into<String>, platform: PlatformKind, failure: &Failure) -> Self {
        Self::told(what, &sentence(platform, failure))
    }

    /// What a platform tells about a channel.
    #[must_use]
    pub fn channel(channel: &ChannelId, described: Result<ChannelInfo, Failure>) -> Self {
        match described {
            Ok(info) => Self::described(&info),
            Err(failure) => Self::failed(channel.to_string(), channel.platform(), &failure),
        }
    }

    /// The same of a channel that has been described.
    #[must_use]
    pub fn described(info: &ChannelInfo) -> Self {
        let what = format!("{}:{}", info.platform, info.id);
        let name = info.name.clone().unwrap_or_default();
        match (&info.note, info.can_post) {
            (None, true) => Self::fine(what, name),
            (None, false) => Self::told(what, "nothing can be posted there: use another channel"),
            (Some(note), can_post) => Self { ok: can_post, ..Self::told(what, note) }.named(&name),
        }
    }

    /// With a name before what is wrong.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        if !name.is_empty() {
            self.detail = match self.detail.is_empty() {
                true => name.to_owned(),
                false => format!("{name}; {}", self.detail),
            };
        }
        self
    }
}

/// Whose token it is.
pub(super) fn token(platform: PlatformKind, who: Result<Identity, Failure>) -> Finding {
    let what = format!("{} token", platform.title());
    match who {
        Ok(Identity { id, name, workspace, .. }) => {
            let place = workspace.map_or_else(String::new, |place| format!(" in {place}"));
            Finding::fine(what, format!("{name} ({id}){place}"))
        }
        Err(failure) => Finding::failed(what, platform, &failure),
    }
}

/// What went wrong and, after the first colon, what to do.
pub(super) fn sentence(platform: PlatformKind, failure: &Failure) -> String {
    let (title, name) = (platform.title(), platform.as_str().to_uppercase());
    let hint = &failure.hint;
    match failure.reason {
        Reason::Unreachable | Reason::Timeout | Reason::ConnectionLost => format!(
            "{hint}: let Herald reach {title} (a way out in the NetworkPolicy, HTTPS_PROXY, SSL_CERT_FILE for a private CA), or correct {name}_API_URL"
        ),
        Reason::RateLimited => {
            format!("{hint}: wait a minute, run this again, and see who else uses the same token")
        }
        Reason::ServerError => {
            format!("{hint}: run this again in a minute, and see whether {title} is down")
        }
        // What nobody explained, or only a code.
        Reason::Rejected | Reason::Internal => {
            format!(
                "{}: check {name}_API_URL and the proxy, and run this again",
                hint.replace(": ", ", ")
            )
        }
        _ => hint.clone(),
    }
}

fn apart(sentence: &str) -> (&str, &str) {
    let (detail, fix) = sentence.split_once(": ").unwrap_or((sentence, AGAIN));
    // Whoever reads this is the operator.
    let to = ["the operator has to ", "the operator should ", "the operator can "];
    (detail, to.iter().find_map(|to| fix.strip_prefix(to)).unwrap_or(fix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::http::TransportError;
    use crate::platform::verdict::{no_answer, not_understood, refused_token};

    #[test]
    fn a_sentence_is_taken_apart() {
        let found = Finding::told("x", "the channel is archived: unarchive it, or so: today");
        assert!(!found.ok && found.detail == "the channel is archived");
        assert_eq!(found.fix.as_deref(), Some("unarchive it, or so: today"));
        assert_eq!(Finding::told("x", "it broke").fix.as_deref(), Some(AGAIN));
    }

    #[test]
    fn each_failure_has_a_fix_for_the_operator() {
        let slack = PlatformKind::Slack;
        for (failure, detail, fix) in [
            (
                no_answer(slack, TransportError::Unreachable("the connection was refused")),
                "the connection was refused",
                "SLACK_API_URL",
            ),
            (no_answer(slack, TransportError::Timeout), "in time", "NetworkPolicy"),
            (not_understood(slack), "does not speak Slack's language", "check the proxy and"),
            (refused_token(slack), "does not accept", "set a valid SLACK_BOT_TOKEN"),
            (
                Failure::give_up(Reason::Rejected, "Slack refused this: odd_code"),
                "Slack refused this, odd_code",
                "SLACK_API_URL",
            ),
        ] {
            let found = Finding::failed("x", slack, &failure);
            assert!(found.detail.contains(detail), "{found:?}");
            assert!(found.fix.as_ref().unwrap().contains(fix), "{found:?}");
            assert!(!found.fix.unwrap().contains("operator"));
        }
    }

    #[test]
    fn a_note_about_a_channel_that_takes_messages_is_advice() {
        let info = ChannelInfo {
            platform: PlatformKind::Slack,
            id: "C0123456789".to_owned(),
            alias: None,
            name: Some("ops".to_owned()),
            kind: crate::model::ChannelKind::Public,
            can_post: true,
            note: Some("its state is not known: grant a scope".to_owned()),
        };
        let found = Finding::described(&info);
        assert_eq!(found.detail, "ops; its state is not known");
        assert!(found.ok && found.fix.as_deref() == Some("grant a scope"));
        let json = serde_json::to_string(&Finding::fine("a", "b")).unwrap();
        assert_eq!(json, r#"{"what":"a","ok":true,"detail":"b"}"#);
    }
}
