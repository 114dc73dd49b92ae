//! Everyday work with a prefix: packages get new versions, sonames, slots, names and USE flags, and
//! go. After each step final has staging's builds, no file of it is wrong, and it is the same as one
//! that is installed from nothing.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use fprefix::portage::vdb;

use crate::harness::Said;
use crate::prefix::{Prefix, contents_are_true, own, vdb as vdb_of};
use crate::random::Random;

/// A prefix with an ebuild repository that changes.
struct Everyday {
    prefix: Prefix,
}

impl Everyday {
    fn new() -> Self {
        Self { prefix: own() }
    }

    fn repository(&self) -> PathBuf {
        self.prefix.world.path("overlay")
    }

    /// Writes the ebuild of `name`-`version` with these lines.
    fn ebuild(&self, name: &str, version: u32, lines: &str) {
        let text = format!(
            "# Copyright 2026 The fprefix authors\n\
             # Distributed under the terms of the MIT licence or the Apache License 2.0\n\n\
             EAPI=8\nDESCRIPTION=\"A package of every day\"\n\
             HOMEPAGE=\"https://packages.gentoo.org\"\nLICENSE=\"MIT\"\n\
             KEYWORDS=\"amd64 arm64\"\nS=\"${{WORKDIR}}\"\n{lines}\n"
        );
        let file = format!("test-cases/{name}/{name}-{version}.ebuild");
        self.prefix.world.write(self.repository().join(file), text);
    }

    /// A package with one file, which tells its version and a USE flag.
    fn plain(&self, name: &str, version: u32, rest: &str) {
        let install = format!(
            "SLOT=0\nIUSE=\"extra\"\n{rest}\nsrc_install() {{\n\tinsinto /usr/share/{name}\n\
             \tnewins - version <<< \"{version} $(usev extra)\"\n}}"
        );
        self.ebuild(name, version, &install);
    }

    /// A library whose soname has its version.
    fn library(&self, name: &str, version: u32) {
        let install = format!(
            "SLOT=\"0/{version}\"\nsrc_install() {{\n\
             \techo 'int {name}(void) {{ return {version}; }}' > l.c || die\n\
             \t\"${{CHOST}}-gcc\" ${{CFLAGS}} ${{LDFLAGS}} -shared -fPIC \
             -Wl,-soname,lib{name}.so.{version} l.c -o lib{name}.so.{version} || die\n\
             \tdolib.so lib{name}.so.{version}\n\
             \tdosym lib{name}.so.{version} /usr/$(get_libdir)/lib{name}.so\n}}"
        );
        self.ebuild(name, version, &install);
    }

    /// A program that prints the version of the library that it uses. `operator` is `:=` or nothing.
    fn user(&self, name: &str, library: &str, operator: &str) {
        let install = format!(
            "SLOT=0\nRDEPEND=\"test-cases/{library}{operator}\"\nDEPEND=\"${{RDEPEND}}\"\n\
             src_install() {{\n\
             \techo 'int {library}(void); int main(void) {{ return {library}(); }}' > m.c || die\n\
             \t\"${{CHOST}}-gcc\" ${{CFLAGS}} ${{LDFLAGS}} m.c -l{library} -o {name} || die\n\
             \tdobin {name}\n}}"
        );
        self.ebuild(name, 1, &install);
    }

    fn remove_ebuild(&self, name: &str, version: u32) {
        let file = format!("test-cases/{name}/{name}-{version}.ebuild");
        fs_err::remove_file(self.repository().join(file)).unwrap();
    }

    fn emerge(&self, args: &[&str]) -> Said {
        self.prefix.fprefix(&["emerge"]).args(args).said()
    }

    /// Runs emerge, which has to succeed, and looks at what final is then.
    #[track_caller]
    fn act(&self, args: &[&str]) -> Said {
        let said = self.emerge(args).succeeds();
        self.follows(&args.join(" "));
        said
    }

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
    fn follows(&self, step: &str) {
        let (staging, there) =
            (Self::builds(&self.prefix.staging), Self::builds(&self.prefix.r#final));
        for (package, build) in &there {
            if let Some(wanted) = staging.get(package) {
                assert_eq!(build, wanted, "after {step}");
            }
        }
        contents_are_true(&self.prefix.world, &self.prefix.r#final);
        let said = self.prefix.fprefix(&["check"]).said();
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
    fn is_as_new(&self, step: &str) {
        let before = self.tree();
        let said = self.prefix.fprefix(&["renew"]).said().succeeds();
        let after = self.tree();
        let differ = |(path, _): &(&PathBuf, &String)| before.get(*path) != after.get(*path);
        let differences: Vec<_> = before.iter().chain(&after).filter(differ).collect();
        assert!(differences.is_empty(), "after {step}: {differences:#?}\n{said}");
        self.follows("renew");
    }

    /// Two images of final are one.
    fn packs_to_one_image(&self) {
        let [first, second] = ["first", "second"].map(|output| {
            let output = self.prefix.world.path(output);
            let args = ["pack", "--no-reports", "--name", "day", "--output"];
            self.prefix.fprefix(&args).args([&output]).said().succeeds();
            fs_err::read(output.join("day.raw")).unwrap()
        });
        assert!(first == second, "two images of one root differ");
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
    let repository = day.repository();
    fs_err::create_dir_all(repository.join("profiles/updates")).unwrap();
    fs_err::write(
        repository.join("profiles/updates/4Q-2026"),
        "move test-cases/before test-cases/after\n",
    )
    .unwrap();
    fs_err::remove_dir_all(repository.join("test-cases/before")).unwrap();
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

/// The steps of the random year that a test takes, unless `FPREFIX_YEAR_STEPS` says more.
const STEPS: usize = 7;

/// The random year: its seed and its number of steps.
fn year() -> (u64, usize) {
    let read = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
    let steps = read("FPREFIX_YEAR_STEPS").map_or(STEPS, |steps| usize::try_from(steps).unwrap());
    (read("FPREFIX_YEAR_SEED").unwrap_or(20), steps)
}

/// The plain packages of the year.
const PLAIN: [&str; 4] = ["spring", "summer", "autumn", "winter"];
/// Its libraries, each with a program that uses it: with `:=`, and without.
const LIBRARIES: [(&str, &str, &str); 2] = [("tracked", "follows", ":="), ("loose", "lags", "")];

/// The prefix of the year, and the versions of each package in its repository.
struct Year {
    day: Everyday,
    random: Random,
    versions: BTreeMap<&'static str, Vec<u32>>,
}

impl Year {
    fn new(seed: u64) -> Self {
        let day = Everyday::new();
        let versions = BTreeMap::new();
        let mut year = Self { day, random: Random::numbered(seed), versions };
        for name in PLAIN.into_iter().chain(LIBRARIES.map(|(library, _, _)| library)) {
            year.add_version(name);
        }
        for (library, user, operator) in LIBRARIES {
            year.day.user(user, library, operator);
        }
        year
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.random.below(list.len())]
    }

    /// A new version comes into the repository.
    fn add_version(&mut self, name: &'static str) {
        let versions = self.versions.entry(name).or_default();
        let version = versions.last().map_or(1, |last| last + 1);
        versions.push(version);
        if LIBRARIES.iter().any(|(library, _, _)| *library == name) {
            return self.day.library(name, version);
        }
        // What is needed is an earlier one of the list, so that there is no circle.
        let at = PLAIN.iter().position(|plain| *plain == name).unwrap();
        let needed = (at > 0).then(|| PLAIN[self.random.below(at)]);
        let dependency = needed.map(|needed| format!("RDEPEND=\"test-cases/{needed}\"\n"));
        let writes = self.random.below(2) == 0;
        let generated = format!(
            "pkg_postinst() {{\n\techo {version} > \"${{EROOT}}/usr/share/{name}/made\" || die\n}}\n\
             pkg_postrm() {{\n\t[[ -n ${{REPLACED_BY_VERSION}} ]] || rm -f \
             \"${{EROOT}}/usr/share/{name}/made\"\n}}"
        );
        let rest = dependency.unwrap_or_default() + if writes { &generated } else { "" };
        self.day.plain(name, version, &rest);
    }

    /// Takes a step, and returns what it was.
    fn step(&mut self) -> String {
        let all: Vec<&str> = PLAIN.into_iter().chain(LIBRARIES.map(|(_, user, _)| user)).collect();
        match self.random.below(9) {
            0 | 1 => {
                let name = self.pick(&all);
                self.emerge(&[name])
            }
            2 => {
                let name = self.pick(&PLAIN);
                self.add_version(name);
                self.emerge(&["-uDN", "@world"])
            }
            3 => {
                let (library, _, _) = self.pick(&LIBRARIES);
                self.add_version(library);
                self.emerge(&["-uDN", "@world"])
            }
            4 => {
                let name = self.pick(&[PLAIN[0], PLAIN[1], PLAIN[2], PLAIN[3], "tracked", "loose"]);
                let versions = self.versions[name].clone();
                let version = self.pick(&versions);
                self.emerge(&[&format!("=test-cases/{name}-{version}")])
            }
            5 => {
                let name = self.pick(&all);
                self.emerge(&["--deselect", name]) + " " + &self.emerge(&["--depclean"])
            }
            6 => {
                let file = self.day.prefix.staging.join("etc/portage/package.use/year");
                let name = self.pick(&PLAIN);
                let flag = self.pick(&["extra", "-extra"]);
                fs_err::write(file, format!("test-cases/{name} {flag}\n")).unwrap();
                self.emerge(&["-uDN", "@world"])
            }
            7 => {
                let name = self.pick(&all);
                self.day.emerge(&["--stage", name]).succeeds();
                self.emerge(&["--install", name])
            }
            _ => {
                self.emerge(&["@preserved-rebuild"]);
                self.emerge(&["--depclean"])
            }
        }
    }

    fn emerge(&self, args: &[&str]) -> String {
        let said = self.day.emerge(args);
        let text = args.join(" ");
        assert_eq!(said.code(), 0, "{text}: {said}");
        self.day.follows(&text);
        text
    }
}

/// Steps that are drawn at random. `FPREFIX_YEAR_SEED` and `FPREFIX_YEAR_STEPS` choose others.
#[test]
fn a_year_in_a_prefix() {
    let (seed, steps) = year();
    let mut year = Year::new(seed);
    let mut taken = Vec::new();
    for step in 1..=steps {
        taken.push(year.step());
        println!("step {step} of seed {seed}: {}", taken.last().unwrap());
        if step % 10 == 0 || step == steps {
            // Then nothing is there that is kept only until what uses it is built anew.
            year.emerge(&["@preserved-rebuild"]);
            year.emerge(&["--depclean"]);
            year.day.packs_to_one_image();
            year.day.is_as_new(&taken.join("; "));
        }
    }
}
