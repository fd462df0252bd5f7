//! Cleaning of a single line: control codes, log prefixes, encoded data, markdown links.

use std::borrow::Cow;

/// A line without its wrapping.
pub struct Line {
    pub text: String,
    /// The log level its prefix gave.
    pub level: Option<Level>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Info,
    Warning,
    Error,
}

/// Longer lines are cut in the middle: the beginning says what it is, the end how it ended.
const MAX_CHARS: usize = 400;
const KEPT_AT_END: usize = 150;
/// A run of this many base64 characters without a break is data, not a word.
const MIN_ENCODED: usize = 80;

/// The body without its HTML comments. A comment that is never closed is text.
pub fn without_comments(body: &str) -> Cow<'_, str> {
    let mut kept = String::new();
    let mut rest = body;
    while let Some(start) = rest.find("<!--") {
        let Some(length) = rest[start..].find("-->") else {
            break;
        };
        kept.push_str(&rest[..start]);
        rest = &rest[start + length + 3..];
    }
    if kept.is_empty() && rest.len() == body.len() {
        return Cow::Borrowed(body);
    }
    kept.push_str(rest);
    Cow::Owned(kept)
}

/// Cleans one line of a body, or a title.
pub fn line(raw: &str) -> Line {
    // A progress bar or spinner overwrites its line: what was last on screen counts.
    let raw = raw.trim_end_matches('\r');
    let raw = raw.rsplit('\r').next().unwrap_or(raw);
    let plain = without_escapes(raw);
    let (rest, level) = without_log_prefix(plain.trim());
    let words = without_links(rest);
    let words = without_encoded(&words);
    let text = shorten(&words)
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    Line { text, level }
}

/// Removes ANSI escape sequences, also those whose escape character was lost on the way
/// (`[31m`, `[0;36m`), and other control characters.
fn without_escapes(text: &str) -> Cow<'_, str> {
    if text
        .bytes()
        .all(|b| b.is_ascii() && b != b'[' && !b.is_ascii_control())
    {
        return Cow::Borrowed(text);
    }
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let sequence = rest.strip_prefix('\u{1b}').unwrap_or(rest);
        let escaped = sequence.len() < rest.len();
        if let Some(arguments) = sequence.strip_prefix('[') {
            let end = arguments.find(|c: char| !c.is_ascii_digit() && c != ';' && c != '?');
            match end.map(|end| (end, arguments.as_bytes()[end])) {
                Some((end, code))
                    if (escaped && code.is_ascii_alphabetic()) || (end > 0 && code == b'm') =>
                {
                    rest = &arguments[end + 1..];
                    continue;
                }
                _ => {}
            }
        }
        if c == '\t' || ('\u{2500}'..='\u{257f}').contains(&c) {
            kept.push(' '); // tabs, and the frames that rich tracebacks draw
        } else if !c.is_control() {
            kept.push(c);
        }
        rest = &rest[c.len_utf8()..];
    }
    Cow::Owned(kept)
}

/// Removes what loggers put before a message: time, level, process, rank, source position.
fn without_log_prefix(text: &str) -> (&str, Option<Level>) {
    let mut rest = text;
    let mut level = None;
    loop {
        rest = rest.trim_start_matches([' ', '|']);
        let stripped = bracketed(rest).or_else(|| {
            let (word, tail) = rest.split_once(' ').unwrap_or((rest, ""));
            if let Some(found) = log_level(word) {
                // A level is one only if more of a prefix or a message follows it.
                level = level.or(Some(found));
                return (!tail.is_empty()).then_some(tail);
            }
            (is_time(word) || is_position(word)).then_some(tail)
        });
        match stripped {
            Some(tail) if !tail.is_empty() => rest = tail,
            Some(_) => return ("", level),
            None => break,
        }
    }
    // The sign between prefix and message, only where there was a prefix.
    if rest.len() < text.len() {
        rest = rest.trim_start_matches(['-', ':', ' ']);
    }
    (rest, level)
}

/// The rest after `(Worker pid=7)`, `[2025-01-02 03:04:05 TP0]` or `[rank0]:` at the beginning.
fn bracketed(text: &str) -> Option<&str> {
    let close = match text.as_bytes().first()? {
        b'(' => ')',
        b'[' => ']',
        _ => return None,
    };
    let end = text.find(close).filter(|&end| end <= 80)?;
    let inner = &text[1..end];
    let is_prefix = if close == ')' {
        inner.contains("pid=")
    } else {
        inner.starts_with("rank")
            || is_time(inner.split(' ').next()?)
            || is_position(&text[1..end + 1])
    };
    is_prefix.then(|| text[end + 1..].trim_start_matches(':'))
}

fn log_level(word: &str) -> Option<Level> {
    match word.trim_matches([':', '[', ']']) {
        "INFO" | "DEBUG" | "TRACE" => Some(Level::Info),
        "WARNING" | "WARN" => Some(Level::Warning),
        "ERROR" | "CRITICAL" | "FATAL" => Some(Level::Error),
        _ => None,
    }
}

/// `06-21`, `21:40:02.123`, `2025-01-02T03:04:05Z`.
fn is_time(word: &str) -> bool {
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    let separators = word
        .bytes()
        .filter(|b| matches!(b, b':' | b'-' | b'/'))
        .count();
    digits >= 4
        && separators >= 1
        && word
            .bytes()
            .all(|b| b.is_ascii_digit() || b":-/.,TZ+".contains(&b))
}

/// `llm_engine.py:59]`.
fn is_position(word: &str) -> bool {
    word.strip_suffix(']')
        .and_then(|w| w.rsplit_once(':'))
        .is_some_and(|(file, line)| {
            file.contains('.') && !line.is_empty() && line.bytes().all(|b| b.is_ascii_digit())
        })
}

/// Markdown images vanish, links keep their words, bare addresses their last part.
fn without_links(text: &str) -> Cow<'_, str> {
    if !text.contains("](") && !text.contains("://") && !text.contains("<img") {
        return Cow::Borrowed(text);
    }
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some((words, length)) = markdown_link(rest) {
            kept.push_str(words);
            rest = &rest[length..];
        } else if rest.starts_with("http://") || rest.starts_with("https://") {
            let end = rest
                .find([' ', ')', '>', '"', '\'', ']'])
                .unwrap_or(rest.len());
            kept.push_str(address_words(&rest[..end]));
            rest = &rest[end..];
        } else if rest.starts_with("<img") {
            rest = rest.find('>').map_or("", |end| &rest[end + 1..]);
        } else {
            kept.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    Cow::Owned(kept)
}

/// The words of `[words](address)` at the beginning (none for an image), and its length.
fn markdown_link(text: &str) -> Option<(&str, usize)> {
    let image = text.starts_with('!');
    let start = usize::from(image) + 1;
    text[start - 1..].strip_prefix('[')?;
    // Bounded searches: a line of 50,000 brackets is not to be searched 50,000 times.
    let within = |from: usize, length: usize| &text[from..floor_boundary(text, from + length)];
    let words = within(start, 200).find("](")? + start;
    let end = within(words, 600).find(')')? + words;
    // `a[i](b) [c](d)`: the words of a link hold no bracket of their own.
    let inner = &text[start..words];
    (!inner.contains('[')).then_some((if image { "" } else { inner }, end + 1))
}

/// What an address says: the last part of its path, unless that is only a number or a hash.
fn address_words(address: &str) -> &str {
    let path = address.split_once("://").map_or("", |(_, rest)| rest);
    let path = path
        .split(['?', '#'])
        .next()
        .unwrap_or("")
        .trim_end_matches('/');
    let last = path.rsplit('/').next().unwrap_or("");
    let telling =
        last.len() <= 60 && last.bytes().filter(u8::is_ascii_digit).count() * 3 < last.len();
    if telling { last } else { "" }
}

/// Replaces runs of base64 or the like by nothing.
fn without_encoded(text: &str) -> Cow<'_, str> {
    if text.len() < MIN_ENCODED {
        return Cow::Borrowed(text);
    }
    let is_data = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let run = rest.find(|c| !is_data(c)).unwrap_or(rest.len());
        // A long path is a run, too, but its parts are words.
        if run < MIN_ENCODED || rest[..run].split('/').all(|part| part.len() < 40) {
            kept.push_str(&rest[..run]);
        }
        rest = &rest[run..];
        let other = rest.find(is_data).unwrap_or(rest.len());
        kept.push_str(&rest[..other]);
        rest = &rest[other..];
    }
    Cow::Owned(kept)
}

fn shorten(text: &str) -> Cow<'_, str> {
    if text.len() <= MAX_CHARS {
        return Cow::Borrowed(text);
    }
    let head = floor_boundary(text, MAX_CHARS - KEPT_AT_END);
    let tail = floor_boundary(text, text.len() - KEPT_AT_END);
    Cow::Owned(format!("{} … {}", &text[..head], &text[tail..]))
}

/// The last character boundary at or before `index`.
fn floor_boundary(text: &str, index: usize) -> usize {
    (0..=index.min(text.len()))
        .rev()
        .find(|&i| text.is_char_boundary(i))
        .unwrap_or(0)
}
