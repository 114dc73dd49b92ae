//! Choice of the files that belong to exposed programs: manual pages, completions, menu entries and
//! their icons.

use std::collections::BTreeSet;
use std::path::Path;

use crate::prefix::integration::IntegrationKind;
use crate::sysext::expose::ExposedPrograms;

/// Stands for the name of an exposed program.
const PROGRAM: &str = "{program}";

/// Stands for the files that start an exposed program.
const STARTED: &str = "{started}";

/// Stands for the name of an icon of a placed menu entry.
const ICON: &str = "{icon}";

/// Names to which files belong.
#[derive(Debug)]
pub(super) struct ExposedNames<'a> {
    programs: &'a ExposedPrograms,
    icons: BTreeSet<String>,
}

impl<'a> ExposedNames<'a> {
    /// Makes the names of `programs`.
    pub(super) fn new(programs: &'a ExposedPrograms) -> Self {
        Self { programs, icons: BTreeSet::new() }
    }

    /// Returns whether the file of `kind` at `path`, with this text, is to be placed.
    pub(super) fn are_of(&self, kind: &IntegrationKind, path: &Path, text: Option<&str>) -> bool {
        if kind.exposed.is_empty() {
            return true;
        }
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
        kind.exposed.iter().any(|pattern| self.is_match(pattern, name, text))
    }

    fn is_match(&self, pattern: &str, name: &str, text: Option<&str>) -> bool {
        if pattern == STARTED {
            let starts = text
                .and_then(|text| value(text, "Exec"))
                .and_then(|line| Path::new(line.split_whitespace().next()?).file_name()?.to_str());
            return starts.is_some_and(|program| self.programs.names.contains(program));
        }
        if let Some(suffix) = pattern.strip_prefix(ICON) {
            return self.icons.iter().any(|icon| is_named(name, "", icon, suffix));
        }
        let Some((start, end)) = pattern.split_once(PROGRAM) else { return false };
        let mut programs = self.programs.names.iter();
        self.programs.are_all || programs.any(|program| is_named(name, start, program, end))
    }

    /// Adds the icon that the menu entry `text` names. An icon with a path is found by it.
    pub(super) fn add_icon(&mut self, text: &str) {
        let icon = value(text, "Icon").filter(|icon| !icon.is_empty() && !icon.contains('/'));
        self.icons.extend(icon.map(str::to_owned));
    }
}

/// Returns whether `name` is `middle` between `start` and `end`, where `.*` at the end stands for
/// any suffix.
fn is_named(name: &str, start: &str, middle: &str, end: &str) -> bool {
    let rest = name.strip_prefix(start).and_then(|rest| rest.strip_prefix(middle));
    match (rest, end.strip_suffix('*')) {
        (Some(rest), Some(end)) => rest.len() > end.len() && rest.starts_with(end),
        (Some(rest), None) => rest == end,
        (None, _) => false,
    }
}

/// Returns the first value of `key`.
fn value<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    let lines = text.lines().filter_map(|line| line.split_once('='));
    lines.filter(|(name, _)| name.trim() == key).map(|(_, value)| value.trim()).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_whole() {
        assert!(is_named("demo.1.gz", "", "demo", ".*"));
        assert!(is_named("_demo", "_", "demo", ""));
        for name in ["demo.", "demo-other.1", "demo", "ademo.1"] {
            assert!(!is_named(name, "", "demo", ".*"), "{name}");
        }
        assert_eq!(
            value("[Desktop Entry]\nName[de]=x\nExec = /usr/bin/a b\nExec=c\n", "Exec"),
            Some("/usr/bin/a b")
        );
        assert_eq!(value("Exec", "Exec"), None);
    }
}
