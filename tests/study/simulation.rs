//! Corpora of known shares, a classifier of known confusion, gold drawn at random: how often intervals hold
//! the truth.

use faultlens::study::estimate::{Coefficient, Gold, Membership, Stratum, Tuning, Unlabelled, fit};
use faultlens::study::interval::wilson;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// Three repositories: their parts of the issues, and in each the labels' shares.
const REPOSITORIES: [(f64, [f64; 8]); 3] = [
    (
        0.5,
        [0.010, 0.020, 0.030, 0.050, 0.080, 0.140, 0.220, 0.450],
    ),
    (
        0.3,
        [0.010, 0.030, 0.010, 0.080, 0.050, 0.220, 0.140, 0.460],
    ),
    (
        0.2,
        [0.010, 0.010, 0.060, 0.020, 0.110, 0.060, 0.270, 0.460],
    ),
];
pub const LABELS: usize = 8;
/// How well the classifier tells labels apart: the distance of a label's evidence from the others' in
/// standard deviations. This gives kappa 0.75.
const EVIDENCE: f64 = 2.17;
/// It is less sure than it should be, as an uncalibrated model is.
const SHARPNESS: f64 = 0.7;

/// What became of one label's intervals in all repetitions.
#[derive(Clone, Copy, Default)]
pub struct Coverage {
    pub share: f64,
    /// In how many repetitions, as a share, the interval holds the truth: PPI++ with Wilson's interval,
    /// PPI++ with the normal one, gold alone (Wilson), classify-and-count (Wilson).
    pub estimate: f64,
    pub normal: f64,
    pub gold_alone: f64,
    pub counted: f64,
    /// The mean width of the first against that of gold alone.
    pub width: f64,
}

/// An issue's label, and the classifier's probabilities of each.
type Issue = (usize, [f64; LABELS]);
/// The intervals of each label, and the classifier's kappa.
type Outcome = ([Run; LABELS], f64);

/// Draws `repetitions` corpora of `issues` with `gold` gold issues. The second is the classifier's kappa.
pub fn simulate(issues: usize, gold: usize, repetitions: u64) -> (Vec<Coverage>, f64) {
    let runs: Vec<Outcome> = (0..repetitions)
        .into_par_iter()
        .map(|repetition| {
            let mut rng = ChaCha8Rng::seed_from_u64(gold as u64);
            rng.set_stream(repetition);
            run(&mut rng, issues, gold)
        })
        .collect();
    let mean = |of: &dyn Fn(&Outcome) -> f64| runs.iter().map(of).sum::<f64>() / repetitions as f64;
    let coverage = |label: usize| {
        let held = |of: fn(&Run) -> (f64, f64)| {
            mean(&|(run, _)| {
                let (low, high) = of(&run[label]);
                f64::from(low <= truth(label) && truth(label) <= high)
            })
        };
        let width =
            |of: fn(&Run) -> (f64, f64)| mean(&|(run, _)| of(&run[label]).1 - of(&run[label]).0);
        Coverage {
            share: truth(label),
            estimate: held(|run| run.estimate),
            normal: held(|run| run.normal),
            gold_alone: held(|run| run.gold_alone),
            counted: held(|run| run.counted),
            width: width(|run| run.estimate) / width(|run| run.gold_alone),
        }
    };
    (
        (0..LABELS).map(coverage).collect(),
        mean(&|(_, kappa)| *kappa),
    )
}

fn truth(label: usize) -> f64 {
    REPOSITORIES
        .iter()
        .map(|(part, shares)| part * shares[label])
        .sum()
}

#[derive(Clone, Copy, Default)]
struct Run {
    estimate: (f64, f64),
    normal: (f64, f64),
    gold_alone: (f64, f64),
    counted: (f64, f64),
}

fn run(rng: &mut ChaCha8Rng, issues: usize, gold: usize) -> Outcome {
    let part = |of: usize| REPOSITORIES.map(|(part, _)| (part * of as f64).round() as usize);
    let sizes = part(issues).into_iter().zip(part(gold)).zip(REPOSITORIES);
    let corpus: Vec<(f64, usize, Vec<Issue>)> = sizes
        .map(|((size, gold), (part, shares))| {
            let issues = (0..size).map(|_| draw(rng, &shares)).collect();
            (part, gold, issues)
        })
        .collect();
    let mut runs = [Run::default(); LABELS];
    let all = || corpus.iter().flat_map(|(_, _, issues)| issues);
    let total = all().count() as f64;
    for (label, run) in runs.iter_mut().enumerate() {
        let of = |label: f64| Membership { label, domain: 1.0 };
        let strata: Vec<Stratum> = corpus
            .iter()
            .map(|(part, gold, issues)| Stratum {
                share: *part,
                gold: issues[..*gold]
                    .iter()
                    .map(|(truth, predicted)| Gold {
                        truth: of(f64::from(*truth == label)),
                        predicted: of(predicted[label]),
                        weight: 1.0,
                        time: 0.0,
                    })
                    .collect(),
                unlabelled: issues[*gold..]
                    .iter()
                    .map(|(_, predicted)| Unlabelled {
                        predicted: of(predicted[label]),
                        time: 0.0,
                    })
                    .collect(),
            })
            .collect();
        let answer = |tuning| fit(&strata, Coefficient::Share, tuning).expect("there is gold");
        let (best, alone) = (answer(Tuning::Best), answer(Tuning::Fixed(0.0)));
        let half = 1.96 * best.normal_error;
        let counted = all()
            .filter(|(_, predicted)| first(predicted) == label)
            .count() as f64;
        *run = Run {
            estimate: best.share_interval(),
            normal: (best.value - half, best.value + half),
            gold_alone: alone.share_interval(),
            counted: wilson(counted / total, total),
        };
    }
    let right = all()
        .filter(|(truth, predicted)| first(predicted) == *truth)
        .count() as f64
        / total;
    let chance: f64 = (0..LABELS)
        .map(|label| {
            let predicted = all()
                .filter(|(_, predicted)| first(predicted) == label)
                .count() as f64;
            predicted / total * truth(label)
        })
        .sum();
    (runs, (right - chance) / (1.0 - chance))
}

fn draw(rng: &mut ChaCha8Rng, shares: &[f64; LABELS]) -> Issue {
    let mut left: f64 = rng.random();
    let truth = shares.iter().position(|share| {
        left -= share;
        left < 0.0
    });
    let truth = truth.unwrap_or(LABELS - 1);
    let mut scores = [0.0; LABELS];
    for (label, score) in scores.iter_mut().enumerate() {
        let shift = if label == truth {
            EVIDENCE * EVIDENCE
        } else {
            0.0
        };
        *score = (SHARPNESS * (self::truth(label).ln() + shift + EVIDENCE * normal(rng))).exp();
    }
    let sum: f64 = scores.iter().sum();
    (truth, scores.map(|score| score / sum))
}

fn first(predicted: &[f64; LABELS]) -> usize {
    (0..LABELS).fold(0, |best, label| match predicted[label] > predicted[best] {
        true => label,
        false => best,
    })
}

fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let (radius, angle): (f64, f64) = (rng.random(), rng.random());
    (-2.0 * (1.0 - radius).ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}
