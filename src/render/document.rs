//! What a message says, free of any dialect: blocks of text, and spans that say what the text means.

use std::ops::Range;

/// A message, understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    pub(crate) blocks: Vec<Block>,
}

/// One piece that stands on lines of its own, and the quotes and list items it stands in.
///
/// Blocks are a flat list, so that a message can be cut between any two of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Quotes and list items around it, outermost first.
    pub within: Vec<Container>,
    /// How many of those, the innermost ones, begin with this block. A list item shows its marker where it begins.
    pub opens: usize,
    /// What it is.
    pub content: Content,
}

impl Block {
    /// How many of the containers around this block already held the block before it.
    pub(super) fn kept(&self) -> usize {
        self.within.len().saturating_sub(self.opens)
    }
}

/// Something that holds blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// A quote.
    Quote,
    /// An item of a list.
    Item {
        /// Its bullet or number.
        marker: Marker,
        /// The box of a task: ticked or not.
        task: Option<bool>,
    },
}

/// What stands before a list item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// A bullet.
    Bullet,
    /// A number.
    Number(u64),
}

/// The kinds of block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A paragraph; its lines are kept.
    Paragraph(Text),
    /// A heading of one line.
    Heading {
        /// 1 to 6.
        level: u8,
        /// Its words.
        text: Text,
    },
    /// A code block.
    Code {
        /// Its language: letters, digits and `_+-#.` alone, possibly empty.
        language: String,
        /// The code; its lines are kept, its spans are empty.
        text: Text,
    },
    /// A table.
    Table(Table),
    /// A line across.
    Rule,
}

/// A table. Rows may be shorter than the header, never longer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// One per column.
    pub alignments: Vec<Alignment>,
    /// The first row.
    pub header: Vec<Text>,
    /// The others.
    pub rows: Vec<Vec<Text>>,
}

/// How a column is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Alignment {
    /// As the platform likes.
    #[default]
    None,
    /// To the left.
    Left,
    /// In the middle.
    Centre,
    /// To the right.
    Right,
}

/// Text and what parts of it mean.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    /// The words, without markup.
    pub(crate) text: String,
    /// Properly nested, in the order of their beginnings, the outer before the inner.
    pub(crate) spans: Vec<Span>,
}

/// A stretch of text with a meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Bytes of the text.
    pub range: Range<usize>,
    /// The meaning.
    pub style: Style,
}

/// What a span means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Style {
    /// Strong.
    Bold,
    /// Emphasis.
    Italic,
    /// Struck out.
    Strike,
    /// Code within a line.
    Code,
    /// A link to an `http`, `https` or `mailto` address, with its delimiters percent-encoded.
    Link(String),
    /// A link to a Telegram user, by their ID: it calls them. Telegram alone shows it; the guard says whether.
    User(u64),
    /// A mention that calls people, as its platform takes it: it is written like this, whole, in place of the text under
    /// it. Only the guard makes one.
    Mention(String),
}

impl Style {
    /// Whether it leads somewhere when it is pressed.
    pub(super) const fn is_link(&self) -> bool {
        matches!(self, Self::Link(_) | Self::User(_))
    }
}

/// Whether anything is seen where this character stands.
pub(crate) fn visible(c: char) -> bool {
    !(c.is_whitespace()
        || c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}' | '\u{ffa0}' | '\u{e0000}'..='\u{e0fff}'))
}

impl Text {
    /// Text without spans.
    pub(crate) fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), spans: Vec::new() }
    }

    /// Whether nothing would be seen of it.
    pub(crate) fn is_blank(&self) -> bool {
        !self.text.chars().any(visible)
    }

    /// Where its spans begin and end, in order.
    pub(crate) fn edges(&self) -> Vec<usize> {
        let mut edges: Vec<usize> =
            self.spans.iter().flat_map(|span| [span.range.start, span.range.end]).collect();
        edges.sort_unstable();
        edges
    }

    /// Appends other text with its spans.
    pub(super) fn append(&mut self, other: &Self) {
        let base = self.text.len();
        self.text.push_str(&other.text);
        self.spans.extend(other.spans.iter().map(|span| Span {
            range: base + span.range.start..base + span.range.end,
            style: span.style.clone(),
        }));
    }
}

impl Table {
    /// The rows as lines, the cells separated by a bar: for a table too large to be shown as one.
    /// Begins with the row `from`; the header comes first where that is 0.
    pub(super) fn flatten(&self, from: usize) -> Text {
        let mut flat = Text::default();
        let header = (from == 0).then_some(&self.header);
        for row in header.into_iter().chain(self.rows.iter().skip(from)) {
            if !flat.text.is_empty() {
                flat.text.push('\n');
            }
            for (i, cell) in row.iter().enumerate() {
                if i > 0 {
                    flat.text.push_str(" | ");
                }
                flat.append(cell);
            }
        }
        flat
    }
}

impl Content {
    /// Every text in it, in reading order.
    pub(crate) fn texts_mut(&mut self) -> impl Iterator<Item = &mut Text> {
        let (single, table) = match self {
            Self::Paragraph(text) | Self::Heading { text, .. } | Self::Code { text, .. } => {
                (Some(text), None)
            }
            Self::Table(table) => (None, Some(table)),
            Self::Rule => (None, None),
        };
        let cells = table
            .into_iter()
            .flat_map(|table| table.header.iter_mut().chain(table.rows.iter_mut().flatten()));
        single.into_iter().chain(cells)
    }
}

impl Document {
    /// Whether nothing would be seen of it.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Every text in it, in reading order, for whoever must look at or change what is said.
    pub(crate) fn texts_mut(&mut self) -> impl Iterator<Item = &mut Text> {
        self.blocks.iter_mut().flat_map(|block| block.content.texts_mut())
    }

    /// A document of plain words.
    pub(crate) fn plain(words: &str) -> Self {
        let content = Content::Paragraph(Text::plain(words));
        Self { blocks: vec![Block { within: Vec::new(), opens: 0, content }] }
    }

    /// Every text in it, in reading order.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &Text> {
        self.blocks.iter().flat_map(|block| {
            let (single, table) = match &block.content {
                Content::Paragraph(text)
                | Content::Heading { text, .. }
                | Content::Code { text, .. } => (Some(text), None),
                Content::Table(table) => (None, Some(table)),
                Content::Rule => (None, None),
            };
            let cells = table
                .into_iter()
                .flat_map(|table| table.header.iter().chain(table.rows.iter().flatten()));
            single.into_iter().chain(cells)
        })
    }
}
