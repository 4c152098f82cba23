//! Markdown into a document: one walk over pulldown-cmark's events.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use pulldown_cmark::{CodeBlockKind, Event, LinkType, Options, Parser, Tag, TagEnd};

use super::document::{
    Alignment, Block, Container, Content, Document, Marker, Span, Style, Table, Text,
};
use super::links::{address, user};

/// Quotes and lists nested deeper than this are shown at this depth.
const DEEPEST: usize = 8;

/// Longer runs of blank lines are shortened before parsing: every open list looks at each of them.
const MOST_BLANK_LINES: usize = 50;

/// A line that opens more quotes and lists than this is no Markdown anybody wrote.
const MOST_MARKERS: usize = 200;

/// Reads Markdown (CommonMark with GitHub's tables, strikethrough, task lists and footnotes).
///
/// Never fails: what is not markup is text. Raw HTML is text, an image is a link to it, and a link whose address is not
/// `http`, `https` or `mailto` is its label. Control characters other than newline and tab are removed.
#[must_use]
pub fn parse(markdown: &str) -> Document {
    let source = tidy(markdown);
    if overloaded(&source) {
        return literal(&source);
    }
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_FOOTNOTES;
    let parser = Parser::new_ext(&source, options);
    let mut definitions: Vec<(usize, String, String)> = parser
        .reference_definitions()
        .iter()
        .map(|(label, def)| {
            let text = source.get(def.span.clone()).unwrap_or_default();
            let key = if address(&def.dest).is_some() { label } else { "" };
            (def.span.start, key.to_lowercase(), text.trim().to_owned())
        })
        .collect();
    definitions.sort_unstable();

    let mut walk = Walk::default();
    let mut waiting = definitions.into_iter().peekable();
    for (event, range) in parser.into_offset_iter() {
        if walk.at_top() && matches!(event, Event::Start(_) | Event::Rule) {
            while let Some((_, label, text)) = waiting.next_if(|def| def.0 < range.start) {
                walk.definition(label, text);
            }
        }
        walk.event(event);
    }
    for (_, label, text) in waiting {
        walk.definition(label, text);
    }
    walk.finish()
}

/// Removes control characters; every kind of line end becomes a newline.
pub(super) fn tidy(markdown: &str) -> String {
    let mut tidy = String::with_capacity(markdown.len());
    let mut chars = markdown.chars().peekable();
    let mut newlines = 0;
    while let Some(c) = chars.next() {
        let c = match c {
            '\r' if chars.peek() == Some(&'\n') => continue,
            '\r' | '\u{2028}' | '\u{2029}' => '\n',
            '\t' | '\n' => c,
            c if c.is_control() => continue,
            c => c,
        };
        match c {
            '\n' => newlines += 1,
            ' ' | '\t' => {}
            _ => newlines = 0,
        }
        if newlines <= MOST_BLANK_LINES {
            tidy.push(c);
        }
    }
    tidy
}

/// Whether a line nests so deeply that parsing would take long.
pub(super) fn overloaded(source: &str) -> bool {
    source.lines().any(|line| {
        let markers = line
            .bytes()
            .take_while(|b| b" \t>-+*.)0123456789".contains(b))
            .filter(|b| b">-+*.)".contains(b))
            .take(MOST_MARKERS)
            .count();
        markers == MOST_MARKERS && !rule_like(line)
    })
}

/// A long line of one character alone is a rule, however long.
fn rule_like(line: &str) -> bool {
    let mut marks = line.bytes().filter(|b| !b" \t".contains(b));
    let first = marks.next();
    matches!(first, Some(b'-' | b'*' | b'=')) && marks.all(|b| Some(b) == first)
}

/// The source as it stands, without reading any markup in it.
fn literal(source: &str) -> Document {
    let mut walk = Walk::default();
    for paragraph in source.split("\n\n") {
        walk.leaf = Some(Text::plain(paragraph));
        walk.close_leaf(Content::Paragraph);
    }
    walk.finish()
}

/// What the walk remembers.
#[derive(Default)]
struct Walk {
    document: Document,
    within: Vec<Container>,
    /// How many of `within` no block has shown yet.
    fresh: usize,
    /// Containers beyond the deepest level, not in `within`.
    hidden: usize,
    /// Per open list: the next number, if it is numbered.
    lists: Vec<Option<u64>>,
    leaf: Option<Text>,
    /// Per open inline tag: its span in `leaf`, if it has one.
    open: Vec<Option<usize>>,
    heading: bool,
    /// The language of the code block being read.
    code: Option<String>,
    table: Option<Table>,
    row: Vec<Text>,
    used: HashSet<String>,
    footnotes: HashMap<String, usize>,
}

impl Walk {
    fn at_top(&self) -> bool {
        self.within.is_empty() && self.leaf.is_none() && self.table.is_none()
    }

    /// A reference definition that no link used is something somebody wanted to be read.
    fn definition(&mut self, label: String, text: String) {
        if label.is_empty() || !self.used.contains(&label) {
            self.leaf = Some(Text::plain(inline_text(&text)));
            self.close_leaf(Content::Paragraph);
        }
    }

    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) if self.code.is_some() => self.leaf().text.push_str(&text),
            Event::Text(text) => self.push(&text),
            Event::Html(html) => self.leaf().text.push_str(&html),
            Event::InlineHtml(html) => self.push(&html),
            Event::Code(code) | Event::InlineMath(code) | Event::DisplayMath(code) => {
                self.open_span(Some(Style::Code));
                self.push(&code);
                self.close_span();
            }
            Event::FootnoteReference(name) => {
                let number = self.footnote(&name);
                self.push(&format!("[{number}]"));
            }
            Event::SoftBreak | Event::HardBreak => {
                let space = if self.heading || self.table.is_some() { ' ' } else { '\n' };
                let text = &mut self.leaf().text;
                if !text.ends_with('\n') {
                    text.push(space);
                }
            }
            Event::Rule => {
                self.close_leaf(Content::Paragraph);
                self.block(Content::Rule);
            }
            Event::TaskListMarker(ticked) => {
                if self.hidden == 0
                    && let Some(Container::Item { task, .. }) = self.within.last_mut()
                {
                    *task = Some(ticked);
                }
            }
        }
    }

    fn start(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::BlockQuote(_) => self.open_container(Container::Quote),
            Tag::List(first) => {
                self.close_leaf(Content::Paragraph);
                self.lists.push(first);
            }
            Tag::Item => {
                let marker = match self.lists.last_mut() {
                    Some(Some(number)) => {
                        let shown = *number;
                        *number = number.saturating_add(1);
                        Marker::Number(shown)
                    }
                    _ => Marker::Bullet,
                };
                self.open_container(Container::Item { marker, task: None });
            }
            Tag::FootnoteDefinition(name) => {
                self.close_leaf(Content::Paragraph);
                let number = self.footnote(&name);
                self.open_container(Container::Item {
                    marker: Marker::Number(number as u64),
                    task: None,
                });
            }
            Tag::Heading { .. } => {
                self.close_leaf(Content::Paragraph);
                self.heading = true;
            }
            Tag::CodeBlock(kind) => {
                self.close_leaf(Content::Paragraph);
                self.code = Some(match kind {
                    CodeBlockKind::Fenced(info) => language(&info),
                    CodeBlockKind::Indented => String::new(),
                });
                self.leaf = Some(Text::default());
            }
            Tag::Table(alignments) => {
                self.close_leaf(Content::Paragraph);
                self.table = Some(Table {
                    alignments: alignments.into_iter().map(alignment).collect(),
                    ..Table::default()
                });
            }
            Tag::TableCell => self.leaf = Some(Text::default()),
            Tag::Emphasis => self.open_span(Some(Style::Italic)),
            Tag::Strong => self.open_span((!self.heading).then_some(Style::Bold)),
            Tag::Strikethrough => self.open_span(Some(Style::Strike)),
            Tag::Link { link_type, dest_url, id, .. } => {
                if !matches!(link_type, LinkType::Inline | LinkType::Autolink | LinkType::Email) {
                    self.used.insert(id.to_lowercase());
                }
                let address = match link_type {
                    LinkType::Email => address(&format!("mailto:{dest_url}")),
                    _ => address(&dest_url),
                };
                let user = || user(&dest_url).map(Style::User);
                self.open_span(address.map(Style::Link).or_else(user));
            }
            Tag::Image { dest_url, id, .. } => {
                self.used.insert(id.to_lowercase());
                self.open_span(address(&dest_url).map(Style::Link));
            }
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::BlockQuote(_) | TagEnd::Item | TagEnd::FootnoteDefinition => {
                self.close_container();
            }
            TagEnd::List(_) => {
                self.lists.pop();
            }
            TagEnd::Heading(level) => {
                self.heading = false;
                let level = level as u8;
                self.close_leaf(|text| Content::Heading { level, text });
            }
            TagEnd::TableCell => {
                let cell = self.leaf.take().unwrap_or_default();
                self.open.clear();
                self.row.push(cell.finished());
            }
            TagEnd::TableHead | TagEnd::TableRow => {
                let mut row = std::mem::take(&mut self.row);
                // The parser fills short rows up; a wide header over many rows would make that a lot.
                while row.last().is_some_and(|cell| cell.text.is_empty()) {
                    row.pop();
                }
                if let Some(table) = &mut self.table {
                    if tag == TagEnd::TableHead {
                        table.header = row;
                    } else {
                        table.rows.push(row);
                    }
                }
            }
            TagEnd::Table => {
                if let Some(table) = self.table.take() {
                    let cells = || table.header.iter().chain(table.rows.iter().flatten());
                    if cells().any(|cell| !cell.is_blank()) {
                        self.block(Content::Table(table));
                    }
                }
            }
            TagEnd::Emphasis | TagEnd::Strong | TagEnd::Strikethrough => self.close_span(),
            TagEnd::Link | TagEnd::Image => {
                self.label();
                self.close_span();
            }
            TagEnd::Paragraph | TagEnd::HtmlBlock => self.close_leaf(Content::Paragraph),
            TagEnd::CodeBlock => self.close_code(),
            _ => {}
        }
    }

    fn footnote(&mut self, name: &str) -> usize {
        let next = self.footnotes.len() + 1;
        *self.footnotes.entry(name.to_lowercase()).or_insert(next)
    }

    fn leaf(&mut self) -> &mut Text {
        self.leaf.get_or_insert_default()
    }

    fn push(&mut self, text: &str) {
        let text = inline_text(text);
        self.leaf().text.push_str(&text);
    }

    /// A link without a label shows its address.
    fn label(&mut self) {
        if let (Some(leaf), Some(Some(index))) = (&mut self.leaf, self.open.last())
            && let Some(Span { range, style: Style::Link(url) }) = leaf.spans.get(*index)
            && !leaf
                .text
                .get(range.start..)
                .unwrap_or_default()
                .chars()
                .any(super::document::visible)
        {
            leaf.text.push_str(url);
        }
    }

    fn open_span(&mut self, style: Option<Style>) {
        let leaf = self.leaf.get_or_insert_default();
        let same = |style: &Style| {
            let kind = std::mem::discriminant(style);
            let link = style.is_link();
            self.open.iter().flatten().filter_map(|index| leaf.spans.get(*index)).any(|span| {
                std::mem::discriminant(&span.style) == kind || (link && span.style.is_link())
            })
        };
        let index = style.filter(|style| !same(style)).map(|style| {
            let at = leaf.text.len();
            leaf.spans.push(Span { range: at..at, style });
            leaf.spans.len() - 1
        });
        self.open.push(index);
    }

    fn close_span(&mut self) {
        if let (Some(Some(index)), Some(leaf)) = (self.open.pop(), &mut self.leaf)
            && let Some(span) = leaf.spans.get_mut(index)
        {
            span.range.end = leaf.text.len();
        }
    }

    fn open_container(&mut self, container: Container) {
        self.close_leaf(Content::Paragraph);
        if self.within.len() < DEEPEST {
            self.within.push(container);
            self.fresh += 1;
        } else {
            self.hidden += 1;
        }
    }

    fn close_container(&mut self) {
        self.close_leaf(Content::Paragraph);
        if self.hidden > 0 {
            self.hidden -= 1;
        } else {
            self.within.pop();
            self.fresh = self.fresh.saturating_sub(1);
        }
    }

    /// Ends the text being gathered, if there is any.
    fn close_leaf(&mut self, content: impl FnOnce(Text) -> Content) {
        self.open.clear();
        if let Some(text) = self.leaf.take()
            && !text.is_blank()
        {
            self.block(content(text.finished()));
        }
    }

    fn close_code(&mut self) {
        let language = self.code.take().unwrap_or_default();
        if let Some(mut text) = self.leaf.take()
            && !text.is_blank()
        {
            text.text.truncate(text.text.trim_end().len());
            self.block(Content::Code { language, text });
        }
    }

    fn block(&mut self, content: Content) {
        self.document.blocks.push(Block {
            within: self.within.clone(),
            opens: std::mem::take(&mut self.fresh),
            content,
        });
    }

    fn finish(mut self) -> Document {
        self.close_leaf(Content::Paragraph);
        self.document
    }
}

const fn alignment(alignment: pulldown_cmark::Alignment) -> Alignment {
    match alignment {
        pulldown_cmark::Alignment::None => Alignment::None,
        pulldown_cmark::Alignment::Left => Alignment::Left,
        pulldown_cmark::Alignment::Center => Alignment::Centre,
        pulldown_cmark::Alignment::Right => Alignment::Right,
    }
}

/// Text within a line: entities may have brought line ends and control characters back.
fn inline_text(text: &str) -> Cow<'_, str> {
    if text.chars().any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')) {
        Cow::Owned(
            text.chars()
                .filter_map(|c| match c {
                    '\t' => Some('\t'),
                    '\n' | '\r' | '\u{2028}' | '\u{2029}' => Some(' '),
                    c if c.is_control() => None,
                    c => Some(c),
                })
                .collect(),
        )
    } else {
        Cow::Borrowed(text)
    }
}

/// Only a word may name a language: an info string can hold anything, backticks included.
fn language(info: &str) -> String {
    let word = info.split([' ', ',', '{', '\t']).next().unwrap_or_default();
    let good = |c: char| c.is_ascii_alphanumeric() || "_+-#.".contains(c);
    if word.len() <= 32 && word.chars().all(good) { word.to_owned() } else { String::new() }
}

#[cfg(test)]
mod tests;
