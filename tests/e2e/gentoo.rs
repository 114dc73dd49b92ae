//! A Gentoo machine, as far as setup can tell: its paths, its own Portage with what that installed,
//! its repositories. Prefixes are built with all of that, and change none of it.

use crate::harness::{World, contents};
use crate::look_alike::LookAlike;
use crate::prefix::{eroot_of, lend_portage};
use crate::trees::{ebuild_in, profiles, repository};

const EPREFIX: &str = "/usr/local/my-stuff";

/// The tools that packages of the built-in repository are built with, and the packages that have
/// them on Gentoo.
const TOOLS: [(&str, &str); 3] = [
    ("dev-build/meson", "meson"),
    ("dev-build/ninja", "ninja"),
    ("virtual/pkgconfig", "pkg-config"),
];

fn arch() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

/// An ebuild of the machine's, in its main repository; the machine has what it would install, but
/// for the script that it is called like.
fn tool(world: &World, package: &str, version: &str, install: &str) {
    let name = package.split_once('/').unwrap().1;
    let text = format!(
        "EAPI=8\nDESCRIPTION=\"A build tool\"\nHOMEPAGE=\"https://packages.gentoo.org\"\n\
         S=\"${{WORKDIR}}\"\nLICENSE=\"MIT\"\nSLOT=\"0\"\nKEYWORDS=\"amd64 arm64\"\n\
         src_install() {{\n\t{install}\n}}\n"
    );
    world.write(format!("repos/gentoo/{package}/{name}-{version}.ebuild"), text);
}

/// A mount namespace that looks like Gentoo.
fn gentoo(world: &World) -> LookAlike<'_> {
    let mut gentoo = LookAlike::new(world, "0", &[]);
    let etc = gentoo.own("/etc");
    world.write(etc.join("gentoo-release"), "Gentoo Base System release 2.17\n");
    // Portage writes these after each package.
    fs_err::remove_file(etc.join("ld.so.conf")).unwrap();
    world.write(etc.join("ld.so.conf"), "");
    for dir in ["/etc/env.d", "/etc/environment.d", "/usr/local/bin", "/var/db", "/var/db/pkg"] {
        gentoo.empty(dir);
    }
    for dir in ["/var/lib/portage", "/var/cache/edb", "/var/cache/ldconfig", "/var/log", "/var/tmp"]
    {
        gentoo.empty(dir);
    }
    let portage = gentoo.empty("/etc/portage");
    let profile = format!("/var/db/repos/gentoo/profiles/default/linux/{}", arch());
    fs_err::os::unix::fs::symlink(profile, portage.join("make.profile")).unwrap();
    let conf = "[DEFAULT]\nmain-repo = gentoo\n\n[gentoo]\nlocation = /var/db/repos/gentoo\n";
    world.write(portage.join("repos.conf/gentoo.conf"), conf);
    let conf = "[local]\nlocation = /var/db/repos/local\npriority = 50\n";
    world.write(portage.join("repos.conf/local.conf"), conf);
    // What the namespace of an ordinary user cannot do.
    let conf = format!(
        "ACCEPT_KEYWORDS=\"{}\"\n\
         FEATURES=\"-sandbox -usersandbox -userpriv -userfetch -usersync -ipc-sandbox \
         -mount-sandbox -network-sandbox -pid-sandbox -merge-sync -merge-wait -news\"\n",
        arch()
    );
    world.write(portage.join("make.conf"), conf);
    for name in ["gentoo", "local"] {
        let dir = format!("repos/{name}");
        repository(world, &dir, name, if name == "local" { "gentoo" } else { "" });
        world.write(format!("{dir}/profiles/categories"), "app-misc\ndev-build\nvirtual\n");
    }
    profiles(world, "repos/gentoo");
    // The main repository has eclasses.
    world.write("repos/gentoo/eclass/none.eclass", "");
    gentoo.empty("/var/db/repos");
    gentoo.bind(&world.path("repos"), "/var/db/repos");
    gentoo.start_in("/tmp");
    gentoo
}

/// Lets the machine install what its users have it install.
fn install(gentoo: &LookAlike<'_>, packages: &[&str]) {
    let run = gentoo.run("emerge", &["--oneshot", "--quiet"]).args(packages);
    // In a namespace there may be no other user.
    let run = run.env("PORTAGE_USERNAME", "root").env("PORTAGE_GRPNAME", "root");
    run.said().succeeds();
}

#[test]
fn with_the_portage_the_repositories_and_the_tools_of_the_machine() {
    let world = World::new();
    lend_portage(&world);
    let gentoo = gentoo(&world);
    for (package, program) in TOOLS {
        // Builds of others than the authors have more behind the numbers.
        let said = world.run(program).args(["--version"]).said().succeeds().stdout;
        let numbers = said.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap();
        tool(&world, package, numbers.trim_end_matches('.'), ":");
    }
    let script = "printf '#!/bin/sh\\necho made by the tool\\n' > tool; dobin tool";
    tool(&world, "app-misc/tool", "3", script);
    tool(&world, "app-misc/absent", "1", ":");
    install(&gentoo, &["app-misc/tool", "dev-build/meson", "dev-build/ninja", "virtual/pkgconfig"]);
    let with_tool = "BDEPEND=\">=app-misc/tool-3\"\nsrc_prepare() { default; tool > from || die; }";
    ebuild_in(&world, "repos/gentoo", "gentoo", "app-misc/where", "1", with_tool);
    let with_where = "RDEPEND=\"app-misc/where\"";
    ebuild_in(&world, "repos/local", "local", "app-misc/local", "1", with_where);
    let with_absent = "BDEPEND=\"app-misc/absent\"";
    ebuild_in(&world, "repos/local", "local", "app-misc/needs", "1", with_absent);
    let before = contents(&world.path("machine"));

    gentoo.fprefix(&["doctor", "--for", "setup"]).said().prints("machine         Gentoo");
    gentoo.fprefix(&["setup", "my-prefix", EPREFIX]).said().succeeds();
    let said = gentoo.fprefix(&["repo", "list"]).said().succeeds();
    let said = said.prints("\ngentoo                 1  main  /var/db/repos/gentoo\n");
    said.prints("\nlocal                  2        /var/db/repos/local  (masters: gentoo)\n");
    // Meson, Ninja and pkg-config are asked for by what is built in.
    let emerge = ["emerge", "app-misc/local", "app-arch/lz4"];
    gentoo.fprefix(&emerge).said().succeeds();
    let dir = world.home().join("prefixes");
    let dir = fs_err::read_dir(dir).unwrap().next().unwrap().unwrap().path();
    let r#final = eroot_of(&dir.join("final"), EPREFIX);
    let read = |name: &str| fs_err::read_to_string(r#final.join(name)).unwrap();
    assert_eq!(read("usr/share/where"), "made by the tool\nextra\n");
    assert_eq!(read("var/db/pkg/app-misc/where-1/repository"), "gentoo\n");
    assert_eq!(read("var/db/pkg/app-misc/local-1/repository"), "local\n");
    assert!(!r#final.join("usr/bin/tool").exists());
    gentoo.fprefix(&["check"]).said().succeeds();
    gentoo
        .fprefix(&["enter", "--", &format!("{EPREFIX}/usr/bin/lz4"), "--version"])
        .said()
        .succeeds();

    // What the machine lacks is said before anything is built, and what to do.
    let said = gentoo.fprefix(&["emerge", "app-misc/needs"]).said().ends_with(1);
    let said = said.tells("app-misc/absent-1::gentoo (masked by: package.mask)");
    said.tells("emerge --oneshot CATEGORY/PACKAGE");
    let said = gentoo.fprefix(&["repo", "sync", "gentoo"]).said().ends_with(1);
    said.tells("`emaint sync --repo gentoo`");
    // The machine is as it was: nothing was claimed of it, and nothing installed.
    let mut after = contents(&world.path("machine"));
    let wrappers = world.path("machine/links/usr/local/bin");
    after.retain(|entry| !before.contains(entry) && !entry.0.starts_with(&wrappers));
    assert_eq!(after, []);
    assert!(!dir.join("staging/broot/etc/portage/profile").exists());
    install(&gentoo, &["app-misc/absent"]);
    gentoo.fprefix(&["emerge", "--stage", "app-misc/needs"]).said().succeeds();
}
