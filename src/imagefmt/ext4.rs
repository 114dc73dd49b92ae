//! ext4 images, written by mke2fs and debugfs of e2fsprogs: without root and without loop devices.
//!
//! `mke2fs -d` would copy the access and change times from the disk. debugfs writes exactly the
//! entries that it is given, in the given order, with the time in `E2FSPROGS_FAKE_TIME`.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use ext4_view::Ext4;

use crate::base::command::Command;
use crate::fstree::compare::{self, Keeps};
use crate::fstree::digest;
use crate::fstree::entries::{ContentSource, Entry, EntryKind, FileContent, FileTree};
use crate::host::tools::{self, ExternalTool};

const BLOCK: u64 = 4096;
const INODE: u64 = 256;
/// Features without those that a mounted image never needs (ext4(5)): a journal, room to grow.
/// Every kernel that attaches extensions knows the remaining ones.
const FEATURES: &str = "none,dir_index,dir_nlink,ext_attr,extent,extra_isize,filetype,flex_bg,\
                        huge_file,large_file,sparse_super";

/// Writes `plan` as the ext4 image `output`; `dir` is a path for a temporary directory.
pub(crate) fn write(
    plan: &FileTree,
    output: &Path,
    dir: &Path,
    progress: &dyn Fn(u64),
) -> Result<()> {
    fs_err::create_dir(dir)?;
    let commands = commands(plan, dir)?;
    let uuid = digest::tree_uuid(plan);
    let inodes = plan.entries.len() + 32;
    // The machine's mke2fs.conf(5) must have no effect.
    command("write the ext4 image", tools::MKE2FS, plan)?
        .env("MKE2FS_CONFIG", "/dev/null")
        .args(["-q", "-F", "-t", "ext4", "-m", "0", "-O", FEATURES, "-U", &uuid])
        .args(["-b", &BLOCK.to_string(), "-I", &INODE.to_string(), "-N", &inodes.to_string()])
        .args(["-E", &format!("hash_seed={uuid},root_owner=0:0,lazy_itable_init=0,nodiscard")])
        .arg(output)
        .arg(blocks(plan).to_string())
        .run_quiet()?;
    let list = dir.join("commands");
    fs_err::write(&list, commands)?;
    let written = command("write the ext4 image", tools::DEBUGFS, plan)?
        .args(["-w", "-f"])
        .arg(&list)
        .arg(output)
        .output()?;
    // debugfs always ends with status 0, and prints its version to stderr.
    let said = String::from_utf8_lossy(&written.stderr);
    let errors: Vec<&str> = said.lines().filter(|line| !line.starts_with("debugfs ")).collect();
    if let Some(first) = errors.first() {
        bail!("debugfs could not write all of it: {first} ({} messages)", errors.len());
    }
    progress(plan.totals().bytes);
    crate::base::files::remove(dir)
}

fn command(purpose: &str, tool: ExternalTool, plan: &FileTree) -> Result<Command> {
    Ok(tool.command(purpose)?.env("E2FSPROGS_FAKE_TIME", plan.epoch.to_string()))
}

/// Returns the number of blocks: data, directories, inodes, bitmaps, and a reserve for extent maps.
fn blocks(plan: &FileTree) -> u64 {
    let mut names: BTreeMap<&Path, u64> = BTreeMap::new();
    let mut blocks = 0;
    for (path, entry) in &plan.entries {
        let length = path.file_name().unwrap_or_default().len() as u64;
        *names.entry(path.parent().unwrap_or(path)).or_default() += 12 + length;
        blocks += match &entry.kind {
            EntryKind::File(content) => content.size.div_ceil(BLOCK) + content.size / (64 << 20),
            _ => 1,
        };
        blocks += u64::from(!entry.xattrs.is_empty());
    }
    // A block of a directory may have unused space of nearly the longest name.
    blocks += names.values().map(|bytes| bytes.div_ceil(BLOCK - 264)).sum::<u64>();
    blocks += (plan.entries.len() as u64 + 32) * INODE / BLOCK;
    blocks + blocks / 50 + 256
}

/// Returns the commands for debugfs.
fn commands(plan: &FileTree, dir: &Path) -> Result<Vec<u8>> {
    let of_two_lines = |path: &PathBuf| path.as_os_str().as_bytes().contains(&b'\n');
    if let Some(path) = plan.entries.keys().find(|path| of_two_lines(path)) {
        bail!(
            "an ext4 image cannot have the name {:?}: debugfs, which writes it, takes a line for \
             each name",
            path.display()
        );
    }
    let mut text = DebugfsScript::default();
    text.line(&[b"cd", b"/"])?;
    text.line(&[b"rmdir", b"lost+found"])?;
    let mut inside = Path::new("");
    for (index, (path, entry)) in plan.entries.iter().enumerate() {
        let parent = path.parent().unwrap_or(Path::new(""));
        if parent != inside {
            text.line(&[b"cd", &absolute(parent)])?;
            inside = parent;
        }
        let name = path.file_name().unwrap_or_default().as_bytes();
        let kind = match &entry.kind {
            EntryKind::Directory => {
                text.line(&[b"mkdir", name])?;
                0o040_000
            }
            EntryKind::File(content) => {
                text.line(&[b"write", file(content, dir, index)?.as_os_str().as_bytes(), name])?;
                0o100_000
            }
            EntryKind::Link(target) => {
                text.line(&[b"symlink", name, target.as_os_str().as_bytes()])?;
                0o120_000
            }
            EntryKind::HardLink(first) => {
                text.line(&[b"ln", &absolute(first), name])?;
                continue;
            }
        };
        let mode = format!("0{:o}", kind | entry.mode);
        text.line(&[b"sif", name, b"mode", mode.as_bytes()])?;
        for (field, value) in [("uid", entry.uid), ("gid", entry.gid)] {
            if value != 0 {
                let value = value.to_string();
                text.line(&[b"sif", name, field.as_bytes(), value.as_bytes()])?;
            }
        }
        for (number, (attribute, value)) in entry.xattrs.iter().enumerate() {
            let from = dir.join(format!("{index}-{number}"));
            fs_err::write(&from, value)?;
            let (from, attribute) = (from.as_os_str().as_bytes(), attribute.as_bytes());
            text.line(&[b"ea_set", b"-f", from, name, attribute])?;
        }
    }
    // Times are set last, since a directory gets a new time with every entry added to it.
    for (path, entry) in plan.entries.iter().filter(|(_, entry)| entry.mtime != plan.epoch) {
        if !matches!(entry.kind, EntryKind::HardLink(_)) {
            let time = format!("@{}", entry.mtime);
            text.line(&[b"sif", &absolute(path), b"mtime", time.as_bytes()])?;
        }
    }
    for (path, count) in plan.other_names() {
        let count = (count + 1).to_string();
        text.line(&[b"sif", &absolute(path), b"links_count", count.as_bytes()])?;
    }
    Ok(text.0)
}

fn absolute(path: &Path) -> Vec<u8> {
    [b"/", path.as_os_str().as_bytes()].concat()
}

/// Returns the path from which debugfs reads the content.
fn file(content: &FileContent, dir: &Path, index: usize) -> Result<PathBuf> {
    Ok(match &content.source {
        ContentSource::Disk(path) => path.clone(),
        ContentSource::Bytes(bytes) => {
            let path = dir.join(index.to_string());
            fs_err::write(&path, bytes)?;
            path
        }
    })
}

/// Lines for debugfs: words in double quotes, with quotes in them doubled (libss).
#[derive(Default)]
struct DebugfsScript(Vec<u8>);

impl DebugfsScript {
    fn line(&mut self, words: &[&[u8]]) -> Result<()> {
        for word in words {
            if word.contains(&b'\n') || word.is_empty() {
                bail!("debugfs cannot be told of {:?}", String::from_utf8_lossy(word));
            }
            self.0.push(b'"');
            for byte in *word {
                self.0.extend(if *byte == b'"' {
                    &b"\"\""[..]
                } else {
                    std::slice::from_ref(byte)
                });
            }
            self.0.extend(b"\" ");
        }
        self.0.push(b'\n');
        Ok(())
    }
}

/// Returns the differences of `image` from `plan`; `dir` is a path for a temporary directory.
pub(crate) fn differences(plan: &FileTree, image: &Path, dir: &Path) -> Result<Vec<String>> {
    let mut found = FileTree::new(&plan.eprefix, plan.epoch);
    read(image, &mut found)?;
    found.take_root()?;
    let mut differences = ask(plan, image, dir, &mut found)?;
    differences.extend(compare::compare_trees(plan, &found, Keeps::ALL));
    Ok(differences)
}

/// Reads the contents of `image` into `found`, with the root directory. Neither hard links nor
/// extended attributes are read.
pub(crate) fn read(image: &Path, found: &mut FileTree) -> Result<()> {
    let opened = Ext4::load_from_path(image)
        .with_context(|| format!("{} is no whole ext4 image", image.display()))?;
    found.entries.insert(PathBuf::new(), entry(&opened, b"/")?);
    let mut ahead = vec![PathBuf::new()];
    while let Some(inside) = ahead.pop() {
        for name in opened.read_dir(&absolute(&inside)[..])? {
            let name = name?.file_name().as_ref().to_owned();
            if matches!(name.as_slice(), b"." | b"..") {
                continue;
            }
            let path = inside.join(std::ffi::OsStr::from_bytes(&name));
            let entry = entry(&opened, &absolute(&path))?;
            if entry.is_directory() {
                ahead.push(path.clone());
            }
            found.entries.insert(path, entry);
        }
    }
    Ok(())
}

/// Reads an entry without the properties that the reader does not support: extended attributes and
/// hard links.
fn entry(image: &Ext4, path: &[u8]) -> Result<Entry> {
    let meta = image.symlink_metadata(path)?;
    let kind = if meta.is_dir() {
        EntryKind::Directory
    } else if meta.is_symlink() {
        let target = image.read_link(path)?;
        EntryKind::Link(PathBuf::from(std::ffi::OsStr::from_bytes(target.as_ref())))
    } else {
        let (sha256, size) = digest::hash_reader(image.open(path)?)?;
        EntryKind::File(FileContent {
            sha256: Some(sha256),
            ..FileContent::unread(ContentSource::Bytes(Vec::new()), size)
        })
    };
    Ok(Entry {
        kind,
        mode: meta.mode().into(),
        uid: meta.uid(),
        gid: meta.gid(),
        mtime: u64::try_from(meta.modified().seconds()).unwrap_or(0),
        xattrs: BTreeMap::new(),
    })
}

/// Asks debugfs for the inodes of planned hard links, and for extended attributes.
fn ask(plan: &FileTree, image: &Path, dir: &Path, found: &mut FileTree) -> Result<Vec<String>> {
    let others = plan.other_names();
    let names: Vec<&Path> = plan
        .entries
        .iter()
        .filter(|(path, entry)| {
            matches!(entry.kind, EntryKind::HardLink(_)) || others.contains_key(path.as_path())
        })
        .map(|(path, _)| path.as_path())
        .collect();
    let mut text = DebugfsScript::default();
    for path in &names {
        text.line(&[b"stat", &absolute(path)])?;
    }
    fs_err::create_dir(dir)?;
    let mut attributes = Vec::new();
    for (path, entry) in
        plan.entries.iter().filter(|(_, e)| !matches!(e.kind, EntryKind::HardLink(_)))
    {
        for name in entry.xattrs.keys() {
            let to = dir.join(attributes.len().to_string());
            let (to_bytes, name_bytes) = (to.as_os_str().as_bytes(), name.as_bytes());
            text.line(&[b"ea_get", b"-f", to_bytes, &absolute(path), name_bytes])?;
            attributes.push((path, name, to.clone()));
        }
    }
    if text.0.is_empty() {
        return Ok(Vec::new());
    }
    let list = dir.join("commands");
    fs_err::write(&list, text.0)?;
    let told = command("read the ext4 image back", tools::DEBUGFS, plan)?
        .arg("-f")
        .arg(&list)
        .arg(image)
        .output()?;
    for (path, name, file) in attributes {
        let value = fs_err::read(file).unwrap_or_default();
        if let Some(entry) = found.entries.get_mut(path) {
            entry.xattrs.insert(name.clone(), value);
        }
    }
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    let inodes: Vec<&str> = told
        .lines()
        .filter_map(|line| line.strip_prefix("Inode: ")?.split_whitespace().next())
        .collect();
    let links: Vec<&str> = told.lines().filter_map(|line| line.strip_prefix("Links: ")).collect();
    let mut firsts: BTreeMap<&str, &Path> = BTreeMap::new();
    let mut differences = Vec::new();
    for (index, path) in names.iter().enumerate() {
        let (Some(inode), Some(links)) = (inodes.get(index), links.get(index)) else {
            bail!("debugfs does not tell of /{}", path.display());
        };
        let first = *firsts.entry(inode).or_insert(path);
        let count = others.get(first).map_or(1, |count| count + 1).to_string();
        if links.split_whitespace().next() != Some(&count) {
            differences.push(format!("/{} has {links} names and not {count}", path.display()));
        }
        if let (true, Some(entry)) = (first != *path, found.entries.get_mut(*path)) {
            entry.kind = EntryKind::HardLink(first.to_owned());
        }
    }
    Ok(differences)
}
