#![allow(clippy::doc_markdown, reason = "the comments on arguments are what --help prints")]

use std::collections::HashSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::base::escape::Escape;
use crate::base::{files, output};
use crate::check::{self, LoadedFiles};
use crate::cli::check::RootArgs;
use crate::cli::{Context, DONE, FOUND};
use crate::elf::{self, Edit, ElfImage, LibraryTag, SearchPathEdit};
use crate::relocate::{EditOptions, edit_file};

/// Look at ELF files, or change single ones
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fprefix elf show /usr/bin/env
  fprefix elf set --remove-rpath bin/tool")]
pub(super) struct ElfCommand {
    #[command(subcommand)]
    command: ElfSubcommand,
}

#[derive(Debug, Subcommand)]
enum ElfSubcommand {
    Show(ElfShow),
    Libraries(ElfLibraries),
    Set(Box<ElfSet>),
}

/// Show what the loader reads of ELF files
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fprefix elf show /usr/bin/env
  fprefix elf show --json lib/*.so")]
struct ElfShow {
    /// The files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Show which files the prefix's loader loads for a program
///
/// As ldd(1) does for programs of this machine, but nothing is run: programs for other machines have
/// an answer too. Without a program, all programs and libraries of the root are answered for.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fprefix elf libraries jq
  fprefix elf libraries --root rootfs --eprefix /usr/local/my-stuff --json")]
struct ElfLibraries {
    #[command(flatten)]
    root: RootArgs,
    /// Programs or libraries: names of programs, or paths as programs see them
    #[arg(value_name = "PROGRAM")]
    files: Vec<PathBuf>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Change what the loader reads of ELF files
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fprefix elf set --runpath '$ORIGIN/../lib' bin/tool
  fprefix elf set --replace-needed libz.so libz.so.1 bin/tool")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
struct ElfSet {
    /// The loader (PT_INTERP)
    #[arg(long, value_name = "PATH")]
    interpreter: Option<OsString>,
    /// Directories to search after LD_LIBRARY_PATH (DT_RUNPATH), separated by colons
    #[arg(long, value_name = "DIRS")]
    runpath: Option<OsString>,
    /// Directories to search before LD_LIBRARY_PATH (DT_RPATH), separated by colons
    #[arg(long, value_name = "DIRS", conflicts_with = "runpath")]
    rpath: Option<OsString>,
    /// Remove rpath and runpath
    #[arg(long, conflicts_with_all = ["runpath", "rpath"])]
    remove_rpath: bool,
    /// The name by which others need it (DT_SONAME)
    #[arg(long, value_name = "NAME")]
    soname: Option<OsString>,
    /// A library to need as well
    #[arg(long, value_name = "NAME")]
    add_needed: Vec<OsString>,
    /// A library to need no more
    #[arg(long, value_name = "NAME")]
    remove_needed: Vec<OsString>,
    /// A library to name otherwise, under every tag (DT_NEEDED, DT_FILTER, DT_AUXILIARY, DT_AUDIT,
    /// DT_DEPAUDIT)
    #[arg(long, num_args = 2, value_names = ["OLD", "NEW"])]
    replace_needed: Vec<OsString>,
    /// A library to filter no more (DT_FILTER)
    #[arg(long, value_name = "NAME")]
    remove_filter: Vec<OsString>,
    /// A library to filter no more where it is there (DT_AUXILIARY)
    #[arg(long, value_name = "NAME")]
    remove_auxiliary: Vec<OsString>,
    /// An auditor to load no more (DT_AUDIT, DT_DEPAUDIT)
    #[arg(long, value_name = "NAME")]
    remove_audit: Vec<OsString>,
    /// Do not search the loader's own directories (DF_1_NODEFLIB)
    #[arg(long)]
    no_default_lib: bool,
    /// Replace a file that has other names (hard links) elsewhere; these keep the old content
    #[arg(long)]
    break_hard_links: bool,
    /// Say what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// The files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl ElfCommand {
    /// Runs the subcommand.
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        match self.command {
            ElfSubcommand::Show(show) => show.run(),
            ElfSubcommand::Libraries(libraries) => libraries.run(context),
            ElfSubcommand::Set(set) => set.run(context),
        }
    }
}

impl ElfShow {
    fn run(self) -> Result<u8> {
        let mut rows = Vec::new();
        for file in &self.files {
            let bytes = files::map(file)?;
            let image =
                elf::read(&bytes).with_context(|| format!("could not read {}", file.escaped()))?;
            if self.json {
                rows.push(row(file, &image));
            } else {
                output::answer(&text(file, &image))?;
            }
        }
        if self.json {
            output::answer_json(&rows)?;
        }
        Ok(DONE)
    }
}

impl ElfLibraries {
    fn run(self, context: &Context) -> Result<u8> {
        let root = self.root.open(context)?;
        let all = check::list_loaded(&root, &self.files)?;
        if self.json {
            output::answer_json(&all)?;
        } else {
            let texts: Vec<String> = all.iter().map(loaded_text).collect();
            output::answer(&texts.concat())?;
        }
        let complete =
            all.iter().flat_map(|file| &file.libraries).all(|found| found.path.is_some());
        Ok(if complete { DONE } else { FOUND })
    }
}

fn loaded_text(loaded: &LoadedFiles) -> String {
    let mut text = format!("{}:\n", loaded.file.escaped());
    for library in &loaded.libraries {
        let place = match (&library.path, &library.fault) {
            (Some(path), _) => path.escaped().to_string(),
            (None, Some(fault)) => format!("not loaded: {fault}"),
            (None, None) => "not found".to_owned(),
        };
        text += &format!("  {} => {place}\n", library.name);
    }
    text
}

fn shown(bytes: &[u8]) -> String {
    bytes.escaped().to_string()
}

fn row(file: &Path, image: &ElfImage) -> serde_json::Value {
    let optional = |bytes: &Option<Vec<u8>>| bytes.as_deref().map(shown);
    json!({
        "file": file.escaped().to_string(),
        "kind": image.kind.to_string(),
        "machine": image.machine,
        "interpreter": optional(&image.interpreter),
        "soname": optional(&image.soname),
        "needed": image.needed.iter().map(|name| shown(name)).collect::<Vec<_>>(),
        "other_libraries": image.other_libraries.iter().map(|(tag, names)| {
            json!({"tag": tag.to_string(), "names": shown(names)})
        }).collect::<Vec<_>>(),
        "rpath": optional(&image.rpath),
        "runpath": optional(&image.runpath),
        "build_id": image.build_id.as_deref().map(crate::base::data::hex),
    })
}

fn text(file: &Path, image: &ElfImage) -> String {
    let mut text = format!("{}: {}\n", file.escaped(), image.kind);
    for (name, value) in [
        ("interpreter", &image.interpreter),
        ("soname", &image.soname),
        ("rpath", &image.rpath),
        ("runpath", &image.runpath),
    ] {
        if let Some(value) = value {
            text += &format!("  {name:11} {}\n", shown(value));
        }
    }
    for name in &image.needed {
        text += &format!("  {:11} {}\n", "needed", shown(name));
    }
    for (tag, name) in &image.other_libraries {
        text += &format!("  {:11} {}\n", tag.to_string(), shown(name));
    }
    if let Some(id) = &image.build_id {
        text += &format!("  {:11} {}\n", "build-id", crate::base::data::hex(id));
    }
    text
}

impl ElfSet {
    fn run(self, context: &Context) -> Result<u8> {
        let bytes = |text: &OsString| text.clone().into_vec();
        let search = match (&self.runpath, &self.rpath, self.remove_rpath) {
            (Some(dirs), _, _) => SearchPathEdit::Runpath(bytes(dirs)),
            (_, Some(dirs), _) => SearchPathEdit::Rpath(bytes(dirs)),
            (_, _, true) => SearchPathEdit::Remove,
            _ => SearchPathEdit::Keep,
        };
        let pairs = self.replace_needed.chunks_exact(2);
        let edit = Edit {
            interpreter: self.interpreter.as_ref().map(bytes),
            search_path: search,
            soname: self.soname.as_ref().map(bytes),
            add_needed: self.add_needed.iter().map(bytes).collect(),
            remove_needed: self.remove_needed.iter().map(bytes).collect(),
            replace_needed: pairs
                .filter_map(|pair| Some((bytes(pair.first()?), bytes(pair.last()?))))
                .collect(),
            remove_others: self.removed_others(),
            no_default_lib: self.no_default_lib,
        };
        let options = EditOptions {
            dry_run: self.dry_run,
            names: &self.files,
            break_hard_links: self.break_hard_links,
        };
        for file in list_distinct(&self.files) {
            let plan = edit_file(file, &edit, options)?;
            context.reporter.detail(&format!(
                "{}: {:?}, {} bytes longer",
                file.escaped(),
                plan.method,
                plan.growth()
            ));
        }
        Ok(DONE)
    }

    fn removed_others(&self) -> Vec<(LibraryTag, Vec<u8>)> {
        let lists = [
            (LibraryTag::Filter, &self.remove_filter),
            (LibraryTag::Auxiliary, &self.remove_auxiliary),
            (LibraryTag::Audit, &self.remove_audit),
            (LibraryTag::DepAudit, &self.remove_audit),
        ];
        let named = |(tag, names): (LibraryTag, &Vec<OsString>)| {
            names.iter().map(move |name| (tag, name.clone().into_vec())).collect::<Vec<_>>()
        };
        lists.into_iter().flat_map(named).collect()
    }
}

/// Returns the first name of each file among `files`.
fn list_distinct(files: &[PathBuf]) -> Vec<&PathBuf> {
    let mut known = HashSet::new();
    let is_new = |file: &&PathBuf| match fs_err::metadata(file) {
        Ok(meta) => known.insert((meta.dev(), meta.ino())),
        // The edit says what is wrong with it.
        Err(_) => true,
    };
    files.iter().filter(is_new).collect()
}
