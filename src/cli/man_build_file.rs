//! Manual page of fprefix.toml, made from its schema.

use anyhow::Result;
use clap_mangen::roff::{Roff, bold, roman};

use crate::base::data::Folder;
use crate::base::template;
use crate::manifest::schema;

/// Makes the page fprefix.toml(5), in the language of man(7); `date` is for its header.
///
/// # Errors
///
/// Fails if the schema or the template cannot be rendered.
pub(super) fn render_build_file_page(date: &str) -> Result<String> {
    let version = concat!("fprefix ", env!("CARGO_PKG_VERSION"));
    let mut page = Roff::new();
    page.control("TH", ["FPREFIX.TOML", "5", date, version, "fprefix"]);
    page.control("SH", ["NAME"]);
    page.text([roman("fprefix.toml - build file of fprefix")]);
    page.control("SH", ["DESCRIPTION"]);
    page.text([roman(
        "The file lists a prefix, its packages, and the extension that it becomes. \
         fprefix-build(1) does everything that it lists, and fprefix-init(1) writes one. The form \
         is TOML. Paths are relative to the directory of the file. Values have the syntax of the \
         command line.",
    )]);
    for table in schema::reference()? {
        page.control("SH", [format!("TABLE [{}]", table.name).as_str()]);
        page.text([roman(table.description)]);
        for key in table.keys {
            page.control("TP", []);
            page.text([bold(key.line)]);
            let required = if key.is_required { " (required)" } else { "" };
            page.text([roman(format!("{}{required}", key.description))]);
        }
    }
    page.control("SH", ["FILES"]);
    for (name, meaning) in [
        ("fprefix.lock", "The record of a build, beside the file; fprefix-lock(1) writes it."),
        ("fprefix.schema.json", "The JSON Schema for editors; fprefix-schema(1) prints it."),
    ] {
        page.control("TP", []);
        page.text([bold(name)]);
        page.text([roman(meaning)]);
    }
    page.control("SH", ["EXAMPLES"]);
    page.control("EX", []);
    let names = minijinja::context! { name => "demo", eprefix => "/usr/local/demo" };
    for line in template::render(Folder::Templates, "fprefix.toml", names)?.lines() {
        page.text([roman(line)]);
    }
    page.control("EE", []);
    page.control("SH", ["SEE ALSO"]);
    page.text([roman("fprefix-build(1), fprefix-pack(1), fprefix-setup(1), portage(5)")]);
    Ok(page.render())
}
