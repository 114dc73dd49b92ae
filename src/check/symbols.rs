//! Checks that a program's libraries define the symbols that the program leaves undefined.

use std::collections::{BTreeSet, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use ::elf::ElfBytes;
use ::elf::endian::AnyEndian;
use elf::abi::{SHN_UNDEF, STB_LOCAL, STB_WEAK};

use crate::base::escape::Escape;
use crate::check::{Detail, Fact, Scene};
use crate::elf::{ElfImage, ObjectKind};

/// Symbols that a file needs and defines (gABI, "Symbol Table"). Only digests of names are kept,
/// because a root may have millions of names. A collision of 64-bit digests within one program is
/// too unlikely to matter.
#[derive(Debug, Default)]
pub(crate) struct DynamicSymbols {
    /// Names that another file must define. Weak symbols are omitted: they may stay undefined.
    undefined: Vec<u64>,
    /// Names that the file defines for other files.
    defined: HashSet<u64, BuildHasherDefault<AsItIs>>,
}

/// Bytes of the names of all symbols of a file. A browser has 100 MiB.
const NAMES: usize = 1 << 30;

/// Largest file of which the symbols are read without section headers, in bytes. This reader takes
/// memory for each header that the file says to have, and a hole has any number of them.
const WITHOUT_SECTIONS: usize = 1 << 30;

/// Hasher for values that are already digests.
#[derive(Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, digest: u64) {
        self.0 = digest;
    }
}

impl DynamicSymbols {
    /// Reads the dynamic symbols of an ELF file. Returns `None` if they cannot be read.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let mut symbols = Self::default();
        for_each(bytes, |name, defined, weak| {
            if defined {
                symbols.defined.insert(hash_name(name));
            } else if !weak {
                symbols.undefined.push(hash_name(name));
            }
        })?;
        Some(symbols)
    }

    fn defines(&self, name: u64) -> bool {
        self.defined.contains(&name)
    }
}

/// Calls `act` for each symbol that other files see: with its name, whether it is defined, and
/// whether it is weak.
fn for_each(bytes: &[u8], mut act: impl FnMut(&[u8], bool, bool)) -> Option<()> {
    // Symbols that share a long name cost its length each.
    let mut left = NAMES;
    let mut see = |name: &[u8], section: usize, bind: u8| {
        left = left.checked_sub(name.len())?;
        if !name.is_empty() && bind != STB_LOCAL {
            // Names of versions are absolute symbols of value 0: only the section says "undefined".
            act(name, section != usize::from(SHN_UNDEF), bind == STB_WEAK);
        }
        Some(())
    };
    let elf = ElfBytes::<AnyEndian>::minimal_parse(bytes).ok()?;
    if let Ok(Some((symbols, names))) = elf.dynamic_symbol_table() {
        for symbol in symbols {
            let name = names.get_raw(symbol.st_name as usize).ok()?;
            see(name, symbol.st_shndx.into(), symbol.st_bind())?;
        }
        return Some(());
    }
    // Without section headers, the hash table gives the number of symbols.
    if bytes.len() > WITHOUT_SECTIONS {
        return None;
    }
    let elf = goblin::elf::Elf::parse(bytes).ok()?;
    for symbol in &elf.dynsyms {
        let name = elf.dynstrtab.get_at(symbol.st_name).unwrap_or_default();
        see(name.as_bytes(), symbol.st_shndx, symbol.st_bind())?;
    }
    Some(())
}

fn hash_name(name: &[u8]) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(name);
    hasher.finish()
}

/// Returns the libraries that are loaded with `fact`, itself first, in the order of ld.so(8):
/// breadth first. Returns `None` if a library is missing.
fn closure<'a>(fact: &'a Fact, scene: &Scene<'a>) -> Option<Vec<&'a Fact>> {
    let mut loaded: Vec<&Fact> = vec![fact];
    let mut seen: HashSet<*const Fact> = HashSet::from([std::ptr::from_ref(fact)]);
    let mut next = 0;
    while let Some(file) = loaded.get(next).copied() {
        next += 1;
        for library in scene.libraries(file) {
            // Another rule reports the missing library. Without it this rule has no answer.
            let library = (*library)?;
            if seen.insert(library) {
                loaded.push(library);
            }
        }
    }
    Some(loaded)
}

pub(super) fn check_undefined(fact: &Fact, scene: &Scene<'_>) -> Vec<Detail> {
    let Some(image) = fact.elf().filter(|image| has_needs(image)) else { return Vec::new() };
    let Some(own) = fact.symbols.as_ref().filter(|own| !own.undefined.is_empty()) else {
        return Vec::new();
    };
    let Some(loaded) = closure(fact, scene) else { return Vec::new() };
    let providers: Vec<&DynamicSymbols> =
        loaded.iter().filter_map(|f| f.symbols.as_ref()).collect();
    let missing: HashSet<u64> = (own.undefined.iter().copied())
        .filter(|name| !providers.iter().any(|provider| provider.defines(*name)))
        .collect();
    if missing.is_empty() {
        return Vec::new();
    }
    let more = match missing.len() - 1 {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let first = first_name(fact, scene, &missing).unwrap_or_default();
    let text = format!("needs the symbol {first}{more}, which none of its libraries defines");
    // A plugin uses symbols of the program that opens it.
    vec![match image.kind {
        ObjectKind::Executable | ObjectKind::PieExecutable => Detail::error(text),
        _ => Detail::note(text),
    }]
}

/// Returns the first name, in sorted order, of the undefined symbols whose digests are `missing`.
fn first_name(fact: &Fact, scene: &Scene<'_>, missing: &HashSet<u64>) -> Option<String> {
    let bytes = fact.contents(scene.root).ok()?;
    let mut names = BTreeSet::new();
    for_each(&bytes, |name, defined, _| {
        if !defined && missing.contains(&hash_name(name)) {
            names.insert(name.escaped().to_string());
        }
    })?;
    names.pop_first()
}

fn has_needs(image: &ElfImage) -> bool {
    !image.needed.is_empty()
        && matches!(
            image.kind,
            ObjectKind::Executable | ObjectKind::PieExecutable | ObjectKind::SharedObject
        )
}
