//! Code that a file may load while it runs: libraries that it names in ELF notes or by absolute
//! paths in its data, modules in directories of frameworks, and plugins that a list of plugins
//! names.
//!
//! A path in a program's data proves neither that the path is used nor for what. So it is a note,
//! and an error only where the format of a file says that it is loaded. Programs that are started by
//! PATH or by a command line have no mark in a file; `check --run` sees them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use elf::ElfBytes;
use elf::abi::{PF_X, PT_LOAD};
use elf::endian::AnyEndian;
use memchr::memmem;

use crate::base::escape::Escape;
use crate::base::limits::TEXT;
use crate::check::{Detail, Fact, FactKind, Scene};

/// Directory in which a framework looks for modules, or for configuration that names modules.
struct ModuleDirectory {
    /// Components that follow each other in its path.
    part: &'static str,
    /// Who loads the modules.
    loader: &'static str,
    /// Variable that names another directory, if there is one.
    variable: &'static str,
    /// True if its path ends with the part. Other things than modules are below it.
    is_last: bool,
}

const fn modules(
    part: &'static str,
    loader: &'static str,
    variable: &'static str,
) -> ModuleDirectory {
    ModuleDirectory { part, loader, variable, is_last: false }
}

const fn openssl(part: &'static str) -> ModuleDirectory {
    ModuleDirectory { part, loader: "OpenSSL", variable: "OPENSSL_CONF", is_last: true }
}

/// Directories that are compiled into libraries of frameworks.
const MODULE_DIRECTORIES: &[ModuleDirectory] = &[
    modules("gio/modules", "GIO", "GIO_MODULE_DIR"),
    modules("gtk-2.0", "GTK", "GTK_PATH"),
    modules("gtk-3.0", "GTK", "GTK_PATH"),
    modules("gtk-4.0", "GTK", "GTK_PATH"),
    modules("gdk-pixbuf-2.0", "gdk-pixbuf", "GDK_PIXBUF_MODULE_FILE"),
    modules("engines-1.1", "OpenSSL", "OPENSSL_ENGINES"),
    modules("engines-3", "OpenSSL", "OPENSSL_ENGINES"),
    modules("ossl-modules", "OpenSSL", "OPENSSL_MODULES"),
    // openssl.cnf in them may name modules.
    openssl("etc/ssl"),
    openssl("lib/ssl"),
    openssl("lib64/ssl"),
    openssl("local/ssl"),
    modules("lib/security", "PAM", ""),
    modules("lib64/security", "PAM", ""),
    modules("x86_64-linux-gnu/security", "PAM", ""),
    modules("aarch64-linux-gnu/security", "PAM", ""),
    modules("etc/pam.d", "PAM", ""),
    modules("lib/pam.d", "PAM", ""),
    modules("pkcs11", "p11-kit", ""),
    modules("p11-kit/modules", "p11-kit", ""),
    modules("krb5/plugins", "Kerberos", ""),
    modules("sasl2", "SASL", "SASL_PATH"),
    modules("dri", "Mesa", "LIBGL_DRIVERS_PATH"),
    modules("egl_vendor.d", "EGL", "__EGL_VENDOR_LIBRARY_DIRS"),
    modules("vulkan", "Vulkan", "VK_DRIVER_FILES"),
    modules("gstreamer-1.0", "GStreamer", "GST_PLUGIN_SYSTEM_PATH_1_0"),
    modules("alsa-lib", "ALSA", "ALSA_PLUGIN_DIR"),
    modules("qt5/plugins", "Qt", "QT_PLUGIN_PATH"),
    modules("qt6/plugins", "Qt", "QT_PLUGIN_PATH"),
    modules("perl", "Perl", "PERL5LIB"),
    modules("perl5", "Perl", "PERL5LIB"),
    modules("lua", "Lua", "LUA_CPATH and LUA_PATH"),
    modules("tcltk", "Tcl", "TCLLIBPATH"),
];

/// Directories below which no modules are, or which belong to the machine's kernel.
const NO_MODULES: &[&str] = &["/dev", "/proc", "/run", "/sys", "/tmp", "/usr/bin", "/usr/include"];

/// Largest number of paths of one framework that a note names.
const NAMED: usize = 3;

/// Longest path in the data of a program.
const LONGEST: usize = 4096;

/// Returns the absolute paths in the data of an ELF file that code may be loaded from: those that
/// end like a library, and those of [`MODULE_DIRECTORIES`].
pub(super) fn find_code_names(bytes: &[u8]) -> Vec<PathBuf> {
    let mut names = Vec::new();
    for range in data_ranges(bytes) {
        let data = bytes.get(range).unwrap_or_default();
        for at in memmem::find_iter(data, b"\0/") {
            let rest = data.get(at + 1..).unwrap_or_default();
            let end = memchr::memchr(0, rest.get(..LONGEST).unwrap_or(rest));
            let text = end.and_then(|end| rest.get(..end)).unwrap_or_default();
            if !text.iter().all(u8::is_ascii_graphic) {
                continue;
            }
            // Lua has lists with semicolons.
            let paths = text.split(|byte| b":;".contains(byte));
            names.extend(
                paths.filter(|path| may_be_code(path)).map(|path| path_of(path).to_owned()),
            );
        }
    }
    names.sort();
    names.dedup();
    names
}

/// Returns the parts of an ELF file that are loaded as data.
fn data_ranges(bytes: &[u8]) -> Vec<Range<usize>> {
    let file = ElfBytes::<AnyEndian>::minimal_parse(bytes).ok();
    let segments = file.and_then(|file| file.segments());
    let data = segments.iter().flat_map(elf::parse::ParsingTable::iter);
    let data = data.filter(|segment| segment.p_type == PT_LOAD && segment.p_flags & PF_X == 0);
    data.filter_map(|segment| {
        let start = usize::try_from(segment.p_offset).ok()?;
        let end = start.checked_add(usize::try_from(segment.p_filesz).ok()?)?;
        // A text may be the first thing in a segment; the byte before it is padding.
        Some(start.saturating_sub(1)..end.min(bytes.len()))
    })
    .collect()
}

fn path_of(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

fn may_be_code(path: &[u8]) -> bool {
    path.first() == Some(&b'/')
        && (is_library(path) || find_framework(path).is_some())
        && !NO_MODULES.iter().any(|dir| path_of(path).starts_with(dir))
}

/// Returns whether the path ends like that of a library. Loaders do not count: compilers and
/// debuggers name those of all machines. Neither do patterns of a search.
fn is_library(path: &[u8]) -> bool {
    let start = memchr::memrchr(b'/', path).map_or(0, |at| at + 1);
    let name = path.get(start..).unwrap_or_default();
    let Some(at) = memmem::rfind(name, b".so") else { return false };
    let rest = name.get(at + 3..).unwrap_or_default();
    let is_version = rest.is_empty() || rest.starts_with(b".");
    let is_loader = ["ld-", "ld.so", "ld64.so", "ldx32.so", "ldqnx.so", "libc.so.1"];
    is_version
        && rest.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.')
        && at > 0
        && !name.contains(&b'*')
        && !is_loader.iter().any(|start| name.starts_with(start.as_bytes()))
}

fn find_framework(path: &[u8]) -> Option<&'static ModuleDirectory> {
    // The paths are short: to prepare a faster search would cost more than the search.
    let rests = || memchr::memchr_iter(b'/', path).filter_map(|at| path.get(at + 1..));
    MODULE_DIRECTORIES.iter().find(|directory| {
        rests().any(|rest| match rest.strip_prefix(directory.part.as_bytes()) {
            Some([]) => true,
            Some([b'/', ..]) => !directory.is_last,
            _ => false,
        })
    })
}

/// Notes the code of the target that an ELF file names, and finds lists of plugins that name some.
pub(super) fn check_code_names(fact: &Fact, scene: &Scene<'_>) -> Vec<Detail> {
    if !scene.is_inside(&fact.path) {
        return Vec::new();
    }
    let mut details = list_plugins(fact, scene);
    let mut by_loader: BTreeMap<&str, (&ModuleDirectory, Vec<String>)> = BTreeMap::new();
    let interpreter = fact.elf().and_then(|image| image.interpreter.as_deref()).map(path_of);
    for path in fact.code_names.iter().filter(|path| !scene.is_inside(path)) {
        let shown = path.escaped().to_string();
        let text = path.as_os_str().as_bytes();
        if is_library(text) {
            if interpreter != Some(path) {
                details
                    .push(Detail::note(format!("names {shown}, which it may load if it is there")));
            }
        } else if let Some(framework) = find_framework(text) {
            let found = by_loader.entry(framework.loader).or_insert((framework, Vec::new()));
            found.1.push(shown);
        }
    }
    details.extend(by_loader.into_values().map(|(framework, paths)| framework.note(&paths)));
    details
}

impl ModuleDirectory {
    /// Notes that modules of the target are loaded from `paths`.
    fn note(&self, paths: &[String]) -> Detail {
        let named = paths.get(..NAMED).unwrap_or(paths).join(", ");
        let more = match paths.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let remedy = match self.variable {
            "" => String::new(),
            variable => format!("; {variable} names another place"),
        };
        Detail::note(format!("has {} look for modules in {named}{more}{remedy}", self.loader))
    }
}

/// File whose format says that code is loaded from the paths in it.
struct PluginList {
    /// End of the path of the file. A part that begins with `.` is the end of a name.
    end: &'static str,
    /// Directory that holds such files, by its last components; empty if any may.
    dir: &'static str,
    /// True if each path counts, and not those of libraries alone.
    any_path: bool,
}

const fn list(dir: &'static str, end: &'static str, any_path: bool) -> PluginList {
    PluginList { end, dir, any_path }
}

const PLUGIN_LISTS: &[PluginList] = &[
    // gdk-pixbuf and GTK.
    list("", "loaders.cache", false),
    list("", "immodules.cache", false),
    list("", "gtk.immodules", false),
    // Character sets of iconv(3); their names have no suffix.
    list("gconv", "gconv-modules", true),
    list("gconv-modules.d", ".conf", true),
    list("p11-kit/modules", ".module", false),
    list("pkcs11/modules", ".module", false),
    list("icd.d", ".json", false),
    list("implicit_layer.d", ".json", false),
    list("explicit_layer.d", ".json", false),
    list("egl_vendor.d", ".json", false),
    list("", "openssl.cnf", false),
    list("", "krb5.conf", false),
    list("pam.d", "", false),
    // Python runs modules of the directories in them.
    list("site-packages", ".pth", true),
    list("dist-packages", ".pth", true),
    // musl's loader searches the directories in it.
    list("etc", ".path", true),
    list("", "qt.conf", true),
];

fn is_plugin_list(path: &Path, list: &PluginList) -> bool {
    let name = path.file_name().unwrap_or_default().as_bytes();
    let is_named = if list.end.starts_with('.') || list.end.is_empty() {
        name.ends_with(list.end.as_bytes())
    } else {
        name == list.end.as_bytes()
    };
    let has_path = |dir: &Path| dir.ends_with(list.dir);
    is_named && (list.dir.is_empty() || path.parent().is_some_and(has_path))
}

fn list_plugins(fact: &Fact, scene: &Scene<'_>) -> Vec<Detail> {
    if !matches!(fact.kind, FactKind::File) {
        return Vec::new();
    }
    let Some(list) = PLUGIN_LISTS.iter().find(|list| is_plugin_list(&fact.path, list)) else {
        return Vec::new();
    };
    let contents = fact.contents(scene.root);
    let Some(bytes) = contents.as_deref().ok().filter(|bytes| bytes.len() as u64 <= TEXT.bytes)
    else {
        return vec![Detail::error("is a list of plugins that cannot be read")];
    };
    let mut paths: Vec<&Path> = listed_paths(bytes)
        .filter(|path| list.any_path || is_library(path.as_os_str().as_bytes()))
        .filter(|path| !scene.is_inside(path))
        .collect();
    paths.sort();
    paths.dedup();
    let detail = |path: &Path| {
        Detail::error(format!("lists {}, outside of the prefix, to load code from", path.escaped()))
    };
    paths.into_iter().map(detail).collect()
}

/// Returns the absolute paths in a text, without those in comments, and in code in a `.pth` file.
fn listed_paths(text: &[u8]) -> impl Iterator<Item = &Path> {
    let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let lines = lines.filter(|line| !line.starts_with(b"#") && !line.starts_with(b"import "));
    let is_end = |byte: &u8| byte.is_ascii_whitespace() || b"\"'=:,;()[]{}".contains(byte);
    let words = lines.flat_map(move |line| line.split(is_end)).map(path_of);
    words.filter(|path| path.is_absolute() && path.components().nth(1).is_some())
}

/// Entry of an ELF note of dlopen metadata
/// (<https://uapi-group.org/specifications/specs/elf_dlopen_metadata/>).
#[derive(serde::Deserialize)]
struct OpenedLibraryNote {
    #[serde(default)]
    soname: Vec<String>,
    #[serde(default)]
    priority: Option<String>,
    #[serde(default)]
    feature: Option<String>,
}

/// Finds libraries that a file opens while it runs, by its own notes, and that the prefix lacks.
pub(super) fn check_opened(fact: &Fact, scene: &Scene<'_>) -> Vec<Detail> {
    let Some(image) = fact.elf().filter(|image| !image.dlopen_notes.is_empty()) else {
        return Vec::new();
    };
    let notes = image.dlopen_notes.iter();
    let notes =
        notes.flat_map(|note| match serde_json::from_slice::<Vec<OpenedLibraryNote>>(note) {
            Ok(notes) => notes.iter().filter_map(|note| lacking(note, fact, scene)).collect(),
            Err(_) => vec![Detail::note("has a note of libraries to open that cannot be read")],
        });
    notes.collect()
}

fn lacking(note: &OpenedLibraryNote, fact: &Fact, scene: &Scene<'_>) -> Option<Detail> {
    let names = note.soname.iter().map(String::as_bytes);
    let found = scene.find_names(fact, &fact.path, names);
    let is_inside = |library: &Fact| scene.is_inside(&library.path);
    if found.iter().any(|found| found.library().is_some_and(is_inside)) {
        return None;
    }
    let first = note.soname.first()?;
    let purpose = note.feature.as_ref().map(|feature| format!(" for {}", feature.escaped()));
    let text = format!(
        "opens {}{}, which its search path does not find",
        first.escaped(),
        purpose.unwrap_or_default()
    );
    // Without a priority it is "recommended".
    let is_required = note.priority.as_deref() == Some("required");
    Some(if is_required { Detail::error(text) } else { Detail::note(text) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_directories_of_modules_are_code() {
        for (path, expected) in [
            ("/usr/lib/foo.so", true),
            ("/usr/lib/foo/%s.so", true),
            ("/usr/lib/libfoo.so.1.2", true),
            ("/usr/lib64/gio/modules", true),
            ("/usr/lib/perl5/5.36", true),
            ("/usr/local/lib/lua/5.4/?.so", true),
            ("/lib64/ld-linux-x86-64.so.2", false),
            ("/usr/lib/foo.socket", false),
            ("/usr/lib/foo.so.conf", false),
            ("/usr/lib/.so", false),
            ("/usr/lib/foo-*.so", false),
            ("/usr/share/properly", false),
            ("/usr/include/lua/lua.h", false),
            ("/etc/ssl", true),
            ("/etc/ssl/certs", false),
            ("lib/foo.so", false),
        ] {
            assert_eq!(may_be_code(path.as_bytes()), expected, "{path}");
        }
    }

    #[test]
    fn lists_of_plugins_are_known_by_their_place() {
        let known =
            |path: &str| PLUGIN_LISTS.iter().any(|list| is_plugin_list(Path::new(path), list));
        for path in [
            "/o/lib/gdk-pixbuf-2.0/2.10.0/loaders.cache",
            "/o/share/p11-kit/modules/x.module",
            "/o/share/vulkan/icd.d/intel.json",
            "/o/lib/python3.11/site-packages/x.pth",
            "/o/etc/pam.d/su",
            "/o/etc/ld-musl-x86_64.path",
        ] {
            assert!(known(path), "{path}");
        }
        for path in ["/o/share/x.json", "/o/models/x.pth", "/o/share/doc/pam.d.txt", "/o/x.module"]
        {
            assert!(!known(path), "{path}");
        }
    }

    #[test]
    fn listed_paths_are_absolute_and_no_comments() {
        let text =
            b"# /usr/lib/no.so\nimport os; os.open('/no')\n\"/usr/lib/a.so\"\nmodule: /b.so\n{\"x\":\"/c.so\"} d.so // /\n";
        let paths: Vec<_> = listed_paths(text).map(|path| path.to_str().unwrap()).collect();
        assert_eq!(paths, ["/usr/lib/a.so", "/b.so", "/c.so"]);
    }

    #[test]
    fn files_that_end_anywhere_do_not_panic() {
        let file = fs_err::read("/bin/true").unwrap();
        for end in [0, 1, 16, 63, 64, 65, 120, 1000, 4096] {
            let _ = find_code_names(&file[..end]);
        }
    }
}
