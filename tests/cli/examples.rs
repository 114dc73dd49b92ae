//! Examples: each can be built as far as that shows before anything is built.

use std::path::Path;

use crate::harness::World;
use crate::harness::examples::{Example, names};

#[test]
fn every_example_can_be_built() {
    assert!(names().len() >= 5, "{:?}", names());
    for name in names() {
        let world = World::new();
        let example = Example::copy(&world, &name);
        let text = fs_err::read_to_string(example.dir.join("fprefix.toml")).unwrap();
        assert!(text.starts_with("#:schema ../../docs/fprefix.schema.json\n"), "{name}: {text}");
        let file: toml::Table = toml::from_str(&text).unwrap();
        let packages = file["emerge"]["packages"].as_array().unwrap();
        let packages: Vec<&str> = packages.iter().map(|atom| atom.as_str().unwrap()).collect();
        let said = example.dry_run().said().succeeds();
        said.prints(&format!("emerge {}\n", packages.join(" "))).prints("prove ");
        assert!(!world.home().exists(), "{name}");
    }
}

/// These tests build examples for real: an example that none of them names is built by nobody.
#[test]
fn every_example_is_built_by_a_test() {
    let tests = ["tests/e2e/examples.rs", "tests/e2e/applications.rs"].map(|path| {
        fs_err::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
    });
    for name in names() {
        let copied = format!("Example::copy(&world, \"{name}\")");
        assert!(tests.iter().any(|text| text.contains(&copied)), "no test builds examples/{name}");
    }
}
