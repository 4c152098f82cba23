use super::*;

/// A document in one line per block: containers, kind, text.
fn outline(markdown: &str) -> Vec<String> {
    let text = |text: &Text| {
        let mut marked = text.text.clone();
        for span in &text.spans {
            let name = match &span.style {
                Style::Bold => "b".to_owned(),
                Style::Italic => "i".to_owned(),
                Style::Strike => "s".to_owned(),
                Style::Code => "c".to_owned(),
                Style::Link(url) => url.clone(),
                Style::User(id) => format!("user {id}"),
                Style::Mention(mention) => mention.clone(),
            };
            marked.push_str(&format!(
                " {{{}={}}}",
                name,
                text.text.get(span.range.clone()).unwrap()
            ));
        }
        marked
    };
    let line = |block: &Block| {
        let mut line = String::new();
        for (i, container) in block.within.iter().enumerate() {
            let opens = if i >= block.kept() { "" } else { "." };
            line.push_str(&match container {
                Container::Quote => format!("{opens}quote "),
                Container::Item { marker: Marker::Bullet, task: None } => format!("{opens}item "),
                Container::Item { marker: Marker::Bullet, task } => {
                    format!("{opens}task({}) ", task.unwrap())
                }
                Container::Item { marker: Marker::Number(n), .. } => format!("{opens}{n}. "),
            });
        }
        line + &match &block.content {
            Content::Paragraph(words) => text(words),
            Content::Heading { level, text: words } => format!("h{level} {}", text(words)),
            Content::Code { language, text: code } => format!("code({language}) {:?}", code.text),
            Content::Table(table) => {
                format!("table {}", table.flatten(0).text.replace('\n', " / "))
            }
            Content::Rule => "rule".to_owned(),
        }
    };
    parse(markdown).blocks.iter().map(line).collect()
}

#[test]
fn blocks_know_what_they_stand_in_and_what_begins_with_them() {
    assert_eq!(
        outline(
            "> # a\n> - [x] b\n>\n>   c\n>   1. d\n\n```sh x\ne\n\n f\n```\n---\n|g|h|\n|-|-|\n|i|"
        ),
        [
            "quote h1 a",
            ".quote task(true) b",
            ".quote .task(true) c",
            ".quote .task(true) 1. d",
            "code(sh) \"e\\n\\n f\"",
            "rule",
            "table g | h / i",
        ]
    );
}

#[test]
fn spans_nest_and_do_not_repeat() {
    assert_eq!(
        outline("**a _b ~~`c`~~_ __d__**\n# **e** f"),
        ["a b c d {b=a b c d} {i=b c} {s=c} {c=c}", "h1 e f"]
    );
}

#[test]
fn only_control_characters_are_removed() {
    assert_eq!(
        outline("a\0\u{1b}[1m\u{85}b\tc\r\nd\re\u{200b}f &#1;g&#10;h"),
        ["a[1mb\tc\nd\ne\u{200b}f g h"]
    );
}

#[test]
fn links_go_to_pages_and_letters_only() {
    assert_eq!(
        outline(
            "[a](https://x.example) [b](javascript:c) [](http://y.example) ![d](https://z.example/<'>)"
        ),
        [
            "a b http://y.example d {https://x.example=a} {http://y.example=http://y.example} {https://z.example/%3C'%3E=d}"
        ]
    );
    assert_eq!(
        outline("[![alt](https://i.example)](https://x.example)"),
        ["alt {https://x.example=alt}"]
    );
}

#[test]
fn bare_addresses_are_links_without_the_full_stop_behind_them() {
    assert_eq!(
        outline(
            "see https://x.example/a_b(c). (http://y.example) **https://z.example**, `https://c.example` xhttp://n.example"
        ),
        [
            "see https://x.example/a_b(c). (http://y.example) https://z.example, https://c.example xhttp://n.example \
             {https://x.example/a_b(c)=https://x.example/a_b(c)} {http://y.example=http://y.example} \
             {b=https://z.example} {https://z.example=https://z.example} {c=https://c.example}"
        ]
    );
}

#[test]
fn raw_html_is_text() {
    assert_eq!(outline("<b>a</b>\n\n<div>\n<p>b\n</div>"), ["<b>a</b>", "<div>\n<p>b\n</div>"]);
}

#[test]
fn what_looks_like_a_definition_is_shown_unless_a_link_used_it() {
    assert_eq!(
        outline("[ERROR]: timeout\n\n[a]\n\n[a]: https://x.example\n[b]: https://y.example"),
        [
            "[ERROR]: timeout",
            "a {https://x.example=a}",
            "[b]: https://y.example {https://y.example=https://y.example}"
        ]
    );
}

#[test]
fn footnotes_are_numbered_text() {
    assert_eq!(outline("a[^x]\n\n[^x]: note"), ["a[1]", "1. note"]);
}

#[test]
fn absurd_nesting_is_flattened() {
    let nested = outline(&format!("{}a", "> ".repeat(30)));
    assert_eq!(nested, ["quote ".repeat(DEEPEST) + "a"]);
    assert_eq!(outline(&format!("{}a", "- ".repeat(5_000))), ["- ".repeat(5_000) + "a"]);
}

#[test]
fn only_a_word_is_a_language() {
    for (info, word) in
        [("rust", "rust"), ("c++ x", "c++"), ("a`b", ""), ("<b>", ""), ("python{1}", "python")]
    {
        assert_eq!(outline(&format!("~~~{info}\nx\n~~~")), [format!("code({word}) \"x\"")]);
    }
}
