//! The packages of a year: what they are called now, and which versions and slots they have.

use std::collections::BTreeMap;

use super::Everyday;
use crate::random::Random;

/// Packages with a file each.
pub(super) const PLAIN: [&str; 4] = ["spring", "summer", "autumn", "winter"];
/// Libraries, each with a program that uses it: with `:=`, and without.
pub(super) const LIBRARIES: [(&str, &str, &str); 2] =
    [("tracked", "follows", ":="), ("loose", "lags", "")];
/// A package in several slots, and one that uses the newest of them.
pub(super) const SLOTTED: [&str; 2] = ["slotted", "picks"];
/// Packages that no other one needs.
pub(super) const LEAVES: [&str; 3] = ["follows", "lags", "picks"];

/// The packages, by the names that they had at first.
pub(super) struct Packages {
    names: BTreeMap<&'static str, String>,
    versions: BTreeMap<&'static str, Vec<u32>>,
    /// The slot of each version of the package that has several.
    slots: BTreeMap<u32, u32>,
    moves: usize,
}

impl Packages {
    /// Writes the first version of each.
    pub(super) fn new(day: &Everyday, random: &mut Random) -> Self {
        let all = PLAIN.into_iter().chain(SLOTTED);
        let all = all.chain(LIBRARIES.into_iter().flat_map(|(library, user, _)| [library, user]));
        let names = all.map(|name| (name, name.to_owned())).collect();
        let (versions, slots) = (BTreeMap::new(), BTreeMap::new());
        let mut packages = Self { names, versions, slots, moves: 0 };
        for name in PLAIN.into_iter().chain(LIBRARIES.map(|(library, _, _)| library)) {
            packages.add_version(day, random, name);
        }
        packages.add_version(day, random, "slotted");
        for (library, user, operator) in LIBRARIES {
            day.user(user, library, operator);
        }
        day.plain("picks", 1, "RDEPEND=\"test-cases/slotted:=\"\nDEPEND=\"${RDEPEND}\"");
        packages
    }

    /// The package as an argument of emerge.
    pub(super) fn atom(&self, name: &str) -> String {
        format!("test-cases/{}", self.names[name])
    }

    /// The versions of a package, the first one first.
    pub(super) fn versions(&self, name: &str) -> &[u32] {
        &self.versions[name]
    }

    /// The slots that there are of the package that has several.
    pub(super) fn slots(&self) -> Vec<u32> {
        let slots: std::collections::BTreeSet<u32> = self.slots.values().copied().collect();
        slots.into_iter().collect()
    }

    /// A new version comes into the repository.
    pub(super) fn add_version(&mut self, day: &Everyday, random: &mut Random, name: &'static str) {
        let versions = self.versions.entry(name).or_default();
        let version = versions.last().map_or(1, |last| last + 1);
        versions.push(version);
        let now = &self.names[name];
        if LIBRARIES.iter().any(|(library, _, _)| *library == name) {
            return day.library(now, version);
        }
        if name == "slotted" {
            let newest = self.slots.values().max().copied().unwrap_or(1);
            let slot = newest + u32::from(random.below(2) == 0);
            self.slots.insert(version, slot);
            return day.slotted(now, version, slot);
        }
        // What is needed is an earlier one of the list, so that there is no circle.
        let at = PLAIN.iter().position(|plain| *plain == name).unwrap();
        let needed = (at > 0).then(|| self.atom(PLAIN[random.below(at)]));
        let dependency = needed.map(|needed| format!("RDEPEND=\"{needed}\"\n"));
        // Some versions make a file that no package owns. Others remove it.
        let made = format!("\"${{EROOT}}/usr/share/made-by-{name}\"");
        let postinst = match random.below(2) {
            0 => format!("echo {version} > {made} || die"),
            _ => format!("rm -f {made}"),
        };
        let phases = format!(
            "pkg_postinst() {{\n\t{postinst}\n}}\n\
             pkg_postrm() {{\n\t[[ -n ${{REPLACED_BY_VERSION}} ]] || rm -f {made}\n}}"
        );
        let rest = dependency.unwrap_or_default() + &phases;
        day.plain(now, version, &rest);
    }

    /// A package gets another name.
    pub(super) fn rename(&mut self, day: &Everyday, name: &'static str) {
        self.moves += 1;
        let before = self.atom(name);
        self.names.insert(name, format!("{name}{}", self.moves));
        let after = self.atom(name);
        day.announce(&format!("move {before} {after}"));
        day.rename(&before, &after);
    }

    /// What was in a slot is in a new one from now on.
    pub(super) fn move_slot(&mut self, day: &Everyday, before: u32) {
        let after = self.slots.values().max().unwrap() + 1;
        let atom = self.atom("slotted");
        day.announce(&format!("slotmove {atom} {before} {after}"));
        for (version, slot) in &mut self.slots {
            if *slot == before {
                *slot = after;
                day.slotted(&self.names["slotted"], *version, after);
            }
        }
    }
}
