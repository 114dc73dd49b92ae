//! Lists of character set modules (gconv-modules, in the form that the comments of glibc's
//! `iconvdata/gconv-modules` describe).

use std::collections::{BTreeMap, BTreeSet};

/// Character set that all modules convert from or to, within the C library.
const INTERNAL: &str = "INTERNAL";

/// Character sets that are within the C library, under their usual names (`iconv/gconv_builtin.h`).
const BUILT_IN: &[&str] = &[
    "ANSI_X3.4-1968",
    "ASCII",
    "UCS-2",
    "UCS-2BE",
    "UCS-2LE",
    "UCS-4",
    "UCS-4BE",
    "UCS-4LE",
    "US-ASCII",
    "UTF-8",
    "UTF8",
    "WCHAR_T",
];

/// A line of a list.
enum ModuleLine<'a> {
    /// Another name of a character set.
    Alias { name: &'a str, of: &'a str },
    /// A conversion, and the file that has it.
    Module { from: &'a str, to: &'a str, file: String },
    /// A comment, an empty line, or one that libc ignores.
    Other,
}

impl<'a> ModuleLine<'a> {
    fn parse(line: &'a str) -> Self {
        let text = line.split('#').next().unwrap_or_default();
        let mut words = text.split_whitespace();
        let name = |word: &'a str| word.trim_end_matches('/');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("alias"), Some(alias), Some(of), _) => {
                Self::Alias { name: name(alias), of: name(of) }
            }
            (Some("module"), Some(from), Some(to), Some(file)) => {
                let file = file.strip_suffix(".so").unwrap_or(file);
                Self::Module { from: name(from), to: name(to), file: format!("{file}.so") }
            }
            _ => Self::Other,
        }
    }
}

/// Modules of a directory.
#[derive(Debug, Default)]
pub(super) struct CharsetModules {
    aliases: BTreeMap<String, String>,
    /// Ends of each conversion, and its file.
    conversions: Vec<([String; 2], String)>,
}

impl CharsetModules {
    /// Adds the modules of a list.
    pub(super) fn read(&mut self, text: &str) {
        for line in text.lines() {
            match ModuleLine::parse(line) {
                ModuleLine::Alias { name, of } => {
                    self.aliases.insert(name.to_uppercase(), of.to_uppercase());
                }
                ModuleLine::Module { from, to, file } => {
                    self.conversions.push(([from.to_uppercase(), to.to_uppercase()], file));
                }
                ModuleLine::Other => {}
            }
        }
    }

    /// Returns whether there are no modules.
    pub(super) fn is_empty(&self) -> bool {
        self.conversions.is_empty()
    }

    /// Returns all names of character sets.
    pub(super) fn names(&self) -> BTreeSet<&str> {
        let ends = self.conversions.iter().flat_map(|(ends, _)| ends);
        ends.chain(self.aliases.keys()).map(String::as_str).collect()
    }

    /// Returns the first name of the character set `name`; `None` if there is none of this name.
    pub(super) fn resolve<'s>(&'s self, name: &'s str) -> Option<&'s str> {
        let mut name = name;
        // An alias of itself would never end.
        for _ in 0..=self.aliases.len() {
            match self.aliases.get(name) {
                Some(of) => name = of,
                None => break,
            }
        }
        let is_end = self.conversions.iter().any(|(ends, _)| ends.iter().any(|end| end == name));
        (is_end || BUILT_IN.contains(&name)).then_some(name)
    }

    /// Returns the files that have conversions, and none but those between the character sets
    /// `wanted`.
    pub(super) fn files(&self, wanted: &BTreeSet<&str>) -> BTreeSet<&str> {
        let is_wanted = |end: &String| end == INTERNAL || wanted.contains(end.as_str());
        let conversions = self.conversions.iter().filter(|(ends, _)| ends.iter().all(is_wanted));
        conversions.map(|(_, file)| file.as_str()).collect()
    }

    /// Returns whether a list names `file`. Others in the directory are libraries of modules.
    pub(super) fn has_file(&self, file: &str) -> bool {
        self.conversions.iter().any(|(_, known)| known == file)
    }
}

/// Returns the list `text` without the modules whose files `has` does not confirm, and without names of
/// character sets that then have no module. `all` has the modules of all lists.
pub(super) fn retain(text: &str, all: &CharsetModules, has: impl Fn(&str) -> bool) -> String {
    let left = |name: &str| {
        let name = name.to_uppercase();
        let name = all.resolve(&name).unwrap_or(&name);
        let mut own = all.conversions.iter().filter(|(ends, _)| ends.iter().any(|end| end == name));
        own.clone().next().is_none() || own.any(|(_, file)| has(file))
    };
    let is_kept = |line: &&str| match ModuleLine::parse(line) {
        ModuleLine::Alias { of, .. } => left(of),
        ModuleLine::Module { file, .. } => has(&file),
        ModuleLine::Other => false,
    };
    text.lines().filter(is_kept).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "\
# A comment
alias\tLATIN1//\tISO-8859-1//
alias\tL1//\tLATIN1//
module\tISO-8859-1//\tINTERNAL\tISO8859-1\t1
module\tINTERNAL\tISO-8859-1//\tISO8859-1\t1
module\tBIG5//\tINTERNAL\tBIG5\t1
alias\tUNICODE//\tUTF-8//
module\tBIG5//\tISO-8859-1//\tDIRECT.so\t1\t# both
";

    #[test]
    fn lists_are_cut() {
        let mut modules = CharsetModules::default();
        modules.read(LIST);
        assert_eq!(modules.resolve("L1"), Some("ISO-8859-1"));
        assert_eq!(modules.resolve("UTF-8"), Some("UTF-8"));
        assert_eq!(modules.resolve("L2"), None);
        let files = |names: &[&str]| {
            let names: BTreeSet<&str> = names.iter().copied().collect();
            modules.files(&names).into_iter().collect::<Vec<_>>()
        };
        assert_eq!(files(&["ISO-8859-1"]), ["ISO8859-1.so"]);
        assert_eq!(files(&["ISO-8859-1", "BIG5"]), ["BIG5.so", "DIRECT.so", "ISO8859-1.so"]);
        assert_eq!(files(&["UTF-8"]), [""; 0]);
        assert_eq!(
            retain(LIST, &modules, |file| file == "BIG5.so"),
            "module\tBIG5//\tINTERNAL\tBIG5\t1\nalias\tUNICODE//\tUTF-8//\n"
        );
        let mut circle = CharsetModules::default();
        circle.read("alias A// B//\nalias B// A//\nmodule\nalias\n");
        assert_eq!(circle.resolve("A"), None);
        assert!(circle.is_empty());
    }
}
