use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::base::escape::Escape;
use crate::base::output;
use crate::cli::{Context, DONE};
use crate::pipeline::binhost;

/// Work on the binary packages that prefixes share
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fprefix binhost publish /srv/www/binpkgs
  fprefix -P my-prefix binhost publish /srv/www/binpkgs --prune")]
pub(super) struct BinhostArgs {
    #[command(subcommand)]
    command: BinhostCommand,
}

#[derive(Debug, Subcommand)]
enum BinhostCommand {
    Publish(PublishBinhost),
}

/// Put the binary packages of a prefix into a directory that any web server can show
///
/// Packages that are there are not copied again, and others stay. Of two with the same version and
/// number of the build, the later one stays. The directory is a binhost for `setup --binhost`, by
/// its path or by its URI. Signatures of packages stay, and the public keys are added to those
/// beside them, in signing-keys.asc.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fprefix binhost publish /srv/www/binpkgs
  fprefix -P my-prefix binhost publish /srv/www/binpkgs --prune")]
struct PublishBinhost {
    /// The directory
    dir: PathBuf,
    /// Remove builds of packages that staging has in another build, also those of other prefixes
    #[arg(long)]
    prune: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl BinhostArgs {
    /// Runs the subcommand.
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        match self.command {
            BinhostCommand::Publish(command) => command.run(context),
        }
    }
}

impl PublishBinhost {
    fn run(self, context: &Context) -> Result<u8> {
        let prefix = context.prefix()?;
        let published = binhost::publish(&prefix, &self.dir, self.prune, &context.reporter)?;
        if self.json {
            output::answer_json(&published)?;
            return Ok(DONE);
        }
        let mut text = String::new();
        for (title, paths) in [
            ("new", &published.new),
            ("removed", &published.removed),
            ("a later build is there", &published.older),
        ] {
            for path in paths {
                text += &format!("{title}: {}\n", path.escaped());
            }
        }
        text += &format!(
            "{}: {} packages, {} bytes; {} new\n",
            published.directory.escaped(),
            published.packages,
            published.bytes,
            published.new.len()
        );
        if let Some(keys) = &published.keys {
            text += &format!("the keys of those who signed packages: {}\n", keys.escaped());
        }
        output::answer(&text)?;
        Ok(DONE)
    }
}
