//! The loader itself as the judge of what `fprefix elf libraries` says.

use std::collections::BTreeMap;

use fprefix::elf;
use rayon::prelude::*;

use crate::Machine;
use crate::answers::Room;
use crate::harness::tools::both_streams;
use crate::root::{Root, eprefix};

/// Libraries of a file: the path by which each is opened, by its name; `None` if it is not found.
type Libraries = BTreeMap<String, Option<String>>;

/// Compares what the loader and `fprefix elf libraries` say of programs and libraries of the root.
/// Returns the number of files.
pub(crate) fn compare(machine: &Machine, root: &Root) -> usize {
    let answers = answers(root);
    let loader = loader(root);
    let name = loader.rsplit('/').next().unwrap();
    let within = Room::new(machine, root);
    let files = machine.some_of(answers.keys().cloned());
    let differing: Vec<String> = files
        .par_iter()
        .filter_map(|file| {
            let listed = list(&within, &loader, file)?;
            let without_loader = |libraries: &Libraries| {
                let others = libraries.iter().filter(|(library, _)| !library.ends_with(name));
                others.map(|(name, path)| (name.clone(), path.clone())).collect::<Libraries>()
            };
            let (answered, listed) = (without_loader(&answers[file]), without_loader(&listed));
            (answered != listed)
                .then(|| format!("{file}\n  fprefix {answered:?}\n  loader  {listed:?}"))
        })
        .collect();
    assert!(differing.is_empty(), "{} differ:\n{}", differing.len(), differing.join("\n"));
    files.len()
}

/// Answers of fprefix, by file.
fn answers(root: &Root) -> BTreeMap<String, Libraries> {
    let eprefix = eprefix();
    let output = assert_cmd::Command::new(env!("CARGO_BIN_EXE_fprefix"))
        .args(["elf", "libraries", "--json", "--eprefix", &eprefix, "--root"])
        .arg(root.path())
        .output()
        .unwrap();
    let all: serde_json::Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", both_streams(&output)));
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let one = |file: &serde_json::Value| {
        let libraries = file["libraries"].as_array().unwrap().iter();
        let pair =
            |library: &serde_json::Value| (text(&library["name"]).unwrap(), text(&library["path"]));
        let path = text(&file["file"]).unwrap();
        (path.strip_prefix(&eprefix).unwrap().to_owned(), libraries.map(pair).collect())
    };
    all.as_array().unwrap().iter().map(one).collect()
}

/// The loader of the root, as `ls` names it, below EPREFIX.
fn loader(root: &Root) -> String {
    let bytes = fs_err::read(root.disk("/usr/bin/ls")).unwrap();
    let path = String::from_utf8(elf::read(&bytes).unwrap().interpreter.unwrap()).unwrap();
    path.strip_prefix(&eprefix()).unwrap().to_owned()
}

/// Asks the loader. Returns `None` if it cannot load the file at all.
fn list(room: &Room<'_>, loader: &str, file: &str) -> Option<Libraries> {
    let inside = format!("{}{file}", eprefix());
    let output = room.run(loader, &["--list".to_owned(), inside]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let pair = |line: &str| {
        let (name, rest) = line.trim().split_once(" => ")?;
        let path = rest.split(" (").next()?;
        Some((name.to_owned(), (path != "not found").then(|| path.to_owned())))
    };
    output.status.success().then(|| text.lines().filter_map(pair).collect())
}
