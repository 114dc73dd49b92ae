//! Binary packages of the format gpkg (GLEP 78): a tar archive with the parts of a package, their
//! signatures, and a list of their digests.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha512};
use tar::Archive;

use crate::base::data::hex;
use crate::base::escape::Escape;
use crate::base::input;
use crate::base::limits::TEXT;

/// The name of the list of digests in a package.
const MANIFEST: &str = "Manifest";

/// Parts that each package has; the names go on with the suffix of a compression.
const PARTS: [&str; 2] = ["metadata.tar", "image.tar"];

/// Checks that the package in the file `path` is whole: that all its parts are there, with the
/// digests that its own list has.
///
/// # Errors
///
/// Fails with the reason, if it is not whole.
pub(crate) fn verify(path: &Path) -> Result<()> {
    verify_parts(path)
        .with_context(|| format!("the binary package {} is not whole", path.escaped()))
}

fn verify_parts(path: &Path) -> Result<()> {
    let (file, _) = input::open_sized(path)?;
    let (mut parts, mut manifest) = (HashMap::new(), None);
    for entry in Archive::new(file.file()).entries()? {
        let mut entry = entry?;
        let size = entry.size();
        let name = base_name(&entry.path_bytes());
        if name == MANIFEST {
            ensure!(size <= TEXT.bytes, "its Manifest is longer than a text may be");
            let mut text = Vec::new();
            entry.read_to_end(&mut text)?;
            manifest = Some(String::from_utf8_lossy(&text).into_owned());
            continue;
        }
        let mut hash = Sha512::new();
        let read = std::io::copy(&mut entry, &mut hash)?;
        ensure!(read == size, "{} is cut short", name.escaped());
        parts.insert(name, (size, hex(&hash.finalize())));
    }
    let manifest = manifest.context("it has no Manifest")?;
    let mut listed = Vec::new();
    for line in manifest.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["DATA", name, size, digests @ ..] = words.as_slice() else { continue };
        let (there, digest) =
            parts.get(*name).with_context(|| format!("it lacks {}", name.escaped()))?;
        let is_same = digests.chunks(2).any(|pair| pair == ["SHA512", digest.as_str()]);
        if !is_same || *size != there.to_string() {
            bail!("{} is not what its Manifest has", name.escaped());
        }
        listed.push(*name);
    }
    for part in PARTS {
        ensure!(listed.iter().any(|name| name.starts_with(part)), "its Manifest has no {part}");
    }
    Ok(())
}

/// Returns whether parts of the package in the file `path` are signed.
///
/// # Errors
///
/// Fails if it cannot be read.
pub(crate) fn is_signed(path: &Path) -> Result<bool> {
    let (file, _) = input::open_sized(path)?;
    for entry in Archive::new(file.file()).entries_with_seek()? {
        if base_name(&entry?.path_bytes()).ends_with(".sig") {
            return Ok(true);
        }
    }
    Ok(false)
}

fn base_name(path: &[u8]) -> String {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A package with these parts, and a Manifest of what they are in `listed`.
    fn package(parts: &[(&str, &str)], listed: &[(&str, &str)]) -> tempfile::NamedTempFile {
        let mut builder = tar::Builder::new(Vec::new());
        let mut add = |name: &str, text: &str| {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, format!("x-1-1/{name}"), text.as_bytes()).unwrap();
        };
        for (name, text) in parts {
            add(name, text);
        }
        let line = |(name, text): &(&str, &str)| {
            let digest = hex(&Sha512::digest(text));
            format!("DATA {name} {} BLAKE2B 00 SHA512 {digest}\n", text.len())
        };
        add(MANIFEST, &listed.iter().map(line).collect::<String>());
        let file = tempfile::NamedTempFile::new().unwrap();
        fs_err::write(file.path(), builder.into_inner().unwrap()).unwrap();
        file
    }

    fn error(parts: &[(&str, &str)], listed: &[(&str, &str)]) -> String {
        format!("{:#}", verify(package(parts, listed).path()).unwrap_err())
    }

    #[test]
    fn packages_that_are_whole() {
        let parts = [("gpkg-1", ""), ("metadata.tar.zst", "m"), ("image.tar.zst", "image")];
        let whole = package(&parts, &parts);
        verify(whole.path()).unwrap();
        assert!(!is_signed(whole.path()).unwrap());
        let signed = [parts.as_slice(), &[("image.tar.zst.sig", "s")]].concat();
        assert!(is_signed(package(&signed, &signed).path()).unwrap());

        assert!(error(&parts[..2], &parts).ends_with("is not whole: it lacks image.tar.zst"));
        assert!(error(&parts, &parts[..2]).ends_with("its Manifest has no image.tar"));
        let other = [parts[0], parts[1], ("image.tar.zst", "imagE")];
        assert!(error(&other, &parts).ends_with("image.tar.zst is not what its Manifest has"));
        let bytes = fs_err::read(whole.path()).unwrap();
        for length in [0, 100, 600, 1500] {
            fs_err::write(whole.path(), &bytes[..length]).unwrap();
            assert!(verify(whole.path()).is_err(), "{length}");
        }
    }
}
