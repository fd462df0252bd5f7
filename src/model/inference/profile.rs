//! Where the encoder's time goes, and the most that a core can do.

use std::time::{Duration, Instant};

use pulp::{Arch, Simd, WithSimd};
use serde::Serialize;

/// Parts of the encoder's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Of rows with weights.
    Products,
    /// Of rows to bytes, before products of bytes.
    Rounding,
    Attention,
    Activation,
    /// Residual sums and layer norms, the embeddings and the mean.
    Norms,
}

impl Part {
    pub const ALL: [Self; 5] = [
        Self::Products,
        Self::Rounding,
        Self::Attention,
        Self::Activation,
        Self::Norms,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Products => "products",
            Self::Rounding => "rounding",
            Self::Attention => "attention",
            Self::Activation => "activation",
            Self::Norms => "norms",
        }
    }
}

/// Adds up the time of each part of the work of one thread.
pub struct Clock {
    last: Instant,
    spent: [Duration; Part::ALL.len()],
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            last: Instant::now(),
            spent: Default::default(),
        }
    }
}

impl Clock {
    /// What follows counts from now on.
    pub fn start(&mut self) {
        self.last = Instant::now();
    }

    /// What was done since the last call was `part`.
    pub fn lap(&mut self, part: Part) {
        let now = Instant::now();
        self.spent[part as usize] += now - self.last;
        self.last = now;
    }

    pub fn spent(&self, part: Part) -> Duration {
        self.spent[part as usize]
    }
}

/// Time and work of one part, on one core.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PartFigures {
    pub part: Part,
    pub seconds: f64,
    /// Multiplications and additions, of those parts that consist of them.
    pub operations: Option<f64>,
}

/// Multiplications and additions that a core does in a second with its widest instructions, nothing read or
/// written: measured, the best of some short runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Peak {
    pub f32: f64,
    /// Added up in f32. `None`: not known how on this processor.
    pub bf16: Option<f64>,
    /// Of bytes, added up in 32 bits. `None`: not known how on this processor.
    pub int8: Option<f64>,
}

impl Peak {
    pub fn measure() -> Self {
        Self {
            f32: best(|| Arch::new().dispatch(MultiplyAdd)),
            #[cfg(target_arch = "x86_64")]
            bf16: best_if_any(super::bf16::multiply_add),
            #[cfg(target_arch = "x86_64")]
            int8: best_if_any(super::vnni::multiply_add),
            #[cfg(not(target_arch = "x86_64"))]
            bf16: None,
            #[cfg(not(target_arch = "x86_64"))]
            int8: None,
        }
    }
}

/// Operations a second of `work`, which returns how many it did.
fn best(work: impl Fn() -> u64) -> f64 {
    let rate = |_| {
        let begun = Instant::now();
        let operations = work();
        operations as f64 / begun.elapsed().as_secs_f64()
    };
    (0..20).map(rate).fold(0.0, f64::max)
}

#[cfg(target_arch = "x86_64")]
fn best_if_any(work: impl Fn() -> Option<u64>) -> Option<f64> {
    work().map(|_| best(|| work().expect("a processor keeps its instructions")))
}

/// Vectors that are added to at once: enough that none waits for its last sum.
pub const CHAINS: usize = 12;
/// Sums of each.
pub const ROUNDS: u64 = 200_000;

struct MultiplyAdd;

impl WithSimd for MultiplyAdd {
    type Output = u64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> u64 {
        let (x, y) = std::hint::black_box((simd.splat_f32s(0.5), simd.splat_f32s(0.25)));
        let mut sums = [simd.splat_f32s(0.0); CHAINS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = simd.mul_add_f32s(x, y, *sum);
            }
        }
        std::hint::black_box(sums);
        2 * ROUNDS * (CHAINS * size_of::<S::f32s>() / size_of::<f32>()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_counts_for_the_part_that_took_it() {
        let mut clock = Clock::default();
        std::thread::sleep(Duration::from_millis(20));
        clock.start();
        std::thread::sleep(Duration::from_millis(5));
        clock.lap(Part::Attention);
        assert!(clock.spent(Part::Attention) >= Duration::from_millis(5));
        assert_eq!(clock.spent(Part::Products), Duration::ZERO);
        let all: Duration = Part::ALL.map(|part| clock.spent(part)).into_iter().sum();
        assert_eq!(all, clock.spent(Part::Attention));
    }
}
