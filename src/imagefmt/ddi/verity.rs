//! dm-verity: the hash tree with which a kernel verifies every block that it reads
//! (veritysetup(8)), and the signature of its root hash (systemd's Verity documentation).

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::base::command::Command;
use crate::base::data::hex;
use crate::base::escape::Escape;
use crate::base::files;
use crate::base::input;
use crate::base::limits::IMAGE_CONTENT;
use crate::fstree::digest;
use crate::fstree::entries::FileTree;
use crate::host::tools;
use crate::imagefmt::ddi::hash_tree::{self, HashTree};
use crate::imagefmt::signing::{self, Signing};

/// Size of the blocks of data and of hashes, in bytes.
const BLOCK: u32 = 4096;

/// Root of a hash tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RootHash(pub [u8; 32]);

impl RootHash {
    /// Joins the halves that are the UUIDs of the two partitions.
    pub(crate) fn of_uuids(data: uuid::Uuid, hashes: uuid::Uuid) -> Self {
        let mut root = [0; 32];
        root[..16].copy_from_slice(data.as_bytes());
        root[16..].copy_from_slice(hashes.as_bytes());
        Self(root)
    }

    /// Returns the half that is the UUID of the data partition (Discoverable Partitions
    /// Specification, "verity").
    pub(crate) fn data_uuid(&self) -> uuid::Uuid {
        uuid::Uuid::from_slice(&self.0[..16]).unwrap_or_default()
    }

    /// Returns the half that is the UUID of the partition with the hashes.
    pub(crate) fn hashes_uuid(&self) -> uuid::Uuid {
        uuid::Uuid::from_slice(&self.0[16..]).unwrap_or_default()
    }
}

/// Writes the hashes of the filesystem image `data` to the file `hashes`. The salt is derived from
/// the content, so that the same content has the same hashes.
pub(crate) fn write(plan: &FileTree, data: &Path, hashes: &Path) -> Result<RootHash> {
    let salt = hex(&Sha256::digest([b"verity salt".as_slice(), &digest::hash_tree(plan)].concat()));
    let said = veritysetup()?
        .arg("format")
        .arg(format!("--salt={salt}"))
        .arg(format!("--uuid={}", digest::tree_uuid(plan)))
        .arg("--hash=sha256")
        .arg(format!("--data-block-size={BLOCK}"))
        .arg(format!("--hash-block-size={BLOCK}"))
        .arg(data)
        .arg(hashes)
        .read()?;
    root_hash(&said).with_context(|| format!("veritysetup did not say the root hash: {said}"))
}

/// Superblock at the start of the hashes (cryptsetup, `lib/verity/verity.c`).
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct VeritySuperblock {
    signature: [u8; 8],
    version: U32,
    /// 1 for the current form of hashes.
    hash_type: U32,
    uuid: [u8; 16],
    /// Name of the algorithm, with zeros after it.
    algorithm: [u8; 32],
    data_block_size: U32,
    hash_block_size: U32,
    data_blocks: U64,
    salt_size: U16,
    reserved: [u8; 6],
    salt: [u8; 256],
    reserved_2: [u8; 168],
}

impl VeritySuperblock {
    /// Fails unless the hashes are of the form that [`write`] makes, for `size` bytes of data.
    fn check(&self, size: u64) -> Result<()> {
        let is_ours = self.signature == *b"verity\0\0"
            && (self.version.get(), self.hash_type.get()) == (1, 1)
            && self
                .algorithm
                .strip_prefix(b"sha256")
                .is_some_and(|rest| rest.iter().all(|b| *b == 0))
            && (self.data_block_size.get(), self.hash_block_size.get()) == (BLOCK, BLOCK);
        ensure!(is_ours, "its hashes are of another form");
        let salt = usize::from(self.salt_size.get());
        ensure!(salt <= self.salt.len(), "its hashes have a salt of {salt} bytes");
        let blocks = self.data_blocks.get();
        let covers_all = blocks.checked_mul(BLOCK.into()) == Some(size);
        ensure!(covers_all, "its hashes are of {blocks} blocks, and it has {size} bytes");
        Ok(())
    }
}

/// Verifies that `hashes` and `root` belong to `data`, and cover all of it.
pub(crate) fn verify(data: &Path, hashes: &Path, root: RootHash) -> Result<()> {
    let mut superblock = VeritySuperblock::new_zeroed();
    let mut file = input::open(hashes)?;
    file.read_exact(superblock.as_mut_bytes()).context("its hashes end early")?;
    superblock.check(fs_err::metadata(data)?.len())?;
    veritysetup()?.arg("verify").arg(data).arg(hashes).arg(hex(&root.0)).run_quiet()
}

/// Verifies that `hashes` and `root` are those of `data`, which all come from others: computes them
/// anew, so that no program parses them.
///
/// # Errors
///
/// Fails if a byte of the data or of the hashes is another one, or if the data are not covered.
pub(super) fn verify_anew(data: &Path, hashes: &Path, root: RootHash) -> Result<()> {
    let meta = fs_err::metadata(data)?;
    let (size, stored) = (meta.len(), meta.blocks() * 512);
    // Holes are copied as holes, and cost time and memory as other data do.
    ensure!(
        size <= IMAGE_CONTENT.max(stored),
        "it has {size} bytes of data, almost all of them holes"
    );
    let data = files::map(data)?;
    let hashes = files::map(hashes)?;
    let (superblock, _) =
        VeritySuperblock::ref_from_prefix(&hashes).ok().context("its hashes end early")?;
    superblock.check(data.len() as u64)?;
    ensure!(!data.is_empty(), "it has no data");
    let salt = superblock.salt.get(..superblock.salt_size.get().into()).unwrap_or_default();
    let tree = HashTree::compute(&data, salt);
    ensure!(
        tree.root == root.0,
        "the root hash of its data is {}, and its partitions name {}",
        hex(&tree.root),
        hex(&root.0)
    );
    let stored = hashes.get(hash_tree::BLOCK..).and_then(|rest| rest.get(..tree.blocks.len()));
    ensure!(stored == Some(&tree.blocks[..]), "its hashes are not those of its data");
    Ok(())
}

fn veritysetup() -> Result<Command> {
    tools::VERITYSETUP.command("make the tree of hashes")
}

fn root_hash(said: &str) -> Option<RootHash> {
    let line = said.lines().find_map(|line| line.strip_prefix("Root hash:"))?.trim();
    let mut bytes = [0; 32];
    if line.len() != 2 * bytes.len() {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(line.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(RootHash(bytes))
}

/// Signature of a root hash: the content of its partition, as JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VeritySignature {
    /// SHA-256 of the certificate, in its DER form.
    #[serde(default)]
    pub certificate_fingerprint: Option<String>,
    /// Root hash.
    #[serde(default)]
    root_hash: Option<String>,
    /// PKCS#7 signature, in base64.
    #[serde(default)]
    signature: Option<String>,
}

impl VeritySignature {
    /// Signs `root`; `dir` is a directory for temporary files.
    pub(crate) fn make(signing: &Signing, root: RootHash, dir: &Path) -> Result<Self> {
        let text = hex(&root.0);
        let signature = signing.sign(text.as_bytes(), dir)?;
        Ok(Self {
            certificate_fingerprint: Some(signing::fingerprint(&signing.certificate)?),
            root_hash: Some(text),
            signature: Some(STANDARD.encode(signature)),
        })
    }

    /// Verifies that the owner of `certificate` signed `root`, as systemd does.
    ///
    /// # Errors
    ///
    /// Fails if it is the signature of another hash, or of another certificate.
    pub(crate) fn verify(&self, root: RootHash, certificate: &Path) -> Result<()> {
        let by_another =
            || format!("it is signed with another certificate than {}", certificate.escaped());
        let text = hex(&root.0);
        let signed = self.root_hash.as_deref().unwrap_or_default();
        ensure!(signed == text, "its signature is of the root hash {signed:?}, and not of {text}");
        if let Some(fingerprint) = &self.certificate_fingerprint {
            let ours = signing::fingerprint(certificate)?;
            ensure!(fingerprint.eq_ignore_ascii_case(&ours), by_another());
        }
        let signature = self.signature.as_deref().unwrap_or_default();
        let signature = STANDARD.decode(signature).context("its signature is no base64")?;
        signing::verify(certificate, text.as_bytes(), &signature).with_context(by_another)
    }

    /// Reads the signature from the bytes of its partition, which zeros follow.
    pub(crate) fn read(partition: &[u8]) -> Result<Self> {
        let text = partition.split(|byte| *byte == 0).next().unwrap_or_default();
        serde_json::from_slice(text).context("its signature cannot be read")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_of_the_root_hash() {
        let digits = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
        let root = root_hash(&format!("Salt: 1\nRoot hash:      \t{digits}\n")).unwrap();
        assert_eq!(root.data_uuid().to_string(), "00010203-0405-0607-0809-0a0b0c0d0e0f");
        assert_eq!(root.hashes_uuid().to_string(), "10111213-1415-1617-1819-1a1b1c1d1e1f");
        assert_eq!(RootHash::of_uuids(root.data_uuid(), root.hashes_uuid()), root);
        assert!(root_hash("Root hash: 00").is_none());
    }

    #[test]
    fn hashes_of_another_form_are_errors() {
        let mut superblock = VeritySuperblock::new_zeroed();
        assert_eq!(superblock.as_bytes().len(), 512);
        superblock.signature = *b"verity\0\0";
        superblock.version = 1.into();
        superblock.hash_type = 1.into();
        superblock.algorithm[..6].copy_from_slice(b"sha256");
        superblock.data_block_size = BLOCK.into();
        superblock.hash_block_size = BLOCK.into();
        superblock.data_blocks = 3.into();
        superblock.check(3 * 4096).unwrap();
        for size in [0, 4096, 3 * 4096 + 1, 4 * 4096, u64::MAX] {
            assert!(superblock.check(size).is_err(), "{size}");
        }
        superblock.data_blocks = u64::MAX.into();
        assert!(superblock.check(3 * 4096).is_err());
        superblock.data_blocks = 3.into();
        for at in [0, 7, 8, 12, 32, 40, 64, 68] {
            superblock.as_mut_bytes()[at] ^= 1;
            assert!(superblock.check(3 * 4096).is_err(), "{at}");
            superblock.as_mut_bytes()[at] ^= 1;
        }
    }
}
