//! Whiteouts in the upper layer of /etc that hide what tmpfiles rules would make again.
//!
//! Where /etc is an overlay over what the OS brings, removing a file leaves a whiteout in the
//! upper layer: a character device 0:0 (Documentation/filesystems/overlayfs.rst of Linux). On a
//! plain /etc a tmpfiles rule makes the file again at the next boot; here the rule has nothing to
//! do, since the base has the file, so the whiteout has to go instead. That can be done only
//! before the overlay is mounted. Flatcar's initrd reads the list that is made here from
//! [`LIST`]; the unit does the same for other images.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::base::data::{self, Folder};
use crate::fstree::resolve::{ResolvedPath, normalize_path};
use crate::os_image::{ImageChange, OsRoot};

/// Where rules are, the directory that wins first (tmpfiles.d(5)).
const RULES: &[&str] = &["/etc/tmpfiles.d", "/usr/local/lib/tmpfiles.d", "/usr/lib/tmpfiles.d"];

/// Types of rules that make a path that is missing (tmpfiles.d(5)).
const MAKING: &str = "fFcCdDLvqQpb";

/// Where Flatcar's initrd reads the list (flatcar/bootengine, initrd-setup-root).
pub(crate) const LIST: &str = "/usr/share/flatcar/etc-no-whiteouts";

/// Where Flatcar keeps the base of /etc.
const FLATCAR_BASE: &str = "/usr/share/flatcar/etc";

const SCRIPT: &str = "/usr/libexec/etc-whiteouts";
const UNIT: &str = "/usr/lib/systemd/system/etc-whiteouts.service";
const WANTED: &str = "/usr/lib/systemd/system/initrd-root-fs.target.wants/etc-whiteouts.service";

/// The whiteouts that have to go, and those rules that the base has nothing for.
#[derive(Debug, Default)]
pub(crate) struct Whiteouts {
    /// Paths in /etc; a directory comes before what is in it.
    pub entries: BTreeSet<PathBuf>,
    /// Paths that rules make and the base does not have: the rules do make them.
    pub not_in_base: BTreeSet<PathBuf>,
}

impl OsRoot {
    /// Finds the whiteouts. `base` is the lower layer of /etc, a path in the image; Flatcar's
    /// place, or /etc where there is none.
    pub(crate) fn whiteouts(&self, base: Option<&Path>) -> Result<Whiteouts> {
        let flatcar = self.rooted.find(Path::new(FLATCAR_BASE)).is_some();
        let base =
            base.unwrap_or(Path::new(if flatcar { FLATCAR_BASE } else { "/etc" })).to_owned();
        let mut found = Whiteouts::default();
        for path in self.made_in_etc()? {
            let below = path.strip_prefix("/etc").unwrap_or(&path);
            if !self.has(&base.join(below))? {
                found.not_in_base.insert(path);
                continue;
            }
            // Whoever removed a directory left one whiteout in place of all that was in it.
            let above = path.ancestors().take_while(|above| *above != Path::new("/etc"));
            found.entries.extend(above.map(Path::to_owned));
        }
        Ok(found)
    }

    /// Whether there is something at `path`, a link that leads nowhere included.
    fn has(&self, path: &Path) -> Result<bool> {
        Ok(self.on_disk(path)?.symlink_metadata().is_ok())
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

    /// The paths below /etc that tmpfiles rules of the image make.
    fn made_in_etc(&self) -> Result<BTreeSet<PathBuf>> {
        let mut paths = BTreeSet::new();
        for file in self.rule_files()?.values() {
            let text = String::from_utf8_lossy(&fs_err::read(file)?).into_owned();
            paths.extend(text.lines().filter_map(made));
        }
        paths.retain(|path| path.starts_with("/etc") && path != Path::new("/etc"));
        Ok(paths)
    }

    /// The files with rules, by name: a file hides those of the same name in later directories.
    fn rule_files(&self) -> Result<BTreeMap<String, PathBuf>> {
        let mut files = BTreeMap::new();
        for dir in RULES {
            let ResolvedPath::There { disk, .. } = self.rooted.resolve(Path::new(dir)) else {
                continue;
            };
            for entry in fs_err::read_dir(disk)? {
                let name = entry?.file_name().to_string_lossy().into_owned();
                if !name.ends_with(".conf") || files.contains_key(&name) {
                    continue;
                }
                // A link to /dev/null takes a file out; so does one that leads nowhere.
                let place = self.rooted.resolve(&Path::new(dir).join(&name));
                let file = match place {
                    ResolvedPath::There { disk, .. } if disk.is_file() => disk,
                    _ => PathBuf::from("/dev/null"),
                };
                files.insert(name, file);
            }
        }
        Ok(files)
    }
}

impl Whiteouts {
    /// The list, a path a line.
    pub(crate) fn list(&self) -> String {
        self.entries.iter().map(|path| format!("{}\n", path.display())).collect()
    }
}

/// The path that a line of tmpfiles.d makes. Those with specifiers are known on the target only.
fn made(line: &str) -> Option<PathBuf> {
    let line = line.trim();
    let (kind, rest) = line.split_once(char::is_whitespace)?;
    let mut letters = kind.chars();
    if !MAKING.contains(letters.next()?) || !letters.all(|c| "!-=~^+$?".contains(c)) {
        return None;
    }
    let path = shlex::Shlex::new(rest.trim_start()).next()?.replace("%%", "\0");
    if path.contains('%') || !path.starts_with('/') {
        return None;
    }
    Some(normalize_path(Path::new(&path.replace('\0', "%"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        let path = |line: &str| made(line).map(|path| path.display().to_string());
        assert_eq!(path("L+ /etc/a - - - - ../b").unwrap(), "/etc/a");
        assert_eq!(path("  d! \"/etc/b c/\" 0755 -").unwrap(), "/etc/b c");
        assert_eq!(path("f\t/etc//x%%y").unwrap(), "/etc/x%y");
        for none in ["", "# L /etc/a", "r /etc/a", "w /etc/a - - - - x", "z /etc/a", "f /etc/%m"] {
            assert_eq!(path(none), None, "{none}");
        }
    }
}
