use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use crate::base::output;
use crate::cli::{Context, DONE, FOUND};
use crate::sysext::difference::{self, ComparedExtension, Difference};

/// Show what differs between two extensions: packages, files, sizes
///
/// Ends with status 3 if something does.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fprefix diff my-prefix-1.1-x86-64.raw my-prefix-1.2-x86-64.raw")]
pub(super) struct Diff {
    /// An image, a directory, or a `_manifest.json` that `fprefix pack` wrote
    one: PathBuf,
    /// Image, directory or manifest to compare it with
    other: PathBuf,
    /// Answer as JSON
    #[arg(long)]
    json: bool,
}

impl Diff {
    /// Runs the subcommand.
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        let (one, other) =
            (ComparedExtension::open(&self.one)?, ComparedExtension::open(&self.other)?);
        let difference = difference::compare(&one, &other);
        if difference.packages.is_none() {
            context.reporter.detail("no manifest says which packages both of them have");
        }
        if self.json {
            output::answer_json(&difference)?;
        } else {
            output::answer(&render(&difference))?;
        }
        Ok(if difference.is_empty() { DONE } else { FOUND })
    }
}

/// A difference for people: a line each, with `-`, `+` or `~` in front.
fn render(difference: &Difference) -> String {
    let mut text = String::new();
    for sides in difference.packages.iter().chain([&difference.files]) {
        for (sign, names) in [('-', &sides.removed), ('+', &sides.added)] {
            text += &names.iter().map(|name| format!("{sign} {name}\n")).collect::<String>();
        }
    }
    for change in &difference.changed {
        let said: Vec<String> = change
            .facts
            .iter()
            .filter(|(key, _)| *key != "sha256" || !change.facts.contains_key("size"))
            .map(|(key, [before, after])| match key.as_str() {
                "sha256" => "content".to_owned(),
                _ => format!("{key} {} -> {}", plain(before), plain(after)),
            })
            .collect();
        text += &format!("~ {}: {}\n", change.path, said.join(", "));
    }
    let [before, after] = difference.bytes;
    if before != after {
        text += &format!("{before} bytes in files -> {after}\n");
    }
    text
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
