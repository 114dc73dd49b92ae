//! Programs and files that Portage looks for at fixed places, and nowhere else.
//!
//! docs/src/how/portage-places.md lists all of them, with what a prefix has there.

use std::path::Path;

use anyhow::Result;

use crate::base::files;
use crate::base::inside::PORTAGE;
use crate::base::names::Environment;
use crate::host::tools::{self, ExternalTool};
use crate::prefix::layout::PrefixLayout;

/// Programs that Portage starts as BROOT/usr/bin/NAME. It reads preserved libraries with scanelf.
const PROGRAMS: &[(&str, ExternalTool)] = &[("scanelf", tools::SCANELF)];

/// Links those programs of the machine into `broot`. A package that Portage built into BROOT keeps
/// its own.
pub(super) fn link_programs(broot: &Path) -> Result<()> {
    for (name, tool) in PROGRAMS {
        link(tool.require()?.path(), &broot.join("usr/bin").join(name))?;
    }
    Ok(())
}

/// Links the settings of etc-update and of dispatch-conf, which Portage brings, to where those look
/// for them: below `PORTAGE_CONFIGROOT` and below EPREFIX. Those that the user has changed stay.
pub(super) fn link_settings(layout: &PrefixLayout) -> Result<()> {
    let settings = |name: &str| PORTAGE.join("etc").join(name);
    for environment in [Environment::Staging, Environment::Final] {
        let place = layout.dir(environment).join("etc/etc-update.conf");
        link(settings("etc-update.conf").as_path(), &place)?;
    }
    let place = layout.eroot(Environment::Staging).join("etc/dispatch-conf.conf");
    link(settings("dispatch-conf.conf").as_path(), &place)
}

/// Makes the link `place` to `target`, unless a file of somebody else is there.
fn link(target: &Path, place: &Path) -> Result<()> {
    let is_taken = place.symlink_metadata().is_ok_and(|meta| !meta.is_symlink());
    if is_taken { Ok(()) } else { files::link(target, place) }
}
