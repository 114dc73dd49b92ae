//! A machine that lacks something: a mount namespace in which the directories that have it are
//! replaced by directories with links to all the rest.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::World;

/// The directories in which fprefix looks for programs.
const PROGRAMS: [&str; 4] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"];

/// The words that start a program on a machine without any program of which `hides` says so.
pub(crate) fn without_programs(world: &World, hides: impl Fn(&str) -> bool) -> Vec<OsString> {
    let mut hidden = Vec::new();
    for dir in PROGRAMS {
        let dir = Path::new(dir);
        if dir.is_symlink() {
            continue;
        }
        let Ok(entries) = fs_err::read_dir(dir) else { continue };
        for entry in entries {
            let name = entry.unwrap().file_name();
            if hides(&name.to_string_lossy()) {
                hidden.push(dir.join(name));
            }
        }
    }
    without(world, &hidden)
}

/// The words that start a program on a machine without these files or directories.
pub(crate) fn without(world: &World, hidden: &[PathBuf]) -> Vec<OsString> {
    assert!(!hidden.is_empty(), "the machine lacks it anyway; install it to run this test");
    let mut words: Vec<OsString> = ["bwrap", "--dev-bind", "/", "/"].map(Into::into).into();
    let mut dirs: Vec<&Path> = hidden.iter().map(|path| path.parent().unwrap()).collect();
    dirs.sort_unstable();
    dirs.dedup();
    for (number, dir) in dirs.into_iter().enumerate() {
        let original = world.path(format!("machine/{number}/original"));
        let links = world.path(format!("machine/{number}/links"));
        fs_err::create_dir_all(&original).unwrap();
        fs_err::create_dir_all(&links).unwrap();
        for entry in fs_err::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            if !hidden.contains(&entry.path()) {
                let name = entry.file_name();
                fs_err::os::unix::fs::symlink(original.join(&name), links.join(&name)).unwrap();
            }
        }
        words.extend(["--bind".into(), dir.into(), original.into()]);
        words.extend(["--bind".into(), links.into(), dir.into()]);
    }
    // Otherwise the caller's own search path would lead to what is hidden.
    let path = format!("{}:/sbin:/bin", PROGRAMS.join(":"));
    words.extend(["--setenv".into(), "PATH".into(), path.into(), "--".into()]);
    words
}
