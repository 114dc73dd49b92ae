//! Names of files that say the old path: a directory tree that repeats it (`/usr/lib/debug`), or a name
//! in which something stands for the slashes (`%2F`, as caches have it). The programs that look for
//! such a file make its name of their own path, or have it in a list.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use memchr::memmem;

/// Texts that stand for a slash in names: of URLs, of gcov and GCC, of Emacs, and of caches.
const SLASHES: [&str; 6] = ["%2F", "%2f", "#", "!", "%", "\\"];

/// Texts that stand for a slash and are common in names besides: of systemd, and of many caches.
const USUAL: [&str; 3] = ["-", "_", "."];

/// Finds the old path in names.
#[derive(Clone, Debug)]
pub(super) struct NameFinder {
    old: PathBuf,
    spellings: Vec<String>,
}

impl NameFinder {
    /// A finder of the path `old`. Names that are common besides are found if it `is_unique`.
    pub(super) fn new(old: &Path, is_unique: bool) -> Self {
        let text = old.to_string_lossy();
        let usual = if is_unique { USUAL.as_slice() } else { &[] };
        let slashes = SLASHES.iter().chain(usual);
        let spellings = slashes.map(|slash| text.trim_start_matches('/').replace('/', slash));
        Self { old: old.to_owned(), spellings: spellings.collect() }
    }

    /// Returns the beginning of `path` up to the name that says the old path, of which there are few
    /// where a directory tree repeats it. The path of the `prefix` itself does not count.
    pub(super) fn find(&self, path: &Path, prefix: &Path) -> Option<PathBuf> {
        let old: Vec<_> = self.old.iter().skip(1).collect();
        // The name of one directory is no path.
        if old.len() < 2 {
            return None;
        }
        let below = path.strip_prefix(prefix).unwrap_or(path);
        let parts: Vec<_> = below.iter().collect();
        let repeated = parts.windows(old.len()).position(|window| window == old);
        let is_named = |name: &[u8]| {
            let found = |spelling: &String| memmem::find(name, spelling.as_bytes()).is_some();
            self.spellings.iter().any(found)
        };
        let named = parts.iter().position(|name| is_named(name.as_bytes()));
        let end = [repeated.map(|at| at + old.len()), named.map(|at| at + 1)];
        let end = end.into_iter().flatten().min()?;
        let start = path.iter().count() - parts.len();
        Some(path.iter().take(start + end).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_in_names_are_found() {
        let prefix = Path::new("/opt/old");
        let find = |is_unique: bool, path: &str| {
            let found = NameFinder::new(prefix, is_unique).find(path.as_ref(), prefix);
            found.map(|path| path.to_string_lossy().into_owned())
        };
        for (path, expected) in [
            ("/opt/old/usr/lib/debug/opt/old/usr/bin/x", "/opt/old/usr/lib/debug/opt/old"),
            ("/opt/old/var/cache/%2Fopt%2Fold%2Fx/y", "/opt/old/var/cache/%2Fopt%2Fold%2Fx"),
            ("/opt/old/var/#opt#old#x.gcda", "/opt/old/var/#opt#old#x.gcda"),
            ("/srv/opt/old/x", "/srv/opt/old"),
        ] {
            assert_eq!(find(false, path).as_deref(), Some(expected));
        }
        for path in ["/opt/old/usr/bin/x", "/opt/old/opt/older/x", "/opt/old/etc/opt-old.conf"] {
            assert_eq!(find(false, path), None, "{path}");
        }
        let unit = "/opt/old/etc/opt-old.mount";
        assert_eq!(find(true, unit).as_deref(), Some(unit));
        let short = NameFinder::new(Path::new("/o"), true);
        assert_eq!(short.find(Path::new("/o/usr/o-x"), Path::new("/o")), None);
    }
}
