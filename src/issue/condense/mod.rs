//! Condensing an issue's title and body to the few lines a small model has room for.
//!
//! Most of many bodies is not the report: templates, check-lists, environment dumps, loader logs.
//! [`condense`] walks the body once, drops those, and scores every other line by what it is: the
//! exception that ends a trace, the sentences, the command, the frames nearest to the failure. The
//! most telling lines that fit the budget are kept, in the order they were written. It is
//! deterministic and linear in the body's length, up to sorting the lines.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

mod classify;
mod clean;

use classify::{Kind, Walker};

/// The text a model reads of an issue: the title, then the most telling lines of the body, joined by
/// newlines, of about `budget` WordPiece tokens in all (an estimate: the tokenizer cuts to the token).
///
/// ```
/// use faultlens::issue::condense::condense;
/// let body = "### Your current environment\n```\n[pip3] torch==2.4.0\n```\nIt hangs after an hour.";
/// assert_eq!(condense("Server stuck", body, 64), "Server stuck\nIt hangs after an hour.");
/// ```
pub fn condense(title: &str, body: &str, budget: usize) -> String {
    let title = clean::line(title).text;
    // The estimate comes out about a tenth low on technical text.
    let mut room = (budget * 9 / 10).saturating_sub(estimate_tokens(&title));
    let mut candidates = candidates(body);
    // Highest score first; among equals, the earlier line.
    candidates.sort_by(|a, b| {
        b.score
            .total_cmp(&a.score)
            .then(a.position.cmp(&b.position))
    });

    let mut kept: Vec<(usize, String)> = Vec::new();
    for candidate in candidates {
        if room == 0 {
            break;
        }
        let tokens = estimate_tokens(&candidate.text);
        if tokens <= room {
            room -= tokens;
            kept.push((candidate.position, candidate.text));
        } else if room >= MIN_CUT_TOKENS {
            kept.push((
                candidate.position,
                cut_to_tokens(&candidate.text, room).to_owned(),
            ));
            room = 0;
        }
    }
    kept.sort_by_key(|(position, _)| *position);
    let lines = std::iter::once(title).chain(kept.into_iter().map(|(_, text)| text));
    lines
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join("\n")
}

/// A line cut to fewer tokens than this says too little to be worth its place.
const MIN_CUT_TOKENS: usize = 8;

/// A line that may be kept: where it stood, and how telling it is.
struct Candidate {
    position: usize,
    text: String,
    score: f32,
}

fn candidates(body: &str) -> Vec<Candidate> {
    let body = clean::without_comments(body);
    let mut walker = Walker::default();
    let mut seen = HashSet::new();
    let mut candidates: Vec<Candidate> = Vec::new();
    let mut scorer = Scorer::default();
    // Frames of the trace being read: they gain their scores from the failure that ends it.
    let mut frames: Vec<usize> = Vec::new();
    let mut source_wanted: Option<usize> = None;

    for (position, raw) in body.lines().enumerate() {
        let Some(line) = walker.classify(raw) else {
            continue;
        };
        if line.kind == Kind::Source {
            // The source line below a frame belongs to it: one line says both.
            if let Some(frame) = source_wanted.take() {
                let text = &mut candidates[frame].text;
                text.push_str(": ");
                text.push_str(&line.text);
            }
            continue;
        }
        source_wanted = None;
        if !seen.insert(without_digits(&line.text)) {
            continue;
        }
        let score = scorer.score(line.kind, &line.text);
        match line.kind {
            Kind::Frame => {
                frames.push(candidates.len());
                source_wanted = Some(candidates.len());
            }
            Kind::Exception | Kind::Error => {
                for (distance, frame) in frames.drain(..).rev().enumerate() {
                    candidates[frame].score = FRAME_SCORES.get(distance).copied().unwrap_or(0.1);
                }
            }
            _ => {}
        }
        candidates.push(Candidate {
            position,
            text: line.text,
            score,
        });
    }
    candidates
}

/// Scores of a trace's frames, from the one that failed outwards.
const FRAME_SCORES: [f32; 4] = [1.9, 1.4, 1.0, 0.7];

/// Scores fall with what was already read of the same kind, so that a long report does not crowd out
/// its error, nor a hundred errors the report.
#[derive(Default)]
struct Scorer {
    prose_tokens: usize,
    aside_tokens: usize,
    errors: usize,
    details: usize,
}

impl Scorer {
    fn score(&mut self, kind: Kind, text: &str) -> f32 {
        let falling = |start: f32, per_step: f32, steps: usize, floor: f32| {
            (start - per_step * steps as f32).max(floor)
        };
        match kind {
            Kind::Prose => {
                let score = falling(2.4, 0.006, self.prose_tokens, 0.9);
                self.prose_tokens += estimate_tokens(text);
                score
            }
            Kind::Aside => {
                let score = falling(1.4, 0.01, self.aside_tokens, 0.3);
                self.aside_tokens += estimate_tokens(text);
                score
            }
            Kind::Exception => {
                self.errors += 1;
                falling(2.9, 0.25, self.errors, 1.2)
            }
            Kind::Error => {
                self.errors += 1;
                falling(2.3, 0.2, self.errors, 0.8)
            }
            Kind::Command => 1.5,
            Kind::Fact => 1.6,
            Kind::Frame => 0.6,
            Kind::Detail => {
                self.details += 1;
                falling(0.7, 0.01, self.details, 0.1)
            }
            Kind::Source => 0.0,
        }
    }
}

/// A hash of the line that is the same for lines which differ in numbers only, such as a log's.
fn without_digits(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    for byte in text.bytes().filter(|b| !b.is_ascii_digit()) {
        byte.hash(&mut hasher);
    }
    hasher.finish()
}

/// About how many WordPiece tokens a text has: a letter run is a token and one more for each four
/// letters beyond four, digits two to a token, every other sign or ideograph its own.
fn estimate_tokens(text: &str) -> usize {
    token_ends(text).count()
}

/// The longest beginning of `text`, up to a whole word, of at most `tokens` estimated tokens.
fn cut_to_tokens(text: &str, tokens: usize) -> &str {
    let end = token_ends(text).take(tokens).last().unwrap_or(0);
    match text[..end].rfind(' ') {
        Some(space) if end < text.len() => &text[..space],
        _ => &text[..end],
    }
}

/// Byte offsets at which estimated tokens end.
fn token_ends(text: &str) -> impl Iterator<Item = usize> + '_ {
    let mut run = 0usize; // letters or digits of the run so far, with its class
    let mut class = Class::Space;
    let mut chars = text.char_indices().peekable();
    std::iter::from_fn(move || {
        loop {
            let (start, c) = chars.next()?;
            let now = Class::of(c);
            run = if now == class { run + 1 } else { 1 };
            class = now;
            let ends_run = chars.peek().is_none_or(|&(_, next)| Class::of(next) != now);
            let ends = match now {
                Class::Space => false,
                Class::Single => true,
                Class::Letter => ends_run || (run >= 8 && run % 4 == 0),
                Class::Digit => ends_run || run % 2 == 0,
            };
            if ends {
                return Some(start + c.len_utf8());
            }
        }
    })
}

#[derive(Clone, Copy, PartialEq)]
enum Class {
    Space,
    Letter,
    Digit,
    Single,
}

impl Class {
    fn of(c: char) -> Self {
        match c {
            _ if c.is_ascii_alphabetic() => Class::Letter,
            _ if c.is_ascii_digit() => Class::Digit,
            _ if c.is_whitespace() => Class::Space,
            // Ideographs and kana are tokens of their own; other alphabets run on.
            '\u{2e80}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}' | '\u{f900}'..='\u{faff}' => {
                Class::Single
            }
            _ if c.is_alphabetic() => Class::Letter,
            _ => Class::Single,
        }
    }
}
