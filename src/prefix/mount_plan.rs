//! The directories that the sandbox of a prefix shows, each at its place.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::base::escape::Escape;
use crate::base::files;
use crate::base::inside::{self, InsidePath};
use crate::base::names::Environment;
use crate::host::toolchain::Compiler;
use crate::portage::binhost::Binhost;
use crate::portage::repos;
use crate::prefix::broot;
use crate::prefix::definition::Prefix;
use crate::prefix::layout::PrefixLayout;
use crate::sandbox::bubblewrap::{Bubblewrap, Namespace};
use crate::sandbox::machine_view::MachineView;

/// The deepest directory of the machine on the way to EPREFIX, and what is below it.
pub(super) fn place(eprefix: &Path) -> Result<(PathBuf, PathBuf)> {
    let (ancestor, rest) = files::existing_ancestor(eprefix);
    let ancestor = fs_err::canonicalize(&ancestor)?;
    if !ancestor.is_dir() {
        bail!("{} is there and is not a directory", ancestor.escaped());
    }
    Ok((ancestor, rest))
}

/// Decides which directory appears at which place of the sandbox.
pub(super) struct MountPlan {
    bwrap: Bubblewrap,
    view: MachineView,
    /// Directories that were laid out anew, which end read-only.
    scaffolds: Vec<InsidePath>,
}

impl MountPlan {
    pub(super) fn new(mut bwrap: Bubblewrap, view: MachineView) -> Self {
        // Portage is root here, over what belongs to these namespaces. The names of the machine
        // and of its processes are none of a build's business.
        bwrap.all_capabilities().hostname("localhost").chdir(&inside::ROOT).brief();
        for namespace in [Namespace::Pid, Namespace::Ipc, Namespace::Cgroup] {
            bwrap.unshare(namespace);
        }
        Self { bwrap, view, scaffolds: Vec::new() }
    }

    /// Shows the machine's programs, read-only, entry by entry: so that the root directory itself is
    /// ours and can take mount points that the machine does not have.
    pub(super) fn machine(&mut self) -> Result<()> {
        self.view.show(&mut self.bwrap)?;
        // Not the machine's /dev: a build that root runs could remove or replace what is there.
        self.bwrap.proc().dev().tmpfs_for_all(&inside::DEV_SHM).tmpfs_for_all(&inside::TMP);
        Ok(())
    }

    /// Shows the directories of `prefix`, its tools, and the program `own`, for work on
    /// `environment`: staging is at the EPREFIX for which packages are built, and for work on final
    /// at final's as well.
    pub(super) fn prefix(
        &mut self,
        prefix: &Prefix,
        environment: Environment,
        own: &Path,
    ) -> Result<()> {
        let layout = &prefix.layout;
        for environment in [Environment::Staging, Environment::Final] {
            let dir = PrefixLayout::inside(environment);
            let marker = dir.join(inside::MARKER);
            self.bwrap.bind(layout.dir(environment), &dir).tmpfs(&marker).seal(&marker);
        }
        self.bwrap.bind(&layout.events(), &inside::EVENTS);
        if let Some(pkgdir) = &prefix.definition.pkgdir {
            if !pkgdir.is_dir() {
                bail!(
                    "the shared binary packages are not at {} any more; mount or make it again, or \
                     start again with `fprefix setup --force` and without --binhost",
                    pkgdir.escaped()
                );
            }
            self.bwrap.bind(pkgdir, &inside::PKGDIR);
        }
        if let (Some(binhost), Some(home)) = (&prefix.definition.binhost, std::env::home_dir()) {
            self.keys_of_ssh(binhost, &home);
        }
        self.bwrap.bind(&prefix.definition.distdir, &inside::DISTDIR);
        self.repositories(prefix)?;
        self.portage(prefix)?;
        self.compiler(prefix)?;
        self.bwrap.ro_bind(own, &inside::OWN_PROGRAM);
        let from = layout.eroot(Environment::Staging);
        self.at_eprefix(&from, layout.eprefix_of(Environment::Staging).as_path())?;
        if environment == Environment::Final && layout.is_relocatable() {
            self.at_eprefix(&from, layout.eprefix().as_path())?;
        }
        Ok(())
    }

    /// Shows Portage the keys by which the user of the directory `home` reaches a binhost. The code of
    /// packages does not see them (templates/broot/phases.sh).
    fn keys_of_ssh(&mut self, binhost: &Binhost, home: &Path) {
        let keys = home.join(".ssh");
        if matches!(binhost, Binhost::Uri(uri) if uri.starts_with("ssh://")) && keys.is_dir() {
            self.bwrap.ro_bind(&keys, &inside::SSH_KEYS);
        }
    }

    fn repositories(&mut self, prefix: &Prefix) -> Result<()> {
        for repo in &prefix.definition.repos {
            let Some(path) = &repo.path else { continue };
            if !path.is_dir() {
                bail!(
                    "the repository {} is not at {} any more\n\
                     hint: put it back, name the place that it moved to with `fprefix -P {} repo \
                     add {}=PATH`, or do without it: `fprefix -P {} repo remove {}`",
                    repo.name,
                    path.escaped(),
                    prefix.definition.id,
                    repo.name,
                    prefix.definition.id,
                    repo.name
                );
            }
            self.bwrap.ro_bind(path, &repos::inside(&repo.name));
        }
        Ok(())
    }

    /// Shows Portage, and its phases in a sandbox of their own.
    fn portage(&mut self, prefix: &Prefix) -> Result<()> {
        let broot = prefix.layout.broot();
        if let Some((dir, inside)) = prefix.portage.binding() {
            self.bwrap.ro_bind(dir, inside);
            let tools = prefix.home.tools();
            if tools.is_dir() {
                self.bwrap.ro_bind(&tools, &inside::TOOLS);
            }
        } else {
            for place in repos::places_of_machine(Path::new(broot::machine::CONFIG))? {
                if place.exists() && !self.view.contains(&place) {
                    self.bwrap.ro_bind(&place, &InsidePath::parse(&place)?);
                }
            }
            self.around(Path::new("/var/db"))?;
            self.add_to_machine(&broot::machine::write(&broot)?)?;
        }
        let bubblewrap = self.bwrap.program().to_owned();
        self.bwrap.ro_bind(&bubblewrap, &inside::BUBBLEWRAP);
        let phases = prefix.layout.phases();
        if phases.exists() {
            for (script, inside) in prefix.portage.phases() {
                self.bwrap.ro_bind(&script, &inside::OWN_PHASES.join(&inside));
                self.bwrap.ro_bind(&phases, &inside);
            }
        }
        let relocation = prefix.layout.relocation();
        if relocation.exists() {
            for (_, inside) in prefix.portage.relocation() {
                self.bwrap.ro_bind(&relocation, &inside);
            }
        }
        Ok(())
    }

    fn compiler(&mut self, prefix: &Prefix) -> Result<()> {
        for part in prefix.definition.compiler.iter().flat_map(|compiler| &compiler.parts) {
            if !part.exists() {
                bail!(
                    "the compiler that the prefix was set up with is gone: there is no {}; \
                     `{}` takes the one that is there now",
                    part.escaped(),
                    prefix.definition.setup_command(&prefix.home, false)
                );
            }
            self.bwrap.ro_bind(part, &Compiler::inside(part));
        }
        Ok(())
    }

    /// Shows `from` at EPREFIX. Where the machine has no such directory, the directory that it
    /// would be in is laid out anew with all that the machine shows there, since a mount point
    /// cannot be made on what is read-only.
    fn at_eprefix(&mut self, from: &Path, eprefix: &Path) -> Result<()> {
        let (ancestor, rest) = place(eprefix)?;
        let ancestor = InsidePath::parse(ancestor)?;
        let is_laid_out = self.scaffolds.contains(&ancestor);
        let is_missing = !rest.as_os_str().is_empty();
        if is_missing && !is_laid_out && self.view.contains(ancestor.as_path()) {
            self.bwrap.tmpfs(&ancestor).ro_bind_entries(&ancestor, &[])?;
            self.scaffolds.push(ancestor.clone());
        }
        self.bwrap.bind(from, &ancestor.join(rest));
        Ok(())
    }

    /// Lets files be made beside what is in `dir`, which stays as it is: Portage locks the VDB of
    /// BROOT by a file next to it, also where it only reads it. They are gone when the run ends.
    fn around(&mut self, dir: &Path) -> Result<()> {
        if !dir.is_dir() {
            return Ok(());
        }
        let dir = InsidePath::parse(dir)?;
        self.bwrap.tmpfs(&dir).ro_bind_entries(&dir, &[])
    }

    /// Shows the configuration of the machine's own Portage with these files added, each in a folder
    /// of its name beside what the machine has under that name.
    fn add_to_machine(&mut self, files: &[(&str, PathBuf)]) -> Result<()> {
        let Ok(config) = fs_err::canonicalize(broot::machine::CONFIG) else { return Ok(()) };
        let config = InsidePath::parse(config)?;
        let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
        self.bwrap.tmpfs(&config).ro_bind_entries(&config, &names)?;
        for (name, file) in files {
            let folder = config.join(name);
            if let Ok(own) = fs_err::canonicalize(folder.as_path()) {
                self.bwrap.ro_bind(&own, &folder.join("machine"));
            }
            self.bwrap.ro_bind(file, &folder.join("zz-fprefix"));
        }
        self.scaffolds.push(config);
        Ok(())
    }

    pub(super) fn finish(mut self) -> Bubblewrap {
        for scaffold in &self.scaffolds {
            self.bwrap.seal(scaffold);
        }
        self.bwrap.seal(&inside::ROOT);
        self.bwrap
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::board::Board;
    use crate::base::names::{Eprefix, PrefixId};
    use crate::host::home::Home;
    use crate::host::machine::Machine;
    use crate::portage::installation::Portage;
    use crate::prefix::definition::{Definition, PrefixRepo};
    use crate::sandbox::bubblewrap::samples;

    /// A prefix with everything that a prefix can have, in the directory `dir`.
    fn sample(dir: &Path) -> Prefix {
        let make = |name: &str| {
            let path = dir.join(name);
            fs_err::create_dir_all(&path).unwrap();
            path
        };
        let script = make("portage/lib/portage/bin").join("ebuild.sh");
        let phases = make("staging/broot/usr/local/lib/fprefix").join("ebuild.sh");
        for file in [script, phases] {
            fs_err::write(file, "").unwrap();
        }
        make("home/tools");
        let board = Board::find("amd64-usr").unwrap();
        let repo = |name: &str, path| PrefixRepo { name: name.to_owned(), path, priority: 1 };
        let definition = Definition {
            id: PrefixId { name: "demo".parse().unwrap(), board: board.name.clone() },
            eprefix: "/absent-here/demo".parse().unwrap(),
            relocatable: false,
            staging: make("staging"),
            r#final: make("final"),
            machine: Machine::Other,
            profile: "/fprefix/repos/gentoo/profiles/x".to_owned(),
            use_flags: Vec::new(),
            package_config: None,
            repos: vec![repo("gentoo", Some(make("gentoo"))), repo("fprefix", None)],
            repos_before: None,
            distdir: make("distfiles"),
            binhost: None,
            binhost_key: None,
            without_staging: false,
            pkgdir: Some(make("shared packages")),
            features: Vec::new(),
            sandbox_paths: Vec::new(),
            compiler: Some(Compiler {
                cc: dir.join("gcc/bin/gcc"),
                cxx: None,
                machine: "x86_64-linux-gnu".to_owned(),
                version: "14".to_owned(),
                parts: vec![make("gcc")],
            }),
            wrappers: Vec::new(),
            data: String::new(),
            rewriting: 0,
            complete: true,
        };
        let home = Home::from_path(dir.join("home"));
        let portage = Portage::Private(dir.join("portage"));
        Prefix { portage, ..Prefix::new(&home, definition).unwrap() }
    }

    fn plan(prefix: &Prefix, environment: Environment, bwrap: Bubblewrap) -> Result<Bubblewrap> {
        let mut plan = MountPlan::new(bwrap, MachineView::new(&[]));
        plan.prefix(prefix, environment, Path::new("/usr/bin/fprefix"))?;
        Ok(plan.finish())
    }

    #[test]
    fn directories_of_a_prefix_are_below_one_directory() {
        let dir = tempfile::tempdir().unwrap();
        let prefix = sample(dir.path());
        let text =
            samples::lines(&plan(&prefix, Environment::Staging, samples::for_user()).unwrap());
        insta::assert_snapshot!(text.replace(dir.path().to_str().unwrap(), "DIR"));
        let mut definition = prefix.definition.clone();
        definition.relocatable = true;
        let relocatable = Prefix {
            portage: prefix.portage.clone(),
            ..Prefix::new(&prefix.home, definition).unwrap()
        };
        let lines = |environment| {
            let bwrap = plan(&relocatable, environment, samples::for_user()).unwrap();
            samples::lines(&bwrap)
        };
        assert!(!lines(Environment::Staging).contains("/absent-here/demo"));
        let text = lines(Environment::Final);
        let canonical = Eprefix::canonical();
        for eprefix in [canonical.as_str(), "/absent-here/demo"] {
            let bind = format!("staging/root{canonical} {eprefix}\n");
            assert!(text.contains(&bind), "{bind}{text}");
        }
        // The machine is not listed in a snapshot, as each has other directories.
        let mut machine = MountPlan::new(samples::for_root(), MachineView::new(&[]));
        machine.machine().unwrap();
        let text = samples::lines(&machine.finish());
        let end = "\n--proc /proc\n--dev /dev\n--perms 1777\n--tmpfs /dev/shm\n--perms 1777\n\
                   --tmpfs /tmp\n--remount-ro /\n--chdir /";
        assert!(text.ends_with(end) && text.contains(" /usr /usr\n"), "{text}");
        for hidden in [" /tmp /tmp", " /dev /dev", " /proc /proc"] {
            assert!(!text.contains(hidden), "{text}");
        }
    }

    #[test]
    fn directories_that_disappeared_are_named() {
        for (name, part) in [
            ("gentoo", "the repository gentoo is not at "),
            ("shared packages", "the shared binary packages are not at "),
            ("gcc", "the compiler that the prefix was set up with is gone: there is no "),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let prefix = sample(dir.path());
            fs_err::remove_dir(dir.path().join(name)).unwrap();
            let error =
                plan(&prefix, Environment::Staging, samples::for_root()).unwrap_err().to_string();
            assert!(error.starts_with(part), "{error}");
        }
    }

    #[test]
    fn keys_of_ssh_are_shown_where_a_binhost_needs_them() {
        let home = tempfile::tempdir().unwrap();
        fs_err::create_dir(home.path().join(".ssh")).unwrap();
        let shown = |uri: &str| {
            let mut plan = MountPlan::new(samples::for_root(), MachineView::new(&[]));
            plan.keys_of_ssh(&uri.parse().unwrap(), home.path());
            samples::lines(&plan.finish()).contains("/.ssh /root/.ssh")
        };
        assert!(shown("ssh://host/packages"));
        assert!(!shown("https://host/packages") && !shown("/srv/packages"));
    }

    #[test]
    fn a_directory_that_is_there_is_laid_out_anew_around_the_prefix() {
        let dir = tempfile::tempdir().unwrap();
        fs_err::create_dir(dir.path().join("neighbour")).unwrap();
        let at = |below: &str| {
            let view = MachineView::new(&[dir.path().to_owned()]);
            let mut plan = MountPlan::new(samples::for_root(), view);
            plan.at_eprefix(Path::new("/staging"), &dir.path().join(below)).unwrap();
            let text = samples::lines(&plan.finish());
            text.replace(dir.path().to_str().unwrap(), "DIR")
        };
        let frame = |mounts: &str| {
            let start = "--die-with-parent\n--unshare-uts\n--unshare-pid\n--unshare-ipc\n\
                         --unshare-cgroup-try\n--hostname localhost\n";
            format!("{start}{mounts}--remount-ro /\n--chdir /")
        };
        assert_eq!(
            at("a/prefix"),
            frame(
                "--tmpfs DIR\n--ro-bind-try DIR/neighbour DIR/neighbour\n\
                 --bind /staging DIR/a/prefix\n--remount-ro DIR\n"
            )
        );
        assert_eq!(at("neighbour"), frame("--bind /staging DIR/neighbour\n"));
    }
}
