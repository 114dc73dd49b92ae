//! Root directories of Debian releases, as small as they boot.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::harness::tools::stdout_of;

/// What a root has besides what is asked for.
const PACKAGES: &str = "base-files,systemd,systemd-sysv,dash,coreutils,mount";

/// Lays out the directories that are links everywhere since Debian 12; packages are unpacked over
/// them.
const MERGED_USR: &str = "for dir in bin sbin lib lib64; do \
     mkdir -p \"$1/usr/$dir\"; ln -s \"usr/$dir\" \"$1/$dir\"; done";

/// A root directory with a release of Debian.
pub(crate) struct Debian {
    dir: TempDir,
}

impl Debian {
    /// Unpacks the release `suite`, with the packages `more`, separated by commas.
    pub(crate) fn new(suite: &str, more: &str) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("debian-")
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .unwrap();
        let root = dir.path().join("root");
        stdout_of(
            "mmdebstrap",
            [
                "--quiet",
                "--variant=extract",
                format!("--include={PACKAGES},{more}").trim_end_matches(','),
                "--dpkgopt=path-exclude=/usr/share/doc/*",
                "--dpkgopt=path-exclude=/usr/share/locale/*",
                // A release that is still in the making has no valid date at times.
                "--aptopt=Acquire::Check-Valid-Until \"false\"",
                &format!("--setup-hook={MERGED_USR}"),
                suite,
                root.to_str().unwrap(),
            ],
        );
        Self { dir }
    }

    /// The root directory.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// A place beside it.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file of it.
    pub(crate) fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        write(&self.root().join(path), text);
    }

    /// Lets it run `script` and nothing else when it is booted into `report.target`; what other
    /// units there are, `wants` says.
    pub(crate) fn reports(&self, script: &str, unit: &str, wants: &str) {
        self.write("report/script", script);
        let service =
            format!("[Unit]\n{unit}\n[Service]\nType=oneshot\nExecStart=/bin/sh /report/script\n");
        self.write("etc/systemd/system/report.service", service);
        let target = format!("[Unit]\nRequires=report.service {wants}\nAllowIsolate=yes\n");
        self.write("etc/systemd/system/report.target", target);
    }
}

/// Writes a file, and the directories that it is in.
pub(crate) fn write(path: &Path, text: impl AsRef<[u8]>) {
    fs_err::create_dir_all(path.parent().unwrap()).unwrap();
    fs_err::write(path, text).unwrap();
}
