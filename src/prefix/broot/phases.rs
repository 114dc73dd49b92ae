//! The script that replaces Portage's own for running a phase: it confines the code of a package to
//! what the phase needs.

use std::path::Path;

use anyhow::Result;

use crate::base::command::{MACHINE_PATH, quote};
use crate::base::data::Folder;
use crate::base::inside;
use crate::base::template;
use crate::sandbox::bubblewrap::{Bubblewrap, Caller, GIVE_FILES, Namespace, USER_NAMESPACE};

/// Renders the script.
pub(super) fn script() -> Result<String> {
    // The script itself finds out whether it needs a user namespace.
    let caller = Caller { is_root: true, is_setuid: false };
    let start = Bubblewrap::new(inside::BUBBLEWRAP.as_path(), caller);
    let mut probe = start.clone();
    probe.ro_bind(Path::new("/"), &inside::ROOT);
    let mut probe_of_proc = probe.clone();
    probe_of_proc.unshare(Namespace::Pid).proc();
    let (mut new_proc, mut same_proc) = (start.clone(), start.clone());
    new_proc.proc();
    same_proc.ro_bind(inside::PROC.as_path(), &inside::PROC);
    let mut options = start;
    options
        .drop_capabilities()
        .nestable()
        .new_session()
        .unshare(Namespace::Pid)
        .unshare(Namespace::Ipc)
        .ro_bind(Path::new("/"), &inside::ROOT)
        .dev()
        .tmpfs_for_all(&inside::DEV_SHM)
        .tmpfs_for_all(&inside::TMP)
        .tmpfs_for_all(&inside::VAR_TMP);
    let values = minijinja::context! {
        machine_path => MACHINE_PATH,
        own_phases => inside::OWN_PHASES,
        bubblewrap => inside::BUBBLEWRAP,
        user_namespace => USER_NAMESPACE.join(" "),
        probe => words(&probe),
        probe_of_proc => words(&probe_of_proc),
        new_proc => words(&new_proc),
        same_proc => words(&same_proc),
        options => words(&options).replace(" --", "\n\t--"),
        give_files => GIVE_FILES.map(|capability| format!("--cap-add {capability}")).join(" "),
        no_network => Namespace::Net.option(),
        final_dir => inside::FINAL,
        broot => inside::BROOT,
        build_dir => inside::BUILD_DIR,
        cache => inside::CACHE,
        keys => inside::KEYS,
        ssh_keys => inside::SSH_KEYS,
        events => inside::EVENTS,
    };
    template::render(Folder::Templates, "broot/phases.sh", values)
}

/// Renders the script that takes the place of Portage's for packages of another EPREFIX.
pub(super) fn relocation_script() -> Result<String> {
    let values = minijinja::context! { own_program => inside::OWN_PROGRAM };
    template::render(Folder::Templates, "broot/chpathtool.py", values)
}

/// Returns the options of a plan as words of a shell.
fn words(bwrap: &Bubblewrap) -> String {
    bwrap.options().iter().map(quote).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    #[test]
    fn phases_write_to_directories_of_builds_alone() {
        insta::assert_snapshot!(super::script().unwrap());
    }
}
