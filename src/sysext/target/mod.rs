//! Effects of attaching the extension to a target. The target's tree is examined, and other
//! extensions that are attached beside it. Nothing is mounted or changed.
//!
//! systemd-sysext mounts /usr and /opt of extensions over the target's by overlayfs. A file of an
//! extension hides the entry at the same path below it. Directories are merged, and a merged
//! directory has the mode and owner of the uppermost one.

mod caches;
mod matching;
mod needs;
mod overlay;
mod root;
mod stack;

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail};
use serde::{Deserialize, Serialize};

use crate::base::escape::{self, Escape};
use crate::base::input;
use crate::base::level::Level;
use crate::base::limits::TEXT;
use crate::base::names::PrefixName;
use crate::fstree::entries::{ContentSource, EntryKind, FileTree};
use crate::fstree::root_dir::RootDir;
use crate::host::os_release;
use crate::imagefmt::format::Format;
use crate::imagefmt::inspect;
use crate::sysext::target::overlay::{Layer, OtherExtension};
use crate::sysext::target::root::TargetRoot;
pub(crate) use crate::sysext::target::stack::StackedExtension;
use crate::sysext::{order, release};

/// Path that no extension may have (systemd-sysext(8)).
const OS_RELEASE: &str = "usr/lib/os-release";

/// Rules that a finding can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TargetRule {
    /// A file of the target or another extension is hidden by one with other content.
    ShadowedFile,
    /// A list of what is there, like a cache, is hidden by another one.
    HiddenCache,
    /// A directory is hidden by an entry that is no directory.
    HiddenDirectory,
    /// A link is hidden by a directory.
    HiddenLink,
    /// A directory would have another mode or owner.
    DirectoryMode,
    /// /usr or /opt itself is a link.
    LinkedHierarchy,
    /// The extension-release file does not match the target.
    ReleaseMatch,
    /// The target's systemd is too old.
    OldSystemd,
    /// A kernel of the target is too old.
    OldKernel,
    /// The target does not show which versions it has.
    UnknownTarget,
}

/// Rule, name, consequence and remedy.
const RULES: &[(TargetRule, &str, &str, &str)] = &[
    (
        TargetRule::ShadowedFile,
        "shadowed-file",
        "whoever uses the file gets the extension's as long as it is attached",
        "leave it out (--mangle), or give the prefix an EPREFIX of its own",
    ),
    (
        TargetRule::HiddenCache,
        "hidden-cache",
        "what the hidden one alone lists is not found, like schemas, icons, file types or modules",
        "make it once over all that is attached together, for the extension whose name comes last, \
         and leave it out of the others (--mangle); in an image build, let the names of the \
         extensions come in the order of --sysexts",
    ),
    (
        TargetRule::HiddenDirectory,
        "hidden-directory",
        "all that the directory holds is gone as long as the extension is attached",
        "take the entry out of the extension, or make it a directory (--mangle)",
    ),
    (
        TargetRule::HiddenLink,
        "hidden-link",
        "what is reached through the link is gone as long as the extension is attached",
        "put the content where the link leads (--mangle), or take an EPREFIX that leads through \
         no link of the target, like one below /usr/lib",
    ),
    (
        TargetRule::DirectoryMode,
        "directory-mode",
        "the extension's mode and owner hold for everybody as long as it is attached",
        "give the directory the target's mode and owner (--mangle), or the other way round",
    ),
    (
        TargetRule::LinkedHierarchy,
        "linked-hierarchy",
        "systemd attaches where the link leads, and that becomes read-only meanwhile",
        "take an EPREFIX below /usr, or see that nothing on the target writes there",
    ),
    (
        TargetRule::ReleaseMatch,
        "release-match",
        "systemd attaches no extension that does not fit its os-release",
        "pack with the target's ID and VERSION_ID or SYSEXT_LEVEL (--release), for its \
         architecture, or for every distribution (no ID)",
    ),
    (
        TargetRule::OldSystemd,
        "old-systemd",
        "what a systemd does not know it passes over, or it refuses the extension",
        "bring the target a newer systemd, or do without the format or the field",
    ),
    (
        TargetRule::OldKernel,
        "old-kernel",
        "a kernel that cannot mount the image attaches nothing",
        "pack another format or compressor (--format)",
    ),
    (
        TargetRule::UnknownTarget,
        "unknown-target",
        "whether the extension can be attached there was not looked at in this respect",
        "name the root directory that the target boots",
    ),
];

impl FromStr for TargetRule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::find(text).with_context(|| {
            let names = Self::names().collect::<Vec<_>>().join(", ");
            format!("there is no rule {text:?}; there are {names}")
        })
    }
}

impl TargetRule {
    fn row(self) -> (&'static str, &'static str, &'static str) {
        let row = RULES.iter().find(|(rule, ..)| *rule == self);
        row.map_or(("", "", ""), |(_, name, stake, remedy)| (name, stake, remedy))
    }

    /// Returns the name by which the user waives it.
    pub(crate) fn name(self) -> &'static str {
        self.row().0
    }

    /// Returns the names of all rules.
    pub(crate) fn names() -> impl Iterator<Item = &'static str> {
        RULES.iter().map(|(_, name, ..)| *name)
    }

    /// Returns the rule named `name`.
    pub(crate) fn find(name: &str) -> Option<Self> {
        RULES.iter().find(|(_, known, ..)| *known == name).map(|(rule, ..)| *rule)
    }
}

/// A finding about the target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TargetFinding {
    /// Rule that is broken.
    pub rule: TargetRule,
    /// Severity.
    pub level: Level,
    /// Path on the target; `None` if the finding is about no path.
    #[serde(default, with = "escape::optional_path", skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Extension that the finding is about; `None` if only one is examined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extension: Option<PrefixName>,
    /// Description of the fact.
    pub detail: String,
    /// Consequence of leaving it so.
    pub stake: String,
    /// Remedy.
    pub remedy: String,
    /// True if the user waived the rule.
    pub waived: bool,
}

impl TargetFinding {
    fn new(rule: TargetRule, level: Level, path: Option<&Path>, detail: impl Into<String>) -> Self {
        let (_, stake, remedy) = rule.row();
        Self {
            rule,
            level,
            path: path.map(|path| Path::new("/").join(path)),
            extension: None,
            detail: detail.into(),
            stake: stake.to_owned(),
            remedy: remedy.to_owned(),
            waived: false,
        }
    }

    /// Returns whether it forbids packing.
    pub(crate) fn is_refusal(&self) -> bool {
        self.level == Level::Error && !self.waived
    }

    /// Returns the fact and its consequence as text for people.
    pub(crate) fn text(&self) -> String {
        let extension = self.extension.as_ref().map(|name| format!("{name}: "));
        let path = self.path.as_ref().map(|path| format!("{} ", path.escaped()));
        let waived = if self.waived { " (waived)" } else { "" };
        format!(
            "{}{}{}; {}{waived}",
            extension.unwrap_or_default(),
            path.unwrap_or_default(),
            self.detail,
            self.stake
        )
    }
}

/// A target, and the other extensions that are attached there.
#[derive(Clone, Debug)]
pub(crate) struct TargetCheck {
    root: RootDir,
    beside: Vec<PathBuf>,
    waived: Vec<TargetRule>,
}

/// The extension that is to be attached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttachSubject<'a> {
    /// Content of the extension.
    pub plan: &'a FileTree,
    /// Name under which it is attached.
    pub name: &'a PrefixName,
    /// Formats that will be written.
    pub formats: &'a [Format],
    /// True if the images are signed.
    pub signed: bool,
    /// True if extensions beside it hold packages of the same prefix, over which its caches were made
    /// as well.
    pub lists_others: bool,
}

impl TargetCheck {
    /// Opens the target at `root` with the extensions `beside`, which are images or directories.
    /// Fails if `root` is no root directory of an OS. Findings of `waived` do not count.
    pub(crate) fn open(root: &Path, beside: &[PathBuf], waived: Vec<TargetRule>) -> Result<Self> {
        let Some(opened) = RootDir::open_system(root)? else {
            bail!(
                "{} is not the root directory of a target: it has no directory usr",
                root.escaped()
            );
        };
        if let Some(missing) = beside.iter().find(|path| !path.exists()) {
            bail!("there is no extension {}", missing.escaped());
        }
        Ok(Self { root: opened, beside: beside.to_vec(), waived })
    }

    /// Returns the same target, where the extensions `more` are attached too.
    pub(crate) fn with_extensions(&self, more: &[PathBuf]) -> Self {
        let beside = self.beside.iter().chain(more).cloned().collect();
        Self { beside, ..self.clone() }
    }

    /// Returns the findings about attaching `subject`.
    pub(crate) fn simulate(&self, subject: AttachSubject<'_>) -> Result<Vec<TargetFinding>> {
        let mut findings = self.compare_with_root(subject)?;
        for path in &self.beside {
            let plan = inspect::read(path)
                .with_context(|| format!("could not read the extension {}", path.escaped()))?;
            let name = inspect::name_of(&plan);
            let is_above = name.is_some_and(|name| {
                order::compare_names(name.as_str(), subject.name.as_str()).is_gt()
            });
            let name = path.file_name().unwrap_or_default().escaped().to_string();
            let is_listed = subject.lists_others;
            let other = OtherExtension { name, plan, is_above, is_listed };
            findings.extend(overlay::compare_layer(subject.plan, &Layer::Extension(other))?);
        }
        Ok(self.waive_and_sort(findings))
    }

    /// Returns the findings about attaching `subject` alone.
    fn compare_with_root(&self, subject: AttachSubject<'_>) -> Result<Vec<TargetFinding>> {
        let target = TargetRoot(&self.root);
        let fields = os_release::parse(&extension_release(subject)?);
        let mut findings = overlay::compare_layer(subject.plan, &Layer::root(&self.root)?)?;
        findings.extend(matching::check_matching(&target, &fields)?);
        findings.extend(needs::check_needs(&target, &fields, subject.formats, subject.signed)?);
        // systemd-sysext recognizes the tree of an OS by this file, and then attaches nothing.
        if subject.plan.entries.contains_key(Path::new(OS_RELEASE)) {
            let detail =
                "is in the extension, so that systemd takes it for a whole OS and attaches nothing";
            let path = Some(Path::new(OS_RELEASE));
            findings.push(TargetFinding::new(TargetRule::ReleaseMatch, Level::Error, path, detail));
        }
        Ok(findings)
    }

    fn waive_and_sort(&self, mut findings: Vec<TargetFinding>) -> Vec<TargetFinding> {
        for finding in &mut findings {
            finding.waived = self.waived.contains(&finding.rule);
        }
        let key = |finding: &TargetFinding| {
            (finding.level, finding.rule, finding.extension.clone(), finding.path.clone())
        };
        findings.sort_by_cached_key(key);
        findings
    }
}

fn extension_release(subject: AttachSubject<'_>) -> Result<String> {
    let path = release::path(subject.name);
    let Some(EntryKind::File(content)) = subject.plan.entries.get(&path).map(|entry| &entry.kind)
    else {
        bail!("the extension has no file /{}, without which nothing is attached", path.escaped());
    };
    Ok(match &content.source {
        ContentSource::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        ContentSource::Disk(file) => input::read_text(file, TEXT)?,
    })
}
