//! Shares of labels among issues, estimated from many predicted labels and a few gold ones.
//!
//! PPI++ (Angelopoulos, Duchi and Zrnic 2023, PPI++: Efficient prediction-powered inference), stratified
//! (Fisch et al. 2024, Stratified prediction-powered inference) with the strata's shares of the corpus as
//! weights and one tuning parameter for all of them, which few gold issues a stratum determine better
//! than one each. Of one stratum, value and normal interval are those of the package `ppi_py`.
//!
//! What is estimated is a least squares fit of "has the label" within a domain (all issues, or the bugs)
//! on a constant, whose coefficient is the label's share, or on a constant and time, whose second
//! coefficient is the share's trend. Whether an issue is in the domain is itself predicted: the fit solves
//! prediction-powered normal equations, and its error is that of the linearised fit (the delta method).

use super::interval::{Z, wilson};

/// An issue as far as one label of one domain is concerned. Of an annotation both are 0 or 1, of a
/// prediction probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Membership {
    /// In the domain and with the label.
    pub label: f64,
    /// In the domain.
    pub domain: f64,
}

/// A gold issue: what is true of it and what was predicted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gold {
    pub truth: Membership,
    pub predicted: Membership,
    /// How many issues it stands for, up to a factor.
    pub weight: f64,
    pub time: f64,
}

/// An issue without annotation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unlabelled {
    pub predicted: Membership,
    pub time: f64,
}

/// Issues of which gold is a random sample.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Stratum {
    /// Its part of all the strata's issues.
    pub share: f64,
    /// At least two.
    pub gold: Vec<Gold>,
    /// May be none: then gold alone counts.
    pub unlabelled: Vec<Unlabelled>,
}

/// Which coefficient is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coefficient {
    /// The label's share within the domain.
    Share,
    /// The share's change by unit of time.
    Slope,
}

/// How much predictions count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Tuning {
    /// As much as makes the variance least, between 0 and 1.
    Best,
    /// This much; 0 is gold alone.
    Fixed(f64),
}

/// An estimate with what its error is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    pub value: f64,
    /// PPI++'s, which takes the tuning parameter for known: too small for rare labels.
    pub normal_error: f64,
    /// With the tuning parameter of each gold issue fitted to the others.
    pub error: f64,
    /// How much predictions counted, in `[0, 1]`.
    pub lambda: f64,
    /// Gold issues in the domain, and those of them with the label.
    pub gold_domain: f64,
    pub gold_label: f64,
    /// What each gold issue, then each unlabelled one, stratum after stratum, adds to the estimate: the sum
    /// of their squares is the square of `error`.
    pub influence: Vec<f64>,
}

/// Estimates a coefficient. `None` where it is undefined: no stratum, one with less than two gold issues,
/// no issue in the domain, one time only.
pub fn fit(strata: &[Stratum], coefficient: Coefficient, tuning: Tuning) -> Option<Fit> {
    if strata.is_empty() || strata.iter().any(|stratum| stratum.gold.len() < 2) {
        return None;
    }
    let first = match tuning {
        Tuning::Best => 1.0,
        Tuning::Fixed(lambda) => lambda,
    };
    let normal = NormalEquations::of(strata, first, coefficient)?;
    let lambda = match tuning {
        Tuning::Best => Influences::of(strata, &normal).lambda(),
        Tuning::Fixed(lambda) => lambda,
    };
    let normal = NormalEquations::of(strata, lambda, coefficient)?;
    let influences = Influences::of(strata, &normal);
    let others = match tuning {
        Tuning::Best => influences.lambda_without_each(),
        Tuning::Fixed(lambda) => influences.same_for_each(lambda),
    };
    let influence = influences.parts(lambda, &others);
    let gold = || strata.iter().flat_map(|stratum| &stratum.gold);
    Some(Fit {
        value: normal.value(),
        normal_error: influences.normal_variance(lambda).sqrt(),
        error: influence.iter().map(|part| part * part).sum::<f64>().sqrt(),
        lambda,
        gold_domain: gold().map(|gold| gold.truth.domain).sum(),
        gold_label: gold().map(|gold| gold.truth.label).sum(),
        influence,
    })
}

/// `matrix * coefficients = right`, in one or two dimensions (then `matrix` is symmetric).
struct NormalEquations {
    coefficient: Coefficient,
    /// The means of the domain times 1, time, and time squared.
    matrix: [f64; 3],
    coefficients: [f64; 2],
}

impl NormalEquations {
    fn of(strata: &[Stratum], lambda: f64, coefficient: Coefficient) -> Option<Self> {
        let (mut matrix, mut right) = ([0.0; 3], [0.0; 2]);
        let mut add = |weight: f64, membership: Membership, time: f64| {
            let Membership { label, domain } = membership;
            matrix[0] += weight * domain;
            matrix[1] += weight * domain * time;
            matrix[2] += weight * domain * time * time;
            right[0] += weight * label;
            right[1] += weight * label * time;
        };
        for stratum in strata {
            let total: f64 = stratum.gold.iter().map(|gold| gold.weight).sum();
            let lambda = if stratum.unlabelled.is_empty() {
                0.0
            } else {
                lambda
            };
            for gold in &stratum.gold {
                let weight = stratum.share * gold.weight / total;
                add(weight, gold.truth, gold.time);
                add(-lambda * weight, gold.predicted, gold.time);
            }
            let weight = lambda * stratum.share / stratum.unlabelled.len().max(1) as f64;
            for issue in &stratum.unlabelled {
                add(weight, issue.predicted, issue.time);
            }
        }
        let [one, time, square] = matrix;
        if one <= f64::EPSILON {
            return None;
        }
        let coefficients = match coefficient {
            Coefficient::Share => [right[0] / one, 0.0],
            Coefficient::Slope => {
                let determinant = one * square - time * time;
                if determinant <= 1e-12 * one * square {
                    return None;
                }
                [
                    (square * right[0] - time * right[1]) / determinant,
                    (one * right[1] - time * right[0]) / determinant,
                ]
            }
        };
        Some(Self {
            coefficient,
            matrix,
            coefficients,
        })
    }

    fn value(&self) -> f64 {
        match self.coefficient {
            Coefficient::Share => self.coefficients[0],
            Coefficient::Slope => self.coefficients[1],
        }
    }

    /// What an issue of weight 1 adds to the coefficient.
    fn influence(&self, membership: Membership, time: f64) -> f64 {
        let [one, mean, square] = self.matrix;
        let [constant, slope] = self.coefficients;
        match self.coefficient {
            Coefficient::Share => (membership.label - constant * membership.domain) / one,
            Coefficient::Slope => {
                let rest = membership.label - (constant + slope * time) * membership.domain;
                (one * time - mean) * rest / (one * square - mean * mean)
            }
        }
    }
}

/// The linearised estimate: the influence of every issue by truth and by prediction.
struct Influences {
    strata: Vec<StratumInfluences>,
}

struct StratumInfluences {
    share: f64,
    /// The gold issues' weights, which sum to 1, and influences by truth and by prediction.
    weights: Vec<f64>,
    truth: Vec<f64>,
    predicted: Vec<f64>,
    unlabelled: Vec<f64>,
    /// Of the unlabelled issues, or without them of gold.
    mean_unlabelled: f64,
    /// The influences' covariance over gold, and the predicted ones' variance over all issues.
    covariance: f64,
    variance: f64,
}

impl StratumInfluences {
    fn of(stratum: &Stratum, normal: &NormalEquations) -> Self {
        let total: f64 = stratum.gold.iter().map(|gold| gold.weight).sum();
        let weights: Vec<f64> = stratum
            .gold
            .iter()
            .map(|gold| gold.weight / total)
            .collect();
        let influence = |gold: &Gold, of: Membership| normal.influence(of, gold.time);
        let truth: Vec<f64> = stratum
            .gold
            .iter()
            .map(|gold| influence(gold, gold.truth))
            .collect();
        let predicted: Vec<f64> = stratum
            .gold
            .iter()
            .map(|gold| influence(gold, gold.predicted))
            .collect();
        let unlabelled: Vec<f64> = stratum
            .unlabelled
            .iter()
            .map(|issue| normal.influence(issue.predicted, issue.time))
            .collect();
        let (mean_truth, mean_predicted) = (dot(&weights, &truth), dot(&weights, &predicted));
        let covariance = (0..weights.len())
            .map(|i| weights[i] * (truth[i] - mean_truth) * (predicted[i] - mean_predicted))
            .sum();
        let all = predicted.len() + unlabelled.len();
        let every = || predicted.iter().chain(&unlabelled);
        let mean = every().sum::<f64>() / all as f64;
        let variance = every().map(|x| (x - mean).powi(2)).sum::<f64>() / (all - 1) as f64;
        let mean_unlabelled = match unlabelled.len() {
            0 => mean_predicted,
            count => unlabelled.iter().sum::<f64>() / count as f64,
        };
        Self {
            share: stratum.share,
            weights,
            truth,
            predicted,
            unlabelled,
            mean_unlabelled,
            covariance,
            variance,
        }
    }

    /// The reciprocal of the number of gold issues, of equal weights, that would say as much.
    fn per_gold(&self) -> f64 {
        self.weights.iter().map(|weight| weight * weight).sum()
    }

    /// What it adds to the numerator of the best tuning parameter, and to the denominator.
    fn numerator(&self, covariance: f64, per_gold: f64) -> f64 {
        match self.unlabelled.is_empty() {
            true => 0.0,
            false => self.share * self.share * covariance * per_gold,
        }
    }

    fn denominator(&self) -> f64 {
        match self.unlabelled.len() {
            0 => 0.0,
            count => {
                let per_issue = self.per_gold() + 1.0 / count as f64;
                self.share * self.share * self.variance * per_issue
            }
        }
    }

    /// The covariance over gold without each of its issues.
    fn covariances_without_each(&self) -> impl Iterator<Item = f64> {
        let sums = |values: &[f64]| dot(&self.weights, values);
        let (truth, predicted) = (sums(&self.truth), sums(&self.predicted));
        let products: f64 = (0..self.weights.len())
            .map(|i| self.weights[i] * self.truth[i] * self.predicted[i])
            .sum();
        (0..self.weights.len()).map(move |i| {
            let (weight, t, p) = (self.weights[i], self.truth[i], self.predicted[i]);
            let rest = (1.0 - weight).max(f64::MIN_POSITIVE);
            (products - weight * t * p) / rest
                - (truth - weight * t) * (predicted - weight * p) / (rest * rest)
        })
    }
}

impl Influences {
    fn of(strata: &[Stratum], normal: &NormalEquations) -> Self {
        let strata = strata
            .iter()
            .map(|stratum| StratumInfluences::of(stratum, normal));
        Self {
            strata: strata.collect(),
        }
    }

    fn numerator(&self) -> f64 {
        self.strata
            .iter()
            .map(|s| s.numerator(s.covariance, s.per_gold()))
            .sum()
    }

    fn denominator(&self) -> f64 {
        self.strata.iter().map(StratumInfluences::denominator).sum()
    }

    /// The tuning parameter of least variance.
    fn lambda(&self) -> f64 {
        ratio(self.numerator(), self.denominator())
    }

    /// By stratum and gold issue, the tuning parameter that the other issues give.
    fn lambda_without_each(&self) -> Vec<Vec<f64>> {
        let (numerator, denominator) = (self.numerator(), self.denominator());
        let strata = self.strata.iter().map(|stratum| {
            let own = stratum.numerator(stratum.covariance, stratum.per_gold());
            let without = stratum.covariances_without_each();
            without
                .map(|covariance| {
                    let changed = stratum.numerator(covariance, stratum.per_gold());
                    ratio(numerator - own + changed, denominator)
                })
                .collect()
        });
        strata.collect()
    }

    fn same_for_each(&self, lambda: f64) -> Vec<Vec<f64>> {
        self.strata
            .iter()
            .map(|stratum| vec![lambda; stratum.weights.len()])
            .collect()
    }

    /// PPI++'s variance, as `ppi_py` has it: sums of squares over the number of issues.
    fn normal_variance(&self, lambda: f64) -> f64 {
        let parts = self.strata.iter().map(|stratum| {
            let lambda = if stratum.unlabelled.is_empty() {
                0.0
            } else {
                lambda
            };
            let rest = |i: usize| stratum.truth[i] - lambda * stratum.predicted[i];
            let mean: f64 = (0..stratum.weights.len())
                .map(|i| stratum.weights[i] * rest(i))
                .sum();
            let gold: f64 = (0..stratum.weights.len())
                .map(|i| (stratum.weights[i] * (rest(i) - mean)).powi(2))
                .sum();
            let count = stratum.unlabelled.len().max(1) as f64;
            let squares = stratum
                .unlabelled
                .iter()
                .map(|x| (x - stratum.mean_unlabelled).powi(2));
            let unlabelled = lambda * lambda * squares.sum::<f64>() / (count * count);
            stratum.share * stratum.share * (gold + unlabelled)
        });
        parts.sum()
    }

    fn parts(&self, lambda: f64, others: &[Vec<f64>]) -> Vec<f64> {
        let mut parts = Vec::new();
        for (stratum, others) in self.strata.iter().zip(others) {
            let used = |lambda: f64| {
                if stratum.unlabelled.is_empty() {
                    0.0
                } else {
                    lambda
                }
            };
            // The unlabelled issues' mean is taken off, for a tuning parameter that differs between the
            // issues to cost what it costs.
            let rest = |i: usize| {
                stratum.truth[i]
                    - used(others[i]) * (stratum.predicted[i] - stratum.mean_unlabelled)
            };
            let count = stratum.weights.len();
            let mean: f64 = (0..count).map(|i| stratum.weights[i] * rest(i)).sum();
            // Of n issues n - 1 vary freely.
            let free = (count as f64 / (count - 1) as f64).sqrt();
            let part = |i: usize| stratum.share * stratum.weights[i] * (rest(i) - mean) * free;
            parts.extend((0..count).map(part));
            let each = stratum.share * used(lambda) / stratum.unlabelled.len().max(1) as f64;
            let unlabelled = stratum.unlabelled.iter();
            parts.extend(unlabelled.map(|x| each * (x - stratum.mean_unlabelled)));
        }
        parts
    }
}

fn ratio(numerator: f64, denominator: f64) -> f64 {
    match denominator > 0.0 {
        true => (numerator / denominator).clamp(0.0, 1.0),
        false => 0.0,
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

impl Fit {
    /// The 95 % interval of a share: Wilson's for as many issues as would give `error` by themselves.
    ///
    /// The normal interval holds the truth too rarely where the label is rare: of a label of 1 % and 100
    /// gold issues, in two of three samples. Where gold has no issue with the label, its error says
    /// nothing and the interval is that of gold's count alone.
    pub fn share_interval(&self) -> (f64, f64) {
        let share = self.value.clamp(0.0, 1.0);
        let seen = self.gold_label > 0.0
            && self.gold_label < self.gold_domain
            && self.error > 0.0
            && self.value > 0.0
            && self.value < 1.0;
        let issues = match seen {
            true => share * (1.0 - share) / (self.error * self.error),
            false => self.gold_domain.max(1.0),
        };
        wilson(share, issues)
    }

    /// The 95 % interval by the normal distribution, for a slope.
    pub fn normal_interval(&self) -> (f64, f64) {
        (self.value - Z * self.error, self.value + Z * self.error)
    }

    /// The error with which rankings count: not below what the interval says, so that a label that gold
    /// has never shown is not taken for certainly absent.
    pub fn cautious_error(&self) -> f64 {
        let (low, high) = self.share_interval();
        self.error.max((high - low) / (2.0 * Z))
    }
}
