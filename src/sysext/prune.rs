//! Removal of files that a running program does not need, by the rules in profiles/slim.toml.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::base::escape::Escape;
use crate::base::input;
use crate::fstree::entries::{ContentSource, Entry, EntryKind, FileTree};
use crate::sysext::charsets::{self, Charset, WantedCharsets};
use crate::sysext::expose::Expose;
use crate::sysext::library_names::pointed_at;
use crate::sysext::locale::Locale;
use crate::sysext::prune_rule::{
    PruneCondition, PruneRound, PruneRule, PruneRuleData, PruneRulesData, glob_set,
};
use crate::sysext::unrequested::Unrequested;
use crate::sysext::unused::{self, ComposedNames, UnusedLibraries};
use crate::sysext::{commands, dev_links};

pub(crate) use crate::sysext::prune_rule::PruneRuleName;

/// Bytes of a script that are examined.
const SCRIPT: u64 = 256 << 10;

/// Choices of the user about what is left out.
#[derive(Debug, Default)]
pub(crate) struct PruneChoice<'a> {
    /// Rules that are skipped.
    pub keep: &'a [PruneRuleName],
    /// Languages that are wanted. An empty list keeps all languages.
    pub locales: &'a [Locale],
    /// Programs that are linked into /usr/bin.
    pub expose: &'a [Expose],
    /// Character sets that are wanted. An empty list leaves the choice to the rule.
    pub charsets: &'a [Charset],
    /// Packages whose unused libraries are left out.
    pub unused: UnusedLibraries,
}

/// Rules that are in force.
#[derive(Debug)]
pub(crate) struct PruneRules<'a> {
    rules: Vec<PruneRule>,
    composed: Vec<ComposedNames>,
    usual_charsets: Vec<String>,
    choice: PruneChoice<'a>,
    /// Files that nobody asked for.
    unrequested: &'a Unrequested,
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
    /// Paths of the entries, if the rule decides about each file by what needs it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
}

impl PruneRules<'_> {
    /// Returns the names of all rules.
    pub(crate) fn names() -> Result<Vec<String>> {
        PruneRulesData::names()
    }
}

impl<'a> PruneRules<'a> {
    /// Loads all rules that `choice` does not skip.
    pub(crate) fn load(choice: PruneChoice<'a>, unrequested: &'a Unrequested) -> Result<Self> {
        let data = PruneRulesData::load()?;
        let is_kept = |rule: &PruneRuleData| choice.keep.iter().any(|name| name.is(&rule.id));
        let rules = data.rule.into_iter().filter(|rule| !is_kept(rule)).map(PruneRule::of);
        let rules = rules.collect::<Result<_>>()?;
        let composed = data.names.into_iter().map(|names| {
            let libraries = glob_set(&[names.libraries])?;
            Ok(ComposedNames { text: names.text, libraries })
        });
        let composed = composed.collect::<Result<_>>()?;
        Ok(Self { rules, composed, usual_charsets: data.charsets.usual, choice, unrequested })
    }

    /// Removes from `plan` the entries that the rules name, the links to them, and the directories
    /// that become empty.
    pub(crate) fn apply(&self, plan: &mut FileTree) -> Result<Vec<Pruned>> {
        let mut left_out = self.apply_round(plan, PruneRound::Paths)?;
        left_out.extend(self.apply_round(plan, PruneRound::Programs)?);
        Ok(left_out)
    }

    /// Removes from `plan` what no file in it needs: libraries, and modules for character sets. Call this
    /// when the plan is complete. Returns the removed entries, too.
    pub(crate) fn finish(&self, plan: &mut FileTree) -> Result<(Vec<Pruned>, BTreeSet<PathBuf>)> {
        let before: BTreeSet<PathBuf> = plan.entries.keys().cloned().collect();
        let mut left_out = self.apply_round(plan, PruneRound::Libraries)?;
        left_out.extend(self.apply_round(plan, PruneRound::Charsets)?);
        let is_gone = |path: &PathBuf| !plan.entries.contains_key(path);
        let gone: BTreeSet<PathBuf> = before.into_iter().filter(is_gone).collect();
        let is_module = |path: &&PathBuf| {
            self.rules
                .iter()
                .any(|rule| rule.only == Some(PruneCondition::Charset) && rule.is_at(plan, path))
        };
        let modules = gone.iter().filter(is_module).cloned().collect();
        charsets::cut_lists(plan, &modules)?;
        Ok((left_out, gone))
    }

    fn apply_round(&self, plan: &mut FileTree, round: PruneRound) -> Result<Vec<Pruned>> {
        let mut out = BTreeMap::new();
        let rules = self.rules.iter().enumerate();
        let rules: Vec<(usize, &PruneRule)> =
            rules.filter(|(_, rule)| PruneCondition::round(rule.only) == round).collect();
        let chosen = rules.iter().map(|(_, rule)| self.choose(plan, rule));
        let chosen = chosen.collect::<Result<Vec<Option<BTreeSet<PathBuf>>>>>()?;
        for path in plan.entries.keys() {
            let matching = || {
                let of =
                    |((at, rule), chosen): (&(usize, &PruneRule), &Option<BTreeSet<PathBuf>>)| {
                        let is_chosen = chosen.as_ref().is_none_or(|chosen| chosen.contains(path));
                        (is_chosen && self.is_match(rule, plan, path)).then_some(*at)
                    };
                rules.iter().zip(&chosen).find_map(of)
            };
            let above = path.parent().and_then(|parent| out.get(parent).copied());
            if let Some(rule) = above.or_else(matching) {
                out.insert(path.clone(), rule);
            }
        }
        add_links_to(plan, &mut out);
        let left_out = self.count(plan, &out);
        plan.remove(&out.into_keys().collect());
        Ok(left_out)
    }

    /// Returns the entries that meet the condition of `rule`, if that can only be told for all
    /// entries together.
    fn choose(&self, plan: &FileTree, rule: &PruneRule) -> Result<Option<BTreeSet<PathBuf>>> {
        Ok(match rule.only {
            Some(PruneCondition::LinkEditor) => Some(dev_links::names(plan)?),
            Some(PruneCondition::Uncalled) => {
                let programs = rule.files(plan, &self.unrequested.toolchain);
                let is_exposed = |path: &PathBuf| {
                    self.choice.expose.iter().any(|expose| expose.is_program_at(path))
                };
                let programs = programs.into_iter().filter(|path| !is_exposed(path)).collect();
                Some(commands::uncalled(plan, programs)?)
            }
            Some(PruneCondition::Unused) => {
                let mut libraries = rule.files(plan, &self.unrequested.toolchain);
                if self.choice.unused == UnusedLibraries::All {
                    libraries.extend(rule.files(plan, &self.unrequested.others));
                }
                let is_usual = |path: &Path| rule.is_at(plan, path);
                Some(unused::unused(plan, libraries, &self.composed, is_usual)?)
            }
            Some(PruneCondition::Charset) => {
                let modules = rule.files(plan, &self.unrequested.toolchain);
                let (named, usual) = (self.choice.charsets, self.usual_charsets.as_slice());
                Some(charsets::unneeded(plan, modules, WantedCharsets { named, usual })?)
            }
            None | Some(PruneCondition::BuildAnswers | PruneCondition::Locale) => None,
        })
    }

    fn is_match(&self, rule: &PruneRule, plan: &FileTree, path: &Path) -> bool {
        rule.is_at(plan, path)
            && match rule.only {
                Some(PruneCondition::BuildAnswers) => answers_builds(plan, path),
                Some(PruneCondition::Locale) => self.is_unwanted_locale(plan, path),
                None
                | Some(
                    PruneCondition::LinkEditor
                    | PruneCondition::Uncalled
                    | PruneCondition::Unused
                    | PruneCondition::Charset,
                ) => true,
            }
    }

    fn is_unwanted_locale(&self, plan: &FileTree, path: &Path) -> bool {
        plan.entries.get(path).is_some_and(Entry::is_directory)
            && Locale::excludes(self.choice.locales, path)
    }

    fn count(&self, plan: &FileTree, out: &BTreeMap<PathBuf, usize>) -> Vec<Pruned> {
        let left = |rule: &PruneRule| Pruned {
            rule: rule.id.clone(),
            why: rule.why.clone(),
            entries: 0,
            bytes: 0,
            paths: Vec::new(),
        };
        let mut counts: Vec<Pruned> = self.rules.iter().map(left).collect();
        for (path, at) in out {
            let (Some(count), Some(rule)) = (counts.get_mut(*at), self.rules.get(*at)) else {
                continue;
            };
            count.entries += 1;
            count.bytes += plan.entries.get(path).map_or(0, Entry::size);
            if PruneCondition::round(rule.only) != PruneRound::Paths {
                count.paths.push(Path::new("/").join(path).escaped().to_string());
            }
        }
        counts.retain(|count| count.entries > 0);
        counts
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

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

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

    fn rules(choice: PruneChoice<'_>) -> PruneRules<'_> {
        static NONE: LazyLock<Unrequested> = LazyLock::new(Unrequested::default);
        PruneRules::load(choice, &NONE).unwrap()
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
        let left_out = rules(PruneChoice::default()).apply(&mut plan).unwrap();
        assert!(has(&plan, "usr/bin/a") && has(&plan, "usr/bin/b"));
        assert!(has(&plan, "usr/lib64/p/x.la"), "a plugin's .la file is read when it is loaded");
        assert!(!has(&plan, "usr/include") && !has(&plan, "usr/man") && !has(&plan, "usr/share"));
        let headers = left_out.iter().find(|left| left.rule == "headers").unwrap();
        assert_eq!((headers.entries, headers.bytes), (3, 2));
    }

    #[test]
    fn rules_can_be_kept() {
        let mut plan = plan(&["usr/include/a.h", "usr/lib/a.a"], &[]);
        let keep = ["headers".parse().unwrap()];
        rules(PruneChoice { keep: &keep, ..PruneChoice::default() }).apply(&mut plan).unwrap();
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
        rules(PruneChoice::default()).apply(&mut plan).unwrap();
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
        rules(PruneChoice::default()).apply(&mut all).unwrap();
        assert_eq!(all.count_totals().files, 8, "without a list nothing goes");
        let wanted = ["de", "pt_BR"].map(|text| text.parse().unwrap());
        let left_out = rules(PruneChoice { locales: &wanted, ..PruneChoice::default() })
            .apply(&mut few)
            .unwrap();
        for name in names {
            let is_wanted = !matches!(name, "sr@latin" | "fr");
            assert_eq!(has(&few, &format!("usr/share/locale/{name}")), is_wanted, "{name}");
        }
        assert!(has(&few, "usr/share/locale/locale.alias"));
        assert_eq!(left_out[0].rule, "locales");
        assert!("../de".parse::<Locale>().is_err());
    }
}
