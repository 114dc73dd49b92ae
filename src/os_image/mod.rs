//! Extensions in the root directory of an OS image that is being built, in the places where Flatcar
//! expects them.
//!
//! Changes are planned as a list of values, which can be shown, and then applied.
//!
//! Nothing in here builds or packs.

mod places;
pub(crate) mod recipe;
pub(crate) mod whiteouts;

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::base::files;
use crate::fstree::resolve::{ResolvedPath, RootResolver};
use crate::os_image::places::{BUILT_IN, CERTIFICATES, EXTENSIONS, EXTRA, OEM, OPT};
pub(crate) use crate::os_image::places::{Extension, InstallMethod};

/// A change to the image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "act")]
pub(crate) enum ImageChange {
    /// Copies a file into the image.
    Copy {
        /// Path of the source file.
        from: PathBuf,
        /// Path in the image.
        to: PathBuf,
        /// True if the image file is repacked without compression.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        uncompressed: bool,
    },
    /// Writes a text file in the image.
    Write {
        /// Path in the image.
        to: PathBuf,
        /// Content of the file.
        text: String,
    },
    /// Writes an executable file in the image.
    Script {
        /// Path in the image.
        to: PathBuf,
        /// Content of the file.
        text: String,
    },
    /// Makes a link in the image.
    Link {
        /// Path of the link in the image.
        at: PathBuf,
        /// Target of the link.
        target: PathBuf,
    },
    /// Removes a file or a link from the image.
    Remove {
        /// Path in the image.
        path: PathBuf,
    },
}

/// An extension that is in an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct PresentExtension {
    /// Name under which it is attached.
    pub name: String,
    /// Path in the image, after following the link.
    pub path: PathBuf,
    /// Size in bytes; `None` if the link is broken.
    pub size: Option<u64>,
}

/// Root directory of an OS image.
#[derive(Clone, Debug)]
pub(crate) struct OsRoot {
    dir: PathBuf,
    rooted: RootResolver,
}

impl OsRoot {
    /// Returns the path of the root directory.
    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }

    /// Opens the root directory at `dir`.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        if !dir.join("usr").is_dir() {
            bail!("{} is not the root directory of an OS: it has no usr", dir.display());
        }
        let dir = fs_err::canonicalize(dir)?;
        Ok(Self { rooted: RootResolver::new(vec![dir.clone()]), dir })
    }

    /// Plans to add `extensions`. Signed extensions are verified against `certificate`.
    pub(crate) fn add(
        &self,
        extensions: &[Extension],
        method: InstallMethod,
        certificate: Option<&Path>,
    ) -> Result<Vec<ImageChange>> {
        let mut changes = Vec::new();
        for extension in extensions {
            changes.extend(self.add_one(extension, method, certificate)?);
        }
        if method == InstallMethod::Extra {
            changes.extend(self.enable(extensions)?);
        }
        if changes.iter().filter(|change| change.chooses_oem()).count() > 1 {
            bail!("an image is for one OEM: add one OEM extension");
        }
        Ok(changes)
    }

    /// Plans to remove the extension `name`.
    pub(crate) fn remove(&self, name: &str) -> Result<Vec<ImageChange>> {
        let known = self.list()?;
        let Some(present) = known.iter().find(|present| present.name == name) else {
            let names: Vec<&str> = known.iter().map(|present| present.name.as_str()).collect();
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            bail!("the image has no extension {name:?}; it has {names}");
        };
        let link = Path::new(EXTENSIONS).join(format!("{name}.raw"));
        let mut changes = vec![ImageChange::Remove { path: link.clone() }];
        let ours = [OPT, BUILT_IN, OEM, EXTRA].iter().any(|dir| present.path.starts_with(dir));
        if ours && present.size.is_some() && present.path != link {
            changes.push(ImageChange::Remove { path: present.path.clone() });
        }
        let certificate = Path::new(CERTIFICATES).join(format!("{name}.crt"));
        if self.on_disk(&certificate)?.is_file() {
            changes.push(ImageChange::Remove { path: certificate });
        }
        changes.extend(self.withdraw(name)?);
        Ok(changes)
    }

    /// Lists the extensions in the image.
    pub(crate) fn list(&self) -> Result<Vec<PresentExtension>> {
        let dir = self.on_disk(Path::new(EXTENSIONS))?;
        let mut present = Vec::new();
        if !dir.is_dir() {
            return Ok(present);
        }
        for entry in fs_err::read_dir(&dir)? {
            let file = entry?.file_name().to_string_lossy().into_owned();
            let Some(name) = file.strip_suffix(".raw") else { continue };
            let (path, size) = match self.rooted.resolve(&Path::new(EXTENSIONS).join(&file)) {
                ResolvedPath::There { inside, disk } => {
                    (inside, Some(fs_err::metadata(disk)?.len()))
                }
                ResolvedPath::Missing(path) | ResolvedPath::NoDirectory(path) => (path, None),
                ResolvedPath::Loop => bail!("{EXTENSIONS}/{file} is a link that leads to itself"),
            };
            present.push(PresentExtension { name: name.to_owned(), path, size });
        }
        present.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(present)
    }

    /// Applies `changes` in their order: a file is complete before its link is made.
    pub(crate) fn apply(&self, changes: &[ImageChange]) -> Result<()> {
        for change in changes {
            self.change(change).with_context(|| format!("could not {change}"))?;
        }
        Ok(())
    }

    fn change(&self, change: &ImageChange) -> Result<()> {
        match change {
            ImageChange::Copy { from, to, .. } => {
                let place = self.on_disk(to)?;
                let dir = place.parent().context("it has no directory")?;
                fs_err::create_dir_all(dir)?;
                let mut file = tempfile::NamedTempFile::new_in(dir)?;
                std::io::copy(&mut fs_err::File::open(from)?, &mut file)?;
                let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
                file.as_file().set_permissions(mode)?;
                file.as_file().sync_all()?;
                file.persist(place)?;
            }
            ImageChange::Write { to, text } => {
                files::write_atomically(&self.on_disk(to)?, text.as_bytes())?;
            }
            ImageChange::Script { to, text } => {
                files::write_executable(&self.on_disk(to)?, text.as_bytes())?;
            }
            ImageChange::Link { at, target } => files::link(target, &self.on_disk(at)?)?,
            ImageChange::Remove { path } => {
                let place = self.on_disk(path)?;
                fs_err::remove_file(&place)?;
                // The extension's own directory is removed with its last file.
                if let Some(dir) = path.parent().filter(|dir| dir.parent() == Some(Path::new(OPT)))
                {
                    let _ = fs_err::remove_dir(self.on_disk(dir)?);
                }
            }
        }
        Ok(())
    }

    /// Returns the place on disk of `path` in the image. Links resolve within the image; a link in
    /// the last component is not followed.
    fn on_disk(&self, path: &Path) -> Result<PathBuf> {
        let name = path.file_name().context("a path ends without a name")?;
        let parent = path.parent().unwrap_or(Path::new("/"));
        match self.rooted.resolve(parent) {
            ResolvedPath::There { disk, .. } => Ok(disk.join(name)),
            ResolvedPath::Missing(inside) => {
                Ok(self.dir.join(inside.strip_prefix("/").unwrap_or(&inside)).join(name))
            }
            ResolvedPath::NoDirectory(place) => bail!(
                "{} of the image leads up from {}, which is no directory there",
                parent.display(),
                place.display()
            ),
            ResolvedPath::Loop => bail!("{} is a link that leads to itself", parent.display()),
        }
    }
}

impl fmt::Display for ImageChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Copy { from, to, uncompressed } => {
                let how = if *uncompressed { ", uncompressed" } else { "" };
                write!(f, "copy {} to {}{how}", from.display(), to.display())
            }
            Self::Write { to, .. } | Self::Script { to, .. } => write!(f, "write {}", to.display()),
            Self::Link { at, target } => write!(f, "link {} to {}", at.display(), target.display()),
            Self::Remove { path } => write!(f, "remove {}", path.display()),
        }
    }
}
