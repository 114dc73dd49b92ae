//! Everyday work with a prefix: packages get new versions, sonames, slots, names and USE flags, and
//! go. After each step final has staging's builds, no file of it is wrong, and it is the same as one
//! that is installed from nothing.

mod changes;
mod packages;
mod repository;
mod state;
mod year;

use std::ffi::OsString;
use std::path::PathBuf;

use crate::harness::{Run, Said};
use crate::prefix::{Prefix, own};

/// A prefix with an ebuild repository, on a machine: all of them change.
struct Everyday {
    prefix: Prefix,
    repository: PathBuf,
    /// Data of another version of fprefix.
    data: Option<PathBuf>,
    /// Words that start fprefix on the machine as it is now.
    machine: Vec<OsString>,
}

impl Everyday {
    fn new() -> Self {
        let prefix = own();
        let repository = prefix.world.path("overlay");
        Self { prefix, repository, data: None, machine: Vec::new() }
    }

    fn fprefix(&self, args: &[&str]) -> Run<'_> {
        let run = self.prefix.fprefix(args);
        match &self.data {
            Some(data) => run.env("FPREFIX_DATA", data),
            None => run,
        }
    }

    fn emerge(&self, args: &[&str]) -> Said {
        self.fprefix(&["emerge"]).args(args).said()
    }

    /// Runs emerge, which has to succeed, and looks at what final is then.
    #[track_caller]
    fn act(&self, args: &[&str]) -> Said {
        let said = self.emerge(args).succeeds();
        self.follows(&args.join(" "));
        said
    }

    fn final_has(&self, path: &str) -> bool {
        self.prefix.in_final(path).exists()
    }

    /// The version in the file of a [plain](Self::plain) package in final.
    fn version(&self, name: &str) -> Option<String> {
        let file = self.prefix.in_final(&format!("usr/share/{name}/version"));
        fs_err::read_to_string(file).ok().map(|text| text.trim().to_owned())
    }
}

#[test]
fn libraries_and_what_uses_them() {
    let day = Everyday::new();
    for version in [1, 2] {
        day.library("tracked", version);
    }
    day.user("follows", "tracked", ":=");
    day.act(&["=test-cases/tracked-1", "follows"]);

    // The new soname takes along, in final too, what Portage built anew in staging.
    let said = day.act(&["=test-cases/tracked-2"]);
    assert!(said.stderr.contains("@rebuilt-in-staging"), "{said}");
    assert!(day.final_has("usr/lib64/libtracked.so.2"), "{said}");
    assert!(!day.final_has("usr/lib64/libtracked.so.1"), "{said}");
    let world = fs_err::read_to_string(day.prefix.in_final("var/lib/portage/world")).unwrap();
    assert!(!world.contains("rebuilt-in-staging"), "{world}");

    // Back to the older version, although PKGDIR has the newer one.
    day.act(&["=test-cases/tracked-1"]);
    assert!(day.final_has("usr/lib64/libtracked.so.1"));
    day.is_as_new("a downgrade");
    let said = day.emerge(&["--install", "=test-cases/tracked-2"]).ends_with(1);
    said.tells("Staging has another build of it");
}

#[test]
fn versions_flags_names_and_blockers() {
    let day = Everyday::new();
    day.plain("plain", 1, "");
    day.plain("before", 1, "RDEPEND=\"test-cases/plain\"");
    day.act(&["plain", "before"]);
    day.plain("plain", 2, "");
    day.act(&["-uDN", "@world"]);
    assert_eq!(day.version("plain").as_deref(), Some("2"));
    // Built in staging alone, and installed later with something else.
    let flags = day.prefix.staging.join("etc/portage/package.use/everyday");
    fs_err::write(&flags, "test-cases/plain extra\n").unwrap();
    day.emerge(&["--stage", "-N", "plain"]).succeeds();
    assert_eq!(day.version("plain").as_deref(), Some("2"));
    day.act(&["-n", "before"]);
    assert_eq!(day.version("plain").as_deref(), Some("2 extra"));
    // The version is gone from the repository.
    day.remove_ebuild("plain", 2);
    day.act(&["-uDN", "@world"]);
    assert_eq!(day.version("plain").as_deref(), Some("1 extra"));

    // A package gets another name (PMS 4.4.4, package moves).
    day.announce("move test-cases/before test-cases/after");
    fs_err::remove_dir_all(day.repository.join("test-cases/before")).unwrap();
    day.plain("after", 1, "RDEPEND=\"test-cases/plain\"");
    day.act(&["-uDN", "@world"]);
    let (r#final, _) = day.prefix.packages();
    assert!(r#final.contains(&"test-cases/after-1".to_owned()), "{final:?}");
    assert!(!r#final.contains(&"test-cases/before-1".to_owned()), "{final:?}");
    day.is_as_new("a package move");

    // A package of staging alone goes from there.
    day.plain("tool", 1, "");
    day.emerge(&["--stage", "tool"]).succeeds();
    day.act(&["--depclean", "tool"]);

    // What blocks a package takes its place.
    day.plain("instead", 1, "RDEPEND=\"!test-cases/after\"");
    day.emerge(&["-C", "after"]).succeeds();
    day.act(&["instead"]);
    day.act(&["--depclean", "instead"]);
    day.act(&["--depclean"]);
    for nothing in ["@preserved-rebuild", "@module-rebuild"] {
        day.act(&[nothing]);
    }
    assert_eq!(day.version("instead"), None);
    day.is_as_new("depclean");
}
