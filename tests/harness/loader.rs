//! The loader itself as the judge of what `fprefix elf libraries` says.

use std::collections::BTreeMap;
use std::path::Path;

use fprefix::elf;
use rayon::prelude::*;

use super::World;
use super::run::Said;

/// Libraries of a file: the path by which each is opened, by its name; `None` if it is not found.
pub(crate) type Libraries = BTreeMap<String, Option<String>>;

/// Answers of `fprefix elf libraries --json`, by file.
pub(crate) fn answers(json: &str) -> BTreeMap<String, Libraries> {
    let all: serde_json::Value =
        serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"));
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let one = |file: &serde_json::Value| {
        let libraries = file["libraries"].as_array().unwrap().iter();
        let pair =
            |library: &serde_json::Value| (text(&library["name"]).unwrap(), text(&library["path"]));
        (text(&file["file"]).unwrap(), libraries.map(pair).collect())
    };
    all.as_array().unwrap().iter().map(one).collect()
}

/// Path of the loader that a program names.
pub(crate) fn loader_of(program: &Path) -> String {
    let bytes = fs_err::read(program).unwrap();
    String::from_utf8(elf::read(&bytes).unwrap().interpreter.unwrap()).unwrap()
}

/// Compares `answers` with those of the loader for `files`. `list` returns its output for `--list`, or
/// `None` if it cannot load the file at all. Returns the number of files that it can load.
pub(crate) fn compare(
    answers: &BTreeMap<String, Libraries>,
    files: &[String],
    loader: &str,
    list: impl Fn(&str) -> Option<String> + Sync,
) -> usize {
    let name = loader.rsplit('/').next().unwrap();
    let without_loader = |libraries: &Libraries| {
        let others = libraries.iter().filter(|(library, _)| !library.ends_with(name));
        others.map(|(name, path)| (name.clone(), path.clone())).collect::<Libraries>()
    };
    let judge = |file: &String| {
        let listed = without_loader(&listed(&list(file)?));
        let answered = without_loader(&answers[file]);
        let text = || format!("{file}\n  fprefix {answered:?}\n  loader  {listed:?}");
        Some((answered != listed).then(text))
    };
    let judged: Vec<Option<String>> = files.par_iter().filter_map(judge).collect();
    let differing: Vec<&str> = judged.iter().flatten().map(String::as_str).collect();
    assert!(differing.is_empty(), "{} differ:\n{}", differing.len(), differing.join("\n"));
    judged.len()
}

/// Libraries in the output of a loader's `--list`.
fn listed(text: &str) -> Libraries {
    let pair = |line: &str| {
        let (name, rest) = line.trim().split_once(" => ")?;
        let path = rest.split(" (").next()?;
        Some((name.to_owned(), (path != "not found").then(|| path.to_owned())))
    };
    text.lines().filter_map(pair).collect()
}

/// Compares them for all programs and libraries of the prefix at `eprefix`, from a root that holds
/// nothing but its directory `on_disk`. `said` is the answer of fprefix, and `program` one that
/// names the loader. Returns how many files were judged.
pub(crate) fn compare_prefix(
    world: &World,
    said: &Said,
    on_disk: &Path,
    eprefix: &str,
    program: &str,
) -> usize {
    let answers = answers(&said.stdout);
    let files: Vec<String> = answers.keys().cloned().collect();
    let loader = loader_of(&on_disk.join(program));
    compare(&answers, &files, &loader, |file| {
        let run = world.run("bwrap").args(["--unshare-user", "--die-with-parent", "--ro-bind"]);
        let run = run.args([on_disk, Path::new(eprefix)]).args(["--proc", "/proc", "--dev"]);
        let said = run.args(["/dev", "--clearenv", "--", &loader, "--list", file]).said();
        (said.code() == 0).then_some(said.stdout)
    })
}
