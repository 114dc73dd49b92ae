//! System calls, as strace(1) prints them.
//!
//! strace prints all names in hexadecimal (`-xx`), so nothing in a name looks like a part of the
//! line: no quote, no comma, no newline and no bracket.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// Options of strace for what this module reads. Descriptors have the paths of their files, and
/// processes the numbers that the lines begin with. A call that not every machine has begins with a
/// question mark.
pub(super) const OPTIONS: &[&str] = &[
    "--follow-forks",
    "--decode-fds=path",
    "--decode-pids=pidns",
    "--string-limit=4096",
    "-xx",
    "--quiet=attach,personality",
    "--trace=%file,fchdir,mmap,?mmap2,clone,?clone3,?fork,?vfork,dup,?dup2,dup3,fcntl,?fcntl64,\
     memfd_create,open_by_handle_at,?open_tree,io_uring_setup",
    // What a ring opens is no system call. Programs do without where the kernel has none.
    "--inject=io_uring_setup:error=ENOSYS",
];

/// Something that a trace tells of a process.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A call that has returned.
    Call(Call),
    /// The process has ended.
    Ended(Ending),
    /// A thread has executed a program. It has the number of its process from then on.
    Superseded {
        /// Number of the thread until then.
        thread: u32,
    },
    /// A line that is not understood.
    Unknown,
}

/// A process's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// It has exited with this status.
    Exited(i32),
    /// This signal has killed it.
    Killed(String),
}

/// A system call that has returned.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Call {
    /// Name of the call.
    pub name: String,
    /// Arguments in their order.
    pub arguments: Vec<Argument>,
    /// Result of the call.
    pub outcome: Outcome,
}

/// An argument of a call.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Argument {
    /// A string.
    Text(Vec<u8>),
    /// A string that is longer than strace prints.
    LongText,
    /// The directory in which names begin that are relative: `AT_FDCWD`.
    WorkingDirectory(OpenFile),
    /// An open file.
    Descriptor(i64, OpenFile),
    /// A list of strings, without those that strace does not print.
    List(Vec<Vec<u8>>),
    /// Anything else, as strace prints it.
    Other(String),
}

/// File of a descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OpenFile {
    /// Path of the file; for a socket or a pipe, a name that does not begin with a slash.
    pub path: PathBuf,
    /// True if no directory has the file.
    pub deleted: bool,
}

/// Result of a call.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Returned number. `None` if the call did not return.
    pub value: Option<i64>,
    /// File of the returned descriptor.
    pub file: Option<OpenFile>,
    /// Name of the error.
    pub error: Option<String>,
}

impl Call {
    /// Returns whether the call did what it is for.
    pub(super) fn succeeded(&self) -> bool {
        self.outcome.value.is_some() && self.outcome.error.is_none()
    }

    /// Returns whether one of the arguments has this flag.
    pub(super) fn has_flag(&self, flag: &str) -> bool {
        self.arguments.iter().any(|argument| match argument {
            Argument::Other(text) => text
                .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .any(|word| word == flag),
            _ => false,
        })
    }
}

/// Returns the events of a trace with their processes, in the order in which calls return.
pub(super) fn events(trace: &str) -> impl Iterator<Item = (u32, Event)> {
    let mut begun: HashMap<u32, &str> = HashMap::new();
    trace.lines().filter_map(move |line| {
        let Some((process, line)) = split_process(line) else { return Some((0, Event::Unknown)) };
        whole_line(process, line, &mut begun).map(|line| (process, parse_event(&line)))
    })
}

fn split_process(line: &str) -> Option<(u32, &str)> {
    let (process, line) = line.split_once(' ')?;
    Some((process.parse().ok()?, line.trim_start()))
}

/// Joins a call that strace splits because another process makes one meanwhile. Returns `None` for
/// its beginning, and for what tells nothing.
fn whole_line<'t>(
    process: u32,
    line: &'t str,
    begun: &mut HashMap<u32, &'t str>,
) -> Option<Cow<'t, str>> {
    if line.starts_with("---") {
        return None;
    }
    if let Some(start) = line.strip_suffix("<unfinished ...>") {
        begun.insert(process, start);
        return None;
    }
    // A thread that executes a program becomes its process.
    if let Some((start, changed)) = line.split_once("<pid changed to ") {
        begun.insert(changed.strip_suffix(" ...>")?.parse().ok()?, start);
        return None;
    }
    let Some((_, end)) = line.strip_prefix("<... ").and_then(|line| line.split_once(" resumed>"))
    else {
        return Some(Cow::Borrowed(line));
    };
    Some(
        begun
            .remove(&process)
            .map_or(Cow::Borrowed(line), |start| Cow::Owned(start.to_owned() + end)),
    )
}

fn parse_event(line: &str) -> Event {
    let known = match line.strip_prefix("+++ ").and_then(|line| line.strip_suffix(" +++")) {
        Some(end) => parse_end(end),
        None => parse_call(line).map(Event::Call),
    };
    known.unwrap_or(Event::Unknown)
}

fn parse_end(text: &str) -> Option<Event> {
    if let Some(status) = text.strip_prefix("exited with ") {
        return Some(Event::Ended(Ending::Exited(status.parse().ok()?)));
    }
    if let Some(signal) = text.strip_prefix("killed by ") {
        let signal = signal.split(' ').next().unwrap_or_default();
        return Some(Event::Ended(Ending::Killed(signal.to_owned())));
    }
    let thread = text.strip_prefix("superseded by execve in pid ")?.parse().ok()?;
    Some(Event::Superseded { thread })
}

fn parse_call(line: &str) -> Option<Call> {
    let (name, rest) = line.split_once('(')?;
    let (arguments, outcome) = rest.rsplit_once(" = ")?;
    let arguments = arguments.trim_end().strip_suffix(')')?;
    Some(Call {
        name: name.to_owned(),
        arguments: split_arguments(arguments)
            .into_iter()
            .map(parse_argument)
            .collect::<Option<_>>()?,
        outcome: parse_outcome(outcome)?,
    })
}

/// Splits arguments at the commas that are in no bracket.
fn split_arguments(text: &str) -> Vec<&str> {
    let (mut depth, mut start) = (0_usize, 0);
    let mut arguments = Vec::new();
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                arguments.extend(text.get(start..at));
                start = at + 1;
            }
            _ => {}
        }
    }
    arguments.extend(text.get(start..));
    arguments.into_iter().map(str::trim).collect()
}

fn parse_argument(text: &str) -> Option<Argument> {
    if let Some(quoted) = text.strip_prefix('"') {
        return match quoted.strip_suffix('"') {
            Some(name) => Some(Argument::Text(decode(name)?)),
            None => quoted.ends_with("\"...").then_some(Argument::LongText),
        };
    }
    if let Some(list) = text.strip_prefix("[\"").and_then(|list| list.strip_suffix(']')) {
        let words = list.split(", ").map(|word| word.trim_end_matches('.').trim_matches('"'));
        return Some(Argument::List(words.map(decode).collect::<Option<_>>()?));
    }
    let Some((number, file)) = text.split_once('<') else {
        return Some(Argument::Other(text.to_owned()));
    };
    if number == "AT_FDCWD" {
        return Some(Argument::WorkingDirectory(parse_file(file)?));
    }
    match number.parse() {
        Ok(number) => Some(Argument::Descriptor(number, parse_file(file)?)),
        Err(_) => Some(Argument::Other(text.to_owned())),
    }
}

/// Parses the path of a descriptor, which follows its number and `<`.
fn parse_file(text: &str) -> Option<OpenFile> {
    let (path, rest) = text.split_once('>')?;
    let path = PathBuf::from(OsString::from_vec(decode(path)?));
    Some(OpenFile { path, deleted: rest.starts_with("(deleted)") })
}

fn parse_outcome(text: &str) -> Option<Outcome> {
    let (value, rest) = text.split_once(' ').unwrap_or((text, ""));
    if value == "?" {
        return Some(Outcome::default());
    }
    if let Some((number, file)) = value.split_once('<') {
        let file = Some(parse_file(file)?);
        return Some(Outcome { value: Some(number.parse().ok()?), file, error: None });
    }
    let number = match value.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok()?.cast_signed(),
        None => value.parse().ok()?,
    };
    let error = (number == -1).then(|| rest.split(' ').next().unwrap_or_default().to_owned());
    // A process of another namespace: its number there, then the one that its lines begin with.
    let outer = rest.strip_prefix("/* ").and_then(|rest| rest.split(' ').next()?.parse().ok());
    Some(Outcome { value: Some(outer.unwrap_or(number)), file: None, error })
}

/// Returns the bytes of a name. strace escapes all of them, or none.
fn decode(name: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(name.len() / 4);
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        if first != '\\' {
            bytes.extend(first.encode_utf8(&mut [0; 4]).as_bytes());
            rest = rest.get(first.len_utf8()..)?;
            continue;
        }
        let digits = rest.strip_prefix("\\x")?.get(..2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = rest.get(4..)?;
    }
    Some(bytes)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Returns `trace` with its names in hexadecimal, as `-xx` prints them. In `trace` they are in
    /// quotes or in pointed brackets.
    pub(in crate::check::prove) fn in_hexadecimal(trace: &str) -> String {
        let names = regex::Regex::new(r#""([^"]*)"|(\d|AT_FDCWD)<(/[^>]*)>"#).unwrap();
        let hex =
            |text: &str| text.bytes().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
        names
            .replace_all(trace, |found: &regex::Captures<'_>| match found.get(1) {
                Some(text) => format!("\"{}\"", hex(text.as_str())),
                None => format!("{}<{}>", &found[2], hex(&found[3])),
            })
            .into_owned()
    }

    fn file(path: &str, deleted: bool) -> OpenFile {
        OpenFile { path: path.into(), deleted }
    }

    #[test]
    fn parses_calls() {
        let trace = in_hexadecimal(
            "7 openat(AT_FDCWD</a <b>, \"c\", O_RDONLY|O_CLOEXEC) = 3</opt/x>(deleted)\n",
        );
        let trace = trace.replace("\\x62", "\\x22\\x0a\\x3e\\x2c\\xff");
        let (process, event) = events(&trace).next().unwrap();
        let Event::Call(call) = event else { panic!("{event:?}") };
        assert_eq!((process, call.name.as_str()), (7, "openat"));
        assert!(call.succeeded() && call.has_flag("O_CLOEXEC") && !call.has_flag("O_RD"));
        let name = OsString::from_vec(b"/a <\"\n>,\xff".to_vec());
        let dir = OpenFile { path: name.into(), deleted: false };
        assert_eq!(call.arguments[0], Argument::WorkingDirectory(dir));
        assert_eq!(call.arguments[1], Argument::Text(b"c".to_vec()));
        assert_eq!(call.outcome.file, Some(file("/opt/x", true)));
    }

    #[test]
    fn parses_outcomes() {
        let outcome = |value, error: Option<&str>| Outcome {
            value,
            file: None,
            error: error.map(str::to_owned),
        };
        for (text, expected) in [
            ("0", outcome(Some(0), None)),
            ("?", outcome(None, None)),
            ("? ERESTARTNOINTR (To be restarted)", outcome(None, None)),
            ("0x10", outcome(Some(16), None)),
            ("-1 ENOENT (No such file or directory)", outcome(Some(-1), Some("ENOENT"))),
            ("-1 ENOSYS (Function not implemented) (INJECTED)", outcome(Some(-1), Some("ENOSYS"))),
            ("8 /* 10245 in strace's PID NS */", outcome(Some(10245), None)),
        ] {
            assert_eq!(parse_outcome(text), Some(expected), "{text}");
        }
        for bad in ["", "x", "3<\\x2", "0xg"] {
            assert_eq!(parse_outcome(bad), None, "{bad}");
        }
    }

    #[test]
    fn joins_what_processes_do_side_by_side() {
        let trace = in_hexadecimal(
            "7 execve(\"/a\", [\"a\"], 0x7 /* 1 var */ <unfinished ...>\n\
             8 openat(AT_FDCWD</>, \"/b\", O_RDONLY <unfinished ...>\n\
             7 <... execve resumed>)                 = 0\n\
             8 --- SIGCHLD {si_signo=SIGCHLD} ---\n\
             8 <... openat resumed>)                 = 3</b>\n\
             9 execve(\"/c\", [\"c\"], 0x7 /* 1 var */ <pid changed to 8 ...>\n\
             8 +++ superseded by execve in pid 9 +++\n\
             8 <... execve resumed>)                 = 0\n\
             8 exit_group(0)                     = ?\n\
             8 +++ killed by SIGSEGV (core dumped) +++\n\
             7 +++ exited with 3 +++\n",
        );
        let shown: Vec<String> = events(&trace)
            .map(|(process, event)| match event {
                Event::Call(call) => format!("{process} {} {:?}", call.name, call.outcome.value),
                other => format!("{process} {other:?}"),
            })
            .collect();
        assert_eq!(
            shown,
            [
                "7 execve Some(0)",
                "8 openat Some(3)",
                "8 Superseded { thread: 9 }",
                "8 execve Some(0)",
                "8 exit_group None",
                "8 Ended(Killed(\"SIGSEGV\"))",
                "7 Ended(Exited(3))",
            ]
        );
    }

    #[test]
    fn what_is_no_call_is_unknown() {
        for line in
            ["", "x", "7", "7 open(", "7 open() = ", "7 open(\"\\q\") = 0", "7 +++ gone +++"]
        {
            assert_eq!(
                events(line).next().map(|(_, event)| event),
                match line {
                    "" => None,
                    _ => Some(Event::Unknown),
                },
                "{line}"
            );
        }
        let long = "7 stat(\"\\x2f\\x61\"..., 0x7) = -1 ENAMETOOLONG (File name too long)";
        let Some((7, Event::Call(call))) = events(long).next() else { panic!("{long}") };
        assert_eq!(call.arguments[0], Argument::LongText);
    }
}
