//! Final has the builds that staging has, and no others.
//!
//! PKGDIR keeps every build that was made, and emerge would choose the newest for final: the wrong
//! one, if staging went back to an older version. Before each run on final its Portage is therefore
//! told two things. Builds are masked of which staging has another (`package.mask`, portage(5);
//! Portage takes build ids in the user's masks). And what final has in another build than staging
//! is in a set, which goes with all that is asked for: the users of a library follow it only
//! together with it (`:=` dependencies of what was built, PMS 8.2.6.3).

use std::collections::HashMap;
use std::path::Path;

use anyhow::Result;

use crate::base::data::{self, Folder};
use crate::base::files;
use crate::base::input;
use crate::base::limits::LIST;
use crate::base::names::Environment;
use crate::portage::cpv::Cpv;
use crate::portage::packages::PackagesIndex;
use crate::portage::vdb::{self, BuildIdentity};
use crate::prefix::definition::Prefix;

/// The name of the set, and of our files in final's configuration.
const SET: &str = "rebuilt-in-staging";

/// The first line of each of them.
const HEAD: &str = "# Written by `fprefix emerge` before each run on final.\n";

/// The line above the masks, which emerge shows with a masked package.
const REASON: &str =
    "# Staging has another build of it, and final has what staging has. Build it there first.\n";

/// Tells final's Portage which builds staging has. Returns the arguments for emerge with which what
/// final has in another build goes along with whatever is installed; none where there is no such
/// build. (Without `--rebuilt-binaries`, options like `--update` leave a package alone of which
/// only the build is another.)
///
/// # Errors
///
/// Fails if a database or the index of PKGDIR cannot be read, or the configuration not written.
pub(crate) fn follow_staging(prefix: &Prefix) -> Result<Vec<String>> {
    let staging = vdb::builds(&prefix.layout.vdb(Environment::Staging))?;
    let there = vdb::builds(&prefix.layout.vdb(Environment::Final))?;
    let index = PackagesIndex::load(&prefix.layout.pkgdir())?;
    let rebuilt = list_rebuilt(&staging, &there, &index);
    let config = prefix.layout.config(Environment::Final);
    let masked = list_masked(&staging, &index).concat();
    write(&config.join("package.mask").join(SET), &format!("{HEAD}\n{REASON}{masked}"))?;
    write(&config.join(SET), &format!("{HEAD}{}", rebuilt.concat()))?;
    write_definition(&config.join("sets.conf"))?;
    if rebuilt.is_empty() {
        return Ok(Vec::new());
    }
    Ok(vec!["--rebuilt-binaries=y".to_owned(), format!("@{SET}")])
}

/// Writes the definition of the set into the folder `sets`, of which Portage reads all files.
fn write_definition(sets: &Path) -> Result<()> {
    if sets.is_file() {
        // The user's own definitions were a file of this name.
        let own = input::read(sets, LIST)?;
        files::remove_file(sets)?;
        files::write_durably(&sets.join("user"), &own)?;
    }
    write(&sets.join("fprefix"), &data::text(Folder::Templates, "portage/sets.conf")?)
}

/// Writes `text` to `file`, unless it is there: Portage reads changed configuration anew.
fn write(file: &Path, text: &str) -> Result<()> {
    if file.is_file() && input::read(file, LIST)? == text.as_bytes() {
        return Ok(());
    }
    files::write_atomically(file, text.as_bytes())
}

/// Returns a line for each build in `index` of a package that `staging` has in other builds alone.
fn list_masked(staging: &[BuildIdentity], index: &PackagesIndex) -> Vec<String> {
    let mut builds: HashMap<String, Vec<&BuildIdentity>> = HashMap::new();
    for build in staging {
        builds.entry(build.cpv.package()).or_default().push(build);
    }
    let is_other = |(cpv, id): &(&Cpv, &str)| {
        builds.get(&cpv.package()).is_some_and(|builds| {
            !builds.iter().any(|build| build.cpv == **cpv && build.build_id == *id)
        })
    };
    let line = |(cpv, id): (&Cpv, &str)| match id {
        "" => format!("={cpv}\n"),
        id => format!("={cpv}-{id}\n"),
    };
    index.builds().filter(is_other).map(line).collect()
}

/// Returns a line for each package of final that `staging` has in the same slot in another build,
/// which can be installed.
fn list_rebuilt(
    staging: &[BuildIdentity],
    there: &[BuildIdentity],
    index: &PackagesIndex,
) -> Vec<String> {
    let is_behind = |wanted: &&BuildIdentity| {
        let same_slot = |build: &&BuildIdentity| {
            build.cpv.package() == wanted.cpv.package() && build.slot == wanted.slot
        };
        there.iter().find(same_slot).is_some_and(|build| build != *wanted)
            && index.path(&wanted.cpv, &wanted.build_id).is_some()
    };
    staging.iter().filter(is_behind).map(|build| format!("={}\n", build.cpv)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(cpv: &str, build_id: &str, build_time: &str) -> BuildIdentity {
        BuildIdentity {
            cpv: cpv.parse().unwrap(),
            slot: "0".to_owned(),
            build_id: build_id.to_owned(),
            build_time: build_time.to_owned(),
        }
    }

    fn index() -> PackagesIndex {
        let builds = [("a/lib-1", "1"), ("a/lib-2", "1"), ("a/use-1", "1"), ("a/use-1", "2")];
        let old = ("a/old-1", "");
        let paragraph = |(cpv, id): &(&str, &str)| format!("BUILD_ID: {id}\nCPV: {cpv}\nPATH: x\n");
        let text: Vec<String> = builds.iter().chain([&old]).map(paragraph).collect();
        PackagesIndex::parse(&text.join("\n"))
    }

    #[test]
    fn a_library_and_its_users_go_together() {
        let staging = [build("a/lib-2", "1", "8"), build("a/use-1", "2", "9")];
        let there = [build("a/lib-1", "1", "5"), build("a/use-1", "1", "6")];
        assert_eq!(list_rebuilt(&staging, &there, &index()), ["=a/lib-2\n", "=a/use-1\n"]);
        assert_eq!(list_masked(&staging, &index()), ["=a/lib-1-1\n", "=a/use-1-1\n"]);
        assert!(list_rebuilt(&staging, &staging, &index()).is_empty());
    }

    #[test]
    fn only_what_final_has_and_pkgdir_has() {
        let staging = [build("a/lib-2", "1", "8"), build("a/gone-2", "1", "9")];
        let there = [build("a/gone-1", "1", "5"), build("a/other-1", "1", "6")];
        assert!(list_rebuilt(&staging, &there, &index()).is_empty());
    }

    #[test]
    fn a_build_that_was_made_anew_under_its_number() {
        let (before, after) = (build("a/lib-1", "1", "5"), build("a/lib-1", "1", "6"));
        assert_eq!(list_rebuilt(&[after], &[before], &index()), ["=a/lib-1\n"]);
    }

    #[test]
    fn builds_without_a_number() {
        let staging = [build("a/old-2", "", "1")];
        assert_eq!(list_masked(&staging, &index()), ["=a/old-1\n"]);
    }

    #[test]
    fn definitions_of_the_user_stay() {
        let dir = tempfile::tempdir().unwrap();
        let sets = dir.path().join("sets.conf");
        fs_err::write(&sets, "[mine]\n").unwrap();
        write_definition(&sets).unwrap();
        write_definition(&sets).unwrap();
        assert_eq!(fs_err::read_to_string(sets.join("user")).unwrap(), "[mine]\n");
        assert!(fs_err::read_to_string(sets.join("fprefix")).unwrap().contains(SET));
    }
}
