use anyhow::Result;
use clap::Args;

use crate::base::command::shell_code;
use crate::cli::Context;
use crate::prefix::environment::Sandbox;

/// Start a shell or a command inside staging, with the prefix at its real path
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fprefix enter
  fprefix enter -- ls /usr/local/my-stuff")]
pub(super) struct EnterArgs {
    /// The command; a shell when none is given
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl EnterArgs {
    /// Runs the subcommand.
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        let prefix = context.prefix()?;
        prefix.require_staging()?;
        let sandbox = Sandbox::open(&prefix)?;
        let default = vec!["bash".to_owned(), "--norc".to_owned()];
        let words = if self.command.is_empty() { default } else { self.command };
        let (program, args) = words
            .split_first()
            .map_or(("bash", [].as_slice()), |(program, args)| (program.as_str(), args));
        let command = sandbox
            .guest(program, "enter staging")?
            .env("PS1", format!("({}) \\w \\$ ", prefix.definition.id.name));
        Ok(shell_code(command.args(args).run_attached()?))
    }
}
