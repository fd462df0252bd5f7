//! How long issues stay open, those still open counted as censored.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::interval::Z;

/// A Kaplan–Meier curve (1958, Nonparametric estimation from incomplete observations).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Survival {
    /// Issues whose time is known.
    pub issues: usize,
    /// Those of them that were closed.
    pub closed: usize,
    /// The days after which half of the issues are closed; `None` where fewer ever are.
    pub median: Option<f64>,
    /// Its 95 % interval (Brookmeyer and Crowley 1982, on the log-log scale), open where a side is `None`.
    pub median_low: Option<f64>,
    pub median_high: Option<f64>,
    /// The curve: at most 120 of its steps.
    pub steps: Vec<Step>,
}

/// The share still open after some days.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    pub days: f64,
    pub open: f64,
    /// Greenwood's 95 % interval on the log-log scale.
    pub low: f64,
    pub high: f64,
}

const MOST_STEPS: usize = 120;

/// The curve of issues by their days open and whether they were closed then.
pub fn survival(mut times: Vec<(f64, bool)>) -> Survival {
    times.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut steps = Vec::new();
    let (mut open, mut greenwood) = (1.0, 0.0);
    let mut place = 0;
    while place < times.len() {
        let days = times[place].0;
        let at_risk = (times.len() - place) as f64;
        let mut closed = 0.0;
        while place < times.len() && times[place].0 == days {
            closed += f64::from(times[place].1);
            place += 1;
        }
        if closed == 0.0 {
            continue;
        }
        open *= 1.0 - closed / at_risk;
        greenwood += closed / (at_risk * (at_risk - closed));
        let (low, high) = interval(open, greenwood);
        steps.push(Step {
            days,
            open,
            low,
            high,
        });
    }
    let first = |of: fn(&Step) -> f64| steps.iter().find(|step| of(step) <= 0.5).map(|s| s.days);
    Survival {
        issues: times.len(),
        closed: times.iter().filter(|(_, closed)| *closed).count(),
        median: first(|step| step.open),
        median_low: first(|step| step.low),
        median_high: first(|step| step.high),
        steps: thinned(steps),
    }
}

/// Of `exp(-exp(x))`, `x` normal with the variance that Greenwood's sum gives.
fn interval(open: f64, greenwood: f64) -> (f64, f64) {
    if open <= 0.0 || open >= 1.0 {
        return (open, open);
    }
    let half = Z * greenwood.sqrt() / open.ln().abs();
    (open.powf(half.exp()), open.powf((-half).exp()))
}

fn thinned(steps: Vec<Step>) -> Vec<Step> {
    let last = steps.len().saturating_sub(1);
    if steps.len() <= MOST_STEPS {
        return steps;
    }
    // By what is left open rather than by days: most is closed early.
    let mut kept: Vec<Step> = Vec::new();
    for (place, step) in steps.into_iter().enumerate() {
        let moved = kept
            .last()
            .is_none_or(|before| before.open - step.open >= 1.0 / MOST_STEPS as f64);
        if moved || place == last {
            kept.push(step);
        }
    }
    kept
}
