//! A report for a README.

use std::collections::HashMap;

use super::Report;
use super::blocks::{self, Block, blocks};

/// The report in GitHub's Markdown. It never has the text of an issue.
pub fn markdown(report: &Report) -> String {
    let mut out = String::new();
    for block in blocks(report, &HashMap::new()) {
        let text = match block {
            Block::Heading(level, title) => format!("{} {}", "#".repeat(level), escaped(&title)),
            Block::Paragraph(text) => escaped(&text),
            Block::List(items) if items.is_empty() => continue,
            Block::List(items) => {
                let items: Vec<String> =
                    items.iter().map(|i| format!("- {}", escaped(i))).collect();
                items.join("\n")
            }
            Block::Table(table) => piped(&table),
            Block::Text(..) => continue,
        };
        out.push_str(&text);
        out.push_str("\n\n");
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

fn piped(table: &blocks::Table) -> String {
    let row = |cells: &[String]| {
        let cells: Vec<String> = cells.iter().map(|cell| escaped(cell)).collect();
        format!("| {} |", cells.join(" | "))
    };
    let rules = (0..table.header.len()).map(|column| match table.is_numeric(column) {
        true => "---:",
        false => "---",
    });
    let mut lines = vec![
        row(&table.header),
        format!("|{}|", rules.collect::<Vec<_>>().join("|")),
    ];
    lines.extend(table.rows.iter().map(|cells| row(cells)));
    lines.join("\n")
}

/// The text on one line, with the characters that Markdown would take for its own escaped.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_control() || c == '\u{a0}' {
            out.push(' ');
            continue;
        }
        if matches!(c, '\\' | '|' | '*' | '`' | '<') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}
