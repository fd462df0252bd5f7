//! CSV with a header line.

use std::io::{self, ErrorKind, Read};

use csv::{ByteRecord, Error, Position, Reader};

use super::columns::{self, Columns, Wanted};
use super::input::Entries;
use super::record::{Entry, Fault, Record};
use super::{MAX_RECORD_BYTES, Problem};

/// The rows of `input`.
pub(super) fn entries(
    input: impl Read + Send + 'static,
    wanted: Wanted<'_>,
) -> Result<Entries, Problem> {
    let mut reader = Reader::from_reader(Watch::new(input));
    let header = match reader.byte_headers() {
        Ok(header) => header.clone(),
        Err(error) => return Err(read_problem(error)),
    };
    let names = header
        .iter()
        .map(str::from_utf8)
        .collect::<Result<Vec<_>, _>>();
    let names = names.map_err(|_| Problem::Unrecognised)?;
    let found = || columns::list(names.iter().map(|name| name.to_string()));
    let columns = Columns::find(names.iter().copied(), wanted, |_, _| true, found)?;

    let mut row = ByteRecord::new();
    let mut given_up = false;
    Ok(Box::new(std::iter::from_fn(move || {
        if given_up {
            return None;
        }
        reader.get_mut().row_bytes = 0;
        let read = reader.read_byte_record(&mut row);
        let line = |position: Option<&Position>| position.map(Position::line);
        let (line, record) = match read {
            Ok(false) => return None,
            Ok(true) if reader.get_ref().ended_in_quotes() => {
                (line(row.position()), Err(Fault::CutByFile))
            }
            Ok(true) => (line(row.position()), parse(&row, &columns)),
            Err(error) => match error.kind() {
                csv::ErrorKind::UnequalLengths {
                    pos,
                    expected_len,
                    len,
                } => {
                    let cut = reader.get_ref().ended_in_quotes();
                    let fault = Fault::FieldCount {
                        expected: *expected_len,
                        found: *len,
                    };
                    (
                        line(pos.as_ref()),
                        Err(if cut { Fault::CutByFile } else { fault }),
                    )
                }
                csv::ErrorKind::Io(error) if error.kind() == ErrorKind::FileTooLarge => {
                    given_up = true;
                    (line(Some(reader.position())), Err(Fault::TooLongToGoOn))
                }
                _ => {
                    given_up = true;
                    return Some(Err(read_problem(error)));
                }
            },
        };
        Some(Ok(Entry {
            line,
            byte: None,
            record,
        }))
    })))
}

fn read_problem(error: Error) -> Problem {
    match error.into_kind() {
        // A header without end is no header.
        csv::ErrorKind::Io(error) if error.kind() == ErrorKind::FileTooLarge => {
            Problem::Unrecognised
        }
        csv::ErrorKind::Io(error) => error.into(),
        kind => Problem::Io(io::Error::other(format!("{kind:?}"))),
    }
}

fn parse(row: &ByteRecord, columns: &Columns) -> Result<Record, Fault> {
    if columns
        .all()
        .any(|column| str::from_utf8(&row[column]).is_err())
    {
        return Err(Fault::NotUtf8);
    }
    let text = |column: usize| Some(String::from_utf8_lossy(&row[column]).into_owned());
    let number = columns
        .number
        .and_then(|column| str::from_utf8(&row[column]).ok())
        .and_then(|text| text.trim().parse().ok());
    Ok(columns.record(number, text))
}

/// Watches over what the CSV reader passes over: rows without end, and a quote left open.
struct Watch<R> {
    input: R,
    row_bytes: usize,
    at: At,
    ended: bool,
}

/// The place within a row.
enum At {
    FieldBegin,
    Plain,
    Quoted,
    /// After a quote within quotes, which is the last or the first of two.
    Quote,
}

impl<R> Watch<R> {
    fn new(input: R) -> Self {
        Self {
            input,
            row_bytes: 0,
            at: At::FieldBegin,
            ended: false,
        }
    }

    fn ended_in_quotes(&self) -> bool {
        self.ended && matches!(self.at, At::Quoted)
    }
}

impl<R: Read> Read for Watch<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.row_bytes > MAX_RECORD_BYTES {
            return Err(ErrorKind::FileTooLarge.into());
        }
        let count = self.input.read(buffer)?;
        self.row_bytes += count;
        self.ended = count == 0;
        for byte in &buffer[..count] {
            self.at = match (&self.at, byte) {
                (At::FieldBegin | At::Quote, b'"') => At::Quoted,
                (At::Quoted, b'"') => At::Quote,
                (At::Quoted, _) => At::Quoted,
                (_, b',' | b'\n' | b'\r') => At::FieldBegin,
                _ => At::Plain,
            };
        }
        Ok(count)
    }
}
