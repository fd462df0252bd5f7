//! The queue that learns: issues are embedded and ranked in the background while others are labelled.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ndarray::Array2;

use super::Session;
use crate::annotate::learner::{Labelled, Learner, Pool};
use crate::annotate::queue::{self, Queue, Uncertainty};
use crate::issue::Issue;
use crate::model::{Embedding, ModelError};

/// Issues that are ranked at once.
const BATCH: usize = 10;
/// Labels after which the heads are fitted again.
const LABELS_PER_FIT: usize = 5;
/// How freely the heads depart from the model's (see [`Learner`]).
const VARIANCE: f32 = 1.0;
/// Issues embedded between two looks at the labels.
const WINDOW: usize = 64;

impl Session {
    /// Embeds the issues and ranks them, again and again as labels come in, until `stop`. Returns at
    /// once where nothing is to be ranked.
    ///
    /// # Errors
    /// If the model fails.
    pub fn learn(&self, stop: &AtomicBool) -> Result<(), ModelError> {
        let queue = self.settings.queue;
        let Some(classifier) = &self.classifier else {
            return Ok(());
        };
        if !matches!(queue, Queue::Uncertain | Queue::Diverse) {
            return Ok(());
        }
        let mut order = self.state().candidates.clone();
        {
            // What is labelled teaches: it goes first.
            let mut state = self.state();
            order.sort_by_key(|&place| state.store.get(&self.issues[place].id).is_none());
            state.learning.pool = order.len();
        }
        let mut windows = order.chunks(WINDOW);
        let mut ranked = None;
        while !stop.load(Ordering::Relaxed) {
            let window = windows.next();
            if let Some(window) = window {
                let issues: Vec<Issue> = window.iter().map(|&p| self.issues[p].clone()).collect();
                let embedded = classifier.embed(&issues)?;
                self.embeddings()
                    .extend(window.iter().copied().zip(embedded));
                self.state().learning.embedded += window.len();
            } else {
                std::thread::sleep(Duration::from_millis(50));
            }
            if self.is_due(ranked, window.is_some()) {
                ranked = Some(self.rank());
            }
        }
        Ok(())
    }

    /// Whether enough has changed since the queue was ranked by `ranked` labels and embeddings.
    fn is_due(&self, ranked: Option<(usize, usize)>, growing: bool) -> bool {
        let state = self.state();
        let Some((labels, embedded)) = ranked else {
            return true;
        };
        let open = state.ranked.iter();
        let open = open.filter(|&&place| state.store.get(&self.issues[place].id).is_none());
        let short = open.count() < BATCH / 2;
        state.store.len().abs_diff(labels) >= LABELS_PER_FIT
            || (short && (growing || state.store.len() != labels))
            || (!growing && embedded < state.learning.embedded)
    }

    /// Fits the heads to the labels so far and puts the next batch first. Gives how many labels and
    /// embeddings that was by.
    fn rank(&self) -> (usize, usize) {
        let (places, pool) = self.pool();
        let row: HashMap<usize, usize> = places.iter().enumerate().map(|(r, p)| (*p, r)).collect();
        let (labels, known) = {
            let state = self.state();
            let known = state.store.annotations().filter_map(|annotation| {
                let place = self.places.get(&annotation.id)?;
                Some((*row.get(place)?, annotation.labels.clone()))
            });
            (state.store.len(), known.collect::<Vec<_>>())
        };
        let mut is_open = vec![true; pool.len()];
        known.iter().for_each(|(row, _)| is_open[*row] = false);
        let chosen = match self.settings.queue {
            Queue::Diverse => {
                let labelled: Vec<usize> = known.iter().map(|(row, _)| *row).collect();
                queue::diverse(&pool, &labelled, &is_open, BATCH)
            }
            _ => {
                let labelled: Vec<Labelled> =
                    known.iter().map(|(r, l)| (*r, l.as_slice())).collect();
                let mut learner = Learner::new(&self.taxonomy, pool.features.ncols(), VARIANCE);
                learner.fit(&pool, &labelled);
                queue::uncertain(
                    &self.taxonomy,
                    &pool,
                    &learner.probabilities(&pool),
                    &is_open,
                    BATCH,
                    &Uncertainty::default(),
                )
            }
        };
        let mut state = self.state();
        state.ranked = chosen.into_iter().map(|row| places[row]).collect();
        state.learning.labels = Some(known.len());
        (labels, places.len())
    }

    /// The issues embedded so far, and the pool that they are.
    fn pool(&self) -> (Vec<usize>, Pool) {
        let embeddings = self.embeddings();
        let mut places: Vec<usize> = embeddings.keys().copied().collect();
        places.sort_unstable();
        let rows = |row: &dyn Fn(&Embedding) -> &[f32]| {
            let width = places.first().map_or(0, |p| row(&embeddings[p]).len());
            let values = places
                .iter()
                .flat_map(|p| row(&embeddings[p]).iter().copied());
            Array2::from_shape_vec((places.len(), width), values.collect())
                .expect("every row is as wide")
        };
        let heads = 0..self.taxonomy.heads.len();
        let pool = Pool {
            features: Pool::normalised(rows(&|embedding| &embedding.pooled)),
            offsets: heads
                .map(|head| rows(&|embedding| &embedding.logits[head]))
                .collect(),
        };
        (places, pool)
    }
}
