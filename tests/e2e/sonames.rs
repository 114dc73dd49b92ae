//! Libraries that get another soname while programs still need the old one.

use std::path::Path;

use crate::prefix::{Prefix, own};

/// Versions of a library; the soname ends with the version. The program needs whatever is there.
const LIBRARY: &str = r#"
src_install() {
	echo "int of_${PN}(void) { return 40 + ${PV}; }" > library.c || die
	"${CHOST}-gcc" ${CFLAGS} ${LDFLAGS} -shared -fPIC -Wl,-soname,"lib${PN}.so.${PV}" \
		library.c -o "lib${PN}.so.${PV}" || die
	dolib.so "lib${PN}.so.${PV}"
	dosym "lib${PN}.so.${PV}" "/usr/$(get_libdir)/lib${PN}.so"
}
"#;

const PROGRAM: &str = r#"
RDEPEND="test-cases/${PN#needs-}"
DEPEND="${RDEPEND}"
src_install() {
	echo "int of_${PN#needs-}(void); int main(void) { return of_${PN#needs-}(); }" > p.c || die
	"${CHOST}-gcc" ${CFLAGS} ${LDFLAGS} p.c "-l${PN#needs-}" -o "${PN}" || die
	dobin "${PN}"
}
"#;

fn write_ebuild(prefix: &Prefix, name: &str, version: &str, body: &str) {
    let head = "EAPI=8\nDESCRIPTION=\"A library or a program\"\nHOMEPAGE=\"https://packages.gentoo.org\"\n\
                S=\"${WORKDIR}\"\nLICENSE=\"MIT\"\nSLOT=\"0\"\nKEYWORDS=\"amd64 arm64\"\n";
    let file = format!("overlay/test-cases/{name}/{name}-{version}.ebuild");
    prefix.world.write(file, format!("{head}{body}"));
}

/// The versions of the library that are in an environment, by the end of the soname.
fn versions(library: &Path) -> Vec<&'static str> {
    let is_there = |version: &&str| library.with_extension(format!("so.{version}")).exists();
    ["1", "2"].into_iter().filter(is_there).collect()
}

#[test]
fn libraries_stay_until_nothing_needs_them_and_check_tells_what_to_build_again() {
    let prefix = own();
    for name in ["one", "two"] {
        write_ebuild(&prefix, name, "1", LIBRARY);
        write_ebuild(&prefix, name, "2", LIBRARY);
        write_ebuild(&prefix, &format!("needs-{name}"), "1", PROGRAM);
    }
    let emerge = |args: &[&str]| prefix.fprefix(&["emerge", "--oneshot"]).args(args);
    let runs = |program: &str, status: i32| {
        let status = status.to_string();
        let run = prefix.fprefix(&["check", "--expect-status", &status, "--run", program]);
        run.said().succeeds();
    };
    let [one, two] = ["one", "two"].map(|name| format!("usr/lib64/lib{name}"));
    let both = [prefix.in_staging(&one), prefix.in_final(&one)];
    let both = both.into_iter().chain([prefix.in_staging(&two), prefix.in_final(&two)]);
    let all_have = |expected: &[&str]| {
        for library in both.clone() {
            assert_eq!(versions(&library), expected, "{}", library.display());
        }
    };

    let first = ["=test-cases/one-1", "=test-cases/two-1", "needs-one", "needs-two"];
    emerge(&first).said().succeeds();
    emerge(&["=test-cases/one-2"]).said().succeeds();
    emerge(&["=test-cases/two-2"]).said().succeeds();
    all_have(&["1", "2"]);
    runs("needs-two", 41);
    emerge(&["@preserved-rebuild"]).said().succeeds();
    all_have(&["2"]);
    runs("needs-two", 42);

    let without = emerge(&["=test-cases/one-1"]).env("FEATURES", "-preserve-libs");
    without.said().succeeds();
    let said = prefix.fprefix(&["check", "--rule", "needed"]).said().ends_with(3);
    let said = said.prints("/usr/bin/needs-one: needs libone.so.2, which is not in the prefix");
    let said = said.prints("libone.so.2 is gone: test-cases/one-1 has libone.so.1 in its place");
    let command = "emerge --oneshot test-cases/needs-one:0`";
    assert!(said.stdout.contains(command), "{said}");
    emerge(&["test-cases/needs-one:0"]).said().succeeds();
    prefix.fprefix(&["check"]).said().succeeds();
    runs("needs-one", 41);
}
