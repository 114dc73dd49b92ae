//! Foundation of all modules: external programs, built-in data, templates, locks, files, and the
//! values that users type.
//!
//! Nothing in this module depends on Portage, ELF, images or extensions.

pub(crate) mod board;
pub mod command;
pub mod data;
pub(crate) mod escape;
pub mod files;
pub(crate) mod hint;
pub(crate) mod input;
pub mod inside;
pub(crate) mod level;
pub(crate) mod limits;
pub mod lock;
pub mod names;
pub(crate) mod output;
pub mod publish;
pub(crate) mod scratch;
pub(crate) mod secret;
pub mod template;
pub(crate) mod tmpfiles;
pub(crate) mod umask;
