//! Reads the facts about an image that a user supplies, and repacks it without compression.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::base::data::hex;
use crate::fstree::entries::FileTree;
use crate::fstree::{digest, scan};
use crate::host::tools;
use crate::imagefmt::format::Format;
use crate::imagefmt::workplace::Workplace;
use crate::imagefmt::writer::{self, ImageInput};
use crate::imagefmt::{ddi, squashfs};

/// Name of the partition of a disk image that holds the signature of the verity root hash.
const SIGNATURE: &str = "root-verity-sig";

/// Filesystem of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Squashfs,
    Erofs,
    Disk,
    Other,
}

/// Facts about an image.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    kind: Kind,
    /// True if its data is compressed.
    pub compressed: bool,
    /// SHA-256 of the certificate that the image is signed with.
    signer: Option<String>,
}

impl Facts {
    /// Reads the facts about the image at `path`.
    pub(super) fn of(path: &Path) -> Result<Self> {
        if path.is_dir() {
            bail!("{} is a directory; an image gets image files", path.display());
        }
        let head = head(path)?;
        if !head.get(512..).is_some_and(|sector| sector.starts_with(b"EFI PART")) {
            let (kind, compressed) = filesystem(&head);
            return Ok(Self { kind, compressed, signer: None });
        }
        let dir = tempfile::tempdir().context("could not make a temporary directory")?;
        ddi::take_apart(path, dir.path())?;
        let (_, compressed) = filesystem(&self::head(&dir.path().join(ddi::DATA))?);
        let signature = dir.path().join(SIGNATURE);
        let signer = if signature.is_file() { signer(&fs_err::read(signature)?)? } else { None };
        Ok(Self { kind: Kind::Disk, compressed, signer })
    }

    /// Fails with the reason if [`uncompressed`] does not support the image.
    pub(super) fn repackable(&self) -> std::result::Result<(), &'static str> {
        match self.kind {
            Kind::Squashfs => Ok(()),
            Kind::Erofs => Err("pack it with --format erofs:none"),
            Kind::Disk => Err("packing it anew would break its hashes and its signature; pack it \
                               with --format ddi:none"),
            Kind::Other => Err("pack it without compression"),
        }
    }
}

/// Reads the first bytes of the file at `path`: enough to detect its filesystem.
fn head(path: &Path) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    fs_err::File::open(path)?.take(2048).read_to_end(&mut head)?;
    Ok(head)
}

/// Detects the filesystem that begins with `head`, and returns whether it is compressed.
fn filesystem(head: &[u8]) -> (Kind, bool) {
    let number = |at: usize| {
        let bytes = head.get(at..at + 4).and_then(|bytes| bytes.first_chunk());
        u32::from_le_bytes(bytes.copied().unwrap_or_default())
    };
    if head.starts_with(b"hsqs") {
        // Documentation/filesystems/squashfs.rst: the second flag means that data is not
        // compressed.
        return (Kind::Squashfs, number(24) & 0x2 == 0);
    }
    if number(1024) == 0xe0f5_e1e2 {
        // fs/erofs/erofs_fs.h: feature_incompat has one flag for lz4, one for other compressors.
        return (Kind::Erofs, number(1024 + 80) & 0x3 != 0);
    }
    (Kind::Other, false)
}

/// Reads the digest of the certificate from the JSON of a signature partition.
fn signer(partition: &[u8]) -> Result<Option<String>> {
    let text = partition.split(|byte| *byte == 0).next().unwrap_or_default();
    let json: Value = serde_json::from_slice(text).context("its signature cannot be read")?;
    Ok(json["certificateFingerprint"].as_str().map(str::to_lowercase))
}

/// Fails if a target with `certificate` would reject an image with these facts.
pub(super) fn trust(facts: &Facts, certificate: Option<&Path>) -> Result<()> {
    match (&facts.signer, certificate) {
        (None, None) => Ok(()),
        (Some(_), None) => bail!(
            "it is signed, and targets accept it only if they have the certificate: name that \
             with --certificate FILE"
        ),
        (None, Some(certificate)) => {
            bail!("it is not signed: leave --certificate {} out", certificate.display())
        }
        (Some(signer), Some(certificate)) => {
            let der = tempfile::NamedTempFile::new()?;
            tools::OPENSSL
                .command("read the certificate")?
                .args(["x509", "-outform", "der", "-in"])
                .arg(certificate)
                .arg("-out")
                .arg(der.path())
                .run_quiet()?;
            if hex(&Sha256::digest(fs_err::read(der.path())?)) != *signer {
                bail!("it is signed with another certificate than {}", certificate.display());
            }
            Ok(())
        }
    }
}

/// Packs the squashfs image at `path` again without compression, below the new directory `dir`.
/// Returns the path of the result. Entries, times and owners are preserved.
pub(super) fn uncompressed(path: &Path, dir: &Path) -> Result<PathBuf> {
    let workplace = Workplace::open(dir)?;
    let tree = workplace.path(".image");
    squashfs::unpack(path, &tree)?;
    let epoch = u64::try_from(fs_err::symlink_metadata(&tree)?.mtime()).unwrap_or(0);
    // The prefix path has no effect here, because the plan holds the tree unchanged.
    let mut plan = FileTree::new(&"/usr/local/image".parse()?, epoch);
    scan::scan_unpacked(&tree, &mut plan)?;
    digest::hash_contents(&mut plan)?;
    let format: Format = "squashfs:none".parse()?;
    let input = ImageInput { tree: &plan, architecture: None, signing: None };
    writer::write(input, format, &workplace, "image.raw", &|_| {})?;
    writer::verify(&plan, format, &workplace, "image.raw")?;
    workplace.publish("image.raw", |_| false)
}
