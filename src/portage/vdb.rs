//! Portage's database of installed packages (VDB): `<EROOT>/var/db/pkg/<category>/<PF>/`.

use std::path::{Path, PathBuf};

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

/// What a package.provided (portage(5)) says, if it says anything, for who misses a package: nobody
/// looks whether it is true.
pub fn suspect_provided(file: &Path) -> Result<Option<String>> {
    if !file.is_file() {
        return Ok(None);
    }
    let text = fs_err::read_to_string(file)?;
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let packages: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    let suspicion = format!(
        "{} says that there is {}, and Portage believes it; if that is what is missing, take it out \
         of there",
        file.display(),
        packages.join(", ")
    );
    Ok((!packages.is_empty()).then_some(suspicion))
}

/// The packages in the VDB at `vdb` that were built from the repository `name`.
pub fn from_repository(vdb: &Path, name: &str) -> Result<Vec<String>> {
    let mut from = packages(vdb)?;
    from.retain(|package| {
        fs_err::read_to_string(vdb.join(package).join("repository"))
            .is_ok_and(|repository| repository.trim() == name)
    });
    Ok(from)
}

/// What the entry at `dir` says in the file `name`; nothing where there is none. A description may be
/// in any encoding.
pub fn fact(dir: &Path, name: &str) -> Result<String> {
    let file = dir.join(name);
    if !file.is_file() {
        return Ok(String::new());
    }
    Ok(String::from_utf8_lossy(&fs_err::read(file)?).into_owned())
}

/// The files and links of the package of which the entry in the VDB is at `dir`, without a slash in
/// front.
pub fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let file = dir.join("CONTENTS");
    if !file.is_file() {
        return Ok(Vec::new());
    }
    Ok(parse_contents(&fs_err::read(file)?))
}

/// The files and links in a CONTENTS file: `obj PATH MD5 MTIME`, `sym PATH -> TARGET MTIME`.
fn parse_contents(contents: &[u8]) -> Vec<PathBuf> {
    let contents = String::from_utf8_lossy(contents);
    let path = |line: &str| {
        if let Some(rest) = line.strip_prefix("obj ") {
            return rest.rsplitn(3, ' ').nth(2).map(str::to_owned);
        }
        let rest = line.strip_prefix("sym ")?;
        rest.split_once(" -> ").map(|(path, _)| path.to_owned())
    };
    let paths = contents.lines().filter_map(path);
    paths.map(|path| path.trim_start_matches('/').into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_with_spaces() {
        let contents = b"dir /usr\nobj /usr/a b.txt 0123 17\nsym /usr/l k -> a b.txt 17\n";
        assert_eq!(parse_contents(contents), [PathBuf::from("usr/a b.txt"), "usr/l k".into()]);
    }
}
