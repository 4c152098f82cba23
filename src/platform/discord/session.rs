//! A session of Discord's gateway: what another process needs to go on where this one stopped.

use serde::{Deserialize, Serialize};
use url::Url;

/// `GUILDS`: servers, channels and threads.
const GUILDS: u64 = 1;
/// `GUILD_MESSAGES`.
const GUILD_MESSAGES: u64 = 1 << 9;
/// `DIRECT_MESSAGES`.
const DIRECT_MESSAGES: u64 = 1 << 12;
/// `MESSAGE_CONTENT`, which is privileged. Without it the text of mentions and direct messages comes all the same.
pub(super) const MESSAGE_CONTENT: u64 = 1 << 15;

/// Whose subdomains the gateway's machines are.
const VENDOR: &str = "discord.gg";

/// What the bot wants to hear of: <https://docs.discord.com/developers/events/gateway#gateway-intents>.
pub(super) const fn intents(mention_only: bool) -> u64 {
    let usual = GUILDS | GUILD_MESSAGES | DIRECT_MESSAGES;
    if mention_only { usual } else { usual | MESSAGE_CONTENT }
}

/// A session, up to some event of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Session {
    pub(super) id: String,
    /// The last event that was taken.
    pub(super) seq: u64,
    /// Where it is resumed.
    pub(super) resume: Option<Url>,
    /// The bot's user ID, which only READY tells.
    pub(super) user: String,
    /// Its application's ID, likewise.
    pub(super) application: String,
    /// A resumed session keeps the intents it began with.
    pub(super) intents: u64,
}

impl Session {
    /// What was remembered, if it is of use to a bot with these settings.
    pub(super) fn remembered(cursor: &str, intents: u64, base: &Url) -> Option<Self> {
        let session: Self = serde_json::from_str(cursor).ok()?;
        let resume = session.resume.clone().filter(|url| is_gateway(url, base));
        (session.intents == intents).then_some(Self { resume, ..session })
    }

    pub(super) fn to_cursor(&self) -> Option<String> {
        serde_json::to_string(self).ok()
    }
}

/// Whether the token may be shown to a server: Discord's own, or the one that stands in for it.
pub(super) fn is_gateway(url: &Url, base: &Url) -> bool {
    let Some(host) = url.host_str() else { return false };
    let secure = url.scheme() == "wss";
    let vendors =
        secure && host.strip_suffix(VENDOR).is_some_and(|sub| sub.is_empty() || sub.ends_with('.'));
    let open = url.scheme() == "ws" && base.scheme() == "http";
    vendors || (base.host_str() == Some(host) && (secure || open))
}

/// The address with the version and the encoding we speak.
pub(super) fn versioned(mut url: Url) -> Url {
    url.set_query(Some("v=10&encoding=json"));
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_shown_to_discord_or_to_who_stands_in_for_it() {
        let vendor = "https://discord.com/api/v10";
        let proxy = "http://egress.local:8080/api/v10";
        for (url, base, trusted) in [
            ("wss://gateway.discord.gg", vendor, true),
            ("wss://gateway-us-east1-b.discord.gg/?x=1", vendor, true),
            ("ws://gateway.discord.gg", vendor, false),
            ("wss://evildiscord.gg", vendor, false),
            ("wss://discord.gg.evil.example", vendor, false),
            ("wss://gateway.discord.gg@evil.example", vendor, false),
            ("https://gateway.discord.gg", vendor, false),
            ("ws://egress.local:9090/gateway", proxy, true),
            ("wss://egress.local/gateway", proxy, true),
            ("wss://gateway.discord.gg", proxy, true),
            ("ws://elsewhere.local:8080/gateway", proxy, false),
            ("ws://discord.com/", vendor, false),
        ] {
            let (url, base) = (url.parse().unwrap(), base.parse().unwrap());
            assert_eq!(is_gateway(&url, &base), trusted, "{url} {base}");
        }
    }

    #[test]
    fn a_session_is_taken_up_again_only_where_it_fits() {
        let base: Url = "https://discord.com/api/v10".parse().unwrap();
        let session = Session {
            id: "abc".to_owned(),
            seq: 7,
            resume: Some("wss://gateway.discord.gg".parse().unwrap()),
            user: "1".to_owned(),
            application: "2".to_owned(),
            intents: intents(false),
        };
        let cursor = session.to_cursor().unwrap();
        let again = |intents, base: &Url| Session::remembered(&cursor, intents, base);
        assert_eq!(again(intents(false), &base), Some(session.clone()));
        assert_eq!(again(intents(true), &base), None, "it would hear too much");
        let evil = cursor.replace("gateway.discord.gg", "gateway.evil.example");
        let found = Session::remembered(&evil, intents(false), &base).unwrap();
        assert_eq!(found.resume, None, "resumed where the API says");
        for junk in ["", "{}", "7", "{\"id\":1}"] {
            assert_eq!(Session::remembered(junk, intents(false), &base), None);
        }
    }
}
