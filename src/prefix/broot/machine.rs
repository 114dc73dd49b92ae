//! A machine that has a Portage of its own is BROOT itself: what that Portage installed is what a
//! prefix is built with.
//!
//! The sandbox shows the machine read-only, so that emerge could not install there what an ebuild
//! needs and the machine lacks; it would find that out in the middle of a build. So BROOT's
//! configuration masks all that the machine does not have, in the sandbox alone: emerge says
//! beforehand what is missing, and the mask tells what to do.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::base::data::Folder;
use crate::base::input;
use crate::base::limits::TEXT;
use crate::base::{files, template};
use crate::portage::vdb;

/// The configuration directory of the machine's Portage (portage(5)).
pub(crate) const CONFIG: &str = "/etc/portage";
/// The files that are added to its configuration. Each may be a folder of some.
const FILES: [&str; 3] = ["make.conf", "package.mask", "package.unmask"];

/// Writes what is added to the machine's configuration into `broot`, as it is right for what is
/// installed now; returns names and files.
pub(crate) fn write(broot: &Path) -> Result<Vec<(&'static str, PathBuf)>> {
    let packages = vdb::packages(&Path::new("/").join(vdb::BELOW_EROOT))?;
    let mut files = Vec::new();
    for name in FILES {
        let text = template::render(
            Folder::Templates,
            &format!("broot/machine/{name}"),
            minijinja::context! { packages },
        )?;
        let file = broot.join("machine").join(name);
        if input::read(&file, TEXT).ok().as_deref() != Some(text.as_bytes()) {
            files::write_atomically(&file, text.as_bytes())?;
        }
        files.push((name, file));
    }
    Ok(files)
}
