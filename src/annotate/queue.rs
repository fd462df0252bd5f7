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
/// two most probable outcomes (Scheffer et al. 2001), of which "does not apply" is one.
pub fn uncertainty(
    taxonomy: &Taxonomy,
    probabilities: &[Array2<f32>],
    settings: &Uncertainty,
) -> Array1<f32> {
    let applies = applies(taxonomy, probabilities);
    let mut sum = Array1::zeros(probabilities[0].nrows());
    for (head, (probabilities, applies)) in probabilities.iter().zip(&applies).enumerate() {
        let weight = settings.heads.get(head).copied().unwrap_or(1.0);
        for ((row, applies), sum) in probabilities.rows().into_iter().zip(applies).zip(&mut sum) {
            let (mut first, mut second) = (1.0 - applies, 0f32);
            for p in row.iter().map(|p| p * applies) {
                if p > first {
                    (first, second) = (p, first);
                } else if p > second {
                    second = p;
                }
            }
            *sum += weight * (1.0 - (first - second));
        }
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
    let uncertainty =
        uncertainty(taxonomy, probabilities, settings).mapv(|u| u.powf(settings.power));
    let squares: Array1<f32> = pool.features.map_axis(Axis(1), |row| row.dot(&row));
    // As far as two can be, before there is one to be far from.
    let farthest = 2.0 * squares.fold(0f32, |most, square| most.max(*square)).sqrt();
    let mut distances = Array1::from_elem(pool.len(), farthest);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::issue::IssueId;
    use crate::taxonomy::{Condition, Head, Label};

    fn issue(repo: &str, number: u64) -> Issue {
        Issue {
            id: IssueId {
                repo: repo.into(),
                number,
            },
            title: String::new(),
            body: String::new(),
            created_at: None,
        }
    }

    #[test]
    fn every_beginning_of_the_random_order_has_each_repository_in_its_share() {
        let mut issues: Vec<Issue> = (0..300).map(|n| issue("o/large", n)).collect();
        issues.extend((0..100).map(|n| issue("o/small", n)));
        let order = random(&issues, 1);
        assert_eq!(order, random(&issues, 1));
        assert_ne!(order, random(&issues, 2));
        for count in [20, 40, 100, 200] {
            let small = order[..count].iter().filter(|&&place| place >= 300).count();
            assert!(small.abs_diff(count / 4) <= 2, "{small} of {count}");
        }
        let mut all = order;
        all.sort_unstable();
        assert_eq!(all, (0..400).collect::<Vec<_>>());
    }

    fn pool(features: &[[f32; 2]]) -> Pool {
        Pool {
            features: Array2::from(features.to_vec()),
            offsets: Vec::new(),
        }
    }

    #[test]
    fn the_diverse_come_from_afar() {
        let pool = pool(&[[0.0, 0.0], [0.1, 0.0], [5.0, 0.0], [5.1, 0.0], [0.0, 3.0]]);
        assert_eq!(
            diverse(&pool, &[0], &[false, true, true, true, true], 2),
            [3, 4]
        );
        assert_eq!(
            diverse(&pool, &[0], &[false, true, false, false, false], 9),
            [1]
        );
    }

    /// A kind, and an area where the kind is the first.
    fn taxonomy() -> Taxonomy {
        let head = |name: &str, applies_when| Head {
            name: name.into(),
            applies_when,
            labels: vec![Label::default(), Label::default()],
            ..Head::default()
        };
        let condition = Condition {
            head: 0,
            labels: vec![0],
        };
        Taxonomy {
            heads: vec![head("kind", None), head("area", Some(condition))],
        }
    }

    #[test]
    fn an_issue_is_uncertain_where_two_outcomes_are_as_probable() {
        let kind = Array2::from(vec![[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]);
        let area = Array2::from(vec![[0.6, 0.4], [0.6, 0.4], [1.0, 0.0]]);
        let found = uncertainty(&taxonomy(), &[kind, area], &Uncertainty::default());
        // Of the last, both the kind and whether it has an area are open.
        for (found, expected) in found.iter().zip([0.8, 0.0, 2.0]) {
            assert!((found - expected).abs() < 1e-6, "{found}");
        }
    }

    #[test]
    fn a_batch_asks_no_question_twice() {
        let pool = pool(&[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]);
        let kind = Array2::from(vec![[0.5, 0.5], [0.5, 0.5], [0.6, 0.4], [1.0, 0.0]]);
        let area = Array2::from_elem((4, 2), 0.5);
        let chosen = |is_open: [bool; 4]| {
            let settings = Uncertainty {
                heads: vec![1.0, 0.0],
                ..Uncertainty::default()
            };
            let probabilities = [kind.clone(), area.clone()];
            uncertain(&taxonomy(), &pool, &probabilities, &is_open, 2, &settings)
        };
        // The other of the twins is as uncertain, but answered with the first.
        assert_eq!(chosen([true; 4]), [1, 2]);
        assert_eq!(chosen([false, false, false, true]), [3]);
    }
}
