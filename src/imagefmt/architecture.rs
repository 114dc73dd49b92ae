//! Architectures of extensions, under systemd's names (os-release(5), ARCHITECTURE=).

use std::collections::BTreeSet;
use std::fmt;
use std::io::Read;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail};
use serde::{Deserialize, Serialize, Serializer};

use crate::base::input;
use crate::fstree::entries::{ContentSource, EntryKind, FileTree};

/// Architecture of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum Architecture {
    /// 64-bit PC.
    X86_64,
    /// 64-bit ARM.
    Arm64,
}

/// All architectures: type, name, and number in an ELF header (`e_machine`, elf.h).
const ALL: &[(Architecture, &str, u16)] =
    &[(Architecture::X86_64, "x86-64", 62), (Architecture::Arm64, "arm64", 183)];

/// Returns the names of all architectures.
pub(crate) fn names() -> Vec<&'static str> {
    ALL.iter().map(|(_, name, _)| *name).collect()
}

impl Architecture {
    fn name(self) -> &'static str {
        ALL.iter().find(|(known, ..)| *known == self).map_or("", |(_, name, _)| name)
    }

    /// Returns the architecture of the ELF file that `file` yields; `None` if it is no ELF file or
    /// its architecture is unknown.
    pub(crate) fn of_file(file: impl Read) -> Result<Option<Self>> {
        let number = machine(file)?;
        let known = ALL.iter().find(|(_, _, known)| Some(*known) == number);
        Ok(known.map(|(architecture, ..)| *architecture))
    }

    /// Returns the architecture of the programs and libraries in `plan`; `None` if there are none.
    pub(crate) fn of(plan: &FileTree) -> Result<Option<Self>> {
        let mut numbers = BTreeSet::new();
        for (path, entry) in &plan.entries {
            let EntryKind::File(content) = &entry.kind else { continue };
            let ContentSource::Disk(file) = &content.source else { continue };
            if is_loaded(path.strip_prefix(plan.prefix_path()).unwrap_or(path)) {
                numbers.extend(machine(input::open_walked(file)?)?);
            }
        }
        let mut found = numbers.iter().map(|number| {
            ALL.iter().find(|(_, _, known)| known == number).map(|(architecture, ..)| *architecture)
        });
        match (found.next(), found.next()) {
            (None, _) => Ok(None),
            (Some(Some(architecture)), None) => Ok(Some(architecture)),
            _ => bail!(
                "the prefix has programs for several machines, or for one that is not known (ELF \
                 machines {numbers:?}); name the one it is for with --architecture"
            ),
        }
    }
}

/// Returns whether the system loads the file at `path` below EPREFIX: a program, or a library
/// directly in a library directory. Elsewhere, firmware and cross compilers have files for other
/// machines.
fn is_loaded(path: &Path) -> bool {
    let mut parts: Vec<_> = path.iter().filter_map(|part| part.to_str()).collect();
    if parts.first() == Some(&"usr") {
        parts.remove(0);
    }
    matches!(parts.as_slice(), [dir, _] if *dir == "bin" || *dir == "sbin" || dir.starts_with("lib"))
}

/// Returns the machine number of the ELF file that `file` yields; `None` for other files.
fn machine(file: impl Read) -> Result<Option<u16>> {
    let mut header = Vec::with_capacity(20);
    file.take(20).read_to_end(&mut header)?;
    let Some(header) = header.first_chunk::<20>().filter(|header| header.starts_with(b"\x7fELF"))
    else {
        return Ok(None);
    };
    let number = [header[18], header[19]];
    let big_endian = header[5] == 2;
    Ok(Some(if big_endian { u16::from_be_bytes(number) } else { u16::from_le_bytes(number) }))
}

impl TryFrom<String> for Architecture {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl FromStr for Architecture {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let known = ALL.iter().find(|(_, name, _)| *name == text);
        known.map(|(architecture, ..)| *architecture).with_context(|| {
            format!("there is no architecture {text:?}; there are {}", names().join(", "))
        })
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Architecture {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
