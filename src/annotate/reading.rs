//! Another annotator's file, which may grow while it is read beside.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::annotation::{Annotation, AnnotationError, Coverage, read_annotations};
use crate::issue::IssueId;
use crate::taxonomy::Taxonomy;

/// What another annotator says, as the file last said it.
#[derive(Debug)]
pub struct Reading {
    path: PathBuf,
    /// The annotator's name in the file, or the file's.
    pub name: String,
    /// In the file's order.
    pub annotations: Vec<Annotation>,
    places: HashMap<IssueId, usize>,
    stamp: Option<(u64, SystemTime)>,
}

impl Reading {
    /// # Errors
    /// As [`read_annotations`].
    pub fn open(path: &Path, taxonomy: &Taxonomy) -> Result<Self, AnnotationError> {
        let mut reading = Self {
            path: path.to_owned(),
            name: String::new(),
            annotations: Vec::new(),
            places: HashMap::new(),
            stamp: None,
        };
        reading.read(taxonomy)?;
        let named = reading.annotations.iter().find_map(|a| a.annotator.clone());
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        reading.name = named.unwrap_or_else(|| stem.into_owned());
        Ok(reading)
    }

    pub fn get(&self, id: &IssueId) -> Option<&Annotation> {
        self.places.get(id).map(|&place| &self.annotations[place])
    }

    /// Reads the file again if it was changed. While it cannot be read, such as in the middle of a
    /// write, the labels are those of before.
    /// Says whether there is anything new.
    pub fn refresh(&mut self, taxonomy: &Taxonomy) -> bool {
        self.stamp() != self.stamp && self.read(taxonomy).is_ok()
    }

    fn stamp(&self) -> Option<(u64, SystemTime)> {
        let metadata = fs::metadata(&self.path).ok()?;
        Some((metadata.len(), metadata.modified().ok()?))
    }

    fn read(&mut self, taxonomy: &Taxonomy) -> Result<(), AnnotationError> {
        let stamp = self.stamp();
        self.annotations = read_annotations(&self.path, taxonomy, Coverage::AllHeads)?;
        let places = self.annotations.iter().enumerate();
        self.places = places.map(|(place, a)| (a.id.clone(), place)).collect();
        self.stamp = stamp;
        Ok(())
    }
}
