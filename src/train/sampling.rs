//! Which examples validate, and in which batches the others are read.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

use crate::issue::IssueId;

/// Whether an issue belongs to the validation split of `fraction`: by a hash of its identity, so that
/// it stays on its side when annotations are added.
pub fn validates(id: &IssueId, fraction: f64) -> bool {
    (hash(&id.to_string()) as f64) < fraction * u64::MAX as f64
}

/// The part of a cross-validation, from 0, that an issue belongs to: by a hash of the seed and its
/// identity, so that it stays there when annotations are added.
pub fn fold_of(id: &IssueId, folds: usize, seed: u64) -> usize {
    (hash(&format!("{seed} {id}")) % folds as u64) as usize
}

fn hash(text: &str) -> u64 {
    let digest = Sha256::digest(text);
    u64::from_be_bytes(std::array::from_fn(|i| digest[i]))
}

/// Batches of one epoch as indices into `lengths`: examples shuffled, sorted by length within pools of
/// 50 batches so that a batch's sequences are of a kind, and the batches shuffled. The same seed and
/// epoch give the same batches.
pub fn epoch_batches(
    lengths: &[usize],
    batch_size: usize,
    seed: u64,
    epoch: usize,
) -> Vec<Vec<usize>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(epoch as u64);
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.shuffle(&mut rng);
    let mut batches = Vec::new();
    for pool in order.chunks_mut(50 * batch_size) {
        pool.sort_by_key(|&i| lengths[i]);
        batches.extend(pool.chunks(batch_size).map(<[usize]>::to_vec));
    }
    batches.shuffle(&mut rng);
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> IssueId {
        IssueId {
            repo: "o/r".into(),
            number,
        }
    }

    #[test]
    fn the_split_has_the_wanted_size_and_growing_it_moves_nothing_out() {
        let tenth: Vec<u64> = (0..10_000).filter(|&n| validates(&id(n), 0.1)).collect();
        assert!((900..1100).contains(&tenth.len()), "{}", tenth.len());
        assert!(tenth.iter().all(|&n| validates(&id(n), 0.2)));
        assert!((0..100).all(|n| !validates(&id(n), 0.0)));
    }

    #[test]
    fn folds_are_of_a_size_and_another_seed_makes_others() {
        let folds = |seed| {
            (0..10_000)
                .map(|n| fold_of(&id(n), 5, seed))
                .collect::<Vec<_>>()
        };
        let first = folds(0);
        for fold in 0..5 {
            let size = first.iter().filter(|&&f| f == fold).count();
            assert!((1800..2200).contains(&size), "{size}");
        }
        let moved = first
            .iter()
            .zip(folds(1))
            .filter(|(a, b)| **a != *b)
            .count();
        assert!((7500..8500).contains(&moved), "{moved}");
    }

    #[test]
    fn an_epoch_reads_every_example_once_and_each_epoch_differs() {
        let lengths: Vec<usize> = (0..1000).map(|i| i * 7 % 256).collect();
        let first = epoch_batches(&lengths, 16, 1, 0);
        let mut all = first.concat();
        all.sort_unstable();
        assert_eq!(all, (0..1000).collect::<Vec<_>>());
        assert_eq!(first, epoch_batches(&lengths, 16, 1, 0));
        assert_ne!(first, epoch_batches(&lengths, 16, 1, 1));
        assert_ne!(first, epoch_batches(&lengths, 16, 2, 0));
    }
}
