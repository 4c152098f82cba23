//! What Telegram finds in what people write: commands, mentions and links.
//! <https://core.telegram.org/bots/api#messageentity>

use serde_json::{Value, json};

/// The entities of a text, in order; their places are counted in UTF-16 units.
pub(super) fn find(text: &str) -> Vec<Value> {
    let mut found = Vec::new();
    let mut unit = 0;
    for word in text.split_inclusive(char::is_whitespace) {
        let bare = word.trim_end();
        if let Some((kind, shown)) = entity(bare) {
            let length = shown.encode_utf16().count();
            found.push(json!({ "type": kind, "offset": unit, "length": length }));
        }
        unit += word.encode_utf16().count();
    }
    found
}

/// What a word begins with.
fn entity(word: &str) -> Option<(&'static str, &str)> {
    let name =
        |text: &str| text.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
    if let Some(rest) = word.strip_prefix('/') {
        let mut length = name(rest);
        let behind = rest.get(length..).unwrap_or_default();
        if let Some(bot) = behind.strip_prefix('@') {
            let named = name(bot);
            length += if named >= 3 { named + 1 } else { 0 };
        }
        let command = (1..=65).contains(&length) && !behind.starts_with('/');
        return command.then(|| ("bot_command", word.get(..=length).unwrap_or(word)));
    }
    if let Some(rest) = word.strip_prefix('@') {
        let length = name(rest);
        return (4..=32)
            .contains(&length)
            .then(|| ("mention", word.get(..=length).unwrap_or(word)));
    }
    let link = word.starts_with("https://") || word.starts_with("http://");
    link.then(|| ("url", word.trim_end_matches(['.', ',', ')', '!', '?'])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_are_counted_in_utf16() {
        for (text, expected) in [
            ("/new", vec![("bot_command", 0, 4)]),
            ("/new@herald_bot now", vec![("bot_command", 0, 15)]),
            ("🦀 @herald_bot, /x", vec![("mention", 3, 11), ("bot_command", 16, 2)]),
            ("see https://e.org/a.", vec![("url", 4, 15)]),
            ("a/b a@bcde /usr/bin @ab / @", vec![]),
        ] {
            let found: Vec<(String, u64, u64)> = find(text)
                .iter()
                .map(|e| {
                    let number = |name: &str| e[name].as_u64().unwrap();
                    (e["type"].as_str().unwrap().to_owned(), number("offset"), number("length"))
                })
                .collect();
            let expected: Vec<_> =
                expected.into_iter().map(|(kind, at, n)| (kind.to_owned(), at, n)).collect();
            assert_eq!(found, expected, "{text}");
        }
    }
}
