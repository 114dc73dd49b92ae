//! ELF files: what tells the loader where to look has the new path alone, without slashes.

use crate::elf::{self, Edit, Patch, PatchMethod, SearchPathEdit};

/// Returns the changes to the loader's strings in the ELF file `padded`, in which the path `to` has
/// slashes up to the length of another. None is needed for the file to run: where the strings of a
/// file cannot be changed in their place, the slashes stay.
pub(super) fn plan_strings(padded: &[u8], to: &[u8]) -> Vec<Patch> {
    let Ok(image) = elf::read(padded) else { return Vec::new() };
    let short = |text: &Vec<u8>| shorten(text, to).filter(|new| new != text);
    let search_path = match (&image.rpath, &image.runpath) {
        (Some(rpath), None) => short(rpath).map(SearchPathEdit::Rpath),
        (None, Some(runpath)) => short(runpath).map(SearchPathEdit::Runpath),
        _ => None,
    };
    let others = image.other_libraries.iter();
    let others = others.flat_map(|(tag, text)| tag.names(text)).map(<[u8]>::to_vec);
    let names = image.needed.iter().cloned().chain(others);
    let edit = Edit {
        interpreter: image.interpreter.as_ref().and_then(short),
        search_path: search_path.unwrap_or_default(),
        soname: image.soname.as_ref().and_then(short),
        replace_needed: names.filter_map(|name| Some((name.clone(), short(&name)?))).collect(),
        ..Edit::default()
    };
    match elf::plan(padded, &edit) {
        Ok(plan) if plan.method == PatchMethod::InPlace => plan.patches,
        _ => Vec::new(),
    }
}

/// Returns a list of paths without the slashes behind `to`.
fn shorten(paths: &[u8], to: &[u8]) -> Option<Vec<u8>> {
    let shorten_one = |path: &[u8]| {
        let rest = path.strip_prefix(to).filter(|rest| rest.first() == Some(&b'/'))?;
        let below = rest.iter().position(|byte| *byte != b'/').map(|at| &rest[at - 1..]);
        Some([to, below.unwrap_or_default()].concat())
    };
    let parts = paths.split(|byte| *byte == b':');
    let parts: Vec<Vec<u8>> =
        parts.map(|part| shorten_one(part).unwrap_or_else(|| part.to_vec())).collect();
    Some(parts.join(&b':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_behind_the_prefix_go() {
        let shorten = |text: &[u8]| shorten(text, b"/o").unwrap();
        assert_eq!(shorten(b"/o////usr/lib:/other//x:/o//"), b"/o/usr/lib:/other//x:/o");
        assert_eq!(shorten(b"/o/usr//lib:/od//x"), b"/o/usr//lib:/od//x");
    }
}
