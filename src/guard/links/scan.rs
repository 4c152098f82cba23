//! Finds what reads as a host in a text, however it is written.

use std::ops::Range;

use icu_properties::CodePointMapData;
use icu_properties::props::{GeneralCategory, GeneralCategoryGroup};

use super::host::{known, looks_like, named};

/// A host that somebody would read in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// The host as the network knows it.
    pub host: String,
    /// Its bytes of the text.
    pub range: Range<usize>,
    /// The bytes of the whole address that it stands in.
    pub address: Range<usize>,
    /// It stands behind `://`.
    pub scheme: bool,
    /// A client may make a link of it by itself.
    pub clickable: bool,
    /// An `@` follows: it is a user's name, although it reads as a host.
    pub user: bool,
}

/// A character as somebody reads it, and the bytes it is written with.
#[derive(Clone, Copy)]
struct Read {
    c: char,
    start: usize,
    end: usize,
}

/// Every host in a text that anybody would read, in order.
pub(super) fn names(text: &str) -> Vec<Name> {
    let mut found = Vec::new();
    let read = read(text);
    for word in read.split(|read| parts(read.c)) {
        if word.iter().any(|read| matches!(read.c, '.' | ':')) {
            in_word(word, &mut found);
        }
    }
    found
}

/// The text as somebody reads it: signs that look like a full stop or a slash are one, a percent-encoded letter is one.
fn read(text: &str) -> Vec<Read> {
    let mut read: Vec<Read> = Vec::with_capacity(text.len());
    let mut skip = 0;
    for (start, c) in text.char_indices() {
        if start < skip {
            continue;
        }
        let mut end = start + c.len_utf8();
        let mut c = looks_like(c, read.last().map(|read| read.c));
        if c == '%'
            && let Some(code) = text.get(end..end + 2)
            && let Ok(byte @ b'!'..=b'~') = u8::from_str_radix(code, 16)
        {
            c = char::from(byte);
            end += 2;
            skip = end;
        }
        read.push(Read { c, start, end });
    }
    read
}

/// Whether no address goes across this character.
fn parts(c: char) -> bool {
    match c {
        '<' | '>' | '"' | '`' | '|' | '(' | ')' | '{' | '}' | '[' | ']' => true,
        c if c.is_ascii() => c.is_ascii_whitespace() || c.is_ascii_control(),
        c => {
            c.is_whitespace()
                || (GeneralCategoryGroup::OpenPunctuation
                    .union(GeneralCategoryGroup::ClosePunctuation)
                    .union(GeneralCategoryGroup::InitialPunctuation)
                    .union(GeneralCategoryGroup::FinalPunctuation))
                .contains(CodePointMapData::<GeneralCategory>::new().get(c))
        }
    }
}

/// Whether a character can stand in a host: letters, digits, marks, and what nobody sees.
fn in_host(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    }
    c.is_alphanumeric()
        || GeneralCategoryGroup::Mark
            .union(GeneralCategoryGroup::Format)
            .contains(CodePointMapData::<GeneralCategory>::new().get(c))
}

fn in_word(word: &[Read], found: &mut Vec<Name>) {
    let from = |word: &[Read]| word.first().map_or(0, |first| first.start);
    let to = |word: &[Read]| word.last().map_or(0, |last| last.end);
    let colon = word.windows(3).position(|three| three.iter().map(|read| read.c).eq("://".chars()));
    let (prefix, scheme, rest) = match colon {
        Some(colon) => {
            let (before, rest) = word.split_at(colon);
            let letters = before.iter().rev().take_while(|read| {
                read.c.is_ascii_alphanumeric() || matches!(read.c, '+' | '-' | '.')
            });
            let (prefix, scheme) = before.split_at(before.len() - letters.count());
            (prefix, Some(scheme), rest.get(3..).unwrap_or_default())
        }
        None => (word, None, word),
    };
    // What ends the sentence is not part of the address.
    let quiet = |c: char| matches!(c, '?' | '!' | '.' | ',' | ':' | ';' | '*' | '_' | '~' | '\'');
    let close = |word: &[Read]| {
        let loud = word.iter().rposition(|read| !quiet(read.c));
        to(word.get(..=loud.unwrap_or_default()).unwrap_or_default())
    };
    if let Some(scheme) = scheme {
        schemeless(prefix, from(prefix)..close(prefix), found);
        let name: String = scheme.iter().map(|read| read.c.to_ascii_lowercase()).collect();
        // Only the end counts: some clients do not mind what is glued to it.
        let clickable = ["http", "https", "ftp", "tg", "ton"].iter().any(|end| name.ends_with(end));
        let start = if scheme.is_empty() { from(rest) } else { from(scheme) };
        let address = start..close(rest).max(start);
        with_scheme(rest, &address, clickable, found);
    } else {
        let start = word.iter().position(|read| read.c != '/');
        let word = word.get(start.unwrap_or_default()..).unwrap_or_default();
        schemeless(word, from(word)..close(word), found);
    }
}

/// What stands before a path.
fn authority(rest: &[Read]) -> &[Read] {
    let end = rest.iter().position(|read| matches!(read.c, '/' | '?' | '#'));
    rest.get(..end.unwrap_or(rest.len())).unwrap_or_default()
}

fn with_scheme(rest: &[Read], address: &Range<usize>, clickable: bool, found: &mut Vec<Name>) {
    let authority = authority(rest);
    let at = authority.iter().rposition(|read| read.c == '@');
    let (user, host) = authority.split_at(at.map_or(0, |at| at + 1));
    for piece in user.split(|read| !in_host(read.c)) {
        found.extend(name(piece, address, true).map(|name| Name {
            scheme: true,
            clickable,
            ..name
        }));
    }
    let end = host.iter().position(|read| read.c == ':').unwrap_or(host.len());
    let mut host = host.get(..end).unwrap_or_default();
    while host.last().is_some_and(|last| !in_host(last.c) || last.c == '.') {
        host = host.get(..host.len() - 1).unwrap_or_default();
    }
    let written: String = host.iter().map(|read| read.c).collect();
    if let (Some(first), Some(last), Some(host)) = (host.first(), host.last(), named(&written)) {
        let range = first.start..last.end;
        let address = address.start..address.end.max(range.end);
        found.push(Name { host, range, address, scheme: true, clickable, user: false });
    }
}

fn schemeless(word: &[Read], address: Range<usize>, found: &mut Vec<Name>) {
    let authority = authority(word);
    let mut done = 0;
    for piece in authority.split(|read| !in_host(read.c)) {
        done += piece.len();
        let user = authority.get(done).is_some_and(|read| read.c == '@');
        done += 1;
        let whole = name(piece, &address, user);
        if whole.is_some() {
            found.extend(whole);
            continue;
        }
        // In scripts without spaces a host may touch the words around it.
        for ascii in piece.split(|read| !read.c.is_ascii()) {
            if ascii.len() < piece.len() {
                found.extend(name(ascii, &address, user));
            }
        }
    }
}

/// A name that reads as a host without any scheme before it.
fn name(piece: &[Read], address: &Range<usize>, user: bool) -> Option<Name> {
    let first = piece.iter().position(|read| read.c != '.')?;
    let last = piece.iter().rposition(|read| read.c.is_alphanumeric())?;
    let piece = piece.get(first..=last)?;
    if !piece.iter().any(|read| read.c == '.') {
        return None;
    }
    let written: String = piece.iter().map(|read| read.c).collect();
    let host = named(&written).filter(|host| known(host))?;
    // `1.5` is a number, although it would lead to 1.0.0.5.
    if host.ends_with(|c: char| c.is_ascii_digit()) && host != written {
        return None;
    }
    let range = piece.first()?.start..piece.last()?.end;
    let address = address.start.min(range.start)..address.end.max(range.end);
    Some(Name { host, range, address, scheme: false, clickable: true, user })
}
