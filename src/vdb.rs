//! Portage's database of installed packages (VDB): `<EROOT>/var/db/pkg/<category>/<PF>/`.

use std::path::Path;

use anyhow::Result;

/// The packages in the VDB at `vdb`, as `category/PF`, sorted.
pub fn packages(vdb: &Path) -> Result<Vec<String>> {
    let mut packages = Vec::new();
    if !vdb.is_dir() {
        return Ok(packages);
    }
    for entry in walkdir::WalkDir::new(vdb).min_depth(2).max_depth(2) {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy();
        // Portage merges under a name that begins with a dash, and renames in the end.
        if entry.file_type().is_dir()
            && !name.starts_with('-')
            && !name.starts_with('.')
            && let Ok(package) = entry.path().strip_prefix(vdb)
        {
            packages.push(package.display().to_string());
        }
    }
    packages.sort();
    Ok(packages)
}
