//! Lock file: a record of everything that a build was made of. A locked build must match it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::base::escape::Escape;
use crate::base::files;
use crate::base::input;
use crate::base::limits::LIST;
use crate::manifest::file::BuildFile;
use crate::manifest::final_record::FinalRecord;
use crate::manifest::installed::{self, Package};
use crate::manifest::state::{self, Repository};
use crate::portage::cpv::Cpv;
use crate::prefix::definition::Prefix;

/// Format version of the file.
const FORM: u32 = 2;

/// Largest number of differences that an error lists.
const SHOWN: usize = 12;

/// Content of the lock file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LockFile {
    form: u32,
    /// Request of the build file.
    request: LockedRequest,
    #[serde(rename = "final")]
    in_final: FinalRecord,
    #[serde(rename = "repository")]
    repositories: Vec<Repository>,
    #[serde(rename = "package")]
    packages: Vec<Package>,
}

/// The part of a lock file that lock files of every form have.
#[derive(Debug, Deserialize)]
struct LockForm {
    form: u32,
}

/// Settings of a build file that determine the content of final.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct LockedRequest {
    eprefix: String,
    board: String,
    profile: String,
    packages: Vec<String>,
    package_use: Vec<String>,
    package_accept_keywords: Vec<String>,
}

impl LockedRequest {
    /// Collects the settings of `file` for `prefix`, which is set up or planned.
    pub(crate) fn new(file: &BuildFile, prefix: &Prefix) -> Self {
        let definition = &prefix.definition;
        Self {
            eprefix: definition.eprefix.to_string(),
            board: definition.id.board.clone(),
            profile: definition.profile.clone(),
            packages: file.packages.iter().map(ToString::to_string).collect(),
            package_use: file.package_use.clone(),
            package_accept_keywords: file.package_keywords.clone(),
        }
    }
}

impl LockFile {
    /// Records what `prefix` was built from.
    pub(crate) fn record(file: &BuildFile, prefix: &Prefix) -> Result<Self> {
        Ok(Self {
            form: FORM,
            request: LockedRequest::new(file, prefix),
            in_final: FinalRecord::read(prefix)?,
            repositories: state::of_prefix(prefix)?,
            packages: installed::packages(prefix)?,
        })
    }

    /// Loads the lock file at `path`.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        if !path.exists() {
            bail!("there is no {}; `fprefix lock` writes it after a build", path.escaped());
        }
        let text = input::read_text(path, LIST)?;
        let act = || format!("the lock file {} cannot be read", path.escaped());
        let LockForm { form } = toml::from_str(&text).with_context(act)?;
        if form != FORM {
            bail!(
                "{} has the form {form}, and this fprefix knows {FORM}\n\
                 hint: build without --locked, and run `fprefix lock`",
                path.escaped()
            );
        }
        toml::from_str(&text).with_context(act)
    }

    /// Writes the lock file to `path`.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let head = "# Written by `fprefix lock`, for `fprefix build --locked`.\n";
        let text = toml::to_string(self).context("could not write the lock file")?;
        files::write_durably(path, format!("{head}{text}").as_bytes())
    }

    /// Returns the number of packages.
    pub(crate) fn count(&self) -> usize {
        self.packages.len()
    }

    /// Fails if the request, a repository or a package of the toolchain differs from the lock.
    pub(crate) fn hold_request(
        &self,
        request: &LockedRequest,
        repositories: &[Repository],
        toolchain: &[Cpv],
    ) -> Result<()> {
        let mut moved = Vec::new();
        if self.request != *request {
            let (old, new) = (values(&self.request)?, values(request)?);
            for (key, value) in &new {
                let locked = old.get(key).cloned().unwrap_or_default();
                if *value != locked {
                    moved.push(format!("{key} is {value}, locked is {locked}"));
                }
            }
        }
        for now in repositories {
            match self.repositories.iter().find(|locked| locked.name == now.name) {
                Some(locked) if locked.state == now.state => {}
                Some(locked) => moved.push(format!(
                    "the repository {} is at {}, locked is {}{}",
                    now.name,
                    now.state,
                    locked.state,
                    locked.commit.as_ref().map_or(String::new(), |c| format!(" (commit {c})"))
                )),
                None => moved.push(format!("the repository {} is not locked", now.name)),
            }
        }
        for package in toolchain {
            if !self.packages.iter().any(|locked| locked.name == *package) {
                moved.push(format!("the machine's toolchain has {package}, which is not locked"));
            }
        }
        judge(moved)
    }

    /// Fails if the packages in staging differ from the lock, before they are installed into final.
    /// Unlocked packages that an earlier build left in staging are ignored.
    pub(crate) fn hold_staging(&self, now: &[Package]) -> Result<()> {
        let mut moved = Vec::new();
        for package in now {
            let locked = self.packages.iter().find(|locked| locked.name == package.name);
            moved.extend(locked.and_then(|locked| package.difference(locked, false)));
        }
        for locked in &self.packages {
            if !now.iter().any(|package| package.name == locked.name) {
                moved.push(format!("{} is locked and was not built", locked.name));
            }
        }
        judge(moved)
    }

    /// Fails if the content of final differs from the lock. That of packages is compared before.
    pub(crate) fn hold_final(&self, now: &FinalRecord) -> Result<()> {
        judge(now.differences(&self.in_final))
    }

    /// Fails if the packages differ from the lock.
    pub(crate) fn hold_packages(&self, now: &[Package]) -> Result<()> {
        let by_name = |packages: &[Package]| -> BTreeMap<Cpv, Package> {
            packages.iter().map(|package| (package.name.clone(), package.clone())).collect()
        };
        let (locked, now) = (by_name(&self.packages), by_name(now));
        let mut moved = Vec::new();
        for (name, package) in &now {
            match locked.get(name) {
                None => moved.push(format!("{name} is not locked")),
                Some(locked) => moved.extend(package.difference(locked, true)),
            }
        }
        let missing = locked.keys().filter(|name| !now.contains_key(*name));
        moved.extend(missing.map(|name| format!("{name} is locked and was not built")));
        judge(moved)
    }
}

fn values(request: &LockedRequest) -> Result<BTreeMap<String, String>> {
    let toml::Value::Table(table) = toml::Value::try_from(request)? else {
        bail!("a request is a table");
    };
    Ok(table.into_iter().map(|(key, value)| (key, value.to_string())).collect())
}

fn judge(moved: Vec<String>) -> Result<()> {
    if moved.is_empty() {
        return Ok(());
    }
    let more = moved.len().saturating_sub(SHOWN);
    let mut text = moved.iter().take(SHOWN).map(|line| format!("\n  {line}")).collect::<String>();
    if more > 0 {
        text += &format!("\n  and {more} more");
    }
    bail!(
        "something moved since it was locked:{text}\nput it back, or build without --locked and \
         run `fprefix lock` again"
    )
}
