//! Values that fprefix.toml writes as text, in the syntax of the command line.
//!
//! `FromStr` of the type parses both. A value is parsed while the TOML parser is at it, so an error
//! has the place of the value, also within a list.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Visitor};

use crate::base::board::{Board, BoardName};
use crate::base::names::{Eprefix, Feature, PrefixName, RepoArgument, UseFlags};
use crate::imagefmt::architecture::{self, Architecture};
use crate::imagefmt::format::Format;
use crate::imagefmt::signing::pkcs11::KeySource;
use crate::manifest::rules::{self, CheckRuleName, WaivedRule};
use crate::manifest::tables::{Keywords, ProgramLine};
use crate::portage::atom::Atom;
use crate::portage::binhost::Binhost;
use crate::sysext::charsets::Charset;
use crate::sysext::expose::Expose;
use crate::sysext::locale::Locale;
use crate::sysext::name::Version;
use crate::sysext::needed_paths::NeededForm;
use crate::sysext::prune::{PruneRuleName, PruneRules};
use crate::sysext::release::ReleaseField;
use crate::sysext::services::UnitName;
use crate::sysext::state::StatePath;
use crate::sysext::strip::KeepSymbols;
use crate::sysext::sysupdate::SourceUrl;
use crate::sysext::unused::UnusedLibraries;

/// Returns the names of all boards; none if profiles/ cannot be read.
fn board_names() -> Vec<String> {
    Board::list().unwrap_or_default().into_iter().map(|board| board.name).collect()
}

/// Returns the names of all rules that leave files out; none if profiles/ cannot be read.
fn prune_rule_names() -> Vec<String> {
    PruneRules::names().unwrap_or_default()
}

/// Parses a text with `FromStr`, at its place in the file.
struct TextVisitor<T>(PhantomData<T>);

impl<T: FromStr<Err: Display>> Visitor<'_> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(|error| E::custom(format!("{error:#}")))
    }
}

/// Implements `JsonSchema` for types that are written as text, each with its syntax, and with a
/// function that lists the values if they are few.
macro_rules! text_schemas {
    ($($type:ty => $syntax:literal $(in $values:path)?),* $(,)?) => {$(
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                #[allow(unused_mut, reason = "only some types list their values")]
                let mut schema = json_schema!({ "type": "string", "title": $syntax });
                $(schema.insert("enum".to_owned(), $values().into());)?
                schema
            }
        }
    )*};
}

/// Implements `Deserialize` by `FromStr`, and `JsonSchema`.
macro_rules! text_values {
    ($($type:ty => $syntax:literal $(in $values:path)?),* $(,)?) => {
        $(
            impl<'de> Deserialize<'de> for $type {
                fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    deserializer.deserialize_str(TextVisitor(PhantomData))
                }
            }
        )*
        text_schemas!($($type => $syntax $(in $values)?),*);
    };
}

text_values! {
    Atom => "CATEGORY/NAME, or OPERATOR CATEGORY/NAME-VERSION, with :SLOT, ::REPOSITORY, [USE]",
    BoardName => "BOARD, like amd64-usr" in board_names,
    Charset => "CHARSET, or all",
    CheckRuleName => "RULE of `fprefix check`" in rules::check_rule_names,
    Expose => "PROGRAM, or all",
    Feature => "FEATURE, like ccache",
    Format => "FORMAT[:COMPRESSOR[:LEVEL]]",
    KeepSymbols => "CATEGORY/NAME, or /GLOB",
    KeySource => "provider:NAME, or engine:NAME",
    Keywords => "KEYWORDS, like ~amd64",
    Locale => "LANGUAGE[_COUNTRY], like pt_BR",
    ProgramLine => "PROGRAM [ARGUMENT...], quoted as in a shell",
    PruneRuleName => "RULE that leaves files out" in prune_rule_names,
    ReleaseField => "KEY=VALUE",
    RepoArgument => "NAME=PATH",
    SourceUrl => "URL of a directory",
    StatePath => "PATH below EPREFIX",
    UnitName => "UNIT, like demo.service",
    UnusedLibraries => "toolchain, or all",
    NeededForm => "names, or paths",
    UseFlags => "FLAGS, like `-nls ssl`",
    WaivedRule => "RULE of `fprefix check`, or about attaching" in rules::waived_rule_names,
}

// Types that are stored as text in files of fprefix, too.
text_schemas! {
    Architecture => "ARCHITECTURE, like x86-64" in architecture::names,
    Binhost => "URI, or PATH of a directory",
    Eprefix => "PATH, below /usr or /opt",
    PrefixName => "NAME: letters, digits, and - _ . +",
    Version => "VERSION: letters, digits, and . _ + ~ ^ -",
}
