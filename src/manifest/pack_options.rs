//! Options of packing: one struct for `fprefix pack`, `fprefix image build` and the table `[pack]`
//! of fprefix.toml.
//!
//! Its values are parsed, but nothing is opened yet: `PackOptions::resolve` does that.

use std::path::PathBuf;

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use crate::base::names::PrefixName;
use crate::imagefmt::architecture::Architecture;
use crate::imagefmt::format::Format;
use crate::imagefmt::signing::pkcs11::KeySource;
use crate::manifest::rules::WaivedRule;
use crate::sysext::charsets::Charset;
use crate::sysext::expose::Expose;
use crate::sysext::locale::Locale;
use crate::sysext::name::Version;
use crate::sysext::needed_paths::NeededForm;
use crate::sysext::prune::PruneRuleName;
use crate::sysext::release::ReleaseField;
use crate::sysext::services::UnitName;
use crate::sysext::state::StatePath;
use crate::sysext::strip::KeepSymbols;
use crate::sysext::sysupdate::SourceUrl;
use crate::sysext::unused::UnusedLibraries;

/// Settings of the extension: its name, content, formats and reports.
#[derive(Clone, Debug, Default, Args, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[schemars(title = "pack")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct PackOptions {
    /// The name of the extension [default: the prefix's]
    #[arg(long)]
    pub name: Option<PrefixName>,
    /// The version of the extension: the file is NAME-VERSION-ARCH.raw, and NAME.raw links to it
    #[arg(long)]
    pub version: Option<Version>,
    /// The machines that it is for, like x86-64 [default: what its programs are for]
    #[arg(long, value_name = "ARCH")]
    pub architecture: Option<Architecture>,
    /// A field of the extension-release file, like ID=flatcar or `EXTENSION_RELOAD_MANAGER=1`
    ///
    /// Without, the extension fits every distribution (`ID=_any`). Can be given several times.
    #[arg(long = "release", value_name = "KEY=VALUE")]
    #[serde(rename = "release")]
    pub fields: Vec<ReleaseField>,
    /// Write this format: FORMAT[:COMPRESSOR[:LEVEL]] [default: squashfs]
    ///
    /// squashfs[:zstd|lz4|xz|gzip|none], erofs[:lz4hc|lz4|zstd|none] in the form that old kernels
    /// mount, erofs-tight[:lz4hc|lz4|zstd] for Linux 6.1 and newer, ext4, btrfs[:zstd|none] (with
    /// btrfs-progs 7.3 or newer), directory, tar, and
    /// ddi[:zstd|...]: a squashfs in a disk image, with the hashes by which kernels check it
    /// (verity). Can be given several times.
    #[arg(long = "format", value_name = "FORMAT")]
    #[serde(rename = "format")]
    pub formats: Vec<Format>,
    /// Sign the ddi with this key: a PEM file, or a pkcs11: URI of a key in a token
    ///
    /// The URI names a file with the PIN (pin-source=file:/PATH), or openssl asks for it on the
    /// terminal. A PIN itself (pin-value=PIN) may be in fprefix.toml alone: arguments are public.
    #[arg(long, value_name = "FILE|URI", requires = "certificate")]
    pub private_key: Option<PathBuf>,
    /// Read tokens with this part of openssl: provider:NAME or engine:NAME [default: pkcs11, whichever is installed]
    #[arg(long, value_name = "KIND:NAME", requires = "private_key")]
    pub private_key_source: Option<KeySource>,
    /// The certificate of that key, which targets have in /etc/verity.d, a PEM file or a pkcs11:
    /// URI
    #[arg(long, value_name = "FILE|URI", requires = "private_key")]
    pub certificate: Option<PathBuf>,
    /// Sign SHA256SUMS with this key of gpg, for systemd-sysupdate: SHA256SUMS.gpg
    ///
    /// Targets have its public part in /etc/systemd/import-pubring.gpg. Where several extensions
    /// are packed into one directory, the list is signed anew each time.
    #[arg(long, value_name = "KEY", conflicts_with = "no_reports")]
    pub sign_sums: Option<String>,
    /// The directory with gpg's keys [default: GNUPGHOME, or gpg's own]
    #[arg(long, value_name = "DIR", requires = "sign_sums")]
    pub gnupg_home: Option<PathBuf>,
    /// The directory to write to [default: the current one, or that of fprefix.toml]
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Do not leave out what this rule names, like headers or man; --dry-run shows the rules
    #[arg(long, value_name = "RULE", value_delimiter = ',')]
    pub keep: Vec<PruneRuleName>,
    /// Keep translations into these languages alone, like `en,pt_BR`
    #[arg(long, value_name = "LANGUAGE", value_delimiter = ',')]
    pub locales: Vec<Locale>,
    /// Keep the modules of iconv(3) for these character sets, like `EUC-JP,ISO-8859-15`, or "all"
    ///
    /// They are kept besides those of the locales in the extension and, if a program calls iconv(3), eight
    /// usual ones.
    #[arg(long, value_name = "CHARSET", value_delimiter = ',')]
    pub charsets: Vec<Charset>,
    /// Leave out libraries that nothing loads: of the toolchain, or of all packages that nobody asked for [default: toolchain]
    ///
    /// A library is loaded if any other file of the extension has its name in it. --dry-run and the
    /// manifest list what is left out. "all" also takes libraries that a program finds by searching a
    /// directory.
    #[arg(long, value_name = "toolchain|all")]
    pub unused_libraries: Option<UnusedLibraries>,
    /// Name needed libraries by paths, which the loader does not search for, or by names [default: names]
    ///
    /// With paths, programs of glibc start with fewer system calls. Copies for the image change, never the
    /// root itself. A name stays where a path could mean another library, and with `setup --relative`.
    #[arg(long, value_name = "names|paths")]
    pub needed: Option<NeededForm>,
    /// Take symbols and debugging information out of programs and libraries (the default)
    ///
    /// Copies for the image are stripped, never the root itself. Files of packages with
    /// RESTRICT=strip or that were built with FEATURES=nostrip stay as they are.
    #[arg(long, overrides_with = "no_strip")]
    #[serde(skip)]
    pub strip: bool,
    /// Leave programs and libraries as they are
    #[arg(long, overrides_with = "strip")]
    #[serde(rename = "strip", deserialize_with = "negated")]
    #[schemars(with = "bool", description = STRIP, default = "yes")]
    pub no_strip: bool,
    /// Do not strip files of this package (CATEGORY/NAME), or at this path, from / on, with globs
    #[arg(long, value_name = "ATOM|/GLOB", value_delimiter = ',')]
    pub keep_symbols: Vec<KeepSymbols>,
    /// Put what is stripped into an extension NAME.debug, where debuggers find it when it is attached
    #[arg(long, conflicts_with = "no_strip")]
    pub splitdebug: bool,
    /// Pack although this rule of `fprefix check` or of --target-root finds something
    #[arg(long, value_name = "RULE", value_delimiter = ',')]
    pub waive: Vec<WaivedRule>,
    /// Leave out what the target has: its root directory, or the _pkginfo.raw of an earlier extension
    ///
    /// Packages that it has in the same prefix are left out, and its programs are not hidden by
    /// links. Can be given several times.
    #[arg(long = "base", value_name = "DIR|FILE")]
    #[serde(rename = "base")]
    pub bases: Vec<PathBuf>,
    /// Try out attaching the extension on the target whose root directory is DIR, before anything
    /// is written
    ///
    /// Says which files of the target it hides, which directories it changes, and whether
    /// os-release, systemd and kernels of the target take it. Errors refuse, unless waived by name. With
    /// --dry-run this is about the content before --mangle.
    #[arg(long, alias = "against", value_name = "DIR")]
    #[serde(alias = "against")]
    pub target_root: Option<PathBuf>,
    /// This extension, an image or a directory, is attached there as well; can be given several
    /// times
    #[arg(long, alias = "beside", value_name = "FILE|DIR", requires = "target_root")]
    #[serde(alias = "beside")]
    pub with_extension: Vec<PathBuf>,
    /// Link this program of the prefix into /usr/bin; "all" links what the target does not have
    ///
    /// Its manual pages, completions, menu entries and icons go where the target looks for them.
    #[arg(long, value_name = "PROGRAM", value_delimiter = ',')]
    pub expose: Vec<Expose>,
    /// Start this unit of a package when the extension is attached, and keep it running
    ///
    /// Units, tmpfiles.d, sysusers.d, udev rules, D-Bus services and other files of packages for
    /// the target always go where it looks for them.
    #[arg(long, value_name = "UNIT", value_delimiter = ',')]
    pub start: Vec<UnitName>,
    /// A directory below EPREFIX that programs write to, like var/lib/demo or etc
    ///
    /// It becomes a link to /var/lib/NAME, where systemd-tmpfiles puts what the extension has
    /// there unless it is there already. Directories below var that tmpfiles rules of packages make
    /// become such links by themselves, unless the prefix has files in them.
    #[arg(long, value_name = "PATH", value_delimiter = ',')]
    pub state: Vec<StatePath>,
    /// Lay a directory over the content, or run a program that gets the content's directory
    #[arg(long, value_name = "DIR|PROGRAM")]
    pub mangle: Vec<PathBuf>,
    /// Write the package database as an image, to pack further extensions against (--base)
    #[arg(long)]
    pub pkginfo: bool,
    /// Write the files by which systemd-sysupdate fetches new versions from the directory URL
    #[arg(long, value_name = "URL", requires = "version")]
    pub sysupdate: Option<SourceUrl>,
    /// Write the images alone: no lists of packages and files, no licences, no bill of materials
    #[arg(long)]
    #[serde(rename = "reports", deserialize_with = "negated")]
    #[schemars(with = "bool", description = REPORTS, default = "yes")]
    pub no_reports: bool,
}

/// Description of the key `strip`, whose flag is its opposite.
const STRIP: &str = "Take symbols and debugging information out of programs and libraries";

/// Description of the key `reports`, whose flag is its opposite.
const REPORTS: &str =
    "Write lists of packages and files, licences, and bills of materials beside the images";

/// Reads a boolean whose flag on the command line is its opposite.
fn negated<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    bool::deserialize(deserializer).map(|value| !value)
}

/// Returns the default, in the schema, of a key whose flag is its opposite.
fn yes() -> bool {
    true
}
