//! Room for longer paths in a copied C library: the end of the text that it prints when it is run
//! as a program (`csu/version.c`). Nothing else reads that text.
//!
//! The new text still says that there is no warranty, and also that the file was changed, as the
//! LGPL asks (2.1, section 2 b).

/// Beginning of the replaced text, the same in every release.
const ORIGINAL: &[u8] = b"There is NO warranty; not even for MERCHANTABILITY or FITNESS FOR A\n";
/// New text in its place.
const NOTICE: &[u8] = b"There is NO warranty. Changed by fprefix.\n\0";
/// Byte that fills the rest, so that the end of the room is recognized later.
const FILL: u8 = b'~';

/// The room: its file offset and its length in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LibcSlack {
    pub(super) offset: usize,
    length: usize,
    /// File offsets of the strings that an earlier run put there.
    used: Option<[usize; 2]>,
}

impl LibcSlack {
    /// Finds the room in a C library.
    pub(super) fn find(bytes: &[u8]) -> Option<Self> {
        let string_end = |from: usize| Some(from + memchr::memchr(0, bytes.get(from..)?)?);
        if let Some(offset) = find_once(bytes, ORIGINAL) {
            return Some(Self { offset, length: string_end(offset)? - offset, used: None });
        }
        let offset = find_once(bytes, NOTICE)?;
        let first = offset + NOTICE.len();
        let second = string_end(first)? + 1;
        let fill = string_end(second)? + 1;
        let end = string_end(fill)?;
        let is_fill = bytes.get(fill..end)?.iter().all(|byte| *byte == FILL);
        is_fill.then_some(Self { offset, length: end - offset, used: Some([first, second]) })
    }

    /// Returns the file offsets of the strings in it.
    pub(super) fn used(&self) -> Option<[usize; 2]> {
        self.used
    }

    /// Returns its contents with these strings in it, and their file offsets, or `None` if they do
    /// not fit.
    pub(super) fn fill(&self, strings: [&[u8]; 2]) -> Option<(Vec<u8>, [usize; 2])> {
        let mut contents = NOTICE.to_vec();
        let starts = strings.map(|string| {
            let start = self.offset + contents.len();
            contents.extend(string);
            contents.push(0);
            start
        });
        if contents.len() > self.length {
            return None;
        }
        contents.resize(self.length, FILL);
        Some((contents, starts))
    }
}

/// Returns the offset of `needle`, if it occurs exactly once.
fn find_once(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    let mut found = memchr::memmem::find_iter(bytes, needle);
    found.next().filter(|_| found.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filled_slack_is_found_again() {
        let mut bytes = b"GNU C Library\n".to_vec();
        bytes.extend(ORIGINAL);
        bytes.extend(b"Compiled by nobody.\n\0\0\0/next\0");
        let slack = LibcSlack::find(&bytes).unwrap();
        let (contents, starts) = slack.fill([b"/a/cache", b""]).unwrap();
        bytes[slack.offset..slack.offset + contents.len()].copy_from_slice(&contents);
        let again = LibcSlack::find(&bytes).unwrap();
        assert_eq!((again.offset, again.length), (slack.offset, slack.length));
        assert_eq!(again.used(), Some(starts));
        assert_eq!(bytes[starts[0]..].split(|byte| *byte == 0).next().unwrap(), b"/a/cache");
        assert!(slack.fill([&[b'/'; 200], b""]).is_none());
    }
}
