//! Running the tools of the machine.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use assert_cmd::Command;

/// Where a tool comes from on Debian, for the message of a test that misses it.
const PACKAGES: [(&str, &str); 18] = [
    ("apt-get", "apt"),
    ("dpkg-deb", "dpkg"),
    ("gcc", "gcc"),
    ("g++", "g++"),
    ("clang", "clang"),
    ("ld.gold", "binutils"),
    ("ld.lld", "lld"),
    ("mold", "mold"),
    ("strip", "binutils"),
    ("llvm-strip", "llvm"),
    ("eu-elflint", "elfutils"),
    ("readelf", "binutils"),
    ("go", "golang-go"),
    ("bwrap", "bubblewrap"),
    ("strace", "strace"),
    ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"),
    ("i686-linux-gnu-gcc", "gcc-i686-linux-gnu"),
    ("s390x-linux-gnu-gcc", "gcc-s390x-linux-gnu"),
];

/// Run a tool to its end, whatever its status.
#[track_caller]
pub(crate) fn run<I, S>(program: impl AsRef<OsStr>, args: I) -> Output
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    run_within(Duration::from_secs(120), program, args)
}

/// The same for one that may take longer, or must not.
#[track_caller]
pub(crate) fn run_within<I, S>(limit: Duration, program: impl AsRef<OsStr>, args: I) -> Output
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let program = program.as_ref();
    let args: Vec<_> = args.into_iter().map(|arg| arg.as_ref().to_os_string()).collect();
    for _ in 0..200 {
        let mut command = Command::new(program);
        command.args(&args).env("LC_ALL", "C").env_remove("LD_LIBRARY_PATH");
        command.timeout(limit);
        match command.output() {
            Ok(output) => return output,
            // Another thread of the tests forked while the program was open for writing.
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(error) => {
                let name = program.to_string_lossy();
                let package = PACKAGES.iter().find(|(tool, _)| *tool == name);
                let package = package.map_or("?", |(_, package)| package);
                panic!("cannot run {name}: {error}; on Debian: apt-get install {package}");
            }
        }
    }
    panic!("{} stays busy", program.to_string_lossy());
}

/// Run a tool that has to succeed.
#[track_caller]
pub(crate) fn must<I, S>(program: impl AsRef<OsStr>, args: I) -> Output
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    must_within(Duration::from_secs(120), program, args)
}

/// The same for one that may take longer.
#[track_caller]
pub(crate) fn must_within<I, S>(limit: Duration, program: impl AsRef<OsStr>, args: I) -> Output
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let args: Vec<_> = args.into_iter().map(|arg| arg.as_ref().to_os_string()).collect();
    let output = run_within(limit, &program, &args);
    assert!(
        output.status.success(),
        "{} {args:?}: {}\n{}",
        program.as_ref().to_string_lossy(),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// What a program says on both streams.
pub(crate) fn said(output: &Output) -> String {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    text
}

/// Write a program file.
pub(crate) fn write_program(path: &Path, bytes: &[u8]) {
    use std::os::unix::fs::PermissionsExt as _;
    fs_err::write(path, bytes).unwrap();
    fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}
