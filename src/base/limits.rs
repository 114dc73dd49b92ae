//! Limits of what is read from files, trees and images that somebody else made. Without them, a few
//! bytes stand for any amount of memory or time. Each is far above all that is known to exist.

/// Limit of the bytes that are read of one file into memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReadLimit {
    /// Kind of the file, for messages.
    pub kind: &'static str,
    /// Number of bytes.
    pub bytes: u64,
}

impl ReadLimit {
    const fn new(kind: &'static str, mebibytes: u64) -> Self {
        Self { kind, bytes: mebibytes << 20 }
    }
}

/// Texts that people or programs write for a purpose: configuration, units, ebuild repositories'
/// metadata, os-release, a value of the VDB. The largest known one is a `package.mask` of less than
/// 1 MiB.
pub(crate) const TEXT: ReadLimit = ReadLimit::new("a text", 16);

/// Lists with a line or a few for each file or package: CONTENTS, `Packages`, a manifest, an
/// environment of a build. The CONTENTS of TeX Live have 20 MiB; a manifest of a million files has
/// 300 MiB.
pub(crate) const LIST: ReadLimit = ReadLimit::new("a list", 512);

/// Traces of system calls, which are read as a whole. That of a program that starts has 1 MiB.
pub(crate) const TRACE: ReadLimit = ReadLimit::new("a trace", 1024);

/// Contents of a compressed file that are looked into. The largest manual page has 2 MiB, and the
/// largest archive of Java classes of a JDK 60 MiB.
pub(crate) const UNPACKED: ReadLimit = ReadLimit::new("a compressed file", 128);

/// Bytes at the end of a log that are searched for the reason of a failure. The whole log of
/// Chromium has 100 MiB.
pub(crate) const END: u64 = 64 << 20;

/// Programs and libraries that are searched in memory as a whole. The C library has 2 MiB.
pub(crate) const LIBRARY: ReadLimit = ReadLimit::new("a library", 256);

/// Entries of a tree in an image: more than ten times those of a whole distribution on a DVD.
pub(crate) const ENTRIES: u64 = 4 << 20;

/// Bytes of all paths and link targets of a tree in an image, which are kept in memory.
pub(crate) const PATHS: u64 = 1 << 30;

/// Bytes of the files in a tree that becomes an image, or that is compared with one. Only holes make
/// a tree larger: squashfs of such a size takes a day.
pub(crate) const TREE: u64 = 256 << 30;

/// Bytes of the files in an image of somebody else: some in any case, and a multiple of its own
/// size. Compression of programs and texts reaches 20 times; only holes and repetitions reach more.
pub(crate) const IMAGE_CONTENT: u64 = 4 << 30;
/// See [`IMAGE_CONTENT`].
pub(crate) const IMAGE_CONTENT_TIMES: u64 = 256;
