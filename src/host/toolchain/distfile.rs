//! Imported files as distfiles: archives with a hash, which Portage verifies and unpacks.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use sha2::{Digest, Sha512};

use crate::base::board::Board;
use crate::base::data::{self, Folder};
use crate::base::escape::Escape;
use crate::base::input;
use crate::base::publish::{Durability, NewFile};
use crate::base::{files, template};
use crate::host::toolchain::plan::{Content, Import};

/// A written distfile.
#[derive(Debug)]
pub(crate) struct Distfile {
    /// File name.
    pub name: String,
    /// Line in a Manifest (GLEP 74).
    pub manifest: String,
}
impl Import {
    /// Returns the name of the package without its category.
    pub(crate) fn name(&self) -> &str {
        self.package.split_once('/').map_or(self.package.as_str(), |(_, name)| name)
    }

    /// Returns the ebuild that installs `distfile`.
    pub(crate) fn ebuild(&self, board: &Board, distfile: &Distfile) -> Result<String> {
        template::render(
            Folder::Templates,
            "toolchain/import.ebuild",
            minijinja::context! {
                recipe => self.recipe,
                keyword => board.arch,
                distfile => distfile.name,
            },
        )
    }

    /// Writes the distfile into `distdir`. Its name contains a digest of its content. So the same
    /// toolchain gives the same file, and a changed one gives another file.
    pub(crate) fn write_distfile(&self, distdir: &Path) -> Result<Distfile> {
        let new = NewFile::create_in(distdir)
            .with_context(|| format!("could not write to {}", distdir.escaped()))?;
        let (hash, size) = self
            .write_hashed(new.file())
            .with_context(|| format!("could not archive the files of {}", self.package))?;
        let digest = data::hex(&hash.finalize());
        let tag = digest.get(..16).unwrap_or(&digest);
        let name = format!("fprefix-{}-{}-{tag}.tar", self.name(), self.version);
        let path = distdir.join(&name);
        if !path.exists() {
            files::open_to_all(new.file())?;
            // A file that is there is not written again, so it must be whole.
            new.publish(name.as_ref(), Durability::Flushed)
                .with_context(|| format!("could not write {}", path.escaped()))?;
        }
        let manifest = format!("DIST {name} {size} SHA512 {digest}\n");
        Ok(Distfile { name, manifest })
    }

    fn write_hashed(&self, file: &std::fs::File) -> Result<(Sha512, u64)> {
        let inner = std::io::BufWriter::new(file);
        let mut hashing = Hashing { inner, hash: Sha512::new(), size: 0 };
        self.write_tar(&mut hashing)?;
        hashing.flush()?;
        Ok((hashing.hash, hashing.size))
    }

    fn write_tar(&self, out: impl Write) -> Result<()> {
        let mut tar = tar::Builder::new(out);
        for (place, content) in &self.entries {
            let mut header = tar::Header::new_gnu();
            header.set_uid(0);
            header.set_gid(0);
            header.set_mode(0o644);
            match content {
                Content::Copy(source) => {
                    let file = input::open(source)?;
                    let meta = file.metadata()?;
                    header.set_metadata_in_mode(&meta, tar::HeaderMode::Complete);
                    header.set_uid(0);
                    header.set_gid(0);
                    let executable = std::os::unix::fs::PermissionsExt::mode(&meta.permissions());
                    header.set_mode(if executable & 0o111 == 0 { 0o644 } else { 0o755 });
                    tar.append_data(&mut header, place, file)?;
                }
                Content::Text(text) => {
                    header.set_size(text.len() as u64);
                    tar.append_data(&mut header, place, text.as_bytes())?;
                }
                Content::Link(target) => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    header.set_size(0);
                    tar.append_link(&mut header, place, target)?;
                }
            }
        }
        tar.into_inner()?.flush()?;
        Ok(())
    }
}

/// A writer that counts and digests the bytes written through it.
struct Hashing<W> {
    inner: W,
    hash: Sha512,
    size: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hash.update(bytes.get(..count).unwrap_or_default());
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}
