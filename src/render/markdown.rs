//! What Slack's and Discord's Markdown have in common.

use super::dialect::Place;
use super::document::Style;
use super::flow::ZERO_WIDTH_SPACE;

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
