//! Sequences of tokens packed for the encoder.

use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor};

/// B sequences of tokens laid end to end, N tokens in all.
#[derive(Debug, Clone)]
pub struct Batch {
    input_ids: Vec<u32>,
    /// Sequence `i` is tokens `offsets[i]..offsets[i + 1]`; B + 1 entries.
    offsets: Arc<[usize]>,
}

impl Batch {
    /// Packs sequences of token ids.
    pub fn pack<'a>(sequences: impl IntoIterator<Item = &'a [u32]>) -> Self {
        let mut input_ids = Vec::new();
        let mut offsets = vec![0];
        for sequence in sequences {
            input_ids.extend_from_slice(sequence);
            offsets.push(input_ids.len());
        }
        Self {
            input_ids,
            offsets: offsets.into(),
        }
    }

    /// The number of sequences, B.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of tokens, N.
    pub fn tokens(&self) -> usize {
        self.input_ids.len()
    }

    pub fn offsets(&self) -> &Arc<[usize]> {
        &self.offsets
    }

    /// Token ids (N).
    pub fn input_ids(&self, device: &Device) -> Result<Tensor> {
        Tensor::from_slice(&self.input_ids, self.tokens(), device)
    }

    /// Each token's position in its sequence (N).
    pub fn positions(&self, device: &Device) -> Result<Tensor> {
        let positions = self.lengths().flat_map(|length| 0..length as u32).collect();
        Tensor::from_vec(positions, self.tokens(), device)
    }

    /// The matrix (B, N) whose product with (N, H) is each sequence's mean.
    pub fn averaging(&self, device: &Device, dtype: DType) -> Result<Tensor> {
        let tokens = self.tokens();
        let mut matrix = vec![0f32; self.len() * tokens];
        for (i, range) in self.offsets.windows(2).enumerate() {
            let length = range[1] - range[0];
            matrix[i * tokens + range[0]..i * tokens + range[1]].fill(1.0 / length as f32);
        }
        Tensor::from_vec(matrix, (self.len(), tokens), device)?.to_dtype(dtype)
    }

    fn lengths(&self) -> impl Iterator<Item = usize> + '_ {
        self.offsets.windows(2).map(|range| range[1] - range[0])
    }
}

/// Groups sequences of the given lengths, shortest first, into batches of at most `max_tokens`
/// tokens (a longer sequence is a batch of its own). Returns indices into `lengths`.
pub fn group_by_length(lengths: &[usize], max_tokens: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&i| (lengths[i], i));
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut tokens = 0;
    for i in order {
        tokens += lengths[i];
        match groups.last_mut() {
            Some(group) if tokens <= max_tokens => group.push(i),
            _ => {
                groups.push(vec![i]);
                tokens = lengths[i];
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_restart_with_each_sequence() {
        let batch = Batch::pack([[5u32, 6, 7].as_slice(), &[8]]);
        let positions: Vec<u32> = batch.positions(&Device::Cpu).unwrap().to_vec1().unwrap();
        assert_eq!(positions, [0, 1, 2, 0]);
    }

    #[test]
    fn groups_hold_every_sequence_once_within_the_budget() {
        let lengths = [7, 1, 9, 30, 2, 2, 8];
        let groups = group_by_length(&lengths, 16);
        let mut all: Vec<usize> = groups.concat();
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3, 4, 5, 6]);
        for group in groups {
            let tokens: usize = group.iter().map(|&i| lengths[i]).sum();
            assert!(tokens <= 16 || group.len() == 1, "{group:?}");
        }
    }
}
