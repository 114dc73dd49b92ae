//! Facts about mounted filesystems for the error of a run that could not write: mounts, free space,
//! and the last messages of the kernel.

use std::ffi::OsString;
use std::fmt::Write;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Error;
use indicatif::HumanBytes;
use rustix::io::Errno;

use crate::base::escape::Escape;
use crate::base::files::existing_ancestor;
use crate::base::hint;
use crate::base::input;
use crate::base::limits::TEXT;

/// Number of kernel messages that are shown.
const LAST_WORDS: usize = 15;

/// Free bytes below which a filesystem counts as full for unpacking packages.
const LITTLE: u64 = 64 << 20;

/// System messages about a filesystem that cannot be written to, as programs print them.
const SAID: &[&str] = &[
    "No space left on device",
    "Read-only file system",
    "Disk quota exceeded",
    "Input/output error",
    "Structure needs cleaning",
];

/// A mounted filesystem (`proc_pid_mountinfo(5)`).
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    point: PathBuf,
    kind: String,
    source: String,
    options: String,
}

/// Used and free space of a filesystem.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fill {
    /// Size in bytes.
    pub size: u64,
    /// Bytes that are used.
    pub used: u64,
    /// Bytes that an ordinary user can still write.
    pub free: u64,
    /// Files that can still be created; `None` if the filesystem does not count them.
    pub free_files: Option<u64>,
}

impl Fill {
    /// Reads the space of the filesystem that `path` is on.
    pub(crate) fn measure(path: &Path) -> std::io::Result<Self> {
        let facts = rustix::fs::statvfs(path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(facts.f_frsize);
        Ok(Self {
            size: bytes(facts.f_blocks),
            used: bytes(facts.f_blocks.saturating_sub(facts.f_bfree)),
            free: bytes(facts.f_bavail),
            free_files: (facts.f_files > 0).then_some(facts.f_favail),
        })
    }

    /// Returns the used percentage of the space that an ordinary user can use, rounded up as df(1)
    /// does.
    pub(crate) fn percent(&self) -> u64 {
        let usable = self.used.saturating_add(self.free);
        if usable == 0 { 0 } else { self.used.saturating_mul(100).div_ceil(usable) }
    }
}

/// Returns the type of the filesystem that `path` is on, as df(1) shows it.
pub(crate) fn kind(path: &Path) -> String {
    mount_of(path).map_or_else(|| "-".to_owned(), |mount| mount.kind)
}

/// Adds facts about the filesystems of `paths` to `error`. It does so if a full, read-only or
/// broken filesystem caused the error, or if a filesystem of `paths` is full. Programs that fprefix
/// runs print the cause themselves, so the error of fprefix may lack it.
pub(crate) fn explain(error: Error, paths: &[&Path]) -> Error {
    if !is_of_filesystem(&error) && !paths.iter().any(|path| is_full(path)) {
        return error;
    }
    Error::msg(format!("{}\n{}", hint::join_causes(&error), state(paths).trim_end()))
}

fn is_full(path: &Path) -> bool {
    let (there, _) = existing_ancestor(path);
    Fill::measure(&there).is_ok_and(|fill| fill.free < LITTLE || fill.free_files == Some(0))
}

fn is_of_filesystem(error: &Error) -> bool {
    let known = [Errno::NOSPC, Errno::ROFS, Errno::DQUOT, Errno::IO, Errno::UCLEAN];
    let by_number = |number| known.iter().any(|errno| errno.raw_os_error() == number);
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
        let system = cause.downcast_ref::<Errno>().map(|errno| errno.raw_os_error());
        io.or(system).is_some_and(by_number)
            || SAID.iter().any(|text| cause.to_string().contains(text))
    })
}

/// Returns a line per filesystem that `paths` are on, and the last kernel messages.
fn state(paths: &[&Path]) -> String {
    let mut text = String::new();
    let mut seen: Vec<PathBuf> = Vec::new();
    for path in paths {
        let (there, _) = existing_ancestor(path);
        let Some(mount) = mount_of(&there) else { continue };
        if seen.contains(&mount.point) {
            continue;
        }
        seen.push(mount.point.clone());
        let fill =
            Fill::measure(&there).map_or_else(|error| error.to_string(), |fill| describe(&fill));
        let _ = writeln!(
            text,
            "  {} is on {}: {} ({}, {}): {fill}",
            path.escaped(),
            mount.point.escaped(),
            mount.source,
            mount.kind,
            mount.options
        );
    }
    match last_words() {
        Ok(lines) if lines.is_empty() => text += "  the kernel said nothing\n",
        Ok(lines) => {
            text += "  the kernel said last:\n";
            for line in lines {
                let _ = writeln!(text, "    {line}");
            }
        }
        Err(error) => {
            let _ = writeln!(text, "  what the kernel said cannot be read here: {error}");
        }
    }
    text
}

fn describe(fill: &Fill) -> String {
    let files = fill.free_files.map_or_else(String::new, |files| format!(", {files} more files"));
    let (size, free) = (HumanBytes(fill.size), HumanBytes(fill.free));
    format!("{size}, {}% used, room for {free}{files}", fill.percent())
}

/// Returns the mount that `path` is on: the one with the longest mount point, and of several the
/// last one made.
fn mount_of(path: &Path) -> Option<Mount> {
    let path = fs_err::canonicalize(path).ok()?;
    let table = input::read(Path::new("/proc/self/mountinfo"), TEXT).ok()?;
    let mounts = String::from_utf8_lossy(&table);
    let holding = mounts.lines().filter_map(parse).filter(|mount| path.starts_with(&mount.point));
    holding.max_by_key(|mount| mount.point.components().count())
}

fn parse(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ').skip(4);
    let (point, of_mount) = (unescape(before.next()?), before.next()?);
    let mut after = after.split(' ');
    let (kind, source, of_filesystem) = (after.next()?, after.next()?, after.next()?);
    let read_only = |options: &str| options.split(',').any(|option| option == "ro");
    let options = match (read_only(of_mount), read_only(of_filesystem)) {
        (_, true) => "read-only".to_owned(),
        (true, false) => "mounted read-only".to_owned(),
        (false, false) => "writable".to_owned(),
    };
    let source = PathBuf::from(unescape(source)).escaped().to_string();
    Some(Mount { point: point.into(), kind: kind.to_owned(), source, options })
}

/// Decodes blanks and backslashes, which are written as `\040` and so on.
fn unescape(text: &str) -> OsString {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, more)) = rest.split_first() {
        let code = more.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let code = code.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        if let (b'\\', Some(code)) = (first, code) {
            bytes.push(code);
            rest = more.get(3..).unwrap_or_default();
        } else {
            bytes.push(first);
            rest = more;
        }
    }
    OsString::from_vec(bytes)
}

/// Returns the last lines of the kernel's log. Each read(2) of `/dev/kmsg` returns one record
/// (Documentation/ABI/testing/dev-kmsg of Linux).
fn last_words() -> std::io::Result<Vec<String>> {
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let mut log =
        std::fs::File::options().read(true).custom_flags(nonblocking).open("/dev/kmsg")?;
    let mut lines = std::collections::VecDeque::new();
    let mut record = [0_u8; 8192];
    loop {
        let length = match log.read(&mut record) {
            Ok(0) => break,
            Ok(length) => length,
            // The oldest record was overwritten during the read.
            Err(error) if error.raw_os_error() == Some(Errno::PIPE.raw_os_error()) => continue,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        };
        let text = String::from_utf8_lossy(record.get(..length).unwrap_or_default()).into_owned();
        // The message follows the fields and a semicolon. Lines with a leading blank are tags.
        let line = text.split_once(';').map(|(_, line)| line.lines().next().unwrap_or_default());
        lines.extend(line.map(str::to_owned));
        if lines.len() > LAST_WORDS {
            lines.pop_front();
        }
    }
    Ok(lines.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts() {
        let line = "36 35 98:0 /m1 /mnt/a\\040b rw,noatime master:1 - ext4 /dev/root ro,errors=x";
        let mount = parse(line).unwrap();
        assert_eq!(mount.point, Path::new("/mnt/a b"));
        assert_eq!((mount.kind.as_str(), mount.options.as_str()), ("ext4", "read-only"));
        assert!(parse("nonsense").is_none());
        assert!(mount_of(Path::new("/proc/self")).unwrap().kind == "proc");
    }

    #[test]
    fn only_what_a_filesystem_did_is_explained() {
        let full = Error::from(std::io::Error::from_raw_os_error(28)).context("could not copy");
        let text = format!("{:#}", explain(full, &[Path::new("/proc/nowhere")]));
        assert!(text.contains("is on /proc") && text.contains("the kernel said"), "{text}");
        let other = Error::msg("no such thing");
        assert_eq!(format!("{:#}", explain(other, &[])), "no such thing");
    }
}
