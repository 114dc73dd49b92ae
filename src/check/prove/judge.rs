//! Judges a trace: files that a program used, from where they came, and files that it tried in vain.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::base::command::quote;
use crate::base::escape::Escape;
use crate::base::files;
use crate::base::inside::{DEV_SHM, EMULATOR, TMP, VAR_TMP};
use crate::check::prove::process::{Process, Processes, View};
use crate::check::prove::proof::{Attempt, AttemptKind};
use crate::check::prove::trace::{Argument, Call, Ending, Event, OpenFile, events};
use crate::elf;
use crate::relocate::shebang::Shebang;

/// Directories that every process may open, and in which nobody can put a library.
const HARMLESS: &[&str] = &["/proc", "/dev", "/sys"];

/// Directories with the machine's own state, which a program may look for.
const OF_THE_MACHINE: &[&str] = &["/etc", "/dev", "/proc", "/sys", "/tmp"];

/// Largest number of interpreters that start each other (`BINPRM` recursion limit, execve(2)), and
/// a loader.
const STARTERS: usize = 6;

/// A traced program.
pub(super) struct Traced<'a> {
    /// Root directory of the program.
    pub view: View<'a>,
    /// Path of the prefix.
    pub eprefix: &'a Path,
    /// Program whose execution begins the proof. The calls before it belong to entering the root.
    pub started: &'a Path,
    /// True if an emulator runs the program. An emulator maps code without `PROT_EXEC`, like any
    /// file.
    pub emulated: bool,
}

/// Files that a trace shows, and the end of the program.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Number of the process that began as the program.
    pub started: Option<u32>,
    /// End of that process.
    pub ending: Option<Ending>,
    /// Files of the prefix that were executed or mapped as code.
    pub inside: BTreeSet<PathBuf>,
    /// Files of others that were executed, mapped or opened.
    pub outside: BTreeSet<PathBuf>,
    /// Code that the program made itself.
    pub made: BTreeSet<PathBuf>,
    /// Files of others that were not there.
    pub tried: BTreeSet<Attempt>,
    /// Acts of which the trace does not tell the file.
    pub unfollowed: BTreeSet<String>,
    /// Files that the program made.
    created: BTreeSet<PathBuf>,
}

impl Traced<'_> {
    /// Reads `trace` as strace wrote it.
    pub(super) fn judge(&self, trace: &str) -> Seen {
        let mut processes = Processes::of(trace);
        let mut seen = Seen::default();
        for (number, event) in events(trace) {
            match event {
                Event::Call(call) => {
                    let process = processes.get(number, seen.started.is_some());
                    process.learn(&call, &self.view);
                    self.judge_call(number, process, &call, &mut seen);
                }
                Event::Ended(ending) => {
                    if seen.started == Some(number) {
                        seen.ending = Some(ending);
                    }
                }
                Event::Superseded { thread } => processes.supersede(number, thread),
                Event::Unknown if seen.started.is_some() => {
                    seen.unfollowed.insert("a line of the trace".to_owned());
                }
                Event::Unknown => {}
            }
        }
        seen
    }

    fn judge_call(&self, number: u32, process: &mut Process, call: &Call, seen: &mut Seen) {
        if matches!(call.name.as_str(), "execve" | "execveat") {
            self.judge_execution(number, process, call, seen);
        }
        if !process.proven || call.outcome.value.is_none() {
            return;
        }
        match call.name.as_str() {
            "mmap" | "mmap2" => self.judge_mapping(call, seen),
            "open" | "openat" | "openat2" | "creat" | "open_tree" | "open_by_handle_at" => {
                self.judge_opening(process, call, seen);
            }
            "access" | "faccessat" | "faccessat2" | "stat" | "stat64" | "lstat" | "lstat64"
            | "newfstatat" | "fstatat64" | "statx" | "readlink" | "readlinkat" => {
                self.judge_look(process, call, seen);
            }
            "mkdir" | "mkdirat" | "mknod" | "mknodat" if call.succeeded() => {
                seen.created.extend(process.named(call, 0, &self.view).map(|file| file.path));
            }
            "rename" | "link" => self.judge_new_name(process, call, 1, seen),
            "renameat" | "renameat2" | "linkat" => self.judge_new_name(process, call, 2, seen),
            "chdir" if call.succeeded() => {
                if let Some(file) = process.named(call, 0, &self.view) {
                    process.change_directory(file.path);
                }
            }
            "chdir" => self.judge_look(process, call, seen),
            "fchdir" if call.succeeded() => {
                if let Some(file) = Process::descriptor(call, 0, &self.view) {
                    process.change_directory(file.path);
                }
            }
            // Paths mean something else afterwards.
            "chroot" | "pivot_root" | "mount" | "move_mount" if call.succeeded() => {
                seen.unfollowed.insert(format!("{} of the program", call.name));
            }
            _ => {}
        }
    }

    fn judge_execution(&self, number: u32, process: &mut Process, call: &Call, seen: &mut Seen) {
        let file = process.named(call, 0, &self.view);
        if seen.started.is_none()
            && call.succeeded()
            && matches!(call.arguments.first(), Some(Argument::Text(name))
                if Path::new(&OsString::from_vec(name.clone())) == self.started)
        {
            seen.started = Some(number);
            process.proven = true;
            process.change_directory("/".into());
        }
        if !process.proven || call.outcome.value.is_none() {
            return;
        }
        let Some(file) = file else {
            seen.unfollowed.insert(format!("a program that {} started", show(process)));
            return;
        };
        let starters = self.starters(&file.path, process);
        if call.succeeded() {
            self.note_code(&file, seen);
            for path in &starters {
                self.note_code(&OpenFile { path: path.clone(), deleted: false }, seen);
            }
            process.program = Some(file);
        } else if !is_absence(call) {
            // The file is there, and of a kind that cannot be executed.
        } else if !self.is_inside(&file.path) {
            let arguments = show_arguments(call);
            let (kind, path) = (AttemptKind::Execute, file.path);
            seen.tried.insert(Attempt { kind, path, arguments });
        } else if let Some(path) = starters.into_iter().find(|path| !self.is_inside(path)) {
            // What executes the file is missing.
            seen.tried.insert(Attempt::new(AttemptKind::Execute, path));
        }
    }

    /// Returns the files that the kernel starts for the program at `path` without a system call: the
    /// interpreter of a script, and the loader of a program.
    fn starters(&self, path: &Path, process: &Process) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut path = path.to_owned();
        while found.len() < STARTERS {
            let Some(starter) = self.view.on_disk(&path).and_then(|disk| starter(&disk)) else {
                break;
            };
            let Some(next) = process.lookup(&process.directory().join(starter), &self.view) else {
                break;
            };
            path = next.path;
            if found.contains(&path) {
                break;
            }
            found.push(path.clone());
        }
        found
    }

    fn judge_mapping(&self, call: &Call, seen: &mut Seen) {
        let is_code = self.emulated || call.has_flag("PROT_EXEC");
        if let Some(file) = Process::descriptor(call, 4, &self.view)
            && is_code
            && call.succeeded()
        {
            self.note_code(&file, seen);
        }
    }

    fn judge_opening(&self, process: &Process, call: &Call, seen: &mut Seen) {
        let creates = call.has_flag("O_CREAT") || call.name == "creat";
        let Some(file) = &call.outcome.file else {
            // A file that is written to gives nothing to the program.
            if !creates && !call.has_flag("O_WRONLY") {
                self.judge_look(process, call, seen);
            }
            return;
        };
        let file = self.view.show(file);
        if creates && !self.is_inside(&file.path) {
            seen.created.insert(file.path.clone());
        }
        let disk = self.view.on_disk(&file.path);
        // Parents of the prefix are directories. A program may open them with O_DIRECTORY or
        // without: find(1) opens its start directory without. Listing a directory uses no file.
        let is_directory = call.has_flag("O_DIRECTORY")
            || self.eprefix.starts_with(&file.path)
            || disk.is_some_and(|disk| disk.is_dir());
        if !is_directory && self.is_foreign(&file, seen) {
            seen.outside.insert(file.path);
        }
    }

    /// Judges a call that looks for a file and has not found it.
    fn judge_look(&self, process: &Process, call: &Call, seen: &mut Seen) {
        if !is_absence(call) {
            return;
        }
        let Some(file) = process.named(call, 0, &self.view) else { return };
        let kind = if is_library(&file.path) {
            AttemptKind::Load
        } else if call.has_flag("X_OK") || is_for_programs(&file.path) {
            AttemptKind::Execute
        } else {
            AttemptKind::Open
        };
        // A sealed loader looks for nothing that a target has.
        let sealed = file.path.iter().nth(1).is_some_and(is_sealed);
        let of_machine = OF_THE_MACHINE.iter().any(|dir| file.path.starts_with(dir));
        let harmless = sealed || (of_machine && kind != AttemptKind::Load);
        if !harmless && !self.eprefix.starts_with(&file.path) && self.is_foreign(&file, seen) {
            seen.tried.insert(Attempt::new(kind, file.path));
        }
    }

    /// Judges a call that gives another name to a file. The name of the new one begins at `at`.
    fn judge_new_name(&self, process: &Process, call: &Call, at: usize, seen: &mut Seen) {
        let (old, new) = (process.named(call, 0, &self.view), process.named(call, at, &self.view));
        if let (Some(old), Some(new)) = (old, new)
            && call.succeeded()
            && is_own(&old, seen)
        {
            seen.created.insert(new.path);
        }
    }

    fn note_code(&self, file: &OpenFile, seen: &mut Seen) {
        let path = file.path.clone();
        if self.is_inside(&path) {
            seen.inside.insert(path);
        } else if is_own(file, seen) {
            seen.made.insert(path);
        } else if self.is_foreign(file, seen) {
            seen.outside.insert(path);
        }
    }

    fn is_inside(&self, path: &Path) -> bool {
        path.starts_with(self.eprefix)
    }

    /// Returns whether the file is one of the machine that is for somebody: not of the prefix, not
    /// of the program itself, and not of the kernel.
    fn is_foreign(&self, file: &OpenFile, seen: &Seen) -> bool {
        let path = &file.path;
        path.is_absolute()
            && path != EMULATOR.as_path()
            && !self.is_inside(path)
            && !is_own(file, seen)
            && !HARMLESS.iter().any(|dir| path.starts_with(dir))
    }
}

/// Returns whether the program made the file itself. Directories for temporary files are empty when
/// it starts.
fn is_own(file: &OpenFile, seen: &Seen) -> bool {
    let temporary = [&TMP, &VAR_TMP, &DEV_SHM];
    (file.deleted && file.path.as_os_str().to_string_lossy().starts_with("/memfd:"))
        || temporary.iter().any(|dir| file.path.starts_with(dir.as_path()))
        || file.path.ancestors().any(|path| seen.created.contains(path))
}

/// Returns whether a call failed in a way in which it would not where the file is.
fn is_absence(call: &Call) -> bool {
    let error = call.outcome.error.as_deref();
    matches!(error, Some("ENOENT" | "ENOTDIR" | "EACCES" | "EPERM" | "ELOOP"))
}

/// Returns whether a file is one that a loader reads: a library, or a list of them.
fn is_library(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with(".so")
        || name.contains(".so.")
        || (name.starts_with("ld-musl-") && name.ends_with(".path"))
}

/// Returns whether a directory of the root is one of those that replace the machine's in a sealed
/// loader.
fn is_sealed(name: &OsStr) -> bool {
    name.as_encoded_bytes().iter().all(|byte| *byte == b'~')
}

/// Returns whether a file is in a directory for programs, where shells look for commands.
fn is_for_programs(path: &Path) -> bool {
    let dir = path.parent().and_then(Path::file_name);
    dir.is_some_and(|dir| dir == "bin" || dir == "sbin")
}

/// Returns the file that the kernel starts for the program on disk, as it names that.
fn starter(disk: &Path) -> Option<PathBuf> {
    let bytes = files::map(disk).ok()?;
    if let Ok(Some(shebang)) = Shebang::parse(bytes.get(..4096).unwrap_or(&bytes)) {
        return Some(shebang.interpreter.to_owned());
    }
    let interpreter = elf::read(&bytes).ok()?.interpreter?;
    Some(PathBuf::from(OsString::from_vec(interpreter)))
}

/// Returns the arguments of an execution after the name of the program, as words of a shell.
fn show_arguments(call: &Call) -> String {
    let list = call.arguments.iter().find_map(|argument| match argument {
        Argument::List(words) => Some(words),
        _ => None,
    });
    let words = list.into_iter().flatten().skip(1);
    words.map(|word| quote(word.escaped().to_string())).collect::<Vec<_>>().join(" ")
}

fn show(process: &Process) -> String {
    let program = process.program.as_ref();
    program.map_or_else(|| "the program".to_owned(), |file| file.path.escaped().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::prove::trace::tests::in_hexadecimal;
    use crate::fstree::resolve::RootResolver;

    /// Judges a trace of `/opt/x/usr/bin/p`, which process 7 has executed in an empty root.
    fn judge(trace: &str, emulated: bool) -> Seen {
        let traced = Traced {
            view: View {
                files: RootResolver::new(Vec::new()),
                known: Path::new("/opt/x"),
                target: Path::new("/target"),
            },
            eprefix: Path::new("/opt/x"),
            started: Path::new("/opt/x/usr/bin/p"),
            emulated,
        };
        let begin = "6 openat(AT_FDCWD</>, \"/etc/before\", O_RDONLY) = 3</etc/before>\n\
                     7 execve(\"/usr/bin/p\", [\"p\"], 0x7) = -1 ENOENT (No such file)\n\
                     7 execve(\"/opt/x/usr/bin/p\", [\"p\"], 0x7 /* 1 var */) = 0\n";
        traced.judge(&in_hexadecimal(&format!("{begin}{trace}")))
    }

    fn paths(paths: &BTreeSet<PathBuf>) -> Vec<&str> {
        paths.iter().filter_map(|path| path.to_str()).collect()
    }

    #[test]
    fn files_are_named_by_directories_and_descriptors() {
        for (call, inside) in [
            ("chdir(\"/opt/x/lib\") = 0\n7 execve(\"./h\", [\"h\"], 0x7) = 0", "/opt/x/lib/h"),
            ("fchdir(3</opt/x/lib>) = 0\n7 execve(\"../h\", [\"h\"], 0x7) = 0", "/opt/x/h"),
            ("execveat(5</target/opt/x/h>, \"\", [\"h\"], 0x7, AT_EMPTY_PATH) = 0", "/opt/x/h"),
            ("execveat(5</opt/x/bin>, \"h\", [\"h\"], 0x7, 0) = 0", "/opt/x/bin/h"),
            (
                "openat(AT_FDCWD</>, \"/opt/x/h\", O_PATH) = 5</opt/x/h>\n\
                 7 execve(\"/proc/self/fd/5\", [\"h\"], 0x7) = 0",
                "/opt/x/h",
            ),
            (
                "dup2(5</opt/x/h>, 77) = 77</opt/x/h>\n\
                 7 vfork( <unfinished ...>\n\
                 8 execve(\"/dev/fd/77\", [\"h\"], 0x7) = 0\n\
                 7 <... vfork resumed>) = 2 /* 8 in strace's PID NS */",
                "/opt/x/h",
            ),
            (
                "clone3({flags=CLONE_VM|CLONE_FS|CLONE_FILES, exit_signal=0}, 88) = 8\n\
                 8 chdir(\"/opt/x/lib\") = 0\n\
                 7 execve(\"./h\", [\"h\"], 0x7) = 0",
                "/opt/x/lib/h",
            ),
            (
                "mmap(NULL, 1, PROT_READ|PROT_EXEC, MAP_PRIVATE, 3</opt/x/l.so>, 0) = 0x7",
                "/opt/x/l.so",
            ),
        ] {
            let seen = judge(&format!("7 {call}\n"), false);
            assert!(seen.inside.contains(Path::new(inside)), "{call}: {seen:?}");
            assert_eq!((seen.outside.len(), seen.unfollowed.len()), (0, 0), "{call}: {seen:?}");
        }
        let apart = "7 clone(child_stack=NULL, flags=SIGCHLD) = 8\n8 chdir(\"/usr\") = 0\n\
                     7 execve(\"./h\", [\"h\"], 0x7) = 0\n";
        assert_eq!(paths(&judge(apart, false).outside), ["/h"]);
        let unknown = judge("7 execve(\"/proc/self/fd/9\", [\"h\"], 0x7) = 0\n", false);
        assert_eq!(unknown.unfollowed.len(), 1);
    }

    #[test]
    fn files_of_others_are_outside_and_own_ones_are_not() {
        let open = |path: &str, flags: &str| {
            format!("7 openat(AT_FDCWD</>, \"{path}\", {flags}) = 3<{path}>\n")
        };
        for (trace, outside) in [
            (open("/etc/passwd", "O_RDONLY"), vec!["/etc/passwd"]),
            (open("/usr/lib", "O_RDONLY|O_DIRECTORY"), vec![]),
            (open("/opt", "O_RDONLY"), vec![]),
            (open("/proc/self/maps", "O_RDONLY"), vec![]),
            (open("/tmp/own", "O_RDONLY"), vec![]),
            (open("/own", "O_RDWR|O_CREAT") + &open("/own", "O_RDONLY"), vec![]),
            (
                open("/own", "O_RDWR|O_CREAT")
                    + "7 rename(\"/own\", \"/other\") = 0\n"
                    + &open("/other", "O_RDONLY"),
                vec![],
            ),
            (
                "7 rename(\"/a\", \"/other\") = 0\n".to_owned() + &open("/other", "O_RDONLY"),
                vec!["/other"],
            ),
            ("7 execve(\"/bin/sh\", [\"sh\"], 0x7) = 0\n".to_owned(), vec!["/bin/sh"]),
        ] {
            assert_eq!(paths(&judge(&trace, false).outside), outside, "{trace}");
        }
        let code = "7 mmap(NULL, 1, PROT_EXEC, MAP_PRIVATE, 3</tmp/x>(deleted), 0) = 0x7\n\
                    7 mmap(NULL, 1, PROT_EXEC, MAP_SHARED, 4</memfd:jit>(deleted), 0) = 0x7\n\
                    7 mmap(NULL, 1, PROT_READ, MAP_SHARED, 4</opt/x/data>, 0) = 0x7\n";
        let seen = judge(code, false);
        assert_eq!(paths(&seen.made), ["/memfd:jit", "/tmp/x"]);
        assert!(!seen.inside.contains(Path::new("/opt/x/data")));
        assert!(judge(code, true).inside.contains(Path::new("/opt/x/data")));
    }

    #[test]
    fn attempts_are_named_with_their_kind() {
        let absent = "-1 ENOENT (No such file or directory)";
        for (call, expected) in [
            ("openat(AT_FDCWD</>, \"/usr/lib/l.so.1\", O_RDONLY)", "Load /usr/lib/l.so.1"),
            ("openat(AT_FDCWD</>, \"/etc/ld.so.cache\", O_RDONLY)", "Load /etc/ld.so.cache"),
            ("openat(AT_FDCWD</usr>, \"a.conf\", O_RDONLY)", "Open /usr/a.conf"),
            ("open(\"/usr/a.conf\", O_RDONLY)", "Open /usr/a.conf"),
            ("access(\"/usr/libexec/h\", X_OK)", "Execute /usr/libexec/h"),
            ("newfstatat(AT_FDCWD</>, \"/usr/bin/h\", 0x7, 0)", "Execute /usr/bin/h"),
            ("readlink(\"/usr/share/l\", 0x7, 1)", "Open /usr/share/l"),
            ("execve(\"/usr/bin/h\", [\"h\"], 0x7)", "Execute /usr/bin/h"),
            ("openat(AT_FDCWD</>, \"/etc/a.conf\", O_RDONLY)", ""),
            ("openat(AT_FDCWD</>, \"/opt/x/a.conf\", O_RDONLY)", ""),
            ("openat(AT_FDCWD</>, \"/var/log/a\", O_WRONLY|O_CREAT, 0600)", ""),
            ("newfstatat(3</opt/x/a>, \"\", 0x7, AT_EMPTY_PATH)", ""),
            ("mkdir(\"/usr/a\", 0700)", ""),
        ] {
            let seen = judge(&format!("7 {call} = {absent}\n"), false);
            let tried = seen.tried.iter().map(|a| format!("{:?} {}", a.kind, a.path.escaped()));
            assert_eq!(tried.collect::<Vec<_>>().concat(), expected, "{call}");
        }
    }

    #[test]
    fn ends_of_the_program_alone_count() {
        for (trace, ending) in [
            ("8 +++ exited with 1 +++\n7 +++ exited with 3 +++\n", Ending::Exited(3)),
            ("7 +++ killed by SIGSEGV +++\n", Ending::Killed("SIGSEGV".to_owned())),
        ] {
            assert_eq!(judge(trace, false).ending, Some(ending));
        }
        let seen = judge("7 chroot(\"/opt/x\") = 0\n7 what is this\n", false);
        assert_eq!(seen.unfollowed.len(), 2);
    }
}
