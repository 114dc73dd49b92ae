//! Options of packing that `image build` offers: those of `pack` that can hold for every extension
//! of an image.

use clap::error::Error;
use clap::{ArgMatches, Args, Command, FromArgMatches};

use crate::manifest::pack_options::PackOptions;

/// Options of `pack` for every extension of an image.
#[derive(Clone, Debug)]
pub(super) struct ImagePackOptions(pub PackOptions);

/// Options of `pack` that one extension alone can have, or that the image decides.
const REFUSED: &[&str] = &[
    "name",
    "version",
    "sign_sums",
    "gnupg_home",
    "target_root",
    "with_extension",
    "start",
    "state",
    "pkginfo",
    "sysupdate",
    "no_reports",
];

/// Options whose help differs from that of `pack`.
const HELP: &[(&str, &str)] = &[
    ("output", "Write images, package information and reports into this directory"),
    (
        "formats",
        "Write extensions in this format, as `fprefix pack` takes it [default: squashfs:none, for \
         an image of which /usr is compressed]",
    ),
    ("private_key", "Sign the extensions with this key, a PEM file; the format must be ddi"),
    (
        "certificate",
        "The certificate of that key, a PEM file, which the image gets in /usr/lib/verity.d",
    ),
    ("fields", "A field of each extension-release file, like ID=flatcar"),
    ("expose", "Link the programs of each extension into /usr/bin, but those that the image has"),
    ("splitdebug", "Put what is stripped into extensions NAME.debug, which the image does not get"),
    (
        "mangle",
        "Directory of mangle scripts: `sysext_mangle_NAME` changes the content of the extension NAME",
    ),
    (
        "waive",
        "Pack although this rule of `fprefix check`, or about attaching to the image, finds something",
    ),
];

impl Args for ImagePackOptions {
    fn augment_args(command: Command) -> Command {
        let mut command = PackOptions::augment_args(command)
            .mut_arg("output", |arg| arg.required(true))
            .mut_arg("expose", |arg| {
                arg.num_args(0).value_delimiter(None).default_missing_value("all")
            })
            .mut_arg("mangle", |arg| arg.value_name("DIR"));
        for (id, help) in HELP {
            command = command.mut_arg(id, |arg| arg.help(*help).long_help(*help));
        }
        // The image's own --rootfs is required, so these are usage errors.
        for id in REFUSED {
            command = command.mut_arg(id, |arg| arg.hide(true).conflicts_with("rootfs"));
        }
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ImagePackOptions {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        PackOptions::from_arg_matches(matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        self.0.update_from_arg_matches(matches)
    }
}
