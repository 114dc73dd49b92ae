//! Extensions in the root directory of an OS image that is being built, in the places where Flatcar
//! expects them.
//!
//! Changes are planned as a list of values, which can be shown, and then applied.
//!
//! Nothing in here builds or packs.

mod file_state;
mod places;
pub(crate) mod recipe;
pub(crate) mod whiteouts;

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use crate::base::escape::{self, Escape};
use crate::base::input;
use crate::fstree::resolve::ResolvedPath;
use crate::fstree::root_dir::RootDir;
pub(crate) use crate::os_image::file_state::FileState;
use crate::os_image::places::{ATTACHED, BUILT_IN, CERTIFICATES, EXTENSIONS, EXTRA, OEM, OPT};
pub(crate) use crate::os_image::places::{Extension, InstallMethod};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// A change to the image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "act")]
pub(crate) enum ImageChange {
    /// Copies a file into the image.
    Copy {
        /// Path of the source file.
        #[serde(serialize_with = "escape::path::serialize")]
        from: PathBuf,
        /// Path in the image.
        #[serde(serialize_with = "escape::path::serialize")]
        to: PathBuf,
        /// True if the image file is repacked without compression.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        uncompressed: bool,
        /// State of the source file when it was verified; `None` if it was not.
        #[serde(skip)]
        verified: Option<FileState>,
    },
    /// Writes a text file in the image.
    Write {
        /// Path in the image.
        #[serde(serialize_with = "escape::path::serialize")]
        to: PathBuf,
        /// Content of the file.
        text: String,
    },
    /// Writes an executable file in the image.
    Script {
        /// Path in the image.
        #[serde(serialize_with = "escape::path::serialize")]
        to: PathBuf,
        /// Content of the file.
        text: String,
    },
    /// Makes a link in the image.
    Link {
        /// Path of the link in the image.
        #[serde(serialize_with = "escape::path::serialize")]
        at: PathBuf,
        /// Target of the link.
        #[serde(serialize_with = "escape::path::serialize")]
        target: PathBuf,
    },
    /// Removes a file or a link from the image.
    Remove {
        /// Path in the image.
        #[serde(serialize_with = "escape::path::serialize")]
        path: PathBuf,
    },
}

/// An extension that is in an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct PresentExtension {
    /// Name under which it is attached, as messages show it.
    pub name: String,
    /// Name of its file or link in the directory of extensions.
    #[serde(skip)]
    file: OsString,
    /// Path in the image, after following the link.
    #[serde(serialize_with = "escape::path::serialize")]
    pub path: PathBuf,
    /// Size in bytes; `None` if the link is broken.
    pub size: Option<u64>,
}

/// An image file or directory that systemd attaches when the OS boots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AttachedFile {
    /// Name under which it is attached.
    pub name: String,
    /// Path on disk, after following the link.
    pub disk: PathBuf,
}

/// Root directory of an OS image.
#[derive(Clone, Debug)]
pub(crate) struct OsRoot {
    root: RootDir,
}

impl OsRoot {
    /// Returns the path of the root directory.
    pub(crate) fn path(&self) -> &Path {
        self.root.path()
    }

    /// Returns the path on disk of a directory of the image, or `None` if the image has none there.
    pub(crate) fn directory(&self, path: &Path) -> Result<Option<PathBuf>> {
        match self.root.resolve(path) {
            ResolvedPath::There { disk, .. } if self.root.has_directory(path)? => Ok(Some(disk)),
            _ => Ok(None),
        }
    }

    /// Opens the root directory at `dir`.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let Some(root) = RootDir::open_system(dir)? else {
            bail!("{} is not the root directory of an OS: it has no usr", dir.escaped());
        };
        Ok(Self { root })
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
        let link = Path::new(EXTENSIONS).join(&present.file);
        let mut changes = Vec::new();
        let ours = [OPT, BUILT_IN, OEM, EXTRA].iter().any(|dir| present.path.starts_with(dir));
        if ours && present.path != link {
            changes.push(ImageChange::Remove { path: present.path.clone() });
        }
        let certificate = Path::new(CERTIFICATES).join(format!("{name}.crt"));
        if self.root.has_file(&certificate)? {
            changes.push(ImageChange::Remove { path: certificate });
        }
        changes.extend(self.undo_enable(name)?);
        // The link comes last: as long as it is there, a removal that was cut short can be ended.
        changes.push(ImageChange::Remove { path: link });
        Ok(changes)
    }

    /// Lists the extensions in the image.
    pub(crate) fn list(&self) -> Result<Vec<PresentExtension>> {
        let mut present = Vec::new();
        for file in self.root.read_dir(Path::new(EXTENSIONS))?.unwrap_or_default() {
            let Some(name) = file.as_bytes().strip_suffix(b".raw") else { continue };
            let name = name.escaped().to_string();
            let (path, size) = match self.root.resolve(&Path::new(EXTENSIONS).join(&file)) {
                ResolvedPath::There { inside, .. } => {
                    let size = self.root.metadata(&inside)?.map(|meta| meta.len());
                    (inside, size)
                }
                ResolvedPath::Missing(path) | ResolvedPath::NoDirectory(path) => (path, None),
                ResolvedPath::Loop => {
                    bail!("{EXTENSIONS}/{} is a link that leads to itself", file.escaped())
                }
            };
            present.push(PresentExtension { name, file, path, size });
        }
        present.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(present)
    }

    /// Lists the extensions that are attached when the OS boots. Of two with the same name, systemd
    /// takes that of the first directory, and it passes over links that lead nowhere.
    pub(crate) fn list_attached(&self) -> Result<Vec<AttachedFile>> {
        let mut attached: Vec<AttachedFile> = Vec::new();
        for dir in ATTACHED.iter().map(Path::new) {
            for file in self.root.read_dir(dir)?.unwrap_or_default() {
                let ResolvedPath::There { disk, inside } = self.root.resolve(&dir.join(&file))
                else {
                    continue;
                };
                let is_directory = self.root.has_directory(&inside)?;
                let bytes = file.as_bytes();
                let image = bytes.strip_suffix(b".raw").filter(|_| !is_directory);
                let Some(name) = image.or(is_directory.then_some(bytes)) else { continue };
                let name = String::from_utf8_lossy(name).into_owned();
                if !attached.iter().any(|other| other.name == name) {
                    attached.push(AttachedFile { name, disk });
                }
            }
        }
        Ok(attached)
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
            ImageChange::Copy { from, to, verified, .. } => {
                let (from, size) = input::open_sized(from)?;
                self.root.create(to, 0o644, |file| {
                    input::copy_data(from.file(), 0..size, file, 0)?;
                    let is_same = verified
                        .is_none_or(|then| FileState::of(from.file()).is_ok_and(|now| now == then));
                    ensure!(is_same, "it was changed after it was verified");
                    Ok(())
                })
            }
            ImageChange::Write { to, text } => self.write(to, 0o644, text),
            ImageChange::Script { to, text } => self.write(to, 0o755, text),
            ImageChange::Link { at, target } => self.root.link(at, target),
            ImageChange::Remove { path } => {
                if self.root.exists(path)? {
                    self.root.remove_file(path)?;
                }
                // The extension's own directory is removed with its last file.
                if let Some(dir) = path.parent().filter(|dir| dir.parent() == Some(Path::new(OPT)))
                {
                    let _ = self.root.remove_dir(dir);
                }
                Ok(())
            }
        }
    }

    fn write(&self, to: &Path, mode: u32, text: &str) -> Result<()> {
        self.root.create(to, mode, |file| Ok(file.write_all(text.as_bytes())?))
    }
}

impl fmt::Display for ImageChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Copy { from, to, uncompressed, .. } => {
                let how = if *uncompressed { ", uncompressed" } else { "" };
                write!(f, "copy {} to {}{how}", from.escaped(), to.escaped())
            }
            Self::Write { to, .. } | Self::Script { to, .. } => write!(f, "write {}", to.escaped()),
            Self::Link { at, target } => write!(f, "link {} to {}", at.escaped(), target.escaped()),
            Self::Remove { path } => write!(f, "remove {}", path.escaped()),
        }
    }
}
