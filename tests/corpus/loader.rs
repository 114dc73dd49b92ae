//! The loader of the packages as the judge of what `fprefix elf libraries` says.

use std::collections::BTreeMap;
use std::path::Path;

use crate::Machine;
use crate::answers::Room;
use crate::harness::loader::{self, Libraries};
use crate::harness::tools::success_of;
use crate::root::{Root, eprefix};

/// Compares what the loader and `fprefix elf libraries` say of programs and libraries of the root.
/// Returns the number of files.
pub(crate) fn compare(machine: &Machine, root: &Root) -> usize {
    let eprefix = eprefix();
    let program = Path::new(env!("CARGO_BIN_EXE_fprefix"));
    let args = ["elf", "libraries", "--json", "--eprefix", &eprefix, "--root"];
    let args = args.map(AsRef::as_ref).into_iter().chain([root.path().as_os_str()]);
    let output = success_of(program, args);
    let answers = loader::answers(&String::from_utf8(output.stdout).unwrap());
    let answers: BTreeMap<String, Libraries> =
        answers.into_iter().map(|(file, of)| (below(&eprefix, &file), of)).collect();
    let loader = below(&eprefix, &loader::loader_of(&root.disk("/usr/bin/ls")));
    let files: Vec<String> = machine.some_of(answers.keys().cloned());
    let within = Room::new(machine, root);
    loader::compare(&answers, &files, &loader, |file| {
        let output = within.run(&loader, &["--list".to_owned(), format!("{eprefix}{file}")]);
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    })
}

/// Path below EPREFIX, as the packages have it.
fn below(eprefix: &str, path: &str) -> String {
    path.strip_prefix(eprefix).unwrap().to_owned()
}
