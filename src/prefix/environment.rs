//! The sandbox that shows a prefix at its real path: staging is entered, not cross-built.
//!
//! bubblewrap gives each run namespaces of its own. The machine's programs are there read-only, as
//! BROOT's tools; what is ours is below /fprefix; staging's root is at EPREFIX. Nothing is ever
//! mounted outside of that namespace, so nothing can be left mounted, however a run ends.
//!
//! Here Portage itself runs, and whatever the user starts. The code of packages runs in a second
//! sandbox in this one (templates/broot/phases.sh).

use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::base::command::{Command, MACHINE_PATH};
use crate::base::files;
use crate::base::inside::{self, WRAPPER_DIR};
use crate::base::names::Environment;
use crate::prefix::definition::Prefix;
use crate::prefix::layout::PrefixLayout;
use crate::prefix::mount_plan::MountPlan;
use crate::sandbox::bubblewrap::Bubblewrap;
use crate::sandbox::machine_view::MachineView;
use crate::sandbox::namespaces::prove_all_users;
use crate::sandbox::syscall_filter;

pub(crate) use crate::sandbox::namespaces::{prove_bubblewrap, prove_nesting};

/// A prefix, ready to run things in.
pub(crate) struct Sandbox<'a> {
    prefix: &'a Prefix,
    staging: Bubblewrap,
    /// For work on final, whose packages may name programs at final's own EPREFIX.
    r#final: Bubblewrap,
}

impl<'a> Sandbox<'a> {
    /// Opens the sandbox of `prefix`.
    pub(crate) fn open(prefix: &'a Prefix) -> Result<Self> {
        let own = std::env::current_exe().context("could not find our own program")?;
        let mut bwrap = Bubblewrap::find()?;
        // A container may forbid it. Root then has the rights that the container gives it.
        if prove_all_users().is_ok() {
            bwrap.map_all_users();
        }
        let events = prefix.layout.events();
        if !events.is_file() {
            files::write_atomically(&events, b"")?;
        }
        let plan = |environment| Self::plan(prefix, bwrap.clone(), environment, &own);
        let staging = plan(Environment::Staging)?;
        let r#final = if prefix.layout.is_relocatable() {
            plan(Environment::Final)?
        } else {
            staging.clone()
        };
        Ok(Self { prefix, staging, r#final })
    }

    fn plan(
        prefix: &Prefix,
        bwrap: Bubblewrap,
        environment: Environment,
        own: &Path,
    ) -> Result<Bubblewrap> {
        let view = MachineView::new(&prefix.definition.sandbox_paths);
        let mut plan = MountPlan::new(bwrap, view);
        plan.machine()?;
        plan.prefix(prefix, environment, own)?;
        Ok(plan.finish())
    }

    fn bwrap(&self, environment: Environment) -> &Bubblewrap {
        match environment {
            Environment::Staging => &self.staging,
            Environment::Final => &self.r#final,
        }
    }

    /// A command that runs one of Portage's programs on an environment.
    ///
    /// # Errors
    ///
    /// Fails if no pipe can be made.
    pub(crate) fn portage(
        &self,
        environment: Environment,
        tool: &str,
        purpose: &str,
    ) -> Result<Command> {
        self.program(environment, &self.prefix.portage.program(tool), purpose)
    }

    /// A command that runs `program` with the variables of an environment. It can be run once.
    ///
    /// # Errors
    ///
    /// Fails if no pipe can be made.
    pub(crate) fn program(
        &self,
        environment: Environment,
        program: &str,
        purpose: &str,
    ) -> Result<Command> {
        let bwrap = self.bwrap(environment);
        let mut command = bwrap.command_with_users(purpose, &inside::OWN_PROGRAM)?;
        command = command.args(["hook", "seal-devices", "--", program]);
        for (name, value) in self.variables(environment) {
            command = command.env(name, value);
        }
        Ok(command)
    }

    /// A command that runs `program`, which the user chose, in staging. It has no rights over the
    /// sandbox, and cannot type on the user's terminal: what it runs may be code of packages.
    ///
    /// # Errors
    ///
    /// Fails if no pipe can be made.
    pub(crate) fn guest(&self, program: &str, purpose: &str) -> Result<Command> {
        let mut inner = self.staging.within(&inside::BUBBLEWRAP);
        inner.dev_bind(inside::ROOT.as_path(), &inside::ROOT);
        let filter = syscall_filter::open_for_terminal()?.map(Arc::new);
        if let Some(filter) = &filter {
            inner.seccomp(filter.as_raw_fd());
        }
        let command =
            self.program(Environment::Staging, &inside::BUBBLEWRAP.to_string(), purpose)?;
        let command = command.args(inner.options()).arg("--").arg(program);
        Ok(filter.into_iter().fold(command, Command::inherit))
    }

    /// The variables by which Portage knows where it works (emerge(1), make.conf(5)).
    fn variables(&self, environment: Environment) -> Vec<(&'static str, String)> {
        let inside = PrefixLayout::inside(environment);
        let eprefix = self.prefix.layout.eprefix_of(environment).as_str();
        let tools = self.prefix.layout.eprefix_of(Environment::Staging);
        let broot = self.prefix.portage.broot();
        let root = match environment {
            Environment::Staging => "/".to_owned(),
            Environment::Final => inside.join("root").to_string(),
        };
        let mut path = inside::BROOT.join(WRAPPER_DIR).to_string();
        // Programs for another machine would only be in the way of this one's.
        if self.prefix.board.is_native() {
            path = format!("{path}:{tools}/usr/bin");
        }
        if let Some(broot) = broot {
            path = format!("{path}:{broot}/usr/bin");
        }
        if let Some(portage) = self.prefix.portage.path() {
            path = format!("{path}:{portage}");
        }
        let mut variables = vec![
            ("PATH", format!("{path}:{MACHINE_PATH}")),
            ("ROOT", root),
            ("EPREFIX", eprefix.to_owned()),
            ("SYSROOT", "/".to_owned()),
            ("PORTAGE_CONFIGROOT", inside.to_string()),
            ("TMPDIR", inside::TMP.to_string()),
            ("HOME", inside::TMP.to_string()),
            ("PORTAGE_DEPCACHEDIR", inside::CACHE.to_string()),
            // The machine's own /var/log cannot be written from inside.
            ("EMERGE_LOG_DIR", inside.join("logs").to_string()),
            // etc-update would look for the files of the machine's own package manager.
            ("ETC_UPDATE_OS_FAMILY", "gentoo".to_owned()),
        ];
        if let Some(broot) = broot {
            variables.push(("PORTAGE_OVERRIDE_EPREFIX", broot.to_string()));
            variables.push(("PYTHONDONTWRITEBYTECODE", "1".to_owned()));
        }
        // Builds write these down. The caller's would make the product another one.
        for (name, value) in [("USER", "root"), ("LOGNAME", "root"), ("TZ", "UTC")] {
            variables.push((name, value.to_owned()));
        }
        // Inside we are root, and the namespace of an ordinary user knows nobody else; where there
        // is no Portage there is no user "portage" either.
        variables.push(("PORTAGE_USERNAME", "root".to_owned()));
        variables.push(("PORTAGE_GRPNAME", "root".to_owned()));
        variables
    }
}
