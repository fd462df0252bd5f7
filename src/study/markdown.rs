//! Findings for a README.

use super::findings::{Findings, Interval, Verdict};
use crate::eval::report::escaped;

/// The findings in GitHub's Markdown: remarks, claims, shares and ranks of every label.
pub fn markdown(findings: &Findings) -> String {
    let all = &findings.repositories[0];
    let mut out = String::from("# Findings\n\n");
    if let Some(note) = &findings.note {
        out += &format!("{}\n\n", escaped(note));
    }
    out += &format!(
        "{} issues of {} repositories{}. Made with {}.\n\n",
        all.issues,
        findings.repositories.len() - 1,
        findings
            .as_of
            .as_ref()
            .map_or(String::new(), |day| format!(", watched until {day}")),
        findings.created_with
    );
    if let Some(gold) = &findings.gold {
        out += &format!(
            "Shares are estimated from {} gold issues and the predictions of {} others; intervals are at 95 %, \
             each by itself.\n\n",
            gold.issues, gold.unlabelled
        );
    }
    for remark in &findings.remarks {
        out += &format!("- {}\n", escaped(remark));
    }
    if !findings.claims.is_empty() {
        out += "\n## Claims\n\n| claim | estimate | verdict | why |\n|---|---|---|---|\n";
    }
    for answer in &findings.claims {
        let estimate = match (&answer.quantity, answer.estimate) {
            (Some(quantity), Some(estimate)) => format!("{quantity} {}", figure(Some(estimate))),
            _ => "–".to_owned(),
        };
        out += &format!(
            "| {} | {estimate} | {} | {} |\n",
            escaped(&answer.text),
            verdict(answer.verdict),
            escaped(&answer.why)
        );
    }
    for head in &findings.heads {
        out += &format!("\n## {}\n\n", escaped(&head.title));
        if let Some(condition) = &head.applies_when {
            out += &format!("Shares of the issues whose {condition}.\n\n");
        }
        let repositories: Vec<&str> = findings
            .repositories
            .iter()
            .filter_map(|repo| repo.repo.as_deref())
            .collect();
        out += "| label | share | rank | gold alone | adjusted count | predicted |";
        for repo in &repositories {
            out += &format!(" {} |", escaped(repo));
        }
        out += &format!(
            "\n|---|---|---|---|---:|---:|{}\n",
            "---|".repeat(repositories.len())
        );
        for label in &head.labels {
            let rank = label
                .rank
                .map_or("–".to_owned(), |rank| match rank.best == rank.worst {
                    true => rank.best.to_string(),
                    false => format!("{} to {}", rank.best, rank.worst),
                });
            let number = |value: Option<f64>| value.map_or("–".to_owned(), |v| format!("{v:.3}"));
            out += &format!(
                "| {} | {} | {rank} | {} | {} | {} |",
                label.label,
                figure(label.share.estimate),
                figure(label.share.gold_alone),
                number(label.share.adjusted_count),
                number(label.share.classify_and_count),
            );
            for &repo in &repositories {
                let shares = label.repositories.get(repo);
                out += &format!(" {} |", figure(shares.and_then(|shares| shares.estimate)));
            }
            out.push('\n');
        }
        out += &differences(head);
        out += &trends(head);
    }
    out
}

fn differences(head: &super::findings::Head) -> String {
    let sure: Vec<_> = head
        .differences
        .iter()
        .filter(|found| found.p_holm < 0.05)
        .collect();
    if head.differences.is_empty() {
        return String::new();
    }
    let mut out = format!(
        "\n{} of {} differences between repositories hold after Holm's correction{}\n",
        sure.len(),
        head.differences.len(),
        if sure.is_empty() { "." } else { ":\n" }
    );
    for found in sure {
        out += &format!(
            "- {}: {} minus {}: {}\n",
            found.label,
            found.first,
            found.second,
            figure(Some(found.difference))
        );
    }
    out
}

fn trends(head: &super::findings::Head) -> String {
    let trends = head
        .labels
        .iter()
        .filter_map(|label| Some((&label.label, label.trend?)));
    let trends: Vec<_> = trends.collect();
    if trends.is_empty() {
        return String::new();
    }
    let sure: Vec<_> = trends
        .iter()
        .filter(|(_, trend)| trend.p_holm < 0.05)
        .collect();
    let mut out = format!(
        "\n{} of {} trends hold after Holm's correction{}\n",
        sure.len(),
        trends.len(),
        if sure.is_empty() { "." } else { ":\n" }
    );
    for (label, trend) in sure {
        out += &format!("- {label}: {} a year\n", figure(Some(trend.per_year)));
    }
    out
}

pub(super) fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Supported => "supported",
        Verdict::Refuted => "refuted",
        Verdict::Undecided => "undecided",
        Verdict::Undecidable => "undecidable",
    }
}

/// `0.123 [0.100, 0.150]`
fn figure(interval: Option<Interval>) -> String {
    interval.map_or("–".to_owned(), |Interval { value, low, high }| {
        format!("{value:.3} [{low:.3}, {high:.3}]")
    })
}
