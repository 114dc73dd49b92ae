//! The script that replaces Portage's own for running a phase: it lets what builds a package write
//! to the directories of builds alone.

use std::path::Path;

use anyhow::Result;

use crate::base::command::quote;
use crate::base::data::Folder;
use crate::base::inside::{self, InsidePath};
use crate::base::template;
use crate::sandbox::bubblewrap::{Bubblewrap, Caller, USER_NAMESPACE};

/// Places to which building a package may write. /proc lets namespaces be made in this one.
fn writable() -> [&'static InsidePath; 5] {
    [&inside::PROC, &inside::TMP, &inside::DISTDIR, &inside::BUILD_DIR, &inside::CACHE]
}

/// Renders the script.
pub(super) fn script() -> Result<String> {
    // The script itself finds out whether it needs a user namespace.
    let caller = Caller { is_root: true, is_setuid: false };
    let mut bwrap = Bubblewrap::new(inside::BUBBLEWRAP.as_path(), caller);
    bwrap.ro_bind(Path::new("/"), &inside::ROOT);
    let probe = words(&bwrap);
    bwrap.dev_bind(inside::DEV.as_path(), &inside::DEV);
    for place in writable() {
        bwrap.bind(place.as_path(), place);
    }
    let values = minijinja::context! {
        own_phases => inside::OWN_PHASES,
        bubblewrap => inside::BUBBLEWRAP,
        user_namespace => USER_NAMESPACE.join(" "),
        probe,
        options => words(&bwrap).replace(" --", "\n\t--"),
    };
    template::render(Folder::Templates, "broot/ebuild.sh", values)
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
