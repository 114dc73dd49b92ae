//! Keys that stay in a token or a security module: PKCS#11 URIs (RFC 7512), which openssl resolves
//! through an engine (libp11) or a provider (OpenSSL 3: pkcs11-provider).

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Error, Result, bail};

use crate::base::command::Command;
use crate::base::input;
use crate::base::limits::TEXT;
use crate::base::secret::hide_pins;
use crate::imagefmt::signing::openssl::openssl;
use crate::imagefmt::signing::token_uri::TokenUri;

/// Name of both kinds of plugin.
const NAME: &str = "pkcs11";

/// Plugin with which openssl reads keys of tokens, in the form of `--private-key-source` of
/// systemd-repart(1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeySource {
    /// Provider of OpenSSL 3.
    Provider(String),
    /// Engine, the older mechanism.
    Engine(String),
}

impl FromStr for KeySource {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let plain = |name: &&str| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
        };
        match text.split_once(':').filter(|(_, name)| plain(name)) {
            Some(("provider", name)) => Ok(Self::Provider(name.to_owned())),
            Some(("engine", name)) => Ok(Self::Engine(name.to_owned())),
            _ => bail!("{text:?} has to be provider:NAME or engine:NAME, like provider:{NAME}"),
        }
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Provider(name) => write!(f, "provider:{name}"),
            Self::Engine(name) => write!(f, "engine:{name}"),
        }
    }
}

impl KeySource {
    /// Returns whether openssl has this plugin.
    fn is_there(&self) -> Result<bool> {
        let command = openssl("look for what reads tokens")?;
        let command = match self {
            Self::Provider(name) => command.args(["list", "-providers", "-provider", name]),
            Self::Engine(name) => command.args(["engine", "-t", name]),
        };
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        Ok(output.status.success() && !said.contains("[ unavailable ]"))
    }

    /// Returns the plugin `named`, or the first that the machine has.
    pub(crate) fn find(named: Option<&Self>) -> Result<Self> {
        let hint = "install pkcs11-provider or libp11's engine (Debian: pkcs11-provider, \
                    libengine-pkcs11-openssl)";
        if let Some(named) = named {
            if !named.is_there()? {
                bail!("openssl has no {named}, which was named to read keys of tokens: {hint}");
            }
            return Ok(named.clone());
        }
        // Engines first: with some modules (e.g. SoftHSM 2.6), openssl crashes at its end if it
        // uses a provider.
        for source in [Self::Engine(NAME.to_owned()), Self::Provider(NAME.to_owned())] {
            if source.is_there()? {
                return Ok(source);
            }
        }
        bail!("openssl cannot read keys of tokens: {hint}")
    }

    /// Returns the options with which openssl loads the plugin. For an engine, `form` is the option
    /// that sets the form of the key.
    fn options(&self, form: &str) -> Vec<String> {
        let words: [&str; 4] = match self {
            // If the plugin's provider is loaded first, a module that uses OpenSSL itself hangs.
            Self::Provider(name) => ["-provider", "default", "-provider", name],
            Self::Engine(name) => ["-engine", name, form, "engine"],
        };
        words.map(str::to_owned).into()
    }
}

/// Key in a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenKey {
    uri: TokenUri,
    source: KeySource,
}

impl TokenKey {
    /// Opens the key that `uri` names. If the URI contains its PIN, the key is read at once, so
    /// that a bad key fails before the image is made.
    pub(crate) fn open(uri: &TokenUri, source: KeySource) -> Result<Self> {
        let key = Self { uri: uri.clone(), source };
        if uri.is_complete() {
            let command = openssl("read the key of the token")?.args(["pkey", "-in"]);
            let command = uri.add_to(command)?.brief().args(key.source.options("-inform")).args([
                "-pubout",
                "-out",
                "/dev/null",
            ]);
            key.run(&command)?;
        }
        Ok(key)
    }

    /// Adds the arguments to `command` with which `openssl smime` signs with the key.
    pub(crate) fn add_to(&self, command: Command) -> Result<Command> {
        Ok(self.uri.add_to(command.arg("-inkey"))?.args(self.source.options("-keyform")))
    }

    /// Runs `command`, which uses the key; errors contain no PIN.
    pub(crate) fn run(&self, command: &Command) -> Result<()> {
        run(&self.uri, command)
    }
}

fn run(uri: &TokenUri, command: &Command) -> Result<()> {
    command.run_quiet().map_err(|error| {
        let text = format!("{error:#}");
        let why = reason(&text);
        Error::msg(hide_pins(&text).into_owned()).context(format!("{uri}: {why}"))
    })
}

/// Explains the error messages of openssl and its plugins.
fn reason(said: &str) -> &'static str {
    let has = |text: &str| said.contains(text);
    if has("PIN incorrect") || has("CKR_PIN_INCORRECT") {
        "the PIN is wrong; a token locks itself after a few wrong ones"
    } else if has("CKR_PIN_LOCKED") || has("PIN locked") {
        "the token has locked itself after wrong PINs"
    } else if has("No matching initialized token") || has("No initialized token") {
        "no such token is there; `pkcs11-tool --list-slots` shows those that are"
    } else if has("key values mismatch") {
        "the key does not belong to the certificate"
    } else if has("UI_process") {
        "the token wants a PIN, and there is no terminal to ask for it: add pin-source=FILE to \
         the URI"
    } else if has("Unable to load") && has("module") {
        "the module that was named for tokens cannot be loaded (PKCS11_MODULE_PATH)"
    } else {
        "the token has no such object, or does not give it with this PIN"
    }
}

/// Writes the certificate that `uri` names to the file `to`, as PEM.
pub(crate) fn certificate(uri: &TokenUri, source: &KeySource, to: &Path) -> Result<()> {
    let KeySource::Provider(_) = source else {
        bail!(
            "{uri}: openssl's engines read keys alone; name a file with the certificate, or give \
             --private-key-source provider:{NAME}"
        );
    };
    let command = openssl("read the certificate of the token")?
        .arg("storeutl")
        .args(source.options(""))
        .args(["-certs", "-out"])
        .arg(to);
    run(uri, &uri.add_to(command)?.brief())?;
    let read = input::read_text(to, TEXT)?;
    if !read.contains("-----BEGIN CERTIFICATE-----") {
        bail!("{uri} names no certificate of the token");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources() {
        assert_eq!("engine:pkcs11".parse::<KeySource>().unwrap().to_string(), "engine:pkcs11");
        for bad in ["", "file", "engine:", "provider:a b", "token:pkcs11"] {
            assert!(bad.parse::<KeySource>().is_err(), "{bad}");
        }
    }
}
