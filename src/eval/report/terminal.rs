//! A report for a person to read in a terminal.

use std::collections::HashMap;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::Report;
use super::blocks::{self, Block, blocks};
use crate::issue::IssueId;

/// Spaces between columns.
const GAP: u16 = 2;

/// Lays the report out in lines of at most `width` columns as far as tables allow. Wrong answers to
/// issues that `texts` has come with the text.
pub fn terminal(report: &Report, texts: &HashMap<IssueId, String>, width: u16) -> String {
    let mut out = String::new();
    for block in blocks(report, texts) {
        let text = match block {
            Block::Heading(1, _) => continue,
            Block::Heading(2, title) => format!("{title}\n{}", "=".repeat(title.chars().count())),
            Block::Heading(_, title) => format!("{title}:"),
            Block::Paragraph(text) => wrapped(&[text], width),
            Block::List(items) if items.is_empty() => continue,
            Block::List(items) => {
                let items: Vec<String> = items.iter().map(|item| format!("- {item}")).collect();
                wrapped(&items, width)
            }
            Block::Table(table) => laid_out(&table, width),
            Block::Text(line, text) => {
                let text = text.lines().map(|line| format!("  | {line}"));
                format!("{line}\n{}", text.collect::<Vec<_>>().join("\n"))
            }
        };
        out.push_str(&plain(&text));
        out.push_str("\n\n");
    }
    out.truncate(out.trim_end().len());
    out
}

fn wrapped(lines: &[String], width: u16) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(width);
    for line in lines {
        table.add_row([line]);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 0));
    }
    trimmed(&table)
}

/// A table in which intervals stand below their figures if there is no room beside them.
fn laid_out(content: &blocks::Table, width: u16) -> String {
    let room = (0..content.header.len()).map(|column| {
        let cells = content.rows.iter().chain([&content.header]);
        let widths = cells.map(|row| row[column].chars().count());
        widths.max().unwrap_or(0) + usize::from(GAP)
    });
    let fits = room.sum::<usize>() <= usize::from(width);
    let before_interval = if fits { " [" } else { "\n[" };
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(width)
        .set_header(&content.header);
    for row in &content.rows {
        table.add_row(row.iter().map(|cell| cell.replace(" [", before_interval)));
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, GAP));
        if content.is_numeric(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    trimmed(&table)
}

fn trimmed(table: &Table) -> String {
    let lines = table.lines().map(|line| line.trim_end().to_owned());
    lines.collect::<Vec<_>>().join("\n")
}

/// The text without the control characters by which it could take hold of the terminal.
fn plain(text: &str) -> String {
    text.chars()
        .filter(|&c| c == '\n' || !c.is_control())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::report::fixture::report;

    fn shown(texts: &HashMap<IssueId, String>, width: u16) -> String {
        terminal(&report(), texts, width)
    }

    #[test]
    fn figures_stand_with_their_intervals_under_headings() {
        let shown = shown(&HashMap::new(), u16::MAX);
        for line in [
            "m (m-1a2b3c4d)\n==============",
            "head                        issues  accuracy              kappa                 macro-F1",
            "category, where it applies       3  0.333 [0.100, 0.600]  0.333",
            "all heads right                  4  0.333 [0.100, 0.600]",
            "memory     2          1  0.333 [0.100, 0.600]   0.333   –",
            "a memory          1  ·  1",
            "- memory taken for none: 1",
            "- left out: 7 gold issues without a prediction (a/b#5, …)",
            "By repository:",
            "nothing is said of calibration",
        ] {
            assert!(shown.contains(line), "{line:?} is not in\n{shown}");
        }
        assert!(shown.lines().all(|line| line.trim_end() == line));
    }

    #[test]
    fn a_narrow_terminal_has_intervals_below_their_figures() {
        let shown = shown(&HashMap::new(), 80);
        assert!(
            shown.lines().all(|line| line.chars().count() <= 80),
            "{shown}"
        );
        let rows = "\
kind                     4  0.333           0.333           0.333
                            [0.100, 0.600]  [0.100, 0.600]  [0.100, 0.600]
";
        assert!(shown.contains(rows), "{shown}");
    }

    #[test]
    fn texts_stand_by_the_errors_and_cannot_reach_the_terminal() {
        let id = report().models[0].errors[0].issue.clone();
        let texts = HashMap::from([(id, "It fails\n\u{1b}[31mred".to_owned())]);
        let shown = shown(&texts, 80);
        assert!(
            shown.contains("a/b#2, kind: gold bug, predicted feature\n  | It fails\n  | [31mred"),
            "{shown}"
        );
    }
}
