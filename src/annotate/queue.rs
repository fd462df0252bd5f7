//! Which issues come next.

use std::collections::HashMap;

use ndarray::{Array1, Array2, Axis};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::learner::{Pool, applies};
use crate::issue::Issue;
use crate::taxonomy::Taxonomy;

/// The order in which issues are labelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    /// What the labels so far leave uncertain, and differs from what is chosen already.
    Uncertain,
    /// What differs most from all that is labelled or chosen.
    Diverse,
    /// Drawn at random, every repository in its share: for gold.
    Random,
    /// What two annotators label differently.
    Disagreements,
    /// Annotations that a cross-validated training takes for wrong.
    Review,
}

/// The places of `issues` at random, so that every beginning of the list has each repository about in its
/// share.
pub fn random(issues: &[Issue], seed: u64) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut order: Vec<usize> = (0..issues.len()).collect();
    order.shuffle(&mut rng);
    let mut sizes: HashMap<&str, f64> = HashMap::new();
    for issue in issues {
        *sizes.entry(&issue.id.repo).or_default() += 1.0;
    }
    // An issue that is the k-th of n of its repository stands at about k/n of the whole.
    let mut drawn: HashMap<&str, f64> = HashMap::new();
    let mut places: Vec<(f64, usize)> = order
        .into_iter()
        .map(|place| {
            let repo = issues[place].id.repo.as_str();
            let before = drawn.entry(repo).or_default();
            let at = (*before + rng.random::<f64>()) / sizes[repo];
            *before += 1.0;
            (at, place)
        })
        .collect();
    places.sort_by(|a, b| a.0.total_cmp(&b.0));
    places.into_iter().map(|(_, place)| place).collect()
}

/// `count` places of the pool that `is_open` allows, each far from those before and from `labelled`, by
/// the distance of features (the k-centre rule of Sener and Savarese 2018).
pub fn diverse(pool: &Pool, labelled: &[usize], is_open: &[bool], count: usize) -> Vec<usize> {
    let squares: Array1<f32> = pool.features.map_axis(Axis(1), |row| row.dot(&row));
    let mut distances = Array1::from_elem(pool.len(), f32::INFINITY);
    let nearer = |distances: &mut Array1<f32>, to: usize| {
        let products = pool.features.dot(&pool.features.row(to));
        for (place, distance) in distances.iter_mut().enumerate() {
            let d = squares[place] + squares[to] - 2.0 * products[place];
            *distance = distance.min(d.max(0.0));
        }
    };
    for &place in labelled {
        nearer(&mut distances, place);
    }
    let mut chosen = Vec::new();
    let mut open = is_open.to_vec();
    while chosen.len() < count {
        let candidates = (0..pool.len()).filter(|&place| open[place]);
        let Some(next) = candidates.max_by(|&a, &b| distances[a].total_cmp(&distances[b])) else {
            break;
        };
        open[next] = false;
        chosen.push(next);
        nearer(&mut distances, next);
    }
    chosen
}

/// How [`uncertain`] weighs the heads, and how it looks at a distribution.
#[derive(Debug, Clone)]
pub struct Uncertainty {
    /// Of an issue's uncertainty, the power to which it counts against its distance from the issues
    /// chosen before: 0 is distance alone.
    pub power: f32,
    /// By head, how much its uncertainty counts; heads beyond its end count 1.
    pub heads: Vec<f32>,
}

impl Default for Uncertainty {
    fn default() -> Self {
        Self {
            power: 1.0,
            heads: Vec::new(),
        }
    }
}

/// By issue, how uncertain its labels are: the sum over heads of `1 - (p₁ - p₂)`, the margin between the
/// two most probable labels (Scheffer et al. 2001), times the probability that the head applies.
pub fn uncertainty(
    taxonomy: &Taxonomy,
    probabilities: &[Array2<f32>],
    settings: &Uncertainty,
) -> Array1<f32> {
    let applies = applies(taxonomy, probabilities);
    let mut sum = Array1::zeros(probabilities[0].nrows());
    for (head, (probabilities, applies)) in probabilities.iter().zip(&applies).enumerate() {
        let weight = settings.heads.get(head).copied().unwrap_or(1.0);
        let unsure = probabilities.map_axis(Axis(1), |row| {
            let (mut first, mut second) = (0f32, 0f32);
            for &p in row {
                if p > first {
                    (first, second) = (p, first);
                } else if p > second {
                    second = p;
                }
            }
            1.0 - (first - second)
        });
        sum.scaled_add(weight, &(unsure * applies));
    }
    sum
}

/// `count` places of the pool that `is_open` allows: each the one of the greatest uncertainty times its
/// distance from those chosen before in this batch, so that a batch does not ask one thing many times.
pub fn uncertain(
    taxonomy: &Taxonomy,
    pool: &Pool,
    probabilities: &[Array2<f32>],
    is_open: &[bool],
    count: usize,
    settings: &Uncertainty,
) -> Vec<usize> {
    let uncertainty = uncertainty(taxonomy, probabilities, settings).mapv(|u| u.powf(settings.power));
    let squares: Array1<f32> = pool.features.map_axis(Axis(1), |row| row.dot(&row));
    let mut distances = Array1::<f32>::ones(pool.len());
    let mut open = is_open.to_vec();
    let mut chosen = Vec::new();
    while chosen.len() < count {
        let score = |place: usize| uncertainty[place] * distances[place];
        let candidates = (0..pool.len()).filter(|&place| open[place]);
        let Some(next) = candidates.max_by(|&a, &b| score(a).total_cmp(&score(b))) else {
            break;
        };
        open[next] = false;
        chosen.push(next);
        let products = pool.features.dot(&pool.features.row(next));
        for (place, distance) in distances.iter_mut().enumerate() {
            let d = squares[place] + squares[next] - 2.0 * products[place];
            *distance = distance.min(d.max(0.0).sqrt());
        }
    }
    chosen
}
