//! Users who can replace a program: its owner, its group and everybody, and those of each directory
//! above it. What root starts must be nobody else's to change.

use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::base::escape::Escape;
use crate::base::input;
use crate::base::limits::TEXT;
use crate::fstree::acl;

/// A place where somebody can replace a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OpenPlace {
    path: PathBuf,
    reason: String,
}

impl fmt::Display for OpenPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.path.escaped(), self.reason)
    }
}

/// Returns the first place at which somebody other than root and the user that we run as can
/// replace the file `path`; `None` if there is none.
///
/// # Errors
///
/// Fails if the file or a directory above it cannot be read.
pub(crate) fn find_open_place(path: &Path) -> Result<Option<OpenPlace>> {
    let mut trusted = vec![0, rustix::process::geteuid().as_raw()];
    // In a user namespace, the machine's own files belong to nobody that the namespace knows.
    if is_mapped(&input::read_text(Path::new("/proc/self/uid_map"), TEXT)?) {
        let overflow = input::read_text(Path::new("/proc/sys/kernel/overflowuid"), TEXT)?;
        trusted.extend(overflow.trim().parse::<u32>());
    }
    let users = UserList::read()?;
    let file = fs_err::canonicalize(path)?;
    for place in file.ancestors() {
        let meta = fs_err::symlink_metadata(place)?;
        let has_list = rustix::fs::lgetxattr(place, acl::ACCESS, &mut [0_u8; 0]).is_ok();
        if let Some(reason) = users.find_writer(&meta, has_list, &trusted) {
            return Ok(Some(OpenPlace { path: place.to_owned(), reason }));
        }
    }
    Ok(None)
}

/// Returns whether `map`, the text of `uid_map` (`user_namespaces(7)`), is of a user namespace.
fn is_mapped(map: &str) -> bool {
    map.split_whitespace().ne(["0", "0", "4294967295"])
}

/// Users and groups of the machine, as its files list them.
struct UserList {
    /// passwd(5).
    users: String,
    /// group(5).
    groups: String,
}

impl UserList {
    fn read() -> Result<Self> {
        let text = |path: &str| -> Result<String> {
            let path = Path::new(path);
            if path.is_file() { input::read_text(path, TEXT) } else { Ok(String::new()) }
        };
        Ok(Self { users: text("/etc/passwd")?, groups: text("/etc/group")? })
    }

    /// Returns why others than the users `trusted` can write to a file or directory.
    fn find_writer(&self, meta: &Metadata, has_list: bool, trusted: &[u32]) -> Option<String> {
        if !trusted.contains(&meta.uid()) {
            return Some(format!("belongs to the user {}", meta.uid()));
        }
        // In a directory with the sticky bit, entries are replaced only by their owners.
        if meta.is_dir() && meta.mode() & 0o1000 != 0 {
            return None;
        }
        if meta.mode() & 0o002 != 0 {
            return Some("is writable for everybody".to_owned());
        }
        if meta.mode() & 0o020 == 0 {
            return None;
        }
        if has_list {
            return Some("is writable by its access control list".to_owned());
        }
        let group = meta.gid();
        self.has_others(group, trusted).then(|| format!("is writable for the group {group}"))
    }

    /// Returns whether others than the users `trusted` are in `group`, or may be.
    fn has_others(&self, group: u32, trusted: &[u32]) -> bool {
        let fields = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
        let number = |fields: &[String], at: usize| -> Option<u32> { fields.get(at)?.parse().ok() };
        let users: Vec<Vec<String>> = self.users.lines().map(fields).collect();
        let is_other = |user: &[String]| !number(user, 2).is_some_and(|id| trusted.contains(&id));
        if users.iter().any(|user| number(user, 3) == Some(group) && is_other(user)) {
            return true;
        }
        let line = self.groups.lines().map(fields).find(|line| number(line, 2) == Some(group));
        // Who is in a group that the machine's file does not list cannot be known.
        let Some(line) = line else { return true };
        let members =
            line.get(3).map_or("", String::as_str).split(',').filter(|name| !name.is_empty());
        members.into_iter().any(|name| {
            let user = users.iter().find(|user| user.first().is_some_and(|known| known == name));
            user.is_none_or(|user| is_other(user))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn list() -> UserList {
        UserList {
            users: "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/:/bin/sh\nbob:x:1001:7::/:\n"
                .into(),
            groups:
                "root:x:0:root\nnone:x:50:\nshared:x:60:root,ann\nann:x:1000:\nx:x:7:\ny:x:8:zoe\n"
                    .into(),
        }
    }

    #[test]
    fn groups_have_the_members_that_the_machine_lists() {
        let list = list();
        for (group, root, ann) in [
            (0, false, false),
            (50, false, false),
            (60, true, false),
            (1000, true, false),
            (7, true, true),
            (8, true, true),
            (99, true, true),
        ] {
            assert_eq!(list.has_others(group, &[0]), root, "{group}");
            assert_eq!(list.has_others(group, &[0, 1000]), ann, "{group}");
        }
    }

    #[test]
    fn modes_and_owners_decide() {
        let dir = tempfile::tempdir().unwrap();
        let own = rustix::process::geteuid().as_raw();
        let list = UserList { users: String::new(), groups: String::new() };
        let reason = |mode, has_list, trusted: &[u32]| {
            let mode = std::fs::Permissions::from_mode(mode);
            fs_err::set_permissions(dir.path(), mode).unwrap();
            let meta = fs_err::symlink_metadata(dir.path()).unwrap();
            list.find_writer(&meta, has_list, trusted).unwrap_or_default()
        };
        assert_eq!(reason(0o755, false, &[own]), "");
        assert_eq!(reason(0o1777, false, &[own]), "");
        assert_eq!(reason(0o757, false, &[own]), "is writable for everybody");
        assert!(reason(0o775, false, &[own]).starts_with("is writable for the group "));
        assert_eq!(reason(0o775, true, &[own]), "is writable by its access control list");
        assert_eq!(reason(0o755, false, &[own + 1]), format!("belongs to the user {own}"));
    }

    #[test]
    fn every_directory_above_counts() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("a/b");
        fs_err::create_dir_all(&inner).unwrap();
        let program = inner.join("program");
        fs_err::write(&program, "").unwrap();
        let outer = dir.path().join("a");
        let before = find_open_place(&program).unwrap();
        fs_err::set_permissions(&outer, std::fs::Permissions::from_mode(0o777)).unwrap();
        let found = find_open_place(&program).unwrap().unwrap();
        assert_eq!(found.to_string(), format!("{} is writable for everybody", outer.escaped()));
        assert_ne!(before, Some(found));
    }

    #[test]
    fn namespaces() {
        assert!(!is_mapped("         0          0 4294967295\n"));
        assert!(is_mapped("         0       1000          1\n"));
    }
}
