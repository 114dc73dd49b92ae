//! The whole line from one file: built, built again, locked, and held to the lock.

use std::path::PathBuf;

use sha2::{Digest, Sha256};

use crate::harness::trace::Recording;
use crate::harness::{Said, World};
use crate::prefix::{lend_portage, overlay};

/// A world with a build file in it.
struct Project {
    world: World,
}

impl Project {
    fn new() -> Self {
        let world = World::new();
        lend_portage(&world);
        overlay(&world);
        Self { world }
    }

    /// Writes the build file and builds it.
    fn build(&self, packages: &str, rest: &str, args: &[&str]) -> Said {
        let text = format!(
            "[prefix]\nname = \"line\"\neprefix = \"/usr/local/fprefix-line\"\n\
             wrapper-dir = \"wrappers\"\n[trees]\noverlays = [\"overlay\"]\n\
             [pack]\noutput = \"out\"\nkeep = [\"libc-tools\"]\n[emerge]\npackages = [{packages}]\n{rest}\n"
        );
        self.world.write("fprefix.toml", text);
        self.again(args)
    }

    fn again(&self, args: &[&str]) -> Said {
        self.world.fprefix(["build"]).args(args).said()
    }

    /// What is at `path` of the prefix in final.
    fn in_final(&self, path: &str) -> PathBuf {
        let dir = std::fs::read_dir(self.world.home().join("prefixes")).unwrap().next().unwrap();
        dir.unwrap().path().join("final/root/usr/local/fprefix-line").join(path)
    }

    fn image(&self) -> String {
        let bytes = fs_err::read(self.world.path("out/line.raw")).unwrap();
        fprefix::base::data::hex(&Sha256::digest(bytes))
    }
}

const BOTH: &str = r#""test-cases/small", "test-cases/flagged""#;

#[test]
fn a_file_is_built_locked_and_built_again() {
    let project = Project::new();
    let runs = "[check]\nrun = [\"getconf LONG_BIT\"]\n";
    let without = format!("package-use.\"test-cases/flagged\" = \"-extra\"\n{runs}");
    let said = project.build(BOTH, &without, &[]).succeeds();
    assert!(said.stdout.contains("line.raw (squashfs"), "{said}");
    assert!(project.in_final("usr/share/flagged/always").exists());
    assert!(!project.in_final("usr/share/flagged/extra").exists());

    // USE that changed is built anew, and goes into final; with nothing changed nothing is built.
    project.build(BOTH, runs, &[]).succeeds();
    assert!(project.in_final("usr/share/flagged/extra").exists());
    let first = project.image();
    let said = project.again(&[]).succeeds();
    assert!(!said.stderr.contains(">>> Emerging"), "{said}");
    assert!(!said.stderr.contains(">>> Installing"), "{said}");
    assert_eq!(project.image(), first);

    project
        .again(&["--locked"])
        .ends_with(1)
        .tells("there is no")
        .tells("`fprefix lock` writes it");
    let recording = Recording::to(project.world.path("trace"));
    project.world.fprefix(["lock"]).through(recording.words()).said().succeeds();
    recording.read().assert_durable(&project.world.path("fprefix.lock"));
    project.again(&["--locked"]).succeeds();
    assert_eq!(project.image(), first);
    refuses_what_moved(&project, runs, &without);

    // Somewhere else, the same lock gives the same image.
    project.world.fprefix(["remove", "--yes", "line"]).said().succeeds();
    project.build(BOTH, runs, &["--locked"]).succeeds();
    assert_eq!(project.image(), first);

    // What the file no longer names goes; what does not run is not packed.
    let said = project.build(r#""test-cases/small""#, "[check]\nrun = [\"small\"]\n", &[]);
    said.ends_with(3).tells("nothing was packed").prints("ended with status 42");
    assert!(!project.in_final("usr/share/flagged").exists());
    assert!(project.in_final("usr/bin/small").exists());
    assert_eq!(project.image(), first);
    let other = r#""test-cases/dies""#;
    project.build(other, "", &[]).ends_with(1).tells("failed in its compile phase");
    assert!(project.in_final("usr/bin/small").exists());
}

/// Everything that the lock names, changed; nothing is built of it.
fn refuses_what_moved(project: &Project, runs: &str, without: &str) {
    let image = project.image();
    let said = project.build(BOTH, without, &["--locked"]).ends_with(1);
    said.tells("something moved since it was locked").tells("package-use is");
    let said = project.build(r#""test-cases/small""#, runs, &["--locked"]).ends_with(1);
    said.tells("packages is [\"test-cases/small\"], locked is");

    let ebuild = project.world.path("overlay/test-cases/small/small-1.ebuild");
    let text = fs_err::read_to_string(&ebuild).unwrap();
    fs_err::write(&ebuild, text.replace("return 42", "return 43")).unwrap();
    let said = project.build(BOTH, runs, &["--locked"]).ends_with(1);
    said.tells("the repository test-cases is at sha256:");
    fs_err::write(&ebuild, text).unwrap();

    // As when somebody emerged into the prefix by hand.
    let emerge = project.world.fprefix(["emerge", "--oneshot", "test-cases/flagged"]);
    emerge.env("USE", "-extra").said().succeeds();
    assert!(!project.in_final("usr/share/flagged/extra").exists());
    project.build(BOTH, runs, &["--locked"]).succeeds();
    assert_eq!(project.image(), image);
}

/// Files that the phases of a package write are locked and noted, and go with the package.
#[test]
fn files_that_no_package_owns() {
    let project = Project::new();
    let both = r#""test-cases/small", "test-cases/generates""#;
    project.build(both, "", &[]).succeeds();
    assert!(project.in_final("usr/share/generates/generated").exists());
    let said = project.world.fprefix(["check", "-v", "--rule", "unowned"]).said().succeeds();
    for path in ["usr/share/generates/generated", "var/lib/generates/state"] {
        assert!(said.stdout.contains(path), "{said}");
    }
    assert!(!said.stdout.contains("generates/installed"), "{said}");

    let said = project.world.fprefix(["renew", "--dry-run"]).said().succeeds();
    assert!(
        said.stdout.contains("of no package: /usr/local/fprefix-line/var/lib/generates"),
        "{said}"
    );
    project.world.fprefix(["lock"]).said().succeeds();
    project.again(&["--locked"]).succeeds();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs_err::set_permissions(project.in_final("usr/share/generates/installed"), mode).unwrap();
    let said = project.again(&["--locked"]).ends_with(1);
    said.tells("a mode, an owner or an attribute in final is another one than the locked one");
    project.world.fprefix(["renew"]).said().succeeds();
    let said = project.again(&["--locked"]).ends_with(1).tells("something moved");
    said.tells("usr/share/generates/generated, which belongs to no package, is another one");

    project.build(r#""test-cases/small""#, "", &[]).succeeds();
    for gone in ["usr/share/generates", "var/lib/generates"] {
        assert!(!project.in_final(gone).exists(), "{gone}");
    }
    assert!(project.in_final("usr/bin/small").exists());
    let said = project.again(&[]).succeeds();
    assert!(!said.stderr.contains("installing final anew"), "{said}");
}
