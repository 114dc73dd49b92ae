//! Tables of symbol versions (LSB "Symbol Versioning"): versions that a file needs of others, and
//! versions that it defines.

use elf::abi;

use crate::elf::Error;
use crate::elf::codec::TableBytes;
use crate::elf::tables::DynamicTables;

/// Contents of `.gnu.version_r`.
pub(crate) struct VerneedTable {
    /// File offset of the table.
    pub offset: u64,
    pub files: Vec<Verneed>,
    pub size: u64,
}

impl VerneedTable {
    /// Parses the chain of `count` versions that begins at `aux`.
    fn parse_versions(
        &mut self,
        table: &TableBytes<'_>,
        mut aux: u64,
        count: u16,
        budget: &mut usize,
    ) -> Result<Vec<Vernaux>, Error> {
        let mut versions = Vec::new();
        for _ in 0..count {
            let index = table.u16_at(table.advance(aux, 6)?)?;
            let name = table.u32_at(aux + 8)?;
            let weak = table.u16_at(aux + 4)? & abi::VER_FLG_WEAK != 0;
            spend(budget, table, aux)?;
            versions.push(Vernaux { name, index, weak });
            self.size = self.size.max(aux + 16);
            let step = table.u32_at(aux + 12)?;
            if step == 0 {
                break;
            }
            aux = table.advance(aux, step)?;
        }
        Ok(versions)
    }
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
    pub size: u64,
}

/// One name in the table: of the file itself (`base`), of a version, or of an inherited version
/// (`parent`).
pub(crate) struct VerdefName {
    pub name: u64,
    pub base: bool,
    pub parent: bool,
}

impl DynamicTables<'_, '_> {
    /// Parses the versions that are needed of other files (`Elf_Verneed` and its `Elf_Vernaux`).
    pub(super) fn parse_version_needs(&self) -> Result<VerneedTable, Error> {
        let table = self.table_bytes(abi::DT_VERNEED, "DT_VERNEED ends outside of its segment")?;
        let mut needs = VerneedTable { offset: table.offset, files: Vec::new(), size: 0 };
        // Entries of 16 bytes do not overlap in a valid table. This bounds the cost of an invalid
        // one.
        let mut budget = table.bytes.len() / 16;
        let mut at = 0_u64;
        for _ in 0..self.entry_count(abi::DT_VERNEEDNUM)? {
            let count = table.u16_at(table.advance(at, 2)?)?;
            let file = table.u32_at(at + 4)?;
            let first = table.advance(at, table.u32_at(at + 8)?)?;
            let next = table.u32_at(at + 12)?;
            needs.size = needs.size.max(at + 16);
            let versions = needs.parse_versions(&table, first, count, &mut budget)?;
            needs.files.push(Verneed { at, file, versions });
            spend(&mut budget, &table, at)?;
            if next == 0 {
                break;
            }
            at = table.advance(at, next)?;
        }
        Ok(needs)
    }

    /// Parses the versions that the file itself defines: offsets of their names.
    pub(super) fn parse_version_definitions(&self) -> Result<VerdefTable, Error> {
        let table = self.table_bytes(abi::DT_VERDEF, "DT_VERDEF ends outside of its segment")?;
        let mut found = VerdefTable { names: Vec::new(), size: 0 };
        let mut at = 0_u64;
        let mut budget = table.bytes.len() / 8;
        for _ in 0..self.entry_count(abi::DT_VERDEFNUM)? {
            spend(&mut budget, &table, at)?;
            let base = table.u16_at(table.advance(at, 2)?)? & abi::VER_FLG_BASE != 0;
            let count = table.u16_at(at + 6)?;
            let mut aux = table.advance(at, table.u32_at(at + 12)?)?;
            let next = table.u32_at(at + 16)?;
            found.size = found.size.max(at + 20);
            for position in 0..count {
                let name = table.u32_at(aux)?;
                spend(&mut budget, &table, aux)?;
                found.names.push(VerdefName { name, base, parent: position > 0 });
                found.size = found.size.max(table.advance(aux, 8)?);
                let step = table.u32_at(aux + 4)?;
                if step == 0 {
                    break;
                }
                aux = table.advance(aux, step)?;
            }
            if next == 0 {
                break;
            }
            at = table.advance(at, next)?;
        }
        Ok(found)
    }

    /// Returns the number of entries that the dynamic section states for a table.
    fn entry_count(&self, tag: i64) -> Result<u64, Error> {
        let what = "a version table has no number of entries";
        self.dynamic.value(tag).ok_or(Error::malformed(what, self.dynamic.offset))
    }
}

/// Takes one entry from the number of entries that the table can have.
fn spend(budget: &mut usize, table: &TableBytes<'_>, at: u64) -> Result<(), Error> {
    *budget = budget.checked_sub(1).ok_or_else(|| table.end_error(at))?;
    Ok(())
}
