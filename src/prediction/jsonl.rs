//! A prediction as a line of JSON, flat like an annotation's.

use std::collections::HashMap;

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

use super::format::{Written, abstained, answers, outcomes, rounded, written_label};
use super::read::{Decoded, Undecodable};
use crate::issue::IssueId;
use crate::prediction::Prediction;
use crate::taxonomy::Taxonomy;

/// Appends the prediction's line, newline included.
pub(super) fn encode(prediction: &Prediction, taxonomy: &Taxonomy, model: &str, out: &mut Vec<u8>) {
    let line = Line {
        prediction,
        taxonomy,
        model,
    };
    serde_json::to_writer(&mut *out, &line).expect("memory takes any line and every key is text");
    out.push(b'\n');
}

struct Line<'a> {
    prediction: &'a Prediction,
    taxonomy: &'a Taxonomy,
    model: &'a str,
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Line {
            prediction,
            taxonomy,
            model,
        } = self;
        let heads = taxonomy.heads.iter().zip(&prediction.heads);
        let probability = heads
            .clone()
            .map(|(head, answer)| (&head.name, rounded(answer.probability)));
        let distribution = heads.clone().map(|(head, answer)| {
            (
                &head.name,
                Entries(outcomes(head).zip(answer.distribution.iter().map(|&p| rounded(p)))),
            )
        });
        let abstained: Vec<_> = abstained(taxonomy, &prediction.heads).collect();

        let mut line = serializer.serialize_map(None)?;
        line.serialize_entry("repo", &prediction.id.repo)?;
        line.serialize_entry("number", &prediction.id.number)?;
        for (index, (head, answer)) in heads.enumerate() {
            line.serialize_entry(&head.name, &written_label(taxonomy, index, answer))?;
        }
        line.serialize_entry("probability", &Entries(probability))?;
        line.serialize_entry("distribution", &Entries(distribution))?;
        line.serialize_entry("abstained", &abstained)?;
        line.serialize_entry("model", model)?;
        line.end()
    }
}

/// A JSON object with its keys in this order, which `serde_json::Map` would sort.
struct Entries<I>(I);

impl<K: Serialize, V: Serialize, I: Iterator<Item = (K, V)> + Clone> Serialize for Entries<I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.clone())
    }
}

#[derive(Deserialize)]
struct Fields {
    repo: String,
    number: u64,
    probability: HashMap<String, f64>,
    distribution: HashMap<String, HashMap<String, f64>>,
    #[serde(rename = "abstained")]
    _abstained: Vec<String>,
    model: String,
    #[serde(flatten)]
    labels: HashMap<String, Option<String>>,
}

/// Reads a line back.
pub(super) fn decode(line: &[u8], taxonomy: &Taxonomy) -> Result<Decoded, Undecodable> {
    let fields: Fields = serde_json::from_slice(line).map_err(|error| Undecodable {
        reason: error
            .to_string()
            .replace(" at line 1 column ", " at column "),
        cut_off: error.is_eof(),
    })?;
    let unknown = |name: &String| !taxonomy.heads.iter().any(|head| head.name == *name);
    if let Some(name) = fields.labels.keys().find(|name| unknown(name)) {
        return Err(format!("this model has no head `{name}`").into());
    }

    let heads = answers(taxonomy, |_, head| {
        let missing = || format!("the head `{}` is missing", head.name);
        let label = fields.labels.get(&head.name).ok_or_else(missing)?;
        let probability = *fields.probability.get(&head.name).ok_or_else(missing)?;
        let given = fields.distribution.get(&head.name).ok_or_else(missing)?;
        let distribution: Option<Vec<_>> = outcomes(head)
            .map(|outcome| given.get(outcome).copied())
            .collect();
        match distribution {
            Some(distribution) if distribution.len() == given.len() => Ok(Written {
                label: label.as_deref(),
                probability,
                distribution,
            }),
            _ => Err(format!(
                "the distribution of `{}` is over other labels",
                head.name
            )),
        }
    })?;
    let id = IssueId {
        repo: fields.repo,
        number: fields.number,
    };
    Ok(Decoded {
        prediction: Prediction { id, heads },
        model: fields.model,
    })
}
