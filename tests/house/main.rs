//! The house keeps its own rules: ARCHITECTURE.md's layers, and the words of STYLE.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and reads the project's own files"
)]

mod layers;
mod names;
mod sentences;
