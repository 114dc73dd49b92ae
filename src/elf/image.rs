//! Properties of a file, for rules and for people.

use std::cell::Cell;

use elf::abi;
use elf::endian::AnyEndian;

use crate::elf::codec::string_at;
use crate::elf::raw::{DynamicSection, ElfLayout};
use crate::elf::tables::DynamicTables;
use crate::elf::{Error, LibraryTag, notes};

/// Word size of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ElfClass {
    /// 32 bit.
    Elf32,
    /// 64 bit.
    Elf64,
}

/// Byte order of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ElfData {
    /// Least significant byte first.
    Little,
    /// Most significant byte first.
    Big,
}

/// Kind of an ELF file; only the first three are ever edited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// A dynamic program at a fixed address.
    Executable,
    /// A dynamic program at any address.
    PieExecutable,
    /// A shared library or a plugin.
    SharedObject,
    /// A program without a loader.
    StaticExecutable,
    /// A program without a loader that relocates itself.
    StaticPie,
    /// An object file.
    Relocatable,
    /// A dump of a process.
    Core,
    /// An object file for the kernel.
    KernelModule,
    /// The product of `objcopy --only-keep-debug`: headers with contents in another file.
    DebugFile,
    /// The dynamic loader itself, glibc's or musl's.
    Loader,
    /// A type that the gABI leaves to systems or processors.
    Other,
}

impl ObjectKind {
    /// Returns whether the kernel starts files of this kind.
    pub fn is_program(self) -> bool {
        matches!(
            self,
            Self::Executable | Self::PieExecutable | Self::StaticExecutable | Self::StaticPie
        )
    }
}

impl std::fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ObjectKind::Executable => "executable",
            ObjectKind::PieExecutable => "position-independent executable",
            ObjectKind::SharedObject => "shared object",
            ObjectKind::StaticExecutable => "static executable",
            ObjectKind::StaticPie => "static position-independent executable",
            ObjectKind::Relocatable => "object file",
            ObjectKind::Core => "core dump",
            ObjectKind::KernelModule => "kernel module",
            ObjectKind::DebugFile => "separate debug file",
            ObjectKind::Loader => "dynamic loader",
            ObjectKind::Other => "file of an unknown ELF type",
        })
    }
}

/// A version that the file needs of one of its libraries.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NeededVersion {
    /// Library name in `.gnu.version_r`.
    pub library: Vec<u8>,
    /// Version, for example `GLIBC_2.34`.
    pub version: Vec<u8>,
    /// True if the loader only warns when it is absent (`VER_FLG_WEAK`).
    pub weak: bool,
}

/// Properties of a file, read from its headers, dynamic section, strings and notes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElfImage {
    /// Word size.
    pub class: ElfClass,
    /// Byte order.
    pub data: ElfData,
    /// `e_machine` (an EM_ number).
    pub machine: u16,
    /// `EI_OSABI`.
    pub os_abi: u8,
    /// `EI_ABIVERSION`.
    pub abi_version: u8,
    /// `e_flags`, which distinguish the ABIs of ARM, MIPS, RISC-V and others.
    pub machine_flags: u32,
    /// Kind of the file.
    pub kind: ObjectKind,
    /// Path in `PT_INTERP`.
    pub interpreter: Option<Vec<u8>>,
    /// `DT_SONAME`.
    pub soname: Option<Vec<u8>>,
    /// `DT_NEEDED` entries, in order.
    pub needed: Vec<Vec<u8>>,
    /// Texts of other tags that name libraries, tag by tag ([`LibraryTag::names`]).
    pub other_libraries: Vec<(LibraryTag, Vec<u8>)>,
    /// `DT_RPATH`.
    pub rpath: Option<Vec<u8>>,
    /// `DT_RUNPATH`.
    pub runpath: Option<Vec<u8>>,
    /// `DT_FLAGS`.
    pub flags: u64,
    /// `DT_FLAGS_1`.
    pub flags_1: u64,
    /// `DT_TEXTREL`, or `DF_TEXTREL` in `DT_FLAGS`.
    pub text_relocations: bool,
    /// True if `PT_GNU_STACK` requests an executable stack. `None` if the file has none (the
    /// kernel's default applies).
    pub executable_stack: Option<bool>,
    /// Versions that the file needs.
    pub needed_versions: Vec<NeededVersion>,
    /// Versions that the file defines, without the one that names the file itself.
    pub defined_versions: Vec<Vec<u8>>,
    /// The `NT_GNU_BUILD_ID` note.
    pub build_id: Option<Vec<u8>>,
    /// The JSON of each `.note.dlopen` (<https://systemd.io/ELF_DLOPEN_METADATA/>).
    pub dlopen_notes: Vec<Vec<u8>>,
    /// The JSON of `.note.package` (<https://systemd.io/ELF_PACKAGE_METADATA/>).
    pub package_note: Option<Vec<u8>>,
    /// True if there is a section header table that can be read.
    pub has_sections: bool,
    /// Number of bytes behind everything that the headers describe, up to the last byte that is not
    /// zero.
    pub payload: u64,
}

/// Reads the properties of a file. Never panics, whatever the bytes are. Notes, strings and version
/// tables that cannot be read are left out.
///
/// # Errors
///
/// Fails if the bytes are not an ELF file, or if its ELF header, program headers or dynamic section
/// lie outside of it.
pub fn read(bytes: &[u8]) -> Result<ElfImage, Error> {
    let layout = ElfLayout::parse(bytes)?;
    let kind = detect_kind(&layout);
    let dynamic = match kind {
        ObjectKind::DebugFile
        | ObjectKind::Relocatable
        | ObjectKind::KernelModule
        | ObjectKind::Core => None,
        _ => layout.dynamic()?,
    };
    let mut image = read_headers(&layout, kind);
    if let Some(dynamic) = &dynamic {
        add_dynamic(&mut image, &DynamicTables::new(&layout, dynamic))?;
    }
    for note in notes::collect_notes(&layout) {
        if note.is_build_id() && image.build_id.is_none() {
            image.build_id = Some(note.content.to_vec());
        } else if note.is_dlopen() {
            image.dlopen_notes.push(trim_nul(note.content));
        } else if note.is_package() {
            image.package_note = Some(trim_nul(note.content));
        }
    }
    Ok(image)
}

fn read_headers(layout: &ElfLayout<'_>, kind: ObjectKind) -> ElfImage {
    let header = &layout.header;
    let stack = layout.find_segment(abi::PT_GNU_STACK);
    ElfImage {
        class: if layout.codec.is_64() { ElfClass::Elf64 } else { ElfClass::Elf32 },
        data: match header.endianness {
            AnyEndian::Little => ElfData::Little,
            AnyEndian::Big => ElfData::Big,
        },
        machine: header.e_machine,
        os_abi: header.osabi,
        abi_version: header.abiversion,
        machine_flags: header.e_flags,
        kind,
        interpreter: if kind == ObjectKind::DebugFile {
            None
        } else {
            layout.interpreter().map(<[u8]>::to_vec)
        },
        soname: None,
        needed: Vec::new(),
        other_libraries: Vec::new(),
        rpath: None,
        runpath: None,
        flags: 0,
        flags_1: 0,
        text_relocations: false,
        executable_stack: stack.map(|stack| stack.p_flags & abi::PF_X != 0),
        needed_versions: Vec::new(),
        defined_versions: Vec::new(),
        build_id: None,
        dlopen_notes: Vec::new(),
        package_note: None,
        has_sections: !layout.sections.is_empty(),
        payload: payload_size(layout),
    }
}

fn add_dynamic(image: &mut ElfImage, tables: &DynamicTables<'_, '_>) -> Result<(), Error> {
    let dynamic = tables.dynamic;
    let left = Cell::new(STRINGS);
    // Many entries can name one long string, so that a small file would need endless memory.
    let take = |text: &[u8]| {
        left.set(left.get().saturating_sub(text.len() + 1));
        if left.get() == 0 { Vec::new() } else { text.to_vec() }
    };
    // Parts that cannot be read are left out: the rest of the file still has properties.
    let strings = tables.strings().unwrap_or_default();
    let text = |offset| match left.get() {
        0 => None,
        _ => string_at(strings, offset).map(take),
    };
    let first = |tag| dynamic.value(tag).and_then(text);
    image.soname = first(abi::DT_SONAME);
    image.rpath = first(abi::DT_RPATH);
    image.runpath = first(abi::DT_RUNPATH);
    let needed = dynamic.entries.iter().filter(|entry| entry.tag == abi::DT_NEEDED);
    image.needed = needed.filter_map(|entry| text(entry.value)).collect();
    for tag in LibraryTag::ALL {
        let entries = dynamic.entries.iter().filter(|entry| entry.tag == tag.number());
        image.other_libraries.extend(entries.filter_map(|entry| Some((tag, text(entry.value)?))));
    }
    image.flags = dynamic.value(abi::DT_FLAGS).unwrap_or(0);
    image.flags_1 = dynamic.value(abi::DT_FLAGS_1).unwrap_or(0);
    let text_flag = abi::DF_TEXTREL.unsigned_abs();
    image.text_relocations =
        dynamic.value(abi::DT_TEXTREL).is_some() || image.flags & text_flag != 0;
    for file in tables.parse_version_needs().map(|needs| needs.files).unwrap_or_default() {
        let Some(library) = text(file.file) else { continue };
        image.needed_versions.extend(file.versions.iter().filter_map(|version| {
            let (library, weak) = (take(&library), version.weak);
            Some(NeededVersion { library, version: text(version.name)?, weak })
        }));
    }
    let defined = tables.parse_version_definitions().map(|found| found.names).unwrap_or_default();
    let defined = defined.iter().filter(|name| !name.base && !name.parent);
    image.defined_versions = defined.filter_map(|name| text(name.name)).collect();
    match left.get() {
        0 => Err(Error::LimitExceeded("its dynamic section names 16 MiB of text")),
        _ => Ok(()),
    }
}

/// Number of zeros at the end of a file that are still padding. Linkers write less than a page of 2 MiB.
const PADDING: usize = 4 << 20;

/// Largest total length of the texts that a dynamic section names, in bytes.
const STRINGS: usize = 16 << 20;

fn trim_nul(content: &[u8]) -> Vec<u8> {
    let end = content.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    content.get(..end).unwrap_or_default().to_vec()
}

/// Returns the number of bytes after the end that the headers describe: they are not part of the ELF image.
/// Zeros at the end are padding (Go's linker rounds the file up to a page), unless there are more of
/// them than any padding has: a hole is not searched for its end.
pub(crate) fn payload_size(layout: &ElfLayout<'_>) -> u64 {
    let end = usize::try_from(described_end(layout)).unwrap_or(usize::MAX);
    let rest = layout.bytes.get(end..).unwrap_or_default();
    let start = rest.len().saturating_sub(PADDING);
    let padding = rest.get(start..).unwrap_or_default();
    match padding.iter().rposition(|&byte| byte != 0) {
        Some(last) => (start + last) as u64 + 1,
        None if start == 0 => 0,
        None => rest.len() as u64,
    }
}

/// Returns the end of everything that the headers describe.
fn described_end(layout: &ElfLayout<'_>) -> u64 {
    let header = if layout.codec.is_64() { 64 } else { 52 };
    let segments = layout.segment_size() * layout.segments.len() as u64;
    let sections = layout.section_size() * layout.sections.len() as u64;
    let tables = [
        header,
        layout.header.e_phoff.saturating_add(segments),
        if sections > 0 { layout.header.e_shoff.saturating_add(sections) } else { 0 },
    ];
    let in_segments = layout.segments.iter();
    let in_segments = in_segments.map(|s| s.p_offset.saturating_add(s.p_filesz));
    let in_sections = layout.sections.iter();
    let in_sections = in_sections
        .filter(|section| !matches!(section.sh_type, abi::SHT_NOBITS | abi::SHT_NULL))
        .map(|s| s.sh_offset.saturating_add(s.sh_size));
    tables.into_iter().chain(in_segments).chain(in_sections).max().unwrap_or(0)
}

/// Returns the kind of the file.
pub(crate) fn detect_kind(layout: &ElfLayout<'_>) -> ObjectKind {
    match layout.header.e_type {
        abi::ET_REL if layout.section_named(b".modinfo").is_some() => ObjectKind::KernelModule,
        abi::ET_REL => ObjectKind::Relocatable,
        abi::ET_CORE => ObjectKind::Core,
        abi::ET_EXEC | abi::ET_DYN if is_debug_file(layout) => ObjectKind::DebugFile,
        abi::ET_EXEC if layout.find_segment(abi::PT_INTERP).is_none() => {
            ObjectKind::StaticExecutable
        }
        abi::ET_EXEC => ObjectKind::Executable,
        abi::ET_DYN => shared_kind(layout),
        _ => ObjectKind::Other,
    }
}

/// Returns whether this is a separate debug file. Such a file keeps all headers, but no contents of
/// loaded sections.
fn is_debug_file(layout: &ElfLayout<'_>) -> bool {
    if layout.segments.is_empty() {
        return true;
    }
    let dynamic = layout.find_segment(abi::PT_DYNAMIC).map(|segment| segment.p_vaddr);
    layout.sections.iter().any(|section| {
        section.sh_type == abi::SHT_NOBITS
            && section.sh_size > 0
            && (dynamic == Some(section.sh_addr)
                && layout.section_name(section) == Some(b".dynamic")
                || layout.section_name(section) == Some(b".text"))
    })
}

/// Distinguishes a library, a program, a static program and the loader, which are all `ET_DYN`.
/// `DF_1_PIE` marks programs (binutils 2.26 and later, lld, mold). Older linkers give `DT_DEBUG`
/// only to programs.
fn shared_kind(layout: &ElfLayout<'_>) -> ObjectKind {
    let interpreted = layout.find_segment(abi::PT_INTERP).is_some();
    let Ok(Some(dynamic)) = layout.dynamic() else {
        return if interpreted { ObjectKind::PieExecutable } else { ObjectKind::SharedObject };
    };
    if !interpreted && is_loader(layout, &dynamic) {
        return ObjectKind::Loader;
    }
    let pie_flag = abi::DF_1_PIE.unsigned_abs();
    let pie = dynamic.value(abi::DT_FLAGS_1).unwrap_or(0) & pie_flag != 0
        || dynamic.value(abi::DT_DEBUG).is_some();
    match (interpreted, pie) {
        (true, true) => ObjectKind::PieExecutable,
        (false, true) => ObjectKind::StaticPie,
        (true, false) if dynamic.value(abi::DT_SONAME).is_none() => ObjectKind::PieExecutable,
        _ => ObjectKind::SharedObject,
    }
}

/// Returns whether the file is the loader. It has an entry point and needs no library. Its soname
/// is `ld...so...`, or, where libc and loader are one file (musl), `libc.so` or `libc.musl-...`.
fn is_loader(layout: &ElfLayout<'_>, dynamic: &DynamicSection) -> bool {
    if layout.header.e_entry == 0 || dynamic.value(abi::DT_NEEDED).is_some() {
        return false;
    }
    let tables = DynamicTables::new(layout, dynamic);
    // Parts that cannot be read are left out: the rest of the file still has properties.
    let strings = tables.strings().unwrap_or_default();
    let soname = dynamic.value(abi::DT_SONAME).and_then(|offset| string_at(strings, offset));
    let soname = soname.unwrap_or_default();
    let glibc =
        ["ld-", "ld.", "ld32", "ld64"].iter().any(|start| soname.starts_with(start.as_bytes()));
    glibc || soname == b"libc.so" || soname.starts_with(b"libc.musl-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::sample::SampleElf;

    /// A file whose entries all name one text of 1 MiB.
    fn with_needed(count: usize) -> Vec<u8> {
        let (strings, dynamic, length) = (0x1000, 0x20_0000, 1 << 20);
        let mut sample = SampleElf::of_size(0x30_0000);
        sample.add_segment(abi::PT_LOAD, 0, 0x30_0000);
        sample.put(strings + 1, &vec![b'a'; length]);
        let mut entries = vec![(abi::DT_NEEDED, 1); count];
        entries.extend([(abi::DT_STRTAB, strings), (abi::DT_STRSZ, length as u64 + 2)]);
        entries.push((abi::DT_NULL, 0));
        let bytes = sample.dynamic_bytes(&entries);
        sample.add_segment(abi::PT_DYNAMIC, dynamic, bytes.len() as u64);
        sample.put(dynamic, &bytes);
        sample.build()
    }

    #[test]
    fn one_long_text_is_not_copied_without_end() {
        assert_eq!(read(&with_needed(15)).unwrap().needed.len(), 15);
        for count in [16, 20_000] {
            let error = read(&with_needed(count)).unwrap_err();
            assert!(matches!(error, Error::LimitExceeded(_)), "{count}: {error}");
        }
    }
}
