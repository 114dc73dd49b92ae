//! Fields of the extension-release file that describe the main package of an extension.

use anyhow::Result;

use crate::pipeline::pack::request::PackRequest;
use crate::portage::{vdb, world};
use crate::sysext::release::ReleaseField;

/// Returns the fields that describe the package, if the user asked for exactly one. An extension
/// with several requested packages has no main package.
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
    if request.options.version.is_none() {
        facts.push(("SYSEXT_ID", request.name.as_str()));
        // The revision is Gentoo's, not part of the upstream version.
        facts.push(("SYSEXT_VERSION_ID", package.cpv().version()));
    }
    facts.extend(homepage.split_whitespace().next().map(|page| ("SYSEXT_HOME_URL", page)));
    // Text that is not a valid value of such a file is omitted.
    Ok(facts.iter().filter_map(|(key, value)| format!("{key}={value}").parse().ok()).collect())
}
