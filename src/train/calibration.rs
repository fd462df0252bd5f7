//! Temperature scaling (Guo et al. 2017): one number a head that makes its probabilities honest.

use crate::model::heads::softmax;

/// Fewer labels than this say nothing reliable about probabilities.
const MIN_LABELS: usize = 30;

/// The temperature in `[0.25, 4]` that minimises the negative log-likelihood of `(logits, label)`
/// pairs, by golden-section search over its logarithm. 1 where there are fewer than 30 pairs.
pub fn fit_temperature(pairs: &[(&[f32], usize)]) -> f32 {
    if pairs.len() < MIN_LABELS {
        return 1.0;
    }
    let loss = |log_temperature: f64| -> f64 {
        let temperature = log_temperature.exp() as f32;
        pairs
            .iter()
            .map(|(logits, label)| -f64::from(softmax(logits, temperature)[*label].max(1e-30)).ln())
            .sum()
    };
    let ratio = (5f64.sqrt() - 1.0) / 2.0;
    let (mut low, mut high) = (0.25f64.ln(), 4f64.ln());
    for _ in 0..40 {
        let (a, b) = (high - ratio * (high - low), low + ratio * (high - low));
        if loss(a) < loss(b) { high = b } else { low = a }
    }
    ((low + high) / 2.0).exp() as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overconfident_logits_get_the_temperature_that_made_them_so() {
        // Labels are drawn so that P = softmax(z) is exactly right; the logits shown are 2·z.
        let z = [3f32.ln(), 0.0];
        let shown = z.map(|z| 2.0 * z);
        let pairs: Vec<(&[f32], usize)> = (0..400)
            .map(|i| (&shown[..], usize::from(i % 4 == 0)))
            .collect();
        assert!((fit_temperature(&pairs) - 2.0).abs() < 1e-3);
    }

    #[test]
    fn few_labels_leave_the_probabilities_alone() {
        let pairs: Vec<(&[f32], usize)> = vec![(&[5.0, 0.0], 1); 10];
        assert_eq!(fit_temperature(&pairs), 1.0);
    }
}
