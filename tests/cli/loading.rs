//! Which library the loader opens, before and after rewriting: the prefix's own loader is asked, in a
//! root that holds nothing else, and so is `fprefix elf libraries`.

use std::collections::BTreeMap;
use std::path::Path;

use fprefix::elf::{self, Edit, LibraryTag, SearchPathEdit};

use super::libc_root::{compile, compile_by, errors, loader_name, machine_file, on};
use crate::harness::small_root::{SmallRoot, fprefix};
use crate::harness::tools::{both_streams, output_of, stdout_of_success};
use crate::random::Random;

const EPREFIX: &str = "/opt/load";

/// A root with a C library, and programs and libraries to make others of.
pub(super) struct Loads {
    pub(super) root: SmallRoot,
    /// File name of the loader.
    loader: String,
    pub(super) library: Vec<u8>,
    program: Vec<u8>,
}

impl Loads {
    /// With the machine's C library.
    pub(super) fn new() -> Self {
        let root = SmallRoot::empty(EPREFIX);
        for name in ["libc.so.6", loader_name()] {
            root.copy(machine_file(name), &format!("usr/lib64/{name}"), 0o755);
        }
        Self::made(root, "gcc", loader_name())
    }

    /// With musl as Alpine has it: loader and C library are one file, which has two names.
    pub(super) fn musl() -> Self {
        let root = SmallRoot::empty(EPREFIX);
        let arch = std::env::consts::ARCH;
        let (loader, libc) = (format!("ld-musl-{arch}.so.1"), format!("libc.musl-{arch}.so.1"));
        let bytes = fs_err::read(format!("/usr/lib/{arch}-linux-musl/libc.so")).unwrap();
        let soname = Edit { soname: Some(libc.clone().into()), ..Edit::default() };
        let mut loads = Self::made(root, "musl-gcc", &loader);
        loads.put(&format!("usr/lib64/{loader}"), &bytes, &soname);
        loads.root.link(&loader, &format!("usr/lib64/{libc}"));
        let needed = vec![(b"libc.so".to_vec(), libc.into_bytes())];
        let edit = Edit { replace_needed: needed, ..Edit::default() };
        loads.program = elf::plan(&loads.program, &edit).unwrap().apply_to_vec(&loads.program);
        loads
    }

    fn made(root: SmallRoot, compiler: &str, loader: &str) -> Self {
        let options = ["-shared", "-fPIC", "-nostdlib"];
        let library = "int f(void) { return 1; }\n";
        compile_by(compiler, &root, "l.c", library, "usr/made/l", &options);
        let name = format!("-Wl,--dynamic-linker={EPREFIX}/usr/lib64/{loader}");
        let options = ["-Wl,--disable-new-dtags", &name];
        let program = "int main(void) { return 0; }\n";
        compile_by(compiler, &root, "p.c", program, "usr/made/p", &options);
        let read = |name: &str| fs_err::read(root.inside(name)).unwrap();
        let (library, program) = (read("usr/made/l"), read("usr/made/p"));
        fs_err::remove_dir_all(root.inside("usr/made")).unwrap();
        Self { root, loader: loader.to_owned(), library, program }
    }

    pub(super) fn put(&self, path: &str, base: &[u8], edit: &Edit) {
        let bytes = elf::plan(base, edit).unwrap().apply_to_vec(base);
        let place = self.root.inside(path);
        fs_err::create_dir_all(place.parent().unwrap()).unwrap();
        fs_err::write(&place, bytes).unwrap();
        self.root.mode(path, 0o755);
    }

    /// Puts a library that is named like its file.
    pub(super) fn library(&self, path: &str, edit: Edit) {
        let name = path.rsplit('/').next().unwrap();
        self.put(path, &self.library, &Edit { soname: Some(name.into()), ..edit });
    }

    pub(super) fn program(&self, path: &str, needed: &[&str], search: SearchPathEdit) {
        self.put(path, &self.program, &Edit { search_path: search, ..needs(needed) });
    }

    /// Asks the loader (`--list`): paths without links by names, or `None` if it refuses.
    fn list(&self, path: &str) -> Option<BTreeMap<String, String>> {
        let root = self.root.root();
        let text = self.print_list(&root, path)?;
        let pair = |line: &str| {
            let (name, rest) = line.trim().split_once(" => ")?;
            Some((name.to_owned(), self.real(rest.split(" (").next()?)))
        };
        let is_loader = |name: &String| name.ends_with(&self.loader);
        let found: BTreeMap<_, _> =
            text.lines().filter_map(pair).filter(|(name, _)| !is_loader(name)).collect();
        (!found.values().any(|path| path.contains("not found"))).then_some(found)
    }

    /// Asks the loader of the tree at `root`: paths without links of what it loads, each as often as it is
    /// loaded, or `None` if it refuses.
    pub(super) fn list_paths(&self, root: &Path, path: &str) -> Option<Vec<String>> {
        let text = self.print_list(root, path)?;
        if text.contains("not found") {
            return None;
        }
        let of = |line: &str| {
            let line = line.trim();
            let path = line.split_once(" => ").map_or(line, |(_, path)| path).split(" (").next()?;
            (path.starts_with('/') && !path.ends_with(&self.loader)).then(|| real_in(root, path))
        };
        let mut paths: Vec<String> = text.lines().filter_map(of).collect();
        paths.sort();
        Some(paths)
    }

    fn print_list(&self, root: &Path, path: &str) -> Option<String> {
        let tree = root.join("opt");
        let loader = format!("{EPREFIX}/usr/lib64/{}", self.loader);
        let file = format!("{EPREFIX}/{path}");
        let options = ["--unshare-all", "--die-with-parent", "--clearenv", "--ro-bind"];
        let words =
            [tree.to_str().unwrap(), "/opt", "--proc", "/proc", "--", &loader, "--list", &file];
        let output = output_of("bwrap", [options.as_slice(), &words].concat());
        if !output.status.success() {
            let said = both_streams(&output);
            assert!(said.contains(EPREFIX) && !said.contains("bwrap"), "{said}");
            return None;
        }
        Some(String::from_utf8(output.stdout).unwrap())
    }

    fn real(&self, path: &str) -> String {
        real_in(&self.root.root(), path)
    }

    /// Answers of `fprefix elf libraries` for all files, in the form of [`Loads::list`].
    fn answers(&self) -> BTreeMap<String, Option<BTreeMap<String, String>>> {
        let output = fprefix()
            .args(["elf", "libraries", "--json", "--eprefix", EPREFIX, "--root"])
            .arg(self.root.root())
            .output()
            .unwrap();
        let all: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let one = |file: &serde_json::Value| {
            let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
            let libraries = file["libraries"].as_array().unwrap();
            let found: Option<BTreeMap<_, _>> = libraries
                .iter()
                .filter(|library| library["name"] != self.loader.as_str())
                .map(|library| Some((text(&library["name"])?, self.real(&text(&library["path"])?))))
                .collect();
            let file = text(&file["file"]).unwrap();
            (file.strip_prefix(EPREFIX).unwrap().trim_start_matches('/').to_owned(), found)
        };
        all.as_array().unwrap().iter().map(one).collect()
    }

    /// Puts libraries into several directories, some under the same name, and programs that need them and
    /// name the directories in any order.
    pub(super) fn fill_at_random(&self, random: &mut Random) {
        let dirs = ["usr/lib", "usr/lib/a", "usr/lib/b", "usr/libexec/c", "usr/lib64"];
        self.root.link("../libexec/c", "usr/lib/link");
        let some = |random: &mut Random, most: usize| 1 + random.below(most);
        for number in 0..6 {
            for _ in 0..some(random, 2) {
                let dir = dirs[random.below(dirs.len())];
                let needed = format!("lib{}.so.1", number + 1);
                let edit = if number < 5 && random.below(2) == 0 {
                    let search_path = search(random);
                    Edit { search_path, ..needs(&[&needed]) }
                } else {
                    Edit::default()
                };
                self.library(&format!("{dir}/lib{number}.so.1"), edit);
            }
        }
        for number in 0..12 {
            let names: Vec<String> =
                (0..some(random, 4)).map(|_| format!("lib{}.so.1", random.below(6))).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            self.program(&format!("usr/bin/p{number}"), &names, search(random));
        }
    }

    pub(super) fn rewrite(&self, options: &[&str]) -> String {
        stdout_of_success(on(&self.root, &[&["rewrite"], options].concat()))
    }

    fn shown(&self, path: &str) -> String {
        let file = self.root.inside(path);
        stdout_of_success(fprefix().args(["elf", "show"]).arg(file).output().unwrap())
    }
}

fn real_in(root: &Path, path: &str) -> String {
    let Some(below) = path.strip_prefix('/') else { return path.to_owned() };
    let real = fs_err::canonicalize(root.join(below)).unwrap();
    let root = fs_err::canonicalize(root).unwrap();
    format!("/{}", real.strip_prefix(root).unwrap().to_str().unwrap())
}

pub(super) fn needs(names: &[&str]) -> Edit {
    Edit { add_needed: names.iter().map(|name| (*name).into()).collect(), ..Edit::default() }
}

pub(super) fn rpath(text: &str) -> SearchPathEdit {
    SearchPathEdit::Rpath(text.replace('@', EPREFIX).into())
}

/// Libraries in several directories, some under the same name, programs that name the directories in
/// any order and in any way: the loader finds the same files after rewriting, and `check` knew them.
#[test]
fn random_search_paths_mean_the_same_afterwards() {
    for seed in [0x10ad, 2, 3] {
        compare_random_search_paths(seed, Loads::new);
    }
}

#[test]
fn random_search_paths_mean_the_same_to_musl() {
    for seed in [0x305, 1, 4] {
        compare_random_search_paths(seed, Loads::musl);
    }
}

fn compare_random_search_paths(seed: u64, loads: fn() -> Loads) {
    let mut random = Random::numbered(seed);
    let mut compared = 0;
    for round in 0..3 {
        let loads = loads();
        loads.fill_at_random(&mut random);
        let before = loads.answers();
        let listed: BTreeMap<_, _> =
            before.keys().map(|file| (file.clone(), loads.list(file))).collect();
        assert_eq!(before, listed, "round {round}");
        loads.rewrite(if round == 1 { &["--relative"] } else { &[] });
        let after = loads.answers();
        for (file, found) in &listed {
            let now = loads.list(file);
            assert_eq!(after[file], now, "{file} in round {round}: {}", loads.shown(file));
            if found.is_some() {
                compared += 1;
                assert_eq!(now, *found, "{file} in round {round}: {}", loads.shown(file));
            }
        }
        let said = loads.rewrite(if round == 1 { &["--relative"] } else { &[] });
        assert!(said.ends_with("0 changed\n"), "{said}");
    }
    assert!(compared > 20, "{compared} programs and libraries started: too few to mean much");
}

/// A search path of a few directories, each named in one of the ways that there are.
fn search(random: &mut Random) -> SearchPathEdit {
    let entries: Vec<String> = (0..=random.below(4))
        .map(|_| {
            let dir = ["lib", "lib/a", "lib/b", "libexec/c", "lib64", "lib/link", "lib/link/../c"]
                [random.below(7)];
            match random.below(4) {
                0 => format!("$ORIGIN/../{dir}"),
                1 => format!("{EPREFIX}/usr/bin/../{dir}/"),
                2 => format!("{EPREFIX}/usr/lib/none:{EPREFIX}/usr/{dir}"),
                _ => format!("{EPREFIX}/usr/{dir}"),
            }
        })
        .collect();
    let text = (entries.join(":") + ":" + EPREFIX + "/usr/lib64").into();
    if random.below(3) == 0 { SearchPathEdit::Runpath(text) } else { SearchPathEdit::Rpath(text) }
}

#[test]
fn what_a_file_names_keeps_its_order() {
    let loads = Loads::new();
    loads.library("usr/lib/a/libx.so.1", Edit::default());
    loads.library("usr/lib/b/libx.so.1", Edit::default());
    loads.library("usr/lib/b/liby.so.1", Edit::default());
    loads.library("usr/lib/plugins/libplug.so", Edit::default());
    // Only what is opened while it runs is in usr/lib/plugins.
    let path = "@/usr/lib/a:@/usr/lib/b:@/usr/lib:@/usr/lib/plugins:/usr/lib:@/usr/lib64/../lib64";
    loads.program("usr/bin/p", &["liby.so.1", "libx.so.1"], rpath(path));
    loads.rewrite(&[]);
    let kept = "@/usr/lib/a:@/usr/lib/b:@/usr/lib:@/usr/lib/plugins:@/usr/lib64/../lib64";
    let shown = loads.shown("usr/bin/p");
    assert!(shown.contains(&format!(" {}\n", kept.replace('@', EPREFIX))), "{shown}");
    let x = |found: BTreeMap<String, String>| found["libx.so.1"].clone();
    assert_eq!(loads.list("usr/bin/p").map(x).unwrap(), format!("{EPREFIX}/usr/lib/a/libx.so.1"));
    assert_eq!(errors(&loads.root), []);
}

/// A library that finds another by the search path of its program gets no directory of its own, if
/// that has another library of the name.
#[test]
fn what_a_file_inherits_stays_its_own() {
    let loads = Loads::new();
    for dir in ["usr/lib/app", "usr/lib64"] {
        loads.library(&format!("{dir}/libcrypto.so.1"), Edit::default());
    }
    loads.library("usr/lib/app/libssl.so.1", needs(&["libcrypto.so.1"]));
    loads.program("usr/bin/app", &["libssl.so.1"], rpath("@/usr/lib/app:@/usr/lib64"));
    // This one loads it by its path, and had the machine's libcrypto.
    let path = format!("{EPREFIX}/usr/lib/app/libssl.so.1");
    loads.program("usr/bin/other", &[&path], SearchPathEdit::Keep);
    loads.rewrite(&[]);
    let crypto = |file: &str| loads.list(file).unwrap()["libcrypto.so.1"].clone();
    assert_eq!(crypto("usr/bin/app"), format!("{EPREFIX}/usr/lib/app/libcrypto.so.1"));
    assert_eq!(crypto("usr/bin/other"), format!("{EPREFIX}/usr/lib64/libcrypto.so.1"));
    assert_eq!(errors(&loads.root), []);
    assert!(loads.rewrite(&[]).ends_with(" 0 changed\n"));
}

/// `$LIB` is what the loader that is in the prefix makes of it.
#[test]
fn tokens_are_those_of_the_loader() {
    let loads = Loads::new();
    let triple = Path::new(&machine_file("libc.so.6")).parent().unwrap().to_owned();
    let lib = if triple.ends_with("lib64") {
        "lib64".to_owned()
    } else {
        format!("lib/{}", triple.file_name().unwrap().to_str().unwrap())
    };
    loads.library(&format!("usr/{lib}/libtoken.so.1"), Edit::default());
    loads.library("usr/lib/libtoken.so.1", Edit::default());
    loads.program("usr/bin/p", &["libtoken.so.1"], rpath("@/usr/$LIB:@/usr/lib64"));
    loads.program("usr/bin/braces", &["libtoken.so.1"], rpath("@/usr/${LIB}:@/usr/lib64"));
    loads.program("usr/bin/text", &["libtoken.so.1"], rpath("@/usr/$LIBS:@/usr/lib:@/usr/lib64"));
    let listed = |file| loads.list(file).map(|found| found["libtoken.so.1"].clone());
    for (file, dir) in [("usr/bin/p", &*lib), ("usr/bin/braces", &lib), ("usr/bin/text", "lib")] {
        let place = Some(format!("{EPREFIX}/usr/{dir}/libtoken.so.1"));
        assert_eq!(listed(file), place, "{file}");
        loads.rewrite(&[]);
        assert_eq!(listed(file), place, "{file}");
    }
    assert_eq!(errors(&loads.root), []);
    assert!(loads.shown("usr/bin/p").contains("/usr/$LIB:"));
}

/// Filters, auxiliary libraries and auditors are libraries too.
#[test]
fn other_tags_that_load_libraries_are_read() {
    let loads = Loads::new();
    loads.library("usr/lib/impl/libimpl.so.1", Edit::default());
    loads.library("usr/lib/libaudit.so", Edit::default());
    let compile = |name: &str, options: &[&str]| {
        let options = [&["-shared", "-fPIC", "-nostdlib", "-Wl,--disable-new-dtags"], options];
        let to = format!("usr/lib64/{name}");
        compile(&loads.root, "t.c", "int f(void) { return 2; }\n", &to, &options.concat());
    };
    let soname = |name: &str| format!("-Wl,-soname,{name}");
    compile("libfil.so.1", &[&soname("libfil.so.1"), "-Wl,-F,libimpl.so.1"]);
    compile("libaux.so.1", &[&soname("libaux.so.1"), "-Wl,-f,/usr/lib/libtarget.so.1"]);
    compile(
        "libaud.so.1",
        &[&soname("libaud.so.1"), "-Wl,--audit,/usr/lib/libaudit.so:/usr/no.so"],
    );
    compile("libgone.so.1", &[&soname("libgone.so.1"), "-Wl,-F,libnowhere.so.1"]);
    for name in ["fil", "aux", "aud", "gone"] {
        let needed = format!("lib{name}.so.1");
        loads.program(&format!("usr/bin/{name}"), &[&needed], rpath("@/usr/lib64"));
    }
    let before = errors(&loads.root);
    let has = |path: &str, text: &str| {
        let path = format!("{EPREFIX}/{path}");
        before.iter().any(|(_, of, detail)| *of == path && detail.contains(text))
    };
    assert!(has("usr/lib64/libfil.so.1", "needs libimpl.so.1 as its filter"), "{before:?}");
    assert!(has("usr/lib64/libaux.so.1", "/usr/lib/libtarget.so.1 as its auxiliary"), "{before:?}");
    assert!(has("usr/lib64/libaud.so.1", "is audited by /usr/no.so"), "{before:?}");
    assert!(has("usr/bin/gone", "does not start"), "{before:?}");
    loads.rewrite(&[]);
    let after: Vec<_> =
        errors(&loads.root).into_iter().map(|(rule, path, _)| (rule, path)).collect();
    let place = |path: &str| format!("{EPREFIX}/{path}");
    assert_eq!(
        after,
        [
            ("start".to_owned(), place("usr/bin/gone")),
            ("needed".to_owned(), place("usr/lib64/libgone.so.1")),
        ]
    );
    assert!(loads.list("usr/bin/fil").unwrap().contains_key("libimpl.so.1"));
    let shown = loads.shown("usr/lib64/libaud.so.1");
    assert!(shown.contains(&format!("audit       {EPREFIX}/usr/lib/libaudit.so\n")), "{shown}");
    assert!(!loads.shown("usr/lib64/libaux.so.1").contains("auxiliary"));
    let remove = ["elf", "set", "--remove-filter", "libnowhere.so.1"];
    let gone = loads.root.inside("usr/lib64/libgone.so.1");
    stdout_of_success(fprefix().args(remove).arg(&gone).output().unwrap());
    let image = elf::read(&fs_err::read(gone).unwrap()).unwrap();
    assert!(!image.other_libraries.iter().any(|(tag, _)| *tag == LibraryTag::Filter));
    assert_eq!(errors(&loads.root), []);
}

/// Files with the name of a library are not always libraries.
#[test]
fn names_are_not_contents() {
    let loads = Loads::new();
    let names = ["text", "empty", "dir", "foreign", "cut"];
    for name in names {
        let library = format!("lib{name}.so.1");
        loads.program(&format!("usr/bin/{name}"), &[&library], SearchPathEdit::Keep);
    }
    loads.root.file("usr/lib64/libtext.so.1", "libtext.so.1.0");
    loads.root.file("usr/lib64/libempty.so.1", "");
    fs_err::create_dir(loads.root.inside("usr/lib64/libdir.so.1")).unwrap();
    let mut foreign = loads.library.clone();
    // e_machine: the loader goes on to the next directory.
    foreign[18] ^= 0x40;
    fs_err::write(loads.root.inside("usr/lib64/libforeign.so.1"), foreign).unwrap();
    loads.library("usr/lib/own/libforeign.so.1", Edit::default());
    fs_err::write(loads.root.inside("usr/lib64/libcut.so.1"), &loads.library[..50]).unwrap();
    loads.library("usr/lib64/libover.so.1", needs(&["libtext.so.1"]));
    loads.program("usr/bin/over", &["libover.so.1"], SearchPathEdit::Keep);
    loads.rewrite(&[]);
    assert!(loads.list("usr/bin/foreign").is_some());
    let found = errors(&loads.root);
    for name in ["text", "empty", "dir", "cut", "over"] {
        let path = format!("{EPREFIX}/usr/bin/{name}");
        assert_eq!(loads.list(&format!("usr/bin/{name}")), None, "{name}");
        assert!(found.iter().any(|(_, of, _)| *of == path), "{name}: {found:?}");
    }
    assert!(!found.iter().any(|(_, of, _)| of.ends_with("/foreign")), "{found:?}");
    let output = on(&loads.root, &["check"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!said.contains("fprefix rewrite"), "rewriting does not help: {said}");
}

/// `$ORIGIN` is the directory of the name by which a library is opened, and not that of the file
/// behind a link; a hard link has a directory for each name.
#[test]
fn origin_is_where_a_library_is_opened() {
    for relative in [false, true] {
        let loads = Loads::new();
        loads.library("usr/lib/deep/er/libdep.so.1", Edit::default());
        let own = Edit { search_path: rpath("$ORIGIN/er"), ..needs(&["libdep.so.1"]) };
        loads.library("usr/lib/deep/libone.so.1", own.clone());
        loads.library("usr/lib/deep/libtwo.so.1", own);
        loads.root.link("deep/libone.so.1", "usr/lib/libone.so.1");
        let two = loads.root.inside("usr/lib/deep/libtwo.so.1");
        fs_err::hard_link(two, loads.root.inside("usr/lib/libtwo.so.1")).unwrap();
        for name in ["one", "two"] {
            let library = format!("lib{name}.so.1");
            // The program names a directory alone in which the library is a link.
            loads.program(&format!("usr/bin/{name}"), &[&library], rpath("@/usr/lib:@/usr/lib64"));
            assert_eq!(loads.list(&format!("usr/bin/{name}")), None);
        }
        let found = errors(&loads.root);
        let of = |name: &str| found.iter().any(|(_, path, _)| path.ends_with(name));
        assert!(of("deep/libone.so.1") && of("lib/libtwo.so.1"), "{found:?}");
        loads.rewrite(if relative { &["--relative"] } else { &[] });
        assert_eq!(errors(&loads.root), [], "{relative}");
        for name in ["one", "two"] {
            assert!(loads.list(&format!("usr/bin/{name}")).is_some(), "{name}, {relative}");
        }
        assert!(
            loads.shown("usr/lib/deep/libone.so.1").contains(EPREFIX),
            "one path for all names"
        );
    }
}

/// A loader that is in the prefix stays, and one outside becomes the one beside the C library.
#[test]
fn loaders_stay_with_their_libc() {
    let loads = Loads::new();
    let loader = loader_name();
    for name in ["libc.so.6", loader] {
        loads.root.copy(machine_file(name), &format!("usr/lib/other/{name}"), 0o755);
    }
    loads.root.copy(machine_file(loader), &format!("usr/lib/third/{loader}"), 0o755);
    let interpreter = |path: &str| Some(path.replace('@', EPREFIX).into_bytes());
    let put = |name: &str, path: &str, search: &str| {
        let edit =
            Edit { interpreter: interpreter(path), search_path: rpath(search), ..Edit::default() };
        loads.put(name, &loads.program, &edit);
    };
    put("usr/bin/inside", &format!("@/usr/lib/third/{loader}"), "@/usr/lib/other");
    put("usr/bin/outside", &format!("/lib64/{loader}"), "@/usr/lib/other");
    put("usr/bin/plain", &format!("/lib64/{loader}"), "@/usr/lib64");
    loads.rewrite(&[]);
    for (program, dir) in [("inside", "lib/third"), ("outside", "lib/other"), ("plain", "lib64")] {
        let shown = loads.shown(&format!("usr/bin/{program}"));
        assert!(shown.contains(&format!(" {EPREFIX}/usr/{dir}/{loader}\n")), "{shown}");
    }
    assert_eq!(errors(&loads.root), []);
    // Another build of the loader prints another release.
    let path = loads.root.inside(&format!("usr/lib/third/{loader}"));
    let mut bytes = fs_err::read(&path).unwrap();
    let needle = b") stable release version ";
    let at = bytes.windows(needle.len()).position(|window| window == needle);
    if let Some(at) = at {
        bytes[at - 1] ^= 1;
        fs_err::write(&path, bytes).unwrap();
        let found = errors(&loads.root);
        assert!(found.iter().any(|(rule, path, detail)| {
            rule == "interpreter" && path.ends_with("/inside") && detail.contains("C library")
        }));
    }
}

/// A program that gets rights by setuid or file capabilities does not use `$ORIGIN`.
#[test]
fn origin_is_nothing_to_privileged_programs() {
    let loads = Loads::new();
    loads.library("usr/lib/own/libown.so.1", Edit::default());
    let path = "$ORIGIN/../lib/own:@/usr/lib64";
    loads.program("usr/bin/setuid", &["libown.so.1"], rpath(path));
    loads.root.mode("usr/bin/setuid", 0o4755);
    loads.program("usr/bin/plain", &["libown.so.1"], rpath(path));
    let found = errors(&loads.root);
    assert!(found.iter().any(|(rule, path, _)| rule == "needed" && path.ends_with("/setuid")));
    assert!(!found.iter().any(|(_, path, _)| path.ends_with("/plain")), "{found:?}");
    loads.rewrite(&["--relative"]);
    assert_eq!(errors(&loads.root), []);
    assert!(!loads.shown("usr/bin/setuid").contains("$ORIGIN"));
    assert!(loads.shown("usr/bin/plain").contains("$ORIGIN/../lib/own:$ORIGIN/../lib64"));
}
