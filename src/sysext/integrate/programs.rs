//! Programs that files for the target name. They become those of the prefix, where it has them:
//! in units, D-Bus services and menu entries, udev rules, polkit's actions, and binfmt.d.

use std::path::{Path, PathBuf};

use crate::fstree::entries::FileTree;
use crate::prefix::integration::NamedPrograms;

/// Characters that may precede the program in `Exec...=` (systemd.service(5)).
const MARKS: &[char] = &['@', '-', ':', '+', '!', '|'];

/// Directories that distributions exchange for each other.
const PROGRAMS: &[&str] = &["usr/bin", "usr/sbin", "bin", "sbin"];

/// Directories of programs that udev rules name without a path (udev(7), `PROGRAM`).
const UDEV: &[&str] = &["usr/lib/udev", "lib/udev"];

/// Keys of udev rules with a program as their value.
const UDEV_KEYS: &[&str] = &["PROGRAM", "RUN", "RUN{program}", "IMPORT{program}"];

/// Name of the annotation with the program that pkexec runs (pkexec(1)).
const POLKIT_PROGRAM: &str = "org.freedesktop.policykit.exec.path";

/// Position of the interpreter in a line of binfmt.d, which begins with its separator.
const INTERPRETER: usize = 7;

/// Returns `text` with programs of the prefix in place of those of the target.
pub(super) fn name_own_programs(plan: &FileTree, text: &str, names: NamedPrograms) -> String {
    if names == NamedPrograms::Polkit {
        return name_in_policy(plan, text);
    }
    let change = |line: &str| match names {
        NamedPrograms::Commands => name_in_command(plan, line),
        NamedPrograms::Udev => name_in_udev_rule(plan, line),
        NamedPrograms::Binfmt => name_in_binfmt(plan, line),
        NamedPrograms::Polkit | NamedPrograms::Tmpfiles => None,
    };
    let lines = text.split_inclusive('\n');
    lines.map(|line| change(line).unwrap_or_else(|| line.to_owned())).collect()
}

/// Returns the path of the prefix's program that stands for the target's `program`; `None` if it has
/// none, or if the program is that of the prefix already.
fn find_own(plan: &FileTree, program: &str) -> Option<String> {
    let below = Path::new(program).strip_prefix("/").ok()?;
    if below.starts_with(plan.prefix_path()) {
        return None;
    }
    let name = below.file_name()?;
    let is_program = PROGRAMS.iter().any(|dir| below.parent() == Some(Path::new(dir)));
    let other_dirs = PROGRAMS.iter().filter(|_| is_program).map(|dir| Path::new(dir).join(name));
    // /lib is /usr/lib nearly everywhere.
    let other_lib = match below.strip_prefix("usr") {
        Ok(rest) => rest.to_owned(),
        Err(_) => Path::new("usr").join(below),
    };
    let candidates = [below.to_owned(), other_lib];
    find_first(plan, candidates.into_iter().chain(other_dirs))
}

/// Returns the first of these paths below EPREFIX that is there and no directory.
fn find_first(plan: &FileTree, below: impl IntoIterator<Item = PathBuf>) -> Option<String> {
    let mut paths = below.into_iter().map(|below| plan.prefix_path().join(below));
    let found =
        paths.find(|path| plan.entries.get(path).is_some_and(|entry| !entry.is_directory()));
    Some(format!("/{}", found?.to_str()?))
}

/// Returns the line as `Exec...=` with the program of the prefix; `None` if nothing changes.
fn name_in_command(plan: &FileTree, line: &str) -> Option<String> {
    let (key, value) = line.split_once('=')?;
    if !key.trim().starts_with("Exec") && key.trim() != "TryExec" {
        return None;
    }
    let start = value.len() - value.trim_start().trim_start_matches(MARKS).len();
    let (marks, command) = value.split_at(start);
    let program = command.split_whitespace().next()?;
    let found = find_own(plan, program)?;
    let rest = command.get(program.len()..)?;
    Some(format!("{key}={marks}{found}{rest}"))
}

/// Returns a line of udev rules with programs of the prefix; `None` if nothing changes.
fn name_in_udev_rule(plan: &FileTree, line: &str) -> Option<String> {
    if line.trim_start().starts_with('#') {
        return None;
    }
    let mut changed = String::new();
    let mut rest = line;
    let mut is_changed = false;
    while let Some((before, after)) = rest.split_once('"') {
        let end = find_quote(after)?;
        let (value, next) = after.split_at(end);
        let key = before.trim_start_matches([',', ' ', '\t']).trim_end_matches(['e', 'i']);
        let key = key.trim_end_matches(['=', '!', '+', '-', ':', ' ', '\t']);
        let own = UDEV_KEYS.contains(&key).then(|| name_in_udev_value(plan, value)).flatten();
        is_changed |= own.is_some();
        changed += before;
        changed.push('"');
        changed += own.as_deref().unwrap_or(value);
        changed.push('"');
        rest = next.get(1..)?;
    }
    is_changed.then(|| changed + rest)
}

/// Returns the position of the quotation mark that ends a value.
fn find_quote(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.find(|c: char| {
        let ends = c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        ends
    })
}

/// Returns the command line of a udev rule with the program of the prefix. A name without a path is
/// that of a program in udev's own directory.
fn name_in_udev_value(plan: &FileTree, value: &str) -> Option<String> {
    let start = value.len() - value.trim_start().len();
    let (space, command) = value.split_at(start);
    let (mark, end) = if command.starts_with('\'') {
        ("'", command.get(1..)?.find('\'')? + 1)
    } else {
        ("", command.find(char::is_whitespace).unwrap_or(command.len()))
    };
    let program = command.get(mark.len()..end)?;
    let own = if program.contains('/') {
        find_own(plan, program)
    } else if program.is_empty() {
        None
    } else {
        find_first(plan, UDEV.iter().map(|dir| Path::new(dir).join(program)))
    };
    Some(format!("{space}{mark}{}{}", own?, command.get(end..)?))
}

/// Returns a policy of polkit with programs of the prefix.
fn name_in_policy(plan: &FileTree, text: &str) -> String {
    let mut parts = text.split(POLKIT_PROGRAM);
    let mut changed = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        changed += POLKIT_PROGRAM;
        let own = part.split_once('>').and_then(|(tag, rest)| {
            let (program, after) = rest.split_once('<')?;
            Some(format!("{tag}>{}<{after}", find_own(plan, program.trim())?))
        });
        changed += own.as_deref().unwrap_or(part);
    }
    changed
}

/// Returns a line of binfmt.d with the interpreter of the prefix; `None` if nothing changes.
fn name_in_binfmt(plan: &FileTree, line: &str) -> Option<String> {
    let separator =
        line.chars().next().filter(|c| !matches!(c, '#' | ';') && !c.is_whitespace())?;
    let mut fields: Vec<&str> = line.split(separator).collect();
    let interpreter = fields.get_mut(INTERPRETER - 1)?;
    let own = find_own(plan, interpreter)?;
    *interpreter = &own;
    Some(fields.join(separator.encode_utf8(&mut [0; 4])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fstree::entries::Entry;

    fn plan() -> FileTree {
        let mut plan = FileTree::new(&"/opt/x".parse().unwrap(), 1);
        for path in ["usr/bin/d", "usr/lib/udev/probe", "usr/libexec/helper"] {
            plan.add(format!("opt/x/{path}"), Entry::generated(Vec::new(), 1)).unwrap();
        }
        plan
    }

    #[track_caller]
    fn assert_changes(names: NamedPrograms, cases: &[(&str, &str)]) {
        let plan = plan();
        for (text, expected) in cases {
            assert_eq!(name_own_programs(&plan, text, names), *expected, "{text}");
            assert_eq!(name_own_programs(&plan, expected, names), *expected, "a second time");
        }
    }

    #[test]
    fn commands() {
        assert_changes(
            NamedPrograms::Commands,
            &[
                ("ExecStart=/usr/bin/d -f\n", "ExecStart=/opt/x/usr/bin/d -f\n"),
                ("ExecStop = -/sbin/d\n", "ExecStop = -/opt/x/usr/bin/d\n"),
                ("Exec=/usr/libexec/helper", "Exec=/opt/x/usr/libexec/helper"),
                ("TryExec=/bin/d\nExec=d %u", "TryExec=/opt/x/usr/bin/d\nExec=d %u"),
                ("ExecStart=/usr/bin/e\n", "ExecStart=/usr/bin/e\n"),
                ("User=/usr/bin/d\n", "User=/usr/bin/d\n"),
            ],
        );
    }

    #[test]
    fn udev_rules() {
        assert_changes(
            NamedPrograms::Udev,
            &[
                (
                    "KERNEL==\"a\", RUN+=\"/usr/bin/d --x\", RUN{program}+=\"probe $devnode\"\n",
                    "KERNEL==\"a\", RUN+=\"/opt/x/usr/bin/d --x\", \
                     RUN{program}+=\"/opt/x/usr/lib/udev/probe $devnode\"\n",
                ),
                (
                    "PROGRAM==\"'/lib/udev/probe' a\", IMPORT{program} = e\"probe\\\"\"",
                    "PROGRAM==\"'/opt/x/usr/lib/udev/probe' a\", IMPORT{program} = e\"probe\\\"\"",
                ),
                ("RUN{builtin}+=\"probe\"", "RUN{builtin}+=\"probe\""),
                ("ENV{A}=\"/usr/bin/d\", RUN+=\"kmod\"", "ENV{A}=\"/usr/bin/d\", RUN+=\"kmod\""),
                ("# RUN+=\"probe\"", "# RUN+=\"probe\""),
                ("RUN+=\"probe", "RUN+=\"probe"),
                ("RUN+=\"\"", "RUN+=\"\""),
            ],
        );
    }

    #[test]
    fn policies_and_interpreters() {
        let policy =
            |program: &str| format!("<annotate key=\"{POLKIT_PROGRAM}\">{program}</annotate>\n");
        assert_changes(
            NamedPrograms::Polkit,
            &[
                (&policy("/usr/bin/d"), &policy("/opt/x/usr/bin/d")),
                (&policy("/usr/bin/e"), &policy("/usr/bin/e")),
                (POLKIT_PROGRAM, POLKIT_PROGRAM),
            ],
        );
        assert_changes(
            NamedPrograms::Binfmt,
            &[
                ("# a\n:d:E::d::/usr/bin/d:F\n", "# a\n:d:E::d::/opt/x/usr/bin/d:F\n"),
                (",d,M,0,a,,/usr/bin/d,", ",d,M,0,a,,/opt/x/usr/bin/d,"),
                (":d:E", ":d:E"),
            ],
        );
    }
}
