//! Tar archives, for other tools.

use std::io::BufWriter;
use std::path::Path;

use anyhow::{Context, Result};

use crate::base::scratch::ScratchDir;
use crate::fstree::compare::{self, Keeps};
use crate::fstree::entries::FileTree;
use crate::fstree::{digest, scan, tar_stream};
use crate::host::tools::{self, ExternalTool};
use crate::imagefmt::compression::Compression;
use crate::imagefmt::directory;
use crate::imagefmt::image_format::{ImageFormat, ImageInput, Magic};

/// Tar archive in the pax format.
pub(crate) struct TarArchive;

/// The format.
pub(crate) static FORMAT: TarArchive = TarArchive;

impl ImageFormat for TarArchive {
    fn name(&self) -> &'static str {
        "tar"
    }

    fn suffix(&self) -> &'static str {
        ".tar"
    }

    fn tools(&self) -> &'static [ExternalTool] {
        &[tools::TAR]
    }

    fn is_attachable(&self) -> bool {
        false
    }

    fn magic(&self) -> Option<Magic> {
        // No archive is accepted where an extension is.
        None
    }

    fn write(
        &self,
        input: ImageInput<'_>,
        _: Compression,
        output: &Path,
        _: &Path,
        progress: &dyn Fn(u64),
    ) -> Result<()> {
        let mut file = BufWriter::new(fs_err::File::create(output)?);
        tar_stream::write_tar_with_root(input.tree, &mut file, progress)?;
        file.into_inner().context("could not write the archive")?;
        Ok(())
    }

    fn differences(&self, planned: &FileTree, image: &Path, scratch: &Path) -> Result<Vec<String>> {
        self.unpack(image, scratch)?;
        compare::compare_unpacked(planned, scratch, Keeps::ALL)
    }

    fn read(&self, image: &Path, found: &mut FileTree) -> Result<()> {
        let dir = ScratchDir::new()?;
        let tree = dir.path().join("tree");
        self.unpack(image, &tree)?;
        scan::scan_tree(&tree, found)?;
        digest::hash_contents(found)
    }

    fn unpack(&self, image: &Path, dir: &Path) -> Result<bool> {
        fs_err::create_dir(dir)?;
        directory::untar(dir)?.arg("--file").arg(image).run_quiet()?;
        Ok(true)
    }
}
