//! Limits of a tree that is read. A few bytes of an image can stand for any number of entries and for
//! any amount of content, and a hole on disk for terabytes.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};

use crate::base::escape::Escape as _;
use crate::base::limits::{ENTRIES, IMAGE_CONTENT, IMAGE_CONTENT_TIMES, PATHS, TREE};
use crate::fstree::entries::{Entry, EntryKind};

/// Rest of the limits of a tree that is being read.
#[derive(Clone, Debug)]
pub(crate) struct TreeBudget {
    entries: u64,
    paths: u64,
    content: u64,
    content_limit: u64,
}

impl TreeBudget {
    /// Returns the budget of a tree on disk, or of an image that was made of one.
    pub(crate) fn of_tree() -> Self {
        Self { entries: ENTRIES, paths: PATHS, content: TREE, content_limit: TREE }
    }

    /// Returns the budget of the image at `path`, which somebody else made. What it may hold depends
    /// on the space that it takes on disk: its holes hold nothing.
    ///
    /// # Errors
    ///
    /// Fails if there is no image.
    pub(crate) fn of_image(path: &Path) -> Result<Self> {
        let meta = fs_err::metadata(path)?;
        Ok(Self::of_image_size(meta.len().min(meta.blocks().saturating_mul(512))))
    }

    /// Returns the budget of an image of `size` bytes without holes.
    pub(crate) fn of_image_size(size: u64) -> Self {
        let content_limit = size.saturating_mul(IMAGE_CONTENT_TIMES).saturating_add(IMAGE_CONTENT);
        Self { content: content_limit, content_limit, ..Self::of_tree() }
    }

    /// Returns the budget with at most `bytes` of content.
    pub(crate) fn with_content(self, bytes: u64) -> Self {
        let content_limit = self.content_limit.min(bytes);
        Self { content: self.content.min(bytes), content_limit, ..self }
    }

    /// Takes the entry at `path`, with its content.
    ///
    /// # Errors
    ///
    /// Fails if the budget has no room for it.
    pub(crate) fn take(&mut self, path: &Path, entry: &Entry) -> Result<()> {
        self.take_entry_path(path, entry)?;
        self.take_content(path, entry.size())
    }

    /// Takes the entry at `path` without its content, which was taken before it was read.
    ///
    /// # Errors
    ///
    /// Fails if the budget has no room for it.
    pub(crate) fn take_entry_path(&mut self, path: &Path, entry: &Entry) -> Result<()> {
        self.take_path(path)?;
        match &entry.kind {
            EntryKind::Link(target) | EntryKind::HardLink(target) => self.take_text(target),
            EntryKind::Directory | EntryKind::File(_) => Ok(()),
        }
    }

    /// Takes an entry of which only the path is known.
    ///
    /// # Errors
    ///
    /// Fails if the budget has no room for it.
    pub(crate) fn take_path(&mut self, path: &Path) -> Result<()> {
        let entries = self.entries.checked_sub(1);
        self.entries = entries
            .with_context(|| format!("it has more than {ENTRIES} entries, the limit of a tree"))?;
        self.take_text(path)
    }

    /// Takes `size` bytes of the file at `path`.
    ///
    /// # Errors
    ///
    /// Fails if the budget has no room for them.
    pub(crate) fn take_content(&mut self, path: &Path, size: u64) -> Result<()> {
        let content = self.content.checked_sub(size);
        self.content = content.with_context(|| {
            format!(
                "with the {size} bytes of /{}, its files have more than {} MiB, the limit for a \
                 tree or an image of this size",
                path.escaped(),
                self.content_limit >> 20
            )
        })?;
        Ok(())
    }

    fn take_text(&mut self, text: &Path) -> Result<()> {
        let paths = self.paths.checked_sub(text.as_os_str().len() as u64);
        self.paths = paths.with_context(|| {
            format!("its paths have more than {} MiB, the limit of a tree", PATHS >> 20)
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fstree::entries::{ContentSource, FileContent};

    fn file(size: u64) -> Entry {
        let kind = EntryKind::File(FileContent::unread(ContentSource::Bytes(Vec::new()), size));
        Entry { kind, ..Entry::generated(Vec::new(), 7) }
    }

    fn error_of(result: Result<()>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn each_limit_is_named() {
        let mut budget = TreeBudget::of_tree();
        let path = Path::new("opt/x/big");
        budget.take(path, &file(TREE)).unwrap();
        budget.take(path, &file(0)).unwrap();
        let error = error_of(budget.take(path, &file(1)));
        assert!(error.starts_with("with the 1 bytes of /opt/x/big, its files have more than 26"));
        let mut budget = TreeBudget { entries: 2, paths: 9, ..TreeBudget::of_tree() };
        budget.take_path(Path::new("123")).unwrap();
        let link = Entry { kind: EntryKind::Link("to".into()), ..file(0) };
        assert!(error_of(budget.take(Path::new("12345"), &link)).contains("its paths have"));
        assert!(error_of(budget.take_path(Path::new(""))).contains("entries, the limit"));
    }

    #[test]
    fn an_image_holds_a_multiple_of_the_space_that_it_takes() {
        let image = tempfile::NamedTempFile::new().unwrap();
        fs_err::write(image.path(), vec![7; 1 << 20]).unwrap();
        let budget = TreeBudget::of_image(image.path()).unwrap();
        assert_eq!(budget.content_limit, IMAGE_CONTENT + (IMAGE_CONTENT_TIMES << 20));
        image.as_file().set_len(8 << 40).unwrap();
        let budget = TreeBudget::of_image(image.path()).unwrap();
        assert!(budget.content_limit < 2 * IMAGE_CONTENT, "{budget:?}");
        assert_eq!(TreeBudget::of_image_size(u64::MAX).content, u64::MAX);
    }
}
