//! Extensions that are attached together to one target, each over those whose names come before its own.

use anyhow::Result;

use crate::base::level::Level;
use crate::base::names::PrefixName;
use crate::fstree::entries::FileTree;
use crate::imagefmt::format::Format;
use crate::sysext::order;
use crate::sysext::target::overlay::{self, Layer, OtherExtension};
use crate::sysext::target::{AttachSubject, TargetCheck, TargetFinding, TargetRule};

/// Number of findings of a rule about two extensions that are listed one by one.
const LISTED: usize = 5;

/// An extension among those that are attached together.
#[derive(Clone, Debug)]
pub(crate) struct StackedExtension {
    /// Name under which it is attached.
    pub name: PrefixName,
    /// Content, with the bytes of the extension-release file.
    pub tree: FileTree,
    /// Format of the image.
    pub format: Format,
    /// True if the image is signed.
    pub signed: bool,
    /// True if it is examined. Others are there already, and only what they stop is warned of.
    pub is_examined: bool,
}

impl TargetCheck {
    /// Returns the findings about attaching all `extensions` together.
    ///
    /// An extension that systemd will not attach is only warned of, since all others are attached
    /// nonetheless.
    pub(crate) fn examine_stack(
        &self,
        mut extensions: Vec<StackedExtension>,
    ) -> Result<Vec<TargetFinding>> {
        extensions
            .sort_by(|one, other| order::compare_names(one.name.as_str(), other.name.as_str()));
        let mut findings = Vec::new();
        let mut below: Vec<(Layer, bool)> = Vec::new();
        for extension in extensions {
            let mut own = self.examine_alone(&extension)?;
            for (layer, _) in below.iter().filter(|(_, is_new)| *is_new || extension.is_examined) {
                own.extend(shorten(overlay::compare_layer(&extension.tree, layer)?));
            }
            for finding in &mut own {
                finding.extension = Some(extension.name.clone());
            }
            findings.extend(own);
            let other = OtherExtension {
                name: extension.name.to_string(),
                plan: extension.tree,
                is_above: false,
                is_listed: false,
            };
            below.push((Layer::Extension(other), extension.is_examined));
        }
        Ok(self.waive_and_sort(findings))
    }

    fn examine_alone(&self, extension: &StackedExtension) -> Result<Vec<TargetFinding>> {
        let mut findings = shorten(self.compare_with_root(AttachSubject {
            plan: &extension.tree,
            name: &extension.name,
            formats: &[extension.format],
            signed: extension.signed,
            lists_others: false,
        })?);
        for finding in &mut findings {
            let is_passed_over = match finding.rule {
                // The os-release of an OS in an extension stops all of them.
                TargetRule::ReleaseMatch => finding.path.is_none(),
                rule => rule == TargetRule::OldSystemd,
            };
            if is_passed_over {
                finding.level = finding.level.max(Level::Warning);
            }
        }
        if !extension.is_examined {
            findings.retain(|finding| finding.level == Level::Error);
            for finding in &mut findings {
                finding.level = Level::Warning;
            }
        }
        Ok(findings)
    }
}

/// Counts the findings of a rule after the first ones.
fn shorten(findings: Vec<TargetFinding>) -> Vec<TargetFinding> {
    let mut kept: Vec<TargetFinding> = Vec::new();
    let mut more: Vec<(TargetFinding, usize)> = Vec::new();
    for finding in findings {
        let is_like =
            |other: &TargetFinding| (other.rule, other.level) == (finding.rule, finding.level);
        if kept.iter().filter(|other| is_like(other)).count() < LISTED {
            kept.push(finding);
        } else if let Some((_, count)) = more.iter_mut().find(|(other, _)| is_like(other)) {
            *count += 1;
        } else {
            more.push((finding, 1));
        }
    }
    kept.extend(more.into_iter().map(|(first, count)| {
        let detail = format!("{} ({count} like this)", first.detail);
        TargetFinding { detail, ..first }
    }));
    kept
}
