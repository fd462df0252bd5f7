//! Agreement of two label sequences, read from their confusion matrix.
//!
//! Conventions are scikit-learn's: a quotient with denominator 0 is 0, and averages over labels run
//! over those that occur in truth or prediction. What scikit-learn leaves NaN is `None` here. `t_k`
//! and `p_k` below are how often label `k` is true and predicted, `c` the number of right
//! predictions and `n` of all.

use ndarray::Array2;

/// How often each label was predicted for each true label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfusionMatrix {
    counts: Array2<u64>,
    /// How often each label is true and predicted: the sums of rows and columns.
    support: Vec<u64>,
    predicted: Vec<u64>,
    /// Averages run over the labels below this.
    averaged: usize,
}

impl ConfusionMatrix {
    /// An empty matrix over the labels `0..labels`.
    pub fn new(labels: usize) -> Self {
        Self {
            counts: Array2::zeros((labels, labels)),
            support: vec![0; labels],
            predicted: vec![0; labels],
            averaged: labels,
        }
    }

    /// Lets macro, micro and weighted F1 and balanced accuracy run over the labels `0..labels` only,
    /// as scikit-learn's parameter `labels` does. The others stay what they are: wrong answers.
    pub fn averaging_over(self, labels: usize) -> Self {
        Self {
            averaged: labels,
            ..self
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
            matrix.add(truth, predicted, 1);
        }
        matrix
    }

    /// Counts `times` more pairs.
    ///
    /// # Panics
    /// If a label is not below the number of labels.
    pub fn add(&mut self, truth: usize, predicted: usize, times: u64) {
        self.counts[[truth, predicted]] += times;
        self.support[truth] += times;
        self.predicted[predicted] += times;
    }

    /// The counts, (labels, labels): rows are true labels, columns predicted ones.
    pub fn counts(&self) -> &Array2<u64> {
        &self.counts
    }

    /// The number of pairs.
    pub fn total(&self) -> u64 {
        self.support.iter().sum()
    }

    /// How often `label` is true.
    pub fn support(&self, label: usize) -> u64 {
        self.support[label]
    }

    /// How often `label` is predicted.
    pub fn predicted(&self, label: usize) -> u64 {
        self.predicted[label]
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
        let occurs = |&k: &usize| self.support(k) + self.predicted(k) > 0;
        mean(self.labels().filter(occurs).map(|k| self.f1(k))).unwrap_or(0.0)
    }

    /// The mean of the labels' F1 weighted by how often each is true, `sum_k t_k F1_k / sum_k t_k`,
    /// in `[0, 1]`; 0 without pairs.
    pub fn weighted_f1(&self) -> f64 {
        let weighted = |k| self.support(k) as f64 * self.f1(k);
        match self.labels().map(|k| self.support(k)).sum::<u64>() {
            0 => 0.0,
            n => self.labels().map(weighted).sum::<f64>() / n as f64,
        }
    }

    /// The F1 of all decisions pooled, `2 sum_k c_k / sum_k (t_k + p_k)`, in `[0, 1]`; 0 without
    /// pairs. Over all labels this is the accuracy.
    pub fn micro_f1(&self) -> f64 {
        let correct: u64 = self.labels().map(|k| self.counts[[k, k]]).sum();
        let decisions = self.labels().map(|k| self.support(k) + self.predicted(k));
        quotient(2 * correct, decisions.sum())
    }

    /// The mean recall of the labels that occur in truth, in `[0, 1]` (Brodersen et al. 2010, The
    /// balanced accuracy and its posterior distribution); `None` without pairs.
    pub fn balanced_accuracy(&self) -> Option<f64> {
        let is_true = |&k: &usize| self.support(k) > 0;
        mean(self.labels().filter(is_true).map(|k| self.recall(k)))
    }

    /// Cohen's kappa, `(p_o - p_e) / (1 - p_e)` with `p_o = c / n` and `p_e = sum_k t_k p_k / n²`, in
    /// `[-1, 1]`: agreement beyond chance (Cohen 1960, A coefficient of agreement for nominal
    /// scales). `None` where chance alone agrees always: both sequences are one and the same label
    /// throughout, or there are no pairs.
    pub fn kappa(&self) -> Option<f64> {
        let n = self.total() as f64;
        let by_chance = dot(&self.support, &self.predicted);
        (by_chance < n * n).then(|| (self.correct() as f64 * n - by_chance) / (n * n - by_chance))
    }

    /// Matthews' correlation coefficient for several labels, `R_K = (c n - sum_k t_k p_k) /
    /// sqrt((n² - sum_k t_k²)(n² - sum_k p_k²))`, in `[-1, 1]` (Gorodkin 2004, Comparing two
    /// K-category assignments by a K-category correlation coefficient); 0 where truth or prediction
    /// is one label throughout.
    pub fn matthews(&self) -> f64 {
        let n = self.total() as f64;
        let covariance = self.correct() as f64 * n - dot(&self.support, &self.predicted);
        let truth = n * n - dot(&self.support, &self.support);
        let predicted = n * n - dot(&self.predicted, &self.predicted);
        let variance = truth * predicted;
        if variance == 0.0 {
            0.0
        } else {
            covariance / variance.sqrt()
        }
    }

    /// The labels that averages run over.
    fn labels(&self) -> std::ops::Range<usize> {
        0..self.averaged
    }

    fn correct(&self) -> u64 {
        self.counts.diag().sum()
    }
}

/// The sum over labels of the product of two marginals.
fn dot(a: &[u64], b: &[u64]) -> f64 {
    let products = a.iter().zip(b).map(|(&a, &b)| a as f64 * b as f64);
    products.sum()
}

fn quotient(numerator: u64, denominator: u64) -> f64 {
    if denominator == 0 {
        0.0
    } else {
        numerator as f64 / denominator as f64
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (count, sum) = values.fold((0, 0.0), |(count, sum), value| (count + 1, sum + value));
    (count > 0).then(|| sum / f64::from(count))
}

#[cfg(test)]
mod tests {
    use ndarray::array;
    use proptest::prelude::*;
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
        macro_f1_without_last: f64,
        weighted_f1_without_last: f64,
        micro_f1_without_last: f64,
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

            let without_last = matrix.averaging_over(case.labels - 1);
            for (measure, ours, theirs) in [
                (
                    "macro F1",
                    without_last.macro_f1(),
                    expected.macro_f1_without_last,
                ),
                (
                    "weighted F1",
                    without_last.weighted_f1(),
                    expected.weighted_f1_without_last,
                ),
                (
                    "micro F1",
                    without_last.micro_f1(),
                    expected.micro_f1_without_last,
                ),
            ] {
                close(
                    &format!("{measure} without the last label"),
                    Some(ours),
                    Some(theirs),
                );
            }
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

    /// Labels below 5, and pairs of which most have a label that occurs.
    fn pairs() -> impl Strategy<Value = Vec<(usize, usize)>> {
        let pair = (0..5usize, 0..5usize, 0..3u8);
        let pair = pair.prop_map(|(truth, other, right)| match right {
            0 => (truth, other),
            _ => (truth, truth),
        });
        prop::collection::vec(pair, 1..60)
    }

    fn close(a: Option<f64>, b: Option<f64>) -> bool {
        match (a, b) {
            (Some(a), Some(b)) => (a - b).abs() < 1e-12,
            (a, b) => a == b,
        }
    }

    fn measures(matrix: &ConfusionMatrix) -> [Option<f64>; 7] {
        [
            matrix.accuracy(),
            matrix.balanced_accuracy(),
            matrix.kappa(),
            Some(matrix.matthews()),
            Some(matrix.macro_f1()),
            Some(matrix.weighted_f1()),
            Some(matrix.micro_f1()),
        ]
    }

    proptest! {
        #[test]
        fn the_names_of_labels_do_not_matter(pairs in pairs(), order in Just([0, 1, 2, 3, 4]).prop_shuffle()) {
            let matrix = ConfusionMatrix::from_pairs(pairs.iter().copied(), 5);
            let renamed = pairs.iter().map(|&(truth, predicted)| (order[truth], order[predicted]));
            let renamed = ConfusionMatrix::from_pairs(renamed, 5);
            for (ours, theirs) in measures(&matrix).into_iter().zip(measures(&renamed)) {
                prop_assert!(close(ours, theirs), "{ours:?} {theirs:?}");
            }
            for (label, other) in order.into_iter().enumerate() {
                prop_assert_eq!(matrix.f1(label), renamed.f1(other));
            }
        }

        #[test]
        fn symmetric_measures_take_either_side_as_truth(pairs in pairs()) {
            let matrix = ConfusionMatrix::from_pairs(pairs.iter().copied(), 5);
            let turned = ConfusionMatrix::from_pairs(pairs.iter().map(|&(a, b)| (b, a)), 5);
            prop_assert!(close(matrix.accuracy(), turned.accuracy()));
            prop_assert!(close(matrix.kappa(), turned.kappa()));
            prop_assert!(close(Some(matrix.macro_f1()), Some(turned.macro_f1())));
            prop_assert!(close(Some(matrix.matthews()), Some(turned.matthews())));
            for label in 0..5 {
                prop_assert_eq!(matrix.precision(label), turned.recall(label));
            }
        }

        #[test]
        fn measures_stay_in_their_ranges_and_1_means_all_right(pairs in pairs()) {
            let matrix = ConfusionMatrix::from_pairs(pairs.iter().copied(), 5);
            let all_right = pairs.iter().all(|(truth, predicted)| truth == predicted);
            for (index, measure) in measures(&matrix).into_iter().enumerate() {
                let Some(measure) = measure else { continue };
                let least = if matches!(index, 2 | 3) { -1.0 } else { 0.0 };
                prop_assert!(measure >= least && measure <= 1.0 + 1e-12, "{index}: {measure}");
                prop_assert!(all_right || measure < 1.0 - 1e-9, "{index}: {measure}");
            }
        }

        #[test]
        fn weighted_f1_is_the_sum_of_f1_by_support_and_supports_sum_to_the_total(pairs in pairs()) {
            let matrix = ConfusionMatrix::from_pairs(pairs.iter().copied(), 5);
            let supports: u64 = (0..5).map(|label| matrix.support(label)).sum();
            let predicted: u64 = (0..5).map(|label| matrix.predicted(label)).sum();
            prop_assert_eq!((supports, predicted), (matrix.total(), matrix.total()));
            let weighted: f64 = (0..5).map(|label| matrix.support(label) as f64 * matrix.f1(label)).sum();
            prop_assert!(close(Some(matrix.weighted_f1()), Some(weighted / matrix.total() as f64)));
            let recalled: f64 = (0..5).map(|label| matrix.support(label) as f64 * matrix.recall(label)).sum();
            prop_assert!(close(matrix.accuracy(), Some(recalled / matrix.total() as f64)));
        }
    }
}
