//! Agreement between labels.

pub mod bootstrap;
pub mod metrics;
pub mod report;
