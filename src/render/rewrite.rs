//! Changes to what a text says, under which its spans keep their places.

use std::ops::Range;

use super::document::{Block, Content, Document, Span, Text};

/// A stretch of text, and what stands there instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Edit {
    /// Bytes of the text, on character boundaries. Empty where something is only put in.
    pub range: Range<usize>,
    /// What stands there instead.
    pub with: String,
    /// What parts of that mean: bytes of `with`.
    pub spans: Vec<Span>,
}

impl Edit {
    /// Takes a stretch out.
    pub(crate) fn removal(range: Range<usize>) -> Self {
        Self::plain(range, String::new())
    }

    /// Puts words without a meaning of their own in the place of a stretch.
    pub(crate) fn plain(range: Range<usize>, with: String) -> Self {
        Self { range, with, spans: Vec::new() }
    }
}

impl Text {
    /// Makes changes, which are in order and do not overlap.
    ///
    /// A span around a stretch, or over just that stretch, is over what stands there instead. One within it is dropped,
    /// one that reaches into it ends before it or begins behind it, and so does one that touches a place where something
    /// is put in. Spans over nothing are dropped.
    pub(crate) fn rewrite(&mut self, edits: Vec<Edit>) {
        if edits.is_empty() {
            return;
        }
        let mut text = String::with_capacity(self.text.len());
        let mut moves: Vec<(Range<usize>, Range<usize>)> = Vec::with_capacity(edits.len());
        let mut added = Vec::new();
        let mut done = 0;
        for Edit { range, with, spans } in edits {
            text.push_str(self.text.get(done..range.start).unwrap_or_default());
            done = range.end;
            let from = text.len();
            text.push_str(&with);
            added.extend(spans.into_iter().map(|span| Span {
                range: from + span.range.start..from + span.range.end,
                style: span.style,
            }));
            moves.push((range, from..text.len()));
        }
        text.push_str(self.text.get(done..).unwrap_or_default());
        self.text = text;

        let place = |at: usize, begins: bool| -> usize {
            let next = moves.partition_point(|(old, _)| {
                old.end < at || (old.end == at && (begins || !old.is_empty()))
            });
            match moves.get(next) {
                Some((old, new)) if old.start < at => {
                    if begins {
                        new.end
                    } else {
                        new.start
                    }
                }
                _ => match next.checked_sub(1).and_then(|last| moves.get(last)) {
                    Some((old, new)) => new.end + (at - old.end),
                    None => at,
                },
            }
        };
        for span in &mut self.spans {
            span.range = place(span.range.start, true)..place(span.range.end, false);
        }
        self.spans.retain(|span| span.range.start < span.range.end);
        self.spans.append(&mut added);
        // A stable sort: at the same start the spans that were there come first, and they are the outer ones.
        self.spans.sort_by_key(|span| span.range.start);
    }
}

impl Content {
    fn is_blank(&self) -> bool {
        match self {
            Self::Paragraph(text) | Self::Heading { text, .. } | Self::Code { text, .. } => {
                text.is_blank()
            }
            Self::Table(table) => {
                table.header.iter().chain(table.rows.iter().flatten()).all(Text::is_blank)
            }
            Self::Rule => false,
        }
    }
}

impl Document {
    /// Drops the blocks of which nothing would be seen any more. The next block in the same list item shows its marker.
    pub(crate) fn drop_blank(&mut self) {
        // How many containers a dropped block shared with the block before it.
        let mut shared: Option<usize> = None;
        self.blocks.retain_mut(|block: &mut Block| {
            let kept = shared.map_or(block.kept(), |shared| shared.min(block.kept()));
            if block.content.is_blank() {
                shared = Some(kept);
                return false;
            }
            if shared.take().is_some() {
                block.opens = block.within.len() - kept;
            }
            true
        });
    }
}

/// What is wrong with the spans of a document: they lie on the text's characters, cover something, and nest.
#[cfg(test)]
pub(crate) fn flaws(document: &Document) -> Result<(), String> {
    for text in document.texts() {
        let mut open: Vec<&Span> = Vec::new();
        let mut start = 0;
        for span in &text.spans {
            let bad = |what: &str| Err(format!("{what}: {span:?} in {text:?}"));
            if text.text.get(span.range.clone()).is_none_or(str::is_empty) {
                return bad("covers nothing");
            }
            if span.range.start < start {
                return bad("out of order");
            }
            start = span.range.start;
            open.retain(|outer| outer.range.end > start);
            if open.iter().any(|outer| outer.range.end < span.range.end) {
                return bad("not nested");
            }
            let link = |span: &Span| span.style.is_link();
            if link(span) && open.iter().any(|outer| link(outer)) {
                return bad("a link in a link");
            }
            open.push(span);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::{Style, parse};

    fn bold(range: Range<usize>) -> Span {
        Span { range, style: Style::Bold }
    }

    fn rewritten(spans: &[Range<usize>], edits: &[(Range<usize>, &str)]) -> (String, Vec<Span>) {
        let mut text = Text {
            text: "0123456789".to_owned(),
            spans: spans.iter().cloned().map(bold).collect(),
        };
        text.rewrite(
            edits.iter().map(|(range, with)| Edit::plain(range.clone(), (*with).into())).collect(),
        );
        (text.text, text.spans)
    }

    #[test]
    fn spans_keep_their_places() {
        for (span, edits, text, left) in [
            (2..5, vec![(2..5, "abcdef")], "01abcdef56789", Some(2..8)),
            (0..8, vec![(2..5, "")], "0156789", Some(0..5)),
            (3..4, vec![(2..5, "ab")], "01ab56789", None),
            (2..4, vec![(2..5, "ab")], "01ab56789", None),
            (0..4, vec![(2..5, "ab")], "01ab56789", Some(0..2)),
            (4..8, vec![(2..5, "ab")], "01ab56789", Some(4..7)),
            (2..5, vec![(2..2, "ab"), (5..5, "cd")], "01ab234cd56789", Some(4..7)),
            (2..5, vec![(1..2, ""), (5..6, "xyz")], "0234xyz6789", Some(1..4)),
            (6..9, vec![(0..1, "ab"), (9..10, "")], "ab12345678", Some(7..10)),
        ] {
            let (got, spans) = rewritten(std::slice::from_ref(&span), &edits);
            assert_eq!(got, text, "{span:?} {edits:?}");
            assert_eq!(spans, left.map(bold).into_iter().collect::<Vec<_>>(), "{span:?} {edits:?}");
        }
    }

    #[test]
    fn what_is_put_in_brings_its_meaning() {
        let mut text = Text { text: "ab".to_owned(), spans: vec![bold(0..2)] };
        let code = Span { range: 1..2, style: Style::Code };
        text.rewrite(vec![Edit { range: 1..1, with: "(x)".to_owned(), spans: vec![code] }]);
        assert_eq!(text.text, "a(x)b");
        assert_eq!(text.spans, [bold(0..5), Span { range: 2..3, style: Style::Code }]);
    }

    #[test]
    fn a_list_item_whose_first_block_is_gone_keeps_its_marker() {
        let mut document = parse("before\n\n- x\n\n  second\n- third");
        for text in document.texts_mut().filter(|text| text.text == "x") {
            *text = Text::default();
        }
        document.drop_blank();
        assert_eq!(document, parse("before\n\n- second\n- third"));
    }
}
