//! The house keeps its own rules: ARCHITECTURE.md's layers, and the words of STYLE.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, reads the project's own files, and asks cargo"
)]

mod input;
mod layers;
mod names;
mod paths;
mod rust_version;
mod sentences;
mod time;
