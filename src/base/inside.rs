//! Paths as the sandbox and the programs in it see them.

/// The directory of the sandbox that holds all that is ours.
pub const INSIDE: &str = "/fprefix";

/// The search path of compiler wrappers and other names that ebuilds expect, below BROOT.
pub const WRAPPER_DIR: &str = "usr/local/bin";

/// Where the sandbox shows our own program, for the hooks that Portage runs.
pub const OWN_PROGRAM: &str = "/fprefix/bin/fprefix";

/// The script below BROOT that stands in the place of Portage's own by which it runs a phase.
pub const PHASES: &str = "usr/local/lib/fprefix/ebuild.sh";

/// Where the sandbox shows Portage's own, each below its own path.
pub const OWN_PHASES: &str = "/fprefix/ebuild";

/// Where the sandbox shows build tools that were fetched for real trees.
pub const TOOLS: &str = "/fprefix/tools";

/// Where the sandbox shows bubblewrap, for phases that are shut in once more.
pub const BUBBLEWRAP: &str = "/fprefix/bin/bwrap";

/// Where Portage's hooks report phases, for progress.
pub const EVENTS: &str = "/fprefix/staging/tmp/events";
