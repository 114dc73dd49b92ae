//! `binhost publish`: binary packages of a prefix in a directory that any web server can show.
//!
//! A new index is made beside the directory's own, over hard links of all that will be there. Then
//! packages go in, the index replaces the one before, and packages go that it no longer lists. So
//! each index that a client fetches names packages that are there.

use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::base::escape::{self, Escape};
use crate::base::limits::LIST;
use crate::base::lock::{Busy, Lock};
use crate::base::names::Environment;
use crate::base::output::Reporter;
use crate::base::{files, hint, input, publish};
use crate::fstree::walk::TreeWalk;
use crate::portage::packages::{self, PackagesIndex};
use crate::portage::vdb::{self, BuildIdentity};
use crate::portage::{cpv::Cpv, gpkg};
use crate::prefix::definition::Prefix;
use crate::prefix::emerge::index;
use crate::prefix::environment::Sandbox;

/// The lock of a published directory.
const LOCK: &str = ".fprefix-lock";
/// The directory in which the next state is put together.
const NEXT: &str = ".fprefix-next";
/// The file with the public keys of those who signed packages.
pub(crate) const KEYS: &str = "signing-keys.asc";
/// Endings of the files that the index is.
const INDEX_ENDINGS: [&str; 2] = [".gz", ""];

/// The outcome of a publication.
#[derive(Debug, Serialize)]
pub(crate) struct Published {
    /// The part of the directory that is for this kind of prefix.
    #[serde(serialize_with = "escape::path::serialize")]
    pub directory: PathBuf,
    /// The number of its packages.
    pub packages: usize,
    /// The sum of their sizes.
    pub bytes: u64,
    /// The packages that were not there before, as paths below `directory`.
    #[serde(serialize_with = "escape::paths::serialize")]
    pub new: Vec<PathBuf>,
    /// The packages of which another build of the same name is newer there, and stays.
    #[serde(serialize_with = "escape::paths::serialize")]
    pub older: Vec<PathBuf>,
    /// The packages that went.
    #[serde(serialize_with = "escape::paths::serialize")]
    pub removed: Vec<PathBuf>,
    /// The packages that are not whole, and were left out.
    #[serde(serialize_with = "escape::paths::serialize")]
    pub damaged: Vec<PathBuf>,
    /// The file with public keys, if packages are signed.
    #[serde(serialize_with = "escape::optional_path::serialize")]
    pub keys: Option<PathBuf>,
}

/// Puts the binary packages of `prefix` into the directory `dir`. With `prune`, builds of packages that
/// staging has in another build go, and do not come.
///
/// # Errors
///
/// Fails if a file cannot be read or written, or if Portage cannot make the index.
pub(crate) fn publish(
    prefix: &Prefix,
    dir: &Path,
    prune: bool,
    reporter: &Reporter,
) -> Result<Published> {
    let key = prefix.definition.binhost_key.as_ref().with_context(|| {
        let command = prefix.definition.setup_command(&prefix.home, false);
        format!("the prefix does not know its part of a binhost yet\nhint: run `{command}`")
    })?;
    let dir = std::path::absolute(dir)
        .with_context(|| format!("could not make {} absolute", dir.escaped()))?;
    let directory = dir.join(key);
    fs_err::create_dir_all(&directory)?;
    let own = fs_err::canonicalize(prefix.layout.pkgdir())?;
    let place = fs_err::canonicalize(&dir)?;
    if place != own && (place.starts_with(&own) || own.starts_with(place.join(NEXT))) {
        bail!(
            "{} is inside of the packages of {}, where Portage would take it for some of them\n\
             hint: name another directory",
            dir.escaped(),
            prefix.definition.id
        );
    }
    if fs_err::canonicalize(&directory)? == own {
        bail!(
            "the packages of {} are in {} already: it is its binhost\n\
             hint: name another directory, or have a web server show this one",
            prefix.definition.id,
            dir.escaped()
        );
    }
    let tell = |text: &str| reporter.step(text);
    let _held = prefix.lock("fprefix binhost publish", &Busy::Wait(&tell))?;
    let lock = Lock::acquire(&dir.join(LOCK), "fprefix binhost publish", &Busy::Wait(&tell))?;
    let sandbox = Sandbox::open(prefix)?;
    index::mend(prefix, &sandbox, reporter)?;
    let next = dir.join(NEXT);
    // A run that ended half-way may have replaced packages and not the index, which then has their
    // old digests.
    let was_cut_short = next.exists();
    files::remove(&next)?;
    fs_err::create_dir_all(&next)?;
    let mut publication = Publication::new(prefix, directory, next, prune)?;
    publication.gather(reporter)?;
    publication.index(prefix, was_cut_short)?;
    let keys = publication.export_keys(&sandbox, &dir.join(KEYS), reporter)?;
    publication.put_in_place()?;
    files::remove(&publication.next)?;
    drop(lock);
    publication.report(keys)
}

/// A publication that is under way.
struct Publication {
    pkgdir: PathBuf,
    directory: PathBuf,
    next: PathBuf,
    /// Paths of the packages of the prefix.
    own: Vec<PathBuf>,
    /// Packages that the directory has, and shall not keep.
    stale: Vec<PathBuf>,
    new: Vec<PathBuf>,
    older: Vec<PathBuf>,
    damaged: Vec<PathBuf>,
}

impl Publication {
    fn new(prefix: &Prefix, directory: PathBuf, next: PathBuf, prune: bool) -> Result<Self> {
        let pkgdir = prefix.layout.pkgdir();
        let staging = vdb::builds(&prefix.layout.vdb(Environment::Staging))?;
        let is_wanted = |cpv: &Cpv, id: &str| !prune || !is_replaced(&staging, cpv, id);
        let (mut own, mut stale) = (Vec::new(), Vec::new());
        let index = PackagesIndex::load(&pkgdir)?;
        for (cpv, id) in index.builds().filter(|(cpv, id)| is_wanted(cpv, id)) {
            own.extend(index.path(cpv, id).and_then(below));
        }
        let there = PackagesIndex::load(&directory)?;
        for (cpv, id) in there.builds().filter(|(cpv, id)| !is_wanted(cpv, id)) {
            stale.extend(there.path(cpv, id).and_then(below));
        }
        let (new, older, damaged) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { pkgdir, directory, next, own, stale, new, older, damaged })
    }

    /// Puts all packages that will be in the directory into the next one.
    fn gather(&mut self, reporter: &Reporter) -> Result<()> {
        for path in list_packages(&self.directory)? {
            if !self.stale.contains(&path) {
                link_or_copy(&self.directory.join(&path), &self.next.join(&path))?;
            }
        }
        for path in &self.own {
            let (from, to) = (self.pkgdir.join(path), self.next.join(path));
            match compare(&from, &self.directory.join(path))? {
                BuildAge::Same => continue,
                BuildAge::Older => {
                    self.older.push(path.clone());
                    continue;
                }
                BuildAge::Newer => {}
            }
            if let Err(error) = gpkg::verify(&from) {
                reporter.warn(&format!("{}; it is left out", hint::render_error(&error)));
                self.damaged.push(path.clone());
                continue;
            }
            link_or_copy(&from, &to)?;
            self.new.push(path.clone());
        }
        Ok(())
    }

    /// Has Portage make the index of the next state, from that of the state before or from nothing.
    fn index(&self, prefix: &Prefix, from_nothing: bool) -> Result<()> {
        let kept = if from_nothing { &[][..] } else { &INDEX_ENDINGS[..] };
        for ending in kept {
            let name = format!("{}{ending}", packages::FILE);
            let file = self.directory.join(&name);
            if file.is_file() {
                input::copy_file(&file, &self.next.join(&name))?;
            }
        }
        let is_replaced = |path: &PathBuf| self.directory.join(path).exists();
        if packages::list_differences(&self.next)?.is_empty() && !self.new.iter().any(is_replaced) {
            return Ok(());
        }
        let mut definition = prefix.definition.clone();
        definition.pkgdir = Some(self.next.clone());
        let other = Prefix::new(&prefix.home, definition)?;
        // Packages from before a prefix asked for signatures are listed too: whoever takes them
        // checks that.
        index::make(&other, &Sandbox::open(&other)?, "-binpkg-request-signature")?;
        if let Some(path) = packages::list_differences(&self.next)?.first() {
            bail!(
                "{} is no binary package that Portage can read; nothing was published\n\
                 hint: remove it",
                self.directory.join(path).escaped()
            );
        }
        Ok(())
    }

    fn put_in_place(&self) -> Result<()> {
        for path in &self.new {
            let to = self.directory.join(path);
            files::create_dirs_below(&self.directory, path.parent())?;
            fs_err::rename(self.next.join(path), to)?;
        }
        publish::flush_filesystem(&self.directory)?;
        for ending in INDEX_ENDINGS {
            let name = format!("{}{ending}", packages::FILE);
            let (made, place) = (self.next.join(&name), self.directory.join(&name));
            if made.is_file() {
                publish::rename_flushed(&made, &place)?;
            } else {
                files::remove_file(&place)?;
            }
        }
        for path in &self.stale {
            files::remove_file(&self.directory.join(path))?;
        }
        Ok(())
    }

    /// Adds the public keys of the prefix to `file`, if packages are signed.
    fn export_keys(
        &self,
        sandbox: &Sandbox<'_>,
        file: &Path,
        reporter: &Reporter,
    ) -> Result<Option<PathBuf>> {
        let there = if file.is_file() { input::read_lossy(file, LIST)? } else { String::new() };
        let there_is_one = (!there.is_empty()).then(|| file.to_owned());
        let mut is_signed = false;
        for path in self.own.iter().filter(|path| !self.damaged.contains(path)) {
            is_signed = is_signed || gpkg::is_signed(&self.pkgdir.join(path))?;
        }
        if !is_signed {
            return Ok(there_is_one);
        }
        let home = crate::base::inside::KEYS.to_string();
        let keys = sandbox
            .program(Environment::Staging, "gpg", "export the keys of those who sign packages")?
            .args(["--homedir", &home, "--batch", "--no-auto-check-trustdb", "--armor", "--export"])
            .read()?;
        let keys = keys.trim();
        if keys.is_empty() {
            reporter.warn(
                "packages are signed, and the keyring of the prefix has no key: whoever asks for \
                 signatures needs the key from elsewhere",
            );
            return Ok(there_is_one);
        }
        // The file may have keys of other prefixes.
        if !there.contains(keys) {
            files::write_durably(file, format!("{there}{keys}\n").as_bytes())?;
        }
        Ok(Some(file.to_owned()))
    }

    fn report(self, keys: Option<PathBuf>) -> Result<Published> {
        let there = list_packages(&self.directory)?;
        let mut bytes = 0_u64;
        for path in &there {
            let size = fs_err::symlink_metadata(self.directory.join(path))?.len();
            bytes = bytes.saturating_add(size);
        }
        Ok(Published {
            packages: there.len(),
            bytes,
            new: self.new,
            older: self.older,
            removed: self.stale,
            damaged: self.damaged,
            directory: self.directory,
            keys,
        })
    }
}

/// Returns whether `staging` has the package of `cpv` in other builds alone.
fn is_replaced(staging: &[BuildIdentity], cpv: &Cpv, build_id: &str) -> bool {
    let mut builds = staging.iter().filter(|build| build.cpv.package() == cpv.package()).peekable();
    builds.peek().is_some() && !builds.any(|build| build.cpv == *cpv && build.build_id == build_id)
}

/// Returns the path in an index, which leads below its directory; `None` for another one.
fn below(path: &str) -> Option<PathBuf> {
    let path = Path::new(path);
    let is_below = path.components().all(|part| matches!(part, Component::Normal(_)));
    (is_below && path.parent().is_some()).then(|| path.to_owned())
}

/// Returns the binary packages in `dir`, as paths below it.
fn list_packages(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in TreeWalk::below(dir) {
        let entry = entry?;
        let name = entry.below().to_string_lossy();
        if entry.file_type().is_file() && packages::is_package(&name) {
            found.push(entry.below().to_owned());
        }
    }
    found.sort();
    Ok(found)
}

/// The age of a package beside the one of its name that is published.
enum BuildAge {
    Same,
    Newer,
    Older,
}

fn compare(own: &Path, published: &Path) -> Result<BuildAge> {
    let own = fs_err::symlink_metadata(own)?;
    let there = match fs_err::symlink_metadata(published) {
        Ok(there) if there.is_file() => there,
        Ok(_) => bail!("{} is there, and is not a file", published.escaped()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(BuildAge::Newer);
        }
        Err(error) => return Err(error.into()),
    };
    // Portage sets the time of what it fetches, in seconds.
    let time = MetadataExt::mtime;
    Ok(if (own.len(), time(&own)) == (there.len(), time(&there)) {
        BuildAge::Same
    } else if time(&own) < time(&there) {
        BuildAge::Older
    } else {
        BuildAge::Newer
    })
}

/// Gives the file `from` the name `to` as well; where it cannot have two, `to` is a copy with its
/// time.
fn link_or_copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        fs_err::create_dir_all(parent)?;
    }
    files::remove_file(to)?;
    if fs_err::hard_link(from, to).is_ok() {
        return Ok(());
    }
    input::copy_file(from, to)?;
    let time = fs_err::symlink_metadata(from)?.modified()?;
    let copy = fs_err::OpenOptions::new().append(true).open(to)?;
    copy.file()
        .set_modified(time)
        .with_context(|| format!("could not set the time of {}", to.escaped()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_an_index_stay_in_its_directory() {
        assert_eq!(below("a/b/b-1-1.gpkg.tar"), Some("a/b/b-1-1.gpkg.tar".into()));
        for bad in ["", "/etc/passwd", "../x.gpkg.tar", "a/../../x"] {
            assert_eq!(below(bad), None, "{bad}");
        }
    }

    #[test]
    fn builds_that_staging_has_replaced() {
        let build = |cpv: &str, id: &str| BuildIdentity {
            cpv: cpv.parse().unwrap(),
            slot: "0".to_owned(),
            build_id: id.to_owned(),
            build_time: "1".to_owned(),
        };
        let staging = [build("a/b-2", "1"), build("a/b-3", "2")];
        let is_replaced = |cpv: &str, id| super::is_replaced(&staging, &cpv.parse().unwrap(), id);
        assert!(is_replaced("a/b-1", "1") && is_replaced("a/b-2", "2"));
        assert!(!is_replaced("a/b-2", "1") && !is_replaced("a/b-3", "2"));
        assert!(!is_replaced("a/other-1", "1"));
    }

    #[test]
    fn the_later_one_of_two_packages() {
        let dir = tempfile::tempdir().unwrap();
        let (own, there) = (dir.path().join("own"), dir.path().join("there"));
        fs_err::write(&own, "1").unwrap();
        assert!(matches!(compare(&own, &there).unwrap(), BuildAge::Newer));
        input::copy_file(&own, &there).unwrap();
        let early = std::time::SystemTime::UNIX_EPOCH;
        let set = |path: &Path, time| {
            let file = fs_err::OpenOptions::new().append(true).open(path).unwrap();
            file.file().set_modified(time).unwrap();
        };
        set(&there, early);
        assert!(matches!(compare(&own, &there).unwrap(), BuildAge::Newer));
        set(&own, early);
        assert!(matches!(compare(&own, &there).unwrap(), BuildAge::Same));
        set(&there, early + std::time::Duration::from_secs(1));
        assert!(matches!(compare(&own, &there).unwrap(), BuildAge::Older));
    }
}
