//! The command line: a thin file per subcommand, which holds its arguments and a short `run`.
//!
//! All that users see is written here. Nothing in here does the work of a step.

mod binhost;
#[cfg(test)]
mod book;
mod build;
mod check;
mod diff;
mod doctor;
mod elf;
mod emerge;
mod enter;
#[doc(hidden)]
pub mod fuzz;
mod hook;
mod image;
mod init;
mod list;
mod lock;
mod man;
mod man_build_file;
mod pack;
mod reference;
mod relocate;
mod remove;
mod renew;
mod repo;
mod rewrite;
mod run;
mod schema;
mod setup;
mod status;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand};

use crate::base::escape::{Escape, is_hidden};
use crate::base::output::{self, ColourChoice, Reporter, Verbosity};
use crate::base::{hint, scratch, umask};
use crate::host::home::Home;
use crate::prefix::definition::{Prefix, PrefixChoice};

/// Exit code: done.
pub const DONE: u8 = 0;
/// Exit code: something failed.
pub const FAILED: u8 = 1;
/// Exit code: the command line was wrong. clap uses the same.
pub const USAGE: u8 = 2;
/// Exit code: a check found something.
pub const FOUND: u8 = 3;

/// Heading in the help for the options that every subcommand has.
const GLOBAL: &str = "Options of all commands";

/// Build software with Gentoo's Portage into a self-contained prefix, and ship it as a portable
/// systemd sysext.
#[derive(Debug, Parser)]
#[command(name = "fprefix", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "\
Examples:
  fprefix setup my-prefix /usr/local/my-stuff
  fprefix emerge app-misc/jq
  fprefix pack --output images")]
pub struct Cli {
    /// The prefix to work on: NAME, or NAME-BOARD. Not needed where there is only one
    #[arg(short = 'P', long, value_name = "NAME", env = "FPREFIX", hide_env_values = true, global = true, help_heading = GLOBAL)]
    prefix: Option<String>,
    /// Say more
    #[arg(short, long, conflicts_with = "quiet", global = true, help_heading = GLOBAL)]
    verbose: bool,
    /// Say nothing but errors
    #[arg(short, long, global = true, help_heading = GLOBAL)]
    quiet: bool,
    /// Choose when messages have colors
    #[arg(long, value_enum, default_value_t, value_name = "WHEN", global = true, help_heading = GLOBAL)]
    color: ColourChoice,
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    Init(init::Init),
    Build(build::BuildCommand),
    Lock(lock::LockCommand),
    Setup(Box<setup::Setup>),
    Emerge(emerge::EmergeArgs),
    Run(run::RunArgs),
    Enter(enter::EnterArgs),
    Renew(renew::RenewArgs),
    Pack(Box<pack::PackCommand>),
    Diff(diff::Diff),
    Image(image::ImageArgs),
    List(list::ListArgs),
    Status(status::StatusArgs),
    Repo(repo::RepoArgs),
    Binhost(binhost::BinhostArgs),
    Remove(remove::RemoveArgs),
    Check(check::CheckCommand),
    Relocate(relocate::RelocateCommand),
    Rewrite(rewrite::RewriteCommand),
    Elf(elf::ElfCommand),
    Doctor(doctor::Doctor),
    #[command(hide = true)]
    Hook(hook::HookCommand),
    Completions(Completions),
    Man(man::ManPages),
    Schema(schema::SchemaCommand),
}

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  fprefix completions bash > ~/.local/share/bash-completion/completions/fprefix")]
struct Completions {
    /// The shell
    shell: clap_complete::Shell,
}

/// The values that every subcommand receives.
pub struct Context {
    /// Directory that holds the prefixes.
    pub home: Home,
    /// Which prefix the user means.
    pub choice: PrefixChoice,
    /// Output for the user: progress, warnings, errors.
    pub reporter: Reporter,
}

impl Context {
    /// Opens the prefix that the user means.
    pub fn prefix(&self) -> Result<Prefix> {
        let prefix = Prefix::open(&self.home, &self.choice)?;
        if let Some(update) = prefix.update_command()? {
            self.reporter.warn(&outdated(&prefix, &update));
        }
        Ok(prefix)
    }
}

/// That a prefix was made by another fprefix, and what to do about it.
fn outdated(prefix: &Prefix, update: &str) -> String {
    let id = &prefix.definition.id;
    format!("{id} was set up by another version of fprefix; `{update}` brings it up to date")
}

/// Parses the command line, runs what it says, prints what went wrong, and returns the exit code.
pub fn main() -> ExitCode {
    umask::set();
    let cli = match parse(separate(std::env::args_os().collect())) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let verbosity = match (cli.quiet, cli.verbose) {
        (true, _) => Verbosity::Quiet,
        (_, true) => Verbosity::Verbose,
        _ => Verbosity::Normal,
    };
    let reporter = Reporter::new(verbosity, cli.color);
    match dispatch(cli, reporter) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            reporter.error(&hint::render_error(&error));
            ExitCode::from(FAILED)
        }
    }
}

/// Parses the command line. clap's errors show arguments as they are; those that a script has from
/// somebody else are shown escaped.
fn parse(args: Vec<OsString>) -> std::result::Result<Cli, ExitCode> {
    Cli::try_parse_from(&args).map_err(|error| {
        let is_odd = |arg: &&OsString| arg.to_str().is_none_or(|text| text.contains(is_hidden));
        let mut odd: Vec<&OsString> = args.iter().filter(is_odd).collect();
        if odd.is_empty() || !error.use_stderr() {
            error.exit()
        }
        // An argument may be a part of a longer one, and the value of an option stands alone.
        odd.sort_by_key(|arg| std::cmp::Reverse(arg.len()));
        let mut text = error.render().to_string();
        for arg in odd {
            let arg = arg.to_string_lossy();
            for part in [&*arg].into_iter().chain(arg.split_once('=').map(|(_, value)| value)) {
                text = text.replace(part, &part.escaped().to_string());
            }
        }
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        Reporter::new(Verbosity::Normal, ColourChoice::Auto).error(text.trim_end());
        ExitCode::from(USAGE)
    })
}

/// Puts `--` before what belongs to a tool of Portage: all that follows `emerge` and `run TOOL` is
/// theirs, also where it looks like an option of ours.
fn separate(mut args: Vec<OsString>) -> Vec<OsString> {
    let own: &[&str] = &["--stage", "--install", "--final", "--help", "-h"];
    let mut at = 1;
    while let Some(arg) = args.get(at) {
        if arg == "-P" || arg == "--prefix" || arg == "--color" {
            at += 1;
        } else if !arg.as_encoded_bytes().starts_with(b"-") {
            break;
        }
        at += 1;
    }
    if args.get(at).is_some_and(|arg| arg == "emerge" || arg == "run") {
        at += 1;
        while args.get(at).is_some_and(|arg| own.iter().any(|own| arg == own)) {
            at += 1;
        }
        if args.get(at).is_some_and(|arg| arg != "--") {
            args.insert(at, "--".into());
        }
    }
    args
}

fn dispatch(cli: Cli, reporter: Reporter) -> Result<u8> {
    scratch::remove_abandoned_temporary();
    // FPREFIX set to nothing names nothing.
    let name = cli.prefix.filter(|name| !name.is_empty());
    let context = Context { home: Home::of_user()?, choice: PrefixChoice { name }, reporter };
    match cli.command {
        Subcommands::Init(command) => command.run(&context),
        Subcommands::Build(command) => command.run(&context),
        Subcommands::Lock(command) => command.run(&context),
        Subcommands::Setup(command) => command.run(&context),
        Subcommands::Emerge(command) => command.run(&context),
        Subcommands::Run(command) => command.run(&context),
        Subcommands::Enter(command) => command.run(&context),
        Subcommands::Renew(command) => command.run(&context),
        Subcommands::Pack(command) => command.run(&context),
        Subcommands::Diff(command) => command.run(&context),
        Subcommands::Image(command) => command.run(&context),
        Subcommands::List(command) => command.run(&context),
        Subcommands::Status(command) => command.run(&context),
        Subcommands::Repo(command) => command.run(&context),
        Subcommands::Binhost(command) => command.run(&context),
        Subcommands::Remove(command) => command.run(&context),
        Subcommands::Relocate(command) => command.run(&context),
        Subcommands::Rewrite(command) => command.run(&context),
        Subcommands::Elf(command) => command.run(&context),
        Subcommands::Check(command) => command.run(&context),
        Subcommands::Doctor(command) => command.run(&context),
        Subcommands::Hook(command) => command.run(&context),
        Subcommands::Completions(completions) => {
            let mut command = Cli::command();
            let mut script = Vec::new();
            clap_complete::generate(completions.shell, &mut command, "fprefix", &mut script);
            output::relay(&script)?;
            Ok(DONE)
        }
        Subcommands::Man(command) => command.run(&context),
        Subcommands::Schema(_) => schema::run(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_get_their_arguments() {
        let split = |text: &str| {
            let args = separate(text.split(' ').map(OsString::from).collect());
            args.iter().map(|arg| arg.to_str().unwrap()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(split("f emerge -pv jq"), "f emerge -- -pv jq");
        assert_eq!(split("f -P x -v emerge --stage -v jq"), "f -P x -v emerge --stage -- -v jq");
        assert_eq!(split("f --color never emerge -v jq"), "f --color never emerge -- -v jq");
        assert_eq!(split("f emerge --help"), "f emerge --help");
        assert_eq!(split("f emerge jq --help"), "f emerge -- jq --help");
        assert_eq!(split("f run portageq --final -q"), "f run -- portageq --final -q");
        assert_eq!(split("f run --final -- portageq"), "f run --final -- portageq");
        assert_eq!(split("f check -v"), "f check -v");
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
