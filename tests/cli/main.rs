//! The binary against small worlds: what it says to bad input, to machines that lack something,
//! and to prefixes in every state. Nothing is built here; tests/e2e does that.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and runs programs as a user does"
)]

#[path = "../harness/mod.rs"]
mod harness;
#[path = "../fuzz/random.rs"]
mod random;

mod build_file;
mod choice;
mod durable;
mod examples;
mod foreign_images;
mod hostile;
mod image;
mod image_together;
mod integration;
mod isolation;
mod killed;
mod libc_paths;
mod libc_root;
mod loading;
mod machine;
mod man_pages;
mod mutated_images;
mod names_of_others;
mod needed_paths;
mod odd_files;
mod odd_trees;
mod open_places;
mod pack;
mod pack_against;
mod pack_ddi;
mod pack_faults;
mod pack_options;
mod pack_read_back;
mod pack_reports;
mod pack_signed_sums;
mod pack_strip;
mod pack_token;
mod pack_unneeded;
mod refusals;
mod relocate;
mod removal;
mod repo;
mod rules;
mod run_time_proof;
mod schema;
mod scripts;
mod static_programs;
mod templates;
mod umask;
mod units;
mod waiting;
mod wrappers;
