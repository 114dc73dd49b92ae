//! Paths in answers and reports are escaped: as serde writes them, a name that is no UTF-8 is an
//! error. clippy.toml holds messages to the same. Files that are read back as they are, like the
//! definition of a prefix, are another matter.

use std::path::Path;

use regex::Regex;

#[test]
fn answers_hold_paths_escaped() {
    let types = Regex::new(
        r"(?s)#\[derive\(([^)]*\bSerialize\b[^)]*)\)\][^{;]*?(?:struct|enum) (\w+)[^{;(]*\{(.*?)\n\}",
    )
    .unwrap();
    let field = Regex::new(r"(?m)^ *(?:pub(?:\([a-z]+\))? )?\w+: [^\n]*\bPath(?:Buf)?\b").unwrap();
    let (mut found, mut count) = (Vec::new(), 0);
    for entry in walkdir::WalkDir::new("src").into_iter().map(Result::unwrap) {
        if entry.path().extension() != Some("rs".as_ref()) {
            continue;
        }
        let text = fs_err::read_to_string(entry.path()).unwrap();
        for one in types.captures_iter(&text) {
            let (derives, name, body) = (&one[1], &one[2], &one[3]);
            let is_escaped = |field: &str| {
                let before = body[..body.find(field).unwrap()].trim_end();
                let attributes =
                    before.lines().rev().take_while(|line| line.trim().starts_with('#'));
                attributes
                    .into_iter()
                    .any(|line| line.contains("escape::") || line.contains("skip)"))
            };
            for field in field.find_iter(body).map(|field| field.as_str()) {
                count += 1;
                if !is_escaped(field) && !reads_back(derives, entry.path()) {
                    found.push(format!("{}: {name}: {}", entry.path().display(), field.trim()));
                }
            }
        }
    }
    assert!(count > 20, "only {count} paths were found");
    assert!(found.is_empty(), "write these by base::escape:\n{}", found.join("\n"));
}

/// Returns whether the type is one that fprefix reads back from a file of its own, and that no
/// report or answer has.
fn reads_back(derives: &str, file: &Path) -> bool {
    let is_read = derives.contains("Deserialize");
    let files = [
        "portage/binhost.rs",
        "prefix/definition.rs",
        "host/toolchain/mod.rs",
        "host/toolchain/plan.rs",
    ];
    is_read && files.iter().any(|known| file.ends_with(known))
}
