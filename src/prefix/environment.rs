//! The sandbox that shows a prefix at its real path: staging is entered, not cross-built.
//!
//! bubblewrap gives each run a mount namespace of its own. The machine is there read-only, as
//! BROOT's tools; what is ours is below /fprefix; staging's root is at EPREFIX. Nothing is ever
//! mounted outside of that namespace, so nothing can be left mounted, however a run ends.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::base::command::{Command, MACHINE_PATH};
use crate::base::files;
use crate::base::inside::{
    BUBBLEWRAP, EVENTS, INSIDE, OWN_PHASES, OWN_PROGRAM, PHASES, TOOLS, WRAPPER_DIR,
};
use crate::base::names::Environment;
use crate::host::toolchain::Compiler;
use crate::host::{machine, tools};
use crate::portage::installation::Portage;
use crate::prefix::broot;
use crate::prefix::definition::Prefix;
use crate::prefix::layout::PrefixLayout;

pub(crate) use crate::sandbox::namespaces::{prove_bubblewrap, prove_nesting};

/// A prefix, ready to run things in.
pub(crate) struct Sandbox<'a> {
    prefix: &'a Prefix,
    bwrap: PathBuf,
    mounts: Vec<OsString>,
}

impl<'a> Sandbox<'a> {
    /// Opens the sandbox of `prefix`.
    pub(crate) fn open(prefix: &'a Prefix) -> Result<Self> {
        let bwrap = tools::BWRAP.require()?.path().to_owned();
        let mut sandbox = Self { prefix, bwrap, mounts: Vec::new() };
        sandbox.mounts = sandbox.plan()?;
        Ok(sandbox)
    }

    /// A command that runs one of Portage's programs on an environment.
    pub(crate) fn portage(&self, environment: Environment, tool: &str, purpose: &str) -> Command {
        let mut words = self.prefix.portage.program(tool).into_iter();
        let program = words.next().unwrap_or_else(|| tool.to_owned());
        self.command(environment, purpose).arg(program).args(words)
    }

    /// A command that runs `program` with the variables of an environment.
    pub(crate) fn program(
        &self,
        environment: Environment,
        program: &str,
        purpose: &str,
    ) -> Command {
        self.command(environment, purpose).arg(program)
    }

    fn command(&self, environment: Environment, purpose: &str) -> Command {
        let mut command = Command::new(purpose, &self.bwrap).args(&self.mounts).brief().arg("--");
        for (name, value) in self.variables(environment) {
            command = command.env(name, value);
        }
        command
    }

    /// The variables by which Portage knows where it works (emerge(1), make.conf(5)).
    fn variables(&self, environment: Environment) -> Vec<(&'static str, String)> {
        let inside = PrefixLayout::inside(environment).display().to_string();
        let eprefix = self.prefix.layout.eprefix().as_str();
        let broot = self.prefix.portage.broot();
        let root = match environment {
            Environment::Staging => "/".to_owned(),
            Environment::Final => format!("{inside}/root"),
        };
        let mut path = format!("{INSIDE}/staging/broot/{WRAPPER_DIR}");
        // Programs for another machine would only be in the way of this one's.
        if self.prefix.board.is_native() {
            path = format!("{path}:{eprefix}/usr/bin");
        }
        if !broot.is_empty() {
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
            ("PORTAGE_CONFIGROOT", inside),
            ("TMPDIR", "/tmp".to_owned()),
            ("FPREFIX_EVENTS", EVENTS.to_owned()),
            ("PORTAGE_DEPCACHEDIR", format!("{INSIDE}/staging/cache")),
            // The machine's own /var/log cannot be written from inside.
            ("EMERGE_LOG_DIR", format!("{INSIDE}/{environment}/logs")),
        ];
        if let Portage::Private(_) = self.prefix.portage {
            variables.push(("PORTAGE_OVERRIDE_EPREFIX", broot.to_owned()));
            variables.push(("PYTHONDONTWRITEBYTECODE", "1".to_owned()));
        }
        // Inside we are root, and the namespace of an ordinary user knows nobody else; where there
        // is no Portage there is no user "portage" either.
        variables.push(("PORTAGE_USERNAME", "root".to_owned()));
        variables.push(("PORTAGE_GRPNAME", "root".to_owned()));
        variables
    }

    /// The options that make the mount namespace (bwrap(1)).
    fn plan(&self) -> Result<Vec<OsString>> {
        let layout = &self.prefix.layout;
        // A bubblewrap that is setuid gives no capabilities (bwrap(1)).
        let setuid = fs_err::metadata(&self.bwrap)?.mode() & 0o4000 != 0;
        let mut plan = Mounts::new(!setuid);
        plan.machine()?;
        for environment in [Environment::Staging, Environment::Final] {
            plan.writable(layout.dir(environment), &PrefixLayout::inside(environment));
        }
        if let Some(pkgdir) = &self.prefix.definition.pkgdir {
            if !pkgdir.is_dir() {
                bail!(
                    "the shared binary packages are not at {} any more; mount or make it again, or \
                     start again with `fprefix setup --force` and without --binhost",
                    pkgdir.display()
                );
            }
            plan.writable(pkgdir, &PrefixLayout::inside(Environment::Staging).join("pkgs"));
        }
        plan.writable(&self.prefix.definition.distdir, &Path::new(INSIDE).join("distfiles"));
        for repo in &self.prefix.definition.repos {
            if let Some(path) = &repo.path {
                if !path.is_dir() {
                    bail!(
                        "the repository {} is not at {} any more; put it back, or start again \
                         with `fprefix setup --force` and without it",
                        repo.name,
                        path.display()
                    );
                }
                plan.readable(path, &crate::portage::repos::inside(&repo.name));
            }
        }
        if let Some((dir, inside)) = self.prefix.portage.binding() {
            plan.readable(dir, inside);
            let tools = self.prefix.home.tools();
            if tools.is_dir() {
                plan.readable(&tools, Path::new(TOOLS));
            }
        } else {
            plan.around(Path::new("/var/db"))?;
            plan.add_to_machine(&broot::machine::write(&layout.broot())?)?;
        }
        plan.readable(&self.bwrap, Path::new(BUBBLEWRAP));
        let phases = layout.broot().join(PHASES);
        if phases.exists() {
            for (script, inside) in self.prefix.portage.phases() {
                let own = Path::new(OWN_PHASES).join(inside.strip_prefix("/").unwrap_or(&inside));
                plan.readable(&script, &own);
                plan.readable(&phases, &inside);
            }
        }
        for part in self.prefix.definition.compiler.iter().flat_map(|compiler| &compiler.parts) {
            if !part.exists() {
                bail!(
                    "the compiler that the prefix was set up with is gone: there is no {}; \
                     `{}` takes the one that is there now",
                    part.display(),
                    self.prefix.definition.setup_command(&self.prefix.home, true)
                );
            }
            plan.readable(part, &Compiler::inside(part));
        }
        let own = std::env::current_exe().context("could not find our own program")?;
        plan.readable(&own, Path::new(OWN_PROGRAM));
        plan.at_eprefix(&layout.eroot(Environment::Staging), layout.eprefix().as_path())?;
        Ok(plan.finish())
    }
}

/// The deepest directory of the machine on the way to EPREFIX, and what is below it.
pub(crate) fn place(eprefix: &Path) -> Result<(PathBuf, PathBuf)> {
    let (ancestor, rest) = files::existing_ancestor(eprefix);
    let ancestor = fs_err::canonicalize(&ancestor)?;
    if !ancestor.is_dir() {
        bail!("{} is there and is not a directory", ancestor.display());
    }
    Ok((ancestor, rest))
}

/// Options of bubblewrap, in the order in which it carries them out.
struct Mounts {
    options: Vec<OsString>,
    scaffolds: Vec<PathBuf>,
}

impl Mounts {
    /// `nested`: there will be namespaces in this one.
    fn new(nested: bool) -> Self {
        let mut options: Vec<OsString> = Vec::new();
        if !machine::is_root() {
            options.extend(["--unshare-user", "--uid", "0", "--gid", "0"].map(OsString::from));
            if nested {
                // Who maps user 0 into another namespace has to have it, see user_namespaces(7).
                options.extend(["--cap-add", "CAP_SETFCAP"].map(OsString::from));
            }
        }
        // A process that outlives us could still write to what we no longer hold the lock of.
        options.extend(["--die-with-parent", "--unshare-pid"].map(OsString::from));
        Self { options, scaffolds: Vec::new() }
    }

    fn push<const N: usize>(&mut self, words: [&std::ffi::OsStr; N]) {
        self.options.extend(words.map(ToOwned::to_owned));
    }

    /// All of the machine, read-only, entry by entry: so that the root directory itself is ours
    /// and can take mount points that the machine does not have.
    fn machine(&mut self) -> Result<()> {
        self.children(Path::new("/"), &["proc", "dev", "tmp", "fprefix"])?;
        self.push(["--proc".as_ref(), "/proc".as_ref()]);
        // Not the machine's /dev: a build that root runs could remove or replace what is there.
        self.push(["--dev".as_ref(), "/dev".as_ref(), "--perms".as_ref(), "1777".as_ref()]);
        self.push(["--tmpfs".as_ref(), "/dev/shm".as_ref()]);
        self.push(["--perms".as_ref(), "1777".as_ref(), "--tmpfs".as_ref(), "/tmp".as_ref()]);
        Ok(())
    }

    fn readable(&mut self, from: &Path, to: &Path) {
        self.push(["--ro-bind".as_ref(), from.as_os_str(), to.as_os_str()]);
    }

    fn writable(&mut self, from: &Path, to: &Path) {
        self.push(["--bind".as_ref(), from.as_os_str(), to.as_os_str()]);
    }

    /// Shows `from` at EPREFIX. Where the machine has no such directory, the directory that it
    /// would be in is laid out anew with all that the machine has there, since a mount point can
    /// not be made on what is read-only.
    fn at_eprefix(&mut self, from: &Path, eprefix: &Path) -> Result<()> {
        let (ancestor, rest) = place(eprefix)?;
        if rest.as_os_str().is_empty() {
            self.writable(from, &ancestor);
            return Ok(());
        }
        if ancestor != Path::new("/") {
            self.push(["--tmpfs".as_ref(), ancestor.as_os_str()]);
            self.children(&ancestor, &[])?;
            self.scaffolds.push(ancestor.clone());
        }
        self.writable(from, &ancestor.join(rest));
        Ok(())
    }

    /// Lets files be made beside what is in `dir`, which stays as it is: Portage locks the VDB of
    /// BROOT by a file next to it, also where it only reads it. They are gone when the run ends.
    fn around(&mut self, dir: &Path) -> Result<()> {
        if !dir.is_dir() {
            return Ok(());
        }
        self.push(["--tmpfs".as_ref(), dir.as_os_str()]);
        self.children(dir, &[])
    }

    /// Shows the configuration of the machine's own Portage with these files added, each in a folder
    /// of its name beside what the machine has under that name.
    fn add_to_machine(&mut self, files: &[(&str, PathBuf)]) -> Result<()> {
        let Ok(config) = fs_err::canonicalize(broot::machine::CONFIG) else { return Ok(()) };
        self.push(["--tmpfs".as_ref(), config.as_os_str()]);
        let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
        self.children(&config, &names)?;
        for (name, file) in files {
            let folder = config.join(name);
            if let Ok(own) = fs_err::canonicalize(&folder) {
                self.readable(&own, &folder.join("machine"));
            }
            self.readable(file, &folder.join("zz-fprefix"));
        }
        self.scaffolds.push(config);
        Ok(())
    }

    /// Shows what is in the directory `dir`, but for the names in `except`.
    fn children(&mut self, dir: &Path, except: &[&str]) -> Result<()> {
        let mut entries: Vec<_> = fs_err::read_dir(dir)?.collect::<Result<_, _>>()?;
        entries.sort_by_key(fs_err::DirEntry::file_name);
        for entry in entries {
            if except.iter().any(|name| entry.file_name().as_bytes() == name.as_bytes()) {
                continue;
            }
            let path = entry.path();
            if entry.file_type()?.is_symlink() {
                let target = fs_err::read_link(&path)?;
                self.push(["--symlink".as_ref(), target.as_os_str(), path.as_os_str()]);
            } else {
                self.push(["--ro-bind-try".as_ref(), path.as_os_str(), path.as_os_str()]);
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Vec<OsString> {
        for scaffold in std::mem::take(&mut self.scaffolds) {
            self.push(["--remount-ro".as_ref(), scaffold.as_os_str()]);
        }
        self.push(["--remount-ro".as_ref(), "/".as_ref()]);
        self.push(["--chdir".as_ref(), "/".as_ref()]);
        self.options
    }
}
