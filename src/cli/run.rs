use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

use crate::base::command::shell_code;
use crate::base::inside::InsidePath;
use crate::base::lock::Busy;
use crate::base::names::Environment;
use crate::cli::Context;
use crate::portage::repos;
use crate::prefix::definition::Prefix;
use crate::prefix::environment::Sandbox;

/// Tools that only look, and need not wait for whoever works on the prefix. Any other may change it.
const READERS: &[&str] = &["equery", "portageq", "q", "qlist", "qfile"];

/// The tool that compares what is installed with security advisories.
const ADVISORY_CHECK: &str = "glsa-check";

/// Returns the directory of advisories of a repository of `prefix`, as the sandbox shows it. Without
/// any, glsa-check would say that nothing is affected.
fn find_advisories(prefix: &Prefix) -> Result<InsidePath> {
    let repos = &prefix.definition.repos;
    let has_any = |path: &PathBuf| repos::advisories(path).is_some();
    let found = repos.iter().find(|repo| repo.path.as_ref().is_some_and(has_any));
    let Some(found) = found else {
        bail!(
            "no repository of {} has security advisories (metadata/glsa), so {ADVISORY_CHECK} \
             cannot tell whether what is installed is affected\n\
             hint: add one that has: Gentoo's repository has them as `emerge --sync` fetches it",
            prefix.definition.id
        );
    };
    Ok(repos::inside(&found.name).join("metadata/glsa"))
}

/// Run a Portage tool on staging or final
///
/// ebuild, portageq, quickpkg, emaint and whatever else Portage or this machine has. Output and
/// exit status are the tool's.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fprefix run portageq envvar CFLAGS
  fprefix run portageq --final envvar USE")]
pub(super) struct RunArgs {
    /// The tool; then its arguments. --final right after it runs it on final instead of staging
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required = true,
        value_name = "TOOL [--final] ARGUMENTS"
    )]
    words: Vec<String>,
    /// Run it on final instead of staging
    #[arg(long = "final")]
    on_final: bool,
}

impl RunArgs {
    /// Runs the subcommand.
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        let prefix = context.prefix()?;
        let Some((tool, mut args)) = self.words.split_first() else { bail!("which tool?") };
        let mut environment = if self.on_final { Environment::Final } else { Environment::Staging };
        if let Some(("--final", rest)) = args.split_first().map(|(arg, rest)| (arg.as_str(), rest))
        {
            environment = Environment::Final;
            args = rest;
        }
        if environment == Environment::Staging {
            prefix.require_staging()?;
        }
        if !prefix.portage.has_program(tool) {
            bail!("neither Portage nor this machine has a program {tool:?}");
        }
        let lock = if READERS.contains(&tool.as_str()) {
            None
        } else {
            let tell = |text: &str| context.reporter.step(text);
            Some(prefix.lock(&format!("fprefix run {tool}"), &Busy::Wait(&tell))?)
        };
        let advisories =
            if tool == ADVISORY_CHECK { Some(find_advisories(&prefix)?) } else { None };
        let sandbox = Sandbox::open(&prefix)?;
        let purpose = format!("run {tool} on {environment}");
        let mut command = sandbox.portage(environment, tool, &purpose)?;
        if let Some(dir) = advisories {
            command = command.env("GLSA_DIR", dir);
        }
        let status = command.args(args).run_attached()?;
        drop(lock);
        Ok(shell_code(status))
    }
}
