//! Tables that the dynamic section points to, with the size of each.
//!
//! The dynamic section holds most sizes. Those of the hash tables, the symbol table and the version
//! tables follow from their contents (gABI "Hash Table"; LSB "Symbol Versioning").

use elf::abi;

use crate::elf::raw::{DynamicSection, ElfLayout, slice};

pub(crate) const DT_RELRSZ: i64 = 35;
pub(crate) const DT_RELR: i64 = 36;
const DT_AUXILIARY: i64 = 0x7fff_fffd;
const DT_FILTER: i64 = 0x7fff_ffff;

/// Machine number that alpha uses in practice; it was never registered.
const EM_ALPHA_UNOFFICIAL: u16 = 0x9026;

/// Tags with a value that is an offset into the string table.
pub(crate) const STRING_TAGS: [i64; 9] = [
    abi::DT_NEEDED,
    abi::DT_SONAME,
    abi::DT_RPATH,
    abi::DT_RUNPATH,
    abi::DT_CONFIG,
    abi::DT_DEPAUDIT,
    abi::DT_AUDIT,
    DT_AUXILIARY,
    DT_FILTER,
];

/// Tags with the address of a table, for tables that this module can measure.
pub(crate) const TABLE_TAGS: [i64; 11] = [
    abi::DT_STRTAB,
    abi::DT_SYMTAB,
    abi::DT_HASH,
    abi::DT_GNU_HASH,
    abi::DT_VERSYM,
    abi::DT_VERNEED,
    abi::DT_VERDEF,
    abi::DT_RELA,
    abi::DT_REL,
    abi::DT_JMPREL,
    DT_RELR,
];

/// A file and its dynamic section.
pub(crate) struct DynamicTables<'l, 'a> {
    pub layout: &'l ElfLayout<'a>,
    pub dynamic: &'l DynamicSection,
    symbols: u64,
}

impl<'l, 'a> DynamicTables<'l, 'a> {
    pub(super) fn new(layout: &'l ElfLayout<'a>, dynamic: &'l DynamicSection) -> Self {
        let mut tables = DynamicTables { layout, dynamic, symbols: 0 };
        tables.symbols = tables.count_symbols();
        tables
    }

    /// Returns the number of symbols in the dynamic symbol table. Without section headers, only
    /// symbols that a hash table or a relocation can reach are counted. Nothing can use others.
    pub(super) fn symbol_count(&self) -> u64 {
        self.symbols
    }

    /// Returns the whole string table.
    pub(super) fn strings(&self) -> Option<&'a [u8]> {
        let size = self.dynamic.value(abi::DT_STRSZ)?;
        let offset = self.layout.offset_of(self.dynamic.value(abi::DT_STRTAB)?, size)?;
        slice(self.layout.bytes, offset, size)
    }

    /// Returns the size of the table of this tag, in bytes. Returns `None` if it is absent or
    /// malformed.
    pub(super) fn extent(&self, tag: i64) -> Option<u64> {
        let size = |tag| self.dynamic.value(tag);
        let address = self.dynamic.value(tag)?;
        match tag {
            abi::DT_STRTAB => size(abi::DT_STRSZ),
            abi::DT_SYMTAB => self.symbols.checked_mul(self.layout.symbol_size()),
            abi::DT_HASH => self.hash_extent(address),
            abi::DT_GNU_HASH => self.gnu_hash().map(|hash| hash.extent),
            abi::DT_VERSYM => self.symbols.checked_mul(2),
            abi::DT_VERNEED => Some(self.version_needs()?.extent),
            abi::DT_VERDEF => Some(self.version_definitions()?.extent),
            abi::DT_RELA => size(abi::DT_RELASZ),
            abi::DT_REL => size(abi::DT_RELSZ),
            abi::DT_JMPREL => size(abi::DT_PLTRELSZ),
            DT_RELR => size(DT_RELRSZ),
            _ => None,
        }
    }

    fn table(&self, tag: i64) -> Option<&'a [u8]> {
        self.layout.rest_at(self.dynamic.value(tag)?)
    }

    /// Returns the size of a `DT_HASH` entry: 4 bytes, but 8 on 64-bit s390 and alpha.
    fn hash_entry(&self) -> u64 {
        let wide = matches!(self.layout.header.e_machine, abi::EM_S390 | EM_ALPHA_UNOFFICIAL);
        if wide && self.layout.codec.is_64() { 8 } else { 4 }
    }

    fn hash_word(&self, table: &[u8], index: u64) -> Option<u64> {
        let entry = self.hash_entry();
        let at = index.checked_mul(entry)?;
        if entry == 8 {
            self.layout.codec.u64_at(table, at)
        } else {
            self.layout.codec.u32_at(table, at).map(u64::from)
        }
    }

    fn hash_extent(&self, address: u64) -> Option<u64> {
        let table = self.layout.rest_at(address)?;
        let words = self.hash_word(table, 0)?.checked_add(self.hash_word(table, 1)?)?;
        words.checked_add(2)?.checked_mul(self.hash_entry())
    }

    fn count_symbols(&self) -> u64 {
        let Some(address) = self.dynamic.value(abi::DT_SYMTAB) else { return 0 };
        let section = self
            .layout
            .sections
            .iter()
            .find(|section| section.sh_type == abi::SHT_DYNSYM && section.sh_addr == address);
        if let Some(section) = section {
            return section.sh_size / self.layout.symbol_size();
        }
        if let Some(count) = self.table(abi::DT_HASH).and_then(|table| self.hash_word(table, 1)) {
            return count;
        }
        let hashed = self.gnu_hash().map_or(0, |hash| hash.symbols);
        hashed.max(self.relocated_symbols())
    }

    /// Returns one more than the highest symbol index in a relocation.
    fn relocated_symbols(&self) -> u64 {
        let plt_is_rela = self.dynamic.value(abi::DT_PLTREL) == Some(7);
        let word = self.layout.codec.word();
        let tables = [
            (abi::DT_RELA, 3 * word),
            (abi::DT_REL, 2 * word),
            (abi::DT_JMPREL, if plt_is_rela { 3 * word } else { 2 * word }),
        ];
        let mut highest = 0;
        for (tag, entry) in tables {
            let (Some(table), Some(size)) = (self.table(tag), self.extent(tag)) else { continue };
            let mut at = word;
            while at < size {
                let Some(info) = self.layout.codec.word_at(table, at) else { break };
                let symbol = if word == 8 { info >> 32 } else { info >> 8 };
                highest = highest.max(symbol.saturating_add(1));
                at += entry;
            }
        }
        highest
    }

    /// Parses the GNU hash table: header of four words, bloom filter, buckets, chains. The chain of
    /// the highest bucket ends the symbol table.
    fn gnu_hash(&self) -> Option<GnuHash> {
        let table = self.table(abi::DT_GNU_HASH)?;
        let codec = self.layout.codec;
        let word = |at: u64| codec.u32_at(table, at).map(u64::from);
        let (buckets, first, bloom) = (word(0)?, word(4)?, word(8)?);
        let chains = 16 + bloom * codec.word() + buckets * 4;
        let start = chains - buckets * 4;
        let mut last = 0;
        for index in 0..buckets {
            last = last.max(word(start + index * 4)?);
        }
        if last < first {
            return Some(GnuHash { extent: chains, symbols: first });
        }
        while word(chains + (last - first) * 4)? & 1 == 0 {
            last += 1;
        }
        let symbols = last + 1;
        Some(GnuHash { extent: chains + (symbols - first) * 4, symbols })
    }

    /// Parses the versions that are needed of other files (`Elf_Verneed` and its `Elf_Vernaux`).
    pub(super) fn version_needs(&self) -> Option<VerneedTable> {
        let table = self.table(abi::DT_VERNEED)?;
        let codec = self.layout.codec;
        let mut files = Vec::new();
        let (mut at, mut extent) = (0_u64, 0_u64);
        // Entries of 16 bytes do not overlap in a valid table. This bounds the cost of an invalid
        // one.
        let mut budget = table.len() / 16;
        for _ in 0..self.dynamic.value(abi::DT_VERNEEDNUM)? {
            let count = codec.u16_at(table, at.checked_add(2)?)?;
            let file = codec.u32_at(table, at + 4)?.into();
            let mut aux = at.checked_add(codec.u32_at(table, at + 8)?.into())?;
            let next: u64 = codec.u32_at(table, at + 12)?.into();
            extent = extent.max(at + 16);
            let mut versions = Vec::new();
            for _ in 0..count {
                let index = codec.u16_at(table, aux.checked_add(6)?)?;
                let name = codec.u32_at(table, aux + 8)?.into();
                let weak = codec.u16_at(table, aux + 4)? & abi::VER_FLG_WEAK != 0;
                budget = budget.checked_sub(1)?;
                versions.push(Vernaux { name, index, weak });
                extent = extent.max(aux + 16);
                let step: u64 = codec.u32_at(table, aux + 12)?.into();
                if step == 0 {
                    break;
                }
                aux = aux.checked_add(step)?;
            }
            files.push(Verneed { at, file, versions });
            budget = budget.checked_sub(1)?;
            if next == 0 {
                break;
            }
            at = at.checked_add(next)?;
        }
        Some(VerneedTable { files, extent })
    }

    /// Parses the versions that the file itself defines: offsets of their names, and their extent.
    pub(super) fn version_definitions(&self) -> Option<VerdefTable> {
        let table = self.table(abi::DT_VERDEF)?;
        let codec = self.layout.codec;
        let mut found = VerdefTable { names: Vec::new(), extent: 0 };
        let mut at = 0_u64;
        let mut budget = table.len() / 8;
        for _ in 0..self.dynamic.value(abi::DT_VERDEFNUM)? {
            budget = budget.checked_sub(1)?;
            let base = codec.u16_at(table, at.checked_add(2)?)? & abi::VER_FLG_BASE != 0;
            let count = codec.u16_at(table, at + 6)?;
            let mut aux = at.checked_add(codec.u32_at(table, at + 12)?.into())?;
            let next: u64 = codec.u32_at(table, at + 16)?.into();
            found.extent = found.extent.max(at + 20);
            for position in 0..count {
                let name = codec.u32_at(table, aux)?.into();
                budget = budget.checked_sub(1)?;
                found.names.push(VerdefName { name, base, parent: position > 0 });
                found.extent = found.extent.max(aux.checked_add(8)?);
                let step: u64 = codec.u32_at(table, aux + 4)?.into();
                if step == 0 {
                    break;
                }
                aux = aux.checked_add(step)?;
            }
            if next == 0 {
                break;
            }
            at = at.checked_add(next)?;
        }
        Some(found)
    }

    /// Calls `visit` with every offset into the string table that is used outside of the dynamic
    /// section. File names of the version needs at `renamed` are skipped. Returns `None` if a table
    /// cannot be read, so that its uses are unknown.
    pub(super) fn visit_string_references(
        &self,
        renamed: &[u64],
        visit: &mut dyn FnMut(u64),
    ) -> Option<()> {
        if self.dynamic.value(abi::DT_VERNEED).is_some() {
            for file in self.version_needs()?.files {
                if !renamed.contains(&file.at) {
                    visit(file.file);
                }
                file.versions.iter().for_each(|version| visit(version.name));
            }
        }
        if self.dynamic.value(abi::DT_VERDEF).is_some() {
            self.version_definitions()?.names.iter().for_each(|name| visit(name.name));
        }
        let size = self.layout.symbol_size();
        let table = self.table(abi::DT_SYMTAB)?;
        let table = slice(table, 0, self.symbols.checked_mul(size)?)?;
        for symbol in table.chunks_exact(usize::try_from(size).ok()?) {
            visit(self.layout.codec.u32_at(symbol, 0)?.into());
        }
        Some(())
    }
}

struct GnuHash {
    extent: u64,
    symbols: u64,
}

/// Contents of `.gnu.version_r`.
pub(crate) struct VerneedTable {
    pub files: Vec<Verneed>,
    pub extent: u64,
}

/// One file of which versions are needed; `at` is the offset of its entry in the table.
pub(crate) struct Verneed {
    pub at: u64,
    pub file: u64,
    pub versions: Vec<Vernaux>,
}

/// One version needed; `index` is its number in `.gnu.version`.
pub(crate) struct Vernaux {
    pub name: u64,
    pub index: u16,
    pub weak: bool,
}

/// Contents of `.gnu.version_d`.
pub(crate) struct VerdefTable {
    pub names: Vec<VerdefName>,
    pub extent: u64,
}

/// One name in the table: of the file itself (`base`), of a version, or of an inherited version
/// (`parent`).
pub(crate) struct VerdefName {
    pub name: u64,
    pub base: bool,
    pub parent: bool,
}
