//! The ebuild repositories that packages came from, for what the package database does not keep:
//! the digests of sources, and the texts of licences.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;

use crate::base::data::{self, Folder};
use crate::portage::cpv::Cpv;

/// Repositories on disk, and the built-in one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Repositories {
    /// Where they are.
    pub paths: Vec<PathBuf>,
    looked_at: Arc<Mutex<BTreeSet<PathBuf>>>,
}

/// The digest of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SourceChecksum {
    /// The algorithm, as Manifest files and SPDX name it.
    pub algorithm: &'static str,
    /// In hexadecimal digits.
    pub value: String,
}

impl Repositories {
    /// The repositories at `paths`, and the built-in one.
    pub(crate) fn at(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { paths: paths.into_iter().collect(), ..Self::default() }
    }

    /// The files that were looked for so far, and may have been there.
    pub(crate) fn looked_at(&self) -> BTreeSet<PathBuf> {
        self.looked_at.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The text of the licence that Gentoo calls `name`.
    pub(crate) fn license(&self, name: &str) -> Result<Option<String>> {
        self.file(&format!("licenses/{name}"))
    }

    /// The digest of the source `file` of a package (Manifest files, GLEP 74).
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

    /// The file at `path` in the first repository that has it.
    fn file(&self, path: &str) -> Result<Option<String>> {
        for repository in &self.paths {
            let file = repository.join(path);
            self.looked_at.lock().unwrap_or_else(PoisonError::into_inner).insert(file.clone());
            if file.is_file() {
                return Ok(Some(String::from_utf8_lossy(&fs_err::read(file)?).into_owned()));
            }
        }
        Ok(data::text(Folder::Overlay, path).ok().map(std::borrow::Cow::into_owned))
    }
}
