//! The extension-release file, by which systemd matches an extension with a machine (os-release(5),
//! systemd-sysext(8)).

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Error, Result, bail};
use serde::Serialize;
use serde_json::json;

use crate::base::data::Folder;
use crate::base::names::PrefixName;
use crate::base::template;
use crate::imagefmt::architecture::Architecture;
use crate::sysext::name::Version;
use crate::sysext::services::UnitName;

/// Fields that can be given: those that systemd reads, and those that describe the extension.
const KNOWN: &[&str] = &[
    "ID",
    "VERSION_ID",
    "SYSEXT_LEVEL",
    "SYSEXT_SCOPE",
    "EXTENSION_RELOAD_MANAGER",
    "EXTENSION_RESTART_UNITS",
    "EXTENSION_RELOAD_OR_RESTART_UNITS",
    "SYSEXT_ID",
    "SYSEXT_NAME",
    "SYSEXT_PRETTY_NAME",
    "SYSEXT_VERSION_ID",
    "SYSEXT_BUILD_ID",
    "SYSEXT_IMAGE_ID",
    "SYSEXT_IMAGE_VERSION",
    "SYSEXT_HOME_URL",
    "SYSEXT_DOCUMENTATION_URL",
    "SYSEXT_BUG_REPORT_URL",
    "SYSEXT_SUPPORT_URL",
    "SYSEXT_PRIVACY_POLICY_URL",
    "SYSEXT_SUPPORT_END",
    "SYSEXT_VARIANT",
    "SYSEXT_VARIANT_ID",
    "SYSEXT_VERSION",
    "SYSEXT_VERSION_CODENAME",
    "SYSEXT_CPE_NAME",
    "SYSEXT_VENDOR_NAME",
    "SYSEXT_VENDOR_URL",
];

/// Scopes in which an extension can be attached (os-release(5), `SYSEXT_SCOPE=`).
const SCOPES: &[&str] = &["system", "initrd", "portable"];

/// Field that makes systemd look for new units.
const RELOAD: &str = "EXTENSION_RELOAD_MANAGER";

/// ID that fits every machine (systemd 252 and newer).
const ANY: &str = "_any";

/// A field given as `KEY=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ReleaseField {
    key: String,
    value: String,
}

impl FromStr for ReleaseField {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let Some((key, value)) = text.split_once('=') else {
            bail!("{text:?} has to be KEY=VALUE, like EXTENSION_RELOAD_MANAGER=1");
        };
        if key == "ARCHITECTURE" {
            bail!("ARCHITECTURE comes from the programs, or from --architecture");
        }
        if key.starts_with("CONFEXT_") {
            bail!("{key} is for extensions of /etc (confext); those of /usr have SYSEXT_ fields");
        }
        if !KNOWN.contains(&key) {
            bail!("an extension has no field {key:?}; it has {}", KNOWN.join(", "));
        }
        if value.is_empty() || value.contains(char::is_control) {
            bail!("the value of {key} has to be text without control characters");
        }
        check(key, value)?;
        Ok(Self { key: key.to_owned(), value: value.to_owned() })
    }
}

/// Fails if systemd would ignore this value of `key`, or fail on it (os-release(5),
/// systemd-sysext(8)).
fn check(key: &str, value: &str) -> Result<()> {
    let mut words = value.split_ascii_whitespace();
    let of_words = |also: &str| {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || also.contains(c);
        value.chars().all(plain)
    };
    match key {
        "ID" | "VERSION_ID" | "SYSEXT_LEVEL" | "SYSEXT_ID" | "SYSEXT_VERSION_ID"
            if !of_words("._-") =>
        {
            bail!("the value of {key} has to be lower-case letters, digits and . _ -: {value:?}")
        }
        "SYSEXT_SCOPE" if !words.all(|word| SCOPES.contains(&word)) => {
            bail!("{key} is a list of {}, and not {value:?}", SCOPES.join(", "))
        }
        "EXTENSION_RELOAD_MANAGER" if !matches!(value, "0" | "1") => {
            bail!("{key} is 1 or 0, and not {value:?}")
        }
        "EXTENSION_RESTART_UNITS" | "EXTENSION_RELOAD_OR_RESTART_UNITS" => {
            words.try_for_each(|word| word.parse::<UnitName>().map(|_| ()))
        }
        _ => Ok(()),
    }
}

impl ReleaseField {
    /// Returns the field that makes systemd look for new units when the extension is attached (255
    /// and newer).
    pub(crate) fn reload() -> Self {
        Self { key: RELOAD.to_owned(), value: "1".to_owned() }
    }

    /// Returns whether it has the same key as `other`, with any value.
    pub(crate) fn is_about(&self, other: &Self) -> bool {
        self.key == other.key
    }

    /// Returns whether it selects the machines that the extension is for.
    pub(crate) fn is_for_matching(&self) -> bool {
        matches!(self.key.as_str(), "ID" | "VERSION_ID" | "SYSEXT_LEVEL" | "SYSEXT_SCOPE")
    }

    /// Returns whether it has the key of [`ReleaseField::reload`], with any value.
    pub(crate) fn is_reload(&self) -> bool {
        self.key == RELOAD
    }
}

#[derive(Debug, Serialize)]
struct ReleaseLine {
    key: String,
    value: String,
}

/// Content of the extension-release file.
#[derive(Clone, Debug)]
pub(crate) struct ExtensionRelease {
    /// Name of the extension.
    pub name: PrefixName,
    /// Version of the extension.
    pub version: Option<Version>,
    /// `ARCHITECTURE=`; `None` if nothing in the extension depends on the architecture.
    pub architecture: Option<Architecture>,
    /// Further fields.
    pub fields: Vec<ReleaseField>,
}

impl ExtensionRelease {
    /// Returns a warning if the extension fits no release of the distribution that it is for. If
    /// os-release has a `VERSION_ID`, systemd attaches only what has the same, or a level in common
    /// (os-release(5), `SYSEXT_LEVEL=`).
    pub(crate) fn warning(&self) -> Option<String> {
        let has = |key: &str| self.fields.iter().any(|field| field.key == key);
        let id = self.fields.iter().rfind(|field| field.key == "ID")?.value.as_str();
        if id == ANY || has("VERSION_ID") || has("SYSEXT_LEVEL") {
            return None;
        }
        Some(format!(
            "with ID={id} alone, systemd attaches the extension only where os-release has no \
             VERSION_ID: add SYSEXT_LEVEL or VERSION_ID as it is there (--release)"
        ))
    }

    /// Returns the text of the file.
    pub(crate) fn render(&self) -> Result<Vec<u8>> {
        let given = |key: &str| {
            self.fields.iter().rfind(|field| field.key == key).map(|field| field.value.as_str())
        };
        let id = given("ID").unwrap_or(ANY);
        let narrow = ["VERSION_ID", "SYSEXT_LEVEL"].into_iter().find(|key| given(key).is_some());
        if let (true, Some(key)) = (id == ANY, narrow) {
            bail!(
                "{key} says which release of a distribution an extension is for: give its ID too"
            );
        }
        let mut lines = vec![ReleaseLine { key: "ID".to_owned(), value: quoted(id) }];
        let mut line = |key: &str, value: &str| {
            lines.push(ReleaseLine { key: key.to_owned(), value: quoted(value) });
        };
        if let Some(architecture) = self.architecture {
            line("ARCHITECTURE", &architecture.to_string());
        }
        if let Some(version) = &self.version {
            line("SYSEXT_ID", given("SYSEXT_ID").unwrap_or(self.name.as_str()));
            line("SYSEXT_VERSION_ID", given("SYSEXT_VERSION_ID").unwrap_or(&version.to_string()));
        }
        let done = |key: &str| {
            key == "ID"
                || (self.version.is_some() && matches!(key, "SYSEXT_ID" | "SYSEXT_VERSION_ID"))
        };
        for key in KNOWN.iter().filter(|key| !done(key)) {
            if let Some(value) = given(key) {
                line(key, value);
            }
        }
        let values = json!({ "fields": lines });
        Ok(template::render(Folder::Templates, "extension-release", values)?.into_bytes())
    }
}

/// Returns a value in the form of os-release(5): characters other than letters and digits make
/// quotes necessary.
fn quoted(value: &str) -> String {
    if value.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:/+~".contains(c)) {
        return value.to_owned();
    }
    let mut text = String::from("\"");
    for c in value.chars() {
        if matches!(c, '"' | '\\' | '$' | '`') {
            text.push('\\');
        }
        text.push(c);
    }
    text + "\""
}

/// Returns the path of the file of the extension `name` in the image. It is below /usr even for a
/// prefix in /opt. `name` must be the name under which the image is attached.
pub(crate) fn path(name: &PrefixName) -> PathBuf {
    PathBuf::from(format!("usr/lib/extension-release.d/extension-release.{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(version: Option<&str>, fields: &[&str]) -> Result<String> {
        let release = ExtensionRelease {
            name: "demo".parse()?,
            version: version.map(str::parse).transpose()?,
            architecture: Some(Architecture::Arm64),
            fields: fields.iter().map(|field| field.parse()).collect::<Result<_>>()?,
        };
        Ok(String::from_utf8(release.render()?)?)
    }

    #[test]
    fn an_id_alone_is_warned_of() {
        let warns = |fields: &[&str]| {
            let fields = fields.iter().map(|field| field.parse().unwrap()).collect();
            let name = "demo".parse().unwrap();
            let release = ExtensionRelease { name, version: None, architecture: None, fields };
            release.warning().is_some()
        };
        assert!(warns(&["ID=flatcar"]) && warns(&["ID=flatcar", "SYSEXT_SCOPE=system"]));
        for fine in [&["ID=flatcar", "SYSEXT_LEVEL=1.0"][..], &["ID=a", "VERSION_ID=1"]] {
            assert!(!warns(fine), "{fine:?}");
        }
        assert!(!warns(&[]) && !warns(&["ID=_any"]));
    }

    #[test]
    fn fields() {
        assert_eq!(render(None, &[]).unwrap(), "ID=_any\nARCHITECTURE=arm64\n");
        let fields = ["SYSEXT_LEVEL=1.0", "ID=flatcar", "SYSEXT_NAME=A \"$b\"", "SYSEXT_ID=x"];
        assert_eq!(
            render(Some("2"), &fields).unwrap(),
            "ID=flatcar\nARCHITECTURE=arm64\nSYSEXT_ID=x\nSYSEXT_VERSION_ID=2\nSYSEXT_LEVEL=1.0\n\
             SYSEXT_NAME=\"A \\\"\\$b\\\"\"\n"
        );
        let none = ["VERSION_ID=1", "NONE=1", "ARCHITECTURE=arm64", "ID", "ID=", "ID=a\nb"];
        let wrong = [
            "CONFEXT_LEVEL=1",
            "ID=Flatcar",
            "SYSEXT_SCOPE=system,initrd",
            "EXTENSION_RELOAD_MANAGER=yes",
            "EXTENSION_RESTART_UNITS=demo",
        ];
        for bad in none.iter().chain(&wrong) {
            assert!(render(None, &[bad]).is_err(), "{bad:?}");
        }
        for good in ["SYSEXT_SCOPE=system initrd", "EXTENSION_RESTART_UNITS=a.service b.socket"] {
            assert!(render(None, &[good]).is_ok(), "{good:?}");
        }
    }
}
