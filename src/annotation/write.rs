//! Annotations as lines of JSONL.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::{Annotation, Confidence};
use crate::taxonomy::Taxonomy;

/// An annotation as [`read_annotations`](super::read_annotations) reads it back unchanged.
pub struct Line<'a> {
    pub annotation: &'a Annotation,
    pub taxonomy: &'a Taxonomy,
    /// Whether it replaces an earlier line of the file.
    pub revises: bool,
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self {
            annotation,
            taxonomy,
            revises,
        } = self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("repo", &annotation.id.repo)?;
        map.serialize_entry("number", &annotation.id.number)?;
        for (index, head) in taxonomy.heads.iter().enumerate() {
            if !annotation.unlabelled.contains(&index) {
                let label = taxonomy.label_name(index, annotation.labels[index]);
                map.serialize_entry(&head.name, label)?;
            }
        }
        if let Some(confidence) = annotation.confidence {
            let name = match confidence {
                Confidence::High => "high",
                Confidence::Low => "low",
            };
            map.serialize_entry("confidence", name)?;
        }
        if let Some(annotator) = &annotation.annotator {
            map.serialize_entry("annotator", annotator)?;
        }
        if !annotation.readings.is_empty() {
            for (name, labels) in ["first", "second"].into_iter().zip(&annotation.readings) {
                map.serialize_entry(name, &Reading { labels, taxonomy })?;
            }
            map.serialize_entry("adjudicated", &annotation.adjudicated)?;
        }
        if let Some(note) = &annotation.note {
            map.serialize_entry("note", note)?;
        }
        if annotation.suggested {
            map.serialize_entry("suggested", &true)?;
        }
        if let Some(weight) = annotation.weight {
            map.serialize_entry("weight", &weight)?;
        }
        if *revises {
            map.serialize_entry("revises", &true)?;
        }
        map.end()
    }
}

/// The label of every head by its name.
pub struct Reading<'a> {
    pub labels: &'a [Option<usize>],
    pub taxonomy: &'a Taxonomy,
}

impl Serialize for Reading<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.labels.len()))?;
        for (index, head) in self.taxonomy.heads.iter().enumerate() {
            let label = self.taxonomy.label_name(index, self.labels[index]);
            map.serialize_entry(&head.name, label)?;
        }
        map.end()
    }
}
