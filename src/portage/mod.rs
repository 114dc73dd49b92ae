//! Formats, rules and programs of Portage: package identity, atoms, the VDB and its CONTENTS,
//! licences, the world file, binary packages, repositories, profiles, progress, and Portage's own
//! installation. No other module reads these formats.
//!
//! Nothing in here knows the directories of a prefix.

pub(crate) mod atom;
pub(crate) mod binhost;
pub(crate) mod contents;
pub mod cpv;
pub(crate) mod events;
pub(crate) mod fetch_log;
pub(crate) mod gpkg;
pub(crate) mod installation;
pub(crate) mod license;
pub(crate) mod merge_log;
pub(crate) mod ownership;
pub(crate) mod packages;
pub(crate) mod preserved;
pub(crate) mod provided;
pub(crate) mod repos;
pub(crate) mod sources;
pub mod vdb;
pub(crate) mod world;
