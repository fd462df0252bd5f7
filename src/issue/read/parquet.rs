//! Parquet, read in batches of rows.

use std::fs::File;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchReader};
use arrow::compute::cast;
use arrow::datatypes::{DataType, UInt64Type};
use arrow::error::ArrowError;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::Problem;
use super::columns::{self, Columns, Wanted};
use super::input::Entries;
use super::record::{Entry, Record};

/// Rows held in memory at once.
const BATCH_ROWS: usize = 256;

/// The rows of `file`.
pub(super) fn entries(file: File, wanted: Wanted<'_>) -> Result<Entries, Problem> {
    let failed = |error: parquet::errors::ParquetError| Problem::Parquet(error.to_string());
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(failed)?;
    let all = find(builder.schema().fields(), wanted)?;
    let projection = ProjectionMask::roots(builder.parquet_schema(), all.all());
    let reader = builder
        .with_projection(projection)
        .with_batch_size(BATCH_ROWS)
        .build()
        .map_err(failed)?;

    // Left with the wanted ones, the columns stand at other places.
    let columns = find(reader.schema().fields(), wanted)?;
    Ok(Box::new(reader.flat_map(move |batch| {
        let rows = batch.and_then(|batch| records(&batch, &columns));
        let (rows, error) = match rows {
            Ok(rows) => (rows, None),
            Err(error) => (Vec::new(), Some(Err(Problem::Parquet(error.to_string())))),
        };
        let entry = |record| {
            Ok(Entry {
                line: None,
                byte: None,
                record: Ok(record),
            })
        };
        rows.into_iter().map(entry).chain(error)
    })))
}

fn find(fields: &arrow::datatypes::Fields, wanted: Wanted<'_>) -> Result<Columns, Problem> {
    let is_usable = |name: &str, column: usize| match fields[column].data_type() {
        _ if matches!(wanted, Wanted::Named(_)) => true,
        kind if name == "number" => kind.is_integer(),
        kind if matches!(name, "created_at" | "closed_at") => is_text(kind) || kind.is_temporal(),
        kind if matches!(name, "comments" | "reactions") => is_text(kind) || kind.is_integer(),
        kind => is_text(kind),
    };
    let found = || {
        columns::list(
            fields
                .iter()
                .map(|field| format!("{} ({})", field.name(), field.data_type())),
        )
    };
    Columns::find(
        fields.iter().map(|field| field.name().as_str()),
        wanted,
        is_usable,
        found,
    )
}

/// A column whose cells are all null may have no type.
fn is_text(kind: &DataType) -> bool {
    match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

fn records(batch: &RecordBatch, columns: &Columns) -> Result<Vec<Record>, ArrowError> {
    // A negative number becomes null.
    let numbers = columns
        .number
        .map(|column| cast(batch.column(column), &DataType::UInt64))
        .transpose()?;
    let numbers = numbers
        .as_ref()
        .map(|numbers| numbers.as_primitive::<UInt64Type>());
    let to_text = |(place, column): (usize, &ArrayRef)| {
        let is_number = columns.number == Some(place);
        (!is_number)
            .then(|| cast(column, &DataType::LargeUtf8))
            .transpose()
    };
    let texts: Vec<Option<ArrayRef>> = batch
        .columns()
        .iter()
        .enumerate()
        .map(to_text)
        .collect::<Result<_, _>>()?;
    let record = |row: usize| {
        let number = numbers.and_then(|n| n.is_valid(row).then(|| n.value(row)));
        columns.record(number, |column| {
            let texts = texts[column].as_ref()?.as_string::<i64>();
            texts.is_valid(row).then(|| texts.value(row).to_owned())
        })
    };
    Ok((0..batch.num_rows()).map(record).collect())
}
