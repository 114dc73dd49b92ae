//! Scripts: the interpreter in the first line, and in a command that hands the script over.
//!
//! Rewriting and `check` judge a script by the same function, so whatever rewriting leaves is a
//! finding.

use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::base::escape::Escape;
use crate::base::level::Level;
use crate::relocate::env_command::{self, EnvCommand};
use crate::relocate::exec_line::ExecLine;
use crate::relocate::interpreter::{PrefixPrograms, ProgramPlace, describe_outside};
use crate::relocate::shebang::{self, LONGEST, Shebang};
use crate::relocate::{FileAction, FileOutcome};

/// Number of bytes of a script that are judged: its first line and its first command.
pub(crate) const START: usize = 4096;

/// Judgement of the first lines of a script.
#[derive(Debug, Default)]
pub(crate) struct Judgement {
    /// Problems, as findings word them.
    pub problems: Vec<(Level, String)>,
    edits: Vec<LineEdit>,
    /// End of the last line with an edit.
    end: usize,
    descriptions: Vec<String>,
    /// Reason why a line that should change stays.
    obstacle: Option<String>,
}

/// Place in the file, and the bytes that take it.
type LineEdit = (Range<usize>, Vec<u8>);

/// Judgement of one line.
enum Verdict {
    Right,
    /// Programs of the prefix take the place of others.
    Replace {
        problem: String,
        edits: Vec<LineEdit>,
        program: PathBuf,
    },
    Wrong(String),
}

/// Judges the script that begins with `start`.
pub(crate) fn judge(start: &[u8], programs: PrefixPrograms<'_>) -> Judgement {
    let mut judgement = Judgement::default();
    let shebang = match Shebang::parse(start) {
        Ok(Some(shebang)) => shebang,
        Ok(None) => return judgement,
        Err(error) => {
            judgement.problems.push((Level::Error, error.to_string()));
            return judgement;
        }
    };
    let line = FirstLine { shebang: &shebang, programs };
    let verdict = line.judge();
    judgement.add_first(&shebang, verdict);
    if line.is_for_shell()
        && let Some(exec) = ExecLine::parse(start, shebang.length + 1)
    {
        judgement.add_second(&exec, judge_exec(&exec, programs));
    }
    judgement
}

impl Judgement {
    fn add_first(&mut self, shebang: &Shebang<'_>, verdict: Verdict) {
        // Every target has /bin/sh.
        let is_usual = shebang.interpreter == Path::new("/bin/sh") && !shebang.is_cut;
        let level = if is_usual { Level::Note } else { Level::Error };
        let note = |problem: String| match level {
            Level::Note => "is run by /bin/sh of the target".to_owned(),
            _ => problem,
        };
        match verdict {
            Verdict::Right => {}
            Verdict::Wrong(problem) => self.problems.push((level, note(problem))),
            Verdict::Replace { problem, edits, program } => {
                self.problems.push((level, note(problem)));
                let removed: usize = edits.iter().map(|(range, _)| range.len()).sum();
                let added: usize = edits.iter().map(|(_, new)| new.len()).sum();
                let length = shebang.length - removed + added;
                if length > LONGEST {
                    self.obstacle = Some(format!(
                        "its first line would have {length} characters, of which the kernel reads {LONGEST}"
                    ));
                } else {
                    self.add_edits(edits, shebang.length, &program);
                }
            }
        }
    }

    fn add_second(&mut self, exec: &ExecLine, verdict: Verdict) {
        match verdict {
            Verdict::Right => {}
            Verdict::Wrong(problem) => self.problems.push((Level::Error, problem)),
            Verdict::Replace { problem, edits, program } => {
                self.problems.push((Level::Error, problem));
                self.add_edits(edits, exec.end, &program);
            }
        }
    }

    fn add_edits(&mut self, edits: Vec<LineEdit>, end: usize, program: &Path) {
        self.edits.extend(edits);
        self.end = end;
        self.descriptions.push(format!("run by {}", program.escaped()));
    }

    /// Returns the change to the script that begins with `start`. Nothing moves if `is_fixed`.
    pub(super) fn plan(self, start: &[u8], is_fixed: impl FnOnce() -> bool) -> FileOutcome {
        let Some(old) = start.get(..self.end).filter(|_| !self.edits.is_empty()) else {
            return self.obstacle.map_or(FileOutcome::Nothing, FileOutcome::Skipped);
        };
        let mut new = Vec::new();
        let mut done = 0;
        for (range, bytes) in &self.edits {
            new.extend_from_slice(old.get(done..range.start).unwrap_or_default());
            new.extend_from_slice(bytes);
            done = range.end;
        }
        new.extend_from_slice(old.get(done..).unwrap_or_default());
        if new.len() != old.len() && is_fixed() {
            // The kernel does not count blanks at the end of its line.
            while new.len() > old.len() && new.last().is_some_and(|byte| b" \t".contains(byte)) {
                new.pop();
            }
            if new.len() > old.len() || new.contains(&b'\n') {
                return FileOutcome::Skipped(MOVED.to_owned());
            }
            new.resize(old.len(), b' ');
        }
        FileOutcome::Changed(FileAction::FirstLine { old: old.len(), new }, self.descriptions)
    }
}

const MOVED: &str =
    "it finds data in itself by their place, and a first line of another length would move them";

/// Returns whether a script finds what it unpacks or runs by its offset: data follow its text, or a
/// command reads the script from a byte on.
pub(super) fn has_offsets(bytes: &[u8]) -> bool {
    let has = |line: &[u8], words: &[&str]| {
        words.iter().any(|word| memchr::memmem::find(line, word.as_bytes()).is_some())
    };
    memchr::memchr(0, bytes).is_some()
        || bytes.split(|byte| *byte == b'\n').any(|line| {
            has(line, &["$0", "${0}", "BASH_SOURCE"])
                && has(line, &["tail -c", "tail --bytes", "head -c", "head --bytes", "skip="])
        })
}

/// First line of a script, with the programs that can run it.
struct FirstLine<'a> {
    shebang: &'a Shebang<'a>,
    programs: PrefixPrograms<'a>,
}

impl FirstLine<'_> {
    fn judge(&self) -> Verdict {
        let shebang = self.shebang;
        if shebang.is_cut {
            return Verdict::Wrong(shebang::describe_too_long(shebang.length));
        }
        let is_env = self.programs.is_env(shebang.interpreter);
        let argument = shebang.argument.unwrap_or_default();
        let interpreter = shebang.interpreter.as_os_str().as_bytes();
        // env -S takes a carriage return for a blank.
        let is_split = is_env && argument.starts_with(b"-");
        if interpreter.ends_with(b"\r") || argument.ends_with(b"\r") && !is_split {
            let seen = if argument.is_empty() { interpreter } else { argument };
            return Verdict::Wrong(format!(
                "has a first line that ends with CR LF: the kernel reads \"{}\"",
                seen.escaped()
            ));
        }
        let place = self.programs.place(shebang.interpreter);
        if is_env {
            return self.judge_env(place, argument);
        }
        match place {
            ProgramPlace::Inside => Verdict::Right,
            ProgramPlace::Counterpart(program) => Verdict::Replace {
                problem: describe_outside(shebang.interpreter),
                edits: vec![(shebang.place.clone(), bytes(&program))],
                program,
            },
            ProgramPlace::Nowhere(problem) => Verdict::Wrong(problem),
        }
    }

    /// Judges a line by which env(1), at `env`, starts the interpreter.
    fn judge_env(&self, env: ProgramPlace, argument: &[u8]) -> Verdict {
        let shown = self.shebang.interpreter.escaped();
        let command = match env_command::parse(argument) {
            Ok(command) => command,
            Err(reason) => {
                return Verdict::Wrong(format!("is run by {shown}, which fails: {reason}"));
            }
        };
        let name = Path::new(OsStr::from_bytes(&command.program.value));
        let (program, is_searched) = match self.place_of(&command, name) {
            Ok(found) => found,
            Err(problem) => return Verdict::Wrong(problem),
        };
        let problem = match env {
            ProgramPlace::Inside if is_searched => {
                format!(
                    "is run by {}, which env looks for in the PATH of its caller",
                    name.escaped()
                )
            }
            ProgramPlace::Inside => describe_outside(name),
            _ => describe_outside(self.shebang.interpreter),
        };
        let path = program.clone().unwrap_or_else(|| name.to_owned());
        let edits = match (env, program) {
            (ProgramPlace::Inside, None) => return Verdict::Right,
            _ if !is_plain_path(&path) && path.is_absolute() => return Verdict::Wrong(problem),
            (env, program) => match self.direct(&command, &path) {
                Some(edit) => vec![edit],
                None => match self.through_env(env, &command, program) {
                    Ok(edits) => edits,
                    Err(problem) => return Verdict::Wrong(problem),
                },
            },
        };
        Verdict::Replace { problem, edits, program: path }
    }

    /// Returns the path that takes the place of the program in the command, or `None` if it stays;
    /// true with it if env searches for the program.
    fn place_of(
        &self,
        command: &EnvCommand,
        name: &Path,
    ) -> Result<(Option<PathBuf>, bool), String> {
        let shown = name.escaped();
        if command.program.value.contains(&b'/') {
            return match self.programs.place(name) {
                ProgramPlace::Inside => Ok((None, false)),
                ProgramPlace::Counterpart(found) => Ok((Some(found), false)),
                ProgramPlace::Nowhere(problem) => Err(problem),
            };
        }
        if let Some(path) = &command.path {
            return if self.programs.is_found_in(path, name.as_os_str()) {
                Ok((None, false))
            } else {
                Err(format!("is run by {shown}, which env looks for in {}", path.escaped()))
            };
        }
        match self.programs.find_name(name.as_os_str()) {
            Some(found) => Ok((Some(found), true)),
            None if command.program.value.contains(&b' ') => Err(format!(
                "is run by \"{shown}\", one name: without -S, env takes all that follows for it"
            )),
            None => Err(format!("is run by {shown}, which is not in the prefix")),
        }
    }

    /// Returns the edit to a line that names the program itself, if the kernel can hand over what
    /// env does: at most one argument.
    fn direct(&self, command: &EnvCommand, program: &Path) -> Option<LineEdit> {
        if !command.is_plain || command.path.is_some() || !program.is_absolute() {
            return None;
        }
        let mut new = bytes(program);
        match command.words.as_slice() {
            [] => {}
            [word] if word.known.is_none() && is_one_argument(&word.value) => {
                new.push(b' ');
                new.extend_from_slice(&word.value);
            }
            _ => return None,
        }
        Some((self.shebang.place.start..self.shebang.argument_place.end, new))
    }

    /// Returns the edits to a line that keeps env, with all that it does besides.
    fn through_env(
        &self,
        env: ProgramPlace,
        command: &EnvCommand,
        program: Option<PathBuf>,
    ) -> Result<Vec<LineEdit>, String> {
        let mut edits = Vec::new();
        match env {
            ProgramPlace::Inside => {}
            ProgramPlace::Counterpart(env) => edits.push((self.shebang.place.clone(), bytes(&env))),
            ProgramPlace::Nowhere(problem) => return Err(problem),
        }
        if let Some(program) = program {
            let begin = self.shebang.argument_place.start;
            let place = &command.program.place;
            edits.push((begin + place.start..begin + place.end, bytes(&program)));
        }
        Ok(edits)
    }

    /// Returns whether a shell reads the script.
    fn is_for_shell(&self) -> bool {
        let mut name = self.shebang.interpreter.as_os_str().as_bytes().to_vec();
        if self.programs.is_env(self.shebang.interpreter) {
            let command = env_command::parse(self.shebang.argument.unwrap_or_default());
            name = command.map(|command| command.program.value).unwrap_or_default();
        }
        let name = name.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        [b"sh".as_slice(), b"bash", b"dash", b"ksh", b"zsh", b"ash", b"mksh"].contains(&name)
    }
}

fn judge_exec(exec: &ExecLine, programs: PrefixPrograms<'_>) -> Verdict {
    let program = exec.program();
    let shown = program.escaped();
    if !program.is_absolute() {
        // A command of a shell script finds its programs as all its commands do.
        if !exec.hands_over || exec.program.contains(&b'/') {
            return Verdict::Right;
        }
        return match programs.find_name(program.as_os_str()) {
            Some(found) => Verdict::Replace {
                problem: format!("is run by {shown}, which sh looks for in the PATH of its caller"),
                edits: vec![(exec.place.clone(), bytes(&found))],
                program: found,
            },
            None => Verdict::Wrong(format!("is run by {shown}, which is not in the prefix")),
        };
    }
    match programs.place(program) {
        ProgramPlace::Inside if !programs.is_env(program) => Verdict::Right,
        ProgramPlace::Inside => Verdict::Wrong(format!(
            "is run by {shown}, which looks for a program in the PATH of its caller"
        )),
        ProgramPlace::Counterpart(found)
            if exec.hands_over && is_plain_path(&found) && !programs.is_env(program) =>
        {
            Verdict::Replace {
                problem: describe_outside(program),
                edits: vec![(exec.place.clone(), bytes(&found))],
                program: found,
            }
        }
        ProgramPlace::Counterpart(_) => Verdict::Wrong(describe_outside(program)),
        ProgramPlace::Nowhere(problem) => Verdict::Wrong(problem),
    }
}

/// Returns whether the kernel hands `value` over as it is.
fn is_one_argument(value: &[u8]) -> bool {
    let is_blank = |byte: Option<&u8>| byte.is_none_or(|byte| b" \t".contains(byte));
    !is_blank(value.first()) && !is_blank(value.last()) && !value.contains(&b'\n')
}

/// Returns whether the path means itself to the kernel, to env and to a shell.
fn is_plain_path(path: &Path) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._+-@%,:".contains(byte);
    path.as_os_str().as_bytes().iter().all(is_plain)
}

fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}
