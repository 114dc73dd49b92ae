//! Tags of the dynamic section that name libraries, besides `DT_NEEDED`.

use elf::abi;

use crate::elf::tables::{DT_AUXILIARY, DT_FILTER};

/// Tag by which a file names a library besides `DT_NEEDED` (gABI, "Dynamic Section"; ld.so(8)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LibraryTag {
    /// `DT_FILTER`: a library that defines the file's symbols in its place. The loader requires it.
    Filter,
    /// `DT_AUXILIARY`: the same, if the library is there.
    Auxiliary,
    /// `DT_AUDIT`: an auditor of the file (rtld-audit(7)). glibc reads the tag of programs alone, and
    /// goes on without an auditor that is not there.
    Audit,
    /// `DT_DEPAUDIT`: an auditor of the file's libraries.
    DepAudit,
}

impl LibraryTag {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Filter, Self::Auxiliary, Self::Audit, Self::DepAudit];

    /// Number of the tag.
    pub(crate) fn number(self) -> i64 {
        match self {
            Self::Filter => DT_FILTER,
            Self::Auxiliary => DT_AUXILIARY,
            Self::Audit => abi::DT_AUDIT,
            Self::DepAudit => abi::DT_DEPAUDIT,
        }
    }

    /// Returns whether the loader goes on without the library.
    pub fn is_optional(self) -> bool {
        self != Self::Filter
    }

    /// Returns whether the library is an auditor.
    pub fn is_auditor(self) -> bool {
        matches!(self, Self::Audit | Self::DepAudit)
    }

    /// Splits the text of an entry into names. Auditors are separated by colons.
    pub fn names(self, text: &[u8]) -> impl Iterator<Item = &[u8]> {
        text.split(move |&byte| byte == b':' && self.is_auditor()).filter(|name| !name.is_empty())
    }
}

impl std::fmt::Display for LibraryTag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Filter => "filter",
            Self::Auxiliary => "auxiliary",
            Self::Audit => "audit",
            Self::DepAudit => "depaudit",
        })
    }
}
