//! Rules of tmpfiles.d(5) about paths below EPREFIX. A target cannot follow them: EPREFIX is
//! read-only there, and systemd-tmpfiles fails.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::base::tmpfiles::TmpfilesRule;
use crate::fstree::entries::{Entry, FileTree};
use crate::fstree::resolve::normalize_path;
use crate::sysext::state::{FACTORY, InitialContent, RuledPaths, StateDirectory};

/// Types of rules that make a directory.
const DIRECTORIES: &str = "dDvqQ";

/// Types of rules that make something else where nothing is.
const OTHERS: &str = "fFLCpcb";

/// Types of rules that remove what is there.
const REMOVING: &str = "rR";

/// Types of rules that exclude paths from being removed.
const IGNORING: &str = "xX";

/// Rules for a target, and those that it cannot follow.
#[derive(Debug, Default)]
pub(super) struct AdaptedRules {
    /// Text without rules that a target cannot follow.
    pub text: String,
    /// Rules that are lost, with the directory that would have to be writable.
    pub lost: Vec<(String, PathBuf)>,
    /// True if a rule is left.
    pub has_rules: bool,
}

/// Result for a rule.
enum Adapted {
    /// The rule stays as it is.
    Same,
    /// The rule is replaced.
    Changed(String),
    /// The extension has what the rule makes.
    Done,
    /// The target cannot follow the rule about this path below EPREFIX.
    Lost(PathBuf),
}

/// Adds the paths below EPREFIX that rules in `text` name.
pub(super) fn list_paths(plan: &FileTree, text: &str, ruled: &mut RuledPaths) {
    for rule in text.lines().filter_map(parse) {
        let Some(below) = plan.locate_in_prefix(&normalize_path(Path::new(&rule.path))) else {
            continue;
        };
        if DIRECTORIES.contains(rule.letter) {
            ruled.made.insert(below.clone());
        }
        ruled.named.insert(below);
    }
}

/// Adapts rules to a target where `states` are links to writable directories.
pub(super) fn adapt(plan: &FileTree, text: &str, states: &[StateDirectory]) -> AdaptedRules {
    let mut adapted = AdaptedRules::default();
    for line in text.split_inclusive('\n') {
        let Some(rule) = parse(line) else {
            adapted.text += line;
            continue;
        };
        match adapt_rule(plan, &rule, states) {
            Adapted::Same => adapted.text += line,
            Adapted::Changed(line) => adapted.text += &(line + "\n"),
            Adapted::Done => continue,
            Adapted::Lost(below) => {
                let is_directory = DIRECTORIES.contains(rule.letter);
                let parent = below.parent().unwrap_or(&below).to_owned();
                let directory = if is_directory { below } else { parent };
                adapted.lost.push((line.trim().to_owned(), directory));
                continue;
            }
        }
        adapted.has_rules = true;
    }
    adapted
}

/// Parses a rule. Escapes have a meaning of systemd's own, and such a rule stays as it is.
fn parse(line: &str) -> Option<TmpfilesRule<'_>> {
    TmpfilesRule::parse(line).filter(|rule| !rule.path.contains('\\') && !has_escape(line))
}

/// Returns whether the path of a line has an escape.
fn has_escape(line: &str) -> bool {
    let path = line.trim().split_once(char::is_whitespace).map(|(_, rest)| rest.trim_start());
    path.and_then(|rest| rest.split_whitespace().next()).is_some_and(|word| word.contains('\\'))
}

fn adapt_rule(plan: &FileTree, rule: &TmpfilesRule<'_>, states: &[StateDirectory]) -> Adapted {
    let path = normalize_path(Path::new(&rule.path));
    let Some(below) = plan.locate_in_prefix(&path) else { return name_factory(plan, rule, &path) };
    if let Some(state) = states.iter().find(|state| below.starts_with(&state.below)) {
        return adapt_in_state(rule, &below, state);
    }
    let entry = plan.entries.get(&plan.prefix_path().join(&below));
    let is_done = match (rule.letter, entry) {
        (letter, None) => REMOVING.contains(letter),
        (letter, Some(entry)) if DIRECTORIES.contains(letter) => {
            entry.is_directory() && changes_nothing(rule, entry)
        }
        (letter, Some(entry)) if OTHERS.contains(letter) => {
            !rule.kind.contains('+') && changes_nothing(rule, entry)
        }
        _ => false,
    };
    match rule.letter {
        _ if is_done => Adapted::Done,
        letter if IGNORING.contains(letter) => Adapted::Same,
        _ => Adapted::Lost(below),
    }
}

/// Adapts a rule about `state` or a path below it.
fn adapt_in_state(rule: &TmpfilesRule<'_>, below: &Path, state: &StateDirectory) -> Adapted {
    let rest = below.strip_prefix(&state.below).unwrap_or(below);
    let is_state = rest.as_os_str().is_empty();
    let is_directory = DIRECTORIES.contains(rule.letter);
    if is_state && OTHERS.contains(rule.letter) {
        return Adapted::Lost(below.to_owned());
    }
    // Two rules for one path exclude each other; the one that copies the content is ours.
    let has_copy = is_state && is_directory && state.content == InitialContent::Factory;
    let kind = if has_copy { "e" } else { rule.kind };
    let place = if is_state {
        state.place.clone()
    } else {
        format!("{}/{}", state.place, rest.to_string_lossy())
    };
    let place = if place.contains([' ', '\t', '\'']) { format!("\"{place}\"") } else { place };
    Adapted::Changed(format!("{kind} {place} {}", rule.rest.trim()).trim_end().to_owned())
}

/// Returns whether a rule asks for the mode and owner that `entry` has, and for no cleaning.
fn changes_nothing(rule: &TmpfilesRule<'_>, entry: &Entry) -> bool {
    let ([mode, user, group, age], _) = rule.fields();
    let mode = mode.trim_start_matches(['~', ':']);
    let is_same_mode = mode == "-" || u32::from_str_radix(mode, 8) == Ok(entry.mode);
    let is_owner = |name: &str, id: u32| {
        let name = name.trim_start_matches(':');
        matches!(name, "-" | "root") && id == 0 || name.parse() == Ok(id)
    };
    is_same_mode && is_owner(user, entry.uid) && is_owner(group, entry.gid) && age == "-"
}

/// Names the prefix's initial content where a rule leaves the source to systemd, which looks in
/// /usr/share/factory.
fn name_factory(plan: &FileTree, rule: &TmpfilesRule<'_>, path: &Path) -> Adapted {
    let ([mode, user, group, age], argument) = rule.fields();
    if !"CL".contains(rule.letter) || !matches!(argument, "" | "-") {
        return Adapted::Same;
    }
    let below = Path::new(FACTORY).join(path.strip_prefix("/").unwrap_or(path));
    let source = plan.prefix_path().join(below);
    if !plan.entries.contains_key(&source) || rule.path.contains(char::is_whitespace) {
        return Adapted::Same;
    }
    let (kind, path, source) = (rule.kind, &rule.path, source.to_string_lossy());
    Adapted::Changed(format!("{kind} {path} {mode} {user} {group} {age} /{source}"))
}

/// Describes lost rules of the file at `path`, and the options that help.
pub(super) fn describe_lost(path: &str, lost: &[(String, PathBuf)]) -> Option<String> {
    use crate::base::escape::Escape;
    let (first, _) = lost.first()?;
    let directories: BTreeSet<_> =
        lost.iter().map(|(_, below)| below).filter(|below| *below != Path::new("")).collect();
    let states: Vec<String> = directories.iter().map(|below| below.escaped().to_string()).collect();
    let more = if lost.len() > 1 { format!(" and {} more", lost.len() - 1) } else { String::new() };
    Some(format!(
        "{path}: the rule `{}`{more} is left out, because EPREFIX is read-only on a target and \
         systemd-tmpfiles would fail; --state {} makes the directory writable there",
        first.escaped(),
        states.join(",")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> FileTree {
        let mut plan = FileTree::new(&"/opt/x".parse().unwrap(), 1);
        plan.add("opt/x/etc/there", Entry::shared_directory(1)).unwrap();
        plan.add("opt/x/etc/there/file", Entry::generated(Vec::new(), 1)).unwrap();
        plan.add("opt/x/usr/share/factory/etc/d.conf", Entry::generated(Vec::new(), 1)).unwrap();
        plan.add("opt/x/link", Entry::link("/run".into(), 1)).unwrap();
        plan
    }

    #[test]
    fn rules_are_those_of_a_target() {
        let state = |below: &str, content| StateDirectory {
            below: below.into(),
            place: format!("/var/lib/x/{below}"),
            content,
            is_implied: true,
        };
        let states =
            [state("var/a", InitialContent::Rule), state("var/b", InitialContent::Factory)];
        let lost = "lost";
        for (rule, expected) in [
            ("# d /opt/x/var/a", "# d /opt/x/var/a"),
            ("d /run/x 0755 u g 1d", "d /run/x 0755 u g 1d"),
            ("d /opt/x-other 0755", "d /opt/x-other 0755"),
            ("d /opt/x/var/a 0750 u g 1d", "d /var/lib/x/var/a 0750 u g 1d"),
            ("d /opt/x/var/b 0750 u g", "e /var/lib/x/var/b 0750 u g"),
            ("D! /opt/x//var/./b/%m 0750", "D! /var/lib/x/var/b/%m 0750"),
            ("f \"/opt/x/var/b/a c\" - - - - x  y", "f \"/var/lib/x/var/b/a c\" - - - - x  y"),
            ("z /opt/x/var/b 0700", "z /var/lib/x/var/b 0700"),
            ("L /opt/x/var/b - - - - /y", lost),
            ("d /opt/x/etc/there 0755 root root -", ""),
            ("d /opt/x/etc/there", ""),
            ("d /opt/x/etc/there 0700", lost),
            ("d /opt/x/etc/there - u", lost),
            ("d /opt/x/etc/there - - - 1d", lost),
            ("d /opt/x/etc/none", lost),
            ("f /opt/x/etc/there/file 0644 - - - text", ""),
            ("f+ /opt/x/etc/there/file - - - - text", lost),
            ("z /opt/x/etc/there 0755", lost),
            ("r /opt/x/etc/none", ""),
            ("r /opt/x/etc/there/file", lost),
            ("x /opt/x/etc/there", "x /opt/x/etc/there"),
            ("d /opt/x/link/d", "d /opt/x/link/d"),
            ("C /etc/d.conf", "C /etc/d.conf - - - - /opt/x/usr/share/factory/etc/d.conf"),
            (
                "L+ /etc/d.conf 0644 - - - -",
                "L+ /etc/d.conf 0644 - - - /opt/x/usr/share/factory/etc/d.conf",
            ),
            ("C /etc/e.conf", "C /etc/e.conf"),
            ("d /opt\\x2fx 0755", "d /opt\\x2fx 0755"),
        ] {
            let found = adapt(&plan(), rule, &states);
            let shown = if found.lost.is_empty() { found.text.trim_end() } else { lost };
            assert_eq!(shown, expected, "{rule}");
        }
        let found = adapt(&plan(), "f /opt/x/var/c/f\nd /opt/x/var/d\n", &states);
        assert_eq!(found.text, "");
        let text = describe_lost("/a.conf", &found.lost).unwrap();
        assert!(text.contains("`f /opt/x/var/c/f` and 1 more is left out"), "{text}");
        assert!(text.contains("--state var/c,var/d makes"), "{text}");
    }

    #[test]
    fn paths_of_rules_are_listed() {
        let mut ruled = RuledPaths::default();
        list_paths(
            &plan(),
            "d /opt/x/var/a\nf /opt/x/var/b/c\nd /run/x\nd /opt/x/link/d\n",
            &mut ruled,
        );
        let shown = |paths: &BTreeSet<PathBuf>| {
            use crate::base::escape::Escape;
            paths.iter().map(|path| path.escaped().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(shown(&ruled.made), ["var/a"]);
        assert_eq!(shown(&ruled.named), ["var/a", "var/b/c"]);
    }
}
