//! Packing: from a root with a prefix to an extension that systemd attaches.
//!
//! First values, then bytes. [`plan`] says what the extension holds, entry by entry: content,
//! mode, owner, time. The writers turn one plan into bytes with the field's own tools, and what
//! they wrote is read back and compared with the plan.
//!
//! The same root gives the same bytes, whoever packs it and whenever: owners and the times of
//! directories come from the plan, never from the disk.

pub mod against;
pub mod architecture;
pub mod as_root;
pub mod base;
pub mod btrfs;
mod btrfs_tree;
pub mod capability;
pub mod compare;
pub mod ddi;
pub mod digest;
pub mod epoch;
pub mod erofs;
mod erofs_content;
mod erofs_inodes;
pub mod expose;
pub mod ext4;
pub mod format;
pub mod inspect;
mod link_editor;
pub mod listing;
pub mod mangle;
pub mod name;
pub mod openpgp;
pub mod plan;
mod pseudo;
pub mod release;
pub mod services;
pub mod slim;
pub mod squashfs;
pub mod stream;
pub mod strip;
pub mod survey;
pub mod token;
pub mod tree;
pub mod verity;
pub mod workplace;
pub mod writer;
