//! Whether a model's probabilities are what they say.
//!
//! Probabilities count to four decimals, as files of predictions have them: a model gives the same
//! figures from memory and from a file, and of many answers there are few distinct sorts to resample.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::bootstrap::{TAIL, quantile};

/// Equal bins that the expected calibration error and the reliability curve have over `[0, 1]`.
pub const BINS: usize = 10;

/// A probability in ten-thousandths.
pub(crate) fn ten_thousandths(probability: f32) -> u32 {
    (f64::from(probability) * 1e4).round() as u32
}

/// The answers given with one probability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// In ten-thousandths.
    pub probability: u32,
    pub right: u64,
    pub wrong: u64,
}

impl Level {
    pub(super) fn count(&self) -> u64 {
        self.right + self.wrong
    }
}

/// The answers that fall into one bin.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct BinCounts {
    pub count: u64,
    pub right: u64,
    /// The sum of their probabilities, in ten-thousandths.
    sum: u64,
    /// The variance of `right` if the probabilities are as right as they say.
    variance: f64,
}

impl BinCounts {
    /// Their mean probability; `None` for an empty bin.
    pub fn confidence(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum as f64 / 1e4 / self.count as f64)
    }

    /// The share of them that is right; `None` for an empty bin.
    pub fn accuracy(&self) -> Option<f64> {
        (self.count > 0).then(|| self.right as f64 / self.count as f64)
    }
}

/// Sorts answers into [`BINS`] bins, each without its lower bound, the first with it.
pub(super) fn bins(levels: &[Level]) -> [BinCounts; BINS] {
    let mut bins = [BinCounts::default(); BINS];
    for level in levels {
        let bin = (level.probability as usize * BINS).div_ceil(10_000).max(1) - 1;
        let bin = &mut bins[bin];
        bin.count += level.count();
        bin.right += level.right;
        bin.sum += level.count() * u64::from(level.probability);
        let p = f64::from(level.probability) / 1e4;
        bin.variance += level.count() as f64 * p * (1.0 - p);
    }
    bins
}

/// The expected calibration error over [`BINS`] equal bins, `sum_b n_b / n |accuracy_b -
/// confidence_b|`, in `[0, 1]` (Naeini et al. 2015, Obtaining well calibrated probabilities using
/// Bayesian binning); `None` without answers.
pub fn expected_calibration_error(levels: &[Level]) -> Option<f64> {
    let bins = bins(levels);
    let n: u64 = bins.iter().map(|bin| bin.count).sum();
    // n_b cancels against the denominators of accuracy and confidence.
    let gaps = bins
        .iter()
        .map(|bin| (bin.right as f64 - bin.sum as f64 / 1e4).abs());
    (n > 0).then(|| gaps.sum::<f64>() / n as f64)
}

/// The 97.5 % quantile of the expected calibration error of such answers if their probabilities are as
/// right as they say: how many of a bin are right then is drawn from a normal distribution.
pub(super) fn error_by_chance(levels: &[Level], seed: u64) -> f64 {
    const DRAWS: usize = 10_000;
    let bins = bins(levels);
    let n: u64 = bins.iter().map(|bin| bin.count).sum();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut normal = || {
        // Box and Muller 1958.
        let (u, v): (f64, f64) = (rng.random(), rng.random());
        (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    };
    let mut errors: Vec<f64> = (0..DRAWS)
        .map(|_| {
            let gaps = bins.iter().map(|bin| bin.variance.sqrt() * normal().abs());
            gaps.sum::<f64>() / n.max(1) as f64
        })
        .collect();
    errors.sort_unstable_by(f64::total_cmp);
    quantile(&errors, 1.0 - TAIL)
}

/// The Brier score of one answer, `sum_k (p_k - [k is true])²`, in `[0, 2]` (Brier 1950, Verification
/// of forecasts expressed in terms of probability), from a distribution to four decimals.
pub fn brier(distribution: &[f32], truth: usize) -> f64 {
    let squares = distribution.iter().enumerate().map(|(label, &p)| {
        let p = f64::from(ten_thousandths(p)) / 1e4;
        (p - f64::from(u8::from(label == truth))).powi(2)
    });
    squares.sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::bootstrap::Bootstrap;

    fn level(probability: u32, right: u64, wrong: u64) -> Level {
        Level {
            probability,
            right,
            wrong,
        }
    }

    #[test]
    fn a_bin_has_its_upper_bound_and_the_first_both() {
        let of = |probability| {
            let bins = bins(&[level(probability, 1, 0)]);
            bins.iter().position(|bin| bin.count == 1).unwrap()
        };
        assert_eq!([0, 1, 1000].map(of), [0; 3]);
        assert_eq!([1001, 2000, 9000, 9001, 10_000].map(of), [1, 1, 8, 9, 9]);
    }

    #[test]
    fn answers_as_right_as_they_say_have_no_calibration_error() {
        assert_eq!(
            expected_calibration_error(&[level(7500, 3, 1), level(10_000, 2, 0)]),
            Some(0.0)
        );
        let error = expected_calibration_error(&[level(9500, 1, 1), level(3000, 0, 2)]);
        assert!((error.unwrap() - (0.45 + 0.3) / 2.0).abs() < 1e-12);
        assert_eq!(expected_calibration_error(&[]), None);
    }

    #[test]
    fn errors_within_a_bin_cancel_and_across_bins_do_not() {
        let error = |below| expected_calibration_error(&[level(below, 0, 2), level(5800, 2, 0)]);
        assert!((error(5200).unwrap() - 0.05).abs() < 1e-12);
        assert!((error(4200).unwrap() - 0.42).abs() < 1e-12);
    }

    #[test]
    fn the_brier_score_runs_from_certainty_in_the_truth_to_certainty_in_another_label() {
        assert_eq!(brier(&[0.0, 1.0], 1), 0.0);
        assert_eq!(brier(&[0.0, 1.0], 0), 2.0);
        assert!((brier(&[0.2, 0.5, 0.3], 1) - (0.04 + 0.25 + 0.09)).abs() < 1e-12);
    }

    /// How many of `draws` intervals for the calibration error of 400 answers hold the truth, where
    /// answers of probability `p` are right with probability `p^power`.
    fn held(power: f64, draws: u64) -> u64 {
        let probabilities: Vec<u32> = (0..25).map(|i| 4200 + 230 * i).collect();
        let says = |p: u32| f64::from(p) / 1e4;
        let mut gaps = [0.0; BINS];
        for &p in &probabilities {
            gaps[(p as usize * BINS).div_ceil(10_000) - 1] += says(p).powf(power) - says(p);
        }
        let truth = gaps.iter().map(|gap: &f64| gap.abs()).sum::<f64>() / 25.0;
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mut holds = |draw: u64| {
            let mut levels: Vec<Level> = probabilities.iter().map(|&p| level(p, 0, 0)).collect();
            for _ in 0..400 {
                let level = &mut levels[rng.random_range(0..25)];
                match rng.random::<f64>() < says(level.probability).powf(power) {
                    true => level.right += 1,
                    false => level.wrong += 1,
                }
            }
            let counts: Vec<u64> = levels.iter().flat_map(|l| [l.right, l.wrong]).collect();
            let bootstrap = Bootstrap {
                resamples: 500,
                seed: draw,
            };
            let resampled = bootstrap.resample(&counts, |counts| {
                let levels = levels.iter().zip(counts.chunks_exact(2));
                let levels: Vec<Level> = levels
                    .map(|(l, counts)| level(l.probability, counts[0], counts[1]))
                    .collect();
                vec![expected_calibration_error(&levels)]
            });
            let estimate = resampled.estimate_distance(0, error_by_chance(&levels, draw));
            estimate.low.unwrap() <= truth && truth <= estimate.high.unwrap()
        };
        (0..draws).filter(|&draw| holds(draw)).count() as u64
    }

    /// From probabilities that are right to ones far off.
    #[test]
    fn intervals_of_the_calibration_error_hold_the_truth_however_small_it_is() {
        let held = [1.0, 1.1, 1.3, 2.0].map(|power| held(power, 400));
        println!("of 400 intervals, these held the truth: {held:?}");
        for held in held {
            assert!((368..=400).contains(&held), "{held} of 400");
        }
    }
}
