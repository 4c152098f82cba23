//! What people write, as plain text: <https://docs.slack.dev/messaging/formatting-message-text>.

/// The most characters of a message that are read.
const MOST: usize = 8_000;

/// A message's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spoken {
    pub(super) text: String,
    /// It names the bot.
    pub(super) mentioned: bool,
}

/// The text without Slack's escapes, and without the mention of `bot`.
pub(super) fn plain(raw: &str, bot: &str) -> Spoken {
    let (mut text, mut mentioned) = (String::new(), false);
    let mut rest = raw;
    while let Some((before, after)) = rest.split_once('<') {
        text.push_str(&unescape(before));
        match after.split_once('>').filter(|(inside, _)| !inside.contains(['<', '\n'])) {
            Some((inside, after)) => {
                if is_mention_of(inside, bot) {
                    mentioned = true;
                    rest = close(&text, after);
                } else {
                    text.push_str(&unescape(&shown(inside)));
                    rest = after;
                }
            }
            None => {
                text.push('<');
                rest = after;
            }
        }
    }
    text.push_str(&unescape(rest));
    Spoken { text: text.trim().chars().take(MOST).collect(), mentioned }
}

fn is_mention_of(inside: &str, user: &str) -> bool {
    let id = inside.strip_prefix('@').map(|mention| mention.split('|').next().unwrap_or_default());
    !user.is_empty() && id == Some(user)
}

/// Closes the gap that a mention leaves: one blank of the two around it goes.
fn close<'a>(text: &str, after: &'a str) -> &'a str {
    if text.is_empty() || text.ends_with([' ', '\n']) {
        after.strip_prefix(' ').unwrap_or(after)
    } else {
        after
    }
}

/// What stands in angle brackets, as people see it.
fn shown(inside: &str) -> String {
    let (what, label) = match inside.split_once('|') {
        Some((what, label)) => (what, Some(label).filter(|label| !label.is_empty())),
        None => (inside, None),
    };
    let rest = what.get(1..).unwrap_or_default();
    match what.chars().next() {
        Some('@') => format!("@{}", label.unwrap_or(rest).trim_start_matches('@')),
        Some('#') => format!("#{}", label.unwrap_or(rest).trim_start_matches('#')),
        // Groups, @here and its like, dates: what Slack shows is their label.
        Some('!') => match label {
            Some(label) => label.to_owned(),
            None => format!("@{}", rest.split('^').next().unwrap_or_default()),
        },
        _ => what.strip_prefix("mailto:").unwrap_or(what).to_owned(),
    }
}

fn unescape(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn slacks_markup_becomes_what_people_see() {
        for (raw, text) in [
            ("hello", "hello"),
            ("<@U0BOT> hello", "hello"),
            ("hey <@U0BOT> hello", "hey hello"),
            ("hey <@U0BOT|herald>, hello", "hey , hello"),
            ("hello <@U0BOT>", "hello"),
            ("<@U0BOT>", ""),
            ("ask <@U0ALICE> or <@U0BOB|bob>", "ask @U0ALICE or @bob"),
            ("in <#C0ALERTS|alerts> and <#C0X> <#C0Y|>", "in #alerts and #C0X #C0Y"),
            ("<https://x.example/?a=1&amp;b=2|label>", "https://x.example/?a=1&b=2"),
            ("<https://x.example>", "https://x.example"),
            ("<mailto:a@x.example|a@x.example>", "a@x.example"),
            ("<!here> <!channel> <!subteam^S0|@ops> <!subteam^S0>", "@here @channel @ops @subteam"),
            ("<!date^1700000000^{date}|Nov 14>", "Nov 14"),
            ("1 &lt; 2 &amp;&amp; 3 &gt; 2", "1 < 2 && 3 > 2"),
            // Escaped twice is written by somebody who wrote an entity.
            ("&amp;lt;", "&lt;"),
            ("a < b", "a < b"),
            ("<", "<"),
            ("<>", ""),
            ("a <b\nc> d", "a <b\nc> d"),
            ("<<@U0BOT>", "<"),
        ] {
            let spoken = plain(raw, "U0BOT");
            assert_eq!(spoken.text, text, "{raw:?}");
            assert_eq!(spoken.mentioned, raw.contains("<@U0BOT"), "{raw:?}");
        }
    }

    #[test]
    fn nobody_is_nobodys_mention_and_long_texts_are_cut() {
        assert!(!plain("<@>", "").mentioned);
        assert_eq!(plain(&"ä".repeat(9_000), "U0BOT").text.chars().count(), MOST);
    }

    proptest! {
        #[test]
        fn any_text_is_read(raw in "\\PC{0,200}|[<>@#!|&;a-z ]{0,80}") {
            prop_assert!(plain(&raw, "U0BOT").text.len() <= raw.len() + 8);
        }
    }
}
