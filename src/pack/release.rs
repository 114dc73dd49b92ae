//! The extension-release file, by which systemd matches an extension with a machine
//! (os-release(5), systemd-sysext(8)).

use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;

use super::architecture::Architecture;
use crate::data::Folder;
use crate::names::PrefixName;
use crate::template;

/// What the file says.
#[derive(Clone, Debug, Serialize)]
pub struct Release {
    /// `ID=`: `_any` fits every machine (systemd 252 and newer).
    pub id: String,
    /// `ARCHITECTURE=`, where the extension holds anything that depends on it.
    pub architecture: Option<Architecture>,
}

impl Release {
    /// The text of the file.
    pub fn render(&self) -> Result<Vec<u8>> {
        Ok(template::render(Folder::Templates, "extension-release", self)?.into_bytes())
    }
}

/// Where the file of the extension `name` is in the image. It is below /usr for a prefix in
/// /opt as well. The name has to be that under which the image is attached.
pub fn path(name: &PrefixName) -> PathBuf {
    PathBuf::from(format!("usr/lib/extension-release.d/extension-release.{name}"))
}
