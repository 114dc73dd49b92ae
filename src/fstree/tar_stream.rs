//! A plan as a tar stream, the input of image writers. Owners, modes and times in the image are
//! those of the plan, whoever runs the writer, and no file has to be copied first.

use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use tar::{EntryType, Header};

use crate::base::escape::Escape;
use crate::fstree::entries::{Entry, EntryKind, FileTree};

/// Limits of the fields of a ustar header (POSIX.1-2017, pax, "ustar Interchange Format").
const NAME_MAX: usize = 100;
const SIZE_MAX: u64 = 0o777_7777_7777;

/// Prefix of extended attributes in pax headers.
const XATTR: &str = "SCHILY.xattr.";

/// Writes `plan` as a tar stream in the pax format. `progress` gets the number of content bytes.
pub(crate) fn write_tar(
    plan: &FileTree,
    output: &mut dyn Write,
    progress: &dyn Fn(u64),
) -> Result<()> {
    write_entries(tar::Builder::new(output), plan, progress)
}

/// Writes `plan` with an entry for the root directory, for programs that do not create one.
pub(crate) fn write_tar_with_root(
    plan: &FileTree,
    output: &mut dyn Write,
    progress: &dyn Fn(u64),
) -> Result<()> {
    let mut builder = tar::Builder::new(output);
    append(&mut builder, Path::new("."), &Entry::shared_directory(plan.epoch), progress)?;
    write_entries(builder, plan, progress)
}

fn write_entries(
    mut builder: tar::Builder<&mut dyn Write>,
    plan: &FileTree,
    progress: &dyn Fn(u64),
) -> Result<()> {
    for (path, entry) in &plan.entries {
        append(&mut builder, path, entry, progress)
            .with_context(|| format!("could not pack /{}", path.escaped()))?;
    }
    builder.finish().context("could not end the stream")?;
    Ok(())
}

fn append(
    builder: &mut tar::Builder<&mut dyn Write>,
    path: &Path,
    entry: &Entry,
    progress: &dyn Fn(u64),
) -> Result<()> {
    let mut header = Header::new_ustar();
    let mut name = path.as_os_str().as_bytes().to_owned();
    header.set_mode(entry.mode);
    header.set_uid(entry.uid.into());
    header.set_gid(entry.gid.into());
    header.set_mtime(entry.mtime);
    let mut target: &[u8] = b"";
    let mut size = 0;
    header.set_entry_type(match &entry.kind {
        EntryKind::Directory => {
            name.push(b'/');
            EntryType::Directory
        }
        EntryKind::File(content) => {
            size = content.size;
            EntryType::Regular
        }
        EntryKind::Link(text) => {
            target = text.as_os_str().as_bytes();
            EntryType::Symlink
        }
        EntryKind::HardLink(first) => {
            target = first.as_os_str().as_bytes();
            EntryType::Link
        }
    });
    header.set_size(size);
    let fields = header.as_ustar_mut().context("a ustar header is none")?;
    copy_into_field(&mut fields.name, &name);
    copy_into_field(&mut fields.linkname, target);
    header.set_cksum();

    builder.append_pax_extensions(
        list_pax_records(&name, target, size, entry)?
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_slice())),
    )?;
    match &entry.kind {
        EntryKind::File(content) => {
            let mut counted = Counted { left: size, progress, inner: content.source.open()? };
            builder.append(&header, &mut counted)?;
            // A file with more or fewer bytes than planned was changed meanwhile.
            if counted.left > 0 || counted.inner.read(&mut [0])? > 0 {
                bail!("it was changed while it was packed");
            }
        }
        _ => builder.append(&header, std::io::empty())?,
    }
    Ok(())
}

/// Returns the pax records for values that do not fit into the header.
fn list_pax_records(
    name: &[u8],
    target: &[u8],
    size: u64,
    entry: &Entry,
) -> Result<Vec<(String, Vec<u8>)>> {
    let mut records = Vec::new();
    if name.len() > NAME_MAX {
        records.push(("path".to_owned(), name.to_owned()));
    }
    if target.len() > NAME_MAX {
        records.push(("linkpath".to_owned(), target.to_owned()));
    }
    if size > SIZE_MAX {
        records.push(("size".to_owned(), size.to_string().into_bytes()));
    }
    // The first name of the file carries its attributes.
    if !matches!(entry.kind, EntryKind::HardLink(_)) {
        for (name, value) in &entry.xattrs {
            let name = name.to_str().context("an extended attribute has a name not in UTF-8")?;
            // A record is KEY=VALUE, and tar takes %3D in a key for =.
            ensure!(
                !name.contains(['=', '%']),
                "the name of the extended attribute {name:?} has a sign that tar cannot hold"
            );
            records.push((format!("{XATTR}{name}"), value.clone()));
        }
    }
    Ok(records)
}

fn copy_into_field(field: &mut [u8], value: &[u8]) {
    for (to, from) in field.iter_mut().zip(value) {
        *to = *from;
    }
}

/// Reader that yields at most the planned size and reports its progress.
struct Counted<'a> {
    inner: Box<dyn Read + 'a>,
    left: u64,
    progress: &'a dyn Fn(u64),
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.inner.read(buffer.get_mut(..most).unwrap_or_default())?;
        self.left -= count as u64;
        (self.progress)(count as u64);
        Ok(count)
    }
}
