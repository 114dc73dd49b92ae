//! Manual pages: one for each subcommand, made from its help, and one for fprefix.toml.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, CommandFactory};
use clap_mangen::roff::{Roff, bold, roman};

use crate::base::output;
use crate::cli::man_build_file::render_build_file_page;
use crate::cli::reference::{EXIT_CODES, FILES, PASSED_ON_CODE, ReferenceEntry, VARIABLES};
use crate::cli::{Cli, Context, DONE};

/// The date in the header of all pages: the day on which the texts changed last.
const DATE: &str = "2026-11-27";
/// The longest line of text in a page, which mandoc(1) complains about otherwise.
const MAX_LINE: usize = 80;
/// The first line of the help that follows a command's options.
const EXAMPLES: &str = "Examples:";

/// Write the manual pages: one for each subcommand, and fprefix.toml(5)
///
/// Without --output, the page of fprefix itself goes to stdout.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fprefix man --output ~/.local/share/man
  fprefix man | man -l -")]
pub(super) struct ManPages {
    /// Write all pages into man1 and man5 of this directory, which is created if it does not exist
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

impl ManPages {
    pub(super) fn run(self, _: &Context) -> Result<u8> {
        let Some(dir) = self.output else {
            let pages = pages()?;
            let page = pages.iter().find(|page| page.file == "fprefix.1");
            output::answer(page.map_or("", |page| &page.text))?;
            return Ok(DONE);
        };
        for page in pages()? {
            let section = page.file.rsplit('.').next().unwrap_or("1");
            let dir = dir.join(format!("man{section}"));
            fs_err::create_dir_all(&dir)?;
            fs_err::write(dir.join(&page.file), page.text)?;
        }
        Ok(DONE)
    }
}

/// A manual page.
struct ManPage {
    /// Its file name, like `fprefix-pack.1`.
    file: String,
    /// Its text in the language of man(7).
    text: String,
}

/// Makes all pages.
fn pages() -> Result<Vec<ManPage>> {
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    let mut pages = Vec::new();
    add_pages(&root, &mut pages)?;
    let text = tidy(&render_build_file_page(DATE)?);
    pages.push(ManPage { file: "fprefix.toml.5".to_owned(), text });
    Ok(pages)
}

/// Adds the page of `command` and those of its subcommands.
fn add_pages(command: &clap::Command, pages: &mut Vec<ManPage>) -> Result<()> {
    pages.push(command_page(command)?);
    for subcommand in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        add_pages(subcommand, pages)?;
    }
    Ok(())
}

fn command_page(command: &clap::Command) -> Result<ManPage> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let man = clap_mangen::Man::new(command.clone())
        .title(name.to_uppercase())
        .date(DATE)
        .source(concat!("fprefix ", env!("CARGO_PKG_VERSION")))
        .manual("fprefix");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    text.write_all(own_sections(command, &name).render().as_bytes())?;
    let text = String::from_utf8(text).with_context(|| format!("could not write page {name}"))?;
    Ok(ManPage { file: format!("{name}.1"), text: tidy(&text) })
}

/// Makes the sections that clap knows nothing of.
fn own_sections(command: &clap::Command, name: &str) -> Roff {
    let words = command.get_bin_name().unwrap_or_default().trim_start_matches("fprefix").trim();
    let mut codes: Vec<ReferenceEntry> = EXIT_CODES.iter().map(|(_, fact)| *fact).collect();
    codes.push(PASSED_ON_CODE);
    let mut page = Roff::new();
    for (heading, facts) in
        [("EXIT STATUS", codes.as_slice()), ("ENVIRONMENT", VARIABLES), ("FILES", FILES)]
    {
        let facts: Vec<&ReferenceEntry> =
            facts.iter().filter(|fact| fact.concerns(words)).collect();
        if !facts.is_empty() {
            page.control("SH", [heading]);
        }
        for fact in facts {
            page.control("TP", []);
            page.text([bold(fact.name)]);
            page.text([roman(fact.meaning)]);
        }
    }
    let examples = examples(command);
    if !examples.is_empty() {
        page.control("SH", ["EXAMPLES"]);
        page.control("EX", []);
        for line in examples {
            page.text([roman(line)]);
        }
        page.control("EE", []);
    }
    page.control("SH", ["SEE ALSO"]);
    page.text([roman(see_also(command, name).join(", "))]);
    page
}

/// Returns the examples in a command's help, without their indentation.
pub(super) fn examples(command: &clap::Command) -> Vec<String> {
    let Some(help) = command.get_after_help() else { return Vec::new() };
    let help = help.to_string();
    let lines = help.lines().skip_while(|line| *line != EXAMPLES).skip(1);
    let lines = lines.map(|line| line.strip_prefix("  ").unwrap_or(line).to_owned());
    lines.filter(|line| !line.is_empty()).collect()
}

fn see_also(command: &clap::Command, name: &str) -> Vec<String> {
    let parent = name.rsplit_once('-').map(|(parent, _)| parent.to_owned());
    let subcommands = command.get_subcommands().filter(|command| !command.is_hide_set());
    let mut pages: Vec<String> = parent.into_iter().collect();
    pages.extend(subcommands.filter_map(|command| command.get_display_name().map(str::to_owned)));
    let mut pages: Vec<String> = pages.iter().map(|page| format!("{page}(1)")).collect();
    let field: &[&str] = match name {
        "fprefix" => &["emerge(1)", "systemd-sysext(8)"],
        "fprefix-build" | "fprefix-init" | "fprefix-lock" | "fprefix-schema" => {
            &["fprefix.toml(5)"]
        }
        "fprefix-emerge" => &["emerge(1)", "make.conf(5)"],
        "fprefix-setup" => &["make.conf(5)", "portage(5)"],
        "fprefix-pack" => &["systemd-sysext(8)", "systemd-sysupdate(8)"],
        "fprefix-elf" => &["elf(5)", "ld.so(8)"],
        _ => &[],
    };
    pages.extend(field.iter().map(|page| (*page).to_owned()));
    pages
}

/// Brings lines into the form that mandoc(1) asks for: no empty lines, none longer than
/// [`MAX_LINE`] where it can be broken, no space at the end.
fn tidy(text: &str) -> String {
    let mut tidied = String::new();
    let mut is_example = false;
    for line in text.lines() {
        match line {
            ".EX" => is_example = true,
            ".EE" => is_example = false,
            _ => {}
        }
        if line.is_empty() {
            // A paragraph of the same indentation.
            tidied += ".IP\n";
        } else if is_example || line.starts_with('.') {
            tidied += line.trim_end();
            tidied.push('\n');
        } else {
            tidied += &wrap(line);
        }
    }
    tidied
}

/// Breaks a line of text at its spaces.
fn wrap(line: &str) -> String {
    let mut wrapped = String::new();
    let mut width = 0;
    for word in line.split(' ').filter(|word| !word.is_empty()) {
        if width > 0 && width + 1 + word.len() <= MAX_LINE {
            wrapped.push(' ');
            width += 1;
        } else if width > 0 {
            wrapped.push('\n');
            width = 0;
            // At the start of a line these two begin a request.
            if word.starts_with(['.', '\'']) {
                wrapped += "\\&";
                width = 2;
            }
        }
        wrapped += word;
        width += word.len();
    }
    wrapped + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_broken_and_never_begin_a_request() {
        let line = format!("{} .NAME {}", "a".repeat(MAX_LINE), "b".repeat(MAX_LINE));
        let expected = format!("{}\n\\&.NAME\n{}\n", "a".repeat(MAX_LINE), "b".repeat(MAX_LINE));
        assert_eq!(wrap(&line), expected);
        assert_eq!(tidy(".TP\n\na  b \n.EX\na  b \n.EE\n"), ".TP\n.IP\na b\n.EX\na  b\n.EE\n");
    }

    #[test]
    fn every_command_that_help_lists_has_a_page_with_its_options() {
        let pages = pages().unwrap();
        let mut commands = vec![Cli::command()];
        commands[0].build();
        while let Some(command) = commands.pop() {
            let file = format!("{}.1", command.get_display_name().unwrap_or("fprefix"));
            let page = pages.iter().find(|page| page.file == file).expect(&file);
            for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
                let Some(long) = argument.get_long().filter(|long| *long != "help") else {
                    continue;
                };
                let option = format!("\\-\\-{}", long.replace('-', "\\-"));
                assert!(page.text.contains(&option), "{file} lacks {option}");
            }
            for heading in [".SH \"EXIT STATUS\"", ".SH ENVIRONMENT", ".SH FILES", ".SH EXAMPLES"] {
                assert!(page.text.contains(heading), "{file} lacks {heading}");
            }
            let subcommands = command.get_subcommands().filter(|command| !command.is_hide_set());
            commands.extend(subcommands.filter(|command| command.get_name() != "help").cloned());
        }
    }
}
