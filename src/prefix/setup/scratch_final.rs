//! A second final environment of a prefix: for whoever installs into one that starts empty.

use std::path::Path;

use anyhow::Result;

use crate::base::names::Environment;
use crate::base::output::Reporter;
use crate::fstree::walk::copy_tree;
use crate::prefix::definition::Prefix;
use crate::prefix::setup::install_first;
use crate::prefix::{broot, layout};

/// Makes a final environment at `dir`, which does not exist yet: with the configuration of the
/// prefix's own, and installed in it what every prefix starts with. Returns the prefix as it is
/// with that one in place of its own; staging and the packages that were built are the same.
pub(crate) fn another_final(prefix: &Prefix, dir: &Path, reporter: &Reporter) -> Result<Prefix> {
    let config = prefix.layout.config(Environment::Final);
    let mut definition = prefix.definition.clone();
    dir.clone_into(&mut definition.r#final);
    let another = Prefix::new(&prefix.home, definition)?;
    layout::mark(dir, &another.definition.id, Environment::Final)?;
    for dir in [another.layout.logs(Environment::Final), another.layout.tmp(Environment::Final)] {
        fs_err::create_dir_all(dir)?;
    }
    broot::lay_out(&another, Environment::Final)?;
    copy_tree(&config, &another.layout.config(Environment::Final))?;
    install_first(&another, Environment::Final, reporter)?;
    Ok(another)
}
