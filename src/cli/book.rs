//! Tests of the book in docs/: generated pages are current, links lead somewhere, commands parse.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{CommandFactory, Parser};

use crate::base::data::{self, Folder};
use crate::base::escape::Escape;
use crate::base::template;
use crate::cli::man::examples;
use crate::cli::reference::{EXIT_CODES, FILES, PASSED_ON_CODE, ReferenceEntry, VARIABLES};
use crate::cli::{Cli, separate};
use crate::manifest::schema;
use crate::prefix::integration::IntegrationTable;

/// The directory of the book's pages.
const PAGES: &str = "docs/src";

/// Time at which the commands of the table are run.
const APPLIED: &str = "when attached, by NAME-rules.service";

/// Compares a generated page with its file; `INSTA_UPDATE=always` writes the file.
fn check_generated(page: &str, text: &str) {
    let path = Path::new(PAGES).join("reference").join(page);
    if std::env::var("INSTA_UPDATE").is_ok_and(|value| value == "always") {
        fs_err::write(&path, text).unwrap();
    }
    assert!(
        fs_err::read_to_string(&path).unwrap_or_default() == text,
        "{} is not current; `INSTA_UPDATE=always cargo test --lib book` writes it",
        path.escaped()
    );
}

fn table(title: &str, heads: [&str; 2], facts: &[ReferenceEntry]) -> String {
    let rows = facts.iter().map(|fact| {
        let commands = fact.commands.join("`, `");
        let of = if commands.is_empty() { "all".to_owned() } else { format!("`{commands}`") };
        format!("| {} | {} | {of} |\n", fact.name, fact.meaning)
    });
    let rows: String = rows.collect();
    format!("# {title}\n\n| {} | {} | commands |\n|---|---|---|\n{rows}", heads[0], heads[1])
}

#[test]
fn reference_pages_are_current() {
    let mut codes: Vec<ReferenceEntry> = EXIT_CODES.iter().map(|(_, fact)| *fact).collect();
    codes.push(PASSED_ON_CODE);
    check_generated("exit-codes.md", &table("Exit codes", ["code", "meaning"], &codes));
    check_generated("environment.md", &table("Environment", ["variable", "meaning"], VARIABLES));
    check_generated("files.md", &table("Files", ["file", "meaning"], FILES));
}

/// Returns the names of directories, each as code.
fn codes(dirs: &[PathBuf]) -> String {
    let dirs = dirs.iter().map(|dir| format!("`{}`", dir.escaped()));
    dirs.collect::<Vec<_>>().join(", ")
}

#[test]
fn the_page_of_files_for_the_target_is_current() {
    let table: toml::Table = data::toml("integration.toml").unwrap();
    let mut placed = [String::new(), String::new()];
    let typed = IntegrationTable::load().unwrap();
    for (kind, facts) in typed.kinds.iter().zip(table["kind"].as_array().unwrap()) {
        let fact = |key: &str| facts[key].as_str().unwrap();
        let read = fact("read").replace("RULES", APPLIED);
        placed[usize::from(!kind.exposed.is_empty())] += &format!(
            "| {} ({}) | {} | `/{}` | {read} |\n",
            fact("files"),
            fact("source"),
            codes(&kind.from),
            kind.to.escaped()
        );
    }
    let ineffective = typed.without_effect.iter();
    let ineffective: String = ineffective
        .map(|kind| format!("| {} | {} | {} |\n", codes(&kind.from), kind.reason, kind.remedy))
        .collect();
    let heads = "| files | below EPREFIX | on the target | read |\n|---|---|---|---|\n";
    let [always, exposed] = placed;
    let values = minijinja::context! { heads, always, exposed, ineffective };
    let template = include_str!("target-files.md.in");
    let text = minijinja::Environment::new().render_str(template, values).unwrap();
    check_generated("target-files.md", &(text + "\n"));
}

/// Returns fprefix and all subcommands that help lists, in the order of help.
fn commands() -> Vec<clap::Command> {
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    let mut open = vec![root];
    let mut commands = Vec::new();
    while let Some(command) = open.pop() {
        let subcommands = command.get_subcommands().filter(|command| !command.is_hide_set());
        let subcommands: Vec<_> = subcommands.cloned().collect();
        open.extend(subcommands.into_iter().rev());
        commands.push(command);
    }
    commands
}

#[test]
fn the_page_of_the_build_file_is_current() {
    let mut text =
        "# fprefix.toml\n\n```sh\nfprefix init --name demo\n```\n\n`fprefix init` writes \
                    this file. Values have the syntax of the command line, and paths are relative \
                    to the directory of the file. Editors complete and check it by the JSON Schema \
                    that `fprefix schema` prints.\n"
            .to_owned();
    for table in schema::reference().unwrap() {
        text += &format!("\n## [{}]\n\n{}\n\n", table.name, table.description);
        for key in table.keys {
            let required = if key.is_required { " **Required.**" } else { "" };
            text += &format!("- `{}`{required}\\\n  {}\n", key.line, key.description);
        }
    }
    let names = minijinja::context! { name => "demo", eprefix => "/usr/local/demo" };
    let template = template::render(Folder::Templates, "fprefix.toml", names).unwrap();
    text += &format!("\n## The file that `fprefix init` writes\n\n```toml\n{template}```\n");
    check_generated("fprefix-toml.md", &text);
    let schema = serde_json::to_string_pretty(&schema::schema().unwrap()).unwrap();
    check_generated("../../fprefix.schema.json", &(schema + "\n"));
}

#[test]
fn the_page_of_commands_is_current() {
    let mut text = "# Commands\n".to_owned();
    for command in commands() {
        let name = command.get_bin_name().unwrap_or("fprefix").to_owned();
        let help = command.term_width(100).render_long_help().to_string();
        let help: Vec<&str> = help.lines().map(str::trim_end).collect();
        text += &format!("\n## {name}\n\n```text\n{}\n```\n", help.join("\n").trim_end());
    }
    check_generated("commands.md", &text);
}

#[test]
fn every_command_has_examples_that_are_its_own() {
    let mut wrong = Vec::new();
    for command in commands() {
        let name = command.get_bin_name().unwrap_or("fprefix");
        let lines = joined(examples(&command));
        if !(1..=3).contains(&lines.len()) {
            wrong.push(format!("{name}: {} examples", lines.len()));
        }
        for line in lines {
            let plain = line.replacen(" -P my-prefix", "", 1);
            if !plain.starts_with(name) {
                wrong.push(format!("{name}: an example of another command: {line}"));
            }
            if let Some(error) = parse_error(&line) {
                wrong.push(format!("{name}: {line}\n{error}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn root_and_rootfs_are_the_same_option_everywhere() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for command in commands() {
        for argument in command.get_arguments() {
            let mut names = argument.get_long_and_visible_aliases().unwrap_or_default();
            names.extend(argument.get_all_aliases().unwrap_or_default());
            let known = ["root", "rootfs"].map(|name| names.contains(&name));
            if known != [false, false] {
                count += 1;
            }
            if known[0] != known[1] {
                wrong.push(format!("{}: {names:?}", command.get_bin_name().unwrap_or("fprefix")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 6, "only {count} options were found");
}

/// Returns the pages of the book, and the texts at the top of the repository.
fn documents() -> Vec<PathBuf> {
    let pages = walkdir::WalkDir::new(PAGES).sort_by_file_name().into_iter().map(Result::unwrap);
    let pages = pages.filter(|entry| entry.file_type().is_file());
    let top = ["README.md", "CONTRIBUTING.md", "RELEASING.md", "SECURITY.md"];
    pages.map(walkdir::DirEntry::into_path).chain(top.map(PathBuf::from)).collect()
}

#[test]
fn links_lead_to_files_and_the_summary_lists_all_pages() {
    let link = regex::Regex::new(r"\]\(([^)#]+)(?:#[^)]*)?\)").unwrap();
    let mut broken = Vec::new();
    let mut listed = vec![Path::new(PAGES).join("SUMMARY.md")];
    for document in documents() {
        let text = fs_err::read_to_string(&document).unwrap();
        for target in link.captures_iter(&text).map(|found| found[1].to_owned()) {
            if target.starts_with("https://") {
                continue;
            }
            let path = document.parent().unwrap().join(&target);
            if !path.exists() {
                broken.push(format!("{}: {target}", document.escaped()));
            }
            if document.ends_with("SUMMARY.md") {
                listed.push(path);
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    let missing: Vec<PathBuf> = documents()
        .into_iter()
        .filter(|page| page.starts_with(PAGES) && !listed.contains(page))
        .collect();
    assert!(missing.is_empty(), "SUMMARY.md does not list {missing:?}");
}

/// Returns the lines of shell code in a document: indented blocks, and those fenced as sh.
fn shell_lines(text: &str) -> Vec<String> {
    let mut code = Vec::new();
    let mut fence = None;
    for line in text.lines() {
        if let Some(language) = line.strip_prefix("```") {
            fence = if fence.is_some() { None } else { Some(language) };
        } else if fence.map_or(line.starts_with("    "), |language| language == "sh") {
            code.push(line.to_owned());
        }
    }
    joined(code)
}

/// Joins lines that end with a backslash to the next one.
fn joined(lines: Vec<String>) -> Vec<String> {
    let mut joined: Vec<String> = Vec::new();
    for line in lines {
        match joined.last_mut().filter(|last| last.ends_with('\\')) {
            Some(last) => {
                last.pop();
                *last += line.trim();
            }
            None => joined.push(line.trim().to_owned()),
        }
    }
    joined
}

/// Returns the words of a shell line that calls fprefix, up to a pipe or a redirection; `None` for
/// other lines.
fn own_words(line: &str) -> Option<Vec<OsString>> {
    let words = shlex::split(line).unwrap_or_default();
    let is_assignment = |word: &String| word.contains('=') && !word.starts_with('-');
    let words = words.into_iter().skip_while(is_assignment);
    let words = words.take_while(|word| !["|", "&&", ">"].contains(&word.as_str()));
    let words: Vec<OsString> = words.map(OsString::from).collect();
    words.first().is_some_and(|word| word == "fprefix").then_some(words)
}

/// Returns why a line is no command line of fprefix, or `None` if it is one.
fn parse_error(line: &str) -> Option<String> {
    let Some(words) = own_words(line) else { return Some("it does not call fprefix".to_owned()) };
    let error = Cli::try_parse_from(separate(words)).err()?;
    error.use_stderr().then(|| error.to_string())
}

#[test]
fn commands_in_documents_parse() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for document in documents() {
        for line in shell_lines(&fs_err::read_to_string(&document).unwrap()) {
            if own_words(&line).is_none() {
                continue;
            }
            count += 1;
            if let Some(error) = parse_error(&line) {
                wrong.push(format!("{}: {line}\n{error}", document.escaped()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 50, "only {count} commands were found");
}
