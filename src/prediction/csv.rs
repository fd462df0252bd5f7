//! A prediction as a line of CSV.
//!
//! Every record is one line, which is how a file that was cut off is found to be so: a name with a
//! line break in it is refused.

use csv::{ReaderBuilder, StringRecord, Writer};

use super::format::{
    abstained, answers_of_columns, column_difference, columns, model_column, rounded, written_label,
};
use super::read::{Decoded, Undecodable};
use crate::issue::IssueId;
use crate::prediction::Prediction;
use crate::taxonomy::Taxonomy;

/// The first line, newline included.
pub(super) fn header(taxonomy: &Taxonomy) -> Vec<u8> {
    line(columns(taxonomy))
}

/// The prediction's line, newline included.
pub(super) fn encode(prediction: &Prediction, taxonomy: &Taxonomy, model: &str) -> Vec<u8> {
    let answers = &prediction.heads;
    let number = |p: f32| rounded(p).to_string();
    let mut fields = vec![prediction.id.repo.clone(), prediction.id.number.to_string()];
    fields.extend(answers.iter().enumerate().map(|(head, answer)| {
        written_label(taxonomy, head, answer)
            .unwrap_or_default()
            .to_owned()
    }));
    fields.extend(answers.iter().map(|answer| number(answer.probability)));
    fields.push(abstained(taxonomy, answers).collect::<Vec<_>>().join(";"));
    fields.push(model.to_owned());
    fields.extend(
        answers
            .iter()
            .flat_map(|answer| &answer.distribution)
            .map(|&p| number(p)),
    );
    line(fields)
}

fn line(fields: Vec<String>) -> Vec<u8> {
    let mut writer = Writer::from_writer(Vec::new());
    writer
        .write_record(fields)
        .expect("memory takes any record");
    writer.into_inner().expect("memory takes any record")
}

/// Checks the first line of a file.
pub(super) fn decode_header(line: &[u8], taxonomy: &Taxonomy) -> Result<(), Undecodable> {
    let difference = record(line).map(|record| {
        let found: Vec<String> = record.iter().map(str::to_owned).collect();
        column_difference(&found, taxonomy)
    });
    match difference {
        Ok(None) => Ok(()),
        Ok(Some(reason)) | Err(reason) => Err(Undecodable {
            reason,
            cut_off: header(taxonomy).starts_with(line),
        }),
    }
}

/// Reads a line after the first back.
pub(super) fn decode(line: &[u8], taxonomy: &Taxonomy) -> Result<Decoded, Undecodable> {
    // The header has shown that the file is ours: whatever does not end is a record cut off.
    record(line)
        .and_then(|record| decode_record(&record, taxonomy))
        .map_err(|reason| Undecodable {
            reason,
            cut_off: true,
        })
}

fn decode_record(record: &StringRecord, taxonomy: &Taxonomy) -> Result<Decoded, String> {
    let columns = columns(taxonomy);
    if record.len() != columns.len() {
        return Err(format!(
            "{} fields where {} are wanted",
            record.len(),
            columns.len()
        ));
    }
    let number = |column: usize| {
        let text = &record[column];
        text.parse()
            .map_err(|_| format!("`{text}` of `{}` is not a number", columns[column]))
    };
    let label = |column: usize| Some(&record[column]).filter(|name| !name.is_empty());
    let id = IssueId {
        repo: record[0].to_owned(),
        number: record[1]
            .parse()
            .map_err(|_| format!("`{}` is no issue number", &record[1]))?,
    };
    let heads = answers_of_columns(taxonomy, label, number)?;
    let model = record[model_column(taxonomy)].to_owned();
    Ok(Decoded {
        prediction: Prediction { id, heads },
        model,
    })
}

fn record(line: &[u8]) -> Result<StringRecord, String> {
    let mut reader = ReaderBuilder::new().has_headers(false).from_reader(line);
    let mut record = StringRecord::new();
    match reader.read_record(&mut record) {
        Ok(true) => Ok(record),
        Ok(false) => Err("the line is empty".into()),
        // All that can be wrong in memory.
        Err(_) => Err("the line is not UTF-8".into()),
    }
}
