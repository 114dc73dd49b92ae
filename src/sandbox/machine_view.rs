//! Directories of this machine that a sandbox shows: those of its programs, and none with data of
//! its users.
//!
//! Builds are code of others. They need the machine's tools, and no file of its users, no socket of
//! its daemons, and no secret of its root. So directories are named that hold programs, and all
//! others do not exist in the sandbox.

use std::cell::RefCell;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::base::escape::Escape;
use crate::base::inside::{self, InsidePath};
use crate::fstree::walk::{TreeWalk, WalkEntry};
use crate::host::machine;
use crate::sandbox::bubblewrap::Bubblewrap;

/// Directories with programs and what they need (hier(7)). What is not there is left out.
const SHOWN: &[&str] = &[
    "/bin",
    "/etc",
    // Guix and Nix keep programs here.
    "/gnu",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/nix",
    "/opt",
    "/sbin",
    // Types of the running kernel, from which BPF programs are built, and processors.
    "/sys/devices/system/cpu",
    "/sys/kernel/btf",
    "/usr",
    // Certificates of openSUSE, to which /etc/ssl leads.
    "/var/lib/ca-certificates",
    // The machine's own Portage: its repositories, packages and settings.
    "/var/db",
    "/var/lib/gentoo",
    "/var/lib/portage",
];

/// Directories that programs expect, and that are empty.
const EMPTY: &[&str] = &["/home", "/media", "/mnt", "/root", "/run", "/srv", "/var"];

/// Files in /etc that may lead to a place that is not shown, and without which nothing is fetched.
const FOR_NETWORK: &[&str] = &["/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf"];

/// Variables that name certificates of servers, which are public.
const CERTIFICATES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// The paths of the machine that a sandbox shows.
#[derive(Clone, Debug)]
pub(crate) struct MachineView {
    shown: Vec<PathBuf>,
}

impl MachineView {
    /// Makes a view of the machine's programs and of `besides`.
    pub(crate) fn new(besides: &[PathBuf]) -> Self {
        let programs = SHOWN.iter().map(PathBuf::from);
        Self { shown: programs.chain(besides.iter().cloned()).collect() }
    }

    /// Returns whether `path` is in a directory that is shown.
    pub(crate) fn contains(&self, path: &Path) -> bool {
        self.shown.iter().any(|dir| path.starts_with(dir))
    }

    /// Shows it read-only, each directory at its own path.
    ///
    /// # Errors
    ///
    /// Fails if a directory cannot be read.
    pub(crate) fn show(&self, bwrap: &mut Bubblewrap) -> Result<()> {
        for dir in EMPTY {
            bwrap.dir(&InsidePath::parse(dir)?);
        }
        bwrap.tmpfs_for_all(&inside::VAR_TMP);
        for dir in &self.shown {
            bwrap.ro_bind_own(&InsidePath::parse(dir)?)?;
        }
        for file in FOR_NETWORK {
            self.show_target(bwrap, Path::new(file))?;
        }
        for variable in CERTIFICATES {
            if let Some(path) = std::env::var_os(variable) {
                self.show_target(bwrap, Path::new(&path))?;
            }
        }
        if machine::is_root() {
            hide_secrets(bwrap)?;
        }
        Ok(())
    }

    /// Shows what is at `path`, and where it leads to if it is a link.
    fn show_target(&self, bwrap: &mut Bubblewrap, path: &Path) -> Result<()> {
        let Ok(target) = fs_err::canonicalize(path) else { return Ok(()) };
        if !self.contains(&target) {
            bwrap.ro_bind(&target, &InsidePath::parse(&target)?);
        }
        if path.is_absolute() && path != target && !self.contains(path) {
            bwrap.symlink(&target, &InsidePath::parse(path)?);
        }
        Ok(())
    }
}

/// Returns the absolute path of something that a sandbox is to show besides programs.
///
/// # Errors
///
/// Fails if it is not there, or if it would hide a part of the sandbox.
pub(crate) fn check(path: &Path) -> Result<PathBuf> {
    let path = std::path::absolute(path)?;
    InsidePath::parse(&path)?;
    if [&inside::DEV, &inside::FPREFIX, &inside::PROC].iter().any(|own| path.starts_with(own))
        || path.parent().is_none()
    {
        bail!("the sandbox has a {} of its own; name another path", path.escaped());
    }
    if fs_err::metadata(&path).is_err() {
        bail!("there is no {}", path.escaped());
    }
    Ok(path)
}

/// Hides what root alone may read in /etc: passwords, private keys. In the sandbox, root still owns
/// it (`user_namespaces(7)`).
fn hide_secrets(bwrap: &mut Bubblewrap) -> Result<()> {
    // Root of a container may not look into all directories. Those are hidden, too.
    let is_secret = |entry: &WalkEntry, others: u32| {
        entry.metadata().map_or(true, |meta| meta.mode() & others != others)
    };
    let directories = RefCell::new(Vec::new());
    let is_hidden_directory = |entry: &WalkEntry| {
        let is_hidden = entry.file_type().is_dir() && is_secret(entry, 0o005);
        if is_hidden {
            directories.borrow_mut().push(entry.disk().to_owned());
        }
        is_hidden
    };
    for entry in TreeWalk::below(inside::ETC.as_path()).skip_below(is_hidden_directory) {
        let entry = entry?;
        if entry.file_type().is_file() && is_secret(&entry, 0o004) {
            bwrap.ro_bind(inside::DEV.join("null").as_path(), &InsidePath::parse(entry.disk())?);
        }
    }
    for dir in directories.into_inner() {
        bwrap.tmpfs(&InsidePath::parse(dir)?);
    }
    Ok(())
}
