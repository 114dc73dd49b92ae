//! Transfer file by which systemd-sysupdate keeps an extension up to date (sysupdate.d(5)), at the
//! paths that sysext-bakery and Flatcar use.

use std::str::FromStr;

use anyhow::{Error, Result, bail};
use serde::Serialize;
use serde_json::json;

use crate::base::data::Folder;
use crate::base::template;
use crate::sysext::name::Naming;

/// Suffixes of the file: for systemd 257 and newer, and for older versions.
pub(crate) const SUFFIXES: &[&str] = &[".transfer", ".conf"];

/// URL of the directory on a server that will hold the images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct SourceUrl(String);

impl FromStr for SourceUrl {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        if rest.is_none_or(str::is_empty) || text.contains(|c: char| c.is_whitespace()) {
            bail!("{text:?} has to be the URL of a directory, like https://example.org/images/");
        }
        Ok(Self(format!("{}/", text.trim_end_matches('/'))))
    }
}

/// Returns the text of the file for the image `file`.
pub(crate) fn render(naming: &Naming, file: &str, url: &SourceUrl) -> Result<Vec<u8>> {
    let Some(version) = &naming.version else {
        bail!("systemd-sysupdate tells images apart by their version: give one with --version");
    };
    let before = format!("{}-", naming.name);
    let after = file.strip_prefix(&format!("{before}{version}"));
    let Some(after) = after.filter(|after| after.ends_with(".raw")) else {
        bail!("systemd-sysupdate fetches image files, and {file} is none");
    };
    // A percent sign begins a specifier in a pattern.
    let pattern = format!("{before}@v{after}").replace('%', "%%");
    let url = url.0.replace('%', "%%");
    let values = json!({ "name": naming.name, "url": url, "pattern": pattern });
    Ok(template::render(Folder::Templates, "sysupdate.transfer", values)?.into_bytes())
}
