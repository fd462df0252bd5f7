//! Agreement between labels.

pub mod metrics;
pub mod report;
