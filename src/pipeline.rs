//! The order of the steps. No step runs another; this is where they meet.

pub mod build;
pub mod image;
pub mod pack;
