//! The oldest Rust that builds the project, held against what its dependencies ask for.

use std::process::Command;

use serde_json::Value;

/// Returns major and minor number of a version like `1.88` or `1.88.0`.
fn release(version: &str) -> (u32, u32) {
    let mut numbers = version.split('.').map(|number| number.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

#[test]
fn no_dependency_needs_a_newer_rust_than_the_project_states() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked"])
        .args(["--filter-platform=x86_64-unknown-linux-gnu"])
        .args(["--filter-platform=aarch64-unknown-linux-gnu"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 50, "only {} packages were found", packages.len());
    let stated = release(env!("CARGO_PKG_RUST_VERSION"));
    let newer: Vec<String> = packages
        .iter()
        .filter_map(|package| Some((package, package["rust_version"].as_str()?)))
        .filter(|(_, version)| release(version) > stated)
        .map(|(package, version)| format!("{} needs Rust {version}", package["name"]))
        .collect();
    assert!(newer.is_empty(), "rust-version in Cargo.toml is too low: {}", newer.join(", "));
}
