//! What an operator pastes to set Slack up.

use std::fmt::Write as _;

use super::Config;

/// The slash command where none is configured.
const COMMAND: &str = "/mykagent";

/// Where events go over HTTP, to be replaced by the operator.
const REQUEST_URL: &str = "https://herald.example.com/slack/events";

/// How to get to the other manifest: the app's secret is known only once there is an app.
const OVER_HTTP: &str = "
This is Socket Mode: Herald connects to Slack, and nothing needs to be reachable from outside. For events over HTTP
instead, print the other manifest with: SLACK_SIGNING_SECRET=later herald setup slack
";

/// Which scopes may be left out, and what is lost without them.
const OPTIONAL: &str = "
Optional are the scopes channels:history (public channels), groups:history (private ones) and im:history (direct
messages): with them the bot follows the threads that it is in, and Herald looks up whether a message arrived where
Slack's answer was lost. Without them HERALD_ON_UNKNOWN decides about such a message.
";

/// The app's manifest and what to do with it: for Socket Mode, or for events over HTTP where a signing secret is set.
/// Shows no secret.
///
/// Scopes: <https://docs.slack.dev/reference/scopes>; the manifest's form:
/// <https://docs.slack.dev/reference/app-manifest>.
#[must_use]
pub fn setup(config: &Config) -> String {
    let http = config.signing_secret.is_some();
    let command = config.command.as_deref().map_or(COMMAND, str::trim);
    let command = format!("/{}", command.trim_start_matches('/'));
    let url = |indent: &str, name: &str| {
        if http { format!("{indent}{name}: {REQUEST_URL}\n") } else { String::new() }
    };
    let (in_command, in_events, in_presses) =
        (url("      ", "url"), url("    ", "request_url"), url("    ", "request_url"));
    let mut text = format!(
        "\
Slack

1. Open https://api.slack.com/apps?new_app=1, choose \"From a manifest\", and paste{own_address}:

display_information:
  name: Herald
  description: Talk to kagent agents
features:
  app_home:
    messages_tab_enabled: true
    messages_tab_read_only_enabled: false
  bot_user:
    display_name: herald
    always_online: true
  slash_commands:
    - command: {command}
{in_command}      description: Ask a kagent agent
      usage_hint: \"[your question]\"
      should_escape: false
oauth_config:
  scopes:
    bot:
      - app_mentions:read
      - channels:history
      - channels:read
      - chat:write
      - commands
      - files:read
      - files:write
      - groups:history
      - groups:read
      - im:history
settings:
  event_subscriptions:
{in_events}    bot_events:
      - app_mention
      - message.channels
      - message.groups
      - message.im
  interactivity:
    is_enabled: true
{in_presses}  org_deploy_enabled: false
  socket_mode_enabled: {socket}
  token_rotation_enabled: false

2. Install App: install it to the workspace, and set SLACK_BOT_TOKEN to the bot token (xoxb-…).
",
        own_address = if http {
            ", with the address at which Slack reaches Herald in place of https://herald.example.com"
        } else {
            ""
        },
        socket = !http,
    );
    let rest = if http {
        "3. Basic Information, App Credentials: set SLACK_SIGNING_SECRET to the signing secret.\n\
         4. Start Herald, and have the address verified under Event Subscriptions.\n"
    } else {
        "3. Basic Information, App-Level Tokens: generate one with the scope connections:write, and set SLACK_APP_TOKEN \
         to it (xapp-…).\n"
    };
    text.push_str(rest);
    let last = if http { 5 } else { 4 };
    let _ = writeln!(
        text,
        "{last}. In Slack: {command} your question. Or invite the bot with /invite @herald, and mention it."
    );
    text.push_str(OPTIONAL);
    if !http {
        text.push_str(OVER_HTTP);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_is_yaml() {
        let text = setup(&Config::default());
        let (_, rest) = text.split_once("paste:\n\n").unwrap();
        let (manifest, _) = rest.split_once("\n\n2.").unwrap();
        let manifest: serde_json::Value = serde_saphyr::from_str(manifest).unwrap();
        assert_eq!(manifest["settings"]["socket_mode_enabled"], true);
        assert_eq!(manifest["features"]["slash_commands"][0]["command"], "/mykagent");
    }

    #[test]
    fn socket_mode_is_set_up_where_no_signing_secret_is() {
        insta::assert_snapshot!(setup(&Config::default()));
    }

    #[test]
    fn http_is_set_up_where_a_signing_secret_is() {
        let config = Config {
            signing_secret: Some("Zq7secret".into()),
            command: Some("k8s".to_owned()),
            ..Config::default()
        };
        let text = setup(&config);
        assert!(!text.contains("Zq7secret"));
        insta::assert_snapshot!(text);
    }
}
