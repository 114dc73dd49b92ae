//! Libraries that are missing because an upgrade took them away, or because staging alone has them.
//! A package that nobody ever named as a dependency is another fault, with another remedy.
//!
//! Portage keeps the sonames that a package brings in PROVIDES of its VDB entry, and the library
//! of a soname is what stands before `.so` in it.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;

use crate::base::command::Command;
use crate::base::escape::visible_line;
use crate::check::Finding;
use crate::portage::vdb::{self, VdbEntry};

/// A soname that a package brings.
struct ProvidedSoname {
    soname: String,
    package: VdbEntry,
}

/// Returns what happened to the libraries that `findings` miss, and the commands that bring them
/// back, for the prefix `name` with these two databases.
pub(super) fn explain(
    name: &str,
    vdb_of_final: &Path,
    vdb_of_staging: &Path,
    findings: &[&Finding],
) -> Result<Vec<String>> {
    let missing: BTreeSet<&str> =
        findings.iter().filter_map(|finding| finding.missing.as_deref()).collect();
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let (in_final, in_staging) = (list_provided(vdb_of_final)?, list_provided(vdb_of_staging)?);
    let mut help = Vec::new();
    for soname in missing {
        let of_library = |other: &&ProvidedSoname| {
            other.soname != soname && library(&other.soname) == library(soname)
        };
        if let Some(there) = in_final.iter().find(of_library) {
            let consumers = findings.iter().filter(|of| of.missing.as_deref() == Some(soname));
            let consumers = consumers.filter_map(|finding| finding.package.as_deref());
            let atoms = list_atoms(vdb_of_final, consumers)?;
            help.push(format!(
                "{} is gone: {} has {} in its place; build again what needs the old one{}",
                visible_line(soname.as_bytes()),
                there.package.cpv(),
                visible_line(there.soname.as_bytes()),
                command(name, &[], &atoms),
            ));
        } else if let Some(there) = in_staging.iter().find(|other| other.soname == soname) {
            let atoms = BTreeSet::from([atom(&there.package)?]);
            help.push(format!(
                "{} of staging has {}, and final does not have that package; install it, and add \
                 it to RDEPEND of what needs it{}",
                there.package.cpv(),
                visible_line(soname.as_bytes()),
                command(name, &["--install"], &atoms),
            ));
        }
    }
    Ok(help)
}

/// Returns the sonames that packages of the database at `vdb` bring, in the order of packages.
fn list_provided(vdb: &Path) -> Result<Vec<ProvidedSoname>> {
    let mut provided = Vec::new();
    for package in vdb::installed(vdb)? {
        // x86_64: liba.so.1 libb.so.2 x86_32: liba.so.1
        let text = package.read("PROVIDES")?;
        let sonames = text.split_whitespace().filter(|word| !word.ends_with(':'));
        let entry =
            |soname: &str| ProvidedSoname { soname: soname.to_owned(), package: package.clone() };
        provided.extend(sonames.map(entry));
    }
    Ok(provided)
}

/// Returns the part of a soname that stays when the library's interface changes.
fn library(soname: &str) -> &str {
    soname.split_once(".so").map_or(soname, |(library, _)| library)
}

/// Returns the atom of a package in its slot: the newest version there takes its place.
fn atom(package: &VdbEntry) -> Result<String> {
    let slot = package.read_line("SLOT")?;
    let slot = slot.split('/').next().unwrap_or_default();
    let colon = if slot.is_empty() { "" } else { ":" };
    Ok(format!("{}{colon}{slot}", package.cpv().package()))
}

fn list_atoms<'a>(vdb: &Path, packages: impl Iterator<Item = &'a str>) -> Result<BTreeSet<String>> {
    let installed = packages.filter_map(|package| vdb::find(vdb, &package.parse().ok()?));
    installed.map(|package| atom(&package)).collect()
}

/// Returns the end of a sentence with the command that merges `atoms`; it is empty without any.
fn command(name: &str, options: &[&str], atoms: &BTreeSet<String>) -> String {
    if atoms.is_empty() {
        return String::new();
    }
    let command = Command::new("merge packages", "fprefix").args(["-P", name, "emerge"]);
    format!(": `{}`", command.args(options).arg("--oneshot").args(atoms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::level::Level;
    use crate::check::parse_rule;

    fn install(vdb: &Path, package: &str, provides: &str) {
        let dir = vdb.join(package);
        fs_err::create_dir_all(&dir).unwrap();
        fs_err::write(dir.join("PROVIDES"), provides).unwrap();
        fs_err::write(dir.join("SLOT"), "0/2\n").unwrap();
    }

    fn finding(soname: &str, package: Option<&str>) -> Finding {
        Finding {
            rule: parse_rule("needed").unwrap(),
            level: Level::Error,
            path: "/p/usr/bin/x".into(),
            detail: String::new(),
            waived: false,
            rewrites: false,
            missing: Some(soname.to_owned()),
            package: package.map(str::to_owned),
        }
    }

    fn explain_one(dir: &Path, finding: &Finding) -> Vec<String> {
        explain("p", &dir.join("final"), &dir.join("staging"), &[finding]).unwrap()
    }

    #[test]
    fn gone_left_out_and_never_there() {
        let dir = tempfile::tempdir().unwrap();
        let (r#final, staging) = (dir.path().join("final"), dir.path().join("staging"));
        install(&r#final, "a/lib-2", "x86_64: libx.so.1 libl.so.2\n");
        install(&r#final, "a/consumer-1", "");
        install(&staging, "a/lib-2", "x86_64: libx.so.1 libl.so.2\n");
        install(&staging, "a/other-1", "x86_64: libother.so.1\n");
        assert_eq!(
            explain_one(dir.path(), &finding("libl.so.1", Some("a/consumer-1"))),
            ["libl.so.1 is gone: a/lib-2 has libl.so.2 in its place; build again what needs the \
              old one: `fprefix -P p emerge --oneshot a/consumer:0`"]
        );
        assert_eq!(
            explain_one(dir.path(), &finding("libl.so.1", None)),
            ["libl.so.1 is gone: a/lib-2 has libl.so.2 in its place; build again what needs the \
              old one"]
        );
        assert_eq!(
            explain_one(dir.path(), &finding("libother.so.1", Some("a/consumer-1"))),
            ["a/other-1 of staging has libother.so.1, and final does not have that package; \
              install it, and add it to RDEPEND of what needs it: `fprefix -P p emerge --install \
              --oneshot a/other:0`"]
        );
        assert!(explain_one(dir.path(), &finding("libnever.so.1", None)).is_empty());
    }
}
