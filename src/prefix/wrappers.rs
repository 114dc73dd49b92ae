//! The scripts that users call: `emerge-prefix-<name>-<board>` and those of the other Portage
//! tools.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::base::data::{self, Folder};
use crate::base::escape::Escape;
use crate::base::input;
use crate::base::limits::TEXT;
use crate::base::scratch::ScratchFile;
use crate::base::{files, template};
use crate::host::home::HOME_VARIABLE;
use crate::host::machine::{self, Machine};
use crate::host::replaceable::find_open_place;
use crate::host::sudo::with_sudo;
use crate::prefix::definition::Prefix;

#[derive(Deserialize)]
struct WrapperTools {
    tools: Vec<String>,
}

/// Returns the default directory of wrappers: that of `setup_prefix` for root and in Flatcar's SDK,
/// else that of the user's own programs (file-hierarchy(7)).
pub(crate) fn default_dir(machine: Machine) -> Result<PathBuf> {
    if machine == Machine::Sdk || machine::is_root() {
        return Ok("/usr/local/bin".into());
    }
    std::env::home_dir()
        .filter(|home| home.is_absolute())
        .map(|home| home.join(".local/bin"))
        .context("there is no home directory for wrappers\nhint: name a place with --wrapper-dir")
}

/// The wrappers of `prefix` in `dir`, with the tool that each is for.
fn planned(prefix: &Prefix, dir: &Path) -> Result<Vec<(String, PathBuf)>> {
    let text = data::text(Folder::Wrappers, "tools.toml")?;
    let tools: WrapperTools =
        toml::from_str(&text).context("could not load wrappers/tools.toml")?;
    let id = &prefix.definition.id;
    Ok(std::iter::once("emerge".to_owned())
        .chain(tools.tools)
        .map(|tool| {
            let path = dir.join(format!("{tool}-prefix-{id}"));
            (tool, path)
        })
        .collect())
}

/// Returns whether the file `path` is a wrapper of `prefix`.
fn is_ours(path: &Path, prefix: &Prefix) -> bool {
    let line = format!("# prefix: {}\n", prefix.definition.eprefix);
    input::read_text(path, TEXT)
        .is_ok_and(|text| text.contains("# Written by `fprefix setup`") && text.contains(&line))
}

/// Refuses to replace files that fprefix did not write, and to let root run what others can replace.
pub(crate) fn check(prefix: &Prefix, dir: &Path) -> Result<()> {
    if machine::is_root() || needs_sudo(prefix, dir) {
        check_program(dir)?;
    }
    for (_, path) in planned(prefix, dir)? {
        let there = fs_err::symlink_metadata(&path).is_ok();
        let wrapper = || {
            input::read_text(&path, TEXT)
                .is_ok_and(|text| text.contains("# Written by `fprefix setup`"))
        };
        if there && !wrapper() {
            bail!(
                "{} is there and was not written by fprefix\nhint: name another directory with \
                 --wrapper-dir",
                path.escaped()
            );
        }
    }
    Ok(())
}

/// Refuses to write wrappers that root will run if the program that they start is not root's, or
/// that of whoever writes them.
fn check_program(dir: &Path) -> Result<()> {
    let program = std::env::current_exe().context("could not find our own program")?;
    let Some(place) = find_open_place(&program)? else { return Ok(()) };
    bail!(
        "the wrappers in {} would start {}, which others than root can replace: {place}\n\
         hint: install the program where only root can write, and run it from there: \
         `install -D -m 755 {} /usr/local/bin/fprefix`",
        dir.escaped(),
        program.escaped(),
        program.escaped()
    )
}

/// Returns whether only root may write to the directory of wrappers, for which setup uses sudo.
fn needs_sudo(prefix: &Prefix, dir: &Path) -> bool {
    prefix.definition.machine == Machine::Sdk && !machine::may_write(dir)
}

/// Writes the wrappers of `prefix` into `dir`; returns what was written.
pub(crate) fn write(prefix: &Prefix, dir: &Path) -> Result<Vec<PathBuf>> {
    let program = std::env::current_exe().context("could not find our own program")?;
    let program = program.to_str().context("our own path is not UTF-8")?;
    let home = std::env::var(HOME_VARIABLE).ok().map(|_| prefix.home.path());
    let mut written = Vec::new();
    for (tool, path) in planned(prefix, dir)? {
        if tool != "emerge" && !prefix.portage.has_program(&tool) {
            continue;
        }
        let name = if tool == "emerge" { "emerge" } else { "tool" };
        let text = template::render(
            Folder::Wrappers,
            name,
            minijinja::context! {
                id => prefix.definition.id.to_string(),
                eprefix => prefix.definition.eprefix.as_str(),
                tool,
                program,
                home,
            },
        )?;
        write_wrapper(prefix, &path, text.as_bytes())?;
        written.push(path);
    }
    Ok(written)
}

/// Writes a wrapper, in the SDK through sudo where it has to be.
fn write_wrapper(prefix: &Prefix, path: &Path, text: &[u8]) -> Result<()> {
    if prefix.definition.machine != Machine::Sdk || machine::may_write(path) {
        return files::write_executable(path, text);
    }
    let file = ScratchFile::new()?;
    fs_err::write(file.path(), text)?;
    with_sudo("write a wrapper", "install")?
        .args(["-D", "-m", "755", "-T"])
        .args([file.path(), path])
        .run_quiet()
}

/// Removes the wrappers of `prefix` that are still its own.
pub(crate) fn remove(prefix: &Prefix) -> Result<()> {
    for path in &prefix.definition.wrappers {
        if is_ours(path, prefix) {
            let sdk = prefix.definition.machine == Machine::Sdk;
            if sdk && !path.parent().is_some_and(machine::may_write) {
                with_sudo("remove a wrapper", "rm")?.arg(path).run_quiet()?;
            } else {
                fs_err::remove_file(path)?;
            }
        }
    }
    Ok(())
}
