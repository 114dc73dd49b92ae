//! Package managers, and the commands by which they install packages.

use crate::host::tools::search::SearchLists;

/// A package manager that `fprefix doctor` can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PackageManager {
    /// Key of its packages in profiles/tools.toml.
    pub(crate) name: &'static str,
    /// Program that proves it present, the first word of [`Self::install`].
    program: &'static str,
    /// Rest of the command, before the names of the packages to install.
    options: &'static [&'static str],
}

impl PackageManager {
    pub(crate) const ALL: &[Self] = &[
        Self::new("apt", "apt-get", &["install", "-y", "--no-install-recommends"]),
        Self::new("dnf", "dnf", &["install", "-y"]),
        Self::new("pacman", "pacman", &["-S", "--needed", "--noconfirm"]),
        Self::new("zypper", "zypper", &["install", "-y"]),
        Self::new("apk", "apk", &["add"]),
        Self::new("emerge", "emerge", &["--noreplace"]),
    ];

    const fn new(
        name: &'static str,
        program: &'static str,
        options: &'static [&'static str],
    ) -> Self {
        Self { name, program, options }
    }

    /// Returns the package manager of this machine; `None` if it has none of these.
    pub(crate) fn of_machine() -> Option<Self> {
        let lists = SearchLists::of_process();
        Self::ALL.iter().copied().find(|manager| lists.find_anywhere(manager.program).is_some())
    }

    /// Returns the words of the command that installs `packages`.
    pub(crate) fn install(&self, packages: &[String]) -> Vec<String> {
        let words = std::iter::once(&self.program).chain(self.options);
        words.map(|word| (*word).to_owned()).chain(packages.iter().cloned()).collect()
    }

    /// Returns the words of the command that updates the lists of packages; `None` if the package
    /// manager does so itself. A new machine has no lists.
    pub(crate) fn refresh(&self) -> Option<Vec<String>> {
        (self.name == "apt").then(|| [self.program, "update", "-qq"].map(str::to_owned).to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands() {
        let [apt, dnf, ..] = PackageManager::ALL else { panic!("too few") };
        let packages = ["make".to_owned()];
        assert_eq!(
            apt.install(&packages).join(" "),
            "apt-get install -y --no-install-recommends make"
        );
        assert_eq!(apt.refresh().unwrap().join(" "), "apt-get update -qq");
        assert_eq!(dnf.install(&packages).join(" "), "dnf install -y make");
        assert_eq!(dnf.refresh(), None);
    }
}
