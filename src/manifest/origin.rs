//! Origin of options: the command line, or a file. Errors name the flag, or the line.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::manifest::source::Source;

/// Origin of options.
#[derive(Clone, Copy, Debug)]
pub(crate) enum OptionOrigin<'a> {
    /// The command line. Paths are relative to the working directory.
    CommandLine,
    /// A file. Paths are relative to its directory.
    File {
        /// Text of the file.
        source: &'a Source,
        /// Absolute path of the directory of the file.
        dir: &'a Path,
    },
}

/// Setting, by its table and key in a file. Its flag has the same name, but for the plural of lists.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    table: &'static str,
    key: &'static str,
    /// Position in a list; `None` for the whole value.
    index: Option<usize>,
}

/// Keys of lists whose flags are given once for each item.
const SINGULAR: &[(&str, &str)] = &[
    ("repos", "repo"),
    ("overlays", "overlay"),
    ("features", "feature"),
    ("sandbox-paths", "sandbox-path"),
];

impl Setting {
    /// Returns the setting `key` of `table`.
    pub(crate) const fn new(table: &'static str, key: &'static str) -> Self {
        Self { table, key, index: None }
    }

    /// Returns the item `index` of the list that the setting is.
    pub(crate) fn item(self, index: usize) -> Self {
        Self { index: Some(index), ..self }
    }

    fn flag(self) -> String {
        let singular = SINGULAR.iter().find(|(key, _)| *key == self.key);
        format!("--{}", singular.map_or(self.key, |(_, flag)| flag))
    }
}

impl OptionOrigin<'_> {
    /// Returns `path` as it is meant at this origin.
    pub(crate) fn resolve_path(&self, path: &Path) -> PathBuf {
        match self {
            Self::CommandLine => path.to_owned(),
            Self::File { dir, .. } => dir.join(path),
        }
    }

    /// Returns whether every user of the machine can read the options, which /proc shows.
    pub(crate) fn is_public(&self) -> bool {
        matches!(self, Self::CommandLine)
    }

    /// Adds the place of `setting` to the error of `result`.
    ///
    /// # Errors
    ///
    /// Fails if `result` is an error.
    pub(crate) fn locate<T>(&self, setting: Setting, result: Result<T>) -> Result<T> {
        match self {
            Self::CommandLine => result.with_context(|| setting.flag()),
            Self::File { source, .. } => result.map_err(|error| {
                let Setting { table, key, index } = setting;
                source.at(&source.span(table, key, index), format!("{error:#}"))
            }),
        }
    }

    /// Parses or opens each item of a list with `open`; the error has the place of the item.
    ///
    /// # Errors
    ///
    /// Fails if `open` fails for an item.
    pub(crate) fn locate_each<T, U>(
        &self,
        setting: Setting,
        list: &[T],
        open: impl Fn(&T) -> Result<U>,
    ) -> Result<Vec<U>> {
        let items = list.iter().enumerate();
        items.map(|(index, item)| self.locate(setting.item(index), open(item))).collect()
    }
}
