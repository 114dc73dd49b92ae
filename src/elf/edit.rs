//! What can be asked for, and what the answer looks like.

use crate::elf::Error;
use crate::elf::image::ObjectKind;

/// The changes asked for. The default asks for none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edit {
    /// The path in `PT_INTERP`. Files that have none (libraries) are not given one.
    pub interpreter: Option<Vec<u8>>,
    /// Where the file looks for its libraries.
    pub search: SearchPathEdit,
    /// `DT_SONAME`.
    pub soname: Option<Vec<u8>>,
    /// Libraries to need, searched after those that are needed already.
    pub add_needed: Vec<Vec<u8>>,
    /// Libraries to need no more. Symbols lose the versions that were asked of them.
    pub remove_needed: Vec<Vec<u8>>,
    /// Libraries to need by another name, the versions asked of them with it: (old, new).
    pub replace_needed: Vec<(Vec<u8>, Vec<u8>)>,
    /// Set `DF_1_NODEFLIB`: the loader's own directories are not searched for this file's needs.
    pub no_default_lib: bool,
}

/// What becomes of `DT_RPATH` and `DT_RUNPATH`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SearchPathEdit {
    /// They stay as they are.
    #[default]
    Keep,
    /// `DT_RUNPATH` with these directories; `DT_RPATH` goes.
    Runpath(Vec<u8>),
    /// `DT_RPATH` with these directories; `DT_RUNPATH` goes.
    Rpath(Vec<u8>),
    /// Both go.
    Remove,
}

impl Edit {
    /// Whether the dynamic section is concerned at all.
    pub(crate) fn touches_dynamic(&self) -> bool {
        self.search != SearchPathEdit::Keep
            || self.soname.is_some()
            || !self.add_needed.is_empty()
            || !self.remove_needed.is_empty()
            || !self.replace_needed.is_empty()
            || self.no_default_lib
    }

    /// Refuse what would not mean in the file what it says here.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        let search = match &self.search {
            SearchPathEdit::Runpath(path) | SearchPathEdit::Rpath(path) => Some(path),
            SearchPathEdit::Keep | SearchPathEdit::Remove => None,
        };
        let replaced = self.replace_needed.iter().map(|(_, new)| new);
        let mut all = (self.interpreter.iter())
            .chain(search)
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
        // The kernel refuses a PT_INTERP above PATH_MAX, its NUL included (fs/binfmt_elf.c).
        if self.interpreter.as_ref().is_some_and(|path| path.len() >= 4096) {
            return Err(Error::InvalidEdit("the interpreter is longer than 4095 bytes"));
        }
        Ok(())
    }
}

/// Bytes to write at an offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// Where they go.
    pub offset: u64,
    /// What goes there.
    pub bytes: Vec<u8>,
}

/// How a file is changed, from the least to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PatchMethod {
    /// Not at all.
    Unchanged(UnchangedReason),
    /// The new strings fit where there was room.
    InPlace,
    /// Tables moved along inside their segment, into its padding.
    Slide,
    /// A segment was added at the end of the file, or the one added before made longer.
    Append,
}

/// Why a file is left as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UnchangedReason {
    /// It is what was asked for.
    AlreadySo,
    /// Files of this kind have nothing to change, or must not be changed this way.
    ObjectKind(ObjectKind),
    /// There is neither an interpreter nor a dynamic section.
    NotDynamic,
}

/// How to change one file: bytes to overwrite, and bytes to add at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatchPlan {
    /// The least that did.
    pub method: PatchMethod,
    /// In the order of their offsets, not overlapping, all inside the file as it was.
    pub patches: Vec<Patch>,
    /// What follows the old end of the file, if anything does.
    pub tail: Vec<u8>,
    /// Size of the file that the plan was made for.
    pub source_size: u64,
}

impl PatchPlan {
    pub(crate) fn unchanged(reason: UnchangedReason, source_size: u64) -> PatchPlan {
        PatchPlan {
            method: PatchMethod::Unchanged(reason),
            patches: Vec::new(),
            tail: Vec::new(),
            source_size,
        }
    }

    /// Whether there is nothing to write.
    pub fn is_unchanged(&self) -> bool {
        matches!(self.method, PatchMethod::Unchanged(_))
    }

    /// By how many bytes the file grows.
    pub fn growth(&self) -> u64 {
        self.tail.len() as u64
    }

    /// How many bytes are written in place of others.
    pub fn patched(&self) -> u64 {
        self.patches.iter().map(|patch| patch.bytes.len() as u64).sum()
    }
}
