//! Progress: bars on a terminal, and lines of a training elsewhere.

use std::io::IsTerminal;
use std::sync::Arc;

use hf_hub::progress::{DownloadEvent, ProgressEvent, ProgressHandler};
use indicatif::{ProgressBar, ProgressStyle};

/// A bar over `length` units, drawn on standard error if that is a terminal. `template` is indicatif's.
pub fn bar(length: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).expect("templates are literals");
    ProgressBar::new(length).with_style(style.progress_chars("━╸─"))
}

/// How far a training is, with its loss, smoothed: a bar on a terminal, elsewhere a line now and then.
pub struct Steps {
    pub bar: ProgressBar,
    interactive: bool,
    smoothed_loss: Option<f32>,
}

/// Steps between two lines.
const STEPS_PER_LINE: usize = 50;

impl Steps {
    /// Of `length` steps, `done` are done before.
    pub fn new(length: usize, done: usize) -> Self {
        let template = "{bar:30} step {pos}/{len}, loss {msg}, {eta} left";
        let bar = bar(length as u64, template).with_position(done as u64);
        bar.reset_eta();
        Self {
            bar,
            interactive: std::io::stderr().is_terminal(),
            smoothed_loss: None,
        }
    }

    /// Nothing to show yet.
    pub fn hidden() -> Self {
        Self {
            bar: ProgressBar::hidden(),
            interactive: true,
            smoothed_loss: None,
        }
    }

    /// A step is done, the `step`th of all.
    pub fn advance(&mut self, step: usize, loss: f32) {
        let smoothed = self
            .smoothed_loss
            .map_or(loss, |old| 0.95 * old + 0.05 * loss);
        self.smoothed_loss = Some(smoothed);
        self.bar.set_message(format!("{smoothed:.3}"));
        self.bar.set_position(step as u64);
        if !self.interactive && step.is_multiple_of(STEPS_PER_LINE) {
            let length = self.bar.length().unwrap_or(0);
            let left = self.bar.eta().as_secs();
            eprintln!("step {step}/{length}, loss {smoothed:.3}, {left} s left");
        }
    }
}

/// Draws the downloads of a model.
pub fn download() -> Arc<dyn ProgressHandler> {
    let bar = bar(
        0,
        "downloading {msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
    );
    Arc::new(Download { bar })
}

struct Download {
    bar: ProgressBar,
}

impl ProgressHandler for Download {
    fn on_progress(&self, event: &ProgressEvent) {
        match event {
            ProgressEvent::Download(DownloadEvent::Start { total_bytes, .. }) => {
                self.bar.set_length(*total_bytes);
                self.bar.set_position(0);
            }
            ProgressEvent::Download(DownloadEvent::Progress { files }) => {
                for file in files {
                    self.bar.set_message(file.filename.clone());
                    self.bar.set_position(file.bytes_completed);
                }
            }
            ProgressEvent::Download(DownloadEvent::AggregateProgress {
                bytes_completed, ..
            }) => self.bar.set_position(*bytes_completed),
            ProgressEvent::Download(DownloadEvent::Complete) => self.bar.finish_and_clear(),
            ProgressEvent::Upload(_) => {}
        }
    }
}
