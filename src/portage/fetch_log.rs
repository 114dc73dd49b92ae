//! Failed downloads, as Portage writes them into the log of a package.

use crate::portage::packages::is_package;

/// A source file that could not be fetched.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FailedFetch {
    /// The name that the file has in DISTDIR.
    pub file: String,
    /// The places that were tried, each once.
    pub places: Vec<String>,
    /// Something came, and it was not what the Manifest says.
    pub is_wrong: bool,
}

/// Returns the source files that could not be fetched according to `log`.
pub(crate) fn parse(log: &str) -> Vec<FailedFetch> {
    let mut failed: Vec<FailedFetch> = Vec::new();
    let (mut places, mut is_wrong): (Vec<String>, bool) = (Vec::new(), false);
    for line in log.lines() {
        if let Some(place) = quoted(line, ">>> Downloading '", "'") {
            if !places.iter().any(|tried| tried == place) {
                places.push(place.to_owned());
            }
        } else if line.contains("VERIFY FAILED") {
            is_wrong = true;
        } else if let Some(file) = quoted(line, "!!! Couldn't download '", "'. Aborting.") {
            let (places, is_wrong) =
                (std::mem::take(&mut places), std::mem::replace(&mut is_wrong, false));
            // Portage does without the layout of a mirror.
            let is_source = !file.starts_with(".layout.conf") && !is_package(file);
            if is_source && failed.iter().all(|other| other.file != file) {
                failed.push(FailedFetch { file: file.to_owned(), places, is_wrong });
            }
        }
    }
    failed
}

/// Returns the part of `line` between `start` and `end`.
fn quoted<'a>(line: &'a str, start: &str, end: &str) -> Option<&'a str> {
    line.split_once(start)?.1.rsplit_once(end).map(|(text, _)| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_places() {
        let log = "\
>>> Downloading 'http://mirror/layout.conf'
!!! Couldn't download '.layout.conf.mirror'. Aborting.
>>> Downloading 'http://mirror/a-1.tar.gz'
wget: unable to resolve host address
>>> Downloading 'https://upstream/1.tar.gz'
>>> Downloading 'https://upstream/1.tar.gz'
!!! Couldn't download 'a-1.tar.gz'. Aborting.
>>> Downloading 'https://upstream/b'
!!! Fetched file: b VERIFY FAILED!
!!! Couldn't download 'b'. Aborting.
>>> Downloading 'https://binhost/c-1-1.gpkg.tar'
!!! Couldn't download 'c-1-1.gpkg.tar'. Aborting.
>>> Downloading 'https://upstream/d'
";
        let places = |places: &[&str]| places.iter().map(|&place| place.to_owned()).collect();
        let first = FailedFetch {
            file: "a-1.tar.gz".into(),
            places: places(&["http://mirror/a-1.tar.gz", "https://upstream/1.tar.gz"]),
            is_wrong: false,
        };
        let second = FailedFetch {
            file: "b".into(),
            places: places(&["https://upstream/b"]),
            is_wrong: true,
        };
        assert_eq!(parse(log), [first, second]);
        assert!(parse("all is well\n").is_empty());
    }
}
