//! JSON and JSON Lines: a splitter that finds where records begin and end without reading a whole
//! list into memory, so that a broken record costs that record only.

use std::io::{self, BufRead};

use super::record::{Entry, Fault, Record};
use super::{MAX_RECORD_BYTES, Problem};

/// The records of `input`: a list of objects, an object with such a list under `items` or
/// `issues`, one object, or any of these one after another, a line each or not.
pub(super) fn entries(input: impl BufRead) -> impl Iterator<Item = Result<Entry, Problem>> {
    let mut splitter = Splitter::new(input);
    std::iter::from_fn(move || {
        let piece = splitter.next_piece().transpose()?;
        Some(piece.map_err(Problem::from).map(|piece| Entry {
            line: Some(piece.line),
            byte: Some(piece.byte),
            record: piece.end.and_then(|()| parse(&splitter.record)),
        }))
    })
}

fn parse(record: &[u8]) -> Result<Record, Fault> {
    let text = std::str::from_utf8(record).map_err(|_| Fault::NotUtf8)?;
    serde_json::from_str(text).map_err(|error| {
        let message = error.to_string();
        // The position within the record would be taken for one within the file.
        let reason = message
            .rsplit_once(" at line ")
            .map_or(message.as_str(), |(reason, _)| reason);
        Fault::Json(reason.to_owned())
    })
}

/// What is open around the current place.
#[derive(PartialEq)]
enum Open {
    List,
    /// An object that holds a list of records.
    Wrapper,
}

/// Lists this deep hold records (`gh api --slurp` gives a list of pages); deeper ones do not, so
/// that a file of brackets does not fill the memory.
const MAX_LISTS: usize = 16;

/// Where a record begins, and whether it is whole.
struct Piece {
    line: u64,
    byte: u64,
    end: Result<(), Fault>,
}

/// How the scan of an object ended.
enum Scan {
    Whole,
    /// The object turned out to be a wrapper whose list begins here.
    ListBegins,
    Cut(Fault),
}

struct Splitter<R> {
    input: R,
    /// The bytes of the current record, without those of a record that is too long.
    record: Vec<u8>,
    too_long: bool,
    /// The place of the next byte.
    line: u64,
    byte: u64,
    /// From the outside in.
    open: Vec<Open>,
    /// Whether an object outside all lists has been found to have a line of its own.
    by_line: bool,
}

impl<R: BufRead> Splitter<R> {
    fn new(input: R) -> Self {
        Self {
            input,
            record: Vec::new(),
            too_long: false,
            line: 1,
            byte: 0,
            open: Vec::new(),
            by_line: false,
        }
    }

    /// Moves to the next record, whose bytes are then in `self.record`.
    fn next_piece(&mut self) -> io::Result<Option<Piece>> {
        loop {
            // Byte order marks also stand where files were joined.
            self.keep_until(|byte| {
                !matches!(
                    byte,
                    b' ' | b'\t' | b'\r' | b'\n' | b',' | 0xef | 0xbb | 0xbf
                )
            })?;
            self.record.clear();
            self.too_long = false;
            let (line, byte) = (self.line, self.byte);
            let piece = |end| Ok(Some(Piece { line, byte, end }));

            let scan = match self.peek()? {
                None if self.open.is_empty() => return Ok(None),
                None => {
                    self.open.clear();
                    return piece(Err(Fault::UnclosedList));
                }
                Some(b'[') if self.open.len() < MAX_LISTS => {
                    self.keep(1)?;
                    self.open.push(Open::List);
                    continue;
                }
                Some(b']') if !self.open.is_empty() => {
                    self.keep(1)?;
                    self.open.pop();
                    if self.open.last() != Some(&Open::Wrapper) {
                        continue;
                    }
                    self.open.pop();
                    self.record.clear();
                    match self.object_rest()? {
                        Scan::Whole => continue,
                        Scan::Cut(Fault::CutByFile) => {
                            self.open.clear();
                            return piece(Err(Fault::UnclosedList));
                        }
                        scan => scan,
                    }
                }
                Some(b'{') => {
                    self.keep(1)?;
                    self.object_rest()?
                }
                Some(_) => self.not_an_object()?,
            };
            match scan {
                Scan::ListBegins => {
                    self.keep(1)?;
                    self.open.extend([Open::Wrapper, Open::List]);
                }
                Scan::Cut(fault) => {
                    if fault == Fault::CutByFile {
                        self.open.clear();
                    }
                    return piece(Err(fault));
                }
                Scan::Whole if self.too_long => return piece(Err(Fault::TooLong)),
                Scan::Whole if self.record.first() != Some(&b'{') => {
                    return piece(Err(Fault::NotAnObject));
                }
                Scan::Whole => {
                    self.by_line |= self.open.is_empty() && line == self.line;
                    return piece(Ok(()));
                }
            }
        }
    }

    /// Reads on from within an object to its end, or to the list that it wraps.
    fn object_rest(&mut self) -> io::Result<Scan> {
        let first_line = self.line;
        let outermost = self.open.is_empty();
        let mut depth = 1;
        loop {
            let stop = |byte| matches!(byte, b'"' | b'{' | b'}' | b'[' | b']' | b'\n');
            match self.keep_until(stop)? {
                None => return Ok(Scan::Cut(Fault::CutByFile)),
                Some(b'\n') if outermost && self.by_line => return Ok(Scan::Cut(Fault::CutByLine)),
                Some(b'[') if depth == 1 && ends_with_list_key(&self.record) => {
                    return Ok(Scan::ListBegins);
                }
                Some(b'{') if depth == 1 && begins_anew(&self.record) => {
                    return Ok(Scan::Cut(Fault::CutByLine));
                }
                Some(b'"') => {
                    // A string has no line break within: the line was cut off, if records have
                    // lines of their own.
                    let by_line = outermost && (self.by_line || self.line == first_line);
                    if let Some(fault) = self.string(by_line)? {
                        return Ok(Scan::Cut(fault));
                    }
                    continue;
                }
                Some(b'{' | b'[') => depth += 1,
                Some(b'}' | b']') => depth -= 1,
                Some(_) => {}
            }
            self.keep(1)?;
            if depth == 0 {
                return Ok(Scan::Whole);
            }
        }
    }

    /// Reads a string to its closing quote. Otherwise says what cut it.
    fn string(&mut self, by_line: bool) -> io::Result<Option<Fault>> {
        self.keep(1)?;
        loop {
            match self.keep_until(|byte| matches!(byte, b'"' | b'\\' | b'\n'))? {
                None => return Ok(Some(Fault::CutByFile)),
                Some(b'\n') if by_line => return Ok(Some(Fault::CutByLine)),
                Some(b'\\') => {
                    self.keep(1)?;
                    match self.peek()? {
                        None => return Ok(Some(Fault::CutByFile)),
                        Some(b'\n') => {}
                        Some(_) => self.keep(1)?,
                    }
                }
                Some(byte) => {
                    self.keep(1)?;
                    if byte == b'"' {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Reads past something that is no object: to the end of the line, or of the list's item.
    fn not_an_object(&mut self) -> io::Result<Scan> {
        let in_list = !self.open.is_empty();
        if in_list && self.peek()? == Some(b'"') {
            if self.string(false)?.is_some() {
                return Ok(Scan::Cut(Fault::CutByFile));
            }
        } else {
            self.keep(1)?;
        }
        let end = |byte| byte == b'\n' || in_list && matches!(byte, b',' | b']' | b'{');
        match self.keep_until(end)? {
            None if in_list => Ok(Scan::Cut(Fault::CutByFile)),
            _ => Ok(Scan::Whole),
        }
    }

    fn peek(&mut self) -> io::Result<Option<u8>> {
        Ok(self.input.fill_buf()?.first().copied())
    }

    /// Moves `count` bytes, which must be buffered, from the input to the record.
    fn keep(&mut self, count: usize) -> io::Result<()> {
        let bytes = &self.input.fill_buf()?[..count];
        self.line += bytes.iter().filter(|&&byte| byte == b'\n').count() as u64;
        self.byte += count as u64;
        if self.record.len() + count > MAX_RECORD_BYTES {
            self.too_long = true;
            self.record = Vec::new();
        }
        if !self.too_long {
            self.record.extend_from_slice(bytes);
        }
        self.input.consume(count);
        Ok(())
    }

    /// Moves bytes to the record up to the one that is to `stop`, which it returns: `None` at the
    /// end of the input.
    fn keep_until(&mut self, stop: impl Fn(u8) -> bool) -> io::Result<Option<u8>> {
        loop {
            let bytes = self.input.fill_buf()?;
            if bytes.is_empty() {
                return Ok(None);
            }
            match bytes.iter().position(|&byte| stop(byte)) {
                Some(count) => {
                    let byte = bytes[count];
                    self.keep(count)?;
                    return Ok(Some(byte));
                }
                None => {
                    let count = bytes.len();
                    self.keep(count)?;
                }
            }
        }
    }
}

/// Whether an object read so far, with nothing open within, ends with the key of a list of records.
fn ends_with_list_key(object: &[u8]) -> bool {
    let key = object
        .trim_ascii_end()
        .strip_suffix(b":")
        .map(<[u8]>::trim_ascii_end);
    let before = key.and_then(|key| {
        key.strip_suffix(br#""items""#)
            .or_else(|| key.strip_suffix(br#""issues""#))
    });
    // Anything else before the quote is part of a longer string.
    before.is_some_and(|before| matches!(before.trim_ascii_end().last(), Some(b'{' | b',')))
}

/// Whether an opening brace after this much of an object, at the beginning of a line and with
/// nothing open within the object, can only be that of the next record: no key begins with one.
fn begins_anew(object: &[u8]) -> bool {
    let line_begins = object.trim_ascii_end().len() < object.len()
        && object
            .iter()
            .rev()
            .take_while(|byte| byte.is_ascii_whitespace())
            .any(|&byte| byte == b'\n');
    line_begins && object.trim_ascii_end().last() != Some(&b':')
}
