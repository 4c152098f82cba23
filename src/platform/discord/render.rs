//! Discord's Markdown.
//!
//! Syntax: <https://support.discord.com/hc/en-us/articles/210298617>; limits:
//! <https://docs.discord.com/developers/resources/message#create-message>.

use std::borrow::Cow;

use crate::model::TextPart;
use crate::render::{
    self, Dialect, Document, Marker, Place, RenderError, Style, markdown, plain_item,
};

/// The most characters one message may hold.
pub const MOST_CHARACTERS: usize = 2_000;

/// Renders a document as Discord's Markdown.
///
/// # Errors
/// When nothing is left to show, or it would take too many parts.
pub fn parts(document: &Document) -> Result<Vec<TextPart>, RenderError> {
    render::render(document, &DiscordMarkdown)
}

/// Markdown as Discord reads it: three levels of headings, no tables, no task lists, quotes line by line.
#[derive(Clone, Copy, Debug)]
pub struct DiscordMarkdown;

impl Dialect for DiscordMarkdown {
    fn limit(&self) -> usize {
        MOST_CHARACTERS - 50
    }

    fn text(&self, place: Place, out: &mut String) {
        let escape = match place.c {
            // An address that is its own label stands in angle brackets, where nothing is escaped.
            _ if place.address => false,
            '\\' | '*' | '_' | '~' | '`' | '[' | ']' | '<' | '|' => true,
            '>' | '#' | '-' | '+' => place.line_start,
            '.' | ')' => place.line_is_number,
            '!' => place.link_follows,
            _ => false,
        };
        if escape {
            out.push('\\');
        }
        out.push(place.c);
    }

    fn code(&self, place: Place, block: bool, out: &mut String) {
        markdown::code(place, block, out);
    }

    fn open(&self, style: &Style, covered: &str) -> Cow<'static, str> {
        Cow::Borrowed(match style {
            Style::Code => markdown::code_delimiters(covered).0,
            Style::Link(url) => match Link::of(url, covered) {
                Link::Bare => "<",
                Link::Labelled => "[",
                Link::Spelled => "",
            },
            style => markdown::emphasis(style),
        })
    }

    fn close(&self, style: &Style, covered: &str) -> Cow<'_, str> {
        match style {
            Style::Code => Cow::Borrowed(markdown::code_delimiters(covered).1),
            // The angle brackets keep Discord from showing a preview.
            Style::Link(url) => match Link::of(url, covered) {
                Link::Bare => Cow::Borrowed(">"),
                Link::Labelled => Cow::Owned(format!("](<{url}>)")),
                Link::Spelled => Cow::Owned(format!(" (<{url}>)")),
            },
            style => Cow::Borrowed(markdown::emphasis(style)),
        }
    }

    fn delimiters_flank(&self) -> bool {
        true
    }

    fn heading(&self, level: u8) -> (&'static str, &'static str) {
        match level {
            0 | 1 => ("# ", ""),
            2 => ("## ", ""),
            3 => ("### ", ""),
            _ => ("**", "**"),
        }
    }

    fn code_block(&self, language: &str) -> (String, &'static str) {
        markdown::code_block(language)
    }

    fn quote_prefix(&self) -> &'static str {
        // Never `>>>`, which would take everything that follows into the quote.
        "> "
    }

    fn item(&self, marker: Marker, task: Option<bool>) -> (String, usize) {
        let (text, indent) = plain_item(marker, task);
        match marker {
            Marker::Bullet if task.is_some() => (format!("- {text}"), indent),
            Marker::Bullet => ("- ".to_owned(), indent),
            Marker::Number(_) => (text, indent),
        }
    }

    fn longest_address(&self) -> usize {
        1_500
    }
}

/// How a link can be written.
enum Link {
    /// The address itself.
    Bare,
    /// Behind a label.
    Labelled,
    /// Discord shows no link behind a label that looks like an address: both are written out.
    Spelled,
}

impl Link {
    fn of(url: &str, covered: &str) -> Self {
        if url == covered {
            Self::Bare
        } else if covered.contains("://") {
            Self::Spelled
        } else {
            Self::Labelled
        }
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
        let rendered = rehearse(markdown, PlatformKind::Discord, parts).1;
        rendered.unwrap().into_iter().map(|part| part.body).collect()
    }

    fn body(markdown: &str) -> String {
        bodies(markdown).join("\n=====\n")
    }

    #[test]
    fn shows_the_rich_sample() {
        insta::assert_snapshot!(body(RICH), @r##"
        # Deploy *finished*
        Text with **bold**, *italic*, ~~gone~~, `code` and snake\_case\_name.
        Second line: 2 \* 3 \< 7 & "quoted" #5.

        - one
          - nested **two**
            1. deep

               still deep
        - ☑ done
        - ☐ open

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

        ```
        Name          │ Größe │ 状态
        ──────────────┼───────┼─────
        a `x          │    y` │  1
        longer | name │   200 │  ok
        ```

        See [wiki](<https://en.wikipedia.org/wiki/Rust_(video_game)>), [a chart](<https://x.example/c.png>),
        <https://x.example/a_b>, <https://bare.example/q?a=1&b=2>. and bad.

        ──────────

        **Small heading**
        \<b onclick="x">html\</b> \*not bold\* \<!channel> \[ERROR\]: what

        1\. not a list
        \# not a heading
        \> not a quote
        "##);
    }

    // What fuzzing an earlier splitter found: (1) to (6).

    #[test]
    fn a_fence_takes_only_a_word_for_its_language() {
        assert_eq!(body("~~~ `x``` y\ncode\n~~~"), "```\ncode\n```");
        assert_eq!(body("~~~ c++ title\ncode\n~~~"), "```c++\ncode\n```");
    }

    #[test]
    fn backticks_in_a_code_block_do_not_end_it() {
        assert_eq!(body("~~~\na ``` b\n~~~"), "```\na ``\u{200b}` b\n```");
    }

    #[test]
    fn backticks_in_code_do_not_end_it() {
        assert_eq!(body("`` a`b `` and `` ` ``"), "`` a`b `` and `` ` ``");
        assert_eq!(body("``` a``b ```"), "`` a`\u{200b}`b ``");
    }

    #[test]
    fn a_quote_is_marked_line_by_line() {
        assert_eq!(body("> a\nb\n>\n> c\n\nd"), "> a\n> b\n> \n> c\n\nd");
        assert_eq!(body("\\>>> a"), "\\>>> a");
    }

    #[test]
    fn parts_are_filled_although_markup_costs_unevenly() {
        let dense = "*a*b**c** \\* ".repeat(400) + &"x ".repeat(2_000) + &"~~y~~ ".repeat(500);
        let bodies = bodies(&dense);
        let (_, full) = bodies.split_last().unwrap();
        for body in full {
            assert!(body.chars().count() > MOST_CHARACTERS * 9 / 10, "{}", body.chars().count());
        }
    }

    #[test]
    fn a_grapheme_too_long_under_all_its_markup_still_goes() {
        let accents = "\u{301}".repeat(5_000);
        check(&format!("> > > - 1. **_~~[e{accents}](https://x.example/{accents})~~_**")).unwrap();
        check(&format!("> - **e{accents}**")).unwrap();
    }

    #[test]
    fn code_that_is_cut_begins_again_with_its_language() {
        let code = format!("> ```rust\n{}> ```", "> let x = 1;\n".repeat(300));
        let bodies = bodies(&code);
        assert_eq!(bodies.len(), 3);
        for body in bodies {
            assert!(body.starts_with("> ```rust\n> let x = 1;\n"), "{body:.40}");
            assert!(body.ends_with("\n> let x = 1;\n> ```"));
        }
    }

    #[test]
    fn a_link_is_not_cut() {
        for before in 1_900..2_000 {
            let bodies =
                bodies(&format!("{} [the label](https://x.example/y)", "x".repeat(before)));
            let link = "[the label](<https://x.example/y>)";
            assert_eq!(bodies.iter().filter(|body| body.contains(link)).count(), 1, "{before}");
        }
    }

    #[test]
    fn an_address_too_long_for_a_link_is_written_out() {
        let url = format!("https://x.example/{}", "y".repeat(1_600));
        assert_eq!(
            body(&format!("[label]({url}) end")).replace("\n=====\n", ""),
            format!("label ({url}) end")
        );
    }

    #[test]
    fn a_label_that_looks_like_an_address_hides_none() {
        assert_eq!(
            body("[https://a.example](https://b.example)"),
            "`https://a.example` ([b.example](<https://b.example>))"
        );
    }

    #[test]
    fn a_cut_falls_between_blocks_and_a_heading_stays_with_its_text() {
        let text = "word ".repeat(250);
        let bodies = bodies(&format!("{text}\n\n## Next\n\n{text}"));
        assert_eq!(bodies, [text.trim().to_owned(), format!("## Next\n{}", text.trim())]);
    }

    #[test]
    fn twenty_parts_are_the_most() {
        let page = format!("{}\n\n", "x".repeat(1_900));
        assert_eq!(bodies(&page.repeat(20)).len(), 20);
        let long = crate::render::parse(&page.repeat(21));
        assert_eq!(parts(&long), Err(RenderError::TooLong { most: 20 }));
    }

    #[test]
    fn nothing_to_show_is_an_error() {
        for text in ["", " \n\t", "\0\u{1b}", "&nbsp;", "\u{200b}\u{feff}", "- \n> ", "```\n\n```"]
        {
            assert_eq!(parts(&crate::render::parse(text)), Err(RenderError::Empty), "{text:?}");
        }
    }

    #[test]
    fn a_mark_on_a_space_is_something_to_show() {
        assert_eq!(body("\u{a0}\u{1732}"), "\u{1732}");
    }

    #[test]
    fn mentions_alone_are_sent_broken_up() {
        assert_eq!(body("@everyone"), "@\u{200b}everyone");
    }

    #[test]
    fn a_megabyte_is_answered_at_once() {
        for (what, markdown) in megabytes() {
            let start = std::time::Instant::now();
            let _ = rehearse(&markdown, PlatformKind::Discord, parts);
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
