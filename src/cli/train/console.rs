//! Shows how a training goes: a bar on a terminal, JSON lines of the epochs' metrics on standard output.

use std::io::Write;

use faultlens::train::Event;
use serde::Serialize;

use crate::cli::progress::Steps;

pub struct Console {
    steps: Steps,
}

impl Default for Console {
    fn default() -> Self {
        Self {
            steps: Steps::hidden(),
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
                self.end();
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
                self.steps = Steps::new(*steps, *done);
            }
            Event::Step { step, loss } => self.steps.advance(*step, *loss),
            Event::Validating => self.steps.bar.set_message("measuring"),
            Event::Epoch(metrics) => self.line(metrics),
            Event::CrossValidated(validated) => self.line(&super::cross_validated(validated)),
            Event::Improved(_) => {}
        }
    }

    /// Takes the bar away.
    pub fn end(&self) {
        self.steps.bar.finish_and_clear();
    }

    fn line(&self, value: &impl Serialize) {
        self.steps.bar.suspend(|| {
            let line = serde_json::to_string(value).unwrap_or_default();
            // A closed standard output is no reason to end a training.
            let _ = writeln!(std::io::stdout(), "{line}");
        });
    }
}
