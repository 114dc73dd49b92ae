//! This machine: its kind, its programs and the packages that provide them, its toolchain and its
//! disks.
//!
//! Nothing in here depends on an environment of a prefix.

pub(crate) mod disk;
pub(crate) mod doctor;
pub(crate) mod home;
pub mod machine;
pub(crate) mod os_release;
pub(crate) mod pypi;
pub(crate) mod replaceable;
pub(crate) mod sudo;
pub(crate) mod toolchain;
pub(crate) mod tools;
