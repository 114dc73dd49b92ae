//! Checks that a program's libraries define the symbols that the program leaves undefined.

use std::collections::{BTreeSet, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use ::elf::ElfBytes;
use ::elf::endian::AnyEndian;
use elf::abi::{SHN_UNDEF, STB_LOCAL, STB_WEAK};

use crate::base::escape::Escape;
use crate::check::loading::Closure;
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

/// Returns the undefined symbols of `fact` that nothing defines that is loaded with it.
fn find_unresolved<'s>(fact: &Fact, scene: &'s Scene<'_>) -> &'s [u64] {
    let Some(place) = scene.unresolved(fact) else { return &[] };
    place.get_or_init(|| {
        let Some(own) = fact.symbols.as_ref().filter(|own| !own.undefined.is_empty()) else {
            return Vec::new();
        };
        let Some(closure) = scene.find_fact(&fact.path).map(|fact| scene.closure(fact)) else {
            return Vec::new();
        };
        // Another rule reports a missing library. Without it this rule has no answer.
        if !closure.faults.is_empty() {
            return Vec::new();
        }
        undefined_in(&closure, own.undefined.iter().copied())
    })
}

/// Returns those of `names` that no file of the closure defines.
fn undefined_in(closure: &Closure<'_>, names: impl Iterator<Item = u64>) -> Vec<u64> {
    let providers: Vec<&DynamicSymbols> =
        closure.loaded.iter().filter_map(|loaded| loaded.fact.symbols.as_ref()).collect();
    names.filter(|name| !providers.iter().any(|provider| provider.defines(*name))).collect()
}

pub(super) fn check_undefined(fact: &Fact, scene: &Scene<'_>) -> Vec<Detail> {
    let Some(image) = fact.elf().filter(|image| has_needs(image)) else { return Vec::new() };
    let is_program = image.interpreter.is_some() && image.kind.is_program();
    let mut details = Vec::new();
    let own = find_unresolved(fact, scene);
    if let Some(symbols) = describe(fact, scene, own) {
        let text = format!("needs {symbols}, which none of its libraries defines");
        // A plugin uses symbols of the program that opens it.
        details.push(if is_program { Detail::error(text) } else { Detail::note(text) });
    }
    if is_program && let Some(fact) = scene.find_fact(&fact.path) {
        details.extend(check_libraries(fact, scene));
    }
    details
}

/// Finds symbols that a library of the program needs, and that nothing defines which the program
/// loads.
fn check_libraries<'a>(program: &'a Fact, scene: &Scene<'a>) -> Vec<Detail> {
    let closure = scene.closure(program);
    if !closure.faults.is_empty() {
        return Vec::new();
    }
    let libraries = closure.loaded.iter().skip(1).map(|loaded| loaded.fact);
    let found = libraries.filter_map(|library| {
        let unresolved = find_unresolved(library, scene);
        let missing = undefined_in(&closure, unresolved.iter().copied());
        let symbols = describe(library, scene, &missing)?;
        let path = library.path.escaped();
        Some(Detail::error(format!("loads {path}, which needs {symbols}: nothing defines it")))
    });
    found.collect()
}

/// Renders symbols of `fact` with these digests: the first name, and how many more there are.
fn describe(fact: &Fact, scene: &Scene<'_>, missing: &[u64]) -> Option<String> {
    let missing: HashSet<u64> = missing.iter().copied().collect();
    let more = match missing.len().checked_sub(1)? {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let first = first_name(fact, scene, &missing).unwrap_or_default();
    Some(format!("the symbol {first}{more}"))
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
