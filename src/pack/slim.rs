//! Leaving out what a running program does not need, by the rules in profiles/slim.toml.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Serialize};

use super::link_editor;
use super::plan::{Kind, Plan};
use crate::data;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleData {
    id: String,
    why: String,
    paths: Vec<String>,
    only: Option<Condition>,
}

#[derive(Debug, Deserialize)]
struct RulesData {
    rule: Vec<RuleData>,
}

/// A condition beyond a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Condition {
    /// A name that only the link editor reads.
    LinkEditor,
}

/// A rule of what is left out.
#[derive(Debug)]
struct Rule {
    id: String,
    why: String,
    paths: GlobSet,
    only: Option<Condition>,
}

/// The rules that are in force.
#[derive(Debug)]
pub struct Rules(Vec<Rule>);

/// What one rule left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// The rule.
    pub rule: String,
    /// Its reason.
    pub why: String,
    /// How many entries.
    pub entries: u64,
    /// How many bytes they hold.
    pub bytes: u64,
}

impl Rules {
    /// All rules but those in `keep`.
    pub fn load(keep: &[String]) -> Result<Self> {
        let data: RulesData = data::toml("slim.toml")?;
        let known: Vec<&str> = data.rule.iter().map(|rule| rule.id.as_str()).collect();
        if let Some(unknown) = keep.iter().find(|id| !known.contains(&id.as_str())) {
            bail!("there is no rule {unknown:?} to keep; there are {}", known.join(", "));
        }
        let mut rules = Vec::new();
        for rule in data.rule.into_iter().filter(|rule| !keep.contains(&rule.id)) {
            let paths = glob_set(&rule.paths)
                .with_context(|| format!("the rule {} in profiles/slim.toml is wrong", rule.id))?;
            rules.push(Rule { id: rule.id, why: rule.why, paths, only: rule.only });
        }
        Ok(Self(rules))
    }

    /// Takes out of `plan` what the rules name, the links to it, and the directories that held
    /// nothing else.
    pub fn apply(&self, plan: &mut Plan) -> Result<Vec<LeftOut>> {
        let link_editor = self.0.iter().any(|rule| rule.only.is_some());
        let names = if link_editor { link_editor::names(plan)? } else { BTreeSet::new() };
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

    /// The rule that `path` falls under, by itself or with the directory that it is in.
    fn matching(
        &self,
        plan: &Plan,
        path: &Path,
        link_editor_names: &BTreeSet<PathBuf>,
        out: &BTreeMap<PathBuf, usize>,
    ) -> Option<usize> {
        let below = path.strip_prefix(plan.prefix_path()).ok()?;
        if let Some(rule) = path.parent().and_then(|parent| out.get(parent)) {
            return Some(*rule);
        }
        self.0.iter().position(|rule| {
            rule.paths.is_match(below)
                && match rule.only {
                    None => true,
                    Some(Condition::LinkEditor) => link_editor_names.contains(path),
                }
        })
    }

    fn count(&self, plan: &Plan, out: &BTreeMap<PathBuf, usize>) -> Vec<LeftOut> {
        let mut counts = vec![(0, 0); self.0.len()];
        for (path, rule) in out {
            if let (Some(count), Some(entry)) = (counts.get_mut(*rule), plan.entries.get(path)) {
                count.0 += 1;
                count.1 += entry.size();
            }
        }
        self.0
            .iter()
            .zip(counts)
            .filter(|(_, (entries, _))| *entries > 0)
            .map(|(rule, (entries, bytes))| LeftOut {
                rule: rule.id.clone(),
                why: rule.why.clone(),
                entries,
                bytes,
            })
            .collect()
    }
}

/// Links that would point at nothing go with what they pointed at.
fn add_links_to(plan: &Plan, out: &mut BTreeMap<PathBuf, usize>) {
    loop {
        let dangling: Vec<(PathBuf, usize)> = plan
            .entries
            .iter()
            .filter(|(path, _)| !out.contains_key(*path))
            .filter_map(|(path, entry)| {
                let Kind::Link(target) = &entry.kind else { return None };
                Some((path.clone(), *out.get(&pointed_at(path, target))?))
            })
            .collect();
        if dangling.is_empty() {
            return;
        }
        out.extend(dangling);
    }
}

/// Where in the image the link at `path` points to, as far as its text says.
pub(super) fn pointed_at(path: &Path, target: &Path) -> PathBuf {
    let mut place = match path.parent() {
        Some(parent) if target.is_relative() => parent.to_owned(),
        _ => PathBuf::new(),
    };
    for part in target.components() {
        match part {
            Component::ParentDir => {
                place.pop();
            }
            Component::Normal(name) => place.push(name),
            _ => {}
        }
    }
    place
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

/// Whether `name` is a library's file name with something after `.so`.
pub(super) fn has_library_version(name: &OsStr) -> bool {
    name.to_string_lossy().contains(".so.")
}

#[cfg(test)]
mod tests {
    use super::super::plan::Entry;
    use super::*;

    fn plan(files: &[&str], links: &[(&str, &str)]) -> Plan {
        let mut plan = Plan::new(&"/opt/x".parse().unwrap(), 1);
        let inside = |path: &str| PathBuf::from(format!("opt/x/{path}"));
        for file in files {
            plan.add(inside(file), Entry::made(b"12".to_vec(), 1)).unwrap();
        }
        for (link, target) in links {
            let entry = Entry { kind: Kind::Link(target.into()), ..Entry::made(Vec::new(), 1) };
            plan.add(inside(link), entry).unwrap();
        }
        plan
    }

    fn has(plan: &Plan, path: &str) -> bool {
        plan.entries.contains_key(&PathBuf::from(format!("opt/x/{path}")))
    }

    #[test]
    fn rules_take_whole_directories_and_links_to_them() {
        let mut plan = plan(
            &["usr/bin/a", "usr/include/sys/a.h", "usr/share/man/man1/a.1", "usr/lib64/p/x.la"],
            &[("usr/man", "share/man"), ("usr/bin/b", "a")],
        );
        let left_out = Rules::load(&[]).unwrap().apply(&mut plan).unwrap();
        assert!(has(&plan, "usr/bin/a") && has(&plan, "usr/bin/b"));
        assert!(has(&plan, "usr/lib64/p/x.la"), "a plugin's .la file is read when it is loaded");
        assert!(!has(&plan, "usr/include") && !has(&plan, "usr/man") && !has(&plan, "usr/share"));
        let headers = left_out.iter().find(|left| left.rule == "headers").unwrap();
        assert_eq!((headers.entries, headers.bytes), (3, 2));
    }

    #[test]
    fn rules_can_be_kept() {
        let mut plan = plan(&["usr/include/a.h", "usr/lib/a.a"], &[]);
        Rules::load(&["headers".into()]).unwrap().apply(&mut plan).unwrap();
        assert!(has(&plan, "usr/include/a.h") && !has(&plan, "usr/lib/a.a"));
        let error = Rules::load(&["haeders".into()]).unwrap_err().to_string();
        assert!(error.contains("headers, static"), "{error}");
    }
}
