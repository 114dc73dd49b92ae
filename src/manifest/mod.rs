//! fprefix.toml and fprefix.lock: their schema, the positions of values in the text, and the parsed
//! values.
//!
//! Nothing in here runs a step.

pub(crate) mod configuration;
pub(crate) mod file;
pub(crate) mod installed;
pub(crate) mod lockfile;
pub(crate) mod source;
pub(crate) mod state;
pub(crate) mod tables;
pub(crate) mod tidy;
