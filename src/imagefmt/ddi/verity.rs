//! dm-verity: the hash tree with which a kernel verifies every block that it reads. The signature
//! of its root hash is made here too (systemd's Verity documentation, veritysetup(8)).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use crate::base::command::Command;
use crate::base::data::hex;
use crate::fstree::digest;
use crate::fstree::entries::FileTree;
use crate::host::tools;
use crate::imagefmt::ddi::pkcs11::{self, KeySource, TokenKey, openssl};

/// Key and certificate that sign an image.
#[derive(Clone, Debug)]
pub(crate) struct Signing {
    key: Key,
    /// Certificate in PEM form, of which targets have a copy in /etc/verity.d.
    pub certificate: PathBuf,
    _fetched: Option<Arc<NamedTempFile>>,
}

/// Private key.
#[derive(Clone, Debug)]
enum Key {
    /// File in PEM form.
    File(PathBuf),
    /// Key in a token.
    Token(TokenKey),
}

/// Root of a hash tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RootHash(pub [u8; 32]);

impl RootHash {
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
        .args(["--hash=sha256", "--data-block-size=4096", "--hash-block-size=4096"])
        .arg(data)
        .arg(hashes)
        .read()?;
    root_hash(&said).with_context(|| format!("veritysetup did not say the root hash: {said}"))
}

/// Verifies that `hashes` and `root` belong to `data`.
pub(crate) fn verify(data: &Path, hashes: &Path, root: RootHash) -> Result<()> {
    veritysetup()?.arg("verify").arg(data).arg(hashes).arg(hex(&root.0)).run_quiet()
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

impl Signing {
    /// Opens a key and its certificate, both of which must exist: files, or PKCS#11 URIs, which
    /// `source` reads.
    pub(crate) fn open(key: &Path, certificate: &Path, source: Option<&KeySource>) -> Result<Self> {
        for file in [key, certificate] {
            if pkcs11::uri(file).is_none() && !file.is_file() {
                bail!("there is no file {} to sign with", file.display());
            }
        }
        let uris = [pkcs11::uri(key), pkcs11::uri(certificate)];
        let source = match uris {
            [None, None] if source.is_some() => {
                bail!("{} is a file, and no key of a token (pkcs11:...)", key.display())
            }
            [None, None] => None,
            _ => Some(KeySource::find(source)?),
        };
        let [key_uri, certificate_uri] = uris.map(|uri| uri.zip(source.clone()));
        let key = match key_uri {
            Some((uri, source)) => Key::Token(TokenKey::open(uri, source)?),
            None => Key::File(key.to_owned()),
        };
        let Some((uri, source)) = certificate_uri else {
            return Ok(Self { key, certificate: certificate.to_owned(), _fetched: None });
        };
        let fetched = NamedTempFile::new().context("could not make a file for the certificate")?;
        pkcs11::certificate(uri, &source, fetched.path())?;
        let certificate = fetched.path().to_owned();
        Ok(Self { key, certificate, _fetched: Some(Arc::new(fetched)) })
    }

    /// Signs `root` and returns the content of the signature's partition; `dir` is a directory for
    /// temporary files.
    pub(crate) fn sign(&self, root: RootHash, dir: &Path) -> Result<Vec<u8>> {
        let text = hex(&root.0);
        let (message, signature) = (dir.join("message"), dir.join("signature"));
        fs_err::create_dir_all(dir)?;
        fs_err::write(&message, &text)?;
        // Without signed attributes, the signature contains no time; the kernel requires none
        // (PKCS#7).
        let command = openssl("sign the root hash")?.args(["smime", "-sign"]);
        let command = match &self.key {
            Key::File(file) => command.arg("-inkey").arg(file),
            Key::Token(key) => command.args(key.arguments()).brief(),
        };
        let command = command
            .args(["-nocerts", "-noattr", "-binary", "-md", "sha256", "-outform", "der", "-in"])
            .arg(&message)
            .arg("-signer")
            .arg(&self.certificate)
            .arg("-out")
            .arg(&signature);
        match &self.key {
            Key::File(_) => command.run_quiet()?,
            Key::Token(key) => key.run(&command)?,
        }
        self.prove(&message, &signature)?;
        let certificate = dir.join("certificate");
        openssl("read the certificate")?
            .args(["x509", "-outform", "der", "-in"])
            .arg(&self.certificate)
            .arg("-out")
            .arg(&certificate)
            .run_quiet()?;
        let json = json!({
            "rootHash": text,
            "certificateFingerprint": hex(&Sha256::digest(fs_err::read(certificate)?)),
            "signature": STANDARD.encode(fs_err::read(signature)?),
        });
        Ok(serde_json::to_vec(&json)?)
    }

    /// Verifies the signature with the certificate: openssl signs with any key, but a target
    /// accepts only the key of its certificate.
    fn prove(&self, message: &Path, signature: &Path) -> Result<()> {
        openssl("verify the signature with the certificate")?
            .args([
                "smime",
                "-verify",
                "-noverify",
                "-nointern",
                "-binary",
                "-inform",
                "der",
                "-in",
            ])
            .arg(signature)
            .arg("-content")
            .arg(message)
            .arg("-certfile")
            .arg(&self.certificate)
            .args(["-out", "/dev/null"])
            .run_quiet()
            .context("the key does not belong to the certificate")
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
        assert!(root_hash("Root hash: 00").is_none());
    }
}
