//! Commands for mke2fs and debugfs.

use std::path::Path;

use anyhow::{Result, bail};

use std::os::unix::ffi::OsStrExt;

use crate::base::command::Command;
use crate::base::escape::Escape;
use crate::fstree::entries::FileTree;
use crate::host::tools::ExternalTool;

/// Makes a command of e2fsprogs that takes the epoch of `plan` for the current time.
pub(super) fn command(purpose: &str, tool: ExternalTool, plan: &FileTree) -> Result<Command> {
    Ok(tool.command(purpose)?.env("E2FSPROGS_FAKE_TIME", plan.epoch.to_string()))
}

/// Returns the path that debugfs takes for an entry.
pub(super) fn absolute(path: &Path) -> Vec<u8> {
    [b"/", path.as_os_str().as_bytes()].concat()
}

/// Lines for debugfs: words in double quotes, with quotes in them doubled (libss).
#[derive(Default)]
pub(super) struct DebugfsScript(pub Vec<u8>);

impl DebugfsScript {
    /// Adds a line of `words`.
    pub(super) fn line(&mut self, words: &[&[u8]]) -> Result<()> {
        for word in words {
            if word.contains(&b'\n') || word.is_empty() {
                bail!("debugfs cannot be told of {:?}", word.escaped());
            }
            self.0.push(b'"');
            for byte in *word {
                self.0.extend(if *byte == b'"' {
                    &b"\"\""[..]
                } else {
                    std::slice::from_ref(byte)
                });
            }
            self.0.extend(b"\" ");
        }
        self.0.push(b'\n');
        Ok(())
    }
}
