//! The JSON Schema of fprefix.toml: the template and the examples fit it, and mistakes do not.

use std::path::{Path, PathBuf};

use jsonschema::Validator;
use serde_json::{Value, json};

use crate::harness::World;

/// Makes a validator from what `fprefix schema` prints.
fn validator() -> Validator {
    let schema: Value =
        serde_json::from_str(&World::new().fprefix(["schema"]).said().succeeds().stdout).unwrap();
    jsonschema::draft202012::meta::validate(&schema).unwrap();
    jsonschema::validator_for(&schema).unwrap()
}

/// Lists what is wrong with a build file, each error with its place.
fn errors(validator: &Validator, text: &str) -> Vec<String> {
    let value: toml::Table = toml::from_str(text).unwrap();
    let value = serde_json::to_value(value).unwrap();
    let errors = validator.iter_errors(&value);
    errors.map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// The file that `fprefix init` writes.
fn template() -> String {
    let world = World::new();
    world.fprefix(["init", "--name", "demo"]).said().succeeds();
    fs_err::read_to_string(world.path("fprefix.toml")).unwrap()
}

#[test]
fn the_template_fits_with_every_line_in_use() {
    let validator = validator();
    let text = template();
    assert!(text.starts_with("#:schema ./fprefix.schema.json\n"), "{text}");
    let uncommented = text.lines().map(|line| match line.strip_prefix("# ") {
        Some(rest) if rest.split_once(" = ").is_some_and(|(key, _)| !key.contains(' ')) => rest,
        _ => line,
    });
    let full: String = uncommented.map(|line| format!("{line}\n")).collect();
    assert!(full.lines().count() > 50 && full.contains("\nsign-sums = "), "{full}");
    // RULE stands for the name of a rule.
    let full = full.replace("waive = [\"RULE\"]", "waive = [\"shebang\"]");
    for text in [text, full] {
        assert_eq!(errors(&validator, &text), [""; 0], "{text}");
    }
}

#[test]
fn examples_fit() {
    let validator = validator();
    let mut files: Vec<PathBuf> = Vec::new();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    for entry in fs_err::read_dir(dir).unwrap() {
        let file = entry.unwrap().path().join("fprefix.toml");
        files.extend(file.is_file().then_some(file));
    }
    for file in files {
        let text = fs_err::read_to_string(&file).unwrap();
        assert_eq!(errors(&validator, &text), [""; 0], "{}", file.display());
    }
}

#[test]
fn mistakes_do_not_fit() {
    let validator = validator();
    let good = json!({
        "prefix": { "name": "demo", "eprefix": "/opt/demo" },
        "emerge": { "packages": ["app-misc/jq"] },
    });
    assert!(validator.is_valid(&good));
    for (table, key, value) in [
        ("prefix", "nam", json!("demo")),
        ("prefix", "name", json!(3)),
        ("prefix", "board", json!("riscv-usr")),
        ("emerge", "packages", json!([])),
        ("emerge", "packages", json!("app-misc/jq")),
        ("emerge", "jobs", json!(0)),
        ("check", "waive", json!(["no-such-rule"])),
        ("pack", "keep", json!(["no-such-rule"])),
        ("pack", "waive", json!(["no-such-rule"])),
        ("pack", "strip", json!("no")),
        ("pack", "format", json!("squashfs")),
        ("pack", "name", json!(null)),
        ("packs", "name", json!("demo")),
    ] {
        let mut bad = good.clone();
        bad[table][key] = value;
        assert!(!validator.is_valid(&bad), "{bad}");
    }
    for key in ["name", "eprefix"] {
        let mut bad = good.clone();
        bad["prefix"].as_object_mut().unwrap().remove(key);
        assert!(!validator.is_valid(&bad), "{bad}");
    }
}
