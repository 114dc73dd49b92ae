//! Order of the steps. No step runs another one; only this module combines them.
//!
//! Nothing in here does the work of a step.

pub(crate) mod binhost;
pub(crate) mod build;
pub(crate) mod from_binhost;
pub(crate) mod image;
pub(crate) mod pack;
