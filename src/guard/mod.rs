//! What may leave: reads the document, then the finished parts.
//!
//! In this order: characters that nobody sees are taken out, so that they hide nothing from what follows; secrets; links
//! that lead elsewhere than they say; mentions. No platform can be told reliably to ignore mentions in a text (Slack has no
//! such parameter at all), so they are broken up here: an agent that was fooled shall not wake a thousand people. Those that
//! the operator lets through in a channel are marked in the document, and the renderers write them as their platform takes
//! them; the finished part says which kinds of mention call people in it, so that whoever sends it can name them (Discord)
//! and ask again whether they still may.

mod again;
mod calls;
mod characters;
mod hide;
mod links;
mod mentions;
mod neutralise;
mod secrets;

use std::path::PathBuf;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;

use self::hide::Seek;
use crate::model::audit::{Filtered, Treatment};
use crate::model::{CardPart, Mentions, Part, PlatformKind};
use crate::policy::Terms;
use crate::render::Document;
use crate::telemetry::OwnSecrets;

pub use mentions::has_active_mention;
use neutralise::{break_mentions, break_mentions_in};
pub use secrets::{Hit as SecretHit, Own, Rules, RulesError};

/// What was done to a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Sentences for the caller.
    pub warnings: Vec<String>,
    /// The same for the audit trail.
    pub filtered: Vec<Filtered>,
}

impl Findings {
    /// Adds what was found later, once.
    pub fn add(&mut self, later: Self) {
        for warning in later.warnings {
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
        for filtered in later.filtered {
            if !self.filtered.contains(&filtered) {
                self.filtered.push(filtered);
            }
        }
    }

    fn redacted(rule: &str, warnings: Vec<String>) -> Self {
        let filtered = Filtered { rule: rule.to_owned(), treatment: Treatment::Redacted };
        let filtered = if warnings.is_empty() { Vec::new() } else { vec![filtered] };
        Self { warnings, filtered }
    }
}

/// A text may not leave as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message holds {} and was not sent: take it out, and never write secrets into messages", self.what())]
pub struct Blocked {
    /// Why.
    pub filtered: Vec<Filtered>,
}

impl Blocked {
    fn what(&self) -> String {
        let rules: Vec<&str> = self.filtered.iter().map(|it| it.rule.as_str()).collect();
        format!("a secret ({})", rules.join(", "))
    }
}

/// What the guard knows.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Guard")]
pub struct Config {
    /// A file in the format of gitleaks with more rules for what looks like a secret.
    pub secret_rules: Option<PathBuf>,
}

impl Config {
    /// The rules for secrets: Herald's own, and those of the file.
    ///
    /// # Errors
    /// One line that names the file, when it cannot be read or a rule in it is wrong.
    pub fn rules(&self) -> Result<Arc<Rules>, String> {
        let Some(path) = &self.secret_rules else { return Ok(built_in()) };
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        Rules::built_in_and(&text).map(Arc::new).map_err(|error| error.to_string())
    }
}

/// Herald's own rules, built once.
fn built_in() -> Arc<Rules> {
    static BUILT_IN: LazyLock<Arc<Rules>> = LazyLock::new(|| Arc::new(Rules::built_in()));
    Arc::clone(&BUILT_IN)
}

/// Looks at everything that leaves. What it knows is built once and shared.
pub struct Guard {
    secrets: OwnSecrets,
    /// What is searched for, and the secrets that it was built from.
    own: RwLock<(Arc<[SecretString]>, Arc<Own>)>,
    rules: RwLock<Arc<Rules>>,
}

impl Default for Guard {
    fn default() -> Self {
        Self::with(&[])
    }
}

impl Guard {
    /// Keeps Herald's own `secrets` back, whatever a policy says, those included that become known later; and looks for
    /// others by `rules`.
    #[must_use]
    pub fn new(secrets: OwnSecrets, rules: Arc<Rules>) -> Self {
        let known = secrets.all();
        let own = Arc::new(Own::new(&known));
        Self { secrets, own: RwLock::new((known, own)), rules: RwLock::new(rules) }
    }

    /// Keeps `own` secrets back, and looks for others by Herald's own rules.
    #[must_use]
    pub fn with(own: &[SecretString]) -> Self {
        Self::new(OwnSecrets::new(own), built_in())
    }

    /// Looks for secrets by these rules from now on.
    pub fn follow(&self, rules: Arc<Rules>) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = rules;
    }

    fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn own(&self) -> Arc<Own> {
        let known = self.secrets.all();
        let (from, own) = self.own.read().unwrap_or_else(PoisonError::into_inner).clone();
        if Arc::ptr_eq(&from, &known) {
            return own;
        }
        let own = Arc::new(Own::new(&known));
        *self.own.write().unwrap_or_else(PoisonError::into_inner) = (known, Arc::clone(&own));
        own
    }

    /// Makes a document harmless before it is rendered, and says what was changed.
    ///
    /// # Errors
    /// When it may not leave at all.
    pub fn document(
        &self,
        document: &mut Document,
        platform: PlatformKind,
        terms: &Terms,
    ) -> Result<Findings, Blocked> {
        let mut findings = Findings::redacted("characters", characters::clean(document));
        let seek = Seek { own: &self.own(), rules: &self.rules(), then: terms.secrets };
        findings.add(seek.document(document)?);
        let domains = terms.link_domains.as_deref();
        findings.add(Findings::redacted("link", links::unmask(document, domains)));
        let mentions = break_mentions(document, platform, terms.mentions);
        findings.add(Findings::redacted("mention", mentions));
        Ok(findings)
    }

    /// The last look at finished parts: what became harmful only through rendering is made harmless, without making any
    /// part longer.
    ///
    /// # Errors
    /// When they may not leave at all.
    pub fn parts(
        &self,
        parts: &mut [Part],
        platform: PlatformKind,
        terms: &Terms,
    ) -> Result<Findings, Blocked> {
        let seek = Seek { own: &self.own(), rules: &self.rules(), then: terms.secrets };
        let mut findings = Findings::default();
        for part in parts.iter_mut() {
            // These were no part of a document.
            let words: Vec<&mut String> = match part {
                Part::Text(_) => Vec::new(),
                Part::Card(card) => {
                    card.rows.iter_mut().flatten().map(|button| &mut button.label).collect()
                }
                Part::File(file) => vec![&mut file.name],
            };
            for words in words {
                findings.add(Findings::redacted("characters", characters::clean_words(words)));
            }
            findings.add(match part {
                Part::Text(text) => seek.text(text)?,
                Part::Card(CardPart { text, rows }) => {
                    let mut found = seek.text(text)?;
                    let labels = rows.iter_mut().flatten().map(|button| &mut button.label);
                    found.add(seek.finished(&mut labels.collect::<Vec<_>>())?);
                    found
                }
                Part::File(file) => seek.part(file)?,
            });
        }
        findings
            .add(Findings::redacted("mention", break_mentions_in(parts, platform, terms.mentions)));
        let held_to = terms.link_domains.as_deref().map(again::digest);
        for part in parts {
            match part {
                Part::Text(text) | Part::Card(CardPart { text, .. }) => {
                    text.held_to.clone_from(&held_to);
                }
                Part::File(file) if file.held_to.is_some() => {
                    file.held_to = Some(held_to.clone().unwrap_or_default());
                }
                Part::File(_) => {}
            }
        }
        Ok(findings)
    }

    /// Plain words that people will read: a thread's name, a button's label, a file's name. Nobody is called by them.
    ///
    /// # Errors
    /// When they may not leave at all.
    pub fn words(
        &self,
        words: &str,
        platform: PlatformKind,
        terms: &Terms,
    ) -> Result<(String, Findings), Blocked> {
        let mut document = Document::plain(words);
        let terms = Terms { mentions: Mentions::NONE, ..terms.clone() };
        let mut findings = self.document(&mut document, platform, &terms)?;
        let mut words: String = document.texts().map(|text| text.text.as_str()).collect();
        // What stands for a secret may itself look like one: as the password of an address.
        let seek = Seek { own: &self.own(), rules: &self.rules(), then: terms.secrets };
        findings.add(seek.finished(&mut [&mut words])?);
        Ok((words, findings))
    }

    /// Whether parts that passed earlier would pass unchanged now: the rules may be others.
    #[must_use]
    pub fn still_passes(&self, part: &Part, platform: PlatformKind, terms: &Terms) -> bool {
        let mut again = [part.clone()];
        if self.parts(&mut again, platform, terms).is_err() {
            return false;
        }
        let [mut again] = again;
        let domains = terms.link_domains.as_deref().filter(|_| again.held_to() != part.held_to());
        if domains.is_some_and(|domains| !again::leads_to(part, platform, domains)) {
            return false;
        }
        *again.held_to_mut() = part.held_to().map(str::to_owned);
        again == *part
    }

    /// The same for plain words, such as a thread's name. They lead nowhere and call nobody, whatever the rules: what may
    /// be others are those for secrets. Told plainly once more, an address may read otherwise, so nothing else is asked again.
    #[must_use]
    pub fn words_still_pass(&self, words: &str, terms: &Terms) -> bool {
        let seek = Seek { own: &self.own(), rules: &self.rules(), then: terms.secrets };
        let mut again = words.to_owned();
        seek.finished(&mut [&mut again]).is_ok() && again == words
    }
}

/// The whole way of a text to a platform: read, guarded, rendered, guarded again.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn rehearse(
    markdown: &str,
    platform: PlatformKind,
    render: fn(&Document) -> Result<Vec<crate::model::TextPart>, crate::render::RenderError>,
) -> (Document, Result<Vec<crate::model::TextPart>, crate::render::RenderError>) {
    let (guard, terms) = (Guard::default(), Terms::default());
    let mut read = crate::render::parse(markdown);
    let _ = guard.document(&mut read, platform, &terms);
    let rendered = render(&read).map(|texts| {
        let mut finished: Vec<Part> = texts.into_iter().map(Part::Text).collect();
        let _ = guard.parts(&mut finished, platform, &terms);
        finished.into_iter().filter_map(|part| part.text().cloned()).collect()
    });
    (read, rendered)
}
