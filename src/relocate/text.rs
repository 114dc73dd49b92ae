//! Text files that tell others how to build or configure. Paths of the build sandbox in files of a
//! known kind become paths of the prefix. `check` finds the others.

use std::path::Path;

use crate::base::inside::{BROOT, COMPILER, FINAL, FPREFIX, STAGING, WRAPPER_DIR};
use crate::relocate::{FileAction, FileOutcome, RelocateOptions};

/// Size of the largest file that is read, in bytes. Larger files are not configuration.
pub(super) const MAX_SIZE: u64 = 4 << 20;

/// Returns whether files of this name are of a known kind. These are pkg-config, libtool, CMake,
/// shell scripts that print flags, and Python's records of its own build.
pub(super) fn is_known_kind(path: &Path) -> bool {
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
fn sandbox_replacements(eprefix: &Path) -> Vec<(String, String)> {
    let prefix = eprefix.to_string_lossy().into_owned();
    vec![
        (format!("{STAGING}/root{prefix}"), prefix.clone()),
        (format!("{FINAL}/root{prefix}"), prefix),
        (format!("{BROOT}/{WRAPPER_DIR}/"), String::new()),
        (format!("{COMPILER}/usr/bin/"), String::new()),
    ]
}

/// Returns `text` with `old` replaced, where the last component of `old` is a whole one: the path
/// `/opt/x-other` is not below `/opt/x`.
fn replace_path(text: &str, old: &str, new: &str) -> String {
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '+' | '@' | '~');
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(old) {
        let mut next = after.chars();
        let first = next.next();
        // A full stop ends a sentence, or goes on with a suffix.
        let goes_on = match first {
            Some('.') => next.next().is_some_and(is_name),
            Some(c) => is_name(c),
            None => false,
        };
        result.push_str(before);
        result.push_str(if goes_on && !old.ends_with('/') { old } else { new });
        rest = after;
    }
    result.push_str(rest);
    result
}

/// Returns `path` with the environment replaced by the prefix, if it leads into one of the
/// environments.
pub(super) fn map_sandbox_path(eprefix: &Path, path: &str) -> Option<String> {
    sandbox_replacements(eprefix).into_iter().take(2).find_map(|(old, replacement)| {
        let rest = path.strip_prefix(&old)?;
        (rest.is_empty() || rest.starts_with('/')).then(|| replacement + rest)
    })
}

pub(super) fn plan_text(options: &RelocateOptions, bytes: &[u8]) -> FileOutcome {
    if bytes.len() as u64 > MAX_SIZE {
        return FileOutcome::Nothing;
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return FileOutcome::Nothing };
    if !text.contains(&FPREFIX.to_string()) {
        return FileOutcome::Nothing;
    }
    let mut new = text.to_owned();
    for (old, replacement) in sandbox_replacements(options.eprefix.as_path()) {
        new = replace_path(&new, &old, &replacement);
    }
    if new == text {
        return FileOutcome::Nothing;
    }
    let changes = vec!["paths of the build sandbox turned into the prefix".to_owned()];
    FileOutcome::Changed(FileAction::Contents(new.into_bytes()), changes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relocate::SearchTag;

    #[test]
    fn paths_are_replaced_as_a_whole() {
        let replaced = |text: &str| replace_path(text, "/s/opt/x", "/opt/x");
        assert_eq!(replaced("a=/s/opt/x"), "a=/opt/x");
        assert_eq!(
            replaced("-L/s/opt/x/usr:/s/opt/x;\"/s/opt/x\""),
            "-L/opt/x/usr:/opt/x;\"/opt/x\""
        );
        assert_eq!(replaced("It is in /s/opt/x. /s/opt/x.."), "It is in /opt/x. /opt/x..");
        for other in ["/s/opt/x-other/usr", "/s/opt/x.old", "/s/opt/xy", "/s/opt/x_1 /s/opt/xé"] {
            assert_eq!(replaced(other), other);
        }
    }

    #[test]
    fn files_of_known_kinds_alone_are_changed() {
        let options = RelocateOptions {
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
        let FileOutcome::Changed(FileAction::Contents(new), _) = plan_text(&options, text) else {
            panic!("it names the sandbox");
        };
        assert_eq!(
            String::from_utf8(new).unwrap(),
            "prefix=/opt/x/usr\ninstall=ginstall -c\nbuild=/fprefix/staging/tmp/portage/y\n"
        );
        for (path, is_known) in [
            ("/x/pkgconfig/x.pc", true),
            ("/x/bin/onig-config", true),
            ("/x/lib/python3.13/config-3.13-x86_64-linux-gnu/Makefile", true),
            ("/x/share/doc/README", false),
            ("/x/share/Makefile", false),
        ] {
            assert_eq!(is_known_kind(Path::new(path)), is_known, "{path}");
        }
    }
}
