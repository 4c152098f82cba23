//! Standard Markdown, and what Slack's and Discord's have in common with it.

use std::borrow::Cow;

use super::dialect::{Dialect, Place, TableForm, entity};
use super::document::{Marker, Style};
use super::flow::ZERO_WIDTH_SPACE;

/// CommonMark with GitHub's tables, task lists and strikethrough.
#[derive(Clone, Copy, Debug)]
pub struct Markdown {
    /// The most characters one part may hold.
    pub limit: usize,
    /// The most characters of plain text that go with a part, where there is such a limit.
    pub plain_limit: Option<usize>,
    /// The longest address that stays a link, in bytes.
    pub longest_address: usize,
    /// `&`, `<` and `>` are written as entities: Slack reads these three in any text, whatever the dialect.
    pub entities: bool,
}

impl Markdown {
    /// For a file.
    pub(super) const WHOLE: Self =
        Self { limit: usize::MAX, plain_limit: None, longest_address: usize::MAX, entities: false };
}

impl Dialect for Markdown {
    fn limit(&self) -> usize {
        self.limit
    }

    fn plain_limit(&self) -> Option<usize> {
        self.plain_limit
    }

    fn plain_entities(&self) -> bool {
        self.entities
    }

    fn text(&self, place: Place, out: &mut String) {
        let word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        let escape = match place.c {
            '&' | '<' | '>' if self.entities => return entity(place.c, out),
            '>' => place.line_start,
            '&' | '<' | '\\' | '*' | '`' | '[' | ']' | '~' => true,
            '_' => !(word(place.before) && word(place.after)),
            '|' => place.cell || place.line_start,
            '#' => place.line_start || place.heading,
            '-' | '+' | '=' => place.line_start,
            ':' => place.line_start && place.after == Some('-'),
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
        code(place, block, out);
    }

    /// Slack reads its own `<…>` in a `markdown` block too. At the beginning of a line `<!` would also begin a block of
    /// HTML, and the rest of the line would be no Markdown.
    fn mention(&self, mention: &str, line_start: bool, out: &mut String) {
        if line_start && mention.starts_with("<!") {
            out.push(ZERO_WIDTH_SPACE);
        }
        out.push_str(mention);
    }

    fn open(&self, style: &Style, covered: &str) -> Cow<'static, str> {
        Cow::Borrowed(match style {
            Style::Code => code_delimiters(covered).0,
            Style::Link(_) => "[",
            style => emphasis(style),
        })
    }

    fn close(&self, style: &Style, covered: &str) -> Cow<'_, str> {
        match style {
            Style::Code => Cow::Borrowed(code_delimiters(covered).1),
            Style::Link(url) => Cow::Owned(format!(
                "]({})",
                url.replace('&', "&amp;").replace('(', "%28").replace(')', "%29")
            )),
            style => Cow::Borrowed(emphasis(style)),
        }
    }

    fn delimiters_flank(&self) -> bool {
        true
    }

    fn heading(&self, level: u8) -> (&'static str, &'static str) {
        let marks = match level {
            0 | 1 => "# ",
            2 => "## ",
            3 => "### ",
            4 => "#### ",
            5 => "##### ",
            _ => "###### ",
        };
        (marks, "")
    }

    fn code_block(&self, language: &str) -> (String, &'static str) {
        code_block(language)
    }

    fn indents_code(&self) -> bool {
        true
    }

    fn quote_prefix(&self) -> &'static str {
        "> "
    }

    fn item(&self, marker: Marker, task: Option<bool>) -> (String, usize) {
        let mut text = match marker {
            Marker::Bullet => "- ".to_owned(),
            Marker::Number(n) => format!("{n}. "),
        };
        let indent = text.len();
        text.push_str(match task {
            Some(true) => "[x] ",
            Some(false) => "[ ] ",
            None => "",
        });
        (text, indent)
    }

    fn box_takes_line(&self) -> bool {
        true
    }

    fn table(&self) -> TableForm {
        TableForm::Native
    }

    fn rule(&self) -> &'static str {
        "---"
    }

    fn longest_address(&self) -> usize {
        self.longest_address
    }
}

/// The delimiter on both sides of an emphasis, none for what has another form.
pub(crate) const fn emphasis(style: &Style) -> &'static str {
    match style {
        Style::Bold => "**",
        Style::Italic => "*",
        Style::Strike => "~~",
        Style::Code | Style::Link(_) | Style::User(_) | Style::Mention(_) => "",
    }
}

/// The delimiters of code within a line: two backticks and a space where one stands in the code.
pub(crate) fn code_delimiters(covered: &str) -> (&'static str, &'static str) {
    if covered.contains('`') { ("`` ", " ``") } else { ("`", "`") }
}

/// Writes a character of code, so that backticks in it never make a delimiter: longer runs are broken by a character of no
/// width.
pub(crate) fn code(place: Place, block: bool, out: &mut String) {
    if place.c == '`' && out.ends_with(if block { "``" } else { "`" }) {
        out.push(ZERO_WIDTH_SPACE);
    }
    if place.cell && place.c == '|' {
        out.push('\\');
    }
    out.push(place.c);
}

/// The lines around a code block.
pub(crate) fn code_block(language: &str) -> (String, &'static str) {
    (format!("```{language}\n"), "\n```")
}
