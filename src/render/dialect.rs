//! What a platform's markup looks like: the one thing that differs between them.

use std::borrow::Cow;

use super::document::{Marker, Style};

/// A character of text, and what decides whether it must be escaped.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The character.
    pub c: char,
    /// The one before it, if that has the same meaning (a span's end hides it).
    pub before: Option<char>,
    /// The one after it, likewise.
    pub after: Option<char>,
    /// It is the first on its line; behind a list marker or a quote mark too.
    pub line_start: bool,
    /// So far the line holds only digits: a full stop would make it a list item.
    pub line_is_number: bool,
    /// It stands in a heading.
    pub heading: bool,
    /// It stands in a cell of a table.
    pub cell: bool,
    /// It stands in a link whose label is its address.
    pub address: bool,
    /// A link begins right behind it: an exclamation mark there would make it an image.
    pub link_follows: bool,
}

/// How a table is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableForm {
    /// As GitHub's Markdown writes it.
    Native,
    /// As a code block with aligned columns.
    Aligned,
}

/// A platform's markup. Pure; knows nothing of documents, blocks or cuts.
pub trait Dialect {
    /// The most one part may hold, in this platform's unit. Below the platform's own limit where something may be added
    /// to a part later.
    fn limit(&self) -> usize;

    /// How many units something written for the body takes of the limit: characters, unless the platform counts otherwise.
    fn units(&self, written: &str) -> usize {
        written.chars().count()
    }

    /// The most characters of plain text that go with a part, where there is such a limit.
    fn plain_limit(&self) -> Option<usize> {
        None
    }

    /// Whether the plain text that goes with a part has `&`, `<` and `>` as entities.
    fn plain_entities(&self) -> bool {
        false
    }

    /// Writes a character of text so that it stays text.
    fn text(&self, place: Place, out: &mut String);

    /// Writes a character of code; `block` tells a code block from code within a line.
    fn code(&self, place: Place, block: bool, out: &mut String);

    /// Writes a mention that calls people, as its platform takes it.
    fn mention(&self, mention: &str, line_start: bool, out: &mut String) {
        let _ = line_start;
        out.push_str(mention);
    }

    /// What begins a style. `code` is the whole text under a code span.
    fn open(&self, style: &Style, covered: &str) -> Cow<'static, str>;

    /// What ends it.
    fn close(&self, style: &Style, covered: &str) -> Cow<'_, str>;

    /// The styles are runs of punctuation that must touch a word inwards and not outwards, as in Markdown.
    fn delimiters_flank(&self) -> bool;

    /// What begins and ends a heading.
    fn heading(&self, level: u8) -> (&'static str, &'static str);

    /// What begins and ends a code block, line ends included.
    fn code_block(&self, language: &str) -> (String, &'static str);

    /// Whether lines of code are indented like the list item they stand in.
    fn indents_code(&self) -> bool {
        false
    }

    /// What stands before each line of a quote.
    fn quote_prefix(&self) -> &'static str;

    /// What begins and ends a quote, where it has a beginning and an end. Quotes in quotes are then one.
    fn quote_tags(&self) -> Option<(&'static str, &'static str)> {
        None
    }

    /// What stands before the first line of a list item, and by how many spaces the others are indented.
    fn item(&self, marker: Marker, task: Option<bool>) -> (String, usize);

    /// Whether the box of a task is markup that only a paragraph can follow on its line.
    fn box_takes_line(&self) -> bool {
        false
    }

    /// How tables are shown.
    fn table(&self) -> TableForm {
        TableForm::Aligned
    }

    /// A line across.
    fn rule(&self) -> &'static str {
        "──────────"
    }

    /// The longest address that stays a link, in bytes. A longer one is written out behind its label.
    fn longest_address(&self) -> usize;
}

/// List items without markup: bullets, numbers, boxes.
pub(crate) fn plain_item(marker: Marker, task: Option<bool>) -> (String, usize) {
    let box_ = match task {
        Some(true) => "☑ ",
        Some(false) => "☐ ",
        None => "",
    };
    match marker {
        Marker::Bullet if task.is_some() => (box_.to_owned(), 2),
        Marker::Bullet => ("• ".to_owned(), 2),
        Marker::Number(n) => {
            let number = format!("{n}. ");
            let indent = number.chars().count();
            (number + box_, indent)
        }
    }
}

/// Writes a character, `&`, `<` and `>` as entities.
pub(crate) fn entity(c: char, out: &mut String) {
    match c {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        c => out.push(c),
    }
}

/// Readable text without any markup.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plain {
    /// Quotes are marked with `> ` (where the body marks them by tags, they cost nothing there either).
    pub quotes: bool,
    /// `&`, `<` and `>` are written as entities.
    pub entities: bool,
}

impl Plain {
    fn put(self, c: char, out: &mut String) {
        if self.entities {
            entity(c, out);
        } else {
            out.push(c);
        }
    }
}

impl Dialect for Plain {
    fn limit(&self) -> usize {
        usize::MAX
    }
    fn text(&self, place: Place, out: &mut String) {
        self.put(place.c, out);
    }
    fn code(&self, place: Place, _block: bool, out: &mut String) {
        self.put(place.c, out);
    }
    fn open(&self, _style: &Style, _covered: &str) -> Cow<'static, str> {
        Cow::Borrowed("")
    }
    fn close(&self, _style: &Style, _covered: &str) -> Cow<'_, str> {
        Cow::Borrowed("")
    }
    fn delimiters_flank(&self) -> bool {
        false
    }
    fn heading(&self, _level: u8) -> (&'static str, &'static str) {
        ("", "")
    }
    fn code_block(&self, _language: &str) -> (String, &'static str) {
        (String::new(), "")
    }
    fn quote_prefix(&self) -> &'static str {
        if self.quotes { "> " } else { "" }
    }
    fn item(&self, marker: Marker, task: Option<bool>) -> (String, usize) {
        plain_item(marker, task)
    }
    fn longest_address(&self) -> usize {
        usize::MAX
    }
}
