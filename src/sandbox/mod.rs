//! Namespaces of bubblewrap: the options that make them, and whether this machine allows them.
//!
//! Nothing in this module depends on prefixes.

pub(crate) mod bubblewrap;
pub(crate) mod fake_root;
pub(crate) mod foreign_tool;
mod limits;
pub(crate) mod namespaces;
mod syscall_filter;
