//! Files of packages that nobody asked for: they are there because others need them.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Result;

use crate::host::toolchain;
use crate::portage::{vdb, world};
use crate::prefix::final_root::FinalRoot;

/// Files of packages that the world file does not name, by their paths in an image.
#[derive(Debug, Default)]
pub(crate) struct Unrequested {
    /// Files of the imported toolchain: the C library and the compiler's runtime.
    pub toolchain: BTreeSet<PathBuf>,
    /// Files of other packages.
    pub others: BTreeSet<PathBuf>,
}

impl Unrequested {
    /// Reads them from the databases of `root`. There are none if the user asked for sets, which may have
    /// any package.
    pub(crate) fn read(root: &FinalRoot) -> Result<Self> {
        if world::has_sets(&root.eroot())? {
            return Ok(Self::default());
        }
        let lines = world::read(&root.world())?;
        let asked: BTreeSet<&str> =
            lines.iter().filter_map(|(_, atom)| Some(atom.as_ref()?.package())).collect();
        let toolchain = toolchain::packages()?;
        let (mut files, mut requested) = (Self::default(), BTreeSet::new());
        for package in vdb::installed(&root.vdb())? {
            let name = package.cpv().package();
            let list = if asked.contains(name.as_str()) {
                &mut requested
            } else if toolchain.contains(&name) {
                &mut files.toolchain
            } else {
                &mut files.others
            };
            list.extend(package.files()?);
        }
        let Self { toolchain, others } = &mut files;
        toolchain.retain(|path| !requested.contains(path) && !others.contains(path));
        others.retain(|path| !requested.contains(path));
        Ok(files)
    }
}
