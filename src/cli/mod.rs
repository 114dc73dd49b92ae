//! The command line: a thin file per subcommand, which holds its arguments and a short `run`.

mod doctor;
mod emerge;
mod enter;
mod hook;
mod list;
mod pack;
mod remove;
mod run;
mod setup;
mod status;

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand};

use crate::definition::{Choice, Prefix};
use crate::layout::Home;
use crate::output::{Reporter, Verbosity};

/// Exit code: done.
pub const DONE: u8 = 0;
/// Exit code: something failed.
pub const FAILED: u8 = 1;
/// Exit code: the command line was wrong. clap uses the same.
pub const USAGE: u8 = 2;
/// Exit code: a check found something.
pub const FOUND: u8 = 3;

/// Build software with Gentoo's Portage into a self-contained prefix, and ship it as a portable
/// systemd sysext.
#[derive(Debug, Parser)]
#[command(name = "fprefix", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// The prefix to work on: NAME, or NAME-BOARD. Not needed where there is only one
    #[arg(short = 'P', long, value_name = "NAME", env = "FPREFIX", global = false)]
    prefix: Option<String>,
    /// Say more
    #[arg(short, long, conflicts_with = "quiet")]
    verbose: bool,
    /// Say nothing but errors
    #[arg(short, long)]
    quiet: bool,
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    Setup(Box<setup::Setup>),
    Emerge(emerge::Emerge),
    Run(run::Run),
    Enter(enter::Enter),
    Pack(Box<pack::Pack>),
    List(list::List),
    Status(status::Status),
    Remove(remove::Remove),
    Doctor(doctor::Doctor),
    #[command(hide = true)]
    Hook(hook::Hook),
    Completions(Completions),
    Man,
}

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
struct Completions {
    /// The shell
    shell: clap_complete::Shell,
}

/// What every subcommand gets.
pub struct Context {
    /// Where prefixes are kept.
    pub home: Home,
    /// Which prefix the user means.
    pub choice: Choice,
    /// How to tell the user what is going on.
    pub reporter: Reporter,
}

impl Context {
    /// Opens the prefix that the user means.
    pub fn prefix(&self) -> Result<Prefix> {
        Prefix::open(&self.home, &self.choice)
    }
}

/// Parses the command line, runs what it says, prints what went wrong, and returns the exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let verbosity = match (cli.quiet, cli.verbose) {
        (true, _) => Verbosity::Quiet,
        (_, true) => Verbosity::Verbose,
        _ => Verbosity::Normal,
    };
    let reporter = Reporter::new(verbosity);
    match dispatch(cli, reporter) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            reporter.error(&format!("{error:#}"));
            ExitCode::from(FAILED)
        }
    }
}

fn dispatch(cli: Cli, reporter: Reporter) -> Result<u8> {
    let context = Context { home: Home::of_user()?, choice: Choice { name: cli.prefix }, reporter };
    match cli.command {
        Subcommands::Setup(command) => command.run(&context),
        Subcommands::Emerge(command) => command.run(&context),
        Subcommands::Run(command) => command.run(&context),
        Subcommands::Enter(command) => command.run(&context),
        Subcommands::Pack(command) => command.run(&context),
        Subcommands::List(command) => command.run(&context),
        Subcommands::Status(command) => command.run(&context),
        Subcommands::Remove(command) => command.run(&context),
        Subcommands::Doctor(command) => command.run(&context),
        Subcommands::Hook(command) => command.run(&context),
        Subcommands::Completions(completions) => {
            let mut command = Cli::command();
            clap_complete::generate(
                completions.shell,
                &mut command,
                "fprefix",
                &mut std::io::stdout(),
            );
            Ok(DONE)
        }
        Subcommands::Man => {
            clap_mangen::Man::new(Cli::command()).render(&mut std::io::stdout())?;
            Ok(DONE)
        }
    }
}
