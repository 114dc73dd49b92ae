//! Edits that can be requested, and the plan that answers them.

use crate::elf::image::ObjectKind;
use crate::elf::{Error, LibraryTag};

/// Requested changes. The default requests none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edit {
    /// Path in `PT_INTERP`. Files without one (libraries) are not given one.
    pub interpreter: Option<Vec<u8>>,
    /// Change of the search path for libraries.
    pub search_path: SearchPathEdit,
    /// `DT_SONAME`.
    pub soname: Option<Vec<u8>>,
    /// Libraries to add, searched after the libraries that are already needed.
    pub add_needed: Vec<Vec<u8>>,
    /// Libraries to remove. Symbols lose the versions that were required of these libraries.
    pub remove_needed: Vec<Vec<u8>>,
    /// Libraries to rename, as (old, new), under every tag that names them. The versions required
    /// of them follow the new name.
    pub replace_needed: Vec<(Vec<u8>, Vec<u8>)>,
    /// Libraries to name no more under another tag than `DT_NEEDED`.
    pub remove_others: Vec<(LibraryTag, Vec<u8>)>,
    /// Sets `DF_1_NODEFLIB`: the loader does not search its default directories for this file's
    /// libraries.
    pub no_default_lib: bool,
}

/// Change of `DT_RPATH` and `DT_RUNPATH`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SearchPathEdit {
    /// Both stay as they are.
    #[default]
    Keep,
    /// Sets `DT_RUNPATH` to these directories and removes `DT_RPATH`.
    Runpath(Vec<u8>),
    /// Sets `DT_RPATH` to these directories and removes `DT_RUNPATH`.
    Rpath(Vec<u8>),
    /// Removes both.
    Remove,
}

impl Edit {
    /// Returns whether the edit changes the dynamic section at all.
    pub(crate) fn touches_dynamic(&self) -> bool {
        self.search_path != SearchPathEdit::Keep
            || self.soname.is_some()
            || !self.add_needed.is_empty()
            || !self.remove_needed.is_empty()
            || !self.replace_needed.is_empty()
            || !self.remove_others.is_empty()
            || self.no_default_lib
    }

    /// Rejects an edit that the file could not express.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        let search_path = match &self.search_path {
            SearchPathEdit::Runpath(path) | SearchPathEdit::Rpath(path) => Some(path),
            SearchPathEdit::Keep | SearchPathEdit::Remove => None,
        };
        let replaced = self.replace_needed.iter().map(|(_, new)| new);
        let mut all = (self.interpreter.iter())
            .chain(search_path)
            .chain(&self.soname)
            .chain(&self.add_needed)
            .chain(replaced);
        if all.clone().any(|text| text.contains(&0)) {
            return Err(Error::InvalidEdit("a string contains a NUL byte"));
        }
        if all.any(Vec::is_empty) {
            return Err(Error::InvalidEdit(
                "a string is empty (an empty search path means the current directory)",
            ));
        }
        // The kernel rejects a PT_INTERP longer than PATH_MAX, its NUL included (fs/binfmt_elf.c).
        if self.interpreter.as_ref().is_some_and(|path| path.len() >= 4096) {
            return Err(Error::InvalidEdit("the interpreter is longer than 4095 bytes"));
        }
        Ok(())
    }
}

/// Bytes to write at an offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// Offset in the file.
    pub offset: u64,
    /// Bytes to write.
    pub bytes: Vec<u8>,
}

/// Method of a change, from the least to the most invasive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PatchMethod {
    /// The file does not change.
    Unchanged(UnchangedReason),
    /// The new strings fit into existing room.
    InPlace,
    /// Tables slide inside their segment, into its padding.
    Slide,
    /// A segment is added at the end of the file, or the one added before is made longer.
    Append,
}

/// Reason that a file is left as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UnchangedReason {
    /// The file already is as requested.
    AlreadySo,
    /// Files of this kind have nothing to change, or must not be changed this way.
    ObjectKind(ObjectKind),
    /// The file has neither an interpreter nor a dynamic section.
    NotDynamic,
}

/// Changes to one file: bytes to overwrite, and bytes to append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatchPlan {
    /// Least invasive method that works.
    pub method: PatchMethod,
    /// Patches by offset. They do not overlap, and all are inside the old file.
    pub patches: Vec<Patch>,
    /// Bytes after the old end of the file; empty if nothing is appended.
    pub appended: Vec<u8>,
    /// Size of the file that the plan was made for, in bytes.
    pub source_size: u64,
}

impl PatchPlan {
    pub(crate) fn unchanged(reason: UnchangedReason, source_size: u64) -> PatchPlan {
        PatchPlan {
            method: PatchMethod::Unchanged(reason),
            patches: Vec::new(),
            appended: Vec::new(),
            source_size,
        }
    }

    /// Returns whether there is nothing to write.
    pub fn is_unchanged(&self) -> bool {
        matches!(self.method, PatchMethod::Unchanged(_))
    }

    /// Number of bytes by which the file grows.
    pub fn growth(&self) -> u64 {
        self.appended.len() as u64
    }

    /// Number of bytes that are overwritten.
    pub fn patched_bytes(&self) -> u64 {
        self.patches.iter().map(|patch| patch.bytes.len() as u64).sum()
    }
}
