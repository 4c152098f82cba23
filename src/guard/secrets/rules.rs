//! Rules for text that has the shape of a secret.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use regex_automata::util::captures::Captures;

use super::allow::{Allow, Found, Judge};
use super::file::{RuleEntry, RuleFile, RulesError};
use super::pattern::Pattern;

/// Herald's own rules.
const BUILT_IN: &str = include_str!("herald.toml");

/// A set of rules. Built once, shared; a regex is compiled when a text first holds one of its rule's keywords.
///
/// A message is text, not a file in a repository. So a rule that asks for a path and a regex looks everywhere, one that asks
/// for a path alone looks at the names of files ([`Rules::file`]), an allow-list that asks for a path or a commit allows
/// nothing, and `gitleaks:allow` in a text means nothing: whoever wrote the text does not decide what it may hold.
pub struct Rules {
    rules: Vec<Rule>,
    /// What each file allows all of its rules.
    allowed: Vec<Vec<Allow>>,
    keywords: AhoCorasick,
    /// The rules of each keyword.
    owners: Vec<Vec<usize>>,
    /// Those without keywords.
    always: Vec<usize>,
}

/// Text that may be a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit<'r> {
    /// The rule's `id`.
    pub rule: &'r str,
    /// Which bytes to hide: whole characters, never empty.
    pub range: Range<usize>,
}

impl Hit<'_> {
    /// What stands where the secret stood. [`Rules::find`] passes over it.
    #[must_use]
    pub fn mark(&self) -> String {
        format!("{MARK}{}]", self.rule)
    }
}

/// How a mark begins.
const MARK: &str = "[redacted:";

struct Rule {
    id: String,
    /// None looks at the names of files alone.
    regex: Option<Pattern>,
    path: Option<Pattern>,
    /// Which group is the secret; 0: the first that holds something, or else the whole match.
    group: usize,
    /// Bits per character that a secret has to exceed; 0 asks for none.
    entropy: f64,
    allowed: Vec<Allow>,
    /// The file it is from.
    file: usize,
    silent: bool,
}

impl Rules {
    /// Herald's own rules.
    #[expect(
        clippy::expect_used,
        reason = "they are part of the program, and every test reads them"
    )]
    #[must_use]
    pub fn built_in() -> Self {
        Self::parse(BUILT_IN).expect("Herald's own rules")
    }

    /// The rules of a file in the format of gitleaks, and no others.
    ///
    /// # Errors
    ///
    /// Whatever would leave a rule out: each error names the rule.
    pub fn parse(toml: &str) -> Result<Self, RulesError> {
        Self::build(vec![RuleFile::read(toml)?])
    }

    /// Herald's own rules and those of a file.
    ///
    /// # Errors
    ///
    /// As [`Rules::parse`].
    pub fn built_in_and(toml: &str) -> Result<Self, RulesError> {
        Self::build(vec![RuleFile::read(BUILT_IN)?, RuleFile::read(toml)?])
    }

    fn build(files: Vec<RuleFile>) -> Result<Self, RulesError> {
        let (mut rules, mut allowed) = (Vec::new(), Vec::new());
        let mut owners: HashMap<String, Vec<usize>> = HashMap::new();
        let mut always = Vec::new();
        for (file, RuleFile { rules: entries, allowlists, allowlist, .. }) in
            files.into_iter().enumerate()
        {
            let lists = allowlists.into_iter().chain(allowlist);
            allowed.push(lists.map(|list| Allow::new(list, "the file")).collect::<Result<_, _>>()?);
            for mut entry in entries {
                let keywords = std::mem::take(&mut entry.keywords);
                if keywords.is_empty() {
                    always.push(rules.len());
                }
                for keyword in keywords {
                    owners.entry(keyword.to_ascii_lowercase()).or_default().push(rules.len());
                }
                rules.push(Rule::new(entry, file)?);
            }
        }
        let (keywords, owners): (Vec<String>, Vec<Vec<usize>>) = owners.into_iter().unzip();
        let keywords = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .kind(Some(AhoCorasickKind::DFA))
            .build(&keywords)
            .map_err(|error| RulesError::Pattern {
                place: "the keywords".to_owned(),
                problem: error.to_string(),
            })?;
        Ok(Self { rules, allowed, keywords, owners, always })
    }

    /// How many rules there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Never: a file without rules is an error.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// How many of them look at the names of files alone.
    #[must_use]
    pub fn for_files(&self) -> usize {
        self.rules.iter().filter(|rule| rule.regex.is_none()).count()
    }

    /// Every rule's `id`, in the order of the files.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().map(|rule| rule.id.as_str())
    }

    /// The rule that a file of this name is a secret by.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<&str> {
        let is_it = |rule: &&Rule| {
            rule.regex.is_none() && rule.path.as_ref().is_some_and(|path| path.is_match(name))
        };
        self.rules.iter().find(is_it).map(|rule| rule.id.as_str())
    }

    /// What to hide in `text`, in order and apart from each other. Where several rules hit the same place, it is one hit of
    /// the rule that says most about it.
    #[must_use]
    pub fn find(&self, text: &str) -> Vec<Hit<'_>> {
        apart(self.hits(text))
    }

    /// What each rule finds, rule by rule.
    #[must_use]
    pub fn hits(&self, text: &str) -> Vec<Hit<'_>> {
        let mut asked = vec![false; self.rules.len()];
        let mark = |asked: &mut Vec<bool>, rule: usize| {
            if let Some(asked) = asked.get_mut(rule) {
                *asked = true;
            }
        };
        self.always.iter().for_each(|rule| mark(&mut asked, *rule));
        for keyword in self.keywords.find_overlapping_iter(text) {
            for rule in self.owners.get(keyword.pattern().as_usize()).into_iter().flatten() {
                mark(&mut asked, *rule);
            }
        }
        let mut hits = Vec::new();
        for (rule, asked) in self.rules.iter().zip(asked) {
            if asked && !rule.silent {
                let lists = self.allowed.get(rule.file).into_iter().flatten();
                rule.hits(text, lists, &mut hits);
            }
        }
        if !hits.is_empty() && text.contains(MARK) {
            let marks = self.marks(text);
            let is_in = |hit: &Hit<'_>, mark: &Range<usize>| {
                mark.start <= hit.range.start && hit.range.end <= mark.end
            };
            hits.retain(|hit| {
                // The last that does not begin behind it.
                let next = marks.partition_point(|mark| mark.start <= hit.range.start);
                !marks.get(..next).and_then(<[_]>::last).is_some_and(|mark| is_in(hit, mark))
            });
        }
        hits
    }

    /// Where earlier hits were hidden: marks that name a rule, in order.
    fn marks(&self, text: &str) -> Vec<Range<usize>> {
        let ids: HashSet<&str> = self.ids().collect();
        let longest = ids.iter().map(|id| id.len()).max().unwrap_or_default();
        let mark = |(start, mark): (usize, &str)| {
            let inner = start + mark.len();
            let end = text.floor_char_boundary(inner + longest + 1);
            let (id, _) = text.get(inner..end)?.split_once(']')?;
            ids.contains(id).then_some(start..inner + id.len() + 1)
        };
        text.match_indices(MARK).filter_map(mark).collect()
    }
}

impl Rule {
    fn new(entry: RuleEntry, file: usize) -> Result<Self, RulesError> {
        let RuleEntry { id, regex, path, secret_group, entropy, allowlists, allowlist, .. } = entry;
        let pattern = |source: Option<String>, which: &str| {
            source.map(|source| Pattern::new([&source])).transpose().map_err(|problem| {
                RulesError::Pattern { place: format!("rule `{id}`, its {which}"), problem }
            })
        };
        let (regex, path) = (pattern(regex, "regex")?, pattern(path, "path")?);
        if secret_group > 0 {
            let groups = regex.as_ref().map_or(0, Pattern::groups);
            if secret_group > groups {
                return Err(RulesError::Group { rule: id, group: secret_group, groups });
            }
        }
        let place = format!("rule `{id}`");
        let lists = allowlists.into_iter().chain(allowlist);
        let allowed = lists.map(|list| Allow::new(list, &place)).collect::<Result<_, _>>()?;
        let silent = entry.skip_report;
        Ok(Self { id, regex, path, group: secret_group, entropy, allowed, file, silent })
    }

    fn hits<'r>(
        &'r self,
        text: &str,
        lists: impl Iterator<Item = &'r Allow>,
        hits: &mut Vec<Hit<'r>>,
    ) {
        let Some(regex) = &self.regex else { return };
        let mut lists = Some(lists);
        let mut judge: Option<Judge<'r>> = None;
        regex.each(text, |whole, captures| {
            let Some(found) = self.found(text, whole, captures) else { return };
            if self.entropy != 0.0 && entropy(found.secret()) <= self.entropy {
                return;
            }
            let judge = judge.get_or_insert_with(|| {
                Judge::new(&self.id, lists.take().into_iter().flatten().chain(&self.allowed))
            });
            if !judge.allows(&found) {
                hits.push(Hit { rule: &self.id, range: found.secret });
            }
        });
    }

    /// The match, and which group of it is the secret.
    fn found<'t>(
        &self,
        text: &'t str,
        whole: Range<usize>,
        captures: &Captures,
    ) -> Option<Found<'t>> {
        // Bytes are matched, characters are hidden.
        let whole_characters =
            |start, end| text.floor_char_boundary(start)..text.ceil_char_boundary(end);
        let group = |index| {
            let span = captures.get_group(index)?;
            (!span.is_empty()).then(|| whole_characters(span.start, span.end))
        };
        let whole = whole_characters(whole.start, whole.end);
        let secret = match self.group {
            0 => (1..captures.group_len()).find_map(group).unwrap_or_else(|| {
                let matched = text.get(whole.clone()).unwrap_or_default();
                let end = whole.start + matched.trim_end_matches('\n').len();
                (whole.end - matched.trim_start_matches('\n').len()).min(end)..end
            }),
            chosen => group(chosen)?,
        };
        (!secret.is_empty()).then_some(Found { text, whole, secret })
    }
}

/// Joins hits that overlap.
fn apart(mut hits: Vec<Hit<'_>>) -> Vec<Hit<'_>> {
    hits.sort_by_key(|hit| (hit.range.start, Reverse(hit.range.end)));
    let mut joined: Vec<Hit<'_>> = Vec::with_capacity(hits.len());
    for hit in hits {
        match joined.last_mut() {
            Some(last) if hit.range.start < last.range.end => {
                last.range.end = last.range.end.max(hit.range.end);
                if is_generic(last.rule) && !is_generic(hit.rule) {
                    last.rule = hit.rule;
                }
            }
            _ => joined.push(hit),
        }
    }
    joined
}

/// gitleaks's word for a rule that says only that something is secret.
fn is_generic(rule: &str) -> bool {
    rule.contains("generic")
}

/// Shannon's entropy in bits per character; of text that is not ASCII, as gitleaks computes it: characters by bytes.
fn entropy(text: &str) -> f64 {
    let mut counts: HashMap<char, u32> = HashMap::new();
    for c in text.chars() {
        *counts.entry(c).or_default() += 1;
    }
    let length = u32::try_from(text.len()).map_or(f64::from(u32::MAX), f64::from);
    let bits = counts.values().map(|count| {
        let share = f64::from(*count) / length;
        share * share.log2()
    });
    -bits.sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(toml: &str) -> Rules {
        Rules::parse(toml).unwrap()
    }

    fn found<'t>(rules: &Rules, text: &'t str) -> Vec<&'t str> {
        rules.hits(text).into_iter().map(|hit| text.get(hit.range).unwrap()).collect()
    }

    #[test]
    fn a_file_that_would_lose_a_rule_is_refused_by_its_name() {
        let rule = "[[rules]]\nid = \"a\"\nregex = 'x'\n";
        for (toml, why) in [
            ("", "it holds no [[rules]]"),
            ("[[rules]\n", "line 1: "),
            ("[[rules]]\nid = \"a\"\nregexp = 'x'\n", "line 3: unknown field `regexp`"),
            ("[extend]\nuseDefault = true\n", "[extend] is not followed"),
            ("[[rules]]\nregex = 'x'\n", "rule number 1 has no id"),
            ("[[rules]]\nid = \"a\"\n", "rule `a` has neither regex nor path"),
            (&format!("{rule}{rule}"), "two rules are called `a`"),
            ("[[rules]]\nid = \"a\"\nregex = '(x'\n", "rule `a`, its regex: unclosed group"),
            ("[[rules]]\nid = \"a\"\npath = '(?=x)'\n", "rule `a`, its path: look-around"),
            (
                &format!("{rule}secretGroup = 1\n"),
                "rule `a`: secretGroup is 1, but its regex has 0 groups",
            ),
            (&format!("{rule}[[rules.required]]\nid = \"b\"\n"), "rule `a` has [[rules.required]]"),
            (
                &format!("{rule}[[rules.allowlists]]\nregexes = ['*']\n"),
                "rule `a`, a regex of its allowlists: ",
            ),
            (
                &format!("{rule}[allowlist]\nregexes = ['*']\n"),
                "the file, a regex of its allowlists: ",
            ),
        ] {
            let error = Rules::parse(toml).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.starts_with(why), "{toml}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn the_secret_is_the_chosen_group_or_the_first_that_holds_something_or_everything() {
        let with = |more: &str, regex: &str| {
            rules(&format!("[[rules]]\nid = \"a\"\nregex = '''{regex}'''\n{more}"))
        };
        assert_eq!(found(&with("", "k=(x+)|j=(y+)"), "k=xx j=yy"), ["xx", "yy"]);
        assert_eq!(found(&with("secretGroup = 2", "(k)=(x+)"), "k=xx"), ["xx"]);
        assert_eq!(found(&with("", r"k=\w+\s"), "k=xx\n"), ["k=xx"]);
        assert_eq!(found(&with("", "k=.{3}"), "k=ééé"), ["k=éé"], "whole characters");
        let headed = with("", r"(?i)[\w.-]{0,5}?key=(\w+)");
        assert_eq!(found(&headed, "a.b-cKEY=x; my_key=y"), ["x", "y"]);
    }

    #[test]
    fn what_has_no_keyword_is_looked_for_in_every_text() {
        let rules = rules(
            "[[rules]]\nid = \"a\"\nregex = 'x{3}'\n[[rules]]\nid = \"b\"\nregex = 'y{3}'\nkeywords = [\"KEY\"]\n",
        );
        assert_eq!(found(&rules, "xxx yyy"), ["xxx"]);
        assert_eq!(found(&rules, "xxx yyy monKeys"), ["xxx", "yyy"]);
    }

    #[test]
    fn entropy_and_allow_lists_let_pass_what_is_no_secret() {
        let rules = rules(
            r#"
[[allowlists]]
targetRules = ["a"]
stopwords = ["Sample"]
[[rules]]
id = "a"
regex = 'k=(\w+)'
entropy = 1.5
[[rules.allowlists]]
regexes = ['^zz']
[[rules.allowlists]]
regexTarget = "match"
regexes = ['k=match']
[[rules.allowlists]]
regexTarget = "line"
regexes = ['^# ']
[[rules.allowlists]]
condition = "AND"
regexes = ['both']
stopwords = ["one"]
[[rules.allowlists]]
condition = "AND"
paths = ['.*']
regexes = ['path']
[[rules.allowlists]]
commits = ["abc"]
[[rules]]
id = "b"
regex = 'j=(\w*sample\w*)'
"#,
        );
        for (text, secrets) in [
            ("k=abcd", vec!["abcd"]),
            ("k=abab", vec![]),
            ("k=zzabc", vec![]),
            ("k=matching", vec![]),
            ("# k=abcd\nk=abce # ", vec!["abce"]),
            ("k=bothone k=both1 k=xone9", vec!["both1", "xone9"]),
            ("k=path1 gitleaks:allow", vec!["path1"]),
            // The file's list is for the first rule alone.
            ("k=1SAMPLE2", vec![]),
            ("j=1sample2", vec!["1sample2"]),
        ] {
            assert_eq!(found(&rules, text), secrets, "{text}");
        }
    }

    #[test]
    fn what_is_only_a_part_of_other_rules_is_no_hit() {
        let rules = rules("[[rules]]\nid = \"a\"\nregex = 'x{3}'\nskipReport = true\n");
        assert_eq!(found(&rules, "xxx"), Vec::<&str>::new());
    }

    #[test]
    fn hits_are_joined_and_the_rule_that_says_most_names_them() {
        let rules = rules(
            "[[rules]]\nid = \"generic\"\nregex = 'aa+b'\n[[rules]]\nid = \"b-key\"\nregex = 'a?bbc'\n",
        );
        let hits = rules.find("aaabbc -- aab");
        let hits: Vec<(String, Range<usize>)> =
            hits.iter().map(|hit| (hit.mark(), hit.range.clone())).collect();
        assert_eq!(
            hits,
            [("[redacted:b-key]".to_owned(), 0..6), ("[redacted:generic]".to_owned(), 10..13)]
        );
    }

    #[test]
    fn only_a_mark_of_a_known_rule_is_passed_over() {
        let rules = rules("[[rules]]\nid = \"a-1\"\nregex = '[a-z]-[0-9]'\n");
        assert!(rules.find("[redacted:a-1] and [redacted:a-1]").is_empty());
        assert_eq!(found(&rules, "[redacted:b-2]"), ["b-2"]);
        assert_eq!(found(&rules, "[redacted:a-1"), ["a-1"]);
        assert_eq!(found(&rules, "[redacted:a-1]c-3"), ["c-3"]);
    }
}
