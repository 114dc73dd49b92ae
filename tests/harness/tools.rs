//! External programs that tests run, found where fprefix itself finds them.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use fprefix::base::command::{SYSTEM_PATH, find_program};

use super::wait::wait_for;

/// The path of a program of the machine. A user's search path need not have the sbin directories.
///
/// # Panics
/// When the machine lacks it.
#[track_caller]
pub(crate) fn find(program: impl AsRef<OsStr>) -> PathBuf {
    let program = program.as_ref();
    if program.as_encoded_bytes().contains(&b'/') {
        return program.into();
    }
    let name = program.to_str().unwrap();
    find_program(name, &search_path()).unwrap_or_else(|| {
        panic!("{name} is not installed; `fprefix doctor --install --for test` installs it")
    })
}

/// The path of a program on a system without changes to its search path: never a stand-in of a test.
#[track_caller]
pub(crate) fn find_in_system(name: &str) -> PathBuf {
    find_program(name, OsStr::new(SYSTEM_PATH)).unwrap_or_else(|| find(name))
}

/// The caller's search path, and after it the directories of the system.
pub(crate) fn search_path() -> OsString {
    search_path_after(&[])
}

/// The same after the directories `first`.
pub(crate) fn search_path_after(first: &[&Path]) -> OsString {
    let mut path = std::env::join_paths(first).unwrap();
    for next in [std::env::var_os("PATH").unwrap_or_default(), SYSTEM_PATH.into()] {
        if !path.is_empty() && !next.is_empty() {
            path.push(":");
        }
        path.push(next);
    }
    path
}

/// A command that runs a program of the machine, whose messages are the same everywhere.
#[track_caller]
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(find(program));
    command.env("PATH", search_path()).env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
    command.env_remove("LD_LIBRARY_PATH").stdin(Stdio::null());
    command
}

/// Runs a program to its end and returns what it printed and its status, whatever that is.
#[track_caller]
pub(crate) fn output_of<I, S>(program: impl AsRef<OsStr>, args: I) -> Output
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let mut command = command(program);
    command.args(args);
    let mut output = None;
    wait_for("a program that is not open for writing", || match command.output() {
        Ok(ended) => {
            output = Some(ended);
            true
        }
        // Another thread of the tests forked while the program was open for writing.
        Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => false,
        Err(error) => panic!("{command:?} did not start: {error}"),
    });
    output.unwrap()
}

/// Runs `command` to its end, which has to come; its output is kept in `dir`.
#[track_caller]
pub(crate) fn finish(about: &str, mut command: Command, dir: &Path) -> Output {
    let [stdout, stderr] = ["stdout", "stderr"].map(|name| dir.join(name));
    let file = |path: &Path| fs_err::File::create(path).unwrap().into_file();
    command.stdin(Stdio::null()).stdout(file(&stdout)).stderr(file(&stderr));
    let mut child = command.spawn().unwrap();
    let mut status = None;
    wait_for(about, || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    let read = |path: &Path| fs_err::read(path).unwrap();
    Output { status: status.unwrap(), stdout: read(&stdout), stderr: read(&stderr) }
}

/// Runs a program that has to succeed and returns what it printed.
#[track_caller]
pub(crate) fn success_of<I, S>(program: impl AsRef<OsStr>, args: I) -> Output
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let program = program.as_ref();
    let args: Vec<_> = args.into_iter().map(|arg| arg.as_ref().to_os_string()).collect();
    let output = output_of(program, &args);
    assert!(
        output.status.success(),
        "{} {args:?}: {}\n{}",
        program.display(),
        output.status,
        both_streams(&output)
    );
    output
}

/// Runs a program that has to succeed and returns the text that it printed to stdout.
#[track_caller]
pub(crate) fn stdout_of<I, S>(program: impl AsRef<OsStr>, args: I) -> String
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    String::from_utf8(success_of(program, args).stdout).unwrap()
}

/// Returns the text that a command printed to stdout; it has to have succeeded.
#[track_caller]
pub(crate) fn stdout_of_success(output: Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    let answer = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}: {error}{answer}", output.status);
    answer
}

/// Runs a program as root of a namespace: unsquashfs gives files all of their modes for root alone.
#[track_caller]
pub(crate) fn stdout_as_root_of(program: &str, args: &[&str]) -> String {
    let words = ["--unshare-user", "--uid", "0", "--gid", "0", "--dev-bind", "/", "/", program];
    stdout_of("bwrap", [&words, args].concat())
}

/// Returns the text that a program printed to both streams.
pub(crate) fn both_streams(output: &Output) -> String {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    text
}

/// Writes a file that can be run.
pub(crate) fn write_program(path: &Path, bytes: impl AsRef<[u8]>) {
    use std::os::unix::fs::PermissionsExt;
    fs_err::create_dir_all(path.parent().unwrap()).unwrap();
    fs_err::write(path, bytes).unwrap();
    fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}
