//! Binary packages from a server: one that works, and all that can be wrong with one.

use std::path::{Path, PathBuf};

use crate::binhost::{COMPILED, EPREFIX, dir, logs, make_key};
use crate::harness::{Running, World};

/// A web server on this machine, which shows a directory. It ends with the value.
pub(crate) struct Server {
    process: Running,
    pub uri: String,
}

impl Server {
    pub(crate) fn of(world: &World, dir: &Path, port: &str) -> Self {
        let serve = ["-u", "-m", "http.server", "--bind", "127.0.0.1", "--directory"];
        let mut process = world
            .run("python3")
            .args(serve)
            .args([dir])
            .args([port])
            .through(["bwrap", "--dev-bind", "/", "/", "--die-with-parent", "--"])
            .start();
        assert!(process.until(|server| server.stdout().contains("(http://")), "it does not serve");
        let said = process.stdout();
        let uri = said.split('(').nth(1).unwrap().split("/)").next().unwrap().to_owned();
        Self { process, uri }
    }

    fn port(&self) -> &str {
        self.uri.rsplit(':').next().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.signal(rustix::process::Signal::KILL);
    }
}

/// A prefix that takes what is in the directory `binpkgs` of `world` from a server: small, signed by
/// nobody.
pub(crate) fn by_uri(world: &World) {
    let server = Server::of(world, &world.path("binpkgs"), "0");
    let setup = ["setup", "third", EPREFIX, "--wrapper-dir", "wrappers", "--overlay", "overlay"];
    let more = ["--relocatable", "--binhost", &server.uri];
    let said = world.fprefix(setup).args(more).said().succeeds();
    assert!(!said.stderr.contains("nothing can be had"), "{said}");
    let said = said.tells("are neither encrypted nor checked for a signature");
    said.tells("hint: use https, or ask for signatures");
    let said = emerge(world, "small").said().succeeds();
    assert!(said.stdout.contains(">>> Emerging binary (1 of 1) test-cases/small-1"), "{said}");
    assert!(!logs(world, "third", "staging").contains(COMPILED));
    world.fprefix(["-P", "third", "check"]).said().succeeds();

    // A package that is not what the list says, and one that is not there.
    let package = package(world, "small");
    let whole = fs_err::read(&package).unwrap();
    for (bytes, why) in [
        (Some(&whole[..3000]), "its digest is not the one in the binhost's list of packages"),
        (None, "it could not be fetched, although the binhost's list of packages has it"),
    ] {
        forget(world, "small");
        match bytes {
            Some(bytes) => fs_err::write(&package, bytes).unwrap(),
            None => fs_err::remove_file(&package).unwrap(),
        }
        let said = emerge(world, "small").said().ends_with(1);
        let said = said.tells("the binary package of test-cases/small-1 was refused: ").tells(why);
        said.tells("emerge --usepkg-exclude=test-cases/small test-cases/small`");
        assert!(!installed(world, "usr/bin/small"));
    }
    let built = emerge(world, "small").args(["--usepkg-exclude=test-cases/small"]);
    built.said().succeeds();
    assert!(installed(world, "usr/bin/small"));
    fs_err::write(&package, whole).unwrap();
    forget(world, "small");
    let said = emerge(world, "small").said().succeeds();
    assert!(said.stdout.contains(">>> Emerging binary (1 of 1) test-cases/small-1"), "{said}");

    // A server that says nonsense, and one that is gone: nothing can be had, and nothing stops.
    let key = package.ancestors().nth(3).unwrap();
    let lists = ["Packages", "Packages.gz"].map(|name| key.join(name));
    let before = lists.each_ref().map(|list| fs_err::read(list).unwrap());
    for list in &lists {
        fs_err::write(list, "\u{1}nonsense").unwrap();
    }
    forget(world, "small");
    let said = emerge(world, "small").said().succeeds();
    assert!(said.stderr.contains("Error fetching binhost package info"), "{said}");
    assert!(said.stdout.contains(">>> Emerging (1 of 1) test-cases/small-1"), "{said}");
    for (list, bytes) in lists.iter().zip(before) {
        fs_err::write(list, bytes).unwrap();
    }
    let port = server.port().to_owned();
    drop(server);
    forget(world, "small");
    let said = emerge(world, "small").said().succeeds();
    assert!(said.stderr.contains("Error fetching binhost package info"), "{said}");
    assert!(said.stderr.contains("Connection refused"), "{said}");
    assert!(installed(world, "usr/bin/small"));
    world.write("port", port);
}

/// The prefix of [`by_uri`] asks for signatures, and has the key of another than who signed.
pub(crate) fn by_uri_signed(world: &World, keys: &Path) {
    let port = fs_err::read_to_string(world.path("port")).unwrap();
    let _server = Server::of(world, &world.path("binpkgs"), &port);
    let staging = dir(world, "third", "staging");
    let keyring = staging.join("etc/portage/gnupg");
    for environment in [&staging, &dir(world, "third", "final")] {
        let settings = "FEATURES=\"${FEATURES} binpkg-request-signature\"\n";
        world.write(environment.join("etc/portage/make.conf.user"), settings);
    }
    make_key(world, &keyring);
    let said = emerge(world, "flagged").said().ends_with(1);
    assert!(!said.stderr.contains("neither encrypted"), "{said}");
    let said = said.tells("the binary package of test-cases/flagged-1 was refused: no key in");
    said.tells("etc/portage/gnupg has signed it");
    assert!(!installed(world, "usr/share/flagged/always"));
    // Signed by nobody at all.
    forget(world, "small");
    let said = emerge(world, "small").said().ends_with(1);
    said.tells("the binary package of test-cases/small-1 was refused: ");
    assert!(!installed(world, "usr/bin/small"));
    // With the right key it is taken.
    fprefix::base::files::remove(&keyring).unwrap();
    world.run("cp").args(["-a", "-T"]).args([keys, &keyring]).said().succeeds();
    let said = emerge(world, "flagged").said().succeeds();
    assert!(said.stdout.contains(">>> Emerging binary (1 of 1) test-cases/flagged-1"), "{said}");
    assert!(installed(world, "usr/share/flagged/always"));
}

fn emerge<'w>(world: &'w World, package: &str) -> crate::harness::Run<'w> {
    let package = format!("test-cases/{package}");
    world.fprefix(["-P", "third", "emerge", "--oneshot", &package])
}

fn installed(world: &World, file: &str) -> bool {
    let eroot = Path::new("root").join(EPREFIX.trim_start_matches('/'));
    ["staging", "final"]
        .iter()
        .any(|name| dir(world, "third", name).join(&eroot).join(file).exists())
}

/// The binary package of the server.
fn package(world: &World, name: &str) -> PathBuf {
    let found = walkdir::WalkDir::new(world.path("binpkgs")).into_iter();
    let mut found = found.map(|entry| entry.unwrap().into_path());
    found.find(|path| path.ends_with(format!("{name}/{name}-1-1.gpkg.tar"))).unwrap()
}

/// Takes the package away, and what was fetched or built of it.
fn forget(world: &World, name: &str) {
    let package = format!("test-cases/{name}");
    let unmerge = ["-P", "third", "emerge", "--unmerge", &package];
    world.fprefix(unmerge).said();
    let pkgdir = dir(world, "third", "staging").join("pkgs");
    fprefix::base::files::remove(&pkgdir.join("test-cases")).unwrap();
    for list in ["Packages", "Packages.gz"] {
        // There need not be one.
        let _ = fs_err::remove_file(pkgdir.join(list));
    }
}
