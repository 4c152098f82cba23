//! The quotes and lists around a block, and its markup, written in a dialect.

use super::dialect::{Dialect, TableForm};
use super::document::{Alignment, Block, Container, Content, Marker, Table, Text};
use super::flow::{Mode, Run};
use super::table::Layout;

/// The part being filled, as far as a dialect must know it to write the next block.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    /// The block before, in this part.
    pub before: Option<&'a Block>,
    /// Per container of that block: whether it is a list item whose marker stands in this part.
    pub live: &'a [bool],
    /// Whether a quote's tag is open.
    pub quoted: bool,
}

/// A block, or the rest of one, to be written.
#[derive(Clone, Copy)]
pub(super) struct Piece<'a> {
    pub block: &'a Block,
    /// The rows of a table, laid out.
    pub layout: Option<&'a Layout>,
    /// Where to begin: bytes of the text, or rows of the table.
    pub from: usize,
    /// Where to end at the latest.
    pub to: usize,
    /// The beginning of the block stands in an earlier part.
    pub continued: bool,
}

/// A piece in a dialect.
pub(super) struct Chunk {
    pub out: String,
    pub units: usize,
    /// How far it got.
    pub to: usize,
    /// Whether that is the end of the block.
    pub complete: bool,
    pub quoted: bool,
}

/// What stands before the first line of a block, before its other lines, and before lines that must not be indented.
struct Prefix {
    first: String,
    rest: String,
    quotes: String,
    /// Of a blank line before the block.
    blank: String,
    marked: bool,
    /// `first` ends with a task's box, behind which only a paragraph can stand.
    boxed: bool,
}

impl Prefix {
    fn end_box(&mut self) {
        if std::mem::take(&mut self.boxed) {
            self.first.push('\n');
            self.first.push_str(&self.rest);
        }
    }
}

fn prefix(dialect: &dyn Dialect, piece: Piece<'_>, scene: Scene<'_>) -> Prefix {
    let kept = if piece.continued { piece.block.within.len() } else { piece.block.kept() };
    let mut prefix = Prefix {
        first: String::new(),
        rest: String::new(),
        quotes: String::new(),
        blank: String::new(),
        marked: false,
        boxed: false,
    };
    for (i, container) in piece.block.within.iter().enumerate() {
        if i == kept {
            prefix.blank.clone_from(&prefix.rest);
        }
        prefix.end_box();
        match *container {
            Container::Quote => {
                for part in [&mut prefix.first, &mut prefix.rest, &mut prefix.quotes] {
                    part.push_str(dialect.quote_prefix());
                }
            }
            Container::Item { marker, task } => {
                let (mark, indent) = dialect.item(marker, task);
                if i >= kept {
                    prefix.marked = true;
                    prefix.first.push_str(&mark);
                    prefix.rest.push_str(&" ".repeat(indent));
                    prefix.boxed = task.is_some() && dialect.box_takes_line();
                } else if scene.live.get(i).is_some_and(|live| *live) {
                    // An item that began in an earlier part has no line here to be indented under.
                    let indent = " ".repeat(indent);
                    prefix.first.push_str(&indent);
                    prefix.rest.push_str(&indent);
                }
            }
        }
    }
    if !matches!(piece.block.content, Content::Paragraph(_)) {
        prefix.end_box();
    }
    if kept == piece.block.within.len() {
        prefix.blank.clone_from(&prefix.rest);
    }
    if prefix.blank.trim().is_empty() {
        prefix.blank.clear();
    }
    prefix
}

/// Whether a block follows the one before without a blank line.
fn close_by(before: &Block, block: &Block) -> bool {
    let kept = block.kept();
    let item = |container: Option<&Container>| matches!(container, Some(Container::Item { .. }));
    if matches!(before.content, Content::Heading { .. }) && before.within.len() == kept {
        return !matches!(block.content, Content::Rule);
    }
    if !item(block.within.get(kept)) {
        return false;
    }
    let numbered = |container: Option<&Container>| match container {
        Some(Container::Item { marker, .. }) => Some(matches!(marker, Marker::Number(_))),
        _ => None,
    };
    let sibling = numbered(before.within.get(kept)) == numbered(block.within.get(kept));
    let nested = kept > 0 && item(block.within.get(kept - 1));
    // A list that does not begin with a one cannot follow text directly.
    let starts = !matches!(
        block.within.get(kept),
        Some(Container::Item { marker: Marker::Number(n), .. }) if *n != 1
    );
    sibling || (nested && starts)
}

/// Writes a piece into what is left of a part: `room` units. `must` as in [`Run::write`].
pub(super) fn write(
    dialect: &dyn Dialect,
    piece: Piece<'_>,
    scene: Scene<'_>,
    room: usize,
    must: bool,
) -> Chunk {
    let block = piece.block;
    let prefix = prefix(dialect, piece, scene);
    let mut lead = Pen::new(dialect);
    let in_quote = block.within.contains(&Container::Quote);
    let kept = block.within.get(..block.kept()).unwrap_or_default();
    let same_quote = scene.quoted && kept.contains(&Container::Quote);
    let tags = dialect.quote_tags();
    if let Some((_, close)) = tags
        && scene.quoted
        && !same_quote
    {
        lead.push(close);
    }
    if let Some(before) = scene.before {
        lead.push("\n");
        if !close_by(before, block) {
            lead.push(&prefix.blank);
            lead.push("\n");
        }
    }
    if let Some((open, _)) = tags
        && in_quote
        && !same_quote
    {
        lead.push(open);
    }
    let quoted = tags.is_some() && in_quote;
    let closing = tags.filter(|_| quoted).map_or(0, |(_, close)| dialect.units(close));
    let room = room.saturating_sub(lead.units + closing);
    let mut chunk = match &block.content {
        Content::Paragraph(text) => {
            words(dialect, text, Mode::Line, ("", ""), &prefix, piece, room, must)
        }
        Content::Heading { level, text } => {
            let around = dialect.heading(*level);
            words(dialect, text, Mode::Heading, around, &prefix, piece, room, must)
        }
        Content::Code { language, text } => {
            code(dialect, text, language, &prefix, piece, room, must)
        }
        Content::Table(table) => match (dialect.table(), piece.layout) {
            (TableForm::Aligned, Some(layout)) => aligned(dialect, layout, &prefix, piece, room),
            _ => native(dialect, table, &prefix, piece, room),
        },
        Content::Rule => {
            let mut pen = Pen::new(dialect);
            pen.push(&prefix.first);
            pen.push(dialect.rule());
            let complete = pen.units <= room;
            pen.chunk(usize::from(complete), complete)
        }
    };
    chunk.out.insert_str(0, &lead.out);
    chunk.units += lead.units;
    chunk.quoted = quoted;
    chunk
}

/// Output and its cost.
struct Pen<'a> {
    dialect: &'a dyn Dialect,
    out: String,
    units: usize,
}

impl<'a> Pen<'a> {
    fn new(dialect: &'a dyn Dialect) -> Self {
        Self { dialect, out: String::new(), units: 0 }
    }

    fn push(&mut self, written: &str) {
        self.out.push_str(written);
        self.units += self.dialect.units(written);
    }

    fn chunk(self, to: usize, complete: bool) -> Chunk {
        Chunk { out: self.out, units: self.units, to, complete, quoted: false }
    }
}

#[expect(clippy::too_many_arguments, reason = "one call, all of them needed")]
fn words(
    dialect: &dyn Dialect,
    text: &Text,
    mode: Mode,
    (open, close): (&str, &str),
    prefix: &Prefix,
    piece: Piece<'_>,
    room: usize,
    must: bool,
) -> Chunk {
    let mut pen = Pen::new(dialect);
    pen.push(&prefix.first);
    pen.push(open);
    let left = room.saturating_sub(pen.units + dialect.units(close));
    let to = piece.to.min(text.text.len());
    let run = Run { dialect, text, from: piece.from, to, prefix: &prefix.rest, mode };
    let written = run.write(left, must);
    pen.out.push_str(&written.out);
    pen.units += written.units;
    pen.push(close);
    pen.chunk(written.to, written.to >= text.text.len())
}

/// The lines before and after code: the marker of a list item on a line of its own where code is not indented.
fn fence(dialect: &dyn Dialect, language: &str, prefix: &Prefix) -> (String, String, String) {
    let (open, close) = dialect.code_block(language);
    let inner = if dialect.indents_code() { &prefix.rest } else { &prefix.quotes };
    let mut lead = if dialect.indents_code() {
        prefix.first.clone()
    } else if prefix.marked {
        format!("{}\n{inner}", prefix.first.trim_end())
    } else {
        inner.clone()
    };
    let indent = |text: &str| text.replace('\n', &format!("\n{inner}"));
    lead.push_str(&indent(&open));
    (lead, indent(close), inner.clone())
}

fn code(
    dialect: &dyn Dialect,
    text: &Text,
    language: &str,
    prefix: &Prefix,
    piece: Piece<'_>,
    room: usize,
    must: bool,
) -> Chunk {
    let (open, close, inner) = fence(dialect, language, prefix);
    let mut pen = Pen::new(dialect);
    pen.push(&open);
    let left = room.saturating_sub(pen.units + dialect.units(&close));
    let to = piece.to.min(text.text.len());
    let run = Run { dialect, text, from: piece.from, to, prefix: &inner, mode: Mode::Code };
    let written = run.write(left, must);
    pen.out.push_str(&written.out);
    pen.units += written.units;
    pen.push(&close);
    pen.chunk(written.to, written.to >= text.text.len())
}

/// Rows of a table as a code block; its header stands at the top of each piece.
fn aligned(
    dialect: &dyn Dialect,
    layout: &Layout,
    prefix: &Prefix,
    piece: Piece<'_>,
    room: usize,
) -> Chunk {
    let (open, close, inner) = fence(dialect, "", prefix);
    let line = |line: &str| {
        let text = Text::plain(line);
        let run =
            Run { dialect, text: &text, from: 0, to: line.len(), prefix: &inner, mode: Mode::Code };
        let written = run.write(room, true);
        (written.to == line.len()).then_some(written.out)
    };
    let mut pen = Pen::new(dialect);
    pen.push(&open);
    let header = line(&layout.header);
    pen.push(header.as_deref().unwrap_or_default());
    let left = room.saturating_sub(dialect.units(&close));
    rows(pen, piece, left, layout.rows.len(), header.is_some(), |row| {
        let row = line(layout.rows.get(row)?)?;
        Some(format!("\n{inner}{row}"))
    })
    .closed(dialect, &close)
}

/// Rows of a table as GitHub's Markdown writes them; the header stands at the top of each piece.
fn native(
    dialect: &dyn Dialect,
    table: &Table,
    prefix: &Prefix,
    piece: Piece<'_>,
    room: usize,
) -> Chunk {
    let cells = |row: &[Text], least: usize| {
        let mut line = String::from("|");
        for i in 0..least.max(row.len()) {
            line.push(' ');
            if let Some(text) = row.get(i) {
                let run = Run {
                    dialect,
                    text,
                    from: 0,
                    to: text.text.len(),
                    prefix: "",
                    mode: Mode::Cell,
                };
                let written = run.write(room, true);
                if written.to < text.text.len() {
                    return None;
                }
                line.push_str(&written.out);
            }
            line.push_str(" |");
        }
        Some(line)
    };
    let mut pen = Pen::new(dialect);
    pen.push(&prefix.first);
    let header = cells(&table.header, table.alignments.len());
    pen.push(header.as_deref().unwrap_or_default());
    pen.push(&format!("\n{}|", prefix.rest));
    for alignment in &table.alignments {
        pen.push(match alignment {
            Alignment::None => " --- |",
            Alignment::Left => " :--- |",
            Alignment::Centre => " :---: |",
            Alignment::Right => " ---: |",
        });
    }
    rows(pen, piece, room, table.rows.len(), header.is_some(), |row| {
        let row = cells(table.rows.get(row)?, 1)?;
        Some(format!("\n{}{row}", prefix.rest))
    })
}

/// Adds rows to a table's header while they fit.
fn rows(
    mut pen: Pen<'_>,
    piece: Piece<'_>,
    room: usize,
    count: usize,
    header: bool,
    row: impl Fn(usize) -> Option<String>,
) -> Chunk {
    let mut at = piece.from;
    let end = piece.to.min(count);
    let fits = header && pen.units <= room;
    while fits && at < end {
        let Some(row) = row(at) else { break };
        if pen.units + pen.dialect.units(&row) > room {
            break;
        }
        pen.push(&row);
        at += 1;
    }
    pen.chunk(at, fits && at >= count)
}

impl Chunk {
    fn closed(mut self, dialect: &dyn Dialect, close: &str) -> Self {
        self.out.push_str(close);
        self.units += dialect.units(close);
        self
    }
}
