//! The taxonomy as a document that a study can publish.

use super::findings::{Findings, Interval, Label};
use crate::taxonomy::Taxonomy;

/// Every label with its definition and border rules and, of findings under this taxonomy, counts, estimated
/// shares and links to typical issues; in GitHub's Markdown.
pub fn document(taxonomy: &Taxonomy, findings: Option<&Findings>) -> String {
    let mut out = String::from("# Taxonomy\n");
    if let Some(note) = findings.and_then(|findings| findings.note.as_ref()) {
        out += &format!("\n{note}\n");
    }
    for head in &taxonomy.heads {
        out += &format!(
            "\n## {} (`{}`)\n\n{}\n",
            head.title,
            head.name,
            head.definition.trim()
        );
        if let Some(parent) = &head.applies_when {
            let on = &taxonomy.heads[parent.head];
            let labels = parent
                .labels
                .iter()
                .map(|&label| format!("`{}`", on.labels[label].name));
            let labels: Vec<String> = labels.collect();
            out += &format!(
                "\nApplies where `{}` is {}.\n",
                on.name,
                labels.join(" or ")
            );
        }
        let found =
            findings.and_then(|findings| findings.heads.iter().find(|h| h.head == head.name));
        for label in &head.labels {
            out += &format!(
                "\n### {} (`{}`)\n\n{}\n",
                label.title,
                label.name,
                label.definition.trim()
            );
            if !label.rules.is_empty() {
                out.push('\n');
            }
            for rule in &label.rules {
                out += &format!("- {}\n", rule.trim());
            }
            let found = found.and_then(|found| found.labels.iter().find(|l| l.label == label.name));
            if let Some(found) = found {
                out += &measured(found);
            }
        }
    }
    out
}

fn measured(label: &Label) -> String {
    let share = |estimate: Option<Interval>| match estimate {
        Some(Interval { value, low, high }) => {
            format!(
                "{:.1} % [{:.1}, {:.1}]",
                100.0 * value,
                100.0 * low,
                100.0 * high
            )
        }
        None => "–".to_owned(),
    };
    let mut out = String::from("\n| where | predicted | gold | share |\n|---|---:|---:|---|\n");
    let all = std::iter::once(("all", &label.share));
    let rows = all.chain(
        label
            .repositories
            .iter()
            .map(|(repo, shares)| (repo.as_str(), shares)),
    );
    for (name, shares) in rows {
        out += &format!(
            "| {name} | {} | {} | {} |\n",
            shares.counted,
            shares.gold_with_label,
            share(shares.estimate)
        );
    }
    if !label.typical.is_empty() {
        let links: Vec<String> = label
            .typical
            .iter()
            .map(|url| {
                let parts: Vec<&str> = url.rsplit('/').collect();
                format!("[{}#{}]({url})", parts[2], parts[0])
            })
            .collect();
        out += &format!("\nTypical: {}\n", links.join(", "));
    }
    out
}
