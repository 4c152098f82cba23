//! What the commands print. Only they may: stdout belongs to MCP while a server runs on it.

use std::io::{self, Write};

use serde::Serialize;
use unicode_width::UnicodeWidthStr;

use crate::model::Receipt;

/// Pretty JSON on stdout.
pub(super) fn json(value: &impl Serialize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)
}

/// Lines on stdout.
pub(super) fn text(text: &str) -> io::Result<()> {
    io::stdout().lock().write_all(text.as_bytes())
}

/// One line on stderr.
pub(super) fn complain(line: &str) {
    // There is nobody left to tell if stderr is gone.
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// An enum's snake-case name.
pub(super) fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

/// A receipt in one line, and its warnings.
pub(super) fn receipt(receipt: &Receipt) -> io::Result<()> {
    let mut line = format!("{} {}", word(&receipt.status), receipt.delivery_id);
    if let Some(link) = &receipt.permalink {
        line.push(' ');
        line.push_str(link);
    }
    if let (Some(reason), Some(hint)) = (receipt.reason, &receipt.hint) {
        line.push_str(&format!("\n{reason}: {hint}"));
    }
    for warning in &receipt.warnings {
        line.push_str(&format!("\nwarning: {warning}"));
    }
    line.push('\n');
    text(&line)
}

/// Columns that line up.
pub(super) struct Table<const N: usize>(Vec<[String; N]>);

impl<const N: usize> Table<N> {
    pub(super) fn new(heads: [&str; N]) -> Self {
        Self(vec![heads.map(str::to_owned)])
    }

    pub(super) fn row(&mut self, cells: [String; N]) {
        self.0.push(cells);
    }

    pub(super) fn print(&self) -> io::Result<()> {
        let mut widths = [0; N];
        for row in &self.0 {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.width().max(*width);
            }
        }
        let mut out = String::new();
        for row in &self.0 {
            let mut line = String::new();
            for (width, cell) in widths.iter().zip(row) {
                line.push_str(cell);
                line.push_str(&" ".repeat(width - cell.width() + 2));
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        text(&out)
    }
}
