//! The one door to external programs.
//!
//! A command is built with an environment of its own, prints as text that can be pasted into a
//! shell, and each way to run it says what happens to its streams. Errors carry the purpose, the
//! command, its status and the end of what it wrote to stderr.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use anyhow::{Context, Result, anyhow, bail};

/// Variables that pass from the caller to every child: how to reach the network, and the
/// terminal's nature. Everything else is set on purpose.
const PASSED_ON: &[&str] = &[
    "HOME",
    "USER",
    "LOGNAME",
    "TERM",
    "COLUMNS",
    "LINES",
    "NO_COLOR",
    "NOCOLOR",
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "no_proxy",
    "all_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "SOURCE_DATE_EPOCH",
];

/// The directories of the machine that a build may find tools in: those of its own packages.
pub(crate) const MACHINE_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// The search path of children that bring none of their own.
pub const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An external program, why it is run, and everything it gets.
#[derive(Clone, Debug)]
pub struct Command {
    purpose: String,
    program: OsString,
    args: Vec<OsString>,
    env: BTreeMap<OsString, OsString>,
    dir: Option<PathBuf>,
    /// How many of the arguments messages leave out.
    unsaid: usize,
}

impl Command {
    /// A command to run `program`; `purpose` completes the sentence "could not ...".
    pub fn new(purpose: impl Into<String>, program: impl AsRef<OsStr>) -> Self {
        let mut env: BTreeMap<OsString, OsString> = PASSED_ON
            .iter()
            .filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?)))
            .collect();
        env.insert("PATH".into(), SYSTEM_PATH.into());
        env.insert("LC_ALL".into(), "C.UTF-8".into());
        Self {
            purpose: purpose.into(),
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            env,
            dir: None,
            unsaid: 0,
        }
    }

    /// Leaves the arguments that it has so far out of messages, which they would make unreadable.
    #[must_use]
    pub fn brief(mut self) -> Self {
        self.unsaid = self.args.len();
        self
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds several arguments.
    #[must_use]
    pub fn args<I, S>(mut self, args: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable of the child's environment.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.insert(name.as_ref().to_owned(), value.as_ref().to_owned());
        self
    }

    /// Passes a variable of our own environment on, where it is set.
    #[must_use]
    pub fn pass(self, name: &str) -> Self {
        match std::env::var_os(name) {
            Some(value) => self.env(name, value),
            None => self,
        }
    }

    /// The directory that the child starts in.
    #[must_use]
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// Runs with no input; returns stdout. stderr is kept for the error alone.
    pub fn read(&self) -> Result<String> {
        let output = self
            .expression()
            .stdin_null()
            .stdout_capture()
            .stderr_capture()
            .unchecked()
            .run()
            .map_err(|error| self.not_started(&error))?;
        self.judge(output.status, &output.stderr)?;
        String::from_utf8(output.stdout)
            .with_context(|| format!("`{self}` printed something that is not UTF-8"))
    }

    /// Runs with no input and returns both streams and the status, whatever it is.
    pub fn output(&self) -> Result<std::process::Output> {
        self.expression()
            .stdin_null()
            .stdout_capture()
            .stderr_capture()
            .unchecked()
            .run()
            .map_err(|error| self.not_started(&error))
    }

    /// Runs with no input; what it prints is dropped unless it fails.
    pub fn run_quiet(&self) -> Result<()> {
        let output = self
            .expression()
            .stdin_null()
            .stderr_to_stdout()
            .stdout_capture()
            .unchecked()
            .run()
            .map_err(|error| self.not_started(&error))?;
        self.judge(output.status, &output.stdout)
    }

    /// Runs with no input; both streams go to the file at `log`, whose path the error names.
    pub fn run_logged(&self, log: &Path) -> Result<()> {
        let file = fs_err::File::create(log)?;
        let copy = file.try_clone()?;
        let output = self
            .expression()
            .stdin_null()
            .stdout_file(file.into_file())
            .stderr_file(copy.into_file())
            .unchecked()
            .run()
            .map_err(|error| self.not_started(&error))?;
        if output.status.success() {
            return Ok(());
        }
        let written = fs_err::read(log)?;
        self.judge(output.status, &written)
            .with_context(|| format!("its whole output is in {}", log.display()))
    }

    /// Runs with what `feed` writes as its input; what it prints is dropped unless it fails.
    pub fn run_fed(&self, feed: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
        let (input, mut output) = std::io::pipe().context("could not make a pipe")?;
        let running = self
            .expression()
            .stdin_file(input)
            .stderr_to_stdout()
            .stdout_capture()
            .unchecked()
            .start()
            .map_err(|error| self.not_started(&error))?;
        let outcome = feed(&mut output);
        drop(output);
        let gone = |error: &anyhow::Error| {
            error
                .chain()
                .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
                .any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
        };
        if outcome.as_ref().is_err_and(|error| !gone(error)) {
            // It would take what it has for all there is.
            running.kill().with_context(|| format!("could not end `{self}`"))?;
            return outcome;
        }
        let ended = running.wait().with_context(|| format!("could not wait for `{self}`"))?;
        self.judge(ended.status, &ended.stdout)?;
        outcome
    }

    /// Runs with no input; `read` gets what it prints, as it comes. stderr is kept for the error
    /// alone.
    pub fn run_read<T>(&self, read: impl FnOnce(&mut dyn std::io::Read) -> Result<T>) -> Result<T> {
        let running = self
            .expression()
            .stdin_null()
            .stderr_capture()
            .unchecked()
            .reader()
            .map_err(|error| self.not_started(&error))?;
        let mut output = &running;
        let outcome = read(&mut output);
        // It ends when it has said all; nobody hears what it says after a failure.
        if outcome.is_ok() {
            std::io::copy(&mut output, &mut std::io::sink())
                .with_context(|| format!("could not read what `{self}` prints"))?;
        } else {
            let ended = running.try_wait().ok().flatten().map(|output| output.status);
            running.kill().with_context(|| format!("could not end `{self}`"))?;
            if ended.is_none() {
                return outcome;
            }
        }
        let Some(ended) = running.try_wait()? else {
            bail!("`{self}` closed its output and did not end");
        };
        self.judge(ended.status, &ended.stderr)?;
        outcome
    }

    /// Runs on our own stdin, stdout and stderr and returns the status, whatever it is.
    pub fn run_attached(&self) -> Result<ExitStatus> {
        let output =
            self.expression().unchecked().run().map_err(|error| self.not_started(&error))?;
        Ok(output.status)
    }

    /// Runs on our own stdin; `each` gets what the child prints (both streams), chunk by chunk.
    pub fn run_piped(&self, mut each: impl FnMut(&[u8])) -> Result<ExitStatus> {
        use std::io::Read;
        let mut reader = self
            .expression()
            .stderr_to_stdout()
            .unchecked()
            .reader()
            .map_err(|error| self.not_started(&error))?;
        let mut chunk = [0_u8; 8192];
        loop {
            let count = reader
                .read(&mut chunk)
                .with_context(|| format!("could not read what `{self}` prints"))?;
            if count == 0 {
                break;
            }
            each(chunk.get(..count).unwrap_or_default());
        }
        match reader.try_wait()? {
            Some(output) => Ok(output.status),
            None => bail!("`{self}` closed its output and did not end"),
        }
    }

    /// Starts it beside us. Its input ends when the attendant is dismissed or dropped, and when
    /// this process ends, however that comes; what it prints is dropped.
    pub fn attend(&self) -> Result<Attendant> {
        let (input, output) = std::io::pipe().context("could not make a pipe")?;
        let running = self
            .expression()
            .stdin_file(input)
            .stdout_null()
            .stderr_null()
            .unchecked()
            .start()
            .map_err(|error| self.not_started(&error))?;
        Ok(Attendant { running, output })
    }

    fn expression(&self) -> duct::Expression {
        #[expect(clippy::disallowed_methods, reason = "this is the door")]
        let mut expression = duct::cmd(&self.program, &self.args).full_env(&self.env);
        if let Some(dir) = &self.dir {
            expression = expression.dir(dir);
        }
        expression
    }

    fn not_started(&self, error: &std::io::Error) -> anyhow::Error {
        anyhow!("could not {}: `{self}` did not start: {error}", self.purpose)
    }

    fn judge(&self, status: ExitStatus, written: &[u8]) -> Result<()> {
        if status.success() {
            return Ok(());
        }
        let tail = tail(written);
        let said = if tail.is_empty() { String::new() } else { format!("\n{tail}") };
        bail!("could not {}: `{self}` {}{said}", self.purpose, describe(status))
    }
}

/// A program that runs beside us and waits for its input to end.
pub struct Attendant {
    running: duct::Handle,
    output: std::io::PipeWriter,
}

impl Attendant {
    /// Gives it its last words, and waits for it to end.
    pub fn dismiss(mut self, word: &str) {
        // It may have ended by itself.
        let _ = self.output.write_all(word.as_bytes());
        drop(self.output);
        let _ = self.running.wait();
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&quote(&self.program))?;
        if self.unsaid > 0 {
            f.write_str(" ...")?;
        }
        for arg in self.args.iter().skip(self.unsaid) {
            write!(f, " {}", quote(arg))?;
        }
        Ok(())
    }
}

/// `text` as one word of a POSIX shell.
pub(crate) fn quote(text: impl AsRef<OsStr>) -> String {
    let bytes = text.as_ref().as_bytes();
    match shlex::bytes::try_quote(bytes) {
        Ok(quoted) => String::from_utf8_lossy(&quoted).into_owned(),
        // A NUL byte can be in no argument; only a message can come here.
        Err(_) => text.as_ref().display().to_string(),
    }
}

/// How a process ended, in words.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with status {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended in an unknown way".to_owned(),
    }
}

/// The exit code that a shell would report for `status`.
pub(crate) fn shell_code(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(1)
}

/// Where `program` is on `path`, which is a list as in `$PATH`.
pub fn find_program(program: &str, path: &OsStr) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    std::env::split_paths(path).map(|dir| dir.join(program)).find(|candidate| {
        fs_err::metadata(candidate)
            .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    })
}

/// What every program says of a full disk, and some long before they end.
pub(crate) const NO_SPACE: &str = "No space left on device";

/// The last twelve lines of `written`, and the one that says that the disk is full.
fn tail(written: &[u8]) -> String {
    let text = String::from_utf8_lossy(written);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let (before, last) = lines.split_at(lines.len().saturating_sub(12));
    let full = before.iter().find(|line| line.contains(NO_SPACE));
    full.into_iter().chain(last).map(|line| format!("  {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_pasteable() {
        let command = Command::new("try", "echo").arg("a b").arg("$x").arg("it's\n");
        assert_eq!(command.to_string(), "echo 'a b' '$x' \"it's\n\"");
        let words = shlex::split(&command.to_string()).unwrap();
        assert_eq!(words, ["echo", "a b", "$x", "it's\n"]);
    }

    #[test]
    fn feeding_ends_whichever_side_fails() {
        let command = |script: &str| Command::new("count", "sh").args(["-c", script]);
        let much = vec![b'x'; 1 << 20];
        command("test $(wc -c) = 1048576").run_fed(|input| Ok(input.write_all(&much)?)).unwrap();
        let error = command("echo full >&2; exit 3")
            .run_fed(|input| Ok(input.write_all(&much)?))
            .unwrap_err()
            .to_string();
        assert!(error.contains("ended with status 3") && error.contains("full"), "{error}");
        let error = command("cat").run_fed(|_| bail!("unreadable")).unwrap_err().to_string();
        assert_eq!(error, "unreadable");
    }

    #[test]
    fn reading_ends_whichever_side_fails() {
        let command = |script: &str| Command::new("count", "sh").args(["-c", script]);
        let all = |output: &mut dyn std::io::Read| Ok(std::io::read_to_string(output)?);
        assert_eq!(command("echo one; echo two >&2").run_read(all).unwrap(), "one\n");
        let error = command("echo lost >&2; exit 3").run_read(all).unwrap_err().to_string();
        assert!(error.contains("ended with status 3") && error.contains("lost"), "{error}");
        let none = |_: &mut dyn std::io::Read| -> Result<()> { bail!("nonsense") };
        let error = command("exec yes").run_read(none).unwrap_err().to_string();
        assert_eq!(error, "nonsense");
    }

    #[test]
    fn error_names_purpose_command_status_and_stderr() {
        let error = Command::new("count the sheep", "sh")
            .args(["-c", "echo no sheep >&2; exit 7"])
            .read()
            .unwrap_err()
            .to_string();
        assert!(error.contains("could not count the sheep"), "{error}");
        assert!(error.contains("sh -c"), "{error}");
        assert!(error.contains("status 7"), "{error}");
        assert!(error.contains("no sheep"), "{error}");
    }

    #[test]
    fn environment_is_built() {
        let printed = Command::new("list", "env").env("ONE", "1").read().unwrap();
        assert!(printed.contains("ONE=1\n"));
        assert!(!printed.contains("CARGO"), "{printed}");
    }
}
