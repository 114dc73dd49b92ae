//! Removing a prefix, and nothing else.

use std::path::Path;

use anyhow::{Result, bail};

use crate::base::escape::Escape;
use crate::base::files;
use crate::base::lock::Busy;
use crate::base::names::Environment;
use crate::prefix::definition::Prefix;
use crate::prefix::layout::{Owner, owner};
use crate::prefix::wrappers;

/// Removes a prefix: its environments where they carry its marker, its wrappers, its definition.
pub(crate) fn remove(prefix: &Prefix) -> Result<()> {
    let id = &prefix.definition.id;
    for environment in [Environment::Staging, Environment::Final] {
        let dir = prefix.layout.dir(environment);
        match owner(dir)? {
            Owner::Prefix(other) if other == *id => {}
            Owner::Nobody => {}
            _ => bail!("{} does not carry the marker of {id} and is left alone", dir.escaped()),
        }
    }
    let lock = prefix.lock(&format!("fprefix remove {id}"), &Busy::Fail)?;
    // Should this be cut short, nobody takes what is left for a prefix that is whole.
    let mut half = prefix.clone();
    half.definition.complete = false;
    half.save()?;
    wrappers::remove(prefix)?;
    for environment in [Environment::Final, Environment::Staging] {
        let dir = prefix.layout.dir(environment);
        remove_contents(dir)?;
    }
    drop(lock);
    files::remove(&prefix.home.prefix(id))
}

/// Removes all that is in an environment's directory, its marker last: should this be cut short,
/// the rest still carries it.
fn remove_contents(dir: &Path) -> Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    // What carries the marker is removed where it is, should somebody have put a link to it here.
    let real = fs_err::canonicalize(dir)?;
    for entry in fs_err::read_dir(&real)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name != ".fprefix") {
            if path.is_dir() && !path.is_symlink() {
                files::remove(&path)?;
            } else {
                fs_err::remove_file(&path)?;
            }
        }
    }
    files::remove(&real)?;
    files::remove(dir)
}
