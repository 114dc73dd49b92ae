//! Text of a build file, and errors that point into it.

use std::fmt::Display;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use serde::de::DeserializeOwned;
use toml::de::DeTable;

use crate::base::escape::{Escape, visible_line};
use crate::base::input;
use crate::base::limits::TEXT;
use crate::base::secret::hide_pins;

/// Keys that have another name in older files, which serde still takes.
const OLD_NAMES: &[(&str, &str)] = &[("target-root", "against"), ("with-extension", "beside")];

/// A TOML file that a user wrote.
#[derive(Debug)]
pub(crate) struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// Reads the file at `path`.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        Ok(Self::new(path, input::read_text(path, TEXT)?))
    }

    /// Makes the text `text` of the file at `path`.
    pub(crate) fn new(path: &Path, text: String) -> Self {
        Self { path: path.to_owned(), text }
    }

    /// Parses the text as `T`.
    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        toml::from_str(&self.text).map_err(|error| match error.span() {
            Some(span) => self.at(&span, visible_line(error.message().as_bytes())),
            None => {
                anyhow!("{}: {}", self.path.escaped(), visible_line(error.message().as_bytes()))
            }
        })
    }

    /// Returns the place of the value `key` of `table`, or of its item `index`. A value that is not
    /// in the file has the place of its table, or of the file's beginning.
    pub(crate) fn span(&self, table: &str, key: &str, index: Option<usize>) -> Range<usize> {
        let Ok(document) = DeTable::parse(&self.text) else { return 0..0 };
        let Some((name, table)) = document.get_ref().get_key_value(table) else { return 0..0 };
        let names = OLD_NAMES.iter().filter(|(new, _)| *new == key).map(|(_, old)| *old);
        let value = table
            .get_ref()
            .as_table()
            .and_then(|table| [key].into_iter().chain(names).find_map(|name| table.get(name)));
        let Some(value) = value else { return name.span() };
        let item = index.and_then(|index| value.get_ref().as_array()?.get(index));
        item.unwrap_or(value).span()
    }

    /// Makes the error `message` about the text at `span`. It shows file, line and column, then the
    /// line.
    pub(crate) fn at(&self, span: &Range<usize>, message: impl Display) -> anyhow::Error {
        let start = span.start.min(self.text.len());
        let before = self.text.get(..start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = self.text.get(line_start..).unwrap_or_default().lines().next().unwrap_or("");
        let shown = hide_pins(line);
        let number = before.matches('\n').count() + 1;
        let count =
            |from: usize, to: usize| self.text.get(from..to).unwrap_or_default().chars().count();
        let column = count(line_start, start);
        // A span of several lines is marked up to the end of its first line.
        let end = span.end.min(line_start + line.len()).max(start);
        let marks = "^".repeat(count(start, end).max(1));
        let margin = " ".repeat(number.to_string().len());
        anyhow!(
            "{}:{number}:{}: {message}\n  {number} | {shown}\n  {margin} | {}{marks}",
            self.path.escaped(),
            column + 1,
            " ".repeat(column)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_values() {
        let text = "[pack]\nbase = [\"a\", \"b\"]\nbeside = [\"c\"]\n".to_owned();
        let source = Source { path: "f.toml".into(), text };
        let at = |table, key, index| {
            let span = source.span(table, key, index);
            source.text[span].to_owned()
        };
        assert_eq!(at("pack", "base", Some(1)), "\"b\"");
        assert_eq!(at("pack", "base", None), "[\"a\", \"b\"]");
        assert_eq!(at("pack", "with-extension", Some(0)), "\"c\"");
        assert_eq!(at("pack", "format", None), "pack");
        assert_eq!(at("prefix", "name", None), "");
    }

    #[test]
    fn points_at_what_is_meant() {
        let source = Source { path: "f.toml".into(), text: "a = 1\nü = \"x\"\n".into() };
        let said = source.at(&(11..14), "no").to_string();
        assert_eq!(said, "f.toml:2:5: no\n  2 | ü = \"x\"\n    |     ^^^");
        let said = source.at(&(400..500), "no").to_string();
        assert_eq!(said, "f.toml:3:1: no\n  3 | \n    | ^");
    }
}
