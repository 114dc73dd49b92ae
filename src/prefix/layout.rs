//! The paths of a prefix on disk. This is the one module that knows them: a path
//! inside the prefix and its place on disk meet in one method.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::base::escape::Escape;
use crate::base::input;
use crate::base::inside::{self, InsidePath};
use crate::base::limits::TEXT;
use crate::base::names::{Environment, Eprefix, PrefixId};
use crate::portage::{vdb, world};

/// The file that marks a directory as an environment of fprefix, in [`MARKER_DIR`].
const MARKER_FILE: &str = "marker.toml";
/// The folder that marks a directory as an environment of fprefix.
const MARKER_DIR: &str = inside::MARKER;

/// The two environments of a prefix on disk, and the paths under which the sandbox shows them.
///
/// ```text
/// <staging>/                    /fprefix/staging in the sandbox
///   .fprefix/                   the marker, the lock, and what else no sandbox may reach
///   etc/portage/                PORTAGE_CONFIGROOT is <staging>
///   broot/                      BROOT: its Portage configuration, compiler wrappers, tools
///   profiles/                   Portage profiles, written out from the program
///   repos/                      the built-in repository and the toolchain's
///   root/<EPREFIX>/             the environment itself, at EPREFIX in the sandbox
///   pkgs/  logs/  tmp/  cache/  PKGDIR, logs, PORTAGE_TMPDIR, metadata cache
/// <final>/                      /fprefix/final in the sandbox
///   .fprefix/
///   etc/portage/                PORTAGE_CONFIGROOT is <final>
///   root/<EPREFIX>/             what is packed; nothing of fprefix is in root/
///   logs/  tmp/
/// ```
///
/// The paths in the sandbox are the same whatever the directories are called, so builds do not
/// depend on them, packages can be shared between machines, and no name on disk can hurt a build.
#[derive(Clone, Debug)]
pub struct PrefixLayout {
    staging: PathBuf,
    final_dir: PathBuf,
    eprefix: Eprefix,
    staging_eprefix: Eprefix,
    shared_pkgdir: Option<PathBuf>,
}

/// The directory of the C library's character set modules, below EPREFIX.
pub const GCONV: &str = "usr/lib64/gconv";
/// The directory of the C library's locales, below EPREFIX.
pub const LOCALES: &str = "usr/lib/locale";

/// PKGDIR below staging.
const PKGDIR: &str = "pkgs";

impl PrefixLayout {
    /// The layout of a prefix with environments at `staging` and `final_dir` (absolute).
    pub fn new(staging: PathBuf, final_dir: PathBuf, eprefix: Eprefix) -> Self {
        let staging_eprefix = eprefix.clone();
        Self { staging, final_dir, eprefix, staging_eprefix, shared_pkgdir: None }
    }

    /// The same with staging at a path of its own, from which packages are relocated into final.
    #[must_use]
    pub fn relocatable(self, is_relocatable: bool) -> Self {
        let staging_eprefix =
            if is_relocatable { Eprefix::canonical() } else { self.eprefix.clone() };
        Self { staging_eprefix, ..self }
    }

    /// The same with a PKGDIR that others use too.
    #[must_use]
    pub fn with_pkgdir(self, shared_pkgdir: Option<PathBuf>) -> Self {
        Self { shared_pkgdir, ..self }
    }

    /// EPREFIX of final, the one that ships.
    pub fn eprefix(&self) -> &Eprefix {
        &self.eprefix
    }

    /// EPREFIX of an environment. Staging has another one in a relocatable prefix.
    pub fn eprefix_of(&self, environment: Environment) -> &Eprefix {
        match environment {
            Environment::Staging => &self.staging_eprefix,
            Environment::Final => &self.eprefix,
        }
    }

    /// Returns whether packages are relocated as they are merged into final.
    pub fn is_relocatable(&self) -> bool {
        self.staging_eprefix != self.eprefix
    }

    /// The directory of an environment.
    pub fn dir(&self, environment: Environment) -> &Path {
        match environment {
            Environment::Staging => &self.staging,
            Environment::Final => &self.final_dir,
        }
    }

    /// The same directory as the sandbox shows it.
    pub fn inside(environment: Environment) -> InsidePath {
        match environment {
            Environment::Staging => inside::STAGING.clone(),
            Environment::Final => inside::FINAL.clone(),
        }
    }

    /// ROOT on disk.
    pub fn root(&self, environment: Environment) -> PathBuf {
        self.dir(environment).join("root")
    }

    /// EROOT on disk.
    pub fn eroot(&self, environment: Environment) -> PathBuf {
        self.eprefix_of(environment).below(&self.root(environment))
    }

    /// The Portage configuration of an environment.
    pub fn config(&self, environment: Environment) -> PathBuf {
        self.dir(environment).join("etc/portage")
    }

    /// The user's package.provided of an environment.
    pub fn package_provided(&self, environment: Environment) -> PathBuf {
        self.config(environment).join("profile/package.provided")
    }

    /// Build logs.
    pub fn logs(&self, environment: Environment) -> PathBuf {
        self.dir(environment).join("logs")
    }

    /// `PORTAGE_TMPDIR`.
    pub fn tmp(&self, environment: Environment) -> PathBuf {
        self.dir(environment).join("tmp")
    }

    /// PKGDIR: both environments use staging's, or one that is shared with other prefixes.
    pub fn pkgdir(&self) -> PathBuf {
        self.shared_pkgdir.clone().unwrap_or_else(|| self.staging.join(PKGDIR))
    }

    /// The directory on disk over which the sandbox mounts a shared PKGDIR.
    pub fn pkgdir_mount(&self) -> PathBuf {
        self.staging.join(PKGDIR)
    }

    /// BROOT.
    pub fn broot(&self) -> PathBuf {
        self.staging.join("broot")
    }

    /// The repositories that fprefix writes itself.
    pub fn own_repos(&self) -> PathBuf {
        self.staging.join("repos")
    }

    /// Portage's profiles, written out.
    pub fn profiles(&self) -> PathBuf {
        self.staging.join("profiles")
    }

    /// The VDB of an environment.
    pub fn vdb(&self, environment: Environment) -> PathBuf {
        self.eroot(environment).join(vdb::BELOW_EROOT)
    }

    /// The world file of an environment.
    pub fn world(&self, environment: Environment) -> PathBuf {
        self.eroot(environment).join(world::BELOW_EROOT)
    }

    /// Portage's list of what a run has still to do, among others (portage(5)).
    pub fn mtimedb(&self, environment: Environment) -> PathBuf {
        self.eroot(environment).join("var/cache/edb/mtimedb")
    }

    /// The folder of the marker in an environment's directory.
    pub fn marker(&self, environment: Environment) -> PathBuf {
        self.dir(environment).join(MARKER_DIR)
    }

    /// The file that phases are reported to.
    pub fn events(&self) -> PathBuf {
        self.marker(Environment::Staging).join("events")
    }

    /// The script that confines the phases of ebuilds.
    pub fn phases(&self) -> PathBuf {
        self.marker(Environment::Staging).join("phases.sh")
    }

    /// The script that relocates packages.
    pub fn relocation(&self) -> PathBuf {
        self.marker(Environment::Staging).join("chpathtool.py")
    }

    /// Returns the path on disk of a path in the sandbox; `None` for a path outside the environments.
    pub fn disk_path(&self, inside: &Path) -> Option<PathBuf> {
        [Environment::Staging, Environment::Final].into_iter().find_map(|environment| {
            let rest = inside.strip_prefix(Self::inside(environment)).ok()?;
            Some(self.dir(environment).join(rest))
        })
    }
}

/// The content of a marker.
#[derive(Debug, Serialize, Deserialize)]
struct Marker {
    prefix: PrefixId,
    environment: Environment,
}

/// The owner of a directory.
#[derive(Debug, PartialEq, Eq)]
pub enum Owner {
    /// There is no such directory, or it is empty.
    Nobody,
    /// It carries the marker of this prefix.
    Prefix(PrefixId),
    /// It has content and no marker.
    Stranger,
}

/// Returns the owner of the directory `dir`.
pub fn owner(dir: &Path) -> Result<Owner> {
    let marker = dir.join(MARKER_DIR).join(MARKER_FILE);
    if marker.is_file() {
        let text = input::read_text(&marker, TEXT)?;
        let marker: Marker = toml::from_str(&text)
            .with_context(|| format!("the marker {} cannot be read", marker.escaped()))?;
        return Ok(Owner::Prefix(marker.prefix));
    }
    match fs_err::symlink_metadata(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Owner::Nobody),
        Err(error) => return Err(error.into()),
        Ok(meta) if !meta.is_dir() => return Ok(Owner::Stranger),
        Ok(_) => {}
    }
    let empty = fs_err::read_dir(dir)?.next().is_none();
    Ok(if empty { Owner::Nobody } else { Owner::Stranger })
}

/// Marks the directory `dir` as an environment of `prefix`.
pub fn mark(dir: &Path, prefix: &PrefixId, environment: Environment) -> Result<()> {
    let folder = dir.join(MARKER_DIR);
    fs_err::create_dir_all(&folder)?;
    let marker = Marker { prefix: prefix.clone(), environment };
    crate::base::files::write_durably(
        &folder.join(MARKER_FILE),
        toml::to_string(&marker)?.as_bytes(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_and_owners() {
        let dir = tempfile::tempdir().unwrap();
        let ours = dir.path().join("ours");
        assert_eq!(owner(&ours).unwrap(), Owner::Nobody);
        let id = PrefixId { name: "demo".parse().unwrap(), board: "amd64-usr".into() };
        mark(&ours, &id, Environment::Staging).unwrap();
        assert_eq!(owner(&ours).unwrap(), Owner::Prefix(id));
        fs_err::write(dir.path().join("x"), "").unwrap();
        assert_eq!(owner(dir.path()).unwrap(), Owner::Stranger);
    }

    #[test]
    fn inside_and_outside() {
        let layout =
            PrefixLayout::new("/a/s t".into(), "/b/f".into(), "/usr/local/demo".parse().unwrap());
        assert_eq!(layout.eroot(Environment::Final), Path::new("/b/f/root/usr/local/demo"));
        assert_eq!(
            layout.disk_path(Path::new("/fprefix/staging/logs/x")),
            Some("/a/s t/logs/x".into())
        );
        assert_eq!(layout.disk_path(Path::new("/etc")), None);
    }
}
