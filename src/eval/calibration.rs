//! Whether a model's probabilities are what they say.
//!
//! Probabilities count to four decimals, as files of predictions have them: a model gives the same
//! figures from memory and from a file, and of many answers there are few distinct sorts to resample.

/// Equal bins that the expected calibration error and the reliability curve have over `[0, 1]`.
pub const BINS: usize = 10;

/// A probability in ten-thousandths.
pub(super) fn ten_thousandths(probability: f32) -> u32 {
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
}
