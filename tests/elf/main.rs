//! The ELF engine against real linkers, real tools and real loaders: rewrite a file, run it,
//! strip it, run it again. A tool that is missing fails the test that needs it.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and its files fit into memory"
)]

#[path = "../harness/mod.rs"]
mod harness;

mod builds;
mod corpus;
mod edits;
mod fixtures;
mod foreign;
mod inspect;
mod properties;
mod seal;
mod writing;
