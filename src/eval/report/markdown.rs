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
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_control() {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::report::fixture::report;

    #[test]
    fn tables_have_pipes_and_numbers_to_the_right() {
        let markdown = markdown(&report());
        for line in [
            "## m (m-1a2b3c4d)\n",
            "| head | issues | accuracy | kappa | macro-F1 |\n|---|---:|---|---|---|\n| kind | 4 | 0.333 [0.100, 0.600] |",
            "| https://github.com/a/b/issues/2 | kind | bug | 0.100 | feature | 0.900 |",
        ] {
            assert!(markdown.contains(line), "{line:?} is not in\n{markdown}");
        }
    }

    #[test]
    fn a_name_cannot_break_a_table() {
        let mut report = report();
        report.models[0].groups[0].name = "a|b\n<i>".into();
        let markdown = markdown(&report);
        assert!(markdown.contains("| a\\|b \\<i> | kind |"), "{markdown}");
    }
}
