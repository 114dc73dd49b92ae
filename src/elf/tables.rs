//! Tables that the dynamic section points to, with the size of each.
//!
//! The dynamic section holds most sizes. Those of the hash tables, the symbol table and the version
//! tables follow from their contents (gABI "Hash Table"; LSB "Symbol Versioning").

use elf::abi;

use crate::elf::Error;
use crate::elf::codec::{TableBytes, slice};
use crate::elf::raw::{DynamicSection, ElfLayout};

pub(crate) const DT_RELRSZ: i64 = 35;
pub(crate) const DT_RELR: i64 = 36;
pub(crate) const DT_AUXILIARY: i64 = 0x7fff_fffd;
pub(crate) const DT_FILTER: i64 = 0x7fff_ffff;

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
    pub(super) fn strings(&self) -> Result<&'a [u8], Error> {
        let tags = self.dynamic.value(abi::DT_STRTAB).zip(self.dynamic.value(abi::DT_STRSZ));
        let offset = tags.and_then(|(address, size)| self.layout.offset_of(address, size));
        let bytes = offset.zip(tags).and_then(|(at, (_, size))| slice(self.layout.bytes, at, size));
        let what = "DT_STRTAB and DT_STRSZ do not name a string table";
        bytes.ok_or(Error::malformed(what, self.dynamic.offset))
    }

    /// Returns the size of the table of this tag, in bytes. Returns `None` if the file has no such
    /// table.
    pub(super) fn table_size(&self, tag: i64) -> Result<Option<u64>, Error> {
        let size = |tag| Ok(self.dynamic.value(tag));
        if self.dynamic.value(tag).is_none() {
            return Ok(None);
        }
        match tag {
            abi::DT_STRTAB => size(abi::DT_STRSZ),
            abi::DT_SYMTAB => self.multiply_symbols(self.layout.symbol_size()).map(Some),
            abi::DT_HASH => self.hash_table_size().map(Some),
            abi::DT_GNU_HASH => self.parse_gnu_hash().map(|hash| Some(hash.size)),
            abi::DT_VERSYM => self.multiply_symbols(2).map(Some),
            abi::DT_VERNEED => self.parse_version_needs().map(|needs| Some(needs.size)),
            abi::DT_VERDEF => self.parse_version_definitions().map(|defined| Some(defined.size)),
            abi::DT_RELA => size(abi::DT_RELASZ),
            abi::DT_REL => size(abi::DT_RELSZ),
            abi::DT_JMPREL => size(abi::DT_PLTRELSZ),
            DT_RELR => size(DT_RELRSZ),
            _ => Ok(None),
        }
    }

    /// Returns the size of a table with one entry of `size` bytes for each symbol.
    fn multiply_symbols(&self, size: u64) -> Result<u64, Error> {
        let what = "the number of symbols is too large";
        self.symbols.checked_mul(size).ok_or(Error::malformed(what, self.dynamic.offset))
    }

    /// Returns the table of this tag, from its first byte to the end of its segment. `truncated`
    /// describes a table that ends too early, or that is not loaded from the file at all.
    pub(super) fn table_bytes(
        &self,
        tag: i64,
        truncated: &'static str,
    ) -> Result<TableBytes<'a>, Error> {
        let address = self.dynamic.value(tag);
        let table = address.and_then(|address| self.layout.table_from(address, truncated));
        table.ok_or(Error::malformed(truncated, self.dynamic.offset))
    }

    /// Returns the size of a `DT_HASH` entry: 4 bytes, but 8 on 64-bit s390 and alpha.
    fn hash_entry_size(&self) -> u64 {
        let wide = matches!(self.layout.header.e_machine, abi::EM_S390 | EM_ALPHA_UNOFFICIAL);
        if wide && self.layout.codec.is_64() { 8 } else { 4 }
    }

    /// Returns one of the two counts at the beginning of `DT_HASH`: of buckets, and of symbols.
    fn hash_count(&self, table: &TableBytes<'_>, index: u64) -> Result<u64, Error> {
        match self.hash_entry_size() {
            8 => table.u64_at(8 * index),
            size => table.u32_at(size * index),
        }
    }

    fn hash_table_size(&self) -> Result<u64, Error> {
        let table = self.table_bytes(abi::DT_HASH, "DT_HASH ends outside of its segment")?;
        let (buckets, chains) = (self.hash_count(&table, 0)?, self.hash_count(&table, 1)?);
        let words = table.advance(table.advance(buckets, chains)?, 2)?;
        words.checked_mul(self.hash_entry_size()).ok_or_else(|| table.end_error(0))
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
        let hash = self.table_bytes(abi::DT_HASH, "DT_HASH ends outside of its segment");
        if let Ok(count) = hash.and_then(|table| self.hash_count(&table, 1)) {
            return count;
        }
        let hashed = self.parse_gnu_hash().map_or(0, |hash| hash.symbols);
        hashed.max(self.count_relocated_symbols())
    }

    /// Returns one more than the highest symbol index in a relocation.
    fn count_relocated_symbols(&self) -> u64 {
        let plt_is_rela = self.dynamic.value(abi::DT_PLTREL) == Some(7);
        let word = self.layout.codec.word();
        let tables = [
            (abi::DT_RELA, 3 * word),
            (abi::DT_REL, 2 * word),
            (abi::DT_JMPREL, if plt_is_rela { 3 * word } else { 2 * word }),
        ];
        let mut highest = 0;
        for (tag, entry) in tables {
            let table = self.dynamic.value(tag).and_then(|at| self.layout.table_from(at, ""));
            let (Some(table), Ok(Some(size))) = (table, self.table_size(tag)) else { continue };
            let mut at = word;
            while at < size {
                let Some(info) = self.layout.codec.word_at(table.bytes, at) else { break };
                let symbol = if word == 8 { info >> 32 } else { info >> 8 };
                highest = highest.max(symbol.saturating_add(1));
                at += entry;
            }
        }
        highest
    }

    /// Parses the GNU hash table: header of four words, bloom filter, buckets, chains. The chain of
    /// the highest bucket ends the symbol table.
    fn parse_gnu_hash(&self) -> Result<GnuHash, Error> {
        let table =
            self.table_bytes(abi::DT_GNU_HASH, "DT_GNU_HASH ends outside of its segment")?;
        let (buckets, first, bloom) = (table.u32_at(0)?, table.u32_at(4)?, table.u32_at(8)?);
        let buckets_at = 16 + bloom * self.layout.codec.word();
        let chains_at = buckets_at + buckets * 4;
        let mut last = 0;
        for index in 0..buckets {
            last = last.max(table.u32_at(buckets_at + index * 4)?);
        }
        if last < first {
            return Ok(GnuHash { size: chains_at, symbols: first });
        }
        while table.u32_at(chains_at + (last - first) * 4)? & 1 == 0 {
            last += 1;
        }
        let symbols = last + 1;
        Ok(GnuHash { size: chains_at + (symbols - first) * 4, symbols })
    }

    /// Calls `visit` with every offset into the string table that is used outside of the dynamic
    /// section. File names of the version needs at `renamed` are skipped. Fails if a table cannot
    /// be read, so that its uses are unknown.
    pub(super) fn visit_string_references(
        &self,
        renamed: &[u64],
        visit: &mut dyn FnMut(u64),
    ) -> Result<(), Error> {
        if self.dynamic.value(abi::DT_VERNEED).is_some() {
            for file in self.parse_version_needs()?.files {
                if !renamed.contains(&file.at) {
                    visit(file.file);
                }
                file.versions.iter().for_each(|version| visit(version.name));
            }
        }
        if self.dynamic.value(abi::DT_VERDEF).is_some() {
            self.parse_version_definitions()?.names.iter().for_each(|name| visit(name.name));
        }
        let table = self.table_bytes(abi::DT_SYMTAB, "DT_SYMTAB ends outside of its segment")?;
        let size = self.layout.symbol_size();
        let symbols = table.slice_at(0, self.multiply_symbols(size)?)?;
        for symbol in symbols.chunks_exact(if self.layout.codec.is_64() { 24 } else { 16 }) {
            visit(self.layout.codec.u32_at(symbol, 0).unwrap_or_default().into());
        }
        Ok(())
    }
}

struct GnuHash {
    size: u64,
    symbols: u64,
}
