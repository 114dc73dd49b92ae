//! Imported files as distfiles: archives with a hash, which Portage verifies and unpacks.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use sha2::{Digest, Sha512};

use crate::base::board::Board;
use crate::base::data::{self, Folder};
use crate::base::escape::Escape;
use crate::base::input;
use crate::base::limits::TEXT;
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
        let distfile = self.archive(new.file())?;
        let path = distdir.join(&distfile.name);
        if !path.exists() {
            files::open_to_all(new.file())?;
            // A file that is there is not written again, so it must be whole.
            new.publish(distfile.name.as_ref(), Durability::Flushed)
                .with_context(|| format!("could not write {}", path.escaped()))?;
        }
        Ok(distfile)
    }

    /// Returns whether the package in `repository` installs just these files.
    ///
    /// # Errors
    ///
    /// Fails if the files or the repository cannot be read.
    pub(crate) fn is_in(&self, repository: &Path) -> Result<bool> {
        let manifest = repository.join(&self.package).join("Manifest");
        Ok(manifest.is_file()
            && input::read_text(&manifest, TEXT)? == self.archive(std::io::sink())?.manifest)
    }

    /// Writes the archive to `out`.
    fn archive(&self, out: impl Write) -> Result<Distfile> {
        let inner = std::io::BufWriter::new(out);
        let mut hashing = Hashing { inner, hash: Sha512::new(), size: 0 };
        self.write_tar(&mut hashing)
            .and_then(|()| Ok(hashing.flush()?))
            .with_context(|| format!("could not archive the files of {}", self.package))?;
        let digest = data::hex(&hashing.hash.finalize());
        let tag = digest.get(..16).unwrap_or(&digest);
        let name = format!("fprefix-{}-{}-{tag}.tar", self.name(), self.version);
        let manifest = format!("DIST {name} {} SHA512 {digest}\n", hashing.size);
        Ok(Distfile { name, manifest })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_the_files_is_seen() {
        let recipe = "package = \"a/b\"\ndescription = \"\"\nhomepage = \"\"\nlicense = \"\"\nslot = \"0\"\n";
        let import = |version: &str, text: &str| Import {
            package: "a/b".to_owned(),
            version: version.to_owned(),
            recipe: toml::from_str(recipe).unwrap(),
            entries: [("file".into(), Content::Text(text.to_owned()))].into(),
        };
        let repository = tempfile::tempdir().unwrap();
        let imported = import("1", "text");
        assert!(!imported.is_in(repository.path()).unwrap());
        let distfile = imported.write_distfile(repository.path()).unwrap();
        let manifest = repository.path().join("a/b/Manifest");
        files::write_atomically(&manifest, distfile.manifest.as_bytes()).unwrap();
        assert!(imported.is_in(repository.path()).unwrap());
        for other in [import("1", "other"), import("2", "text")] {
            assert!(!other.is_in(repository.path()).unwrap());
        }
    }
}
