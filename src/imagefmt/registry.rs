//! All image formats. A new one is a folder beside this file, and a line here.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::de::{Deserialize, Deserializer, Error};

use crate::base::input;
use crate::imagefmt::image_format::ImageFormat;
use crate::imagefmt::{btrfs, ddi, directory, erofs, ext4, squashfs, tar};

/// The formats, in the order in which messages list them and files are matched with them.
pub(crate) static FORMATS: &[&dyn ImageFormat] = &[
    &squashfs::FORMAT,
    &erofs::FORMAT,
    &erofs::TIGHT,
    &ddi::FORMAT,
    &btrfs::FORMAT,
    &ext4::FORMAT,
    &directory::FORMAT,
    &tar::FORMAT,
];

/// Returns the format `name`, or `None` if there is none.
pub(crate) fn find(name: &str) -> Option<&'static dyn ImageFormat> {
    FORMATS.iter().find(|format| format.name() == name).copied()
}

/// Detects the format of the image or directory at `path` by its magic number.
///
/// # Errors
///
/// Fails if the file cannot be read, or has no magic number of a format.
pub(crate) fn detect(path: &Path) -> Result<&'static dyn ImageFormat> {
    if path.is_dir() {
        return Ok(&directory::FORMAT);
    }
    let known = || FORMATS.iter().filter_map(|format| Some((*format, format.magic()?)));
    let end = known().map(|(_, magic)| magic.offset + magic.bytes.len()).max().unwrap_or_default();
    let head = input::read_start(path, end as u64)?;
    if let Some((format, _)) = known().find(|(_, magic)| magic.is_in(&head)) {
        return Ok(format);
    }
    let names: Vec<&str> = known().map(|(format, _)| format.name()).collect();
    bail!("it is neither {}", names.join(" nor "))
}

impl<'de> Deserialize<'de> for &'static dyn ImageFormat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        find(&name).with_context(|| format!("there is no format {name:?}")).map_err(Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_has_a_name_and_a_magic_number_of_its_own() {
        for (index, format) in FORMATS.iter().enumerate() {
            assert_eq!(find(format.name()), Some(*format));
            assert!(!format.compressors().is_empty(), "{format}");
            for other in &FORMATS[..index] {
                assert_ne!(other.name(), format.name());
                assert!(format.magic().is_none() || other.magic() != format.magic(), "{format}");
            }
        }
    }

    #[test]
    fn files_are_detected_by_their_magic_number() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("image");
        for (format, magic) in FORMATS.iter().filter_map(|f| Some((*f, f.magic()?))) {
            let bytes = [&vec![0; magic.offset], magic.bytes].concat();
            fs_err::write(&file, &bytes).unwrap();
            assert_eq!(detect(&file).unwrap(), format);
            fs_err::write(&file, &bytes[..bytes.len() - 1]).unwrap();
            assert!(detect(&file).is_err(), "{format}");
        }
        fs_err::write(&file, "").unwrap();
        let error = detect(&file).unwrap_err().to_string();
        assert_eq!(error, "it is neither squashfs nor erofs nor ddi nor btrfs nor ext4");
        assert_eq!(detect(dir.path()).unwrap(), find("directory").unwrap());
    }
}
