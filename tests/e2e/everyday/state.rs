//! The state of final: after each step it is staging's, true, and what a new one would be.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use fprefix::portage::vdb;

use super::Everyday;
use crate::prefix::{contents_are_true, vdb as vdb_of};

impl Everyday {
    /// The packages of an environment, by name and slot, each with what tells its build.
    fn builds(environment: &Path) -> BTreeMap<(String, String), String> {
        let mut builds = BTreeMap::new();
        for package in vdb::installed(&vdb_of(environment)).unwrap() {
            let read = |name: &str| package.read(name).unwrap().trim().to_owned();
            let slot = read("SLOT").split('/').next().unwrap().to_owned();
            let build = format!("{} {} {}", package.cpv(), read("BUILD_ID"), read("BUILD_TIME"));
            builds.insert((package.cpv().package(), slot), build);
        }
        builds
    }

    /// Final has the builds that staging has, CONTENTS is true, and nothing leaves the prefix.
    #[track_caller]
    pub(super) fn follows(&self, step: &str) {
        let (staging, there) =
            (Self::builds(&self.prefix.staging), Self::builds(&self.prefix.r#final));
        for (package, build) in &there {
            if let Some(wanted) = staging.get(package) {
                assert_eq!(build, wanted, "after {step}");
            }
        }
        contents_are_true(&self.prefix.world, &self.prefix.r#final);
        let said = self.fprefix(&["check"]).said();
        assert_eq!(said.code(), 0, "after {step}: {said}");
    }

    /// Reads final: types, modes, content, and the packages. Not Portage's own state.
    fn tree(&self) -> BTreeMap<PathBuf, String> {
        let root = self.prefix.in_final("");
        let state = ["var/db/pkg", "var/cache/edb", "var/lib/portage"].map(|dir| root.join(dir));
        let walk = walkdir::WalkDir::new(&root).into_iter();
        let mut tree = BTreeMap::new();
        for entry in walk.filter_entry(|entry| !state.iter().any(|dir| entry.path() == dir)) {
            let entry = entry.unwrap();
            let kind = entry.file_type();
            let content = if kind.is_symlink() {
                fs_err::read_link(entry.path()).unwrap().into_os_string().into_encoded_bytes()
            } else if kind.is_file() {
                fs_err::read(entry.path()).unwrap()
            } else {
                Vec::new()
            };
            let mode = entry.metadata().unwrap().permissions().mode();
            let digest = fprefix::base::data::hex(&<sha2::Sha256 as sha2::Digest>::digest(content));
            let path = entry.path().strip_prefix(&root).unwrap().to_owned();
            tree.insert(path, format!("{mode:o} {digest}"));
        }
        for ((package, slot), build) in Self::builds(&self.prefix.r#final) {
            tree.insert(Path::new("package").join(package).join(slot), build);
        }
        tree
    }

    /// Installs final from nothing, which has to make the same of it.
    #[track_caller]
    pub(super) fn is_as_new(&self, step: &str) {
        let before = self.tree();
        let said = self.fprefix(&["renew"]).said().succeeds();
        let after = self.tree();
        let differ = |(path, _): &(&PathBuf, &String)| before.get(*path) != after.get(*path);
        let differences: Vec<_> = before.iter().chain(&after).filter(differ).collect();
        assert!(differences.is_empty(), "after {step}: {differences:#?}\n{said}");
        self.follows("renew");
    }

    /// Two images of final are one.
    pub(super) fn packs_to_one_image(&self) {
        let [first, second] = ["first", "second"].map(|output| {
            let output = self.prefix.world.path(output);
            let args = ["pack", "--no-reports", "--name", "day", "--output"];
            self.fprefix(&args).args([&output]).said().succeeds();
            fs_err::read(output.join("day.raw")).unwrap()
        });
        assert!(first == second, "two images of one root differ");
    }
}
