//! Slack's two dialects: standard Markdown for a `markdown` block, and mrkdwn where such a block cannot serve.
//!
//! Limits and syntax: <https://docs.slack.dev/reference/block-kit/blocks/markdown-block>,
//! <https://docs.slack.dev/messaging/formatting-message-text>.

use std::borrow::Cow;

use crate::model::TextPart;
use crate::render::{
    self, Dialect, Document, Markdown, Marker, Place, RenderError, Style, ZERO_WIDTH_SPACE, entity,
    plain_item,
};

/// The most characters the `markdown` blocks of one message may hold.
pub const MOST_CHARACTERS: usize = 12_000;

/// The most characters of the text that goes with blocks; more would be split into several messages.
pub const MOST_PLAIN_CHARACTERS: usize = 4_000;

/// Renders a document for a `markdown` block; the plain text of a part is the notification's.
///
/// # Errors
/// When nothing is left to show, or it would take too many parts.
pub fn parts(document: &Document) -> Result<Vec<TextPart>, RenderError> {
    render::render(document, &MARKDOWN)
}

/// Renders a document as mrkdwn, for `text` without blocks and for text objects.
///
/// # Errors
/// When nothing is left to show, or it would take too many parts.
pub fn mrkdwn(document: &Document) -> Result<Vec<TextPart>, RenderError> {
    render::render(document, &Mrkdwn)
}

/// For a `markdown` block.
const MARKDOWN: Markdown = Markdown {
    limit: 11_000,
    plain_limit: Some(MOST_PLAIN_CHARACTERS - 100),
    longest_address: 2_900,
    entities: true,
};

/// Slack's own markup: `*bold*`, `_italic_`, `<url|label>`; no headings, no tables, no escapes but three entities.
#[derive(Clone, Copy, Debug)]
pub struct Mrkdwn;

impl Dialect for Mrkdwn {
    fn limit(&self) -> usize {
        MOST_PLAIN_CHARACTERS - 100
    }

    fn plain_limit(&self) -> Option<usize> {
        Some(MOST_PLAIN_CHARACTERS - 100)
    }

    fn plain_entities(&self) -> bool {
        true
    }

    fn text(&self, place: Place, out: &mut String) {
        // There is no escape: a delimiter begins something only behind a space or a line's start.
        if matches!(place.c, '*' | '_' | '~' | '`')
            && !place.before.is_some_and(char::is_alphanumeric)
            && !place.after.is_some_and(char::is_whitespace)
        {
            out.push(ZERO_WIDTH_SPACE);
        }
        entity(place.c, out);
    }

    fn code(&self, place: Place, block: bool, out: &mut String) {
        if place.c == '`' && (!block || out.ends_with("``")) {
            out.push(ZERO_WIDTH_SPACE);
        }
        entity(place.c, out);
    }

    fn open(&self, style: &Style, _covered: &str) -> Cow<'static, str> {
        match style {
            Style::Link(url) => Cow::Owned(format!("<{}|", url.replace('&', "&amp;"))),
            style => Cow::Borrowed(delimiter(style)),
        }
    }

    fn close(&self, style: &Style, _covered: &str) -> Cow<'_, str> {
        Cow::Borrowed(match style {
            Style::Link(_) => ">",
            style => delimiter(style),
        })
    }

    fn delimiters_flank(&self) -> bool {
        false
    }

    fn heading(&self, _level: u8) -> (&'static str, &'static str) {
        ("*", "*")
    }

    fn code_block(&self, _language: &str) -> (String, &'static str) {
        ("```\n".to_owned(), "\n```")
    }

    fn quote_prefix(&self) -> &'static str {
        "> "
    }

    fn item(&self, marker: Marker, task: Option<bool>) -> (String, usize) {
        plain_item(marker, task)
    }

    fn longest_address(&self) -> usize {
        2_900
    }
}

const fn delimiter(style: &Style) -> &'static str {
    match style {
        Style::Bold => "*",
        Style::Italic => "_",
        Style::Strike => "~",
        Style::Code => "`",
        Style::Link(_) | Style::User(_) | Style::Mention(_) => "",
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
    use crate::guard::{Guard, rehearse};
    use crate::model::{Mentions, PlatformKind};
    use crate::policy::Terms;
    use crate::render::judge::words;
    use crate::render::samples::{RICH, any_text, megabytes};

    fn bodies(markdown: &str) -> Vec<String> {
        let rendered = rehearse(markdown, PlatformKind::Slack, parts).1;
        rendered.unwrap().into_iter().map(|part| part.body).collect()
    }

    fn body(markdown: &str) -> String {
        bodies(markdown).join("\n=====\n")
    }

    #[test]
    fn shows_the_rich_sample() {
        insta::assert_snapshot!(body(RICH).replace(ZERO_WIDTH_SPACE, "¦"), @r##"
        # Deploy *finished*
        Text with **bold**, *italic*, ~~gone~~, `code` and snake_case_name.
        Second line: 2 \* 3 &lt; 7 &amp; "quoted" #5.

        - one
          - nested **two**
            1. deep

               still deep
        - [x] done
        - [ ] open

        3. three
        4. four

        > quoted
        > 
        > - item in a quote
        > 
        > ```sh
        > echo "in a quote"
        > ```

        ```rust
        fn main() { println!("a < b && c"); }
        ```

        | Name | Größe | 状态 |
        | :--- | ---: | :---: |
        | a \`x | y\` | 1 |
        | longer \| name | 200 | ok |

        See [wiki](https://en.wikipedia.org/wiki/Rust_%28video_game%29), [a chart](https://x.example/c.png),
        [https://x.example/a_b](https://x.example/a_b), [https://bare.example/q?a=1&amp;b=2](https://bare.example/q?a=1&amp;b=2). and bad.

        ---

        #### Small heading
        &lt;b onclick="x"&gt;html&lt;/b&gt; \*not bold\* &lt;!¦channel&gt; \[ERROR\]: what

        1\. not a list
        \# not a heading
        &gt; not a quote
        "##);
    }

    #[test]
    fn mrkdwn_has_its_own_marks_and_no_headings() {
        let document = crate::render::parse(
            "# Title\n\n**b** _i_ ~~s~~ [label & more](https://x.example/?a&b) 2 * 3 \\*x\\* <y>\n\n- [x] done",
        );
        let body = &mrkdwn(&document).unwrap()[0].body;
        insta::assert_snapshot!(body.replace(ZERO_WIDTH_SPACE, "¦"), @r##"
        *Title*
        *b* _i_ ~s~ <https://x.example/?a&amp;b|label &amp; more> 2 * 3 ¦*x* &lt;y&gt;

        ☑ done
        "##);
    }

    #[test]
    fn a_mention_that_is_let_through_is_written_whole_in_mrkdwn_too() {
        let mentions = Mentions { broadcast: true, people: true, ..Mentions::NONE };
        let terms = Terms { mentions, ..Terms::default() };
        let mut document = crate::render::parse("@here *x* **<@U1>** `<@U2>` <!subteam^S1>");
        Guard::default().document(&mut document, PlatformKind::Slack, &terms).unwrap();
        assert_eq!(
            mrkdwn(&document).unwrap()[0].body,
            "<!here> _x_ *<@U1>* `&lt;@\u{200b}U2&gt;` &lt;!\u{200b}subteam^S1&gt;"
        );
    }

    #[test]
    fn a_sign_written_as_an_entity_is_not_lost() {
        let (_, rendered) = rehearse("@everyone``&#64;channel``", PlatformKind::Slack, mrkdwn);
        assert_eq!(rendered.unwrap()[0].body, "@\u{200b}everyone`&amp;#64;\u{200b}channel`");
        for before in 10_990..=11_001 {
            check(&format!("{}&amp;#64;channel", "x".repeat(before))).unwrap();
            check(&format!("{}&amp;#64;channelx", "x".repeat(before - 16))).unwrap();
        }
    }

    #[test]
    fn hostile_text_stays_text() {
        for text in [
            "\\# a",
            "\\- a",
            "\\+ a",
            "1\\. a",
            "\\> a",
            "a\n\\---",
            "a\n\\===",
            "\\*\\*a\\*\\*",
            "\\`a\\`",
            "\\[a](https://x.example)",
            "a | b\n\\--|--",
            "a | b\n\\:-|--",
            "&lt;b&gt;",
            "&amp;lt;",
            "\\~\\~a~~",
            "\\_a_",
            "!&#91;a](https://x.example)",
            "\\![a](https://x.example)",
            "&#96;&#96;&#96;\na",
        ] {
            let document = crate::render::parse(text);
            let body = body(text);
            let again = crate::render::parse(&body);
            let (was, is) = (words(&document), words(&again));
            assert_eq!(was, is, "{text:?} became {body:?}");
        }
    }

    #[test]
    fn emphasis_beside_a_letter_holds_although_its_edge_is_punctuation() {
        for text in [
            "**a.**&auml;b",
            "**a.**[b](x:y)",
            "&auml;**(a)**",
            "[b](x:y)*(a)*",
            "~~a.~~&auml;",
            "&auml;**~~(a)~~**&auml;",
        ] {
            let document = crate::render::parse(text);
            let body = body(text);
            let again = words(&crate::render::parse(&body)).replace(ZERO_WIDTH_SPACE, "");
            assert_eq!(words(&document), again, "{text:?} became {body:?}");
        }
    }

    #[test]
    fn notification_text_is_shortened_and_the_body_is_not() {
        let rendered = parts(&crate::render::parse(&"word ".repeat(4_400))).unwrap();
        let lengths: Vec<usize> = rendered.iter().map(|part| part.body.chars().count()).collect();
        assert_eq!(lengths, [10_999, 10_999]);
        assert_eq!(rendered[0].plain.chars().count(), 3_900);
        assert!(rendered[0].plain.ends_with('…'));
    }

    #[test]
    fn notification_text_has_its_three_entities_whole() {
        for before in 3_880..3_900 {
            let text = format!("{}&&&&&&", "x".repeat(before));
            let plain = &parts(&crate::render::parse(&text)).unwrap()[0].plain;
            assert!(plain.chars().count() <= 3_900);
            assert_eq!(plain.matches('&').count(), plain.matches("&amp;").count(), "{plain}");
        }
        assert_eq!(parts(&crate::render::parse("`a<b` > c")).unwrap()[0].plain, "a&lt;b &gt; c");
    }

    #[test]
    fn a_long_table_begins_each_part_with_its_header() {
        let rows = "| a cell | another, longer cell |\n".repeat(600);
        let bodies = bodies(&format!("| Head | Tail |\n|---|--:|\n{rows}"));
        assert_eq!(bodies.len(), 2);
        for body in bodies {
            assert!(body.starts_with("| Head | Tail |\n| --- | ---: |\n| a cell |"), "{body:.80}");
        }
    }

    #[test]
    fn a_row_beyond_the_limit_makes_the_table_text() {
        let cell = "word ".repeat(3_000);
        let bodies = bodies(&format!("| Head | Tail |\n|---|---|\n| {cell} | **end** |"));
        assert!(bodies[0].starts_with("Head | Tail\nword word"), "{:.40}", bodies[0]);
        assert!(bodies[1].ends_with("word | **end**"));
    }

    #[test]
    fn an_item_cut_in_two_does_not_become_code() {
        let item = "word ".repeat(3_000);
        let bodies = bodies(&format!("- a\n  - b\n    - c {item}"));
        assert!(bodies[1].starts_with("word"), "{:.40}", bodies[1]);
    }

    #[test]
    fn a_megabyte_is_answered_at_once() {
        for (what, markdown) in megabytes() {
            let start = std::time::Instant::now();
            let _ = rehearse(&markdown, PlatformKind::Slack, parts);
            // Far below a second on an idle machine; anything quadratic takes minutes.
            assert!(start.elapsed().as_secs() < 5, "{what}: {:?}", start.elapsed());
        }
    }

    #[test]
    fn a_block_in_a_task_begins_below_its_box() {
        for markdown in
            ["- [ ] \n    # *", "- [x] \n  > a", "- [ ] \n  - b", "- [ ] \n  ```\n  c\n  ```"]
        {
            check(markdown).unwrap();
        }
        assert_eq!(body("- [ ] \n  # Release"), "- [ ] \n  # Release");
    }

    proptest! {
        #[test]
        fn any_text_survives(markdown in any_text()) {
            check(&markdown).map_err(TestCaseError::fail)?;
        }

        #[test]
        fn any_text_survives_as_mrkdwn(markdown in any_text()) {
            rules::check_mrkdwn(&markdown).map_err(TestCaseError::fail)?;
        }
    }
}
