//! Flatcar's classes of extensions, and the paths where its build and its boot expect each class.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::base::escape::Escape;
use crate::base::names::PrefixName;
use crate::fstree::resolve::ResolvedPath;
use crate::host::os_release;
use crate::os_image::{FileState, ImageChange, OsRoot};

/// Directory where systemd finds the extensions that an image brings or its user chose.
pub(super) const EXTENSIONS: &str = "/etc/extensions";
/// Directories of extensions that an image can bring, in order of precedence (systemd-sysext(8)).
pub(super) const ATTACHED: &[&str] = &[EXTENSIONS, "/var/lib/extensions"];
/// Directory where systemd finds the certificates that verify signed extensions.
pub(super) const CERTIFICATES: &str = "/usr/lib/verity.d";
/// Directory of image files for [`InstallMethod::Opt`].
pub(super) const OPT: &str = "/opt/extensions";
/// Directory of image files for [`InstallMethod::BuiltIn`].
pub(super) const BUILT_IN: &str = "/usr/share/flatcar/sysext";
/// Directory of image files for [`InstallMethod::Oem`].
pub(super) const OEM: &str = "/oem/sysext";
/// Directory of image files for [`InstallMethod::Extra`].
pub(super) const EXTRA: &str = "/etc/flatcar/sysext";
/// File with the names of the enabled extras, one per line.
const ENABLED: &str = "/etc/flatcar/enabled-sysext.conf";
/// File that names the vendor platform of the image.
const OEM_RELEASE: &str = "/oem/oem-release";

/// Method of adding an extension to an image: Flatcar's classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum InstallMethod {
    /// /opt/extensions/NAME, as sysext-bakery and systemd-sysupdate have it
    #[default]
    Opt,
    /// /usr/share/flatcar/sysext, updated with the OS; stored uncompressed, since /usr is
    /// compressed
    BuiltIn,
    /// /oem/sysext, updated with the OS, version by version; stored uncompressed as well
    Oem,
    /// /etc/flatcar/sysext, for the version of the OS, and enabled in enabled-sysext.conf
    Extra,
}

/// An extension to add.
#[derive(Clone, Debug)]
pub(crate) struct Extension {
    /// Path of the image file.
    pub file: PathBuf,
    /// Name of the extension, from its content.
    pub name: PrefixName,
    /// Names of the architecture that may follow the version in a file name.
    pub architectures: Vec<&'static str>,
    /// True if the image is compressed.
    pub compressed: bool,
    /// State of the file when it was verified.
    pub verified: FileState,
}

impl InstallMethod {
    /// Returns whether the method puts images on a compressed filesystem.
    fn is_compressed(self) -> bool {
        matches!(self, Self::BuiltIn | Self::Oem)
    }
}

impl Extension {
    /// Returns the file name for a versioned place: that of the image itself, not of a link to it.
    fn file_name(&self) -> Result<String> {
        let file = fs_err::canonicalize(&self.file)?;
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let of_this = name == format!("{}.raw", self.name)
            || (name.starts_with(&format!("{}-", self.name)) && name.ends_with(".raw"));
        if !of_this {
            bail!(
                "{} holds the extension {1:?}; call the file {1}-VERSION-ARCH.raw or {1}.raw",
                name.escaped(),
                self.name.as_str()
            );
        }
        Ok(name)
    }

    /// Returns the version in the file name, without the architecture.
    fn version(&self) -> Result<String> {
        let name = self.file_name()?;
        let rest =
            name.strip_prefix(&format!("{}-", self.name)).map(|r| r.trim_end_matches(".raw"));
        let Some(rest) = rest.filter(|rest| !rest.is_empty()) else {
            bail!(
                "such an extension has its version in its name, and neither {name} nor the \
                 image's os-release says one; pack it with --version"
            );
        };
        let bare =
            self.architectures.iter().find_map(|name| rest.strip_suffix(&format!("-{name}")));
        Ok(bare.unwrap_or(rest).to_owned())
    }

    /// Returns the part of the name after `start`. Fails if the name does not begin with `start`,
    /// as its method requires.
    fn id(&self, start: &str, kind: &str) -> Result<&str> {
        self.name.as_str().strip_prefix(start).with_context(|| {
            format!(
                "{kind} extension is called {start}ID; pack it with --name {start}{}",
                self.name
            )
        })
    }
}

impl ImageChange {
    /// Returns whether the change selects the OEM of an image.
    pub(super) fn chooses_oem(&self) -> bool {
        matches!(self, Self::Write { to, .. } if to == Path::new(OEM_RELEASE))
    }
}

impl OsRoot {
    /// Plans to add `extension` by `method`. A signed extension is verified against `certificate`.
    pub(super) fn add_one(
        &self,
        extension: &Extension,
        method: InstallMethod,
        certificate: Option<&Path>,
    ) -> Result<Vec<ImageChange>> {
        let name = &extension.name;
        let mut more = Vec::new();
        let to = match method {
            InstallMethod::Opt => Path::new(OPT).join(name.as_str()).join(extension.file_name()?),
            InstallMethod::BuiltIn => Path::new(BUILT_IN).join(format!("{name}.raw")),
            InstallMethod::Oem => {
                let id = extension.id("oem-", "an OEM")?;
                more.extend(self.choose_oem(id)?);
                Path::new(OEM).join(format!("{name}-{}.raw", self.version_for(extension)?))
            }
            InstallMethod::Extra => {
                extension.id("flatcar-", "an extra")?;
                Path::new(EXTRA).join(format!("{name}-{}.raw", self.version_for(extension)?))
            }
        };
        let mut changes = vec![ImageChange::Copy {
            from: extension.file.clone(),
            to: to.clone(),
            uncompressed: method.is_compressed() && extension.compressed,
            verified: Some(extension.verified),
        }];
        if let Some(certificate) = certificate {
            let to = Path::new(CERTIFICATES).join(format!("{name}.crt"));
            changes.push(ImageChange::Copy {
                from: certificate.to_owned(),
                to,
                uncompressed: false,
                verified: None,
            });
        }
        changes.extend(more);
        // By the link systemd finds the extension, so all that it needs is there before.
        let at = Path::new(EXTENSIONS).join(format!("{name}.raw"));
        changes.push(ImageChange::Link { at, target: to });
        Ok(changes)
    }

    /// Returns the version for the file name of an OEM extension or an extra. Flatcar's initrd
    /// searches for the file with the version of the OS (flatcar/bootengine,
    /// initrd-setup-root-after-ignition). In other images it is the extension's own version.
    fn version_for(&self, extension: &Extension) -> Result<String> {
        match self.flatcar_version()? {
            Some(version) => Ok(version),
            None => extension.version(),
        }
    }

    /// Returns VERSION of os-release if the OS is Flatcar or a derivative.
    fn flatcar_version(&self) -> Result<Option<String>> {
        let text = self.text(Path::new("/usr/lib/os-release"))?;
        let fields = os_release::parse(&text);
        let value = |key: &str| fields.get(key).cloned();
        let ids =
            format!("{} {}", value("ID").unwrap_or_default(), value("ID_LIKE").unwrap_or_default());
        if !ids.split(' ').any(|id| id == "flatcar") {
            return Ok(None);
        }
        let version = value("VERSION").unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || "._+~^-".contains(c);
        if version.is_empty() || !version.chars().all(plain) {
            bail!("the image's os-release has a VERSION that no file can be named by: {version:?}");
        }
        Ok(Some(version))
    }

    /// Selects the OEM extension `id`. The initrd attaches the extension that oem-release names and
    /// that is marked as active.
    fn choose_oem(&self, id: &str) -> Result<Vec<ImageChange>> {
        let release = self.text(Path::new(OEM_RELEASE))?;
        let there = release.lines().find_map(|line| line.strip_prefix("ID="));
        let marker = Path::new(OEM).join(format!("active-oem-{id}"));
        let mut changes = vec![ImageChange::Write { to: marker, text: String::new() }];
        match there.map(|there| there.trim_matches(['"', '\''])) {
            Some(there) if there == id => {}
            Some(there) => bail!(
                "{OEM_RELEASE} of the image says that it is for {there:?}, so that {id:?} would \
                 never be attached"
            ),
            None => changes.push(ImageChange::Write {
                to: OEM_RELEASE.into(),
                text: format!("ID={id}\n{release}"),
            }),
        }
        Ok(changes)
    }

    /// Adds the extras `extensions` to the list of enabled extras, unless they are in it.
    pub(super) fn enable(&self, extensions: &[Extension]) -> Result<Option<ImageChange>> {
        let old = self.text(Path::new(ENABLED))?;
        let mut lines: Vec<&str> = old.lines().collect();
        for extension in extensions {
            let id = extension.id("flatcar-", "an extra")?;
            if !lines.iter().any(|line| strip_comment(line) == id) {
                // A line with a leading minus disables an extra that the OS enables.
                lines.retain(|line| strip_comment(line).strip_prefix('-') != Some(id));
                lines.push(id);
            }
        }
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        Ok((text != old).then_some(ImageChange::Write { to: ENABLED.into(), text }))
    }

    /// Plans to undo the changes of adding the extension `name`, apart from its file, link and
    /// certificate.
    pub(super) fn undo_enable(&self, name: &str) -> Result<Option<ImageChange>> {
        if let Some(id) = name.strip_prefix("oem-") {
            let path = Path::new(OEM).join(format!("active-oem-{id}"));
            return Ok(self.root.has_file(&path)?.then_some(ImageChange::Remove { path }));
        }
        let Some(id) = name.strip_prefix("flatcar-") else { return Ok(None) };
        let text = self.text(Path::new(ENABLED))?;
        if !text.lines().any(|line| strip_comment(line) == id) {
            return Ok(None);
        }
        let kept = text.lines().filter(|line| strip_comment(line) != id);
        let text = kept.fold(String::new(), |text, line| text + line + "\n");
        Ok(Some(if text.is_empty() {
            ImageChange::Remove { path: ENABLED.into() }
        } else {
            ImageChange::Write { to: ENABLED.into(), text }
        }))
    }

    /// Reads a file of the image, following links. Returns an empty text if the file is missing.
    pub(super) fn text(&self, path: &Path) -> Result<String> {
        if self.root.resolve(path) == ResolvedPath::Loop {
            bail!("{} of the image is a link that leads to itself", path.escaped());
        }
        let bytes = self.root.read_file(path)?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Returns the name in a line of the list of extras; empty for a comment.
fn strip_comment(line: &str) -> &str {
    line.split('#').next().unwrap_or_default().trim()
}
