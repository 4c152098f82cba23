//! A regex in Go's syntax, as rule files are written, compiled when it is first needed.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::OnceLock;

use regex_automata::Input;
use regex_automata::meta::{self, Regex};
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_automata::util::captures::Captures;
use regex_automata::util::syntax;
use regex_syntax::hir::{Class, Hir, HirKind, Repetition};

/// A pattern may compile to this many bytes.
const LARGEST: usize = 2 << 20;
/// What a lazy DFA may remember of one pattern, in bytes; there are two for each thread that searches. Beyond it, it starts
/// anew. A pattern of many states needs its room: with less it gives up and walks the automaton, a hundred times slower.
const DFA: usize = 1 << 20;
/// One regex, or several of which one has to match.
pub(super) struct Pattern {
    sources: Vec<String>,
    built: OnceLock<Option<Built>>,
}

struct Built {
    regex: Regex,
    head: Option<Head>,
}

/// What a pattern may begin with and need not, such as `[\w.-]{0,50}?` in half of gitleaks's rules, taken off its regex.
///
/// Counting up to fifty at each letter of a text takes thousands of states, and a hundred times as long. Without it the rest
/// begins with a word, which is found at once; and as the beginning is to be as short as it can, it is what stands before the
/// first place where the rest matches.
struct Head {
    /// The bytes it is of.
    of: HashSet<u8>,
    most: usize,
}

/// Classes, boundaries and cases are ASCII, as in Go, and bytes are bytes: Unicode tables take 577 MB for gitleaks's rules.
fn ascii() -> syntax::Config {
    syntax::Config::new().unicode(false).utf8(false)
}

impl Pattern {
    /// Checks that each source compiles, and keeps the text alone: of hundreds of rules, most never see their keyword.
    pub fn new<'a>(sources: impl IntoIterator<Item = &'a String>) -> Result<Self, String> {
        let sources: Vec<String> = sources.into_iter().map(|source| translate(source)).collect();
        let mut hirs = Vec::with_capacity(sources.len());
        for source in &sources {
            let hir = syntax::parse_with(source, &ascii());
            // The last line is the sentence, what stands before it draws the place.
            hirs.push(hir.map_err(|error| last_line(&error.to_string()))?);
        }
        // As far as it can fail: a tenth of the work of a build.
        thompson::Compiler::new()
            .configure(
                thompson::Config::new()
                    .utf8(false)
                    .which_captures(WhichCaptures::None)
                    .nfa_size_limit(Some(LARGEST)),
            )
            .build_many_from_hir(&hirs)
            .map_err(|error| error.to_string())?;
        Ok(Self { sources, built: OnceLock::new() })
    }

    /// How many groups the only source has.
    pub fn groups(&self) -> usize {
        self.sources.first().map_or(0, |source| {
            syntax::parse_with(source, &ascii())
                .map_or(0, |hir| hir.properties().explicit_captures_len())
        })
    }

    /// Compiled. `None` does not happen: a build has eight times the room of the check at the start.
    fn built(&self) -> Option<&Built> {
        self.built.get_or_init(|| Built::new(&self.sources)).as_ref()
    }

    pub fn is_match(&self, text: &str) -> bool {
        self.built().is_some_and(|built| built.regex.is_match(text))
    }

    /// Each match, from left to right, none in another: where it is, and its groups.
    pub fn each(&self, text: &str, mut found: impl FnMut(Range<usize>, &Captures)) {
        let Some(Built { regex, head }) = self.built() else { return };
        let mut captures = None;
        let mut from = 0;
        while from <= text.len() {
            let rest = Input::new(text).range(from..);
            // Groups take longer, and most texts have nothing.
            if captures.is_none() && !regex.is_match(rest.clone()) {
                return;
            }
            let captures = captures.get_or_insert_with(|| regex.create_captures());
            regex.search_captures(&rest, captures);
            let Some(matched) = captures.get_match() else { return };
            let before = text.as_bytes().get(from..matched.start()).unwrap_or_default();
            let start = matched.start() - head.as_ref().map_or(0, |head| head.length(before));
            // An empty match is nothing to hide, but the next one has to be another.
            from = matched.end() + usize::from(matched.is_empty());
            found(start..matched.end(), captures);
        }
    }
}

impl Built {
    fn new(sources: &[String]) -> Option<Self> {
        let config = meta::Config::new()
            .utf8_empty(false)
            .nfa_size_limit(Some(8 * LARGEST))
            .hybrid_cache_capacity(DFA);
        let mut builder = meta::Builder::new();
        builder.configure(config).syntax(ascii());
        let beheaded = match sources {
            [source] => behead(source),
            _ => None,
        };
        let (regex, head) = match beheaded {
            Some((rest, head)) => (builder.build_from_hir(&rest).ok()?, Some(head)),
            None => (builder.build_many(sources).ok()?, None),
        };
        Some(Self { regex, head })
    }
}

impl Head {
    /// How much of the end of `before` belongs to it.
    fn length(&self, before: &[u8]) -> usize {
        before.iter().rev().take(self.most).take_while(|byte| self.of.contains(byte)).count()
    }
}

/// The pattern without its head.
fn behead(source: &str) -> Option<(Hir, Head)> {
    let hir = syntax::parse_with(source, &ascii()).ok()?;
    let HirKind::Concat(parts) = hir.into_kind() else { return None };
    let heads: Vec<Head> = parts.iter().map_while(head).collect();
    let Head { of, .. } = heads.first()?;
    if heads.iter().any(|head| head.of != *of) {
        return None;
    }
    let head = Head { of: of.clone(), most: heads.iter().map(|head| head.most).sum() };
    Some((Hir::concat(parts.into_iter().skip(heads.len()).collect()), head))
}

/// A part that may be left out, rather is, and is of single bytes.
fn head(part: &Hir) -> Option<Head> {
    let HirKind::Repetition(Repetition { min: 0, max: Some(most), greedy: false, sub }) =
        part.kind()
    else {
        return None;
    };
    let HirKind::Class(Class::Bytes(class)) = sub.kind() else { return None };
    let of = class.iter().flat_map(|range| range.start()..=range.end()).collect();
    Some(Head { of, most: usize::try_from(*most).ok()? })
}

fn last_line(text: &str) -> String {
    let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    last.trim().trim_start_matches("error: ").to_owned()
}

/// Writes Go's syntax in Rust's. They differ where a sign without its special meaning stands alone: Go reads `{` that starts
/// no repetition as itself, and knows no sets in sets (`[`, `&&`, `--`, `~~` in a class).
fn translate(go: &str) -> String {
    let mut rust = String::with_capacity(go.len());
    let mut rest = go;
    // Where the class that is being read began to hold something.
    let mut class: Option<usize> = None;
    let mut last = '\\';
    while let Some(sign) = rest.chars().next() {
        let mut length = sign.len_utf8();
        let after = rest.get(length..).unwrap_or_default();
        match sign {
            '\\' => length += after.chars().next().map_or(0, char::len_utf8),
            '{' if class.is_none() && !is_repetition(after) => rust.push('\\'),
            '[' if class.is_none() => {
                length += usize::from(after.starts_with('^'));
                class = Some(rust.len() + length);
            }
            '[' => match after.strip_prefix(':').and_then(|name| name.find(":]")) {
                Some(name) => length += name + 3,
                None => rust.push('\\'),
            },
            // The first sign of a class is in it.
            ']' if class.is_some_and(|start| start != rust.len()) => class = None,
            '&' | '-' | '~' if class.is_some() && last == sign => rust.push('\\'),
            _ => {}
        }
        let (taken, left) = rest.split_at(length.min(rest.len()));
        rust.push_str(taken);
        last = sign;
        rest = left;
    }
    rust
}

/// Whether what follows `{` makes it one: `3}`, `3,}` or `3,5}`.
fn is_repetition(after: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let Some((inner, _)) = after.split_once('}') else { return false };
    match inner.split_once(',') {
        None => digits(inner),
        Some((least, most)) => digits(least) && (most.is_empty() || digits(most)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Pattern::new([&pattern.to_owned()]).unwrap().is_match(text)
    }

    #[test]
    fn go_reads_signs_that_stand_alone_as_themselves() {
        for (go, text) in [
            (r"^\$?{{[^}]+}}$", "${{ x }}"),
            (r"^\${(?:[A-Z_]+|[a-z_]+)}$", "${HOME}"),
            (r"^a{2}b{1,}c{1,2}{x}$", "aabbc{x}"),
            (r"^a{,2}$", "a{,2}"),
            (r"^[[]a[]b]$", "[a]"),
            (r"^[^]]$", "["),
            (r"^[a[:digit:]&&b]+$", "a1&b"),
            (r"^[+--]{3}$", "+,-"),
            (r"^[\]\[{]+$", "[]{"),
            (r"^[~~x]+$", "~x"),
        ] {
            assert!(matches(go, text), "{go} matches {text}: {}", translate(go));
        }
        assert!(!matches(r"^[+--]$", "a"));
        assert!(!matches(r"^[^]]$", "]"));
    }

    #[test]
    fn what_rust_and_go_share_stays_as_it_is() {
        for pattern in [
            r#"(?i)[\w.-]{0,50}?(?:x)[\x60'"\s=]{0,5}([a-z0-9_-]{32})(?:[\x60'"\s;]|\\[nr]|$)"#,
            r"\b(sk-ant-api03-[a-zA-Z0-9_\-]{93}AA)\b",
            r"[[:alnum:]]{14}\z",
            r"",
            r"\",
        ] {
            assert_eq!(translate(pattern), pattern);
        }
    }

    #[test]
    fn classes_and_boundaries_are_ascii() {
        assert!(matches(r"\btoken\b", "étokené"), "a letter beyond ASCII is no part of a word");
        assert!(!matches(r"^\w$", "é"));
        assert!(!matches(r"(?i)^k$", "\u{212a}"), "the Kelvin sign is not a k");
    }

    #[test]
    fn a_pattern_that_does_not_compile_says_why_in_one_line() {
        for (pattern, why) in [
            ("(a", "unclosed group"),
            ("a(?=b)", "look-around"),
            (r"(?:[a-z]{900}){900}", "exceeded limit"),
            (r"\p{Greek}", "Unicode"),
        ] {
            let error = Pattern::new([&pattern.to_owned()]).err().unwrap();
            assert!(error.contains(why), "{pattern}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
