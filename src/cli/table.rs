//! Any table of texts and labels, CSV or Parquet, in place of issues and annotations.

use anyhow::{Result, anyhow, bail};
use clap::Args;
use faultlens::issue::Issue;
use faultlens::issue::read::{Corpus, ReadOptions, TableColumns};
use faultlens::taxonomy::Taxonomy;

use super::report_broken;

/// `--csv FILE --text title,body --label label`.
#[derive(Args)]
#[command(next_help_heading = "Any table")]
pub struct LabelledTable {
    /// Tables (CSV or Parquet) with texts and their labels, in place of issues and annotations
    #[arg(long, num_args = 1.., value_name = "FILE", requires = "text", requires = "label")]
    csv: Vec<String>,
    /// The columns that hold the text; of several the first is a title
    #[arg(long, value_delimiter = ',', value_name = "COLUMNS", requires = "csv")]
    text: Vec<String>,
    /// The column that holds the label
    #[arg(long, value_name = "COLUMN", requires = "csv")]
    label: Option<String>,
}

impl LabelledTable {
    pub fn is_given(&self) -> bool {
        !self.csv.is_empty()
    }

    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.csv.iter().map(String::as_str)
    }

    /// The rows that have a label.
    pub fn rows(&self) -> Result<Vec<(Issue, String)>> {
        let options = ReadOptions {
            table: Some(TableColumns {
                text: self.text.clone(),
                label: self.label.clone(),
            }),
            ..ReadOptions::default()
        };
        let corpus = Corpus::open(&self.csv, &options)?;
        report_broken(corpus.summary());
        let mut rows = Vec::new();
        let mut unlabelled = 0;
        for row in corpus.labelled_issues() {
            match row? {
                (issue, Some(label)) => rows.push((issue, label)),
                (_, None) => unlabelled += 1,
            }
        }
        if unlabelled > 0 {
            eprintln!("{unlabelled} rows have no label and are left out");
        }
        if rows.is_empty() {
            bail!("no row of {} has a label", self.csv.join(", "));
        }
        Ok(rows)
    }

    /// The taxonomy of the rows' labels, and the rows with their labels' indices. Labels of `known` stay.
    pub fn taxonomy(
        &self,
        rows: Vec<(Issue, String)>,
        known: Option<&Taxonomy>,
    ) -> Result<(Taxonomy, Vec<(Issue, usize)>)> {
        let column = self.label.as_deref().unwrap_or_default();
        let texts = rows.iter().map(|(_, label)| label.as_str());
        let (taxonomy, names) = Taxonomy::from_labels(column, texts, known)
            .map_err(|problem| anyhow!("{}: {problem}", self.csv.join(", ")))?;
        let rows = rows.into_iter().map(|(issue, text)| {
            let name = names.name(&text).expect("every text was given a name");
            let label = taxonomy.heads[0].label_index(name);
            (issue, label.expect("every name is a label"))
        });
        let rows = rows.collect();
        Ok((taxonomy, rows))
    }
}
