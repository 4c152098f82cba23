//! What an operator does in Discord's developer portal.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use secrecy::ExposeSecret;

use super::config::Config;
use super::is_id;
use super::permissions::INVITED;

/// What `herald setup discord` prints: the invite link, the intents, the settings.
#[must_use]
pub fn setup(config: &Config) -> String {
    let client = client_id(config);
    let placeholder = client.is_none();
    let client = client.unwrap_or_else(|| "YOUR_APPLICATION_ID".to_owned());
    let bits = INVITED.iter().fold(0, |bits, permission| bits | permission.bit);
    let names: Vec<&str> = INVITED.iter().map(|permission| permission.name).collect();
    let names = names.join(", ");
    let application = if placeholder {
        "1. Create an application and its bot: https://discord.com/developers/applications\n   \
         Under Bot, press Reset Token and set DISCORD_BOT_TOKEN to what it shows.\n   \
         YOUR_APPLICATION_ID below is the Application ID under General Information."
            .to_owned()
    } else {
        format!("1. The bot: https://discord.com/developers/applications/{client}/bot")
    };
    let intents = if config.mention_only {
        "2. No privileged intent is needed: DISCORD_MENTION_ONLY is set, so the bot reads mentions, direct messages and\n   \
         commands alone."
    } else {
        "2. Under Bot, Privileged Gateway Intents, switch on Message Content Intent. The bot answers every message in its\n   \
         channels; with DISCORD_MENTION_ONLY=true it answers mentions alone and needs no privileged intent."
    };
    format!(
        "Discord\n\
         \n\
         {application}\n\
         {intents}\n\
         3. Invite it to your server:\n\
         \n\
         https://discord.com/oauth2/authorize?client_id={client}&scope=bot+applications.commands&permissions={bits}\n\
         \n   \
         Permissions: {names}.\n   \
         An older invitation without applications.commands works too: write \"@herald new\" instead of /new.\n\
         4. Choose where it listens and who may talk to the agent:\n\
         \n\
         export DISCORD_CHANNEL_ONLY=  # channel IDs, with commas between; empty: every channel it sees\n\
         export DISCORD_ALLOWED_USERS= # user IDs, * for everyone; empty: whoever writes there, nobody in direct messages\n\
         export DISCORD_CHANNEL_IDS=   # channel IDs that agents may post to by themselves; empty: none\n"
    )
}

/// The first part of a bot token is its application's ID in base64.
fn client_id(config: &Config) -> Option<String> {
    let token = config.bot_token.as_ref()?.expose_secret();
    let first = token.trim().split('.').next()?.trim_end_matches('=');
    let id = String::from_utf8(STANDARD_NO_PAD.decode(first).ok()?).ok()?;
    (is_id(&id) && id.len() >= 15).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(token: &str, mention_only: bool) -> Config {
        Config { bot_token: Some(token.into()), mention_only, ..Config::default() }
    }

    #[test]
    fn with_a_token() {
        // 112233445566778899, then what has to stay a secret.
        let text = setup(&config("MTEyMjMzNDQ1NTY2Nzc4ODk5.Zq7sec.ret", true));
        insta::assert_snapshot!("setup_with_a_token", text);
        assert!(!text.contains("Zq7sec"));
    }

    #[test]
    fn without_one() {
        insta::assert_snapshot!("setup_without_a_token", setup(&Config::default()));
    }

    #[test]
    fn a_token_that_says_nothing_is_not_shown() {
        for token in ["", "x.y.z", "aGVyYWxk.y.z", "sandbox-discord-bot.SANDBX.works"] {
            assert!(setup(&config(token, false)).contains("client_id=YOUR_APPLICATION_ID&"));
        }
    }
}
