//! Telegram's HTML.
//!
//! Syntax and limits: <https://core.telegram.org/bots/api#html-style>, <https://core.telegram.org/bots/api#sendmessage>.

use std::borrow::Cow;

use crate::model::TextPart;
use crate::render::{
    self, Dialect, Document, Marker, Place, RenderError, Style, entity, plain_item,
};

/// The most UTF-16 units of text, after entities parsing, that one message may show.
pub const MOST_UNITS: usize = 4_096;

/// Renders a document as Telegram's HTML; the plain text of a part is what it shows, never longer.
///
/// # Errors
/// When nothing is left to show, or it would take too many parts.
pub fn parts(document: &Document) -> Result<Vec<TextPart>, RenderError> {
    render::render(document, &Html)
}

/// The few tags that Telegram knows: `b i s code pre blockquote a`.
#[derive(Clone, Copy, Debug)]
pub struct Html;

impl Dialect for Html {
    fn limit(&self) -> usize {
        MOST_UNITS - 46
    }

    /// What is left after entities parsing, in UTF-16 units: tags count nothing, an entity is one character.
    fn units(&self, written: &str) -> usize {
        let (mut tag, mut entity) = (false, false);
        let mut units = 0;
        for c in written.chars() {
            match c {
                '>' if tag => tag = false,
                _ if tag => {}
                '<' => tag = true,
                ';' if entity => entity = false,
                _ if entity => {}
                c => {
                    entity = c == '&';
                    units += c.len_utf16();
                }
            }
        }
        units
    }

    fn text(&self, place: Place, out: &mut String) {
        entity(place.c, out);
    }

    fn code(&self, place: Place, _block: bool, out: &mut String) {
        entity(place.c, out);
    }

    fn open(&self, style: &Style, _covered: &str) -> Cow<'static, str> {
        match style {
            Style::Bold => Cow::Borrowed("<b>"),
            Style::Italic => Cow::Borrowed("<i>"),
            Style::Strike => Cow::Borrowed("<s>"),
            Style::Code => Cow::Borrowed("<code>"),
            Style::Link(url) => Cow::Owned(format!("<a href=\"{}\">", url.replace('&', "&amp;"))),
            Style::User(id) => Cow::Owned(format!("<a href=\"tg://user?id={id}\">")),
            Style::Mention(_) => Cow::Borrowed(""),
        }
    }

    fn close(&self, style: &Style, _covered: &str) -> Cow<'_, str> {
        Cow::Borrowed(match style {
            Style::Bold => "</b>",
            Style::Italic => "</i>",
            Style::Strike => "</s>",
            Style::Code => "</code>",
            Style::Link(_) | Style::User(_) => "</a>",
            Style::Mention(_) => "",
        })
    }

    fn delimiters_flank(&self) -> bool {
        false
    }

    fn heading(&self, _level: u8) -> (&'static str, &'static str) {
        ("<b>", "</b>")
    }

    fn code_block(&self, language: &str) -> (String, &'static str) {
        if language.is_empty() {
            ("<pre>".to_owned(), "</pre>")
        } else {
            (format!("<pre><code class=\"language-{language}\">"), "</code></pre>")
        }
    }

    fn quote_prefix(&self) -> &'static str {
        ""
    }

    fn quote_tags(&self) -> Option<(&'static str, &'static str)> {
        Some(("<blockquote>", "</blockquote>"))
    }

    fn item(&self, marker: Marker, task: Option<bool>) -> (String, usize) {
        plain_item(marker, task)
    }

    fn longest_address(&self) -> usize {
        2_000
    }
}

#[cfg(any(test, feature = "fuzzing"))]
#[path = "render_rules.rs"]
pub(crate) mod rules;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::rules::check;
    use super::*;
    use crate::guard::rehearse;
    use crate::model::PlatformKind;
    use crate::render::samples::{RICH, any_text, megabytes};

    fn bodies(markdown: &str) -> Vec<String> {
        let rendered = rehearse(markdown, PlatformKind::Telegram, parts).1;
        rendered.unwrap().into_iter().map(|part| part.body).collect()
    }

    fn body(markdown: &str) -> String {
        bodies(markdown).join("\n=====\n")
    }

    #[test]
    fn shows_the_rich_sample() {
        insta::assert_snapshot!(body(RICH), @r##"
        <b>Deploy <i>finished</i></b>
        Text with <b>bold</b>, <i>italic</i>, <s>gone</s>, <code>code</code> and snake_case_name.
        Second line: 2 * 3 &lt; 7 &amp; "quoted" #5.

        • one
          • nested <b>two</b>
            1. deep

               still deep
        ☑ done
        ☐ open

        3. three
        4. four

        <blockquote>quoted

        • item in a quote

        <pre><code class="language-sh">echo "in a quote"</code></pre></blockquote>

        <pre><code class="language-rust">fn main() { println!("a &lt; b &amp;&amp; c"); }</code></pre>

        <pre>Name          │ Größe │ 状态
        ──────────────┼───────┼─────
        a `x          │    y` │  1
        longer | name │   200 │  ok</pre>

        See <a href="https://en.wikipedia.org/wiki/Rust_(video_game)">wiki</a>, <a href="https://x.example/c.png">a chart</a>,
        <a href="https://x.example/a_b">https://x.example/a_b</a>, <a href="https://bare.example/q?a=1&amp;b=2">https://bare.example/q?a=1&amp;b=2</a>. and bad.

        ──────────

        <b>Small heading</b>
        &lt;b onclick="x"&gt;html&lt;/b&gt; *not bold* &lt;!channel&gt; [ERROR]: what

        1. not a list
        # not a heading
        &gt; not a quote
        "##);
    }

    #[test]
    fn the_limit_counts_what_is_shown_in_utf16() {
        assert_eq!(bodies(&"**&** ".repeat(1_900)).len(), 1);
        assert_eq!(bodies(&"👍".repeat(2_000)).len(), 1);
        assert_eq!(bodies(&"👍".repeat(2_100)).len(), 2);
    }

    #[test]
    fn graphemes_are_not_cut() {
        let family = "👩‍👩‍👧";
        for body in bodies(&family.repeat(1_500)) {
            assert_eq!(body.replace(family, ""), "");
        }
    }

    #[test]
    fn a_mark_outlives_the_space_it_stands_on() {
        assert_eq!(body("a \u{1712}\n*"), "a \u{1712}\n*");
        assert_eq!(body("a\u{600} \nb"), "a\u{600}\nb");
        check("\u{a0}\u{1732}").unwrap();
    }

    #[test]
    fn a_quote_in_a_quote_is_one_quote() {
        assert_eq!(body("> a\n> > b\n\nc"), "<blockquote>a\n\nb</blockquote>\n\nc");
    }

    #[test]
    fn only_links_that_open_a_page_or_a_letter_stay() {
        assert_eq!(
            body("[a](tg://user?id=1) [b](javascript:x) <c@x.example> [d](HTTPS://x.example/\"&<)"),
            "a b <a href=\"mailto:c@x.example\">c@x.example</a> \
             <a href=\"HTTPS://x.example/%22&amp;%3C\">d</a>"
        );
    }

    #[test]
    fn code_that_is_cut_is_closed_and_opened_again() {
        let bodies = bodies(&format!("```py\n{}```", "x = 1\n".repeat(1_000)));
        assert_eq!(bodies.len(), 2);
        for body in bodies {
            assert!(body.starts_with("<pre><code class=\"language-py\">x = 1\n"), "{body:.60}");
            assert!(body.ends_with("\nx = 1</code></pre>"));
        }
    }

    #[test]
    fn a_megabyte_is_answered_at_once() {
        for (what, markdown) in megabytes() {
            let start = std::time::Instant::now();
            let _ = rehearse(&markdown, PlatformKind::Telegram, parts);
            // Far below a second on an idle machine; anything quadratic takes minutes.
            assert!(start.elapsed().as_secs() < 5, "{what}: {:?}", start.elapsed());
        }
    }

    proptest! {
        #[test]
        fn any_text_survives(markdown in any_text()) {
            check(&markdown).map_err(TestCaseError::fail)?;
        }
    }
}
