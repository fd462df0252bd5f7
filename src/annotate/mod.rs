//! Labelling issues in the browser.
//!
//! [`server`] shows a [`Session`]: the issues to label, the annotator's file ([`store`]), the order in
//! which they come ([`queue`]), and what other annotators and a model say. [`learner`] ranks the pool in
//! the background by what the labels given so far leave uncertain; [`markdown`] makes an issue's text
//! safe to show; [`export`] is what is left when the work is done.

pub mod agreement;
pub mod export;
pub mod learner;
pub mod markdown;
pub mod queue;
pub mod reading;
pub mod server;
pub mod session;
pub mod store;

pub use queue::Queue;
pub use session::{Session, SessionError, Settings};
