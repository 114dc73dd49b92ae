//! Imports go one way: down the table of layers in ARCHITECTURE.md.

use std::collections::BTreeMap;
use std::path::Path;

/// The layer of each module, as the table says it: 0 is the top.
fn layers() -> BTreeMap<String, usize> {
    let page = include_str!("../../ARCHITECTURE.md");
    let rows = page
        .lines()
        .skip_while(|line| !line.starts_with("| layer"))
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let mut layers = BTreeMap::new();
    for (layer, row) in rows.enumerate() {
        let modules = row.split('|').nth(2).unwrap();
        // Every other piece between backquotes is a name.
        for name in modules.split('`').skip(1).step_by(2) {
            layers.insert(name.trim_end_matches('/').to_owned(), layer);
        }
    }
    layers
}

/// The modules that the text of one imports.
fn imports(text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]").next().unwrap();
    let words = regex::Regex::new(r"crate::(\{[^}]*\}|\w+)").unwrap();
    words
        .captures_iter(code)
        .flat_map(|found| {
            let names = found[1].trim_matches(['{', '}']).to_owned();
            names.split(',').map(|name| name.trim().to_owned()).collect::<Vec<_>>()
        })
        .map(|name| name.split("::").next().unwrap().to_owned())
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn imports_go_one_way() {
    let layers = layers();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for entry in walkdir::WalkDir::new(&source) {
        let entry = entry.unwrap();
        let path = entry.path().strip_prefix(&source).unwrap();
        let top = path.components().next().map(|part| part.as_os_str().to_string_lossy());
        let module = top.unwrap_or_default().trim_end_matches(".rs").to_owned();
        if !entry.file_type().is_file() || module == "lib" {
            continue;
        }
        let Some(own) = layers.get(&module) else {
            wrong.push(format!("{module} is in no layer"));
            continue;
        };
        for import in imports(&fs_err::read_to_string(entry.path()).unwrap()) {
            match layers.get(&import) {
                _ if import == module => {}
                Some(layer) if layer > own => {}
                // What steps ask for may ask each other, and so may the ground.
                Some(layer) if layer == own && *own >= 4 => {}
                Some(_) => wrong.push(format!("{} imports {import}", path.display())),
                None => wrong.push(format!("{} imports {import}: no layer", path.display())),
            }
        }
    }
    wrong.sort();
    wrong.dedup();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
