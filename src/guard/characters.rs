//! Characters that nobody sees, or that change what others look like, are taken out of what an agent wrote.
//!
//! They turn the order of letters round, part a word for whoever searches it but not for whoever reads it, or carry a
//! message from one model to another under people's eyes. Some of them are needed, each in its own place: a joiner between
//! Persian letters or in a family of emoji stays, the same joiner between Latin letters goes.

use std::ops::Range;

use icu_properties::props::{
    DefaultIgnorableCodePoint, Emoji, EmojiModifier, ExtendedPictographic, GeneralCategory,
    IndicSyllabicCategory, JoiningType, LineBreak, Script,
};
use icu_properties::{CodePointMapData, CodePointSetData};

use crate::render::{Content, Document, Edit, Style, Text, visible};

/// Why a character is taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It turns the direction of text.
    Direction,
    /// It has no width: a joiner, a filler, a soft hyphen.
    Invisible,
    /// It spells ASCII that is not shown.
    Tag,
    /// It asks for another form of the character before it, which has none.
    Variation,
    /// It steers a device, or is no character at all.
    Control,
}

impl Kind {
    /// What is told to the caller.
    const fn warning(self) -> &'static str {
        match self {
            Self::Direction => "characters that turn the direction of text were removed",
            Self::Invisible => "invisible characters were removed",
            Self::Tag => "tag characters, which spell text that nobody sees, were removed",
            Self::Variation => "variation selectors that select nothing were removed",
            Self::Control => "control characters were removed",
        }
    }
}

/// How often a text is looked at, at most.
const ROUNDS: usize = 4;

/// Takes the characters out that nobody sees and no script needs where they stand: of words, code, addresses and the
/// names of languages. Says so in sentences for the caller, one per kind.
///
/// For what an agent wrote only: the guard and the renderers put such characters in themselves.
pub(super) fn clean(document: &mut Document) -> Vec<String> {
    let mut told = Vec::new();
    for block in &mut document.blocks {
        if let Content::Code { language, .. } = &mut block.content {
            clean_string(language, &mut told);
        }
    }
    let mut changed = false;
    for text in document.texts_mut() {
        // A label that is gone makes room for its address, beside which something else may now be out of place.
        for _ in 0..ROUNDS {
            if !clean_text(text, &mut told) {
                break;
            }
            changed = true;
        }
    }
    if changed {
        document.drop_blank();
    }
    told.into_iter().map(|kind: Kind| kind.warning().to_owned()).collect()
}

/// The same for plain words: a button's label, a file's name.
pub(super) fn clean_words(words: &mut String) -> Vec<String> {
    let mut told = Vec::new();
    clean_string(words, &mut told);
    told.into_iter().map(|kind| kind.warning().to_owned()).collect()
}

fn clean_string(string: &mut String, told: &mut Vec<Kind>) {
    for range in unwanted(string, told).into_iter().rev() {
        string.replace_range(range, "");
    }
}

/// Whether the words have changed.
fn clean_text(text: &mut Text, told: &mut Vec<Kind>) -> bool {
    let unwanted = unwanted(&text.text, told);
    let mut edits = Vec::with_capacity(unwanted.len());
    let mut unwanted = unwanted.into_iter().peekable();
    for span in &mut text.spans {
        let Style::Link(url) = &mut span.style else { continue };
        let label = text.text.get(span.range.clone()).unwrap_or_default();
        if label == url {
            // It stays the same as its label, which is cleaned with what stands around it.
            url.clear();
            continue;
        }
        clean_string(url, told);
        while let Some(range) = unwanted.next_if(|range| range.start < span.range.start) {
            edits.push(Edit::removal(range));
        }
        let mut within = Vec::new();
        while let Some(range) = unwanted.next_if(|range| range.start < span.range.end) {
            within.push(range);
        }
        let mut gone = within.iter().peekable();
        let seen = label.char_indices().any(|(at, c)| {
            let at = span.range.start + at;
            while gone.next_if(|range| range.end <= at).is_some() {}
            visible(c) && gone.peek().is_none_or(|range| range.start > at)
        });
        if seen || within.is_empty() {
            edits.extend(within.into_iter().map(Edit::removal));
        } else {
            // A link without a label shows its address.
            edits.push(Edit::plain(span.range.clone(), url.clone()));
        }
    }
    edits.extend(unwanted.map(Edit::removal));
    let changed = !edits.is_empty();
    text.rewrite(edits);
    for span in &mut text.spans {
        if let Style::Link(url) = &mut span.style
            && url.is_empty()
        {
            *url = text.text.get(span.range.clone()).unwrap_or_default().to_owned();
        }
    }
    if changed {
        trim(text);
    }
    changed
}

/// Without the blank lines and the space that may now stand at its ends.
fn trim(text: &mut Text) {
    let end = text.text.trim_end().len();
    let words = end - text.text.get(..end).unwrap_or_default().trim_start().len();
    let start = text.text.get(..words).unwrap_or_default().rfind('\n').map_or(0, |at| at + 1);
    let ends = [0..start, end..text.text.len()];
    text.rewrite(ends.into_iter().filter(|end| !end.is_empty()).map(Edit::removal).collect());
}

/// The stretches of unwanted characters in a text, in order.
fn unwanted(text: &str, told: &mut Vec<Kind>) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut before = Before::default();
    let mut flag_ends = 0;
    for (at, c) in text.char_indices() {
        let behind = || text.get(at + c.len_utf8()..).unwrap_or_default();
        if c == BLACK_FLAG
            && let Some(flag) = FLAGS.iter().find(|flag| behind().starts_with(**flag))
        {
            flag_ends = at + c.len_utf8() + flag.len();
        }
        let Some(kind) = kind(c).filter(|_| at >= flag_ends) else {
            before.step(c);
            continue;
        };
        if before.needs(c, behind().chars().next()) {
            before.step(c);
            continue;
        }
        if !told.contains(&kind) {
            told.push(kind);
        }
        let end = at + c.len_utf8();
        match found.last_mut().filter(|last| last.end == at) {
            Some(last) => last.end = end,
            None => found.push(at..end),
        }
    }
    found
}

/// Why a character would be taken out, if it is not needed where it stands.
fn kind(c: char) -> Option<Kind> {
    match c {
        '\n' | '\t' | ' '..='~' => None,
        c if c.is_control() => Some(Kind::Control),
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            Some(Kind::Direction)
        }
        '\u{e0000}'..='\u{e007f}' => Some(Kind::Tag),
        '\u{180b}'..='\u{180d}'
        | '\u{180f}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{e0100}'..='\u{e01ef}' => Some(Kind::Variation),
        // Annotations between the lines, which no chat shows.
        '\u{fff9}'..='\u{fffb}' => Some(Kind::Invisible),
        '\u{fdd0}'..='\u{fdef}' => Some(Kind::Control),
        c if u32::from(c) & 0xfffe == 0xfffe => Some(Kind::Control),
        c if CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c) => {
            Some(Kind::Invisible)
        }
        _ => None,
    }
}

/// A black flag followed by one of these, tags that spell a region, is shown as that region's flag: England's,
/// Scotland's, Wales's. Followed by any other it is shown as a black flag, and what the tags say is hidden.
const FLAGS: [&str; 3] = [
    "\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}",
    "\u{e0067}\u{e0062}\u{e0073}\u{e0063}\u{e0074}\u{e007f}",
    "\u{e0067}\u{e0062}\u{e0077}\u{e006c}\u{e0073}\u{e007f}",
];
const BLACK_FLAG: char = '\u{1f3f4}';

/// What stands before a character, of what is kept.
#[derive(Default)]
struct Before {
    last: Option<char>,
    /// The last one that is no mark, joiner or selector on another.
    base: Option<char>,
    /// An emoji, with what changes its colour or form, stands right before.
    emoji: bool,
}

impl Before {
    fn step(&mut self, c: char) {
        self.last = Some(c);
        if c.is_ascii() {
            self.base = Some(c);
            self.emoji = false;
            return;
        }
        let extends = kind(c).is_some();
        if !extends && !is_mark(c) {
            self.base = Some(c);
        }
        self.emoji = is_pictograph(c)
            || (self.emoji
                && (c == '\u{fe0f}' || CodePointSetData::new::<EmojiModifier>().contains(c)));
    }

    /// Whether a character that is nothing by itself means something here. The one behind it is read too where
    /// that is never taken out itself.
    fn needs(&self, c: char, next: Option<char>) -> bool {
        let on = |test: fn(char) -> bool| self.last.is_some_and(test);
        let base = |test: fn(char) -> bool| self.base.is_some_and(test);
        let next = |test: fn(char) -> bool| next.is_some_and(|c| kind(c).is_none() && test(c));
        match c {
            '\u{200c}' => base(joins) && !on(is_joiner),
            '\u{200d}' => (self.emoji && next(is_pictograph)) || (base(joins) && !on(is_joiner)),
            // Between the words of a script that has no spaces, such as Khmer.
            '\u{200b}' => on(is_unspaced) && next(is_unspaced),
            // Between marks in the order that Hebrew reads them in.
            '\u{34f}' => on(is_mark) && next(is_mark),
            '\u{180e}' => on(is_mongolian) && next(is_mongolian),
            '\u{180b}'..='\u{180d}' | '\u{180f}' => on(is_mongolian),
            '\u{fe0e}' | '\u{fe0f}' => {
                // Of a digit only a keycap has another form.
                on(is_emoji) && (!on(|c| c.is_ascii()) || next(|c| c == '\u{20e3}'))
            }
            '\u{fe00}'..='\u{fe0d}' => on(has_forms),
            '\u{e0100}'..='\u{e01ef}' => on(is_han),
            _ => false,
        }
    }
}

fn script(c: char) -> Script {
    CodePointMapData::<Script>::new().get(c)
}

fn category(c: char) -> GeneralCategory {
    CodePointMapData::<GeneralCategory>::new().get(c)
}

/// A letter of a script in which joiners change how letters meet: written in one stroke, as Arabic, or stacked, as
/// Devanagari.
fn joins(c: char) -> bool {
    let cursive = matches!(
        CodePointMapData::<JoiningType>::new().get(c),
        JoiningType::DualJoining
            | JoiningType::RightJoining
            | JoiningType::LeftJoining
            | JoiningType::JoinCausing
    );
    cursive
        || (c.is_alphabetic()
            && CodePointMapData::<IndicSyllabicCategory>::new().get(c)
                != IndicSyllabicCategory::Other)
}

const fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}')
}

fn is_mark(c: char) -> bool {
    matches!(
        category(c),
        GeneralCategory::NonspacingMark
            | GeneralCategory::SpacingMark
            | GeneralCategory::EnclosingMark
    )
}

fn is_unspaced(c: char) -> bool {
    CodePointMapData::<LineBreak>::new().get(c) == LineBreak::ComplexContext
}

fn is_mongolian(c: char) -> bool {
    c.is_alphabetic() && script(c) == Script::Mongolian
}

fn is_han(c: char) -> bool {
    script(c) == Script::Han
}

fn is_emoji(c: char) -> bool {
    CodePointSetData::new::<Emoji>().contains(c)
}

fn is_pictograph(c: char) -> bool {
    CodePointSetData::new::<ExtendedPictographic>().contains(c)
}

/// Whether Unicode lists other forms for characters of this sort (`StandardizedVariants.txt`).
fn has_forms(c: char) -> bool {
    matches!(
        script(c),
        Script::Han
            | Script::Myanmar
            | Script::PhagsPa
            | Script::Manichaean
            | Script::EgyptianHieroglyphs
    ) || (!c.is_ascii() && category(c) == GeneralCategory::MathSymbol)
        || matches!(
            c,
            '\u{3001}'
                | '\u{3002}'
                | '\u{ff01}'
                | '\u{ff0c}'
                | '\u{ff0e}'
                | '\u{ff1a}'
                | '\u{ff1b}'
                | '\u{ff1f}'
        )
}

#[cfg(test)]
mod tests;
