//! The repositories that the machine's own Portage is configured with.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::base::input;
use crate::base::limits::TEXT;
use crate::host::tools;
use crate::portage::repos::name_of;

/// The repositories of the machine's own Portage, lowest priority first, but for the main one,
/// which is the first in any case.
pub(crate) fn of_machine() -> Result<Vec<(String, PathBuf)>> {
    let text = tools::PORTAGEQ
        .command("ask the machine's Portage for its repositories")?
        .pass("PATH")
        .args(["repos_config", "/"])
        .read()?;
    let places = parse(&text);
    if places.is_empty() {
        bail!(
            "the machine's Portage has no repository (`portageq repos_config /`); fetch what \
             /etc/portage/repos.conf names with `emerge --sync`, or name one with --tree"
        );
    }
    places.into_iter().map(|path| Ok((name_of(&path)?, path))).collect()
}

/// Returns the places that the configuration of the machine's own Portage names: its repositories and
/// its profile (portage(5)). Which of them Portage uses is not asked for.
///
/// # Errors
///
/// Fails if the configuration cannot be read.
pub(crate) fn list_places(config: &Path) -> Result<Vec<PathBuf>> {
    let mut places = Vec::new();
    let lists = config.join("repos.conf");
    let mut files = vec![lists.clone(), PathBuf::from("/usr/share/portage/config/repos.conf")];
    if lists.is_dir() {
        files = fs_err::read_dir(&lists)?
            .map(|entry| Ok(entry?.path()))
            .chain(files.pop().map(Ok))
            .collect::<Result<_>>()?;
    }
    for file in files.iter().filter(|file| file.is_file()) {
        places.extend(parse(&input::read_text(file, TEXT)?));
    }
    places.extend(fs_err::canonicalize(config.join("make.profile")).ok());
    Ok(places)
}

/// One section of what portageq prints.
#[derive(Debug, Default)]
struct Section {
    name: String,
    location: Option<PathBuf>,
    priority: i64,
}

/// The places in what `portageq repos_config` prints, which has the form of repos.conf
/// (portage(5)). Portage goes by priority, then by name.
fn parse(text: &str) -> Vec<PathBuf> {
    let mut main = None;
    let mut sections: Vec<Section> = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            sections.push(Section { name: name.to_owned(), ..Section::default() });
            continue;
        }
        let (Some((key, value)), Some(section)) = (line.split_once('='), sections.last_mut())
        else {
            continue;
        };
        match (key.trim(), value.trim()) {
            ("main-repo", name) => main = Some(name.to_owned()),
            ("location", path) => section.location = Some(path.into()),
            ("priority", number) => section.priority = number.parse().unwrap_or_default(),
            _ => {}
        }
    }
    sections.sort_by_key(|section| {
        (main.as_ref() != Some(&section.name), section.priority, section.name.clone())
    });
    sections.into_iter().filter_map(|section| section.location).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_a_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path();
        fs_err::create_dir(config.join("repos.conf")).unwrap();
        fs_err::create_dir(config.join("profile")).unwrap();
        fs_err::write(config.join("repos.conf/a.conf"), "[a]\nlocation = /r/a\n").unwrap();
        std::os::unix::fs::symlink("profile", config.join("make.profile")).unwrap();
        let places = list_places(config).unwrap();
        for expected in [PathBuf::from("/r/a"), config.join("profile")] {
            assert!(places.contains(&expected), "{places:?}");
        }
        assert!(list_places(&config.join("absent")).unwrap().iter().all(|path| path.is_absolute()));
    }

    #[test]
    fn in_the_order_of_portage() {
        let text = "[DEFAULT]\nauto-sync = true\nmain-repo = gentoo\nsync-depth = 1\n\n\
                    [a]\nlocation = /r/a\nmasters = gentoo\n\n\
                    [b]\nlocation = /r/b=c d\npriority = -2000\n\n\
                    [c]\nlocation = /r/c\npriority = -5\n\n\
                    [gentoo]\nlocation = /var/db/repos/gentoo\npriority = -1000\nstrict = true\n";
        let expected = ["/var/db/repos/gentoo", "/r/b=c d", "/r/c", "/r/a"];
        assert_eq!(parse(text), expected.map(PathBuf::from));
        assert!(parse("").is_empty() && parse("location = /x\n[DEFAULT]\n").is_empty());
    }
}
