//! Writes running text in a dialect, up to a budget: one pass, which remembers where it last could have stopped.

use unicode_segmentation::UnicodeSegmentation as _;

use super::dialect::{Dialect, Place};
use super::document::{Style, Text};

/// Broken up only by this, two pieces of markup or of a code fence do not run together. Nothing is seen of it.
pub(crate) const ZERO_WIDTH_SPACE: char = '\u{200b}';

/// A grapheme longer than this (a letter under hundreds of accents) may be cut.
const LONGEST_GRAPHEME: usize = 512;

/// Where text stands, which decides what must be escaped in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Line,
    Heading,
    Cell,
    Code,
}

/// Text to be written.
#[derive(Clone, Copy)]
pub(super) struct Run<'a> {
    pub dialect: &'a dyn Dialect,
    pub text: &'a Text,
    /// Bytes of the text.
    pub from: usize,
    pub to: usize,
    /// What follows each line end.
    pub prefix: &'a str,
    pub mode: Mode,
}

/// What was written.
pub(super) struct Written {
    pub out: String,
    pub units: usize,
    /// How far it got. Where it began, if nothing fitted that should.
    pub to: usize,
}

/// A place where the output could end.
#[derive(Clone, Default)]
struct Stop {
    to: usize,
    length: usize,
    units: usize,
    open: Vec<usize>,
}

/// What surrounds an atom.
#[derive(Clone, Copy, Default)]
struct Around<'a> {
    /// The character before, in the same span.
    before: Option<char>,
    /// What is left of the span, from the atom on.
    rest: &'a str,
    /// It is a mention that calls people, to be written like this.
    mention: Option<&'a str>,
    code: bool,
    /// It is part of a link's address, shown as its label.
    address: bool,
    link_follows: bool,
}

struct Writer<'a> {
    run: Run<'a>,
    out: String,
    units: usize,
    /// Indices of the spans that are open in `out`, outermost first.
    open: Vec<usize>,
    /// What closing them takes.
    reserve: usize,
    /// Bytes of white space that is written only when something follows it.
    pending: Option<(usize, usize)>,
    /// Of the line being written: nothing yet; digits only.
    line_start: bool,
    digits: bool,
    /// The latest stops: at a line end, between words, before the open link, between words of the open link.
    line: Option<Stop>,
    word: Option<Stop>,
    link: Option<Stop>,
    link_word: Option<Stop>,
}

impl Run<'_> {
    /// Writes as much as fits into `room`. It stops at a line end or between words if that uses a third of the room or
    /// more. Unless `must` is set it would rather write nothing than cut a word or a link.
    pub fn write(self, room: usize, must: bool) -> Written {
        Writer {
            run: self,
            out: String::new(),
            units: 0,
            open: Vec::new(),
            reserve: 0,
            pending: None,
            line_start: true,
            digits: false,
            line: None,
            word: None,
            link: None,
            link_word: None,
        }
        .write(room, must)
    }
}

impl Writer<'_> {
    fn write(mut self, room: usize, must: bool) -> Written {
        let Run { text, from, to, mode, .. } = self.run;
        let mut active: Vec<usize> = Vec::new();
        let mut next_span = 0;
        let mut at = from;
        let mut before: Option<char> = None;
        let mut segment_end = from;
        while at < to {
            let atom = atom(text.text.get(at..to).unwrap_or_default());
            if atom.is_empty() {
                break;
            }
            if at >= segment_end {
                let ended =
                    |index: &usize| text.spans.get(*index).is_some_and(|s| s.range.end <= at);
                active.retain(|index| !ended(index));
                while let Some(span) = text.spans.get(next_span)
                    && span.range.start <= at
                {
                    if span.range.end > at {
                        active.push(next_span);
                    }
                    next_span += 1;
                }
                segment_end = active
                    .iter()
                    .filter_map(|index| text.spans.get(*index))
                    .map(|span| span.range.end)
                    .chain(text.spans.get(next_span).map(|span| span.range.start))
                    .min()
                    .unwrap_or(to)
                    .min(to);
                before = None;
            }
            // A mention is never cut.
            let calls = active.last().and_then(|last| text.spans.get(*last)).and_then(|span| {
                let Style::Mention(mention) = &span.style else { return None };
                let whole = span.range.start == at && span.range.end <= to;
                whole.then_some((text.text.get(span.range.clone())?, mention.as_str()))
            });
            let (atom, mention) = calls.map_or((atom, None), |(all, calls)| (all, Some(calls)));
            let code = mode == Mode::Code || self.any(&active, |style| *style == Style::Code);
            let space = atom.chars().next().is_some_and(char::is_whitespace);
            if space && !code {
                self.space(atom, at, &active);
                before = atom.chars().next_back();
                at += atom.len();
                continue;
            }
            let saved = (self.out.len(), self.units, self.open != active, self.pending.is_some());
            let held = saved.2.then(|| (self.open.clone(), self.reserve));
            let flags = (self.line_start, self.digits);
            self.transition(&active, at, atom);
            let end = at + atom.len();
            let address = self.any(&active, Style::is_link)
                && active.iter().filter_map(|index| text.spans.get(*index)).any(|span| {
                    matches!(&span.style, Style::Link(url) if text.text.get(span.range.clone()) == Some(url))
                });
            let rest = text.text.get(at..segment_end.max(end)).unwrap_or_default();
            let link_follows = text
                .spans
                .get(next_span)
                .is_some_and(|span| span.range.start == end && span.style.is_link());
            let around = Around { before, rest, mention, code, address, link_follows };
            self.put(atom, around);
            if self.units + self.reserve > room {
                self.out.truncate(saved.0);
                self.units = saved.1;
                (self.line_start, self.digits) = flags;
                if let Some((open, reserve)) = held {
                    self.open = open;
                    self.reserve = reserve;
                }
                return self.overflow(at, atom, &active, room, must);
            }
            if mode == Mode::Code {
                // A line's end is a stop before it; what follows begins the next piece.
                if atom == "\n" {
                    self.line =
                        Some(Stop { to: end, length: saved.0, units: saved.1, open: Vec::new() });
                } else if space {
                    self.word = Some(self.stop(end));
                }
            }
            before = atom.chars().next_back();
            at = end;
        }
        let end = self.stop(to);
        self.finish(end)
    }

    fn any(&self, spans: &[usize], test: impl Fn(&Style) -> bool) -> bool {
        spans
            .iter()
            .filter_map(|index| self.run.text.spans.get(*index))
            .any(|span| test(&span.style))
    }

    fn stop(&self, to: usize) -> Stop {
        Stop { to, length: self.out.len(), units: self.units, open: self.open.clone() }
    }

    /// Keeps white space until something follows it, and remembers that the output could end before it.
    fn space(&mut self, atom: &str, at: usize, active: &[usize]) {
        let end = at + atom.len();
        let newline = atom.contains('\n');
        if self.pending.is_none() || newline {
            let stop = self.stop(end);
            if self.any(active, Style::is_link) {
                self.link_word = Some(stop);
            } else if newline {
                self.line = Some(stop);
            } else {
                self.word = Some(stop);
            }
        }
        self.pending = Some((self.pending.map_or(at, |(start, _)| start), end));
    }

    /// Closes the spans that have ended, writes the white space that waited, and opens those that begin.
    fn transition(&mut self, active: &[usize], at: usize, atom: &str) {
        if self.open == active {
            self.write_pending();
            return;
        }
        let shared = self.open.iter().zip(active).take_while(|(a, b)| a == b).count();
        let flank = self.run.dialect.delimiters_flank();
        let closed = self.open.len() > shared;
        while self.open.len() > shared {
            let apart = self.pending.is_some();
            self.close_last(apart);
        }
        let glued = closed && self.pending.is_none();
        let opening = active.get(shared..).unwrap_or_default();
        if self.any(opening, Style::is_link) {
            self.link = Some(self.stop(at));
            self.link_word = None;
        }
        self.write_pending();
        let text = self.run.text;
        for (i, index) in opening.iter().enumerate() {
            let Some(span) = text.spans.get(*index) else {
                continue;
            };
            let covered = text.text.get(span.range.clone()).unwrap_or_default();
            let markup = self.run.dialect.open(&span.style, covered);
            let last = self.out.chars().next_back();
            let apart = !(i == 0 && glued) && span.style != Style::Code;
            if flank && !apart && last.is_some() && last == markup.chars().next() {
                self.markup("\u{200b}");
            }
            let word = atom.chars().next().is_some_and(char::is_alphanumeric);
            self.markup(&markup);
            if flank
                && emphasis(&span.style)
                && last.is_some_and(|c| !c.is_whitespace())
                && (i + 1 < opening.len() || !word)
            {
                self.markup("\u{200b}");
            }
            self.open.push(*index);
        }
        self.reserve = self
            .open
            .iter()
            .filter_map(|index| text.spans.get(*index))
            .map(|span| {
                let covered = text.text.get(span.range.clone()).unwrap_or_default();
                let markup = self.run.dialect.close(&span.style, covered);
                self.run.dialect.units(&markup) + usize::from(flank)
            })
            .sum();
    }

    /// Closes the innermost span; `apart` says that white space or nothing follows.
    fn close_last(&mut self, apart: bool) {
        let text = self.run.text;
        let Some(span) = self.open.pop().and_then(|index| text.spans.get(index)) else {
            return;
        };
        let covered = text.text.get(span.range.clone()).unwrap_or_default();
        let word = self.out.chars().next_back().is_some_and(char::is_alphanumeric);
        if self.run.dialect.delimiters_flank() && emphasis(&span.style) && !apart && !word {
            self.markup("\u{200b}");
        }
        let markup = self.run.dialect.close(&span.style, covered);
        self.units += self.run.dialect.units(&markup);
        self.out.push_str(&markup);
    }

    fn markup(&mut self, markup: &str) {
        self.units += self.run.dialect.units(markup);
        self.out.push_str(markup);
    }

    /// White space that waited: a line end swallows the spaces around it, and long runs are shortened.
    fn write_pending(&mut self) {
        let Some((start, end)) = self.pending.take() else {
            return;
        };
        let space = self.run.text.text.get(start..end).unwrap_or_default();
        if space.contains('\n') && self.run.mode == Mode::Line {
            self.line_end();
        } else if !self.line_start {
            let space = if space.len() > 64 || space.contains('\n') { " " } else { space };
            self.units += self.run.dialect.units(space);
            self.out.push_str(space);
            self.digits = false;
        }
    }

    fn line_end(&mut self) {
        let dialect = self.run.dialect;
        self.units += dialect.units("\n") + dialect.units(self.run.prefix);
        self.out.push('\n');
        self.out.push_str(self.run.prefix);
        self.line_start = true;
        self.digits = false;
    }

    /// Writes an atom.
    fn put(&mut self, atom: &str, around: Around<'_>) {
        let Around { mut before, rest, mention, code, address, link_follows } = around;
        let mode = self.run.mode;
        if mode == Mode::Code && atom == "\n" {
            self.line_end();
            return;
        }
        let length = self.out.len();
        if let Some(mention) = mention {
            self.run.dialect.mention(mention, self.line_start, &mut self.out);
            self.units += self.run.dialect.units(self.out.get(length..).unwrap_or_default());
            (self.line_start, self.digits) = (false, false);
            return;
        }
        for (at, c) in atom.char_indices() {
            let place = Place {
                c,
                before,
                after: rest.get(at + c.len_utf8()..).and_then(|rest| rest.chars().next()),
                line_start: self.line_start,
                line_is_number: self.digits,
                heading: mode == Mode::Heading,
                cell: mode == Mode::Cell,
                address,
                link_follows,
            };
            if code {
                self.run.dialect.code(place, mode == Mode::Code, &mut self.out);
            } else {
                self.run.dialect.text(place, &mut self.out);
            }
            self.digits = (self.line_start || self.digits) && c.is_ascii_digit();
            self.line_start = false;
            before = Some(c);
        }
        self.units += self.run.dialect.units(self.out.get(length..).unwrap_or_default());
    }

    /// The piece at `at` did not fit: goes back to the best place to stop.
    fn overflow(
        mut self,
        at: usize,
        atom: &str,
        active: &[usize],
        room: usize,
        must: bool,
    ) -> Written {
        let from = self.run.from;
        let enough = |stop: &&Stop| stop.units >= room / 3 && stop.to > from;
        let whole = self.line.as_ref().filter(enough).or(self.word.as_ref().filter(enough));
        let in_link = self.any(active, Style::is_link);
        let before_link = if in_link {
            // The link that did not fit may not have been opened at all.
            let opened = self.any(&self.open, Style::is_link);
            let stop = if opened { self.link.clone() } else { Some(self.stop(at)) };
            stop.filter(|stop| stop.to > from)
        } else {
            None
        };
        let best = if let Some(before_link) = before_link {
            Some(whole.cloned().unwrap_or(before_link))
        } else if !in_link && whole.is_some() {
            whole.cloned()
        } else if !must {
            None
        } else if in_link {
            self.link_word.as_ref().filter(enough).cloned().or_else(|| Some(self.stop(at)))
        } else {
            Some(self.stop(at))
        };
        match best {
            Some(stop) if stop.to > from => self.finish(stop),
            _ if must => {
                // Not even the first grapheme fits with its markup: it goes without.
                self.out.clear();
                self.units = 0;
                self.line_start = true;
                self.put(atom, Around { rest: atom, ..Around::default() });
                Written { out: self.out, units: self.units, to: at + atom.len() }
            }
            _ => Written { out: String::new(), units: 0, to: from },
        }
    }

    fn finish(mut self, stop: Stop) -> Written {
        self.out.truncate(stop.length);
        self.units = stop.units;
        self.open = stop.open;
        // Code that is cut behind line ends is not followed by empty lines.
        let written = self.run.text.text.get(self.run.from..stop.to).unwrap_or_default();
        if self.run.mode == Mode::Code && written.ends_with('\n') {
            let line_end = format!("\n{}", self.run.prefix);
            while self.out.ends_with(&line_end) {
                self.out.truncate(self.out.len() - line_end.len());
                self.units -= self.run.dialect.units(&line_end);
            }
        }
        while !self.open.is_empty() {
            self.close_last(true);
        }
        Written { out: self.out, units: self.units, to: stop.to }
    }
}

const fn emphasis(style: &Style) -> bool {
    matches!(style, Style::Bold | Style::Italic | Style::Strike)
}

/// The first grapheme; of an absurdly long one, the beginning. White space is an atom of its own even where a mark
/// stands on it: it may be dropped, and the mark may not.
fn atom(rest: &str) -> &str {
    let bytes = rest.as_bytes();
    match (bytes.first(), bytes.get(1)) {
        (Some(a), None) if a.is_ascii() => rest,
        (Some(a), Some(b)) if a.is_ascii() && b.is_ascii() && *a != b'\r' => {
            rest.get(..1).unwrap_or(rest)
        }
        _ => {
            let window = rest.get(..rest.floor_char_boundary(LONGEST_GRAPHEME)).unwrap_or(rest);
            let grapheme = window.graphemes(true).next().unwrap_or(window);
            let end = match grapheme.find(char::is_whitespace) {
                Some(0) => grapheme.chars().next().map_or(0, char::len_utf8),
                Some(space) => space,
                None => grapheme.len(),
            };
            grapheme.get(..end).unwrap_or(grapheme)
        }
    }
}
