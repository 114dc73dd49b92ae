//! Device nodes of the machine, seen from a namespace in which root still owns them.
//!
//! Its owner may change the mode of a node, for the whole machine. On a read-only mount nobody may,
//! and reading and writing go on as before. bubblewrap cannot mount nodes so.

use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::{StatVfsMountFlags, statvfs};
use rustix::mount::{MountFlags, mount_remount};

use crate::base::escape::Escape;
use crate::base::limits::LIST;
use crate::base::{input, inside};

/// Makes the mounts of device nodes below /dev read-only.
///
/// # Errors
///
/// Fails if that is forbidden.
pub(crate) fn seal() -> Result<()> {
    let mounts = input::read_text(Path::new("/proc/self/mountinfo"), LIST)?;
    for path in mount_points(&mounts) {
        let Ok(meta) = fs_err::metadata(path) else { continue };
        let is_node = meta.file_type().is_char_device() || meta.file_type().is_block_device();
        if path.starts_with(&inside::DEV) && is_node {
            remount(path).with_context(|| {
                format!("could not keep {} from being changed by a build", path.escaped())
            })?;
        }
    }
    Ok(())
}

/// Returns the mount points in the text of `/proc/self/mountinfo` (`proc_pid_mountinfo(5)`).
fn mount_points(mounts: &str) -> impl Iterator<Item = &Path> {
    mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(Path::new)
}

fn remount(path: &Path) -> Result<()> {
    // Flags that the machine set must stay (`mount_namespaces(7)`).
    let there = statvfs(path)?.f_flag;
    let mut flags = MountFlags::BIND | MountFlags::RDONLY;
    for (is, flag) in [
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ] {
        if there.contains(is) {
            flags |= flag;
        }
    }
    Ok(mount_remount(path, flags, "")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_the_fifth_word() {
        let text = "22 1 0:5 /null /dev/null rw,nosuid - devtmpfs devtmpfs rw\n\
                    23 1 0:21 / /dev/pts rw - devpts devpts rw\n\nshort";
        let points: Vec<_> = mount_points(text).collect();
        assert_eq!(points, [Path::new("/dev/null"), Path::new("/dev/pts")]);
    }
}
