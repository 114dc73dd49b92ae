//! Error for an external program that is missing or too old, with the ways to get it.

use std::path::Path;

use anyhow::{Error, Result, anyhow};

use crate::base::board::Board;
use crate::base::escape::Escape;
use crate::host::tools::facts::ToolFacts;
use crate::host::tools::package_manager::PackageManager;
use crate::host::tools::search::{FoundTool, OldVersion, SearchLists, Unusable};

impl ToolFacts {
    /// Returns the program if this machine has it in an accepted version.
    pub(super) fn require(
        &self,
        board: Option<&Board>,
        lists: &SearchLists,
    ) -> Result<FoundTool<'_>> {
        match self.find(board, lists) {
            Ok(found) => match found.old_version()? {
                Some(old) => Err(self.too_old(found.path(), &old)),
                None => Ok(found),
            },
            Err(Unusable::Missing) => Err(self.missing(board, PackageManager::of_machine())),
            Err(Unusable::Failed(path, error)) => Err(anyhow!(
                "cannot use {}, which {}: {error:#}{}",
                path.escaped(),
                self.reason,
                self.hints(board, PackageManager::of_machine())
            )),
        }
    }

    /// Returns the error for the case that no program is found.
    pub(super) fn missing(&self, board: Option<&Board>, manager: Option<PackageManager>) -> Error {
        let names = self.candidates(board);
        let hints = self.hints(board, manager);
        let Some(board) = board else {
            return anyhow!("cannot find {}, which {}{hints}", names.join(" or "), self.reason);
        };
        anyhow!(
            "cannot find {} for {} ({}), which {}; searched for {}{hints}",
            self.name(),
            board.name,
            board.machine,
            self.reason,
            names.join(", ")
        )
    }

    fn too_old(&self, path: &Path, old: &OldVersion) -> Error {
        anyhow!(
            "{} is {}\nhint: install {} {} or newer{}",
            path.escaped(),
            self.describe_old(old),
            self.packages("apt", None).join(" "),
            old.oldest,
            self.hint_of_another_way()
        )
    }

    /// Returns a phrase like "too old for images: it is version 6.2, and 7.3 or newer is needed".
    pub(crate) fn describe_old(&self, OldVersion { version, oldest }: &OldVersion) -> String {
        let purpose = self.oldest_for.as_deref().unwrap_or_default();
        let version = match version {
            Some(version) => format!("it is version {version}"),
            None => "it does not print its version".to_owned(),
        };
        format!("too old for {purpose}: {version}, and {oldest} or newer is needed")
    }

    /// Returns the ways to get it, each as a line that begins with "hint:".
    fn hints(&self, board: Option<&Board>, manager: Option<PackageManager>) -> String {
        // The package of the package manager provides the program for this machine.
        let is_foreign = self.is_named_after_boards() && board.is_some_and(|b| !b.is_native());
        let manager = manager.filter(|_| !is_foreign);
        let packages =
            manager.map(|manager| self.packages(manager.name, board)).unwrap_or_default();
        let hint = match (self.need, manager) {
            (_, _) if packages.is_empty() => {
                let machine = board.filter(|_| is_foreign).map(|board| &board.machine);
                let machine = machine.map_or(String::new(), |machine| format!(" for {machine}"));
                let (debian, gentoo) =
                    (self.packages("apt", board), self.packages("emerge", board));
                let known = if debian.is_empty() { gentoo } else { debian };
                format!("install the package that brings it{machine}, like {}", known.join(" "))
            }
            (Some(need), _) => {
                format!("install it with `fprefix doctor --install --for {}`", need.name())
            }
            (None, Some(manager)) => {
                format!("install it with `{}`", manager.install(&packages).join(" "))
            }
            (None, None) => String::new(),
        };
        format!("\nhint: {hint}{}", self.hint_of_another_way())
    }

    fn hint_of_another_way(&self) -> String {
        self.instead.as_ref().map_or(String::new(), |instead| format!("\nhint: or {instead}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tools::facts::ToolList;

    fn missing(name: &str, board: Option<&Board>, manager: Option<&str>) -> String {
        let list = ToolList::load().unwrap();
        let known = |name| PackageManager::ALL.iter().copied().find(|m| m.name == name);
        let manager = manager.map(|name| known(name).unwrap());
        list.entry(name).unwrap().missing(board, manager).to_string()
    }

    #[test]
    fn a_missing_program_comes_with_a_command_that_installs_it() {
        assert_eq!(
            missing("mksquashfs", None, Some("apt")),
            "cannot find mksquashfs, which writes squashfs images\n\
             hint: install it with `fprefix doctor --install --for pack`"
        );
        assert_eq!(
            missing("ccache", None, Some("dnf")),
            "cannot find ccache, which keeps what was compiled\n\
             hint: install it with `dnf install -y ccache`\n\
             hint: or leave --feature ccache out"
        );
        // A machine without a known package manager, and a distribution without the package.
        let unknown = "cannot find systemd-sysext, which attaches extensions\n\
                       hint: install the package that brings it, like systemd";
        assert_eq!(missing("systemd-sysext", None, None), unknown);
        assert_eq!(missing("systemd-sysext", None, Some("apk")), unknown);
    }

    #[test]
    fn a_missing_program_for_another_board() {
        let mut board = Board::find("arm64-usr").unwrap();
        board.compilers.clear();
        // No machine is of this kind, so the board is never this machine's.
        board.machine = "other".to_owned();
        let text = missing("gcc", Some(&board), Some("apt"));
        assert!(
            text.starts_with("cannot find gcc for arm64-usr (other), which compiles, and gives")
                && text.contains("; searched for aarch64-cros-linux-gnu-gcc\nhint: install the ")
                && text.contains("that brings it for other, like gcc"),
            "{text}"
        );
        let text = missing("qemu-user", Some(&board), Some("apk"));
        assert!(text.ends_with("\nhint: install it with `apk add qemu-other`"), "{text}");
    }

    #[test]
    fn a_program_that_is_too_old() {
        let list = ToolList::load().unwrap();
        let old = OldVersion { version: Some("6.2".to_owned()), oldest: "7.3".to_owned() };
        let facts = list.entry("mkfs.btrfs").unwrap();
        assert_eq!(
            facts.too_old(Path::new("/sbin/mkfs.btrfs"), &old).to_string(),
            "/sbin/mkfs.btrfs is too old for reproducible images (`fprefix pack --format btrfs`): \
             it is version 6.2, and 7.3 or newer is needed\n\
             hint: install btrfs-progs 7.3 or newer\n\
             hint: or pack as squashfs or erofs (--format)"
        );
    }
}
