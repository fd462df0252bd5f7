//! 95 % intervals by resampling issues.
//!
//! Every figure of an evaluation depends on issues only through how many of each sort there are: how
//! many have this truth and that prediction, say. A resample of `n` issues with replacement is then a
//! multinomial draw of the sorts' counts, which costs time in the number of sorts and not of issues.
//!
//! Intervals are Efron's bias-corrected percentiles (1981, Nonparametric standard errors and
//! confidence intervals; BCa without its acceleration). Over 10,000 samples of 400 issues from known
//! populations of four and of ten labels, 94.3 to 95.6 % of the intervals for accuracy, kappa,
//! macro-F1 and the F1 of each label hold the truth, down to labels of 2 % of the issues. Plain
//! percentiles held it in 92.3 to 94.9 %, BCa in 94.7 to 97.5 %.

use std::collections::HashMap;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::report::Estimate;

/// Part of the resamples that an interval leaves out at either side.
pub(super) const TAIL: f64 = 0.025;

/// A figure that is undefined in more than this part of the resamples has no interval.
const MOST_UNDEFINED: f64 = 0.05;

/// Resamples drawn one after the other from one stream of random numbers. Which stream depends on
/// the resample only, so that results do not depend on the number of threads.
const BLOCK: usize = 100;

/// How intervals are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bootstrap {
    /// Of each figure; with 0 there are no intervals.
    pub resamples: usize,
    pub seed: u64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self {
            resamples: 10_000,
            seed: 0,
        }
    }
}

impl Bootstrap {
    /// The figures that `measure` makes of `counts`, how many issues of each sort there are, with
    /// their intervals. `measure` gives the same number of figures for any counts, `None` where one is
    /// undefined; differences of figures are figures like any other, whose intervals are paired.
    ///
    /// An interval always includes the figure. There is none where the figure is undefined, is so in
    /// more than a twentieth of the resamples, or is the same in nearly all: it does vary from sample to
    /// sample, but resampling this one cannot show how much.
    pub fn estimate(
        &self,
        counts: &[u64],
        measure: impl Fn(&[u64]) -> Vec<Option<f64>> + Sync,
    ) -> Vec<Estimate> {
        self.resample(counts, measure).estimates()
    }

    /// As [`Bootstrap::estimate`], keeping what the figures are in each resample.
    pub(super) fn resample(
        &self,
        counts: &[u64],
        measure: impl Fn(&[u64]) -> Vec<Option<f64>> + Sync,
    ) -> Resampled {
        let resampler = Resampler::new(counts);
        let samples = (0..self.resamples.div_ceil(BLOCK))
            .into_par_iter()
            .flat_map_iter(|block| {
                let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
                rng.set_stream(block as u64);
                let mut drawn = vec![0; counts.len()];
                let size = BLOCK.min(self.resamples - block * BLOCK);
                let (resampler, measure) = (&resampler, &measure);
                (0..size).map(move |_| {
                    resampler.draw(&mut rng, &mut drawn);
                    measure(&drawn)
                })
            });
        Resampled {
            values: measure(counts),
            samples: samples.collect(),
        }
    }
}

/// Figures, and what they are in each resample.
pub(super) struct Resampled {
    values: Vec<Option<f64>>,
    samples: Vec<Vec<Option<f64>>>,
}

impl Resampled {
    fn estimates(&self) -> Vec<Estimate> {
        (0..self.values.len())
            .into_par_iter()
            .map(|figure| self.estimate(figure))
            .collect()
    }

    /// The figure at an index, with its bias-corrected percentile interval.
    pub fn estimate(&self, figure: usize) -> Estimate {
        self.estimate_with(figure, interval)
    }

    /// The figure at an index, which measures a distance: it is above 0 in a sample even where it is 0
    /// in truth, and resampling adds to it once more. Percentiles are taken without that bias, and the
    /// interval begins at 0 unless the figure is above `by_chance`, its 97.5 % quantile where it is 0
    /// in truth. For the calibration error of 400 answers, 93 to 97 % of such intervals hold the truth,
    /// be it 0 or far from it; of the usual ones, none do where it is 0.
    pub fn estimate_distance(&self, figure: usize, by_chance: f64) -> Estimate {
        self.estimate_with(figure, |value, sorted| {
            let mean = sorted.iter().sum::<f64>() / sorted.len() as f64;
            let bias = (mean - value).max(0.0);
            let low = match value > by_chance {
                true => (quantile(sorted, TAIL) - 2.0 * bias).clamp(0.0, value),
                false => 0.0,
            };
            (low, (quantile(sorted, 1.0 - TAIL) - bias).max(value))
        })
    }

    /// The figure with the interval that `interval` makes of it and its values in the resamples, sorted.
    fn estimate_with(
        &self,
        figure: usize,
        interval: impl Fn(f64, &[f64]) -> (f64, f64),
    ) -> Estimate {
        let value = self.values[figure];
        let defined = self.samples.iter().filter_map(|figures| figures[figure]);
        let mut defined: Vec<f64> = defined.collect();
        defined.sort_unstable_by(f64::total_cmp);
        let undefined = self.samples.len() - defined.len();
        let few = undefined as f64 <= MOST_UNDEFINED * self.samples.len() as f64;
        let interval = value
            .filter(|_| few && !defined.is_empty())
            .map(|value| interval(value, &defined))
            .filter(|(low, high)| low < high);
        Estimate {
            value,
            low: interval.map(|(low, _)| low),
            high: interval.map(|(_, high)| high),
        }
    }
}

/// The bias-corrected percentile interval of `value`.
fn interval(value: f64, sorted: &[f64]) -> (f64, f64) {
    let n = sorted.len() as f64;
    let below = sorted.partition_point(|&sample| sample < value) as f64;
    let up_to = sorted.partition_point(|&sample| sample <= value) as f64;
    let rank = ((below + up_to) / (2.0 * n)).clamp(0.5 / n, 1.0 - 0.5 / n);
    let bias = normal_quantile(rank);
    let percentile = |p: f64| quantile(sorted, normal_cdf(2.0 * bias + normal_quantile(p)));
    (
        percentile(TAIL).min(value),
        percentile(1.0 - TAIL).max(value),
    )
}

/// The `p`-quantile of sorted values, interpolated between the two it lies between.
pub(super) fn quantile(sorted: &[f64], p: f64) -> f64 {
    let place = p * (sorted.len() - 1) as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    sorted[below] + (sorted[above] - sorted[below]) * place.fract()
}

fn normal_cdf(x: f64) -> f64 {
    libm::erfc(-x / std::f64::consts::SQRT_2) / 2.0
}

/// The inverse of [`normal_cdf`] for `p` in `(0, 1)`, by bisection.
fn normal_quantile(p: f64) -> f64 {
    let (mut low, mut high) = (-40.0, 40.0);
    for _ in 0..64 {
        let middle = (low + high) / 2.0;
        if normal_cdf(middle) < p {
            low = middle;
        } else {
            high = middle;
        }
    }
    (low + high) / 2.0
}

/// Draws the counts of `n` issues taken with replacement.
///
/// A draw is exact and cheap: independent Poisson counts that sum to a little less than `n` nearly
/// always, topped up with issues drawn one by one. (Given their sum, Poisson counts are multinomial;
/// sums above `n` are drawn again.)
struct Resampler {
    /// By sort, the index of its table.
    sorts: Vec<usize>,
    /// The distinct Poisson distributions.
    tables: Vec<Poisson>,
    /// The sort of each issue.
    issues: Vec<u32>,
}

impl Resampler {
    fn new(counts: &[u64]) -> Self {
        let n: u64 = counts.iter().sum();
        // Four standard deviations of the sum are left for single draws.
        let share = (1.0 - 4.0 / (n.max(1) as f64).sqrt()).max(0.0);
        let mut tables = Vec::new();
        let mut known = HashMap::new();
        let sorts = counts.iter().map(|&count| {
            *known.entry(count).or_insert_with(|| {
                tables.push(Poisson::new(count as f64 * share));
                tables.len() - 1
            })
        });
        let sorts = sorts.collect();
        let issues = (0..).zip(counts);
        let issues = issues.flat_map(|(sort, &count)| (0..count).map(move |_| sort));
        Self {
            sorts,
            tables,
            issues: issues.collect(),
        }
    }

    fn draw(&self, rng: &mut ChaCha8Rng, counts: &mut [u64]) {
        let n = self.issues.len();
        let sum = loop {
            let mut sum = 0;
            for (count, &table) in counts.iter_mut().zip(&self.sorts) {
                *count = self.tables[table].draw(rng);
                sum += *count as usize;
            }
            if sum <= n {
                break sum;
            }
        };
        for _ in sum..n {
            let issue = rng.random_range(0..n);
            counts[self.issues[issue] as usize] += 1;
        }
    }
}

/// A Poisson distribution as a table.
struct Poisson {
    /// The least value with a probability that matters.
    first: u64,
    /// The probability of at most `first`, `first + 1`, …
    cumulative: Vec<f64>,
}

impl Poisson {
    fn new(mean: f64) -> Self {
        /// Of the most probable value's probability.
        const NEGLIGIBLE: f64 = 1e-18;
        // From the most probable value outwards, so that nothing underflows.
        let mode = mean.floor();
        let below = |&(k, p): &(f64, f64)| (k > 0.0).then(|| (k - 1.0, p * k / mean));
        let above = |&(k, p): &(f64, f64)| Some((k + 1.0, p * mean / (k + 1.0)));
        let matters = |&(_, p): &(f64, f64)| p > NEGLIGIBLE;
        let mut weights: Vec<(f64, f64)> = std::iter::successors(Some((mode, 1.0)), below)
            .take_while(matters)
            .collect();
        weights.reverse();
        let upper = std::iter::successors(Some((mode, 1.0)), above).skip(1);
        weights.extend(upper.take_while(matters));
        let total: f64 = weights.iter().map(|(_, p)| p).sum();
        let mut sum = 0.0;
        let cumulative = weights.iter().map(|(_, p)| {
            sum += p / total;
            sum
        });
        Self {
            cumulative: cumulative.collect(),
            first: weights[0].0 as u64,
        }
    }

    fn draw(&self, rng: &mut ChaCha8Rng) -> u64 {
        if let [_] = self.cumulative[..] {
            return self.first;
        }
        let u: f64 = rng.random();
        let index = self.cumulative.partition_point(|&p| p <= u);
        self.first + index.min(self.cumulative.len() - 1) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::metrics::ConfusionMatrix;

    /// The share of each sort, sort by sort.
    fn shares(counts: &[u64]) -> Vec<Option<f64>> {
        let n: u64 = counts.iter().sum();
        counts
            .iter()
            .map(|&count| (n > 0).then(|| count as f64 / n as f64))
            .collect()
    }

    fn bootstrap(resamples: usize) -> Bootstrap {
        Bootstrap { resamples, seed: 7 }
    }

    #[test]
    fn a_resample_has_as_many_issues_and_the_moments_of_a_multinomial() {
        for counts in [vec![1, 2, 0, 5], vec![90, 9, 1], vec![3000, 40, 500, 1, 1]] {
            let n: u64 = counts.iter().sum();
            let resampler = Resampler::new(&counts);
            let mut rng = ChaCha8Rng::seed_from_u64(1);
            let mut drawn = vec![0; counts.len()];
            let draws = 20_000;
            let (mut sums, mut products) = (vec![0.0; counts.len()], 0.0);
            let mut squares = vec![0.0; counts.len()];
            for _ in 0..draws {
                resampler.draw(&mut rng, &mut drawn);
                assert_eq!(drawn.iter().sum::<u64>(), n);
                for (sort, &count) in drawn.iter().enumerate() {
                    let off = count as f64 - counts[sort] as f64;
                    sums[sort] += off;
                    squares[sort] += off * off;
                }
                let off = |sort: usize| drawn[sort] as f64 - counts[sort] as f64;
                products += off(0) * off(1);
            }
            let draws = f64::from(draws);
            for (sort, &count) in counts.iter().enumerate() {
                let p = count as f64 / n as f64;
                let variance = n as f64 * p * (1.0 - p);
                let error = 5.0 * (variance / draws).sqrt();
                assert!((sums[sort] / draws).abs() <= error, "mean of {count}");
                let found = squares[sort] / draws;
                assert!(
                    (found - variance).abs() <= 0.05 * variance,
                    "{found} {variance}"
                );
            }
            let covariance = -(counts[0] as f64) * counts[1] as f64 / n as f64;
            let found = products / draws;
            let error = 5.0 * (counts[0] as f64 * counts[1] as f64 / draws).sqrt()
                + 0.05 * covariance.abs();
            assert!((found - covariance).abs() < error, "{found} {covariance}");
        }
    }

    #[test]
    fn a_poisson_table_has_the_distributions_mean_and_probabilities() {
        for mean in [0.0, 0.3, 1.0, 42.5, 98_734.0] {
            let table = Poisson::new(mean);
            let probabilities = table
                .cumulative
                .iter()
                .scan(0.0, |last, &p| Some(p - std::mem::replace(last, p)));
            let found: f64 = (table.first..)
                .zip(probabilities)
                .map(|(k, p)| k as f64 * p)
                .sum();
            assert!(
                (found - mean).abs() <= 1e-9 * mean.max(1.0),
                "{found} {mean}"
            );
            let last = table.cumulative.last().unwrap();
            assert!((last - 1.0).abs() < 1e-9, "{last}");
        }
        let table = Poisson::new(2.0);
        assert!((table.cumulative[0] - (-2f64).exp()).abs() < 1e-12);
    }

    #[test]
    fn the_same_seed_gives_the_same_intervals_on_any_number_of_threads() {
        let counts = [30_000, 12_000, 5_000];
        let estimate = || bootstrap(1050).estimate(&counts, shares);
        let threads = |n| {
            rayon::ThreadPoolBuilder::new()
                .num_threads(n)
                .build()
                .unwrap()
        };
        let one = threads(1).install(estimate);
        assert_eq!(threads(3).install(estimate), one);
        let other = Bootstrap {
            resamples: 1050,
            seed: 8,
        };
        assert_ne!(other.estimate(&counts, shares), one);
    }

    #[test]
    fn the_interval_of_a_share_is_about_two_standard_errors_either_side() {
        let [right, _] = bootstrap(10_000).estimate(&[300, 100], shares)[..] else {
            panic!("two sorts");
        };
        let error = 1.96 * (0.75 * 0.25 / 400f64).sqrt();
        assert_eq!(right.value, Some(0.75));
        assert!(
            (right.low.unwrap() - (0.75 - error)).abs() < 0.004,
            "{right:?}"
        );
        assert!(
            (right.high.unwrap() - (0.75 + error)).abs() < 0.004,
            "{right:?}"
        );
    }

    #[test]
    fn there_is_no_interval_where_resampling_cannot_give_one() {
        let certain = |counts: &[u64]| shares(counts)[..1].to_vec();
        let all_right = bootstrap(200).estimate(&[40, 0], certain);
        assert_eq!((all_right[0].value, all_right[0].low), (Some(1.0), None));

        // Undefined in a third of the resamples.
        let often_undefined = |counts: &[u64]| vec![(counts[1] > 0).then(|| counts[0] as f64)];
        let undefined = bootstrap(200).estimate(&[40, 1], often_undefined);
        assert_eq!((undefined[0].value, undefined[0].high), (Some(40.0), None));

        let none = bootstrap(200).estimate(&[0, 0], shares);
        assert_eq!(none[0], Estimate::default());
        let unasked = bootstrap(0).estimate(&[30, 10], shares);
        assert_eq!((unasked[0].value, unasked[0].low), (Some(0.75), None));
    }

    #[test]
    fn an_interval_includes_its_figure_even_where_resamples_are_biased() {
        // The largest share of many equal ones is larger in every resample.
        let largest = |counts: &[u64]| vec![counts.iter().max().map(|&max| max as f64)];
        let estimate = bootstrap(500).estimate(&[1; 200], largest)[0];
        assert_eq!((estimate.value, estimate.low), (Some(1.0), Some(1.0)));
        assert!(estimate.high.unwrap() > 1.0);
    }

    #[test]
    fn the_normal_quantile_inverts_the_distribution() {
        assert!((normal_quantile(0.975) - 1.959_963_984_540_054).abs() < 1e-12);
        assert!(normal_quantile(0.5).abs() < 1e-12);
        assert!((normal_cdf(normal_quantile(0.01)) - 0.01).abs() < 1e-14);
    }

    /// Four labels of which the rarest two make 8 % each; per thousand, rows are true labels.
    const FOUR_LABELS: [[u64; 4]; 4] = [
        [551, 15, 9, 5],
        [14, 243, 8, 5],
        [10, 8, 60, 2],
        [9, 8, 3, 60],
    ];

    /// Ten labels, the rarest of which makes 2 %.
    const TEN_LABELS: [[u64; 10]; 10] = [
        [399, 7, 4, 3, 3, 2, 1, 1, 1, 0],
        [14, 120, 4, 3, 3, 2, 1, 1, 1, 1],
        [10, 4, 68, 3, 2, 1, 1, 0, 1, 0],
        [10, 4, 2, 56, 3, 2, 1, 1, 1, 0],
        [10, 4, 2, 3, 56, 2, 1, 1, 1, 0],
        [5, 2, 1, 1, 1, 45, 1, 0, 1, 0],
        [7, 3, 1, 2, 1, 1, 24, 1, 0, 0],
        [6, 2, 1, 1, 1, 1, 0, 19, 1, 0],
        [7, 3, 2, 1, 1, 1, 0, 0, 11, 1],
        [4, 2, 1, 1, 1, 0, 1, 0, 0, 10],
    ];

    fn figures(labels: usize, counts: &[u64]) -> Vec<Option<f64>> {
        let mut matrix = ConfusionMatrix::new(labels);
        for (cell, &count) in counts.iter().enumerate() {
            matrix.add(cell / labels, cell % labels, count);
        }
        let mut figures = vec![matrix.accuracy(), matrix.kappa(), Some(matrix.macro_f1())];
        figures.extend((0..labels).map(|label| Some(matrix.f1(label))));
        figures
    }

    /// How many of the intervals for accuracy, kappa, macro-F1 and each label's F1 hold the truth, over
    /// `draws` samples of 400 issues of a population.
    fn held<const N: usize>(population: [[u64; N]; N], draws: u64) -> Vec<u64> {
        let cells = population.as_flattened();
        let truth = figures(N, cells);
        let issues = cells.iter().enumerate();
        let issues: Vec<usize> = issues
            .flat_map(|(cell, &count)| vec![cell; count as usize])
            .collect();
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        let mut held = vec![0; truth.len()];
        for draw in 0..draws {
            let mut sample = vec![0; cells.len()];
            for _ in 0..400 {
                sample[issues[rng.random_range(0..issues.len())]] += 1;
            }
            let bootstrap = Bootstrap {
                resamples: 1000,
                seed: draw,
            };
            let estimates = bootstrap.estimate(&sample, |counts| figures(N, counts));
            for (held, (&truth, estimate)) in held.iter_mut().zip(truth.iter().zip(estimates)) {
                *held += u64::from(estimate.low <= truth && truth <= estimate.high);
            }
        }
        println!("of {draws} intervals, these held the truth: {held:?}");
        held
    }

    #[test]
    fn of_100_intervals_93_to_97_hold_the_truth() {
        for held in held(FOUR_LABELS, 1000)
            .into_iter()
            .chain(held(TEN_LABELS, 1000))
        {
            assert!((930..=970).contains(&held), "{held} of 1000");
        }
    }

    #[test]
    #[ignore = "minutes: for the figures that the module's documentation gives"]
    fn of_10_000_intervals_as_many_hold_the_truth_as_the_documentation_says() {
        for held in held(FOUR_LABELS, 10_000)
            .into_iter()
            .chain(held(TEN_LABELS, 10_000))
        {
            assert!((9420..=9570).contains(&held), "{held} of 10,000");
        }
    }
}
