//! The findings for people: a table that fits in a hundred columns.

use unicode_width::UnicodeWidthStr;

use crate::platform::finding::Finding;

/// The widest line.
const WIDTH: usize = 100;
/// The narrowest column of details, however long the names are.
const LEAST: usize = 40;
/// The widest state, and the gap behind it.
const STATE: usize = 5;
const GAP: usize = 2;

/// Columns that line up, the fix below what is wrong, and how many of each there are.
pub(super) fn text(findings: &[Finding]) -> String {
    let names = findings.iter().map(|it| it.what.width()).max().unwrap_or(0).max("CHECK".len());
    let indent = names + GAP + STATE + GAP;
    let room = WIDTH.saturating_sub(indent).max(LEAST);
    let mut out = line(names, "CHECK", "STATE", "DETAIL");
    for found in findings {
        let state = match (found.ok, &found.fix) {
            (true, None) => "ok",
            (true, Some(_)) => "warn",
            (false, _) => "FAIL",
        };
        let mut lines = wrapped(&found.detail, room);
        if let Some(fix) = &found.fix {
            lines.extend(wrapped(&format!("fix: {fix}"), room));
        }
        let mut lines = lines.iter();
        let first = lines.next().map_or("", String::as_str);
        out.push_str(&line(names, &found.what, state, first));
        for rest in lines {
            out.push_str(&format!("{:indent$}{rest}\n", ""));
        }
    }
    let wrong = findings.iter().filter(|it| !it.ok).count();
    let better = findings.iter().filter(|it| it.ok && it.fix.is_some()).count();
    let fine = findings.len() - wrong - better;
    out.push_str(&format!("\n{fine} ok, {better} warn, {wrong} FAIL\n"));
    out
}

fn line(names: usize, what: &str, state: &str, detail: &str) -> String {
    let pad = " ".repeat(names.saturating_sub(what.width()) + GAP);
    let line = format!("{what}{pad}{state:STATE$}{:GAP$}{detail}", "");
    format!("{}\n", line.trim_end())
}

/// Words in lines no wider than `room`; a longer word has a line of its own.
fn wrapped(text: &str, room: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    // Names are strangers' text: nothing of it steers the terminal.
    let text: String = text.chars().filter(|c| c.is_whitespace() || !c.is_control()).collect();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.width() + 1 + word.width() > room {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.extend((!line.is_empty()).then_some(line));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_fits_in_a_hundred_columns() {
        let shown = text(&[
            Finding::fine("store", "/var/lib/herald"),
            Finding::fine("Slack token", "herald (U0HERALD) in Sandbox"),
            Finding::advice(
                "Slack scopes",
                "enough, but without: files:read, files:write",
                "add files:read, files:write under OAuth & Permissions, Bot Token Scopes, and reinstall the app to the workspace",
            ),
            Finding::fault(
                "telegram:-1001000000004",
                "the bot is not in the chat",
                "add it to the group, or to the channel as an administrator",
            ),
            Finding::fine("slack:C0EVIL", "evil\u{1b}[31m\nname"),
            Finding::fine("slack:C0ALERTS", "通知 チャンネル".repeat(12)),
        ]);
        insta::assert_snapshot!(shown);
        let widest = shown.lines().map(UnicodeWidthStr::width).max();
        assert!(widest <= Some(WIDTH), "{widest:?}");
    }
}
