//! Packing of a root with a prefix into an extension that systemd attaches.
//!
//! The plan comes first, the bytes second. A [`FileTree`](crate::fstree::entries::FileTree) lists
//! the content of the extension entry by entry: content, mode, owner, time. The writers turn one
//! plan into bytes with the usual tools of each format. The result is read back and compared with
//! the plan.
//!
//! The same root gives the same bytes for every user and at any time: owners and the times of
//! directories come from the plan, never from the disk.
//!
//! Nothing in here knows how an image format stores its bytes.

pub(crate) mod base;
pub(crate) mod charsets;
mod commands;
mod dev_links;
pub(crate) mod difference;
pub(crate) mod epoch;
pub(crate) mod expose;
pub(crate) mod integrate;
mod library_names;
pub(crate) mod locale;
pub(crate) mod mangle;
pub(crate) mod name;
pub(crate) mod needed_paths;
pub(crate) mod openpgp;
pub(crate) mod order;
pub(crate) mod prune;
mod prune_rule;
pub(crate) mod release;
pub(crate) mod services;
pub(crate) mod state;
pub(crate) mod strip;
pub(crate) mod sums;
pub(crate) mod sysupdate;
pub(crate) mod target;
pub(crate) mod unrequested;
pub(crate) mod unused;
