//! Shows how a training goes: a bar on a terminal, JSON lines of the epochs' metrics on standard output.

use std::io::{IsTerminal, Write};

use faultlens::train::Event;
use indicatif::ProgressBar;
use serde::Serialize;

use crate::cli::progress;

pub struct Console {
    pub bar: ProgressBar,
    interactive: bool,
    smoothed_loss: Option<f32>,
}

impl Default for Console {
    fn default() -> Self {
        Self {
            bar: ProgressBar::hidden(),
            interactive: std::io::stderr().is_terminal(),
            smoothed_loss: None,
        }
    }
}

impl Console {
    pub fn show(&mut self, event: &Event<'_>) {
        match event {
            Event::Started {
                fold,
                training,
                held_out,
                steps,
                done,
            } => {
                self.bar.finish_and_clear();
                let what = match fold {
                    Some((fold, folds)) => format!("fold {fold} of {folds}: "),
                    None => String::new(),
                };
                let use_of_rest = match (fold, held_out) {
                    (_, 0) => String::new(),
                    (Some(_), _) => format!(", predicting {held_out}"),
                    (None, _) => format!(", validating on {held_out}"),
                };
                let resumed = match done {
                    0 => String::new(),
                    _ => format!(", {done} of them done before"),
                };
                eprintln!(
                    "{what}training on {training} issues{use_of_rest}, {steps} steps{resumed}"
                );
                let template = "{bar:30} step {pos}/{len}, loss {msg}, {eta} left";
                self.bar = progress::bar(*steps as u64, template).with_position(*done as u64);
                self.bar.reset_eta();
                self.smoothed_loss = None;
            }
            Event::Step { step, loss } => {
                let smoothed = self
                    .smoothed_loss
                    .map_or(*loss, |old| 0.95 * old + 0.05 * loss);
                self.smoothed_loss = Some(smoothed);
                self.bar.set_message(format!("{smoothed:.3}"));
                self.bar.set_position(*step as u64);
                if !self.interactive && step % 50 == 0 {
                    let total = self.bar.length().unwrap_or(0);
                    let left = self.bar.eta().as_secs();
                    eprintln!("step {step}/{total}, loss {smoothed:.3}, {left} s left");
                }
            }
            Event::Validating => self.bar.set_message("measuring"),
            Event::Epoch(metrics) => self.line(metrics),
            Event::CrossValidated(validated) => self.line(&super::cross_validated(validated)),
            Event::Improved(_) => {}
        }
    }

    fn line(&self, value: &impl Serialize) {
        self.bar.suspend(|| {
            let line = serde_json::to_string(value).unwrap_or_default();
            // A closed standard output is no reason to end a training.
            let _ = writeln!(std::io::stdout(), "{line}");
        });
    }
}
