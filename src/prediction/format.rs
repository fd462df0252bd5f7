//! What predictions files have in common: their three formats, and how labels and probabilities
//! stand in each.
//!
//! | | label of a head | of one that abstained | of one that does not apply |
//! |---|---|---|---|
//! | JSONL | its name | `null` | `"none"` |
//! | CSV | its name | empty | `none` |
//! | Parquet | its name | null | `none` |
//!
//! Probabilities have four decimals, so that files do not differ by what the last bits of `f32`
//! arithmetic make of another batch or machine; a distribution therefore sums to 1 within the
//! rounding. Heads and labels stand in the taxonomy's order.

use std::path::{Path, PathBuf};

use crate::prediction::HeadPrediction;
use crate::taxonomy::{Head, NONE, Taxonomy};

/// How a predictions file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Jsonl,
    Csv,
    Parquet,
}

/// The name of a file does not tell how to write predictions into it.
#[derive(Debug, thiserror::Error)]
#[error("{}: predictions go into a file that ends in .jsonl, .csv or .parquet", path.display())]
pub struct UnknownFormat {
    pub path: PathBuf,
}

impl Format {
    /// The format that the path's extension names, in either case.
    pub fn of(path: &Path) -> Result<Self, UnknownFormat> {
        let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
        match extension.to_str() {
            Some("jsonl") => Ok(Self::Jsonl),
            Some("csv") => Ok(Self::Csv),
            Some("parquet") => Ok(Self::Parquet),
            _ => Err(UnknownFormat { path: path.into() }),
        }
    }
}

/// The columns of CSV and Parquet.
pub(super) fn columns(taxonomy: &Taxonomy) -> Vec<String> {
    let heads = &taxonomy.heads;
    let mut columns = vec!["repo".to_owned(), "number".to_owned()];
    columns.extend(heads.iter().map(|head| head.name.clone()));
    columns.extend(
        heads
            .iter()
            .map(|head| format!("{}_probability", head.name)),
    );
    columns.extend(["abstained".to_owned(), "model".to_owned()]);
    for head in heads {
        columns.extend(outcomes(head).map(|outcome| format!("{}.{outcome}", head.name)));
    }
    columns
}

/// What is wrong with the columns of a file, if anything.
pub(super) fn column_difference(found: &[String], taxonomy: &Taxonomy) -> Option<String> {
    let expected = columns(taxonomy);
    let same = found
        .iter()
        .zip(&expected)
        .take_while(|(f, e)| f == e)
        .count();
    match (found.get(same), expected.get(same)) {
        (None, None) => None,
        (Some(found), Some(expected)) => Some(format!(
            "column {} is `{found}` where this model's heads and labels want `{expected}`",
            same + 1
        )),
        (None, Some(missing)) => Some(format!("the column `{missing}` is missing")),
        (Some(extra), None) => Some(format!("this model has no column `{extra}`")),
    }
}

/// What a head's distribution is over: its labels and, where it may not apply, [`NONE`].
pub(super) fn outcomes(head: &Head) -> impl Iterator<Item = &str> + Clone {
    let labels = head.labels.iter().map(|label| label.name.as_str());
    labels.chain(head.applies_when.is_some().then_some(NONE))
}

/// What a file says is the label of a head, `None` where the head abstained.
pub(super) fn written_label<'a>(
    taxonomy: &'a Taxonomy,
    head: usize,
    answer: &HeadPrediction,
) -> Option<&'a str> {
    (!answer.abstained).then(|| taxonomy.label_name(head, answer.label))
}

/// The names of the heads that abstained.
pub(super) fn abstained<'a>(
    taxonomy: &'a Taxonomy,
    answers: &'a [HeadPrediction],
) -> impl Iterator<Item = &'a str> + Clone {
    let heads = taxonomy.heads.iter().zip(answers);
    heads
        .filter(|(_, answer)| answer.abstained)
        .map(|(head, _)| head.name.as_str())
}

/// A probability as files have it, to four decimals.
pub(super) fn rounded(probability: f32) -> f64 {
    (f64::from(probability) * 1e4).round() / 1e4
}

/// What a file says of a head, its names not looked up yet.
pub(super) struct Written<'a> {
    /// `None`: abstained.
    pub label: Option<&'a str>,
    pub probability: f64,
    pub distribution: Vec<f64>,
}

/// The answers of all heads from what a file says of each, or what is wrong with them.
///
/// The label of a head that abstained is not written; it is taken to be the one a reader of the
/// distribution would choose: does not apply, if the earlier labels say so, else the most probable.
pub(super) fn answers<'a>(
    taxonomy: &Taxonomy,
    written: impl Fn(usize, &Head) -> Result<Written<'a>, String>,
) -> Result<Vec<HeadPrediction>, String> {
    let (mut answers, mut labels) = (Vec::new(), Vec::new());
    for (index, head) in taxonomy.heads.iter().enumerate() {
        let Written {
            label: name,
            probability,
            distribution,
        } = written(index, head)?;
        for p in distribution.iter().chain([&probability]) {
            if !(0.0..=1.0).contains(p) {
                return Err(format!("{p} of `{}` is no probability", head.name));
            }
        }
        let label = match name {
            None if !taxonomy.applies(index, &labels) => None,
            None => {
                (0..head.labels.len()).max_by(|&a, &b| distribution[a].total_cmp(&distribution[b]))
            }
            Some(NONE) if head.applies_when.is_some() => None,
            Some(name) => match head.labels.iter().position(|label| label.name == name) {
                None => return Err(format!("`{}` has no label `{name}`", head.name)),
                label => label,
            },
        };
        labels.push(label);
        answers.push(HeadPrediction {
            label,
            probability: probability as f32,
            distribution: distribution.into_iter().map(|p| p as f32).collect(),
            abstained: name.is_none(),
        });
    }
    Ok(answers)
}

/// The answers of all heads from a record of CSV or Parquet: `label` and `number` give what stands
/// in a column.
pub(super) fn answers_of_columns<'a>(
    taxonomy: &Taxonomy,
    label: impl Fn(usize) -> Option<&'a str>,
    number: impl Fn(usize) -> Result<f64, String>,
) -> Result<Vec<HeadPrediction>, String> {
    answers(taxonomy, |index, head| {
        let earlier = &taxonomy.heads[..index];
        let first = model_column(taxonomy) + 1;
        let first = first
            + earlier
                .iter()
                .map(|head| outcomes(head).count())
                .sum::<usize>();
        let distribution = (first..)
            .zip(outcomes(head))
            .map(|(column, _)| number(column));
        Ok(Written {
            label: label(2 + index),
            probability: number(2 + taxonomy.heads.len() + index)?,
            distribution: distribution.collect::<Result<_, _>>()?,
        })
    })
}

/// Where among the columns the model's name is.
pub(super) fn model_column(taxonomy: &Taxonomy) -> usize {
    2 + 2 * taxonomy.heads.len() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_tells_the_format() {
        assert_eq!(
            Format::of(Path::new("a/labels.jsonl")).unwrap(),
            Format::Jsonl
        );
        assert_eq!(Format::of(Path::new("labels.CSV")).unwrap(), Format::Csv);
        assert_eq!(
            Format::of(Path::new("labels.v2.parquet")).unwrap(),
            Format::Parquet
        );
    }

    #[test]
    fn any_other_extension_is_refused_and_the_three_are_named() {
        for path in ["labels.json", "labels", "labels.parquet.partial", ".csv"] {
            let error = Format::of(Path::new(path)).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("{path}: predictions go into a file that ends in .jsonl, .csv or .parquet")
            );
        }
    }

    #[test]
    fn probabilities_lose_the_noise_of_f32() {
        assert_eq!(rounded(0.1 + 0.2).to_string(), "0.3");
        assert_eq!(rounded(0.93).to_string(), "0.93");
        assert_eq!(rounded(0.000_04), 0.0);
        assert_eq!(rounded(1.0), 1.0);
    }
}
