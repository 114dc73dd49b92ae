//! Everything that is known of Portage: atoms, its databases, repositories, profiles, binary
//! packages, and its own installation.
//!
//! Nothing in here knows where a prefix keeps things.

pub(crate) mod atom;
pub(crate) mod binhost;
pub(crate) mod installation;
pub(crate) mod repos;
pub mod vdb;
