//! Agreement between labels.

pub mod metrics;
