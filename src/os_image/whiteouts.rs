//! Whiteouts in the upper layer of /etc that hide files that tmpfiles rules would create.
//!
//! On an overlay of /etc over the files of the OS, removing a file leaves a whiteout in the upper
//! layer. It is a character device 0:0 (Documentation/filesystems/overlayfs.rst of Linux). On a
//! plain /etc, a tmpfiles rule creates a removed file again at the next boot. On an overlay the
//! rule does nothing, because the base has the file, so the whiteout must be removed instead. This
//! is possible only before the overlay is mounted. Flatcar's initrd reads the list of whiteouts
//! from [`LIST`]; the unit does the same for other images.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::base::data::{self, Folder};
use crate::base::tmpfiles::TmpfilesRule;
use crate::fstree::resolve::normalize_path;
use crate::os_image::{ImageChange, OsRoot};

/// Directories of rules, in order of precedence (tmpfiles.d(5)).
const RULES: &[&str] = &["/etc/tmpfiles.d", "/usr/local/lib/tmpfiles.d", "/usr/lib/tmpfiles.d"];

/// Types of rules that create a missing path (tmpfiles.d(5)).
const MAKING: &str = "fFcCdDLvqQpb";

/// Path of the list for Flatcar's initrd (flatcar/bootengine, initrd-setup-root).
pub(crate) const LIST: &str = "/usr/share/flatcar/etc-no-whiteouts";

/// Flatcar's directory for the base of /etc.
const FLATCAR_BASE: &str = "/usr/share/flatcar/etc";

const SCRIPT: &str = "/usr/libexec/etc-whiteouts";
const UNIT: &str = "/usr/lib/systemd/system/etc-whiteouts.service";
const WANTED: &str = "/usr/lib/systemd/system/initrd-root-fs.target.wants/etc-whiteouts.service";

/// Whiteouts to remove, and paths of rules that are missing from the base.
#[derive(Debug, Default)]
pub(crate) struct Whiteouts {
    /// Paths in /etc. A directory comes before its content.
    pub entries: BTreeSet<PathBuf>,
    /// Paths that rules create and the base does not have. They need no entry, because the rules do
    /// create them.
    pub not_in_base: BTreeSet<PathBuf>,
}

impl OsRoot {
    /// Finds the whiteouts. `base` is the lower layer of /etc, a path in the image. Its default is
    /// Flatcar's directory, or /etc if the image has none.
    pub(crate) fn whiteouts(&self, base: Option<&Path>) -> Result<Whiteouts> {
        let flatcar = self.root.metadata(Path::new(FLATCAR_BASE))?.is_some();
        let base =
            base.unwrap_or(Path::new(if flatcar { FLATCAR_BASE } else { "/etc" })).to_owned();
        let mut found = Whiteouts::default();
        for path in self.made_in_etc()? {
            let below = path.strip_prefix("/etc").unwrap_or(&path);
            if !self.root.exists(&base.join(below))? {
                found.not_in_base.insert(path);
                continue;
            }
            // A removed directory leaves a single whiteout in place of its whole content.
            let above = path.ancestors().take_while(|above| *above != Path::new("/etc"));
            found.entries.extend(above.map(Path::to_owned));
        }
        Ok(found)
    }

    /// Plans to write the list into the image, with a unit for the initrd that reads it.
    pub(crate) fn clean_whiteouts(found: &Whiteouts) -> Result<Vec<ImageChange>> {
        let template = |name: &str| -> Result<String> {
            Ok(data::text(Folder::Templates, name)?.into_owned())
        };
        Ok(vec![
            ImageChange::Write { to: LIST.into(), text: found.list() },
            ImageChange::Script { to: SCRIPT.into(), text: template("etc-whiteouts.sh")? },
            ImageChange::Write { to: UNIT.into(), text: template("etc-whiteouts.service")? },
            ImageChange::Link { at: WANTED.into(), target: "../etc-whiteouts.service".into() },
        ])
    }

    /// Returns the paths below /etc that tmpfiles rules of the image create.
    fn made_in_etc(&self) -> Result<BTreeSet<PathBuf>> {
        let mut paths = BTreeSet::new();
        for file in self.rule_files()?.into_values().flatten() {
            let text = self.text(&file)?;
            paths.extend(text.lines().filter_map(parse_created_path));
        }
        paths.retain(|path| path.starts_with("/etc") && path != Path::new("/etc"));
        Ok(paths)
    }

    /// Returns the files with rules, by name; `None` is a name without rules. A file hides those
    /// with the same name in later directories.
    fn rule_files(&self) -> Result<BTreeMap<OsString, Option<PathBuf>>> {
        let mut files = BTreeMap::new();
        for dir in RULES.iter().map(Path::new) {
            for name in self.root.read_dir(dir)?.unwrap_or_default() {
                if !name.as_encoded_bytes().ends_with(b".conf") || files.contains_key(&name) {
                    continue;
                }
                // A link to /dev/null disables a file; so does a broken link.
                let path = dir.join(&name);
                let has_rules = self.root.has_file(&path)?;
                files.insert(name, has_rules.then_some(path));
            }
        }
        Ok(files)
    }
}

impl Whiteouts {
    /// Renders the list for the initrd, one path per line. Rules are lines of text, so no path has
    /// a newline or bytes that are no UTF-8.
    fn list(&self) -> String {
        self.entries.iter().map(|path| format!("{}\n", path.to_string_lossy())).collect()
    }
}

/// Returns the path that a line of tmpfiles.d creates. Returns `None` for paths with specifiers,
/// because only the target knows their values.
pub(crate) fn parse_created_path(line: &str) -> Option<PathBuf> {
    let rule = TmpfilesRule::parse(line).filter(|rule| MAKING.contains(rule.letter))?;
    let path = rule.path.replace("%%", "\0");
    if path.contains('%') {
        return None;
    }
    Some(normalize_path(Path::new(&path.replace('\0', "%"))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::escape::Escape;

    #[test]
    fn rules() {
        let path = |line: &str| parse_created_path(line).map(|path| path.escaped().to_string());
        assert_eq!(path("L+ /etc/a - - - - ../b").unwrap(), "/etc/a");
        assert_eq!(path("  d! \"/etc/b c/\" 0755 -").unwrap(), "/etc/b c");
        assert_eq!(path("f\t/etc//x%%y").unwrap(), "/etc/x%y");
        for none in ["", "# L /etc/a", "r /etc/a", "w /etc/a - - - - x", "z /etc/a", "f /etc/%m"] {
            assert_eq!(path(none), None, "{none}");
        }
    }
}
