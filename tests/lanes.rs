//! Channels that are filled in a known order, and the judge of what people see there.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::proxy::Proxy;
use crate::world::Workspace;

/// Three channels of each platform.
pub const LANES: [&str; 9] = [
    "slack:C0ALERTS",
    "slack:C0GENERAL",
    "slack:C0PRIVATE",
    "discord:100000000000000001",
    "discord:100000000000000002",
    "discord:400000000000000001",
    "telegram:-1001000000001",
    "telegram:-1001000000002",
    "telegram:-1001000000003",
];

/// What is done about a send whose outcome nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnknown {
    Resend,
    Hold,
}

/// The environment of a Herald that may write to all of them, through a proxy.
pub fn env(
    workspace: &Workspace,
    proxy: &Proxy,
    on_unknown: OnUnknown,
) -> BTreeMap<String, String> {
    let mut env = workspace.env();
    env.insert("HERALD_ON_UNKNOWN".to_owned(), format!("{on_unknown:?}").to_lowercase());
    for (platform, variable) in [
        ("slack:", "SLACK_CHANNEL_IDS"),
        ("discord:", "DISCORD_CHANNEL_IDS"),
        ("telegram:", "TELEGRAM_CHAT_IDS"),
    ] {
        let ids: Vec<&str> = LANES.iter().filter_map(|lane| lane.strip_prefix(platform)).collect();
        env.insert(variable.to_owned(), ids.join(","));
    }
    env.values_mut().for_each(|value| *value = proxy.through(value));
    env
}

/// Takes the scopes from Slack's bot with which it could look into a channel's history.
pub fn forget_history(workspace: &Workspace) {
    let scopes = "channels:history,groups:history,im:history,mpim:history";
    workspace.fault(
        json!({ "platform": "slack", "kind": "missing_scope", "scopes": scopes, "times": 0 }),
    );
}

/// What is wrong with what people see in a channel.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Accepted, and not there.
    pub lost: Vec<String>,
    /// There, although a later one stood there already. A repetition belongs right behind what it repeats.
    pub out_of_order: Vec<String>,
    /// There more than once, and how often too many.
    pub repeated: BTreeMap<String, usize>,
    /// Nobody wrote that.
    pub strange: Vec<String>,
}

impl Judgement {
    /// Everything is there, in order, and nothing else is. It may be there more than once.
    pub fn is_right(&self) -> bool {
        self.lost.is_empty() && self.out_of_order.is_empty() && self.strange.is_empty()
    }

    pub fn duplicates(&self) -> usize {
        self.repeated.values().sum()
    }
}

/// Compares what people see with what was accepted, in that order.
pub fn judge(accepted: &[String], seen: &[String]) -> Judgement {
    let mut judgement = Judgement::default();
    let mut latest = None;
    for text in seen {
        let Some(place) = accepted.iter().position(|other| other == text) else {
            judgement.strange.push(text.clone());
            continue;
        };
        if latest.is_some_and(|latest| place < latest) {
            judgement.out_of_order.push(text.clone());
        }
        latest = latest.max(Some(place));
        *judgement.repeated.entry(text.clone()).or_default() += 1;
    }
    let there: BTreeSet<&String> = judgement.repeated.keys().collect();
    judgement.lost = accepted.iter().filter(|text| !there.contains(text)).cloned().collect();
    judgement.repeated.retain(|_, times| {
        *times -= 1;
        *times > 0
    });
    judgement
}

mod tests {
    use super::*;

    fn texts(words: &str) -> Vec<String> {
        words.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn what_is_right_is_not_blamed() {
        assert_eq!(judge(&texts("a b c"), &texts("a b c")), Judgement::default());
    }

    /// Each mistake is planted alone: the judge names it, and no other.
    #[test]
    fn each_planted_mistake_is_found() {
        type Plant = (&'static str, fn(&mut Judgement));
        let plants: [Plant; 8] = [
            ("a c", |found| found.lost = texts("b")),
            ("", |found| found.lost = texts("a b c")),
            ("a b", |found| found.lost = texts("c")),
            ("b a c", |found| found.out_of_order = texts("a")),
            ("c a b", |found| found.out_of_order = texts("a b")),
            ("a b b b c", |found| found.repeated = [("b".to_owned(), 2)].into()),
            // A repetition that comes after the next message is out of order as well.
            ("a b a c", |found| {
                found.repeated = [("a".to_owned(), 1)].into();
                found.out_of_order = texts("a");
            }),
            ("a b x c", |found| found.strange = texts("x")),
        ];
        for (seen, plant) in plants {
            let mut expected = Judgement::default();
            plant(&mut expected);
            assert_eq!(judge(&texts("a b c"), &texts(seen)), expected, "{seen}");
        }
    }
}
