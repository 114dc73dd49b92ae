//! Portage configuration from a build file. It is kept in separate files beside those of the user.

use anyhow::{Result, bail};

use crate::base::escape::Escape;
use crate::base::files;
use crate::base::names::Environment;
use crate::manifest::file::BuildFile;
use crate::prefix::definition::Prefix;

/// Name of the files of fprefix in the folders of the user's configuration.
const NAME: &str = "fprefix-build";

/// Fails if [`write`] would fail.
pub(crate) fn check(prefix: &Prefix) -> Result<()> {
    for environment in [Environment::Staging, Environment::Final] {
        for folder in ["package.use", "package.accept_keywords"] {
            let path = prefix.layout.config(environment).join(folder);
            if path.is_file() {
                bail!(
                    "{} is a file, and a build file needs a folder there to add one: move it to \
                     {}/{}",
                    path.escaped(),
                    path.escaped(),
                    "user"
                );
            }
        }
    }
    Ok(())
}

/// Writes the files of both environments. A file without lines is not kept.
pub(crate) fn write(prefix: &Prefix, file: &BuildFile) -> Result<()> {
    let title = format!("# Written by `fprefix build` from {}.\n", file.path.escaped());
    for environment in [Environment::Staging, Environment::Final] {
        let config = prefix.layout.config(environment);
        for (folder, lines) in [
            ("package.use", &file.package_use),
            ("package.accept_keywords", &file.package_keywords),
        ] {
            let path = config.join(folder).join(NAME);
            if lines.is_empty() {
                if path.exists() {
                    fs_err::remove_file(&path)?;
                }
            } else {
                let text = format!("{title}{}\n", lines.join("\n"));
                files::write_atomically(&path, text.as_bytes())?;
            }
        }
    }
    Ok(())
}
