//! Products of bytes by the VNNI instructions of AVX-512: one of them multiplies 64 pairs and adds them in
//! fours. The sums leave the registers as the numbers that they stand for.

use std::arch::x86_64::*;

use super::profile::{CHAINS, ROUNDS};
use crate::model::kernels::{Columns, RowScale};

/// Lanes of a vector, vectors of a panel, and rows at a time: together as many sums as registers hold.
const LANES: usize = 16;
const VECTORS: usize = 4;
const PANEL: usize = VECTORS * LANES;
const ROWS: usize = 6;

/// Inputs that one instruction adds up.
const GROUP: usize = 4;

/// [`GROUP`] inputs of [`LANES`] outputs, where a cache line begins.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([i8; LANES * GROUP]);

fn available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vnni")
}

/// Multiplies and adds for a while, to see how fast that is. Returns how many operations that were; `None`:
/// the processor lacks the instructions.
pub fn multiply_add() -> Option<u64> {
    // SAFETY: the processor has the instructions.
    available().then(|| unsafe { multiply_add_vectors() })
}

#[target_feature(enable = "avx512f,avx512vnni")]
fn multiply_add_vectors() -> u64 {
    let (x, y) = std::hint::black_box((_mm512_set1_epi8(1), _mm512_set1_epi8(2)));
    let mut sums = [_mm512_setzero_si512(); CHAINS];
    for _ in 0..ROUNDS {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, x, y);
        }
    }
    std::hint::black_box(sums);
    2 * ROUNDS * (CHAINS * LANES * GROUP) as u64
}

/// Weights as the instructions read them: by panel of outputs, group of inputs, vector. What a panel lacks is
/// filled up with zeros.
pub struct Packed {
    lines: Vec<Line>,
    inputs: usize,
    outputs: usize,
    columns: Columns, // of whole panels
}

impl Packed {
    /// Of the bytes (O, I). `None`: the processor lacks the instructions, or the inputs are not in groups.
    pub fn new(bytes: &[i8], columns: &Columns) -> Option<Self> {
        let outputs = columns.bias.len();
        let inputs = bytes.len() / outputs;
        if !available() || !inputs.is_multiple_of(GROUP) {
            return None;
        }
        let groups = inputs / GROUP;
        let filled = outputs.next_multiple_of(PANEL);
        let mut lines = vec![Line([0; LANES * GROUP]); filled / LANES * groups];
        for (output, row) in bytes.chunks_exact(inputs).enumerate() {
            let (panel, column) = (output / PANEL, output % PANEL);
            for (group, bytes) in row.chunks_exact(GROUP).enumerate() {
                let line = (panel * groups + group) * VECTORS + column / LANES;
                lines[line].0[column % LANES * GROUP..][..GROUP].copy_from_slice(bytes);
            }
        }
        let mut columns = columns.clone();
        columns.scales.resize(filled, 0.0);
        columns.sums.resize(filled, 0);
        columns.bias.resize(filled, 0.0);
        Some(Self {
            lines,
            inputs,
            outputs,
            columns,
        })
    }

    /// Writes what the products of the rows of `bytes` (N, I) stand for to `out` (N, O).
    pub fn multiply(&self, bytes: &[u8], rows: &[RowScale], out: &mut [f32]) {
        assert_eq!(bytes.len(), rows.len() * self.inputs, "rows of bytes");
        assert_eq!(out.len(), rows.len() * self.outputs, "rows of results");
        // SAFETY: there is no `Packed` where the processor lacks the instructions.
        unsafe { self.multiply_rows(bytes, rows, out) }
    }

    #[target_feature(enable = "avx512f,avx512dq,avx512vnni")]
    fn multiply_rows(&self, bytes: &[u8], rows: &[RowScale], out: &mut [f32]) {
        let panels = self.lines.chunks_exact(self.inputs / GROUP * VECTORS);
        for (panel, lines) in panels.enumerate() {
            let first = panel * PANEL;
            let blocks = bytes.chunks(ROWS * self.inputs).zip(rows.chunks(ROWS));
            for ((bytes, rows), out) in blocks.zip(out.chunks_mut(ROWS * self.outputs)) {
                match rows.len() {
                    1 => self.block::<1>(lines, first, bytes, rows, out),
                    2 => self.block::<2>(lines, first, bytes, rows, out),
                    3 => self.block::<3>(lines, first, bytes, rows, out),
                    4 => self.block::<4>(lines, first, bytes, rows, out),
                    5 => self.block::<5>(lines, first, bytes, rows, out),
                    _ => self.block::<ROWS>(lines, first, bytes, rows, out),
                }
            }
        }
    }

    /// `M` rows with the panel whose first output is `first`.
    // Loops over numbers, since the compiler unrolls them and keeps the sums in registers.
    #[allow(clippy::needless_range_loop)]
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vnni")]
    fn block<const M: usize>(
        &self,
        lines: &[Line],
        first: usize,
        bytes: &[u8],
        rows: &[RowScale],
        out: &mut [f32],
    ) {
        let (inputs, outputs) = (self.inputs, self.outputs);
        assert!(bytes.len() >= M * inputs && lines.len() * GROUP == VECTORS * inputs);
        let mut sums = [[_mm512_setzero_si512(); VECTORS]; M];
        for group in 0..inputs / GROUP {
            let mut weights = [_mm512_setzero_si512(); VECTORS];
            for v in 0..VECTORS {
                // SAFETY: there are as many lines for each group, of 64 bytes, aligned to as many.
                let line = unsafe { lines.as_ptr().add(group * VECTORS + v) };
                weights[v] = unsafe { _mm512_load_si512(line.cast()) };
            }
            for m in 0..M {
                // SAFETY: the assertion: each of the rows has as many bytes as there are inputs.
                let four = unsafe { bytes.as_ptr().add(m * inputs + group * GROUP) };
                let four = _mm512_set1_epi32(unsafe { four.cast::<i32>().read_unaligned() });
                for v in 0..VECTORS {
                    sums[m][v] = _mm512_dpbusd_epi32(sums[m][v], four, weights[v]);
                }
            }
        }
        let Columns {
            scales,
            sums: of_columns,
            bias,
        } = &self.columns;
        for m in 0..M {
            let zero = _mm512_set1_epi32(rows[m].zero);
            let row_scale = _mm512_set1_ps(rows[m].scale);
            for v in 0..VECTORS {
                let at = first + v * LANES;
                let (here, width) = (at..at + LANES, outputs.saturating_sub(at).min(LANES));
                let out = &mut out[m * outputs + at.min(outputs)..][..width];
                // SAFETY: what is read are slices of 16 numbers of 32 bits; the mask leaves as many lanes to
                // write as the slice has.
                unsafe {
                    let of_column = _mm512_loadu_si512(of_columns[here.clone()].as_ptr().cast());
                    let scale = _mm512_loadu_ps(scales[here.clone()].as_ptr());
                    let bias = _mm512_loadu_ps(bias[here].as_ptr());
                    let zeros = _mm512_mullo_epi32(zero, of_column);
                    let products = _mm512_cvtepi32_ps(_mm512_sub_epi32(sums[m][v], zeros));
                    let values = _mm512_fmadd_ps(products, _mm512_mul_ps(row_scale, scale), bias);
                    _mm512_mask_storeu_ps(out.as_mut_ptr(), ((1u32 << width) - 1) as u16, values);
                }
            }
        }
    }
}
