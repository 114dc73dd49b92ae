//! Packages from the archive that this machine's apt uses, of any architecture, without a trace
//! in the machine's own package database.

use std::path::{Path, PathBuf};

use crate::harness::tools::success_of;

/// The archives of `packages` and of all that they depend on. `dir` takes apt's state. `suite` is
/// another release than the machine's.
pub(crate) fn fetch(
    architecture: &str,
    suite: Option<&str>,
    packages: &[&str],
    dir: &Path,
) -> Vec<PathBuf> {
    let cache = dir.join("cache/archives");
    for folder in [dir.join("state/lists/partial"), cache.join("partial")] {
        fs_err::create_dir_all(folder).unwrap();
    }
    // No package is installed, so nothing that is depended on is left out.
    fs_err::write(dir.join("status"), "").unwrap();
    let sources = write_sources(suite, dir);
    let apt = |args: &[&str]| {
        let path = |name: &str| dir.join(name).display().to_string();
        let mut all = vec!["--quiet=2".to_owned()];
        for option in [
            format!("APT::Architecture={architecture}"),
            format!("APT::Architectures={architecture}"),
            format!("Dir::State={}", path("state")),
            format!("Dir::State::status={}", path("status")),
            format!("Dir::State::extended_states={}", path("extended_states")),
            format!("Dir::Cache={}", path("cache")),
            "Acquire::Languages=none".to_owned(),
            format!("Dir::Etc::sourcelist={}", sources.display()),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            // The directory is this user's alone.
            "APT::Sandbox::User=root".to_owned(),
        ] {
            all.extend(["--option".to_owned(), option]);
        }
        all.extend(args.iter().map(|&arg| arg.to_owned()));
        success_of("apt-get", all);
    };
    apt(&["update"]);
    let mut args = vec!["install", "--download-only", "--yes", "--no-install-recommends"];
    args.extend(packages);
    apt(&args);
    let mut archives: Vec<PathBuf> = fs_err::read_dir(cache)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|suffix| suffix == "deb"))
        .collect();
    archives.sort();
    assert!(archives.len() > packages.len(), "{archives:?}");
    archives
}

/// Writes a list with `suite`, or else the machine's own release, of the mirror that the machine's apt
/// uses. Updates of it change while a test runs, so they are left out.
fn write_sources(suite: Option<&str>, dir: &Path) -> PathBuf {
    let said = success_of("apt-get", ["indextargets", "--format", "$(REPO_URI) $(RELEASE)"]);
    let said = String::from_utf8(said.stdout).unwrap();
    let lines = said.lines().filter_map(|line| line.split_once(' '));
    let mut mirrors = lines.filter(|(_, release)| !release.contains('-'));
    let (mirror, release) = mirrors.next().expect("apt has a mirror of a release of Debian");
    let suite = suite.unwrap_or(release);
    let keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
    let list = dir.join("sources.list");
    fs_err::write(&list, format!("deb [signed-by={keys}] {mirror} {suite} main\n")).unwrap();
    list
}
