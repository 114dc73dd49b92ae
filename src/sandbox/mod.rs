//! Namespaces of bubblewrap: the options that make them, and whether this machine allows them.
//!
//! Nothing in here knows what a prefix is.

pub(crate) mod fake_root;
pub(crate) mod namespaces;
