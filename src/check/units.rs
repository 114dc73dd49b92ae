//! Checks that the programs that systemd units start exist (systemd.service(5)).

use std::path::Path;

use crate::base::limits::TEXT;
use crate::check::{Detail, Fact, FactKind, Scene};

/// Settings with a command line as their value.
const COMMANDS: &[&str] = &[
    "ExecStart",
    "ExecStartPre",
    "ExecStartPost",
    "ExecCondition",
    "ExecReload",
    "ExecStop",
    "ExecStopPost",
];
/// Characters that may precede the program in such a value.
const PREFIXES: &[char] = &['@', '-', ':', '+', '!', '|'];

/// Returns whether the entry is a unit that starts programs, in a directory where systemd or a
/// package searches for units.
fn is_unit(fact: &Fact) -> bool {
    let suffix = fact.path.extension().is_some_and(|suffix| {
        ["service", "socket", "mount", "swap"].iter().any(|unit| suffix == *unit)
    });
    let dir = fact.path.parent().unwrap_or(Path::new("/"));
    matches!(fact.kind, FactKind::File)
        && suffix
        && (dir.ends_with("systemd/system") || dir.ends_with("systemd/user"))
}

/// Returns the programs that the unit with this text starts.
fn list_programs(text: &str) -> Vec<&str> {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .filter(|(key, _)| COMMANDS.contains(&key.trim()))
        .filter_map(|(_, value)| value.split_whitespace().next())
        .map(|word| word.trim_start_matches(PREFIXES).trim_matches(['"', '\'']))
        .filter(|program| !program.is_empty())
        .collect()
}

pub(super) fn check_programs(fact: &Fact, scene: &Scene<'_>) -> Vec<Detail> {
    if !is_unit(fact) {
        return Vec::new();
    }
    let contents = fact.contents(scene.root);
    let bytes = contents.as_deref().ok().filter(|bytes| bytes.len() as u64 <= TEXT.bytes);
    let Some(text) = bytes.and_then(|bytes| std::str::from_utf8(bytes).ok()) else {
        return vec![Detail::error("is a unit, and not text")];
    };
    let detail = |program: &str| {
        let path = Path::new(program);
        if scene.find_fact(path).is_some() {
            return None;
        }
        let inside = scene.is_inside(path) || !path.is_absolute();
        Some(if inside {
            Detail::error(format!("starts {program}, which is not there"))
        } else {
            Detail::note(format!("starts {program} of the target"))
        })
    };
    list_programs(text).into_iter().filter_map(detail).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_programs() {
        let text = "[Service]\nExecStart=-@/opt/x/usr/bin/d d --foreground\nExecStop=\nUser=x\n\
                    ExecReload = /bin/kill -HUP $MAINPID\n";
        assert_eq!(list_programs(text), ["/opt/x/usr/bin/d", "/bin/kill"]);
    }
}
