//! Commands by which a running target reads the files of an extension.

use std::path::{Path, PathBuf};

use crate::prefix::integration::IntegrationTable;

/// Stands for the names of the files.
const FILES: &str = "{files}";

/// Lists the commands for the files at `places`, in the order of the table.
pub(super) fn list_commands(table: &IntegrationTable, places: &[PathBuf]) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    for kind in &table.kinds {
        let Some(command) = &kind.applied else { continue };
        let below = places.iter().filter_map(|place| place.strip_prefix(&kind.to).ok());
        let names: Vec<&str> = below.filter_map(plain_name).collect();
        let command = command.replace(FILES, &names.join(" "));
        if !names.is_empty() && !commands.contains(&command) {
            commands.push(command);
        }
    }
    commands
}

/// Returns the name of a file that a command line can have as it is (systemd.service(5)).
fn plain_name(below: &Path) -> Option<&str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.+:@".contains(c);
    let name = below.to_str()?;
    let is_read = [".conf", ".rules", ".service"].iter().any(|suffix| name.ends_with(suffix));
    (is_read && !name.starts_with('-') && name.chars().all(is_plain)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_name_plain_files_once() {
        let table = IntegrationTable::load().unwrap();
        let commands = |places: &[&str]| {
            let places: Vec<_> = places.iter().map(PathBuf::from).collect();
            list_commands(&table, &places)
        };
        let found = commands(&[
            "usr/lib/sysctl.d/1.conf",
            "usr/lib/sysusers.d/b.conf",
            "usr/lib/sysusers.d/a.conf",
            "usr/lib/sysusers.d/a b.conf",
            "usr/lib/sysusers.d/README",
            "usr/share/dbus-1/system.d/a.conf",
            "usr/share/dbus-1/system-services/a.service",
        ]);
        assert_eq!(
            found[..2],
            ["systemd-sysusers b.conf a.conf", "/usr/lib/systemd/systemd-sysctl 1.conf"]
        );
        assert!(found.len() == 3 && found[2].contains("ReloadConfig"), "{found:?}");
        assert!(commands(&["usr/lib/systemd/system/a.service"]).is_empty());
    }
}
