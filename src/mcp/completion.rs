//! Completion of prompt arguments: only what the operator wrote (IDs and aliases), never live channel names.

use rmcp::model::{CompleteResult, CompletionInfo};

use super::prompts;
use super::tools::{self, Offer};

/// The values of a prompt's argument that go on from `typed`. Empty where nothing is known.
pub(super) fn complete(
    prompt: &str,
    argument: &str,
    typed: &str,
    offers: &[Offer<'_>],
) -> Vec<String> {
    if !prompts::takes(prompt, argument) {
        return Vec::new();
    }
    let values: Vec<String> = match argument {
        "channel" => offers
            .iter()
            .flat_map(|(platform, allowed)| {
                let names = tools::names(allowed).into_iter();
                names.map(move |name| format!("{platform}:{name}"))
            })
            .collect(),
        "severity" => prompts::SEVERITIES.map(str::to_owned).to_vec(),
        _ => Vec::new(),
    };
    let typed = typed.trim().to_lowercase();
    values
        .into_iter()
        .filter(|value| {
            let value = value.to_lowercase();
            let name = value.split_once(':').map_or(value.as_str(), |(_, name)| name);
            value.starts_with(&typed) || name.starts_with(&typed)
        })
        .collect()
}

/// As the protocol wants it: at most 100 values, and how many there are.
pub(super) fn result(mut values: Vec<String>) -> CompleteResult {
    let total = u32::try_from(values.len()).ok();
    let more = values.len() > CompletionInfo::MAX_VALUES;
    values.truncate(CompletionInfo::MAX_VALUES);
    let completion = CompletionInfo::with_pagination(values, total, more).unwrap_or_default();
    CompleteResult::new(completion)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PlatformKind;
    use crate::policy::AllowList;

    fn channels(typed: &str) -> Vec<String> {
        let slack =
            AllowList::parse(PlatformKind::Slack, ["alerts=C0ALERTS", "C0GENERAL"]).unwrap();
        let telegram = AllowList::parse(PlatformKind::Telegram, ["*"]).unwrap();
        let offers = [(PlatformKind::Slack, &slack), (PlatformKind::Telegram, &telegram)];
        complete("announce_incident", "channel", typed, &offers)
    }

    #[test]
    fn a_channel_completes_from_its_id_alias_or_platform() {
        assert_eq!(channels(""), ["slack:C0ALERTS", "slack:alerts", "slack:C0GENERAL"]);
        assert_eq!(channels("slack:c0g"), ["slack:C0GENERAL"]);
        assert_eq!(channels("AL"), ["slack:alerts"]);
        assert!(channels("telegram:").is_empty());
    }

    #[test]
    fn what_is_unknown_completes_to_nothing() {
        assert_eq!(complete("announce_incident", "severity", "h", &[]), ["high"]);
        assert!(complete("announce_incident", "title", "", &[]).is_empty());
        assert!(complete("daily_summary", "severity", "", &[]).is_empty());
        assert!(complete("no_such_prompt", "channel", "", &[]).is_empty());
    }

    #[test]
    fn no_more_than_a_hundred() {
        let values = (0..150).map(|n| n.to_string()).collect();
        let completion = result(values).completion;
        assert_eq!(completion.values.len(), 100);
        assert_eq!((completion.total, completion.has_more), (Some(150), Some(true)));
    }
}
