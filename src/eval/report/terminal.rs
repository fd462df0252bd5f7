//! A report for a person to read in a terminal.

use std::collections::HashMap;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::Report;
use super::blocks::{self, Block, blocks};
use crate::issue::IssueId;

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

fn laid_out(content: &blocks::Table, width: u16) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(width)
        .set_header(&content.header);
    for row in &content.rows {
        table.add_row(row);
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
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
