//! What a training starts from: a base model with fresh heads, or a fine-tuned model whose heads keep
//! what they know of the labels that the new taxonomy still has.

use std::collections::HashMap;

use candle_core::{Device, Result, Tensor};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::model::bundle::{Base, Bundle};
use crate::model::lexical::Lexical;
use crate::taxonomy::{Head, Origin, Taxonomy};

/// A model to fine-tune.
pub enum Start {
    /// An encoder without heads.
    Base(Box<Base>),
    /// A model that was fine-tuned before, under the same taxonomy or another.
    Model(Box<Bundle>),
}

/// Where each head of `new` comes from in `old`, by its name and the names it had; `None` for a new
/// head.
pub fn origins(new: &Taxonomy, old: &Taxonomy) -> Vec<Option<Origin>> {
    let origin = |head: &Head| {
        let index = head.names().find_map(|name| old.head_index(name))?;
        let labels = head.labels.iter().map(|label| {
            let names = std::iter::once(&label.name).chain(&label.was);
            names
                .filter_map(|name| old.heads[index].label_index(name))
                .collect()
        });
        Some(Origin {
            head: index,
            labels: labels.collect(),
        })
    };
    new.heads.iter().map(origin).collect()
}

impl Start {
    pub fn base(&self) -> &Base {
        match self {
            Self::Base(base) => base,
            Self::Model(bundle) => &bundle.base,
        }
    }

    /// The heads' first tensors, `<head>.weight` (labels, H) and `<head>.bias` (labels): as a fresh
    /// linear layer has them, uniform within `1/√H`, but for the rows of labels that the model to
    /// start from knows. A merged label takes the mean of its rows.
    pub(super) fn heads(
        &self,
        taxonomy: &Taxonomy,
        seed: u64,
        device: &Device,
    ) -> Result<HashMap<String, Tensor>> {
        let hidden = self.base().config.hidden_size;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let bound = 1.0 / (hidden as f32).sqrt();
        let mut tensors = HashMap::new();
        let known = match self {
            Self::Base(_) => vec![None; taxonomy.heads.len()],
            Self::Model(bundle) => origins(taxonomy, &bundle.taxonomy),
        };
        for (head, origin) in taxonomy.heads.iter().zip(known) {
            let labels = head.labels.len();
            let mut uniform = |count: usize| -> Vec<f32> {
                (0..count)
                    .map(|_| rng.random_range(-bound..bound))
                    .collect()
            };
            let (mut weight, mut bias) = (uniform(labels * hidden), uniform(labels));
            if let (Self::Model(bundle), Some(origin)) = (self, origin) {
                let old = &bundle.taxonomy.heads[origin.head].name;
                let old_weight: Vec<f32> = bundle.heads[&format!("{old}.weight")]
                    .flatten_all()?
                    .to_vec1()?;
                let old_bias: Vec<f32> = bundle.heads[&format!("{old}.bias")].to_vec1()?;
                carry_over(&mut weight, &old_weight, &origin.labels, hidden);
                carry_over(&mut bias, &old_bias, &origin.labels, 1);
            }
            tensors.insert(
                format!("{}.weight", head.name),
                Tensor::from_vec(weight, (labels, hidden), device)?,
            );
            tensors.insert(
                format!("{}.bias", head.name),
                Tensor::from_vec(bias, labels, device)?,
            );
        }
        Ok(tensors)
    }

    /// A label that fresh tensors stand for in [`Start::heads`], as head and label.
    pub(super) fn unknown_label(&self, taxonomy: &Taxonomy) -> Option<String> {
        let known = match self {
            Self::Base(_) => vec![None; taxonomy.heads.len()],
            Self::Model(bundle) => origins(taxonomy, &bundle.taxonomy),
        };
        taxonomy.heads.iter().zip(known).find_map(|(head, origin)| {
            let is_known = |i: usize| origin.as_ref().is_some_and(|o| !o.labels[i].is_empty());
            let unknown = (0..head.labels.len()).find(|&i| !is_known(i))?;
            Some(format!("{}.{}", head.name, head.labels[unknown].name))
        })
    }

    /// The lexical branch to go on training, if there is one.
    pub(super) fn lexical(&self, taxonomy: &Taxonomy) -> Option<Lexical> {
        match self {
            Self::Base(_) => None,
            Self::Model(bundle) => {
                let counts: Vec<usize> = taxonomy.heads.iter().map(|h| h.labels.len()).collect();
                let origins = origins(taxonomy, &bundle.taxonomy);
                Some(bundle.lexical.relabelled(&origins, &counts))
            }
        }
    }
}

/// Overwrites the rows of `new` (each of `width` values) that continue rows of `old` with their mean.
fn carry_over(new: &mut [f32], old: &[f32], origins: &[Vec<usize>], width: usize) {
    for (row, origins) in new.chunks_mut(width).zip(origins) {
        if origins.is_empty() {
            continue;
        }
        for (i, value) in row.iter_mut().enumerate() {
            let sum: f32 = origins.iter().map(|&origin| old[origin * width + i]).sum();
            *value = sum / origins.len() as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taxonomy(toml: &str) -> Taxonomy {
        let titled = toml.replace("name =", "title = \"\"\ndefinition = \"\"\nname =");
        Taxonomy::from_toml(&titled, "test").unwrap()
    }

    #[test]
    fn renamed_merged_new_and_kept_labels_find_their_rows() {
        let old = taxonomy(
            "[[heads]]\nname = \"kind\"\n[[heads.labels]]\nname = \"bug\"\n[[heads.labels]]\nname = \"wish\"\n\
             [[heads.labels]]\nname = \"ask\"\n[[heads.labels]]\nname = \"chat\"\n",
        );
        let new = taxonomy(
            "[[heads]]\nname = \"sort\"\nwas = \"kind\"\n[[heads.labels]]\nname = \"feature\"\nwas = \"wish\"\n\
             [[heads.labels]]\nname = \"bug\"\n[[heads.labels]]\nname = \"talk\"\nwas = [\"ask\", \"chat\"]\n\
             [[heads.labels]]\nname = \"duplicate\"\n\
             [[heads]]\nname = \"tone\"\n[[heads.labels]]\nname = \"calm\"\n[[heads.labels]]\nname = \"angry\"\n",
        );
        let expected = Origin {
            head: 0,
            labels: vec![vec![1], vec![0], vec![2, 3], vec![]],
        };
        assert_eq!(origins(&new, &old), [Some(expected), None]);
    }

    #[test]
    fn a_row_is_kept_averaged_or_left_as_it_was() {
        let mut new = [9.0, 9.0, 9.0, 9.0, 9.0, 9.0];
        let old = [1.0, 2.0, 3.0, 5.0];
        carry_over(&mut new, &old, &[vec![1], vec![], vec![0, 1]], 2);
        assert_eq!(new, [3.0, 5.0, 9.0, 9.0, 2.0, 3.5]);
    }
}
