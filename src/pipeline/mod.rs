//! The order of the steps. No step runs another; this is where they meet.
//!
//! Nothing in here does the work of a step.

pub(crate) mod build;
pub(crate) mod image;
pub(crate) mod pack;
