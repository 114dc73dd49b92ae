//! What the programs of a root say, and which of its libraries can be loaded.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use fprefix::elf::{self, ObjectKind};
use rayon::prelude::*;

use crate::Machine;
use crate::harness::tools::{both_streams, output_of};
use crate::harness::wait::LIMIT;
use crate::made::LOADING;
use crate::root::{Root, eprefix};

/// The time in which a program or library has to answer to be one of those that are compared.
const FIRST_LIMIT: Duration = Duration::from_secs(60);

/// By path in the packages.
#[derive(Default)]
pub(crate) struct Answers {
    /// The question, and what a program said to it.
    pub programs: BTreeMap<String, (&'static str, String)>,
    /// What could be loaded.
    pub libraries: BTreeSet<String>,
}

impl Answers {
    /// Asks the programs and libraries that answered `before`, or else all: only those count that
    /// say the same twice.
    pub(crate) fn of(machine: &Machine, root: &Root, before: Option<&Answers>) -> Answers {
        // What serves instead of answering is ended, and counts for nothing. What answered once
        // has as long as it takes.
        let limit = if before.is_some() { LIMIT } else { FIRST_LIMIT };
        let asked = Room { machine, root, limit };
        let Some(before) = before else {
            let programs = root.files(&[ObjectKind::Executable, ObjectKind::PieExecutable]);
            let programs = machine.some_of(programs.into_iter().filter(|path| is_command(path)));
            let libraries = machine.some_of(root.files(&[ObjectKind::SharedObject]).into_iter());
            let programs = programs.par_iter();
            return Answers {
                programs: programs
                    .filter_map(|path| Some((path.clone(), asked.ask_for_version(path)?)))
                    .collect(),
                libraries: asked.load(&libraries),
            };
        };
        let ask = |(path, (question, _)): (&String, &(&'static str, String))| {
            let (_, answer) = asked.ask(path, question);
            (path.clone(), (*question, answer))
        };
        let libraries: Vec<String> = before.libraries.iter().cloned().collect();
        Answers {
            programs: before.programs.par_iter().map(ask).collect(),
            libraries: asked.load(&libraries),
        }
    }

    pub(crate) fn has(&self, program: &str) -> bool {
        self.programs.contains_key(program)
    }

    /// `after` has to have all that this has.
    pub(crate) fn assert_kept(&self, after: &Answers, when: &str) {
        let mut broken = Vec::new();
        for (program, (question, answer)) in &self.programs {
            let new = after.programs.get(program).map(|(_, answer)| answer);
            if new != Some(answer) {
                broken.push(format!("{program} {question}\n{answer}now\n{new:?}"));
            }
        }
        let lost: Vec<_> = self.libraries.difference(&after.libraries).collect();
        assert!(broken.is_empty(), "{when}: {}\n{}", broken.len(), broken.join("\n"));
        assert!(lost.is_empty(), "{when}: these load no more: {lost:#?}");
        assert!(self.programs.len() > 20 && self.libraries.len() > 50, "too few to mean much");
    }
}

fn is_command(path: &str) -> bool {
    ["/usr/bin/", "/usr/sbin/", "/usr/lib/cargo/bin/"].iter().any(|dir| path.starts_with(dir))
}

/// A root in which nothing else is, not even an environment.
pub(crate) struct Room<'a> {
    machine: &'a Machine,
    root: &'a Root,
    limit: Duration,
}

impl<'a> Room<'a> {
    pub(crate) fn new(machine: &'a Machine, root: &'a Root) -> Self {
        Self { machine, root, limit: LIMIT }
    }

    fn ask_for_version(&self, path: &str) -> Option<(&'static str, String)> {
        ["--version", "--help"].into_iter().find_map(|question| {
            let (good, answer) = self.ask(path, question);
            let steady = good && !answer.is_empty() && self.ask(path, question).1 == answer;
            steady.then_some((question, answer))
        })
    }

    /// Returns whether it went well, and what was said, with the same paths wherever the program is.
    fn ask(&self, path: &str, question: &str) -> (bool, String) {
        let output = self.run(path, &[question.to_owned()]);
        (output.status.success(), both_streams(&output).replace(&eprefix(), ""))
    }

    /// Those of `libraries` that can be loaded.
    fn load(&self, libraries: &[String]) -> BTreeSet<String> {
        let some = |libraries: &[String]| {
            let paths: Vec<String> = libraries.iter().map(|path| self.root.inside(path)).collect();
            let output = self.run(LOADING, &paths);
            let loaded = String::from_utf8_lossy(&output.stdout).replace(&eprefix(), "");
            loaded.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        // What constructors print is no path of a library.
        let known: BTreeSet<&String> = libraries.iter().collect();
        let loaded = libraries.par_chunks(40).flat_map_iter(some);
        loaded.filter(|path| known.contains(path)).collect()
    }

    pub(crate) fn run(&self, program: &str, args: &[String]) -> std::process::Output {
        let root = self.root.path().to_str().unwrap();
        let mut all = words(&[
            "--signal=KILL",
            &self.limit.as_secs().to_string(),
            "bwrap",
            "--unshare-all",
            "--die-with-parent",
            "--ro-bind",
            root,
            "/",
        ]);
        all.extend(words(&["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--clearenv"]));
        all.extend(words(&["--setenv", "PATH", &self.root.inside("/usr/bin")]));
        all.extend(words(&["--setenv", "LC_ALL", "C", "--setenv", "HOME", "/tmp"]));
        if let Some(emulator) = self.machine.emulator {
            all.extend(words(&["--ro-bind", "/", "/emulator"]));
            all.extend(words(&["--"]));
            all.extend(emulate(emulator));
        }
        all.push(self.root.inside(program));
        all.extend(args.iter().cloned());
        output_of("timeout", all)
    }
}

/// The emulator with this machine's libraries, which are not where programs look for theirs.
fn emulate(name: &str) -> Vec<String> {
    let path = Path::new("/usr/bin").join(name);
    let bytes = fs_err::read(&path).unwrap_or_else(|error| panic!("install qemu-user: {error}"));
    let image = elf::read(&bytes).unwrap();
    let inside = |path: &Path| format!("/emulator{}", path.display());
    let Some(loader) = image.interpreter else { return vec![inside(&path)] };
    let loader = fs_err::canonicalize(Path::new(std::str::from_utf8(&loader).unwrap())).unwrap();
    let libraries = inside(loader.parent().unwrap());
    vec![inside(&loader), "--library-path".to_owned(), libraries, inside(&path)]
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}
