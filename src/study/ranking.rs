//! Which label is first, and how surely.
//!
//! The labels' estimates err together: they share issues, and sum to 1. Their joint error is drawn from
//! the normal distribution with the covariance of their influence functions. A label's rank has a 95 %
//! confidence set from the simultaneous intervals of its differences to all others (max-t; Mogstad et al.
//! 2024, Inference for ranks): it counts those surely above it and those surely below.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::estimate::Fit;

const DRAWS: usize = 4000;

/// One label among the others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rank {
    /// The best and the worst rank of its confidence set, from 1.
    pub best: usize,
    pub worst: usize,
    /// In how many of the draws it is first.
    pub first: f64,
}

/// The estimates of one head's labels from the same issues.
pub struct Ranking {
    values: Vec<f64>,
    covariance: Vec<Vec<f64>>,
    draws: Vec<Vec<f64>>,
}

impl Ranking {
    pub fn new(fits: &[Fit], seed: u64) -> Self {
        let covariance: Vec<Vec<f64>> = (0..fits.len())
            .map(|a| {
                (0..fits.len())
                    .map(|b| covariance(&fits[a], &fits[b], a == b))
                    .collect()
            })
            .collect();
        let factor = cholesky(&covariance);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let draws = (0..DRAWS).map(|_| {
            let normals: Vec<f64> = (0..fits.len()).map(|_| normal(&mut rng)).collect();
            let row = |row: &Vec<f64>| row.iter().zip(&normals).map(|(a, b)| a * b).sum();
            factor.iter().map(row).collect()
        });
        Self {
            values: fits.iter().map(|fit| fit.value).collect(),
            draws: draws.collect(),
            covariance,
        }
    }

    pub fn rank(&self, label: usize) -> Rank {
        let others: Vec<usize> = (0..self.values.len())
            .filter(|&other| other != label)
            .collect();
        let mut furthest: Vec<f64> = self
            .draws
            .iter()
            .map(|draw| {
                let distance =
                    |&other: &usize| (draw[label] - draw[other]).abs() / self.error(label, other);
                others.iter().map(distance).fold(0.0, f64::max)
            })
            .collect();
        furthest.sort_by(f64::total_cmp);
        let critical = furthest.get(DRAWS * 95 / 100).copied().unwrap_or(0.0);
        let surely = |sign: f64| {
            let beyond = others.iter().filter(|&&other| {
                let distance = sign * (self.values[other] - self.values[label]);
                distance > critical * self.error(label, other)
            });
            beyond.count()
        };
        let is_first = |draw: &&Vec<f64>| {
            let of = |place: usize| self.values[place] + draw[place];
            others.iter().all(|&other| of(label) > of(other))
        };
        Rank {
            best: 1 + surely(1.0),
            worst: self.values.len() - surely(-1.0),
            first: self.draws.iter().filter(is_first).count() as f64 / DRAWS as f64,
        }
    }

    /// The difference of two labels and its error.
    pub fn difference(&self, first: usize, second: usize) -> (f64, f64) {
        (
            self.values[first] - self.values[second],
            self.error(first, second),
        )
    }

    fn error(&self, a: usize, b: usize) -> f64 {
        let variance = self.covariance[a][a] + self.covariance[b][b] - 2.0 * self.covariance[a][b];
        variance.max(1e-18).sqrt()
    }
}

/// With each label's error raised to the cautious one.
fn covariance(a: &Fit, b: &Fit, same: bool) -> f64 {
    if same {
        return a.cautious_error().powi(2);
    }
    if a.error == 0.0 || b.error == 0.0 {
        return 0.0;
    }
    let raw: f64 = a
        .influence
        .iter()
        .zip(&b.influence)
        .map(|(a, b)| a * b)
        .sum();
    raw * (a.cautious_error() / a.error) * (b.cautious_error() / b.error)
}

/// The lower factor of a matrix that is positive semidefinite up to rounding.
fn cholesky(matrix: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let n = matrix.len();
    let mut factor = vec![vec![0.0; n]; n];
    for column in 0..n {
        let taken: f64 = factor[column][..column].iter().map(|x| x * x).sum();
        let pivot = matrix[column][column] - taken;
        if pivot <= 1e-12 * matrix[column][column] {
            continue;
        }
        factor[column][column] = pivot.sqrt();
        for row in column + 1..n {
            let taken: f64 = (0..column)
                .map(|k| factor[row][k] * factor[column][k])
                .sum();
            factor[row][column] = (matrix[row][column] - taken) / factor[column][column];
        }
    }
    factor
}

/// A standard normal number (Box and Muller).
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let (radius, angle): (f64, f64) = (rng.random(), rng.random());
    (-2.0 * (1.0 - radius).ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}
