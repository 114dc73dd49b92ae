//! Portage configuration that comes with a tree or from the user: package.use and its like.
//!
//! Flatcar's prefix-overlay carries a skeleton of /etc/portage, from which its prefixes take masks
//! and keywords. It names repositories as they were once called; what can be told is put right
//! here, since Portage takes a mask with an unknown repository for one that masks nothing.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::base::escape::Escape;
use crate::base::files;
use crate::base::input;
use crate::base::limits::TEXT;
use crate::portage::{provided, repos};
use crate::prefix::broot;
use crate::prefix::definition::PrefixRepo;
use crate::prefix::setup::preflight::absolute;

/// Files, or folders of files, that such a folder may have (portage(5)).
const LISTS: &[&str] = &[
    "package.accept_keywords",
    "package.accept_restrict",
    "package.env",
    "package.license",
    "package.mask",
    "package.properties",
    "package.unmask",
    "package.use",
];
/// Folders that are taken as they are.
const FOLDERS: &[&str] = &["env", "patches"];
/// Files of a profile of the user's own, in the folder `profile` (portage(5)).
const PROFILE: &[&str] = &[
    "package.provided",
    "package.use.force",
    "package.use.mask",
    "package.use.stable.force",
    "package.use.stable.mask",
    "use.force",
    "use.mask",
    "use.stable.force",
    "use.stable.mask",
];
/// Packages that the machine has for builds besides those that its tools tell of.
const BROOT: &str = broot::PROVIDED_BESIDES;
/// Other files of a skeleton, which setup writes itself.
const OURS: &[&str] = &["make.conf", "make.profile", "repos.conf"];

/// The configuration as it will be written: paths below etc/portage, and what is in them.
#[derive(Debug, Default)]
pub(super) struct PackageConfig {
    source: Option<PathBuf>,
    files: Vec<(PathBuf, Vec<u8>)>,
    notes: Vec<String>,
}

impl PackageConfig {
    /// Reads what the repositories bring, and the folder that the user gave.
    pub(super) fn read(folder: Option<&Path>, all: &[PrefixRepo]) -> Result<Self> {
        let mut config = Self::default();
        for repo in all {
            let skeleton = repo.path.as_ref().map(|path| path.join(repos::SKELETON));
            if let Some(skeleton) = skeleton.filter(|skeleton| skeleton.is_dir()) {
                config.add_folder(&skeleton, &repo.name, all)?;
            }
        }
        if let Some(folder) = folder {
            let folder = absolute(folder)?;
            check(&folder)?;
            config.add_folder(&folder, "user", &[])?;
            config.source = Some(folder);
        }
        Ok(config)
    }

    /// The folder that the user gave.
    pub(super) fn source(&self) -> Option<PathBuf> {
        self.source.clone()
    }

    /// The corrections that were made, a line each.
    pub(super) fn notes(&self) -> impl Iterator<Item = &str> {
        self.notes.iter().map(String::as_str)
    }

    /// Takes what is in `folder`. Files of lines end in folders, under names that begin with
    /// `owner`: where several bring some, all count.
    fn add_folder(&mut self, folder: &Path, owner: &str, all: &[PrefixRepo]) -> Result<()> {
        for name in LISTS {
            let place = folder.join(name);
            for file in files_below(&place)? {
                let rest = file.strip_prefix(&place)?;
                let lines = input::read_text(&file, TEXT)?;
                let lines = self.rename_repositories(&lines, &file, all);
                let mut name_in = OsString::from(owner);
                for part in rest {
                    name_in.push("-");
                    name_in.push(part);
                }
                self.files.push((Path::new(name).join(name_in), lines.into_bytes()));
            }
        }
        for name in FOLDERS {
            for file in files_below(&folder.join(name))? {
                let bytes = input::read(&file, TEXT)?;
                self.files.push((file.strip_prefix(folder)?.to_owned(), bytes));
            }
        }
        let profile = PROFILE.iter().map(|name| Path::new("profile").join(name));
        for file in profile.chain([BROOT.into()]) {
            if folder.join(&file).is_file() {
                let bytes = input::read(&folder.join(&file), TEXT)?;
                self.files.push((file, bytes));
            }
        }
        Ok(())
    }

    /// `text` with the names of repositories that there are: `::coreos` is said of what is called
    /// coreos-overlay now. Lines that name one that nothing is called like are left out.
    fn rename_repositories(&mut self, text: &str, file: &Path, all: &[PrefixRepo]) -> String {
        let mut lines = String::new();
        for line in text.lines() {
            let code = line.split('#').next().unwrap_or_default();
            let named = code.split_once("::").and_then(|(_, rest)| rest.split_whitespace().next());
            let Some(named) = named.filter(|_| !all.is_empty()) else {
                lines = lines + line + "\n";
                continue;
            };
            if all.iter().any(|repo| repo.name == named) {
                lines = lines + line + "\n";
                continue;
            }
            let start = format!("{named}-");
            let mut alike = all.iter().filter(|repo| repo.name.starts_with(&start));
            if let (Some(repo), None) = (alike.next(), alike.next()) {
                let right = line.replacen(&format!("::{named}"), &format!("::{}", repo.name), 1);
                self.notes.push(format!(
                    "{} names the repository {named}; taken as {}: {}",
                    file.escaped(),
                    repo.name,
                    right.trim()
                ));
                lines = lines + &right + "\n";
            } else {
                self.notes.push(format!(
                    "{} names the repository {named}, which there is not; left out: {}",
                    file.escaped(),
                    line.trim()
                ));
            }
        }
        lines
    }

    /// Writes it into `config`, where `before` was written, and removes what that alone had.
    pub(super) fn write_over(&self, before: &Self, config: &Path) -> Result<()> {
        for (path, _) in &before.files {
            if !self.files.iter().any(|(kept, _)| kept == path) {
                files::remove_file(&config.join(path))?;
            }
        }
        self.write(config)
    }

    /// Writes it into `config`, which is etc/portage of an environment.
    pub(super) fn write(&self, config: &Path) -> Result<()> {
        for (path, bytes) in &self.files {
            files::write_atomically(&config.join(path), bytes)?;
        }
        Ok(())
    }
}

/// Refuses a folder in which something is that would not be taken.
fn check(folder: &Path) -> Result<()> {
    if !folder.is_dir() {
        bail!("there is no directory {}", folder.escaped());
    }
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') || LISTS.contains(&&*name) {
            continue;
        }
        if name == "profile" {
            check_profile(&entry.path())?;
            continue;
        }
        if name == BROOT {
            provided::read(&entry.path())?;
            continue;
        }
        if FOLDERS.contains(&&*name) {
            if entry.path().is_dir() {
                continue;
            }
            bail!("{} has to be a folder", entry.path().escaped());
        }
        let hint = if OURS.contains(&&*name) {
            "; --use, --tree, --repo and --profile say these, and make.conf.user in etc/portage of \
             an environment takes the rest"
        } else {
            ""
        };
        bail!(
            "{} is nothing that --package-config takes: {}, {}, {BROOT}, profile{hint}",
            entry.path().escaped(),
            LISTS.join(", "),
            FOLDERS.join(", ")
        );
    }
    Ok(())
}

/// Refuses a profile in which something is that would not be taken.
fn check_profile(dir: &Path) -> Result<()> {
    for entry in fs_err::read_dir(dir)? {
        let entry = entry?;
        if !PROFILE.iter().any(|name| entry.file_name() == *name) || !entry.path().is_file() {
            bail!(
                "{} is no file that --package-config takes of a profile: {}",
                entry.path().escaped(),
                PROFILE.join(", ")
            );
        }
    }
    Ok(())
}

/// The files at and below `place`, in order; Portage leaves out those that begin with a dot or end
/// with a tilde (portage(5)).
fn files_below(place: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    if !place.exists() {
        return Ok(files);
    }
    for entry in walkdir::WalkDir::new(place).follow_links(true).sort_by_file_name() {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy();
        if entry.file_type().is_file() && !name.starts_with('.') && !name.ends_with('~') {
            files.push(entry.into_path());
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_called_what_they_are_called() {
        let all = ["portage-stable", "coreos-overlay", "prefix"].map(|name| PrefixRepo {
            name: name.into(),
            path: None,
            priority: 0,
        });
        let mut config = PackageConfig::default();
        let text = "a/b::coreos # why\n# a::none\na/b::none\n>=a/b-1:0\n*/*::prefix\n";
        let right = config.rename_repositories(text, Path::new("/m"), &all);
        assert_eq!(right, "a/b::coreos-overlay # why\n# a::none\n>=a/b-1:0\n*/*::prefix\n");
        assert_eq!(config.notes().count(), 2);
    }
}
