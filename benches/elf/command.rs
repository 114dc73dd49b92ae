//! What `fprefix rewrite --root` does, in a process of its own that says how much memory it took:
//! by the number of files, and with a file of 5 GB.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use fprefix::elf;
use fprefix::relocate::{RelocateOptions, SearchTag};

use super::{Corpus, Took, run};

/// The argument that makes this program such a process.
const CHILD: &str = "--rewrite-tree";
const EPREFIX: &str = "/opt/measured";
/// Every file of a tree is about this small, so that a hundred thousand fit into memory.
const SMALL: u64 = 40 << 10;
const COUNTS: [usize; 3] = [1_000, 10_000, 100_000];

/// Rewrites a tree and says its own peak of memory, if this process was started for that.
pub(crate) fn child() -> Result<bool> {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() != Some(CHILD) {
        return Ok(false);
    }
    let tree = PathBuf::from(args.next().context("which tree?")?);
    let request = RelocateOptions {
        tree,
        under: None,
        eprefix: EPREFIX.parse()?,
        tag: SearchTag::Rpath,
        relative: false,
        only: Vec::new(),
    };
    let plan = request.plan()?;
    plan.apply()?;
    let status = fs_err::read_to_string("/proc/self/status")?;
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).context("no peak")?;
    println!("{} changed, {}", plan.changes.len(), peak.split_whitespace().nth(1).unwrap_or("?"));
    Ok(true)
}

fn rewrite(tree: &Path) -> Result<(Took, String)> {
    let own = std::env::current_exe()?;
    let mut said = String::new();
    let took = Took::of(|| {
        said = run(&own.to_string_lossy(), &[CHILD.as_ref(), tree.as_os_str()])?;
        Ok(())
    })?;
    Ok((took, said.trim().to_owned() + " kB at most"))
}

pub(crate) fn measure(corpus: &Corpus, dir: &Path) -> Result<()> {
    println!("\nthe command, all processors: trees, one file in two a hard link");
    for count in COUNTS {
        let tree = dir.join("tree");
        corpus.grow(&tree, count)?;
        let (to, from) = (dir.join("cp"), &tree);
        let copy = Took::of(|| {
            run("cp", &["-a".as_ref(), from.as_ref(), to.as_ref()])?;
            Ok(())
        })?;
        fs_err::remove_dir_all(&to)?;
        let (took, said) = rewrite(&tree)?;
        took.report(&format!("{count} files: {said}"), copy, "cp -a");
        let (again, said) = rewrite(&tree)?;
        again.report(&format!("{count} again: {said}"), took, "the first time");
        fs_err::remove_dir_all(&tree)?;
    }
    large(dir)
}

/// A program whose section headers lie behind 5 GB, most of which is a hole.
fn large(dir: &Path) -> Result<()> {
    let path = dir.join("large");
    let bytes = fs_err::read("/bin/ls")?;
    let number = |at: usize, len: usize| {
        let field = bytes.get(at..at + len).unwrap_or_default();
        field.iter().rev().fold(0_usize, |all, byte| all << 8 | usize::from(*byte))
    };
    let (offset, count) = (number(0x28, 8), number(0x3c, 2));
    let headers = bytes.get(offset..offset + 64 * count).context("no section headers")?;
    fs_err::write(&path, &bytes)?;
    let end = 5_u64 << 30;
    let file: File = fs_err::OpenOptions::new().read(true).write(true).open(&path)?.into();
    file.write_all_at(&vec![0; headers.len()], offset as u64)?;
    file.write_all_at(headers, end)?;
    file.write_all_at(&end.to_le_bytes(), 0x28)?;
    let edit = super::edit();
    let took = Took::of(|| {
        let plan = elf::plan(&elf::open(&file)?, &edit)?;
        ensure!(!plan.is_unchanged());
        Ok(plan.write_in_place(&file)?)
    })?;
    let milliseconds = |time: std::time::Duration| time.as_secs_f64() * 1e3;
    println!(
        "a file of 5 GB, in place: {:.2} ms, {:.2} ms on the clock",
        milliseconds(took.cpu),
        milliseconds(took.clock)
    );
    Ok(())
}

impl Corpus {
    /// A tree of `count` small files: a copy and a hard link to it in turn.
    fn grow(&self, tree: &Path, count: usize) -> Result<()> {
        let lib = tree.join(EPREFIX.trim_start_matches('/')).join("usr/lib64");
        fs_err::create_dir_all(&lib)?;
        fs_err::copy("/lib64/ld-linux-x86-64.so.2", lib.join("ld-linux-x86-64.so.2"))?;
        for (name, soname) in [("0000", "libc.so.6"), ("0001", "libm.so.6")] {
            fs_err::copy(self.source.join(name), lib.join(soname))?;
        }
        let small = |(name, _): &&(String, bool)| {
            fs_err::metadata(self.source.join(name)).is_ok_and(|meta| meta.len() <= SMALL)
        };
        let names: Vec<&(String, bool)> = self.names.iter().filter(small).collect();
        let mut made = 0;
        for round in 0.. {
            let dir = lib.join(format!("{round}"));
            fs_err::create_dir(&dir)?;
            for (name, _) in &names {
                let copy = dir.join(name);
                fs_err::copy(self.source.join(name), &copy)?;
                fs_err::hard_link(&copy, dir.join(format!("{name}-link")))?;
                made += 2;
                if made >= count {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
