//! Imports between the folders of `src/`, held against the table of layers in ARCHITECTURE.md.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The heading above the table.
const HEADING: &str = "## Layers";

/// A module and the modules that it imports, each as its path below the crate.
type Imports = BTreeMap<Vec<String>, BTreeSet<Vec<String>>>;

#[test]
fn imports_go_down_the_table_of_layers() {
    let rows = rows(&fs_err::read_to_string("ARCHITECTURE.md").unwrap());
    let row = |folder: &str| rows.iter().position(|row| row.contains(&folder.to_owned()));
    let imports = imports();
    let mut wrong = Vec::new();
    for (module, targets) in &imports {
        let Some(own) = row(&module[0]) else {
            wrong.push(format!("{} has no row in the table", module[0]));
            continue;
        };
        for target in targets.iter().filter(|target| target[0] != module[0]) {
            let (from, to) = (module.join("::"), target.join("::"));
            match row(&target[0]) {
                Some(other) if other > own => {}
                Some(other) if other == own => wrong.push(format!("{from} -> {to} goes sideways")),
                Some(_) => wrong.push(format!("{from} -> {to} goes up")),
                None => wrong.push(format!("{} has no row in the table", target[0])),
            }
        }
    }
    let folders: BTreeSet<&String> = imports.keys().map(|module| &module[0]).collect();
    for folder in rows.iter().flatten().filter(|folder| !folders.contains(folder)) {
        wrong.push(format!("the table lists {folder}, which is not in src/"));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn modules_of_a_folder_form_no_circle() {
    // For each folder: its children, and which of them imports which.
    let mut folders: BTreeMap<Vec<String>, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for (module, targets) in imports() {
        for target in targets {
            let shared = module.iter().zip(&target).take_while(|(a, b)| a == b).count();
            if let (Some(from), Some(to)) = (module.get(shared), target.get(shared)) {
                let children = folders.entry(module[..shared].to_vec()).or_default();
                children.entry(from.clone()).or_default().insert(to.clone());
            }
        }
    }
    let mut circles = Vec::new();
    for (folder, children) in &folders {
        for child in children.keys() {
            let mut reached = BTreeSet::new();
            let mut next: Vec<&String> = children[child].iter().collect();
            while let Some(at) = next.pop() {
                if reached.insert(at) {
                    next.extend(children.get(at).into_iter().flatten());
                }
            }
            if reached.contains(child) {
                circles.push(format!(
                    "{}::{child} imports itself by way of others",
                    folder.join("::")
                ));
            }
        }
    }
    assert!(circles.is_empty(), "{}", circles.join("\n"));
}

#[test]
fn every_folder_says_what_lives_there_and_what_never_does() {
    for entry in fs_err::read_dir("src").unwrap() {
        let path = entry.unwrap().path();
        if !path.is_dir() {
            assert!(["lib.rs", "main.rs"].map(|name| path.ends_with(name)).contains(&true));
            continue;
        }
        let text = fs_err::read_to_string(path.join("mod.rs")).unwrap();
        let doc: Vec<&str> = text.lines().take_while(|line| line.starts_with("//!")).collect();
        let doc = doc.join(" ");
        assert!(
            ["Nothing in", "does not", "never"].iter().any(|words| doc.contains(words)),
            "the first paragraph of {}/mod.rs has to say what lives there and what never does",
            path.display()
        );
    }
}

/// The folders in each row of the table, the highest layer first.
fn rows(architecture: &str) -> Vec<Vec<String>> {
    let section = architecture.split(HEADING).nth(1).expect("ARCHITECTURE.md has the heading");
    let lines = section.lines().skip_while(|line| !line.starts_with("|---"));
    let rows = lines.skip(1).take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let folders = row.split('|').nth(2).expect("a row has two cells");
        folders.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    })
    .collect()
}

/// The imports of all modules below `src/`, without those of unit tests.
fn imports() -> Imports {
    let files = walkdir::WalkDir::new("src").into_iter().map(Result::unwrap);
    let files: Vec<_> = files.filter(|entry| entry.file_type().is_file()).collect();
    let modules: BTreeSet<Vec<String>> = files.iter().map(|file| module(file.path())).collect();
    files
        .iter()
        .filter(|file| !["src/lib.rs", "src/main.rs"].contains(&file.path().to_str().unwrap()))
        .map(|file| {
            let text = fs_err::read_to_string(file.path()).unwrap();
            let own = module(file.path());
            let resolved = paths(&text, &own).into_iter().filter_map(|path| {
                (1..=path.len()).rev().map(|end| path[..end].to_vec()).find(|p| modules.contains(p))
            });
            (own.clone(), resolved.filter(|target| *target != own).collect())
        })
        .collect()
}

fn module(file: &Path) -> Vec<String> {
    let below = file.strip_prefix("src").unwrap().with_extension("");
    let parts = below.iter().map(|part| part.to_str().unwrap().to_owned());
    parts.filter(|part| part != "mod").collect()
}

/// All paths below the crate that the code of the module `own` names.
fn paths(text: &str, own: &[String]) -> BTreeSet<Vec<String>> {
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = lines.collect::<Vec<_>>().join("\n");
    let start = regex::Regex::new(r"\b(crate|(?:super::)*super)::").unwrap();
    let mut found = BTreeSet::new();
    for at in start.captures_iter(&code) {
        let mut base = Vec::new();
        if at[1].starts_with("super") {
            let up = at[1].matches("super").count();
            base = own[..own.len().saturating_sub(up)].to_vec();
        }
        expand(&code[at.get(0).unwrap().end()..], &base, &mut found);
    }
    found
}

/// Adds the paths that `text` begins with, which may have groups in braces; returns what follows.
fn expand<'t>(text: &'t str, base: &[String], found: &mut BTreeSet<Vec<String>>) -> &'t str {
    let mut path = base.to_vec();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        if let Some(mut inner) = rest.strip_prefix('{') {
            while !inner.trim_start().starts_with('}') {
                inner = expand(inner, &path, found).trim_start();
                inner = inner.strip_prefix(',').unwrap_or(inner);
            }
            return inner.trim_start().strip_prefix('}').unwrap();
        }
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        if end > 0 && &rest[..end] != "self" {
            path.push(rest[..end].to_owned());
        }
        rest = &rest[end..];
        match rest.strip_prefix("::") {
            Some(more) => rest = more,
            None => break,
        }
    }
    found.insert(path);
    // The other name in `a as b`, the rest of a pattern.
    let end = rest.find([',', '}', ';', '\n']).unwrap_or(rest.len());
    &rest[end..]
}

#[test]
fn paths_are_found_in_groups() {
    let own = ["a".to_owned(), "b".to_owned()];
    let text = "use crate::x::{self, y::{Z as _, w}, v};\nsuper::c::f();\n// crate::no\n";
    let found: Vec<String> = paths(text, &own).into_iter().map(|path| path.join("::")).collect();
    assert_eq!(found, ["a::c::f", "x", "x::v", "x::y::Z", "x::y::w"]);
}
