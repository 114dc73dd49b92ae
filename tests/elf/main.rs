//! The ELF engine against real linkers, real tools and real loaders: rewrite a file, run it,
//! strip it, run it again. A tool that is missing fails the test that needs it.

mod builds;
mod fixtures;
mod inspect;
mod tools;
