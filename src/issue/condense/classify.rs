//! What each line of a body is: part of the report, or of a template, a dump, a log.

use super::clean::{self, Level};

/// What a kept line is to the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A sentence of the reporter's, or a heading of their own.
    Prose,
    /// Prose in a section that seldom matters: alternatives, related resources.
    Aside,
    /// The failure that ends a stack trace, e.g. `RuntimeError: CUDA error`.
    Exception,
    /// A line of a log or a compiler that says what failed.
    Error,
    /// A frame of a stack trace.
    Frame,
    /// The source line below a frame.
    Source,
    /// A command the reporter ran.
    Command,
    /// A short answer to a template's question, such as the back-end in use.
    Fact,
    /// Code, settings, other logs.
    Detail,
}

pub struct Line {
    pub kind: Kind,
    pub text: String,
}

/// The section a template's heading opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Section {
    #[default]
    Report,
    /// Check-lists before submitting.
    Checklist,
    /// Environment dumps.
    Environment,
    /// Short answers: operating system, back-ends, hardware, models.
    Facts,
    Aside,
}

/// Walks a body line by line, remembering where in it the walk is.
#[derive(Default)]
pub struct Walker {
    section: Section,
    fenced: bool,
    /// Inside an environment dump that began without a heading.
    dump: bool,
    /// The last line was a frame of a Python trace, or the source below one.
    after_frame: bool,
}

impl Walker {
    /// What the next line of the body is; `None`: nothing worth reading.
    pub fn classify(&mut self, raw: &str) -> Option<Line> {
        let after_frame = std::mem::take(&mut self.after_frame);
        let trimmed = raw.trim();
        if trimmed.starts_with("```") || trimmed.starts_with("~~~") {
            self.fenced = !self.fenced;
            self.dump = false;
            return None;
        }
        if !self.fenced
            && let Some(heading) = heading(trimmed)
        {
            return self.open_section(heading);
        }
        let tagged = trimmed.starts_with('<') && !trimmed.starts_with("<img");
        let line = if tagged && !self.fenced {
            if trimmed.starts_with("</details") {
                self.dump = false;
            }
            clean::line(&without_tags(trimmed))
        } else {
            clean::line(raw)
        };
        let text = line.text;
        if !text.chars().any(char::is_alphanumeric) {
            self.after_frame = after_frame; // `^^^^` below the source of a frame
            return None;
        }
        let lower = text.to_ascii_lowercase();
        if lower.starts_with("collecting environment information")
            || lower.starts_with("pytorch version:")
        {
            self.dump = true;
        }
        let failure = failure(&text, &lower, line.level);
        if self.is_noise(&text, &lower, failure.is_some()) {
            return None;
        }
        let indented = raw.starts_with([' ', '\t']);
        let kind = if let Some(frame) = frame(&text) {
            self.after_frame = true;
            return Some(Line {
                kind: Kind::Frame,
                text: frame,
            });
        } else if after_frame && indented && failure != Some(Kind::Exception) {
            self.after_frame = true;
            Kind::Source
        } else if is_command(&text) {
            Kind::Command
        } else if let Some(failure) = failure.filter(|&kind| {
            // A sentence that speaks of an error is prose; so is a list item.
            kind == Kind::Exception || self.fenced || line.level.is_some() || !is_sentence(&text)
        }) {
            failure
        } else if self.fenced || line.level.is_some() || is_log(&text) {
            Kind::Detail
        } else {
            match self.section {
                Section::Facts if text.len() <= 120 => Kind::Fact,
                Section::Environment | Section::Facts => Kind::Detail,
                Section::Aside => Kind::Aside,
                Section::Report | Section::Checklist if text.len() < 8 && !is_sentence(&text) => {
                    Kind::Detail
                }
                Section::Report | Section::Checklist => Kind::Prose,
            }
        };
        Some(Line { kind, text })
    }

    /// Enters the section of a template's heading; a heading of the reporter's own is prose.
    fn open_section(&mut self, heading: &str) -> Option<Line> {
        self.dump = false;
        let key: String = heading
            .chars()
            .filter(|c| c.is_alphanumeric() || *c == ' ')
            .collect::<String>()
            .trim()
            .to_lowercase();
        if let Some((_, section)) = SECTIONS.iter().find(|(known, _)| key.starts_with(known)) {
            self.section = *section;
            return None;
        }
        self.section = Section::Report;
        let text = clean::line(heading).text;
        (!text.is_empty()).then_some(Line {
            kind: Kind::Prose,
            text,
        })
    }

    fn is_noise(&self, text: &str, lower: &str, failure: bool) -> bool {
        let checkbox = ["- [ ]", "- [x]", "* [ ]", "* [x]"]
            .iter()
            .any(|b| lower.starts_with(b));
        if checkbox && (self.section == Section::Checklist || contains_any(lower, BOILERPLATE)) {
            return true;
        }
        let unlisted = lower.trim_start_matches(['-', '*', ' ']);
        if BOILERPLATE.iter().any(|known| unlisted.starts_with(known)) {
            return true;
        }
        if lower.ends_with("could not collect") {
            return true;
        }
        if failure {
            return false;
        }
        self.section == Section::Checklist
            || self.dump
            || (self.section == Section::Environment && self.fenced)
            || is_environment(text, lower)
            || is_loader_dump(lower)
            || is_progress(lower)
            || is_mostly_signs(text)
    }
}

/// Headings of the three projects' issue templates, lower-case letters only, by their beginnings.
const SECTIONS: &[(&str, Section)] = &[
    ("before submitting a new issue", Section::Checklist),
    ("checklist", Section::Checklist),
    ("prerequisites", Section::Checklist),
    ("your current environment", Section::Environment),
    ("environment", Section::Environment),
    ("operating systems", Section::Facts),
    ("what operating system", Section::Facts),
    ("ggml backends", Section::Facts),
    ("which llamacpp modules", Section::Facts),
    ("hardware", Section::Facts),
    ("models", Section::Facts),
    ("compile command", Section::Report),
    ("command line", Section::Report),
    ("name and version", Section::Environment),
    ("git commit", Section::Environment),
    ("first bad commit", Section::Facts),
    ("alternatives", Section::Aside),
    ("additional context", Section::Aside),
    ("related resources", Section::Aside),
    ("cc list", Section::Checklist),
    ("feedback period", Section::Checklist),
    ("any other things", Section::Aside),
    ("suggest a potential alternative", Section::Report),
    ("misc discussion on performance", Section::Report),
    ("report of performance regression", Section::Report),
    ("proposal to improve performance", Section::Report),
    ("anything you want to discuss", Section::Report),
    ("how would you like to use vllm", Section::Report),
    ("how you are installing vllm", Section::Report),
    ("model input dumps", Section::Environment),
    ("describe the bug", Section::Report),
    ("bug description", Section::Report),
    ("the doc issue", Section::Report),
    ("the feature motivation and pitch", Section::Report),
    ("the model to consider", Section::Report),
    ("the closest model vllm already supports", Section::Aside),
    ("whats your difficulty of supporting", Section::Aside),
    ("what happened", Section::Report),
    ("problem description", Section::Report),
    ("feature description", Section::Report),
    ("motivation", Section::Report),
    ("possible implementation", Section::Aside),
    ("proposed change", Section::Report),
    ("reproduction", Section::Report),
    ("steps to reproduce", Section::Report),
    ("expected behavior", Section::Report),
    ("current behavior", Section::Report),
    ("actual behavior", Section::Report),
    ("failure information", Section::Report),
    ("failure logs", Section::Report),
    ("relevant log output", Section::Report),
    ("research stage", Section::Checklist),
];

/// Sentences of the templates, lower-case, by their beginnings.
const BOILERPLATE: &[&str] = &[
    "_no response_",
    "no response",
    "please answer the following questions for yourself",
    "please provide a detailed written description",
    "please provide detailed information about your computer",
    "please provide detailed steps for reproducing",
    "please help provide information about the failure",
    "please include any relevant log snippets",
    "please copy and paste any relevant log output",
    "your output of `python collect_env",
    "the output of `python",
    "the output of python",
    "make sure you already searched",
    "already searched for relevant issues",
    "searched using keywords relevant",
    "i have searched related issues",
    "the bug has not been fixed in the latest",
    "please note that if the bug-related issue",
    "if the issue you raised is not a",
    "please use english, otherwise",
    "i am running the latest code",
    "i carefully followed the",
    "i reviewed the [discussions]",
    "physical (or virtual) hardware you are using",
    "operating system, e.g. for linux",
    "sdk version, e.g. for linux",
    "traceback (most recent call last)",
    "cuda kernel errors might be asynchronously reported",
    "for debugging consider passing cuda_launch_blocking",
    "compile with `torch_use_cuda_dsa`",
    "note: this error originates from a subprocess",
];

/// The words of a markdown heading. A comment of a script is one only outside of a fence.
fn heading(line: &str) -> Option<&str> {
    let words = line.trim_start_matches('#');
    let depth = line.len() - words.len();
    ((1..=6).contains(&depth) && words.starts_with(' ')).then(|| words.trim())
}

/// A line of markup without its tags.
fn without_tags(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('<') {
        kept.push_str(&rest[..start]);
        match rest[start..].find('>') {
            Some(length) => rest = &rest[start + length + 1..],
            None => break,
        }
        kept.push(' ');
    }
    kept.push_str(rest);
    kept
}

/// Whether and how a line says that something failed.
fn failure(text: &str, lower: &str, level: Option<Level>) -> Option<Kind> {
    // `package.module.SomeError: message`, at the end of a Python trace
    let name = text.split([':', '(']).next().unwrap_or(text).trim();
    if !name.contains(' ')
        && name.len() > 5
        && (name.ends_with("Error") || name.ends_with("Exception"))
    {
        return Some(Kind::Exception);
    }
    if level == Some(Level::Error) || contains_any(lower, FAILURES) {
        return Some(Kind::Error);
    }
    None
}

/// Words of failure in logs, lower-case. Short ones that occur inside others are left out.
const FAILURES: &[&str] = &[
    "error",
    "exception",
    "failed",
    "failure",
    "fatal",
    "abort",
    "assert",
    "segmentation fault",
    "segfault",
    "core dumped",
    "out of memory",
    "killed",
    "cannot ",
    "can't ",
    "could not ",
    "unable to",
    "not supported",
    "unsupported",
    "not found",
    "no module named",
    "undefined",
    "no such file",
    "invalid",
    "mismatch",
    "timeout",
    "timed out",
    "deadlock",
    "illegal",
    "panic",
    "denied",
    "refused",
    "unexpected",
    "not implemented",
    "no kernel image",
];

fn contains_any(text: &str, words: &[&str]) -> bool {
    words.iter().any(|word| text.contains(word))
}

/// `File "/a/b/c.py", line 7, in run` as `b/c.py in run`; a C++ frame without its address.
fn frame(text: &str) -> Option<String> {
    if let Some(rest) = text.strip_prefix("File \"") {
        let (path, rest) = rest.split_once('"')?;
        let function = rest
            .split_once(", in ")
            .map_or("", |(_, function)| function);
        let start = path.rmatch_indices('/').nth(1).map_or(0, |(at, _)| at + 1);
        return Some(format!("{} in {function}", &path[start..]));
    }
    let (number, rest) = text.strip_prefix('#')?.split_once(' ')?;
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let rest = rest.trim_start();
    let function = match rest.strip_prefix("0x") {
        Some(address) => address
            .split_once(" in ")
            .map_or(rest, |(_, function)| function),
        None => rest,
    };
    Some(function.to_owned())
}

fn is_command(text: &str) -> bool {
    const STARTS: &[&str] = &[
        "$ ",
        "> ./",
        "./",
        "python -m ",
        "python3 -m ",
        "python ",
        "python3 ",
        "pip install",
        "pip3 install",
        "vllm serve",
        "docker run",
        "docker build",
        "cmake ",
        "make ",
        "llama-",
        "CUDA_VISIBLE_DEVICES=",
        "torchrun ",
        "ray start",
        "git clone",
        "uv pip",
    ];
    STARTS.iter().any(|start| text.starts_with(start))
}

/// Several words of which most are plain.
fn is_sentence(text: &str) -> bool {
    let (mut words, mut plain) = (0, 0);
    for word in text.split(' ') {
        words += 1;
        let word = word.trim_matches(|c: char| c.is_ascii_punctuation());
        plain += usize::from(
            !word.is_empty()
                && word
                    .chars()
                    .all(|c| c.is_alphabetic() || c == '\'' || c == '-'),
        );
    }
    // Scripts without spaces have few words.
    (words >= 4 && plain * 10 >= words * 6)
        || text.chars().filter(|c| !c.is_ascii()).count() * 2 > text.chars().count()
}

/// `name: value` as loaders and servers print, outside of a fence.
fn is_log(text: &str) -> bool {
    text.split_once(": ")
        .is_some_and(|(name, _)| name.contains('_') && !name.contains(' '))
}

/// A line of collect_env, a list of packages, a topology or `nvidia-smi`.
fn is_environment(text: &str, lower: &str) -> bool {
    const STARTS: &[&str] = &[
        "[pip",
        "[conda]",
        "is debug build",
        "cuda used to build",
        "rocm used to build",
        "os:",
        "gcc version",
        "clang version",
        "cmake version",
        "libc version",
        "python version",
        "python platform",
        "is cuda available",
        "cuda available",
        "cuda runtime version",
        "cuda_module_loading",
        "gpu models and config",
        "nvidia driver",
        "cuda driver version",
        "cudnn version",
        "hip runtime",
        "miopen runtime",
        "is xnnpack",
        "cpu:",
        "architecture:",
        "cpu op-mode",
        "address sizes:",
        "byte order:",
        "cpu(s):",
        "on-line cpu",
        "vendor id",
        "model name:",
        "cpu family",
        "thread(s) per core",
        "core(s) per socket",
        "socket(s)",
        "stepping",
        "bogomips",
        "flags:",
        "virtualization",
        "l1d cache",
        "l1i cache",
        "l2 cache",
        "l3 cache",
        "numa node",
        "vulnerability ",
        "versions of relevant libraries",
        "vllm build flags",
        "cuda archs:",
        "gpu topology",
        "nvidia topology",
        "legend:",
        "nic legend",
        "cpu max mhz",
        "cpu min mhz",
        "cpu mhz",
        "ulimit soft",
        "neuron sdk",
        "rocm version:",
        "hypervisor vendor",
        "built with ",
        "sys = ",
        "phb = ",
        "pxb = ",
        "pix = ",
        "nv# = ",
        "node = ",
        "x = self",
    ];
    if STARTS.iter().any(|start| lower.starts_with(start)) || lower.contains("nvidia-smi ") {
        return true;
    }
    let mut words = text.split(' ');
    let (first, second, third) = (words.next().unwrap_or(""), words.next(), words.next());
    let is_version =
        |word: &str| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
    match (second, third) {
        // numpy==1.26.4
        (None, _) => first
            .split_once("==")
            .is_some_and(|(_, version)| is_version(version)),
        // numpy 1.26.4, numpy: 1.26.4
        (Some(version), None) => is_version(version) && version.len() >= 5 && !first.contains('='),
        // GPU0 X NV18 NV18 SYS
        (Some(_), Some(_)) => {
            let device = first.strip_prefix("GPU").or(first.strip_prefix("NIC"));
            device.is_some_and(|n| {
                !n.is_empty() && n.trim_end_matches(':').bytes().all(|b| b.is_ascii_digit())
            }) && contains_any(
                text,
                &[" X ", "NODE", "SYS", "PIX", "PHB", "NV1", "mlx5", "GPU1"],
            )
        }
    }
}

/// Metadata that llama.cpp prints of every model it loads.
fn is_loader_dump(lower: &str) -> bool {
    const STARTS: &[&str] = &[
        "llama_model_loader: - ",
        "llm_load_print_meta:",
        "print_info:",
        "llm_load_vocab:",
        "load: control token",
        "load_tensors: layer",
        "llama_model_load: n_",
        "llama_model_loader: dumping",
        "llama_model_loader: loaded meta",
        "llama_kv_cache_init: layer",
        "llama_kv_cache_unified: layer",
        "system_info:",
        "system info:",
        "llama_new_context_with_model: n_",
        "llama_new_context_with_model: freq",
        "llama_context: n_",
        "sampling:",
        "sampler ",
        "repeat_last_n",
        "ggml_cuda_init: ggml_cuda_force",
        "llama_print_timings:",
        "llama_perf_",
        "common_perf_print:",
        "main: seed",
        "main: build = ",
        "build: ",
    ];
    STARTS.iter().any(|start| lower.starts_with(start))
}

fn is_progress(lower: &str) -> bool {
    contains_any(lower, &["it/s", "s/it", "█", "━━", "% completed", "eta 0:"])
        && lower.contains(['%', '/'])
}

/// Hex dumps, rulers, tables of numbers.
fn is_mostly_signs(text: &str) -> bool {
    let (mut letters, mut signs) = (0usize, 0usize);
    for c in text.chars() {
        if c.is_alphabetic() {
            letters += 1;
        } else if c != ' ' {
            signs += 1;
        }
    }
    signs > 12 && letters * 3 < signs
}
