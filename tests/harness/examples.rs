//! Examples, copied to a world and built there by the commands of their README.md.

use std::path::{Path, PathBuf};

use super::tools::{search_path_after, stdout_of};
use super::{Run, World};

/// Directory of all examples.
fn all() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

/// Returns the names of all examples.
pub(crate) fn names() -> Vec<String> {
    let entries = fs_err::read_dir(all()).unwrap().map(|entry| entry.unwrap());
    let dirs = entries.filter(|entry| entry.file_type().unwrap().is_dir());
    let mut names: Vec<_> = dirs.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// An example in a world.
pub(crate) struct Example<'w> {
    world: &'w World,
    pub dir: PathBuf,
}

impl<'w> Example<'w> {
    /// Copies the example `name`, without what somebody built there. Wrappers stay in the copy: the
    /// default is a directory of the machine.
    pub(crate) fn copy(world: &'w World, name: &str) -> Self {
        let from = all().join(name);
        let ignored = fs_err::read_to_string(from.join(".gitignore")).unwrap();
        let is_made = |path: &Path| {
            let path = format!("/{}", path.strip_prefix(&from).unwrap().display());
            ignored.lines().any(|line| line == path)
        };
        let dir = world.path(name);
        let entries = walkdir::WalkDir::new(&from).into_iter();
        for entry in entries.filter_entry(|entry| !is_made(entry.path())) {
            let entry = entry.unwrap();
            let to = dir.join(entry.path().strip_prefix(&from).unwrap());
            if entry.file_type().is_dir() {
                fs_err::create_dir_all(to).unwrap();
            } else {
                fs_err::copy(entry.path(), to).unwrap();
            }
        }
        let example = Self { world, dir };
        example.set("[prefix]", "wrapper-dir = \"wrappers\"");
        example
    }

    /// Adds the line `setting` to the table `table` of its build file.
    pub(crate) fn set(&self, table: &str, setting: &str) {
        let file = self.dir.join("fprefix.toml");
        let text = fs_err::read_to_string(&file).unwrap();
        let own = text.replacen(&format!("{table}\n"), &format!("{table}\n{setting}\n"), 1);
        assert_ne!(own, text);
        fs_err::write(file, own).unwrap();
    }

    /// Returns the commands that build it: the lines of the block `sh` in README.md.
    fn commands(&self) -> String {
        let text = fs_err::read_to_string(self.dir.join("README.md")).unwrap();
        let (_, block) = text.split_once("```sh\n").expect("README.md has commands");
        block.split_once("```").unwrap().0.to_owned()
    }

    fn shell(&self, script: &str) -> Run<'w> {
        let program = Path::new(&self.world.program).parent().unwrap();
        let run = self.world.run("sh").args(["-euc", script]).dir(&self.dir);
        run.env("PATH", search_path_after(&[program]))
    }

    /// Builds it as its README.md says.
    pub(crate) fn build(&self) -> Run<'w> {
        self.shell(&self.commands())
    }

    /// Runs the commands that come before the build, and then `fprefix build --dry-run`.
    pub(crate) fn dry_run(&self) -> Run<'w> {
        let commands = self.commands();
        let is_build = |line: &&str| line.starts_with("fprefix build") || line.starts_with("./");
        let before: Vec<&str> = commands.lines().take_while(|line| !is_build(line)).collect();
        assert!(before.len() < commands.lines().count(), "{commands}");
        self.shell(&format!("{}\nfprefix build --dry-run\n", before.join("\n")))
    }

    /// Unpacks images of it into one directory, as if all were attached. Returns the directory.
    pub(crate) fn unpack(&self, images: &[&str]) -> PathBuf {
        let dir = self.dir.join("tree");
        for image in images {
            let image = self.dir.join(image);
            let words = ["-q", "-n", "-f", "-d", dir.to_str().unwrap(), image.to_str().unwrap()];
            stdout_of("unsquashfs", words);
        }
        dir
    }
}
