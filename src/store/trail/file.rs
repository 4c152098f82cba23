//! The trail in files: each line with its hashes, so that it can be verified without the store.

use std::collections::BTreeMap;
use std::io::{self, BufRead};

use serde::Deserialize;

use super::check::{Check, Finding, Keys, Names, Wrong};
use super::{Report, Row};

/// The length of a hash.
const HASH: usize = 64;

impl Row {
    /// The line, with `prev` and `hash` as its last fields.
    #[must_use]
    pub fn with_hashes(&self) -> String {
        let line = self.line.strip_suffix('}').unwrap_or(&self.line);
        format!(r#"{line},"prev":"{}","hash":"{}"}}"#, self.prev, self.hash)
    }

    /// What [`Row::with_hashes`] wrote; `None` if it is not that.
    #[must_use]
    pub fn with_hashes_read(line: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Place {
            chain: String,
            n: u64,
        }
        let (rest, hash) = field(line.strip_suffix('}')?, "hash")?;
        let (rest, prev) = field(rest, "prev")?;
        let line = format!("{rest}}}");
        let Place { chain, n } = serde_json::from_str(&line).ok()?;
        Some(Self { chain, n, line, prev: prev.to_owned(), hash: hash.to_owned() })
    }
}

/// What stands before a last field that is a hash, and that.
fn field<'a>(text: &'a str, name: &str) -> Option<(&'a str, &'a str)> {
    let text = text.strip_suffix('"')?;
    let (rest, hash) = text.split_at_checked(text.len().checked_sub(HASH)?)?;
    let rest = rest.strip_suffix('"')?.strip_suffix(':')?;
    let rest = rest.strip_suffix('"')?.strip_suffix(name)?.strip_suffix('"')?.strip_suffix(',')?;
    Some((rest, hash))
}

/// Looks at files as one trail, in this order; `open` opens each, twice. Chains are looked at from where the files begin,
/// and whether one goes on after their end is known only where a later chain names it.
///
/// # Errors
/// When a file cannot be read.
pub fn verify_files<R: BufRead>(
    files: &[impl AsRef<std::path::Path>],
    keys: &Keys,
    only: Option<&str>,
    open: impl Fn(&std::path::Path) -> io::Result<R>,
) -> io::Result<Report> {
    let mut names = Names::default();
    for file in files {
        for line in open(file.as_ref())?.lines() {
            if let Some(row) = Row::with_hashes_read(&line?).filter(|row| row.n == 1) {
                names.add(&row, keys);
            }
        }
    }
    let mut report = Report::default();
    let mut checks = BTreeMap::<String, Check<'_>>::new();
    for file in files {
        for (number, line) in (1..).zip(open(file.as_ref())?.lines()) {
            let Some(row) = Row::with_hashes_read(&line?) else {
                let chain = format!("in {}", file.as_ref().display());
                report.findings.push(Finding { chain, n: Some(number), wrong: Wrong::Unreadable });
                continue;
            };
            if only.is_none_or(|only| only == row.chain) {
                let new = || Check::in_a_file(&row, keys, &names);
                checks.entry(row.chain.clone()).or_insert_with(new).row(&row, keys);
            }
        }
    }
    for check in checks.into_values() {
        let (findings, rows) = check.end_of_file(keys);
        report.chains += 1;
        report.rows += rows;
        report.findings.extend(findings);
    }
    Ok(report)
}
