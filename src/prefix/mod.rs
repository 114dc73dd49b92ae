//! A prefix: its definition, its directories, its environments, and the steps that fill them.
//!
//! Nothing in here looks at what was built; that is for the steps after it.

pub(crate) mod broot;
pub mod definition;
pub(crate) mod emerge;
pub(crate) mod environment;
pub(crate) mod final_root;
pub(crate) mod integration;
pub mod layout;
mod mount_plan;
pub(crate) mod setup;
pub(crate) mod wrappers;
