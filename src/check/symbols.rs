//! Symbols: whether something provides what a program and its libraries leave undefined.

use std::collections::{HashSet, VecDeque};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use goblin::elf::Elf;

use super::elf_rules::search_dirs;
use super::{Detail, Fact, Scene};
use crate::elf::{Image, Kind};

/// What a file takes from others and what it gives them (gABI, "Symbol Table").
#[derive(Debug, Default)]
pub struct Symbols {
    /// Names that it needs somebody to define. Weak ones may stay undefined.
    undefined: Vec<Box<str>>,
    /// Names that it defines for all.
    defined: HashSet<Box<str>>,
}

impl Symbols {
    /// Reads the dynamic symbols of an ELF file; nothing where they can not be read.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let elf = Elf::parse(bytes).ok()?;
        let mut symbols = Self::default();
        for symbol in &elf.dynsyms {
            let Some(name) = elf.dynstrtab.get_at(symbol.st_name).filter(|name| !name.is_empty())
            else {
                continue;
            };
            if symbol.st_bind() == goblin::elf::sym::STB_LOCAL {
                continue;
            }
            // Names of versions are absolute symbols of value 0: only the section says "undefined".
            if symbol.st_shndx != goblin::elf::section_header::SHN_UNDEF as usize {
                symbols.defined.insert(name.into());
            } else if symbol.st_bind() != goblin::elf::sym::STB_WEAK {
                symbols.undefined.push(name.into());
            }
        }
        Some(symbols)
    }
}

/// The libraries that are loaded with `fact`, itself first, in the order of ld.so(8): breadth
/// first.
fn closure<'a>(fact: &'a Fact, scene: &Scene<'a>) -> Option<Vec<&'a Fact>> {
    let mut loaded: Vec<&Fact> = vec![fact];
    let mut names: HashSet<&Path> = HashSet::from([fact.path.as_path()]);
    let mut waiting = VecDeque::from([fact]);
    while let Some(next) = waiting.pop_front() {
        let image = next.elf()?;
        let dirs = search_dirs(next, image, scene);
        for needed in &image.needed {
            // What is missing is another rule's to report; without it nothing can be said here.
            let library = scene.library(OsStr::from_bytes(needed), &dirs)?;
            if names.insert(&library.path) {
                loaded.push(library);
                waiting.push_back(library);
            }
        }
    }
    Some(loaded)
}

pub(super) fn undefined(fact: &Fact, scene: &Scene<'_>) -> Vec<Detail> {
    let Some(image) = fact.elf().filter(|image| has_needs(image)) else { return Vec::new() };
    let Some(loaded) = closure(fact, scene) else { return Vec::new() };
    let providers: Vec<&Symbols> = loaded.iter().filter_map(|f| f.symbols.as_ref()).collect();
    let Some(own) = &fact.symbols else { return Vec::new() };
    let mut missing: Vec<&str> = own
        .undefined
        .iter()
        .map(AsRef::as_ref)
        .filter(|name| !providers.iter().any(|provider| provider.defined.contains(*name)))
        .collect();
    missing.sort_unstable();
    missing.dedup();
    let Some(first) = missing.first() else { return Vec::new() };
    let more = match missing.len() - 1 {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let text = format!("needs the symbol {first}{more}, which none of its libraries defines");
    // A plugin takes symbols from the program that opens it.
    vec![match image.kind {
        Kind::Executable | Kind::PieExecutable => Detail::error(text),
        _ => Detail::note(text),
    }]
}

fn has_needs(image: &Image) -> bool {
    !image.needed.is_empty()
        && matches!(image.kind, Kind::Executable | Kind::PieExecutable | Kind::SharedObject)
}
