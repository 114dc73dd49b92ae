//! Paths inside the sandbox, as its programs see them.

/// Directory of the sandbox that holds the files of fprefix.
pub const INSIDE: &str = "/fprefix";

/// Search path of compiler wrappers and other names that ebuilds expect, below BROOT.
pub const WRAPPER_DIR: &str = "usr/local/bin";

/// Path of the fprefix program in the sandbox, for the hooks that Portage runs.
pub const OWN_PROGRAM: &str = "/fprefix/bin/fprefix";

/// Script below BROOT that replaces Portage's own script for running a phase.
pub const PHASES: &str = "usr/local/lib/fprefix/ebuild.sh";

/// Directory with Portage's original phase scripts, each below its own path.
pub const OWN_PHASES: &str = "/fprefix/ebuild";

/// Directory of build tools that were fetched for real trees.
pub const TOOLS: &str = "/fprefix/tools";

/// Path of bubblewrap in the sandbox, for phases that run in a nested sandbox.
pub const BUBBLEWRAP: &str = "/fprefix/bin/bwrap";

/// Path where Portage's hooks report phases, for progress.
pub const EVENTS: &str = "/fprefix/staging/tmp/events";
