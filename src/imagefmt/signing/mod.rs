//! Keys and certificates that sign images, in files and in tokens.

mod openssl;
pub(crate) mod pkcs11;
pub(crate) mod token_uri;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::base::data::hex;
use crate::base::escape::Escape;
use crate::base::input;
use crate::base::limits::TEXT;
use crate::base::scratch::{ScratchDir, ScratchFile};
use crate::host::tools;
use crate::imagefmt::signing::openssl::openssl;
use crate::imagefmt::signing::pkcs11::{KeySource, TokenKey};
use crate::imagefmt::signing::token_uri::TokenUri;
use crate::sandbox::foreign_tool::ForeignTool;

/// Key and certificate that sign an image.
#[derive(Clone, Debug)]
pub(crate) struct Signing {
    key: Key,
    /// Certificate in PEM form, of which targets have a copy in /etc/verity.d.
    pub certificate: PathBuf,
    _fetched: Option<Arc<ScratchFile>>,
}

/// Private key.
#[derive(Clone, Debug)]
enum Key {
    /// File in PEM form.
    File(PathBuf),
    /// Key in a token.
    Token(TokenKey),
}

/// Arguments with which openssl verifies a PKCS#7 signature by the key of the given certificate, as
/// the kernel does: whoever made that, it is trusted, and certificates in the signature are not.
const VERIFY: [&str; 7] =
    ["smime", "-verify", "-noverify", "-nointern", "-binary", "-inform", "der"];

impl Signing {
    /// Opens a key and its certificate, both of which must exist: files, or PKCS#11 URIs, which
    /// `source` reads.
    pub(crate) fn open(key: &Path, certificate: &Path, source: Option<&KeySource>) -> Result<Self> {
        for file in [key, certificate] {
            if !token_uri::is_uri(file) && !file.is_file() {
                bail!("there is no file {} to sign with", file.escaped());
            }
        }
        let uris = [TokenUri::parse(key)?, TokenUri::parse(certificate)?];
        let source = match uris {
            [None, None] if source.is_some() => {
                bail!("{} is a file, and no key of a token (pkcs11:...)", key.escaped())
            }
            [None, None] => None,
            _ => Some(KeySource::find(source)?),
        };
        let [key_uri, certificate_uri] = uris.map(|uri| uri.zip(source.clone()));
        let key = match key_uri {
            Some((uri, source)) => Key::Token(TokenKey::open(&uri, source)?),
            None => Key::File(key.to_owned()),
        };
        let Some((uri, source)) = certificate_uri else {
            return Ok(Self { key, certificate: certificate.to_owned(), _fetched: None });
        };
        let fetched = ScratchFile::new()?;
        pkcs11::certificate(&uri, &source, fetched.path())?;
        let certificate = fetched.path().to_owned();
        Ok(Self { key, certificate, _fetched: Some(Arc::new(fetched)) })
    }

    /// Signs `text` and returns a PKCS#7 signature in DER form; `dir` is a directory for temporary
    /// files.
    pub(crate) fn sign(&self, text: &[u8], dir: &Path) -> Result<Vec<u8>> {
        let (message, signature) = (dir.join("message"), dir.join("signature"));
        fs_err::create_dir_all(dir)?;
        fs_err::write(&message, text)?;
        // Without signed attributes, the signature contains no time; the kernel requires none
        // (PKCS#7).
        let command = openssl("sign the root hash")?.args(["smime", "-sign"]);
        let command = match &self.key {
            Key::File(file) => command.arg("-inkey").arg(file),
            Key::Token(key) => key.add_to(command)?.brief(),
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
        input::read(&signature, TEXT)
    }

    /// Verifies the signature with the certificate: openssl signs with any key, but a target
    /// accepts only the key of its certificate.
    fn prove(&self, message: &Path, signature: &Path) -> Result<()> {
        openssl("verify the signature with the certificate")?
            .args(VERIFY)
            .arg("-in")
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

/// Verifies that `signature`, which may come from anybody, is the PKCS#7 signature of `message` by the
/// owner of the certificate in the file `certificate`.
///
/// # Errors
///
/// Fails if it is not, or if the certificate cannot be read.
pub(crate) fn verify(certificate: &Path, message: &[u8], signature: &[u8]) -> Result<()> {
    let dir = ScratchDir::new()?;
    let inside = dir.path().join("signed");
    fs_err::create_dir(&inside)?;
    fs_err::write(inside.join("message"), message)?;
    fs_err::write(inside.join("signature"), signature)?;
    let purpose = "verify the signature with the certificate";
    let tool = ForeignTool::unpacking(purpose, tools::OPENSSL, certificate, &inside)?;
    let file = |name: &str| tool.dir().join(name);
    tool.command()
        .args(VERIFY)
        .arg("-in")
        .arg(file("signature"))
        .arg("-content")
        .arg(file("message"))
        .arg("-certfile")
        .arg(tool.image())
        .arg("-out")
        .arg(file("verified"))
        .run_quiet()
}

/// Returns the SHA-256 of the certificate in the file `certificate`, in its DER form.
pub(crate) fn fingerprint(certificate: &Path) -> Result<String> {
    let command =
        openssl("read the certificate")?.args(["x509", "-outform", "der", "-in"]).arg(certificate);
    command.run_read(|der| {
        let mut bytes = Vec::new();
        der.read_to_end(&mut bytes)?;
        Ok(hex(&Sha256::digest(bytes)))
    })
}
