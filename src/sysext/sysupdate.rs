//! Transfer file by which systemd-sysupdate keeps an extension up to date (sysupdate.d(5)), at the
//! paths that sysext-bakery and Flatcar use.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Error, Result, bail};
use serde::Serialize;
use serde_json::json;

use crate::base::data::Folder;
use crate::base::escape::Escape;
use crate::base::input;
use crate::base::limits::TEXT;
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
    // A percent sign begins a specifier in a pattern.
    let pattern = pattern(naming, file)?.replace('%', "%%");
    let url = url.0.replace('%', "%%");
    let values = json!({ "name": naming.name, "url": url, "pattern": pattern });
    Ok(template::render(Folder::Templates, "sysupdate.transfer", values)?.into_bytes())
}

/// Returns the pattern that takes every version of the image `file`.
pub(crate) fn pattern(naming: &Naming, file: &str) -> Result<String> {
    let Some(version) = &naming.version else {
        bail!("systemd-sysupdate tells images apart by their version: give one with --version");
    };
    let before = format!("{}-", naming.name);
    let after = file.strip_prefix(&format!("{before}{version}"));
    let Some(after) = after.filter(|after| after.ends_with(".raw")) else {
        bail!("systemd-sysupdate fetches image files, and {file} is none");
    };
    Ok(format!("{before}@v{after}"))
}

/// An extension in a directory that systemd-sysupdate fetches from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct UpdateSource {
    /// Name under which it is attached.
    pub name: String,
    /// Names of its images.
    pub images: Vec<String>,
    /// Pattern of its transfer file.
    pub pattern: Option<String>,
}

impl UpdateSource {
    /// Reads what is in the directory `dir`: links tell which extension an image is.
    pub(crate) fn read_all(dir: &Path) -> Result<Vec<Self>> {
        let mut sources: BTreeMap<String, Self> = BTreeMap::new();
        let entries = match fs_err::read_dir(dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let file_name = entry.file_name();
            let Some(file_name) = file_name.to_str() else { continue };
            let new = |name: &str| Self { name: name.to_owned(), ..Self::default() };
            if let Some(name) = file_name.strip_suffix(SUFFIXES[0]) {
                let text = input::read_text(&entry.path(), TEXT)?;
                let mut lines = text.lines();
                let pattern = lines.find_map(|line| line.strip_prefix("MatchPattern="));
                sources.entry(name.to_owned()).or_insert_with(|| new(name)).pattern =
                    pattern.map(|pattern| pattern.replace("%%", "%"));
            } else if let Some(name) = file_name.strip_suffix(".raw")
                && entry.file_type()?.is_symlink()
                && let Some(image) = fs_err::read_link(entry.path())?.to_str()
            {
                let source = sources.entry(name.to_owned()).or_insert_with(|| new(name));
                source.images.push(image.to_owned());
            }
        }
        Ok(sources.into_values().collect())
    }

    /// Fails if a pattern takes images of another extension: systemd-sysupdate would install them under
    /// the wrong name, and systemd-sysext then attaches nothing.
    pub(crate) fn check_apart(&self, others: &[Self]) -> Result<()> {
        for other in others.iter().filter(|other| other.name != self.name) {
            for (source, of) in [(self, other), (other, self)] {
                let Some(pattern) = &source.pattern else { continue };
                let Some(image) = of.images.iter().find(|image| takes(pattern, image)) else {
                    continue;
                };
                bail!(
                    "{}{} takes every image like {}, also {}, which is {}: systemd-sysupdate would \
                     install it as {}; give one of them another --name, or each its own --output",
                    source.name.escaped(),
                    SUFFIXES[0],
                    pattern.escaped(),
                    image.escaped(),
                    of.name.escaped(),
                    source.name.escaped()
                );
            }
        }
        Ok(())
    }
}

/// Returns whether the pattern takes the file name (sysupdate.d(5), "Match Patterns").
fn takes(pattern: &str, file: &str) -> bool {
    let in_version = |c: char| c.is_ascii_alphanumeric() || "._+~^,-".contains(c);
    let version = pattern
        .split_once("@v")
        .and_then(|(before, after)| file.strip_prefix(before)?.strip_suffix(after));
    version.is_some_and(|version| !version.is_empty() && version.chars().all(in_version))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str, images: &[&str], pattern: Option<&str>) -> UpdateSource {
        let images = images.iter().map(|image| (*image).to_owned()).collect();
        UpdateSource { name: name.into(), images, pattern: pattern.map(Into::into) }
    }

    #[test]
    fn patterns_take_versions() {
        for (file, expected) in [
            ("k3s-1.31-x86-64.raw", true),
            ("k3s-worker-1.30-x86-64.raw", true),
            ("k3s.debug-1.31-x86-64.raw", false),
            ("k3s--x86-64.raw", false),
            ("k3s-1.31-arm64.raw", false),
            ("k3s-1 2-x86-64.raw", false),
        ] {
            assert_eq!(takes("k3s-@v-x86-64.raw", file), expected, "{file}");
        }
    }

    #[test]
    fn whichever_comes_second_is_refused() {
        let worker = source("k3s-worker", &["k3s-worker-1.30-x86-64.raw"], None);
        let own = source("k3s", &["k3s-1.31-x86-64.raw"], Some("k3s-@v-x86-64.raw"));
        let first = own.check_apart(std::slice::from_ref(&worker)).unwrap_err().to_string();
        let second = worker.check_apart(std::slice::from_ref(&own)).unwrap_err().to_string();
        assert_eq!(first, second);
        assert!(first.contains("k3s.transfer") && first.contains("k3s-worker-1.30"), "{first}");
        let other = source("k8s", &["k8s-1-x86-64.raw"], Some("k8s-@v-x86-64.raw"));
        other.check_apart(&[own.clone(), worker]).unwrap();
        own.check_apart(&[own.clone(), other]).unwrap();
    }
}
