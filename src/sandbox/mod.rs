//! Namespaces of bubblewrap: the options that make them, and whether this machine allows them.
//!
//! Nothing in this module depends on prefixes.

mod all_users;
pub(crate) mod bubblewrap;
pub(crate) mod devices;
pub(crate) mod fake_root;
pub(crate) mod foreign_tool;
mod limits;
pub(crate) mod machine_view;
pub(crate) mod namespaces;
pub(crate) mod syscall_filter;
