//! Plans an extension from a root, before anything is written.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::base::escape::Escape;
use crate::base::output::Reporter;
use crate::fstree::entries::{Entry, FileTree};
use crate::fstree::root_dir::RootDir;
use crate::fstree::scan;
use crate::imagefmt::architecture::Architecture;
use crate::imagefmt::writer;
use crate::pipeline::pack::package_metadata;
use crate::pipeline::pack::request::PackRequest;
use crate::portage::cpv::Cpv;
use crate::prefix::final_root::FinalRoot;
use crate::sysext::expose::ExposedPrograms;
use crate::sysext::integrate::Integration;
use crate::sysext::name::Naming;
use crate::sysext::prune::{PruneChoice, PruneRuleName, PruneRules, Pruned};
use crate::sysext::release::{self, ExtensionRelease, ReleaseField};
use crate::sysext::strip::{self, Stripped};
use crate::sysext::target::TargetFinding;
use crate::sysext::unrequested::Unrequested;
use crate::sysext::{base, epoch, expose, services, state};

/// An extension that is ready to be written.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// Content of the extension.
    pub plan: FileTree,
    /// Names of the extension.
    pub naming: Naming,
    /// Entries that were pruned.
    pub left_out: Vec<Pruned>,
    /// Packages that are left out because a base contains them.
    pub in_base: Vec<Cpv>,
    /// Package database, if the request asks for it.
    pub package_information: Option<FileTree>,
    /// Symbols that are already in separate files, by path in the extension with symbols.
    pub debug: BTreeMap<PathBuf, Entry>,
    /// Files that were stripped; empty before that step.
    pub stripped: Stripped,
    /// Warnings for the user.
    pub warnings: Vec<String>,
    /// Effects of attaching the extension to the target.
    pub against: Vec<TargetFinding>,
    /// Files that are left out unless something in the complete extension needs them.
    unrequested: Unrequested,
}

impl Prepared {
    /// Leaves out what nothing in the complete plan needs. Returns the removed entries.
    pub(super) fn finish(&mut self, request: &PackRequest) -> Result<BTreeSet<PathBuf>> {
        let (left_out, gone) = prune_rules(request, &self.unrequested)?.finish(&mut self.plan)?;
        self.left_out.extend(left_out);
        Ok(gone)
    }

    /// Returns the rule that leaves out the program `name` of the prefix's usr/bin, by what needs it.
    pub(crate) fn rule_against(&self, name: &str) -> Option<&str> {
        let path = self.plan.eprefix.as_path().join("usr/bin").join(name).escaped().to_string();
        let rule = self.left_out.iter().find(|left| left.paths.contains(&path))?;
        Some(&rule.rule)
    }

    /// Returns a tree for the proof at run time: the root without what is left out, and with nothing
    /// else changed. Root owns all of it, so that everybody can write it to disk. Returns also the names
    /// of the rules that left out files because nothing seemed to need them.
    pub(super) fn plan_proof(&self, request: &PackRequest) -> Result<(FileTree, Vec<String>)> {
        let mut plan = FileTree::new(request.root.eprefix(), self.plan.epoch);
        scan::scan_prefix(&request.root.eroot(), request.root.path(), &mut plan)?;
        let rules = prune_rules(request, &self.unrequested)?;
        let mut left_out = rules.apply(&mut plan)?;
        left_out.extend(rules.finish(&mut plan)?.0);
        left_out.retain(|left| !left.paths.is_empty());
        for entry in plan.entries.values_mut() {
            (entry.uid, entry.gid) = (0, 0);
            entry.xattrs.clear();
        }
        Ok((plan, left_out.into_iter().map(|left| left.rule).collect()))
    }
}

/// Plans the extension that `request` asks for. Writes nothing.
pub(crate) fn prepare(request: &PackRequest, reporter: &Reporter) -> Result<Prepared> {
    if let Some(obstacle) = request.root.eprefix().sysext_obstacle() {
        bail!("{obstacle}");
    }
    request.options.formats.iter().try_for_each(|format| writer::ready(*format))?;
    reporter.step(&format!("planning {} from {}", request.name, request.root.path().escaped()));
    let epoch = match request.epoch {
        Some(epoch) => epoch,
        None => epoch::find_epoch(&request.root)?,
    };
    let mut plan = FileTree::new(request.root.eprefix(), epoch);
    let with_list = scan::scan_prefix(&request.root.eroot(), request.root.path(), &mut plan)?;
    let mut warnings = left_outside(&request.root)?;
    warnings.extend(describe_lists(&with_list));
    let package_information = if request.options.package_information {
        Some(base::package_information(&plan)?)
    } else {
        None
    };
    let in_base = base::leave_out(&mut plan, &request.root, &request.options.bases)?;
    let splitdebug = request.options.strip.as_ref().is_some_and(|strip| strip.splitdebug);
    let debug = if splitdebug { strip::of_prefix(&plan) } else { BTreeMap::new() };
    let unrequested = find_unrequested(request, &in_base)?;
    let left_out = prune_rules(request, &unrequested)?.apply(&mut plan)?;
    let exposed = expose(request, &mut plan, &mut warnings)?;
    let is_for_manager = integrate(request, &exposed, &mut plan, &mut warnings)?;
    let architecture = match request.options.architecture {
        Some(architecture) => Some(architecture),
        None => Architecture::of(&plan)?,
    };
    let mut fields = request.options.fields.clone();
    for field in package_metadata::fields(request)? {
        if !fields.iter().any(|given| given.is_about(&field)) {
            fields.push(field);
        }
    }
    if is_for_manager && !fields.iter().any(ReleaseField::is_reload) {
        fields.push(ReleaseField::reload());
    }
    let release = ExtensionRelease {
        name: request.name.clone(),
        version: request.options.version.clone(),
        architecture,
        fields,
    };
    plan.add(release::path(&request.name), Entry::generated(release.render()?, plan.epoch))?;
    warnings.extend(release.warning());
    let naming = Naming {
        name: request.name.clone(),
        version: request.options.version.clone(),
        architecture,
    };
    let mut taken = BTreeMap::new();
    for (format, names) in
        request.options.formats.iter().zip(naming.files(&request.options.formats))
    {
        if let Some(other) = taken.insert(names.file.clone(), format) {
            bail!("{other} and {format} would both be {}: pack one at a time", names.file);
        }
    }
    Ok(Prepared {
        plan,
        naming,
        left_out,
        in_base,
        package_information,
        debug,
        stripped: Stripped::default(),
        warnings,
        against: Vec::new(),
        unrequested,
    })
}

/// Returns the files that may be left out unless something in the extension needs them. There are
/// none if programs outside of the extension may need them: those of extensions that are packed
/// against this one, or those of a base.
fn find_unrequested(request: &PackRequest, in_base: &[Cpv]) -> Result<Unrequested> {
    let keeps_database = request.options.keep.iter().any(PruneRuleName::is_database);
    if request.options.package_information || keeps_database || !in_base.is_empty() {
        return Ok(Unrequested::default());
    }
    Unrequested::read(&request.root)
}

fn prune_rules<'a>(
    request: &'a PackRequest,
    unrequested: &'a Unrequested,
) -> Result<PruneRules<'a>> {
    let options = &request.options;
    let choice = PruneChoice {
        keep: &options.keep,
        locales: &options.locales,
        expose: &options.expose,
        charsets: &options.charsets,
        unused: options.unused_libraries,
    };
    PruneRules::load(choice, unrequested)
}

fn expose(
    request: &PackRequest,
    plan: &mut FileTree,
    warnings: &mut Vec<String>,
) -> Result<ExposedPrograms> {
    if request.options.expose.is_empty() {
        return Ok(ExposedPrograms::default());
    }
    let roots: Vec<RootDir> = request.options.bases.iter().map(|base| base.root.clone()).collect();
    let exposed = expose::apply(plan, &request.options.expose, &roots)?;
    if roots.is_empty() {
        warnings.push(
            "nothing says which programs the target has, and a link in /usr/bin hides one of the \
             same name; name a root directory like the target's with --base"
                .to_owned(),
        );
    }
    if !exposed.taken.is_empty() {
        let taken = exposed.taken.join(", ");
        warnings.push(format!("not exposed, since the target has them: {taken}"));
    }
    Ok(exposed)
}

/// Adds the files for systemd and other readers on the target. Returns whether systemd must read
/// them when the extension is attached.
fn integrate(
    request: &PackRequest,
    exposed: &ExposedPrograms,
    plan: &mut FileTree,
    warnings: &mut Vec<String>,
) -> Result<bool> {
    let (name, options) = (&request.name, &request.options);
    let roots: Vec<RootDir> = options.bases.iter().map(|base| base.root.clone()).collect();
    let integration = Integration::plan(plan, name, &options.state, &roots)?;
    let placed = integration.place(plan, exposed)?;
    if !placed.taken.is_empty() {
        warnings.push(format!("left to the target, which has them: {}", placed.taken.join(", ")));
    }
    warnings.extend(placed.without_effect);
    warnings.extend(integration.states.iter().filter(|state| state.is_implied).map(|state| {
        let path = request.root.eprefix().as_path().join(&state.below);
        format!(
            "{} is a link to {} in the extension, because a tmpfiles rule makes it and EPREFIX is \
             read-only on a target",
            path.escaped(),
            state.place
        )
    }));
    services::enable_units(plan, name, &options.start, &placed.commands)?;
    state::move_out(plan, name, &integration.states)?;
    Ok(placed.is_for_manager || !placed.commands.is_empty())
}

/// Returns a warning if entries of the root have an access control list.
fn describe_lists(with_list: &[PathBuf]) -> Option<String> {
    let first = with_list.first()?;
    Some(format!(
        "access control lists (acl(5)) of the root are not in the extension, because users and groups \
         differ between machines; {} entries have one, /{} first, and keep the rights of their owner, \
         their group and others",
        with_list.len(),
        first.escaped()
    ))
}

/// Returns a warning if the root has entries outside of the prefix.
fn left_outside(root: &FinalRoot) -> Result<Vec<String>> {
    let outside = scan::list_outside(&root.eroot(), root.path())?;
    let Some(first) = outside.first() else { return Ok(Vec::new()) };
    Ok(vec![format!(
        "{} entries of the root are not in the prefix and will not be in the extension, /{} first",
        outside.len(),
        first.escaped()
    )])
}
