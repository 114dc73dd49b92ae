//! A tree as Flatcar's checkout has it: repositories that build upon each other, a profile for the
//! board, a skeleton of masks that names a repository as it was once called.

use fprefix::portage::vdb;

use crate::harness::{World, write_program};
use crate::prefix::{eroot_of, lend_portage};

/// An ebuild that installs the file `name`, which says which repository of the checkout it is of.
pub(crate) fn ebuild(world: &World, repository: &str, package: &str, version: &str, more: &str) {
    let dir = format!("scripts/sdk_container/src/third_party/{repository}");
    ebuild_in(world, &dir, repository, package, version, more);
}

/// The same in the repository at `dir`.
pub(crate) fn ebuild_in(
    world: &World,
    dir: &str,
    repository: &str,
    package: &str,
    version: &str,
    more: &str,
) {
    let name = package.split_once('/').unwrap().1;
    let text = format!(
        "EAPI=8\n\
         DESCRIPTION=\"A file that says where it is from\"\n\
         HOMEPAGE=\"https://packages.gentoo.org\"\n\
         S=\"${{WORKDIR}}\"\n\
         LICENSE=\"MIT\"\nSLOT=\"0\"\nIUSE=\"+extra\"\n\
         KEYWORDS=\"amd64 arm64\"\n{more}\n\
         src_unpack() {{ echo {repository} > from || die; }}\n\
         src_install() {{\n\
         \tuse extra && {{ echo extra >> from || die; }}\n\
         \tinsinto /usr/share; newins from {name}\n\
         }}\n"
    );
    world.write(format!("{dir}/{package}/{name}-{version}.ebuild"), text);
}

/// A repository without ebuilds.
pub(crate) fn repository(world: &World, dir: &str, name: &str, masters: &str) {
    world.write(format!("{dir}/profiles/repo_name"), format!("{name}\n"));
    world.write(format!("{dir}/profiles/categories"), "app-misc\nsys-libs\nvirtual\n");
    let layout = format!("masters = {masters}\nthin-manifests = true\n");
    world.write(format!("{dir}/metadata/layout.conf"), layout);
}

/// Profiles as Gentoo's repository has them, in the one at `dir`: for each kind of machine one, and
/// two below it for prefixes, of which the older cannot be used.
pub(crate) fn profiles(world: &World, dir: &str) {
    let profiles = format!("{dir}/profiles");
    let linux = format!("{profiles}/default/linux");
    world.write(format!("{profiles}/arch.list"), "amd64\narm64\n");
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/profiles/portage");
    for name in ["base", "amd64", "arm64"] {
        for entry in fs_err::read_dir(format!("{own}/{name}")).unwrap() {
            let path = entry.unwrap().path();
            let file = path.file_name().unwrap().to_str().unwrap();
            world.write(format!("{linux}/{name}/{file}"), fs_err::read(&path).unwrap());
        }
    }
    // A prefix does without what a profile of Gentoo's has in its @system.
    world.write(format!("{linux}/base/packages"), "*sys-apps/systemd\n");
    for arch in ["amd64", "arm64"] {
        for (version, parent) in [("9.0", "../../../../none"), ("23.0", "../../../..")] {
            let dir = format!("{linux}/{arch}/{version}/no-multilib/prefix/kernel-3.2+");
            world.write(format!("{dir}/parent"), format!("{parent}\n"));
            world.write(format!("{dir}/eapi"), "8\n");
        }
    }
}

/// A checkout like flatcar/scripts, as small as it can be.
pub(crate) fn checkout(world: &World) {
    let third_party = "scripts/sdk_container/src/third_party";
    for (dir, name, masters) in [
        ("portage-stable", "portage-stable", ""),
        ("coreos-overlay", "coreos-overlay", "portage-stable"),
        ("prefix-overlay", "prefix", "portage-stable"),
    ] {
        repository(world, &format!("{third_party}/{dir}"), name, masters);
    }
    profiles(world, &format!("{third_party}/portage-stable"));
    let skeleton = format!("{third_party}/prefix-overlay/skel/etc/portage");
    world.write(format!("{skeleton}/package.mask/coreos"), "app-misc/where::coreos # not there\n");
    world.write(format!("{skeleton}/package.accept_keywords/prefix"), "=app-misc/where-3 ~*\n");
}

/// The words that start a program on a machine whose meson is of another time.
fn with_old_meson(world: &World) -> Vec<String> {
    let old = world.path("old-meson");
    write_program(&old, "#!/bin/sh\necho 0.55.3\n");
    let old = old.to_str().unwrap();
    ["bwrap", "--dev-bind", "/", "/", "--ro-bind", old, "/usr/bin/meson", "--"]
        .map(str::to_owned)
        .into()
}

#[test]
fn a_checkout_as_flatcar_has_it() {
    let world = World::new();
    lend_portage(&world);
    checkout(&world);
    // The mask says coreos, and means coreos-overlay: its version would be the newest.
    ebuild(&world, "coreos-overlay", "app-misc/where", "9", "RDEPEND=\"sys-apps/systemd\"");
    // Nobody has app-misc/script: the user says that the machine does.
    let needs = "BDEPEND=\"app-misc/tool >=app-misc/script-2 >=dev-build/meson-1.2.3\"\n\
                 src_compile() { meson --version >> from || die; }";
    ebuild(&world, "prefix-overlay", "app-misc/where", "2", needs);
    let third_party = "scripts/sdk_container/src/third_party";
    world.write(format!("{third_party}/portage-stable/eclass/meson.eclass"), "");
    let old_meson = with_old_meson(&world);
    world.write("config/broot.provided", "app-misc/script-2.1 # by hand\n");
    ebuild(&world, "portage-stable", "app-misc/where", "2", "");
    // The built-in repository has a newer one.
    ebuild(&world, "portage-stable", "app-misc/jq", "1.0", "RDEPEND=\"app-misc/where\"");
    // No machine has it: it is built into BROOT.
    ebuild(&world, "portage-stable", "app-misc/tool", "1", "");
    world.write("config/package.use/where", "app-misc/where -extra\n");
    let setup = ["setup", "tree", "/usr/local/fprefix-tree", "--wrapper-dir", "w"];
    let tree = ["--tree", "scripts", "--package-config", "config", "--verbose"];
    let plan = world.fprefix(setup).args(tree).args(["--dry-run"]).through(&old_meson).said();
    assert!(plan.succeeds().stdout.contains("fetch meson "));
    let said = world
        .fprefix(setup)
        .args(tree)
        .env("PIP_INDEX_URL", "file:///nowhere")
        .through(&old_meson)
        .said()
        .succeeds();
    said.tells("taken as coreos-overlay: app-misc/where::coreos-overlay")
        .tells("meson is left to Portage to build: ");
    // As soon as there is a network again, what the machine lacks is brought.
    repository(&world, "more", "more", "portage-stable");
    let said = world.fprefix(["repo", "add", "more"]).through(&old_meson).said().succeeds();
    said.tells("fetching meson ");
    world.fprefix(["emerge", "app-misc/jq"]).through(&old_meson).said().succeeds();
    let dir = world.home().join("prefixes");
    let dir = fs_err::read_dir(dir).unwrap().next().unwrap().unwrap().path();
    let r#final = eroot_of(&dir.join("final"), "/usr/local/fprefix-tree");
    let from = |name: &str| fs_err::read_to_string(r#final.join("usr/share").join(name)).unwrap();
    let tools = fs_err::read_dir(world.home().join("tools")).unwrap().flatten();
    let mut tools = tools.map(|entry| entry.file_name().into_string().unwrap());
    let meson = tools.find_map(|name| name.strip_prefix("meson-").map(str::to_owned));
    assert_eq!(from("where"), format!("prefix-overlay\n{}\n", meson.unwrap()));
    assert_eq!(from("jq"), "portage-stable\nextra\n");
    assert!(!r#final.join("usr/share/tool").exists());
    assert!(dir.join("staging/broot/usr/share/tool").exists());
    let packages = vdb::packages(&r#final.join("var/db/pkg")).unwrap();
    assert!(!packages.iter().any(|package| package.name().contains("systemd")), "{packages:?}");
    // A repository that went away is named, with what to do.
    let scripts = world.path("scripts");
    fs_err::rename(&scripts, world.path("elsewhere")).unwrap();
    let said = world.fprefix(["emerge", "-p", "app-misc/jq"]).said().ends_with(1);
    said.tells("the repository portage-stable is not at");
}

/// A tool that is built into BROOT, with a library that is built there before it: it is compiled,
/// linked and run with that. The profile builds for merged roots alone, as Gentoo's of 23.0 do.
#[test]
fn what_is_built_into_broot_uses_what_was_built_there() {
    let world = World::new();
    lend_portage(&world);
    checkout(&world);
    let write = |package: &str, more: &str| {
        let name = package.split_once('/').unwrap().1;
        let text = format!(
            "EAPI=8\nDESCRIPTION=\"Counts\"\nHOMEPAGE=\"https://packages.gentoo.org\"\n\
             S=\"${{WORKDIR}}\"\nLICENSE=\"MIT\"\nSLOT=\"0\"\nKEYWORDS=\"amd64 arm64\"\n{more}"
        );
        let tree = "scripts/sdk_container/src/third_party/portage-stable";
        world.write(format!("{tree}/{package}/{name}-1.ebuild"), text);
    };
    world.write(
        "scripts/sdk_container/src/third_party/portage-stable/profiles/default/linux/base/profile.bashrc",
        "[[ ${EBUILD_PHASE} != setup || ! -d ${EROOT%/}/bin || -L ${EROOT%/}/bin ]] || die split\n",
    );
    write("sys-libs/small", LIBRARY);
    write("app-misc/counts", TOOL);
    write("app-misc/where", USER);
    world
        .fprefix(["setup", "tree", "/usr/local/fprefix-broot", "--wrapper-dir", "w"])
        .args(["--tree", "scripts"])
        .said()
        .succeeds();
    world.fprefix(["emerge", "app-misc/where"]).said().succeeds();
    let dir = world.home().join("prefixes");
    let dir = fs_err::read_dir(dir).unwrap().next().unwrap().unwrap().path();
    let r#final = eroot_of(&dir.join("final"), "/usr/local/fprefix-broot");
    assert_eq!(fs_err::read_to_string(r#final.join("usr/share/where")).unwrap(), "7\n");
    for path in ["usr/lib64/libsmall.so.1", "usr/bin/small-version"] {
        assert!(dir.join("staging/broot").join(path).exists(), "{path}");
    }
}

const LIBRARY: &str = r"
src_compile() {
	echo 'int small(void);' > small.h || die
	echo 'int small(void) { return 7; }' > small.c || die
	gcc -shared -fPIC -Wl,-soname,libsmall.so.1 -o libsmall.so.1 small.c || die
}
src_install() {
	insinto /usr/include; doins small.h
	exeinto /usr/lib64; doexe libsmall.so.1
	dosym libsmall.so.1 /usr/lib64/libsmall.so
	exeinto /bin; newexe - small-version <<< 'echo 1'
}
";

const TOOL: &str = r#"DEPEND="sys-libs/small"
RDEPEND="${DEPEND}"
src_compile() {
	printf '#include <small.h>\n#include <stdio.h>\nint main(void) { printf("%%d\\n", small()); }\n' \
		> counts.c || die
	"${CHOST}-gcc" -o counts counts.c -lsmall || die
}
src_install() { dobin counts; }
"#;

const USER: &str = r#"BDEPEND="app-misc/counts"
src_compile() { counts > where || die; }
src_install() { insinto /usr/share; doins where; }
"#;
