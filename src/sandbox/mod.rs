//! Namespaces of bubblewrap: the options that make them, and whether this machine allows them.
//!
//! Nothing in this module depends on prefixes.

pub(crate) mod bubblewrap;
pub(crate) mod fake_root;
pub(crate) mod namespaces;
