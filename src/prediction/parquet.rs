//! Predictions as a Parquet file, with the columns of CSV.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float32Array, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{Float32Type, UInt64Type};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::format::{
    abstained, answers_of_columns, column_difference, columns, model_column, outcomes, rounded,
    written_label,
};
use super::read::{Decoded, OneModel, ReadError};
use crate::issue::IssueId;
use crate::prediction::{HeadPrediction, Prediction};
use crate::taxonomy::Taxonomy;

/// How many rows are decoded in memory at a time, and how many a row group has.
const BATCH: usize = 1024;
const ROW_GROUP: usize = 64 * BATCH;

/// A Parquet file that grows by batches.
pub(super) struct Rows<'a> {
    writer: ArrowWriter<&'a File>,
    taxonomy: &'a Taxonomy,
    model: &'a str,
    batch: Vec<Prediction>,
}

impl<'a> Rows<'a> {
    pub fn new(file: &'a File, taxonomy: &'a Taxonomy, model: &'a str) -> io::Result<Self> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_max_row_group_row_count(Some(ROW_GROUP))
            .build();
        let schema = batch(&[], taxonomy, model).schema();
        let writer = ArrowWriter::try_new(file, schema, Some(properties))?;
        Ok(Self {
            writer,
            taxonomy,
            model,
            batch: Vec::new(),
        })
    }

    pub fn append(&mut self, prediction: Prediction) -> io::Result<()> {
        self.batch.push(prediction);
        if self.batch.len() == BATCH {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer
            .write(&batch(&self.batch, self.taxonomy, self.model))?;
        self.batch.clear();
        Ok(())
    }

    pub fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        self.writer.close()?;
        Ok(())
    }
}

fn batch(rows: &[Prediction], taxonomy: &Taxonomy, model: &str) -> RecordBatch {
    let numbers = |of: &dyn Fn(&HeadPrediction) -> f32, head: usize| -> (ArrayRef, bool) {
        let column = rows.iter().map(|row| rounded(of(&row.heads[head])) as f32);
        (Arc::new(Float32Array::from_iter_values(column)), false)
    };
    let heads = 0..taxonomy.heads.len();
    let repos = StringArray::from_iter_values(rows.iter().map(|row| &row.id.repo));
    let issues = UInt64Array::from_iter_values(rows.iter().map(|row| row.id.number));
    let abstained = rows.iter().map(|row| {
        abstained(taxonomy, &row.heads)
            .collect::<Vec<_>>()
            .join(";")
    });
    let models = StringArray::from_iter_values(rows.iter().map(|_| model));

    let mut arrays: Vec<(ArrayRef, bool)> =
        vec![(Arc::new(repos), false), (Arc::new(issues), false)];
    arrays.extend(heads.clone().map(|head| -> (ArrayRef, bool) {
        let labels = rows
            .iter()
            .map(|row| written_label(taxonomy, head, &row.heads[head]));
        (Arc::new(labels.collect::<StringArray>()), true)
    }));
    arrays.extend(
        heads
            .clone()
            .map(|head| numbers(&|answer| answer.probability, head)),
    );
    arrays.push((Arc::new(StringArray::from_iter_values(abstained)), false));
    arrays.push((Arc::new(models), false));
    for head in heads {
        let outcomes = outcomes(&taxonomy.heads[head]).enumerate();
        arrays.extend(outcomes.map(|(i, _)| numbers(&|answer| answer.distribution[i], head)));
    }
    let named = columns(taxonomy).into_iter().zip(arrays);
    RecordBatch::try_from_iter_with_nullable(named.map(|(name, (array, null))| (name, array, null)))
        .expect("columns of equal length")
}

/// The predictions of a file, one after the other. Errors name the row as their line.
pub(super) fn read<'a>(
    path: &'a Path,
    taxonomy: &'a Taxonomy,
    model: &'a mut OneModel,
) -> Result<impl Iterator<Item = Result<Prediction, ReadError>> + 'a, ReadError> {
    let io = |error: io::Error| ReadError::Io {
        path: path.into(),
        source: error,
    };
    let at = |line: u64, reason: String| ReadError::Record {
        path: path.into(),
        line,
        reason,
    };

    let file = File::open(path).map_err(io)?;
    let reader =
        ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| io(error.into()))?;
    let found = reader.schema().clone();
    let names: Vec<_> = found
        .fields()
        .iter()
        .map(|field| field.name().clone())
        .collect();
    if let Some(reason) = column_difference(&names, taxonomy) {
        return Err(at(1, reason));
    }
    let expected = batch(&[], taxonomy, "").schema();
    for (found, expected) in found.fields().iter().zip(expected.fields()) {
        if found != expected {
            return Err(at(
                1,
                format!("the column `{}` has another type", found.name()),
            ));
        }
    }

    let batches = reader
        .with_batch_size(BATCH)
        .build()
        .map_err(|error| io(error.into()))?;
    let rows = batches.flat_map(move |batch| -> Vec<Result<Decoded, ReadError>> {
        match batch {
            Err(error) => vec![Err(io(io::Error::other(error)))],
            Ok(batch) => (0..batch.num_rows())
                .map(|row| decode(&batch, row, taxonomy).map_err(|reason| at(0, reason)))
                .collect(),
        }
    });
    Ok((1..).zip(rows).map(move |(line, row)| match row {
        Err(ReadError::Record { reason, .. }) => Err(at(line, reason)),
        Err(error) => Err(error),
        Ok(decoded) => model.check(decoded, path, line),
    }))
}

fn decode(batch: &RecordBatch, row: usize, taxonomy: &Taxonomy) -> Result<Decoded, String> {
    let text = |column: usize| {
        let array = batch.column(column).as_string::<i32>();
        array.is_valid(row).then(|| array.value(row))
    };
    let number = |column: usize| {
        Ok(f64::from(
            batch
                .column(column)
                .as_primitive::<Float32Type>()
                .value(row),
        ))
    };
    let required = |column| text(column).unwrap_or_default().to_owned();
    let heads = answers_of_columns(taxonomy, text, number)?;
    let number = batch.column(1).as_primitive::<UInt64Type>().value(row);
    let id = IssueId {
        repo: required(0),
        number,
    };
    Ok(Decoded {
        prediction: Prediction { id, heads },
        model: required(model_column(taxonomy)),
    })
}
