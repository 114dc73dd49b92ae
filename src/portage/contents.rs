//! CONTENTS of the VDB: a line per path that a package installed. The forms are `dir PATH`,
//! `obj PATH MD5 MTIME`, `sym PATH -> TARGET MTIME`, `fif PATH` and `dev PATH`; paths may have
//! spaces in them.

use std::path::PathBuf;

/// Returns the paths of the regular files and links, relative to ROOT.
pub(crate) fn files(contents: &str) -> Vec<PathBuf> {
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

/// Returns the paths of everything, directories too, relative to ROOT.
pub(crate) fn paths(contents: &str) -> Vec<PathBuf> {
    let others = contents.lines().filter_map(|line| {
        let (_, path) =
            line.split_once(' ').filter(|(kind, _)| ["dir", "fif", "dev"].contains(kind))?;
        Some(path.trim_start_matches('/').into())
    });
    files(contents).into_iter().chain(others).collect()
}

/// Returns the lines without modification times, sorted: equal for two builds of equal files.
pub(crate) fn lines_without_times(contents: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = contents
        .lines()
        .map(|line| match line.split_once(' ') {
            Some(("obj" | "sym", _)) => line.rsplit_once(' ').map_or(line, |(rest, _)| rest),
            _ => line,
        })
        .collect();
    lines.sort_unstable();
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTENTS: &str = "dir /usr\nobj /usr/a b.txt 0123 17\nsym /usr/l k -> a b.txt 17\n\
                            fif /usr/pipe\ndev /usr/null\nobj /usr/broken\nsym /usr/half 17\n";

    #[test]
    fn files_and_links_with_spaces() {
        assert_eq!(files(CONTENTS), [PathBuf::from("usr/a b.txt"), "usr/l k".into()]);
        assert!(files("").is_empty());
    }

    #[test]
    fn paths_of_all_kinds() {
        let others = ["usr/a b.txt", "usr/l k", "usr", "usr/pipe", "usr/null"];
        assert_eq!(paths(CONTENTS), others.map(PathBuf::from));
    }

    #[test]
    fn a_link_to_a_name_with_an_arrow() {
        assert_eq!(files("sym /l -> a -> b 1\n"), [PathBuf::from("l")]);
    }

    #[test]
    fn times_do_not_count() {
        let later = CONTENTS.replace(" 17\n", " 18\n");
        assert_eq!(lines_without_times(CONTENTS), lines_without_times(&later));
        assert_eq!(
            lines_without_times("sym /b -> a 1\ndir /z z\nobj /a 0 1\n"),
            ["dir /z z", "obj /a 0", "sym /b -> a"]
        );
        let other = CONTENTS.replace("0123", "4567");
        assert_ne!(lines_without_times(CONTENTS), lines_without_times(&other));
    }
}
