//! The empty root in which a program is followed: it holds the prefix alone.

use std::ffi::OsString;
use std::path::Path;

use anyhow::Result;

use crate::base::inside::{self, InsidePath};
use crate::base::names::Eprefix;
use crate::check::prove::emulator::Emulator;
use crate::sandbox::bubblewrap::{Bubblewrap, Namespace};

/// Plans the root that shows `eroot` at `eprefix`.
pub(super) fn plan(
    mut bwrap: Bubblewrap,
    eroot: &Path,
    eprefix: &Eprefix,
    emulator: Option<&Emulator>,
) -> Result<Bubblewrap> {
    let eprefix = InsidePath::parse(eprefix.as_path())?;
    // Processes that the program leaves behind end with it, so the proof does not wait for them. It
    // is a program of others, so it reaches neither the network nor any daemon, nor the terminal.
    for namespace in [Namespace::Pid, Namespace::Net, Namespace::Ipc, Namespace::Cgroup] {
        bwrap.unshare(namespace);
    }
    bwrap.hostname("localhost").new_session();
    if let Some(emulator) = emulator {
        bwrap.ro_bind(&emulator.program, &inside::EMULATOR);
    }
    bwrap
        .ro_bind(eroot, &eprefix)
        .proc()
        .dev()
        .tmpfs(&inside::TMP)
        .dir(&inside::ETC)
        .chdir(&inside::ROOT)
        .environment(vec![("PATH", search_path(&eprefix)), ("LC_ALL", "C.UTF-8".into())]);
    Ok(bwrap)
}

/// Directories of a target's programs, in the order in which systemd searches them (systemd.exec(5)).
/// They are empty here, so the trace shows the programs that are looked for there.
const OF_A_TARGET: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Returns `$PATH`: the programs of the prefix, then those of a target.
fn search_path(eprefix: &InsidePath) -> OsString {
    let mut path = eprefix.join("usr/bin").as_path().as_os_str().to_owned();
    path.push(":");
    path.push(OF_A_TARGET);
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::bubblewrap::samples;

    #[test]
    fn nothing_but_the_prefix_is_there() {
        let emulator = Emulator { program: "/usr/bin/qemu-other-static".into(), words: Vec::new() };
        let lines = |emulator| {
            let (eroot, eprefix) = (Path::new("/final/root/opt/x"), "/opt/x".parse().unwrap());
            let bwrap = plan(samples::for_user(), eroot, &eprefix, emulator).unwrap();
            samples::lines(&bwrap)
        };
        insta::assert_snapshot!(lines(Some(&emulator)));
        let shown = "--ro-bind /usr/bin/qemu-other-static /.fprefix-emulator\n";
        assert_eq!(lines(Some(&emulator)).replace(shown, ""), lines(None));
    }
}
