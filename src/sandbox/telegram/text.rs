//! Telegram's formatted text: the HTML it reads, and the entities it makes of it.
//! <https://core.telegram.org/bots/api#html-style>

use serde_json::{Value, json};

/// The most UTF-16 units that a message has, after its markup was read.
pub(super) const MOST: usize = 4096;

/// Text as it is shown, and what is formatted in it.
#[derive(Debug, Default)]
pub(super) struct Formatted {
    pub text: String,
    /// `MessageEntity` objects.
    pub entities: Vec<Value>,
}

/// An open tag.
struct Open {
    name: String,
    at_byte: usize,
    offset: usize,
    entity: Option<Value>,
}

/// Reads HTML as Telegram does: few tags, strictly nested.
pub(super) fn parse_html(html: &str) -> Result<Formatted, String> {
    let mut out = Formatted::default();
    let mut units = 0;
    let mut open: Vec<Open> = Vec::new();
    let mut rest = html;
    while let Some(next) = rest.chars().next() {
        let at_byte = html.len() - rest.len();
        if next == '<' {
            let inner = rest.get(1..).unwrap_or_default();
            let end = inner
                .find('>')
                .ok_or_else(|| format!("Unclosed start tag at byte offset {at_byte}"))?;
            let tag = inner.get(..end).unwrap_or_default();
            rest = inner.get(end + 1..).unwrap_or_default();
            match tag.strip_prefix('/') {
                Some(name) => close(name, at_byte, units, &mut open, &mut out)?,
                None => open.push(start(tag, at_byte, units, &open)?),
            }
            continue;
        }
        let (character, length) = match (next, entity(rest)) {
            ('&', Some(decoded)) => decoded,
            _ => (next, next.len_utf8()),
        };
        out.text.push(character);
        units += character.len_utf16();
        rest = rest.get(length..).unwrap_or_default();
    }
    match open.pop() {
        Some(tag) => Err(format!("Can't find end tag corresponding to start tag \"{}\"", tag.name)),
        None => Ok(out),
    }
}

/// Reads a start tag.
fn start(tag: &str, at_byte: usize, offset: usize, open: &[Open]) -> Result<Open, String> {
    let (name, attributes) = tag.split_once(|c: char| c.is_ascii_whitespace()).unwrap_or((tag, ""));
    let name = name.to_ascii_lowercase();
    let attribute = |wanted: &str| attribute(attributes, wanted);
    let entity = match name.as_str() {
        "b" | "strong" => Some(json!({ "type": "bold" })),
        "i" | "em" => Some(json!({ "type": "italic" })),
        "u" | "ins" => Some(json!({ "type": "underline" })),
        "s" | "strike" | "del" => Some(json!({ "type": "strikethrough" })),
        "tg-spoiler" => Some(json!({ "type": "spoiler" })),
        "span" => match attribute("class").as_deref() {
            Some("tg-spoiler") => Some(json!({ "type": "spoiler" })),
            _ => {
                return Err(format!(
                    "Tag \"span\" must have class \"tg-spoiler\" at byte offset {at_byte}"
                ));
            }
        },
        "tg-emoji" => {
            attribute("emoji-id").map(|id| json!({ "type": "custom_emoji", "custom_emoji_id": id }))
        }
        "pre" => Some(json!({ "type": "pre" })),
        "code" => {
            let language = attribute("class")
                .and_then(|class| class.strip_prefix("language-").map(str::to_owned));
            match (open.last().map(|o| o.name.as_str()), language) {
                // <pre><code class="language-…"> is one block with a language.
                (Some("pre"), Some(language)) => Some(json!({ "language": language })),
                _ => Some(json!({ "type": "code" })),
            }
        }
        "blockquote" if attributes.split_ascii_whitespace().any(|a| a == "expandable") => {
            Some(json!({ "type": "expandable_blockquote" }))
        }
        "blockquote" => Some(json!({ "type": "blockquote" })),
        "a" => attribute("href").and_then(|href| link(&href)),
        _ => {
            return Err(format!("Unsupported start tag \"{name}\" at byte offset {at_byte}"));
        }
    };
    Ok(Open { name, at_byte, offset, entity })
}

/// A link's entity; Telegram drops links that it does not understand.
fn link(href: &str) -> Option<Value> {
    if let Some(id) = href.strip_prefix("tg://user?id=") {
        let id: i64 = id.parse().ok()?;
        let user = json!({ "id": id, "is_bot": false, "first_name": "Someone" });
        return Some(json!({ "type": "text_mention", "user": user }));
    }
    let known = ["http://", "https://", "tg://", "mailto:", "ton://"];
    known
        .iter()
        .any(|scheme| href.starts_with(scheme))
        .then(|| json!({ "type": "text_link", "url": href }))
}

fn close(
    name: &str,
    at_byte: usize,
    units: usize,
    open: &mut Vec<Open>,
    out: &mut Formatted,
) -> Result<(), String> {
    let name = name.trim().to_ascii_lowercase();
    let Some(tag) = open.pop() else {
        return Err(format!("Unexpected end tag at byte offset {at_byte}"));
    };
    // `</>` closes whatever is open.
    if !name.is_empty() && tag.name != name {
        return Err(format!(
            "Unmatched end tag at byte offset {at_byte}, expected \"</{}>\", found \"</{name}>\" (opened at {})",
            tag.name, tag.at_byte
        ));
    }
    let length = units.saturating_sub(tag.offset);
    let Some(Value::Object(mut entity)) = tag.entity.filter(|_| length > 0) else {
        return Ok(());
    };
    // A language belongs to the block around it.
    if let Some(language) = entity.get("language").cloned() {
        if let Some(Value::Object(pre)) = open.last_mut().and_then(|o| o.entity.as_mut()) {
            pre.insert("language".to_owned(), language);
        }
        if !entity.contains_key("type") {
            return Ok(());
        }
    }
    entity.insert("offset".to_owned(), json!(tag.offset));
    entity.insert("length".to_owned(), json!(length));
    out.entities.push(Value::Object(entity));
    Ok(())
}

/// The value of an attribute, its entities decoded.
fn attribute(attributes: &str, wanted: &str) -> Option<String> {
    let after = attributes
        .match_indices(wanted)
        .find(|(at, _)| {
            let before = attributes.get(..*at).and_then(|b| b.chars().next_back());
            before.is_none_or(|c| c.is_ascii_whitespace())
        })
        .and_then(|(at, _)| attributes.get(at + wanted.len()..))?;
    let value = after.trim_start().strip_prefix('=')?.trim_start();
    let raw = match value.chars().next() {
        Some(quote @ ('"' | '\'')) => value.get(1..)?.split(quote).next()?,
        _ => value.split_ascii_whitespace().next()?,
    };
    let mut decoded = String::new();
    let mut rest = raw;
    while let Some(next) = rest.chars().next() {
        let (character, length) = match (next, entity(rest)) {
            ('&', Some(decoded)) => decoded,
            _ => (next, next.len_utf8()),
        };
        decoded.push(character);
        rest = rest.get(length..).unwrap_or_default();
    }
    Some(decoded)
}

/// A character reference at the start of `text`, and its length: the four named ones and the numeric ones.
/// Any other stays as it is written.
fn entity(text: &str) -> Option<(char, usize)> {
    let inner = text.strip_prefix('&')?;
    let named = [("lt;", '<'), ("gt;", '>'), ("amp;", '&'), ("quot;", '"')];
    for (name, character) in named {
        if inner.starts_with(name) {
            return Some((character, name.len() + 1));
        }
    }
    let digits = inner.strip_prefix('#')?;
    let end = digits.find(';')?;
    let number = digits.get(..end)?;
    let code = match number.strip_prefix(['x', 'X']) {
        Some(hex) => u32::from_str_radix(hex, 16).ok()?,
        None => number.parse().ok()?,
    };
    let character = char::from_u32(code).filter(|c| *c != '\0')?;
    Some((character, end + 3))
}

/// Plain text with the entities that the bot gave, checked to lie within it.
pub(super) fn with_entities(text: &str, entities: Option<&Value>) -> Result<Formatted, String> {
    let units = text.encode_utf16().count();
    let mut formatted = Formatted { text: text.to_owned(), entities: Vec::new() };
    let entities = match entities {
        None => return Ok(formatted),
        Some(Value::Array(entities)) => entities,
        Some(_) => return Err("can't parse entities JSON object".to_owned()),
    };
    for entity in entities {
        let place = |name: &str| entity.get(name).and_then(Value::as_u64);
        let kind = entity.get("type").and_then(Value::as_str);
        let (Some(offset), Some(length), Some(_)) = (place("offset"), place("length"), kind) else {
            return Err("can't parse MessageEntity: type, offset and length are needed".to_owned());
        };
        let end = usize::try_from(offset.saturating_add(length)).unwrap_or(usize::MAX);
        if end > units {
            return Err("entity begins or ends after the end of the text".to_owned());
        }
        formatted.entities.push(entity.clone());
    }
    Ok(formatted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_becomes_text_and_entities_in_utf16() {
        let html = "🦀 <b>a<i>b</i></b> &lt;x&gt; &amp;nbsp; &unknown; &#x41; \
                    <pre><code class=\"language-rust\">f()</code></pre>\
                    <a href=\"https://e.org/?a=1&amp;b=2\">l</a>";
        let formatted = parse_html(html).unwrap();
        assert_eq!(formatted.text, "🦀 ab <x> &nbsp; &unknown; A f()l");
        let kinds: Vec<_> = formatted
            .entities
            .iter()
            .map(|e| {
                (
                    e["type"].as_str().unwrap(),
                    e["offset"].as_u64().unwrap(),
                    e["length"].as_u64().unwrap(),
                )
            })
            .collect();
        assert_eq!(kinds, [("italic", 4, 1), ("bold", 3, 2), ("pre", 29, 3), ("text_link", 32, 1)]);
        assert_eq!(formatted.entities[2]["language"], "rust");
        assert_eq!(formatted.entities[3]["url"], "https://e.org/?a=1&b=2");
    }

    #[test]
    fn broken_html_is_refused_in_telegrams_words() {
        for (html, words) in [
            ("<h1>x</h1>", "Unsupported start tag \"h1\" at byte offset 0"),
            ("a <b>x", "Can't find end tag corresponding to start tag \"b\""),
            ("<b><i>x</b></i>", "Unmatched end tag at byte offset 7, expected \"</i>\""),
            ("x</b>", "Unexpected end tag at byte offset 1"),
            ("a < b", "Unclosed start tag at byte offset 2"),
            ("<br>", "Unsupported start tag \"br\""),
            ("<span>x</span>", "Tag \"span\" must have class"),
        ] {
            let error = parse_html(html).unwrap_err();
            assert!(error.contains(words), "{html}: {error}");
        }
    }

    #[test]
    fn entities_outside_of_the_text_are_refused() {
        let inside = json!([{ "type": "bold", "offset": 0, "length": 2 }]);
        assert!(with_entities("🦀", Some(&inside)).is_ok());
        let outside = json!([{ "type": "bold", "offset": 1, "length": 2 }]);
        assert!(with_entities("🦀", Some(&outside)).is_err());
    }
}
