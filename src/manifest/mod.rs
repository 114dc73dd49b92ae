//! Options, from the command line and from fprefix.toml, and fprefix.lock: their schema, the
//! positions of values in the text, and the parsed values.
//!
//! Nothing in here runs a step.

mod checkout;
pub(crate) mod configuration;
pub(crate) mod file;
pub(crate) mod final_record;
pub(crate) mod installed;
pub(crate) mod lockfile;
pub(crate) mod origin;
pub(crate) mod pack_options;
pub(crate) mod resolve_pack;
pub(crate) mod rules;
pub(crate) mod schema;
pub(crate) mod setup_options;
pub(crate) mod source;
pub(crate) mod state;
pub(crate) mod tables;
mod text;
pub(crate) mod tidy;
