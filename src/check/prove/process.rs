//! Processes of a trace: working directories and open files, by which names lead to files.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::check::prove::trace::{Argument, Call, Event, OpenFile, events};
use crate::fstree::resolve::{ResolvedPath, RootResolver, normalize_path};

/// Root directory in which a program is followed.
pub(super) struct View<'a> {
    /// Files of the root, on disk.
    pub files: RootResolver,
    /// Part of the root that `files` has. Links are resolved in there.
    pub known: &'a Path,
    /// Root directory, as strace sees it.
    pub target: &'a Path,
}

impl View<'_> {
    /// Returns the absolute `path` without links.
    fn resolve(&self, path: &Path) -> PathBuf {
        let normal = normalize_path(path);
        if !normal.starts_with(self.known) {
            return normal;
        }
        match self.files.resolve(path) {
            ResolvedPath::There { inside, .. } => inside,
            ResolvedPath::Missing(path) => path,
            ResolvedPath::NoDirectory(_) | ResolvedPath::Loop => normal,
        }
    }

    /// Returns the place on disk of a path without links, or `None` if nothing is known there.
    pub(super) fn on_disk(&self, path: &Path) -> Option<PathBuf> {
        path.starts_with(self.known).then(|| self.files.find_on_disk(path)).flatten()
    }

    /// Returns the file of a descriptor as the program sees it.
    pub(super) fn show(&self, file: &OpenFile) -> OpenFile {
        let path = match file.path.strip_prefix(self.target) {
            Ok(below) => Path::new("/").join(below),
            Err(_) => file.path.clone(),
        };
        OpenFile { path, deleted: file.deleted }
    }
}

/// State of a process. Threads share parts of it.
#[derive(Clone, Debug)]
pub(super) struct Process {
    /// True for the program that is proven and for all that it starts.
    pub proven: bool,
    /// Program that it executes.
    pub program: Option<OpenFile>,
    directory: Rc<RefCell<PathBuf>>,
    files: Rc<RefCell<HashMap<i64, OpenFile>>>,
}

impl Process {
    fn new(proven: bool) -> Self {
        Self {
            proven,
            program: None,
            directory: Rc::new(RefCell::new("/".into())),
            files: Rc::default(),
        }
    }

    /// Returns the state of a child that shares what `birth` says.
    fn child(&self, birth: &Birth) -> Self {
        let mut child = self.clone();
        if !birth.shares_directory {
            child.directory = Rc::new(RefCell::new(self.directory.borrow().clone()));
        }
        if !birth.shares_files {
            child.files = Rc::new(RefCell::new(self.files.borrow().clone()));
        }
        child
    }

    /// Returns the working directory.
    pub(super) fn directory(&self) -> PathBuf {
        self.directory.borrow().clone()
    }

    /// Changes the working directory.
    pub(super) fn change_directory(&self, path: PathBuf) {
        *self.directory.borrow_mut() = path;
    }

    /// Learns directories and files from the descriptors of a call.
    pub(super) fn learn(&self, call: &Call, view: &View<'_>) {
        for argument in &call.arguments {
            match argument {
                Argument::WorkingDirectory(file) => self.change_directory(view.show(file).path),
                Argument::Descriptor(number, file) => {
                    self.files.borrow_mut().insert(*number, view.show(file));
                }
                _ => {}
            }
        }
        if let (Some(number), Some(file)) = (call.outcome.value, &call.outcome.file) {
            self.files.borrow_mut().insert(number, view.show(file));
        }
    }

    /// Returns the file that a call names: by the argument at `at`, or by the directory at `at` and
    /// the name behind it. Returns `None` if it cannot be told.
    pub(super) fn named(&self, call: &Call, at: usize, view: &View<'_>) -> Option<OpenFile> {
        let (start, name) = match call.arguments.get(at)? {
            Argument::Text(name) => (self.directory(), name.as_slice()),
            Argument::WorkingDirectory(file) => {
                (view.show(file).path, name_of(call.arguments.get(at + 1)?)?)
            }
            Argument::Descriptor(_, file) => {
                let file = view.show(file);
                match name_of(call.arguments.get(at + 1)?) {
                    // AT_EMPTY_PATH
                    Some([]) => return Some(file),
                    Some(name) => (file.path, name),
                    // A call such as fchdir(2), which takes a descriptor alone, has no name.
                    None => return None,
                }
            }
            // A name that begins at the root directory may come with any number.
            Argument::Other(_) => (self.directory(), name_of(call.arguments.get(at + 1)?)?),
            Argument::LongText | Argument::List(_) => return None,
        };
        self.lookup(&start.join(OsStr::from_bytes(name)), view)
    }

    /// Returns the file of a descriptor that a call names at `at`.
    pub(super) fn descriptor(call: &Call, at: usize, view: &View<'_>) -> Option<OpenFile> {
        match call.arguments.get(at)? {
            Argument::Descriptor(_, file) => Some(view.show(file)),
            _ => None,
        }
    }

    /// Returns the file at `path`. Links of proc(5) lead to what the process has open. Returns
    /// `None` if such a link is not known.
    pub(super) fn lookup(&self, path: &Path, view: &View<'_>) -> Option<OpenFile> {
        let path = view.resolve(path);
        let own = ["/proc/self", "/proc/thread-self"];
        let Some(below) = own.iter().find_map(|own| path.strip_prefix(own).ok()) else {
            let Ok(number) = path.strip_prefix("/dev/fd") else {
                return Some(OpenFile { path, deleted: false });
            };
            return self.opened(number, view);
        };
        if let Ok(number) = below.strip_prefix("fd") {
            return self.opened(number, view);
        }
        let deleted = false;
        if let Ok(rest) = below.strip_prefix("cwd") {
            return self.lookup(&self.directory().join(rest), view);
        }
        if let Ok(rest) = below.strip_prefix("root") {
            return self.lookup(&Path::new("/").join(rest), view);
        }
        if below == Path::new("exe") {
            return self.program.clone();
        }
        Some(OpenFile { path, deleted })
    }

    /// Returns the file at `path` in a directory of descriptors.
    fn opened(&self, path: &Path, view: &View<'_>) -> Option<OpenFile> {
        let mut parts = path.components();
        let Some(number) = parts.next() else {
            return Some(OpenFile { path: "/proc/self/fd".into(), deleted: false });
        };
        let number = number.as_os_str().to_str()?.parse().ok()?;
        let file = self.files.borrow().get(&number).cloned()?;
        let rest = parts.as_path();
        if rest.as_os_str().is_empty() {
            Some(file)
        } else {
            self.lookup(&file.path.join(rest), view)
        }
    }
}

fn name_of(argument: &Argument) -> Option<&[u8]> {
    match argument {
        Argument::Text(name) => Some(name),
        _ => None,
    }
}

/// Birth of a process.
struct Birth {
    parent: u32,
    shares_directory: bool,
    shares_files: bool,
}

/// Processes of a trace.
pub(super) struct Processes {
    born: HashMap<u32, Birth>,
    known: HashMap<u32, Process>,
}

impl Processes {
    /// Reads from a trace who starts whom: a child may act before the call returns that made it.
    pub(super) fn of(trace: &str) -> Self {
        let makes =
            |line: &&str| ["clone", "fork", "resumed"].iter().any(|part| line.contains(part));
        let lines: Vec<&str> = trace.lines().filter(makes).collect();
        let born = events(&lines.join("\n"))
            .filter_map(|(parent, event)| match event {
                Event::Call(call) if makes_process(&call.name) && call.succeeded() => {
                    let birth = Birth {
                        parent,
                        shares_directory: call.has_flag("CLONE_FS"),
                        shares_files: call.has_flag("CLONE_FILES"),
                    };
                    Some((u32::try_from(call.outcome.value?).ok()?, birth))
                }
                _ => None,
            })
            .collect();
        Self { born, known: HashMap::new() }
    }

    /// Returns the state of the process with this number. A process of which nothing is known is
    /// `proven`.
    pub(super) fn get(&mut self, number: u32, proven: bool) -> &mut Process {
        if !self.known.contains_key(&number) {
            let birth = self.born.get(&number);
            let parent = birth.and_then(|birth| Some((self.known.get(&birth.parent)?, birth)));
            let process = match parent {
                Some((parent, birth)) => parent.child(birth),
                None => Process::new(proven),
            };
            self.known.insert(number, process);
        }
        self.known.entry(number).or_insert_with(|| Process::new(proven))
    }

    /// Lets the process `number` go on as its thread.
    pub(super) fn supersede(&mut self, number: u32, thread: u32) {
        if let Some(state) = self.known.remove(&thread) {
            self.known.insert(number, state);
        }
    }
}

fn makes_process(name: &str) -> bool {
    matches!(name, "clone" | "clone3" | "fork" | "vfork")
}
