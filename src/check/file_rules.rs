//! Rules about files of any kind: their types, names, owners and modes, links, and first lines.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::base::escape::Escape;
use crate::base::level::Level;
use crate::base::publish;
use crate::check::scene::Lead;
use crate::check::{Detail, Fact, FactKind, Scene};
use crate::fstree::resolve::normalize_path;
use crate::relocate::interpreter::{PrefixPrograms, ProgramEntry, ProgramTree};
use crate::relocate::prefix_change::OldPath;
use crate::relocate::script;

pub(super) fn check_shebang(fact: &Fact, scene: &Scene<'_>) -> Vec<Detail> {
    let FactKind::Script(start) = &fact.kind else { return Vec::new() };
    // The kernel reads the first line only of files that may be executed.
    if fact.mode & 0o111 == 0 {
        return Vec::new();
    }
    let programs = PrefixPrograms { eprefix: scene.root.eprefix().as_path(), tree: scene };
    // Examples are documentation and are not run.
    let is_example = fact.path.components().any(|part| part.as_os_str() == "doc");
    let problems = script::judge(start, programs).problems.into_iter();
    problems
        .map(|(level, text)| {
            if is_example || level == Level::Note {
                Detail::note(text)
            } else {
                Detail::error(text)
            }
        })
        .collect()
}

impl ProgramTree for Scene<'_> {
    fn program(&self, path: &Path) -> ProgramEntry {
        let Some(fact) = self.find_fact(path) else { return ProgramEntry::Missing };
        let is_file = !matches!(fact.kind, FactKind::Directory | FactKind::Special { .. });
        if is_file && fact.mode & 0o111 != 0 {
            ProgramEntry::Program(fact.path.clone())
        } else {
            ProgramEntry::Other
        }
    }
}

/// Directories in which every target has files that programs may use on purpose.
const TARGETS_OWN: &[&str] = &["/etc", "/dev", "/proc", "/run", "/sys", "/tmp", "/var"];

pub(super) fn check_link(fact: &Fact, scene: &Scene<'_>) -> Vec<Detail> {
    let FactKind::Link(target) = &fact.kind else { return Vec::new() };
    let shown = target.escaped();
    let absolute = normalize_path(&fact.path.parent().unwrap_or(Path::new("/")).join(target));
    match scene.resolve(&fact.path) {
        Lead::There(found) if scene.is_inside(&found.path) => Vec::new(),
        // Everything in the root is shipped, so a link to it from outside the prefix is not broken.
        Lead::There(_) if !scene.is_inside(&fact.path) => Vec::new(),
        Lead::There(found) => {
            vec![Detail::error(format!("leads to {}, outside of the prefix", found.path.escaped()))]
        }
        Lead::Loop => vec![Detail::error(format!("leads to {shown}, round in a circle"))],
        Lead::Missing(place) if scene.is_inside(&place) => {
            vec![Detail::error(format!("leads to {shown}, which is not there"))]
        }
        Lead::Missing(_) if TARGETS_OWN.iter().any(|own| absolute.starts_with(own)) => {
            vec![Detail::note(format!("leads to {shown} of the target"))]
        }
        Lead::Missing(_) => {
            vec![Detail::error(format!("leads to {shown}, outside of the prefix"))]
        }
    }
}

pub(super) fn check_staging(fact: &Fact, _: &Scene<'_>) -> Vec<Detail> {
    fact.staging.iter().map(|path| Detail::error(format!("names {path}"))).collect()
}

pub(super) fn check_relocated(fact: &Fact, _: &Scene<'_>) -> Vec<Detail> {
    let detail = |trace: &OldPath| match trace {
        OldPath::Named(path) => Detail::error(format!("names {path}")),
        OldPath::InName => Detail::error("has the path in its own name"),
        OldPath::Unknown(reason) => Detail::note(format!("may name another path: {reason}")),
        OldPath::Doubtful(path) => Detail::note(format!("names {path}, which may be another path")),
    };
    fact.former.iter().map(detail).collect()
}

/// Directories that are links on some targets. A directory of an extension would replace the link.
const LINKS_ON_TARGETS: &[(&str, &str)] = &[
    ("/usr/sbin", "/usr/bin on distributions that have merged the two"),
    ("/usr/local", "/var/usrlocal on ostree-based ones"),
    ("/usr/lib64", "/usr/lib on some"),
    ("/opt", "/var/opt on ostree-based ones"),
];

pub(super) fn check_place(fact: &Fact, _: &Scene<'_>) -> Vec<Detail> {
    let clash = LINKS_ON_TARGETS.iter().find(|(path, _)| fact.path == Path::new(path));
    if let (FactKind::Directory, Some((path, target))) = (&fact.kind, clash) {
        return vec![Detail::note(format!("is a directory here; {path} is a link to {target}"))];
    }
    if fact.path.starts_with("/usr") || fact.path.starts_with("/opt") {
        return Vec::new();
    }
    vec![Detail::error("is neither below /usr nor below /opt")]
}

pub(super) fn check_special(fact: &Fact, _: &Scene<'_>) -> Vec<Detail> {
    let mut details = Vec::new();
    match fact.kind {
        FactKind::Special { whiteout: true } => details.push(Detail::error("is a whiteout")),
        FactKind::Special { whiteout: false } => {
            details.push(Detail::error("is a device, a socket or a pipe"));
        }
        _ => {}
    }
    for name in fact.attributes.iter().map(|name| name.to_string_lossy()) {
        if name.ends_with(".overlay.opaque") {
            details.push(Detail::error("is an opaque directory, which hides the target's"));
        } else if name.contains(".overlay.") {
            details.push(Detail::error(format!(
                "has the attribute {} of an overlay's layer",
                name.escaped()
            )));
        }
    }
    if fact.path.file_name().is_some_and(|name| name.as_bytes().starts_with(b".wh.")) {
        details.push(Detail::note("is named like a whiteout of a container's layer"));
    }
    details
}

pub(super) fn check_unfinished(fact: &Fact, _: &Scene<'_>) -> Vec<Detail> {
    match fact.path.file_name() {
        Some(name) if publish::is_unfinished(name) => {
            vec![Detail::error("was left by a run that was killed")]
        }
        _ => Vec::new(),
    }
}

pub(super) fn check_name(fact: &Fact, _: &Scene<'_>) -> Vec<Detail> {
    let Some(name) = fact.path.file_name() else { return Vec::new() };
    match name.to_str() {
        None => vec![Detail::error("has a name that is not UTF-8")],
        Some(name) if name.chars().any(char::is_control) => {
            vec![Detail::error("has a control character in its name")]
        }
        Some(_) => Vec::new(),
    }
}

/// First of the user numbers that distributions assign as they like (systemd's UIDS-GIDS.md).
const FIRST_PERSON: u32 = 1000;

pub(super) fn check_owner(fact: &Fact, scene: &Scene<'_>) -> Vec<Detail> {
    report_owner(fact.owner, scene.owner.unwrap_or_default())
}

/// Reports these numbers, for a prefix that belongs to `own`.
fn report_owner((user, group): (u32, u32), own: (u32, u32)) -> Vec<Detail> {
    let of = |word: &str, id: u32, own: u32| match id {
        0 => None,
        id if id == own => None,
        id if id < FIRST_PERSON => Some(Detail::note(format!("belongs to the {word} {id}"))),
        id => Some(Detail::error(format!("belongs to the {word} {id}"))),
    };
    of("user", user, own.0).into_iter().chain(of("group", group, own.1)).collect()
}

pub(super) fn check_mode(fact: &Fact, _: &Scene<'_>) -> Vec<Detail> {
    let mut details = Vec::new();
    let sticky = fact.mode & 0o1000 != 0;
    if !matches!(fact.kind, FactKind::Link(_) | FactKind::Special { .. })
        && fact.mode & 0o002 != 0
        && !sticky
    {
        details.push(Detail::error("is writable for everybody"));
    }
    if !matches!(fact.kind, FactKind::Directory) && fact.mode & 0o4000 != 0 {
        details.push(Detail::note("is setuid"));
    }
    if !matches!(fact.kind, FactKind::Directory) && fact.mode & 0o2000 != 0 {
        details.push(Detail::note("is setgid"));
    }
    if fact.attributes.iter().any(|name| name == "security.capability") {
        details.push(Detail::note("has file capabilities"));
    }
    details
}

/// Directories below EPREFIX that every program is found through, or loads from.
const FOR_ALL: &[&str] =
    &["usr/bin", "usr/sbin", "usr/lib", "usr/lib32", "usr/lib64", "usr/libexec"];

/// Finds directories that their owner and group alone can enter.
pub(super) fn check_access(fact: &Fact, scene: &Scene<'_>) -> Vec<Detail> {
    if !matches!(fact.kind, FactKind::Directory) || fact.mode & 0o001 != 0 {
        return Vec::new();
    }
    let text = format!("cannot be entered by others: its mode is {:04o}", fact.mode & 0o7777);
    let eprefix = scene.root.eprefix().as_path();
    let is_for_all = FOR_ALL.iter().any(|dir| eprefix.join(dir).starts_with(&fact.path));
    vec![if is_for_all { Detail::error(text) } else { Detail::note(text) }]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only root could create such files for an end-to-end test.
    #[test]
    fn owners() {
        let levels = |owner, own| {
            report_owner(owner, own).into_iter().map(|detail| detail.level).collect::<Vec<_>>()
        };
        assert_eq!(levels((0, 0), (0, 0)), []);
        assert_eq!(levels((1001, 100), (1001, 100)), []);
        assert_eq!(levels((0, 0), (1001, 100)), []);
        assert_eq!(levels((0, 12), (0, 0)), [Level::Note]);
        assert_eq!(levels((1000, 0), (0, 0)), [Level::Error]);
        assert_eq!(levels((1002, 1002), (1001, 100)), [Level::Error, Level::Error]);
    }
}
