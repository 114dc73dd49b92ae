//! A file tree as values: entries, the walk over a tree, the rule for links, extended attributes,
//! hashing and comparison.
//!
//! Nothing in this module depends on image formats, prefixes or extensions.

pub(crate) mod acl;
pub(crate) mod budget;
pub(crate) mod capability;
pub(crate) mod compare;
pub(crate) mod digest;
pub(crate) mod entries;
pub(crate) mod image_path;
pub(crate) mod listing;
mod plan_links;
pub(crate) mod resolve;
pub(crate) mod root_dir;
pub(crate) mod scan;
pub(crate) mod tar_stream;
pub(crate) mod walk;
pub(crate) mod xattr;
