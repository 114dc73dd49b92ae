//! The umask: what is created has the modes that we say, and not those that the caller's shell has.
//!
//! A prefix, an image or the root of an OS that was made with the umask 077 could be used by root
//! alone, one that was made with 000 could be written by everybody, and no two machines would make
//! the same bytes. So the whole run has the umask 022, and so have the programs that it starts: a
//! directory that any of them makes is 0755. What is private is created so (lock files and temporary
//! directories), whatever the umask.
//!
//! The caller's umask says who may read the files that the caller asked for, see [`limit`].

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::OnceLock;

use rustix::fs::Mode;

/// The umask of everything that is made.
const UMASK: u32 = 0o022;

static OF_CALLER: OnceLock<Mode> = OnceLock::new();

/// Sets the umask of this process, once, before it creates anything.
pub(crate) fn set() {
    let mode = Mode::from_raw_mode(UMASK);
    OF_CALLER.get_or_init(|| rustix::process::umask(mode));
}

/// Closes the file `path`, which was made for the caller, to those whom the caller's umask keeps
/// out. As with the outputs of other programs that make images, nobody else may write to it.
pub(crate) fn limit(path: &Path) -> std::io::Result<()> {
    let hidden = OF_CALLER.get().map_or(UMASK, |mode| mode.as_raw_mode() | UMASK);
    fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o666 & !hidden))
}
