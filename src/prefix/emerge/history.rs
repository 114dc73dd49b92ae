//! Builds that were merged into final since it was made.
//!
//! Files that the phases of a package wrote belong to no package, and stay when it goes. So final
//! may hold something that the packages in it did not bring, if one of those that it has had is
//! gone. So do files of a merge that was cut short, if nobody asked for the package again.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Result;

use crate::base::files;
use crate::base::input;
use crate::base::limits::LIST;
use crate::base::names::Environment;
use crate::portage::vdb;
use crate::prefix::definition::Prefix;

/// The list, below the marker of final: a line per build.
const FILE: &str = "merged";

/// Adds the builds that are in final to the list.
///
/// # Errors
///
/// Fails if the database or the list cannot be read, or the list not written.
pub(crate) fn record(prefix: &Prefix) -> Result<()> {
    let before = read(prefix)?;
    let all: BTreeSet<String> = before.union(&installed(prefix)?).cloned().collect();
    if all == before {
        return Ok(());
    }
    let text: String = all.iter().map(|line| format!("{line}\n")).collect();
    files::write_atomically(&place(prefix), text.as_bytes())
}

/// Returns the packages that final has had and no longer has, or has in another build, and those
/// whose merge was cut short.
///
/// # Errors
///
/// Fails if the database or the list cannot be read.
pub(crate) fn list_gone(prefix: &Prefix) -> Result<Vec<String>> {
    let gone = read(prefix)?.difference(&installed(prefix)?).cloned().collect::<Vec<_>>();
    let packages = gone.iter().filter_map(|line| line.split(' ').next());
    let cut_short = vdb::cut_short(&prefix.layout.vdb(Environment::Final))?;
    let cut_short = cut_short.iter().map(ToString::to_string);
    Ok(packages.map(str::to_owned).chain(cut_short).collect())
}

/// Forgets what was merged into a final that is no longer there, and begins with what is.
///
/// # Errors
///
/// Fails like [`record`].
pub(crate) fn begin_anew(prefix: &Prefix) -> Result<()> {
    files::remove_file(&place(prefix))?;
    record(prefix)
}

fn place(prefix: &Prefix) -> PathBuf {
    prefix.layout.marker(Environment::Final).join(FILE)
}

fn read(prefix: &Prefix) -> Result<BTreeSet<String>> {
    let file = place(prefix);
    if !file.is_file() {
        return Ok(BTreeSet::new());
    }
    Ok(input::read_text(&file, LIST)?.lines().map(str::to_owned).collect())
}

fn installed(prefix: &Prefix) -> Result<BTreeSet<String>> {
    let builds = vdb::builds(&prefix.layout.vdb(Environment::Final))?;
    let line = |build: &vdb::BuildIdentity| {
        format!("{} {} {}", build.cpv, build.build_id, build.build_time)
    };
    Ok(builds.iter().map(line).collect())
}
