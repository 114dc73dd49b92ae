//! What the extension-release file says of the package that an extension is about.

use anyhow::Result;

use crate::pipeline::pack::PackRequest;
use crate::portage::{vdb, world};
use crate::sysext::release::ReleaseField;

/// Fields that describe the package, where somebody asked for one alone: where there are more, the
/// extension is about none of them.
pub(super) fn fields(request: &PackRequest) -> Result<Vec<ReleaseField>> {
    let mut asked = world::read(&request.root.world())?.into_iter().filter_map(|(_, atom)| atom);
    let (Some(atom), None) = (asked.next(), asked.next()) else { return Ok(Vec::new()) };
    let mut installed = vdb::installed(&request.root.vdb())?
        .into_iter()
        .filter(|package| package.cpv().is_of(atom.package()));
    let (Some(package), None) = (installed.next(), installed.next()) else {
        return Ok(Vec::new());
    };
    let homepage = package.read("HOMEPAGE")?;
    let mut facts = vec![("SYSEXT_NAME", package.cpv().name())];
    if request.version.is_none() {
        facts.push(("SYSEXT_ID", request.name.as_str()));
        // The revision is Gentoo's, and no part of the version upstream.
        facts.push(("SYSEXT_VERSION_ID", package.cpv().version()));
    }
    facts.extend(homepage.split_whitespace().next().map(|page| ("SYSEXT_HOME_URL", page)));
    // What is no value of such a file describes nothing.
    Ok(facts.iter().filter_map(|(key, value)| format!("{key}={value}").parse().ok()).collect())
}
