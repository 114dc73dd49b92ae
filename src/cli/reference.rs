//! Facts about the whole command that the manual pages and the book share: exit codes, variables
//! and files.

use crate::cli::{DONE, FAILED, FOUND, USAGE};

/// A fact, and the subcommands that it is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReferenceEntry {
    /// The exit code, variable or path.
    pub(super) name: &'static str,
    /// One or two sentences.
    pub(super) meaning: &'static str,
    /// Names of subcommands, like `image build`; empty for all.
    pub(super) commands: &'static [&'static str],
}

impl ReferenceEntry {
    const fn new(
        name: &'static str,
        meaning: &'static str,
        commands: &'static [&'static str],
    ) -> Self {
        Self { name, meaning, commands }
    }

    /// Returns whether the page of `command` has the fact. The page of `fprefix` itself, whose
    /// name is empty here, has all facts.
    pub(super) fn concerns(&self, command: &str) -> bool {
        command.is_empty() || self.commands.is_empty() || self.commands.contains(&command)
    }
}

/// Subcommands that end with the exit status of a program that they run.
const RUNNERS: &[&str] = &["emerge", "run", "enter"];
/// Subcommands that check something.
const CHECKERS: &[&str] = &["build", "check", "diff", "doctor", "image build", "pack", "relocate"];
/// Subcommands that work on a prefix of the user.
const ON_PREFIXES: &[&str] = &[
    "binhost",
    "binhost publish",
    "build",
    "check",
    "emerge",
    "enter",
    "image build",
    "list",
    "lock",
    "pack",
    "remove",
    "repo",
    "repo add",
    "repo list",
    "repo remove",
    "repo sync",
    "rewrite",
    "run",
    "setup",
    "status",
];
/// Subcommands that use Portage's configuration of a prefix.
const CONFIGURED: &[&str] = &["build", "emerge", "image build", "run", "setup"];

/// Exit codes, in their order. Scripts rely on them.
pub(super) const EXIT_CODES: &[(u8, ReferenceEntry)] = &[
    (DONE, ReferenceEntry::new("0", "The command did what it was asked to do.", &[])),
    (FAILED, ReferenceEntry::new("1", "The command failed. The cause is on stderr.", &[])),
    (USAGE, ReferenceEntry::new("2", "The command line was wrong.", &[])),
    (
        FOUND,
        ReferenceEntry::new(
            "3",
            "A check found something: a file that reaches outside of the prefix, a target that \
             refuses the extension, a difference, or a missing tool.",
            CHECKERS,
        ),
    ),
];

/// An exit code that is not a number of fprefix.
pub(super) const PASSED_ON_CODE: ReferenceEntry = ReferenceEntry::new(
    "other",
    "The exit status of the program that was run; 128 and the number of the signal if a signal \
     ended it.",
    RUNNERS,
);

/// Variables of the environment, in alphabetical order.
pub(super) const VARIABLES: &[ReferenceEntry] = &[
    ReferenceEntry::new(
        "FPREFIX",
        "The prefix to work on, as with --prefix.",
        &[
            "binhost",
            "binhost publish",
            "check",
            "emerge",
            "enter",
            "image build",
            "pack",
            "repo",
            "repo add",
            "repo list",
            "repo remove",
            "repo sync",
            "rewrite",
            "run",
            "status",
        ],
    ),
    ReferenceEntry::new(
        "FPREFIX_DATA",
        "A directory that replaces the profiles, wrappers, templates and ebuilds that are \
         compiled in.",
        &[],
    ),
    ReferenceEntry::new(
        "FPREFIX_HOME",
        "The directory that holds prefixes, sources and Portage. The default is \
         /var/lib/fprefix for root and $XDG_DATA_HOME/fprefix for other users.",
        &[],
    ),
    ReferenceEntry::new(
        "GNUPGHOME",
        "The directory of gpg's keys for --sign-sums, unless --gnupg-home names one.",
        &["build", "pack"],
    ),
    ReferenceEntry::new(
        "http_proxy, https_proxy, ftp_proxy, no_proxy, all_proxy",
        "Proxies for the programs that fetch sources.",
        CONFIGURED,
    ),
    ReferenceEntry::new("NO_COLOR", "Any value but an empty one turns colors off.", &[]),
    ReferenceEntry::new(
        "CLICOLOR_FORCE",
        "Any value but 0 and an empty one turns colors on where the output is no terminal.",
        &[],
    ),
    ReferenceEntry::new(
        "SOURCE_DATE_EPOCH",
        "The time of an image, in seconds since 1970. The default is the build time of the newest \
         package in it.",
        &["image build", "pack"],
    ),
    ReferenceEntry::new(
        "SSL_CERT_FILE, SSL_CERT_DIR",
        "Certificates for the programs that fetch sources.",
        CONFIGURED,
    ),
    ReferenceEntry::new(
        "USE, FEATURES, MAKEOPTS, CFLAGS, ACCEPT_KEYWORDS, DISTCC_HOSTS ...",
        "Variables that emerge(1) and make.conf(5) define, for one command. Put lasting settings \
         into make.conf.user.",
        &["emerge", "image build"],
    ),
    ReferenceEntry::new(
        "XDG_DATA_HOME",
        "The parent of fprefix's directory for ordinary users. The default is ~/.local/share.",
        &[],
    ),
];

/// Files, grouped by the place that they are in.
pub(super) const FILES: &[ReferenceEntry] = &[
    ReferenceEntry::new(
        "/var/lib/fprefix/, ~/.local/share/fprefix/",
        "All that fprefix keeps, for root and for other users: prefixes, sources (distfiles), \
         Portage.",
        &[],
    ),
    ReferenceEntry::new(
        "prefixes/NAME-BOARD/prefix.toml",
        "The definition of a prefix, below that directory. `fprefix setup` writes it.",
        ON_PREFIXES,
    ),
    ReferenceEntry::new(
        "/usr/local/bin/, ~/.local/bin/",
        "Wrappers like emerge-prefix-NAME-BOARD and portageq-prefix-NAME-BOARD.",
        &["remove", "setup"],
    ),
    ReferenceEntry::new(
        "etc/portage/make.conf.user",
        "Your settings for Portage, in each of the two environments. fprefix never replaces it. \
         `fprefix status` shows where the environments are.",
        CONFIGURED,
    ),
    ReferenceEntry::new(
        "etc/portage/gnupg/",
        "Keys for signed binary packages, in staging.",
        CONFIGURED,
    ),
    ReferenceEntry::new(
        "fprefix.toml",
        "The build file. The one that `fprefix init` writes explains itself.",
        &["build", "init", "lock"],
    ),
    ReferenceEntry::new(
        "fprefix.lock",
        "The state of repositories and packages that a build came from, beside the build file.",
        &["build", "lock"],
    ),
    ReferenceEntry::new(
        "NAME.raw",
        "The image. systemd-sysext attaches it from /var/lib/extensions under this name. With a \
         version, it is a link to NAME-VERSION-ARCH.raw.",
        &["build", "image add", "pack"],
    ),
    ReferenceEntry::new(
        ".NAME.packed",
        "The record of what an image was made from. An image that is up to date is not packed \
         again.",
        &["build", "pack"],
    ),
    ReferenceEntry::new(
        "NAME_packages.txt, NAME_contents.txt, NAME_contents_wtd.txt",
        "Lists of packages, of files, and of files with their details.",
        &["build", "image build", "pack"],
    ),
    ReferenceEntry::new(
        "NAME_licenses.json, NAME_licenses.txt",
        "Licences of all packages, and their texts.",
        &["build", "image build", "pack"],
    ),
    ReferenceEntry::new(
        "NAME_sbom.spdx.json, NAME_manifest.json",
        "The bill of materials (SPDX 2.3), and how the image was made.",
        &["build", "image build", "pack"],
    ),
    ReferenceEntry::new(
        "SHA256SUMS, SHA256SUMS.gpg",
        "Digests of the images, and their signature, for systemd-sysupdate.",
        &["build", "pack"],
    ),
    ReferenceEntry::new(
        "/usr/share/flatcar/sysext/",
        "Extensions in the root directory of an OS image.",
        &["image", "image add", "image build", "image list", "image remove"],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_exit_codes_are_their_numbers() {
        for (code, fact) in EXIT_CODES {
            assert_eq!(fact.name, code.to_string());
        }
    }
}
