//! Agreement of two label sequences, read from their confusion matrix.
//!
//! Conventions are scikit-learn's: a quotient with denominator 0 is 0, and averages over labels run
//! over those that occur in truth or prediction. What scikit-learn leaves NaN is `None` here. `t_k`
//! and `p_k` below are how often label `k` is true and predicted, `c` the number of right
//! predictions and `n` of all.

use ndarray::{Array2, Axis};

/// How often each label was predicted for each true label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfusionMatrix {
    counts: Array2<u64>,
}

impl ConfusionMatrix {
    /// An empty matrix over the labels `0..labels`.
    pub fn new(labels: usize) -> Self {
        Self {
            counts: Array2::zeros((labels, labels)),
        }
    }

    /// Counts the pairs `(truth, predicted)` of labels in `0..labels`.
    ///
    /// ```
    /// use faultlens::eval::metrics::ConfusionMatrix;
    ///
    /// let matrix = ConfusionMatrix::from_pairs([(0, 0), (0, 1), (1, 1), (1, 1)], 2);
    /// assert_eq!(matrix.accuracy(), Some(0.75));
    /// assert_eq!(matrix.kappa(), Some(0.5));
    /// ```
    ///
    /// # Panics
    /// If a label is not below `labels`.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (usize, usize)>, labels: usize) -> Self {
        let mut matrix = Self::new(labels);
        for (truth, predicted) in pairs {
            matrix.add(truth, predicted);
        }
        matrix
    }

    /// Counts one more pair.
    ///
    /// # Panics
    /// If a label is not below the number of labels.
    pub fn add(&mut self, truth: usize, predicted: usize) {
        self.counts[[truth, predicted]] += 1;
    }

    /// The counts, (labels, labels): rows are true labels, columns predicted ones.
    pub fn counts(&self) -> &Array2<u64> {
        &self.counts
    }

    /// The number of pairs.
    pub fn total(&self) -> u64 {
        self.counts.sum()
    }

    /// `c / n` in `[0, 1]`; `None` without pairs.
    pub fn accuracy(&self) -> Option<f64> {
        let n = self.total();
        (n > 0).then(|| quotient(self.correct(), n))
    }

    /// Of the pairs predicted `label`, the share that is right, in `[0, 1]`; 0 if there are none.
    pub fn precision(&self, label: usize) -> f64 {
        quotient(self.counts[[label, label]], self.predicted(label))
    }

    /// Of the pairs whose truth is `label`, the share that is predicted so, in `[0, 1]`; 0 if there
    /// are none.
    pub fn recall(&self, label: usize) -> f64 {
        quotient(self.counts[[label, label]], self.support(label))
    }

    /// The harmonic mean of precision and recall, `2 c_k / (t_k + p_k)`, in `[0, 1]` (van Rijsbergen
    /// 1979, Information Retrieval); 0 if the label does not occur.
    pub fn f1(&self, label: usize) -> f64 {
        quotient(
            2 * self.counts[[label, label]],
            self.support(label) + self.predicted(label),
        )
    }

    /// The mean of the labels' F1, in `[0, 1]` (the average of F1s of Opitz and Burst 2019,
    /// arXiv:1911.03347, not the F1 of averages); 0 without pairs.
    pub fn macro_f1(&self) -> f64 {
        let f1: Vec<f64> = self
            .labels()
            .filter(|&k| self.support(k) + self.predicted(k) > 0)
            .map(|k| self.f1(k))
            .collect();
        mean(&f1).unwrap_or(0.0)
    }

    /// The mean of the labels' F1 weighted by how often each is true, `sum_k t_k F1_k / n`, in
    /// `[0, 1]`; 0 without pairs.
    pub fn weighted_f1(&self) -> f64 {
        let weighted: f64 = self
            .labels()
            .map(|k| self.support(k) as f64 * self.f1(k))
            .sum();
        match self.total() {
            0 => 0.0,
            n => weighted / n as f64,
        }
    }

    /// The F1 of all decisions pooled. With one label a pair this is the accuracy; 0 without pairs.
    pub fn micro_f1(&self) -> f64 {
        self.accuracy().unwrap_or(0.0)
    }

    /// The mean recall of the labels that occur in truth, in `[0, 1]` (Brodersen et al. 2010, The
    /// balanced accuracy and its posterior distribution); `None` without pairs.
    pub fn balanced_accuracy(&self) -> Option<f64> {
        let recalls: Vec<f64> = self
            .labels()
            .filter(|&k| self.support(k) > 0)
            .map(|k| self.recall(k))
            .collect();
        mean(&recalls)
    }

    /// Cohen's kappa, `(p_o - p_e) / (1 - p_e)` with `p_o = c / n` and `p_e = sum_k t_k p_k / n²`, in
    /// `[-1, 1]`: agreement beyond chance (Cohen 1960, A coefficient of agreement for nominal
    /// scales). `None` where chance alone agrees always: both sequences are one and the same label
    /// throughout, or there are no pairs.
    pub fn kappa(&self) -> Option<f64> {
        let n = self.total() as f64;
        let by_chance = self.dot(Self::support, Self::predicted);
        (by_chance < n * n).then(|| (self.correct() as f64 * n - by_chance) / (n * n - by_chance))
    }

    /// Matthews' correlation coefficient for several labels, `R_K = (c n - sum_k t_k p_k) /
    /// sqrt((n² - sum_k t_k²)(n² - sum_k p_k²))`, in `[-1, 1]` (Gorodkin 2004, Comparing two
    /// K-category assignments by a K-category correlation coefficient); 0 where truth or prediction
    /// is one label throughout.
    pub fn matthews(&self) -> f64 {
        let n = self.total() as f64;
        let covariance = self.correct() as f64 * n - self.dot(Self::support, Self::predicted);
        let truth = n * n - self.dot(Self::support, Self::support);
        let predicted = n * n - self.dot(Self::predicted, Self::predicted);
        let variance = truth * predicted;
        if variance == 0.0 {
            0.0
        } else {
            covariance / variance.sqrt()
        }
    }

    fn labels(&self) -> std::ops::Range<usize> {
        0..self.counts.nrows()
    }

    /// How often `label` is true.
    fn support(&self, label: usize) -> u64 {
        self.counts.index_axis(Axis(0), label).sum()
    }

    /// How often `label` is predicted.
    fn predicted(&self, label: usize) -> u64 {
        self.counts.index_axis(Axis(1), label).sum()
    }

    fn correct(&self) -> u64 {
        self.counts.diag().sum()
    }

    /// The sum over labels of the product of two marginals.
    fn dot(&self, a: fn(&Self, usize) -> u64, b: fn(&Self, usize) -> u64) -> f64 {
        self.labels()
            .map(|k| a(self, k) as f64 * b(self, k) as f64)
            .sum()
    }
}

fn quotient(numerator: u64, denominator: u64) -> f64 {
    if denominator == 0 {
        0.0
    } else {
        numerator as f64 / denominator as f64
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use ndarray::array;
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Case {
        name: String,
        labels: usize,
        truth: Vec<usize>,
        predicted: Vec<usize>,
        expected: Expected,
    }

    #[derive(Deserialize)]
    struct Expected {
        precision: Vec<f64>,
        recall: Vec<f64>,
        f1: Vec<f64>,
        accuracy: Option<f64>,
        balanced_accuracy: Option<f64>,
        kappa: Option<f64>,
        matthews: f64,
        macro_f1: f64,
        weighted_f1: f64,
        micro_f1: f64,
    }

    #[test]
    fn every_measure_is_scikit_learns() {
        let cases: Vec<Case> =
            serde_json::from_str(include_str!("../../tests/fixtures/metrics.json")).unwrap();
        assert_eq!(cases.len(), 200);
        for case in cases {
            let pairs = case.truth.into_iter().zip(case.predicted);
            let matrix = ConfusionMatrix::from_pairs(pairs, case.labels);
            let close = |measure: &str, ours: Option<f64>, theirs: Option<f64>| {
                let same = match (ours, theirs) {
                    (Some(ours), Some(theirs)) => (ours - theirs).abs() < 1e-9,
                    _ => ours == theirs,
                };
                assert!(same, "{}: {measure} {ours:?}, not {theirs:?}", case.name);
            };
            let expected = case.expected;
            for label in 0..case.labels {
                let theirs = Some(expected.precision[label]);
                close("precision", Some(matrix.precision(label)), theirs);
                let theirs = Some(expected.recall[label]);
                close("recall", Some(matrix.recall(label)), theirs);
                close("F1", Some(matrix.f1(label)), Some(expected.f1[label]));
            }
            let balanced = matrix.balanced_accuracy();
            close("accuracy", matrix.accuracy(), expected.accuracy);
            close("balanced accuracy", balanced, expected.balanced_accuracy);
            close("kappa", matrix.kappa(), expected.kappa);
            close("Matthews", Some(matrix.matthews()), Some(expected.matthews));
            close("macro F1", Some(matrix.macro_f1()), Some(expected.macro_f1));
            let weighted = Some(matrix.weighted_f1());
            close("weighted F1", weighted, Some(expected.weighted_f1));
            close("micro F1", Some(matrix.micro_f1()), Some(expected.micro_f1));
        }
    }

    #[test]
    fn rows_are_truth_and_columns_predictions() {
        let matrix = ConfusionMatrix::from_pairs([(0, 1), (0, 1), (2, 0)], 3);
        assert_eq!(matrix.counts(), array![[0, 2, 0], [0, 0, 0], [1, 0, 0]]);
        assert_eq!(matrix.total(), 3);
    }

    #[test]
    fn without_pairs_ratios_are_undefined_and_averages_zero() {
        let matrix = ConfusionMatrix::new(3);
        assert_eq!(matrix.accuracy(), None);
        assert_eq!(matrix.balanced_accuracy(), None);
        assert_eq!(matrix.kappa(), None);
        for value in [
            matrix.macro_f1(),
            matrix.weighted_f1(),
            matrix.micro_f1(),
            matrix.matthews(),
        ] {
            assert_eq!(value, 0.0);
        }
    }
}
