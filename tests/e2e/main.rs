//! Real Portage, a real compiler, real packages: what a user does with a prefix, from setting it
//! up to removing it, and what happens when something goes wrong on the way.
//!
//! It works as root and as an ordinary user. A prefix is built once in a run. Tests that change it
//! have a copy of their own; those that only look share another copy.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and runs programs as a user does"
)]

#[path = "../harness/mod.rs"]
mod harness;

mod applications;
mod binhost;
mod binhost_uri;
mod build_file;
mod builds;
mod confinement;
mod distcc;
mod emerge;
mod environment;
mod everyday;
mod examples;
mod faults;
mod gentoo;
mod hostile;
mod image;
mod killed;
mod killed_anywhere;
mod lies;
mod line;
mod look_alike;
mod other_machine;
mod prefix;
#[path = "../fuzz/random.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod random;
mod repo;
mod sdk;
mod slow;
mod sonames;
mod tools;
mod trees;
mod user;
