//! Removal of files that a running program does not need, by the rules in profiles/slim.toml.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Serialize};

use crate::base::data;
use crate::base::input;
use crate::fstree::entries::{ContentSource, Entry, EntryKind, FileTree};
use crate::sysext::dev_links;
use crate::sysext::library_names::pointed_at;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PruneRuleData {
    id: String,
    why: String,
    paths: Vec<String>,
    only: Option<PruneCondition>,
}

#[derive(Debug, Deserialize)]
struct PruneRulesData {
    rule: Vec<PruneRuleData>,
}

impl PruneRulesData {
    fn load() -> Result<Self> {
        data::toml("slim.toml")
    }
}

/// Bytes of a script that are examined.
const SCRIPT: u64 = 256 << 10;

/// A condition in addition to the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum PruneCondition {
    /// A name that only the link editor reads.
    LinkEditor,
    /// A script that answers `--cflags` and `--libs`.
    BuildAnswers,
    /// A directory of a language that is not wanted.
    Locale,
}

/// A rule that names files to leave out.
#[derive(Debug)]
struct PruneRule {
    id: String,
    why: String,
    paths: GlobSet,
    only: Option<PruneCondition>,
}

/// Name of a rule in profiles/slim.toml.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct PruneRuleName(String);

impl FromStr for PruneRuleName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let known = PruneRules::names()?;
        if !known.iter().any(|id| id == text) {
            bail!("there is no rule {text:?} to keep; there are {}", known.join(", "));
        }
        Ok(Self(text.to_owned()))
    }
}

/// A language, or its variant for a country: `de`, `pt_BR` (locale(7)).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Locale(String);

impl FromStr for Locale {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_@.-".contains(c);
        if !text.starts_with(|c: char| c.is_ascii_alphabetic()) || !text.chars().all(plain) {
            bail!("{text:?} has to be a language, like de or pt_BR");
        }
        Ok(Self(text.to_owned()))
    }
}

impl Locale {
    /// Returns whether the directory `name` is of this language. `de` also wants `de_AT`, and
    /// `de_AT` also wants `de`, on which it is built.
    fn matches(&self, name: &str) -> bool {
        let parts = |text: &str| -> Vec<String> {
            text.split(['_', '.', '@']).map(str::to_owned).collect()
        };
        let (own, name) = (parts(&self.0), parts(name));
        own.iter().zip(&name).all(|(own, name)| own == name)
    }
}

/// Rules that are in force.
#[derive(Debug)]
pub(crate) struct PruneRules {
    rules: Vec<PruneRule>,
    /// Languages that are wanted. An empty list keeps all languages.
    locales: Vec<Locale>,
}

/// Entries that one rule left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pruned {
    /// Name of the rule.
    pub rule: String,
    /// Reason of the rule.
    pub why: String,
    /// Number of entries.
    pub entries: u64,
    /// Number of bytes in the entries.
    pub bytes: u64,
}

impl PruneRules {
    /// Returns the names of all rules.
    pub(crate) fn names() -> Result<Vec<String>> {
        Ok(PruneRulesData::load()?.rule.into_iter().map(|rule| rule.id).collect())
    }

    /// Loads all rules except those in `keep`. If `locales` lists languages, translations into
    /// other languages are left out.
    pub(crate) fn load(keep: &[PruneRuleName], locales: &[Locale]) -> Result<Self> {
        let data = PruneRulesData::load()?;
        let is_kept = |rule: &PruneRuleData| keep.iter().any(|name| name.0 == rule.id);
        let mut rules = Vec::new();
        for rule in data.rule.into_iter().filter(|rule| !is_kept(rule)) {
            let paths = glob_set(&rule.paths)
                .with_context(|| format!("the rule {} in profiles/slim.toml is wrong", rule.id))?;
            rules.push(PruneRule { id: rule.id, why: rule.why, paths, only: rule.only });
        }
        Ok(Self { rules, locales: locales.to_vec() })
    }

    /// Removes from `plan` the entries that the rules name, the links to them, and the directories
    /// that become empty.
    pub(crate) fn apply(&self, plan: &mut FileTree) -> Result<Vec<Pruned>> {
        let link_editor =
            self.rules.iter().any(|rule| rule.only == Some(PruneCondition::LinkEditor));
        let names = if link_editor { dev_links::names(plan)? } else { BTreeSet::new() };
        let mut out: BTreeMap<PathBuf, usize> = BTreeMap::new();
        for path in plan.entries.keys() {
            if let Some(rule) = self.matching(plan, path, &names, &out) {
                out.insert(path.clone(), rule);
            }
        }
        add_links_to(plan, &mut out);
        let left_out = self.count(plan, &out);
        plan.remove(&out.into_keys().collect());
        Ok(left_out)
    }

    /// Returns the rule that matches `path` or the directory that it is in.
    fn matching(
        &self,
        plan: &FileTree,
        path: &Path,
        link_editor_names: &BTreeSet<PathBuf>,
        out: &BTreeMap<PathBuf, usize>,
    ) -> Option<usize> {
        let below = path.strip_prefix(plan.prefix_path()).ok()?;
        if let Some(rule) = path.parent().and_then(|parent| out.get(parent)) {
            return Some(*rule);
        }
        self.rules.iter().position(|rule| {
            rule.paths.is_match(below)
                && match rule.only {
                    None => true,
                    Some(PruneCondition::LinkEditor) => link_editor_names.contains(path),
                    Some(PruneCondition::BuildAnswers) => answers_builds(plan, path),
                    Some(PruneCondition::Locale) => self.is_unwanted_locale(plan, path),
                }
        })
    }

    fn is_unwanted_locale(&self, plan: &FileTree, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // C and POSIX are no translations, and every program may request them.
        !self.locales.is_empty()
            && plan.entries.get(path).is_some_and(Entry::is_directory)
            && !matches!(parts_of(&name), "C" | "POSIX")
            && !self.locales.iter().any(|locale| locale.matches(&name))
    }

    fn count(&self, plan: &FileTree, out: &BTreeMap<PathBuf, usize>) -> Vec<Pruned> {
        let mut counts = vec![(0, 0); self.rules.len()];
        for (path, rule) in out {
            if let (Some(count), Some(entry)) = (counts.get_mut(*rule), plan.entries.get(path)) {
                count.0 += 1;
                count.1 += entry.size();
            }
        }
        self.rules
            .iter()
            .zip(counts)
            .filter(|(_, (entries, _))| *entries > 0)
            .map(|(rule, (entries, bytes))| Pruned {
                rule: rule.id.clone(),
                why: rule.why.clone(),
                entries,
                bytes,
            })
            .collect()
    }
}

/// Returns whether a script prints the options to build against a library. A script that cannot be
/// read causes an error when it is packed.
fn answers_builds(plan: &FileTree, path: &Path) -> bool {
    let Some(Entry { kind: EntryKind::File(content), .. }) = plan.entries.get(path) else {
        return false;
    };
    let mut start = Vec::new();
    let is_read = match &content.source {
        ContentSource::Bytes(bytes) => {
            bytes.as_slice().take(SCRIPT).read_to_end(&mut start).is_ok()
        }
        ContentSource::Disk(disk) => input::open_walked(disk)
            .is_ok_and(|file| file.take(SCRIPT).read_to_end(&mut start).is_ok()),
    };
    let has = |word: &str| memchr::memmem::find(&start, word.as_bytes()).is_some();
    is_read && start.starts_with(b"#!") && has("--cflags") && has("--libs")
}

/// Returns the language in the name of a directory.
fn parts_of(name: &str) -> &str {
    name.split(['_', '.', '@']).next().unwrap_or_default()
}

/// Adds the links that would dangle because their targets are left out.
fn add_links_to(plan: &FileTree, out: &mut BTreeMap<PathBuf, usize>) {
    loop {
        let dangling: Vec<(PathBuf, usize)> = plan
            .entries
            .iter()
            .filter(|(path, _)| !out.contains_key(*path))
            .filter_map(|(path, entry)| {
                let EntryKind::Link(target) = &entry.kind else { return None };
                Some((path.clone(), *out.get(&pointed_at(path, target))?))
            })
            .collect();
        if dangling.is_empty() {
            return;
        }
        out.extend(dangling);
    }
}

fn glob_set(patterns: &[impl AsRef<str>]) -> Result<GlobSet> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let glob = GlobBuilder::new(pattern.as_ref())
            .literal_separator(true)
            .empty_alternates(true)
            .build()?;
        set.add(glob);
    }
    Ok(set.build()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(files: &[&str], links: &[(&str, &str)]) -> FileTree {
        let mut plan = FileTree::new(&"/opt/x".parse().unwrap(), 1);
        let inside = |path: &str| PathBuf::from(format!("opt/x/{path}"));
        for file in files {
            plan.add(inside(file), Entry::generated(b"12".to_vec(), 1)).unwrap();
        }
        for (link, target) in links {
            let entry =
                Entry { kind: EntryKind::Link(target.into()), ..Entry::generated(Vec::new(), 1) };
            plan.add(inside(link), entry).unwrap();
        }
        plan
    }

    fn has(plan: &FileTree, path: &str) -> bool {
        plan.entries.contains_key(&PathBuf::from(format!("opt/x/{path}")))
    }

    #[test]
    fn rules_take_whole_directories_and_links_to_them() {
        let mut plan = plan(
            &["usr/bin/a", "usr/include/sys/a.h", "usr/share/man/man1/a.1", "usr/lib64/p/x.la"],
            &[("usr/man", "share/man"), ("usr/bin/b", "a")],
        );
        let left_out = PruneRules::load(&[], &[]).unwrap().apply(&mut plan).unwrap();
        assert!(has(&plan, "usr/bin/a") && has(&plan, "usr/bin/b"));
        assert!(has(&plan, "usr/lib64/p/x.la"), "a plugin's .la file is read when it is loaded");
        assert!(!has(&plan, "usr/include") && !has(&plan, "usr/man") && !has(&plan, "usr/share"));
        let headers = left_out.iter().find(|left| left.rule == "headers").unwrap();
        assert_eq!((headers.entries, headers.bytes), (3, 2));
    }

    #[test]
    fn rules_can_be_kept() {
        let mut plan = plan(&["usr/include/a.h", "usr/lib/a.a"], &[]);
        PruneRules::load(&["headers".parse().unwrap()], &[]).unwrap().apply(&mut plan).unwrap();
        assert!(has(&plan, "usr/include/a.h") && !has(&plan, "usr/lib/a.a"));
        let error = "haeders".parse::<PruneRuleName>().unwrap_err().to_string();
        assert!(error.contains("headers, static"), "{error}");
    }

    #[test]
    fn scripts_that_answer_builds() {
        let mut plan = plan(&["usr/bin/other-config"], &[("usr/bin/a-config", "x-a-config")]);
        for (name, text) in [
            ("x-a-config", "#!/bin/sh\ncase $1 in --cflags) echo;; --libs) echo -la;; esac\n"),
            ("keyboard-config", "#!/bin/sh\nexec setup\n"),
        ] {
            let entry = Entry::generated(text.as_bytes().to_vec(), 1);
            plan.add(PathBuf::from("opt/x/usr/bin").join(name), entry).unwrap();
        }
        PruneRules::load(&[], &[]).unwrap().apply(&mut plan).unwrap();
        assert!(!has(&plan, "usr/bin/x-a-config") && !has(&plan, "usr/bin/a-config"));
        assert!(has(&plan, "usr/bin/other-config") && has(&plan, "usr/bin/keyboard-config"));
    }

    #[test]
    fn languages_by_list() {
        let names = ["C.UTF-8", "de", "de_AT", "pt", "pt_BR", "sr@latin", "fr"];
        let mut files: Vec<String> =
            names.iter().map(|name| format!("usr/share/locale/{name}/LC_MESSAGES/a.mo")).collect();
        files.push("usr/share/locale/locale.alias".into());
        let mut all = plan(&files.iter().map(String::as_str).collect::<Vec<_>>(), &[]);
        let mut few = all.clone();
        PruneRules::load(&[], &[]).unwrap().apply(&mut all).unwrap();
        assert_eq!(all.count_totals().files, 8, "without a list nothing goes");
        let wanted = ["de", "pt_BR"].map(|text| text.parse().unwrap());
        let left_out = PruneRules::load(&[], &wanted).unwrap().apply(&mut few).unwrap();
        for name in names {
            let is_wanted = !matches!(name, "sr@latin" | "fr");
            assert_eq!(has(&few, &format!("usr/share/locale/{name}")), is_wanted, "{name}");
        }
        assert!(has(&few, "usr/share/locale/locale.alias"));
        assert_eq!(left_out[0].rule, "locales");
        assert!("../de".parse::<Locale>().is_err());
    }
}
