//! PKCS#11 URIs (RFC 7512), of which the PIN stays in this process: no argument of a program has
//! it, which every user of the machine can read, and no file on a disk.

use std::ffi::OsStr;
use std::fmt;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rustix::fs::MemfdFlags;

use crate::base::command::Command;

/// Start of a PKCS#11 URI.
const SCHEME: &str = "pkcs11:";

/// Attribute with the PIN, and the one with the place of the PIN.
const PIN_VALUE: &str = "pin-value=";
const PIN_SOURCE: &str = "pin-source=";

/// URI of an object in a token, and the PIN if it was in the URI.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct TokenUri {
    /// The URI without the PIN.
    uri: String,
    pin: Option<Vec<u8>>,
}

impl TokenUri {
    /// Parses `path`, which may be a URI. Returns `None` for a file.
    ///
    /// # Errors
    ///
    /// Fails if the URI has a PIN twice, or one that is not encoded as it has to be.
    pub(crate) fn parse(path: &Path) -> Result<Option<Self>> {
        let Some(text) = path.to_str().filter(|_| is_uri(path)) else { return Ok(None) };
        let mut uri = String::new();
        let mut pin = None;
        for part in text.split_inclusive(['?', ';', '&']) {
            let end = part.trim_end_matches(['?', ';', '&']);
            match end.strip_prefix(PIN_VALUE) {
                Some(value) => {
                    ensure!(pin.is_none(), "the URI has two PINs");
                    pin = Some(decode(value).context("the PIN of the URI is not encoded (%XX)")?);
                }
                None => uri.push_str(part),
            }
        }
        let uri = uri.trim_end_matches(['?', ';', '&']).to_owned();
        ensure!(
            pin.is_none() || !uri.contains(PIN_SOURCE),
            "the URI has a PIN and the place of one"
        );
        Ok(Some(Self { uri, pin }))
    }

    /// Returns whether the PIN was in the URI.
    pub(crate) fn has_pin(&self) -> bool {
        self.pin.is_some()
    }

    /// Returns whether a program can use the object without asking for the PIN.
    pub(crate) fn is_complete(&self) -> bool {
        self.has_pin() || self.uri.contains(PIN_SOURCE)
    }

    /// Adds the URI to the arguments of `command`, which reads the PIN from an open file in memory.
    ///
    /// # Errors
    ///
    /// Fails if that cannot be made.
    pub(crate) fn add_to(&self, command: Command) -> Result<Command> {
        let Some(pin) = &self.pin else { return Ok(command.arg(&self.uri)) };
        let file = file_in_memory(pin).context("could not keep the PIN in memory")?;
        let query = if self.uri.contains('?') { '&' } else { '?' };
        let number = file.as_raw_fd();
        let uri = format!("{}{query}{PIN_SOURCE}file:/proc/self/fd/{number}", self.uri);
        Ok(command.arg(uri).inherit(Arc::new(file)))
    }
}

impl fmt::Display for TokenUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri)
    }
}

impl fmt::Debug for TokenUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Returns whether `path` is a PKCS#11 URI and no file.
pub(crate) fn is_uri(path: &Path) -> bool {
    path.as_os_str().as_bytes().starts_with(SCHEME.as_bytes())
}

/// Returns whether `path` is a URI with a PIN in it.
pub(crate) fn has_pin(path: &Path) -> bool {
    let has = |text: &OsStr| memchr::memmem::find(text.as_bytes(), PIN_VALUE.as_bytes()).is_some();
    is_uri(path) && has(path.as_os_str())
}

/// Decodes the %XX of a URI.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes().iter();
    while let Some(byte) = rest.next() {
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let digits = [*rest.next()?, *rest.next()?];
        bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
    }
    Some(bytes)
}

/// Makes a file in memory that a child inherits.
fn file_in_memory(bytes: &[u8]) -> std::io::Result<OwnedFd> {
    let file = rustix::fs::memfd_create("pin", MemfdFlags::empty())?;
    let mut file = std::fs::File::from(file);
    file.write_all(bytes)?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> TokenUri {
        TokenUri::parse(Path::new(text)).unwrap().unwrap()
    }

    #[test]
    fn the_pin_is_taken_out() {
        for (text, uri, pin) in [
            ("pkcs11:token=a;object=b", "pkcs11:token=a;object=b", None),
            ("pkcs11:token=a?pin-value=1%2b%203", "pkcs11:token=a", Some("1+ 3")),
            (
                "pkcs11:token=a?pin-value=12&module-name=m",
                "pkcs11:token=a?module-name=m",
                Some("12"),
            ),
            ("pkcs11:token=a;pin-value=12;object=b", "pkcs11:token=a;object=b", Some("12")),
            ("pkcs11:a?pin-source=file:/p", "pkcs11:a?pin-source=file:/p", None),
        ] {
            let parsed = parse(text);
            assert_eq!(parsed.uri, uri);
            assert_eq!(parsed.pin.as_deref(), pin.map(str::as_bytes), "{text}");
            assert_eq!(format!("{parsed} {parsed:?}"), format!("{uri} {uri}"));
            assert_eq!(has_pin(Path::new(text)), pin.is_some());
        }
        assert!(TokenUri::parse(Path::new("/a/pkcs11:b?pin-value=1")).unwrap().is_none());
        for bad in ["pin-value=1&pin-value=2", "pin-value=1&pin-source=/x", "pin-value=%4"] {
            assert!(TokenUri::parse(Path::new(&format!("pkcs11:a?{bad}"))).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_pin_is_in_no_argument() {
        let command = Command::new("show the PIN", "sh").args(["-c", "cat \"${0#*file:}\""]);
        let command = parse("pkcs11:token=a?pin-value=2718").add_to(command).unwrap();
        assert!(!command.to_string().contains("2718"), "{command}");
        assert_eq!(command.read().unwrap(), "2718");
    }
}
