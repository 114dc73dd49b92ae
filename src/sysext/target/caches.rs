//! Files that list what is in a directory, or in a whole system. A program makes each of them from what
//! is there when it runs, so of two extensions that bring one, the upper hides what the lower lists.

use std::path::Path;

/// Ends of their paths, and the program that makes them.
const CACHES: &[(&str, &str)] = &[
    ("glib-2.0/schemas/gschemas.compiled", "glib-compile-schemas"),
    ("icon-theme.cache", "gtk-update-icon-cache"),
    ("applications/mimeinfo.cache", "update-desktop-database"),
    ("gio/modules/giomodule.cache", "gio-querymodules"),
    ("loaders.cache", "gdk-pixbuf-query-loaders"),
    ("immodules.cache", "gtk-query-immodules"),
    ("etc/ld.so.cache", "ldconfig"),
    ("gconv/gconv-modules.cache", "iconvconfig"),
    ("locale/locale-archive", "localedef"),
    ("share/info/dir", "install-info"),
    ("udev/hwdb.bin", "systemd-hwdb"),
    ("man/mandoc.db", "makewhatis"),
    ("fonts.dir", "mkfontdir"),
    ("fonts.scale", "mkfontscale"),
    ("systemd/catalog/database", "journalctl --update-catalog"),
];

/// Directories in which every file is one.
const DIRECTORIES: &[(&str, &str)] =
    &[("share/mime", "update-mime-database"), ("cache/fontconfig", "fc-cache")];

/// Start of the names of the lists of kernel modules in usr/lib/modules/VERSION.
const MODULES: &str = "modules.";

/// Returns the program that makes the file at `path`; `None` if it is no such file.
pub(super) fn find_maker(path: &Path) -> Option<&'static str> {
    let above = path.parent()?;
    let name = path.file_name()?.to_string_lossy();
    let is_of_modules =
        name.starts_with(MODULES) && above.parent().is_some_and(|dir| dir.ends_with("lib/modules"));
    if is_of_modules {
        return Some("depmod");
    }
    let by_path = CACHES.iter().find(|(end, _)| path.ends_with(end));
    let by_directory = || DIRECTORIES.iter().find(|(end, _)| above.ends_with(end));
    by_path.or_else(by_directory).map(|(_, maker)| *maker)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makers() {
        let maker = |path: &str| find_maker(Path::new(path));
        let prefix = "usr/local/x/usr/share/glib-2.0/schemas/gschemas.compiled";
        assert_eq!(maker(prefix), Some("glib-compile-schemas"));
        assert_eq!(maker("usr/share/mime/globs2"), Some("update-mime-database"));
        assert_eq!(maker("usr/lib/modules/6.1.0/modules.dep.bin"), Some("depmod"));
        for other in ["usr/bin/x", "usr/share/mime/packages/x.xml", "usr/lib/modules.d/modules.x"] {
            assert_eq!(maker(other), None, "{other}");
        }
    }
}
