//! Secrets that no message, list or report may show.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;

/// Returns `text` with the PINs of PKCS#11 URIs (RFC 7512) removed.
pub(crate) fn hide_pins(text: &str) -> Cow<'_, str> {
    #[expect(clippy::unwrap_used, reason = "a constant that a test compiles")]
    static PIN: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r#"(pin-value=)[^&;\s'"]*"#).unwrap());
    PIN.replace_all(text, "${1}...")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_in_no_text() {
        let text = "openssl -inkey 'pkcs11:token=a?pin-value=1234&x=y' pkcs11:b?pin-value=5 end";
        assert_eq!(
            hide_pins(text),
            "openssl -inkey 'pkcs11:token=a?pin-value=...&x=y' pkcs11:b?pin-value=... end"
        );
    }
}
