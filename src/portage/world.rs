//! The world file: the atoms that the user asked for, one per line (portage(5),
//! `/var/lib/portage/world`).

use std::path::Path;

use anyhow::Result;

use crate::base::input;
use crate::base::limits::TEXT;
use crate::portage::atom::Atom;

/// The path of the world file below EROOT.
pub(crate) const BELOW_EROOT: &str = "var/lib/portage/world";

/// The path of the list of sets in the world file, below EROOT.
const SETS_BELOW_EROOT: &str = "var/lib/portage/world_sets";

/// The paths of what a user asked for: the world file, and that of the sets in it.
pub(crate) const FILES_BELOW_EROOT: &[&str] = &[BELOW_EROOT, SETS_BELOW_EROOT];

/// Returns whether the user of the prefix at `eroot` asked for sets of packages. Portage alone knows the
/// packages of a set.
///
/// # Errors
///
/// Fails if the list of sets cannot be read.
pub(crate) fn has_sets(eroot: &Path) -> Result<bool> {
    let is_set = |(line, _): &(String, Option<Atom>)| line.trim_start().starts_with('@');
    for file in FILES_BELOW_EROOT {
        if read(&eroot.join(file))?.iter().any(is_set) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns the lines of the world file at `file`, each with its atom; `None` where a line is no
/// atom. There are no lines where there is no file.
pub(crate) fn read(file: &Path) -> Result<Vec<(String, Option<Atom>)>> {
    if !file.is_file() {
        return Ok(Vec::new());
    }
    let text = input::read_text(file, TEXT)?;
    Ok(text.lines().map(|line| (line.to_owned(), line.parse().ok())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn atoms_and_other_lines() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("world");
        assert!(read(&file).unwrap().is_empty());
        fs_err::write(&file, "app-misc/jq\n=dev-lang/python-3.13*:3.13\n@set\n").unwrap();
        let lines = read(&file).unwrap();
        let packages: Vec<_> =
            lines.iter().map(|(_, atom)| atom.as_ref().map(Atom::package)).collect();
        assert_eq!(packages, [Some("app-misc/jq"), Some("dev-lang/python"), None]);
        assert_eq!(lines[2].0, "@set");
    }
}
