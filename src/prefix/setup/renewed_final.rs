//! Final made anew, from the binary packages of what staging has.

use std::path::PathBuf;

use anyhow::Result;

use crate::base::names::Environment;
use crate::base::output::Reporter;
use crate::base::{files, input, publish};
use crate::fstree::walk::{TreeWalk, copy_tree};
use crate::portage::ownership::PackageOwnership;
use crate::portage::world;
use crate::prefix::definition::Prefix;
use crate::prefix::emerge::{self, CallerVariables, EmergeTarget, history};
use crate::prefix::setup::another_final;

/// The directory below the marker of final in which the new one is made.
const NEW: &str = "new";

/// Content of final that the packages in it may not have brought.
#[derive(Debug)]
pub(crate) struct FinalLeftovers {
    /// Packages that final has had, and no longer has, or has in another build.
    pub gone: Vec<String>,
    /// Paths that no package owns, as programs see them.
    pub unowned: Vec<PathBuf>,
}

impl FinalLeftovers {
    /// Looks through `prefix`'s final.
    ///
    /// # Errors
    ///
    /// Fails if final or its database cannot be read.
    pub(crate) fn find(prefix: &Prefix) -> Result<Self> {
        let layout = &prefix.layout;
        let root = layout.root(Environment::Final);
        let vdb = layout.vdb(Environment::Final);
        let ownership = PackageOwnership::read(&root, layout.eprefix().as_path(), &vdb)?;
        let mut unowned = Vec::new();
        for entry in TreeWalk::below(&root) {
            let path = entry?.inside();
            if ownership.as_ref().is_some_and(|ownership| ownership.is_unowned(&path)) {
                unowned.push(path);
            }
        }
        Ok(Self { gone: history::list_gone(prefix)?, unowned })
    }

    /// Returns whether final may have something that the packages in it did not bring.
    pub(crate) fn may_be_stale(&self) -> bool {
        !self.gone.is_empty() && !self.unowned.is_empty()
    }
}

/// Installs what final's world names into an empty root, and puts that in the place of final's at
/// once. Returns emerge's exit code; final stays as it is unless that is 0.
///
/// # Errors
///
/// Fails if the new root cannot be made or put into place.
pub(crate) fn renew_final(prefix: &Prefix, reporter: &Reporter) -> Result<u8> {
    let dir = prefix.layout.marker(Environment::Final).join(NEW);
    // Of a run that was killed.
    files::remove(&dir)?;
    reporter.step("installing final anew");
    let new = another_final(prefix, &dir, reporter)?;
    for file in world::FILES_BELOW_EROOT {
        let old = prefix.layout.eroot(Environment::Final).join(file);
        if old.is_file() {
            input::copy_file(&old, &new.layout.eroot(Environment::Final).join(file))?;
        }
    }
    let args = ["--quiet", "@world"].map(str::to_owned);
    let (target, variables) = (EmergeTarget::Install, CallerVariables::OfMachine);
    let code = emerge::run(&new, target, variables, &args, reporter)?;
    copy_tree(&new.layout.logs(Environment::Final), &prefix.layout.logs(Environment::Final))?;
    if code == 0 {
        let (made, place) =
            (new.layout.root(Environment::Final), prefix.layout.root(Environment::Final));
        publish::exchange_flushed(&made, &place)?;
        history::begin_anew(prefix)?;
    }
    files::remove(&dir)?;
    Ok(code)
}
