//! Secrets in a text: refused, taken out, or told about.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::secrets::{Own, Rules};
use super::{Blocked, Findings};
use crate::model::audit::{Filtered, Treatment};
use crate::model::{FilePart, TextPart};
use crate::policy::Secrets;
use crate::render::{Content, Document, Edit, Style};

/// The rule by which Herald's own secrets are found.
const OWN: &str = "own-secret";

/// What secrets are looked for, and what happens to them.
pub(super) struct Seek<'a> {
    pub(super) own: &'a Own,
    pub(super) rules: &'a Rules,
    pub(super) then: Secrets,
}

impl Seek<'_> {
    /// Looks at a document before it is rendered.
    pub(super) fn document(&self, document: &mut Document) -> Result<Findings, Blocked> {
        self.refuse_own(&everything_in(document))?;
        let mut found = Vec::new();
        for text in document.texts_mut() {
            let hits = self.rules.find(&text.text);
            found.extend(hits.iter().map(|hit| hit.rule.to_owned()));
            if self.then == Secrets::Redact {
                let edits = hits.iter().map(|hit| Edit::plain(hit.range.clone(), hit.mark()));
                text.rewrite(edits.collect());
            }
            for span in &mut text.spans {
                if let Style::Link(url) = &mut span.style {
                    found.extend(self.replace(url, |rule, _| format!("redacted-{rule}")));
                }
            }
        }
        self.told(found)
    }

    /// Looks at a finished text. Escaped for its platform it may look like what it is not, so it is judged by what is shown.
    pub(super) fn text(&self, text: &mut TextPart) -> Result<Findings, Blocked> {
        self.refuse_own(&text.body)?;
        let shown = text.plain.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
        if self.rules.find(&shown).is_empty() {
            self.refuse_own(&text.plain)?;
            return Ok(Findings::default());
        }
        self.finished(&mut [&mut text.body, &mut text.plain])
    }

    /// Looks at finished words. What is taken out is crossed out, so that it does not become longer.
    pub(super) fn finished(&self, texts: &mut [&mut String]) -> Result<Findings, Blocked> {
        texts.iter().try_for_each(|text| self.refuse_own(text))?;
        self.cross_out(texts)
    }

    /// The same for what holds no secret of Herald's own.
    fn cross_out(&self, texts: &mut [&mut String]) -> Result<Findings, Blocked> {
        let crossed = |_: &str, secret: &str| "x".repeat(secret.chars().count());
        let found = texts.iter_mut().flat_map(|text| self.replace(text, crossed)).collect();
        self.told(found)
    }

    /// Looks at a file: its name, and what is in it as far as it is text. Only text can be crossed out.
    pub(super) fn part(&self, file: &mut FilePart) -> Result<Findings, Blocked> {
        // What cannot be read is no base64 of ours, and nobody can send it.
        let mut bytes = STANDARD.decode(&file.base64).unwrap_or_default();
        let findings = self.file(&mut file.name, &mut bytes)?;
        if !findings.filtered.is_empty() {
            file.base64 = STANDARD.encode(bytes);
        }
        Ok(findings)
    }

    fn file(&self, name: &mut String, bytes: &mut Vec<u8>) -> Result<Findings, Blocked> {
        self.refuse_own(name)?;
        self.refuse_own(&String::from_utf8_lossy(bytes))?;
        if let Some(rule) = self.rules.file(name) {
            return match self.then {
                Secrets::Flag => self.told(vec![rule.to_owned()]),
                Secrets::Redact | Secrets::Block => Err(blocked(vec![rule.to_owned()])),
            };
        }
        let Ok(mut text) = String::from_utf8(std::mem::take(bytes)).map_err(|error| {
            *bytes = error.into_bytes();
        }) else {
            // Nothing can be crossed out in what is no text, but it can be read.
            let found = self.rules.find(&String::from_utf8_lossy(bytes));
            let found: Vec<_> = found.iter().map(|hit| hit.rule.to_owned()).collect();
            if !found.is_empty() && self.then != Secrets::Flag {
                return Err(blocked(found));
            }
            let mut findings = self.told(found)?;
            findings.add(self.cross_out(&mut [name])?);
            return Ok(findings);
        };
        let findings = self.cross_out(&mut [name, &mut text]);
        *bytes = text.into_bytes();
        findings
    }

    /// Puts something in the place of each secret, by its rule and itself, if secrets are taken out. The rules that found
    /// one.
    fn replace(&self, text: &mut String, with: impl Fn(&str, &str) -> String) -> Vec<String> {
        let hits = self.rules.find(text);
        let rules = hits.iter().map(|hit| hit.rule.to_owned()).collect();
        if self.then == Secrets::Redact {
            for hit in hits.into_iter().rev() {
                let secret = text.get(hit.range.clone()).unwrap_or_default();
                let instead = with(hit.rule, secret);
                text.replace_range(hit.range, &instead);
            }
        }
        rules
    }

    fn refuse_own(&self, text: &str) -> Result<(), Blocked> {
        if self.own.is_in(text) { Err(blocked(vec![OWN.to_owned()])) } else { Ok(()) }
    }

    /// What is said about what these rules found.
    fn told(&self, mut rules: Vec<String>) -> Result<Findings, Blocked> {
        rules.sort_unstable();
        rules.dedup();
        let treatment = match self.then {
            _ if rules.is_empty() => return Ok(Findings::default()),
            Secrets::Block => return Err(blocked(rules)),
            Secrets::Redact => Treatment::Redacted,
            Secrets::Flag => Treatment::Flagged,
        };
        let sentence = |rule: &String| match treatment {
            Treatment::Flagged => format!(
                "what looks like a secret ({rule}) was sent all the same: see that it is none"
            ),
            Treatment::Redacted | Treatment::Blocked => {
                format!(
                    "what looks like a secret ({rule}) was taken out: never write secrets into messages"
                )
            }
        };
        let warnings = rules.iter().map(sentence).collect();
        let filtered = rules.into_iter().map(|rule| Filtered { rule, treatment });
        Ok(Findings { warnings, filtered: filtered.collect() })
    }
}

fn blocked(rules: Vec<String>) -> Blocked {
    let filtered = rules.into_iter().map(|rule| Filtered { rule, treatment: Treatment::Blocked });
    Blocked { filtered: filtered.collect() }
}

/// Everything that a document says, where it leads, and in which languages its code is.
fn everything_in(document: &Document) -> String {
    let mut all = String::new();
    for block in &document.blocks {
        if let Content::Code { language, .. } = &block.content {
            all.push_str(language);
            all.push('\n');
        }
    }
    for text in document.texts() {
        all.push_str(&text.text);
        all.push('\n');
    }
    for span in document.texts().flat_map(|text| &text.spans) {
        if let Style::Link(url) = &span.style {
            all.push('\n');
            all.push_str(url);
        }
    }
    all
}

#[cfg(test)]
mod tests;
