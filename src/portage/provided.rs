//! `package.provided` (portage(5)): packages that Portage takes as installed without an entry in
//! the VDB.

use std::path::Path;

use anyhow::{Result, anyhow};

use crate::base::escape::Escape;
use crate::base::input;
use crate::base::limits::TEXT;
use crate::portage::cpv::Cpv;

/// Returns the packages that `file` lists, with comments left out.
pub(crate) fn read(file: &Path) -> Result<Vec<Cpv>> {
    let text = input::read_text(file, TEXT)?;
    lines(&text)
        .map(|line| {
            line.parse().map_err(|_| {
                anyhow!(
                    "{} names {line:?}; a line there is a package and its version: \
                     category/name-1.2",
                    file.escaped()
                )
            })
        })
        .collect()
}

/// Returns a warning that Portage takes the packages in `file` as installed without a check, for a
/// user who misses a package; `None` where `file` lists no package.
pub(crate) fn warn_of_unchecked(file: &Path) -> Result<Option<String>> {
    if !file.is_file() {
        return Ok(None);
    }
    let text = input::read_text(file, TEXT)?;
    let packages: Vec<&str> = lines(&text).collect();
    let warning = format!(
        "{} lists {} as installed, and Portage does not check that; if one of them is what is \
         missing, remove it from there",
        file.escaped(),
        packages.join(", ")
    );
    Ok((!packages.is_empty()).then_some(warning))
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    lines.filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_packages() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("package.provided");
        assert_eq!(warn_of_unchecked(&file).unwrap(), None);
        fs_err::write(&file, "# none\n\n").unwrap();
        assert_eq!(warn_of_unchecked(&file).unwrap(), None);
        assert!(read(&file).unwrap().is_empty());
        fs_err::write(&file, "a/b-1 # why\n  c/d-2-r1\n").unwrap();
        let all: Vec<String> = read(&file).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(all, ["a/b-1", "c/d-2-r1"]);
        let warning = warn_of_unchecked(&file).unwrap().unwrap();
        assert!(warning.contains("lists a/b-1, c/d-2-r1 as installed"), "{warning}");
        for bad in ["a/b", "=a/b-1", "a/b-1:0", "a/b-1[x]", "a/b-1*"] {
            fs_err::write(&file, bad).unwrap();
            let error = read(&file).unwrap_err().to_string();
            assert!(error.contains("a package and its version"), "{error}");
        }
    }
}
