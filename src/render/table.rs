//! A table as lines of aligned columns, for platforms that have none.

use unicode_width::UnicodeWidthStr as _;

use super::document::{Alignment, Table, Text};

/// A cell wider than this stands out of its column instead of widening it.
const WIDEST: usize = 40;

/// A table laid out: each line is complete but for its line end.
pub(super) struct Layout {
    /// The header and the line under it.
    pub header: String,
    /// The rows.
    pub rows: Vec<String>,
}

/// Lays a table out by the width at which a fixed-width font shows its characters.
pub(super) fn layout(table: &Table) -> Layout {
    let columns = table.rows.iter().map(Vec::len).max().unwrap_or(0).max(table.header.len());
    let mut widths = vec![1_usize; columns];
    for row in std::iter::once(&table.header).chain(&table.rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(words(cell).width()).min(WIDEST);
        }
    }
    let rule: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
    let header = format!("{}\n{}", line(&table.header, &widths, table), rule.join("─┼─"));
    Layout { header, rows: table.rows.iter().map(|row| line(row, &widths, table)).collect() }
}

/// A cell's words on one line.
fn words(cell: &Text) -> String {
    cell.text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn line(row: &[Text], widths: &[usize], table: &Table) -> String {
    let mut line = String::new();
    for (i, width) in widths.iter().enumerate() {
        // A short row ends early; its empty columns need no padding.
        let Some(cell) = row.get(i) else { break };
        if i > 0 {
            line.push_str(" │ ");
        }
        let words = words(cell);
        let space = width.saturating_sub(words.width());
        let left = match table.alignments.get(i) {
            Some(Alignment::Right) => space,
            Some(Alignment::Centre) => space / 2,
            _ => 0,
        };
        line.extend(std::iter::repeat_n(' ', left));
        line.push_str(&words);
        line.extend(std::iter::repeat_n(' ', space - left));
    }
    line.truncate(line.trim_end().len());
    line
}
