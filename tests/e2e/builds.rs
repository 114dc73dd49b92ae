//! Every way to build that the built-in repository uses: autotools, CMake, Meson, C and C++.

use crate::prefix::own;

#[test]
fn programs_of_every_build_system_stay_inside() {
    let prefix = own();
    let packages = ["net-misc/socat", "app-text/cmark", "app-arch/lz4", "dev-util/gperf"];
    prefix.fprefix(&[&["emerge"], packages.as_slice()].concat()).said().succeeds();
    prefix.fprefix(&["check"]).said().succeeds().prints("nothing reaches outside of the prefix");
    for program in ["socat -V", "cmark --version", "lz4 --version", "gperf --version"] {
        let proof = prefix.fprefix(&["check", "--run", program]).said().succeeds();
        proof.prints("ended with status 0").prints(", 0 from outside");
    }
}

#[test]
fn the_time_of_a_build_is_not_in_it() {
    let prefix = own();
    prefix.fprefix(&["emerge", "--oneshot", "test-cases/dated"]).said().succeeds();
    let proof = prefix.fprefix(&["check", "--run", "dated"]).said().succeeds();
    proof.prints("Jan  1 2000 00:00:00\n");
}
