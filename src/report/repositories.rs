//! Ebuild repositories that packages came from. Reports need them for data that the package
//! database does not keep: digests of sources, and texts of licences.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;

use crate::base::data::{self, Folder};
use crate::base::input;
use crate::base::limits::TEXT;
use crate::portage::cpv::Cpv;

/// Repositories on disk, and the built-in one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Repositories {
    /// Paths of the repositories on disk.
    pub paths: Vec<PathBuf>,
    looked_at: Arc<Mutex<BTreeSet<PathBuf>>>,
}

/// Digest of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SourceChecksum {
    /// Algorithm, as Manifest files and SPDX name it.
    pub algorithm: &'static str,
    /// Digest in hexadecimal digits.
    pub value: String,
}

impl Repositories {
    /// Refers to the repositories at `paths`, and to the built-in one.
    pub(crate) fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { paths: paths.into_iter().collect(), ..Self::default() }
    }

    /// Returns the paths that were looked up so far, including those of missing files.
    pub(crate) fn looked_at(&self) -> BTreeSet<PathBuf> {
        self.looked_at.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the text of the licence with Gentoo's name `name`.
    pub(crate) fn license(&self, name: &str) -> Result<Option<String>> {
        self.file(&format!("licenses/{name}"))
    }

    /// Returns the digest of the source `file` of a package (Manifest files, GLEP 74).
    pub(crate) fn checksum(&self, cpv: &Cpv, file: &str) -> Result<Option<SourceChecksum>> {
        let manifest = self.file(&format!("{}/Manifest", cpv.package()))?.unwrap_or_default();
        for line in manifest.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            if words.starts_with(&["DIST", file])
                && let Some(at) = words.iter().position(|word| *word == "SHA512")
            {
                let value = words.get(at + 1).copied().unwrap_or_default().to_owned();
                return Ok(Some(SourceChecksum { algorithm: "SHA512", value }));
            }
        }
        Ok(None)
    }

    /// Reads the file at `path` from the first repository that has it.
    fn file(&self, path: &str) -> Result<Option<String>> {
        for repository in &self.paths {
            let file = repository.join(path);
            self.looked_at.lock().unwrap_or_else(PoisonError::into_inner).insert(file.clone());
            if file.is_file() {
                return Ok(Some(input::read_lossy(&file, TEXT)?));
            }
        }
        Ok(data::text(Folder::Overlay, path).ok().map(std::borrow::Cow::into_owned))
    }
}
