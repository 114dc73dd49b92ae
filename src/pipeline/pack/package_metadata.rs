//! What the extension-release file says of the package that an extension is about.

use anyhow::Result;

use crate::pipeline::pack::PackRequest;
use crate::portage::atom::Atom;
use crate::portage::vdb;
use crate::sysext::release::ReleaseField;

/// Fields that describe the package, where somebody asked for one alone: where there are more, the
/// extension is about none of them.
pub(super) fn fields(request: &PackRequest) -> Result<Vec<ReleaseField>> {
    let world = request.root.world();
    if !world.is_file() {
        return Ok(Vec::new());
    }
    let text = fs_err::read_to_string(world)?;
    let mut asked = text.lines().filter_map(|line| line.parse::<Atom>().ok());
    let (Some(atom), None) = (asked.next(), asked.next()) else { return Ok(Vec::new()) };
    let vdb = request.root.vdb();
    let mut installed = vdb::packages(&vdb)?.into_iter().filter_map(|cpv| {
        let parsed: Atom = format!("={cpv}").parse().ok()?;
        (parsed.package() == atom.package()).then_some(cpv)
    });
    let (Some(cpv), None) = (installed.next(), installed.next()) else { return Ok(Vec::new()) };
    let homepage = vdb::fact(&vdb.join(&cpv), "HOMEPAGE")?;
    let (_, name) = atom.package().split_once('/').unwrap_or_default();
    let mut facts = vec![("SYSEXT_NAME", name)];
    if request.version.is_none() {
        facts.push(("SYSEXT_ID", request.name.as_str()));
        facts.push(("SYSEXT_VERSION_ID", version(&cpv, atom.package())));
    }
    facts.extend(homepage.split_whitespace().next().map(|page| ("SYSEXT_HOME_URL", page)));
    // What is no value of such a file describes nothing.
    Ok(facts.iter().filter_map(|(key, value)| format!("{key}={value}").parse().ok()).collect())
}

/// The version in `cpv`, which is one of `package`, without Gentoo's revision.
fn version<'a>(cpv: &'a str, package: &str) -> &'a str {
    let version = cpv.strip_prefix(package).unwrap_or(cpv).trim_start_matches('-');
    match version.rsplit_once("-r") {
        Some((version, revision)) if revision.bytes().all(|byte| byte.is_ascii_digit()) => version,
        _ => version,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(version("app-misc/jq-1.7.1-r3", "app-misc/jq"), "1.7.1");
        assert_eq!(version("dev-lang/x-2_rc1", "dev-lang/x"), "2_rc1");
    }
}
