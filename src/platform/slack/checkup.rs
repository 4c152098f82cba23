//! Whether the bot token can do what it is for: `herald check`.

use super::Slack;
use crate::model::PlatformKind;
use crate::platform::Platform as _;
use crate::platform::finding::{Finding, Purpose, token};

/// Without it nothing can be said.
const TO_SPEAK: [&str; 1] = ["chat:write"];
/// With neither nobody reaches the bot; an app with one of them works, by mention or by slash command.
const TO_BE_REACHED: [&str; 2] = ["app_mentions:read", "commands"];
/// Without these the bot misses some of what is said to it: in a thread that it is in, or to it alone.
const TO_FOLLOW: [&str; 3] = ["channels:history", "groups:history", "im:history"];
/// These make it better: what a channel is called and whether it can be posted to; files, both ways.
const TO_KNOW: [&str; 2] = ["channels:read", "groups:read"];
const FOR_FILES: [&str; 2] = ["files:read", "files:write"];

/// With these it can be looked up whether a message arrived, where Slack's answer was lost.
const TO_RECALL: [(&str, &str); 3] = [
    ("channels:history", "public channels"),
    ("groups:history", "private channels"),
    ("im:history", "direct messages"),
];

/// Tokens that are none of a bot, by how they begin: <https://docs.slack.dev/authentication/tokens>.
const OTHERS: [(&str, &str); 3] =
    [("xapp-", "an app-level token"), ("xoxp-", "a person's token"), ("xoxe-", "a refresh token")];

/// A bot token that ends after 12 hours: <https://docs.slack.dev/authentication/using-token-rotation>.
const ROTATES: &str = "xoxe.";

impl Slack {
    /// Whose token it is, and what it may.
    pub(super) async fn checkup(&self, purpose: Purpose) -> Vec<Finding> {
        if let Some((_, kind)) = OTHERS.iter().find(|(start, _)| self.api.token_begins(start)) {
            return vec![Finding::fault(
                "Slack token",
                format!("SLACK_BOT_TOKEN is {kind}"),
                "set SLACK_BOT_TOKEN to the Bot User OAuth Token (xoxb-…) under OAuth & Permissions",
            )];
        }
        match self.probe().await {
            Ok(identity) => {
                let scopes = identity.scopes.as_deref();
                let (granted, recalls) = (granted(scopes, purpose), recalls(scopes));
                let mut token = token(PlatformKind::Slack, Ok(identity));
                if self.api.token_begins(ROTATES) {
                    token.fix = Some("use an app without token rotation, as herald setup slack describes it: this token ends after 12 hours".to_owned());
                }
                [Some(token), Some(granted), recalls].into_iter().flatten().collect()
            }
            failed => vec![token(PlatformKind::Slack, failed)],
        }
    }
}

/// Whether the scopes are enough. Pure.
fn granted(scopes: Option<&[String]>, purpose: Purpose) -> Finding {
    const WHAT: &str = "Slack scopes";
    let Some(scopes) = scopes else {
        return Finding::fine(WHAT, "Slack does not tell them");
    };
    let missing = |wanted: &[&'static str]| -> Vec<&'static str> {
        wanted.iter().copied().filter(|wanted| !scopes.iter().any(|has| has == wanted)).collect()
    };
    let detail = |what: &str, missing: &[&str]| format!("{what}: {}", missing.join(", "));
    let fix = |missing: &[&str]| {
        format!(
            "add {} under OAuth & Permissions, Bot Token Scopes, and reinstall the app to the workspace",
            missing.join(", ")
        )
    };
    let mut needed = missing(&TO_SPEAK);
    let unreached = missing(&TO_BE_REACHED);
    if purpose.listens && unreached.len() == TO_BE_REACHED.len() {
        needed.extend(&unreached);
    }
    if !needed.is_empty() {
        return Finding::fault(WHAT, detail("missing", &needed), fix(&needed));
    }
    let mut better = Vec::new();
    if purpose.listens {
        better.extend(unreached);
        better.extend(missing(&TO_FOLLOW));
    }
    if purpose.posts {
        better.extend(missing(&TO_KNOW));
    }
    if purpose.listens {
        better.extend(missing(&FOR_FILES));
    }
    if !better.is_empty() {
        return Finding::advice(WHAT, detail("enough, but without", &better), fix(&better));
    }
    Finding::fine(WHAT, scopes.join(", "))
}

/// Whether it can be looked up what arrived, where an answer was lost; `None` if Slack does not tell. It is good to know, and
/// nothing to warn of: without it the operator's `on_unknown` decides. Pure.
fn recalls(scopes: Option<&[String]>) -> Option<Finding> {
    let scopes = scopes?;
    let has = |wanted: &str| scopes.iter().any(|has| has == wanted);
    let (may, may_not): (Vec<_>, Vec<_>) = TO_RECALL.into_iter().partition(|(scope, _)| has(scope));
    let join = |each: fn((&'static str, &'static str)) -> String, them: Vec<_>| {
        them.into_iter().map(each).collect::<Vec<_>>().join(", ")
    };
    let without = join(|(scope, place)| format!("{place} ({scope})"), may_not);
    let detail = match (join(|(_, place)| place.to_owned(), may), without) {
        (places, without) if places.is_empty() => {
            format!("a lost answer is not looked up, HERALD_ON_UNKNOWN decides: {without}")
        }
        (places, without) if without.is_empty() => format!("a lost answer is looked up: {places}"),
        (places, without) => {
            format!(
                "a lost answer is looked up: {places}; else HERALD_ON_UNKNOWN decides: {without}"
            )
        }
    };
    Some(Finding::fine("Slack history", detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(scopes: &[&str], posts: bool, listens: bool) -> Finding {
        let scopes: Vec<String> = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        granted(Some(&scopes), Purpose { posts, listens })
    }

    #[test]
    fn what_is_needed_depends_on_what_it_is_for() {
        let guide = ["chat:write", "commands", "channels:read", "groups:read"];
        assert_eq!(found(&guide, true, false).fix, None);
        let bot = found(&guide, true, true);
        assert!(bot.ok, "a slash command is enough: {bot:?}");
        assert_eq!(
            bot.detail,
            "enough, but without: app_mentions:read, channels:history, groups:history, im:history, files:read, files:write"
        );
        assert!(bot.fix.unwrap().contains("reinstall the app"));
        assert!(found(&["chat:write", "app_mentions:read"], true, true).ok, "so is a mention");
        // These alone may be there for others to read with.
        let histories = [&TO_SPEAK[..], &TO_FOLLOW].concat();
        let unreached = found(&histories, true, true);
        assert!(!unreached.ok);
        assert_eq!(unreached.detail, "missing: app_mentions:read, commands");
        let least = found(&["chat:write"], true, false);
        assert!(least.ok && least.fix.unwrap().starts_with("add channels:read, groups:read"));
        assert_eq!(found(&["chat:write"], false, false).fix, None);
        assert!(!found(&["channels:read"], true, false).ok);
        assert!(granted(None, Purpose { posts: true, listens: true }).ok);
    }

    #[test]
    fn it_is_told_where_a_lost_answer_can_be_looked_up() {
        let told = |scopes: &[&str]| {
            let scopes: Vec<String> = scopes.iter().map(|scope| (*scope).to_owned()).collect();
            let found = recalls(Some(&scopes)).unwrap();
            assert!(found.ok && found.fix.is_none(), "a note, no warning: {found:?}");
            found.detail
        };
        let all = TO_RECALL.map(|(scope, _)| scope);
        assert_eq!(
            told(&all),
            "a lost answer is looked up: public channels, private channels, direct messages"
        );
        assert_eq!(
            told(&["chat:write", "channels:history"]),
            "a lost answer is looked up: public channels; else HERALD_ON_UNKNOWN decides: \
             private channels (groups:history), direct messages (im:history)"
        );
        let none = told(&["chat:write"]);
        assert!(
            none.starts_with("a lost answer is not looked up, HERALD_ON_UNKNOWN decides: public"),
            "{none}"
        );
        assert_eq!(recalls(None), None);
    }

    /// What `herald setup slack` asks for is all that is looked for here.
    #[test]
    fn the_manifest_grants_what_is_looked_for() {
        let text = super::super::setup(&super::super::Config::default());
        let wanted = [&TO_SPEAK[..], &TO_BE_REACHED, &TO_FOLLOW, &TO_KNOW, &FOR_FILES].concat();
        for scope in &wanted {
            assert!(text.contains(&format!("      - {scope}\n")), "{scope}");
        }
        assert_eq!(found(&wanted, true, true).fix, None);
    }
}
