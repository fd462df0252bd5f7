//! faultlens labels the issues of LLM serving frameworks with what kind of report they are, where
//! the failure shows and why it happens, and says how far each label can be trusted.
//!
//! Data flows one way:
//!
//! ```text
//! Issue -> condense -> tokenize -> Batch -> encoder -> heads -> decode -> Prediction -> writer
//! ```
//!
//! [`taxonomy::Taxonomy`] says which heads and labels there are, [`annotation::Annotation`] keeps
//! labels apart from texts, [`model::Classifier`] turns issues into [`prediction::Prediction`]s,
//! [`train`] makes a classifier from annotations, [`eval`] measures one, [`study`] says what a labelled
//! corpus shows, [`collect`] gets issues from GitHub, and [`annotate`] serves the page on which they are
//! labelled. The library never prints, reads the command line or exits: the binary does.

pub mod annotate;
pub mod annotation;
pub mod collect;
pub mod eval;
pub mod issue;
mod locked_file;
pub mod model;
pub mod prediction;
pub mod study;
pub mod taxonomy;
pub mod train;
