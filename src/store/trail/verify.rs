//! Looks through all that is stored of the trail. Others may be writing it meanwhile.

use serde::Serialize;

use super::check::{Check, Finding, Keys, Names, Wrong};
use super::{Chain, Page, Trail};
use crate::store::StoreError;

/// So many rows are read at once.
const AT_ONCE: u32 = 500;
/// How often a chain is looked at anew because its beginning was taken away meanwhile.
const TRIES: u32 = 5;

/// What was looked at, and what was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How many chains.
    pub chains: u64,
    /// How many rows.
    pub rows: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// Looks at all chains, or at one.
///
/// # Errors
/// When the store cannot be read.
pub async fn verify(
    trail: &dyn Trail,
    keys: &Keys,
    only: Option<&str>,
) -> Result<Report, StoreError> {
    let mut report = Report::default();
    let chains = trail.chains().await?;
    let wanted = |id: &str| only.is_none_or(|only| only == id);
    let mut names = Names::default();
    for chain in chains.iter().filter(|chain| chain.base.n == 0) {
        if let Some(first) = trail.rows(&chain.id, Page::After(0), 1).await?.first() {
            names.add(first, keys);
        }
    }
    report.findings = names.gone(&chains);
    for id in trail.strays().await? {
        report.findings.push(Finding { chain: id, n: None, wrong: Wrong::Stray });
    }
    report.findings.retain(|finding| wanted(&finding.chain));
    for chain in chains.into_iter().filter(|chain| wanted(&chain.id)) {
        let (findings, rows) = one(trail, chain, keys, &names).await?;
        report.chains += 1;
        report.rows += rows;
        report.findings.extend(findings);
    }
    Ok(report)
}

async fn one(
    trail: &dyn Trail,
    mut chain: Chain,
    keys: &Keys,
    names: &Names,
) -> Result<(Vec<Finding>, u64), StoreError> {
    let mut last = Vec::new();
    for _ in 0..TRIES {
        let mut check = Check::stored(&chain, keys, names);
        let mut n = chain.base.n;
        loop {
            let rows = trail.rows(&chain.id, Page::After(n), AT_ONCE).await?;
            let Some(end) = rows.last().map(|row| row.n) else { break };
            rows.iter().filter(|row| row.n <= chain.n).for_each(|row| check.row(row, keys));
            n = end;
            if n >= chain.n {
                break;
            }
        }
        let (mut findings, rows) = check.end(&chain, keys);
        let beyond = trail.rows(&chain.id, Page::After(chain.n), 1).await?;
        let now = trail.chains().await?.into_iter().find(|it| it.id == chain.id);
        let Some(now) = now else {
            let gone = !findings.is_empty() && chain.base.n < chain.n;
            return Ok((if gone { findings } else { Vec::new() }, rows));
        };
        if !findings.is_empty() && now.base != chain.base {
            // Somebody takes rows away meanwhile, or pretends to.
            last = findings;
            chain = now;
            continue;
        }
        if let Some(row) = beyond.first().filter(|_| now.n <= chain.n) {
            let wrong = Wrong::Beyond { end: chain.n };
            findings.push(Finding { chain: chain.id, n: Some(row.n), wrong });
        }
        return Ok((findings, rows));
    }
    Ok((last, 0))
}
