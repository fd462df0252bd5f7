//! Intervals of shares and of their differences.

use statrs::distribution::{ContinuousCDF, Normal};

/// The standard normal's 97.5 % quantile.
pub const Z: f64 = 1.959_963_984_540_054;

/// Wilson's 95 % interval of a share among `issues` (1927, Probable inference).
pub fn wilson(share: f64, issues: f64) -> (f64, f64) {
    let square = Z * Z;
    let centre = (share + square / (2.0 * issues)) / (1.0 + square / issues);
    let half = Z * (share * (1.0 - share) / issues + square / (4.0 * issues * issues)).sqrt()
        / (1.0 + square / issues);
    (
        (centre - half).max(0.0).min(share),
        (centre + half).min(1.0).max(share),
    )
}

/// The difference of two independent estimates, first minus second, with its 95 % interval (Newcombe
/// 1998, method 10: from the estimates' own intervals) and its two-sided p-value.
pub fn difference(first: (f64, f64, f64), second: (f64, f64, f64)) -> (f64, f64, f64, f64) {
    let ((a, a_low, a_high), (b, b_low, b_high)) = (first, second);
    let value = a - b;
    let below = ((a - a_low).powi(2) + (b_high - b).powi(2)).sqrt();
    let above = ((a_high - a).powi(2) + (b - b_low).powi(2)).sqrt();
    let towards_zero = if value >= 0.0 { below } else { above };
    let p = match towards_zero > 0.0 {
        true => 2.0 * (1.0 - normal_cdf(value.abs() / (towards_zero / Z))),
        false => 1.0,
    };
    (value, value - below, value + above, p.clamp(0.0, 1.0))
}

pub fn normal_cdf(x: f64) -> f64 {
    Normal::standard().cdf(x)
}

/// A label's share by counting predicted labels, corrected for the classifier's rates of hits and false
/// alarms on gold (adjusted classify-and-count, Forman 2008). `None` where these are the same.
pub fn adjusted_count(counted: f64, hits: f64, false_alarms: f64) -> Option<f64> {
    let power = hits - false_alarms;
    (power.abs() > 0.05).then(|| ((counted - false_alarms) / power).clamp(0.0, 1.0))
}
