//! Fills parts with blocks. Each part is written once, and at most twice more where a block does not fit.

use super::RenderError;
use super::dialect::{Dialect, Plain};
use super::document::{Block, Container, Content, Document, visible};
use super::frame::{self, Chunk, Piece, Scene};
use super::markdown::Markdown;
use super::table::{Layout, layout};
use crate::model::TextPart;

/// The most parts that one text may take.
pub const MOST_PARTS: usize = 20;

/// Writes a document in a dialect, in parts within the dialect's limit.
///
/// A cut falls between blocks where that leaves no part emptier than a third, else between lines, else between words.
/// A code block that is cut is closed and opened again with its language, a table begins again with its header.
///
/// # Errors
/// When nothing would be seen, or more than [`MOST_PARTS`] parts would be needed.
pub fn render(document: &Document, dialect: &dyn Dialect) -> Result<Vec<TextPart>, RenderError> {
    let document = document.with_short_links(dialect.longest_address());
    let room = dialect.limit().saturating_mul(MOST_PARTS);
    let mut least = 0;
    for text in document.texts() {
        least += text.text.chars().filter(|c| visible(*c)).count();
        if least > room {
            return Err(RenderError::TooLong { most: MOST_PARTS });
        }
    }
    let mut filler = Filler::new(dialect);
    for block in &document.blocks {
        filler.add(block)?;
    }
    filler.flush()?;
    if filler.parts.is_empty() {
        return Err(RenderError::Empty);
    }
    Ok(filler.parts)
}

/// Writes a document as Markdown again, in one piece: for a file.
#[must_use]
pub fn whole(document: &Document) -> String {
    let parts = render(document, &Markdown::WHOLE).unwrap_or_default();
    parts.into_iter().map(|part| part.body).collect()
}

/// One rendering of the part being filled.
struct Side<'a> {
    dialect: &'a dyn Dialect,
    out: String,
    units: usize,
    quoted: bool,
}

impl Side<'_> {
    fn put(&mut self, chunk: &Chunk) {
        self.out.push_str(&chunk.out);
        self.units += chunk.units;
        self.quoted = chunk.quoted;
    }

    /// What ending the part here takes.
    fn closing(&self) -> &'static str {
        match self.dialect.quote_tags() {
            Some((_, close)) if self.quoted => close,
            _ => "",
        }
    }

    fn mark(&self) -> (usize, usize, bool) {
        (self.out.len(), self.units, self.quoted)
    }

    fn back_to(&mut self, (length, units, quoted): (usize, usize, bool)) {
        self.out.truncate(length);
        self.units = units;
        self.quoted = quoted;
    }

    fn take(&mut self) -> String {
        let closing = self.closing();
        self.out.push_str(closing);
        self.units = 0;
        self.quoted = false;
        std::mem::take(&mut self.out)
    }
}

struct Filler<'a> {
    body: Side<'a>,
    plain: Side<'a>,
    /// Nothing but blank lines went into this part yet.
    blank: bool,
    before: Option<Block>,
    live: Vec<bool>,
    /// The part before its last block, if that is a heading: it goes along with what follows.
    heading: Option<(Block, Mark)>,
    parts: Vec<TextPart>,
}

/// A state of a part to go back to.
struct Mark {
    body: (usize, usize, bool),
    plain: (usize, usize, bool),
    blank: bool,
}

/// Where a body marks quotes by tags, its plain text has no marks either, so that it is never longer than what is shown.
const PLAIN: &Plain = &Plain { quotes: true, entities: false };
const PLAIN_TAGGED: &Plain = &Plain { quotes: false, entities: false };
const PLAIN_ENTITIES: &Plain = &Plain { quotes: true, entities: true };

impl<'a> Filler<'a> {
    fn new(dialect: &'a dyn Dialect) -> Self {
        let plain = match (dialect.quote_tags().is_some(), dialect.plain_entities()) {
            (true, _) => PLAIN_TAGGED,
            (false, true) => PLAIN_ENTITIES,
            (false, false) => PLAIN,
        };
        let side = |dialect| Side { dialect, out: String::new(), units: 0, quoted: false };
        Self {
            body: side(dialect),
            plain: side(plain),
            blank: true,
            before: None,
            live: Vec::new(),
            heading: None,
            parts: Vec::new(),
        }
    }

    fn add(&mut self, block: &Block) -> Result<(), RenderError> {
        let layout = match &block.content {
            Content::Table(table) => Some(layout(table)),
            _ => None,
        };
        self.enter(block);
        self.fill(block, layout.as_ref(), false)
    }

    /// What the containers of the block before are to this one.
    fn enter(&mut self, block: &Block) {
        self.live.resize(block.kept().min(self.live.len()), false);
        self.live.resize(block.within.len(), false);
    }

    fn fill(
        &mut self,
        block: &Block,
        layout: Option<&Layout>,
        mut continued: bool,
    ) -> Result<(), RenderError> {
        let limit = self.body.dialect.limit();
        let mut from = 0;
        loop {
            let piece = Piece { block, layout, from, to: usize::MAX, continued };
            let fresh = self.before.is_none();
            let room = limit.saturating_sub(self.body.units);
            let chunk = self.write(piece, room, fresh);
            if chunk.complete && chunk.units <= room {
                let mark =
                    Mark { body: self.body.mark(), plain: self.plain.mark(), blank: self.blank };
                self.put(&chunk, piece);
                let heading = matches!(block.content, Content::Heading { .. })
                    && chunk.units < limit / 4
                    && !continued;
                self.heading = heading.then(|| (block.clone(), mark));
                return Ok(());
            }
            let used = self.body.units;
            if !fresh && (used >= limit / 3 || chunk.to <= from) {
                let alone =
                    used * 4 >= limit * 3 || chunk.to <= from || self.fits_alone(piece, limit);
                if alone {
                    self.flush_before(block)?;
                    continue;
                }
            }
            if chunk.to <= from {
                // Not even one row of a table fits with its header: the table becomes lines of text.
                let Content::Table(table) = &block.content else {
                    return Err(RenderError::TooLong { most: MOST_PARTS });
                };
                let text = table.flatten(from);
                if text.is_blank() {
                    return Ok(());
                }
                let lines = Block { content: Content::Paragraph(text), ..block.clone() };
                return self.fill(&lines, None, continued);
            }
            self.put(&chunk, piece);
            self.flush()?;
            continued = true;
            from = chunk.to;
        }
    }

    fn scene<'s>(&'s self, side: &Side<'_>) -> Scene<'s> {
        Scene { before: self.before.as_ref(), live: &self.live, quoted: side.quoted }
    }

    fn write(&self, piece: Piece<'_>, room: usize, must: bool) -> Chunk {
        frame::write(self.body.dialect, piece, self.scene(&self.body), room, must)
    }

    /// Whether a piece would fit into a part of its own.
    fn fits_alone(&self, piece: Piece<'_>, limit: usize) -> bool {
        let scene = Scene { before: None, live: &[], quoted: false };
        frame::write(self.body.dialect, piece, scene, limit, true).complete
    }

    /// Puts what was written into the part, and the same stretch of it as plain text beside it.
    fn put(&mut self, chunk: &Chunk, piece: Piece<'_>) {
        let same = Piece { to: chunk.to, ..piece };
        let plain =
            frame::write(self.plain.dialect, same, self.scene(&self.plain), usize::MAX, true);
        self.plain.put(&plain);
        self.body.put(chunk);
        let block = piece.block;
        self.blank = self.blank
            && match &block.content {
                Content::Paragraph(text)
                | Content::Heading { text, .. }
                | Content::Code { text, .. } => {
                    let stretch = text.text.get(piece.from..chunk.to).unwrap_or_default();
                    !stretch.chars().any(visible)
                }
                Content::Table(_) | Content::Rule => false,
            };
        if !piece.continued {
            for (i, container) in block.within.iter().enumerate().skip(block.kept()) {
                if let Some(live) = self.live.get_mut(i) {
                    *live = matches!(container, Container::Item { .. });
                }
            }
        }
        // Only the frame of the block before is ever asked for again.
        self.before = Some(Block {
            within: block.within.clone(),
            opens: block.opens,
            content: match &block.content {
                Content::Heading { level, .. } => {
                    Content::Heading { level: *level, text: super::document::Text::default() }
                }
                _ => Content::Rule,
            },
        });
    }

    /// Ends the part before `block`. A heading at its end goes into the next part, with what it heads.
    fn flush_before(&mut self, block: &Block) -> Result<(), RenderError> {
        match self.heading.take() {
            Some((heading, mark)) if mark.body.0 > 0 => {
                self.body.back_to(mark.body);
                self.plain.back_to(mark.plain);
                self.blank = mark.blank;
                self.flush()?;
                self.enter(&heading);
                self.fill(&heading, None, false)?;
                self.enter(block);
                Ok(())
            }
            _ => self.flush(),
        }
    }

    /// Ends the part.
    fn flush(&mut self) -> Result<(), RenderError> {
        let body = self.body.take();
        let mut plain = self.plain.take();
        self.before = None;
        self.heading = None;
        self.live.fill(false);
        if std::mem::replace(&mut self.blank, true) {
            return Ok(());
        }
        if self.parts.len() == MOST_PARTS {
            return Err(RenderError::TooLong { most: MOST_PARTS });
        }
        if let Some(most) = self.body.dialect.plain_limit() {
            shorten(&mut plain, most);
        }
        self.parts.push(TextPart::new(body, plain));
        Ok(())
    }
}

/// Cuts a text to `most` characters, outside its entities and mentions, with an ellipsis where something is missing.
fn shorten(text: &mut String, most: usize) {
    let Some((at, _)) = text.char_indices().nth(most) else {
        return;
    };
    let kept = text.get(..at).unwrap_or_default();
    let last = kept.char_indices().next_back().map_or(0, |(at, _)| at);
    let cut_entity = kept.rfind('&').filter(|start| {
        let tail = kept.get(*start..last).unwrap_or_default();
        tail.len() < "&amp;".len() && !tail.contains(';')
    });
    // What begins with a bare `<` is a mention: all others are entities.
    let cut_mention =
        kept.rfind('<').filter(|start| !kept.get(*start..last).unwrap_or_default().contains('>'));
    text.truncate(cut_mention.or(cut_entity).unwrap_or(last));
    text.push('…');
}
