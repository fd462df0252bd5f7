//! Gold annotations and models' answers to a report.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::agreement::agreement;
use super::answers::{Aligned, Answer, Answers};
use super::bootstrap::Bootstrap;
use super::calibration::{
    Level, bins, brier, error_by_chance, expected_calibration_error, ten_thousandths,
};
use super::comparison::comparisons;
use super::gold::{Annotator, GoldFile};
use super::metrics::ConfusionMatrix;
use super::report::{
    Agreement, Bin, Calibration, Confusion, CoverageAt, Disagreement, Estimate, Evaluation, Group,
    GroupHead, Grouping, HeadEvaluation, LabelAgreement, LeftOut, Report, Selective,
};
use super::selective::{PRECISIONS, area_under_risk_coverage, curve, most_at};
use super::{EvalError, calibration, class, class_name, classes};
use crate::annotation::{Annotation, Confidence};
use crate::issue::IssueId;
use crate::taxonomy::Taxonomy;

/// Issues named for each reason to leave some out.
const EXAMPLES: usize = 5;

/// Wrong answers listed for each head.
const ERRORS: usize = 100;

/// What is evaluated.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    pub taxonomy: &'a Taxonomy,
    pub gold: &'a GoldFile,
    /// At least one model's.
    pub answers: &'a [Answers],
    /// From [`GoldFile::readings`] and [`GoldFile::annotators`].
    pub annotators: &'a [Annotator],
    /// When issues were opened, `YYYY-MM…`, as far as it is known.
    pub created_at: &'a HashMap<IssueId, String>,
}

/// Evaluates every model on the gold issues that it has answers for, compares the models with each
/// other and, if there are two annotators, with those. Annotators' names and models' names are taken
/// from the inputs.
///
/// # Errors
/// Two models have one name, a model has two answers to an issue or none to any gold issue.
pub fn evaluate(inputs: Inputs, bootstrap: &Bootstrap) -> Result<Report, EvalError> {
    let Inputs {
        taxonomy,
        gold,
        answers,
        ..
    } = inputs;
    for (i, model) in answers.iter().enumerate() {
        if answers[..i].iter().any(|other| other.name == model.name) {
            return Err(EvalError::SameName(model.name.clone()));
        }
    }
    let annotations = &gold.annotations;
    let mut aligned = Vec::new();
    for answers in answers {
        let places = answers.places()?;
        let places: Vec<Option<usize>> = annotations
            .iter()
            .map(|annotation| places.get(&annotation.id).copied())
            .collect();
        if places.iter().all(Option::is_none) {
            return Err(EvalError::NoOverlap {
                name: answers.name.clone(),
                predictions: answers.issues.len(),
                gold: gold.summary.file.clone(),
                example: annotations[0].id.clone(),
            });
        }
        aligned.push(Aligned { answers, places });
    }
    let models = aligned.iter().map(|model| {
        let evaluator = Evaluator {
            taxonomy,
            gold: annotations,
            model,
            created_at: inputs.created_at,
            bootstrap,
        };
        evaluator.evaluate()
    });
    Ok(Report {
        created_with: concat!("faultlens ", env!("CARGO_PKG_VERSION")).to_owned(),
        gold: gold.summary.clone(),
        resamples: bootstrap.resamples,
        seed: bootstrap.seed,
        models: models.collect(),
        annotators: agreement(taxonomy, inputs.annotators, &aligned, bootstrap),
        comparisons: comparisons(taxonomy, annotations, &aligned, bootstrap),
    })
}

/// One model on gold.
struct Evaluator<'a> {
    taxonomy: &'a Taxonomy,
    gold: &'a [Annotation],
    model: &'a Aligned<'a>,
    created_at: &'a HashMap<IssueId, String>,
    bootstrap: &'a Bootstrap,
}

impl<'a> Evaluator<'a> {
    fn evaluate(&self) -> Evaluation {
        let answers = self.model.answers;
        let issues: Vec<usize> = (0..self.gold.len())
            .filter(|&issue| self.model.places[issue].is_some())
            .collect();
        let all_right = |&&issue: &&usize| {
            let mut pairs = answers.heads.iter().map(|&head| self.pair(issue, head));
            pairs.all(|(truth, predicted)| truth == predicted)
        };
        let right = issues.iter().filter(all_right).count() as u64;
        let share = |counts: &[u64]| {
            let n = counts[0] + counts[1];
            vec![(n > 0).then(|| counts[0] as f64 / n as f64)]
        };
        let joint = self
            .bootstrap
            .estimate(&[right, issues.len() as u64 - right], share);
        Evaluation {
            name: answers.name.clone(),
            model: answers.model.clone(),
            issues: issues.len(),
            left_out: self.left_out(),
            heads: answers
                .heads
                .iter()
                .map(|&head| self.head(head, &issues))
                .collect(),
            joint_accuracy: joint[0],
            groups: self.groups(&issues),
            errors: self.errors(&issues),
        }
    }

    /// The answer to a head that the model answers of an issue that it has.
    fn answer(&self, issue: usize, head: usize) -> &'a Answer {
        let answer = self.model.answer(issue, head);
        answer.expect("a model answers each of its heads for each of its issues")
    }

    fn truth(&self, issue: usize, head: usize) -> usize {
        class(self.taxonomy, head, self.gold[issue].labels[head])
    }

    /// The true and the predicted class.
    fn pair(&self, issue: usize, head: usize) -> (usize, usize) {
        (self.truth(issue, head), self.answer(issue, head).class)
    }

    fn left_out(&self) -> Vec<LeftOut> {
        let answers = self.model.answers;
        let gold: HashSet<&IssueId> = self.gold.iter().map(|annotation| &annotation.id).collect();
        let mut reasons: BTreeMap<&str, Vec<&IssueId>> = BTreeMap::new();
        let unusable = answers.unusable.iter().filter(|(id, _)| gold.contains(id));
        for (id, reason) in unusable.clone() {
            reasons.entry(reason).or_default().push(id);
        }
        let unusable: HashSet<&IssueId> = unusable.map(|(id, _)| id).collect();
        let missing = self.gold.iter().zip(&self.model.places);
        let missing: Vec<&IssueId> = missing
            .filter(|(annotation, place)| place.is_none() && !unusable.contains(&annotation.id))
            .map(|(annotation, _)| &annotation.id)
            .collect();
        let others = answers.issues.iter().map(|issue| &issue.id);
        let others: Vec<&IssueId> = others.filter(|id| !gold.contains(id)).collect();
        [
            ("gold issues without a prediction", missing),
            ("predictions of issues that are not in gold", others),
        ]
        .into_iter()
        .chain(reasons)
        .filter(|(_, ids)| !ids.is_empty())
        .map(|(reason, ids)| LeftOut {
            reason: reason.to_owned(),
            count: ids.len(),
            examples: ids.iter().take(EXAMPLES).map(|id| id.to_string()).collect(),
        })
        .collect()
    }

    fn head(&self, head: usize, issues: &[usize]) -> HeadEvaluation {
        let declared = &self.taxonomy.heads[head];
        let (labels, classes) = (declared.labels.len(), classes(declared));
        let pairs = || issues.iter().map(|&issue| self.pair(issue, head));
        let all = self.agreement(head, pairs(), classes);
        let applicable = declared.applies_when.is_some().then(|| {
            let applies = pairs().filter(|&(truth, _)| truth < labels);
            self.agreement(head, applies, labels)
        });
        let abstained = issues
            .iter()
            .filter(|&&issue| self.answer(issue, head).abstained)
            .count();
        let probabilities = self.probabilities(head, issues);
        let (calibration, selective) = probabilities.unzip();
        HeadEvaluation {
            head: declared.name.clone(),
            title: declared.title.clone(),
            abstained,
            confused: confused(&all),
            all,
            applicable,
            calibration,
            selective,
        }
    }

    /// Agreement over pairs of classes, with averages over the classes below `averaged`.
    fn agreement(
        &self,
        head: usize,
        pairs: impl Iterator<Item = (usize, usize)>,
        averaged: usize,
    ) -> Agreement {
        let classes = classes(&self.taxonomy.heads[head]);
        let (cells, counts) = tally(pairs);
        let estimates = self.bootstrap.estimate(&counts, |counts| {
            let matrix = matrix(classes, &cells, counts).averaging_over(averaged);
            let defined = matrix.accuracy();
            let measures = [
                defined,
                matrix.balanced_accuracy(),
                defined.map(|_| matrix.macro_f1()),
                defined.map(|_| matrix.micro_f1()),
                defined.map(|_| matrix.weighted_f1()),
                matrix.kappa(),
                defined.map(|_| matrix.matthews()),
            ];
            let of_label = |label| {
                let measures = [
                    matrix.precision(label),
                    matrix.recall(label),
                    matrix.f1(label),
                ];
                measures.map(|measure| defined.map(|_| measure))
            };
            let of_labels = (0..averaged).flat_map(of_label);
            measures.into_iter().chain(of_labels).collect()
        });
        let matrix = matrix(classes, &cells, &counts);
        let name = |class: usize| class_name(self.taxonomy, head, class).to_owned();
        let (measures, of_labels) = estimates.split_at(7);
        let per_label = of_labels
            .chunks(3)
            .enumerate()
            .map(|(label, of_label)| LabelAgreement {
                label: name(label),
                support: matrix.support(label),
                predicted: matrix.predicted(label),
                precision: of_label[0],
                recall: of_label[1],
                f1: of_label[2],
            });
        Agreement {
            issues: matrix.total() as usize,
            labels: (0..classes).map(name).collect(),
            accuracy: measures[0],
            balanced_accuracy: measures[1],
            macro_f1: measures[2],
            micro_f1: measures[3],
            weighted_f1: measures[4],
            kappa: measures[5],
            matthews: measures[6],
            per_label: per_label.collect(),
            confusion: matrix
                .counts()
                .rows()
                .into_iter()
                .map(|row| row.to_vec())
                .collect(),
        }
    }

    /// What can be said of probabilities, if the model gives any.
    fn probabilities(&self, head: usize, issues: &[usize]) -> Option<(Calibration, Selective)> {
        // The answers right and wrong by probability, and Brier scores by thousandths: count and sum.
        let mut levels: BTreeMap<u32, Level> = BTreeMap::new();
        let mut scores: BTreeMap<u32, (u64, f64)> = BTreeMap::new();
        for &issue in issues {
            let answer = self.answer(issue, head);
            let distribution = answer.distribution.as_ref()?;
            let probability = ten_thousandths(distribution[answer.class]);
            let level = levels.entry(probability).or_insert(Level {
                probability,
                right: 0,
                wrong: 0,
            });
            if answer.class == self.truth(issue, head) {
                level.right += 1;
            } else {
                level.wrong += 1;
            }
            let score = brier(distribution, self.truth(issue, head));
            let (count, sum) = scores.entry((score * 1e3) as u32).or_default();
            *count += 1;
            *sum += score;
        }
        let levels: Vec<Level> = levels.into_values().rev().collect();
        let counts: Vec<u64> = levels.iter().flat_map(|l| [l.right, l.wrong]).collect();
        let resampled = self.bootstrap.resample(&counts, |counts| {
            let levels: Vec<Level> = levels
                .iter()
                .zip(counts.chunks_exact(2))
                .map(|(level, counts)| Level {
                    right: counts[0],
                    wrong: counts[1],
                    ..*level
                })
                .collect();
            let n: u64 = counts.iter().sum();
            let share = |count: u64| (n > 0).then(|| count as f64 / n as f64);
            let figures = [
                expected_calibration_error(&levels),
                area_under_risk_coverage(&levels),
            ];
            let coverage = PRECISIONS.map(|precision| {
                share(most_at(&levels, precision).map_or(0, |(answered, _)| answered))
            });
            let accuracy = bins(&levels).map(|bin| bin.accuracy());
            figures
                .into_iter()
                .chain(coverage)
                .chain(accuracy)
                .collect()
        });
        let by_chance = error_by_chance(&levels, self.bootstrap.seed);
        let coverage = (2..).zip(PRECISIONS);
        let accuracy = 2 + PRECISIONS.len()..;
        let bins = bins(&levels).into_iter().zip(accuracy).enumerate();
        let bound = |bin: usize| bin as f64 / calibration::BINS as f64;
        let calibration = Calibration {
            ece: resampled.estimate_distance(0, by_chance),
            brier: self.mean(scores.into_values()),
            bins: bins
                .map(|(bin, (counts, accuracy))| Bin {
                    low: bound(bin),
                    high: bound(bin + 1),
                    count: counts.count,
                    confidence: counts.confidence(),
                    accuracy: resampled.estimate(accuracy),
                })
                .collect(),
        };
        let selective = Selective {
            curve: curve(&levels),
            aurc: resampled.estimate(1),
            coverage_at: coverage
                .map(|(coverage, precision)| CoverageAt {
                    precision,
                    coverage: resampled.estimate(coverage),
                    threshold: most_at(&levels, precision).map(|(_, p)| f64::from(p) / 1e4),
                })
                .collect(),
        };
        Some((calibration, selective))
    }

    /// The mean of values that come in groups of a count and a sum. Within a group values are as good
    /// as equal, so that resampling may exchange them.
    fn mean(&self, groups: impl Iterator<Item = (u64, f64)>) -> Estimate {
        let (counts, sums): (Vec<u64>, Vec<f64>) = groups.unzip();
        let means: Vec<f64> = sums
            .iter()
            .zip(&counts)
            .map(|(sum, &n)| sum / n as f64)
            .collect();
        let estimates = self.bootstrap.estimate(&counts, |counts| {
            let n: u64 = counts.iter().sum();
            let sum: f64 = means
                .iter()
                .zip(counts)
                .map(|(mean, &n)| mean * n as f64)
                .sum();
            vec![(n > 0).then(|| sum / n as f64)]
        });
        estimates[0]
    }

    fn groups(&self, issues: &[usize]) -> Vec<Group> {
        let mut members: BTreeMap<(Grouping, &str), Vec<usize>> = BTreeMap::new();
        for &issue in issues {
            let annotation = &self.gold[issue];
            let month = self
                .created_at
                .get(&annotation.id)
                .and_then(|date| month(date));
            let confidence = annotation.confidence.map(|confidence| match confidence {
                Confidence::High => "high",
                Confidence::Low => "low",
            });
            for (by, name) in [
                (Grouping::Repository, Some(annotation.id.repo.as_str())),
                (Grouping::Month, month),
                (Grouping::Confidence, confidence),
            ] {
                if let Some(name) = name {
                    members.entry((by, name)).or_default().push(issue);
                }
            }
        }
        let groups = members.into_iter().map(|((by, name), issues)| Group {
            by,
            name: name.to_owned(),
            issues: issues.len(),
            heads: self
                .model
                .answers
                .heads
                .iter()
                .map(|&head| self.group_head(head, &issues))
                .collect(),
        });
        groups.collect()
    }

    fn group_head(&self, head: usize, issues: &[usize]) -> GroupHead {
        let classes = classes(&self.taxonomy.heads[head]);
        let (cells, counts) = tally(issues.iter().map(|&issue| self.pair(issue, head)));
        let estimates = self.bootstrap.estimate(&counts, |counts| {
            let matrix = matrix(classes, &cells, counts);
            vec![
                matrix.accuracy(),
                matrix.kappa(),
                matrix.accuracy().map(|_| matrix.macro_f1()),
            ]
        });
        GroupHead {
            head: self.taxonomy.heads[head].name.clone(),
            accuracy: estimates[0],
            kappa: estimates[1],
            macro_f1: estimates[2],
        }
    }

    fn errors(&self, issues: &[usize]) -> Vec<Disagreement> {
        let mut errors = Vec::new();
        for &head in &self.model.answers.heads {
            let wrong = issues.iter().filter(|&&issue| self.is_error(issue, head));
            let mut wrong: Vec<Disagreement> =
                wrong.map(|&issue| self.disagreement(issue, head)).collect();
            wrong.sort_by(by_probability);
            wrong.truncate(ERRORS);
            errors.extend(wrong);
        }
        errors.sort_by(by_probability);
        errors
    }

    /// Whether an answer is wrong, and not only because that of the head it depends on is.
    fn is_error(&self, issue: usize, head: usize) -> bool {
        let (truth, predicted) = self.pair(issue, head);
        let condition = self.taxonomy.heads[head].applies_when.as_ref();
        let follows = condition.is_some_and(|condition| {
            self.model.answers.heads.contains(&condition.head) && {
                let (truth, predicted) = self.pair(issue, condition.head);
                truth != predicted
            }
        });
        truth != predicted && !follows
    }

    fn disagreement(&self, issue: usize, head: usize) -> Disagreement {
        let (truth, predicted) = self.pair(issue, head);
        let distribution = self.answer(issue, head).distribution.as_ref();
        let probability = |class: usize| {
            distribution.map(|distribution| f64::from(ten_thousandths(distribution[class])) / 1e4)
        };
        Disagreement {
            issue: self.gold[issue].id.clone(),
            url: self.gold[issue].id.url(),
            head: self.taxonomy.heads[head].name.clone(),
            truth: class_name(self.taxonomy, head, truth).to_owned(),
            predicted: class_name(self.taxonomy, head, predicted).to_owned(),
            probability: probability(predicted),
            truth_probability: probability(truth),
        }
    }
}

/// The most probable first; without probabilities all are equal.
fn by_probability(a: &Disagreement, b: &Disagreement) -> std::cmp::Ordering {
    let key = |error: &Disagreement| error.probability.unwrap_or(0.0);
    key(b).total_cmp(&key(a))
}

/// The distinct pairs, and how often each occurs.
fn tally(pairs: impl Iterator<Item = (usize, usize)>) -> (Vec<(usize, usize)>, Vec<u64>) {
    let mut cells: BTreeMap<(usize, usize), u64> = BTreeMap::new();
    for pair in pairs {
        *cells.entry(pair).or_default() += 1;
    }
    cells.into_iter().unzip()
}

fn matrix(classes: usize, cells: &[(usize, usize)], counts: &[u64]) -> ConfusionMatrix {
    let mut matrix = ConfusionMatrix::new(classes);
    for (&(truth, predicted), &count) in cells.iter().zip(counts) {
        matrix.add(truth, predicted, count);
    }
    matrix
}

/// The pairs of different labels that occur, the most frequent first.
fn confused(agreement: &Agreement) -> Vec<Confusion> {
    let labels = || agreement.labels.iter();
    let rows = labels().zip(&agreement.confusion);
    let mut pairs: Vec<Confusion> = rows
        .flat_map(|(truth, row)| {
            labels().zip(row).map(move |(predicted, &count)| Confusion {
                truth: truth.clone(),
                predicted: predicted.clone(),
                count,
            })
        })
        .filter(|pair| pair.truth != pair.predicted && pair.count > 0)
        .collect();
    pairs.sort_by_key(|pair| std::cmp::Reverse(pair.count));
    pairs
}

/// The `YYYY-MM` that a date begins with.
fn month(date: &str) -> Option<&str> {
    let month = date.get(..7)?;
    let is_month = month.bytes().enumerate().all(|(place, byte)| match place {
        4 => byte == b'-',
        _ => byte.is_ascii_digit(),
    });
    is_month.then_some(month)
}

#[cfg(test)]
mod tests;
