//! Bytes that may be unpacked of one file, with all that is packed in what it holds.

use std::cell::Cell;
use std::io::Read;

use anyhow::{Result, ensure};

use crate::base::limits::UNPACKED;

/// Rest of the bytes that may be unpacked.
#[derive(Debug)]
pub(super) struct UnpackRoom(Cell<u64>);

impl UnpackRoom {
    /// The room for one file.
    pub(super) fn of_file() -> Self {
        Self(Cell::new(UNPACKED.bytes))
    }

    /// Reads all that `from` unpacks.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be unpacked, or is larger than the rest of the room.
    pub(super) fn read(&self, from: impl Read) -> Result<Vec<u8>> {
        let room = self.0.get();
        let mut content = Vec::new();
        from.take(room + 1).read_to_end(&mut content)?;
        let rest = room.checked_sub(content.len() as u64);
        self.0.set(rest.unwrap_or_default());
        ensure!(rest.is_some(), "it holds more than {} MiB", UNPACKED.bytes >> 20);
        Ok(content)
    }
}
