//! What a rule lets pass: allow-lists, as gitleaks reads them.

use std::ops::Range;
use std::sync::OnceLock;

use aho_corasick::AhoCorasick;

use super::file::{AllowEntry, Condition, RulesError, Target};
use super::pattern::Pattern;

/// One allow-list. A message has neither a path nor a commit, so that what asks for one allows nothing.
pub(super) struct Allow {
    condition: Condition,
    target: Target,
    regexes: Option<Pattern>,
    stopwords: Option<Stopwords>,
    /// Commits or paths: what no message has.
    elsewhere: bool,
    /// The rules it is for; all if there are none.
    rules: Vec<String>,
}

/// Words of which none is in a random token: thousands, searched at once.
struct Stopwords {
    words: Vec<String>,
    built: OnceLock<Option<AhoCorasick>>,
}

impl Stopwords {
    fn is_in(&self, secret: &str) -> bool {
        let build = || AhoCorasick::builder().ascii_case_insensitive(true).build(&self.words).ok();
        self.built.get_or_init(build).as_ref().is_some_and(|words| words.is_match(secret))
    }
}

impl Allow {
    /// `place` names the list in errors.
    pub fn new(entry: AllowEntry, place: &str) -> Result<Self, RulesError> {
        let regexes = match entry.regexes.as_slice() {
            [] => None,
            sources => Some(Pattern::new(sources).map_err(|problem| RulesError::Pattern {
                place: format!("{place}, a regex of its allowlists"),
                problem,
            })?),
        };
        let stopwords = (!entry.stopwords.is_empty())
            .then(|| Stopwords { words: entry.stopwords, built: OnceLock::new() });
        Ok(Self {
            condition: entry.condition,
            target: entry.regex_target,
            regexes,
            stopwords,
            elsewhere: !entry.paths.is_empty() || !entry.commits.is_empty(),
            rules: entry.target_rules,
        })
    }

    fn is_for(&self, rule: &str) -> bool {
        self.rules.is_empty() || self.rules.iter().any(|named| named == rule)
    }

    fn allows(&self, found: &Found<'_>, line: &str, verdict: &mut Option<bool>) -> bool {
        let mut regexes = || {
            self.regexes.as_ref().map(|regexes| match self.target {
                Target::Secret => regexes.is_match(found.secret()),
                Target::Match => regexes.is_match(found.whole()),
                Target::Line => *verdict.get_or_insert_with(|| regexes.is_match(line)),
            })
        };
        let stopwords = || self.stopwords.as_ref().map(|words| words.is_in(found.secret()));
        match self.condition {
            Condition::Any => regexes().unwrap_or(false) || stopwords().unwrap_or(false),
            // Of a list that asks for a path, or for nothing at all, nothing holds.
            Condition::All => {
                !self.elsewhere
                    && (self.regexes.is_some() || self.stopwords.is_some())
                    && stopwords().unwrap_or(true)
                    && regexes().unwrap_or(true)
            }
        }
    }
}

/// A match and the secret in it.
pub(super) struct Found<'t> {
    pub text: &'t str,
    pub whole: Range<usize>,
    pub secret: Range<usize>,
}

impl Found<'_> {
    pub fn secret(&self) -> &str {
        self.text.get(self.secret.clone()).unwrap_or_default()
    }

    pub fn whole(&self) -> &str {
        self.text.get(self.whole.clone()).unwrap_or_default()
    }
}

/// Asks the allow-lists of one rule about its matches, in their order.
///
/// What looks at lines looks at each once: thousands of matches in a line of a hundred thousand characters shall not read
/// it thousands of times.
pub(super) struct Judge<'r> {
    lists: Vec<&'r Allow>,
    line: Range<usize>,
    verdicts: Vec<Option<bool>>,
}

impl<'r> Judge<'r> {
    pub fn new(rule: &str, lists: impl Iterator<Item = &'r Allow>) -> Self {
        let lists: Vec<&Allow> = lists.filter(|list| list.is_for(rule)).collect();
        Self { verdicts: vec![None; lists.len()], lists, line: 0..0 }
    }

    pub fn allows(&mut self, found: &Found<'_>) -> bool {
        let (text, whole) = (found.text, &found.whole);
        if self.line.is_empty() || whole.start < self.line.start || self.line.end < whole.end {
            let before = text.get(..whole.start).unwrap_or_default();
            let after = text.get(whole.end..).unwrap_or_default();
            self.line = before.rfind('\n').map_or(0, |at| at + 1)
                ..after.find('\n').map_or(text.len(), |at| whole.end + at);
            self.verdicts.fill(None);
        }
        let line = text.get(self.line.clone()).unwrap_or_default();
        let mut lists = self.lists.iter().zip(&mut self.verdicts);
        lists.any(|(list, verdict)| list.allows(found, line, verdict))
    }
}
