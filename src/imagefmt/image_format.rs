//! Properties and acts that every image format has.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::base::escape::Escape;
use crate::fstree::entries::FileTree;
use crate::host::tools::ExternalTool;
use crate::imagefmt::architecture::Architecture;
use crate::imagefmt::compression::{Compression, Compressor, Levels};
use crate::imagefmt::signing::Signing;

/// Input of an image, besides its format.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ImageInput<'a> {
    /// Contents of the image.
    pub tree: &'a FileTree,
    /// Architecture of its programs.
    pub architecture: Option<Architecture>,
    /// Key and certificate, for a format that can be signed.
    pub signing: Option<&'a Signing>,
}

/// Magic number of a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Magic {
    /// Offset in the file.
    pub offset: usize,
    /// Bytes at the offset.
    pub bytes: &'static [u8],
}

impl Magic {
    /// Returns whether a file that begins with `head` has this magic number.
    pub(crate) fn is_in(&self, head: &[u8]) -> bool {
        head.get(self.offset..).is_some_and(|rest| rest.starts_with(self.bytes))
    }
}

/// First Linux that mounts an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KernelNeed {
    /// Major and minor version.
    pub version: (u32, u32),
    /// Property of the image that older kernels do not know.
    pub reason: &'static str,
}

/// Facts about an image that a user supplies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ImageFacts {
    /// True if its data is compressed.
    pub compressed: bool,
    /// True if it has a signature, whoever made it.
    pub signed: bool,
}

/// Format of an image. Each format is one value in the registry, and nothing outside of its folder
/// knows which one it is.
pub(crate) trait ImageFormat: Sync {
    /// Returns the name by which users choose the format.
    fn name(&self) -> &'static str;

    /// Returns the suffix of the file name.
    fn suffix(&self) -> &'static str {
        ".raw"
    }

    /// Returns the supported compressors with their levels, the default first.
    fn compressors(&self) -> &'static [(Compressor, Levels)] {
        &[(Compressor::None, None)]
    }

    /// Returns the programs that write the format. Another version of them may write other bytes.
    fn tools(&self) -> &'static [ExternalTool];

    /// Returns whether an image can be signed.
    fn can_be_signed(&self) -> bool {
        false
    }

    /// Returns whether an image is one file, so that the facts about the file reveal every change.
    fn is_file(&self) -> bool {
        true
    }

    /// Returns whether systemd attaches the format. If not, no target has to be able to mount it.
    fn is_attachable(&self) -> bool {
        true
    }

    /// Returns the first kernel that mounts an image; `None` if every kernel that attaches
    /// extensions does.
    fn kernel(&self, compressor: Compressor, signed: bool) -> Option<KernelNeed> {
        let _ = (compressor, signed);
        None
    }

    /// Returns the magic number by which files are detected as this format; `None` if they are
    /// detected as another one, or not at all.
    fn magic(&self) -> Option<Magic>;

    /// Writes `input` as the image `output`. A temporary tree may be made at `scratch`; the caller
    /// removes it. The number of bytes of each file that was taken goes to `progress`.
    ///
    /// # Errors
    ///
    /// Fails if the format cannot hold the content, or if a tool fails.
    fn write(
        &self,
        input: ImageInput<'_>,
        compression: Compression,
        output: &Path,
        scratch: &Path,
        progress: &dyn Fn(u64),
    ) -> Result<()>;

    /// Returns the differences of `image` from `planned`. A temporary tree may be made at
    /// `scratch`; the caller removes it.
    ///
    /// # Errors
    ///
    /// Fails if the image cannot be read.
    fn differences(&self, planned: &FileTree, image: &Path, scratch: &Path) -> Result<Vec<String>>;

    /// Reads the contents of `image` into `found`. The root directory, with an empty path, and
    /// extended attributes may be among them or not.
    ///
    /// # Errors
    ///
    /// Fails if the image is damaged, or cannot be read.
    fn read(&self, image: &Path, found: &mut FileTree) -> Result<()>;

    /// Returns the name of an extended attribute in `image` by which overlayfs hides what is below;
    /// `None` if there is none, or if the format has no reader of attributes.
    ///
    /// # Errors
    ///
    /// Fails if the image is damaged, or cannot be read.
    fn overlay_mark(&self, image: &Path) -> Result<Option<String>> {
        let _ = image;
        Ok(None)
    }

    /// Returns the paths in `image` below the directory `below`.
    ///
    /// # Errors
    ///
    /// Fails if the image is damaged, or cannot be read.
    fn paths(&self, image: &Path, below: &Path) -> Result<Vec<PathBuf>> {
        let mut found = FileTree::without_prefix()?;
        self.read(image, &mut found)?;
        Ok(found.entries.into_keys().filter(|path| path.starts_with(below)).collect())
    }

    /// Verifies that the data of `image` are those of its hashes, and that the owner of
    /// `certificate` signed these. Formats without hashes have nothing to verify.
    ///
    /// # Errors
    ///
    /// Fails if a target would refuse the image.
    fn verify(&self, image: &Path, certificate: Option<&Path>) -> Result<()> {
        let _ = (image, certificate);
        Ok(())
    }

    /// Reads the facts about `image`.
    ///
    /// # Errors
    ///
    /// Fails if the image is damaged, or cannot be read.
    fn facts(&self, image: &Path) -> Result<ImageFacts> {
        let _ = image;
        Ok(ImageFacts::default())
    }

    /// Returns the reason for which an image cannot be packed again without compression, with
    /// advice; `None` if [`ImageFormat::unpack`] keeps everything.
    fn repack_obstacle(&self) -> Option<&'static str> {
        Some("pack it without compression")
    }

    /// Unpacks `image` into the new directory `dir`, with all properties of its entries except
    /// foreign owners. Returns whether there are none; otherwise [`ImageFormat::read`] tells them.
    ///
    /// # Errors
    ///
    /// Fails if the format has a [`ImageFormat::repack_obstacle`], or if a tool fails.
    fn unpack(&self, image: &Path, dir: &Path) -> Result<bool> {
        bail!("could not unpack {} to {}: it is {}", image.escaped(), dir.escaped(), self.name())
    }
}

impl PartialEq for dyn ImageFormat {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for dyn ImageFormat {}

impl fmt::Debug for dyn ImageFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for dyn ImageFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl serde::Serialize for dyn ImageFormat {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
