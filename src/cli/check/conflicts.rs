//! Settings that are fine one by one, and do not go together. Pure.

use crate::config::{Config, channels_variable};
use crate::model::{ChannelId, PlatformKind};
use crate::platform::finding::Finding;

/// What `herald check` calls them.
const WHAT: &str = "settings";

/// What is set of one platform.
struct Part<'a> {
    kind: PlatformKind,
    token: bool,
    channels: &'a [String],
    users: &'a [String],
}

/// Every conflict; one line that says so where there is none.
pub(super) fn findings(config: &Config, bot: bool) -> Vec<Finding> {
    let mut found = Vec::new();
    for part in parts(config) {
        found.extend(without_token(&part, config));
        if bot && part.token {
            found.extend(unheard(&part, config));
        }
    }
    found.extend(agents(config));
    if found.is_empty() {
        found.push(Finding::fine(WHAT, "they go together"));
    }
    found
}

fn parts(config: &Config) -> [Part<'_>; 3] {
    let Config { slack, discord, telegram, .. } = config;
    [
        Part {
            kind: PlatformKind::Slack,
            token: slack.bot_token.is_some(),
            channels: &slack.channels,
            users: &slack.allowed_users,
        },
        Part {
            kind: PlatformKind::Discord,
            token: discord.bot_token.is_some(),
            channels: &discord.channels,
            users: &discord.allowed_users,
        },
        Part {
            kind: PlatformKind::Telegram,
            token: telegram.bot_token.is_some(),
            channels: &telegram.channels,
            users: &telegram.allowed_users,
        },
    ]
}

/// A platform of which something is set, but not the token: it is off, and nobody says so.
fn without_token(part: &Part<'_>, config: &Config) -> Option<Finding> {
    let name = part.kind.as_str().to_uppercase();
    let (token, users) = (format!("{name}_BOT_TOKEN"), format!("{name}_ALLOWED_USERS"));
    let app = part.kind == PlatformKind::Slack && config.slack.app_token.is_some();
    let set = [
        (app, "SLACK_APP_TOKEN"),
        (!part.channels.is_empty(), channels_variable(part.kind)),
        (!part.users.is_empty(), &*users),
    ];
    let (_, set) = set.into_iter().find(|(set, _)| *set && !part.token)?;
    // Who may talk is said for all platforms at once in many a manifest.
    let detail = format!("{set} is set and {token} is not, so {} is off", part.kind.title());
    let fix = format!("set {token}, or take {set} away");
    Some(if set == users {
        Finding::advice(WHAT, detail, fix)
    } else {
        Finding::fault(WHAT, detail, fix)
    })
}

/// A platform on which the bot listens, and somebody talks or decides in vain.
fn unheard(part: &Part<'_>, config: &Config) -> Vec<Finding> {
    let (kind, title) = (part.kind, part.kind.title());
    let mut found = Vec::new();
    if kind == PlatformKind::Telegram && part.users.is_empty() {
        found.push(Finding::advice(
            WHAT,
            "nobody may talk to the agent on Telegram",
            "set TELEGRAM_ALLOWED_USERS to user IDs (the bot tells whoever writes to it their own), or to * for everyone",
        ));
    }
    let approvers = &config.bot.approvers;
    let decides = |approver: &String| {
        approver.trim().split_once(':').is_some_and(|(platform, _)| platform == kind.as_str())
    };
    if !approvers.is_empty() && !approvers.iter().any(decides) {
        found.push(Finding::advice(
            WHAT,
            format!("nobody may approve an agent's tool calls on {title}"),
            format!("add {}:USER_ID, or {0}:*, to HERALD_APPROVERS", kind.as_str()),
        ));
    }
    found
}

/// Channels that lead to an agent, and from which nothing is heard.
fn agents(config: &Config) -> Vec<Finding> {
    let token = |kind| parts(config).iter().any(|part| part.kind == kind && part.token);
    let listen_in = &config.discord.listen_in;
    let mut found = Vec::new();
    for (name, agent) in &config.agents {
        for channel in agent.channels.iter().filter_map(|it| it.parse::<ChannelId>().ok()) {
            let kind = channel.platform();
            if !token(kind) {
                let variable = format!("{}_BOT_TOKEN", kind.as_str().to_uppercase());
                found.push(Finding::fault(
                    WHAT,
                    format!("{channel} leads to the agent {name}, and {} is off", kind.title()),
                    format!("set {variable}, or take {channel} out of agents.{name}.channels"),
                ));
            } else if kind == PlatformKind::Discord
                && !listen_in.is_empty()
                && !listen_in.iter().any(|it| it.trim() == channel.id())
            {
                found.push(Finding::fault(
                    WHAT,
                    format!(
                        "{channel} leads to the agent {name}, and the bot does not listen there"
                    ),
                    format!("add {} to DISCORD_CHANNEL_ONLY (discord.listen_in)", channel.id()),
                ));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(yaml: &str) -> Vec<(bool, String)> {
        let config: Config = serde_saphyr::from_str(yaml).unwrap();
        let bot = config.agent.url.is_some() || !config.agents.is_empty();
        let found = findings(&config, bot).into_iter();
        found.map(|it| (it.ok, format!("{} | {}", it.detail, it.fix.unwrap_or_default()))).collect()
    }

    #[test]
    fn what_does_not_go_together_is_named_with_the_setting_that_cures_it() {
        let k8s = "agents: {k8s: {url: 'http://k8s/', channels: ['discord:100000000000000001']}}";
        for (yaml, ok, words) in [
            ("slack: {channels: [C0ALERTS]}".to_owned(), false, "set SLACK_BOT_TOKEN, or take SLACK_CHANNEL_IDS away"),
            ("slack: {app_token: xapp-1}".to_owned(), false, "SLACK_APP_TOKEN"),
            ("discord: {allowed_users: ['*']}".to_owned(), true, "DISCORD_ALLOWED_USERS"),
            ("telegram: {channels: ['-1001000000001']}".to_owned(), false, "TELEGRAM_CHAT_IDS"),
            (k8s.to_owned(), false, "Discord is off | set DISCORD_BOT_TOKEN"),
            (
                format!("discord: {{bot_token: t, listen_in: ['100000000000000002']}}\n{k8s}"),
                false,
                "add 100000000000000001 to DISCORD_CHANNEL_ONLY",
            ),
            (
                "agent: {url: 'http://a/'}\ntelegram: {bot_token: '1:t'}".to_owned(),
                true,
                "set TELEGRAM_ALLOWED_USERS",
            ),
            (
                "agent: {url: 'http://a/'}\ndiscord: {bot_token: t}\nbot: {approvers: ['slack:U0ALICE']}"
                    .to_owned(),
                true,
                "add discord:USER_ID, or discord:*, to HERALD_APPROVERS",
            ),
        ] {
            let found = found(&yaml);
            let [(found_ok, line)] = &found[..] else { panic!("{yaml}: {found:?}") };
            assert!(*found_ok == ok && line.contains(words), "{yaml}: {found:?}");
        }
    }

    #[test]
    fn what_goes_together_is_one_line() {
        for yaml in [
            "{}",
            "telegram: {bot_token: '1:t', channels: ['-1001000000001']}",
            "agent: {url: 'http://a/'}\nslack: {bot_token: t}\nbot: {approvers: ['slack:*']}",
        ] {
            assert_eq!(found(yaml), [(true, "they go together | ".to_owned())]);
        }
    }
}
