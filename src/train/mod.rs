//! Fine-tuning.
