//! A rule file in the format of gitleaks: <https://github.com/gitleaks/gitleaks#configuration>.

use serde::Deserialize;

/// Why a rule file cannot be used. One line, which names the rule.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// Not TOML, or a key that the format does not have.
    #[error("line {line}: {problem}")]
    Format {
        /// Counted from 1.
        line: usize,
        /// What the parser says.
        problem: String,
    },
    /// No rule would look at anything.
    #[error("it holds no [[rules]]")]
    Empty,
    /// `[extend]` names rules that are not in this file.
    #[error("[extend] is not followed: mount one file that holds every rule")]
    Extends,
    /// Two rules of one name.
    #[error("two rules are called `{0}`")]
    Twice(String),
    /// A rule without `id`.
    #[error("rule number {0} has no id")]
    Nameless(usize),
    /// A rule that looks at nothing.
    #[error("rule `{0}` has neither regex nor path")]
    Blind(String),
    /// A rule that depends on other rules nearby.
    #[error("rule `{0}` has [[rules.required]], which is not supported")]
    Composite(String),
    /// A pattern that cannot be compiled.
    #[error("{place}: {problem}")]
    Pattern {
        /// The rule, and which of its patterns.
        place: String,
        /// What the compiler says.
        problem: String,
    },
    /// `secretGroup` beyond the groups of the regex.
    #[error("rule `{rule}`: secretGroup is {group}, but its regex has {groups} groups")]
    Group {
        /// The rule.
        rule: String,
        /// What it asks for.
        group: usize,
        /// What there is.
        groups: usize,
    },
}

/// The whole file. Keys that say nothing about a message (`title`, `tags`, commits) are read and left alone; keys that
/// nobody knows are errors, because a rule that is half understood is a hole nobody sees.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RuleFile {
    #[serde(default)]
    pub rules: Vec<RuleEntry>,
    #[serde(default)]
    pub allowlists: Vec<AllowEntry>,
    /// What `allowlists` was called before there could be several.
    pub allowlist: Option<AllowEntry>,
    extend: Option<serde::de::IgnoredAny>,
    #[serde(rename = "title")]
    _title: Option<serde::de::IgnoredAny>,
    #[serde(rename = "description")]
    _description: Option<serde::de::IgnoredAny>,
    #[serde(rename = "minVersion")]
    _min_version: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RuleEntry {
    #[serde(default)]
    pub id: String,
    pub regex: Option<String>,
    pub path: Option<String>,
    #[serde(default)]
    pub keywords: Vec<String>,
    #[serde(default)]
    pub secret_group: usize,
    #[serde(default)]
    pub entropy: f64,
    #[serde(default)]
    pub allowlists: Vec<AllowEntry>,
    pub allowlist: Option<AllowEntry>,
    /// Only a part of other, composite rules.
    #[serde(default)]
    pub skip_report: bool,
    required: Option<serde::de::IgnoredAny>,
    #[serde(rename = "description")]
    _description: Option<serde::de::IgnoredAny>,
    #[serde(rename = "tags")]
    _tags: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct AllowEntry {
    #[serde(default)]
    pub condition: Condition,
    #[serde(default)]
    pub regex_target: Target,
    #[serde(default)]
    pub regexes: Vec<String>,
    #[serde(default, alias = "stopWords")]
    pub stopwords: Vec<String>,
    #[serde(default)]
    pub paths: Vec<String>,
    #[serde(default)]
    pub commits: Vec<String>,
    /// Of a list for the whole file: the rules it is for, all where there are none.
    #[serde(default)]
    pub target_rules: Vec<String>,
    #[serde(rename = "description")]
    _description: Option<serde::de::IgnoredAny>,
}

/// How the checks of one allow-list go together.
#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq)]
pub(super) enum Condition {
    #[default]
    #[serde(rename = "OR", alias = "or", alias = "||", alias = "")]
    Any,
    #[serde(rename = "AND", alias = "and", alias = "&&")]
    All,
}

/// What the regexes of an allow-list look at.
#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Target {
    #[default]
    #[serde(alias = "")]
    Secret,
    Match,
    Line,
}

impl RuleFile {
    /// Reads a file and checks what can be checked without its patterns.
    pub fn read(toml: &str) -> Result<Self, RulesError> {
        let file: Self = toml::from_str(toml).map_err(|error| RulesError::Format {
            line: line_of(toml, error.span().map_or(0, |span| span.start)),
            problem: error.message().replace('\n', " "),
        })?;
        if file.extend.is_some() {
            return Err(RulesError::Extends);
        }
        if file.rules.is_empty() {
            return Err(RulesError::Empty);
        }
        let mut seen = std::collections::HashSet::new();
        for (number, rule) in (1..).zip(&file.rules) {
            if rule.id.is_empty() {
                return Err(RulesError::Nameless(number));
            }
            if !seen.insert(&rule.id) {
                return Err(RulesError::Twice(rule.id.clone()));
            }
            if rule.regex.is_none() && rule.path.is_none() {
                return Err(RulesError::Blind(rule.id.clone()));
            }
            if rule.required.is_some() {
                return Err(RulesError::Composite(rule.id.clone()));
            }
        }
        Ok(file)
    }
}

/// The line of a byte, counted from 1.
fn line_of(text: &str, byte: usize) -> usize {
    1 + text.bytes().take(byte).filter(|byte| *byte == b'\n').count()
}
