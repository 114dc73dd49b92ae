//! Text files that tell others how to build or configure. Paths of the build sandbox in files of a
//! known kind become paths of the prefix. `check` finds the others.

use std::path::Path;

use crate::base::inside::{BROOT, COMPILER, FINAL, FPREFIX, STAGING, WRAPPER_DIR};
use crate::relocate::{FileAction, FileOutcome, RelocateOptions};

/// Size of the largest file that is read, in bytes. Larger files are not configuration.
const LARGEST: usize = 4 << 20;

/// Returns whether files of this name are of a known kind. These are pkg-config, libtool, CMake,
/// shell scripts that print flags, and Python's records of its own build.
pub(super) fn is_understood(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let suffix = path.extension().unwrap_or_default();
    ["pc", "la", "cmake"].iter().any(|known| suffix == *known)
        || name.ends_with("-config")
        || (name.starts_with("_sysconfigdata") && suffix == "py")
        || (name == "Makefile" && path.parent().is_some_and(is_python_config))
}

/// Returns whether this is Python's directory for its makefile (`config-VERSION-PLATFORM`).
fn is_python_config(dir: &Path) -> bool {
    dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with("config-3"))
}

/// Returns pairs of old and new text. The paths of the environments become the prefix. Tools that a
/// build got by path become bare names, which every system finds.
fn replacements(eprefix: &Path) -> Vec<(String, String)> {
    let prefix = eprefix.display().to_string();
    vec![
        (format!("{STAGING}/root{prefix}"), prefix.clone()),
        (format!("{FINAL}/root{prefix}"), prefix),
        (format!("{BROOT}/{WRAPPER_DIR}/"), String::new()),
        (format!("{COMPILER}/usr/bin/"), String::new()),
    ]
}

/// Returns `path` with the environment replaced by the prefix, if it leads into one of the
/// environments.
pub(super) fn out_of_the_sandbox(eprefix: &Path, path: &str) -> Option<String> {
    replacements(eprefix).into_iter().take(2).find_map(|(old, stands_for)| {
        let rest = path.strip_prefix(&old)?;
        (rest.is_empty() || rest.starts_with('/')).then(|| stands_for + rest)
    })
}

pub(super) fn look_at(request: &RelocateOptions, bytes: &[u8]) -> FileOutcome {
    if bytes.len() > LARGEST {
        return FileOutcome::Nothing;
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return FileOutcome::Nothing };
    if !text.contains(&FPREFIX.to_string()) {
        return FileOutcome::Nothing;
    }
    let mut new = text.to_owned();
    for (old, stands_for) in replacements(request.eprefix.as_path()) {
        new = new.replace(&old, &stands_for);
    }
    if new == text {
        return FileOutcome::Nothing;
    }
    let what = vec!["paths of the build sandbox turned into the prefix".to_owned()];
    FileOutcome::Changed(FileAction::Contents(new.into_bytes()), what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relocate::SearchTag;

    #[test]
    fn understood_files_alone_are_changed() {
        let request = RelocateOptions {
            tree: "/".into(),
            under: None,
            eprefix: "/opt/x".parse().unwrap(),
            tag: SearchTag::default(),
            relative: false,
            only: Vec::new(),
        };
        let text = b"prefix=/fprefix/staging/root/opt/x/usr\n\
                     install=/fprefix/staging/broot/usr/local/bin/ginstall -c\n\
                     build=/fprefix/staging/tmp/portage/y\n";
        let FileOutcome::Changed(FileAction::Contents(new), _) = look_at(&request, text) else {
            panic!("it names the sandbox");
        };
        assert_eq!(
            String::from_utf8(new).unwrap(),
            "prefix=/opt/x/usr\ninstall=ginstall -c\nbuild=/fprefix/staging/tmp/portage/y\n"
        );
        for (path, understood) in [
            ("/x/pkgconfig/x.pc", true),
            ("/x/bin/onig-config", true),
            ("/x/lib/python3.13/config-3.13-x86_64-linux-gnu/Makefile", true),
            ("/x/share/doc/README", false),
            ("/x/share/Makefile", false),
        ] {
            assert_eq!(is_understood(Path::new(path)), understood, "{path}");
        }
    }
}
