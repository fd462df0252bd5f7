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
    Lines::read(title, body).within(budget)
}

/// An issue's lines, from which a text of any budget is put together.
pub struct Lines {
    title: String,
    /// Highest score first; among equals, the earlier line.
    candidates: Vec<Candidate>,
}

impl Lines {
    /// Scores the lines of a title and a body.
    pub fn read(title: &str, body: &str) -> Self {
        let mut candidates = candidates(body);
        candidates.sort_by(|a, b| {
            b.score
                .total_cmp(&a.score)
                .then(a.position.cmp(&b.position))
        });
        Self {
            title: clean::line(title).text,
            candidates,
        }
    }

    /// What [`condense`] gives.
    pub fn within(&self, budget: usize) -> String {
        // The estimate comes out about a tenth low on technical text.
        let mut room = (budget * 9 / 10).saturating_sub(estimate_tokens(&self.title));
        let mut kept: Vec<(usize, &str)> = Vec::new();
        for Candidate { position, text, .. } in &self.candidates {
            if room == 0 {
                break;
            }
            let tokens = estimate_tokens(text);
            if tokens <= room {
                room -= tokens;
                kept.push((*position, text));
            } else if room >= MIN_CUT_TOKENS {
                kept.push((*position, cut_to_tokens(text, room)));
                room = 0;
            }
        }
        kept.sort_by_key(|(position, _)| *position);
        let lines =
            std::iter::once(self.title.as_str()).chain(kept.into_iter().map(|(_, text)| text));
        lines
            .filter(|line| !line.is_empty())
            .collect::<Vec<_>>()
            .join("\n")
    }
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
                Class::Letter => ends_run || (run >= 8 && run.is_multiple_of(4)),
                Class::Digit => ends_run || run.is_multiple_of(2),
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn templates_checklists_and_environment_dumps_are_dropped() {
        let body = "<!-- please fill in\nthe form -->\n\
            ### Your current environment\n\n<details>\n<summary>The output of `python collect_env.py`</summary>\n\n\
            ```text\nCollecting environment information...\nPyTorch version: 2.4.0\nIs debug build: False\n\
            [pip3] numpy==1.26.4\nGPU 0: NVIDIA A100\n```\n</details>\n\n\
            ### 🐛 Describe the bug\n\nThe second request never returns.\n\n\
            ### Before submitting a new issue...\n\n- [x] Make sure you already searched for relevant issues.\n";
        assert_eq!(
            condense("[Bug]: hang", body, 128),
            "[Bug]: hang\nThe second request never returns."
        );
    }

    #[test]
    fn a_dump_without_a_heading_or_a_fence_is_dropped() {
        let body = "It crashes.\n[pip3] torch==2.4.0\nnumpy==1.26.4\nCPU(s):   64\nNUMA node(s): 2\n\
            GPU0  X  NV18  NV18  SYS\nVulnerability Meltdown: Not affected";
        assert_eq!(condense("t", body, 128), "t\nIt crashes.");
    }

    #[test]
    fn control_codes_progress_bars_and_encoded_data_are_dropped() {
        let encoded = "QUJD".repeat(100);
        let body = format!(
            "\u{1b}[31mERROR\u{1b}[0m something broke here\n\
             Loading: 10%|█ | 1/10 [00:01<00:09, 1.0s/it]\rLoading: 99%|███| 9/10 [00:09<00:01, 1.0s/it]\n\
             ![shot](data:image/png;base64,{encoded})\nafter {encoded} that"
        );
        assert_eq!(
            condense("t", &body, 128),
            "t\nsomething broke here\nafter that"
        );
    }

    #[test]
    fn a_trace_keeps_its_end_when_there_is_room_for_little() {
        let mut body = "Traceback (most recent call last):\n".to_owned();
        for i in 0..40 {
            body += &format!(
                "  File \"/usr/lib/python3/site-packages/pkg/module{i}.py\", line {i}, in step{}\n",
                "x".repeat(i)
            );
            body += "    return inner(call)\n";
        }
        body += "RuntimeError: CUDA error: no kernel image is available\n";
        let text = condense("Crash", &body, 48);
        assert!(
            text.ends_with("RuntimeError: CUDA error: no kernel image is available"),
            "{text}"
        );
        assert!(
            text.contains("pkg/module39.py") && !text.contains("module1.py"),
            "{text}"
        );
    }

    #[test]
    fn the_error_is_kept_where_a_long_report_would_crowd_it_out() {
        let report: String = (0..80)
            .map(|i| {
                format!(
                    "Some sentence number {i} {} about it.\n",
                    "so ".repeat(i % 7)
                )
            })
            .collect();
        let body = format!(
            "{report}\n```\nINFO 01-01 10:00:00 run.py:3] ok\nValueError: bad head size 80\n```\n"
        );
        assert!(condense("t", &body, 64).contains("ValueError: bad head size 80"));
    }

    #[test]
    fn lines_stand_in_the_order_they_were_written() {
        let body = "First this.\n```\nKeyError: 'a'\n```\nThen that happened to me.\n";
        assert_eq!(
            condense("t", body, 64),
            "t\nFirst this.\nKeyError: 'a'\nThen that happened to me."
        );
    }

    #[test]
    fn lines_that_differ_in_numbers_only_are_kept_once() {
        let body =
            "request 1 failed at step 10\nrequest 2 failed at step 11\nrequest 3 failed at step 12";
        assert_eq!(condense("t", body, 64), "t\nrequest 1 failed at step 10");
    }

    #[test]
    fn a_task_list_outside_of_the_template_is_kept() {
        let body = "### Prerequisites\n- [x] I am running the latest code.\n### Plan\n- [ ] port the scheduler to rust";
        assert_eq!(
            condense("t", body, 64),
            "t\nPlan\n- [ ] port the scheduler to rust"
        );
    }

    #[test]
    fn an_empty_body_leaves_the_title() {
        assert_eq!(condense("Only a title", "", 64), "Only a title");
        assert_eq!(condense("", "", 64), "");
    }

    #[test]
    fn chinese_text_is_kept() {
        let body = "服务器在运行一小时后崩溃，显存不足。";
        assert_eq!(condense("崩溃", body, 64), format!("崩溃\n{body}"));
    }

    proptest! {
        #[test]
        fn any_text_gives_a_text_within_its_budget(title in ".{0,60}", body in "(.{0,40}\n?){0,30}", budget in 1usize..200) {
            let text = condense(&title, &body, budget);
            let room = (budget * 9 / 10).max(estimate_tokens(&clean::line(&title).text));
            prop_assert!(estimate_tokens(&text) <= room, "{text}");
            prop_assert_eq!(text, condense(&title, &body, budget));
        }

        #[test]
        fn hostile_markup_does_no_harm(parts in prop::collection::vec(prop::sample::select(vec![
            "<!--", "-->", "```", "[", "](", ")", "![", "<", ">", "\u{1b}[", "m", "\r", "\n", "#", "File \"", "\", line 1, in ",
            "://", "http://", "é", "🐛", " ", "Error:", "- [x]", "</details>", "AAAA",
        ]), 0..80)) {
            condense("t", &parts.concat(), 64);
        }
    }
}
