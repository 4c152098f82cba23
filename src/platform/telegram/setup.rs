//! What `herald setup telegram` prints.

use super::Config;

/// How to make a bot and let people talk to it, as lines to copy. Shows no secret.
#[must_use]
pub fn setup(config: &Config) -> String {
    let token = if config.bot_token.is_some() {
        "   TELEGRAM_BOT_TOKEN is set already.\n"
    } else {
        "   It answers with a token. Keep it secret, and give it to Herald:\n\
         \x20  export TELEGRAM_BOT_TOKEN=<the token>\n"
    };
    let users = if config.allowed_users.is_empty() {
        "   Nobody may, until you name them. While `herald bot` runs, open a chat with your bot and press Start:\n\
         \x20  it answers with your user ID. Then set this, and start it again:\n\
         \x20  export TELEGRAM_ALLOWED_USERS=<your user ID>,<another one>\n"
    } else if config.allowed_users.iter().any(|user| user == "*") {
        "   TELEGRAM_ALLOWED_USERS is *: everyone who finds the bot. To let in fewer, name their user IDs:\n\
         \x20  whom it does not know, the bot tells their own.\n"
    } else {
        "   TELEGRAM_ALLOWED_USERS names them. To add somebody, let them write to the bot: it answers with\n\
         \x20  their user ID.\n"
    };
    format!(
        "\
Telegram

1. Make a bot. In Telegram, write to @BotFather (https://t.me/BotFather), line by line:
   /newbot
   Herald
   <a user name that ends in bot, such as acme_herald_bot>
{token}
2. Say who may talk to the agent.
{users}
3. Groups, if you want it there. Add the bot to the group. What it hears is BotFather's privacy mode:
   on (as it is at first): commands with its name (/new@acme_herald_bot), mentions of it, replies to it;
   off: everything that is written in the group. To switch it off, write to @BotFather, line by line:
   /setprivacy
   @acme_herald_bot
   Disable
   Then take the bot out of the group and add it again: only then does it take effect.

4. Let agents post where nobody asked first, if you want that: the chat's ID (a group's is negative).
   export TELEGRAM_CHAT_IDS=<chat ID>,<another one>

The bot asks Telegram for messages: nothing needs to be reachable from outside. Run it once per token
(in Kubernetes: one replica, strategy Recreate), because Telegram answers only one of two that ask.
Its menu (/start /help /new /status /cancel) it sets by itself.
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_for_an_operator() {
        insta::assert_snapshot!("setup_fresh", setup(&Config::default()));
        let config = Config {
            bot_token: Some("1:canary".into()),
            allowed_users: vec!["123456789".to_owned()],
            ..Config::default()
        };
        let shown = setup(&config);
        assert!(!shown.contains("canary"), "{shown}");
        insta::assert_snapshot!("setup_configured", shown);
        let everyone = Config { allowed_users: vec!["*".to_owned()], ..Config::default() };
        assert!(setup(&everyone).contains("everyone who finds the bot"));
    }
}
