//! Libraries that Portage keeps although their packages no longer have them, for programs that were
//! not built anew (`FEATURES=preserve-libs`, make.conf(5)).

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::base::escape::Escape;
use crate::base::input;
use crate::base::limits::LIST;

/// The registry below EROOT: for each package and slot a list of its CPV, a counter, and the paths
/// (`portage.util._dyn_libs.PreservedLibsRegistry`).
const BELOW_EROOT: &str = "var/lib/portage/preserved_libs_registry";

/// Returns the preserved libraries of the prefix at `eroot`, as programs see them, sorted.
///
/// # Errors
///
/// Fails if the registry is there and cannot be read.
pub(crate) fn list(eroot: &Path) -> Result<Vec<PathBuf>> {
    let file = eroot.join(BELOW_EROOT);
    if !file.is_file() {
        return Ok(Vec::new());
    }
    let text = input::read_text(&file, LIST)?;
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let registry: Value = serde_json::from_str(text.trim()).with_context(|| {
        format!("the list of preserved libraries {} cannot be read", file.escaped())
    })?;
    let entries = registry.as_object().into_iter().flatten();
    let paths = entries.filter_map(|(_, entry)| entry.get(2)?.as_array()).flatten();
    let mut paths: Vec<PathBuf> = paths.filter_map(|path| Some(path.as_str()?.into())).collect();
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_registry() {
        let dir = tempfile::tempdir().unwrap();
        assert!(list(dir.path()).unwrap().is_empty());
        let file = dir.path().join(BELOW_EROOT);
        fs_err::create_dir_all(file.parent().unwrap()).unwrap();
        fs_err::write(&file, "").unwrap();
        assert!(list(dir.path()).unwrap().is_empty());
        fs_err::write(&file, "{}").unwrap();
        assert!(list(dir.path()).unwrap().is_empty());
        let text = r#"{"a/b:0": ["a/b-2", "17", ["/p/usr/lib64/libb.so.1"]], "a/odd:0": 7}"#;
        fs_err::write(&file, text).unwrap();
        assert_eq!(list(dir.path()).unwrap(), [PathBuf::from("/p/usr/lib64/libb.so.1")]);
        fs_err::write(&file, "(dp0").unwrap();
        assert!(format!("{:#}", list(dir.path()).unwrap_err()).contains("preserved"));
    }
}
