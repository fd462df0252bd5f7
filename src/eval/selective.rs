//! What answering only where the probability is high enough gives.

use super::calibration::Level;
use super::report::CurvePoint;

/// The precisions for which the coverage is told.
pub const PRECISIONS: [f64; 3] = [0.90, 0.95, 0.99];

/// Points that a curve keeps at most.
const CURVE_POINTS: usize = 200;

/// The risk-coverage curve (El-Yaniv and Wiener 2010, On the foundations of noise-free selective
/// classification): a point for each threshold at which answers of equal probability enter together,
/// thinned to a point for each of 200 steps of coverage. `levels` fall in probability.
pub(super) fn curve(levels: &[Level]) -> Vec<CurvePoint> {
    let n: u64 = levels.iter().map(Level::count).sum();
    let mut points = Vec::new();
    let (mut answered, mut wrong, mut step) = (0, 0, 0);
    for level in levels.iter().filter(|level| level.count() > 0) {
        answered += level.count();
        wrong += level.wrong;
        let steps = answered * CURVE_POINTS as u64 / n;
        if steps > step || answered == n {
            step = steps;
            points.push(CurvePoint {
                coverage: answered as f64 / n as f64,
                risk: wrong as f64 / answered as f64,
                threshold: f64::from(level.probability) / 1e4,
            });
        }
    }
    points
}

/// The area under the risk-coverage curve: the mean over `i = 1..n` of the risk of the `i` most
/// probable answers, in `[0, 1]` (Geifman and El-Yaniv 2019, SelectiveNet; Geifman et al. 2019,
/// arXiv:1805.08206). Answers of equal probability count as if in random order, in expectation. `None`
/// without answers. `levels` fall in probability.
pub fn area_under_risk_coverage(levels: &[Level]) -> Option<f64> {
    let (mut answered, mut wrong, mut area) = (0.0, 0.0, 0.0);
    for level in levels {
        let share = level.wrong as f64 / level.count().max(1) as f64;
        for i in 1..=level.count() {
            area += (wrong + share * i as f64) / (answered + i as f64);
        }
        answered += level.count() as f64;
        wrong += level.wrong as f64;
    }
    (answered > 0.0).then(|| area / answered)
}

/// The most answers that can be given with at least a share `precision` of them right: their number,
/// and the least probability among them, in ten-thousandths. `None` where no threshold gives that.
/// `levels` fall in probability.
pub(crate) fn most_at(levels: &[Level], precision: f64) -> Option<(u64, u32)> {
    let (mut answered, mut right, mut most) = (0, 0, None);
    for level in levels.iter().filter(|level| level.count() > 0) {
        answered += level.count();
        right += level.right;
        // 19 of 20 are 0.95, whatever the last bit of their product says.
        if right as f64 >= precision * answered as f64 - 1e-9 {
            most = Some((answered, level.probability));
        }
    }
    most
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;
    use crate::eval::calibration::{brier, expected_calibration_error, ten_thousandths};

    #[derive(Deserialize)]
    struct Case {
        name: String,
        distributions: Vec<Vec<f32>>,
        truth: Vec<usize>,
        ece: f64,
        brier: f64,
        aurc: f64,
        coverage: [f64; 3],
    }

    #[test]
    fn figures_of_probabilities_are_those_of_the_references() {
        let cases: Vec<Case> =
            serde_json::from_str(include_str!("../../tests/fixtures/probabilities.json")).unwrap();
        assert_eq!(cases.len(), 200);
        for case in cases {
            let n = case.truth.len() as f64;
            let mut by_probability: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
            let mut score = 0.0;
            for (distribution, &truth) in case.distributions.iter().zip(&case.truth) {
                // The first of the largest, as NumPy has it.
                let label = (1..distribution.len()).fold(0, |best, label| {
                    if distribution[label] > distribution[best] {
                        label
                    } else {
                        best
                    }
                });
                let level = by_probability
                    .entry(ten_thousandths(distribution[label]))
                    .or_default();
                if label == truth {
                    level.0 += 1
                } else {
                    level.1 += 1
                }
                score += brier(distribution, truth) / n;
            }
            let sorted: Vec<_> = by_probability
                .into_iter()
                .rev()
                .map(|(p, (right, wrong))| (p, right, wrong))
                .collect();
            let levels = levels(&sorted);
            let close = |figure: &str, ours: f64, theirs: f64| {
                assert!(
                    (ours - theirs).abs() < 1e-9,
                    "{}: {figure} {ours}, not {theirs}",
                    case.name
                );
            };
            close(
                "calibration error",
                expected_calibration_error(&levels).unwrap(),
                case.ece,
            );
            close("Brier score", score, case.brier);
            close(
                "area",
                area_under_risk_coverage(&levels).unwrap(),
                case.aurc,
            );
            for (precision, theirs) in PRECISIONS.into_iter().zip(case.coverage) {
                let answered = most_at(&levels, precision).map_or(0, |(answered, _)| answered);
                close("coverage", answered as f64 / n, theirs);
            }
        }
    }

    fn levels(levels: &[(u32, u64, u64)]) -> Vec<Level> {
        let level = |&(probability, right, wrong)| Level {
            probability,
            right,
            wrong,
        };
        levels.iter().map(level).collect()
    }

    #[test]
    fn the_area_is_the_mean_risk_of_the_most_probable_answers() {
        // Right, wrong, right: risks 0, 1/2, 1/3.
        let distinct = levels(&[(9000, 1, 0), (8000, 0, 1), (7000, 1, 0)]);
        let expected = (0.5 + 1.0 / 3.0) / 3.0;
        assert!((area_under_risk_coverage(&distinct).unwrap() - expected).abs() < 1e-15);
        assert_eq!(area_under_risk_coverage(&[]), None);
    }

    #[test]
    fn answers_of_equal_probability_count_in_random_order() {
        let tied = area_under_risk_coverage(&levels(&[(9000, 1, 1), (8000, 1, 0)])).unwrap();
        let wrong_first = levels(&[(9000, 0, 1), (8999, 1, 0), (8000, 1, 0)]);
        let right_first = levels(&[(9000, 1, 0), (8999, 0, 1), (8000, 1, 0)]);
        let mean = [wrong_first, right_first]
            .map(|order| area_under_risk_coverage(&order).unwrap())
            .iter()
            .sum::<f64>()
            / 2.0;
        assert!((tied - mean).abs() < 1e-15, "{tied} {mean}");
    }

    #[test]
    fn coverage_is_the_largest_at_which_the_precision_holds() {
        // 9 of 10, then 18 of 20, then 18 of 21.
        let some = levels(&[(9900, 9, 1), (9000, 9, 1), (5000, 0, 1)]);
        assert_eq!(most_at(&some, 0.90), Some((20, 9000)));
        assert_eq!(most_at(&some, 0.95), None);
        // A bad beginning does not keep later thresholds from being chosen.
        let late = levels(&[(9900, 0, 1), (9000, 99, 0)]);
        assert_eq!(most_at(&late, 0.99), Some((100, 9000)));
    }

    #[test]
    fn the_curve_ends_with_all_answers_and_has_at_most_200_points() {
        let many: Vec<_> = (0..5000)
            .map(|i| (10_000 - i, 1, u64::from(i % 7 == 0)))
            .collect();
        let points = curve(&levels(&many));
        assert!(
            points.len() <= 200 && points.len() > 190,
            "{}",
            points.len()
        );
        assert!(points.is_sorted_by(|a, b| a.coverage < b.coverage && a.threshold > b.threshold));
        let last = points.last().unwrap();
        assert_eq!((last.coverage, last.threshold), (1.0, 0.5001));

        let few = curve(&levels(&[(9000, 3, 1), (8000, 0, 4)]));
        assert_eq!(few.len(), 2);
        assert_eq!(
            (few[0].coverage, few[0].risk, few[0].threshold),
            (0.5, 0.25, 0.9)
        );
        assert_eq!((few[1].coverage, few[1].risk), (1.0, 0.625));
    }
}
