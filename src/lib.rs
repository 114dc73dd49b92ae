//! fprefix builds software with Gentoo's Portage into a path of its own, proves that nothing
//! reaches outside that path, and ships the result as a portable systemd sysext.
//!
//! The library never prints and never exits: the command line in `cli` does both. Modules are
//! listed in the order of the flow; imports go down this list only (see ARCHITECTURE.md).

pub mod cli;
pub mod pipeline;

pub mod check;
pub mod emerge;
pub mod final_root;
pub mod image;
pub mod pack;
pub mod portage;
pub mod prove;
pub mod report;
pub mod setup;

pub mod elf;

pub mod atom;
pub mod binhost;
pub mod board;
pub mod broot;
pub mod definition;
pub mod doctor;
pub mod environment;
pub mod layout;
pub mod libc;
pub mod machine;
pub mod names;
pub mod os_release;
pub mod phases;
pub mod repos;
pub mod rewrite;
pub mod shebang;
pub mod toolchain;
pub mod vdb;
pub mod wrappers;

pub mod command;
pub mod data;
pub mod filesystem;
pub mod lock;
pub mod output;
pub mod pypi;
pub mod rooted;
pub mod template;
pub mod tree;
