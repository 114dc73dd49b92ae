//! fprefix builds software with Gentoo's Portage into a path of its own, proves that nothing
//! reaches outside that path, and ships the result as a portable systemd sysext.
//!
//! The library never prints and never exits: the command line in `cli` does both. Modules are
//! listed in the order of the flow; imports go down this list only (see ARCHITECTURE.md).

pub mod base;
pub(crate) mod check;
pub mod cli;
pub mod elf;
pub(crate) mod fstree;
pub mod host;
pub(crate) mod imagefmt;
pub(crate) mod manifest;
pub(crate) mod os_image;
pub(crate) mod pipeline;
pub mod portage;
pub mod prefix;
pub mod relocate;
pub(crate) mod report;
pub(crate) mod sandbox;
pub(crate) mod sysext;
