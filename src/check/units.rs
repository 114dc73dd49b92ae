//! Checks that the programs and files that services name exist: units of systemd (systemd.service(5),
//! systemd.exec(5)), and services that D-Bus starts.

use std::path::{Path, PathBuf};

use crate::base::escape::Escape;
use crate::base::limits::TEXT;
use crate::check::unit_file::{self, MARKS, StartedProgram, UnitSetting};
use crate::check::{Detail, Fact, FactKind, Scene};
use crate::fstree::resolve::normalize_path;

/// Settings with a command line as their value, by section.
const COMMANDS: &[(&str, &[&str])] = &[
    (
        "Service",
        &[
            "ExecStart",
            "ExecStartPre",
            "ExecStartPost",
            "ExecCondition",
            "ExecReload",
            "ExecReloadPost",
            "ExecStop",
            "ExecStopPost",
        ],
    ),
    ("Socket", &["ExecStartPre", "ExecStartPost", "ExecStopPre", "ExecStopPost"]),
];

/// Sections with the settings of systemd.exec(5).
const WITH_PROCESSES: &[&str] = &["Service", "Socket", "Mount", "Swap"];

/// Types of units with such sections.
const TYPES: &[&str] = &["service", "socket", "mount", "swap"];

/// A file that configures a unit.
struct UnitFile<'a> {
    /// Name of the unit, which a drop-in for all units of a type does not have.
    name: &'a str,
    /// True for units of the system, false for those of users.
    of_system: bool,
    /// True if `pack` puts a copy of the file where the target reads it, with programs of the prefix.
    is_copied: bool,
    settings: Vec<UnitSetting>,
    /// Drop-ins that are read after the file.
    later: Vec<UnitSetting>,
}

/// Checks what a unit, a drop-in of a unit or a service of D-Bus starts.
pub(super) fn check_programs(fact: &Fact, scene: &Scene<'_>) -> Vec<Detail> {
    if !matches!(fact.kind, FactKind::File) {
        return Vec::new();
    }
    let is_dbus = is_dbus_service(&fact.path);
    let unit = unit_of(&fact.path);
    if unit.is_none() && !is_dbus {
        return Vec::new();
    }
    let contents = fact.contents(scene.root);
    let bytes = contents.as_deref().ok().filter(|bytes| bytes.len() as u64 <= TEXT.bytes);
    let Some(text) = bytes.and_then(|bytes| std::str::from_utf8(bytes).ok()) else {
        return vec![Detail::error("is a unit, and not text")];
    };
    let settings = unit_file::parse(text);
    let is_copied = scene.is_inside(&fact.path);
    match unit {
        Some((name, of_system)) => {
            let later = read_drop_ins(&fact.path, scene);
            UnitFile { name, of_system, is_copied, settings, later }.check(scene)
        }
        None => check_dbus_service(&settings, is_copied, scene),
    }
}

/// Returns the name of the unit that a file configures, and whether it is of the system. Returns
/// `None` if systemd does not read the file, or if it starts nothing.
fn unit_of(path: &Path) -> Option<(&str, bool)> {
    let of_type = |name: &str| {
        let suffix = name.rsplit_once('.').map_or(name, |(_, suffix)| suffix);
        TYPES.contains(&suffix)
    };
    let is_unit_dir = |dir: &Path| dir.ends_with("systemd/system") || dir.ends_with("systemd/user");
    let dir = path.parent()?;
    let (name, dir) = if is_unit_dir(dir) {
        let name = path.file_name()?.to_str()?;
        (name.contains('.').then_some(name)?, dir)
    } else if path.extension()? == "conf" && is_unit_dir(dir.parent()?) {
        (dir.file_name()?.to_str()?.strip_suffix(".d")?, dir.parent()?)
    } else {
        return None;
    };
    of_type(name).then_some((name, dir.ends_with("system")))
}

fn is_dbus_service(path: &Path) -> bool {
    let dir = path.parent().unwrap_or(Path::new("/"));
    path.extension().is_some_and(|suffix| suffix == "service")
        && (dir.ends_with("dbus-1/system-services") || dir.ends_with("dbus-1/services"))
}

/// Reads the drop-ins of the unit at `path` in their order. A drop-in has none.
fn read_drop_ins(path: &Path, scene: &Scene<'_>) -> Vec<UnitSetting> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str()))
    else {
        return Vec::new();
    };
    if name.ends_with(".conf") {
        return Vec::new();
    }
    let suffix = name.rsplit_once('.').map_or(name, |(_, suffix)| suffix);
    let mut files: Vec<PathBuf> = Vec::new();
    for dir in [dir.join(format!("{name}.d")), dir.join(format!("{suffix}.d"))] {
        let entries = fs_err::read_dir(scene.root.on_disk(&dir)).into_iter().flatten().flatten();
        files.extend(entries.map(|entry| dir.join(entry.file_name())));
    }
    files.retain(|path| path.extension().is_some_and(|suffix| suffix == "conf"));
    files.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
    let read = |path: &PathBuf| {
        let contents = scene.find_fact(path)?.contents(scene.root).ok()?;
        let is_small = contents.len() as u64 <= TEXT.bytes;
        is_small.then(|| unit_file::parse(&String::from_utf8_lossy(&contents)))
    };
    files.iter().filter_map(read).flatten().collect()
}

impl UnitFile<'_> {
    fn check(&self, scene: &Scene<'_>) -> Vec<Detail> {
        let mut details = Vec::new();
        let has_root = self.list(&["RootDirectory", "RootImage"], WITH_PROCESSES);
        if let Some(root) = has_root.iter().rev().find(|root| **root != "/") {
            let text = format!("starts programs in a root of its own, {}", root.escaped());
            return vec![Detail::note(text)];
        }
        for (section, keys) in COMMANDS {
            for key in *keys {
                for line in self.list(&[key], &[section]) {
                    details.extend(self.check_line(line, scene));
                }
            }
        }
        for (key, kind) in
            [("EnvironmentFile", "an environment file"), ("WorkingDirectory", "a directory")]
        {
            for value in self.list(&[key], WITH_PROCESSES) {
                details.extend(self.check_file(value, kind, scene));
            }
        }
        details
    }

    /// Returns the values of settings that are in force. An empty value resets those before it, also
    /// in a drop-in.
    fn list(&self, keys: &[&str], sections: &[&str]) -> Vec<&str> {
        let is_one = |setting: &&UnitSetting| {
            keys.contains(&setting.key.as_str()) && sections.contains(&setting.section.as_str())
        };
        if self.later.iter().filter(is_one).any(|setting| setting.value.is_empty()) {
            return Vec::new();
        }
        let mut values = Vec::new();
        for setting in self.settings.iter().filter(is_one) {
            if setting.value.is_empty() {
                values.clear();
            } else {
                values.push(setting.value.as_str());
            }
        }
        values
    }

    fn expand(&self, text: &str) -> Option<String> {
        unit_file::expand_specifiers(text, self.name, self.of_system)
    }

    fn check_line(&self, line: &str, scene: &Scene<'_>) -> Vec<Detail> {
        let Some(programs) = unit_file::list_programs(line) else {
            let text = format!("has a command line that systemd ignores: {}", line.escaped());
            return vec![Detail::error(text)];
        };
        let check = |(at, started): (usize, &StartedProgram)| {
            let is_mended = self.is_copied && at == 0 && is_first_word(line, &started.program);
            self.check_program(started, is_mended, scene)
        };
        programs.iter().enumerate().filter_map(check).collect()
    }

    fn check_program(
        &self,
        started: &StartedProgram,
        is_mended: bool,
        scene: &Scene<'_>,
    ) -> Option<Detail> {
        let shown = started.program.escaped();
        let Some(program) = self.expand(&started.program) else {
            return Some(Detail::note(format!("starts {shown}, which only a target can tell")));
        };
        if !program.contains('/') {
            let dirs = self.list(&["ExecSearchPath"], WITH_PROCESSES);
            let mut dirs = dirs.into_iter().flat_map(|dirs| dirs.split(':'));
            let found = dirs.find_map(|dir| scene.find_fact(&Path::new(dir).join(&program)));
            return found.is_none().then(|| Detail::note(format!("starts {shown} of the target")));
        }
        check_path(&program, started.may_fail, is_mended, scene)
    }

    /// Checks a file that a program needs to start.
    fn check_file(&self, value: &str, kind: &str, scene: &Scene<'_>) -> Option<Detail> {
        let (path, may_lack) = match value.strip_prefix('-') {
            Some(path) => (path, true),
            None => (value, false),
        };
        let path = self.expand(path)?;
        // Of files of a pattern, none needs to be there.
        let is_pattern = path.contains(['*', '?', '[']);
        let place = Path::new(&path);
        let is_missing = scene.is_inside(place)
            && scene.find_fact(place).is_none()
            && !scene.is_ruled(&normalize_path(place));
        let text = format!("needs {}, {kind} that is not there", path.escaped());
        (is_missing && !may_lack && !is_pattern).then(|| Detail::error(text))
    }
}

/// Returns whether `pack` finds the program of a command line: as its first word, without quotes.
fn is_first_word(line: &str, program: &str) -> bool {
    let words = line.trim_start_matches(MARKS);
    words.split_whitespace().next() == Some(program)
}

/// Returns the program of the prefix that has the path of the target's `program` below EPREFIX.
fn find_own(program: &Path, scene: &Scene<'_>) -> Option<PathBuf> {
    let own = scene.root.eprefix().as_path().join(program.strip_prefix("/").ok()?);
    let fact = scene.find_fact(&own)?;
    let is_program = !matches!(fact.kind, FactKind::Directory) && fact.mode & 0o111 != 0;
    is_program.then_some(own)
}

/// Checks the program at `path`, which a service starts. `is_mended` tells that `pack` puts a program of
/// the prefix in its place.
fn check_path(path: &str, may_fail: bool, is_mended: bool, scene: &Scene<'_>) -> Option<Detail> {
    let (shown, place) = (path.escaped(), Path::new(path));
    if !place.is_absolute() {
        return Some(Detail::error(format!("starts {shown}, which is no absolute path")));
    }
    let text = match scene.find_fact(place) {
        Some(fact) if matches!(fact.kind, FactKind::Directory) || fact.mode & 0o111 == 0 => {
            format!("starts {shown}, which cannot be executed")
        }
        Some(_) => return None,
        None if scene.is_inside(place) => format!("starts {shown}, which is not there"),
        None => match find_own(place, scene) {
            None => return Some(Detail::note(format!("starts {shown} of the target"))),
            Some(own) if is_mended => {
                let own = own.escaped();
                let text = format!("starts {shown}, in whose place `pack` puts {own}");
                return Some(Detail::note(text));
            }
            Some(own) => {
                format!("starts {shown} of the target, and not the program {}", own.escaped())
            }
        },
    };
    Some(if may_fail { Detail::note(text) } else { Detail::error(text) })
}

/// Checks a service that D-Bus starts (dbus-daemon(1)). Its program is not searched for.
fn check_dbus_service(settings: &[UnitSetting], is_copied: bool, scene: &Scene<'_>) -> Vec<Detail> {
    let is_line =
        |setting: &&UnitSetting| setting.section == "D-BUS Service" && setting.key == "Exec";
    // Where systemd starts the service, D-Bus does not.
    let by_systemd = settings.iter().any(|setting| setting.key == "SystemdService");
    let lines = settings.iter().filter(is_line);
    let programs = lines
        .filter_map(|setting| Some((setting, shlex::split(&setting.value)?.into_iter().next()?)));
    let check = |(setting, program): (&UnitSetting, String)| {
        let is_mended = is_copied && is_first_word(&setting.value, &program);
        check_path(&program, by_systemd, is_mended, scene)
    };
    programs.filter_map(check).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_files_that_configure_units() {
        for (path, unit) in [
            ("/opt/x/usr/lib/systemd/system/a.service", Some(("a.service", true))),
            ("/opt/x/usr/lib/systemd/user/a@.socket", Some(("a@.socket", false))),
            ("/usr/lib/systemd/system/a.service.d/1.conf", Some(("a.service", true))),
            ("/usr/lib/systemd/system/service.d/1.conf", Some(("service", true))),
            ("/usr/lib/systemd/system/a.service.d/1.txt", None),
            ("/usr/lib/systemd/system/a.target", None),
            ("/usr/lib/systemd/system/service", None),
            ("/usr/lib/other/a.service", None),
        ] {
            assert_eq!(unit_of(Path::new(path)), unit, "{path}");
        }
    }

    #[test]
    fn an_empty_value_resets_a_list() {
        let list = |text: &str, later: &str| {
            let unit = UnitFile {
                name: "a.service",
                of_system: true,
                is_copied: true,
                settings: unit_file::parse(text),
                later: unit_file::parse(later),
            };
            unit.list(&["ExecStart"], &["Service"]).join(" ")
        };
        let text = "[Service]\nExecStart=/a\nExecStart=\nExecStart=/b\nExecStart=/c\n\
                    [Install]\nExecStart=/d\n";
        assert_eq!(list(text, ""), "/b /c");
        assert_eq!(list(text, "[Service]\nExecStart=/e\n"), "/b /c");
        assert_eq!(list(text, "[Service]\nExecStart=\nExecStart=/e\n"), "");
    }
}
