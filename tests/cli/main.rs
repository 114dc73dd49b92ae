//! Tests of the binary against small worlds.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and runs programs as a user does"
)]

mod pack;
mod small_programs;
mod small_root;
