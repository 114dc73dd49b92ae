use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::base::data::Folder;
use crate::base::escape::Escape;
use crate::base::names::{Eprefix, PrefixName};
use crate::base::publish::{Durability, NewFile};
use crate::base::{files, template};
use crate::cli::{Context, DONE};
use crate::manifest::file::FILE;

/// Write a build file that explains itself
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fprefix init
  fprefix init --name my-prefix --eprefix /usr/local/my-stuff")]
pub(super) struct Init {
    /// The file to write
    #[arg(default_value = FILE)]
    file: PathBuf,
    /// The prefix's name [default: that of the directory]
    #[arg(long)]
    name: Option<PrefixName>,
    /// The path that it has on every machine that runs its programs [default: /usr/local/NAME]
    #[arg(long, value_name = "PATH")]
    eprefix: Option<Eprefix>,
}

impl Init {
    /// Runs the subcommand.
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        let name = match self.name {
            Some(name) => name,
            None => name_of_directory(&self.file)?,
        };
        let eprefix = match self.eprefix {
            Some(eprefix) => eprefix,
            None => format!("/usr/local/{name}").parse()?,
        };
        let text = template::render(
            Folder::Templates,
            "fprefix.toml",
            minijinja::context! { name => name.as_str(), eprefix => eprefix.as_str() },
        )?;
        write_new(&self.file, text.as_bytes())
            .with_context(|| format!("could not write {}", self.file.escaped()))?;
        context.reporter.step(&format!(
            "{} is there; change it, then run `fprefix build`",
            self.file.escaped()
        ));
        Ok(DONE)
    }
}

/// Writes the file `path`. Nothing that somebody wrote is replaced, and no half of it is ever there.
fn write_new(path: &Path, text: &[u8]) -> Result<()> {
    let name = path.file_name().context("the path ends without a name")?;
    let new = NewFile::create_in(path.parent().unwrap_or(Path::new("")))?;
    new.file().write_all(text)?;
    files::open_to_all(new.file())?;
    Ok(new.publish_new(name, Durability::Flushed)?)
}

fn name_of_directory(file: &Path) -> Result<PrefixName> {
    let file = std::path::absolute(file)
        .with_context(|| format!("could not make {} absolute", file.escaped()))?;
    let dir = file.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    dir.parse().context("name the prefix with --name")
}
