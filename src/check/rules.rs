//! Registry of rules, and the rules that are not about ELF files.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::check::scene::Lead;
use crate::check::{Detail, Fact, FactKind, Rule, Scene, elf_rules, symbols, units};
use crate::fstree::resolve::normalize_path;
use crate::relocate::shebang::Shebang;

/// All rules.
pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "interpreter",
        sentence: "The loader of every program is in the prefix.",
        reason: "The kernel starts the loader that a program names (PT_INTERP). The target's \
                 belongs to another C library, or is not there.",
        remedy: "Rewriting sets it; a prefix without a loader lacks sys-libs/glibc.",
        rewrites: true,
        look: elf_rules::interpreter,
    },
    Rule {
        id: "needed",
        sentence: "Every needed library is found in the prefix, by the file's own search path.",
        reason: "What is not found there comes from the target, if it has it, and fits by chance.",
        remedy: "Install the package that has the library into final (a missing RDEPEND of the \
                 ebuild); rewriting completes search paths.",
        rewrites: true,
        look: elf_rules::needed,
    },
    Rule {
        id: "search-path",
        sentence: "rpath and runpath name directories of the prefix alone.",
        reason: "A directory outside, or one that depends on where the caller is, gives others \
                 the choice of the library that is loaded.",
        remedy: "Rewriting reduces search paths to what is needed.",
        rewrites: true,
        look: elf_rules::search_path,
    },
    Rule {
        id: "symbol-version",
        sentence: "Libraries define the symbol versions that are needed of them.",
        reason: "The loader refuses to start a program of which a needed version is missing.",
        remedy: "Build the program against the libraries that are in the prefix: update staging \
                 (`fprefix emerge @world`), then install again.",
        rewrites: false,
        look: elf_rules::symbol_versions,
    },
    Rule {
        id: "symbol",
        sentence: "Every symbol that a program needs is defined by it or its libraries.",
        reason: "The loader ends a program of which a symbol is missing, at its start or in the \
                 middle of its work.",
        remedy: "The library that is in the prefix is not the one that the program was built \
                 with: build it again, or install the right version of the library.",
        rewrites: false,
        look: symbols::undefined,
    },
    Rule {
        id: "loader",
        sentence: "The prefix's loader is sealed.",
        reason: "A copied glibc loader reads /etc/ld.so.preload and /etc/ld.so.cache of the \
                 target and falls back to its library directories, whatever programs say; musl's \
                 does the latter.",
        remedy: "Rewriting seals it.",
        rewrites: true,
        look: elf_rules::loader,
    },
    Rule {
        id: "character-sets",
        sentence: "The C library finds its character set modules (gconv) in the prefix.",
        reason: "Modules of the target belong to its own C library, and end a program that loads \
                 them into another.",
        remedy: "Rewriting points it there. Without modules, UTF-8, ASCII and Latin-1 \
                 work; `iconvconfig --prefix=ROOT` writes a cache where there is none.",
        rewrites: true,
        look: elf_rules::character_sets,
    },
    Rule {
        id: "locale",
        sentence: "The C library finds its locales in the prefix.",
        reason: "Locales of the target may be of another release of the C library, which ends \
                 programs that load them.",
        remedy: "Rewriting points it to EPREFIX/usr/lib/locale/locale-archive. Without \
                 one, programs run in the C locale; `localedef --prefix=EROOT --add-to-archive` \
                 makes one.",
        rewrites: true,
        look: elf_rules::locales,
    },
    Rule {
        id: "name-services",
        sentence: "The C library loads no name service modules of the target.",
        reason: "The target's nsswitch.conf names modules (systemd, sss ...) that belong to the \
                 target's own C library. Users and hosts are still looked up in files and DNS.",
        remedy: "Rewriting closes them off.",
        rewrites: true,
        look: elf_rules::name_services,
    },
    Rule {
        id: "machine",
        sentence: "All programs and libraries are for a machine of which the prefix has the loader.",
        reason: "The loader refuses others.",
        remedy: "Find out which package brings the file, and build it for the board.",
        rewrites: false,
        look: elf_rules::machine,
    },
    Rule {
        id: "hardening",
        sentence: "No text relocations, no executable stack.",
        reason: "Hardened targets (SELinux, PaX) refuse them.",
        remedy: "Ask the package's upstream; often an assembler file without a stack note.",
        rewrites: false,
        look: elf_rules::hardening,
    },
    Rule {
        id: "elf",
        sentence: "Every ELF file can be read.",
        reason: "What cannot be read cannot be proven.",
        remedy: "Look at the file with readelf; test data that is broken on purpose is harmless.",
        rewrites: false,
        look: elf_rules::readable,
    },
    Rule {
        id: "shebang",
        sentence: "Scripts are run by programs of the prefix.",
        reason: "An interpreter of the target may be missing, or of another version.",
        remedy: "Install the interpreter into final (`fprefix emerge app-shells/bash`); \
                 rewriting then sets the line. /bin/sh is on every target and only noted.",
        rewrites: true,
        look: shebang,
    },
    Rule {
        id: "unit",
        sentence: "Units start programs that are there.",
        reason: "A unit that names a program by a path that is not in the image fails when it is \
                 started.",
        remedy: "Correct the path in the ebuild: programs are in EPREFIX/usr/bin. Programs of the \
                 target are only noted.",
        rewrites: false,
        look: units::programs_are_there,
    },
    Rule {
        id: "link",
        sentence: "Links lead to something in the prefix.",
        reason: "A link out of the prefix leads to whatever the target has there.",
        remedy: "Make the link relative, or install what it leads to.",
        rewrites: false,
        look: link,
    },
    Rule {
        id: "staging",
        sentence: "Nothing names a path of the build sandbox.",
        reason: "Such a path is on no target, and whoever can make it there is believed.",
        remedy: "Often a build that records its compiler or source directory; patch it, or leave \
                 the file out of the image.",
        rewrites: false,
        look: staging,
    },
    Rule {
        id: "place",
        sentence: "Everything is below /usr or /opt.",
        reason: "systemd-sysext merges nothing else.",
        remedy: "An ebuild that installs elsewhere ignores EPREFIX; move the file or mask it with \
                 INSTALL_MASK.",
        rewrites: false,
        look: place,
    },
    Rule {
        id: "special",
        sentence: "No devices, sockets, pipes, whiteouts or opaque directories.",
        reason: "A whiteout or an opaque directory hides files of the target when the extension \
                 is attached.",
        remedy: "Remove the file from the root.",
        rewrites: false,
        look: special,
    },
    Rule {
        id: "name",
        sentence: "File names are UTF-8 without control characters.",
        reason: "Not every image format and report can carry others.",
        remedy: "Rename the file.",
        rewrites: false,
        look: name,
    },
    Rule {
        id: "owner",
        sentence: "Everything belongs to root, or to whoever made the prefix.",
        reason: "Owners are numbers, and behind a number is somebody else on every target.",
        remedy: "`chown` in the ebuild's src_install goes; programs that need a directory of their \
                 own get it below /var of the target, by tmpfiles.d. Numbers of system users \
                 are only noted.",
        rewrites: false,
        look: owner,
    },
    Rule {
        id: "mode",
        sentence: "Nothing is writable for everybody, and what runs with other rights is known.",
        reason: "An image is read-only, yet a directory's mode becomes that of the target's.",
        remedy: "Correct the mode in the ebuild; setuid programs and capabilities are only noted.",
        rewrites: false,
        look: mode,
    },
];

fn shebang(fact: &Fact, scene: &Scene<'_>) -> Vec<Detail> {
    let FactKind::Script(start) = &fact.kind else { return Vec::new() };
    // The kernel reads the first line only of files that may be executed.
    if fact.mode & 0o111 == 0 {
        return Vec::new();
    }
    let Some(shebang) = Shebang::parse(start) else {
        return vec![Detail::note("its first line has no end")];
    };
    // Linux 5.1 and newer read 256 bytes (BINPRM_BUF_SIZE).
    if shebang.length > 255 {
        return vec![Detail::error(format!(
            "its first line has {} characters; the kernel reads 255",
            shebang.length
        ))];
    }
    let interpreter = shebang.interpreter;
    let shown = interpreter.display();
    if interpreter == Path::new("/bin/sh") {
        return vec![Detail::note("is run by /bin/sh of the target")];
    }
    let text = if !scene.is_inside(interpreter) {
        format!("is run by {shown}, outside of the prefix")
    } else if scene.at(interpreter).is_none() {
        format!("is run by {shown}, which is not there")
    } else {
        return Vec::new();
    };
    // Examples are documentation and are not run.
    let is_example = fact.path.components().any(|part| part.as_os_str() == "doc");
    vec![if is_example { Detail::note(text) } else { Detail::error(text) }]
}

/// Directories in which every target has files that programs may use on purpose.
const TARGETS_OWN: &[&str] = &["/etc", "/dev", "/proc", "/run", "/sys", "/tmp", "/var"];

fn link(fact: &Fact, scene: &Scene<'_>) -> Vec<Detail> {
    let FactKind::Link(target) = &fact.kind else { return Vec::new() };
    let shown = target.display();
    let absolute = normalize_path(&fact.path.parent().unwrap_or(Path::new("/")).join(target));
    match scene.resolve(&fact.path) {
        Lead::There(found) if scene.is_inside(&found.path) => Vec::new(),
        // Everything in the root is shipped, so a link to it from outside the prefix is not broken.
        Lead::There(_) if !scene.is_inside(&fact.path) => Vec::new(),
        Lead::There(found) => {
            vec![Detail::error(format!("leads to {}, outside of the prefix", found.path.display()))]
        }
        Lead::Loop => vec![Detail::error(format!("leads to {shown}, round in a circle"))],
        Lead::Missing(place) if scene.is_inside(&place) => {
            vec![Detail::error(format!("leads to {shown}, which is not there"))]
        }
        Lead::Missing(_) if TARGETS_OWN.iter().any(|own| absolute.starts_with(own)) => {
            vec![Detail::note(format!("leads to {shown} of the target"))]
        }
        Lead::Missing(_) => {
            vec![Detail::error(format!("leads to {shown}, outside of the prefix"))]
        }
    }
}

fn staging(fact: &Fact, _: &Scene<'_>) -> Vec<Detail> {
    fact.staging.iter().map(|path| Detail::error(format!("names {path}"))).collect()
}

/// Directories that are links on some targets. A directory of an extension would replace the link.
const LINKS_ON_TARGETS: &[(&str, &str)] = &[
    ("/usr/sbin", "/usr/bin on distributions that have merged the two"),
    ("/usr/local", "/var/usrlocal on ostree-based ones"),
    ("/usr/lib64", "/usr/lib on some"),
    ("/opt", "/var/opt on ostree-based ones"),
];

fn place(fact: &Fact, _: &Scene<'_>) -> Vec<Detail> {
    let clash = LINKS_ON_TARGETS.iter().find(|(path, _)| fact.path == Path::new(path));
    if let (FactKind::Directory, Some((path, target))) = (&fact.kind, clash) {
        return vec![Detail::note(format!("is a directory here; {path} is a link to {target}"))];
    }
    if fact.path.starts_with("/usr") || fact.path.starts_with("/opt") {
        return Vec::new();
    }
    vec![Detail::error("is neither below /usr nor below /opt")]
}

fn special(fact: &Fact, _: &Scene<'_>) -> Vec<Detail> {
    let mut details = Vec::new();
    match fact.kind {
        FactKind::Special { whiteout: true } => details.push(Detail::error("is a whiteout")),
        FactKind::Special { whiteout: false } => {
            details.push(Detail::error("is a device, a socket or a pipe"));
        }
        _ => {}
    }
    for name in fact.attributes.iter().map(|name| name.to_string_lossy()) {
        if name.ends_with(".overlay.opaque") {
            details.push(Detail::error("is an opaque directory: it hides the target's"));
        } else if name.contains(".overlay.") {
            details.push(Detail::error(format!("has the attribute {name} of an overlay's layer")));
        }
    }
    if fact.path.file_name().is_some_and(|name| name.as_bytes().starts_with(b".wh.")) {
        details.push(Detail::note("is named like a whiteout of a container's layer"));
    }
    details
}

fn name(fact: &Fact, _: &Scene<'_>) -> Vec<Detail> {
    let Some(name) = fact.path.file_name() else { return Vec::new() };
    match name.to_str() {
        None => vec![Detail::error("its name is not UTF-8")],
        Some(name) if name.chars().any(char::is_control) => {
            vec![Detail::error("its name has a control character")]
        }
        Some(_) => Vec::new(),
    }
}

/// First of the user numbers that distributions assign as they like (systemd's UIDS-GIDS.md).
const FIRST_PERSON: u32 = 1000;

fn owner(fact: &Fact, scene: &Scene<'_>) -> Vec<Detail> {
    judge_owner(fact.owner, scene.owner.unwrap_or_default())
}

/// Reports these numbers, for a prefix that belongs to `own`.
fn judge_owner((user, group): (u32, u32), own: (u32, u32)) -> Vec<Detail> {
    let of = |word: &str, id: u32, own: u32| match id {
        0 => None,
        id if id == own => None,
        id if id < FIRST_PERSON => Some(Detail::note(format!("belongs to the {word} {id}"))),
        id => Some(Detail::error(format!("belongs to the {word} {id}"))),
    };
    of("user", user, own.0).into_iter().chain(of("group", group, own.1)).collect()
}

fn mode(fact: &Fact, _: &Scene<'_>) -> Vec<Detail> {
    let mut details = Vec::new();
    let sticky = fact.mode & 0o1000 != 0;
    if !matches!(fact.kind, FactKind::Link(_) | FactKind::Special { .. })
        && fact.mode & 0o002 != 0
        && !sticky
    {
        details.push(Detail::error("everybody may write to it"));
    }
    if !matches!(fact.kind, FactKind::Directory) && fact.mode & 0o4000 != 0 {
        details.push(Detail::note("is setuid"));
    }
    if !matches!(fact.kind, FactKind::Directory) && fact.mode & 0o2000 != 0 {
        details.push(Detail::note("is setgid"));
    }
    if fact.attributes.iter().any(|name| name == "security.capability") {
        details.push(Detail::note("has file capabilities"));
    }
    details
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::level::Level;

    /// Only root could create such files for an end-to-end test.
    #[test]
    fn owners() {
        let levels = |owner, own| {
            judge_owner(owner, own).into_iter().map(|detail| detail.level).collect::<Vec<_>>()
        };
        assert_eq!(levels((0, 0), (0, 0)), []);
        assert_eq!(levels((1001, 100), (1001, 100)), []);
        assert_eq!(levels((0, 0), (1001, 100)), []);
        assert_eq!(levels((0, 12), (0, 0)), [Level::Note]);
        assert_eq!(levels((1000, 0), (0, 0)), [Level::Error]);
        assert_eq!(levels((1002, 1002), (1001, 100)), [Level::Error, Level::Error]);
    }
}
