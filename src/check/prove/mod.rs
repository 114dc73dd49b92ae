//! Proof at run time. A program is started in an empty root that holds only the prefix. The proof
//! lists every file that the program or its child processes execute, map or open.

mod empty_root;
mod emulator;
mod judge;
mod process;
mod proof;
mod trace;

use std::path::{Path, PathBuf};
use std::process::Output;

use anyhow::{Context, Result, bail};

use crate::base::command::{Command, tail};
use crate::base::data::{self, Folder};
use crate::base::escape::Escape;
use crate::base::input;
use crate::base::inside::EMULATOR;
use crate::base::limits::TRACE;
use crate::base::names::Eprefix;
use crate::base::scratch::ScratchDir;
use crate::check::prove::emulator::Emulator;
use crate::check::prove::judge::Traced;
use crate::check::prove::process::View;
pub(crate) use crate::check::prove::proof::Proof;
use crate::check::prove::trace::Ending;
use crate::fstree::resolve::RootResolver;
use crate::host::machine;
use crate::host::tools;
use crate::prefix::final_root::FinalRoot;
use crate::sandbox::bubblewrap::Bubblewrap;
use crate::sandbox::namespaces::shield;

/// Runs `words` in an empty root with the prefix of `root`.
pub(crate) fn in_empty_root(root: &FinalRoot, words: &[String]) -> Result<Proof> {
    let Some((program, args)) = words.split_first() else { bail!("which program?") };
    let program = find(root, program)?;
    let strace = tools::STRACE.require()?;
    let emulator = Emulator::of(root, &program)?;
    let bwrap = Bubblewrap::find()?;
    let inner = empty_root::plan(bwrap.clone(), &root.eroot(), root.eprefix(), emulator.as_ref())?;
    let own = std::env::current_exe().context("could not find our own program")?;
    let work = ScratchDir::new()?;
    let trace = work.path().join("trace");
    let command = strace
        .command("follow the program")
        .args(trace::OPTIONS)
        .arg("--output")
        .arg(&trace)
        .arg("--")
        .args(shield(bwrap, inner, &own));
    let command = match &emulator {
        Some(emulator) => command.arg(&EMULATOR).args(&emulator.words),
        None => command.arg(&program),
    };
    let command = command.args(args);
    let output = command.output()?;
    let view = View {
        files: RootResolver::cached(vec![root.path().to_owned()]),
        known: root.eprefix().as_path(),
        target: Path::new("/"),
    };
    let traced = Traced {
        view,
        eprefix: root.eprefix().as_path(),
        started: emulator.as_ref().map_or(&program, |_| EMULATOR.as_path()),
        emulated: emulator.is_some(),
    };
    Run { traced, trace: &trace, command: &command, output: &output }.prove(program.clone())
}

/// Attaches the extension `image` to an empty root with systemd-sysext, as a target does, and runs
/// `words` there. Needs root.
pub(crate) fn on_image(image: &Path, eprefix: &Eprefix, words: &[String]) -> Result<Proof> {
    if !machine::is_root() {
        bail!("attaching an extension needs root: run this with sudo");
    }
    let Some((program, args)) = words.split_first() else { bail!("which program?") };
    let program = in_prefix(eprefix, program);
    let strace = tools::STRACE.require()?;
    tools::SYSTEMD_SYSEXT.require()?;
    let unshare = tools::UNSHARE.require()?;
    let image = fs_err::canonicalize(image)?;
    let name = extension_name(&image)?;
    let work = ScratchDir::new()?;
    let target = work.path().join("target");
    let trace = work.path().join("trace");
    let kept = work.path().join("kept");
    fs_err::create_dir(&target)?;
    fs_err::create_dir(&kept)?;
    let script = data::text(Folder::Templates, "attach.sh")?;
    let command = unshare
        .command("attach the extension")
        .args([
            "--mount",
            "--propagation",
            "private",
            "--pid",
            "--fork",
            "--kill-child",
            "sh",
            "-c",
        ])
        .arg(&*script)
        .arg("attach")
        .args([&target, &image])
        .arg(&name)
        .arg(&trace)
        .arg(&kept)
        .arg(strace.path())
        .args(trace::OPTIONS)
        .arg("--output")
        .arg(&trace)
        .args(["--", "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "chroot"])
        .args([&target, &program])
        .args(args);
    let output = command.output()?;
    if !trace.exists() {
        bail!("could not attach {}:\n{}", image.escaped(), tail(&output.stderr).trim_end());
    }
    // The attached files disappear with their namespace, except a copy of links and programs.
    let traced = Traced {
        view: View {
            files: RootResolver::cached(vec![kept]),
            known: Path::new("/"),
            target: &target,
        },
        eprefix: eprefix.as_path(),
        started: &program,
        emulated: false,
    };
    Run { traced, trace: &trace, command: &command, output: &output }.prove(program.clone())
}

/// Name by which systemd-sysext knows an extension: the file name without its suffix.
fn extension_name(image: &Path) -> Result<String> {
    let file = image.file_name().context("an extension needs a name")?.to_string_lossy();
    let file = file.strip_suffix(".raw").unwrap_or(&file);
    Ok(file.to_owned())
}

/// Output of a traced command.
struct Run<'a> {
    traced: Traced<'a>,
    /// Path of the trace.
    trace: &'a Path,
    command: &'a Command,
    output: &'a Output,
}

impl Run<'_> {
    fn prove(&self, program: PathBuf) -> Result<Proof> {
        let (command, stderr) = (self.command, tail(&self.output.stderr));
        let trace = input::read(self.trace, TRACE)
            .with_context(|| format!("`{command}` left no trace:\n{}", stderr.trim_end()))?;
        let seen = self.traced.judge(&String::from_utf8_lossy(&trace));
        if seen.started.is_none() {
            bail!("{} did not start:\n{}", program.escaped(), stderr.trim_end());
        }
        let (status, signal) = match seen.ending {
            Some(Ending::Exited(status)) => (Some(status), None),
            Some(Ending::Killed(signal)) => (None, Some(signal)),
            None => (None, None),
        };
        Ok(Proof {
            program,
            status,
            signal,
            stdout: text(&self.output.stdout),
            stderr: text(&self.output.stderr),
            inside: seen.inside,
            outside: seen.outside,
            made: seen.made,
            tried: seen.tried,
            unfollowed: seen.unfollowed,
        })
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Finds the program to run: a path, or a name in the prefix's usr/bin.
fn find(root: &FinalRoot, program: &str) -> Result<PathBuf> {
    let path = in_prefix(root.eprefix(), program);
    if root.on_disk(&path).symlink_metadata().is_err() {
        bail!("there is no program {} in {}", path.escaped(), root.path().escaped());
    }
    Ok(path)
}

fn in_prefix(eprefix: &Eprefix, program: &str) -> PathBuf {
    if program.contains('/') {
        return Path::new("/").join(program);
    }
    eprefix.as_path().join("usr/bin").join(program)
}
